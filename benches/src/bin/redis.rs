//! The `mini_redis` example beside the real redis-server, by redis-benchmark.
//!
//! ```text
//! cargo run --release -p proactor-bench --bin redis
//! ```
//!
//! Both run all the time; in each round redis-benchmark drives the one, then the other. It is what an example of this library
//! and a program of twenty years do for the same client, and not what else they can do.
//!
//! The third, `answers-unread`, is no peer. It says about what the client and the kernel let any server reach: with one thread and
//! pipelining, redis-benchmark itself is what is slow. `--client-threads 2` is the case in which it is not.

use std::env;
use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use proactor::Strategy;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::process::{self, Server};
use proactor_bench::rows::{Metric, Series};
use proactor_bench::servers::{ANSWERS_UNREAD, answer_unread};
use proactor_bench::{example, progress, table};

const RATE: Metric = Metric::new("rate", "requests/s", "requests per second");
const CPU: Metric = Metric::new(
    "cpu",
    "us/request",
    "processor time of the server per request",
);

const BASE: &str = "redis-server";
/// The first makes the key that the second asks for.
const COMMANDS: [&str; 2] = ["set", "get"];

/// Measures the example of a small Redis beside redis-server, by redis-benchmark
///
/// GET and SET of one key and three bytes, which is what redis-benchmark does by itself.
#[derive(Parser)]
#[command(name = "redis")]
struct Options {
    /// Rounds, each with both servers
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Requests of each measurement; ten times as many with pipelining, and again with several client threads, which look at the
    /// clock four times a second and end no earlier
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: u32,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Requests that a connection sends at once: each a case, with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16], value_parser = clap::value_parser!(u16).range(1..=1000))]
    pipeline: Vec<u16>,
    /// Threads of redis-benchmark: each a case, with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u16).range(1..=64))]
    client_threads: Vec<u16>,
    /// Threads of the example, and of the bound
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Strategy of the example
    #[arg(long, value_name = "S", default_value = "work-stealing")]
    strategy: Strategy,
    /// Print one JSON row a line instead of tables
    #[arg(long)]
    json: bool,
    /// Be the bound
    #[arg(long, hide = true)]
    answer_unread: bool,
}

/// What redis-benchmark is told to do.
#[derive(Clone, Copy)]
struct Case {
    command: &'static str,
    pipeline: u16,
    client_threads: u16,
}

impl Case {
    fn all(options: &Options) -> Vec<Self> {
        let mut all = Vec::new();
        for &client_threads in &options.client_threads {
            for command in COMMANDS {
                all.extend(options.pipeline.iter().map(|&pipeline| Self {
                    command,
                    pipeline,
                    client_threads,
                }));
            }
        }
        all
    }

    fn name(self) -> String {
        let command = self.command.to_uppercase();
        let threads = match self.client_threads {
            1 => String::new(),
            threads => format!(", {threads} client threads"),
        };
        format!("{command}, pipeline {}{threads}", self.pipeline)
    }

    fn requests(self, base: u32) -> u32 {
        let tenfold = |more: bool| if more { 10 } else { 1 };
        base * tenfold(self.pipeline > 1) * tenfold(self.client_threads > 1)
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    if options.answer_unread {
        return answer_unread(options.threads.into());
    }
    for program in [BASE, "redis-benchmark"] {
        if !is_here(program) {
            eprintln!(
                "redis: nothing is measured without {program} (Debian: `apt-get install redis-server redis-tools`)"
            );
            return Ok(());
        }
    }
    let ours = format!("proactor-{}", options.strategy);
    let mut servers = [
        (BASE, redis_server()?),
        (ours.as_str(), mini_redis(&options)?),
        (ANSWERS_UNREAD, bound(&options)?), // which ends with this program
    ];
    let cases = Case::all(&options);
    let mut series = Vec::from_iter(cases.iter().map(|case| Series::new("redis", case.name())));
    let bar = progress::bar(usize::from(options.rounds) * cases.len() * servers.len());
    for _ in 0..options.rounds {
        for (&case, series) in cases.iter().zip(&mut series) {
            for (name, server) in &mut servers {
                progress::begin(&bar, format!("{name}: {}", case.name()));
                let (rate, cpu) =
                    measure(server, case, &options).map_err(|error| format!("{name}: {error}"))?;
                series.add(name, 1, RATE, rate);
                series.add(name, 1, CPU, cpu);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let [(_, theirs), (_, example), _bound] = servers;
    theirs.stop()?;
    example.stop()?;
    let mut rows = Vec::from_iter(series.iter().flat_map(|series| series.rows(BASE)));
    // They are compared whatever threads they have; only then is it said how many.
    for row in rows.iter_mut().filter(|row| row.peer != BASE) {
        row.threads = options.threads.into();
    }
    table::print(&rows, &[RATE, CPU], options.json)
}

fn is_here(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--version").stdout(Stdio::null());
    asked.stderr(Stdio::null()).status().is_ok()
}

/// The real one, without files. It takes no port 0, so one is looked for that is free now.
fn redis_server() -> Outcome<Server> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(BASE);
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    Ok(Server::start_at(command, address)?)
}

fn mini_redis(options: &Options) -> Outcome<Server> {
    let mut command = Command::new(example::built("mini_redis")?);
    command
        .args(["--addr", "127.0.0.1:0", "--strategy"])
        .arg(options.strategy.to_string())
        .args(["--threads", &options.threads.to_string()]);
    Ok(Server::start(command, &process::processors()?)?)
}

/// This program again.
fn bound(options: &Options) -> Outcome<Server> {
    let mut command = Command::new(env::current_exe()?);
    let threads = options.threads.to_string();
    command.args(["--answer-unread", "--threads", &threads]);
    Ok(Server::start(command, &process::processors()?)?)
}

/// Requests a second, and the server's processor time of each in microseconds.
fn measure(server: &mut Server, case: Case, options: &Options) -> Outcome<(f64, f64)> {
    let requests = case.requests(options.requests);
    let before = server.processor_time()?;
    let mut client = Command::new("redis-benchmark");
    client
        .args(["-h", "127.0.0.1", "-p"])
        .arg(server.address().port().to_string())
        .args(["-t", case.command, "-P", &case.pipeline.to_string()])
        .args(["-c", &options.connections.to_string()])
        .args(["-n", &requests.to_string(), "--csv"]);
    if case.client_threads > 1 {
        // "1" is a thread beside the main one, and ends as late as several do.
        client.args(["--threads", &case.client_threads.to_string()]);
    }
    let ran = client.stdin(Stdio::null()).output()?;
    let took = server.processor_time()? - before;
    server.check()?;
    let (said, complained) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    match rate(&said, case.command) {
        Some(rate) if ran.status.success() => {
            Ok((rate, took.as_secs_f64() * 1e6 / f64::from(requests)))
        }
        _ => Err(format!(
            "redis-benchmark said {said:?}, {complained:?} ({})",
            ran.status
        )
        .into()),
    }
}

/// The figure in a line such as `"GET","81234.11","0.311",...`.
fn rate(said: &str, command: &str) -> Option<f64> {
    let mut lines = said.lines().filter_map(|line| {
        let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
        let is_it = cells.next()?.eq_ignore_ascii_case(command);
        is_it.then(|| cells.next()?.parse().ok())?
    });
    lines.next().filter(|rate| *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_in_what_redis_benchmark_says() {
        let said = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"1.50\",\"3\"\n\"GET\",\"81234.11\",\"0.311\"\n";
        assert_eq!(rate(said, "get"), Some(81234.11));
        assert_eq!(rate(said, "set"), Some(1.5));
        assert_eq!(rate("Error from server: no\n", "get"), None);
    }
}
