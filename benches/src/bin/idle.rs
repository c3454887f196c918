//! The memory that an idle connection costs: of our servers, a loop around epoll by hand, and the peers.
//!
//! ```text
//! cargo run --release -p proactor-bench --features peers --bin idle -- --help
//! ```
//!
//! Each connection has echoed a message, and then does nothing. What is counted is the server's private memory: with all of
//! them, less with one.

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use proactor_bench::cli::{self, Outcome};
use proactor_bench::load::{Clients, Shape};
use proactor_bench::rows::{self, Metric, Series};
use proactor_bench::servers::{self, BASE};
use proactor_bench::{process, progress, table};

const BYTES: Metric = Metric::new(
    "resident",
    "bytes",
    "private memory of the server per idle connection",
);

/// Measures what an idle connection costs an echo server in memory
///
/// Each connection echoes one message, which is verified, and is idle then.
#[derive(Parser)]
#[command(name = "idle")]
struct Options {
    /// Servers to measure, with commas between; `echo --help` lists them [default: all that can be had]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// Measure this command instead, which says `listening on ADDRESS` when it is ready; may be given several times
    #[arg(long, value_name = "WORDS", conflicts_with = "servers", value_parser = words)]
    server_command: Vec<Words>,
    /// Idle connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Size of the message that each echoes before
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    message: u32,
    /// Server threads; with several, those servers are measured that can have them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Rounds, each with every server
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Print one JSON row a line instead of a table
    #[arg(long)]
    json: bool,
    /// Be that server
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
}

/// A command's words.
#[derive(Clone)]
struct Words(Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    let words = Vec::from_iter(text.split_whitespace().map(str::to_owned));
    match words.is_empty() {
        true => Err("it names no program".to_owned()),
        false => Ok(Words(words)),
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    let threads = usize::from(options.threads);
    if let Some(name) = options.serve {
        return servers::chosen(&[name])?[0].serve(threads);
    }
    process::raise_descriptors(u64::from(options.connections) + 100)?;
    let commands = match options.server_command.as_slice() {
        [] => named(&options.servers, threads)?,
        given => given
            .iter()
            .map(|Words(words)| (called(words), words.clone()))
            .collect(),
    };
    let shape = Shape {
        connections: options.connections as usize,
        message_bytes: options.message as usize,
        pipeline: 1,
    };
    let all = process::processors()?;
    let bar = progress::bar(usize::from(options.rounds) * commands.len());
    let mut series = Series::new("idle", format!("{} connections", options.connections));
    for _ in 0..options.rounds {
        for (name, words) in &commands {
            progress::begin(&bar, name.as_str());
            let bytes = measure(words, shape, &all).map_err(|error| format!("{name}: {error}"))?;
            series.add(name, threads, BYTES, bytes);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rows = series.rows(if options.json { BASE } else { "" });
    if options.json {
        return Ok(rows::write_json(&rows, std::io::stdout().lock())?);
    }
    let table = table::matrix(&rows, BYTES.name);
    cli::say(&format!(
        "{}, median (least..most)\n{}",
        BYTES.about,
        table.trim_end()
    ));
    Ok(())
}

/// A command without the way to its program.
fn called(words: &[String]) -> String {
    let mut words = words.to_vec();
    words[0] = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    words.join(" ")
}

/// The servers with the words of their commands.
fn named(names: &[String], threads: usize) -> Outcome<Vec<(String, Vec<String>)>> {
    let mut commands = Vec::new();
    for server in servers::measurable(names, threads)? {
        let command = server.command(threads)?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned());
        commands.push((server.name.to_owned(), words.collect()));
    }
    Ok(commands)
}

/// The server's private memory per connection, in bytes.
fn measure(words: &[String], shape: Shape, processors: &[usize]) -> Outcome<f64> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut server = process::Server::start(command, processors)?;
    let idle = |server: &process::Server| -> Outcome<f64> {
        let first = Clients::connect(
            server.address(),
            Shape {
                connections: 1,
                ..shape
            },
        )?;
        let before = server.private_memory()?;
        let mut others = Clients::connect(server.address(), shape)?;
        let after = server.private_memory()?;
        others.run(Duration::ZERO)?; // all of them are still served
        drop(first);
        Ok((after as f64 - before as f64) / shape.connections as f64)
    };
    let idled = idle(&server);
    server.check()?;
    idled
}
