//! Proves that the models bite: leaves out each fence, notify and wake of the library, weakens each of its memory orderings by
//! one step, wakes one instead of all, goes once round a wait that stands in a loop; and sees whether a model fails.
//!
//! All mutants are built at once, into a copy of the workspace in which each step asks whether it is to be taken; a process is
//! told by its environment which mutant it is. `cargo mutate-sync --help` has the rest.

mod attributes;
mod edits;
mod equivalent;
mod files;
mod hunt;
mod models;
mod progress;
mod report;
mod scan;
mod select;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod waits;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::edits::Mutant;
use crate::equivalent::{Equivalent, LIST};
use crate::hunt::{Hunt, Verdict};
use crate::models::Model;
use crate::report::Report;
use crate::select::{Selection, Shard};
use crate::store::Store;
use crate::tree::{Bench, Instrumented, Workshop};

/// What keeps the tool from going on, in words for whoever called it.
#[derive(Debug)]
enum Fault {
    /// The command line asks for what is not there.
    Usage(String),
    Other(String),
}

impl Fault {
    fn of(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }
}

/// Shows that the loom models notice when a step of a concurrent protocol is left out or weakened.
///
/// Leaves out each fence, notify and wake; weakens each memory ordering by one step; turns `notify_all` into `notify_one`, and
/// `while` into `if` around a condition variable's wait; one at a time, in every file that the models compile. Then runs the models
/// that reach the step, at one preemption and at their own bound. A mutant that no model kills is a survivor, unless
/// loom-tests/equivalent-mutants.txt has it with the argument why no test can tell.
///
/// A run that is interrupted goes on where it was. What is known of a mutant and a model holds until the test binary changes: with
/// any source, with its own file, with Cargo.lock. The exit code is 0 if all is well, 1 if a mutant survived or the list is wrong,
/// 2 if the command line is.
#[derive(Debug, Parser)]
#[command(name = "mutate-sync", bin_name = "cargo mutate-sync")]
struct Options {
    /// Only the mutants of this file: its path or the end of it. May be given several times.
    #[arg(long, value_name = "FILE")]
    only: Vec<String>,
    /// Only the mutants of files that differ from this git revision.
    #[arg(long, value_name = "REV")]
    changed: Option<String>,
    /// Only every Nth of the mutants, from the Ith on.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// How many models to run at a time [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print the mutants and what was skipped, and run nothing.
    #[arg(long)]
    list: bool,
    /// Run this mutant alone, by its number or identity, and show what the models say.
    #[arg(long, value_name = "MUTANT", conflicts_with_all = ["list", "only", "changed", "shard"])]
    run: Option<String>,
    /// Forget what earlier runs have found.
    #[arg(long)]
    fresh: bool,
    /// Do not run the mutants that are on the list.
    #[arg(long)]
    skip_listed: bool,
}

fn main() -> ExitCode {
    let (what, code) = match run(&Options::parse()) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::FAILURE,
        Err(Fault::Usage(what)) => (what, ExitCode::from(2)),
        Err(Fault::Other(what)) => (what, ExitCode::FAILURE),
    };
    eprintln!("error: {what}");
    code
}

/// The workspace's root: cargo says where this package stands.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_owned)
}

/// Does what is asked; whether all is well.
fn run(options: &Options) -> Result<bool, Fault> {
    let began = Instant::now();
    let root = root();
    let files = files::sources(&root)?;
    let selection = Selection::new(options, &root, &files)?;
    let instrumented = tree::instrument(&files)?;
    let mutants = selection.mutants(&instrumented.scan.mutants);
    let list = fs::read_to_string(root.join(LIST)).map_err(|e| Fault::of(LIST, e))?;
    let list = Equivalent::parse(&list);
    if options.list {
        let skipped = selection.skipped(&instrumented.scan.skipped);
        print!("{}", report::listing(&mutants, &skipped, &list));
        return Ok(true);
    }
    if let Some(name) = &options.run {
        let mutant = named(&mutants, name)?;
        let built = Built::new(&root, &instrumented, options.fresh)?;
        let verdict = built.hunt(jobs(options))?.try_on(mutant, 0, true)?;
        print!("{}", report::describe(mutant, &verdict));
        return Ok(matches!(verdict, Verdict::Killed { .. }));
    }
    let is_listed = |mutant: &Mutant| list.has(&mutant.identity);
    let mut to_run = mutants.clone();
    to_run.retain(|mutant| !(options.skip_listed && is_listed(mutant)));
    let verdicts = if to_run.is_empty() {
        HashMap::new()
    } else {
        let built = Built::new(&root, &instrumented, options.fresh)?;
        built.hunt(jobs(options))?.run(&to_run, is_listed)?
    };
    let present = report::identities(&instrumented.scan.mutants);
    let report = Report {
        mutants: &mutants,
        verdicts,
        stale: list.stale(&present, |file| selection.looks_at(file)),
        list: &list,
        took: began.elapsed(),
    };
    Ok(report.print())
}

/// The mutant of that number or identity.
fn named<'m>(mutants: &[&'m Mutant], name: &str) -> Result<&'m Mutant, Fault> {
    let is_named = |mutant: &&&Mutant| mutant.identity == name || mutant.number.to_string() == name;
    mutants.iter().find(is_named).copied().ok_or_else(|| {
        let what = format!("there is no mutant {name}: `cargo mutate-sync --list` has them all");
        Fault::Usage(what)
    })
}

/// The models, built with all mutants in them.
struct Built {
    models: Vec<Model>,
    store: Store,
    bench: Bench,
}

impl Built {
    /// Copies the instrumented tree, builds the models, and opens what is known of them.
    fn new(root: &Path, instrumented: &Instrumented, fresh: bool) -> Result<Self, Fault> {
        let workshop = Workshop::new(root)?;
        workshop.copy(instrumented)?;
        let bench = Bench::new(&workshop)?;
        let models = models::list(&workshop.build(&bench)?)?;
        let store = Store::open(&workshop.folder.join("results.jsonl"), fresh)?;
        Ok(Self {
            models,
            store,
            bench,
        })
    }

    fn hunt(&self, jobs: usize) -> Result<Hunt<'_>, Fault> {
        Hunt::prepare(&self.models, &self.store, &self.bench, jobs)
    }
}

fn jobs(options: &Options) -> usize {
    match options.jobs {
        Some(jobs) => jobs.into(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}
