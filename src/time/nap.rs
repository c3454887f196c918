//! A wait that has a waker in place of a handler: for those who mostly give it up before its time has come.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Timers".

use std::fmt;
use std::mem::offset_of;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Sleep;
use crate::error::Error;
use crate::id::ObjectId;
use crate::operation::{self, Body, Ends, OperationKey};
use crate::port::wheel::Node;
use crate::port::{CompletionPort, WeakPort};

/// A wait, and whom it wakes.
struct Wakes {
    op: Sleep,
    waker: Waker,
}

impl Body for Wakes {
    type Op = Sleep;

    fn op(&mut self) -> &mut Sleep {
        &mut self.op
    }
}

impl Ends for Wakes {
    const WAKER: Option<usize> = Some(offset_of!(Self, waker));

    fn run(self, _result: Result<usize, Error>) {
        self.waker.wake();
    }

    fn discard(self, result: Result<usize, Error>) {
        self.run(result);
    }
}

/// A future that is ready at its time, or when its port has ended. Unlike that of [`Sleep`] it leaves no completion when it is dropped.
pub(crate) struct Nap {
    /// Weak, as for any future.
    port: WeakPort,
    at: Instant,
    begun: Option<OperationKey>,
}

impl Nap {
    pub(crate) fn until(port: &CompletionPort, at: Instant) -> Self {
        Self {
            port: port.downgrade(),
            at,
            begun: None,
        }
    }
}

/// For models: an adapter has its own way here.
#[cfg(proactor_loom)]
impl CompletionPort {
    #[doc(hidden)]
    pub fn nap(
        &self,
        after: std::time::Duration,
    ) -> impl Future<Output = ()> + Send + Unpin + use<> {
        Nap::until(self, crate::port::timers::from_now(after))
    }
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { port, at, begun } = &mut *self;
        port.with(|inner| {
            let Some(inner) = inner else {
                return Poll::Ready(());
            };
            if let Some((cell, generation)) = begun.and_then(|key| key.resolve(&inner.home)) {
                return match inner.timers.knows(cell, generation, context.waker()) {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                };
            }
            let node = Node::new(ptr::null_mut());
            let body = Wakes {
                op: Sleep { node },
                waker: context.waker().clone(),
            };
            let cell = operation::place_body(&inner.home, ObjectId::TIMER, 0, body, false);
            *begun = Some(OperationKey::of(cell, &inner.home));
            inner.arm(cell, *at);
            Poll::Pending
        })
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        let Some(key) = self.begun else { return };
        let taken = self.port.with(|inner| {
            let (cell, generation) = key.resolve(&inner?.home)?;
            inner?.timers.take_back(cell, generation)
        });
        drop(taken); // A waker's drop may do anything.
    }
}

impl fmt::Debug for Nap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nap")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
