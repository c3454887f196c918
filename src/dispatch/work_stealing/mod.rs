//! A stack for each worker, and everybody steals from the old end of the others'.
//!
//! A worker takes from the young end of its own, where the data are warm and the tree is narrow; what it leaves is stolen
//! from the old end, where the large subtrees are. What comes from outside, and what does not fit, goes through an injector.

pub(crate) mod deque;

use std::fmt;
use std::num::NonZeroUsize;

use crossbeam::utils::CachePadded;

use super::{Dispatcher, Injector, Origin, Placed, Worker, all_processors};
use crate::completion::Completion;
use crate::error::BuildError;
use crate::sync::mutant;
use own::Own;

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
    workers: Box<[CachePadded<Own>]>,
}

impl WorkStealing {
    /// The strategy; threads default to the number of processors.
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    fn push(&self, completion: Completion, worker: Worker<'_>) -> Placed {
        let left = match self.workers.get(worker.index()) {
            Some(own) => own.push(completion, worker),
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

    /// What there is for a worker whose own stack is empty: of what came from outside, or of the others', beginning with the next.
    #[cold]
    fn forage(&self, worker: Worker<'_>) -> Option<Completion> {
        self.injector.pop().or_else(|| {
            let (before, from) = self.workers.split_at(worker.index());
            let others = from.iter().skip(1).chain(before);
            others.into_iter().find_map(|own| own.steal())
        })
    }

    /// Each source in turn, so that none of them can starve another.
    #[cold]
    fn oldest(&self, own: &Own, worker: Worker<'_>) -> Option<Completion> {
        match worker.picks() / OLDEST_EVERY % 3 {
            0 => self.injector.pop(),
            1 => own.steal(),
            _ => worker.take_kept(),
        }
    }
}

impl Dispatcher for WorkStealing {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let threads = threads.unwrap_or_else(all_processors);
        self.workers = (0..threads.get())
            .map(|_| CachePadded::new(Own::new(threads == NonZeroUsize::MIN)))
            .collect();
        Ok(threads)
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        match origin {
            Origin::Finished(worker)
            | Origin::Reaped {
                worker,
                first: true,
            } => worker.run_in_turn(completion),
            Origin::Reaped { worker, .. } if worker.threads() == 1 => worker.keep(completion),
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
            if let Some(oldest) = self.oldest(own, worker) {
                return Some(oldest);
            }
        }
        worker
            .take_kept()
            .or_else(|| own.pop(worker))
            .or_else(|| self.forage(worker))
    }

    fn is_empty(&self) -> bool {
        self.injector.is_empty()
            && (mutant("steal-not-looked-at") || self.workers.iter().all(|own| own.is_empty()))
    }

    fn finishes_in_turn(&self) -> bool {
        true
    }
}

impl fmt::Debug for WorkStealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkStealing")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

/// The young end is one thread's at a time; the type system cannot see that a worker's index is.
mod own {
    #![allow(unsafe_code)] // what comes out of a deque is a completion

    use std::ptr::NonNull;

    use super::deque::Deque;
    use super::{Completion, Worker};
    use crate::cell::Header;
    use crate::sync::PortMark;

    /// A worker's stack: its young end for the worker, its old end for everybody.
    pub(super) struct Own {
        /// Of completions' cells.
        deque: Deque<Header>,
        /// The one port whose workers may come.
        port: PortMark,
    }

    // A worker is the deque's owner: of one port only, and that port has one thread at an index at a time (`Pool::claim`, whose lock
    // orders one tenant before the next); a `Worker` does not leave its thread.
    impl Own {
        pub(super) fn new(alone: bool) -> Self {
            Self {
                deque: Deque::new(alone),
                port: PortMark::new(),
            }
        }

        /// Gives it back if there is no room, or to the worker of another port than the first that came.
        #[inline]
        pub(super) fn push(
            &self,
            completion: Completion,
            worker: Worker<'_>,
        ) -> Result<(), Completion> {
            if !self.port.is(worker.port()) {
                return Err(completion);
            }
            self.deque.push(completion.into_ptr()).map_err(out)
        }

        /// The youngest, for the worker whose it is.
        #[inline]
        pub(super) fn pop(&self, worker: Worker<'_>) -> Option<Completion> {
            let mine = self.port.is(worker.port());
            mine.then(|| self.deque.pop()).flatten().map(out)
        }

        /// The oldest, for anybody.
        pub(super) fn steal(&self) -> Option<Completion> {
            self.deque.steal().map(out)
        }

        pub(super) fn is_empty(&self) -> bool {
            self.deque.is_empty()
        }
    }

    fn out(cell: NonNull<Header>) -> Completion {
        // SAFETY: `push` took it from a completion, and the deque gives each item to one: its owner is one thread at a time.
        unsafe { Completion::from_ptr(cell) }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            while self.steal().is_some() {}
        }
    }
}
