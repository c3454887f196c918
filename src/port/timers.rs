//! Timers: a wheel under a lock, and the backend told of the nearest deadline.
//!
//! Deadlines are rounded up to the wheel's tick of 1 ms, so a timer is never early. The wheel knows cells by name. Whoever moves
//! a cell from `ARMED` to `DONE` owns it: expiry, cancellation and the end of a limited operation race for that, and just one wins.
//! Only expiry needs the lock: the others leave a name behind that is nobody's.
#![allow(unsafe_code)] // cells that were armed, by whoever has taken them

#[cfg_attr(
    not(any(feature = "hyper", proactor_loom)),
    expect(dead_code, reason = "adapters use it, and models")
)]
mod naps;

use std::alloc::Layout;
use std::mem::offset_of;
use std::time::{Duration, Instant};

use super::wheel::{Name, Wheel};
use crate::backend::Backend;
use crate::cell::{self, Chain, Class, Header, Home, Ptr, VTable, header, phase};
use crate::completion::Completion;
use crate::id::{Kind, ObjectId};
use crate::operation::{self, cancelled, code};
use crate::queue::{self, List};
use crate::sync::{Mutex, elapsed, mutant};

pub(crate) struct Timers {
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    wheel: Wheel<Armed>,
    /// The tick that the backend's timer is set to.
    set: Option<u64>,
    closed: bool,
    /// What naps that were given up have left.
    spare: Chain,
}

/// A timer or a limit, by name.
#[derive(Clone, Copy)]
struct Armed {
    cell: Ptr,
    generation: u32,
}

// SAFETY: a name; of what it names only the header is looked at, which is a header for ever.
unsafe impl Send for Armed {}

impl Name for Armed {
    fn is_live(self) -> bool {
        header(self.cell).is(self.generation, phase::ARMED)
    }

    fn prefetch(self) {
        queue::prefetch(self.cell.as_ptr());
    }
}

impl Armed {
    /// The cell, for whoever gets it.
    fn take(self) -> Option<Ptr> {
        header(self.cell)
            .disarm(self.generation)
            .then_some(self.cell)
    }
}

/// A limit's cell: not an operation, but what ends one.
#[repr(C)]
struct Limit {
    header: Header,
    end: End,
}

/// Whom a limit ends.
struct End {
    target: Ptr,
    generation: u32,
}

/// Where a limit's body stands.
fn end_of(limit: Ptr) -> *mut End {
    cell::place(limit, offset_of!(Limit, end))
}

static LIMIT: VTable = VTable {
    kind: Kind::Timer,
    class: match Class::of(Layout::new::<Limit>()) {
        Some(class) => class,
        None => Class::LARGEST,
    },
    discard: |cell, home| home.free(cell),
    ..VTable::NOTHING
};

/// The instant that is `duration` away, or about a century if that is beyond the clock.
pub(crate) fn from_now(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(duration.min(CENTURY)).unwrap_or(now)
}

/// What expired, beside the timers.
pub(crate) struct Expired {
    limits: List,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            state: Mutex::new(State {
                wheel: Wheel::new(),
                set: None,
                closed: false,
                spare: Chain::EMPTY,
            }),
        }
    }

    /// The first tick that is not before `at`.
    fn tick_after(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        let millis = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        since.as_secs().saturating_mul(1000).saturating_add(millis)
    }

    fn instant(&self, tick: u64) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_millis(tick))
    }

    fn insert(&self, state: &mut State, backend: &dyn Backend, name: Armed, at: Instant) {
        let tick = self.tick_after(at);
        state.wheel.insert(name, tick);
        if state.set.is_none_or(|set| tick < set) && !mutant("timer-earlier-unset") {
            state.set = Some(tick);
            backend.set_timer(self.instant(tick));
        }
    }

    /// Arms a timer operation. Gives it back, finished, if it was asked to end before it was armed, or everything is closed.
    ///
    /// # Safety
    ///
    /// `cell` holds a timer operation whose result is open, and is the caller's to give.
    pub(crate) unsafe fn arm(
        &self,
        backend: &dyn Backend,
        cell: Ptr,
        at: Instant,
    ) -> Option<Completion> {
        let timer = header(cell);
        let generation = timer.generation();
        let mut state = self.state.lock();
        let over = if state.closed {
            Some(code::CLOSED)
        } else {
            // From here on it may be somebody else's.
            cancelled(timer.arm()).filter(|_| !mutant("armed-unasked"))
        };
        if let Some(raw) = over {
            // SAFETY: the caller's promise; it is not armed.
            return Some(unsafe { operation::complete(cell, raw) });
        }
        self.insert(&mut state, backend, Armed { cell, generation }, at);
        None
    }

    /// Limits `target`: at `at` it is asked to end as timed out. `known` gets the limit's cell and generation before the limit
    /// can pass. Once everything is closed there are no limits.
    pub(crate) fn limit(
        &self,
        backend: &dyn Backend,
        home: &Home,
        target: Ptr,
        at: Instant,
        known: impl FnOnce(Ptr, u32),
    ) {
        let cell = home.alloc(LIMIT.class, &LIMIT, phase::ARMED, ObjectId::TIMER.bits());
        let end = End {
            target,
            generation: header(target).generation(),
        };
        // SAFETY: the class has room for a `Limit`, and nobody else has the cell.
        unsafe { end_of(cell).write(end) };
        let mut state = self.state.lock();
        if state.closed {
            return home.free(cell);
        }
        let generation = header(cell).generation();
        known(cell, generation);
        self.insert(&mut state, backend, Armed { cell, generation }, at);
    }

    /// Expires what is due. Timers go to `due`, finished; limits are returned.
    pub(crate) fn fire(&self, backend: &dyn Backend, due: &List) -> Expired {
        let now = elapsed(self.epoch);
        let limits = List::new();
        let mut later = Chain::EMPTY;
        let mut state = self.state.lock();
        state.wheel.advance(now, |name| {
            let Some(cell) = name.take() else { return };
            if std::ptr::eq(header(cell).vtable(), &LIMIT) {
                // SAFETY: taken by us, so ours; taken out again by `Expired` without being run or dropped.
                limits.push_back(unsafe { Completion::from_ptr(cell) });
            } else if naps::is_nap(cell) {
                let over = |at| self.tick_after(at) <= now;
                // SAFETY: taken by us, under the lock.
                let over = unsafe { naps::called(cell, over, &mut later) };
                over.into_iter().for_each(|nap| due.push_back(nap));
            } else {
                // SAFETY: taken by us, so ours.
                let done = unsafe { operation::taken(cell, 0) };
                if let Some(done) = operation::admit(done).done() {
                    due.push_back(done);
                }
            }
        });
        self.name_again(&mut state, later);
        let next = state.wheel.next_tick();
        // Also if it is the same: the backend's expiry came too early, and is spent.
        if next.is_some() || state.set.is_some() {
            state.set = next;
            backend.set_timer(next.and_then(|tick| self.instant(tick)));
        }
        Expired { limits }
    }

    /// When a thread must look here again: what the backend was told, which may come before the timer itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.wheel.next_tick()?;
        state.set.and_then(|tick| self.instant(tick))
    }

    /// Takes out everything: timers as cancelled, limits away. What is armed from now on ends as closed.
    pub(crate) fn drain(&self, home: &Home, out: &List) {
        let mut state = self.state.lock();
        state.closed = true;
        let mut later = Chain::EMPTY; // and stays so
        state.wheel.drain(|name| {
            let Some(cell) = name.take() else { return };
            if std::ptr::eq(header(cell).vtable(), &LIMIT) {
                home.free(cell);
            } else if naps::is_nap(cell) {
                // SAFETY: taken by us, under the lock.
                let over = unsafe { naps::called(cell, |_| true, &mut later) };
                over.into_iter().for_each(|nap| out.push_back(nap));
            } else {
                // SAFETY: taken by us, so ours.
                out.push_back(unsafe { operation::taken(cell, code::CANCELLED) });
            }
        });
    }
}

/// Takes a timer that is armed and is asked to end, which is over then.
pub(crate) fn cancel(cell: Ptr, generation: u32, how: u64) -> Option<Completion> {
    let raw = cancelled(how)?;
    let cell = Armed { cell, generation }.take()?;
    // SAFETY: taken by us, so ours.
    Some(unsafe { operation::taken(cell, raw) })
}

/// Lifts a limit whose operation is over; if it has expired meanwhile, its expiry finds the operation gone.
pub(crate) fn lift(home: &Home, cell: Ptr, generation: u32) {
    if let Some(limit) = (Armed { cell, generation }).take() {
        home.free(limit);
    }
}

impl Expired {
    /// The operations whose limits expired, with their generations.
    pub(crate) fn each(self, home: &Home, mut end: impl FnMut(Ptr, u32)) {
        while let Some(limit) = self.limits.pop_front() {
            let cell = limit.into_ptr();
            // SAFETY: a limit's cell, ours since it was taken; plain data, read before the cell is freed.
            let End {
                target, generation, ..
            } = unsafe { end_of(cell).read() };
            home.free(cell);
            end(target, generation);
        }
    }
}
