//! A wait that has a waker in place of a handler: for those who mostly give it up before its time has come.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Timers".

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::operation::OperationKey;
use crate::port::{CompletionPort, WeakPort};

/// A future that is ready at its time, or when its port has ended. Unlike that of [`Sleep`](super::Sleep) it leaves no completion when it is
/// dropped.
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
                return match inner.timers.will_wake(cell, generation, context.waker()) {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                };
            }
            *begun = inner
                .timers
                .nap(inner.alarm(), &inner.home, *at, context.waker().clone());
            match begun {
                Some(_) => Poll::Pending,
                None => Poll::Ready(()),
            }
        })
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        let Some(key) = self.begun else { return };
        let waker = self.port.with(|inner| {
            let inner = inner?;
            let (nap, generation) = key.resolve(&inner.home)?;
            inner.timers.give_up(&inner.home, nap, generation)
        });
        drop(waker); // A waker's drop may do anything.
    }
}

impl fmt::Debug for Nap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nap")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
