//! Who may be a worker, and what the workers share beside the port: knobs, hooks, guests.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::Inner;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, mutant, thread};

/// What a panic in a handler leads to. In every case no other handler is lost, and no count, seat or lock stays held.
///
/// ```
/// use proactor::{PanicPolicy, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().panic_policy(PanicPolicy::isolate(|_| eprintln!("went on"))).build()?;
/// proactor.post(|| panic!("on purpose"));
/// proactor.post(|| println!("still runs"));
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It goes out of `run`, after the other workers of that run have returned; what is left stays queued for the next
    /// `run`. In background threads it stops the proactor and goes out of `shutdown`. The default.
    #[default]
    Propagate,
    /// It is reported to the function, and the worker goes on.
    Isolate(PanicHook),
    /// It is reported to the function, and the proactor stops.
    Stop(PanicHook),
}

/// What a panic is reported to. It is called on the worker's thread, with the panic's payload.
pub type PanicHook = Arc<dyn Fn(&(dyn Any + Send)) + Send + Sync>;

impl PanicPolicy {
    /// [`PanicPolicy::Isolate`] with `report`.
    pub fn isolate(report: impl Fn(&(dyn Any + Send)) + Send + Sync + 'static) -> Self {
        Self::Isolate(Arc::new(report))
    }

    /// [`PanicPolicy::Stop`] with `report`.
    pub fn stop(report: impl Fn(&(dyn Any + Send)) + Send + Sync + 'static) -> Self {
        Self::Stop(Arc::new(report))
    }
}

impl fmt::Debug for PanicPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Propagate => "Propagate",
            Self::Isolate(_) => "Isolate(..)",
            Self::Stop(_) => "Stop(..)",
        })
    }
}

/// Called with a worker's index.
pub(crate) type ThreadHook = Arc<dyn Fn(usize) + Send + Sync>;

/// The sleepers' word has room for the names of so many.
pub(crate) const MOST_SEATS: NonZeroUsize = const { NonZeroUsize::new(2).expect("above zero") };

/// What the builder was told, checked.
#[derive(Clone)]
pub(crate) struct Knobs {
    pub(crate) workers: NonZeroUsize,
    /// How many handlers may be runnable at a time; as many as workers, if nothing is said.
    pub(crate) concurrency: Option<NonZeroUsize>,
    pub(crate) batch: NonZeroUsize,
    /// How many threads wait for events at once, if the backend can have them.
    pub(crate) seats: NonZeroUsize,
    pub(crate) turn_budget: usize,
    pub(crate) poll_every: NonZeroUsize,
    pub(crate) spin: Duration,
    pub(crate) max_pending: Option<NonZeroUsize>,
    pub(crate) thread_name: String,
    pub(crate) stack_size: Option<NonZeroUsize>,
    pub(crate) on_start: Option<ThreadHook>,
    pub(crate) on_stop: Option<ThreadHook>,
    pub(crate) panic: PanicPolicy,
    pub(crate) blocking_threads: NonZeroUsize,
    /// The only thread that may be a worker, if its handlers are not for others.
    pub(crate) only: Option<thread::Thread>,
}

impl Knobs {
    /// A thread that is about to be started.
    pub(crate) fn thread(&self, which: impl fmt::Display) -> thread::Builder {
        let builder = thread::Builder::new().name(format!("{}-{which}", self.thread_name));
        match self.stack_size {
            Some(bytes) => builder.stack_size(bytes.get()),
            None => builder,
        }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            workers: NonZeroUsize::MIN,
            concurrency: None,
            seats: NonZeroUsize::MIN,
            batch: const { NonZeroUsize::new(128).expect("above zero") },
            turn_budget: 16,
            poll_every: const { NonZeroUsize::new(64).expect("above zero") },
            spin: Duration::ZERO,
            max_pending: None,
            thread_name: "proactor".to_owned(),
            stack_size: None,
            on_start: None,
            on_stop: None,
            panic: PanicPolicy::Propagate,
            blocking_threads: const { NonZeroUsize::new(64).expect("above zero") },
            only: None,
        }
    }
}

/// The workers' places.
pub(crate) struct Pool {
    pub(crate) knobs: Knobs,
    places: Mutex<Places>,
    /// Guests wait here: threads that found no place, and threads that wait for an output.
    changed: Condvar,
    /// See `stay_alone`.
    alone: AtomicBool,
    /// How many workers wait within a strand, and run no handlers.
    leading: AtomicUsize,
    /// Whether background threads are to end.
    ending: AtomicBool,
}

struct Places {
    /// Who is free, and how many completions it has picked so far.
    free: Vec<(usize, usize)>,
}

impl Pool {
    pub(crate) fn new(knobs: Knobs) -> Self {
        // The lowest index is given out first.
        let free = (0..knobs.workers.get())
            .rev()
            .map(|index| (index, 0))
            .collect();
        Self {
            knobs,
            places: Mutex::new(Places { free }),
            changed: Condvar::new(),
            alone: AtomicBool::new(false),
            leading: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        }
    }

    /// A place, if one is free.
    pub(crate) fn claim(&self) -> Option<Place<'_>> {
        let free = self.places.lock().free.pop()?;
        Some(self.place(free))
    }

    fn place(&self, (index, picks): (usize, usize)) -> Place<'_> {
        Place {
            pool: self,
            index,
            picks: Cell::new(picks),
            worked_for: Cell::new(None),
        }
    }

    /// Waits for a place, or until `over`, which is looked at whenever something has changed. A thread that may not be a worker
    /// here waits until `over`.
    pub(crate) fn claim_or(&self, over: impl Fn() -> bool) -> Option<Place<'_>> {
        if self.is_for_another() {
            self.await_change(over);
            return None;
        }
        let mut places = self.places.lock();
        loop {
            if over() {
                return None;
            }
            if let Some(free) = places.free.pop() {
                return Some(self.place(free));
            }
            places = self.changed.wait(places);
        }
    }

    /// Whether one thread alone may be a worker, and this is not it.
    fn is_for_another(&self) -> bool {
        let only = self.knobs.only.as_ref();
        only.is_some_and(|only| only.id() != thread::current().id())
    }

    /// Waits until `over`, which is looked at whenever something has changed.
    pub(crate) fn await_change(&self, over: impl Fn() -> bool) {
        let mut places = self.places.lock();
        while !over() {
            places = self.changed.wait(places);
        }
    }

    /// As `await_change`, until `deadline` at most.
    pub(crate) fn await_change_until(&self, deadline: Instant, over: impl Fn() -> bool) {
        let mut places = self.places.lock();
        let mut late = false;
        while !over() && !late {
            (places, late) = self.changed.wait_until(places, deadline);
        }
    }

    /// Has every guest look again.
    pub(crate) fn call_guests(&self) {
        drop(self.places.lock());
        self.changed.notify_all();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Has background threads end; they are to have been stopped before.
    pub(crate) fn set_ending(&self, ending: bool) {
        self.ending.store(ending, Ordering::Relaxed);
        self.call_guests();
    }

    /// Whether the calling worker is the only one, and may sit untimed though it waits for an output that another could take
    /// delivery of. It has taken its seat, and looks for its output once more after this: whoever delivers it until then is
    /// seen, and whoever does later sees that somebody is alone, and rings.
    pub(crate) fn stay_alone(&self) -> bool {
        // Another that is here may have said so just now, and not yet heard that it is no longer.
        let alone = self.busy() == 1;
        if alone {
            self.alone.store(true, Ordering::Relaxed);
        }
        alone
    }

    pub(crate) fn end_alone(&self) {
        self.alone.store(false, Ordering::Relaxed);
    }

    /// Whether a worker sits untimed because it was the only one. For who has delivered an output, and for who has heard a bell
    /// that may have been for that other.
    pub(crate) fn somebody_is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// The calling thread runs no handlers, until what comes back is dropped.
    pub(crate) fn lead_only(&self) -> Leading<'_> {
        self.leading.fetch_add(1, Ordering::Relaxed);
        Leading(self)
    }

    /// How many workers are at work.
    pub(crate) fn busy(&self) -> usize {
        let places: MutexGuard<'_, Places> = self.places.lock();
        self.knobs.workers.get() - places.free.len()
    }
}

/// A thread that runs no handlers for as long as it has this.
pub(crate) struct Leading<'a>(&'a Pool);

impl Leading<'_> {
    /// Whether somebody is at work who runs handlers, beside the calling thread, which is a worker `here` or not. A snapshot; but
    /// of two that would rely on each other, one at least is told no, since each counts itself before it looks.
    pub(crate) fn has_others(&self, here: bool) -> bool {
        let leading = self.0.leading.load(Ordering::Relaxed);
        self.0.busy() + 1 > usize::from(here) + leading
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.leading.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to be the worker of that index.
pub(crate) struct Place<'a> {
    pool: &'a Pool,
    pub(crate) index: usize,
    /// The worker's picks, over all who had the place: what is to happen now and then happens also if each stays for one.
    pub(crate) picks: Cell<usize>,
    /// The port, once somebody has worked here.
    pub(crate) worked_for: Cell<Option<&'a Inner>>,
}

impl Drop for Place<'_> {
    /// What was pushed while this place was taken is for nobody, if the port has ended: whoever pushed it, or ended the port, found the
    /// place taken. Either they see it free now, or this sees the end.
    fn drop(&mut self) {
        self.pool
            .places
            .lock()
            .free
            .push((self.index, self.picks.get()));
        self.pool.changed.notify_all();
        let inner = self.worked_for.get().filter(|inner| inner.is_ended());
        if let Some(inner) = inner.filter(|_| !mutant("place-left-undrained")) {
            inner.discard();
        }
    }
}
