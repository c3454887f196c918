//! Which strategy, and how many threads, for a load like yours: a sweep that draws a chart and says which to take.
//!
//! ```text
//! cargo run --release --example tune_pool_size                          # echo; about 40 s
//! cargo run --release --example tune_pool_size -- --load blocking
//! cargo run --release --example tune_pool_size -- --load cpu --strategies work-stealing --vary turn-budget=0,16,256
//! ```
//!
//! Its output is explained in `docs/tuning.md`. An interrupt ends it with what it has by then.
//!
//! Exit status: 0; 1 if a byte or a handler was lost, came twice or was wrong; 2 for bad input.

mod cell;
mod chart;
mod echo;
#[path = "../tour/histogram.rs"]
mod histogram;
mod jobs;
mod labour;
#[path = "../tour/load.rs"]
mod load;
mod measure;
mod options;
#[path = "../tour/ready.rs"]
mod ready;
mod recommend;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;

use crate::cell::Measured;
use crate::measure::Plan;
use crate::options::Options;
use crate::report::Report;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        Err(line) => {
            eprintln!("tune_pool_size: {line}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("tune_pool_size: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let interrupted = interruption().map_err(|e| format!("cannot watch for interrupts: {e}"))?;
    let plan = options.plan();
    let report = Report::begin(options, plan);
    let measured = sweep(options, plan, &report, &interrupted)?;
    report.end(&measured);
    chart::draw(
        &options.svg,
        &options.describe_load(),
        plan.load.operation(),
        &measured,
    )
    .map_err(|e| format!("cannot write {}: {e}", options.svg.display()))
}

/// Measures every cell once, then every cell again, and so on: whatever else the machine does meets all of them.
fn sweep(
    options: &Options,
    plan: Plan,
    report: &Report<'_>,
    interrupted: &AtomicBool,
) -> Result<Vec<Measured>, String> {
    let begin = |cell| Measured {
        cell,
        samples: Vec::with_capacity(options.repeats()),
    };
    let mut all: Vec<Measured> = options.cells().into_iter().map(begin).collect();
    'sweep: for repeat in 0..options.repeats() {
        for index in 0..all.len() {
            let cell = all[index].cell;
            let done = repeat * all.len() + index;
            let show = |within| report.progress(cell, repeat, done, within);
            let sample = measure::measure(cell, plan, show).map_err(|e| format!("{cell}: {e}"))?;
            all[index].samples.push(sample);
            if interrupted.load(Ordering::Relaxed) {
                break 'sweep;
            }
        }
    }
    all.retain(|measured| !measured.samples.is_empty());
    Ok(all)
}

/// Becomes true with the first interrupt; the second ends the process.
fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
    Ok(interrupted)
}
