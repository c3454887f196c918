//! The short way to sleep and back, which a worker goes that has nothing else to look at: nothing bounds its work but how many
//! handlers, and nobody relies on what it is about.
//!
//! These are the steps of `idle`, `wait` and `rise`, in their order. What is rare is left to those.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Sleep and wake".

use super::run::Spree;
use super::{Bounds, Idle, Shift};
use crate::backend::Woken;
use crate::cell::header;
use crate::local::Local;
use crate::port::Inner;
use crate::port::sleep::Stay;
use crate::queue::List;
use crate::sync::mutant;

impl Bounds<'_> {
    /// Whether who works so may go to sleep by the short way.
    pub(super) fn let_doze(&self) -> bool {
        self.wait && self.are_wide() && !self.lead_only
    }
}

impl Shift<'_> {
    /// Sits, waits until there is something, and keeps or publishes that. How the spree ends, if this was not all.
    #[inline(always)]
    pub(super) fn doze(&mut self, inner: &Inner, local: &Local) -> Option<Spree> {
        if self.searching | self.relied_on | local.permit.get() {
            return Some(Spree::Nothing);
        }
        let Some(taken) = inner.sleep.sit_if_wanted(local.index) else {
            return Some(Spree::Nothing);
        };
        if inner.is_stopped() || inner.is_restless(local.index) {
            return Some(self.rise_at_once());
        }
        // What a lone worker keeps goes straight there: it keeps nothing else now.
        let due = if inner.keeps_reaped {
            &local.kept
        } else {
            &self.reaped
        };
        let waited = inner.backend.wait(&mut self.events, due, None);
        // Who is notified answers a bell; who is stopped passes it on.
        let hears = !mutant("bell-left-unseen");
        let plain = matches!(waited, Ok(woken) if !((woken.notified & hears) | woken.timer));
        if !plain || inner.is_stopped() || !inner.sleep.leave_unseen(taken) {
            return Some(self.end_doze(waited));
        }
        if local.workers > 1 {
            // While a lone worker is awake nobody is parked, whom it could owe a seat.
            self.stood = true;
            self.fresh = true;
        }
        self.to_look = inner.pool.knobs.poll_every.get();
        let alike = |cell| header(cell).vtable().at_once.is_none();
        if !inner.keeps_reaped || !local.kept.iter().all(alike) {
            let due = self.take_due();
            self.publish(due);
        }
        None
    }

    /// What was reaped.
    fn take_due(&self) -> List {
        if self.inner.keeps_reaped {
            self.local.kept.take_all()
        } else {
            self.reaped.take_all()
        }
    }

    /// It has taken a seat, and must not sleep.
    #[cold]
    fn rise_at_once(&mut self) -> Spree {
        self.rise(Stay::Asleep, false);
        match self.look_again(false) {
            Idle::Over => Spree::Over,
            Idle::LookAgain => Spree::Ran,
        }
    }

    /// There is more to see to: somebody notified, or came, or went meanwhile, or it is time for a timer.
    #[cold]
    fn end_doze(&mut self, waited: Result<Woken, i32>) -> Spree {
        let due = self.take_due();
        self.end_wait(waited, Stay::Asleep, due);
        Spree::Ran
    }
}
