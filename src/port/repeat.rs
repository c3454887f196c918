//! Operations that repeat: each turn read, handled, answered and begun again by whoever has the operation as due.
//!
//! Protocol: `docs/dispatch-protocols.md`, "An operation that repeats".
#![allow(unsafe_code)] // cells are attempted and finished by whoever owns them

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::object::Handle;
use super::{Inner, Route};
use crate::backend::Outcome;
use crate::backend::direct::{LetGo, is_pending, tick_of};
use crate::backend::readiness::Hold;
use crate::backend::registry::EntryRef;
use crate::backend::repeats::{Goes, rest_of};
use crate::backend::shelf::Shelf;
use crate::cell::{Ptr, Repeats, header, phase};
use crate::completion::Completion;
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::perform::{self, Fd};
use crate::operation::{self, Already, Attempted, Due, Operation, code, part};
use crate::sync::atomic::Ordering;
use crate::sync::mutant;

/// An operation that repeats, as the port sees it.
pub(crate) trait Turns: Operation {
    /// It is due: it reads, calls its handler, and sends what that answers, by `came`. What follows is done by whoever called this.
    fn turn(&mut self, came: &mut Came<'_>) -> Turn;
}

/// What comes after a turn of an operation that repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// It reads again.
    Again,
    /// Its request is to write now, and not all of it could be sent.
    Writes,
    /// It is over, with this raw result.
    Over(i64),
    /// It has had none: there was nothing to read the short way.
    Unread,
}

/// What an operation that repeats has its turn with: it holds its reading direction.
#[derive(Debug)]
pub(crate) struct Came<'a> {
    inner: &'a Inner,
    cell: Ptr,
    entry: EntryRef,
    /// Its descriptor, which stays for as long as it holds a direction.
    fd: &'a Fd,
    already: Option<&'a Already>,
    /// Whether the read left nothing behind.
    drained: bool,
    /// The read that was not the end of it.
    unread: Option<Attempted>,
    /// The call that sent not all; it holds the writing direction.
    partly: Option<i64>,
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

    /// Has an operation that repeats, and is due, have its turn, with all that follows; whether its handler was called.
    #[inline]
    pub(crate) fn have_turn(&self, cell: Ptr, repeats: &Repeats) -> bool {
        // SAFETY: the cell is the caller's, and its table is its body's.
        unsafe { (repeats.turn)(self.due(cell), None) }
    }

    #[inline]
    fn due(&self, cell: Ptr) -> Due {
        let port = NonNull::from(self).cast();
        Due { cell, port }
    }

    /// As `turn`, with the backend: `attempted` is what the operation's attempt came to, if it was made.
    #[cold]
    fn turn_slowly(&self, cell: Ptr, entry: EntryRef, attempted: Option<Attempted>) -> bool {
        let Outcome { done, hold } = self.backend.carry_on(cell, entry, attempted);
        // If it waits, the cell is another's by now, and is not looked at.
        let Some(done) = done else {
            return false;
        };
        let Some(repeats) = &header(cell).vtable().repeats else {
            return false;
        };
        if !done.is_due() {
            self.complete(done, hold);
            return false;
        }
        // SAFETY: the cell is ours; `carry_on` says so in its result.
        let raw = unsafe { part(done.into_ptr()) }.take_raw();
        let count = usize::try_from(raw).unwrap_or(0);
        if header(cell).vtable().reads {
            let drained = hold.is_some_and(Hold::keep);
            let already = Already { count, drained };
            // SAFETY: as in `have_turn`.
            return unsafe { (repeats.turn)(self.due(cell), Some(&already)) };
        }
        // The rest was sent: the end of a turn, in which no handler runs any more.
        self.next(hold);
        header(cell).set_vtable((repeats.other)());
        let already = Already {
            count,
            drained: false,
        };
        // SAFETY: as above.
        let turn = || unsafe { (repeats.turn)(self.due(cell), Some(&already)) };
        // A reply that panics as it goes: as a handler's.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(turn)) {
            self.hand_future(false, move || resume_unwind(panic));
        }
        false
    }

    /// What could not be sent at once is written by the operation itself, which goes into the writing direction for that, and keeps the
    /// reading one.
    #[cold]
    fn rest(&self, cell: Ptr, entry: EntryRef, drained: bool, partly: Option<i64>) {
        if drained {
            // SAFETY: the cell is the caller's, and current in its reading direction.
            entry.has_drained(unsafe { tick_of(cell) });
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
                let ran = self.turn_slowly(cell, entry, rest_of(raw));
                debug_assert!(!ran, "it writes");
                return;
            }
        };
        self.went(goes, cell);
    }

    #[inline(always)]
    fn again(&self, cell: Ptr, entry: EntryRef, drained: bool) {
        // SAFETY: it holds its reading direction, and the cell is ours.
        match unsafe { entry.read_again(cell, drained) } {
            Goes::Waits => {}
            goes => self.go_on_at_once(goes, cell),
        }
    }

    /// It has not gone to wait after its turn.
    #[cold]
    fn go_on_at_once(&self, goes: Goes, cell: Ptr) {
        match goes {
            Goes::Waits => {}
            Goes::Due(due) => Local::with(&self.home, |local| match local {
                Some(local) => self.place_finished(due, local),
                None => self.hand(due, Route::Finished),
            }),
            Goes::Over(raw) => self.end_repeating(cell, raw),
        }
    }

    #[cold]
    fn others_write(&self, left: LetGo, entry: EntryRef) {
        self.went_on(left, entry);
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

/// The turn of an operation that is due, with all that follows; whether its handler was called. See `TurnOf`.
///
/// # Safety
///
/// `op` is the operation in the cell of what is due, which is the caller's, and an `Inner` its port.
#[inline(always)]
pub(crate) unsafe fn turn<O: Turns>(
    mut op: NonNull<O>,
    due: Due,
    already: Option<&Already>,
) -> bool {
    let Due { cell, port } = due;
    // SAFETY: `Inner::due` made it of one that is borrowed for this call.
    let inner: &Inner = unsafe { port.cast().as_ref() };
    // SAFETY: what is due was submitted, and is the caller's.
    let Some(entry) = (unsafe { EntryRef::of(cell) }) else {
        return false;
    };
    // SAFETY: it is current in one of its directions.
    let Some(fd) = (unsafe { entry.fd() }) else {
        return inner.turn_slowly(cell, entry, None); // ends it
    };
    let mut came = Came {
        inner,
        cell,
        entry,
        fd,
        already,
        drained: false,
        unread: None,
        partly: None,
    };
    let over = Panicked(inner, cell);
    // SAFETY: the caller's promise; nothing below uses the operation, which may be another thread's then.
    let turn = unsafe { op.as_mut() }.turn(&mut came);
    std::mem::forget(over);
    if mutant("repeat-fixes-each-turn") && !matches!(turn, Turn::Unread) {
        header(cell).set_phase(phase::PENDING);
    }
    let Came {
        drained,
        unread,
        partly,
        ..
    } = came;
    match turn {
        Turn::Again => inner.again(cell, entry, drained),
        Turn::Writes => inner.rest(cell, entry, drained, partly),
        Turn::Over(raw) => inner.end_repeating(cell, raw),
        Turn::Unread => return inner.turn_slowly(cell, entry, unread),
    }
    true
}

impl Came<'_> {
    /// What was read, or written, before this turn, if it was.
    #[inline(always)]
    pub(crate) fn already(&mut self) -> Option<usize> {
        let Already { count, drained } = *self.already?;
        self.drained = drained;
        self.has_come();
        Some(count)
    }

    /// Reads up to `len` bytes, once: how many. If there is nothing to be had so, there is no turn ([`Turn::Unread`]). The address is
    /// believed, as those of requests are: operations are this crate's alone.
    #[inline(always)]
    pub(crate) fn read(&mut self, ptr: *mut u8, len: usize) -> Option<usize> {
        if !is_pending(self.cell) || Shelf::has(self.entry) {
            return None;
        }
        // SAFETY: it is current in its reading direction; for the address see above.
        let raw = unsafe { perform::recv(self.fd, ptr, len) };
        let Ok(count) = usize::try_from(raw) else {
            self.unread = Some(Attempted::failed(raw));
            return None;
        };
        let short = 0 < count && count < len;
        self.drained = short && self.entry.short_drains.load(Ordering::Relaxed);
        self.has_come();
        Some(count)
    }

    #[inline(always)]
    fn has_come(&self) {
        if mutant("repeat-fixes-each-turn") {
            header(self.cell).fix();
        }
    }

    /// Sends at once what it can of so many bytes: how many, or a raw error. If it was not all, the operation [writes](Turn::Writes) the
    /// rest. The address is believed, as a request's is.
    #[inline(always)]
    pub(crate) fn send(&mut self, ptr: *const u8, len: usize) -> i64 {
        if !self.entry.take_to_send() {
            return 0;
        }
        // SAFETY: the direction was taken just now; for the bytes see above.
        let raw = unsafe { perform::send(self.fd, ptr, len) };
        if raw != len as i64 {
            self.partly = Some(raw);
            return raw;
        }
        match self.entry.has_sent() {
            LetGo::Free => {}
            left => self.inner.others_write(left, self.entry),
        }
        raw
    }
}

/// Ends the operation if its handler panics.
struct Panicked<'a>(&'a Inner, Ptr);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.end_repeating(self.1, code::PANICKED);
    }
}
