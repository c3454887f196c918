//! What a worker runs, and how: all that is done for each handler is here.
//!
//! Protocol: `docs/dispatch-protocols.md`, "Order of running".

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::doze::Dozes;
use super::{Bounds, Idle, Shift};
use crate::cell::{Ptr, Repeats, header};
use crate::completion::{Attempt, Completion};
use crate::local::{Local, Stacked};
use crate::port::dispatcher::Worker;
use crate::port::pool::PanicPolicy;
use crate::port::{Inner, Route, halt};
use crate::sync::mutant;

/// How many picks a worker makes between two looks at what bounds its work.
const SPREE: usize = 64;

/// A worker that always has something to run looks for events no more often than this: a look is a system call, which costs as much as
/// many short handlers.
const LOOK_EVERY: Duration = Duration::from_micros(20);

/// How a spree ended.
pub(super) enum Spree {
    /// All ran, or there is something to look at.
    Ran,
    /// There was nothing to run.
    Nothing,
    /// Nothing is outstanding.
    Over,
}

/// What was run.
enum Was {
    /// What an event has brought.
    Reaped,
    /// What was finished before.
    Finished,
    /// Another port's, which panicked: that goes on.
    Panicked,
}

impl Was {
    /// Whether it was reaped, and the worker has nothing more that was, or that is to follow.
    #[inline(always)]
    fn leaves_dry(&self, local: &Local) -> bool {
        matches!(self, Self::Reaped) && local.kept.is_empty() && local.turn.is_empty()
    }
}

/// How many picks there are to the next that is a multiple of `every`.
pub(super) fn picks_to(every: NonZeroUsize, picks: usize) -> usize {
    every.get() - picks % every
}

impl Bounds<'_> {
    /// Whether there is nothing to look at after each handler.
    pub(super) fn are_wide(&self) -> bool {
        self.deadline.is_none() && self.until.is_none()
    }
}

impl Shift<'_> {
    /// Works within `bounds`. Handlers run under one guard: a panic that comes while a handler runs is that handler's, and any other
    /// goes on.
    pub(super) fn work(&mut self, bounds: Bounds<'_>) {
        let depth = self.local.depth.get();
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work_on(bounds))) {
            if self.local.depth.get() == depth {
                resume_unwind(panic);
            }
            self.ran_one(depth);
            self.panicked(panic);
        }
    }

    fn work_on(&mut self, bounds: Bounds<'_>) {
        while self.ran.handlers < bounds.limit && self.ran.panic.is_none() {
            if self.is_halted() || bounds.until.is_some_and(|go_on| !go_on()) {
                return;
            }
            if bounds.lead_only {
                self.lead(bounds);
                continue;
            }
            let most = if bounds.are_wide() { SPREE } else { 1 };
            match self.run_some(most.min(bounds.limit - self.ran.handlers)) {
                Spree::Ran => {}
                Spree::Over => return,
                Spree::Nothing if bounds.wait => {
                    if let Idle::Over = self.idle(bounds) {
                        return;
                    }
                }
                Spree::Nothing => {
                    if !self.reap(Instant::now()) {
                        return;
                    }
                }
            }
            let late = |deadline| deadline <= Instant::now();
            if bounds.deadline.is_some_and(late) {
                return;
            }
        }
    }

    /// Runs that many, at least one, or fewer if this worker is to return. Sleeps between them, if that is all there is to do.
    fn run_some(&mut self, most: usize) -> Spree {
        let (inner, local) = (self.inner, self.local);
        let mut left = most;
        let stacked = local.stacked().filter(|stacked| !stacked.is_empty());
        if let Some(stacked) = stacked.filter(|_| !self.fresh) {
            left -= self.run_stack(inner, local, stacked, most);
            if self.is_halted() || left == 0 {
                return Spree::Ran;
            }
        }
        loop {
            if let Some(picked) = self.pick(inner, local, &mut left) {
                if self.fresh {
                    self.found();
                }
                left -= 1;
                let was = self.run(inner, local, picked);
                if self.ends_spree(&was, left) {
                    return Spree::Ran;
                }
                if self.dozes != Dozes::Alone || !was.leaves_dry(local) {
                    continue;
                }
            }
            let ended = match self.dozes {
                Dozes::Alone => self.doze_alone(inner, local, &mut left),
                Dozes::Among => self.doze_among(inner, local),
                Dozes::Never => Some(Spree::Nothing),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Sleeps, runs what it has reaped, and so on: a worker that is alone, and has run all that, goes to sleep at once. It looks at all
    /// else when it is about to, as it does in any case.
    #[inline(always)]
    fn doze_alone(&mut self, inner: &Inner, local: &Local, left: &mut usize) -> Option<Spree> {
        loop {
            let ended = self.doze::<true>(inner, local);
            if ended.is_some() {
                return ended;
            }
            local.turn_left.set(inner.pool.knobs.turn_budget);
            local.picks.set(local.picks.get().wrapping_add(1));
            let reaped = local.kept.pop_front()?;
            *left -= 1;
            let was = self.run_reaped(inner, local, reaped);
            if self.ends_spree(&was, *left) {
                return Some(Spree::Ran);
            }
            if !was.leaves_dry(local) {
                return None;
            }
        }
    }

    #[inline(always)]
    fn ends_spree(&self, was: &Was, left: usize) -> bool {
        matches!(was, Was::Panicked) || self.inner.is_halted_by(self.halts) || left == 0
    }

    /// Runs what is on this worker's stack, as long as `pick` would say that: at most so many, none of them at a pick at which it looks
    /// elsewhere. How many it was. What seldom changes is asked once; so calls to this worker alone may wait for that many.
    #[inline(never)]
    fn run_stack(
        &mut self,
        inner: &Inner,
        local: &Local,
        stacked: Stacked<'_>,
        most: usize,
    ) -> usize {
        if inner.permits.are_limited() || inner.affinity.is_used() || self.serves_handler {
            return 0;
        }
        let most = most.min(local.picks_to_strategy()).min(self.to_look - 1);
        // All of them beforehand, since a handler may panic. For the same reason the depth is that of a handler: between two of them
        // nobody's code runs that could.
        self.to_look -= most;
        let depth = local.depth.get();
        local.depth.set(depth + 1);
        let (home, budget) = (local.home(), inner.pool.knobs.turn_budget);
        let mut ran = 0;
        while ran < most && local.turn.is_empty() && local.kept.is_empty() && !inner.is_stopped() {
            let Some(completion) = stacked.pop() else {
                break;
            };
            ran += 1;
            local.turn_left.set(budget);
            local.picks.set(local.picks.get().wrapping_add(1));
            if !completion.is_posted() {
                local.depth.set(depth);
                self.run(inner, local, completion);
                break;
            }
            completion.run_uncounted(home);
            local.finish();
            self.ran.handlers += 1;
        }
        local.depth.set(depth);
        self.to_look += most - ran;
        ran
    }

    /// What to run now, of so many that are left: the turn list within its budget, then what the strategy says. If that has nothing, the
    /// turn goes on; else what is left of it joins the back of the queue.
    #[inline(always)]
    fn pick(&mut self, inner: &Inner, local: &Local, left: &mut usize) -> Option<Completion> {
        if inner.permits.are_limited() && !self.may_run() {
            return self.next_unpermitted();
        }
        let in_turn = !local.turn.is_empty();
        if in_turn {
            let left = local.turn_left.get();
            local.turn_left.set(left.wrapping_sub(1));
            if left > 0 {
                return local.turn.pop_front();
            }
        }
        local.turn_left.set(inner.pool.knobs.turn_budget);
        local.picks.set(local.picks.get().wrapping_add(1));
        self.to_look -= 1;
        if self.to_look == 0 {
            self.look();
        }
        let next = if inner.affinity.is_used() {
            self.next_of_both()
        } else {
            let kept = match inner.keeps_reaped {
                true => local.pop_kept(),
                false => None,
            };
            // What is below it has its own way, which is shorter.
            let stack = || local.pop().inspect(|_| *left = 1);
            kept.or_else(stack)
                .or_else(|| inner.dispatcher.next(Worker::new(local)))
        };
        match next {
            Some(next) if in_turn => Some(self.end_turn(next)),
            Some(next) => Some(next),
            None => local.turn.pop_front(), // The turn goes on; or a look has brought something.
        }
    }

    /// What is left of the turn makes room for `next`.
    #[cold]
    fn end_turn(&self, next: Completion) -> Completion {
        for over in self.local.turn.take_all() {
            self.inner.hand(over, Route::Outside);
        }
        next
    }

    /// Looks for events, if there are any and nobody waits for them, and it has not done so just now.
    #[cold]
    fn look(&mut self) {
        self.to_look = self.inner.pool.knobs.poll_every.get();
        if self.inner.sleep.is_watched() {
            return;
        }
        let now = Instant::now();
        let just_now = |looked| now.duration_since(looked) < LOOK_EVERY;
        if !self.looked.is_some_and(just_now) {
            self.looked = Some(now);
            self.reap(now);
        }
    }

    /// From the strategy, or of what is for this worker alone: each in its turn, or the one that has something. The even picks
    /// are the strategy's, which does what it does now and then at multiples of two.
    #[cold]
    fn next_of_both(&self) -> Option<Completion> {
        let (inner, local) = (self.inner, self.local);
        let strategy = || inner.dispatcher.next(Worker::new(local));
        let own = || inner.affinity.pop(local.index);
        if local.picks.get() % 2 == 0 {
            strategy().or_else(own)
        } else {
            own().or_else(strategy)
        }
    }

    /// Of what is for this worker alone, which nobody else runs: it has a permit for it, free or not.
    fn next_unpermitted(&self) -> Option<Completion> {
        let (inner, local) = (self.inner, self.local);
        let own = inner.affinity.pop(local.index);
        own.filter(|_| !mutant("call-waits-for-permit"))
            .inspect(|_| inner.permits.take_for(local))
    }

    /// Whether this worker has a permit, or gets one; if not, it keeps nothing to itself.
    fn may_run(&self) -> bool {
        let (permits, local) = (&self.inner.permits, self.local);
        let may = if local.permit.get() {
            !permits.give_surplus()
        } else {
            permits.try_take()
        };
        local.permit.set(may);
        if !may && !mutant("denied-keeps-its-turn") {
            self.inner.share(local);
        }
        may
    }

    /// As `run`, of what this worker has reaped itself: it is its port's.
    #[inline(always)]
    fn run_reaped(&mut self, inner: &Inner, local: &Local, reaped: Completion) -> Was {
        match &header(reaped.ptr()).vtable().repeats {
            Some(repeats) if reaped.is_due() => {
                self.run_turn(inner, local, reaped.into_ptr(), repeats);
                Was::Reaped
            }
            _ => self.run_other(inner, local, reaped),
        }
    }

    #[inline(never)]
    fn run_other(&mut self, inner: &Inner, local: &Local, other: Completion) -> Was {
        self.run(inner, local, other)
    }

    /// Attempts what is due, and runs what is finished.
    #[inline(always)]
    fn run(&mut self, inner: &Inner, local: &Local, completion: Completion) -> Was {
        if !completion.is_of(local.home()) {
            return self.run_of_another(completion);
        }
        if !completion.is_due() {
            self.run_finished(local, completion);
            return Was::Finished;
        }
        let cell = completion.into_ptr();
        if let Some(repeats) = &header(cell).vtable().repeats {
            self.run_turn(inner, local, cell, repeats);
        } else if let Some(done) = inner.attempt(cell) {
            self.run_finished(local, done);
        }
        Was::Reaped
    }

    #[inline(always)]
    fn run_finished(&mut self, local: &Local, finished: Completion) {
        let depth = local.depth.get();
        local.depth.set(depth + 1);
        finished.run_uncrossed(local.home());
        self.ran_one(depth);
    }

    /// As `run`, of an operation that repeats: its turn is a piece of work of its own.
    #[inline(always)]
    fn run_turn(&mut self, inner: &Inner, local: &Local, cell: Ptr, repeats: &'static Repeats) {
        let depth = local.depth.get();
        local.create();
        local.depth.set(depth + 1);
        if inner.have_turn(cell, repeats) {
            self.ran_one(depth);
        } else {
            local.depth.set(depth);
            local.finish();
        }
    }

    /// A handler that was begun at that depth is over.
    #[inline(always)]
    fn ran_one(&mut self, depth: usize) {
        self.local.depth.set(depth);
        self.local.finish();
        self.ran.handlers += 1;
    }

    /// A strategy may have mixed up two ports: this one is run as if by hand.
    #[cold]
    fn run_of_another(&mut self, completion: Completion) -> Was {
        let depth = self.local.depth.get();
        self.local.depth.set(depth + 1);
        let result = catch_unwind(AssertUnwindSafe(|| completion.run()));
        self.local.depth.set(depth);
        self.ran.handlers += usize::from(!matches!(result, Ok(false)));
        if let Err(panic) = result {
            self.panicked(panic);
        }
        match self.ran.panic {
            None => Was::Finished,
            Some(_) => Was::Panicked,
        }
    }

    #[cold]
    fn panicked(&mut self, panic: Box<dyn std::any::Any + Send>) {
        match &self.inner.pool.knobs.panic {
            PanicPolicy::Propagate => self.ran.panic = Some(panic),
            PanicPolicy::Isolate(report) => report(&*panic),
            PanicPolicy::Stop(report) => {
                report(&*panic);
                self.inner.raise(halt::STOPPED);
            }
        }
    }
}
