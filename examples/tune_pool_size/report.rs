//! What the sweep (`cargo run --release --example tune_pool_size`) says: how long it will take, how far it is, the table
//! and the recommendation; or, with `--json`, one object alone.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cell::{Cell, Measured, Sample, Spread};
use crate::measure::Plan;
use crate::options::{Options, many};
use crate::recommend::{Goal, Recommendation, recommend};

pub(crate) struct Report<'a> {
    options: &'a Options,
    plan: Plan,
    bar: ProgressBar,
}

impl<'a> Report<'a> {
    /// Says what is going to happen.
    pub(crate) fn begin(options: &'a Options, plan: Plan) -> Self {
        let (cells, repeats) = (options.cells().len(), options.repeats());
        let total = so_far(options, cells * repeats, Duration::ZERO);
        // The bar is on stderr, and indicatif hides it where that is no terminal.
        let bar = match options.json {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(total),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
            bar.set_style(style);
        }
        let report = Self { options, plan, bar };
        report.say(&format!(
            "tune_pool_size: {}\n{}, {} of {:.2} s each, all cells in turn: about {} s on {}\n",
            options.describe_load(),
            many(cells, "cell"),
            many(repeats, "repeat"),
            options.cell_time().as_secs_f64(),
            total.div_ceil(1000),
            many(num_cpus::get(), "processor"),
        ));
        report
    }

    /// Shows how far it got: so many measurements are `done`, and one has gone on for a while.
    pub(crate) fn progress(&self, cell: Cell, repeat: usize, done: usize, within: Duration) {
        self.bar.set_position(so_far(self.options, done, within));
        self.bar.set_message(format!(
            "repeat {} of {}: {cell}",
            repeat + 1,
            self.options.repeats()
        ));
    }

    /// The table and what follows from it.
    pub(crate) fn end(&self, measured: &[Measured]) {
        self.bar.finish_and_clear();
        let recommended = recommend(measured, Goal::Throughput);
        let calmest = recommend(measured, Goal::Latency);
        if self.options.json {
            return print_line(
                &self
                    .to_json(measured, recommended.as_ref(), calmest.as_ref())
                    .to_string(),
            );
        }
        self.table(measured, recommended.as_ref());
        if let Some(recommended) = recommended {
            self.advise(measured, &recommended, calmest.as_ref());
        }
    }

    fn table(&self, measured: &[Measured], recommended: Option<&Recommendation>) {
        let operation = self.plan.load.operation();
        let names = measured.iter().map(|row| row.cell.series().len());
        let width = names.max().unwrap_or_default().max("strategy".len());
        self.say(&format!(
            "{:<width$} {:>7} {:>12} {:>19} {:>9} {:>9} {:>14} {:>8}  {}",
            "strategy",
            "threads",
            format!("{operation}s/s"),
            "min to max",
            "p50 us",
            "p99 us",
            format!("CPU us/{operation}"),
            "speed-up",
            "of the best",
        ));
        for (index, row) in measured.iter().enumerate() {
            let throughput = row.spread(|sample| sample.throughput);
            let median = |figure: fn(&Sample) -> f64| row.spread(figure).median;
            let mark = match recommended {
                Some(it) if it.pick == index => " <-",
                Some(it) if it.admits(index) => " ~",
                _ => "",
            };
            let of_best = recommended.map(|it| of_best(row, &measured[it.best]));
            let of_best = of_best.map_or(String::new(), |it| {
                format!("{:.2} ({:.2} to {:.2})", it.median, it.min, it.max)
            });
            self.say(&format!(
                "{:<width$} {:>7} {:>12.0} {:>19} {:>9.1} {:>9.1} {:>14.2} {:>8}  {of_best}{mark}",
                row.cell.series(),
                row.cell.threads,
                throughput.median,
                format!("{:.0} to {:.0}", throughput.min, throughput.max),
                median(|sample| sample.p50_us),
                median(|sample| sample.p99_us),
                median(|sample| sample.cpu_us),
                speed_up(row, measured).map_or("-".to_owned(), |it| format!("{:.2}", it.median)),
            ));
        }
        let repeats = measured
            .iter()
            .map(|row| row.samples.len())
            .max()
            .unwrap_or_default();
        self.say(&format!(
            "medians over {}; <- recommended, ~ keeps up with the best\nspeed-up: over one thread of the same strategy; \
             of the best: share of the best cell's throughput; both within a repeat, and the median of that",
            many(repeats, "repeat")
        ));
    }

    fn advise(&self, measured: &[Measured], it: &Recommendation, calmest: Option<&Recommendation>) {
        let pick = &measured[it.pick];
        self.say(&format!("\nRecommended: {}: {}.", pick.cell, it.why));
        self.say(&format!("\n    {}\n", pick.cell.builder_line()));
        if let Some(calmest) = calmest.filter(|calmest| !calmest.admits(it.pick)) {
            let calm = &measured[calmest.pick];
            let p99_us = |row: &Measured| row.spread(|sample| sample.p99_us).median;
            self.say(&format!(
                "For the shortest p99 instead: {}, {:.0} us against {:.0}: {}.\n",
                calm.cell,
                p99_us(calm),
                p99_us(pick),
                calmest.why
            ));
        }
        self.say(&format!("Chart: {}", self.options.svg.display()));
    }

    fn to_json(
        &self,
        measured: &[Measured],
        recommended: Option<&Recommendation>,
        calmest: Option<&Recommendation>,
    ) -> Value {
        let best = recommended.map(|it| &measured[it.best]);
        let cells: Vec<Value> = measured
            .iter()
            .map(|row| cell_to_json(row, measured, best))
            .collect();
        let advice = |it: Option<&Recommendation>| it.map(|it| advice_to_json(it, measured));
        json!({
            "load": self.plan.load.name(),
            "operation": self.plan.load.operation(),
            "description": self.options.describe_load(),
            "processors": num_cpus::get(),
            "seconds": self.options.cell_time().as_secs_f64(),
            "repeats": self.options.repeats(),
            "cells": cells,
            "recommendation": advice(recommended),
            "shortest_p99": advice(calmest),
        })
    }

    /// A line of the table's, kept apart from the progress bar.
    fn say(&self, line: &str) {
        if !self.options.json {
            self.bar.suspend(|| print_line(line));
        }
    }
}

/// The time that so many measurements take, and a part of another, in milliseconds.
fn so_far(options: &Options, done: usize, within: Duration) -> u64 {
    let time = options.cell_time();
    let done = time.saturating_mul(u32::try_from(done).unwrap_or(u32::MAX));
    u64::try_from((done + within.min(time)).as_millis()).unwrap_or(u64::MAX)
}

/// Against the same strategy with one thread, repeat by repeat; nothing if that was not measured.
fn speed_up(row: &Measured, all: &[Measured]) -> Option<Spread> {
    let is_base =
        |base: &&Measured| base.cell.threads.get() == 1 && base.cell.is_of_series(row.cell);
    let base = all.iter().find(is_base)?;
    Some(row.ratio(base, |sample| sample.throughput))
}

/// Against the best cell, repeat by repeat.
fn of_best(row: &Measured, best: &Measured) -> Spread {
    row.ratio(best, |sample| sample.throughput)
}

fn cell_to_json(row: &Measured, all: &[Measured], best: Option<&Measured>) -> Value {
    let figure = |figure: fn(&Sample) -> f64| spread_to_json(row.spread(figure));
    json!({
        "strategy": row.cell.strategy.to_string(),
        "threads": row.cell.threads,
        "setting": row.cell.setting.map(|setting| setting.to_string()),
        "throughput": figure(|sample| sample.throughput),
        "p50_us": figure(|sample| sample.p50_us),
        "p99_us": figure(|sample| sample.p99_us),
        "cpu_us": figure(|sample| sample.cpu_us),
        "speed_up": speed_up(row, all).map(spread_to_json),
        "of_best": best.map(|best| spread_to_json(of_best(row, best))),
        "samples": row.samples.iter().map(|sample| sample.throughput).collect::<Vec<_>>(),
    })
}

fn spread_to_json(spread: Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

fn advice_to_json(it: &Recommendation, measured: &[Measured]) -> Value {
    let cell = measured[it.pick].cell;
    let name = |index: usize| measured[index].cell.to_string();
    json!({
        "strategy": cell.strategy.to_string(),
        "threads": cell.threads,
        "setting": cell.setting.map(|setting| setting.to_string()),
        "builder": cell.builder_line(),
        "best": name(it.best),
        "keep_up": it.keep_up.iter().copied().map(name).collect::<Vec<_>>(),
        "why": it.why,
    })
}

/// Writes to stdout; whoever closed it does not want to know.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
