//! A stack for each worker, and everybody steals from the old end of the others'.
//!
//! A worker takes from the young end of its own, where the data are warm and the tree is narrow; what it leaves is stolen
//! from the old end, where the large subtrees are. What comes from outside, and what does not fit, goes through an injector.

use std::fmt;
use std::num::NonZeroUsize;

use crossbeam::utils::CachePadded;

use super::{Dispatcher, Injector, Origin, Placed, Stack, Worker, all_processors};
use crate::completion::Completion;
use crate::error::BuildError;
use crate::sync::mutant;

/// How often a worker takes what is oldest instead of what is youngest: a handler that posts itself starves nobody.
const OLDEST_EVERY: usize = 64;

/// Each thread has a stack of its own, which idle threads steal from. For handlers that post more handlers.
///
/// ```
/// use proactor::{dispatch::WorkStealing, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().dispatcher(WorkStealing::new()).build()?;
/// let port = proactor.port().clone();
/// proactor.post(move || (0..10).for_each(|_| port.post(|| {})));
/// assert_eq!(proactor.run(), 11);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct WorkStealing {
    injector: Injector,
    workers: Box<[CachePadded<Stack>]>,
}

impl WorkStealing {
    /// The strategy; threads default to the number of processors.
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    fn push(&self, completion: Completion, worker: Worker<'_>) -> Placed {
        let left = match self.workers.get(worker.index()) {
            Some(own) => worker.push(own, completion),
            None => Err(completion),
        };
        match left {
            // Nobody else looks, and it does before it sleeps.
            Ok(()) if worker.threads() == 1 => Placed::Own,
            Ok(()) => Placed::Shared,
            Err(over) => self.inject(over),
        }
    }

    #[cold]
    fn inject(&self, completion: Completion) -> Placed {
        if mutant("overflow-forgotten") {
            drop(completion);
        } else {
            self.injector.push(completion);
        }
        Placed::Shared
    }

    /// The oldest that another one has, beginning with the next.
    fn rob(&self, worker: Worker<'_>) -> Option<Completion> {
        let (before, from) = self.workers.split_at(worker.index());
        let others = from.iter().skip(1).chain(before);
        others.into_iter().find_map(|own| worker.steal(own))
    }

    /// What there is: of what this worker has itself, of what came from outside, or of the others'.
    #[inline(always)]
    fn next_of(&self, own: &Stack, worker: Worker<'_>) -> Option<Completion> {
        if let Some(mine) = worker.take_kept() {
            return Some(mine);
        }
        if let Some(mine) = worker.pop(own) {
            return Some(mine);
        }
        if worker.threads() == 1 {
            return self.injector.pop();
        }
        self.forage(worker)
    }

    #[inline(never)]
    fn forage(&self, worker: Worker<'_>) -> Option<Completion> {
        self.injector.pop().or_else(|| self.rob(worker))
    }

    #[cold]
    fn oldest_or_next(&self, own: &Stack, worker: Worker<'_>) -> Option<Completion> {
        self.oldest(own, worker)
            .or_else(|| self.next_of(own, worker))
    }

    /// Each source in turn, so that none of them can starve another.
    fn oldest(&self, own: &Stack, worker: Worker<'_>) -> Option<Completion> {
        match worker.picks() / OLDEST_EVERY % 3 {
            0 => self.injector.pop(),
            1 => worker.steal(own),
            _ => worker.take_kept(),
        }
    }
}

impl Dispatcher for WorkStealing {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let threads = threads.unwrap_or_else(all_processors);
        self.workers = (0..threads.get()).map(|_| CachePadded::default()).collect();
        Ok(threads)
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        match origin {
            Origin::Reaped { worker, .. } if worker.threads() == 1 => worker.keep(completion),
            Origin::Finished(worker)
            | Origin::Reaped {
                worker,
                first: true,
            } => worker.run_in_turn(completion),
            Origin::Reaped { .. } | Origin::Outside => {
                self.injector.push(completion);
                Placed::Shared
            }
            Origin::Posted(worker) => self.push(completion, worker),
        }
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        let own = self.workers.get(worker.index())?;
        if worker.picks() % OLDEST_EVERY == 0 {
            return self.oldest_or_next(own, worker);
        }
        self.next_of(own, worker)
    }

    fn stack(&self, worker: Worker<'_>) -> Option<&Stack> {
        self.workers.get(worker.index()).map(|own| &**own)
    }

    fn is_empty(&self) -> bool {
        let none = || match &*self.workers {
            [only] => only.is_empty(),
            many => many.iter().all(|own| own.is_empty()),
        };
        self.injector.is_empty() && (mutant("steal-not-looked-at") || none())
    }

    fn finishes_in_turn(&self) -> bool {
        true
    }

    fn keeps_reaped(&self) -> bool {
        self.workers.len() == 1
    }
}

impl fmt::Debug for WorkStealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkStealing")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}
