//! What is to be done, and how a raw result becomes an output.
//!
//! An operation is a description. It owns its buffers; [`request`](Operation::request) says what the backend is to
//! do now, in terms of descriptors and addresses that stay where they are, [`advance`](Operation::advance) takes in how
//! much was done and says whether more is wanted, and [`finish`](Operation::finish) makes the output. A readiness backend
//! does the system call itself; a completion backend hands the request to the kernel; a model plays both.
#![allow(unsafe_code)] // erased cells

mod awaited;
mod erased;
mod key;
#[cfg_attr(proactor_loom, path = "scripted.rs")]
pub(crate) mod perform;
mod request;
mod result;

use std::alloc::Layout;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::cell::{self, Class, Header, Home, Ptr, VTable, header, phase};
use crate::completion::Room;
use crate::error::Error;
use crate::id::{Kind, ObjectId};
use crate::local::Local;
use crate::queue::Line;
use crate::sync::mutant;
pub(crate) use awaited::Awaiting;
use erased::{op_of, plain_table, table_of, take};
pub use key::OperationKey;
pub(crate) use request::{Attempted, wanted};
pub use request::{Call, Envelope, Parts, Request, Returned};
pub(crate) use result::{
    Admitted, admit, asking, cancelled, code, complete, complete_or_cancel, complete_turn, decode,
    taken,
};

/// Keeps [`Operation`] to this crate: a request's addresses are believed.
pub(crate) mod sealed {
    /// Implemented by this crate's operations alone.
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed {}
}

/// Something that the port can do. Sealed: the kinds are this crate's.
pub trait Operation: sealed::Sealed + Send + 'static {
    /// What its handler, future or wait receives.
    type Output: Send + 'static;
    /// What it is called in errors and completions.
    const KIND: Kind;
    /// Whether it may read beyond its end, so that there is a [`surplus`](Self::surplus).
    const READS_ON: bool = false;
    /// How it has a turn, if it is one that repeats: it reads, and is begun again in its cell, until a turn says that it is over. Whoever
    /// makes turns, above, gives this, so that all of a turn is compiled as one.
    const TURN: Option<TurnOf<Self>> = None;
    /// Whether it is one that repeats.
    const REPEATS: bool = Self::TURN.is_some();
    /// What the backend is to do now. Called with the operation where it stays.
    fn request(&mut self) -> Request;
    /// Takes in `n` bytes; true if more is wanted before it is finished.
    fn advance(&mut self, n: usize) -> bool {
        let _ = n;
        false
    }
    /// What it read beyond its end, once. Asked when `advance` wants no more.
    fn surplus(&mut self) -> Option<Returned> {
        None
    }
    /// Makes the output: of the last `advance`'s number, or of what went wrong.
    fn finish(self, result: Result<usize, Error>) -> Self::Output;
    /// The operation was finished and nobody wants its output.
    fn discard(self, result: Result<usize, Error>)
    where
        Self: Sized,
    {
        drop(self.finish(result));
    }
    /// As [`discard`](Self::discard); what it took from a reading direction goes back there.
    fn give_back(self, result: Result<usize, Error>) -> Option<Returned>
    where
        Self: Sized,
    {
        self.discard(result);
        None
    }
}

/// Has an operation have its turn, and goes on with what follows from it; whether its handler was called. The operation stands in the
/// cell of what is [`Due`].
pub type TurnOf<O> = unsafe fn(NonNull<O>, Due, Option<&Already>) -> bool;

/// An operation that is due, and its port, which whoever makes turns knows by address.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub(crate) cell: Ptr,
    pub(crate) port: NonNull<()>,
}

/// What was done for a turn before it: how many bytes were read, or written, and whether the read left nothing behind.
#[derive(Clone, Copy, Debug)]
pub struct Already {
    pub(crate) count: usize,
    pub(crate) drained: bool,
}

/// The second part of every operation's cell.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Part {
    /// The result; until then, whether the operation ends whatever its direction's state.
    raw: Cell<i64>,
    key: u64,
    /// The timer that limits it, if there is one.
    limit: Cell<Option<Ptr>>,
    limit_generation: Cell<u32>,
    /// The direction's tick when the attempt was begun; the backend's.
    pub(crate) tick: Cell<u32>,
    /// Where the backend keeps the object; the backend's.
    pub(crate) entry: Cell<*const ()>,
}

impl Part {
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Whether it ends at once: because it is about no bytes, or because it waits for nothing. Of an operation whose result is open.
    #[inline]
    pub(crate) fn ends_at_once(&self) -> bool {
        self.raw.get() != 0
    }

    pub(crate) fn set_raw(&self, raw: i64) {
        self.raw.set(raw);
    }

    /// The result of a turn; the operation's own is open.
    pub(crate) fn take_raw(&self) -> i64 {
        self.raw.replace(0)
    }

    pub(crate) fn set_limit(&self, limit: Ptr, generation: u32) {
        self.limit_generation.set(generation);
        self.limit.set(Some(limit));
    }

    /// The limit's cell and generation, once.
    #[inline]
    pub(crate) fn take_limit(&self) -> Option<(Ptr, u32)> {
        self.limit
            .take()
            .map(|limit| (limit, self.limit_generation.get()))
    }
}

/// The part of an operation's cell.
///
/// # Safety
///
/// `cell` holds an operation and is the caller's.
#[inline]
pub(crate) unsafe fn part<'a>(cell: Ptr) -> &'a Part {
    // SAFETY: every operation's cell begins with a header and a part (`repr(C)`), and the caller owns it.
    unsafe { &(*cell.as_ptr().cast::<Prefix>()).part }
}

#[repr(C)]
struct Prefix {
    header: Header,
    part: Part,
}

#[repr(C)]
struct OpCell<S> {
    prefix: Prefix,
    body: S,
}

/// An operation, and whatever else stands in its cell.
pub(crate) trait Body: Send + 'static {
    type Op: Operation;
    fn op(&mut self) -> &mut Self::Op;
    /// As `op`, with no reference to the rest of it, which another thread may be using.
    ///
    /// # Safety
    ///
    /// A body stands at `place`, and its operation is the caller's for as long as the borrow lasts.
    #[inline(always)]
    unsafe fn op_at<'a>(place: *mut Self) -> &'a mut Self::Op
    where
        Self: Sized + 'a,
    {
        // SAFETY: the caller's promise; nobody else uses any of it.
        unsafe { &mut *place }.op()
    }
}

/// An operation and what becomes of its output, where they fit in a cell or in a box.
pub(crate) trait Ends: Body {
    /// Whether whoever finishes the operation is to run it, at once, since it calls no handler.
    const AT_ONCE: bool = false;
    /// See [`Handler::LINED`].
    const LINED: bool = false;
    /// See [`Handler::line`].
    fn line(&mut self) -> Option<NonNull<Line>> {
        None
    }
    /// Where in it its waker is, if it has that and nothing else. Whoever owns the cell may change the waker, and makes no reference to the
    /// rest, which others have by pointers. Such a body fits in a cell.
    const WAKER: Option<usize> = None;
    fn run(self, result: Result<usize, Error>);
    fn discard(self, result: Result<usize, Error>);
    /// Moves it out of its place, calls `free`, which gives the place away, and runs it.
    ///
    /// # Safety
    ///
    /// A body stands at `place`, and is not used again.
    #[inline(always)]
    unsafe fn run_from(place: *mut Self, raw: i64, free: impl FnOnce())
    where
        Self: Sized,
    {
        // SAFETY: the caller's promise.
        let body = unsafe { place.read() };
        free();
        body.run(decode(raw, Self::Op::KIND));
    }
}

/// What is done with an output: a closure, or one that is bound to a strand.
pub(crate) trait Handler<T>: Send + 'static {
    /// Whether there may be a line to pass.
    const LINED: bool = false;
    fn call(self, output: T);
    /// The line that the finished operation has to pass before `call`. Told once; whoever asks joins it.
    fn line(&mut self) -> Option<NonNull<Line>> {
        None
    }
}

impl<T, F: FnOnce(T) + Send + 'static> Handler<T> for F {
    #[inline(always)]
    fn call(self, output: T) {
        self(output);
    }
}

/// `KEEP`: somebody waits for the output, and has it also when the port drops the operation.
struct Inline<O, H, const KEEP: bool> {
    op: O,
    handler: H,
}

impl<O, H, const KEEP: bool> Body for Inline<O, H, KEEP>
where
    O: Operation,
    H: Handler<O::Output>,
{
    type Op = O;
    #[inline]
    fn op(&mut self) -> &mut O {
        &mut self.op
    }
}

impl<O, H, const KEEP: bool> Ends for Inline<O, H, KEEP>
where
    O: Operation,
    H: Handler<O::Output>,
{
    const LINED: bool = H::LINED;
    fn line(&mut self) -> Option<NonNull<Line>> {
        self.handler.line()
    }
    fn run(self, result: Result<usize, Error>) {
        self.handler.call(self.op.finish(result));
    }
    /// Each part by itself, so that none is copied twice.
    #[inline(always)]
    unsafe fn run_from(place: *mut Self, raw: i64, free: impl FnOnce()) {
        let op = place.wrapping_byte_add(offset_of!(Self, op)).cast::<O>();
        let handler = place
            .wrapping_byte_add(offset_of!(Self, handler))
            .cast::<H>();
        // SAFETY: the caller's promise.
        let op = unsafe { op.read() };
        // SAFETY: the caller's promise.
        let handler = unsafe { handler.read() };
        free();
        handler.call(op.finish(decode(raw, O::KIND)));
    }
    #[cold]
    fn discard(self, result: Result<usize, Error>) {
        if KEEP && !mutant("dropped-output-is-lost") {
            self.run(result);
        } else {
            self.op.discard(result);
        }
    }
}

/// An operation that a thread waits for that may not run handlers: `fill` only leaves the output where that thread finds it.
pub(crate) struct Waited<O, F> {
    pub(crate) op: O,
    pub(crate) fill: F,
}

impl<O: Operation, F: FnOnce(O::Output) + Send + 'static> Body for Waited<O, F> {
    type Op = O;
    fn op(&mut self) -> &mut O {
        &mut self.op
    }
}

impl<O: Operation, F: FnOnce(O::Output) + Send + 'static> Ends for Waited<O, F> {
    const AT_ONCE: bool = true;
    fn run(self, result: Result<usize, Error>) {
        // A buffer of the user's that panics as the output is made: whoever waits for it is told.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.fill)(self.op.finish(result))));
    }
    fn discard(self, result: Result<usize, Error>) {
        self.run(result);
    }
}

impl<B: Body> Body for Box<B> {
    type Op = B::Op;
    fn op(&mut self) -> &mut B::Op {
        (**self).op()
    }
}

impl<B: Ends> Ends for Box<B> {
    const AT_ONCE: bool = B::AT_ONCE;
    const LINED: bool = B::LINED;
    fn line(&mut self) -> Option<NonNull<Line>> {
        (**self).line()
    }
    fn run(self, result: Result<usize, Error>) {
        (*self).run(result);
    }
    fn discard(self, result: Result<usize, Error>) {
        (*self).discard(result);
    }
}

/// A cell for `op` and its handler, pending, entered in the books, not yet submitted. The handler of an operation that the
/// port drops is dropped uncalled, unless it is to `KEEP` the output: then it is called all the same. `counted` says that it
/// takes up room (`crate::pressure`).
#[inline]
pub(crate) fn place<const KEEP: bool, O, H>(
    home: &Home,
    object: ObjectId,
    key: u64,
    op: O,
    handler: H,
    counted: bool,
) -> Ptr
where
    O: Operation,
    H: Handler<O::Output>,
{
    let body = Inline::<O, H, KEEP> { op, handler };
    place_body(home, object, key, body, counted)
}

/// As [`place`], for an operation that has something else than a handler.
#[inline]
pub(crate) fn place_body<S: Ends>(
    home: &Home,
    object: ObjectId,
    key: u64,
    body: S,
    counted: bool,
) -> Ptr {
    const { assert!(fits::<S>() || S::WAKER.is_none(), "it has no cell") };
    if const { fits::<S>() } {
        write(home, object, key, body, table_of::<S>(counted))
    } else {
        let body = Box::new(body);
        write(home, object, key, body, table_of::<Box<S>>(counted))
    }
}

/// Whether there is a cell for it.
const fn fits<S>() -> bool {
    Class::of(Layout::new::<OpCell<S>>()).is_some()
}

/// `table` is the body's.
#[inline]
fn write<S: Body>(home: &Home, object: ObjectId, key: u64, body: S, table: &'static VTable) -> Ptr {
    let cell = home.alloc(table.class, table, phase::PENDING, object.bits());
    let part = Part {
        raw: Cell::new(0),
        key,
        limit: Cell::new(None),
        limit_generation: Cell::new(0),
        tick: Cell::new(0),
        entry: Cell::new(std::ptr::null()),
    };
    // SAFETY: the class has room for an `OpCell<S>`, and nobody else has the cell.
    unsafe { cell::place::<Part>(cell, offset_of!(Prefix, part)).write(part) };
    // SAFETY: as above.
    unsafe { cell::place::<S>(cell, offset_of!(OpCell<S>, body)).write(body) };
    let placing = Placing::<S> {
        cell,
        home,
        body: PhantomData,
    };
    // SAFETY: it was written just now, and stays.
    if ends_at_once(&unsafe { op_of::<S>(cell) }.request()) {
        // SAFETY: as above.
        unsafe { self::part(cell) }.set_raw(1);
    }
    mem::forget(placing);
    Local::created(home);
    cell
}

/// A cell that is nobody's yet: dropped with what stands in it, if a buffer of the user's panics as it is asked how much it is about.
struct Placing<'a, S: Body> {
    cell: Ptr,
    home: &'a Home,
    body: PhantomData<S>,
}

impl<S: Body> Drop for Placing<'_, S> {
    fn drop(&mut self) {
        let _room = header(self.cell).vtable().counted.then(|| Room(self.home));
        // SAFETY: `write` wrote the body, and has given the cell to nobody.
        drop(unsafe { take::<S>(self.cell, self.home) });
    }
}

/// Whether an operation that begins with this ends whatever its direction's state.
#[inline]
pub(crate) fn ends_at_once(request: &Request) -> bool {
    match request {
        Request::Shutdown(_) | Request::Ready { now: true } => true,
        Request::Read { len, .. } | Request::Write { len, .. } => *len == 0,
        Request::ReadVectored(parts) | Request::WriteVectored(parts) => {
            let (mut parts, mut nothing) = (*parts, true);
            // SAFETY: the parts stand in the operation that made the request, which the caller owns.
            unsafe { parts.as_mut() }.each(&mut |_, len| nothing &= len == 0);
            nothing
        }
        _ => false,
    }
}
