//! An operation that is awaited: it stays in its cell until its future has had the output, or is gone.
//!
//! So nothing is allocated for it. Two use the cell, whoever finishes the operation and the future; the word of a [`Meeting`] says
//! which of them has what, and who frees it. Protocol: `docs/dispatch-protocols.md`, "A future, and what it gives back".
#![allow(unsafe_code)] // a cell that two use, of whom one frees it

use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::task::Waker;

use super::{Body, OpCell, fits, plain_table, take, write};
use crate::cell::{self, Home, Ptr, Run, VTable, header, phase};
use crate::completion;
use crate::error::Error;
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::{Operation, Returned};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Trace, UnsafeCell, mutant};

/// The states of the word.
mod word {
    /// The future looks at it: it has the waker's place, and nobody need be woken.
    pub(super) const OPEN: u32 = 0;
    /// The waker is there.
    pub(super) const WAITING: u32 = 1;
    /// The finisher takes the waker out.
    pub(super) const WAKING: u32 = 2;
    /// The rest is the future's.
    pub(super) const FINISHED: u32 = 3;
    /// The future is no more: the rest is the finisher's.
    pub(super) const GONE: u32 = 4;
}

/// Where the finisher of an operation meets its future.
struct Meeting {
    word: AtomicU32,
    /// For whoever the word says.
    waker: UnsafeCell<Option<Waker>>,
    /// The operation and its result, as the models see them.
    rest: Trace,
}

/// Whom the finisher found.
enum Met {
    /// The future looks by itself.
    Looking,
    Waiting(Option<Waker>),
    /// Nobody: what is left is the finisher's.
    Nobody,
}

/// What a future saw.
enum Seen {
    Finished,
    /// Its waker will be called, or was.
    Pending,
}

impl Meeting {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(word::OPEN),
            waker: UnsafeCell::new(None),
            rest: Trace::new(),
        }
    }

    /// All of it, and of its cell, is the caller's alone from now on.
    #[inline(always)]
    fn is_ours(&self) {
        self.rest.changed();
        self.waker.with_mut(|_| ());
    }

    /// Has `waker` in its place.
    ///
    /// # Safety
    ///
    /// The word says that the place is the caller's.
    unsafe fn put(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: the caller's promise.
        self.waker.with_mut(|place| unsafe { place.replace(waker) })
    }

    /// The finisher's: the operation's result is fixed. Unless nobody is met, everything but the waker that comes back is the future's
    /// from now on.
    fn finish(&self) -> Met {
        self.rest.changed();
        let mut now = word::OPEN;
        loop {
            // Release, for who takes the output; Acquire, for the waker, or for all that the future did before it went.
            let next = match now {
                word::OPEN => word::FINISHED,
                word::WAITING => word::WAKING,
                _ => return Met::Nobody,
            };
            match self
                .word
                .compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(word::OPEN) => return Met::Looking,
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        let late = mutant("future-finished-first");
        // SAFETY: the word was *waiting*, and now is *waking*.
        let mut waker = (!late).then(|| unsafe { self.put(None) }).flatten();
        // Release, as above. What the future did in its cell it did before it left the waker.
        if self.word.swap(word::FINISHED, Ordering::Release) == word::GONE
            && !mutant("future-gone-unseen")
        {
            return Met::Nobody;
        }
        if late {
            // SAFETY: it is not; that is what the model is to see.
            waker = unsafe { self.put(None) };
        }
        Met::Waiting(waker)
    }

    fn is_finished(&self) -> bool {
        // Relaxed: who takes the output looks by `look`.
        self.word.load(Ordering::Relaxed) == word::FINISHED
    }

    /// The future's: looks, and else leaves `waker`.
    fn look(&self, waker: &Waker) -> Seen {
        // Acquire, for the output. The waker that may be in the place is the future's own.
        let (relaxed, acquire) = (Ordering::Relaxed, Ordering::Acquire);
        let now = match self.word.load(acquire) {
            word::WAITING => {
                let open = |_| word::OPEN;
                self.word
                    .compare_exchange(word::WAITING, word::OPEN, relaxed, acquire)
                    .map_or_else(|now| now, open)
            }
            now => now,
        };
        match now {
            word::OPEN => {}
            word::FINISHED => return Seen::Finished,
            _ => {
                if !mutant("future-taken-unseen") {
                    waker.wake_by_ref(); // In the very moment in which the finisher takes the last one.
                }
                return Seen::Pending;
            }
        }
        // SAFETY: the word is *open*.
        let known = unsafe { self.put(None) };
        let (stays, goes) = match known {
            Some(known) if known.will_wake(waker) || mutant("future-keeps-its-waker") => {
                (known, None)
            }
            known => (waker.clone(), known),
        };
        // SAFETY: as above.
        unsafe { self.put(Some(stays)) };
        // Release, for the waker; Acquire, for the output.
        let left = self.word.compare_exchange(
            word::OPEN,
            word::WAITING,
            Ordering::Release,
            Ordering::Acquire,
        );
        drop(goes); // A waker's drop may do anything.
        match left {
            Ok(_) => Seen::Pending,
            Err(_) if mutant("future-looks-once") => Seen::Pending,
            Err(_) => Seen::Finished,
        }
    }

    /// The future's, at its end: whether it is finished, so that what is left is the future's; else it is the finisher's from now on.
    /// The waker comes back.
    fn leave(&self) -> (bool, Option<Waker>) {
        let relaxed = Ordering::Relaxed;
        let waiting = self
            .word
            .compare_exchange(word::WAITING, word::OPEN, relaxed, relaxed);
        let waker = match waiting {
            // SAFETY: the word was *waiting*, and is *open*.
            Ok(_) => unsafe { self.put(None) },
            Err(_) => None,
        };
        // Release, for who gives back what the future has left; Acquire, for the output.
        let finished = self.word.swap(word::GONE, Ordering::AcqRel) == word::FINISHED;
        (finished, waker)
    }
}

/// An operation and its meeting, in a cell.
#[repr(C)]
struct Awaited<P> {
    meeting: Meeting,
    op: P,
}

/// An operation that fits in a cell, or is boxed: the meeting is always in the cell itself.
trait Placed: Send + 'static {
    type Op: Operation;
    fn op(&mut self) -> &mut Self::Op;
    fn into_op(self) -> Self::Op;
}

struct Whole<O>(O);
struct Apart<O>(Box<O>);

impl<O: Operation> Placed for Whole<O> {
    type Op = O;
    fn op(&mut self) -> &mut O {
        &mut self.0
    }
    fn into_op(self) -> O {
        self.0
    }
}

impl<O: Operation> Placed for Apart<O> {
    type Op = O;
    fn op(&mut self) -> &mut O {
        &mut self.0
    }
    fn into_op(self) -> O {
        *self.0
    }
}

// SAFETY: the place of the waker is touched by whoever the word says, and a waker is `Send` and `Sync`.
unsafe impl Send for Meeting {}
// SAFETY: as above.
unsafe impl Sync for Meeting {}

impl<P: Placed> Body for Awaited<P> {
    type Op = P::Op;
    fn op(&mut self) -> &mut P::Op {
        self.op.op()
    }
    /// Beside a future that uses the meeting.
    #[inline(always)]
    unsafe fn op_at<'a>(place: *mut Self) -> &'a mut P::Op {
        let op = place.wrapping_byte_add(offset_of!(Self, op)).cast::<P>();
        // SAFETY: the caller's promise.
        unsafe { &mut *op }.op()
    }
}

/// Whether an operation keeps its direction, until its output is taken or given back: what has taken does. What repeats has nothing to give
/// back, and lets go as it ends.
const fn keeps<O: Operation>() -> bool {
    O::KIND.takes() && !O::REPEATS
}

/// Whether its direction is let go as its output is taken or given back.
fn lets_go<O: Operation>() -> bool {
    keeps::<O>() || (O::REPEATS && mutant("repeated-lets-go-twice"))
}

/// `writes`: of one that repeats, and is to write now.
const fn table<P: Placed>(writes: bool) -> VTable {
    let other: fn() -> &'static VTable = match writes {
        false => || &const { table::<P>(true) },
        true => || &const { table::<P>(false) },
    };
    VTable {
        holds: keeps::<P::Op>(),
        // Unless somebody is to be told.
        at_once: Some(|cell| {
            header(cell).phase() == phase::DONE
                // SAFETY: the table is that of an `Awaited<P>`, which stays while its completion is somebody's.
                && unsafe { meeting::<P>(cell) }.word.load(Ordering::Relaxed) != word::WAITING
        }),
        // Who is dropped uncalled is finished all the same: a future gets what there is.
        ..plain_table::<Awaited<P>>(finish::<P>, discard::<P>, writes, other)
    }
}

/// # Safety
///
/// `cell` holds an `Awaited<P>`, which does not go before the caller has used the meeting for the last time.
unsafe fn meeting<'a, P: Placed>(cell: Ptr) -> &'a Meeting {
    let meeting = cell::place::<Meeting>(cell, offset_of!(OpCell<Awaited<P>>, body));
    // SAFETY: the body begins with it (`repr(C)`), and is there, says the caller; all of a meeting may change under a reference.
    unsafe { &*meeting }
}

/// # Safety
///
/// `cell` holds an `Awaited<P>`, and is the caller's, with its result fixed.
unsafe fn finish<P: Placed>(cell: Ptr, home: &Home) {
    // SAFETY: the caller's promise; it is not used after `finish`.
    match unsafe { meeting::<P>(cell) }.finish() {
        Met::Looking => {}
        Met::Waiting(waker) => {
            if let Some(waker) = waker.filter(|_| !mutant("future-not-woken")) {
                Local::wake_last(waker);
            }
        }
        // SAFETY: there is no future, so the cell is ours alone.
        Met::Nobody => unsafe { give_back::<P>(cell, home) },
    }
}

/// # Safety
///
/// As [`finish`].
unsafe fn discard<P: Placed>(cell: Ptr, home: &Home) {
    if !mutant("dropped-future-is-lost") {
        // SAFETY: handed on to the caller.
        unsafe { finish::<P>(cell, home) };
    }
}

/// An operation by name: what is let go when its cell is free.
#[derive(Clone, Copy)]
struct Name {
    cell: Ptr,
    generation: u32,
    object: ObjectId,
}

impl Name {
    fn of(cell: Ptr) -> Self {
        Self {
            cell,
            generation: header(cell).generation(),
            object: ObjectId::from_bits(header(cell).data()),
        }
    }

    /// The direction goes on, with what goes back there.
    fn let_go(self, home: &Home, returned: Option<Returned>) {
        completion::with_port(home, |port| {
            if let Some(port) = port {
                port.give_back(self.cell, self.generation, self.object, returned);
            }
        });
    }
}

/// Takes the operation out, and frees the cell.
///
/// # Safety
///
/// As [`give_back`].
unsafe fn take_op<P: Placed>(cell: Ptr, home: &Home) -> Finished<P::Op> {
    // SAFETY: the caller's promise.
    unsafe { meeting::<P>(cell) }.is_ours();
    // SAFETY: the caller's promise.
    let (body, result) = unsafe { take::<Awaited<P>>(cell, home) };
    (body.op.into_op(), result)
}

/// Nobody wants the output: what was taken goes back, and the direction goes on.
///
/// # Safety
///
/// `cell` holds an `Awaited<P>`, and is the caller's alone, with its result fixed.
unsafe fn give_back<P: Placed>(cell: Ptr, home: &Home) {
    let name = Name::of(cell);
    // SAFETY: the caller's promise.
    let (op, result) = unsafe { take_op::<P>(cell, home) };
    let mut held = Held {
        name,
        home,
        returned: None,
        holds: lets_go::<P::Op>(),
    };
    let returned = op.give_back(result);
    held.returned = returned.filter(|_| !mutant("future-gives-nothing-back"));
}

/// Lets the direction go when it is dropped, with what goes back: also if a buffer of the user's panics as it is taken apart.
struct Held<'a> {
    name: Name,
    home: &'a Home,
    returned: Option<Returned>,
    holds: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.holds {
            self.name.let_go(self.home, self.returned.take());
        }
    }
}

/// A finished operation, with its result.
type Finished<O> = (O, Result<usize, Error>);

/// A future's side of its operation.
pub(crate) struct Awaiting<O: Operation> {
    cell: Shared,
    /// Keeps the cell's memory; the port may go.
    home: Arc<Home>,
    op: PhantomData<fn(O) -> O>,
}

/// A cell that is shared with the finisher. Whether the future is `Send` then asks nothing of its operation: within a spawned future the
/// compiler forgets that a buffer's lifetime is `'static`, and could not prove it an operation.
#[derive(Clone, Copy)]
struct Shared(Ptr);

// SAFETY: it is shared by the meeting's word; the operation in it is `Send`.
unsafe impl Send for Shared {}

impl<O: Operation> Awaiting<O> {
    const WHOLE: bool = fits::<Awaited<Whole<O>>>();
    const MEETING: unsafe fn(Ptr) -> &'static Meeting = match Self::WHOLE {
        true => meeting::<Whole<O>>,
        false => meeting::<Apart<O>>,
    };
    const TAKE: unsafe fn(Ptr, &Home) -> Finished<O> = match Self::WHOLE {
        true => take_op::<Whole<O>>,
        false => take_op::<Apart<O>>,
    };
    const GIVE_BACK: Run = match Self::WHOLE {
        true => give_back::<Whole<O>>,
        false => give_back::<Apart<O>>,
    };

    /// A cell for `op`, as [`place`](super::place) makes it, to be submitted, and its future's side.
    pub(crate) fn place(home: Arc<Home>, object: ObjectId, key: u64, op: O) -> (Ptr, Self) {
        let meeting = Meeting::new();
        let cell = if Self::WHOLE {
            let op = Whole(op);
            let table = const { &table::<Whole<O>>(false) };
            write(&home, object, key, Awaited { meeting, op }, table)
        } else {
            let op = Apart(Box::new(op));
            let table = const { &table::<Apart<O>>(false) };
            write(&home, object, key, Awaited { meeting, op }, table)
        };
        let op = PhantomData;
        let shared = Shared(cell);
        (
            cell,
            Self {
                cell: shared,
                home,
                op,
            },
        )
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    fn meeting(&self) -> &Meeting {
        // SAFETY: `place` wrote it; it goes with `self`, or later.
        unsafe { Self::MEETING(self.cell.0) }
    }

    /// Whether the output is there.
    pub(crate) fn is_finished(&self) -> bool {
        self.meeting().is_finished()
    }

    /// Takes the output out, if it is there, and lets the direction go; if not, `waker` is called when it is.
    pub(crate) fn poll(self, waker: &Waker) -> Result<Finished<O>, Self> {
        match self.meeting().look(waker) {
            Seen::Pending => Err(self),
            Seen::Finished => Ok(self.take()),
        }
    }

    /// Of what is finished.
    fn take(self) -> Finished<O> {
        let (cell, name) = (self.cell.0, Name::of(self.cell.0));
        // SAFETY: `self` is not dropped, so this is the one that counts.
        let home = unsafe { std::ptr::read(&raw const self.home) };
        // SAFETY: it is finished, so the place is the future's. It is empty, unless the last poll has seen it finish.
        let waker = unsafe { self.meeting().put(None) };
        mem::forget(self);
        // SAFETY: it is finished, so the cell is the future's alone; `place` wrote it as this.
        let (op, result) = unsafe { Self::TAKE(cell, &home) };
        if lets_go::<O>() {
            name.let_go(&home, None);
        }
        drop(waker); // Which may do anything.
        (op, result)
    }
}

impl<O: Operation> Drop for Awaiting<O> {
    /// The future is dropped: what is finished goes back, and what is not is asked to end.
    fn drop(&mut self) {
        let (cell, name) = (self.cell.0, Name::of(self.cell.0));
        let (finished, waker) = self.meeting().leave();
        if finished {
            // SAFETY: the cell is the future's alone; `place` wrote it as this.
            unsafe { Self::GIVE_BACK(cell, &self.home) };
        } else {
            completion::with_port(&self.home, |port| {
                if let Some(port) = port {
                    port.ask_to_end(name.cell, name.generation);
                }
            });
        }
        drop(waker); // Which may do anything.
    }
}
