//! Permits: how many handlers are runnable at a time, where that is fewer than there are workers.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Permits". The rules in short:
//!
//! 1. A worker that is about to run something has a permit. One that has nothing to run, that leaves, or whose handler blocks in a
//!    section has none.
//! 2. Who gives one back then fences and looks for work; who has made work visible fences and looks for a free permit, and wakes
//!    nobody if there is none. One of the two sees the other.
//! 3. A handler that comes back from a section has a permit at once, over the number if need be; whoever has one over it gives it
//!    back before its next handler.

use crossbeam::utils::CachePadded;

use super::Inner;
use crate::completion::{Attempt, port_of};
use crate::local::Local;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Arc, guess, mutant};

#[derive(Debug)]
pub(crate) struct Permits {
    most: u64,
    /// Whether there are fewer than workers. Else nobody takes any.
    limited: bool,
    /// Relaxed: it hands nothing over, and where it is weighed against what is queued there is a fence.
    taken: CachePadded<AtomicU64>,
}

impl Permits {
    pub(crate) fn new(workers: usize, most: usize) -> Self {
        Self {
            most: most as u64,
            limited: most < workers,
            taken: CachePadded::new(AtomicU64::new(0)),
        }
    }

    #[inline]
    pub(crate) fn are_limited(&self) -> bool {
        self.limited
    }

    /// Whether one is free. For who has made work visible, or has announced itself as asleep: fence, and look.
    #[inline]
    pub(crate) fn any_free(&self) -> bool {
        if !self.limited {
            return true;
        }
        // Pairs with the one in `give_back`.
        if !mutant("permit-waker-fence") {
            fence(Ordering::SeqCst);
        }
        self.taken.load(Ordering::Relaxed) < self.most
    }

    /// Takes one, if one is free.
    pub(crate) fn try_take(&self) -> bool {
        let most = if mutant("permit-unasked") {
            u64::MAX
        } else {
            self.most
        };
        self.change(|taken| (taken < most).then_some(taken + 1))
    }

    /// Takes one, free or not.
    fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one back if more are taken than there are. As many as there are stay taken, so that nobody need be told.
    pub(crate) fn give_surplus(&self) -> bool {
        let most = if mutant("surplus-kept") {
            u64::MAX
        } else {
            self.most
        };
        self.change(|taken| (taken > most).then(|| taken - 1))
    }

    /// Gives one back. The caller then looks for work.
    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        // Pairs with the one in `any_free`.
        if !mutant("permit-return-fence") {
            fence(Ordering::SeqCst);
        }
    }

    fn change(&self, to: impl Fn(u64) -> Option<u64>) -> bool {
        let mut taken = guess(&self.taken);
        while let Some(next) = to(taken) {
            match self.taken.compare_exchange_weak(
                taken,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
        false
    }

    /// As `give_back`, if this worker has one; true if it had.
    pub(crate) fn give_back_of(&self, local: &Local) -> bool {
        let had = local.permit.replace(false);
        if had {
            self.give_back();
        }
        had
    }

    /// As `take`, for a worker that has none.
    pub(crate) fn take_for(&self, local: &Local) {
        if !local.permit.replace(true) {
            self.take();
        }
    }
}

impl Inner {
    /// Wakes a worker for work that is visible already, unless one is on its way, or none may run it: then who has a permit
    /// looks as it gives that back.
    #[inline]
    pub(crate) fn wake_one(&self) {
        if self.permits.any_free() {
            self.sleep.wake_one(&*self.backend);
        }
    }

    /// As `wake_one`, if there is anything left to run.
    pub(crate) fn wake_for_rest(&self) {
        if !self.dispatcher.is_empty() {
            self.wake_one();
        }
    }

    /// Whether there is something to run that a further worker may run.
    pub(crate) fn has_work(&self) -> bool {
        !self.dispatcher.is_empty() && self.permits.any_free()
    }
}

/// Calls `call`, which may block, and has another handler run meanwhile where
/// [`Builder::concurrency`](crate::Builder::concurrency) says how many may: as a thread that blocks leaves its place to another one at
/// an I/O completion port. What waited for this thread alone goes to the others first.
///
/// When `call` returns, or panics, this handler goes on at once. For a moment there may thus be one handler more than the number;
/// no further one begins until there are fewer. (It does not wait for its place: what it brings back may be a lock that
/// those who run wait for.) Only workers that exist take the place: if all of them are in sections, the rest waits.
///
/// For short waits in the midst of a handler; a call that can be made elsewhere is better made by
/// [`blocking`](crate::CompletionPort::blocking). It may be called anywhere: outside of a handler, within another section, and where the
/// number was not set, it just calls.
///
/// ```
/// use proactor::{Proactor, blocking_section, dispatch::LeaderFollowers};
/// use std::num::NonZeroUsize;
/// use std::sync::mpsc;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (one, two) = (NonZeroUsize::new(1).unwrap(), NonZeroUsize::new(2).unwrap());
/// let proactor = Proactor::builder()
///     .dispatcher(LeaderFollowers::new())
///     .threads(two)
///     .concurrency(one) // one handler at a time, on whichever of two threads
///     .build()?;
/// let (tell, told) = mpsc::channel();
/// proactor.post(move || assert!(blocking_section(|| told.recv()).is_ok())); // without the section: for ever
/// proactor.post(move || tell.send(()).unwrap());
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
pub fn blocking_section<R>(call: impl FnOnce() -> R) -> R {
    Local::current(|local| {
        let _section = local.and_then(Section::begin);
        call()
    })
}

/// A handler that blocks.
struct Section<'a> {
    port: Arc<dyn Attempt>,
    local: &'a Local,
    /// Whether it had a permit.
    permitted: bool,
}

impl<'a> Section<'a> {
    /// None outside of handlers, and where there is nobody else.
    fn begin(local: &'a Local) -> Option<Self> {
        if local.depth.get() == 0 || local.workers == 1 {
            return None;
        }
        let port = port_of(local.home())?;
        let permitted = port.pause(local);
        Some(Self {
            port,
            local,
            permitted,
        })
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if self.permitted {
            self.port.resume(self.local);
        }
    }
}
