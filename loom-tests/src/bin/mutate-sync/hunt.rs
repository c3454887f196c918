//! Runs the models against the mutants: those that reach the step, the likeliest killer first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Fault;
use crate::edits::Mutant;
use crate::models::{self, Attempt, Baseline, Bound, Ending, Model};
use crate::progress::Progress;
use crate::store::{Run, Store};
use crate::tree::Bench;

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

/// A model, at a bound, and what it does when nothing is wrong.
struct Way {
    model: Model,
    bound: Bound,
    baseline: Baseline,
}

pub(crate) struct Hunt<'a> {
    /// Those at one preemption first, each the faster the earlier.
    ways: Vec<Way>,
    /// How often each way has killed a mutant of each function.
    kills: Mutex<HashMap<(String, usize), usize>>,
    store: &'a Store,
    bench: &'a Bench,
    jobs: usize,
}

/// Does `what` with each of `count` things, on so many threads, until there is a fault. It gets the thread's number, too.
fn in_parallel(
    jobs: usize,
    count: usize,
    what: impl Fn(usize, usize) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let next = AtomicUsize::new(0);
    let work = |thread| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(());
            }
            if let Err(fault) = what(thread, at) {
                next.store(count, Ordering::Relaxed);
                return Err(fault);
            }
        }
    };
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..jobs)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let mut joined = threads.into_iter().map(|thread| thread.join());
        joined.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A model unmutated, at one preemption and, unless that is the same, at its own bound.
fn known_or_run(model: &Model, store: &Store, paths: (&Path, &Path)) -> Result<Vec<Way>, Fault> {
    let run = |bound| {
        let baseline = match store.baseline(model, bound) {
            Some(known) => known,
            None => {
                let baseline = Baseline::of(model, bound, paths.0, paths.1)?;
                store.add_baseline(model, bound, &baseline)?;
                baseline
            }
        };
        Ok(Way {
            model: model.clone(),
            bound,
            baseline,
        })
    };
    let own = run(Bound::Own)?;
    Ok(if own.baseline.shallow {
        vec![Way {
            bound: Bound::One,
            ..own
        }]
    } else {
        vec![run(Bound::One)?, own]
    })
}

impl<'a> Hunt<'a> {
    /// Runs each model unmutated first, at one preemption and at its own bound, unless that is known.
    pub(crate) fn prepare(
        models: &[Model],
        store: &'a Store,
        bench: &'a Bench,
        jobs: usize,
    ) -> Result<Self, Fault> {
        eprintln!(
            "first the {} models without any mutant: what each reaches, and how long it takes",
            models.len()
        );
        let progress = Progress::new(models.len(), "unmutated");
        let ways = Mutex::new(Vec::new());
        in_parallel(jobs, models.len(), |thread, at| {
            let model = &models[at];
            progress.begin(thread, &model.name);
            let ways_of = known_or_run(model, store, (&bench.notes(thread), &bench.log(thread)))?;
            ways.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(ways_of);
            progress.step(&format!("{} passes", model.name));
            Ok(())
        })?;
        progress.clear();
        let mut ways = ways.into_inner().unwrap_or_else(PoisonError::into_inner);
        ways.sort_by_key(|way| (way.bound, way.baseline.time));
        Ok(Self {
            ways,
            kills: Mutex::default(),
            store,
            bench,
            jobs,
        })
    }

    /// Finds out about each of `mutants`, by identity. Those that are `is_listed` are expected to live, which takes longest, so
    /// they come first.
    pub(crate) fn run(
        &self,
        mutants: &[&Mutant],
        is_listed: impl Fn(&Mutant) -> bool,
    ) -> Result<HashMap<String, Verdict>, Fault> {
        let mut mutants = mutants.to_vec();
        mutants.sort_by_key(|mutant| !is_listed(mutant));
        let verdicts = Mutex::new(HashMap::new());
        let progress = Progress::new(mutants.len(), "mutants");
        in_parallel(self.jobs, mutants.len(), |thread, at| {
            let mutant = mutants[at];
            progress.begin(thread, &mutant.identity);
            let verdict = self.try_on(mutant, thread, false)?;
            progress.end(&verdict, &mutant.identity);
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.insert(mutant.identity.clone(), verdict);
            Ok(())
        })?;
        progress.clear();
        Ok(verdicts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Tries the models on a mutant, on the thread of that number. What they say is shown, if it is to be: then nothing that is
    /// known is believed.
    pub(crate) fn try_on(
        &self,
        mutant: &Mutant,
        thread: usize,
        show: bool,
    ) -> Result<Verdict, Fault> {
        let (mut tried, mut undecided) = (Vec::new(), Vec::new());
        for at in self.order(mutant) {
            let way = &self.ways[at];
            let name = &way.model.name;
            let known = self.known(mutant, way).filter(|_| !show);
            let run = match known {
                Some(known) => known,
                None => self.attempt(mutant, way, thread, show)?,
            };
            match run.ending {
                Ending::Failed => {
                    self.note_kill(mutant, at);
                    return Ok(Verdict::Killed {
                        model: name.clone(),
                        bound: way.bound,
                        how: run.how,
                    });
                }
                Ending::Undecided => undecided.push(format!("{name} at {}", way.bound)),
                Ending::Passed => {}
            }
            if !tried.contains(name) {
                tried.push(name.clone());
            }
        }
        Ok(if tried.is_empty() {
            Verdict::Unreached
        } else {
            Verdict::Survived { tried, undecided }
        })
    }

    fn known(&self, mutant: &Mutant, way: &Way) -> Option<Run> {
        self.store.run(&way.model, way.bound, &mutant.identity)
    }

    fn attempt(&self, mutant: &Mutant, way: &Way, thread: usize, show: bool) -> Result<Run, Fault> {
        let log = self.bench.log(thread);
        let attempt = Attempt {
            model: &way.model,
            bound: way.bound,
            mutant: Some(mutant.number),
            notes: None,
            limit: way.baseline.limit(),
            log: &log,
        };
        let (ending, _) = attempt.run()?;
        let said = models::said(&log)?;
        if show {
            println!(
                "--- {} at {}: {ending:?}\n{said}",
                way.model.name, way.bound
            );
        }
        let how = match ending {
            Ending::Failed => models::complaint(&said),
            Ending::Passed | Ending::Undecided => String::new(),
        };
        let run = Run { ending, how };
        self.store
            .add_run(&way.model, way.bound, &mutant.identity, &run)?;
        Ok(run)
    }

    fn note_kill(&self, mutant: &Mutant, way: usize) {
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        *kills.entry((mutant.scope.clone(), way)).or_default() += 1;
    }

    /// The ways that reach the mutant's step: what is known to kill it, and what killed it in an earlier binary; then, within a
    /// bound, what killed most of its siblings, and the fastest.
    fn order(&self, mutant: &Mutant) -> Vec<usize> {
        let killer = self.store.killer(&mutant.identity);
        let has_killed = |way: &Way| {
            let by = killer.as_ref();
            by.is_some_and(|(model, bound)| *model == way.model.name && *bound == way.bound)
        };
        let kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        let kills_of = |at| kills.get(&(mutant.scope.clone(), at)).copied().unwrap_or(0);
        let reaches = |at: &usize| self.ways[*at].baseline.reached.contains(&mutant.number);
        let mut order: Vec<_> = (0..self.ways.len()).filter(reaches).collect();
        order.sort_by_key(|&at| {
            let way = &self.ways[at];
            let known = self.known(mutant, way);
            let kills = known.is_some_and(|run| run.ending == Ending::Failed);
            (!kills, !has_killed(way), way.bound, Reverse(kills_of(at)))
        });
        order
    }
}
