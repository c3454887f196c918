//! One thread runs everything, first come, first served.

use std::num::NonZeroUsize;

use super::{Dispatcher, Injector, Origin, Placed, Worker};
use crate::completion::Completion;
use crate::error::BuildError;

/// How many completions from outside join the thread's own at a time, and how often it looks for them.
const INTAKE: usize = 16;

/// Every handler on one thread: whichever is in `run`. What the thread posts itself needs no lock.
///
/// ```
/// use proactor::{dispatch::SingleThreaded, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().dispatcher(SingleThreaded::new()).build()?;
/// let here = std::thread::current().id();
/// proactor.post(move || assert_eq!(std::thread::current().id(), here));
/// proactor.run();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct SingleThreaded {
    outside: Injector,
}

impl SingleThreaded {
    /// The strategy; threads default to 1, and more are refused.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Dispatcher for SingleThreaded {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        match threads {
            Some(threads) if threads > NonZeroUsize::MIN => Err(BuildError::knobs(format!(
                "the single-threaded strategy has one thread, not {threads}: leave threads out, say threads(1), or \
                 choose LeaderFollowers or WorkStealing"
            ))),
            _ => Ok(NonZeroUsize::MIN),
        }
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        match origin {
            Origin::Finished(worker) => worker.run_in_turn(completion),
            Origin::Posted(worker) | Origin::Reaped { worker, .. } => worker.keep(completion),
            Origin::Outside => {
                self.outside.push(completion);
                Placed::Shared
            }
        }
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        if worker.picks() % INTAKE == 0 {
            return self.take_in(worker);
        }
        worker.take_kept().or_else(|| self.outside.pop())
    }

    fn is_empty(&self) -> bool {
        self.outside.is_empty()
    }

    fn finishes_in_turn(&self) -> bool {
        true
    }

    fn keeps_reaped(&self) -> bool {
        true
    }
}

impl SingleThreaded {
    /// Puts what came from outside behind what the thread keeps, so that neither starves the other; the first of it all.
    #[inline(never)]
    fn take_in(&self, worker: Worker<'_>) -> Option<Completion> {
        for _ in 0..INTAKE {
            match self.outside.pop() {
                Some(completion) => worker.keep(completion),
                None => break,
            };
        }
        worker.take_kept()
    }
}
