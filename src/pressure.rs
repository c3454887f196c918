//! How many calls from outside may be pending: whoever would bring one more waits for room, or has it handed back.
//!
//! Who lets in counts *admitted*, by compare-exchange. Each worker counts what it is *done* with in a counter of its own that
//! it alone writes, so that no counter goes from worker to worker; who lets in adds them up when what it knows of them no
//! longer does. All of them only grow, so an old sum is too small and lets in too few, never too many. Protocol:
//! `docs/dispatch-protocols.md`, backpressure.

use std::num::NonZeroUsize;

use crossbeam::utils::CachePadded;

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, mutant, own};

#[derive(Debug)]
pub(crate) struct Pressure {
    /// How many may be pending.
    most: usize,
    admitted: CachePadded<AtomicUsize>,
    /// The sum of *done*, as somebody last found it.
    known: CachePadded<AtomicUsize>,
    done: Box<[CachePadded<AtomicUsize>]>,
    /// What is done by threads that are no workers.
    elsewhere: CachePadded<AtomicUsize>,
    /// How many wait at the door.
    waiting: CachePadded<AtomicUsize>,
    door: Mutex<()>,
    room: Condvar,
}

impl Pressure {
    pub(crate) fn new(workers: usize, most: NonZeroUsize) -> Self {
        Self {
            most: most.get(),
            admitted: CachePadded::default(),
            known: CachePadded::default(),
            done: (0..workers).map(|_| CachePadded::default()).collect(),
            elsewhere: CachePadded::default(),
            waiting: CachePadded::default(),
            door: Mutex::new(()),
            room: Condvar::new(),
        }
    }

    /// How many may be pending.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Lets one more in, if there is room.
    pub(crate) fn try_enter(&self) -> bool {
        let mut done = self.known.load(Ordering::Acquire);
        loop {
            // Read after *done*, so never less.
            let admitted = self.admitted.load(Ordering::Relaxed);
            if admitted.wrapping_sub(done) < self.most || mutant("room-unasked") {
                let entered = self.admitted.compare_exchange_weak(
                    admitted,
                    admitted.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                if entered.is_ok() {
                    return true;
                }
            } else {
                let before = std::mem::replace(&mut done, self.sum());
                if done == before {
                    return false;
                }
                // Release, with the Acquire above: who goes by this sum has seen what it counts.
                self.known.store(done, Ordering::Release);
            }
        }
    }

    fn sum(&self) -> usize {
        self.done
            .iter()
            .map(|done| done.load(Ordering::Acquire))
            .fold(self.elsewhere.load(Ordering::Acquire), usize::wrapping_add)
    }

    /// Lets one more in as soon as there is room; false if `over` before, which is looked at when `call_all` was called.
    pub(crate) fn enter(&self, over: impl Fn() -> bool) -> bool {
        if self.try_enter() {
            return true;
        }
        let mut door = self.door.lock();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `leave`.
        if !mutant("room-waiter-fence") {
            fence(Ordering::SeqCst);
        }
        let entered = loop {
            if over() {
                break false;
            }
            if self.try_enter() {
                break true;
            }
            door = self.room.wait(door);
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        entered
    }

    /// One that was let in is done with; `worker` is this thread's own index. Release, with the Acquire of `sum`: who is let in
    /// for it has seen what it did.
    pub(crate) fn leave(&self, worker: Option<usize>) {
        match worker {
            Some(index) => {
                let mine = &self.done[index];
                mine.store(own(mine).wrapping_add(1), Ordering::Release);
            }
            None => {
                self.elsewhere.fetch_add(1, Ordering::Release);
            }
        }
        // Pairs with the fence in `enter`.
        if !mutant("room-maker-fence") {
            fence(Ordering::SeqCst);
        }
        if self.waiting.load(Ordering::Relaxed) > 0 && !mutant("room-calls-nobody") {
            drop(self.door.lock());
            self.room.notify_one();
        }
    }

    /// Has everybody at the door look again.
    pub(crate) fn call_all(&self) {
        drop(self.door.lock());
        self.room.notify_all();
    }
}
