//! What the tour (`cargo run --release --example tour -- --help`) can be told, and the one line that it says
//! about what it cannot.

use std::fs::File;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;
use proactor::{BackendKind, Strategy};

use crate::load::Plan;
use crate::servers::Model;

/// More threads than this have nothing to do: the client has one.
const POOL_THREADS_MOST: usize = 8;
/// The share of a row's time that is warm-up, and its limit.
const WARM_UP_SHARE: f64 = 0.2;
const WARM_UP_MOST: Duration = Duration::from_secs(1);

/// The same echo server in five ways, driven by real TCP clients, every byte verified.
#[derive(Parser)]
#[command(name = "tour")]
pub(crate) struct Options {
    /// Client connections, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// How long each row takes, warm-up included
    #[arg(long, value_name = "F", default_value = "4", value_parser = seconds, allow_negative_numbers = true)]
    seconds_per_row: Duration,
    /// Size of a message
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    message_bytes: u32,
    /// Only the proactor with this strategy (single, leader-followers, work-stealing); can be repeated
    #[arg(long = "strategy", value_name = "S")]
    strategies: Vec<Strategy>,
    /// What the proactor waits with: auto or portable
    #[arg(long, value_name = "B", default_value = "auto")]
    backend: BackendKind,
    /// Threads of the strategies that are pools [default: one per CPU, 2 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// Reads the command line; for `--help` this prints it and ends the process.
    ///
    /// An error is one line that says what is wrong.
    pub(crate) fn from_command_line() -> Result<Self, String> {
        let options = Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                error.exit(); // --help
            }
            one_line(&error)
        })?;
        let only_single = |strategy: &Strategy| *strategy == Strategy::Single;
        if !options.strategies.is_empty()
            && options.strategies.iter().all(only_single)
            && options.threads.is_some_and(|threads| threads > 1)
        {
            return Err("--threads is for the pools: the strategy single has 1 thread".into());
        }
        options.check_descriptors()?;
        Ok(options)
    }

    /// The rows of the table, in order.
    pub(crate) fn models(&self) -> Vec<Model> {
        let proactor = |strategy: Strategy| Model::Proactor {
            strategy,
            backend: self.backend,
            threads: self.pool_threads(strategy),
        };
        if self.strategies.is_empty() {
            let proactors = Strategy::ALL.into_iter().map(proactor);
            let seed = [Model::Synchronous, Model::ThreadPerConnection];
            return seed.into_iter().chain(proactors).collect();
        }
        self.strategies.iter().copied().map(proactor).collect()
    }

    /// What the client does to a model.
    pub(crate) fn plan(&self, model: Model) -> Plan {
        let warm_up = self
            .seconds_per_row
            .mul_f64(WARM_UP_SHARE)
            .min(WARM_UP_MOST);
        Plan {
            connections: model.connections(self.connections.into()),
            message_bytes: self.message_bytes as usize,
            warm_up,
            measured: self.seconds_per_row - warm_up,
        }
    }

    /// How long each row takes.
    pub(crate) fn row(&self) -> Duration {
        self.seconds_per_row
    }

    fn pool_threads(&self, strategy: Strategy) -> NonZeroUsize {
        let threads = match (strategy, self.threads) {
            (Strategy::Single, _) => 1,
            (_, Some(threads)) => threads.into(),
            (_, None) => num_cpus::get().clamp(2, POOL_THREADS_MOST),
        };
        NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
    }

    /// Tries whether there are descriptors for both ends of every connection, since a server that runs out of
    /// them cannot say so to its client.
    fn check_descriptors(&self) -> Result<(), String> {
        let needed = 2 * usize::from(self.connections) + 32;
        let first = File::open("/dev/null").map_err(|e| format!("cannot open /dev/null: {e}"))?;
        let all: Result<Vec<File>, _> = (0..needed).map(|_| first.try_clone()).collect();
        let connections = self.connections;
        all.map(drop).map_err(|e| {
            format!("--connections {connections} needs {needed} descriptors: {e}: raise the limit with `ulimit -n`")
        })
    }
}

/// Parses `--seconds-per-row`.
fn seconds(text: &str) -> Result<Duration, String> {
    let out_of_range = || "not a number of seconds from 0.05 to 3600".to_string();
    let seconds: f64 = text.parse().map_err(|_| out_of_range())?;
    if !(0.05..=3600.0).contains(&seconds) {
        return Err(out_of_range());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The essence of clap's several lines: its first paragraph, without the label.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_string()
}
