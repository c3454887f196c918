//! Parts of the house that a model drives by themselves: books, door, calls, a deque, and a place to watch.

#![allow(unsafe_code)] // a cell that loom watches, shared

use std::ptr::NonNull;

use crate::queue::Deque;
use crate::sync::{Arc, UnsafeCell};

/// The books of outstanding work, by themselves.
#[derive(Debug)]
pub struct Books(crate::work::Ledger);

impl Books {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self(crate::work::Ledger::new(workers))
    }

    /// Enters a piece, as that worker or as an outsider.
    pub fn created(&self, worker: Option<usize>) {
        self.0.created(worker);
    }

    /// Crosses a piece off.
    pub fn finished(&self, worker: Option<usize>) {
        self.0.finished(worker);
    }

    /// Whether nothing is outstanding.
    pub fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

/// The door that calls from outside come in by, by itself.
#[derive(Debug)]
pub struct Door(crate::pressure::Pressure);

impl Door {
    /// For one worker and others; one may be in.
    pub fn new() -> Self {
        Self(crate::pressure::Pressure::new(
            1,
            std::num::NonZeroUsize::MIN,
        ))
    }

    /// Lets one in, if there is room.
    pub fn try_enter(&self) -> bool {
        self.0.try_enter()
    }

    /// One is done with, by that worker or by another thread.
    pub fn leave(&self, worker: Option<usize>) {
        self.0.leave(worker);
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

/// An injector and what its calls are made of.
#[derive(Debug)]
pub struct Calls {
    home: Arc<crate::cell::Home>,
    queue: crate::queue::Injector,
}

impl Default for Calls {
    fn default() -> Self {
        Self::new()
    }
}

impl Calls {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            home: crate::cell::Home::new(0, None, 0),
            queue: crate::queue::Injector::new(),
        }
    }

    /// Queues a call.
    pub fn push(&self, call: impl FnOnce() + Send + 'static) {
        self.queue
            .push(crate::completion::post(&self.home, 0, false, call));
    }

    /// Runs the oldest; false if there was none.
    pub fn pop(&self) -> bool {
        self.queue.pop_locked().is_some_and(|call| call.run())
    }

    /// How much memory its calls have needed so far, in slabs.
    pub fn slabs(&self) -> usize {
        self.home.slabs()
    }

    /// Whether none is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// A place that two threads must never touch without an order between them: loom says so if they do.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Witness(crate::sync::UnsafeCell<()>);

// SAFETY: what the cell holds is never read or written; loom only notes the accesses.
unsafe impl Sync for Witness {}

impl Witness {
    /// Touches it, as a write does.
    pub fn touch(&self) {
        self.0.with_mut(|_| ());
    }
}

/// A worker's deque, as the models know it: its young end.
#[allow(missing_debug_implementations)]
pub struct DequeOwner(Arc<Pile>);

/// Its old end.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct DequeThief(Arc<Pile>);

/// A deque, and what is in it: numbers, each of which lies in a place that loom watches.
struct Pile {
    deque: Deque<Place>,
    places: [Place; 4],
}

type Place = UnsafeCell<Option<usize>>;

// SAFETY: a place is touched by whoever pushes its number or got it out; that nobody else does is what loom watches.
unsafe impl Sync for Pile {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Pile {}

/// A deque's two ends.
pub fn deque() -> (DequeOwner, DequeThief) {
    let pile = Arc::new(Pile {
        deque: Deque::new(),
        places: std::array::from_fn(|_| UnsafeCell::new(None)),
    });
    (DequeOwner(Arc::clone(&pile)), DequeThief(pile))
}

impl Pile {
    fn take(place: NonNull<Place>) -> usize {
        // SAFETY: one of `places`, which the caller keeps.
        let place = unsafe { place.as_ref() };
        // SAFETY: an item comes out once: loom sees any access that meets another.
        let number = place.with_mut(|place| unsafe { (*place).take() });
        number.expect("an item of the deque was taken twice")
    }
}

impl DequeOwner {
    /// Pushes a number below 4, once; false if it is full.
    pub fn push(&self, number: usize) -> bool {
        let place = &self.0.places[number];
        // SAFETY: nobody else knows it before it is pushed: loom sees any access that meets another.
        place.with_mut(|place| unsafe { *place = Some(number) });
        self.0.deque.push(NonNull::from(place)).is_ok()
    }

    /// The youngest.
    pub fn pop(&self) -> Option<usize> {
        self.0.deque.pop(false).map(Pile::take)
    }
}

impl DequeThief {
    /// The oldest.
    pub fn steal(&self) -> Option<usize> {
        self.0.deque.steal().map(Pile::take)
    }
}
