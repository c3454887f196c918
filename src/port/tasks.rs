//! Spawned futures that have not ended: the port wakes each once more when it ends, so that it is dropped where others are run.
//!
//! Protocol: `docs/dispatch-protocols.md`, "A spawned future".

use std::task::Waker;

use async_task::Runnable;
use slab::Slab;

use super::Inner;
use super::dispatcher::{Origin, Worker};
use crate::cell::Home;
use crate::completion;
use crate::local::Local;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, guess, mutant};

/// The spawned futures of a port.
pub(crate) struct Tasks {
    /// Made with the first: who ends a port without any takes no lock.
    live: OnceLock<Mutex<Live>>,
    /// 1, if none is polled any more.
    over: AtomicU64,
}

#[derive(Default)]
struct Live {
    /// Each has its place before it has its waker.
    wakers: Slab<Option<Waker>>,
    /// Whether the last have been woken: who comes now finds the port's end by itself.
    ended: bool,
}

/// One spawned future's place among them: outstanding work until this is dropped.
pub(crate) struct Entry {
    tasks: Arc<Tasks>,
    /// Kept by what is in its books, and not by the table: with the port's last work it goes.
    home: Arc<Home>,
    place: Option<usize>,
}

impl Tasks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            live: OnceLock::new(),
            over: AtomicU64::new(0),
        })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.get_or_init(Mutex::default).lock()
    }

    /// A place for a future that is about to be spawned.
    pub(crate) fn enter(self: &Arc<Self>, home: &Arc<Home>) -> Entry {
        let mut live = self.live();
        let place = (!live.ended).then(|| live.wakers.insert(None));
        drop(live);
        Local::created(home);
        Entry {
            tasks: Arc::clone(self),
            home: Arc::clone(home),
            place,
        }
    }

    /// Has the waker of the future whose place that is.
    pub(crate) fn know(&self, place: Option<usize>, waker: Waker) {
        let mut live = self.live();
        if let Some(known) = place.and_then(|place| live.wakers.get_mut(place)) {
            *known = Some(waker);
        }
    }

    /// No future is polled any more: each is woken, and ends as cancelled where it would have been polled. Relaxed: whoever is woken
    /// takes its turn from a queue, and who is not polled because of this does nothing that would need an order.
    pub(crate) fn end(&self) {
        let late = mutant("over-after-woken");
        self.over.fetch_or(u64::from(!late), Ordering::Relaxed);
        let live: Vec<Waker> = self.live.get().map_or_else(Vec::new, |live| {
            let live = live.lock();
            let wakers = live.wakers.iter();
            wakers.filter_map(|(_, waker)| waker.clone()).collect()
        });
        live.into_iter().for_each(Waker::wake);
        if late {
            self.over.fetch_or(1, Ordering::Relaxed);
        }
    }

    /// As `end`, for the last time: afterwards it knows nobody.
    pub(crate) fn end_all(&self) {
        self.over.fetch_or(1, Ordering::Relaxed);
        let Some(live) = self.live.get() else {
            return; // Whoever spawns the first meanwhile finds the port's end by itself.
        };
        let live = {
            let mut live = live.lock();
            live.ended = true;
            std::mem::take(&mut live.wakers)
        };
        // Not under the lock: whom this wakes may be dropped at once, and leaves its place.
        for (_, waker) in live {
            let waker = waker.filter(|_| !mutant("end-wakes-no-future"));
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Entry {
    pub(crate) fn place(&self) -> Option<usize> {
        self.place
    }

    /// Whether its future is not to be polled any more. Whoever has said so has then woken the task, and by that task's own state it is
    /// known here, or this poll is not the last; no model sees that state, so in models this reads what is newest (`guess`).
    pub(crate) fn is_over(&self) -> bool {
        guess(&self.tasks.over) != 0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let waker = {
            let mut live = self.tasks.live();
            let place = self.place.filter(|_| !live.ended);
            place.and_then(|place| live.wakers.try_remove(place))
        };
        drop(waker);
        completion::cross_off(&self.home);
    }
}

impl Inner {
    /// Crosses off a piece of work that no worker had, and tells everybody if it was the last that was outstanding.
    pub(crate) fn cross_off(&self) {
        self.home.ledger.finished(None);
        if self.home.ledger.is_settled() && !mutant("guard-wakes-nobody") {
            self.tell_all();
        }
    }

    /// Sends a future to be polled. One that was woken by a notice is polled in its place; one that has woken itself, or was woken by a
    /// handler that does nothing else, follows from what this thread does, within the turn's budget; any other is for whoever comes.
    #[inline]
    pub(crate) fn hand_woken(&self, future: Runnable, itself: bool) {
        let future = Local::with(&self.home, |local| match local {
            Some(local) if self.finishes_in_turn && !itself => local.keep_woken(future),
            _ => Some(future),
        });
        if let Some(future) = future {
            self.hand_future(itself, move || {
                future.run();
            });
        }
    }

    /// As `hand_woken`, of what is a call already.
    pub(crate) fn hand_future(&self, itself: bool, poll: impl FnOnce() + Send + 'static) {
        Local::with(&self.home, |local| {
            let Some(local) = local else {
                let call = completion::post(&self.home, 0, false, poll);
                return self.place(call, Origin::Outside);
            };
            let call = completion::post_by(local, &self.home, 0, poll);
            let worker = Worker::new(local);
            let origin = match itself || local.follows() {
                true => Origin::Finished(worker),
                false => Origin::Posted(worker),
            };
            self.place(call, origin);
        });
    }
}
