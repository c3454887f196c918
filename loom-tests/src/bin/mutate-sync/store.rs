//! What earlier runs have found, one line each: what is known of the present tree need not be run again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fault;
use crate::models::{Baseline, Bound};

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Killed {
        model: String,
        bound: Bound,
        /// What the model said.
        how: String,
    },
    Survived {
        /// The models.
        tried: Vec<String>,
        /// And those that took too long, with their bound.
        undecided: Vec<String>,
    },
    /// No model takes the step.
    Unreached,
}

pub(crate) struct Store {
    tree: String,
    known: Mutex<Known>,
}

struct Known {
    file: File,
    baselines: HashMap<(String, Bound), Baseline>,
    verdicts: HashMap<String, Verdict>,
    /// What killed a mutant in an earlier tree: it is likely to do so again.
    hints: HashMap<String, (String, Bound)>,
}

impl Store {
    /// Reads what is known of `tree`; forgets it if this is to be `fresh`.
    pub(crate) fn open(path: &Path, tree: String, fresh: bool) -> Result<Self, Fault> {
        let fault = |e| Fault::of(path.display(), e);
        if fresh && path.exists() {
            fs::remove_file(path).map_err(fault)?;
        }
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(fault)?,
        };
        let file = File::options().append(true).create(true).open(path);
        let mut known = Known {
            file: file.map_err(fault)?,
            baselines: HashMap::new(),
            verdicts: HashMap::new(),
            hints: HashMap::new(),
        };
        // A line that a run did not live to finish is none.
        for line in text.lines() {
            if let Ok(entry) = serde_json::from_str(line) {
                known.learn(&entry, &tree);
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(known.file).map_err(fault)?;
        }
        let known = Mutex::new(known);
        Ok(Self { tree, known })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn baseline(&self, model: &str, bound: Bound) -> Option<Baseline> {
        let key = (model.to_owned(), bound);
        self.known().baselines.get(&key).cloned()
    }

    pub(crate) fn verdict(&self, mutant: &str) -> Option<Verdict> {
        self.known().verdicts.get(mutant).cloned()
    }

    pub(crate) fn hint(&self, mutant: &str) -> Option<(String, Bound)> {
        self.known().hints.get(mutant).cloned()
    }

    pub(crate) fn add_baseline(
        &self,
        model: &str,
        bound: Bound,
        of: &Baseline,
    ) -> Result<(), Fault> {
        self.add(json!({
            "tree": self.tree, "model": model, "bound": bound_name(bound), "secs": of.time.as_secs_f64(),
            "reached": of.reached, "shallow": of.shallow,
        }))
    }

    pub(crate) fn add_verdict(&self, mutant: &str, verdict: &Verdict) -> Result<(), Fault> {
        self.add(match verdict {
            Verdict::Killed { model, bound, how } => json!({
                "tree": self.tree, "mutant": mutant, "verdict": "killed", "by": model,
                "bound": bound_name(*bound), "how": how,
            }),
            Verdict::Survived { tried, undecided } => json!({
                "tree": self.tree, "mutant": mutant, "verdict": "survived", "tried": tried, "undecided": undecided,
            }),
            Verdict::Unreached => json!({
                "tree": self.tree, "mutant": mutant, "verdict": "unreached",
            }),
        })
    }

    fn add(&self, entry: Value) -> Result<(), Fault> {
        let mut known = self.known();
        known.learn(&entry, &self.tree);
        writeln!(known.file, "{entry}").map_err(|e| Fault::of("the results", e))
    }
}

impl Known {
    /// Takes in an entry, if it is one.
    fn learn(&mut self, entry: &Value, tree: &str) -> Option<()> {
        let present = entry["tree"] == tree;
        if let Some(model) = entry["model"].as_str() {
            let bound = bound_of(&entry["bound"])?;
            let baseline = Baseline {
                time: Duration::try_from_secs_f64(entry["secs"].as_f64()?).ok()?,
                reached: numbers(&entry["reached"]),
                shallow: entry["shallow"].as_bool()?,
            };
            if present {
                self.baselines.insert((model.to_owned(), bound), baseline);
            }
            return Some(());
        }
        let mutant = entry["mutant"].as_str()?.to_owned();
        let verdict = match entry["verdict"].as_str()? {
            "killed" => {
                let model = entry["by"].as_str()?.to_owned();
                let bound = bound_of(&entry["bound"])?;
                self.hints.insert(mutant.clone(), (model.clone(), bound));
                let how = entry["how"].as_str().unwrap_or_default().to_owned();
                Verdict::Killed { model, bound, how }
            }
            "survived" => Verdict::Survived {
                tried: names(&entry["tried"]),
                undecided: names(&entry["undecided"]),
            },
            _ => Verdict::Unreached,
        };
        if present {
            self.verdicts.insert(mutant, verdict);
        }
        Some(())
    }
}

fn bound_name(bound: Bound) -> &'static str {
    match bound {
        Bound::One => "one",
        Bound::Own => "own",
    }
}

fn bound_of(value: &Value) -> Option<Bound> {
    [Bound::One, Bound::Own]
        .into_iter()
        .find(|bound| *value == bound_name(*bound))
}

fn names(value: &Value) -> Vec<String> {
    let names = value.as_array().into_iter().flatten();
    names
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

fn numbers(value: &Value) -> std::collections::BTreeSet<usize> {
    let numbers = value.as_array().into_iter().flatten();
    numbers
        .filter_map(|n| usize::try_from(n.as_u64()?).ok())
        .collect()
}
