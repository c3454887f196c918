//! The books of outstanding work, kept without a shared counter.
//!
//! Each worker has two counters that only grow, *created* and *finished*, which it alone writes (plain load and
//! store); one shared pair serves everybody else. Nothing was outstanding at the instant at which
//! [`Ledger::is_settled`] read the first *created*, if all *finished* together equal all *created* together, and
//! every *finished* was read before the first *created*: a finish happens after the creation of its children, so
//! whoever sees the finish sees them. Protocol, proof and mutants: `docs/dispatch-protocols.md`, outstanding work.

use std::slice;

use crossbeam::utils::CachePadded;

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{mutant, own};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    created: AtomicUsize,
    finished: AtomicUsize,
}

impl Counters {
    /// One more, by the worker whose they are.
    #[inline]
    pub(crate) fn create(&self) {
        let mine = &self.created;
        mine.store(own(mine).wrapping_add(1), Ordering::Relaxed);
    }

    /// How much this worker has finished; for itself.
    #[inline]
    pub(crate) fn have_finished(&self) -> usize {
        own(&self.finished)
    }

    /// As `create`. Release, the other half of the Acquire in [`Ledger::is_settled`].
    #[inline]
    pub(crate) fn finish(&self) {
        let mine = &self.finished;
        mine.store(own(mine).wrapping_add(1), finish_order());
    }
}

#[inline]
fn finish_order() -> Ordering {
    if mutant("work-finish-relaxed") {
        Ordering::Relaxed
    } else {
        Ordering::Release
    }
}

/// Counts what was created and what was finished.
#[derive(Debug)]
pub(crate) struct Ledger {
    workers: Box<[CachePadded<Counters>]>,
    shared: CachePadded<Counters>,
}

impl Ledger {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            shared: CachePadded::default(),
        }
    }

    /// The counters of one worker.
    pub(crate) fn of_worker(&self, index: usize) -> &CachePadded<Counters> {
        &self.workers[index]
    }

    /// Enters one piece of work, before it is handed to anybody. `worker` is this thread's own index.
    #[inline]
    pub(crate) fn created(&self, worker: Option<usize>) {
        match worker {
            Some(index) => self.workers[index].create(),
            None => {
                self.shared.created.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Crosses one piece of work off, after everything that it created was entered. Release, the other half of the
    /// Acquire in [`is_settled`](Self::is_settled).
    #[inline]
    pub(crate) fn finished(&self, worker: Option<usize>) {
        match worker {
            Some(index) => self.workers[index].finish(),
            None => {
                self.shared.finished.fetch_add(1, finish_order());
            }
        }
    }

    /// Whether nothing is outstanding. False may be out of date; true was true at one instant of the call, and stays
    /// so until somebody outside creates anew.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        // Pairs with the fences of whoever finishes last and then looks: of two that each finish and then sum,
        // at least one sees both finishes.
        if !mutant("work-settled-fence") {
            fence(Ordering::SeqCst);
        }
        self.is_settled_by_now()
    }

    /// As `is_settled`, for who has fenced since it last finished something, or asks another time.
    #[inline]
    pub(crate) fn is_settled_by_now(&self) -> bool {
        match &*self.workers {
            // A loop over one costs three times as much, and a lone worker asks before each wait.
            [only] => self.is_settled_beside(only),
            many => self.adds_up(many),
        }
    }

    /// As `is_settled_by_now`, for the only worker, whose counters these are.
    #[inline(always)]
    pub(crate) fn is_settled_beside(&self, only: &CachePadded<Counters>) -> bool {
        self.adds_up(slice::from_ref(only))
    }

    #[inline(always)]
    fn adds_up(&self, workers: &[CachePadded<Counters>]) -> bool {
        if mutant("work-created-first") {
            let created = self.sum(workers, |counters| &counters.created);
            return self.sum(workers, |counters| &counters.finished) == created;
        }
        let finished = self.sum(workers, |counters| &counters.finished);
        finished == self.sum(workers, |counters| &counters.created)
    }

    /// How much is outstanding; a snapshot, exact when nobody creates or finishes meanwhile.
    pub(crate) fn outstanding(&self) -> usize {
        let finished = self.sum(&self.workers, |counters| &counters.finished);
        self.sum(&self.workers, |counters| &counters.created)
            .wrapping_sub(finished)
    }

    #[inline(always)]
    fn sum(
        &self,
        workers: &[CachePadded<Counters>],
        which: impl Fn(&Counters) -> &AtomicUsize,
    ) -> usize {
        let of = |counters: &Counters| which(counters).load(Ordering::Acquire);
        let add = |sum: usize, worker: &CachePadded<Counters>| sum.wrapping_add(of(worker));
        workers.iter().fold(of(&self.shared), add)
    }
}
