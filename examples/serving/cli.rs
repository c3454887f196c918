//! What programs share of their command lines: exit 2 for bad usage, 1 for failures, each with a line that says what
//! to change.

use std::process::ExitCode;

use clap::Parser;

/// Why a program ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(String),
    Failed(String),
}

/// Parses the command line and runs the program with it.
pub(crate) fn main<O: Parser>(name: &str, run: impl FnOnce(O) -> Result<(), Failure>) -> ExitCode {
    let options = O::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit(); // --help
        }
        Failure::Usage(one_line(&error))
    });
    let (line, status) = match options.and_then(run) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => (line + ": see --help", 2),
        Err(Failure::Failed(line)) => (line, 1),
    };
    eprintln!("{name}: {line}");
    ExitCode::from(status)
}

/// The essence of clap's several lines: its first paragraph, without the label.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_string()
}
