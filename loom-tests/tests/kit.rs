//! The conformance kit's models: the strategies here keep what they ask for, and for each model there is a strategy that does not.
#![cfg(proactor_loom)]

#[path = "../../examples/custom_dispatcher/priority.rs"]
mod priority;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};

use loom::thread::{self, ThreadId};
use loom_tests::kills;
use proactor::conformance::sync::atomic::{AtomicUsize, Ordering};
use proactor::conformance::sync::{Mutex, MutexGuard};
use proactor::conformance::{Kit, Promise};
use proactor::dispatch::{
    Dispatcher, LeaderFollowers, Origin, Placed, SingleThreaded, WorkStealing, Worker,
};
use proactor::{BuildError, Completion};

/// Checks it, without the step that `kills` has left out in this process.
fn checked<D: Dispatcher>(kit: &Kit, make: impl Fn() -> D + Send + Sync + 'static) {
    let mutant = std::env::var("PROACTOR_MUTANT").ok();
    let report = kit.loom_check(move || {
        proactor::model::set_mutant(mutant.as_deref());
        make()
    });
    println!("{}", report.expect("every promise is kept"));
}

#[test]
fn single_threaded_keeps_what_the_kit_asks_for() {
    checked(&Kit::new(), SingleThreaded::new);
}

#[test]
fn leader_followers_keeps_what_the_kit_asks_for() {
    checked(&Kit::new(), LeaderFollowers::new);
}

#[test]
fn work_stealing_keeps_what_the_kit_asks_for() {
    checked(&Kit::new(), WorkStealing::new);
}

#[test]
fn the_strategy_of_custom_dispatcher_keeps_what_the_kit_asks_for() {
    checked(&Kit::new(), priority::Priority::default);
}

/// The queue that the ones below get wrong, each in one point; in a process of theirs it is that one.
#[test]
fn one_queue_keeps_what_the_kit_asks_for() {
    let name = std::env::var(WRONG).ok();
    let wrong = ALL_WRONG
        .into_iter()
        .find(|wrong| name == Some(format!("{wrong:?}")));
    let kit = match wrong {
        // A worker that leaves has its place taken by another thread, too, before any stop.
        Some(Wrong::KnowsThreads) => Kit::new().only(Promise::AnyThread),
        _ => Kit::new(),
    };
    checked(&kit, move || Strategy::new(wrong));
}

#[test]
fn mutant_an_injector_says_too_late_how_long_it_is() {
    kills(
        "injector-len-late",
        "single_threaded_keeps_what_the_kit_asks_for",
    );
}

#[test]
fn mutant_an_injector_publishes_nothing() {
    kills(
        "injector-push-relaxed",
        "leader_followers_keeps_what_the_kit_asks_for",
    );
}

#[test]
fn mutant_stacks_are_not_looked_at() {
    kills(
        "steal-not-looked-at",
        "work_stealing_keeps_what_the_kit_asks_for",
    );
}

#[test]
fn mutant_nobody_notifies_who_parks() {
    kills(
        "unpark-no-notify",
        "the_strategy_of_custom_dispatcher_keeps_what_the_kit_asks_for",
    );
}

#[test]
fn mutant_nobody_is_told_of_the_end_of_a_guard() {
    kills(
        "guard-wakes-nobody",
        "one_queue_keeps_what_the_kit_asks_for",
    );
}

/// In what a strategy is wrong that is right otherwise: one queue, first come, first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Takes the queue out, adds to it, and puts it back: what came in between is gone.
    AddsOutOfTheLock,
    /// What a handler posts stands where its own worker alone looks, and is called `Shared`.
    SharesWhatOthersCannotSee,
    /// Its count is wrong while it takes.
    CountsWhileItTakes,
    /// What a handler finished stands where its own worker alone looks, also when that has left.
    KeepsItsOwn,
    /// What comes from outside is called `Own`.
    OwnFromOutside,
    /// Gives to the thread that came first with a number, and to no other.
    KnowsThreads,
    /// At the end it keeps what it holds.
    Leaks,
}

const ALL_WRONG: [Wrong; 7] = [
    Wrong::AddsOutOfTheLock,
    Wrong::SharesWhatOthersCannotSee,
    Wrong::CountsWhileItTakes,
    Wrong::KeepsItsOwn,
    Wrong::OwnFromOutside,
    Wrong::KnowsThreads,
    Wrong::Leaks,
];

/// What a child process has wrong.
const WRONG: &str = "PROACTOR_WRONG_STRATEGY";

#[derive(Debug)]
struct Strategy {
    wrong: Option<Wrong>,
    state: Mutex<State>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Completion>,
    own: [VecDeque<Completion>; 2],
    threads: [Option<ThreadId>; 2],
}

impl Strategy {
    fn new(wrong: Option<Wrong>) -> Self {
        Self {
            wrong,
            state: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics under it")
    }

    fn counted(&self, state: &State) {
        self.count.store(state.queue.len(), Ordering::Relaxed);
    }
}

impl Dispatcher for Strategy {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        match threads.map_or(1, NonZeroUsize::get) {
            1 | 2 => Ok(threads.unwrap_or(NonZeroUsize::MIN)),
            _ => Err(BuildError::knobs(
                "it has two places: ask for one or two threads",
            )),
        }
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        if self.wrong == Some(Wrong::AddsOutOfTheLock) {
            let mut queue = std::mem::take(&mut self.state().queue);
            queue.push_back(completion);
            let mut state = self.state();
            let before = std::mem::replace(&mut state.queue, queue);
            self.counted(&state);
            drop(state);
            std::mem::forget(before); // lost
            return Placed::Shared;
        }
        let mut state = self.state();
        let placed = match (self.wrong, origin) {
            (Some(Wrong::SharesWhatOthersCannotSee), Origin::Posted(worker)) => {
                state.own[worker.index()].push_back(completion);
                return Placed::Shared;
            }
            (Some(Wrong::KeepsItsOwn), Origin::Finished(worker)) => {
                state.own[worker.index()].push_back(completion);
                return Placed::Own;
            }
            (Some(Wrong::OwnFromOutside), Origin::Outside) => Placed::Own,
            _ => Placed::Shared,
        };
        state.queue.push_back(completion);
        self.counted(&state);
        placed
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        let mut state = self.state();
        match self.wrong {
            Some(Wrong::CountsWhileItTakes) => self.count.store(0, Ordering::Relaxed),
            Some(Wrong::KnowsThreads) if worker.picks() > 0 => {
                let here = thread::current().id();
                if *state.threads[worker.index()].get_or_insert(here) != here {
                    return None;
                }
            }
            Some(Wrong::Leaks) if worker.picks() == 0 => {
                std::mem::take(&mut state.queue)
                    .into_iter()
                    .for_each(std::mem::forget);
            }
            _ => {}
        }
        let own = state.own[worker.index()].pop_front();
        let next = own.or_else(|| state.queue.pop_front());
        self.counted(&state);
        next
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}

/// In a process of its own a model of `promise` fails, which ends that with the promise in words, and `seen`.
fn breaks(wrong: Wrong, promise: Promise, seen: &str) {
    let child = Command::new(std::env::current_exe().expect("this test's own path"))
        .args(["--exact", "one_queue_keeps_what_the_kit_asks_for"])
        .env(WRONG, format!("{wrong:?}"))
        .stdin(Stdio::null())
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&child.stderr);
    println!("{text}");
    let told = format!("broken promise: {promise}\n  in a model of it: ");
    assert!(
        text.contains(&told) && text.contains(seen),
        "no {told}..{seen}"
    );
    assert_eq!(child.status.code(), Some(101));
}

#[test]
fn mutant_a_strategy_that_adds_out_of_the_lock() {
    breaks(Wrong::AddsOutOfTheLock, Promise::ExactlyOnce, "deadlock");
}

#[test]
fn mutant_a_strategy_that_shares_what_others_cannot_see() {
    breaks(
        Wrong::SharesWhatOthersCannotSee,
        Promise::Shared,
        "deadlock",
    );
}

#[test]
fn mutant_a_strategy_that_counts_while_it_takes() {
    let seen = "was told that nothing is there";
    breaks(Wrong::CountsWhileItTakes, Promise::HonestlyEmpty, seen);
}

#[test]
fn mutant_a_strategy_that_keeps_its_own() {
    breaks(Wrong::KeepsItsOwn, Promise::HandsOn, "deadlock");
}

#[test]
fn mutant_a_strategy_that_wakes_nobody() {
    breaks(Wrong::OwnFromOutside, Promise::Wakes, "deadlock");
}

#[test]
fn mutant_a_strategy_that_knows_threads() {
    breaks(Wrong::KnowsThreads, Promise::AnyThread, "Model exceeded");
}

#[test]
fn mutant_a_strategy_that_leaks() {
    breaks(Wrong::Leaks, Promise::GivesUp, "neither run nor dropped");
}

#[test]
fn mutant_each_model_has_a_strategy_that_fails_it() {
    let here = include_str!("kit.rs").split_whitespace();
    let here = here.collect::<Vec<_>>().join(" ");
    for promise in Promise::ALL {
        let named = here.contains(&format!("Promise::{promise:?}, "));
        assert_eq!(named, promise.is_modelled(), "{promise:?}");
    }
}
