//! The whole of what is measured, in one table with its bars and its pictures; `docs/benchmarks.md` is made of it.
//!
//! ```text
//! cargo run --release -p proactor-bench --features peers --bin report
//! cargo run --release -p proactor-bench --features peers --bin report -- --quick --only echo,timers
//! cargo run --release -p proactor-bench --features peers --bin report -- --from target/report/report.json --docs
//! ```

mod bars;
mod chart;
mod machine;
mod page;
mod parts;
mod pictures;
mod saved;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use proactor_bench::cli::{self, Outcome};

use crate::machine::Machine;
use crate::parts::Part;
use crate::saved::{Measured, Report};

/// Measures everything beside the peers, and says what was reached
///
/// Competitors take turns, round after round, each in a process of its own; a figure is the median of the rounds, in brackets
/// the least and the most. A part that is measured again takes the place of what the last report knew of it.
#[derive(Parser)]
#[command(name = "report")]
struct Options {
    /// Measure only these parts; the others are kept from the last report
    #[arg(
        long,
        value_name = "PARTS",
        value_delimiter = ',',
        value_enum,
        conflicts_with = "from"
    )]
    only: Vec<Part>,
    /// Few and short rounds: to see whether it works, not to compare
    #[arg(long, conflicts_with = "from")]
    quick: bool,
    /// So many rounds of whatever has rounds: more where others use the machine, too
    #[arg(long, value_name = "N", conflicts_with = "from", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure nothing, and take the figures from this file
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where report.json and the pictures go
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/report"))]
    out: PathBuf,
    /// Write the tables into docs/benchmarks.md, and the pictures to docs/benchmarks
    #[arg(long)]
    docs: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(options: Options) -> Outcome {
    fs::create_dir_all(&options.out)
        .map_err(|error| format!("cannot make {}: {error}", options.out.display()))?;
    let kept = options.out.join("report.json");
    let report = match &options.from {
        Some(path) => Report::read(path)?,
        None => measure(&options, &kept)?,
    };
    print!("{}", text::whole(&report));
    let pictures = pictures::of(&report)?;
    put_pictures(&options.out, &pictures)?;
    if options.docs {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let page = docs.join("benchmarks.md");
        let old = fs::read_to_string(&page)
            .map_err(|error| format!("cannot read {}: {error}", page.display()))?;
        fs::write(&page, text::put(&old, &report)?)?;
        put_pictures(&docs.join("benchmarks"), &pictures)?;
    }
    eprintln!("report.json and pictures: {}", options.out.display());
    Ok(())
}

/// Measures the parts one after the other; each is kept as soon as it is there.
fn measure(options: &Options, kept: &Path) -> Outcome<Report> {
    let parts = match options.only.as_slice() {
        [] => Part::ALL.to_vec(),
        only => only.to_vec(),
    };
    let mut report = match kept.exists() && !options.only.is_empty() {
        true => Report::read(kept)?,
        false => Report::default(),
    };
    parts::build()?;
    for (done, part) in parts.iter().enumerate() {
        let began = Instant::now();
        eprintln!("[{}/{}] {part}", done + 1, parts.len());
        let rows = part.measure(options.quick, options.rounds)?;
        if rows.is_empty() {
            eprintln!("      nothing");
            continue;
        }
        let measured = Measured {
            part: *part,
            date: machine::date(),
            machine: Machine::look(),
            quick: options.quick,
            rows,
        };
        report.put(measured);
        report.write(kept)?;
        eprintln!("      {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(report)
}

fn put_pictures(directory: &Path, pictures: &[(String, String)]) -> Outcome {
    fs::create_dir_all(directory)?;
    for (name, svg) in pictures {
        fs::write(directory.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}
