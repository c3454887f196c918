//! The short way of a poll: taken, called and let go by whoever polls, with no backend asked. It is the protocol of `readiness/poll.rs`,
//! step by step (`docs/dispatch-protocols.md`, "A poll"); whatever is not plain on the way goes to the backend.
#![allow(unsafe_code)] // notices are reached through their tables

use std::task::Waker;

use super::direct::LetGo;
use super::direction::Direction;
use super::registry::{EntryRef, Way};
use super::shelf::Shelf;
use crate::cell::{Ptr, header};
use crate::operation::perform::perform;
use crate::operation::{Attempted, Request, code, ends_at_once, part, wanted};
use crate::sync::{MutexGuard, mutant};

/// Whose turn it is when a poll comes.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The poll's, which holds the direction from now on; the tick that it noted.
    Taken(u32),
    /// Nobody's: a call would block, and nobody waits.
    Nobodys,
    /// Nobody's, and the notice that waits first wakes the task that polls.
    Awaited,
    /// The backend decides.
    Undecided,
}

impl EntryRef {
    /// Takes the direction for a poll, if it is free and ready, and nobody waits.
    #[inline(always)]
    pub(crate) fn take_turn(self, way: Way, request: &Request, waker: &Waker) -> Turn {
        if ends_at_once(request) || (way == Way::Read && Shelf::has(self)) {
            return Turn::Undecided;
        }
        let mut direction = self.direction(way);
        if direction.is_taken() {
            return Turn::Undecided;
        }
        match (direction.queue.first(), direction.is_ready()) {
            (None, true) => {
                self.stir(way);
                direction.hold_for_poll();
                Turn::Taken(direction.tick)
            }
            (None, false) => Turn::Nobodys,
            // SAFETY: the queue owns it, whose lock is held.
            (Some(first), false) if unsafe { wakes(first, waker) } => Turn::Awaited,
            (Some(_), _) => Turn::Undecided,
        }
    }

    /// Has the kernel do what is requested.
    ///
    /// # Safety
    ///
    /// A poll of the caller's holds the direction, and what the request names is good for that until this returns.
    #[inline(always)]
    pub(crate) unsafe fn call(self, request: Request) -> Attempted {
        // SAFETY: the direction is held.
        let raw = unsafe { self.fd() }.map_or(code::CLOSED, |fd| perform(fd, request));
        match usize::try_from(raw) {
            Ok(count) => Attempted::moved(count, false, wanted(&request)),
            Err(_) => Attempted::failed(raw),
        }
    }

    /// The call of a poll that has held the direction since `tick` is made, and did not block; whether it left nothing behind.
    #[inline(always)]
    pub(crate) fn polled(self, way: Way, tick: u32, drained: bool) -> LetGo {
        let mut direction = self.direction(way);
        if drained {
            direction.drained(tick);
        }
        self.end_poll(direction, way)
    }

    /// A poll that held the direction is over.
    #[inline(always)]
    pub(super) fn end_poll(self, mut direction: MutexGuard<'_, Direction>, way: Way) -> LetGo {
        if mutant("poll-lets-nobody-on") {
            direction.free();
            return LetGo::Free;
        }
        self.let_go_of(direction, way)
    }
}

/// Whether what waits is a notice of a poll that may succeed later, and has a waker that wakes whom `waker` does.
///
/// # Safety
///
/// `cell` holds an operation that stays, and whose waker nobody changes meanwhile.
#[inline]
unsafe fn wakes(cell: Ptr, waker: &Waker) -> bool {
    // SAFETY: an operation's cell, and its table is its body's.
    let its = header(cell)
        .vtable()
        .waker
        .and_then(|its| unsafe { its(cell) });
    // SAFETY: the caller's promise.
    let knows = its.is_some_and(|its| unsafe { its.as_ref() }.will_wake(waker));
    // SAFETY: as above.
    knows && !unsafe { part(cell) }.ends_at_once()
}
