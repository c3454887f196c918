//! That each of many calls ran, once, and what it cost: without a counter that all threads write.
#![allow(unsafe_code)] // a global allocator, which hands everything on to the system's

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use crossbeam::utils::CachePadded;

/// Threads that may take part, of all runs of a process together.
const SLOTS: usize = 256;
/// How often a thread looks how far all are; and it looks at its first call.
const LOOK_EVERY: usize = 1024;

static SEATS: AtomicUsize = AtomicUsize::new(0);

thread_local!(static SLOT: Cell<usize> = const { Cell::new(usize::MAX) });

fn slot() -> usize {
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(SEATS.fetch_add(1, Ordering::Relaxed) % SLOTS);
        }
        slot.get()
    })
}

/// Counts calls by thread, and marks each as run.
#[derive(Debug)]
pub struct Count {
    marks: Box<[AtomicU8]>,
    slots: Box<[CachePadded<AtomicUsize>]>,
    /// Whether the end is so near that each call looks for it.
    near: AtomicBool,
    wrong: AtomicBool,
    over: OnceLock<Instant>,
    waiter: Thread,
}

impl Count {
    /// For that many calls, which the calling thread will wait for.
    pub fn new(calls: usize) -> Self {
        Self {
            marks: (0..calls).map(|_| AtomicU8::new(0)).collect(),
            slots: (0..SLOTS).map(|_| CachePadded::default()).collect(),
            near: AtomicBool::new(calls <= LOOK_EVERY),
            wrong: AtomicBool::new(false),
            over: OnceLock::new(),
            waiter: thread::current(),
        }
    }

    /// How many calls there are to be.
    pub fn calls(&self) -> usize {
        self.marks.len()
    }

    /// The call of that number runs.
    #[inline]
    pub fn ran(&self, call: usize) {
        let mark = &self.marks[call];
        mark.store(
            mark.load(Ordering::Relaxed).saturating_add(1),
            Ordering::Relaxed,
        );
        let mine = &self.slots[slot()];
        let count = mine.load(Ordering::Relaxed) + 1;
        mine.store(count, Ordering::Release);
        if count % LOOK_EVERY == 1 || self.near.load(Ordering::Relaxed) {
            self.look();
        }
    }

    /// Of two threads that make the last two calls, at least one sees both: each counts, fences, and adds up. The end is near
    /// when those that have a slot could get there without another look; a thread that gets one looks then.
    fn look(&self) {
        fence(Ordering::SeqCst);
        let threads = SEATS.load(Ordering::Relaxed).min(SLOTS);
        let slots = self.slots[..threads].iter();
        let ran: usize = slots.map(|slot| slot.load(Ordering::Acquire)).sum();
        if ran >= self.calls() {
            self.over.get_or_init(Instant::now);
            self.waiter.unpark();
        } else if ran + LOOK_EVERY * (threads + 1) >= self.calls() {
            self.near.store(true, Ordering::Relaxed);
        }
    }

    /// Something was not as it should be: an order, a result.
    pub fn went_wrong(&self) {
        self.wrong.store(true, Ordering::Relaxed);
    }

    /// Waits for the last call, for as long as that at most, and says when it was.
    pub fn wait(&self, most: Duration) -> Option<Instant> {
        let until = Instant::now() + most;
        loop {
            if let Some(over) = self.over.get() {
                return Some(*over);
            }
            let left = until.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }

    /// Whether each call ran exactly once, and nothing went wrong.
    pub fn is_right(&self) -> bool {
        let once = |mark: &AtomicU8| mark.load(Ordering::Relaxed) == 1;
        !self.wrong.load(Ordering::Relaxed) && self.marks.iter().all(once)
    }
}

/// The processor time of this process so far, user and system; zero where the system does not say.
pub fn processor_time() -> Duration {
    ProcessTime::try_now().map_or(Duration::ZERO, |time| time.as_duration())
}

/// Counts, of all threads, what is allocated or grown while it is told to. For a program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocations;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

impl Allocations {
    /// From now on.
    pub fn begin() {
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNTING.store(true, Ordering::SeqCst);
    }

    /// How many there were since `begin`; it stops counting.
    pub fn end() -> usize {
        COUNTING.store(false, Ordering::SeqCst);
        ALLOCATIONS.load(Ordering::SeqCst)
    }
}

#[inline]
fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the trait's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_many_threads_calls_ends_the_wait() {
        let count: &'static Count = Box::leak(Box::new(Count::new(300_000)));
        let threads = Vec::from_iter((0..3).map(|first| {
            thread::spawn(move || (first..300_000).step_by(3).for_each(|call| count.ran(call)))
        }));
        assert!(count.wait(Duration::from_secs(60)).is_some());
        assert!(count.is_right());
        for thread in threads {
            thread.join().expect("a thread");
        }
    }

    #[test]
    fn what_runs_twice_or_goes_wrong_is_seen() {
        let twice = Count::new(2);
        twice.ran(0);
        twice.ran(0);
        assert!(twice.wait(Duration::ZERO).is_some() && !twice.is_right());
        let wrong = Count::new(1);
        assert_eq!(wrong.wait(Duration::ZERO), None);
        wrong.went_wrong();
        wrong.ran(0);
        assert!(!wrong.is_right());
    }
}
