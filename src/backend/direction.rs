//! One direction of an object: who waits, who holds it, and what is known of it. `docs/dispatch-protocols.md`, "A direction".
#![allow(unsafe_code)] // operations are reached through their cells

use crate::cell::{Ptr, header, phase};
use crate::completion::Completion;
use crate::operation::{self, part};
use crate::queue::List;
use crate::sync::mutant;

/// An attempt may succeed. True at first: attempt, then ask.
const READY: u8 = 1;
/// No more will come; a short read does not end *ready*.
const HANG_UP: u8 = 2;
/// Nothing is let in any more.
const CLOSED: u8 = 4;
/// It is held by `current`, which is due or being attempted.
const CURRENT: u8 = 8;
/// `current` is finished, and keeps it until its output is taken or given back.
const KEPT: u8 = 16;
/// It is held by a poll, which makes its call itself.
const POLLED: u8 = 32;
const HELD: u8 = CURRENT | KEPT | POLLED;

/// What an entry has two of, each under its lock.
#[derive(Debug)]
pub(crate) struct Direction {
    /// The operations that wait, oldest first.
    pub(crate) queue: List,
    /// The operation that holds it, if one does: nobody else attempts then. With its cell's generation, since it may be over before its
    /// direction is let go.
    current: Option<(Ptr, u32)>,
    /// Advances with each event, so that an attempt that began before it does not end *ready*.
    pub(crate) tick: u32,
    /// One byte of bits, so that what is asked together is one comparison.
    state: u8,
}

// SAFETY: `current` names a cell that the direction's operation owns; it goes with the entry's lock.
unsafe impl Send for Direction {}

impl Direction {
    /// Of an entry that nobody has.
    pub(super) fn vacant() -> Self {
        Self {
            queue: List::new(),
            current: None,
            tick: 0,
            state: READY | CLOSED,
        }
    }

    /// Its entry has an object.
    pub(super) fn open(&mut self) {
        self.tick = 0;
        self.state = READY;
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.state & READY != 0
    }

    pub(crate) fn end_ready(&mut self) {
        self.state &= !READY;
    }

    /// There was an event.
    #[inline(always)]
    pub(crate) fn advance(&mut self, hang_up: bool) {
        self.tick = self.tick.wrapping_add(1);
        self.state |= READY | (u8::from(hang_up) * HANG_UP);
    }

    pub(crate) fn is_hung_up(&self) -> bool {
        self.state & HANG_UP != 0
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.state & CLOSED != 0
    }

    pub(crate) fn close(&mut self) {
        self.state |= CLOSED;
    }

    /// The operation that holds it.
    pub(crate) fn current(&self) -> Option<(Ptr, u32)> {
        self.current.filter(|_| self.state & CURRENT != 0)
    }

    /// Makes an operation the current one.
    #[inline]
    pub(crate) fn take_up(&mut self, cell: Ptr) {
        self.state = (self.state & !HELD) | CURRENT;
        self.current = Some((cell, header(cell).generation()));
        // SAFETY: whoever calls owns the operation's cell.
        unsafe { part(cell) }.tick.set(self.tick);
    }

    /// A poll holds it.
    pub(crate) fn hold_for_poll(&mut self) {
        self.state |= POLLED;
    }

    /// What is current keeps it beyond its end.
    pub(crate) fn keep(&mut self) {
        self.state |= KEPT;
    }

    /// What is current holds it as any other does.
    pub(crate) fn keep_no_longer(&mut self) {
        self.state &= !KEPT;
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.state & KEPT != 0
    }

    /// Nobody holds it any more.
    #[inline]
    pub(crate) fn free(&mut self) {
        self.state &= !HELD;
    }

    /// Whether nobody else may make a call for it now.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        let held = if mutant("poll-unheld") { CURRENT } else { HELD };
        self.state & held != 0
    }

    /// Whether it is closed, or held.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.state & CLOSED != 0 || self.is_held()
    }

    /// Whether a call may be made at once: nobody waits, or holds it, and it is *ready* and open.
    #[inline(always)]
    pub(crate) fn is_open_to_a_call(&self) -> bool {
        self.state & (READY | CLOSED | HELD) == READY && self.queue.is_empty()
    }

    /// Ends a poll's hold, if that is all there is to do: it is *ready* and open, and nobody waits.
    #[inline(always)]
    pub(crate) fn ends_poll(&mut self) -> bool {
        let plainly = self.state == READY | POLLED && self.queue.is_empty();
        if plainly {
            self.state = READY;
        }
        plainly
    }

    /// The first that waits has its turn: it is current from now on. But a notice that nothing waits behind ends here, and holds
    /// nothing: what it wakes may poll before it has run, and would leave another one, and so on for ever.
    #[inline]
    pub(crate) fn turn(&mut self) -> Option<Completion> {
        let next = self.queue.pop_front()?;
        let lone_notice = header(next.ptr()).vtable().waker.is_some() && self.queue.is_empty();
        if lone_notice && !mutant("notice-holds") {
            // SAFETY: it was the queue's, and is ours now; its result is open.
            return Some(unsafe { operation::complete(next.into_ptr(), 0) });
        }
        self.take_up(next.ptr());
        Some(next)
    }

    /// The operation that waits first is about to end without being attempted again, as one that perhaps has begun. If it is one
    /// that keeps its direction, it holds it from now on.
    pub(crate) fn keep_on(&mut self, first: Ptr) {
        let keeps = header(first).vtable().holds && !mutant("cancelled-lets-go");
        if keeps && !self.is_held() {
            self.take_up(first);
            self.keep();
        }
    }

    /// Whether nothing waits but notices, which are for polls and take nothing.
    pub(crate) fn has_notices_only(&self) -> bool {
        self.queue
            .iter()
            .all(|cell| header(cell).vtable().waker.is_some())
    }

    /// Whether an operation waits, is under way, or keeps it: not one that is over and about to let go.
    pub(crate) fn is_wanted(&self) -> bool {
        let is_open = |(cell, generation): (Ptr, u32)| {
            [phase::PENDING, phase::CANCEL, phase::TIMEOUT]
                .into_iter()
                .any(|phase| header(cell).is(generation, phase))
        };
        self.is_kept() || !self.has_notices_only() || self.current().is_some_and(is_open)
    }

    /// Takes in that an attempt which began at `tick` left nothing behind.
    pub(crate) fn drained(&mut self, tick: u32) {
        if (self.tick == tick || mutant("direction-no-tick")) && !self.is_hung_up() {
            self.end_ready();
        }
    }
}
