//! The manners of the command lines: `--help`; one clear line for anything wrong, and exit 2.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// What a program's body answers.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Parses the arguments and runs the body. Bad arguments, and an error of the body, are one line on stderr and exit 2.
pub fn main<O: Parser>(body: impl FnOnce(O) -> Outcome) -> ExitCode {
    let options = O::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit(); // --help
        }
        one_line(&error).into()
    });
    match options.and_then(body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", O::command().get_name());
            ExitCode::from(2)
        }
    }
}

/// Prints it; whoever closed stdout does not want to know.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// The essence of clap's several lines: its first paragraph, without the label.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_string()
}
