//! Operations that repeat: each turn read, handled, answered and begun again by whoever has the operation as due.
//!
//! Protocol: `docs/dispatch-protocols.md`, "An operation that repeats".
#![allow(unsafe_code)] // cells are attempted and finished by whoever owns them

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::object::Handle;
use super::{Inner, Route};
use crate::backend::Outcome;
use crate::backend::direct::{is_pending, tick_of};
use crate::backend::registry::{EntryRef, Way};
use crate::backend::repeats::{Goes, Sent, rest_of};
use crate::cell::{Ptr, Repeats, header, phase};
use crate::completion::Completion;
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::{self, Attempted, Request, Turn, cancelled, code, part};
use crate::sync::atomic::Ordering;
use crate::sync::mutant;

/// An operation that repeats, due for a turn: it holds its reading direction.
pub(crate) struct Came<'a> {
    inner: &'a Inner,
    cell: Ptr,
    entry: EntryRef,
    repeats: &'static Repeats,
    /// How much came.
    count: usize,
    /// The tick of the attempt, if that left nothing behind.
    drained: Option<u32>,
}

/// What an operation that repeats has had since it was begun, and gives back when its result is fixed.
pub(super) struct Had {
    cell: Ptr,
    generation: u32,
    object: ObjectId,
    handle: Handle,
}

impl Inner {
    /// As `submit`, of an operation that repeats: it is never attempted by who begins it. It keeps its object open.
    #[cold]
    pub(super) fn begin_repeating(&self, cell: Ptr, entry: EntryRef) {
        entry.refs.fetch_add(1, Ordering::Relaxed); // see `had`
        // SAFETY: the caller's cell, of an operation on that entry.
        let goes = unsafe { entry.join(cell) };
        self.went(goes, cell);
    }

    fn went(&self, goes: Goes, cell: Ptr) {
        match goes {
            Goes::Waits => {}
            Goes::Due(due) => self.hand(due, Route::Finished),
            Goes::Over(raw) => self.end_repeating(cell, raw),
        }
    }

    /// Has an operation that repeats, and is due, go on until its turn. None if it waits, or is over and was sent where it belongs.
    #[inline]
    pub(crate) fn come(&self, cell: Ptr, repeats: &'static Repeats) -> Option<Came<'_>> {
        // SAFETY: what is due was submitted, and is the caller's.
        let entry = unsafe { EntryRef::of(cell) }?;
        let table = header(cell).vtable();
        let mut attempted = None;
        if table.reads && is_pending(cell) {
            // SAFETY: what is due is current, and its result is open.
            match unsafe { entry.attempt(cell, Way::Read, table) } {
                Ok((count, drained)) => {
                    // SAFETY: as above.
                    let drained = drained.then(|| unsafe { tick_of(cell) });
                    return Some(Came {
                        inner: self,
                        cell,
                        entry,
                        repeats,
                        count: usize::try_from(count).unwrap_or(0),
                        drained,
                    });
                }
                Err(came_to) => attempted = came_to,
            }
        }
        self.come_slowly(cell, entry, attempted)
    }

    #[cold]
    fn come_slowly(
        &self,
        cell: Ptr,
        entry: EntryRef,
        attempted: Option<Attempted>,
    ) -> Option<Came<'_>> {
        let Outcome { done, hold } = self.backend.carry_on(cell, entry, attempted);
        let done = done?;
        let table = header(cell).vtable();
        let repeats = table.repeats.as_ref()?;
        if !done.is_due() {
            self.complete(done, hold);
            return None;
        }
        // SAFETY: the cell is ours; `carry_on` says so in its result.
        let raw = unsafe { part(done.into_ptr()) }.take_raw();
        let mut came = Came {
            inner: self,
            cell,
            entry,
            repeats,
            count: usize::try_from(raw).unwrap_or(0),
            drained: None,
        };
        if table.reads {
            came.drained = hold.and_then(|hold| hold.keep());
            return Some(came);
        }
        // The rest was sent: the end of a turn, in which no handler runs any more.
        self.next(hold);
        header(cell).set_vtable((repeats.other)());
        // A reply that panics as it goes: as a handler's.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| came.turn())) {
            self.hand_future(false, move || resume_unwind(panic));
        }
        None
    }

    /// The end of an operation that repeats.
    #[cold]
    fn end_repeating(&self, cell: Ptr, raw: i64) {
        // SAFETY: the cell is the caller's, and its result is open.
        let done = unsafe { operation::complete(cell, raw) };
        self.complete(done, None);
    }

    /// What an operation whose result is fixed gives back, if it is one that repeats. Once.
    #[inline]
    pub(super) fn had(&self, done: &Completion) -> Option<Had> {
        let cell = done.ptr();
        header(cell).vtable().repeats.as_ref()?;
        // SAFETY: an operation's cell, which `done` owns.
        let entry = unsafe { EntryRef::of(cell) }?;
        Some(Had {
            cell,
            generation: header(cell).generation(),
            object: ObjectId::from_bits(header(cell).data()),
            handle: Handle::counted(entry),
        })
    }

    /// Lets the reading direction go, if the operation held it, and the object. After the completion was sent where it belongs.
    pub(super) fn let_have(&self, had: Option<Had>) {
        let Some(had) = had else {
            return;
        };
        let backend = &self.backend;
        if mutant("repeated-keeps-its-direction") {
            return;
        }
        if let Some(due) = backend.give_back(had.cell, had.generation, had.object, None) {
            self.hand(due, Route::Posted);
        }
        drop(had.handle);
    }
}

impl Came<'_> {
    /// Whether a handler runs in it, which `turn` calls.
    pub(crate) fn turn(self) {
        let mut sending = Sending {
            inner: self.inner,
            entry: self.entry,
            partly: None,
        };
        let over = Panicked(self.inner, self.cell);
        let fixes = mutant("repeat-fixes-each-turn");
        if fixes {
            header(self.cell).fix();
        }
        // SAFETY: the cell is ours, and its table is its body's.
        let turn = unsafe {
            (self.repeats.turn)(self.cell, self.count, &mut |request| sending.send(request))
        };
        std::mem::forget(over);
        if fixes {
            header(self.cell).set_phase(phase::PENDING);
        }
        match turn {
            Turn::Again => self.again(),
            Turn::Writes => self.rest(sending.partly),
            Turn::Over(raw) => self.inner.end_repeating(self.cell, raw),
        }
    }

    #[inline]
    fn again(self) {
        // SAFETY: it holds its reading direction, and the cell is ours.
        let goes = unsafe { self.entry.read_again(self.cell, self.drained) };
        match goes {
            Goes::Waits => {}
            Goes::Due(due) => Local::with(&self.inner.home, |local| match local {
                Some(local) => self.inner.place_finished(due, local),
                None => self.inner.hand(due, Route::Finished),
            }),
            Goes::Over(raw) => self.inner.end_repeating(self.cell, raw),
        }
    }

    /// What could not be sent at once is written by the operation itself, which goes into the writing direction for that, and keeps the
    /// reading one.
    #[cold]
    fn rest(self, partly: Option<Attempted>) {
        let Self {
            inner, cell, entry, ..
        } = self;
        if let Some(tick) = self.drained {
            entry.has_drained(tick);
        }
        header(cell).set_vtable((self.repeats.other)());
        let goes = match partly {
            // SAFETY: the cell is ours.
            None => unsafe { entry.join(cell) },
            // SAFETY: as above, and what was sent partly holds the direction.
            Some(attempted) => match unsafe { entry.pass_on(cell) } {
                Ok(()) => {
                    let came = inner.come_slowly(cell, entry, rest_of(attempted));
                    debug_assert!(came.is_none(), "it writes");
                    return;
                }
                Err(left) => {
                    inner.went_on(left, entry);
                    Goes::Over(cancelled(header(cell).phase()).unwrap_or(code::CLOSED))
                }
            },
        };
        inner.went(goes, cell);
    }
}

/// What a turn sends at once.
struct Sending<'a> {
    inner: &'a Inner,
    entry: EntryRef,
    /// The attempt that sent not all; it holds the writing direction.
    partly: Option<Attempted>,
}

impl Sending<'_> {
    #[inline]
    fn send(&mut self, request: Request) -> i64 {
        let len = operation::to_write(&request);
        if self.partly.is_some() {
            return 0;
        }
        // SAFETY: whoever sends lends what the request names for that.
        match unsafe { self.entry.send_now(request, len) } {
            Sent::Whole(left) => {
                self.inner.went_on(left, self.entry);
                len as i64
            }
            Sent::Partly(attempted) => {
                self.partly = Some(attempted);
                attempted.raw
            }
            Sent::Not => 0,
        }
    }
}

/// Ends the operation if its handler panics.
struct Panicked<'a>(&'a Inner, Ptr);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.end_repeating(self.1, code::PANICKED);
    }
}
