//! What earlier runs have found, a line for each run of a model: what is known need not be run again.
//!
//! A result is a test binary's: it holds while that is the same by the byte. So a changed source starts anew, and a new model
//! leaves the results of the other files' models as they are.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fault;
use crate::models::{Baseline, Bound, Ending, Model};

/// How a mutant's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) ending: Ending,
    /// What the model complained of.
    pub(crate) how: String,
}

pub(crate) struct Store(Mutex<Known>);

/// A binary's digest, a test in it, and a bound.
type Key = (String, String, Bound);

struct Known {
    file: File,
    baselines: HashMap<Key, Baseline>,
    runs: HashMap<(Key, String), Run>,
    /// What killed a mutant at last, if in another binary: it is likely to do so again.
    killers: HashMap<String, (String, Bound)>,
}

fn key(model: &Model, bound: Bound) -> Key {
    (model.digest.clone(), model.name.clone(), bound)
}

impl Store {
    /// Reads what is known; forgets it if this is to be `fresh`.
    pub(crate) fn open(path: &Path, fresh: bool) -> Result<Self, Fault> {
        let fault = |e| Fault::of(path.display(), e);
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(fault)?,
        };
        let mut file = File::options();
        file.write(true).create(true);
        let file = if fresh {
            file.truncate(true)
        } else {
            file.append(true)
        };
        let mut known = Known {
            file: file.open(path).map_err(fault)?,
            baselines: HashMap::new(),
            runs: HashMap::new(),
            killers: HashMap::new(),
        };
        if fresh {
            return Ok(Self(Mutex::new(known)));
        }
        // A line that a run did not live to finish is none, and the next one is to begin anew.
        for line in text.lines() {
            if let Ok(entry) = serde_json::from_str(line) {
                known.learn(&entry);
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(known.file).map_err(fault)?;
        }
        Ok(Self(Mutex::new(known)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn baseline(&self, model: &Model, bound: Bound) -> Option<Baseline> {
        self.known().baselines.get(&key(model, bound)).cloned()
    }

    pub(crate) fn run(&self, model: &Model, bound: Bound, mutant: &str) -> Option<Run> {
        let key = (key(model, bound), mutant.to_owned());
        self.known().runs.get(&key).cloned()
    }

    pub(crate) fn killer(&self, mutant: &str) -> Option<(String, Bound)> {
        self.known().killers.get(mutant).cloned()
    }

    pub(crate) fn add_baseline(
        &self,
        model: &Model,
        bound: Bound,
        of: &Baseline,
    ) -> Result<(), Fault> {
        self.add(&json!({
            "binary": model.digest, "model": model.name, "bound": name(bound),
            "secs": of.time.as_secs_f64(), "reached": of.reached, "shallow": of.shallow,
        }))
    }

    /// Notes a run, unless it is undecided: that is tried again.
    pub(crate) fn add_run(
        &self,
        model: &Model,
        bound: Bound,
        mutant: &str,
        run: &Run,
    ) -> Result<(), Fault> {
        if run.ending == Ending::Undecided {
            return Ok(());
        }
        self.add(&json!({
            "binary": model.digest, "model": model.name, "bound": name(bound), "mutant": mutant,
            "killed": run.ending == Ending::Failed, "how": run.how,
        }))
    }

    fn add(&self, entry: &Value) -> Result<(), Fault> {
        let mut known = self.known();
        known.learn(entry);
        writeln!(known.file, "{entry}").map_err(|e| Fault::of("the results", e))
    }
}

impl Known {
    /// Takes in an entry, if it is one.
    fn learn(&mut self, entry: &Value) -> Option<()> {
        let text = |name: &str| Some(entry[name].as_str()?.to_owned());
        let bound = [Bound::One, Bound::Own]
            .into_iter()
            .find(|bound| entry["bound"] == name(*bound))?;
        let key = (text("binary")?, text("model")?, bound);
        let Some(mutant) = text("mutant") else {
            let reached = entry["reached"].as_array()?.iter();
            let baseline = Baseline {
                time: Duration::try_from_secs_f64(entry["secs"].as_f64()?).ok()?,
                reached: reached
                    .filter_map(|number| usize::try_from(number.as_u64()?).ok())
                    .collect::<BTreeSet<_>>(),
                shallow: entry["shallow"].as_bool()?,
            };
            self.baselines.insert(key, baseline);
            return Some(());
        };
        let killed = entry["killed"].as_bool()?;
        if killed {
            self.killers.insert(mutant.clone(), (key.1.clone(), bound));
        }
        let ending = if killed {
            Ending::Failed
        } else {
            Ending::Passed
        };
        let how = text("how")?;
        self.runs.insert((key, mutant), Run { ending, how });
        Some(())
    }
}

fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::One => "one",
        Bound::Own => "own",
    }
}
