//! What the sweep (`cargo run --release --example tune_pool_size -- --help`) can be told, and the one line that it says
//! about what it cannot.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use proactor::{BackendKind, Strategy};

use crate::cell::{Cell, Variation};
use crate::echo::LABOUR_EVERY;
use crate::jobs::HANDLERS;
use crate::labour::Labour;
use crate::load::LOST_AFTER;
use crate::measure::{Load, Plan};

/// What a run takes about, if it is told nothing.
const WHOLE_RUN: Duration = Duration::from_secs(40);
const CELL_MOST: Duration = Duration::from_secs(1);
/// The shortest measurement that says anything.
const CELL_LEAST: Duration = Duration::from_millis(50);
/// The share of a cell's time that is warm-up.
const WARM_UP_SHARE: f64 = 0.2;
/// The builder takes no more.
const THREADS_MOST: usize = 1024;

/// Tries strategies and pool sizes on a load, draws what came of it, and says which to take.
///
/// Cells take turns: all of them once, then all of them again, and so on. A figure is the median over these repeats, and
/// what is compared was measured at about the same time. Every byte and every handler is accounted for.
#[derive(Parser)]
#[command(name = "tune_pool_size")]
pub(crate) struct Options {
    /// What the handlers do
    #[arg(long, value_enum, default_value = "io")]
    load: Load,
    /// Strategies to try: single (which has one cell), leader-followers, work-stealing
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "single,leader-followers,work-stealing"
    )]
    strategies: Vec<Strategy>,
    /// Pool sizes to try [default: 1, 2, 4 .. to twice the processors; for blocking 16 times]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = thread_count)]
    threads: Vec<NonZeroUsize>,
    /// A knob to try besides: batch, turn-budget, poll-every, spin-us, seats or backend with values, as in batch=1,16,128
    #[arg(long, value_name = "KNOB=LIST")]
    vary: Option<Variation>,
    /// How long each repeat of each cell takes, warm-up included [default: what makes 40 s in all, at most 1]
    #[arg(long, value_name = "F", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Option<Duration>,
    /// How often each cell is measured
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    /// How much is under way at once: connections [default: 64], or jobs of 8 handlers for cpu and blocking [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: Option<u16>,
    /// Size of a message of io and mixed
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    message_bytes: u32,
    /// How long a handler computes or blocks, in microseconds [default: cpu 20, mixed 200, blocking 1000]
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    handler_us: Option<u32>,
    /// What the proactor waits with: auto or portable
    #[arg(long, value_name = "B", default_value = "auto")]
    backend: BackendKind,
    /// Where the chart goes
    #[arg(long, value_name = "PATH", default_value = "tune_pool_size.svg")]
    pub(crate) svg: PathBuf,
    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// Reads the command line; for `--help` this prints it and ends the process.
    ///
    /// An error is one line that says what is wrong.
    pub(crate) fn from_command_line() -> Result<Self, String> {
        let mut options = Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                error.exit(); // --help
            }
            one_line(&error)
        })?;
        if options.threads.is_empty() {
            options.threads = doublings(match options.load {
                Load::Blocking => 16 * num_cpus::get(),
                Load::Io | Load::Cpu | Load::Mixed => 2 * num_cpus::get(),
            });
        }
        without_repetition(&mut options.threads);
        without_repetition(&mut options.strategies);
        options.check_time()?;
        if options.load.is_echo() {
            check_descriptors(options.in_flight())?;
        }
        check_writable(&options.svg)?;
        Ok(options)
    }

    /// What is measured, in the order of the table.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let settings = match &self.vary {
            Some(Variation(settings)) => settings.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        Cell::all(&self.strategies, &self.threads, &settings)
    }

    /// What is done to each. Calibrates the load, which takes a moment.
    pub(crate) fn plan(&self) -> Plan {
        let time = self.handler_time();
        let labour = match self.load {
            Load::Io => Labour::Nothing,
            Load::Cpu | Load::Mixed => Labour::computing(time),
            Load::Blocking => Labour::Block(time),
        };
        let warm_up = self.cell_time().mul_f64(WARM_UP_SHARE);
        Plan {
            load: self.load,
            in_flight: self.in_flight(),
            message_bytes: self.message_bytes as usize,
            labour,
            backend: self.backend,
            warm_up,
            measured: self.cell_time() - warm_up,
        }
    }

    /// How often each cell is measured.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.into()
    }

    /// How long one repeat of one cell takes.
    pub(crate) fn cell_time(&self) -> Duration {
        self.seconds.unwrap_or_else(|| {
            let runs = self.cells().len() * self.repeats();
            let share = WHOLE_RUN.div_f64(runs as f64);
            share.clamp(CELL_LEAST, CELL_MOST)
        })
    }

    /// The load in words.
    pub(crate) fn describe_load(&self) -> String {
        let (bytes, time) = (self.message_bytes, self.handler_time());
        let what = if self.load.is_echo() {
            "connection"
        } else {
            "job"
        };
        let under_way = many(self.in_flight(), what);
        match self.load {
            Load::Io => format!("io, {under_way}, {bytes}-byte messages"),
            Load::Mixed => format!(
                "mixed, {under_way}, {bytes}-byte messages, each {LABOUR_EVERY}th computes for {time:?}"
            ),
            Load::Cpu => {
                format!("cpu, {under_way} of {HANDLERS} handlers that compute for {time:?}")
            }
            Load::Blocking => {
                format!("blocking, {under_way} of {HANDLERS} handlers that block for {time:?}")
            }
        }
    }

    fn in_flight(&self) -> usize {
        let default = if self.load.is_echo() { 64 } else { 16 };
        self.in_flight.unwrap_or(default).into()
    }

    fn handler_time(&self) -> Duration {
        let default = match self.load {
            Load::Io | Load::Cpu => 20,
            Load::Mixed => 200,
            Load::Blocking => 1000,
        };
        Duration::from_micros(self.handler_us.unwrap_or(default).into())
    }

    /// A reply that one thread cannot give in time would count as lost.
    fn check_time(&self) -> Result<(), String> {
        let all = self.handler_time() * u32::try_from(self.in_flight()).unwrap_or(u32::MAX);
        if self.load == Load::Mixed && all > LOST_AFTER / 4 {
            return Err(format!(
                "--in-flight {} times --handler-us {} is more than {:?}, and replies would count as lost: lower one",
                self.in_flight(),
                self.handler_time().as_micros(),
                LOST_AFTER / 4,
            ));
        }
        Ok(())
    }
}

/// `1 cell`, `2 cells`.
pub(crate) fn many(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// 1, 2, 4 and so on, and `most` itself.
fn doublings(most: usize) -> Vec<NonZeroUsize> {
    let most = most.clamp(1, THREADS_MOST);
    let powers = std::iter::successors(Some(1), |threads| Some(2 * threads));
    let below = powers.take_while(|threads| *threads < most);
    below.chain([most]).filter_map(NonZeroUsize::new).collect()
}

fn without_repetition<T: PartialEq + Copy>(list: &mut Vec<T>) {
    let mut seen = Vec::new();
    list.retain(|item| {
        let new = !seen.contains(item);
        seen.push(*item);
        new
    });
}

fn thread_count(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text
        .trim()
        .parse()
        .ok()
        .filter(|threads| *threads <= THREADS_MOST);
    let threads = threads.and_then(NonZeroUsize::new);
    threads.ok_or_else(|| format!("not a number of threads from 1 to {THREADS_MOST}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.05..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("not a number of seconds from 0.05 to 3600")?;
    Ok(Duration::from_secs_f64(seconds))
}

/// Tries whether there are descriptors for both ends of every connection: a server that runs out of them cannot tell its
/// client.
fn check_descriptors(connections: usize) -> Result<(), String> {
    let needed = 2 * connections + 32;
    let first = File::open("/dev/null").map_err(|e| format!("cannot open /dev/null: {e}"))?;
    let all: Result<Vec<File>, _> = (0..needed).map(|_| first.try_clone()).collect();
    all.map(drop).map_err(|e| {
        format!("--in-flight {connections} needs {needed} descriptors: {e}: raise the limit with `ulimit -n`")
    })
}

/// Now, and not when everything is measured.
fn check_writable(path: &Path) -> Result<(), String> {
    let existed = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|e| format!("--svg {}: cannot write it: {e}", path.display()))?;
    if !existed {
        let _ = std::fs::remove_file(path); // it is written at the end, or not at all
    }
    Ok(())
}

/// The essence of clap's several lines: its first paragraph, without the label.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_string()
}
