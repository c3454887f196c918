//! Waiting for an output: this thread works for the port meanwhile, or waits for those who do.

use super::{Initiation, WAIT_DEPTH};
use crate::id::Kind;
use crate::local::{Local, strands_held};
use crate::operation::{self, Operation, Waited, code};
use crate::port::Inner;
use crate::port::pool::Leading;
use crate::port::worker::{Bounds, Ran};
use crate::sync::{Arc, Mutex, Weak, mutant};

/// Where a waiting thread finds its output.
struct Slot<T> {
    filled: Mutex<Filled<T>>,
    inner: Weak<Inner>,
}

enum Filled<T> {
    NotYet,
    Output(T),
    /// A buffer of the user's panicked as the output was made.
    Dropped,
}

/// Fills the slot: with the output, or at least with the news that none will come.
struct Filler<T>(Arc<Slot<T>>);

impl<T> Filler<T> {
    fn fill(&self, with: Filled<T>) {
        *self.0.filled.lock() = with;
        if let Some(inner) = self
            .0
            .inner
            .upgrade()
            .filter(|_| !mutant("output-calls-nobody"))
        {
            tell_waiters(&inner);
        }
    }
}

/// Has every thread that waits for an output look whether it is there. It was left under a lock that whoever waits looks under.
pub(crate) fn tell_waiters(inner: &Inner) {
    inner.pool.call_guests();
    // A thread that has no place, but takes completions by hand, is no company that the waiter knows of.
    if inner.pool.somebody_is_alone() && !mutant("output-rings-nobody") {
        inner.sleep.pass_on(&*inner.backend);
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let open = matches!(*self.0.filled.lock(), Filled::NotYet);
        if open {
            self.fill(Filled::Dropped);
        }
    }
}

impl<O: Operation> Initiation<O> {
    /// Begins the operation and blocks this thread until its output is there.
    ///
    /// Outside of handlers this thread works for the proactor meanwhile, if it has a place for it; so it needs nobody
    /// else to run it. Inside a handler it first leaves what its worker has lying to the others, and then runs other
    /// handlers nested, up to [`WAIT_DEPTH`] deep; beyond that the *result* is
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock), at once, and the buffers come back.
    ///
    /// Inside a handler of a [`Strand`](crate::Strand) it runs no other handler, since that could be the strand's: it waits for
    /// events in place of those who could, and leaves what comes to them. Then a composed operation, which is made of handlers,
    /// needs another thread at work; where there is none the result is `WouldDeadlock`, too.
    ///
    /// On a closed port, as after [`shutdown`](crate::Proactor::shutdown), the operation ends as closed, at once. While the proactor is
    /// stopped nobody delivers anything, a time limit neither: then this waits for a [`restart`](crate::Proactor::restart), but inside a
    /// handler it goes on, since [`run`](crate::Proactor::run) returns only when its handlers have.
    ///
    /// Of two proactors whose only threads wait for each other's operations, inside handlers, neither goes on: give one of them another
    /// thread.
    ///
    /// If the proactor is dropped meanwhile the operation ends as cancelled, or as closed if it had not begun, and the buffers come
    /// back, too.
    ///
    /// # Panics
    ///
    /// With a handler's panic, if this thread runs it meanwhile and the policy is
    /// [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate); the operation goes on, and its output is dropped. Also if a buffer of
    /// your own making panics.
    pub fn wait(self) -> O::Output {
        let port = self.port();
        let inner = &*port.0;
        let depth = Local::with_any(&inner.home, |local| {
            local.map_or(0, |local| local.depth.get())
        });
        if self.is_on_closed_port() {
            return self.end(code::CLOSED);
        }
        let leading = strands_held().then(|| inner.pool.lead_only());
        let in_strand = leading.is_some();
        let is_made_of_handlers = O::KIND == Kind::Composed || O::REPEATS;
        if depth >= WAIT_DEPTH || (is_made_of_handlers && is_stuck(inner, leading.as_ref())) {
            return self.end(code::WOULD_DEADLOCK);
        }
        let slot = Arc::new(Slot {
            filled: Mutex::new(Filled::NotYet),
            inner: Arc::downgrade(&port.0),
        });
        let filler = Filler(Arc::clone(&slot));
        let fill = move |output| filler.fill(Filled::Output(output));
        if in_strand {
            self.begin_in(|home, object, key, op| {
                let waited = Waited { op, fill };
                (operation::place_body(home, object, key, waited, false), ())
            });
        } else {
            self.begin::<true, _>(fill, false);
        }
        let open = || matches!(*slot.filled.lock(), Filled::NotYet);
        drive(inner, &open, in_strand);
        let filled = std::mem::replace(&mut *slot.filled.lock(), Filled::Dropped);
        match filled {
            Filled::Output(output) => output,
            Filled::NotYet | Filled::Dropped => {
                panic!("a buffer panicked as the output that a thread waited for was made")
            }
        }
    }
}

impl<O: Operation, C> Initiation<O, C> {
    /// Ends it without having begun it, since to wait for it here could never end.
    pub(crate) fn refuse(self) -> O::Output {
        self.end(code::WOULD_DEADLOCK)
    }

    /// Ends it without having begun it.
    pub(super) fn end(self, raw: i64) -> O::Output {
        self.op.finish(operation::decode(raw, O::KIND))
    }
}

/// Whether this thread, within a strand if it is `leading`, would wait in vain for a handler of the port: it runs none, and nobody
/// else is at work.
fn is_stuck(inner: &Inner, leading: Option<&Leading<'_>>) -> bool {
    let here = Local::with_any(&inner.home, |local| local.is_some());
    leading.is_some_and(|leading| !leading.has_others(here))
}

/// Whether this thread, if it waited for a handler of the port now, would wait in vain.
pub(crate) fn would_be_stuck(inner: &Inner) -> bool {
    let leading = strands_held().then(|| inner.pool.lead_only());
    is_stuck(inner, leading.as_ref())
}

/// Works for the port, or waits for those who do, while `open`.
pub(crate) fn drive(inner: &Inner, open: &dyn Fn() -> bool, lead_only: bool) {
    let bounds = Bounds {
        until: Some(open),
        lead_only: lead_only && !mutant("strand-waits-as-others"),
        ..Bounds::FOREVER
    };
    let here = Local::with_any(&inner.home, |local| {
        local.is_some_and(|local| local.depth.get() > 0)
    });
    while open() {
        // Also at the end: whoever leaves drops what is left, and that fills the slot.
        let nested = Local::with_any(&inner.home, |local| {
            local.map(|local| inner.help(local, bounds))
        });
        let has_place = nested.is_some();
        let ran = match nested {
            Some(ran) => ran,
            None => match inner.pool.claim_or(|| !open() || inner.is_ended()) {
                Some(place) => inner.work(&place, bounds),
                None => Ran::default(),
            },
        };
        if let Some(panic) = ran.panic {
            std::panic::resume_unwind(panic);
        }
        // A handler that waits is served to its end, also while nobody else runs.
        let halted = if here {
            inner.is_ended()
        } else {
            inner.is_stopped()
        };
        if open() && halted {
            // Whoever stopped it may have it run again; if it has ended, others still hold what they are at, and what they bring who
            // has a place drops.
            let told = || !open() || !inner.is_stopped() || (has_place && inner.has_left());
            inner.pool.await_change(told);
        }
    }
}
