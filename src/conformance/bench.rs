//! A strategy by itself: completions are given to it and taken from it by hand, without a port.

use std::fmt;
use std::num::NonZeroUsize;

use super::Make;
use super::promise::{Broken, Promise};
use super::watch::Stage;
use crate::cell::Home;
use crate::completion::{self, Completion};
use crate::dispatch::{Dispatcher, Origin, Placed, Worker};
use crate::local::Local;
use crate::sync::plain::MutexGuard;
use crate::sync::{Arc, PlainMutex};

/// As many completions in a row does a worker run of its turn, as the builder's default has it.
const TURN_BUDGET: usize = 16;

/// The strategy, attached for `workers`; none if it refuses so many.
pub(super) fn attached(make: &Make, workers: usize) -> Option<Box<dyn Dispatcher>> {
    let mut dispatcher = make();
    let answer = dispatcher.attach(NonZeroUsize::new(workers));
    answer.is_ok().then_some(dispatcher)
}

/// An origin, by the worker's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Outside,
    Posted(usize),
    Finished(usize),
    First(usize),
    Reaped(usize),
}

impl From {
    /// Every origin that names `worker`.
    pub(super) fn of(worker: usize) -> [Self; 4] {
        [
            Self::Posted(worker),
            Self::Finished(worker),
            Self::First(worker),
            Self::Reaped(worker),
        ]
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("Outside"),
            Self::Posted(worker) => write!(f, "Posted(worker {worker})"),
            Self::Finished(worker) => write!(f, "Finished(worker {worker})"),
            Self::First(worker) => write!(f, "Reaped {{ worker {worker}, first: true }}"),
            Self::Reaped(worker) => write!(f, "Reaped {{ worker {worker}, first: false }}"),
        }
    }
}

/// What has become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    Run,
    Dropped,
}

/// What has become of each call, and which ran last.
#[derive(Default)]
struct Fates {
    of: Vec<Fate>,
    last: Option<usize>,
}

/// In a call: tells what becomes of it.
struct Tell {
    number: usize,
    fates: Arc<PlainMutex<Fates>>,
}

impl Tell {
    fn run(self) {
        let mut fates = lock(&self.fates);
        fates.of[self.number] = Fate::Run;
        fates.last = Some(self.number);
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        let fate = &mut lock(&self.fates).of[self.number];
        if *fate == Fate::Held {
            *fate = Fate::Dropped;
        }
    }
}

fn lock<T>(mutex: &PlainMutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A call that was given to the strategy, and what it answered.
struct Given {
    from: From,
    key: u64,
    placed: Placed,
}

/// The strategy with workers that only this thread plays. What it holds goes before what its calls live in.
pub(super) struct Bench {
    pub(super) dispatcher: Box<dyn Dispatcher>,
    locals: Vec<Local>,
    given: Vec<Given>,
    fates: Arc<PlainMutex<Fates>>,
    stage: Stage,
    home: Kept,
}

/// The memory of the calls. It stays if the strategy has put one where it is never dropped.
struct Kept(Arc<Home>);

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.ledger.outstanding() > 0 {
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

impl Bench {
    pub(super) fn new(make: &Make, workers: usize, stage: &Stage) -> Result<Self, Broken> {
        let refused = || {
            Promise::Attach.broken(format!(
                "it takes {workers} workers now, and then it does not"
            ))
        };
        let home = Home::new(workers, None, 0);
        Ok(Self {
            dispatcher: attached(make, workers).ok_or_else(refused)?,
            locals: (0..workers)
                .map(|index| Local::new(&home, index, workers))
                .collect(),
            given: Vec::new(),
            fates: Arc::default(),
            stage: stage.clone(),
            home: Kept(home),
        })
    }

    pub(super) fn workers(&self) -> usize {
        self.locals.len()
    }

    /// Whether the port does so in its stead.
    fn keeps_reaped(&self) -> bool {
        self.workers() == 1 && self.dispatcher.keeps_reaped()
    }

    fn origin(&self, from: From) -> Origin<'_> {
        let worker = |index: usize| Worker::new(&self.locals[index]);
        match from {
            From::Outside => Origin::Outside,
            From::Posted(index) => Origin::Posted(worker(index)),
            From::Finished(index) => Origin::Finished(worker(index)),
            From::First(index) => Origin::Reaped {
                worker: worker(index),
                first: true,
            },
            From::Reaped(index) => Origin::Reaped {
                worker: worker(index),
                first: false,
            },
        }
    }

    /// Gives it a call; the call's number.
    pub(super) fn give(&mut self, from: From, key: u64) -> Result<usize, Broken> {
        let number = self.given.len();
        lock(&self.fates).of.push(Fate::Held);
        let tell = Tell {
            number,
            fates: Arc::clone(&self.fates),
        };
        let call = completion::post(&self.home.0, key, false, move || tell.run());
        let placed = self.dispatch(call, from)?;
        self.given.push(Given { from, key, placed });
        let fate = lock(&self.fates).of[number];
        Promise::OnlyTakes.holds(fate == Fate::Held, || {
            let did = if fate == Fate::Run { "ran" } else { "dropped" };
            format!("`dispatch` {did} {}", self.describe(number))
        })?;
        Ok(number)
    }

    fn dispatch(&self, call: Completion, from: From) -> Result<Placed, Broken> {
        let (workers, number) = (self.workers(), self.given.len());
        self.stage.at(format!(
            "`dispatch` of call {number}, from {from}, to return ({workers} workers)"
        ));
        let placed = match from {
            From::First(index) | From::Reaped(index) if self.keeps_reaped() => {
                Worker::new(&self.locals[index]).keep(call)
            }
            _ => self.dispatcher.dispatch(call, self.origin(from)),
        };
        Promise::Shared.holds(placed == Placed::Shared || from != From::Outside, || {
            "`dispatch` said `Own` of what came from outside: there is no worker who would look, and nobody is woken".to_owned()
        })?;
        Ok(placed)
    }

    /// What `worker` runs now, run; the call's number. As the port picks: its turn within a budget, else what the strategy says, and
    /// then the rest of the turn joins the queue.
    pub(super) fn pick(&self, worker: usize) -> Result<Option<usize>, Broken> {
        let Some(call) = self.take(worker)? else {
            return Ok(None);
        };
        self.stage
            .at(format!("a call that `next(worker {worker})` gave to run"));
        call.run();
        Ok(lock(&self.fates).last.take())
    }

    fn take(&self, worker: usize) -> Result<Option<Completion>, Broken> {
        let local = &self.locals[worker];
        let left = local.turn_left.get();
        if left > 0 {
            if let Some(call) = local.turn.pop_front() {
                local.turn_left.set(left - 1);
                return Ok(Some(call));
            }
        }
        local.turn_left.set(TURN_BUDGET);
        local.picks.set(local.picks.get() + 1);
        self.stage.at(format!(
            "`next(worker {worker} of {})` to return",
            self.workers()
        ));
        let kept = match self.keeps_reaped() {
            true => local.pop_kept(),
            false => None,
        };
        let Some(next) = kept.or_else(|| self.dispatcher.next(Worker::new(local))) else {
            return Ok(local.turn.pop_front());
        };
        for over in local.turn.take_all() {
            self.dispatch(over, From::Outside)?;
        }
        Ok(Some(next))
    }

    /// Has `worker` pick until there is nothing for it; how many it ran.
    pub(super) fn exhaust(&self, worker: usize) -> Result<usize, Broken> {
        let mut count = 0;
        while self.pick(worker)?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// Has every worker pick, in turns, until there is nothing for any of them.
    pub(super) fn drain(&self) -> Result<(), Broken> {
        loop {
            let mut any = false;
            for worker in 0..self.workers() {
                any |= self.pick(worker)?.is_some();
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// `worker` leaves: what its lists hold is dispatched anew, and somebody else has its number.
    pub(super) fn leave(&mut self, worker: usize) -> Result<(), Broken> {
        let workers = self.workers();
        let next = Local::new(&self.home.0, worker, workers);
        let gone = std::mem::replace(&mut self.locals[worker], next);
        self.locals[worker].picks.set(gone.picks.get());
        for left in gone.turn.take_all().chain(gone.kept.take_all()) {
            self.dispatch(left, From::Outside)?;
        }
        Ok(())
    }

    /// The calls that have not come back.
    pub(super) fn held(&self) -> Vec<usize> {
        let fates = lock(&self.fates);
        let held = |&number: &usize| fates.of[number] != Fate::Run;
        (0..fates.of.len()).filter(held).collect()
    }

    pub(super) fn placed(&self, number: usize) -> Placed {
        self.given[number].placed
    }

    /// How many calls stand in the workers' own lists.
    fn listed(&self) -> usize {
        let mut count = 0;
        for list in self
            .locals
            .iter()
            .flat_map(|local| [&local.turn, &local.kept])
        {
            for call in list.take_all() {
                list.push_back(call);
                count += 1;
            }
        }
        count
    }

    /// `is_empty`, unless it says yes too early.
    pub(super) fn is_empty(&self) -> Result<bool, Broken> {
        self.stage.at("`is_empty` to return");
        let says = self.dispatcher.is_empty();
        let held = self.held();
        let shared = held
            .iter()
            .filter(|&&number| self.placed(number) == Placed::Shared);
        // What a worker has taken over into its lists is no longer anybody's.
        let open = shared.count().saturating_sub(self.listed());
        Promise::HonestlyEmpty.holds(!says || open == 0, || {
            format!(
                "it says yes while {open} of {} are still to be taken by anybody ({} workers); one of them may be {}",
                self.given.len(),
                self.workers(),
                held.first().map_or_else(String::new, |&number| self.describe(number)),
            )
        })?;
        Ok(says)
    }

    /// A call, in words.
    pub(super) fn describe(&self, number: usize) -> String {
        let workers = self.workers();
        let Some(Given { from, key, placed }) = self.given.get(number) else {
            return format!("call {number}, the latest ({workers} workers)");
        };
        let dropped = lock(&self.fates).of[number] == Fate::Dropped;
        let fate = if dropped {
            ", and dropped uncalled"
        } else {
            ""
        };
        format!(
            "call {number} (key {key}), which came from {from}, was taken as {placed:?}{fate} ({workers} workers)"
        )
    }
}
