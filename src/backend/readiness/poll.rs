//! A poll: one call, made by whoever has lent its buffer. `docs/dispatch-protocols.md`, "A poll".
#![allow(unsafe_code)] // notices are reached through their tables

use std::mem;
use std::task::Waker;

use super::Readiness;
use crate::backend::direct::may_succeed;
use crate::backend::direction::Direction;
use crate::backend::registry::{EntryRef, Way};
use crate::backend::shelf::Shelf;
use crate::backend::{Demux, Polled};
use crate::cell::header;
use crate::completion::Completion;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{Attempted, Request, code, ends_at_once, part};
use crate::sync::atomic::Ordering;
use crate::sync::mutant;

/// Whether a poll may make its call now. Notices that wait are no reason against it: they take nothing.
fn is_its_turn(direction: &Direction, entry: EntryRef, way: Way, request: &Request) -> bool {
    let is_due = may_succeed(direction, entry, way) || ends_at_once(request);
    is_due && !direction.is_held() && direction.has_notices_only()
}

impl<D: Demux> Readiness<D> {
    /// See [`Backend::poll`](super::super::Backend::poll).
    pub(super) fn poll_here(
        &self,
        entry: EntryRef,
        way: Way,
        request: Request,
        taken: Option<u32>,
    ) -> (Polled, Option<Completion>) {
        let mut direction = entry.direction(way);
        let mut blocked = taken.is_some();
        let mut tick = taken.unwrap_or(direction.tick);
        if !blocked {
            if direction.is_closed() {
                return (Polled::Done(code::CLOSED), None);
            }
            if !is_its_turn(&direction, entry, way, &request) {
                return (Polled::Waits(!direction.queue.is_empty()), None);
            }
            entry.stir(way);
            direction.hold_for_poll();
        }
        let (raw, drained) = loop {
            if !mem::take(&mut blocked) {
                drop(direction);
                // SAFETY: the direction is held, by this poll.
                let attempted = unsafe { self.call(entry, way, request) };
                direction = entry.direction(way);
                if attempted.raw != WOULD_BLOCK {
                    let drained = attempted.short() && entry.short_drains.load(Ordering::Relaxed);
                    break (Some(attempted.raw), drained);
                }
            }
            if direction.is_closed() {
                break (Some(code::CLOSED), false);
            }
            if mem::replace(&mut tick, direction.tick) == direction.tick || mutant("poll-no-tick") {
                let armed = if mutant("poll-not-armed") {
                    Ok(())
                } else {
                    self.arm(entry, way)
                };
                break (armed.err(), false);
            }
        };
        match raw {
            None => direction.end_ready(),
            Some(_) if drained => direction.drained(tick),
            Some(_) => {}
        }
        let left = entry.end_poll(direction, way);
        let polled = raw.map_or(Polled::Waits(false), Polled::Done);
        (polled, self.after(left, entry))
    }

    /// Has the shelf, or else the kernel, do what is requested.
    ///
    /// # Safety
    ///
    /// The caller holds the direction.
    unsafe fn call(&self, entry: EntryRef, way: Way, request: Request) -> Attempted {
        if way == Way::Write || !Shelf::has(entry) {
            // SAFETY: the caller's promise.
            return unsafe { entry.call(request) };
        }
        let raw = self.shelf.serve(entry, &request);
        match usize::try_from(raw) {
            // What the shelf has says nothing of the socket.
            Ok(count) => Attempted::moved(count, false, None),
            Err(_) => Attempted::failed(raw),
        }
    }

    /// See [`Backend::give_waker`](super::super::Backend::give_waker).
    pub(super) fn give_notice(
        entry: EntryRef,
        way: Way,
        now: bool,
        waker: Waker,
    ) -> Result<Waker, Waker> {
        let direction = entry.direction(way);
        let waiting = direction.queue.iter().find_map(|cell| {
            let waker = header(cell).vtable().waker?;
            // SAFETY: an operation's cell, which the queue owns.
            let is_such = unsafe { part(cell) }.ends_at_once() == now;
            // SAFETY: as above, and its table is its body's.
            is_such.then(|| unsafe { waker(cell) })?
        });
        let Some(mut waiting) = waiting else {
            return Err(waker);
        };
        // SAFETY: the body stays where it is while the queue, whose lock is held, owns the cell.
        let waiting = unsafe { waiting.as_mut() };
        if waiting.will_wake(&waker) || mutant("notice-keeps-its-waker") {
            return Ok(waker);
        }
        Ok(mem::replace(waiting, waker))
    }
}
