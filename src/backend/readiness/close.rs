//! How an object ends: closed, or its descriptor taken out again. `docs/dispatch-protocols.md`, "A direction".
#![allow(unsafe_code)] // operations are called through their tables

use super::Readiness;
use crate::backend::registry::{EntryRef, Way};
use crate::backend::{Backend, Demux, TakenOut};
use crate::cell::{header, phase};
use crate::operation::{self, cancelled, code};
use crate::queue::List;
use crate::sync::atomic::Ordering;
use crate::sync::{mutant, yield_now};

impl<D: Demux> Readiness<D> {
    /// See [`Backend::close`](super::super::Backend::close).
    pub(super) fn close_both(&self, entry: EntryRef, generation: u32, out: &List) {
        // Only the one who shuts the read direction goes on: the closer.
        let mut closer = false;
        for way in [Way::Read, Way::Write] {
            if entry.generation.load(Ordering::Relaxed) != generation {
                return;
            }
            match Self::cancel_way(entry, way, out, true) {
                Some(held) => {
                    closer = true;
                    if !held {
                        self.give_share(entry);
                    }
                }
                None if !closer => return,
                None => {}
            }
        }
        self.give_share(entry);
    }

    /// Takes everything that waits in `way`, finished as cancelled, and asks the current operation to be.
    pub(super) fn cancel_way(entry: EntryRef, way: Way, out: &List, close: bool) -> Option<bool> {
        let mut direction = entry.direction(way);
        if close && direction.is_closed() {
            return None;
        }
        if close {
            direction.close();
            // Nobody makes a call for it any more: what keeps it has no say.
            if direction.is_kept() && !mutant("close-waits-for-futures") {
                direction.free();
            }
        } else if let Some(first) = direction.queue.first() {
            direction.keep_on(first);
        }
        for waiting in direction.queue.take_all() {
            let cell = waiting.into_ptr();
            let raw = cancelled(header(cell).phase()).unwrap_or(code::CANCELLED);
            // SAFETY: it was the queue's, and is ours now; its result is open.
            out.push_back(unsafe { operation::complete(cell, raw) });
        }
        // The operation may be over already, and its cell another's, before its direction is let go: hence the generation.
        if let Some((current, generation)) =
            direction.current().filter(|_| !mutant("close-asks-nobody"))
        {
            header(current).request_cancel(generation, phase::CANCEL);
        }
        Some(direction.is_held())
    }

    /// Gives back one share of the close; the last one closes the descriptor.
    pub(super) fn give_share(&self, entry: EntryRef) {
        if entry.shares.fetch_sub(1, Ordering::AcqRel) != 1 && !mutant("close-waits-for-nobody") {
            return;
        }
        let mut interest = entry.interest.lock();
        // SAFETY: this was the last share; under the lock of `interest`, which `rearm` reads it under.
        let fd = unsafe { entry.take_fd() };
        if let Some(fd) = fd.filter(|_| std::mem::take(&mut *interest).registered) {
            self.demux.disarm(&fd);
        }
        drop(interest);
        drop(self.shelf.clear(entry));
        self.release(entry);
    }

    /// See [`Backend::take_out`](super::super::Backend::take_out).
    pub(super) fn shut_if_alone(&self, entry: EntryRef, out: &List) -> TakenOut {
        // Whoever completes an operation hands it on before it lets go of the direction, and of the object: a handler may be here
        // a moment before that.
        let patience = if cfg!(proactor_loom) { 1 } else { 10_000 };
        for _ in 0..patience {
            let mut directions = [entry.direction(Way::Read), entry.direction(Way::Write)];
            if directions.iter().any(|direction| direction.is_closed()) {
                return TakenOut::Closed;
            }
            if directions.iter().any(|direction| direction.is_wanted()) {
                return TakenOut::InUse;
            }
            let held = directions.iter().any(|direction| direction.is_held());
            // The caller's handle and the open descriptor; only a handle makes another. What others did is ordered by the locks,
            // and by `release`.
            if held || entry.refs.load(Ordering::Relaxed) != 2 {
                drop(directions);
                yield_now();
                continue;
            }
            for direction in &mut directions {
                direction.close();
                for notice in direction.queue.take_all() {
                    // SAFETY: it was the queue's, and is ours now; its result is open.
                    out.push_back(unsafe {
                        operation::complete(notice.into_ptr(), code::CANCELLED)
                    });
                }
            }
            drop(directions);
            return self.shut(entry);
        }
        TakenOut::InUse
    }

    /// Takes the descriptor out of an object that the caller has closed in both directions while nobody held them.
    fn shut(&self, entry: EntryRef) -> TakenOut {
        let mut interest = entry.interest.lock();
        // SAFETY: all shares are the caller's; under the lock of `interest`, which `rearm` reads it under.
        let Some(fd) = (unsafe { entry.take_fd() }) else {
            return TakenOut::Closed;
        };
        if std::mem::take(&mut *interest).registered {
            self.demux.disarm(&fd);
        }
        drop(interest);
        let stock = self.shelf.clear(entry);
        self.release(entry);
        TakenOut::Descriptor(fd, stock)
    }
}
