//! What a proactor promises of running, by the numbers of the conformance list: 1 to 9, and 48.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, everywhere, everywhere_once, until};
use proactor::{CompletionPort, PanicPolicy, Proactor};

type Count = Arc<AtomicUsize>;

/// A counter, and what makes calls that count in it.
fn counter() -> (Count, impl Fn() -> Box<dyn FnOnce() + Send>) {
    let count = Count::default();
    let counted = Arc::clone(&count);
    let one_more = move || -> Box<dyn FnOnce() + Send> {
        let counted = Arc::clone(&counted);
        Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
    };
    (count, one_more)
}

fn value(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

#[test]
fn p1_nothing_runs_before_run() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (count, one_more) = counter();
        proactor.post(one_more());
        proactor.dispatch(one_more());
        proactor.defer(one_more());
        proactor.sleep(Duration::ZERO).then({
            let one_more = one_more();
            |_| one_more()
        });
        thread::scope(|scope| {
            scope.spawn(|| proactor.post(one_more()));
        });
        assert_eq!(value(&count), 0);
        assert_eq!(proactor.port().outstanding(), 5);
        assert_eq!(proactor.run(), 5);
        assert_eq!(value(&count), 5);
    });
}

#[test]
fn p2_run_returns_when_no_work_is_outstanding() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!(proactor.run(), 0);
        let port = proactor.port().clone();
        proactor.post(move || {
            let later = port.clone();
            let sleep = port.sleep(Duration::from_millis(2));
            sleep.then(move |_| later.post(|| ()));
        });
        assert_eq!(proactor.run(), 3, "what a handler begins is work, too");
        assert_eq!(proactor.run(), 0);
    });
}

#[test]
fn p3_a_guard_keeps_run_until_it_is_released() {
    everywhere(|setup| {
        let proactor = setup.build();
        let guard = proactor.guard();
        let (count, one_more) = counter();
        let returned = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                proactor.run();
                returned.store(true, Ordering::SeqCst);
            });
            for round in 1..=10 {
                proactor.post(one_more());
                until("the call has run", || value(&count) == round);
            }
            assert!(!returned.load(Ordering::SeqCst));
            drop(guard);
            until("run has returned", || returned.load(Ordering::SeqCst));
        });
        assert_eq!(proactor.run(), 0);
    });
}

#[test]
fn p4_stop_returns_promptly_and_a_later_run_runs_what_was_kept() {
    everywhere(|setup| {
        let proactor = setup.build();
        let count = Count::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (port, stops) = (proactor.port().clone(), Arc::clone(&stopped));
        proactor.post(move || {
            port.stop();
            stops.store(true, Ordering::SeqCst);
        });
        for _ in 0..1000 {
            let (count, stopped) = (Arc::clone(&count), Arc::clone(&stopped));
            proactor.post(move || {
                until("it is stopped", || stopped.load(Ordering::SeqCst));
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
        let first = proactor.run();
        assert!(proactor.stopped());
        assert_eq!(value(&count), first - 1);
        // What the others had begun when it was stopped, they finished; nothing was begun after.
        assert!(first <= setup.threads, "{first} handlers");
        assert_eq!(proactor.run(), 0, "stopped is stopped");
        proactor.restart();
        assert_eq!(proactor.run(), 1001 - first);
        assert_eq!(value(&count), 1000);
    });
}

#[test]
fn p4_stop_from_another_thread_ends_a_waiting_run() {
    everywhere(|setup| {
        for _ in 0..50 {
            let proactor = setup.build();
            let _guard = proactor.guard();
            let begun = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    begun.wait();
                    proactor.run();
                });
                begun.wait();
                proactor.stop();
            });
        }
    });
}

#[test]
fn p4_only_dropping_the_proactor_destroys_handlers_uncalled() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (count, one_more) = counter();
        let held = Arc::new(());
        for _ in 0..100 {
            let (held, one_more) = (Arc::clone(&held), one_more());
            proactor.post(move || {
                let _held = held;
                one_more();
            });
        }
        let (sleeping, one_more) = (Arc::clone(&held), one_more());
        proactor.sleep(Duration::from_secs(3600)).then(move |_| {
            let _held = sleeping;
            one_more();
        });
        proactor.stop();
        assert_eq!(proactor.run(), 0);
        assert_eq!(Arc::strong_count(&held), 102, "kept while it lives");
        drop(proactor);
        assert_eq!(Arc::strong_count(&held), 1, "every handler was dropped");
        assert_eq!(value(&count), 0, "and none was called");
    });
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Notes how deep handlers stand on this thread's stack.
fn nested<R>(body: impl FnOnce(usize) -> R) -> R {
    let depth = DEPTH.get() + 1;
    DEPTH.set(depth);
    let result = body(depth);
    DEPTH.set(depth - 1);
    result
}

#[test]
fn p5_post_and_defer_never_nest() {
    everywhere(|setup| {
        fn again(port: CompletionPort, left: usize) {
            nested(|depth| {
                assert_eq!(depth, 1, "a handler ran inside a handler");
                if left > 0 {
                    let (one, other) = (port.clone(), port.clone());
                    if left % 2 == 0 {
                        port.post(move || again(one, left - 1));
                    } else {
                        port.defer(move || again(one, left - 1));
                    }
                    port.post(move || nested(|depth| drop((other, assert_eq!(depth, 1)))));
                }
            });
        }
        let proactor = setup.build();
        let port = proactor.port().clone();
        proactor.post(move || again(port, 500));
        assert_eq!(proactor.run(), 1001);
    });
}

#[test]
fn p5_dispatch_runs_inline_inside_a_handler_and_queues_outside() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (count, one_more) = counter();
        proactor.dispatch(one_more());
        assert_eq!(value(&count), 0, "outside it queues");
        assert_eq!(proactor.run(), 1);
        let port = proactor.port().clone();
        let (seen, one_more) = (Arc::clone(&count), one_more());
        proactor.post(move || {
            port.dispatch(one_more);
            assert_eq!(value(&seen), 2, "inside it ran inline");
        });
        assert_eq!(proactor.run(), 1, "and is no handler of its own");
    });
}

#[test]
fn p6_several_threads_in_run_all_return_when_all_work_is_done() {
    everywhere(|setup| {
        for threads in [2, 5] {
            let proactor = setup.build();
            let (count, one_more) = counter();
            let guard = proactor.guard();
            let ran = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        ran.fetch_add(proactor.run(), Ordering::SeqCst);
                        // The last one posted is done when the first of them returns.
                        assert_eq!(value(&count), 300);
                    });
                }
                for _ in 0..300 {
                    proactor.post(one_more());
                }
                drop(guard);
            });
            assert_eq!(ran.load(Ordering::SeqCst), 300);
        }
    });
}

#[test]
fn p6_run_uses_as_many_threads_as_the_builder_was_told() {
    everywhere(|setup| {
        let proactor = setup.build();
        // Each handler waits for all the others, so each needs a thread of its own.
        let together = Arc::new(Barrier::new(setup.threads));
        let threads = Arc::new(Mutex::new(HashSet::new()));
        for _ in 0..setup.threads {
            let (together, threads) = (Arc::clone(&together), Arc::clone(&threads));
            proactor.post(move || {
                together.wait();
                threads.lock().unwrap().insert(thread::current().id());
            });
        }
        assert_eq!(proactor.run(), setup.threads);
        assert_eq!(threads.lock().unwrap().len(), setup.threads);
    });
}

#[test]
fn p7_a_completion_of_a_port_runs_only_on_its_own_dispatcher() {
    everywhere(|setup| {
        let (a, b) = (setup.build(), setup.build());
        let (count, one_more) = counter();
        let of_b = b.port().clone();
        a.post(move || {
            of_b.post(one_more());
            of_b.defer(one_more());
            // A worker of `a` is none of `b`.
            of_b.dispatch(one_more());
            of_b.sleep(Duration::ZERO).then(move |_| one_more()());
        });
        assert_eq!(a.run(), 1);
        assert_eq!(value(&count), 0);
        assert_eq!(b.run(), 4);
        assert_eq!(value(&count), 4);
    });
}

// ---- 8: panics ----

fn panics(payload: &'static str) -> impl FnOnce() + Send {
    move || std::panic::panic_any(payload)
}

#[test]
fn p8_a_panic_goes_out_of_run_and_loses_nothing() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (count, one_more) = counter();
        (0..100).for_each(|_| proactor.post(one_more()));
        proactor.post(panics("on purpose"));
        (0..100).for_each(|_| proactor.post(one_more()));
        let panic = catch_unwind(AssertUnwindSafe(|| proactor.run())).unwrap_err();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "on purpose");
        assert!(!proactor.stopped(), "it can run again at once");
        let before = value(&count);
        assert_eq!(proactor.run(), 200 - before);
        assert_eq!((value(&count), proactor.port().outstanding()), (200, 0));
    });
}

#[test]
fn p8_an_isolated_panic_is_reported_and_the_worker_goes_on() {
    everywhere(|setup| {
        let (report, reported) = mpsc::channel();
        let policy = PanicPolicy::isolate(move |panic| {
            report.send(*panic.downcast_ref::<&str>().unwrap()).unwrap();
        });
        let proactor = setup.builder().panic_policy(policy).build().unwrap();
        let (count, one_more) = counter();
        for _ in 0..50 {
            proactor.post(panics("isolated"));
            proactor.post(one_more());
        }
        assert_eq!(proactor.run(), 100);
        assert_eq!(value(&count), 50);
        drop(proactor);
        assert_eq!(
            reported.iter().filter(|&panic| panic == "isolated").count(),
            50
        );
    });
}

#[test]
fn p8_a_panic_that_stops_is_reported_and_the_rest_is_kept() {
    everywhere(|setup| {
        let reported = Count::default();
        let told = Arc::clone(&reported);
        let policy = PanicPolicy::stop(move |_| {
            let _ = told.fetch_add(1, Ordering::SeqCst);
        });
        let proactor = setup.builder().panic_policy(policy).build().unwrap();
        let (count, one_more) = counter();
        proactor.post(panics("stops"));
        (0..500).for_each(|_| proactor.post(one_more()));
        let ran = proactor.run();
        assert!(proactor.stopped());
        assert_eq!((value(&reported), value(&count)), (1, ran - 1));
        proactor.restart();
        assert_eq!(proactor.run(), 501 - ran);
    });
}

#[test]
fn p8_a_panic_in_the_background_comes_out_of_shutdown() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        proactor.post(panics("in the background"));
        until("it is stopped", || proactor.stopped());
        let shutdown = AssertUnwindSafe(|| proactor.shutdown(Instant::now() + SOON));
        let panic = catch_unwind(shutdown).unwrap_err();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in the background");
    });
}

// ---- 9, 48 ----

#[test]
fn p9_a_handler_in_the_background_may_drop_the_last_proactor() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let (dropped, seen) = mpsc::channel();
        let (last, held) = (Arc::clone(&proactor), Arc::new(()));
        let others = Arc::clone(&held);
        proactor
            .sleep(Duration::from_secs(3600))
            .then(move |_| drop(others));
        proactor.post(move || {
            until("the others have let go", || Arc::strong_count(&last) == 1);
            drop(last);
            dropped.send(()).unwrap();
        });
        proactor.start().unwrap();
        drop(proactor);
        seen.recv_timeout(SOON)
            .expect("the handler goes on after the drop");
        until("what was left is dropped", || Arc::strong_count(&held) == 1);
    });
}

#[test]
fn p9_a_handler_may_drop_the_last_proactor_under_a_thread_that_waits() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        port.post(move || drop(proactor));
        let waits = AssertUnwindSafe(|| port.sleep(Duration::from_secs(3600)).wait());
        let panic = catch_unwind(waits).unwrap_err();
        let message = panic.downcast_ref::<&str>().unwrap();
        assert!(
            message.contains("dropped under a thread that waited"),
            "{message}"
        );
    });
}

/// Handlers post, and some of them stop meanwhile: each call was run, or is still held.
fn posts_under_a_stop(setup: Setup) {
    const POSTS: usize = 10_000;
    let proactor = setup.build();
    let (count, one_more) = counter();
    for poster in 0..POSTS / 100 {
        let port = proactor.port().clone();
        let mut calls: Vec<_> = (0..99).map(|_| one_more()).collect();
        proactor.post(move || {
            let later = calls.split_off(50);
            calls.into_iter().for_each(|call| port.post(call));
            if poster % 10 == 0 {
                port.stop();
            }
            later.into_iter().for_each(|call| port.post(call));
        });
    }
    let (mut ran, mut runs) = (0, 0);
    while proactor.port().outstanding() > 0 {
        ran += proactor.run();
        runs += 1;
        assert!(runs <= 11, "a run that was not stopped left something");
        proactor.restart();
    }
    assert!(runs >= 10 / setup.threads, "a stop was not heeded");
    assert_eq!((ran, value(&count)), (POSTS, POSTS / 100 * 99));
}

#[test]
fn p48_ten_thousand_posts_under_a_stop_lose_none() {
    everywhere_once(posts_under_a_stop);
}

#[test]
fn a_proactor_has_as_many_threads_as_processors_unless_told() {
    let proactor = Proactor::builder().build().unwrap();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let together = Arc::new(Barrier::new(threads));
    for _ in 0..threads {
        let together = Arc::clone(&together);
        proactor.post(move || {
            together.wait();
        });
    }
    assert_eq!(proactor.run(), threads);
}
