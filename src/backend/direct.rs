//! The short way of an operation whose direction is free and ready: attempted at once, by whoever initiates it or has it as due,
//! with no backend asked. It is the protocol of `readiness`, step by step ("A direction"), without what only few need;
//! whatever is not plain on the way goes to the backend.
#![allow(unsafe_code)] // operations are called through their tables

use std::ptr::NonNull;

use super::direction::Direction;
use super::registry::{EntryRef, Way};
use super::shelf::Shelf;
use crate::cell::{Ptr, VTable, header};
use crate::completion::Completion;
use crate::operation::{Attempted, part};
use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, mutant};

/// What became of an operation that was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is its direction's current one, to be attempted.
    TakenUp,
    /// It is in its direction's queue.
    Waits,
    /// It is still the caller's: the backend decides.
    Undecided,
}

/// What is left of a direction that was let go.
#[derive(Debug)]
pub(crate) enum LetGo {
    /// It is free, and nothing is due.
    Free,
    /// Its next operation.
    Due(Completion),
    /// It was closed meanwhile: the backend is to give up its share.
    Closed,
}

/// Which way an operation goes.
#[inline]
pub(crate) fn way(table: &VTable) -> Way {
    if table.reads { Way::Read } else { Way::Write }
}

/// Whether an attempt may succeed.
#[inline]
pub(super) fn may_succeed(direction: &Direction, entry: EntryRef, way: Way) -> bool {
    direction.is_ready()
        || (way == Way::Read && Shelf::has(entry) && !mutant("shelf-not-looked-at"))
}

/// Whether an operation that is the next of its direction is to be attempted now.
///
/// # Safety
///
/// `cell` holds an operation, and is the caller's.
#[inline]
pub(super) unsafe fn is_due(direction: &Direction, entry: EntryRef, way: Way, cell: Ptr) -> bool {
    // SAFETY: the caller's promise.
    may_succeed(direction, entry, way) || unsafe { part(cell) }.ends_at_once()
}

impl EntryRef {
    /// Begins an operation that nobody can have asked to end.
    ///
    /// # Safety
    ///
    /// `cell` holds an operation on this entry, and is the caller's.
    #[inline]
    pub(crate) unsafe fn begin(self, cell: Ptr, way: Way) -> Begun {
        // SAFETY: the caller's promise.
        unsafe { part(cell) }.entry.set(self.as_ptr());
        let mut direction = self.direction(way);
        if direction.is_closed() || self.listens.load(Ordering::Relaxed) {
            return Begun::Undecided;
        }
        let behind = direction.is_held() || !direction.queue.is_empty();
        // SAFETY: the caller's promise.
        if behind || !unsafe { is_due(&direction, self, way, cell) } {
            // SAFETY: the cell goes to the direction's queue as its owner.
            direction
                .queue
                .push_back(unsafe { Completion::from_ptr(cell) });
            return Begun::Waits;
        }
        self.take_up(&mut direction, way, cell);
        Begun::TakenUp
    }

    /// Makes an operation the current one of a direction that was free.
    #[inline]
    pub(super) fn take_up(self, direction: &mut Direction, way: Way, cell: Ptr) {
        self.stir(way);
        direction.take_up(cell);
    }

    /// A direction is about to be held, under its lock.
    #[inline]
    pub(super) fn stir(self, way: Way) {
        if way == Way::Write && !mutant("calm-while-attempted") {
            // Before the attempt: an event that answers it comes after it, and so finds this.
            self.calm.store(false, Ordering::Relaxed);
        }
    }

    /// One attempt of a plain operation, and whether it left nothing behind; or, if that was not its end, what it came to.
    ///
    /// # Safety
    ///
    /// `cell` is current in `way` of this entry, and `table` its own.
    #[inline]
    pub(crate) unsafe fn attempt(
        self,
        cell: Ptr,
        way: Way,
        table: &VTable,
    ) -> Result<(i64, bool), Option<Attempted>> {
        if way == Way::Read && Shelf::has(self) {
            return Err(None);
        }
        // SAFETY: the operation is current, so the direction is held.
        let Some(fd) = (unsafe { self.fd() }) else {
            return Err(None);
        };
        // SAFETY: the caller's promise; the operation stays where it is.
        let attempted = unsafe { (table.attempt)(cell, fd) };
        if attempted.raw < 0 || attempted.more() {
            return Err(Some(attempted));
        }
        let drained = attempted.short() && self.short_drains.load(Ordering::Relaxed);
        Ok((attempted.raw, drained))
    }

    /// Nothing is current any more: the next operation, if it is due. `drained` is the tick of an attempt that left nothing behind.
    #[inline]
    pub(crate) fn let_go(self, way: Way, drained: Option<u32>) -> LetGo {
        let mut direction = self.direction(way);
        if let Some(tick) = drained {
            direction.drained(tick);
        }
        self.let_go_of(direction, way)
    }

    #[inline(always)]
    pub(super) fn let_go_of(self, mut direction: MutexGuard<'_, Direction>, way: Way) -> LetGo {
        direction.free();
        if direction.is_closed() {
            return LetGo::Closed;
        }
        let Some(next) = direction.queue.first() else {
            if way == Way::Write && direction.is_ready() {
                self.calm.store(true, Ordering::Relaxed);
            }
            return LetGo::Free;
        };
        // SAFETY: an operation's cell, which the queue owns.
        if !unsafe { is_due(&direction, self, way, next) } {
            return LetGo::Free;
        }
        direction.turn().map_or(LetGo::Free, LetGo::Due)
    }

    /// The entry that an operation was begun on.
    ///
    /// # Safety
    ///
    /// `cell` holds an operation that `begin` or the backend's `submit` was called with, and is the caller's.
    #[inline]
    pub(crate) unsafe fn of(cell: Ptr) -> Option<Self> {
        // SAFETY: the caller's promise.
        let entry = unsafe { part(cell) }.entry.get();
        NonNull::new(entry.cast_mut().cast()).map(Self::from_raw)
    }
}

/// How far an operation's direction had come when it was taken up.
///
/// # Safety
///
/// `cell` holds an operation, and is the caller's.
#[inline]
pub(crate) unsafe fn tick_of(cell: Ptr) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { part(cell) }.tick.get()
}

/// Whether nobody has asked an operation to end.
#[inline]
pub(crate) fn is_pending(cell: Ptr) -> bool {
    header(cell).phase() == crate::cell::phase::PENDING
}

/// Whether an operation, due, can go the short way: plain, and not asked to end.
#[inline]
pub(crate) fn is_plain(cell: Ptr) -> bool {
    header(cell).vtable().plain && is_pending(cell)
}
