//! What a run has found, in words.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::edits::{Mutant, Skipped};
use crate::equivalent::{Equivalent, LIST};
use crate::hunt::Verdict;

/// Everything that a scan found.
pub(crate) fn listing(mutants: &[&Mutant], skipped: &[&Skipped], list: &Equivalent) -> String {
    let mut text = String::new();
    for mutant in mutants {
        let listed = if list.has(&mutant.identity) {
            "  (listed)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{:4}  {}{listed}\n      {}:{}: {}",
            mutant.number, mutant.identity, mutant.file, mutant.line, mutant.before
        );
    }
    for skip in skipped {
        let _ = writeln!(
            text,
            "skip  {}:{}: {}: {}",
            skip.file, skip.line, skip.step, skip.why
        );
    }
    let _ = writeln!(
        text,
        "{} mutants, {} steps skipped",
        mutants.len(),
        skipped.len()
    );
    text
}

/// A mutant and what became of it.
pub(crate) fn describe(mutant: &Mutant, verdict: &Verdict) -> String {
    let Mutant {
        number,
        identity,
        file,
        line,
        before,
        after,
        ..
    } = mutant;
    let mut text = format!("{number}  {identity}\n  {file}:{line}\n  - {before}\n  + {after}\n");
    let _ = match verdict {
        Verdict::Killed { model, bound, how } => {
            writeln!(text, "  killed by {model} at {bound}: {how}")
        }
        Verdict::Unreached => writeln!(text, "  no model reaches it"),
        Verdict::Survived { tried, undecided } => {
            let _ = writeln!(
                text,
                "  survives {} models: {}",
                tried.len(),
                tried.join(", ")
            );
            if undecided.is_empty() {
                Ok(())
            } else {
                writeln!(
                    text,
                    "  undecided, for it took too long: {}",
                    undecided.join(", ")
                )
            }
        }
    };
    text
}

/// The whole of a run.
pub(crate) struct Report<'a> {
    pub(crate) mutants: &'a [&'a Mutant],
    /// By identity, of those that were run; the others are on the list.
    pub(crate) verdicts: HashMap<String, Verdict>,
    pub(crate) list: &'a Equivalent,
    /// Entries of the list that are no mutant's.
    pub(crate) stale: Vec<String>,
    pub(crate) took: Duration,
}

impl Report<'_> {
    /// Prints it; whether all is well.
    pub(crate) fn print(&self) -> bool {
        let (mut killed, mut equivalent, mut survived) = (0, 0, 0);
        let mut faults = self.list.faults.clone();
        faults.extend(self.stale.iter().cloned());
        for mutant in self.mutants {
            let listed = self.list.has(&mutant.identity);
            match (self.verdicts.get(&mutant.identity), listed) {
                (Some(Verdict::Killed { model, bound, .. }), _) => {
                    killed += 1;
                    if listed {
                        let (at, identity) = (self.list.place(&mutant.identity), &mutant.identity);
                        faults.push(format!(
                            "{at}: the argument is wrong, {model} kills it at {bound}: {identity}"
                        ));
                    }
                }
                (None, _) | (Some(_), true) => equivalent += 1,
                (Some(verdict), false) => {
                    survived += 1;
                    println!("SURVIVED {}", describe(mutant, verdict));
                }
            }
        }
        for fault in &faults {
            println!("{fault}");
        }
        if survived > 0 {
            println!(
                "For each that survived: write a model that kills it; or make the code as weak as it may be; or argue in {LIST} why \
                 no test can tell."
            );
        }
        println!(
            "mutate-sync: {} mutants, {killed} killed, {equivalent} equivalent (listed), {survived} survived, in {}",
            self.mutants.len(),
            duration(self.took)
        );
        survived == 0 && faults.is_empty()
    }
}

fn duration(took: Duration) -> String {
    match took.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

/// The identities of `mutants`.
pub(crate) fn identities(mutants: &[Mutant]) -> HashSet<&str> {
    mutants
        .iter()
        .map(|mutant| mutant.identity.as_str())
        .collect()
}
