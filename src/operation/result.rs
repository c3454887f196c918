//! How an operation ends: its raw result, fixed, and what it means.
#![allow(unsafe_code)] // finishes cells, and asks them for their line

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::part;
use crate::cell::{Ptr, header, phase};
use crate::completion::Completion;
use crate::error::{Error, ErrorKind};
use crate::id::Kind;

/// The raw results that are not the kernel's: beyond any `errno`.
pub(crate) mod code {
    pub(crate) const CANCELLED: i64 = -(1 << 20);
    pub(crate) const TIMED_OUT: i64 = CANCELLED - 1;
    pub(crate) const CLOSED: i64 = CANCELLED - 2;
    pub(crate) const EOF: i64 = CANCELLED - 3;
    pub(crate) const WRITE_ZERO: i64 = CANCELLED - 4;
    pub(crate) const WOULD_DEADLOCK: i64 = CANCELLED - 5;
    pub(crate) const PANICKED: i64 = CANCELLED - 6;
}

/// A raw result as the library's.
#[inline]
pub(crate) fn decode(raw: i64, kind: Kind) -> Result<usize, Error> {
    match usize::try_from(raw) {
        Ok(count) => Ok(count),
        Err(_) => Err(failure(raw, kind)),
    }
}

#[cold]
fn failure(raw: i64, kind: Kind) -> Error {
    let what = match raw {
        code::CANCELLED => ErrorKind::Cancelled,
        code::TIMED_OUT => ErrorKind::TimedOut,
        code::CLOSED => ErrorKind::Closed,
        code::EOF => ErrorKind::UnexpectedEof,
        code::WRITE_ZERO => ErrorKind::WriteZero,
        code::WOULD_DEADLOCK => ErrorKind::WouldDeadlock,
        code::PANICKED => ErrorKind::Panicked,
        raw => return Error::os(kind, i32::try_from(-raw).unwrap_or(0)),
    };
    Error::new(what, kind)
}

/// Does what asks the user's buffers: one that panics then is the operation's failure, and no more. In a model a panic is the model's.
#[inline]
pub(crate) fn asking<T>(ask: impl FnOnce() -> T) -> Result<T, i64> {
    if cfg!(proactor_loom) {
        return Ok(ask());
    }
    catch_unwind(AssertUnwindSafe(ask)).map_err(panicked)
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> i64 {
    // Which may panic, too, as it is dropped; nothing then is left to be told.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    code::PANICKED
}

/// Fixes an operation's result, after which it is a completion.
///
/// # Safety
///
/// `cell` holds an operation whose result is open, and is the caller's.
#[inline]
pub(crate) unsafe fn complete(cell: Ptr, raw: i64) -> Completion {
    // SAFETY: the caller's promise.
    unsafe { part(cell) }.set_raw(raw);
    // A request to cancel that came meanwhile was accepted, and the output is as it is.
    header(cell).fix();
    // SAFETY: the caller's promise.
    unsafe { Completion::from_ptr(cell) }
}

/// As [`complete`]; but the result of an operation that repeats, and did not fail, stays open: it has its turn with that.
///
/// # Safety
///
/// As [`complete`].
#[inline]
pub(crate) unsafe fn complete_turn(cell: Ptr, raw: i64) -> Completion {
    if header(cell).vtable().repeats.is_some() && raw >= 0 {
        // SAFETY: the caller's promise.
        unsafe { part(cell) }.set_raw(raw);
        // SAFETY: the caller's promise.
        return unsafe { Completion::from_ptr(cell) };
    }
    // SAFETY: handed on to the caller.
    unsafe { complete(cell, raw) }
}

/// As [`complete`], of a timer that was armed: whoever has taken it has fixed its result by that.
///
/// # Safety
///
/// `cell` holds an operation that the caller has taken.
pub(crate) unsafe fn taken(cell: Ptr, raw: i64) -> Completion {
    // SAFETY: the caller's promise.
    unsafe { part(cell) }.set_raw(raw);
    // SAFETY: the caller's promise.
    unsafe { Completion::from_ptr(cell) }
}

/// Whether what has finished may run.
pub(crate) enum Admitted {
    /// It is bound to nothing.
    Unbound(Completion),
    /// It has passed its line.
    Served(Completion),
    /// It stands in its line, which lets it in later.
    Waits,
}

impl Admitted {
    /// It, if it may run.
    pub(crate) fn done(self) -> Option<Completion> {
        match self {
            Self::Unbound(done) | Self::Served(done) => Some(done),
            Self::Waits => None,
        }
    }
}

/// Has a finished operation join the line that it is bound to, if it is: before its direction is let go, so that the next of that
/// direction joins behind it. What has joined already may run.
#[inline]
pub(crate) fn admit(done: Completion) -> Admitted {
    let cell = done.ptr();
    let Some(line) = header(cell).vtable().line else {
        return Admitted::Unbound(done);
    };
    // SAFETY: `done` owns the cell, and its table is its body's.
    match unsafe { line(cell) } {
        None => Admitted::Unbound(done),
        Some(line) => {
            // SAFETY: the body keeps the line until it has run, which is after it has joined; all of a line may change under a
            // reference, and `join` touches nothing of it after that.
            match unsafe { line.as_ref() }.join(done) {
                Some(done) => Admitted::Served(done),
                None => Admitted::Waits,
            }
        }
    }
}

/// Fixes an operation's result as what was asked of it, or else as `raw`: a request that was accepted counts.
///
/// # Safety
///
/// As [`complete`].
pub(crate) unsafe fn complete_or_cancel(cell: Ptr, raw: i64) -> Completion {
    let asked = header(cell).fix();
    let asked = cancelled(asked);
    // SAFETY: the caller's promise.
    unsafe { part(cell) }.set_raw(asked.unwrap_or(raw));
    // SAFETY: the caller's promise.
    unsafe { Completion::from_ptr(cell) }
}

/// The result that a request to cancel, seen as `phase`, leads to.
#[inline]
pub(crate) fn cancelled(phase: u64) -> Option<i64> {
    if phase == phase::PENDING {
        return None;
    }
    asked(phase)
}

#[cold]
fn asked(phase: u64) -> Option<i64> {
    match phase {
        phase::CANCEL => Some(code::CANCELLED),
        phase::TIMEOUT => Some(code::TIMED_OUT),
        _ => None,
    }
}
