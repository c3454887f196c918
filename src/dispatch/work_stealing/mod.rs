//! A stack for each worker, and everybody steals from the old end of the others'.
//!
//! A worker takes from the young end of its own, where the data are warm and the tree is narrow; what it leaves is stolen
//! from the old end, where the large subtrees are. The deques are crossbeam's (Chase and Lev); what comes from
//! outside, and what does not fit, goes through an injector.

pub(super) mod deque;

use std::fmt;
use std::num::NonZeroUsize;

use crossbeam::utils::CachePadded;

use super::{Dispatcher, Injector, Origin, Placed, Worker, all_processors};
use crate::completion::Completion;
use crate::error::BuildError;
use crate::sync::mutant;
use deque::{Local, Stealer, deque};

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

/// A worker's stack: its young end for the worker, its old end for everybody.
struct Own {
    young: Young,
    old: Stealer<Completion>,
}

impl WorkStealing {
    /// The strategy; threads default to the number of processors.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&self, completion: Completion, worker: Worker<'_>) -> Placed {
        let young = self
            .workers
            .get(worker.index())
            .and_then(|own| own.young.of(worker));
        let left = match young {
            Some(young) => young.push(completion).err(),
            None => Some(completion),
        };
        if let Some(over) = left.filter(|_| !mutant("overflow-forgotten")) {
            self.injector.push(over);
        }
        Placed::Shared
    }

    /// From the others, beginning with the next.
    fn steal(&self, worker: Worker<'_>) -> Option<Completion> {
        let (before, from) = self.workers.split_at(worker.index());
        from.iter()
            .skip(1)
            .chain(before)
            .find_map(|own| own.old.steal())
    }
}

impl Dispatcher for WorkStealing {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let threads = threads.unwrap_or_else(all_processors);
        self.workers = (0..threads.get())
            .map(|_| {
                let (young, old) = deque();
                CachePadded::new(Own {
                    young: Young::new(young),
                    old,
                })
            })
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
            // Each source in turn, so that none of them can starve another.
            let oldest = match worker.picks() / OLDEST_EVERY % 3 {
                0 => self.injector.pop(),
                1 => own.old.steal(),
                _ => worker.take_kept(),
            };
            if oldest.is_some() {
                return oldest;
            }
        }
        worker
            .take_kept()
            .or_else(|| own.young.of(worker)?.pop())
            .or_else(|| self.injector.pop())
            .or_else(|| self.steal(worker))
    }

    fn is_empty(&self) -> bool {
        self.injector.is_empty()
            && (mutant("steal-not-looked-at") || self.workers.iter().all(|own| own.old.is_empty()))
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

use young::Young;

/// The young end is one thread's at a time; the type system cannot see that a worker's index is.
mod young {
    #![allow(unsafe_code)] // an owner end behind a shared reference

    use super::{Completion, Local, Worker};
    use crate::sync::PortMark;

    /// A deque's young end, which only the worker of its index gets.
    pub(super) struct Young {
        local: Local<Completion>,
        /// The one port whose workers may come.
        port: PortMark,
    }

    // SAFETY: `of` is the only way in. It takes the worker whose end it is, of one port only, and that port has one thread
    // at an index at a time (`Pool::claim`, whose lock orders one tenant before the next); a `Worker` does not leave its
    // thread.
    unsafe impl Sync for Young {}

    impl Young {
        pub(super) fn new(local: Local<Completion>) -> Self {
            Self {
                local,
                port: PortMark::new(),
            }
        }

        /// None for the worker of another port than the first that came.
        pub(super) fn of(&self, worker: Worker<'_>) -> Option<&Local<Completion>> {
            self.port.is(worker.port()).then_some(&self.local)
        }
    }
}
