//! An operation whose type is forgotten: its table, and what stands in it.
#![allow(unsafe_code)] // bodies are reached by their cells

use std::alloc::Layout;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::task::Waker;

use super::{
    Already, Attempted, Body, Due, Ends, OpCell, Operation, Request, Returned, asking, decode,
    part, perform, wanted,
};
use crate::cell::{self, Class, Home, Ptr, Repeats, Run, VTable, header, phase};
use crate::error::Error;
use crate::id::Kind;
use crate::queue::Line;

pub(super) fn table_of<S: Ends>(counted: bool) -> &'static VTable {
    match counted {
        true => &const { table::<S>(true, false) },
        false => &const { table::<S>(false, false) },
    }
}

const fn class_of<S>() -> Class {
    match Class::of(Layout::new::<OpCell<S>>()) {
        Some(class) => class,
        // Never written: such a body is boxed. Evaluated all the same, for every S.
        None => Class::LARGEST,
    }
}

/// `writes`: of one that repeats, and is to write now.
const fn table<S: Ends>(counted: bool, writes: bool) -> VTable {
    let other: fn() -> &'static VTable = match (counted, writes) {
        (false, false) => || &const { table::<S>(false, true) },
        (false, true) => || &const { table::<S>(false, false) },
        (true, false) => || &const { table::<S>(true, true) },
        (true, true) => || &const { table::<S>(true, false) },
    };
    let is_special = S::WAKER.is_some() || S::AT_ONCE || S::LINED;
    VTable {
        counted,
        plain: !(is_special || S::Op::READS_ON || S::Op::REPEATS),
        line: if S::LINED { Some(line::<S>) } else { None },
        waker: if S::WAKER.is_some() {
            Some(waker::<S>)
        } else {
            None
        },
        at_once: match (S::AT_ONCE, S::Op::REPEATS) {
            (false, _) => None,
            (true, false) => Some(|_| true),
            // Its turns are handlers; its end is not.
            (true, true) => Some(|cell| header(cell).phase() == phase::DONE),
        },
        ..plain_table::<S>(run::<S>, discard::<S>, writes, other)
    }
}

/// The table of a body that is run and discarded so; `writes` and `other` are for one that repeats.
pub(super) const fn plain_table<S: Body>(
    run: Run,
    discard: Run,
    writes: bool,
    other: fn() -> &'static VTable,
) -> VTable {
    VTable {
        kind: if writes { Kind::Write } else { S::Op::KIND },
        reads: S::Op::KIND.takes() && !writes,
        repeats: if S::Op::REPEATS {
            Some(Repeats {
                turn: turn::<S>,
                other,
            })
        } else {
            None
        },
        class: class_of::<S>(),
        counted: false,
        posted: false,
        run,
        discard,
        plain: false,
        attempt: attempt::<S>,
        request: request::<S>,
        advance: advance::<S>,
        surplus: if S::Op::READS_ON {
            Some(surplus::<S>)
        } else {
            None
        },
        holds: false,
        line: None,
        waker: None,
        at_once: None,
    }
}

/// # Safety
///
/// `cell` holds an `OpCell<S>`, and its operation is the caller's, for as long as the borrow lasts.
#[inline(always)]
pub(super) unsafe fn op_of<'a, S: Body>(cell: Ptr) -> &'a mut S::Op {
    // SAFETY: the caller's promise.
    unsafe { S::op_at(cell::place::<S>(cell, offset_of!(OpCell<S>, body))) }
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
    unsafe { op_of::<S>(cell) }.request()
}

/// `request`, what it asks for, and `advance`, compiled as one.
///
/// # Safety
///
/// As `request`, and the descriptor is the operation's to use.
unsafe fn attempt<S: Body>(cell: Ptr, fd: &perform::Fd) -> Attempted {
    // SAFETY: the caller's promise.
    let op = unsafe { op_of::<S>(cell) };
    let asked = asking(|| {
        let request = op.request();
        let wanted = wanted(&request);
        let raw = perform::perform(fd, request);
        match usize::try_from(raw) {
            Ok(count) => Attempted::moved(count, op.advance(count), wanted),
            Err(_) => Attempted::failed(raw),
        }
    });
    asked.unwrap_or_else(Attempted::failed)
}

/// # Safety
///
/// As `request`.
unsafe fn advance<S: Body>(cell: Ptr, n: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { op_of::<S>(cell) }.advance(n)
}

/// # Safety
///
/// As `request`, of the cell of what is due.
unsafe fn turn<S: Body>(due: Due, already: Option<&Already>) -> bool {
    let Some(turn) = (const { S::Op::TURN }) else {
        return false;
    };
    // SAFETY: the caller's promise.
    let op = NonNull::from(unsafe { op_of::<S>(due.cell) });
    // SAFETY: the operation's own, and as above.
    unsafe { turn(op, due, already) }
}

/// # Safety
///
/// As `request`.
unsafe fn surplus<S: Body>(cell: Ptr) -> Option<Returned> {
    // SAFETY: the caller's promise.
    unsafe { op_of::<S>(cell) }.surplus()
}

/// # Safety
///
/// As `request`.
unsafe fn line<S: Ends>(cell: Ptr) -> Option<NonNull<Line>> {
    // SAFETY: the caller's promise.
    unsafe { body::<S>(cell) }.line()
}

/// Where the waker is in a cell that holds an `OpCell<S>`.
fn waker<S: Ends>(cell: Ptr) -> Option<NonNull<Waker>> {
    let waker = offset_of!(OpCell<S>, body) + S::WAKER?;
    NonNull::new(cell::place(cell, waker))
}

/// Moves the body out and frees the cell, before anything of the body runs.
///
/// # Safety
///
/// As `request`, and the body is not used again.
#[inline(always)]
pub(super) unsafe fn take<S: Body>(cell: Ptr, home: &Home) -> (S, Result<usize, Error>) {
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
unsafe fn run<S: Ends>(cell: Ptr, home: &Home) {
    let place = cell::place::<S>(cell, offset_of!(OpCell<S>, body));
    // SAFETY: the caller's promise.
    let raw = unsafe { part(cell) }.raw.get();
    // SAFETY: the caller's promise; the cell is freed here.
    unsafe { S::run_from(place, raw, || home.free_as(const { class_of::<S>() }, cell)) };
}

/// # Safety
///
/// As `take`.
#[cold]
unsafe fn discard<S: Ends>(cell: Ptr, home: &Home) {
    // SAFETY: handed on to the caller.
    let (body, result) = unsafe { take::<S>(cell, home) };
    body.discard(result);
}
