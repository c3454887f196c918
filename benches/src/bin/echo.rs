//! An echo, and what it costs the server: ours, a loop around epoll by hand, and the peers, in turn.
//!
//! ```text
//! cargo run --release -p proactor-bench --features peers --bin echo -- --help
//! ```
//!
//! One thread: the server has one processor and the client another; with one connection both have the same, since otherwise the
//! time is that of waking a processor up. Several threads: server and client share all processors. Each server of each
//! round is a new process, whose user and system time is read before and after the load. Where a machine is busy with other
//! things too, many short rounds say more than a few long ones.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::load::{Clients, Shape};
use proactor_bench::rows::{self, Metric, Row, Series};
use proactor_bench::servers::{self, BASE, Server};
use proactor_bench::{process, progress, table};

const COST: Metric = Metric::new(
    "cpu",
    "us/request",
    "processor time of the server per request",
);
/// How long a server is warmed up at most.
const MOST_WARM: Duration = Duration::from_millis(100);
const RATE: Metric = Metric::new("rate", "requests/s", "requests per second");

/// Measures echo servers beside each other: the server's processor time per request, and requests per second
///
/// Every byte is verified; a wrong one, or a lost connection, ends the run with an error.
#[derive(Parser)]
#[command(name = "echo", after_help = servers_help())]
struct Options {
    /// Servers to measure, with commas between; the base is measured in any case [default: all that can be had]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// Connections x bytes of a message x messages sent at once, with commas between the shapes
    #[arg(
        long,
        value_name = "SHAPES",
        value_delimiter = ',',
        default_value = "1x64x1,64x64x1,1000x64x1,64x16384x1,64x64x16"
    )]
    shapes: Vec<Case>,
    /// Server threads, with commas between; with several, those servers are measured that can have them
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Vec<u16>,
    /// Where server and client run [default: one thread: apart, or together if there is one connection; several: shared]
    #[arg(long, value_name = "WHERE")]
    place: Option<Place>,
    /// Rounds, each with every server in every shape
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long each server is measured in each shape and round
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON row a line instead of tables
    #[arg(long)]
    json: bool,
    /// Be that server
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
}

fn servers_help() -> String {
    let line = |server: &Server| vec![format!("  {}", server.name), format!("  {}", server.about)];
    let lines = Vec::from_iter(servers::SERVERS.iter().map(line));
    let width = lines.iter().map(|line| line[0].len()).max().unwrap_or(0);
    let lines = lines
        .iter()
        .map(|line| format!("{:width$}{}\n", line[0], line[1]));
    format!("Servers:\n{}", String::from_iter(lines))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("it is a number from 0.01 to 60".to_owned()),
    }
}

/// A shape as it is written on the command line.
#[derive(Clone, Copy)]
struct Case(Shape);

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split('x')
            .map(str::parse)
            .collect::<Result<Vec<usize>, _>>();
        match numbers.as_deref() {
            Ok(&[connections @ 1..=20_000, message_bytes @ 1..=1_048_576, pipeline @ 1..=1024])
                if message_bytes * pipeline <= 1 << 20 =>
            {
                Ok(Self(Shape { connections, message_bytes, pipeline }))
            }
            _ => Err("it is CONNECTIONSxBYTESxPIPELINE, as in 64x64x1: up to 20000 connections, and up to 1 MiB at once".to_owned()),
        }
    }
}

impl Case {
    fn name(self) -> String {
        let Shape {
            connections,
            message_bytes,
            pipeline,
        } = self.0;
        let mut name = format!(
            "{connections} connection{}",
            if connections == 1 { "" } else { "s" }
        );
        if message_bytes != 64 {
            name += &match message_bytes % 1024 {
                0 => format!(", {} KiB", message_bytes / 1024),
                _ => format!(", {message_bytes} bytes"),
            };
        }
        if pipeline != 1 {
            name += &format!(", pipeline {pipeline}");
        }
        name
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    if let Some(name) = &options.serve {
        let threads = options.threads.first().copied().unwrap_or(1);
        return servers::chosen(std::slice::from_ref(name))?[0].serve(threads.into());
    }
    let most = options.shapes.iter().map(|case| case.0.connections).max();
    process::raise_descriptors(most.unwrap_or(0) as u64 + 100)?;
    let processors = process::processors()?;
    let mut servers = Vec::new();
    for threads in options.threads.iter().copied().map(usize::from) {
        let measurable = servers::measurable(&options.servers, threads)?;
        servers.extend(measurable.into_iter().map(|server| (server, threads)));
    }
    let mut cases = Vec::from_iter(options.shapes.iter().map(|&case| {
        let series = Series::new("echo", case.name());
        (case, series)
    }));
    let rounds = usize::from(options.rounds);
    let bar = progress::bar(rounds * cases.len() * servers.len());
    let time = Duration::from_secs_f64(options.seconds);
    for _ in 0..rounds {
        for (case, series) in &mut cases {
            for &(server, threads) in &servers {
                let what = format!("{}, {}", case.name(), server.name);
                progress::begin(&bar, what.as_str());
                let place = options.place.unwrap_or(Place::usual(threads, case.0));
                let (cost, rate) = measure(server, threads, case.0, time, place.of(&processors))
                    .map_err(|error| format!("{what}: {error}"))?;
                series.add(server.name, threads, COST, cost);
                series.add(server.name, threads, RATE, rate);
                bar.inc(1);
            }
        }
    }
    let rows = cases.iter().flat_map(|(_, series)| series.rows(BASE));
    report(&bar, &Vec::from_iter(rows), options.json)
}

fn report(bar: &ProgressBar, rows: &[Row], json: bool) -> Outcome {
    bar.finish_and_clear();
    if json {
        return Ok(rows::write_json(rows, std::io::stdout().lock())?);
    }
    for metric in [COST, RATE] {
        let head = "over the base's of the same round, median (least..most)";
        let table = table::matrix(rows, metric.name);
        cli::say(&format!("{}: {head}\n{table}", metric.about));
    }
    Ok(())
}

/// Where server and client run.
#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// On one processor each
    Apart,
    /// On one processor, both
    Together,
    /// Wherever they like
    Shared,
}

impl Place {
    fn usual(threads: usize, shape: Shape) -> Self {
        match (threads, shape.connections) {
            (1, 1) => Self::Together,
            (1, _) => Self::Apart,
            _ => Self::Shared,
        }
    }

    /// The processors of the server, and those of the client.
    fn of(self, all: &[usize]) -> (&[usize], &[usize]) {
        match (self, all) {
            (Self::Apart, [_, _, ..]) => (&all[..1], &all[1..2]),
            (Self::Apart | Self::Together, [_, ..]) => (&all[..1], &all[..1]),
            _ => (all, all),
        }
    }
}

/// The server's processor time per request in microseconds, and requests per second.
fn measure(
    server: Server,
    threads: usize,
    shape: Shape,
    time: Duration,
    (servers, clients): (&[usize], &[usize]),
) -> Outcome<(f64, f64)> {
    let mut process = process::Server::start(server.command(threads)?, servers)?;
    process::pin(clients)?;
    let load = |process: &process::Server| -> Outcome<(f64, f64)> {
        let mut clients = Clients::connect(process.address(), shape)?;
        clients.run(MOST_WARM.min(time / 2))?;
        let (began, before) = (Instant::now(), process.processor_time()?);
        let requests = clients.run(time)? as f64;
        let (took, used) = (began.elapsed(), process.processor_time()? - before);
        Ok((
            used.as_secs_f64() * 1e6 / requests,
            requests / took.as_secs_f64(),
        ))
    };
    let loaded = load(&process);
    process.check()?; // that the server ended says more than that its clients lost it
    loaded
}
