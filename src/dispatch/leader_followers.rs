//! One queue, and threads that take turns at waiting: the leader waits for events, the followers run handlers.
//!
//! What makes it leader/followers is in the port: a leader is a thread that has a seat, it leaves the seat before it runs
//! a handler, and somebody follows into it only when that is needed (`docs/dispatch-protocols.md`, "Seats and promotion").
//! Here is the order: a leader keeps the first completion of its batch, for which it need hand nothing over, and
//! publishes the rest; one that is alone keeps them all.

use std::num::NonZeroUsize;

use super::{Dispatcher, Injector, Origin, Placed, Worker, all_processors};
use crate::completion::Completion;
use crate::error::BuildError;

/// All threads share one queue, first come, first served; a thread that has nothing to run leads, and runs the first of
/// what it reaps itself. After the pattern of that name (Schmidt and others, 2000).
///
/// ```
/// use proactor::{dispatch::LeaderFollowers, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().dispatcher(LeaderFollowers::new()).build()?;
/// proactor.post(|| println!("on one of the pool's threads"));
/// assert_eq!(proactor.run(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct LeaderFollowers {
    queue: Injector,
    alone: bool,
}

impl LeaderFollowers {
    /// The strategy; threads default to the number of processors.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Dispatcher for LeaderFollowers {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let threads = threads.unwrap_or_else(all_processors);
        self.alone = threads == NonZeroUsize::MIN;
        Ok(threads)
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        match origin {
            Origin::Reaped { worker, .. } | Origin::Posted(worker) if self.alone => {
                worker.keep(completion)
            }
            Origin::Finished(worker)
            | Origin::Reaped {
                worker,
                first: true,
            } => worker.run_in_turn(completion),
            Origin::Reaped { .. } | Origin::Posted(_) | Origin::Outside => {
                self.queue.push(completion);
                Placed::Shared
            }
        }
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        if self.alone && worker.picks() % 16 != 0 {
            return worker.take_kept().or_else(|| self.queue.pop());
        }
        self.next_of_all(worker)
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn finishes_in_turn(&self) -> bool {
        true
    }

    fn keeps_reaped(&self) -> bool {
        self.alone
    }
}

impl LeaderFollowers {
    /// What is everybody's first.
    #[inline(never)]
    fn next_of_all(&self, worker: Worker<'_>) -> Option<Completion> {
        self.queue.pop().or_else(|| worker.take_kept())
    }
}
