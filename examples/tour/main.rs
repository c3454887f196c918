//! The main job in one command: the same echo server in the seed's three models, and in the third under each
//! strategy, driven by real TCP clients with every byte verified, and then compared in a table.
//!
//! ```text
//! cargo run --release --example tour                         # about 20 s
//! cargo run --release --example tour -- --strategy single --connections 1000 --message-bytes 16384
//! cargo run --release --example tour -- --json               # one object on stdout
//! ```
//!
//! Exit status: 0; 1 if a reply was lost or was not its request, or a server did not end cleanly; 2 for bad input.

mod histogram;
mod load;
mod options;
mod ready;
mod report;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use crate::options::Options;
use crate::report::Report;
use crate::servers::Model;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        Err(line) => {
            eprintln!("tour: {line}");
            return ExitCode::from(2);
        }
    };
    let models = options.models();
    let mut report = Report::begin(&options, &models);
    let mut wrong = Vec::new();
    for (index, model) in models.into_iter().enumerate() {
        if let Err(what) = run_row(&options, model, index, &mut report) {
            wrong.push(format!("{}: {what}", report::title(model)));
        }
    }
    report.end();
    for line in &wrong {
        eprintln!("tour: {line}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// One row: a server from its start to its end. An error says what was wrong with it.
fn run_row(
    options: &Options,
    model: Model,
    index: usize,
    report: &mut Report,
) -> Result<(), String> {
    let before = descriptors();
    let done_before = options
        .row()
        .saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
    let show = |report: &Report, within: Duration| {
        let done = done_before + within.min(options.row());
        report.progress(model, u64::try_from(done.as_millis()).unwrap_or(u64::MAX));
    };
    show(report, Duration::ZERO);
    let plan = options.plan(model);
    let server = model.start()?;
    let driven = load::drive(server.address, plan, |within| show(report, within));
    let stopped = server.stop();
    let outcome = driven?;
    if outcome.latencies.total() == 0 {
        return Err("no request was answered in the measured interval".into());
    }
    report.add(model, plan.connections, &outcome);
    if let Some(first) = outcome.first_mismatch {
        return Err(format!(
            "{} mismatches, the first: {first}",
            outcome.mismatches
        ));
    }
    stopped?;
    match (before, descriptors()) {
        (Some(before), Some(after)) if after > before => Err(format!(
            "the server left {} descriptors open",
            after - before
        )),
        _ => Ok(()),
    }
}

/// How many descriptors this process has open, where the system says.
fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
