//! The lane: threads beside the workers' for calls that block, started on demand, ended when they have long been idle.
//!
//! Protocol: `docs/dispatch-protocols.md`, "The lane for calls that block". The rules in short:
//!
//! 1. Everything is under one lock. A thread looks at the queue before it waits and before it ends.
//! 2. Who enters a call starts a thread if more calls wait than threads are idle, up to the cap; else it tells one.
//! 3. A call begins with the swap of its phase: a request to cancel it came before, and counts, or is too late.
//! 4. A thread keeps the port while it has a call, and no longer.
#![allow(unsafe_code)] // calls stand in cells

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Inner;
use crate::cell::{Ptr, header, phase};
use crate::completion::Completion;
use crate::operation::{self, Request, cancelled, code};
use crate::queue::List;
use crate::sync::{Arc, Condvar, Mutex, Weak, mutant};

/// How long a thread waits for a further call before it ends.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Lane {
    state: Mutex<State>,
    /// Threads without a call wait here.
    entered: Condvar,
}

struct State {
    /// Calls that wait for a thread, oldest first.
    queue: List,
    queued: usize,
    /// Threads that wait, or have been told and not looked yet.
    idle: usize,
    threads: usize,
    /// How many threads were ever started: the next one's number.
    started: usize,
    /// Nothing is let in any more, and who is idle ends.
    closed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            queue: List::new(),
            queued: 0,
            idle: 0,
            threads: 0,
            started: 0,
            closed: false,
        }
    }
}

/// What is left to do for a call that was to be entered.
enum Entered {
    Waits,
    /// A thread of that number is to be started.
    Start(usize),
    /// It has ended already.
    Over(Completion),
}

impl Inner {
    /// Hands a call to the lane.
    pub(crate) fn block(self: &Arc<Self>, cell: Ptr) {
        match self
            .lane
            .enter(cell, self.pool.knobs.blocking_threads.get())
        {
            Entered::Waits => {}
            Entered::Over(done) => self.complete(done, None),
            Entered::Start(number) => {
                let (lane, port) = (Arc::clone(&self.lane), Arc::downgrade(self));
                let thread = self.pool.knobs.thread(format_args!("b{number}"));
                if let Err(error) = thread.spawn(move || lane.serve(&port)) {
                    self.do_without(&error);
                }
            }
        }
    }

    /// The system refused a thread. Those that there are serve what is queued; if there is none, it ends with the error.
    fn do_without(&self, error: &io::Error) {
        const AGAIN: i32 = 11;
        let raw = -i64::from(error.raw_os_error().unwrap_or(AGAIN));
        for call in self.lane.abandon() {
            // SAFETY: taken out of the queue, so ours; its result is open.
            let done = unsafe { operation::complete_or_cancel(call.into_ptr(), raw) };
            self.complete(done, None);
        }
    }

    /// Makes a call, unless it was asked to end before, and sends what became of it where it belongs.
    fn make(&self, cell: Ptr) {
        let asked = cancelled(header(cell).fix()).filter(|_| !mutant("lane-begins-unasked"));
        let raw = asked.unwrap_or_else(|| {
            // SAFETY: whoever took the cell out of the queue owns it, and the table is the cell's own.
            if let Request::Call(mut call) = unsafe { (header(cell).vtable().request)(cell) } {
                // SAFETY: it stands in the cell, which is ours until it is completed.
                unsafe { call.as_mut() }.call();
            }
            0
        });
        // SAFETY: as above.
        let done = unsafe { operation::complete(cell, raw) };
        self.complete(done, None);
    }
}

impl Lane {
    fn enter(&self, cell: Ptr, most: usize) -> Entered {
        let mut state = self.state.lock();
        let over = if state.closed {
            Some(code::CLOSED)
        } else {
            cancelled(header(cell).phase())
        };
        if let Some(raw) = over {
            // SAFETY: placed by the caller, and nobody else's yet; its result is open.
            return Entered::Over(unsafe { operation::complete(cell, raw) });
        }
        // SAFETY: as above. It leaves the queue before anybody drops that.
        state.queue.push_back(unsafe { Completion::from_ptr(cell) });
        state.queued += 1;
        let served = if mutant("lane-tells-one-of-two") {
            state.idle > 0
        } else {
            state.queued <= state.idle
        };
        if !served && state.threads < most {
            state.threads += 1;
            state.started += 1;
            return Entered::Start(state.started);
        }
        drop(state);
        if !mutant("lane-tells-nobody") {
            self.entered.notify_one();
        }
        Entered::Waits
    }

    fn serve(&self, port: &Weak<Inner>) {
        while let Some((inner, cell)) = self.next(port) {
            // Should a strategy of the user's panic, the completion is dropped, and the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| inner.make(cell)));
        }
    }

    /// The oldest call, with its port; none if this thread is to end, which then counts no more.
    fn next(&self, port: &Weak<Inner>) -> Option<(Arc<Inner>, Ptr)> {
        let until = Instant::now() + IDLE;
        let mut late = false;
        let mut state = self.state.lock();
        while !(late && mutant("lane-ends-unlooked")) {
            if let Some(call) = state.queue.pop_front() {
                let Some(inner) = port.upgrade() else {
                    // The port is going, and takes out itself what is queued.
                    state.queue.push_front(call);
                    break;
                };
                state.queued -= 1;
                return Some((inner, call.into_ptr()));
            }
            if late || state.closed {
                break;
            }
            state.idle += 1;
            (state, late) = self.entered.wait_until(state, until);
            state.idle -= 1;
        }
        state.threads -= 1;
        None
    }

    /// A thread that was counted will not come. If there is no other, all that is queued.
    fn abandon(&self) -> List {
        let mut state = self.state.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return List::new();
        }
        state.queued = 0;
        state.queue.take_all()
    }

    /// Takes out a call that was asked to end, if it still waits.
    pub(crate) fn cancel(&self, cell: Ptr, generation: u32) -> Option<Completion> {
        let mut state = self.state.lock();
        let asked = [phase::CANCEL, phase::TIMEOUT];
        let found = state.queue.remove(|waiting| {
            waiting == cell && asked.iter().any(|&how| header(cell).is(generation, how))
        })?;
        state.queued -= 1;
        // SAFETY: taken out of the queue, so ours; its result is open.
        Some(unsafe { operation::complete_or_cancel(found.into_ptr(), code::CANCELLED) })
    }

    /// Lets nothing in any more, takes out what waits, as cancelled, and has idle threads end. Calls that have begun go on.
    pub(crate) fn close(&self, out: &List) {
        let mut state = self.state.lock();
        state.closed = true;
        state.queued = 0;
        for call in state.queue.take_all() {
            // SAFETY: taken out of the queue, so ours; its result is open.
            let done = unsafe { operation::complete_or_cancel(call.into_ptr(), code::CANCELLED) };
            out.push_back(done);
        }
        drop(state);
        if !mutant("lane-close-tells-nobody") {
            self.entered.notify_all();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}
