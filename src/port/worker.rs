//! A worker's loop: pick, attempt, run; with nothing to run, sit or park.
//!
//! One thread at a time has a place in the pool, and with it the worker's index, its counters and its two lists.
//! What it runs, and how: `run.rs`. Protocols: `docs/dispatch-protocols.md`, "Sleep and wake", "The end of a run".

mod doze;
mod run;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::dispatcher::{Origin, Placed, Worker};
use super::pool::Place;
use super::sleep::{Sleep, Stay, Unparked};
use super::timers::from_now;
use super::{Inner, Route, halt};
use crate::backend::{Events, Woken};
use crate::completion::{Attempt, Completion};
use crate::local::Local;
use crate::queue::List;
use crate::sync::{mutant, yield_now};
use doze::Dozes;

/// How long a thread sleeps that waits for an output of which nobody can tell it. In a model the model says when that is over, and not how
/// long its process was put off.
const TICK: Duration = match cfg!(proactor_loom) {
    false => Duration::from_millis(1),
    true => Duration::from_secs(3600),
};

/// How long a call to the loop goes on.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// How many handlers at most.
    pub(crate) limit: usize,
    /// Whether to wait when nothing is ready.
    pub(crate) wait: bool,
    pub(crate) deadline: Option<Instant>,
    /// Goes on only while this says so.
    pub(crate) until: Option<&'a dyn Fn() -> bool>,
    /// Runs no handler, but waits for events, attempts, and leaves what comes to others.
    pub(crate) lead_only: bool,
}

impl Bounds<'_> {
    pub(crate) const FOREVER: Self = Self {
        limit: usize::MAX,
        wait: true,
        deadline: None,
        until: None,
        lead_only: false,
    };
}

/// What a call to the loop came to.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) handlers: usize,
    /// A handler's panic, under [`PanicPolicy::Propagate`].
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

/// How idling ended.
enum Idle {
    LookAgain,
    /// Nothing is outstanding, or the deadline has passed.
    Over,
}

/// A thread at work.
struct Shift<'a> {
    inner: &'a Inner,
    local: &'a Local,
    events: Events,
    /// What a wait reaps; empty else.
    reaped: List,
    /// Whether this worker was woken and has found nothing yet.
    searching: bool,
    /// Whether it gave a search up, and has not yet looked in vain since: others may have left to that search what they made visible.
    relied_on: bool,
    /// Whether this worker has left a seat since it last went to work.
    stood: bool,
    /// Whether one of these three has become so since it last went to work.
    fresh: bool,
    /// Whether this thread sits untimed though it waits for an output: see `Pool::stay_alone`.
    alone: bool,
    /// Whether a handler waits for its output here: it is served also while nobody else runs, since it ends no sooner.
    serves_handler: bool,
    /// Whether the handler that this is nested in has a permit.
    nested_in_permitted: bool,
    /// Whether it may go to sleep by the short way.
    dozes: Dozes,
    /// What it takes its seat with, there: see `Sleep::first_seat`.
    first_seat: u64,
    /// For which reasons it is to return, as bits of `halt`.
    halts: usize,
    /// After how many picks it looks for events, busy as it is; and when it last did.
    to_look: usize,
    looked: Option<Instant>,
    ran: Ran,
}

impl Inner {
    /// Works at `place` within `bounds`.
    pub(crate) fn work<'a>(&'a self, place: &Place<'a>, bounds: Bounds<'_>) -> Ran {
        place.worked_for.set(Some(self));
        let knobs = &self.pool.knobs;
        let local = Local::new(&self.home, place.index, knobs.workers.get());
        local.picks.set(place.picks.get());
        let stack = self.dispatcher.stack(Worker::new(&local));
        // SAFETY: it is in the dispatcher, which lives as long as `self`, and longer than `local`.
        unsafe { local.use_stack(stack) };
        let ran = local.enter(|| self.shift(&local, bounds));
        place.picks.set(local.picks.get());
        ran
    }

    /// As `work`, nested in a handler of the worker that `local` is.
    pub(crate) fn help(&self, local: &Local, bounds: Bounds<'_>) -> Ran {
        // What the handler finished so far must not wait for the handler.
        self.share(local);
        local.enter(|| self.shift(local, bounds))
    }

    /// Whether the proactor is gone, and something is left that only who has a place can drop.
    pub(crate) fn has_left(&self) -> bool {
        self.is_ended() && !self.dispatcher.is_empty()
    }

    /// Gives to the strategy, for whoever comes, what only this worker sees.
    pub(crate) fn share(&self, local: &Local) {
        for left in local.turn.take_all().chain(local.kept.take_all()) {
            self.hand(left, Route::Outside);
        }
    }

    /// Runs, whoever finishes it, what runs nobody's handler: what a thread waits for that may not run handlers itself, since there may be
    /// nobody else; an awaited operation whose future looks at it, or is gone. Gives back anything else. Never within a lock.
    #[inline]
    pub(crate) fn deliver(&self, completion: Completion) -> Option<Completion> {
        if !completion.is_at_once() || mutant("strand-output-is-queued") {
            return Some(completion);
        }
        self.deliver_now(completion);
        None
    }

    #[cold]
    fn deliver_now(&self, completion: Completion) {
        let done = if completion.is_due() {
            self.attempt(completion.into_ptr())
        } else {
            Some(completion)
        };
        if let Some(done) = done {
            // A buffer that nobody wants any more, and that panics as it goes: as a handler's.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| done.run_finished())) {
                self.hand_future(false, move || resume_unwind(panic));
            }
        }
    }

    fn shift(&self, local: &Local, bounds: Bounds<'_>) -> Ran {
        let mut events = Events::new(self.pool.knobs.batch);
        if bounds.wait && bounds.limit > 1 {
            // A long run; a worker that first waits late in it must not allocate then.
            self.backend.prepare(&mut events);
        }
        let serves_handler = bounds.until.is_some() && local.depth.get() > 0;
        let by_end_alone = serves_handler && !mutant("waiter-is-halted");
        let mut shift = Shift {
            inner: self,
            local,
            events,
            reaped: List::new(),
            searching: false,
            relied_on: false,
            stood: false,
            fresh: false,
            alone: false,
            serves_handler,
            nested_in_permitted: local.permit.get(),
            dozes: self.doze_within(bounds),
            first_seat: Sleep::first_seat(local.index),
            halts: if by_end_alone {
                halt::ENDED
            } else {
                usize::MAX
            },
            to_look: run::picks_to(self.pool.knobs.poll_every, local.picks.get()),
            looked: None,
            ran: Ran::default(),
        };
        shift.work(bounds);
        let ran = std::mem::take(&mut shift.ran);
        if ran.panic.is_some() && mutant("panic-just-goes") {
            std::mem::forget(shift);
        }
        ran
    }
}

impl Shift<'_> {
    /// Whether this worker is to return.
    #[inline]
    fn is_halted(&self) -> bool {
        self.inner.is_halted_by(self.halts)
    }

    /// Whether this worker, about to sleep, must not.
    fn is_restless(&self) -> bool {
        self.is_halted() || self.inner.is_restless(self.local.index)
    }

    /// Until when to sleep. A thread that waits for one output, whose handler another worker may run, is not told of
    /// that while it sleeps (the bell cannot choose whom it wakes): it looks once a tick, unless it sits alone.
    fn nap(&self, bounds: Bounds<'_>) -> Option<Instant> {
        if bounds.until.is_none() || self.alone {
            return bounds.deadline;
        }
        let tick = Instant::now() + TICK;
        Some(bounds.deadline.map_or(tick, |deadline| deadline.min(tick)))
    }

    /// This worker has work. If it was the last that searched, and there is more, another one searches; if it has left the
    /// seat, or was woken to sit, and nobody sits, another one is promoted.
    fn found(&mut self) {
        self.fresh = false;
        let searching = std::mem::take(&mut self.searching);
        let relied_on = std::mem::take(&mut self.relied_on) && !mutant("given-up-owes-nothing");
        if (searching && self.inner.sleep.found()) || relied_on {
            self.inner.wake_for_rest();
        }
        if std::mem::take(&mut self.stood) || searching {
            self.inner.sleep.hand_over();
        }
    }

    /// Nothing to run: spin, sit, or park, until there is something, or the end.
    fn idle(&mut self, bounds: Bounds<'_>) -> Idle {
        let mut relied_on = std::mem::take(&mut self.relied_on);
        if std::mem::take(&mut self.searching) {
            self.inner.sleep.gave_up();
            relied_on = true;
        }
        // Before it is announced as asleep, after which it looks once more.
        self.inner.permits.give_back_of(self.local);
        if self.looks_in(bounds) || self.spin() {
            return self.look_again(relied_on);
        }
        let index = self.local.index;
        // Who waits for an output sits in any case: parked, it would have to look once a tick.
        let sits = bounds.until.is_some() || self.inner.sleep.is_wanted();
        if !sits || self.inner.sleep.sit(Some(index), Stay::Asleep).is_none() {
            let unparked = self
                .inner
                .sleep
                .park(index, self.nap(bounds), || self.is_restless());
            if unparked == Unparked::LookAgain {
                return self.look_again(relied_on);
            }
            self.searching = true;
            self.fresh = true;
            return Idle::LookAgain;
        }
        if self.is_restless() {
            self.rise(Stay::Asleep, false);
            return self.look_again(relied_on);
        }
        self.sit_through(bounds);
        Idle::LookAgain
    }

    /// This worker has not slept, since there is work, or none any more. What was left to the search that it gave up is its own to hand on.
    #[cold]
    fn look_again(&mut self, relied_on: bool) -> Idle {
        if self.inner.home.ledger.is_settled() {
            // `leave` tells the others.
            return Idle::Over;
        }
        self.relied_on = relied_on;
        self.fresh |= relied_on;
        Idle::LookAgain
    }

    /// Serves a handler while everybody else is to return: looks at each tick, and leaves the seat, and so the bell, to those who are to
    /// hear of it. False if nobody is to return.
    fn looks_in(&mut self, bounds: Bounds<'_>) -> bool {
        if !self.serves_handler || !self.inner.is_stopped() {
            return false;
        }
        if !self.reap(Instant::now()) {
            let over = || bounds.until.is_some_and(|go_on| !go_on());
            let tick = Instant::now() + TICK;
            self.inner.pool.await_change_until(tick, over);
        }
        true
    }

    /// Waits on the seat that this worker has; longer, if it is the only one and waits for an output.
    fn sit_through(&mut self, bounds: Bounds<'_>) {
        if let Some(go_on) = bounds.until {
            self.alone = self.inner.pool.stay_alone();
            // Another may have delivered the output and left, between our last look and being alone.
            if self.alone && !go_on() {
                self.alone = false;
                self.inner.pool.end_alone();
                return self.rise(Stay::Asleep, false);
            }
        }
        self.wait(Stay::Asleep, self.nap(bounds));
    }

    /// Waits where events come in, or for those who do, and leaves all work to others: within a strand no other handler may run. What it
    /// is told of, it tells the next.
    fn lead(&mut self, bounds: Bounds<'_>) {
        // It is not runnable as it waits.
        if self.inner.permits.give_back_of(self.local) {
            self.inner.wake_for_rest();
        }
        if !mutant("strand-keeps-its-search") {
            let told = self.searching;
            self.found();
            if told {
                yield_now(); // Or this one, sitting again at once, hears it once more.
            }
        }
        self.inner.share(self.local);
        if self.looks_in(bounds) {
            return;
        }
        let taken = self.inner.sleep.sit(Some(self.local.index), Stay::Asleep);
        if taken.is_some() {
            if self.is_halted() {
                self.rise(Stay::Asleep, false);
            } else {
                self.sit_through(bounds);
            }
        } else if let Some(tick) = self.nap(bounds) {
            let over = || bounds.until.is_some_and(|go_on| !go_on());
            self.inner.pool.await_change_until(tick, over);
        }
    }

    /// Looks for work for a while before sleeping, if the builder was told to. True if there is some.
    fn spin(&self) -> bool {
        let spin = self.inner.pool.knobs.spin;
        if spin.is_zero() {
            return false;
        }
        let until = from_now(spin);
        // Who spins hears of no event: so only beside somebody who does, or while there is none.
        while self.inner.sleep.is_watched() && Instant::now() < until {
            if self.is_restless() {
                return true;
            }
            for _ in 0..16 {
                if self.inner.has_work() || !self.inner.affinity.is_empty(self.local.index) {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Takes a seat if one is free, and looks without sleeping on. True if anything came.
    fn reap(&mut self, now: Instant) -> bool {
        let taken = self.inner.sleep.sit(Some(self.local.index), Stay::Look);
        taken.is_some() && self.wait(Stay::Look, Some(now))
    }

    /// Waits on the seat that this worker has, leaves it, and only then hands the batch on.
    fn wait(&mut self, stay: Stay, deadline: Option<Instant>) -> bool {
        let due = List::new();
        let waited = self.inner.backend.wait(&mut self.events, &due, deadline);
        self.end_wait(waited, stay, due)
    }

    fn end_wait(&mut self, waited: Result<Woken, i32>, stay: Stay, due: List) -> bool {
        let inner = self.inner;
        if std::mem::take(&mut self.alone) {
            inner.pool.end_alone();
        }
        let Ok(woken) = waited else {
            // Cannot happen to a descriptor that is ours; if it does, sleeping is over.
            self.rise(stay, false);
            inner.raise(halt::STOPPED);
            return false;
        };
        self.rise(stay, woken.was(Woken::NOTIFIED));
        self.to_look = inner.pool.knobs.poll_every.get();
        if woken.was(Woken::TIMER) {
            inner.fire_timers(&due);
        }
        let any = !due.is_empty();
        self.publish(due);
        any || woken.was(Woken::TIMER)
    }

    fn rise(&mut self, stay: Stay, notified: bool) {
        self.stood = true;
        self.fresh = true;
        let stood = self
            .inner
            .sleep
            .stand(Some(self.local.index), stay, notified);
        if stood.searching && std::mem::replace(&mut self.searching, true) {
            // It was searching already, and counts once.
            self.inner.sleep.gave_up();
        }
        let for_another = notified && self.inner.pool.somebody_is_alone();
        let keeps = self.serves_handler && mutant("waiter-keeps-the-stop");
        let halted = self.inner.is_stopped() && !keeps;
        if halted || for_another || stood.for_sitter {
            // The bell wakes one; whoever is woken for the end, or in place of another, wakes the next.
            self.inner.sleep.pass_on(&*self.inner.backend);
        }
        if for_another {
            yield_now(); // Or this one, sitting again at once, hears it once more.
        }
    }

    /// Makes a batch visible before its first handler runs: else two of a batch would wait for each other.
    fn publish(&mut self, due: List) {
        let worker = Worker::new(self.local);
        let mut first = true;
        let mut shared = false;
        let at_once = List::new();
        for completion in due {
            if completion.is_at_once() {
                at_once.push_back(completion);
                continue;
            }
            if self.inner.keeps_reaped {
                self.local.kept.push_back(completion);
                continue;
            }
            let placed = if mutant("batch-kept-private") {
                worker.run_in_turn(completion)
            } else {
                self.inner
                    .dispatcher
                    .dispatch(completion, Origin::Reaped { worker, first })
            };
            shared |= placed == Placed::Shared;
            first = false;
        }
        if shared {
            self.inner.wake_one();
        }
        for completion in at_once {
            self.inner.hand(completion, Route::Outside);
        }
    }

    /// Has a permit if, and only if, the handler that this was nested in has one.
    fn leave_permit(&self) {
        let (inner, local) = (self.inner, self.local);
        if self.nested_in_permitted {
            inner.permits.take_for(local);
        } else if !mutant("leave-keeps-permit") && inner.permits.give_back_of(local) {
            inner.wake_for_rest();
        }
    }

    /// Goes: what only this worker sees becomes visible, and a search or a seat that others rely on is handed on.
    fn leave(&mut self) {
        if !mutant("leave-keeps-its-turn") {
            self.inner.share(self.local);
        }
        self.found();
        if self.local.workers == 1 {
            // What a strategy still has of what its only worker posted: nobody was told of it.
            self.inner.wake_for_rest();
        }
        self.leave_permit();
        if self.local.depth.get() == 0 && self.inner.home.ledger.is_settled() {
            // What this worker ran was the last, and others may sleep on it.
            self.inner.tell_all();
        }
        if self.inner.is_ended() {
            while let Some(left) = self.inner.dispatcher.next(Worker::new(self.local)) {
                drop(left);
            }
            self.inner.discard();
        }
    }
}

impl Drop for Shift<'_> {
    /// Also when a strategy or a hook of the user's panics: others rely on what this worker was about.
    fn drop(&mut self) {
        self.leave();
    }
}
