//! A greeting over HTTP, and how many a second: one hyper service, on proactor and on tokio, loaded by wrk in turn.
//!
//! ```text
//! cargo run --release -p proactor-bench --features peers --bin http -- --help
//! ```
//!
//! hyper, its service and its settings are the same everywhere; streams, timers and whoever polls are what differs. With one
//! thread the server has one processor and wrk another; with several they share all. Each server of each round is a new process.

mod servers;
mod wrk;

use std::process::{Command, ExitCode};

use clap::Parser;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::rows::{Metric, Series};
use proactor_bench::{process, progress, table};

use crate::servers::Server;

const RATE: Metric = Metric::new("rate", "requests/s", "requests per second");
const COST: Metric = Metric::new(
    "cpu",
    "us/request",
    "processor time of the server per request",
);

/// Measures one hyper service on proactor and on tokio, loaded by wrk
///
/// A reply that is none of the service's, or a lost connection, ends the run with an error. Without wrk nothing is measured, and it says
/// so.
#[derive(Parser)]
#[command(name = "http", after_help = servers::help())]
struct Options {
    /// Servers to measure, with commas between [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// Connections, with commas between the cases
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: Vec<u16>,
    /// Server threads, with commas between; with several, those servers are measured that can have them
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Vec<u16>,
    /// Rounds, each with every server
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How many seconds each server is loaded in each round: whole ones, which is what wrk takes
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// Print one JSON row a line instead of tables
    #[arg(long)]
    json: bool,
    /// Be that server
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    if let Some(name) = &options.serve {
        let threads = options.threads.first().copied().unwrap_or(1);
        return servers::chosen(std::slice::from_ref(name))?[0].serve(threads.into());
    }
    let servers = servers::chosen(&options.servers)?;
    if !wrk::is_there() {
        eprintln!("nothing is measured without wrk: install Debian's package `wrk`");
        return Ok(());
    }
    let most = options.connections.iter().copied().max().unwrap_or(0);
    process::raise_descriptors(u64::from(most) + 100)?;
    let mut cases = Vec::new();
    for &connections in &options.connections {
        for &threads in &options.threads {
            cases.push(Case::new(connections, threads.into(), &servers));
        }
    }
    let steps: usize = cases.iter().map(|case| case.servers.len()).sum();
    let bar = progress::bar(steps * usize::from(options.rounds));
    for _ in 0..options.rounds {
        for case in &mut cases {
            for server in case.servers.clone() {
                progress::begin(&bar, format!("{} x{}", server.name, case.threads));
                case.measure(server, options.seconds)
                    .map_err(|error| format!("{}: {error}", server.name))?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let rows = Vec::from_iter(cases.iter().flat_map(Case::rows));
    table::print(&rows, &[RATE, COST], options.json)
}

/// So many connections to servers with so many threads.
struct Case {
    connections: u16,
    threads: usize,
    servers: Vec<&'static Server>,
    series: Series,
}

impl Case {
    fn new(connections: u16, threads: usize, servers: &[&'static Server]) -> Self {
        let possible = |server: &&&'static Server| threads == 1 || server.pool;
        Self {
            connections,
            threads,
            servers: servers.iter().filter(possible).copied().collect(),
            series: Series::new("http", format!("{connections} connections")),
        }
    }

    /// One round of one server.
    fn measure(&mut self, server: &'static Server, seconds: u16) -> Outcome {
        let all = process::processors()?;
        let (serving, loading) = match (self.threads, &*all) {
            (1, [first, second, ..]) => (vec![*first], vec![*second]),
            _ => (all.clone(), all.clone()),
        };
        let mut command = Command::new(std::env::current_exe()?);
        let threads = self.threads.to_string();
        command.args(["--serve", server.name, "--threads", &threads]);
        let mut process = process::Server::start(command, &serving)?;
        process::pin(&loading)?;
        let before = process.processor_time()?;
        let loaded = wrk::load(process.address(), self.connections, seconds);
        process.check()?; // that the server ended says more than that wrk lost it
        let loaded = loaded?;
        let used = process.processor_time()? - before;
        let cost = used.as_secs_f64() * 1e6 / loaded.requests;
        self.series
            .add(server.name, self.threads, RATE, loaded.rate);
        self.series.add(server.name, self.threads, COST, cost);
        Ok(())
    }

    /// Over tokio's runtime for so many threads.
    fn rows(&self) -> Vec<proactor_bench::rows::Row> {
        let base = if self.threads == 1 {
            "tokio-current"
        } else {
            "tokio-multi"
        };
        self.series.rows(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::SERVERS;

    #[test]
    fn servers_that_cannot_have_the_threads_are_left_out() {
        let all = Vec::from_iter(&SERVERS);
        let names = |threads| {
            let case = Case::new(1, threads, &all);
            Vec::from_iter(case.servers.iter().map(|server| server.name))
        };
        assert_eq!(names(1).len(), SERVERS.len());
        assert!(!names(2).contains(&"tokio-current") && names(2).contains(&"tokio-multi"));
    }
}
