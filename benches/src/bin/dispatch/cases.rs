//! What is measured: calls from outside, calls that post calls, calls in order, calls that a future awaits, and waking up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use proactor_bench::cli::Outcome;
use proactor_bench::count::{Allocations, Count, processor_time};
use proactor_bench::stats::percentile;
use serde::{Deserialize, Serialize};

use crate::pools::Pool;

/// Beyond this a run has lost something.
const MOST: Duration = Duration::from_secs(100);
/// How long the pool is left alone before it is woken.
const ASLEEP: Duration = Duration::from_micros(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// One thread outside of the pool posts calls; the clock runs to the last
    Post,
    /// A call that is posted from outside posts two from inside, which do the same: the largest full tree of at most n
    Tree,
    /// Calls from outside in turn to each of several strands, each of which runs its own one at a time and in order
    Strand,
    /// A spawned future awaits one call after the other, each of which it posts; the competitors' yields as often
    Spawn,
    /// A call to an idle pool: how long until it runs
    Wake,
}

impl Bench {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Tree => "tree",
            Self::Strand => "strand",
            Self::Spawn => "spawn",
            Self::Wake => "wake",
        }
    }

    pub(crate) fn calls(self) -> usize {
        match self {
            Self::Post | Self::Tree | Self::Strand | Self::Spawn => 1_000_000,
            Self::Wake => 1000,
        }
    }
}

/// One case, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) bench: Bench,
    pub(crate) threads: usize,
    pub(crate) calls: usize,
    pub(crate) strands: usize,
    pub(crate) allocs: bool,
}

/// What came of a case: one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) peer: String,
    pub(crate) bench: String,
    pub(crate) threads: usize,
    pub(crate) strands: usize,
    pub(crate) n: usize,
    pub(crate) ns_per_op: f64,
    pub(crate) cpu_ns_per_op: f64,
    pub(crate) wall_s: f64,
    pub(crate) allocs_per_op: Option<f64>,
    #[serde(flatten)]
    pub(crate) wake: Option<Wake>,
    pub(crate) ok: bool,
}

/// From the post to the call.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Wake {
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

/// Runs a case on `pool`, twice if allocations are to be counted: in the second run.
pub(crate) fn run<P: Pool>(pool: &'static P, peer: String, case: Case) -> Outcome<Figures> {
    if case.allocs {
        once(pool, case, false)?;
    }
    let done = once(pool, case, case.allocs)?;
    let calls = done.calls as f64;
    Ok(Figures {
        peer,
        bench: case.bench.name().to_owned(),
        threads: case.threads,
        strands: case.strands,
        n: done.calls,
        ns_per_op: done.wall.as_nanos() as f64 / calls,
        cpu_ns_per_op: done.processor.as_nanos() as f64 / calls,
        wall_s: done.wall.as_secs_f64(),
        allocs_per_op: done.allocations.map(|count| count as f64 / calls),
        wake: done.wake,
        ok: done.right,
    })
}

struct Done {
    calls: usize,
    wall: Duration,
    processor: Duration,
    allocations: Option<usize>,
    wake: Option<Wake>,
    right: bool,
}

fn once<P: Pool>(pool: &'static P, case: Case, counted: bool) -> Outcome<Done> {
    let calls = match case.bench {
        Bench::Tree => (1 << (case.calls + 1).ilog2()) - 1,
        _ => case.calls,
    };
    let count: &'static Count = Box::leak(Box::new(Count::new(calls)));
    let strands = Vec::from_iter((0..case.strands).map(|_| pool.strand()));
    let wakes: &'static [AtomicU64] = match case.bench {
        Bench::Wake => Box::leak((0..calls).map(|_| AtomicU64::new(0)).collect()),
        _ => &[],
    };
    if counted {
        Allocations::begin();
    }
    let (began, processor) = (Instant::now(), processor_time());
    match case.bench {
        Bench::Post => (0..calls).for_each(|call| pool.post(move || count.ran(call))),
        Bench::Tree => node(pool, count, 0),
        Bench::Strand => in_order(pool, count, &strands),
        Bench::Spawn => pool.take_turns(count)?,
        Bench::Wake => wake(pool, count, wakes),
    }
    let over = count.wait(MOST);
    let processor = processor_time().saturating_sub(processor);
    let allocations = counted.then(Allocations::end);
    let over = over.ok_or("not every call ran: the pool has lost some")?;
    Ok(Done {
        calls,
        wall: over - began,
        processor,
        allocations,
        wake: (!wakes.is_empty()).then(|| spread(wakes)),
        right: count.is_right(),
    })
}

fn node<P: Pool>(pool: &'static P, count: &'static Count, at: usize) {
    pool.post(move || {
        count.ran(at);
        for child in [2 * at + 1, 2 * at + 2] {
            if child < count.calls() {
                node(pool, count, child);
            }
        }
    });
}

fn in_order<P: Pool>(pool: &'static P, count: &'static Count, strands: &[P::Strand]) {
    for call in 0..count.calls() {
        let place = call / strands.len();
        pool.post_to(&strands[call % strands.len()], move |line| {
            if line.next != place {
                count.went_wrong();
            }
            line.next = place + 1;
            count.ran(call);
        });
    }
}

fn wake<P: Pool>(pool: &'static P, count: &'static Count, wakes: &'static [AtomicU64]) {
    for (call, time) in wakes.iter().enumerate() {
        thread::sleep(ASLEEP); // sleep: the pool is to be idle
        let posted = Instant::now();
        pool.post(move || {
            let nanos = u64::try_from(posted.elapsed().as_nanos()).unwrap_or(u64::MAX);
            time.store(nanos.max(1), Ordering::Release);
            count.ran(call);
        });
        let until = posted + MOST;
        while time.load(Ordering::Acquire) == 0 && Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

fn spread(wakes: &[AtomicU64]) -> Wake {
    let mut times = Vec::from_iter(wakes.iter().map(|time| time.load(Ordering::Relaxed)));
    times.sort_unstable();
    Wake {
        p50_ns: percentile(&times, 0.50),
        p90_ns: percentile(&times, 0.90),
        p99_ns: percentile(&times, 0.99),
        max_ns: percentile(&times, 1.0),
    }
}
