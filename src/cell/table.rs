//! What can be done with what stands in a cell.

use std::ptr::NonNull;
use std::task::Waker;

use super::{Class, Home, Ptr};
use crate::id::Kind;
use crate::operation::perform::Fd;
use crate::operation::{Already, Attempted, Due, Request, Returned};
use crate::queue::Line;

/// Asks a body for its line.
pub(crate) type LineOf = unsafe fn(Ptr) -> Option<NonNull<Line>>;

/// Asks a body for its waker.
pub(crate) type WakerOf = unsafe fn(Ptr) -> Option<NonNull<Waker>>;

/// Takes out what an operation read beyond its end.
pub(crate) type SurplusOf = unsafe fn(Ptr) -> Option<Returned>;

/// Ends what stands in a cell, and frees it.
pub(crate) type Run = unsafe fn(Ptr, &Home);

/// What an operation that repeats has besides. Protocol: `docs/dispatch-protocols.md`, "An operation that repeats".
#[derive(Debug)]
pub(crate) struct Repeats {
    /// Has its turn, and goes on with what follows from it; whether its handler was called.
    pub(crate) turn: unsafe fn(Due, Option<&Already>) -> bool,
    /// Its table while it writes, or that while it reads.
    pub(crate) other: fn() -> &'static VTable,
}

/// What can be done with a body whose type is forgotten. Each takes a cell of just that body.
#[derive(Debug)]
pub(crate) struct VTable {
    pub(crate) kind: Kind,
    /// Whether it is about the reading direction of its object.
    pub(crate) reads: bool,
    pub(crate) class: Class,
    /// Whether it takes up room, which it makes again when it is done with: see [`Pressure`].
    pub(crate) counted: bool,
    /// Whether it is a posted call that takes up no room: never due.
    pub(crate) posted: bool,
    /// Moves the body out, frees the cell, calls the handler.
    pub(crate) run: Run,
    /// Moves the body out, frees the cell, drops the body.
    pub(crate) discard: Run,
    /// Whether its end asks nothing of anybody: it has no line, keeps no direction, reads on nowhere, and has a handler to run.
    pub(crate) plain: bool,
    /// Attempts the operation: what `request` and `advance` are the halves of.
    pub(crate) attempt: unsafe fn(Ptr, &Fd) -> Attempted,
    /// What the operation wants from the backend now.
    pub(crate) request: unsafe fn(Ptr) -> Request,
    /// Takes in `n`; true if the operation wants more.
    pub(crate) advance: unsafe fn(Ptr, usize) -> bool,
    /// What it has besides, if it is one that repeats.
    pub(crate) repeats: Option<Repeats>,
    /// Takes out what the operation read beyond its end, if it is one that does.
    pub(crate) surplus: Option<SurplusOf>,
    /// Whether it keeps its direction beyond its end, until its output is taken or given back.
    pub(crate) holds: bool,
    /// The line that a finished operation has to pass before it runs; told once (`operation::admit`).
    pub(crate) line: Option<LineOf>,
    /// Its waker, if that is all it has: a notice's.
    pub(crate) waker: Option<WakerOf>,
    /// Asks whether it is to be run by whoever finishes it, at once, since it runs nobody's handler: only some kinds ever are.
    pub(crate) at_once: Option<unsafe fn(Ptr) -> bool>,
}

impl VTable {
    /// Of a body that nothing can be done with: a free cell's, which is never called, and what other tables begin with.
    pub(crate) const NOTHING: Self = Self {
        kind: Kind::Post,
        reads: false,
        class: Class::Small,
        counted: false,
        posted: false,
        run: |_, _| {},
        discard: |_, _| {},
        plain: false,
        attempt: |_, _| Attempted::failed(0),
        request: |_| Request::None,
        advance: |_, _| false,
        repeats: None,
        surplus: None,
        holds: false,
        line: None,
        waker: None,
        at_once: None,
    };
}

/// A free cell's.
pub(super) static FREE: VTable = VTable::NOTHING;
