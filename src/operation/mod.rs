//! What is to be done, and how a raw result becomes an output.
//!
//! An operation is a description. It owns its buffers; [`request`](Operation::request) says what the backend is to
//! do now, in terms of descriptors and addresses that stay where they are, [`advance`](Operation::advance) takes in how
//! much was done and says whether more is wanted, and [`finish`](Operation::finish) makes the output. A readiness backend
//! does the system call itself; a completion backend hands the request to the kernel; a model plays both.
#![allow(unsafe_code)] // erased cells

mod key;
mod request;

use std::alloc::Layout;
use std::cell::Cell;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::task::Waker;

use crate::cell::{self, Class, Header, Home, Ptr, VTable, header, phase};
use crate::completion::Completion;
use crate::error::{Error, ErrorKind};
use crate::id::{Kind, ObjectId};
use crate::local::Local;
use crate::queue::Line;
use crate::sync::mutant;
pub use key::OperationKey;
pub use request::{Call, Parts, Request, Returned};

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

/// The raw results that are not the kernel's: beyond any `errno`.
pub(crate) mod code {
    pub(crate) const CANCELLED: i64 = -(1 << 20);
    pub(crate) const TIMED_OUT: i64 = CANCELLED - 1;
    pub(crate) const CLOSED: i64 = CANCELLED - 2;
    pub(crate) const EOF: i64 = CANCELLED - 3;
    pub(crate) const WRITE_ZERO: i64 = CANCELLED - 4;
    pub(crate) const WOULD_DEADLOCK: i64 = CANCELLED - 5;
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
        raw => return Error::os(kind, i32::try_from(-raw).unwrap_or(0)),
    };
    Error::new(what, kind)
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

/// An operation and what becomes of its output, where they fit in a cell or in a box.
pub(crate) trait Body: Send + 'static {
    type Op: Operation;
    /// Whether the operation's direction stays held beyond its end: whoever gets the body lets it go.
    const HOLDS: bool = false;
    /// Whether whoever finishes the operation is to run it, at once, since it calls no handler.
    const AT_ONCE: bool = false;
    fn op(&mut self) -> &mut Self::Op;
    /// See [`Handler::LINED`].
    const LINED: bool = false;
    /// See [`Handler::line`].
    fn line(&mut self) -> Option<NonNull<Line>> {
        None
    }
    /// Whether it has a waker, and nothing else.
    const WAKES: bool = false;
    /// Its waker, which whoever owns the cell may change.
    fn waker(&mut self) -> Option<&mut Waker> {
        None
    }
    fn run(self, result: Result<usize, Error>);
    fn discard(self, result: Result<usize, Error>);
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
    const LINED: bool = H::LINED;
    #[inline]
    fn op(&mut self) -> &mut O {
        &mut self.op
    }
    fn line(&mut self) -> Option<NonNull<Line>> {
        self.handler.line()
    }
    fn run(self, result: Result<usize, Error>) {
        self.handler.call(self.op.finish(result));
    }
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
    const AT_ONCE: bool = true;
    fn op(&mut self) -> &mut O {
        &mut self.op
    }
    fn run(self, result: Result<usize, Error>) {
        (self.fill)(self.op.finish(result));
    }
    fn discard(self, result: Result<usize, Error>) {
        self.run(result);
    }
}

impl<B: Body> Body for Box<B> {
    type Op = B::Op;
    const HOLDS: bool = B::HOLDS;
    const AT_ONCE: bool = B::AT_ONCE;
    const LINED: bool = B::LINED;
    fn op(&mut self) -> &mut B::Op {
        (**self).op()
    }
    fn line(&mut self) -> Option<NonNull<Line>> {
        (**self).line()
    }
    const WAKES: bool = B::WAKES;
    fn waker(&mut self) -> Option<&mut Waker> {
        (**self).waker()
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
pub(crate) fn place_body<S: Body>(
    home: &Home,
    object: ObjectId,
    key: u64,
    body: S,
    counted: bool,
) -> Ptr {
    if const { Class::of(Layout::new::<OpCell<S>>()).is_some() } {
        write(home, object, key, body, counted)
    } else {
        write(home, object, key, Box::new(body), counted)
    }
}

#[inline]
fn write<S: Body>(home: &Home, object: ObjectId, key: u64, body: S, counted: bool) -> Ptr {
    let table = match counted {
        true => &const { table::<S>(true) },
        false => &const { table::<S>(false) },
    };
    let cell = home.alloc(table.class, table, phase::PENDING, object.bits());
    let part = Part {
        raw: Cell::new(0),
        key,
        limit: Cell::new(None),
        limit_generation: Cell::new(0),
        tick: Cell::new(0),
    };
    // SAFETY: the class has room for an `OpCell<S>`, and nobody else has the cell.
    unsafe { cell::place::<Part>(cell, offset_of!(Prefix, part)).write(part) };
    // SAFETY: as above.
    unsafe { cell::place::<S>(cell, offset_of!(OpCell<S>, body)).write(body) };
    // SAFETY: it was written just now, and stays.
    if ends_at_once(&unsafe { self::body::<S>(cell) }.op().request()) {
        // SAFETY: as above.
        unsafe { self::part(cell) }.set_raw(1);
    }
    Local::created(home);
    cell
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

const fn table<S: Body>(counted: bool) -> VTable {
    VTable {
        kind: S::Op::KIND,
        reads: matches!(S::Op::KIND, Kind::Read | Kind::Accept),
        class: match Class::of(Layout::new::<OpCell<S>>()) {
            Some(class) => class,
            // Never written: `place` boxes such a body. Evaluated all the same, for every S.
            None => Class::LARGEST,
        },
        counted,
        run: run::<S>,
        discard: discard::<S>,
        request: request::<S>,
        advance: advance::<S>,
        surplus: if S::Op::READS_ON {
            Some(surplus::<S>)
        } else {
            None
        },
        holds: S::HOLDS,
        line: if S::LINED { Some(line::<S>) } else { None },
        waker: if S::WAKES { Some(waker::<S>) } else { None },
        at_once: S::AT_ONCE,
    }
}

/// # Safety
///
/// `cell` holds an `OpCell<S>` and is the caller's, for as long as the borrow lasts.
unsafe fn body<'a, S: Body>(cell: Ptr) -> &'a mut S {
    // SAFETY: the caller's promise.
    unsafe { &mut *cell::place::<S>(cell, offset_of!(OpCell<S>, body)) }
}

/// # Safety
///
/// `cell` holds an `OpCell<S>` and is the caller's.
unsafe fn request<S: Body>(cell: Ptr) -> Request {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.op().request()
}

/// # Safety
///
/// As `request`.
unsafe fn advance<S: Body>(cell: Ptr, n: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.op().advance(n)
}

/// # Safety
///
/// As `request`.
unsafe fn surplus<S: Body>(cell: Ptr) -> Option<Returned> {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.op().surplus()
}

/// # Safety
///
/// As `request`.
unsafe fn line<S: Body>(cell: Ptr) -> Option<NonNull<Line>> {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.line()
}

/// # Safety
///
/// As `request`.
unsafe fn waker<S: Body>(cell: Ptr) -> Option<NonNull<Waker>> {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.waker().map(NonNull::from)
}

/// Moves the body out and frees the cell, before anything of the body runs.
///
/// # Safety
///
/// As `request`, and the body is not used again.
#[inline(always)]
unsafe fn take<S: Body>(cell: Ptr, home: &Home) -> (S, Result<usize, Error>) {
    // SAFETY: the caller's promise; it is moved out once, since the cell is freed here.
    let body = unsafe { cell::place::<S>(cell, offset_of!(OpCell<S>, body)).read() };
    // SAFETY: the caller's promise.
    let raw = unsafe { part(cell) }.raw.get();
    home.free(cell);
    (body, decode(raw, S::Op::KIND))
}

/// # Safety
///
/// As `take`.
unsafe fn run<S: Body>(cell: Ptr, home: &Home) {
    // SAFETY: handed on to the caller.
    let (body, result) = unsafe { take::<S>(cell, home) };
    body.run(result);
}

/// # Safety
///
/// As `take`.
unsafe fn discard<S: Body>(cell: Ptr, home: &Home) {
    // SAFETY: handed on to the caller.
    let (body, result) = unsafe { take::<S>(cell, home) };
    body.discard(result);
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
    header(cell).fix();
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
    let asked = cancelled(asked).filter(|_| !mutant("expiry-ignores-requests"));
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
