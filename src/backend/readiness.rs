//! The backend that attempts operations itself, and waits for readiness where they would block.
//!
//! Each direction of an object has a lock, a tick and at most one *current* operation. The protocol, with the races it
//! avoids, is in `docs/dispatch-protocols.md`, "A direction". In short: an attempt notes the tick; an event advances it
//! and sets *ready*; `WouldBlock` or a short read clears *ready* only if the tick is unchanged, else the attempt is
//! made again. What succeeds holds its direction until its completion is where it belongs ([`Hold`]), so that
//! completions of one direction are handed on in order.
#![allow(unsafe_code)] // operations are called through their tables

mod close;
mod poll;

use std::io;
use std::task::Waker;
use std::time::Instant;

use super::direct::{LetGo, is_due, way};
use super::registry::{EntryRef, Fd, Interest, Registry, Tag, Way};
use super::shelf::Shelf;
use super::{Backend, Demux, Events, Outcome, Polled, Ready, Sink, TakenOut, Woken};
use crate::cell::{Ptr, SurplusOf, header, phase};
use crate::completion::Completion;
use crate::id::ObjectId;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{self, Attempted, Request, Returned, cancelled, code, part};
use crate::queue::List;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mutant;

/// A direction that is held after an attempt, until [`Backend::next`] lets it go.
#[derive(Debug)]
#[must_use = "the direction stays shut until the hold is given to `next`"]
pub(crate) struct Hold {
    entry: EntryRef,
    way: Way,
    tick: u32,
    drained: bool,
}

impl Hold {
    /// The operation goes on and holds the direction, under the tick that it has noted; whether its attempt left nothing behind.
    pub(crate) fn keep(self) -> bool {
        self.drained
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Readiness<D> {
    demux: D,
    registry: Registry,
    /// Whether nothing is accepted any more.
    deaf: AtomicBool,
    shelf: Shelf,
    /// Ends an entry's hold on its owner. Whoever calls the backend holds the owner, too.
    let_go: fn(*const ()),
}

/// What became of an attempt.
enum Step {
    /// The operation ends with this; `drained` says that the attempt left nothing behind.
    Ends {
        raw: i64,
        drained: bool,
    },
    GoesOn,
    /// Nothing is left to be done now; `short`: since there was less than it had room for.
    Drained {
        short: bool,
    },
}

/// What became of an operation that would block.
enum PutBack {
    Waits,
    AttemptAgain,
    Ends(i64),
}

impl<D: Demux> Readiness<D> {
    pub(crate) fn new(demux: D, let_go: fn(*const ())) -> Self {
        Self {
            demux,
            registry: Registry::new(),
            deaf: AtomicBool::new(false),
            shelf: Shelf::default(),
            let_go,
        }
    }

    /// Attempts until the operation is finished or would block. The caller's thread has made `cell`, which is about `entry`, current;
    /// `attempted` is an attempt that was made already.
    fn carry_out(&self, cell: Ptr, entry: EntryRef, mut attempted: Option<Attempted>) -> Outcome {
        let way = way(header(cell).vtable());
        loop {
            let step = match attempted.take() {
                Some(attempted) => self.judge(cell, entry, attempted),
                None => match cancelled(header(cell).phase()) {
                    Some(raw) => Step::Ends {
                        raw,
                        drained: false,
                    },
                    None => self.judge(cell, entry, self.attempt_once(cell, entry, way)),
                },
            };
            match step {
                Step::Ends { raw, drained } => return Self::end(cell, raw, entry, way, drained),
                Step::GoesOn => {}
                Step::Drained { short } => match self.put_back(cell, entry, way, short) {
                    PutBack::Waits => return Outcome::default(),
                    PutBack::AttemptAgain => {}
                    PutBack::Ends(raw) => return Self::end(cell, raw, entry, way, false),
                },
            }
        }
    }

    /// One attempt.
    fn attempt_once(&self, cell: Ptr, entry: EntryRef, way: Way) -> Attempted {
        let table = header(cell).vtable();
        // SAFETY: `cell` is current, so the direction is held.
        match unsafe { entry.fd() } {
            Some(_) if way == Way::Read && Shelf::has(entry) => self.serve(cell, entry),
            // SAFETY: the cell is ours, its table is its body's, and it stays where it is.
            Some(fd) => unsafe { (table.attempt)(cell, fd) },
            None => Attempted::failed(code::CLOSED),
        }
    }

    /// An attempt that the shelf serves, which says nothing of the socket.
    #[cold]
    fn serve(&self, cell: Ptr, entry: EntryRef) -> Attempted {
        let table = header(cell).vtable();
        let asked = operation::asking(|| {
            // SAFETY: the cell is current and therefore ours, its table is its body's, and it stays where it is.
            let raw = self.shelf.serve(entry, &unsafe { (table.request)(cell) });
            match usize::try_from(raw) {
                // SAFETY: as for `request`.
                Ok(count) => Attempted::moved(count, unsafe { (table.advance)(cell, count) }, None),
                Err(_) => Attempted::failed(raw),
            }
        });
        asked.unwrap_or_else(Attempted::failed)
    }

    /// What follows from an attempt.
    fn judge(&self, cell: Ptr, entry: EntryRef, attempted: Attempted) -> Step {
        let Attempted { raw, .. } = attempted;
        let (more, short) = (attempted.more(), attempted.short());
        if raw == WOULD_BLOCK {
            return Step::Drained { short: false };
        }
        let drained = short && entry.short_drains.load(Ordering::Relaxed);
        if more {
            return match drained {
                true => Step::Drained { short: true },
                false => Step::GoesOn,
            };
        }
        let raw = match header(cell).vtable().surplus {
            Some(surplus) if raw >= 0 => self.take_surplus(cell, entry, raw, surplus),
            _ => raw,
        };
        Step::Ends { raw, drained }
    }

    /// Shelves what an operation read beyond its end; gives the operation's result.
    #[cold]
    fn take_surplus(&self, cell: Ptr, entry: EntryRef, raw: i64, surplus: SurplusOf) -> i64 {
        // SAFETY: the cell is current and therefore ours, the function is its table's, and it stays where it is.
        match operation::asking(|| unsafe { surplus(cell) }) {
            Ok(None) => raw,
            Ok(Some(surplus)) => {
                self.shelf.put(entry, surplus);
                raw
            }
            Err(panicked) => panicked,
        }
    }

    /// Fixes the result, unless the operation repeats, and this is no failure. The direction stays held.
    #[inline]
    fn end(cell: Ptr, raw: i64, entry: EntryRef, way: Way, drained: bool) -> Outcome {
        // SAFETY: the cell is an operation's, current and therefore ours.
        let tick = unsafe { part(cell) }.tick.get();
        let keeps = header(cell).vtable().holds
            && !mutant("future-lets-go")
            && Self::keep(entry, way, tick, drained);
        // SAFETY: as above; its result is open.
        let done = Some(unsafe { operation::complete_turn(cell, raw) });
        let hold = (!keeps).then_some(Hold {
            entry,
            way,
            tick,
            drained,
        });
        Outcome { done, hold }
    }

    /// The operation that ends keeps its direction, if that is not closed: what is closed waits for nobody.
    #[cold]
    fn keep(entry: EntryRef, way: Way, tick: u32, drained: bool) -> bool {
        let mut direction = entry.direction(way);
        let keeps = !direction.is_closed();
        if keeps {
            direction.keep();
        }
        if drained {
            direction.drained(tick);
        }
        keeps
    }

    /// Makes an operation that would block wait, in front, unless something happened since its attempt began.
    fn put_back(&self, cell: Ptr, entry: EntryRef, way: Way, short: bool) -> PutBack {
        let mut direction = entry.direction(way);
        // SAFETY: the cell is an operation's, current and therefore ours.
        let noted = &unsafe { part(cell) }.tick;
        if noted.replace(direction.tick) != direction.tick && !mutant("direction-no-tick") {
            return PutBack::AttemptAgain;
        }
        // A canceller, or closer, that looked before us did not find it waiting: its request is ours to see.
        if let Some(raw) =
            cancelled(header(cell).phase()).filter(|_| !mutant("cancel-unseen-at-put-back"))
        {
            return PutBack::Ends(raw);
        }
        if let Err(raw) = self.arm(entry, way) {
            return PutBack::Ends(raw);
        }
        if mutant("armed-before-locked") {
            drop(direction);
            direction = entry.direction(way);
        }
        if short && direction.is_hung_up() {
            return PutBack::AttemptAgain; // The end of the stream is there already, and brings no other event.
        }
        direction.end_ready();
        direction.free();
        // SAFETY: the cell is ours, and goes to the direction's queue as its owner.
        direction
            .queue
            .push_front(unsafe { Completion::from_ptr(cell) });
        PutBack::Waits
    }

    /// Sees to it that an event will come. Under the direction's lock, so the event finds the operation waiting.
    fn arm(&self, entry: EntryRef, way: Way) -> Result<(), i64> {
        let mut interest = entry.interest.lock();
        if interest.registered && self.demux.edge() {
            return Ok(());
        }
        let before = *interest;
        interest.registered = true;
        interest.read |= way == Way::Read;
        interest.write |= way == Way::Write;
        // SAFETY: the caller holds the direction.
        let Some(fd) = (unsafe { entry.fd() }) else {
            return Err(code::CLOSED);
        };
        let (read, write) = (interest.read, interest.write);
        match self
            .demux
            .arm(fd, entry.tag(), read, write, before.registered)
        {
            Ok(()) => {
                let drains = entry.drains.load(Ordering::Relaxed) && self.demux.short_read_drains();
                entry.short_drains.store(drains, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                *interest = before;
                Err(-i64::from(error.raw_os_error().unwrap_or(0)))
            }
        }
    }

    /// What is due now in a direction that was let go.
    fn after(&self, left: LetGo, entry: EntryRef) -> Option<Completion> {
        match left {
            LetGo::Free => None,
            LetGo::Due(next) => Some(next),
            LetGo::Closed => {
                self.give_share(entry);
                None
            }
        }
    }
}

impl<D: Demux> Backend for Readiness<D> {
    fn seats(&self) -> usize {
        self.demux.seats()
    }

    fn promotes_at_once(&self) -> bool {
        self.demux.promotes_at_once()
    }

    fn open(&self, fd: Fd, drains: bool, owner: *const ()) -> io::Result<EntryRef> {
        self.registry
            .occupy(fd, drains, owner)
            .ok_or_else(|| io::Error::from_raw_os_error(24))
    }

    fn submit(&self, cell: Ptr, entry: EntryRef) -> Outcome {
        let way = way(header(cell).vtable());
        // SAFETY: an operation's cell, the caller's who gave it to us.
        unsafe { part(cell) }.entry.set(entry.as_ptr());
        let mut direction = entry.direction(way);
        // A time limit may have passed before the operation came here; nobody will look for it again.
        let deaf = self.deaf.load(Ordering::Relaxed) && entry.listens.load(Ordering::Relaxed);
        let over = if direction.is_closed() || (deaf && !mutant("accept-beside-shutdown")) {
            Some(code::CLOSED)
        } else {
            cancelled(header(cell).phase()).filter(|_| !mutant("cancel-unseen-at-submit"))
        };
        if let Some(raw) = over {
            drop(direction);
            // SAFETY: the cell is the caller's, who gave it to us; its result is open.
            let done = unsafe { operation::complete(cell, raw) };
            return Outcome {
                done: Some(done),
                hold: None,
            };
        }
        let behind = direction.is_held() || !direction.queue.is_empty();
        // SAFETY: an operation's cell, ours.
        if behind || !unsafe { is_due(&direction, entry, way, cell) } {
            // SAFETY: the cell goes to the direction's queue as its owner.
            direction
                .queue
                .push_back(unsafe { Completion::from_ptr(cell) });
            return Outcome::default();
        }
        entry.take_up(&mut direction, way, cell);
        drop(direction);
        self.carry_out(cell, entry, None)
    }

    fn attempt(&self, cell: Ptr) -> Outcome {
        // SAFETY: what is due was submitted, and is the caller's.
        match unsafe { EntryRef::of(cell) } {
            Some(entry) => self.carry_out(cell, entry, None),
            None => Outcome::default(),
        }
    }

    fn carry_on(&self, cell: Ptr, entry: EntryRef, attempted: Option<Attempted>) -> Outcome {
        self.carry_out(cell, entry, attempted)
    }

    fn give_up(&self, entry: EntryRef) {
        self.give_share(entry);
    }

    fn next(&self, hold: Hold) -> Option<Completion> {
        let tick = hold.drained.then_some(hold.tick);
        self.after(hold.entry.let_go(hold.way, tick), hold.entry)
    }

    fn cancel(&self, cell: Ptr, generation: u32, object: ObjectId) -> Option<Completion> {
        let entry = self.registry.get(object.index())?;
        let is_it = |waiting: Ptr| {
            waiting == cell
                && (header(cell).is(generation, phase::CANCEL)
                    || header(cell).is(generation, phase::TIMEOUT))
        };
        let found = [Way::Read, Way::Write].into_iter().find_map(|way| {
            let mut direction = entry.direction(way);
            if let Some(first) = direction.queue.first().filter(|&first| is_it(first)) {
                direction.keep_on(first);
            }
            direction.queue.remove(is_it)
        })?;
        let cell = found.into_ptr();
        let raw = cancelled(header(cell).phase()).unwrap_or(code::CANCELLED);
        // SAFETY: it was the queue's, and is ours now; its result is open.
        Some(unsafe { operation::complete(cell, raw) })
    }

    fn cancel_all(&self, entry: EntryRef, out: &List) {
        if mutant("cancel-asks-nobody") {
            return;
        }
        for way in [Way::Read, Way::Write] {
            Self::cancel_way(entry, way, out, false);
        }
    }

    fn close(&self, entry: EntryRef, generation: u32, out: &List) {
        self.close_both(entry, generation, out);
    }

    fn give_back(
        &self,
        cell: Ptr,
        generation: u32,
        object: ObjectId,
        returned: Option<Returned>,
    ) -> Option<Completion> {
        let entry = self.registry.get(object.index())?;
        let mut direction = entry.direction(Way::Read);
        if direction.current() != Some((cell, generation)) {
            return None; // Closed meanwhile, or it never held it, and took nothing.
        }
        direction.keep_no_longer();
        if let Some(returned) = returned {
            self.shelf.put(entry, returned);
        }
        let left = entry.let_go_of(direction, Way::Read);
        self.after(left, entry)
    }

    fn poll(
        &self,
        entry: EntryRef,
        way: Way,
        request: Request,
        taken: Option<u32>,
    ) -> (Polled, Option<Completion>) {
        self.poll_here(entry, way, request, taken)
    }

    fn give_waker(
        &self,
        entry: EntryRef,
        way: Way,
        now: bool,
        waker: Waker,
    ) -> Result<Waker, Waker> {
        Self::give_notice(entry, way, now, waker)
    }

    fn take_out(&self, entry: EntryRef, out: &List) -> TakenOut {
        self.shut_if_alone(entry, out)
    }

    fn stop_accepting(&self, out: &List) {
        // Before the directions' locks, under which `submit` looks: it sees this, or is seen.
        self.deaf.store(true, Ordering::Relaxed);
        for entry in self.registry.all() {
            if entry.listens.load(Ordering::Relaxed) {
                Self::cancel_way(entry, Way::Read, out, false);
            }
        }
    }

    fn close_all(&self, out: &List) {
        for entry in self.registry.all() {
            let generation = entry.generation.load(Ordering::Relaxed);
            self.close(entry, generation, out);
        }
    }

    fn release(&self, entry: EntryRef) {
        if entry.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            let owner = entry.owner.load(Ordering::Relaxed);
            self.registry.vacate(entry);
            (self.let_go)(owner);
        }
    }

    fn prepare(&self, events: &mut Events) {
        self.demux.prepare(events);
    }

    fn wait(
        &self,
        events: &mut Events,
        due: &List,
        deadline: Option<Instant>,
    ) -> Result<Woken, i32> {
        self.demux
            .wait(events, deadline, &mut Reaper { backend: self, due })
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    fn notify(&self) {
        self.demux.notify();
    }

    fn set_timer(&self, at: Option<Instant>) {
        self.demux.set_timer(at);
    }

    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.demux.as_fd()
    }
}

/// Turns events into operations that are due.
struct Reaper<'a, D> {
    backend: &'a Readiness<D>,
    due: &'a List,
}

impl<D: Demux> Reaper<'_, D> {
    #[inline(always)]
    fn advance(&mut self, entry: EntryRef, tag: Tag, way: Way, hang_up: bool) {
        let mut direction = entry.direction(way);
        // Under the lock: an entry is vacated only after both directions were shut.
        let its = tag.is_of(entry.generation.load(Ordering::Relaxed));
        if direction.is_closed() || !(its || mutant("event-of-any-generation")) {
            return;
        }
        direction.advance(hang_up);
        if direction.is_held() {
            return;
        }
        if let Some(next) = direction.turn() {
            self.due.push_back(next);
        }
    }

    #[cold]
    fn advance_writing(&mut self, entry: EntryRef, tag: Tag) {
        self.advance(entry, tag, Way::Write, false);
    }

    /// Oneshot: the event has disarmed both directions; what it did not report is armed again.
    fn rearm(&self, entry: EntryRef, tag: Tag, ready: Ready) {
        let mut interest = entry.interest.lock();
        if !(interest.registered && tag.is_of(entry.generation.load(Ordering::Relaxed))) {
            return;
        }
        interest.read &= !ready.read;
        interest.write &= !ready.write;
        let Interest { read, write, .. } = *interest;
        if (read || write) && !mutant("rearm-nothing") {
            // SAFETY: registered, so not yet taken out, which `give_share` does under this lock.
            if let Some(fd) = unsafe { entry.fd() } {
                // An error here means that the object is going away, which completes what waits on it.
                let _ = self.backend.demux.arm(fd, entry.tag(), read, write, true);
            }
        }
    }
}

impl<D: Demux> Sink for Reaper<'_, D> {
    #[inline(always)]
    fn ready(&mut self, tag: Tag, ready: Ready) {
        let entry = tag.entry();
        if !self.backend.demux.edge() {
            self.rearm(entry, tag, ready);
        }
        if ready.read || ready.hang_up {
            self.advance(entry, tag, Way::Read, ready.hang_up);
        }
        // Epoll reports room with everything else; the lock is for whom that is news.
        if ready.write && !entry.calm.load(Ordering::Relaxed) {
            self.advance_writing(entry, tag);
        }
    }
}
