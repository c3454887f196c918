//! Timers: what it costs to arm, to cancel, and to expire a million of them, and how late they are.
//!
//! ```text
//! cargo run --release -p proactor-bench --bin timers -- --bench expire --strategy single --n 1000000
//! cargo run --release -p proactor-bench --features peers --bin timers
//! ```
//!
//! With `--bench` it runs that case once and prints one line of JSON. Without, it runs every case with every competitor, each
//! as a process of its own, in turn, round after round, and prints tables.

mod cases;
mod clocks;

use std::process::ExitCode;

use cases::{Bench, Case, Figures};
use clap::Parser;
use proactor::Strategy;
use proactor_bench::case;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::rows::{Metric, Series};
use proactor_bench::{progress, table};

const ARM: Metric = Metric::new("arm", "ns/timer", "time to arm a timer");
const BOTH: Metric = Metric::new(
    "arm and cancel",
    "ns/timer",
    "time to arm a timer and to cancel it",
);
const CPU: Metric = Metric::new(
    "cpu",
    "ns/timer",
    "processor time of a timer that is armed and expires",
);
const LATE: Metric = Metric::new("late", "us", "how late the 99th of a hundred was");

/// The competitors besides ours; the ratios are to the first.
#[cfg(feature = "peers")]
const PEERS: &[&str] = &["tokio", "smol"];
#[cfg(not(feature = "peers"))]
const PEERS: &[&str] = &[];

/// Measures timers
///
/// With --bench, one case as one line of JSON; without, every case beside the peers (`--features peers`), as tables.
#[derive(Parser)]
#[command(name = "timers")]
struct Options {
    /// The case to run once
    #[arg(long, value_enum)]
    bench: Option<Bench>,
    /// Which strategy runs the handlers: single, leader-followers or work-stealing
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
    /// Threads of the pool [default: 1]
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// How many timers
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    n: u32,
    /// Where the random deadlines begin
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
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
        threads: options.threads.into(),
        timers: options.n as usize,
        seed: options.seed,
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
        "tokio" => cases::run(clocks::peers::Tokio::new(threads)?, name, case),
        "smol" => cases::run(clocks::peers::Smol::new(threads)?, name, case),
        _ => Err(format!(
            "there is no peer `{peer}`: it is one of {}",
            PEERS.join(", ")
        )
        .into()),
    }
}

#[cfg(not(feature = "peers"))]
fn run_peer(peer: &str, _case: Case) -> Outcome<Figures> {
    Err(format!("`{peer}` is not built in: build with --features peers").into())
}

fn compare(options: &Options) -> Outcome {
    let fits = |strategy: &Strategy| options.threads == 1 || *strategy != Strategy::Single;
    let ours = Strategy::ALL.into_iter().filter(fits);
    let ours = ours.map(|strategy| ["--strategy".to_owned(), strategy.to_string()]);
    let peers = PEERS
        .iter()
        .map(|peer| ["--peer".to_owned(), (*peer).to_owned()]);
    let all = Vec::from_iter(peers.chain(ours));
    let benches = [Bench::Cancel, Bench::Expire];
    let bar = progress::bar(usize::from(options.rounds) * benches.len() * all.len());
    let mut series = benches.map(|bench| Series::new("timers", bench.name()));
    for _ in 0..options.rounds {
        for (bench, series) in benches.into_iter().zip(&mut series) {
            for who in &all {
                progress::begin(&bar, format!("{}, {}", bench.name(), who[1]));
                let figures = child(options, bench, who)?;
                let mut add =
                    |metric, value| series.add(&figures.peer, figures.threads, metric, value);
                match figures.cancel_ns_per_op {
                    Some(cancel) => add(BOTH, figures.arm_ns_per_op + cancel),
                    None => {
                        add(ARM, figures.arm_ns_per_op);
                        add(CPU, figures.cpu_ns_per_op);
                    }
                }
                if let Some(late) = figures.late_p99_us {
                    add(LATE, late as f64);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let base = PEERS.first().copied().unwrap_or("proactor-single");
    let rows = Vec::from_iter(series.iter().flat_map(|series| series.rows(base)));
    table::print(&rows, &[BOTH, ARM, CPU, LATE], options.json)
}

/// Runs one case in a process of its own.
fn child(options: &Options, bench: Bench, who: &[String]) -> Outcome<Figures> {
    let mut arguments = vec!["--bench".to_owned(), bench.name().to_owned()];
    arguments.extend_from_slice(who);
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("--threads", options.threads.to_string());
    add("--n", options.n.to_string());
    add("--seed", options.seed.to_string());
    let figures: Figures = case::child(&arguments)?;
    match figures.ok {
        true => Ok(figures),
        false => Err(format!(
            "{}: not every timer ended once, and on time: {figures:?}",
            who[1]
        )
        .into()),
    }
}
