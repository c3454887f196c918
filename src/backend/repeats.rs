//! An operation that repeats, and its directions: `docs/dispatch-protocols.md`, "An operation that repeats".
#![allow(unsafe_code)] // operations are reached through their cells

use super::direct::{LetGo, is_due, may_succeed, way};
use super::registry::{EntryRef, Held, Way};
use crate::cell::{Ptr, header};
use crate::completion::Completion;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{Attempted, Request, cancelled, code, part};
use crate::sync::mutant;

/// What became of an operation that goes on in a direction.
#[derive(Debug)]
pub(crate) enum Goes {
    /// It is in the direction's queue.
    Waits,
    /// It is the current one, to be attempted.
    Due(Completion),
    /// It is the caller's, and ends with this.
    Over(i64),
}

/// What became of bytes that were to be sent at once.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All of them; what is left of the direction.
    Whole(LetGo),
    /// Not all: the direction is held, by nobody's operation.
    Partly(Attempted),
    /// None: others have the direction, or it has no room.
    Not,
}

impl EntryRef {
    /// As the backend's `submit`, but whoever begins it does not attempt it.
    ///
    /// # Safety
    ///
    /// `cell` holds an operation on this entry, and is the caller's.
    pub(crate) unsafe fn join(self, cell: Ptr) -> Goes {
        let way = way(header(cell).vtable());
        // SAFETY: the caller's promise.
        unsafe { part(cell) }.entry.set(self.as_ptr());
        let mut direction = self.direction(way);
        // Also of one that was closed: who closes asks what is under way to end before it shuts the writing direction.
        if let Some(raw) = cancelled(header(cell).phase()) {
            return Goes::Over(raw);
        }
        if direction.closed {
            return Goes::Over(code::CLOSED);
        }
        let behind = direction.is_held() || !direction.queue.is_empty();
        // SAFETY: the caller's promise; the cell goes to the direction.
        let completion = unsafe { Completion::from_ptr(cell) };
        // SAFETY: the caller's promise.
        if behind || !unsafe { is_due(&direction, self, way, cell) } {
            direction.queue.push_back(completion);
            return Goes::Waits;
        }
        self.take_up(&mut direction, way, cell);
        Goes::Due(completion)
    }

    /// An operation that holds the reading direction is to read again. `drained` is the tick of an attempt that left nothing behind.
    ///
    /// # Safety
    ///
    /// `cell` is current in the reading direction of this entry, and the caller's.
    #[inline]
    pub(crate) unsafe fn read_again(self, cell: Ptr, drained: Option<u32>) -> Goes {
        let mut direction = self.direction(Way::Read);
        if let Some(tick) = drained {
            let now = if mutant("turn-no-tick") {
                direction.tick
            } else {
                tick
            };
            direction.drained(now);
        }
        // A canceller, or closer, that looked before us did not find it waiting: its request is ours to see.
        if let Some(raw) =
            cancelled(header(cell).phase()).filter(|_| !mutant("cancel-unseen-between-turns"))
        {
            return Goes::Over(raw);
        }
        // SAFETY: the caller's promise; the cell goes to the direction.
        let completion = unsafe { Completion::from_ptr(cell) };
        if may_succeed(&direction, self, Way::Read) {
            direction.take_up(cell);
            return Goes::Due(completion);
        }
        direction.current = None;
        direction.queue.push_front(completion);
        Goes::Waits
    }

    /// The operation that holds the reading direction goes on with another: an attempt at that tick left nothing behind.
    pub(crate) fn has_drained(self, tick: u32) {
        self.direction(Way::Read).drained(tick);
    }

    /// Sends `len` bytes, as is requested, if nobody is before it: by a poll of its own.
    ///
    /// # Safety
    ///
    /// What the request names is good for that until this returns.
    #[inline]
    pub(crate) unsafe fn send_now(self, request: Request, len: usize) -> Sent {
        let mut direction = self.direction(Way::Write);
        let is_free = !direction.is_held() && direction.queue.is_empty();
        let may = is_free || mutant("reply-among-others");
        if direction.closed || !(may && direction.ready) {
            return Sent::Not;
        }
        self.stir(Way::Write);
        direction.held = Held::Polled;
        let tick = direction.tick;
        drop(direction);
        // SAFETY: the direction is held, by this poll; the rest is the caller's promise.
        let attempted = unsafe { self.call(request) };
        if attempted.raw == len as i64 {
            return Sent::Whole(self.polled(Way::Write, tick, false));
        }
        Sent::Partly(attempted)
    }

    /// A poll that has sent a part leaves the direction to an operation that sends the rest; or says that it was closed.
    ///
    /// # Safety
    ///
    /// `cell` holds an operation on this entry, and is the caller's; the direction is held by `send_now`.
    pub(crate) unsafe fn pass_on(self, cell: Ptr) -> Result<(), LetGo> {
        let mut direction = self.direction(Way::Write);
        if direction.closed {
            return Err(self.end_poll(direction, Way::Write));
        }
        direction.held = Held::Plainly;
        if mutant("rest-lets-others-between") {
            drop(direction);
            direction = self.direction(Way::Write);
        }
        direction.take_up(cell);
        Ok(())
    }
}

/// What an attempt to send a part means for the operation that sends the rest.
pub(crate) fn rest_of(attempted: Attempted) -> Option<Attempted> {
    // What it would block on now may have gone since: it looks itself, and notes the tick before it does.
    let failed = attempted.raw < 0 && attempted.raw != WOULD_BLOCK;
    failed.then_some(attempted)
}
