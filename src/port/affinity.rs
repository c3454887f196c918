//! Calls for one worker alone: a queue for each, beside the strategy, so that they work with any. Protocol:
//! `docs/dispatch-protocols.md`, "A call to one worker".

use super::CompletionPort;
use crate::completion::{self, Completion};
use crate::error::NoWorker;
use crate::local::Local;
use crate::queue::Injector;
use crate::sync::OnceLock;

/// What is queued for each worker alone.
#[derive(Debug)]
pub(crate) struct Affinity {
    workers: usize,
    /// Made for the first call: where nobody posts any, a look is one load.
    queues: OnceLock<Box<[Injector]>>,
}

impl Affinity {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            queues: OnceLock::new(),
        }
    }

    /// Puts `call` at the back of the queue of worker `index`, which exists.
    fn push(&self, index: usize, call: Completion) {
        self.prepare()[index].push(call);
    }

    /// Makes the queues, if nobody has.
    pub(crate) fn prepare(&self) -> &[Injector] {
        let make = || (0..self.workers).map(|_| Injector::new()).collect();
        self.queues.get_or_init(make)
    }

    /// Whether anybody ever posted such a call.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        self.queues.get().is_some()
    }

    /// The oldest that is for worker `index`.
    #[inline]
    pub(crate) fn pop(&self, index: usize) -> Option<Completion> {
        self.queues.get()?.get(index)?.pop()
    }

    /// Whether nothing is queued for worker `index`.
    pub(crate) fn is_empty(&self, index: usize) -> bool {
        self.queues
            .get()
            .is_none_or(|queues| queues[index].is_empty())
    }

    /// Takes out all that is queued, for whomever, one after the other.
    pub(crate) fn take_all(&self) -> impl Iterator<Item = Completion> {
        let queues = self.queues.get().into_iter().flatten();
        queues.flat_map(|queue| std::iter::from_fn(|| queue.pop()))
    }

    /// Whether something is queued for anybody.
    pub(crate) fn is_any(&self) -> bool {
        (0..self.workers).any(|index| !self.is_empty(index))
    }
}

impl CompletionPort {
    /// Queues `call` for worker `worker` alone, as an asynchronous procedure call is for one thread. The calls to one worker begin
    /// there in the order of posting, one producer's among another's as they come; under any strategy. From any thread, also
    /// from inside handlers, and to the own worker: then it runs after this handler.
    ///
    /// It begins after the handler that the worker is running, and takes turns with what the strategy has for it: at most
    /// 2 x (1 + [`turn_budget`](crate::Builder::turn_budget)) handlers come between two of them. A worker that sleeps is woken. One
    /// that waits inside a handler ([`wait`](crate::Initiation::wait), a nested `run` or `poll`) runs it there, nested.
    ///
    /// A worker is a number, from 0 to the [`threads`](crate::Builder::threads) of the proactor less one; which thread has it may
    /// change from run to run. While none has it, as after [`stop`](Self::stop), or where `run_one` and its like are called
    /// on fewer threads, the call stays queued and is outstanding: nobody else runs it, and a
    /// [`shutdown`](crate::Proactor::shutdown) without background threads, which works as one worker, may report it as left. `run`
    /// and `start` have a thread for each worker, as far as the system grants them. With the proactor it is dropped uncalled.
    ///
    /// Blocks as [`post`](Self::post) does, for [`max_pending`](crate::Builder::max_pending). Allocates as `post`, and once for the
    /// queues.
    ///
    /// # Errors
    ///
    /// [`NoWorker`], with the call in it, if the number is too large; always, on a port that is used alone.
    ///
    /// ```
    /// use proactor::{dispatch::WorkStealing, Proactor};
    /// use std::num::NonZeroUsize;
    /// # fn main() -> Result<(), proactor::BuildError> {
    /// let two = NonZeroUsize::new(2).unwrap();
    /// let proactor = Proactor::builder().dispatcher(WorkStealing::new()).threads(two).build()?;
    /// let port = proactor.port().clone();
    /// assert!(proactor.post_to(1, move || assert_eq!(port.worker_index(), Some(1))).is_ok());
    /// assert_eq!(proactor.run(), 1);
    /// let refused = proactor.post_to(2, || ()).expect_err("there are two");
    /// assert!(refused.to_string().contains("threads(3)"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn post_to<F: FnOnce() + Send + 'static>(
        &self,
        worker: usize,
        call: F,
    ) -> Result<(), NoWorker<F>> {
        let inner = &*self.0;
        if worker >= inner.affinity.workers {
            return Err(NoWorker::new(worker, inner.affinity.workers, call));
        }
        let counted = inner.enter();
        let call = completion::post(&inner.home, 0, counted, call);
        inner.affinity.push(worker, call);
        if self.worker_index() != Some(worker) {
            inner.sleep.wake(&*inner.backend, worker);
        }
        inner.discard_late();
        Ok(())
    }

    /// Which of the port's workers this thread is now, if it is one: the number that [`post_to`](Self::post_to) takes.
    pub fn worker_index(&self) -> Option<usize> {
        Local::with(&self.0.home, |local| local.map(|local| local.index))
    }
}
