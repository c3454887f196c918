//! An operation that repeats, and its directions: `docs/dispatch-protocols.md`, "An operation that repeats".
#![allow(unsafe_code)] // operations are reached through their cells

use super::direct::{LetGo, is_due, may_succeed, tick_of, way};
use super::registry::{EntryRef, Way};
use crate::cell::{Ptr, header};
use crate::completion::Completion;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{Attempted, cancelled, code, part};
use crate::sync::atomic::Ordering;
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
        if let Some(raw) =
            cancelled(header(cell).phase()).filter(|_| !mutant("cancel-unseen-before-a-rest"))
        {
            return Goes::Over(raw);
        }
        if direction.is_closed() {
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

    /// An operation that holds the reading direction is to read again. `drained` says that its read, at the tick that it noted, left
    /// nothing behind.
    ///
    /// # Safety
    ///
    /// `cell` is current in the reading direction of this entry, and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn read_again(self, cell: Ptr, drained: bool) -> Goes {
        let mut direction = self.direction(Way::Read);
        if drained {
            let tick = match mutant("turn-no-tick") {
                true => direction.tick,
                // SAFETY: the caller's promise.
                false => unsafe { tick_of(cell) },
            };
            direction.drained(tick);
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
        direction.free();
        direction.queue.push_front(completion);
        Goes::Waits
    }

    /// The operation that holds the reading direction goes on with another: an attempt at that tick left nothing behind.
    pub(crate) fn has_drained(self, tick: u32) {
        self.direction(Way::Read).drained(tick);
    }

    /// Takes the writing direction for a poll that sends at once, if it is free and ready, and nobody waits.
    #[inline(always)]
    pub(crate) fn take_to_send(self) -> bool {
        let mut direction = self.direction(Way::Write);
        let among_others =
            mutant("reply-among-others") && direction.is_ready() && !direction.is_closed();
        if !(direction.is_open_to_a_call() || among_others) {
            return false;
        }
        self.stir(Way::Write);
        direction.hold_for_poll();
        true
    }

    /// All was sent, by the poll that holds the writing direction.
    #[inline(always)]
    pub(crate) fn has_sent(self) -> LetGo {
        let mut direction = self.direction(Way::Write);
        if direction.ends_poll() {
            self.calm.store(true, Ordering::Relaxed);
            return LetGo::Free;
        }
        self.end_poll(direction, Way::Write)
    }

    /// A poll that has sent a part leaves the direction to an operation that sends the rest. Also if it was closed meanwhile: whoever
    /// closes asks that operation to end first, which is current in the reading direction; it sees that, and gives the share with its hold.
    ///
    /// # Safety
    ///
    /// `cell` holds an operation on this entry, and is the caller's; the direction is held by `take_to_send`.
    pub(crate) unsafe fn leave_to(self, cell: Ptr) {
        let mut direction = self.direction(Way::Write);
        direction.free();
        if mutant("rest-lets-others-between") {
            drop(direction);
            direction = self.direction(Way::Write);
        }
        direction.take_up(cell);
    }
}

/// What an attempt to send a part means for the operation that sends the rest.
pub(crate) fn rest_of(raw: i64) -> Option<Attempted> {
    // What it would block on now may have gone since: it looks itself, and notes the tick before it does.
    let failed = raw < 0 && raw != WOULD_BLOCK;
    failed.then(|| Attempted::failed(raw))
}
