//! Posting calls to a pool: from outside, from inside, in order, as a future awaits them, and to one that sleeps.
//!
//! ```text
//! cargo run --release -p proactor-bench --bin dispatch -- --bench tree --strategy work-stealing --threads 2
//! cargo run --release -p proactor-bench --features peers --bin dispatch
//! ```
//!
//! With `--bench` it runs that case once and prints one line of JSON. Without, it runs every case with every competitor, each
//! as a process of its own, in turn, round after round, and prints tables.

mod cases;
#[cfg(feature = "peers")]
mod peers;
mod pools;

use std::process::ExitCode;

use cases::{Bench, Case, Figures};
use clap::Parser;
use proactor::Strategy;
use proactor_bench::case;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::count::Allocations;
use proactor_bench::rows::{Metric, Series};
use proactor_bench::{progress, table};

#[global_allocator]
static ALLOCATOR: Allocations = Allocations;

const TIME: Metric = Metric::new("time", "ns/call", "time per call, until the last has run");
const CPU: Metric = Metric::new("cpu", "ns/call", "processor time per call");
const WAKE: Metric = Metric::new("wake", "ns", "from the post until the call runs, median");

/// The competitors besides ours; the ratios are to the first.
#[cfg(feature = "peers")]
const PEERS: &[&str] = &[
    "crossbeam-channel",
    "rayon",
    "threadpool",
    "tokio",
    "async-executor",
];
/// Those that run futures.
#[cfg(feature = "peers")]
const SPAWNING: &[&str] = &["tokio", "tokio-current", "async-executor"];
#[cfg(not(feature = "peers"))]
const SPAWNING: &[&str] = &[];
#[cfg(not(feature = "peers"))]
const PEERS: &[&str] = &[];

/// Measures how pools run posted calls
///
/// With --bench, one case as one line of JSON; without, every case beside the peers (`--features peers`), as tables.
#[derive(Parser)]
#[command(name = "dispatch")]
struct Options {
    /// The case to run once
    #[arg(long, value_enum)]
    bench: Option<Bench>,
    /// Which strategy runs the calls: single, leader-followers or work-stealing
    #[arg(long, value_name = "S", default_value = "work-stealing")]
    strategy: Strategy,
    /// A competitor in place of a strategy (with the feature `peers`)
    #[arg(
        long,
        value_name = "NAME",
        requires = "bench",
        conflicts_with = "strategy"
    )]
    peer: Option<String>,
    /// Threads of the pool [default: 1; without --bench 1 and 2]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// How many calls [default: 1000000; wake: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    n: Option<u32>,
    /// How many strands the calls go to
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    strands: u32,
    /// Run the case once unmeasured, and count the allocations of the second run
    #[arg(long, requires = "bench")]
    allocs: bool,
    /// Rounds, without --bench
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Without --bench: one JSON row a line instead of tables
    #[arg(long, conflicts_with = "bench")]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    let Some(bench) = options.bench else {
        return compare(&options);
    };
    let case = Case {
        bench,
        threads: options.threads.map_or(1, usize::from),
        calls: options.n.map_or(bench.calls(), |n| n as usize),
        strands: options.strands as usize,
        allocs: options.allocs,
    };
    let figures = match &options.peer {
        Some(peer) => run_peer(peer, case)?,
        None => {
            let name = format!("proactor-{}", options.strategy);
            cases::run(case::ours(options.strategy, case.threads)?, name, case)?
        }
    };
    case::print(&figures)
}

#[cfg(feature = "peers")]
fn run_peer(peer: &str, case: Case) -> Outcome<Figures> {
    let (name, threads) = (peer.to_owned(), case.threads);
    match peer {
        "crossbeam-channel" => cases::run(peers::Channel::new(threads)?, name, case),
        "rayon" => cases::run(peers::rayon(threads)?, name, case),
        "threadpool" => cases::run(peers::Pooled::new(threads), name, case),
        "tokio" => cases::run(peers::tokio(threads)?, name, case),
        "tokio-current" => cases::run(peers::Current::new(threads)?, name, case),
        "async-executor" => cases::run(case::executor(threads)?, name, case),
        _ => Err(format!(
            "there is no peer `{peer}`: it is one of {}, tokio-current",
            PEERS.join(", ")
        )
        .into()),
    }
}

#[cfg(not(feature = "peers"))]
fn run_peer(peer: &str, _case: Case) -> Outcome<Figures> {
    Err(format!("`{peer}` is not built in: build with --features peers").into())
}

/// The cases of the comparison, with the competitor that each is held against.
const CASES: [(&str, Bench, u32, &str); 6] = [
    ("post", Bench::Post, 1, "crossbeam-channel"),
    ("tree", Bench::Tree, 1, "rayon"),
    ("1 strand", Bench::Strand, 1, "rayon"),
    ("64 strands", Bench::Strand, 64, "threadpool"),
    ("spawn", Bench::Spawn, 1, "tokio"),
    ("wake", Bench::Wake, 1, "crossbeam-channel"),
];

/// Who takes part in a case: what is said of them to the child, and with how many threads.
fn competitors(bench: Bench, threads: &[u16]) -> Vec<(u16, [String; 2])> {
    let peers = match bench {
        Bench::Spawn => SPAWNING,
        _ => PEERS,
    };
    let alone =
        |threads: u16, name: &str| threads == 1 || !["single", "tokio-current"].contains(&name);
    let all = threads.iter().flat_map(|&threads| {
        let peers = peers
            .iter()
            .map(|peer| ["--peer".to_owned(), (*peer).to_owned()]);
        let ours = Strategy::ALL.map(|strategy| ["--strategy".to_owned(), strategy.to_string()]);
        let all = peers
            .chain(ours)
            .filter(move |[_, name]| alone(threads, name));
        all.map(move |who| (threads, who))
    });
    all.collect()
}

fn compare(options: &Options) -> Outcome {
    let threads = options.threads.map_or(vec![1, 2], |threads| vec![threads]);
    let all = CASES.map(|(_, bench, ..)| competitors(bench, &threads));
    let runs: usize = all.iter().map(Vec::len).sum();
    let bar = progress::bar(usize::from(options.rounds) * runs);
    let mut series = CASES.map(|(name, ..)| Series::new("dispatch", name));
    for _ in 0..options.rounds {
        let cases = CASES.iter().zip(&all).zip(&mut series);
        for (((name, bench, strands, _), all), series) in cases {
            for (threads, who) in all {
                progress::begin(&bar, format!("{name}, {} x{threads}", who[1]));
                let figures = child(options, *bench, *strands, *threads, who)?;
                series.add(&figures.peer, figures.threads, TIME, figures.ns_per_op);
                series.add(&figures.peer, figures.threads, CPU, figures.cpu_ns_per_op);
                if let Some(wake) = figures.wake {
                    series.add(&figures.peer, figures.threads, WAKE, wake.p50_ns as f64);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let bases = CASES.iter().map(|(.., base)| *base);
    let rows = Vec::from_iter(
        series
            .iter()
            .zip(bases)
            .flat_map(|(series, base)| series.rows(base)),
    );
    table::print(&rows, &[TIME, CPU, WAKE], options.json)
}

/// Runs one case in a process of its own.
fn child(
    options: &Options,
    bench: Bench,
    strands: u32,
    threads: u16,
    who: &[String],
) -> Outcome<Figures> {
    let mut arguments = vec!["--bench".to_owned(), bench.name().to_owned()];
    arguments.extend_from_slice(who);
    let mut add = |name: &str, value: u32| arguments.extend([name.to_owned(), value.to_string()]);
    add("--threads", threads.into());
    add("--strands", strands);
    if let Some(n) = options.n.filter(|_| bench != Bench::Wake) {
        add("--n", n);
    }
    let figures: Figures = case::child(&arguments)?;
    match figures.ok {
        true => Ok(figures),
        false => Err(format!("{}: not every call ran once, in order: {figures:?}", who[1]).into()),
    }
}
