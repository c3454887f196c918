//! What the tour (`cargo run --release --example tour`) says: its first line, the table as it grows, the closing
//! line; or, with `--json`, one object alone.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::load::Outcome;
use crate::options::Options;
use crate::servers::Model;

/// One row of the table.
struct Row {
    model: Model,
    threads: usize,
    requests: u64,
    mismatches: u64,
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_request: f64,
}

/// Everything said so far, and how to say more.
pub(crate) struct Report {
    json: bool,
    rows: Vec<Row>,
    bar: ProgressBar,
}

impl Report {
    /// Says what is going to happen.
    pub(crate) fn begin(options: &Options, models: &[Model]) -> Self {
        let row_ms = u64::try_from(options.row().as_millis()).unwrap_or(u64::MAX);
        // The bar is on stderr, and indicatif hides it where that is no terminal.
        let bar = match options.json {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(row_ms.saturating_mul(models.len() as u64)),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
            bar.set_style(style);
        }
        let report = Self {
            json: options.json,
            rows: Vec::new(),
            bar,
        };
        let most = models
            .iter()
            .map(|model| options.plan(*model).connections)
            .max();
        let (most, bytes) = (most.unwrap_or(0), options.plan(models[0]).message_bytes);
        let (servers, row) = (models.len(), options.row().as_secs_f64());
        let total = row * servers as f64;
        report.say(&format!(
            "tour: echo servers on loopback, {servers} in turn, each driven for {row} s over {most} connections \
             with {bytes}-byte messages, every byte verified: about {total:.0} s in all\n"
        ));
        report.say(&format!(
            "{:<22} {:<17} {:>7} {:>12} {:>9} {:>9} {:>22}",
            "model",
            "strategy",
            "threads",
            "requests/s",
            "p50 us",
            "p99 us",
            "server CPU us/request"
        ));
        report
    }

    /// Shows how far it got: `done` is in milliseconds since the first row began.
    pub(crate) fn progress(&self, model: Model, done_ms: u64) {
        self.bar.set_message(title(model));
        self.bar.set_position(done_ms);
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, model: Model, connections: usize, outcome: &Outcome) {
        let requests = outcome.latencies.total();
        let row = Row {
            model,
            threads: model.threads(connections),
            requests,
            mismatches: outcome.mismatches,
            rps: requests as f64 / outcome.elapsed.as_secs_f64(),
            p50_us: outcome.latencies.percentile_us(50),
            p99_us: outcome.latencies.percentile_us(99),
            cpu_us_per_request: outcome.server_cpu.as_secs_f64() * 1e6 / requests as f64,
        };
        let strategy = model
            .strategy()
            .map_or("-".to_string(), |strategy| strategy.to_string());
        let name = match model {
            Model::Synchronous => "synchronous *".to_string(),
            Model::ThreadPerConnection | Model::Proactor { .. } => model.name().to_string(),
        };
        self.say(&format!(
            "{name:<22} {strategy:<17} {:>7} {:>12.0} {:>9.1} {:>9.1} {:>22.2}",
            row.threads, row.rps, row.p50_us, row.p99_us, row.cpu_us_per_request
        ));
        self.rows.push(row);
    }

    /// Says what there is to say at the end.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
        if self.json {
            let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
            print_line(&json!({ "rows": rows }).to_string());
            return;
        }
        if self
            .rows
            .iter()
            .any(|row| matches!(row.model, Model::Synchronous))
        {
            self.say("* serves one connection at a time, so this row drives one; the others drive all of them at once");
        }
        let fastest = self.rows.iter().max_by(|a, b| a.rps.total_cmp(&b.rps));
        let by_cpu = |a: &&Row, b: &&Row| a.cpu_us_per_request.total_cmp(&b.cpu_us_per_request);
        let (Some(fastest), Some(thriftiest)) = (fastest, self.rows.iter().min_by(by_cpu)) else {
            return;
        };
        self.say(&format!(
            "\nFastest here: {} with {:.0} requests/s. Least CPU per request: {} with {:.2} us.",
            title(fastest.model),
            fastest.rps,
            title(thriftiest.model),
            thriftiest.cpu_us_per_request
        ));
        if self.rows.iter().any(|row| row.model.strategy().is_some()) {
            self.say(
                "What it teaches: each proactor row ran the same handlers (echo_server in examples/tour/servers.rs); \
                 who runs them is the one builder line `.dispatcher(..)`, or by its name `.strategy(..)`.",
            );
        }
    }

    /// A line of the table's, kept apart from the progress bar.
    fn say(&self, line: &str) {
        if !self.json {
            self.bar.suspend(|| print_line(line));
        }
    }
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "model": self.model.name(),
            "strategy": self.model.strategy().map(|strategy| strategy.to_string()),
            "threads": self.threads,
            "requests": self.requests,
            "mismatches": self.mismatches,
            "rps": self.rps,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "cpu_us_per_request": self.cpu_us_per_request,
        })
    }
}

/// A row's name in running text.
pub(crate) fn title(model: Model) -> String {
    match model.strategy() {
        Some(strategy) => format!("{}, {strategy}", model.name()),
        None => model.name().to_string(),
    }
}

/// Writes to stdout; whoever closed it does not want to know.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
