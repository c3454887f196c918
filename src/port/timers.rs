//! Timers: a wheel under a lock, and the backend told of the nearest deadline.
//!
//! Deadlines are rounded up to the wheel's tick of 1 ms, so a timer is never early. The wheel's nodes stand in the
//! operations' cells. Whoever unlinks a node under the lock owns its cell: expiry, cancellation and the end of a limited
//! operation race for that, and just one wins.
#![allow(unsafe_code)] // nodes inside cells

#[cfg_attr(
    not(any(feature = "hyper", proactor_loom)),
    expect(dead_code, reason = "adapters use it, and models")
)]
mod naps;

use std::alloc::Layout;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::wheel::{Node, Wheel};
use crate::backend::Backend;
use crate::cell::{self, Class, Header, Home, Ptr, VTable, header, phase};
use crate::completion::Completion;
use crate::id::{Kind, ObjectId};
use crate::operation::{self, Request, cancelled, code};
use crate::queue::List;
use crate::sync::{Mutex, elapsed, mutant};

pub(crate) struct Timers {
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    wheel: Wheel,
    /// The tick that the backend's timer is set to.
    set: Option<u64>,
    closed: bool,
    /// What naps that were given up have left.
    spare: naps::Chain,
}

/// A limit's cell: not an operation, but what ends one.
#[repr(C)]
struct Limit {
    header: Header,
    end: End,
}

/// Whom a limit ends, and its place in the wheel.
#[repr(C)]
struct End {
    node: Node,
    target: Ptr,
    generation: u32,
}

/// Where a limit's body stands.
fn end_of(limit: Ptr) -> *mut End {
    cell::place(limit, offset_of!(Limit, end))
}

/// A limit's node: the body begins with it.
fn limit_node(limit: Ptr) -> NonNull<Node> {
    // SAFETY: a place within a cell is not null.
    unsafe { NonNull::new_unchecked(end_of(limit).cast()) }
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
                spare: naps::Chain::EMPTY,
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

    fn link(&self, state: &mut State, backend: &dyn Backend, node: NonNull<Node>, at: Instant) {
        let tick = self.tick_after(at);
        // SAFETY: the node stands in a cell that is pending, so its address stays; it is unlinked before the cell is freed
        // (`fire`, `cancel`, `lift`, `drain`).
        unsafe { state.wheel.insert(node, tick) };
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
        let mut state = self.state.lock();
        let over = if state.closed {
            Some(code::CLOSED)
        } else {
            cancelled(header(cell).phase())
        };
        if let Some(raw) = over {
            // SAFETY: the caller's promise.
            return Some(unsafe { operation::complete(cell, raw) });
        }
        // SAFETY: the caller's promise.
        if let Some(node) = unsafe { node_of(cell) } {
            self.link(&mut state, backend, node, at);
        }
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
        let cell = home.alloc(LIMIT.class, &LIMIT, phase::PENDING, ObjectId::TIMER.bits());
        let end = End {
            node: Node::new(cell.as_ptr().cast()),
            target,
            generation: header(target).generation(),
        };
        // SAFETY: the class has room for a `Limit`, and nobody else has the cell.
        unsafe { end_of(cell).write(end) };
        let mut state = self.state.lock();
        if state.closed {
            return home.free(cell);
        }
        known(cell, header(cell).generation());
        self.link(&mut state, backend, limit_node(cell), at);
    }

    /// Lifts a limit whose operation is over; if it has expired meanwhile, its expiry finds the operation gone.
    pub(crate) fn lift(&self, home: &Home, limit: Ptr, generation: u32) {
        let mut state = self.state.lock();
        if !header(limit).is(generation, phase::PENDING) {
            return;
        }
        header(limit).set_phase(phase::DONE);
        // SAFETY: pending, so the cell is still this limit's, and its node is linked in this wheel.
        unsafe { state.wheel.remove(limit_node(limit)) };
        drop(state);
        home.free(limit);
    }

    /// Takes out a timer that was asked to end, if it is armed and has not expired meanwhile.
    pub(crate) fn cancel(&self, cell: Ptr, generation: u32) -> Option<Completion> {
        let mut state = self.state.lock();
        let timer = header(cell);
        if !timer.is(generation, phase::CANCEL) && !timer.is(generation, phase::TIMEOUT) {
            return None;
        }
        let raw = cancelled(timer.phase())?;
        timer.used();
        // SAFETY: its result is open, so the cell is still this timer's.
        let node = unsafe { node_of(cell) }?;
        // SAFETY: as above; a node that is not linked is not armed yet, and `arm` will see the request.
        if !unsafe { state.wheel.remove(node) } {
            return None;
        }
        // SAFETY: unlinked by us, so ours; its result is open.
        Some(unsafe { operation::complete(cell, raw) })
    }

    /// Expires what is due. Timers go to `due`, finished; limits are returned.
    pub(crate) fn fire(&self, backend: &dyn Backend, due: &List) -> Expired {
        let now = elapsed(self.epoch);
        let limits = List::new();
        let mut later = naps::Chain::EMPTY;
        let mut state = self.state.lock();
        state.wheel.advance(now, |node| {
            let cell = owner(node);
            if std::ptr::eq(header(cell).vtable(), &LIMIT) {
                header(cell).set_phase(phase::DONE);
                // SAFETY: unlinked by us, so ours; taken out again by `Expired` without being run or dropped.
                limits.push_back(unsafe { Completion::from_ptr(cell) });
            } else if naps::is_nap(cell) {
                let over = |at| self.tick_after(at) <= now;
                // SAFETY: unlinked by us, under the lock.
                let over = unsafe { naps::unlinked(cell, over, &mut later) };
                over.into_iter().for_each(|nap| due.push_back(nap));
            } else {
                // SAFETY: unlinked by us, so ours; its result is open.
                let done = unsafe { operation::complete_or_cancel(cell, 0) };
                if let Some(done) = operation::admit(done).done() {
                    due.push_back(done);
                }
            }
        });
        self.link_again(&mut state, later);
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
        let state = self.state.lock();
        state.wheel.next_tick()?;
        state.set.and_then(|tick| self.instant(tick))
    }

    /// Takes out everything: timers as cancelled, limits away. What is armed from now on ends as closed.
    pub(crate) fn drain(&self, home: &Home, out: &List) {
        let mut state = self.state.lock();
        state.closed = true;
        let mut later = naps::Chain::EMPTY; // and stays so
        state.wheel.drain(|node| {
            let cell = owner(node);
            if std::ptr::eq(header(cell).vtable(), &LIMIT) {
                header(cell).set_phase(phase::DONE);
                home.free(cell);
            } else if naps::is_nap(cell) {
                // SAFETY: unlinked by us, under the lock.
                let over = unsafe { naps::unlinked(cell, |_| true, &mut later) };
                over.into_iter().for_each(|nap| out.push_back(nap));
            } else {
                // SAFETY: unlinked by us, so ours; its result is open.
                out.push_back(unsafe { operation::complete(cell, code::CANCELLED) });
            }
        });
    }
}

impl Expired {
    /// The operations whose limits expired, with their generations.
    pub(crate) fn each(self, home: &Home, mut end: impl FnMut(Ptr, u32)) {
        while let Some(limit) = self.limits.pop_front() {
            let cell = limit.into_ptr();
            // SAFETY: a limit's cell, ours since it was unlinked; plain data, read before the cell is freed.
            let End {
                target, generation, ..
            } = unsafe { end_of(cell).read() };
            home.free(cell);
            end(target, generation);
        }
    }
}

fn owner(node: NonNull<Node>) -> Ptr {
    // SAFETY: the wheel hands over nodes that live, unlinked, in cells that whoever holds the wheel's lock owns.
    let owner = unsafe { node.as_ref() }.owner();
    // SAFETY: every node's owner is its cell.
    unsafe { NonNull::new_unchecked(owner.cast::<Header>()) }
}

/// The wheel's node in a timer operation's cell.
///
/// # Safety
///
/// The cell holds a timer operation, and its body stays.
unsafe fn node_of(cell: Ptr) -> Option<NonNull<Node>> {
    // SAFETY: the caller's promise; the table is the cell's own.
    match unsafe { (header(cell).vtable().request)(cell) } {
        Request::Timer(node) => {
            let node = NonNull::new(node.cast::<Node>())?;
            // SAFETY: the node stands in the cell, and is written only while it is not linked or under the wheel's lock.
            unsafe { Node::set_owner(node, cell.as_ptr().cast()) };
            Some(node)
        }
        _ => None,
    }
}
