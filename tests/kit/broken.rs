//! A strategy that is right but in one point: first come, first served, and what was finished at once in the worker's turn.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use proactor::dispatch::{Dispatcher, Origin, Placed, Worker};
use proactor::{BuildError, Completion, Kind};

/// The one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    AnswersFewer,
    RefusesInSilence,
    HasRoomForOne,
    WaitsInNext,
    WaitsWhenFull,
    PanicsOverKeys,
    RunsAtOnce,
    DropsSome,
    LosesAKey,
    OwnFromOutside,
    TakesAhead,
    OneAtATime,
    OwnElsewhere,
    EmptyTooEarly,
    NeverEmpty,
    KeepsItsOwn,
    ForgetsWhatIsKept,
    LatestFirst,
    Mixes,
    QueueOfTheThread,
    LosesWhenLocked,
    KnowsNoTimers,
    KnowsThreads,
    LosesInPanics,
    Leaks,
}

thread_local! {
    /// By the strategy's number.
    static OF_THE_THREAD: RefCell<HashMap<usize, VecDeque<Completion>>> = RefCell::default();
}

pub(crate) struct Strategy {
    wrong: Wrong,
    number: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Completion>,
    /// A place for each worker.
    own: Vec<VecDeque<Completion>>,
    /// What is nowhere any more.
    lost: Vec<Completion>,
    threads: Vec<Option<ThreadId>>,
    at_work: Option<usize>,
    pops: usize,
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Strategy({:?})", self.wrong)
    }
}

impl Strategy {
    pub(crate) fn new(wrong: Wrong) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self {
            wrong,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_the_thread<R>(&self, look: impl FnOnce(&mut VecDeque<Completion>) -> R) -> R {
        OF_THE_THREAD.with_borrow_mut(|queues| look(queues.entry(self.number).or_default()))
    }

    fn share(&self, mut state: MutexGuard<'_, State>, completion: Completion) -> Placed {
        match self.wrong {
            Wrong::WaitsWhenFull => {
                while state.queue.len() >= 1000 {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            Wrong::LosesAKey if completion.user_key() == 64 => {
                state.lost.push(completion);
                return Placed::Shared;
            }
            Wrong::KnowsNoTimers if completion.kind() == Kind::Timer => {
                drop(state);
                drop(completion);
                return Placed::Shared;
            }
            Wrong::LosesInPanics if thread::panicking() => {
                drop(state);
                drop(completion);
                return Placed::Shared;
            }
            _ => {}
        }
        state.queue.push_back(completion);
        Placed::Shared
    }

    /// What follows from a handler of this worker, which it may have for itself.
    fn own(&self, worker: Worker<'_>, completion: Completion) -> Placed {
        let mut state = self.state();
        let elsewhere = (worker.index() + 1) % worker.threads();
        match self.wrong {
            Wrong::OwnElsewhere if worker.threads() > 1 => {
                state.own[elsewhere].push_back(completion);
            }
            Wrong::KeepsItsOwn => state.own[worker.index()].push_back(completion),
            _ => return worker.run_in_turn(completion),
        }
        Placed::Own
    }

    fn pop(&self, state: &mut State, worker: Worker<'_>) -> Option<Completion> {
        state.pops += 1;
        match self.wrong {
            Wrong::LatestFirst => state.queue.pop_back(),
            Wrong::Mixes if state.pops % 2 == 1 && worker.picks() % 16 != 0 => {
                state.queue.pop_back()
            }
            // All that is there, to spare it the lock the next times.
            Wrong::TakesAhead => {
                for ahead in state.queue.drain(..) {
                    worker.keep(ahead);
                }
                worker.take_kept()
            }
            _ => state.queue.pop_front(),
        }
    }
}

impl Dispatcher for Strategy {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let places = match self.wrong {
            Wrong::HasRoomForOne => 1,
            _ => threads.get(),
        };
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.own.resize_with(places, VecDeque::new);
        state.threads.resize(threads.get(), None);
        match self.wrong {
            Wrong::AnswersFewer => Ok(threads.min(const { NonZeroUsize::new(4).unwrap() })),
            Wrong::RefusesInSilence if threads.get() > 2 => Err(BuildError::knobs("")),
            _ => Ok(threads),
        }
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        match (self.wrong, origin) {
            (Wrong::RunsAtOnce, _) => {
                completion.run();
                Placed::Shared
            }
            (Wrong::DropsSome, Origin::Posted(_)) => Placed::Shared,
            (Wrong::PanicsOverKeys, _) if completion.user_key() == 1000 => panic!("no such key"),
            (Wrong::QueueOfTheThread, _) => {
                self.of_the_thread(|queue| queue.push_back(completion));
                Placed::Shared
            }
            (Wrong::LosesWhenLocked, _) => match self.state.try_lock() {
                Ok(state) => {
                    if thread::current().name().is_none() {
                        // One of several that post: so that the others meet it.
                        (0..20).for_each(|_| thread::yield_now());
                    }
                    self.share(state, completion)
                }
                Err(_) => Placed::Shared,
            },
            (Wrong::OwnFromOutside, Origin::Outside) => {
                self.state().queue.push_back(completion);
                Placed::Own
            }
            (_, Origin::Finished(worker)) => self.own(worker, completion),
            _ => self.share(self.state(), completion),
        }
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        let mut state = self.state();
        let index = worker.index();
        match self.wrong {
            Wrong::WaitsInNext => {
                while state.queue.is_empty() {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            Wrong::QueueOfTheThread => return self.of_the_thread(VecDeque::pop_front),
            // Whoever came first with this number.
            Wrong::KnowsThreads if worker.picks() > 0 => {
                let here = thread::current().id();
                if *state.threads[index].get_or_insert(here) != here {
                    let next = state.queue.pop_front();
                    state.lost.extend(next);
                    return None;
                }
            }
            Wrong::OneAtATime => {
                if state.at_work.is_some_and(|other| other != index) {
                    return None;
                }
                state.at_work = (!state.queue.is_empty()).then_some(index);
            }
            // What clears up has picked nothing yet.
            Wrong::Leaks if worker.picks() == 0 => {
                std::mem::take(&mut state.queue)
                    .into_iter()
                    .for_each(std::mem::forget);
                return None;
            }
            _ => {}
        }
        let own = state.own[index].pop_front();
        own.or_else(|| self.pop(&mut state, worker))
    }

    fn is_empty(&self) -> bool {
        let state = self.state();
        match self.wrong {
            Wrong::EmptyTooEarly => state.queue.len() < 2,
            Wrong::NeverEmpty => false,
            Wrong::QueueOfTheThread => self.of_the_thread(|queue| queue.is_empty()),
            _ => state.queue.is_empty(),
        }
    }

    fn keeps_reaped(&self) -> bool {
        self.wrong == Wrong::ForgetsWhatIsKept
    }
}
