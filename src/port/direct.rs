//! Attempts: as an operation is begun, and when it is due; the short way, and with the backend (`backend/direct.rs` says what is
//! short about it).
#![allow(unsafe_code)] // cells are attempted and finished by whoever owns them

use super::dispatcher::{Origin, Worker};
use super::{Inner, Route};
use crate::backend::Outcome;
use crate::backend::direct::{self, Begun, LetGo};
use crate::backend::registry::{EntryRef, Way};
use crate::cell::{Ptr, header, phase};
use crate::completion::{self, Completion};
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::{self, Attempted, Returned};
use crate::sync::mutant;

impl Inner {
    /// As `submit`, of an operation that nobody can have asked to end: the short way, if its direction is free.
    pub(crate) fn begin(&self, cell: Ptr, entry: EntryRef) {
        let table = header(cell).vtable();
        let way = direct::way(table);
        // SAFETY: the caller's cell, of an operation on that entry.
        match table.plain.then(|| unsafe { entry.begin(cell, way) }) {
            None | Some(Begun::Undecided) => self.submit(cell, entry),
            Some(Begun::Waits) => {}
            // SAFETY: it was taken up, and its result is open.
            Some(Begun::TakenUp) => match unsafe { attempt_current(cell, entry, way) } {
                Ok((done, drained)) => {
                    self.hand_finished(done);
                    self.let_go_of(entry, way, drained);
                }
                Err(attempted) => self.carry_on(cell, entry, attempted),
            },
        }
    }

    #[cold]
    fn carry_on(&self, cell: Ptr, entry: EntryRef, attempted: Option<Attempted>) {
        let Outcome { done, hold } = self.backend.carry_on(cell, entry, attempted);
        if let Some(done) = done {
            self.complete(done, hold);
        }
    }

    /// Lets a direction go, and sends the operation that is due then.
    #[inline]
    fn let_go_of(&self, entry: EntryRef, way: Way, drained: Option<u32>) {
        self.went_on(entry.let_go(way, drained), entry);
    }

    /// A direction was let go.
    #[inline]
    pub(super) fn went_on(&self, left: LetGo, entry: EntryRef) {
        match left {
            LetGo::Free => {}
            LetGo::Due(due) => self.hand(due, Route::Posted),
            LetGo::Closed => self.backend.give_up(entry),
        }
    }

    /// Gives a plain operation that was finished as it was begun to the strategy, or does with it what the strategy always does.
    #[inline]
    fn hand_finished(&self, done: Completion) {
        Local::with(&self.home, |local| match local {
            Some(local) => self.place_finished(done, local),
            None => self.place(done, Origin::Outside),
        });
    }

    /// As `place`, of what follows from a handler of that worker.
    #[inline]
    pub(crate) fn place_finished(&self, done: Completion, local: &Local) {
        if self.finishes_in_turn {
            local.turn.push_back(done);
        } else {
            self.place(done, Origin::Finished(Worker::new(local)));
        }
    }

    /// Attempts an operation that is due the short way; or says what became of the attempt.
    #[inline(always)]
    fn attempt_directly(
        &self,
        cell: Ptr,
        entry: EntryRef,
    ) -> Result<Completion, Option<Attempted>> {
        let way = direct::way(header(cell).vtable());
        // SAFETY: what is due is current, and its result is open.
        let (done, drained) = unsafe { attempt_current(cell, entry, way) }?;
        self.lift_limit(&done);
        self.let_go_of(entry, way, drained);
        Ok(done)
    }

    #[cold]
    fn attempt_fully(
        &self,
        cell: Ptr,
        entry: Option<EntryRef>,
        attempted: Option<Attempted>,
    ) -> Option<Completion> {
        let Outcome { done, hold } = match entry {
            Some(entry) => self.backend.carry_on(cell, entry, attempted),
            None => self.backend.attempt(cell),
        };
        if mutant("next-before-joined") {
            self.next(hold);
            return done.and_then(|done| operation::admit(done).done());
        }
        let mut had = None;
        let done = done.and_then(|done| {
            self.lift_limit(&done);
            had = self.had(&done);
            operation::admit(done).done()
        });
        self.next(hold);
        self.let_have(had);
        done
    }
}

/// Attempts a plain operation. Finished, it comes with the tick of its direction at which nothing was left behind, if it is known to be
/// so; the direction is still held.
///
/// # Safety
///
/// `cell` is current in `way` of `entry`, and its result is open.
#[inline(always)]
unsafe fn attempt_current(
    cell: Ptr,
    entry: EntryRef,
    way: Way,
) -> Result<(Completion, Option<u32>), Option<Attempted>> {
    // SAFETY: the caller's promise.
    let (raw, drained) = unsafe { entry.attempt(cell, way, header(cell).vtable()) }?;
    // SAFETY: the caller's promise.
    let tick = drained.then(|| unsafe { direct::tick_of(cell) });
    // SAFETY: the caller's promise; who made it current owns it.
    Ok((unsafe { operation::complete(cell, raw) }, tick))
}

impl completion::Attempt for Inner {
    #[inline]
    fn attempt(&self, cell: Ptr) -> Option<Completion> {
        // SAFETY: what is due was submitted, and is the caller's.
        let entry = unsafe { EntryRef::of(cell) }.filter(|_| direct::is_plain(cell));
        let attempted = match entry {
            Some(entry) => match self.attempt_directly(cell, entry) {
                Ok(done) => return Some(done),
                Err(attempted) => attempted,
            },
            None => None,
        };
        self.attempt_fully(cell, entry, attempted)
    }

    fn go_on(&self, cell: Ptr) -> Option<bool> {
        let repeats = header(cell).vtable().repeats.as_ref()?;
        Some(self.have_turn(cell, repeats))
    }

    fn settled(&self) {
        self.tell_all();
    }

    fn pause(&self, local: &Local) -> bool {
        self.share(local);
        let permitted = self.permits.give_back_of(local);
        if permitted && !mutant("section-tells-nobody") {
            self.wake_for_rest();
        }
        permitted
    }

    fn resume(&self, local: &Local) {
        if !mutant("section-takes-none") {
            self.permits.take_for(local);
        }
    }

    fn ask_to_end(&self, cell: Ptr, generation: u32) {
        self.cancel(cell, generation, phase::CANCEL);
    }

    fn give_back(&self, cell: Ptr, generation: u32, object: ObjectId, returned: Option<Returned>) {
        if let Some(due) = self.backend.give_back(cell, generation, object, returned) {
            self.hand(due, Route::Posted);
        }
    }
}
