//! The short way to sleep and back, which a worker goes that has nothing else to look at: nothing bounds its work but how many
//! handlers, and nobody relies on what it is about.
//!
//! These are the steps of `idle`, `wait` and `rise`, in their order. What is rare is left to those.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Sleep and wake".

use super::{Bounds, Idle, Shift};
use crate::cell::header;
use crate::port::sleep::Stay;
use crate::queue::List;

impl Bounds<'_> {
    /// Whether who works so may go to sleep by the short way.
    pub(super) fn let_doze(&self) -> bool {
        self.wait && self.are_wide() && !self.lead_only
    }
}

impl Shift<'_> {
    /// Sits, and waits until there is something. None if `idle` is to be asked.
    #[inline(never)]
    pub(super) fn doze(&mut self) -> Option<Idle> {
        let (inner, local) = (self.inner, self.local);
        if self.searching | self.relied_on | local.permit.get() || !inner.sleep.is_wanted() {
            return None;
        }
        let taken = inner.sleep.sit(Some(local.index), Stay::Asleep)?;
        if inner.is_stopped() || inner.is_restless(local.index) {
            return Some(self.rise_at_once());
        }
        let due = List::new();
        let waited = inner.backend.wait(&mut self.events, &due, None);
        let unseen = match &waited {
            // Who is notified answers a bell; who is stopped passes it on.
            Ok(woken) => !woken.notified && !inner.is_stopped() && inner.sleep.leave_unseen(taken),
            Err(_) => false,
        };
        if !unseen {
            self.end_wait(waited, Stay::Asleep, due);
            return Some(Idle::LookAgain);
        }
        // While a lone worker is awake nobody is parked, whom it could owe a seat.
        let others = local.workers > 1;
        self.stood |= others;
        self.fresh |= others;
        self.to_look = inner.pool.knobs.poll_every.get();
        if waited.is_ok_and(|woken| woken.timer) {
            inner.fire_timers(&due);
        }
        self.publish(due);
        Some(Idle::LookAgain)
    }

    /// It has taken a seat, and must not sleep.
    #[cold]
    fn rise_at_once(&mut self) -> Idle {
        self.rise(Stay::Asleep, false);
        self.look_again(false)
    }

    /// Makes a batch visible before its first handler runs: else two of a batch would wait for each other.
    #[inline]
    pub(super) fn publish(&mut self, due: List) {
        let plain = |cell| header(cell).vtable().at_once.is_none();
        if self.inner.keeps_reaped && due.iter().all(plain) {
            self.local.kept.append(&due);
        } else {
            self.publish_each(due);
        }
    }
}
