//! When the one thread that waits must wake, for a wait that takes a time-out and knows of no timer.
//!
//! Who is about to wait says until when it will sleep, fences, and looks at the timer again; who sets the timer fences, and
//! looks until when somebody sleeps. So an earlier timer shortens the wait, or its setter is told to cut the wait short:
//! `docs/dispatch-protocols.md`, "Timers".

use std::time::Instant;

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::mutant;

/// In nanoseconds after its making.
#[derive(Debug)]
pub(crate) struct Alarm {
    epoch: Instant,
    /// When the timer expires.
    timer: AtomicU64,
    /// Until when somebody sleeps; 0 while nobody does.
    asleep_until: AtomicU64,
}

impl Alarm {
    pub(crate) const NEVER: u64 = u64::MAX;

    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            timer: AtomicU64::new(Self::NEVER),
            asleep_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(Self::NEVER)
    }

    /// The caller is about to sleep, until `deadline` at most: until when it may.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> u64 {
        let own = deadline.map_or(Self::NEVER, |at| self.nanos(at));
        let until = own.min(self.timer.load(Ordering::Relaxed));
        self.asleep_until.store(until, Ordering::Relaxed);
        // Pairs with the fence in `set`.
        if !mutant("alarm-sleep-fence") {
            fence(Ordering::SeqCst);
        }
        until.min(self.timer.load(Ordering::Relaxed))
    }

    /// The caller sleeps no more.
    pub(crate) fn wake(&self) {
        self.asleep_until.store(0, Ordering::Relaxed);
    }

    /// Sets the timer; true if somebody sleeps beyond it, and must be woken.
    #[must_use]
    pub(crate) fn set(&self, at: Option<Instant>) -> bool {
        let at = at.map_or(Self::NEVER, |at| self.nanos(at));
        self.timer.store(at, Ordering::Relaxed);
        // Pairs with the fence in `sleep`.
        if !mutant("alarm-set-fence") {
            fence(Ordering::SeqCst);
        }
        self.asleep_until.load(Ordering::Relaxed) > at
    }

    /// Whether the timer has expired.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        let timer = self.timer.load(Ordering::Relaxed);
        timer != Self::NEVER && timer <= now
    }
}
