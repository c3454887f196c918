//! Operations that repeat: each turn read, handled, answered and begun again by whoever has the operation as due.
//!
//! Protocol: `docs/dispatch-protocols.md`, "An operation that repeats".
#![allow(unsafe_code)] // cells are attempted and finished by whoever owns them

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::object::Handle;
use super::{Inner, Route};
use crate::backend::Outcome;
use crate::backend::direct::{LetGo, is_pending, tick_of};
use crate::backend::readiness::Hold;
use crate::backend::registry::{EntryRef, Way};
use crate::backend::repeats::{Goes, rest_of};
use crate::cell::{Ptr, Repeats, header, phase};
use crate::completion::Completion;
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::{self, Attempted, Turn, code, part};
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
            // For any thread to take: the handler that begins it may go on.
            Goes::Due(due) => self.hand(due, Route::Posted),
            Goes::Over(raw) => self.end_repeating(cell, raw),
        }
    }

    /// Has an operation that repeats, and is due, go on until its turn. None if it waits, or is over and was sent where it belongs.
    #[inline(always)]
    pub(crate) fn come(&self, cell: Ptr, repeats: &'static Repeats) -> Option<Came<'_>> {
        // SAFETY: what is due was submitted, and is the caller's.
        let entry = unsafe { EntryRef::of(cell) }?;
        let (count, drained) = match Self::read(cell, entry) {
            Ok(read) => read,
            Err(attempted) => self.read_slowly(cell, entry, attempted)?,
        };
        Some(Came {
            inner: self,
            cell,
            entry,
            repeats,
            count,
            drained,
        })
    }

    /// One read, the short way; or what it came to otherwise.
    #[inline(always)]
    fn read(cell: Ptr, entry: EntryRef) -> Result<(usize, Option<u32>), Option<Attempted>> {
        let table = header(cell).vtable();
        if !(table.reads && is_pending(cell)) {
            return Err(None);
        }
        // SAFETY: what is due is current, and its result is open.
        let (count, drained) = unsafe { entry.attempt(cell, Way::Read, table) }?;
        // SAFETY: as above.
        let drained = drained.then(|| unsafe { tick_of(cell) });
        Ok((usize::try_from(count).unwrap_or(0), drained))
    }

    /// As `come`, with the backend: what was read, and the tick of that if it left nothing behind.
    #[cold]
    fn read_slowly(
        &self,
        cell: Ptr,
        entry: EntryRef,
        attempted: Option<Attempted>,
    ) -> Option<(usize, Option<u32>)> {
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
        let count = usize::try_from(raw).unwrap_or(0);
        if table.reads {
            return Some((count, hold.and_then(Hold::keep)));
        }
        // The rest was sent: the end of a turn, in which no handler runs any more.
        self.next(hold);
        header(cell).set_vtable((repeats.other)());
        let came = Came {
            inner: self,
            cell,
            entry,
            repeats,
            count,
            drained: None,
        };
        // A reply that panics as it goes: as a handler's.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| came.turn())) {
            self.hand_future(false, move || resume_unwind(panic));
        }
        None
    }

    /// What could not be sent at once is written by the operation itself, which goes into the writing direction for that, and keeps the
    /// reading one.
    #[cold]
    fn rest(&self, cell: Ptr, entry: EntryRef, drained: Option<u32>, partly: Option<i64>) {
        if let Some(tick) = drained {
            entry.has_drained(tick);
        }
        if let Some(repeats) = &header(cell).vtable().repeats {
            header(cell).set_vtable((repeats.other)());
        }
        let goes = match partly {
            // SAFETY: the cell is the caller's, who has it to go on.
            None => unsafe { entry.join(cell) },
            Some(raw) => {
                // SAFETY: as above, and what was sent partly holds the direction.
                unsafe { entry.leave_to(cell) };
                let read = self.read_slowly(cell, entry, rest_of(raw));
                debug_assert!(read.is_none(), "it writes");
                return;
            }
        };
        self.went(goes, cell);
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
        if mutant("repeated-keeps-its-direction") {
            return;
        }
        let (cell, generation) = (had.cell, had.generation);
        if let Some(due) = self.backend.give_back(cell, generation, had.object, None) {
            self.hand(due, Route::Posted);
        }
        drop(had.handle);
    }
}

impl Came<'_> {
    /// Its turn, in which the handler is called, and what follows from that.
    #[inline(always)]
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
            (self.repeats.turn)(self.cell, self.count, &mut |ptr, len| {
                sending.send(ptr, len)
            })
        };
        std::mem::forget(over);
        if fixes {
            header(self.cell).set_phase(phase::PENDING);
        }
        match turn {
            Turn::Again => self.again(),
            Turn::Writes => self
                .inner
                .rest(self.cell, self.entry, self.drained, sending.partly),
            Turn::Over(raw) => self.inner.end_repeating(self.cell, raw),
        }
    }

    #[inline(always)]
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
}

/// What a turn sends at once.
struct Sending<'a> {
    inner: &'a Inner,
    entry: EntryRef,
    /// The attempt that sent not all; it holds the writing direction.
    partly: Option<i64>,
}

impl Sending<'_> {
    #[inline(always)]
    fn send(&mut self, ptr: *const u8, len: usize) -> i64 {
        if !self.entry.take_to_send() {
            return 0;
        }
        // SAFETY: the direction was taken just now; whoever sends lends the bytes for that.
        let raw = unsafe { self.entry.send(ptr, len) };
        if raw != len as i64 {
            self.partly = Some(raw);
            return raw;
        }
        match self.entry.polled(Way::Write, 0, false) {
            LetGo::Free => {}
            left => self.others_write(left),
        }
        raw
    }

    #[cold]
    fn others_write(&self, left: LetGo) {
        self.inner.went_on(left, self.entry);
    }
}

/// Ends the operation if its handler panics.
struct Panicked<'a>(&'a Inner, Ptr);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.end_repeating(self.1, code::PANICKED);
    }
}
