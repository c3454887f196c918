//! The short way to sleep and back, which a worker goes that has nothing else to look at: nothing bounds its work but how many
//! handlers, and nobody relies on what it is about.
//!
//! These are the steps of `idle`, `wait` and `rise`, in their order. What is rare is left to those.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Sleep and wake".

use super::run::Spree;
use super::{Bounds, Idle, Shift};
use crate::backend::Woken;
use crate::cell::{Ptr, header};
use crate::local::Local;
use crate::port::Inner;
use crate::port::sleep::Stay;
use crate::queue::List;
use crate::sync::mutant;

/// Who may go that way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dozes {
    /// The only worker, which keeps what it reaps: while it is awake nobody is parked, whom it could owe a seat.
    Alone,
    /// One of several, or of a strategy that keeps what is reaped itself.
    Among,
    /// Its work is bounded, or it spins, or has permits to give back.
    Never,
}

/// Whether what is in that cell may be for whoever finishes it to run.
fn is_at_once(cell: Ptr) -> bool {
    header(cell).vtable().at_once.is_some()
}

impl Inner {
    /// Whether who works within `bounds` may.
    pub(super) fn doze_within(&self, bounds: Bounds<'_>) -> Dozes {
        let plain = bounds.wait && bounds.are_wide() && !bounds.lead_only;
        let knobs = &self.pool.knobs;
        if !plain || !knobs.spin.is_zero() || self.permits.are_limited() {
            Dozes::Never
        } else if self.keeps_reaped {
            Dozes::Alone
        } else {
            Dozes::Among
        }
    }
}

impl Shift<'_> {
    /// By itself, so that `work` stays small.
    #[inline(never)]
    pub(super) fn doze_among(&mut self, inner: &Inner, local: &Local) -> Option<Spree> {
        self.doze::<false>(inner, local)
    }

    /// Sits, waits until there is something, and keeps or publishes that. How the spree ends, if this was not all.
    #[inline(always)]
    pub(super) fn doze<const ALONE: bool>(
        &mut self,
        inner: &Inner,
        local: &Local,
    ) -> Option<Spree> {
        if self.fresh {
            return Some(Spree::Nothing); // It may be searching.
        }
        let Some(taken) = inner.sleep.sit_if_wanted(local.index, self.first_seat) else {
            return Some(Spree::Nothing);
        };
        let ledger = &inner.home.ledger;
        let settled = || match ALONE {
            true => ledger.is_settled_beside(local.books()),
            false => ledger.is_settled_by_now(),
        };
        if inner.is_stopped() || inner.has_work_for(local.index) || settled() {
            return Some(self.rise_at_once());
        }
        // Who is alone keeps nothing else now.
        let due = if ALONE { &local.kept } else { &self.reaped };
        let waited = inner.backend.wait(&mut self.events, due, None);
        // Who is notified answers a bell; who is stopped passes it on.
        let deaf = mutant("bell-left-unseen");
        let plain =
            matches!(waited, Ok(woken) if woken.is_plain() || (deaf && !woken.was(Woken::TIMER)));
        if !plain || inner.is_stopped() || !inner.sleep.leave_unseen(taken) {
            return Some(self.end_doze(waited));
        }
        self.to_look = inner.pool.knobs.poll_every.get();
        if !ALONE {
            inner.sleep.depart();
            self.stood = true;
            self.fresh = true;
            let due = self.take_due();
            self.publish(due);
        } else if local.kept.iter().any(is_at_once) {
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
