//! Polls of an object: calls that are made by whoever lends a buffer, and the notices that wait for their turn.
//!
//! Protocol: `docs/dispatch-protocols.md`, "A poll".
#![allow(unsafe_code)] // what is lent is known by address

use std::mem::offset_of;
use std::task::{Context, Poll, Waker};

use super::Route;
use super::object::Handle;
use crate::backend::Polled;
use crate::backend::direct::Begun;
use crate::backend::polls::Turn;
use crate::backend::registry::Way;
use crate::error::Error;
use crate::id::Kind;
use crate::local::Local;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{self, Body, Ends, Operation, Request, sealed};
use crate::sync::atomic::Ordering;
use crate::sync::mutant;

/// Moves nothing; it ends when a poll of its direction may succeed, or when it is its turn, if that is all that is asked.
struct Notice<const READS: bool> {
    now: bool,
}

impl<const READS: bool> sealed::Sealed for Notice<READS> {}

impl<const READS: bool> Operation for Notice<READS> {
    type Output = ();
    const KIND: Kind = if READS { Kind::Read } else { Kind::Write };

    fn request(&mut self) -> Request {
        Request::Ready { now: self.now }
    }

    fn finish(self, _result: Result<usize, Error>) {}
}

/// A notice in its cell, with whom it wakes: however it ends, the task looks itself how things are.
struct Wakes<const READS: bool> {
    op: Notice<READS>,
    waker: Waker,
}

impl<const READS: bool> Body for Wakes<READS> {
    type Op = Notice<READS>;

    fn op(&mut self) -> &mut Notice<READS> {
        &mut self.op
    }
}

impl<const READS: bool> Ends for Wakes<READS> {
    const WAKER: Option<usize> = Some(offset_of!(Self, waker));

    fn run(self, _result: Result<usize, Error>) {
        if !mutant("notice-wakes-nobody") {
            Local::poll_last(self.waker);
        }
    }

    fn discard(self, _result: Result<usize, Error>) {
        self.waker.wake();
    }
}

impl Handle {
    /// Does what `request` says, now and on this thread: the number or a raw error. If that would block, or others are before it, it is
    /// pending, and `context` is woken when it is worth another poll.
    ///
    /// # Safety
    ///
    /// What the request names is good for that until this returns, and nobody else's.
    #[inline(always)]
    pub(crate) unsafe fn poll(
        &self,
        way: Way,
        request: Request,
        context: &Context<'_>,
    ) -> Poll<i64> {
        let inner = self.inner();
        let enough = Local::with(&inner.home, |local| {
            local.is_some_and(Local::has_polled_enough)
        });
        if enough {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let entry = self.entry();
        let tick = match entry.take_turn(way, &request, context.waker()) {
            Turn::Taken(tick) => tick,
            Turn::Awaited => return Poll::Pending,
            Turn::Nobodys => {
                self.submit(way, false, context.waker().clone());
                return Poll::Pending;
            }
            Turn::Undecided => return self.poll_by_backend(way, request, None, context),
        };
        // SAFETY: this poll has taken the direction; the rest is the caller's promise.
        let attempted = unsafe { entry.call(request) };
        if attempted.raw == WOULD_BLOCK {
            return self.poll_by_backend(way, request, Some(tick), context);
        }
        let drained = attempted.short() && entry.short_drains.load(Ordering::Relaxed);
        inner.went_on(entry.polled(way, tick, drained), entry);
        Poll::Ready(attempted.raw)
    }

    #[cold]
    fn poll_by_backend(
        &self,
        way: Way,
        request: Request,
        taken: Option<u32>,
        context: &Context<'_>,
    ) -> Poll<i64> {
        let inner = self.inner();
        let (polled, due) = inner.backend.poll(self.entry(), way, request, taken);
        // First: a waker that panics as it is cloned must not take it along.
        if let Some(due) = due {
            inner.hand(due, Route::Posted);
        }
        match polled {
            Polled::Done(raw) => Poll::Ready(raw),
            Polled::Waits(among) => {
                self.await_turn(way, operation::ends_at_once(&request), among, context);
                Poll::Pending
            }
        }
    }

    /// Has `context` woken by a notice: by one that waits already, if there may be one `among` what waits.
    fn await_turn(&self, way: Way, now: bool, among: bool, context: &Context<'_>) {
        let mut waker = context.waker().clone();
        if among {
            match self
                .inner()
                .backend
                .give_waker(self.entry(), way, now, waker)
            {
                Ok(former) => {
                    // Another task polled before: it looks again, and is told that way that it is not the last.
                    if !former.will_wake(context.waker()) {
                        former.wake();
                    }
                    return;
                }
                Err(back) => waker = back,
            }
        }
        self.submit(way, now, waker);
    }

    /// Has `waker` woken by a notice.
    #[inline(always)]
    fn submit(&self, way: Way, now: bool, waker: Waker) {
        match way {
            Way::Read => self.submit_notice::<true>(now, waker),
            Way::Write => self.submit_notice::<false>(now, waker),
        }
    }

    fn submit_notice<const READS: bool>(&self, now: bool, waker: Waker) {
        let (inner, entry) = (self.inner(), self.entry());
        let op = Notice::<READS> { now };
        let cell = operation::place_body(&inner.home, self.id(), 0, Wakes { op, waker }, false);
        let way = if READS { Way::Read } else { Way::Write };
        // SAFETY: it was placed just now, for this entry.
        match unsafe { entry.begin(cell, way) } {
            Begun::Waits => {}
            // An event came meanwhile.
            Begun::TakenUp => inner.carried_out(inner.backend.carry_on(cell, entry, None)),
            Begun::Undecided => inner.submit(cell, entry),
        }
    }
}
