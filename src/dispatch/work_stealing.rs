//! A stack for each worker, and everybody steals from the old end of the others'.
//!
//! A worker takes from the young end of its own, where the data are warm and the tree is narrow; what it leaves is stolen
//! from the old end, where the large subtrees are. What does not fit goes to an injector of the worker's own, which others touch only when
//! they have nothing else: two workers that overflow must not meet at each. What comes from outside goes through one for all.

use std::fmt;
use std::num::NonZeroUsize;

use crossbeam::utils::CachePadded;

use super::{Dispatcher, Injector, Origin, Placed, Stack, Worker, all_processors};
use crate::completion::Completion;
use crate::error::BuildError;
use crate::sync::mutant;

/// How often a worker asks one of the sources that it does not take from, so that a handler that posts itself starves nobody.
const ASK_EVERY: usize = 64;

/// At which of these it asks the old end of its own stack, or what did not fit there; in turn. Seldom: what is there is most of the work,
/// and each time it is begun with, a part of it stays behind, cold.
const OLD_EVERY: usize = 16;

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
    workers: Box<[CachePadded<Own>]>,
}

/// One worker's.
#[derive(Default)]
struct Own {
    stack: Stack,
    /// What did not fit.
    over: Injector,
}

impl WorkStealing {
    /// The strategy; threads default to the number of processors.
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    fn push(&self, completion: Completion, worker: Worker<'_>) -> Placed {
        let Some(own) = self.workers.get(worker.index()) else {
            self.injector.push(completion);
            return Placed::Shared;
        };
        match worker.push(&own.stack, completion) {
            // Nobody else looks, and it does before it sleeps.
            Ok(()) if worker.threads() == 1 => Placed::Own,
            Ok(()) => Placed::Shared,
            Err(over) => own.overflow(over),
        }
    }

    /// What there is: of what this worker has itself, of what did not fit there, of what came from outside, or of the others'.
    #[inline(always)]
    fn next_of(&self, own: &Own, worker: Worker<'_>) -> Option<Completion> {
        if let Some(mine) = worker.take_kept() {
            return Some(mine);
        }
        if let Some(mine) = worker.pop(&own.stack) {
            return Some(mine);
        }
        if worker.threads() == 1 {
            return own.over.pop().or_else(|| self.injector.pop());
        }
        self.forage(own, worker)
    }

    /// What others can see: what did not fit, what came from outside, and the others', beginning with the next.
    #[inline(never)]
    fn forage(&self, own: &Own, worker: Worker<'_>) -> Option<Completion> {
        let found = own.over.pop().or_else(|| self.injector.pop());
        if found.is_some() {
            return found;
        }
        let (before, from) = self.workers.split_at(worker.index());
        let mut others = from.iter().skip(1).chain(before);
        others.find_map(|other| worker.steal(&other.stack).or_else(|| other.over.pop()))
    }

    #[cold]
    fn other_or_next(&self, own: &Own, worker: Worker<'_>) -> Option<Completion> {
        self.other(own, worker)
            .or_else(|| self.next_of(own, worker))
    }

    /// Each source in its turn, so that none of them can starve another.
    fn other(&self, own: &Own, worker: Worker<'_>) -> Option<Completion> {
        let asked = worker.picks() / ASK_EVERY;
        match (asked % OLD_EVERY, asked % 2) {
            (1, _) if asked / OLD_EVERY % 2 == 0 => worker.steal(&own.stack),
            (1, _) => own.over.pop(),
            (_, 0) => self.injector.pop(),
            _ => worker.take_kept(),
        }
    }
}

impl Own {
    #[cold]
    fn overflow(&self, completion: Completion) -> Placed {
        if mutant("overflow-forgotten") {
            drop(completion);
        } else {
            self.over.push(completion);
        }
        Placed::Shared
    }

    fn is_empty(&self) -> bool {
        self.stack.is_empty() && (mutant("overflow-not-looked-at") || self.over.is_empty())
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
        if worker.picks() % ASK_EVERY == 0 {
            return self.other_or_next(own, worker);
        }
        self.next_of(own, worker)
    }

    fn stack(&self, worker: Worker<'_>) -> Option<&Stack> {
        self.workers.get(worker.index()).map(|own| &own.stack)
    }

    fn is_empty(&self) -> bool {
        let stacks = || match &*self.workers {
            [only] => only.is_empty(), // As often as a lone worker waits; a loop over one costs more.
            many => many.iter().all(|own| own.is_empty()),
        };
        self.injector.is_empty() && (mutant("steal-not-looked-at") || stacks())
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
