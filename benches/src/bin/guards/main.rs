//! Guards that do not depend on the clock: instructions, system calls and bytes, each with a ceiling.
//!
//! ```text
//! cargo run --release -p proactor-bench --bin guards                      # all of them
//! cargo run --release -p proactor-bench --bin guards -- calls idle        # those whose name contains one of the words
//! cargo run --release -p proactor-bench --bin guards -- --lower           # after an improvement
//! ```
//!
//! What is allocated is counted by `tests/allocations.rs`: nothing may be, and that needs no ceiling.
//! Exit status: 0; 1 if a figure is above its ceiling; 2 if something could not be measured.

mod ceilings;
mod clients;
mod count;
mod guard;
mod idle;
mod posts;
mod server;
mod workshop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use proactor::Strategy;
use proactor_bench::cli;

use crate::ceilings::{Ceilings, Measured};
use crate::guard::Guard;
use crate::posts::Shape;
use crate::workshop::Workshop;

/// Counts what a request, a post and an idle connection cost, and fails if one costs more than its ceiling.
///
/// Instructions are counted by callgrind and system calls by strace, each as the difference of a long and a short run, so that
/// start and end cancel out; valgrind and strace have to be installed. The servers are built by this program.
#[derive(Parser)]
#[command(name = "guards", args_conflicts_with_subcommands = true)]
struct Options {
    /// Only the guards whose name contains one of these words
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Print the names and ceilings, and measure nothing
    #[arg(long)]
    list: bool,
    /// Lower each ceiling to a little above what was measured; none is raised
    #[arg(long)]
    lower: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    load: Option<Load>,
}

#[derive(Subcommand)]
enum Load {
    /// Post handlers and run them: what callgrind looks at
    #[command(hide = true)]
    Load {
        #[arg(value_enum)]
        shape: Shape,
        strategy: Strategy,
        rounds: usize,
    },
}

fn main() -> ExitCode {
    let mut risen = false;
    let done = cli::main(|options: Options| {
        if let Some(Load::Load {
            shape,
            strategy,
            rounds,
        }) = options.load
        {
            posts::run(shape, strategy, rounds)?;
        } else {
            risen = !run(&options)?;
        }
        Ok(())
    });
    if risen { ExitCode::FAILURE } else { done }
}

/// Whether every figure is at most its ceiling.
fn run(options: &Options) -> Result<bool, String> {
    let all = Guard::all();
    let ceilings = Ceilings::read(&all)?;
    let chosen = guard::chosen(all, &options.words)?;
    if options.list {
        for guard in chosen {
            println!("{:<42} {}", guard.to_string(), ceilings.of(guard));
        }
        return Ok(true);
    }
    let workshop = Workshop::open(&chosen)?;
    let mut measured = Vec::new();
    for (done, &guard) in chosen.iter().enumerate() {
        eprintln!("[{}/{}] {guard}", done + 1, chosen.len());
        let (figure, look_at) = guard.measure(&workshop)?;
        measured.push(Measured {
            guard,
            figure,
            ceiling: ceilings.of(guard),
            look_at,
        });
    }
    print(options.json, &measured);
    let risen: Vec<&Measured> = measured.iter().filter(|one| !one.holds()).collect();
    for one in &risen {
        eprintln!("\nguards: {}", one.complaint());
    }
    if options.lower {
        ceilings.lower(&measured)?;
    }
    Ok(risen.is_empty())
}

fn print(json: bool, measured: &[Measured]) {
    if json {
        let rows: Vec<_> = measured.iter().map(Measured::json).collect();
        println!("{}", serde_json::json!({ "guards": rows }));
        return;
    }
    println!("{:<42} {:>9} {:>9}", "each costs", "now", "at most");
    for one in measured {
        println!("{one}");
    }
}
