//! What is measured of timers: that they expire, and what it costs to have many that never do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use proactor_bench::cli::Outcome;
use proactor_bench::count::{Count, processor_time};
use proactor_bench::stats::percentile;
use serde::{Deserialize, Serialize};

/// Beyond this a run has lost something.
const MOST: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Timers at random whole deadlines of 1 to 1000 ms, until the last has expired
    Expire,
    /// Timers at 60 s and more, then all of them cancelled in shuffled order
    Cancel,
}

impl Bench {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expire => "expire",
            Self::Cancel => "cancel",
        }
    }
}

/// One case, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) bench: Bench,
    pub(crate) threads: usize,
    pub(crate) timers: usize,
    pub(crate) seed: u64,
}

/// What came of a case: one line of JSON. What a bench says nothing of is null.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) peer: String,
    pub(crate) bench: String,
    pub(crate) threads: usize,
    pub(crate) n: usize,
    pub(crate) arm_ns_per_op: f64,
    pub(crate) cancel_ns_per_op: Option<f64>,
    pub(crate) cpu_ns_per_op: f64,
    pub(crate) wall_s: f64,
    pub(crate) late_p50_us: Option<u64>,
    pub(crate) late_p99_us: Option<u64>,
    pub(crate) late_max_us: Option<u64>,
    pub(crate) early: u64,
    pub(crate) ok: bool,
}

/// What the handlers of all timers share.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) count: Count,
    /// By how many microseconds each was late.
    late: Box<[AtomicU32]>,
    early: AtomicU32,
}

impl Watch {
    fn new(timers: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            count: Count::new(timers),
            late: (0..timers).map(|_| AtomicU32::new(0)).collect(),
            early: AtomicU32::new(0),
        }))
    }

    /// Timer `which`, which was due at `at`, has expired.
    #[inline]
    pub(crate) fn expired(&self, which: usize, at: Instant) {
        match Instant::now().checked_duration_since(at) {
            Some(late) => {
                let late = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
                self.late[which].store(late, Ordering::Relaxed);
            }
            None => {
                self.early.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.ran(which);
    }
}

/// Something that has timers, and threads that run what they set off. It is never taken down: the process ends.
pub(crate) trait Clock: Sized + 'static {
    type Armed;
    /// Arms one that calls [`Watch::expired`] at `at`, or if it is cancelled [`Count::ran`].
    fn arm(&'static self, watch: &'static Watch, which: usize, at: Instant) -> Self::Armed;
    /// As `arm`, of one that is going to be cancelled.
    fn arm_far(&'static self, watch: &'static Watch, which: usize, at: Instant) -> Self::Armed {
        self.arm(watch, which, at)
    }
    fn cancel(&'static self, watch: &'static Watch, which: usize, armed: Self::Armed);
    /// Lets one that is armed go on by itself.
    fn leave(armed: Self::Armed) {
        drop(armed);
    }
}

/// Runs a case.
pub(crate) fn run<C: Clock>(clock: &'static C, peer: String, case: Case) -> Outcome<Figures> {
    let watch = Watch::new(case.timers);
    let mut random = fastrand::Rng::with_seed(case.seed);
    let millis = Vec::from_iter((0..case.timers).map(|_| match case.bench {
        Bench::Expire => random.u64(1..=1000),
        Bench::Cancel => random.u64(60_000..=120_000),
    }));
    let mut order = Vec::from_iter(0..case.timers);
    random.shuffle(&mut order);
    let mut armed = Vec::with_capacity(case.timers);

    let (began, processor) = (Instant::now(), processor_time());
    for (which, millis) in millis.into_iter().enumerate() {
        let at = Instant::now() + Duration::from_millis(millis);
        match case.bench {
            Bench::Expire => C::leave(clock.arm(watch, which, at)),
            Bench::Cancel => armed.push(Some(clock.arm_far(watch, which, at))),
        }
    }
    let all_armed = Instant::now();
    for which in order.into_iter().filter(|_| case.bench == Bench::Cancel) {
        if let Some(timer) = armed[which].take() {
            clock.cancel(watch, which, timer);
        }
    }
    let all_cancelled = Instant::now();
    let over = watch.count.wait(MOST);
    let processor = processor_time().saturating_sub(processor);
    let over = over.ok_or("not every timer ended: some are lost")?;
    Ok(figures(
        watch,
        peer,
        case,
        [began, all_armed, all_cancelled, over],
        processor,
    ))
}

fn figures(
    watch: &Watch,
    peer: String,
    case: Case,
    [began, armed, cancelled, over]: [Instant; 4],
    processor: Duration,
) -> Figures {
    let each = |time: Duration| time.as_nanos() as f64 / case.timers as f64;
    let expires = case.bench == Bench::Expire;
    let mut late = Vec::from_iter(
        watch
            .late
            .iter()
            .map(|us| u64::from(us.load(Ordering::Relaxed))),
    );
    late.sort_unstable();
    let late = |share| expires.then(|| percentile(&late, share));
    let early = u64::from(watch.early.load(Ordering::Relaxed));
    Figures {
        peer,
        bench: case.bench.name().to_owned(),
        threads: case.threads,
        n: case.timers,
        arm_ns_per_op: each(armed - began),
        cancel_ns_per_op: (!expires).then(|| each(cancelled - armed)),
        cpu_ns_per_op: each(processor),
        wall_s: (over.max(cancelled) - began).as_secs_f64(),
        late_p50_us: late(0.50),
        late_p99_us: late(0.99),
        late_max_us: late(1.0),
        early,
        ok: early == 0 && watch.count.is_right(),
    }
}
