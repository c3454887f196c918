//! The ways to run, the knobs, and what shutting down reports.
#![cfg(not(proactor_loom))]

mod common;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, everywhere, pair, setups, until, within};
use proactor::dispatch::{Dispatcher, Origin, Placed, Worker};
use proactor::{
    BackendKind, BuildError, Completion, CompletionPort, ErrorKind, Proactor, ShutdownReport,
    Strategy,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generate;

fn count(counter: &Arc<AtomicUsize>) -> impl FnOnce() + Send + use<> {
    let counter = Arc::clone(counter);
    move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

// ---- how many handlers ran ----

#[test]
fn run_one_and_poll_one_run_at_most_one() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!((proactor.run_one(), proactor.poll_one()), (0, 0));
        let counter = Arc::default();
        (0..4).for_each(|_| proactor.post(count(&counter)));
        for ran in 1..=4 {
            let one = if ran % 2 == 0 {
                proactor.run_one()
            } else {
                proactor.poll_one()
            };
            assert_eq!((one, counter.load(Ordering::SeqCst)), (1, ran));
        }
        assert_eq!((proactor.run_one(), proactor.poll_one()), (0, 0));
        let key = proactor.sleep(Duration::from_secs(3600)).then(|_| ());
        assert_eq!(proactor.poll_one(), 0, "polling does not wait");
        proactor.cancel(key);
        assert_eq!(proactor.poll_one(), 1);
        proactor.sleep(Duration::from_millis(3)).then(|_| ());
        assert_eq!(proactor.run_one(), 1, "running does");
    });
}

#[test]
fn poll_runs_what_is_ready_and_does_not_wait() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        let counter = Arc::default();
        let later = count(&counter);
        proactor.post(move || port.post(later));
        proactor.sleep(Duration::ZERO).then(|_| ());
        proactor.sleep(Duration::from_secs(3600)).then(|_| ());
        // The timer has a tick of a millisecond.
        let mut ran = 0;
        until_ran(&mut ran, 3, || proactor.poll());
        assert_eq!(counter.load(Ordering::SeqCst), 1);
        assert_eq!((proactor.poll(), proactor.port().outstanding()), (0, 1));
    });
}

fn until_ran(ran: &mut usize, expected: usize, run: impl Fn() -> usize) {
    let deadline = Instant::now() + SOON;
    while *ran < expected {
        assert!(
            Instant::now() < deadline,
            "{ran} of {expected} handlers have run"
        );
        *ran += run();
    }
    assert_eq!(*ran, expected);
}

#[test]
fn run_for_and_run_until_return_in_time_or_when_all_is_done() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!(proactor.run_for(SOON), 0, "nothing is outstanding");
        let guard = proactor.guard();
        let begin = Instant::now();
        assert_eq!(proactor.run_for(Duration::from_millis(5)), 0);
        assert_eq!(proactor.run_until(begin + Duration::from_millis(10)), 0);
        assert!(begin.elapsed() >= Duration::from_millis(10), "early");
        assert!(begin.elapsed() < SOON);
        proactor.post(|| ());
        proactor.post(move || drop(guard));
        assert_eq!(proactor.run_for(SOON), 2);
        assert!(begin.elapsed() < SOON, "it waited though all was done");
    });
}

// ---- the background ----

#[test]
fn start_runs_in_the_background_except_while_stopped() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        proactor.start().unwrap();
        let counter = Arc::new(AtomicUsize::new(0));
        for round in 1..=20 {
            proactor.post(count(&counter));
            until("it has run", || counter.load(Ordering::SeqCst) == round);
        }
        for _ in 0..20 {
            let before = counter.load(Ordering::SeqCst);
            proactor.stop();
            proactor.post(count(&counter));
            proactor.restart();
            proactor.start().unwrap();
            until("it has run", || {
                counter.load(Ordering::SeqCst) == before + 1
            });
        }
        let report = proactor.shutdown(Instant::now() + SOON);
        assert_eq!((report.cancelled, report.left), (0, 0));
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn shutdown_runs_what_it_can_cancels_the_rest_and_says_so() {
    everywhere(|setup| {
        for in_background in [false, true] {
            let proactor = setup.build();
            let (stream, _client) = pair(&proactor);
            let (to, ends) = mpsc::channel();
            let sent = to.clone();
            stream.read(vec![7]).then(move |(result, buf)| {
                sent.send((result.map(|_| ()).unwrap_err(), buf)).unwrap();
            });
            proactor
                .sleep(Duration::from_secs(3600))
                .then(move |result| {
                    to.send((result.unwrap_err(), vec![7])).unwrap();
                });
            let counter = Arc::default();
            (0..10).for_each(|_| proactor.post(count(&counter)));
            if in_background {
                proactor.start().unwrap();
            }
            let begin = Instant::now();
            let report = proactor.shutdown(begin + Duration::from_millis(20));
            assert!(
                begin.elapsed() >= Duration::from_millis(20),
                "it did not wait for the deadline"
            );
            assert_eq!((report.cancelled, report.left), (2, 0));
            assert!(in_background || report.ran == 12, "{report:?}");
            assert_eq!(counter.load(Ordering::SeqCst), 10);
            let ends: Vec<_> = ends.iter().collect();
            assert_eq!(ends.len(), 2);
            assert!(
                ends.iter()
                    .all(|(error, buf)| error.is_cancelled() && *buf == [7])
            );
            let late = proactor.sleep(Duration::ZERO);
            late.then(|result| assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed));
            assert_eq!(proactor.port().outstanding(), 1);
            proactor.restart();
            assert_eq!(proactor.run(), 1, "it stays closed");
        }
    });
}

#[test]
fn shutdown_of_an_idle_proactor_has_nothing_to_report() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!(
            proactor.shutdown(Instant::now() + SOON),
            ShutdownReport::default()
        );
        assert!(proactor.stopped());
    });
}

// ---- knobs ----

#[test]
fn threads_have_the_name_they_were_given_and_hooks_frame_their_work() {
    everywhere(|setup| {
        let (begun, ended) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (begins, ends) = (Arc::clone(&begun), Arc::clone(&ended));
        let name = || thread::current().name().map(str::to_owned);
        let proactor = setup
            .builder()
            .thread_name("served")
            .on_thread_start(move |worker| begins.lock().unwrap().push((worker, name())))
            .on_thread_stop(move |worker| ends.lock().unwrap().push((worker, name())))
            .build()
            .unwrap();
        proactor.start().unwrap();
        until("all have begun", || {
            begun.lock().unwrap().len() == setup.threads
        });
        let (to, names) = mpsc::channel();
        proactor.post(move || {
            let name = thread::current().name().map(str::to_owned);
            to.send(name.unwrap()).unwrap();
        });
        let name = names.recv_timeout(SOON).unwrap();
        assert!(name.starts_with("served-"), "{name}");
        assert!(ended.lock().unwrap().is_empty());
        proactor.shutdown(Instant::now() + SOON);
        let sorted = |list: &Mutex<Vec<(usize, Option<String>)>>| {
            let mut list = list.lock().unwrap().clone();
            list.sort();
            list
        };
        let begun = sorted(&begun);
        assert_eq!(begun, sorted(&ended));
        let workers: Vec<usize> = begun.iter().map(|(worker, _)| *worker).collect();
        assert_eq!(workers, (0..setup.threads).collect::<Vec<_>>());
    });
}

#[test]
fn a_larger_stack_is_there_for_handlers_that_recurse() {
    everywhere(|setup| {
        fn recurse(depth: usize) -> usize {
            let filler = std::hint::black_box([depth; 1024]);
            if depth == 0 {
                0
            } else {
                recurse(depth - 1) + filler[1023] / depth
            }
        }
        let stack = NonZeroUsize::new(64 << 20).unwrap();
        let proactor = setup.builder().stack_size(stack).build().unwrap();
        proactor.start().unwrap();
        let (to, results) = mpsc::channel();
        // About 16 MiB, and more unoptimised: eight times the default.
        proactor.post(move || to.send(recurse(2000)).unwrap());
        assert_eq!(results.recv_timeout(SOON).unwrap(), 2000);
    });
}

#[test]
fn a_bad_combination_of_knobs_says_what_to_change() {
    let threads = |threads| NonZeroUsize::new(threads).unwrap();
    let builder = || Proactor::builder().strategy(Strategy::LeaderFollowers);
    for (builder, advice) in [
        (
            builder().strategy(Strategy::Single).threads(threads(2)),
            "threads(1)",
        ),
        (builder().threads(threads(5000)), "lower it"),
        (builder().batch(threads(1 << 20)), "lower it"),
        (builder().blocking_threads(threads(5000)), "lower it"),
        (builder().thread_name("nul\0"), "take it out"),
    ] {
        let error = builder.build().map(drop).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn names_of_strategies_and_backends_are_read_as_they_are_written() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    for backend in common::BACKENDS {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    let error = "fastest".parse::<BackendKind>().unwrap_err().to_string();
    assert!(
        error.contains("auto") && error.contains("portable"),
        "{error}"
    );
}

/// Runs what has the highest key.
#[derive(Debug, Default)]
struct ByKey(Mutex<Vec<Completion>>);

impl Dispatcher for ByKey {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(threads.unwrap_or(NonZeroUsize::MIN))
    }

    fn dispatch(&self, completion: Completion, _origin: Origin<'_>) -> Placed {
        self.0.lock().expect("not poisoned").push(completion);
        Placed::Shared
    }

    fn next(&self, _worker: Worker<'_>) -> Option<Completion> {
        let mut all = self.0.lock().expect("not poisoned");
        let (at, _) = all
            .iter()
            .enumerate()
            .max_by_key(|(_, completion)| completion.user_key())?;
        Some(all.swap_remove(at))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().expect("not poisoned").is_empty()
    }
}

#[test]
fn a_strategy_of_ones_own_orders_by_key() {
    for backend in common::BACKENDS {
        within("by key", move || {
            let proactor = Proactor::builder()
                .dispatcher(ByKey::default())
                .backend(backend)
                .build()
                .unwrap();
            let order = Arc::new(Mutex::new(Vec::new()));
            for key in [3, 1, 4, 15, 9, 2, 6] {
                let order = Arc::clone(&order);
                proactor
                    .port()
                    .post_keyed(key, move || order.lock().unwrap().push(key));
            }
            assert_eq!(proactor.run(), 7);
            assert_eq!(*order.lock().unwrap(), [15, 9, 6, 4, 3, 2, 1]);
        });
    }
}

// ---- random trees ----

#[derive(Clone, Copy, Debug)]
enum How {
    Post,
    Defer,
    Dispatch,
    Sleep,
    Elsewhere,
}

#[derive(Clone, Debug)]
struct Tree {
    how: How,
    children: Vec<Tree>,
}

impl Tree {
    fn size(&self) -> usize {
        1 + self.children.iter().map(Self::size).sum::<usize>()
    }

    /// Begins the tree's handlers, each of which notes that it ran and begins its children.
    fn begin(self, port: &CompletionPort, ran: &Arc<Mutex<HashMap<usize, usize>>>, name: usize) {
        let (inner, noted) = (port.clone(), Arc::clone(ran));
        let children = self.children;
        let call = move || {
            *noted.lock().expect("not poisoned").entry(name).or_default() += 1;
            let mut next = name + 1;
            for child in children {
                let size = child.size();
                child.begin(&inner, &noted, next);
                next += size;
            }
        };
        match self.how {
            How::Post => port.post(call),
            How::Defer => port.defer(call),
            How::Dispatch => port.dispatch(call),
            How::Sleep => {
                let _ = port.sleep(Duration::ZERO).then(|_| call());
            }
            How::Elsewhere => thread::scope(|scope| drop(scope.spawn(|| port.post(call)))),
        }
    }
}

fn tree() -> impl Generate<Value = Tree> {
    use How::{Defer, Dispatch, Elsewhere, Post, Sleep};
    let how = || prop::sample::select(vec![Post, Post, Post, Defer, Dispatch, Sleep, Elsewhere]);
    let leaf = how().prop_map(|how| Tree {
        how,
        children: Vec::new(),
    });
    leaf.prop_recursive(6, 200, 12, move |inner| {
        (how(), prop::collection::vec(inner, 0..12))
            .prop_map(|(how, children)| Tree { how, children })
    })
}

fn run_tree(setup: Setup, knobs: (usize, usize, usize), tree: Tree) {
    let (batch, turn_budget, poll_every) = knobs;
    let proactor = setup
        .builder()
        .batch(NonZeroUsize::new(batch).expect("above zero"))
        .turn_budget(turn_budget)
        .poll_every(NonZeroUsize::new(poll_every).expect("above zero"))
        .spin(Duration::from_micros(turn_budget as u64))
        .build()
        .expect("sound knobs");
    let size = tree.size();
    let ran = Arc::default();
    tree.begin(proactor.port(), &ran, 0);
    proactor.run();
    assert_eq!(proactor.port().outstanding(), 0);
    let ran = ran.lock().expect("not poisoned");
    assert_eq!(ran.len(), size, "a handler was lost");
    assert!(ran.values().all(|&times| times == 1), "a handler ran twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_handler_of_a_random_tree_runs_once(
        tree in tree(),
        knobs in (1..200usize, 0..40usize, 1..100usize),
    ) {
        for setup in setups(&[1, 2, 4]) {
            let tree = tree.clone();
            within(&setup.to_string(), move || run_tree(setup, knobs, tree));
        }
    }
}
