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

impl Bounds<'_> {
    /// Whether who works so may go to sleep by the short way.
    pub(super) fn let_doze(&self) -> bool {
        self.wait && self.are_wide() && !self.lead_only
    }
}

impl Shift<'_> {
    /// Sits, waits until there is something, and keeps or publishes that. How the spree ends, if this was not all.
    #[inline(never)]
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
        let list = List::new();
        let due = if inner.keeps_reaped {
            &local.kept
        } else {
            &list
        };
        let waited = inner.backend.wait(&mut self.events, due, None);
        match waited {
            // Who is notified answers a bell; who is stopped passes it on.
            Ok(woken) if !woken.notified && !inner.is_stopped() => {
                if !inner.sleep.leave_unseen(taken) {
                    return Some(self.end_doze(waited, due));
                }
                if local.workers > 1 {
                    // While a lone worker is awake nobody is parked, whom it could owe a seat.
                    self.stood = true;
                    self.fresh = true;
                }
                self.to_look = inner.pool.knobs.poll_every.get();
                if woken.timer {
                    inner.fire_timers(due);
                }
                let plain = |cell| header(cell).vtable().at_once.is_none();
                if !inner.keeps_reaped || !due.iter().all(plain) {
                    self.publish(due.take_all());
                }
                None
            }
            _ => Some(self.end_doze(waited, due)),
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

    /// Somebody notified, or came, or went meanwhile.
    #[cold]
    fn end_doze(&mut self, waited: Result<Woken, i32>, due: &List) -> Spree {
        self.end_wait(waited, Stay::Asleep, due.take_all());
        Spree::Ran
    }
}
