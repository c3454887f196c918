//! Calls to one worker: run there, in order, promptly, whoever else is idle; and nowhere else, whatever happens.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{Random, SOON, Setup, everywhere, everywhere_once, setups, until, within};
use proactor::{CompletionPort, Proactor};

const FAR: Duration = Duration::from_secs(3600);

/// Posts to `worker`, which there is, a call that must run there.
fn post_to(port: &CompletionPort, worker: usize, call: impl FnOnce() + Send + 'static) {
    let here = port.clone();
    let posted = port.post_to(worker, move || {
        assert_eq!(here.worker_index(), Some(worker), "on another worker");
        call();
    });
    posted.expect("there is such a worker");
}

#[test]
fn calls_run_on_their_worker_and_in_order() {
    everywhere(|setup| {
        const CALLS: usize = 1000;
        let proactor = setup.build();
        let port = proactor.port();
        let ran: Vec<_> = (0..setup.threads)
            .map(|_| Arc::new(Mutex::new(Vec::new())))
            .collect();
        for number in 0..CALLS {
            for (worker, ran) in ran.iter().enumerate() {
                let ran = Arc::clone(ran);
                post_to(port, worker, move || ran.lock().unwrap().push(number));
            }
        }
        assert_eq!(proactor.run(), CALLS * setup.threads);
        for ran in ran {
            assert!(ran.lock().unwrap().iter().copied().eq(0..CALLS), "{setup}");
        }
        assert_eq!(port.worker_index(), None, "this is no worker");
    });
}

#[test]
fn a_number_that_is_no_workers_gives_the_call_back() {
    everywhere(|setup| {
        let proactor = setup.build();
        let refused = proactor.post_to(setup.threads, || ()).unwrap_err();
        let says = format!(
            "there is no worker {}, the last is {}: post to that or one before it, or build with threads({})",
            setup.threads,
            setup.threads - 1,
            setup.threads + 1
        );
        assert_eq!(refused.to_string(), says);
        assert_eq!(format!("{refused:?}"), format!("NoWorker({says})"));
        assert_eq!(proactor.port().outstanding(), 0);
        assert!(proactor.post_to(0, refused.into_inner()).is_ok());
        assert_eq!(proactor.run(), 1);
        let huge = proactor.post_to(usize::MAX, || ()).unwrap_err();
        assert!(huge.to_string().contains("no worker"));
    });
    let alone = CompletionPort::new().unwrap();
    let refused = alone.post_to(0, || ()).unwrap_err();
    assert!(refused.to_string().contains("used alone"), "{refused}");
    assert_eq!(alone.outstanding(), 0);
}

/// Every worker sleeps, and is then called, in any order: each hears by itself.
fn sleepers(setup: Setup) {
    const ROUNDS: usize = 300;
    let mut random = Random::new();
    let proactor = setup.build();
    proactor.start().unwrap();
    for _ in 0..ROUNDS {
        let worker = random.within(0, setup.threads - 1);
        let (ran, done) = mpsc::channel();
        post_to(proactor.port(), worker, move || ran.send(()).unwrap());
        done.recv_timeout(SOON)
            .unwrap_or_else(|_| panic!("{setup}: worker {worker} sleeps on"));
    }
}

#[test]
fn a_worker_that_sleeps_hears_its_calls() {
    everywhere(sleepers);
}

#[test]
fn a_worker_that_is_busy_runs_its_calls_after_its_handler() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        proactor.start().unwrap();
        let (begun, is_busy) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let (ran, done) = mpsc::channel();
        proactor.post({
            let port = port.clone();
            move || {
                begun.send(port.worker_index().unwrap()).unwrap();
                released.recv_timeout(SOON).unwrap();
            }
        });
        let busy = is_busy.recv_timeout(SOON).unwrap();
        post_to(&port, busy, move || ran.send(()).unwrap());
        // The others do not take it, and go on.
        if setup.threads > 1 {
            let (also, other) = mpsc::channel();
            proactor.post(move || also.send(()).unwrap());
            other.recv_timeout(SOON).unwrap();
        }
        assert!(done.try_recv().is_err(), "inside the handler");
        release.send(()).unwrap();
        done.recv_timeout(SOON).unwrap();
    });
}

#[test]
fn a_handler_that_calls_its_own_worker_is_over_first() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        let over = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&over);
        proactor.post(move || {
            let here = port.worker_index().unwrap();
            post_to(&port, here, move || {
                assert_eq!(seen.load(Ordering::SeqCst), 1);
            });
            over.store(1, Ordering::SeqCst);
        });
        assert_eq!(proactor.run(), 2);
    });
}

#[test]
fn a_worker_that_waits_in_a_handler_runs_its_calls_there() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        proactor.post(move || {
            let here = port.worker_index().unwrap();
            let nap = port.sleep(FAR);
            // What it waits for ends when its own call has run.
            let waits = port.clone();
            let (key, told) = mpsc::channel();
            post_to(&port, here, move || {
                let key = told.recv_timeout(SOON).unwrap();
                waits.cancel(key);
            });
            let ended = Arc::new(AtomicUsize::new(0));
            let end = Arc::clone(&ended);
            key.send(nap.then(move |_| {
                end.store(1, Ordering::SeqCst);
            }))
            .unwrap();
            while ended.load(Ordering::SeqCst) == 0 {
                assert!(port.sleep(Duration::from_millis(1)).wait().is_ok());
            }
        });
        proactor.run();
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// Calls, and what anybody may run, both without end: each of them gets its turn on every worker.
#[test]
fn neither_calls_nor_what_the_strategy_has_starve() {
    fn again(port: CompletionPort, to: Option<usize>, count: [Arc<AtomicUsize>; 2]) {
        let next = port.clone();
        let call = move || {
            let runs = count[usize::from(to.is_some())].fetch_add(1, Ordering::SeqCst);
            let other = count[usize::from(to.is_none())].load(Ordering::SeqCst);
            if runs >= 10_000 && other >= 10_000 {
                return next.stop();
            }
            assert!(runs < 10_000_000, "the others starve");
            again(next.clone(), to, count);
        };
        match to {
            Some(worker) => port.post_to(worker, call).unwrap(),
            None => port.post(call),
        }
    }
    everywhere(|setup| {
        let proactor = setup.build();
        let count = [Arc::default(), Arc::default()];
        for worker in 0..setup.threads {
            again(proactor.port().clone(), Some(worker), count.clone());
            again(proactor.port().clone(), None, count.clone());
        }
        proactor.run();
        assert!(proactor.stopped());
    });
}

#[test]
fn a_call_waits_until_somebody_is_its_worker() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port().clone();
        proactor.stop();
        for worker in 0..setup.threads {
            post_to(&port, worker, || ());
        }
        assert_eq!((proactor.run(), proactor.poll()), (0, 0));
        assert_eq!(port.outstanding(), setup.threads, "it is kept");
        proactor.restart();
        // One thread is one worker, and runs no other's calls.
        let alone = proactor.poll();
        assert_eq!(alone, 1);
        assert_eq!(proactor.run(), setup.threads - alone);
    });
}

#[test]
fn calls_are_dropped_uncalled_with_the_proactor() {
    everywhere(|setup| {
        let proactor = setup.build();
        let held = Arc::new(());
        for worker in 0..setup.threads {
            let held = Arc::clone(&held);
            post_to(proactor.port(), worker, move || {
                panic!("it is not run: {held:?}")
            });
        }
        drop(proactor);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

#[test]
fn calls_take_room_as_posts_do() {
    everywhere(|setup| {
        let builder = setup.builder().max_pending(std::num::NonZeroUsize::MIN);
        let proactor = builder.build().unwrap();
        post_to(proactor.port(), 0, || ());
        assert!(proactor.try_post(|| ()).is_err());
        let guard = proactor.guard();
        let port = proactor.port().clone();
        let poster = thread::spawn(move || post_to(&port, 0, move || drop(guard)));
        assert_eq!(proactor.run(), 2);
        poster.join().unwrap();
    });
}

/// From many threads and from handlers, to sleeping and to busy workers, beside ordinary posts: none is lost, none strays.
fn crowd(setup: Setup) {
    const POSTERS: usize = 4;
    const CALLS: usize = 2500;
    let mut random = Random::new();
    let proactor = setup.build();
    proactor.start().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..POSTERS {
            let (proactor, ran, mut random) = (&proactor, &ran, random.fork());
            scope.spawn(move || {
                for _ in 0..CALLS {
                    let worker = random.within(0, setup.threads - 1);
                    let (port, count) = (proactor.port().clone(), Arc::clone(ran));
                    let from_inside = move || {
                        post_to(&port, worker, move || {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                    };
                    match random.within(0, 2) {
                        0 => from_inside(),
                        1 => proactor.post(from_inside),
                        _ => {
                            let other = random.within(0, setup.threads - 1);
                            post_to(proactor.port(), other, from_inside);
                        }
                    }
                }
            });
        }
    });
    until("all have run", || {
        ran.load(Ordering::SeqCst) == POSTERS * CALLS
    });
}

#[test]
fn none_is_lost_and_none_strays_in_a_crowd() {
    everywhere(crowd);
}

/// What waits for a worker that nobody is keeps nobody awake.
#[cfg(target_os = "linux")]
#[test]
fn a_call_that_waits_for_its_worker_keeps_nobody_awake() {
    /// How often this thread has given up the processor.
    fn switches() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        let count = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
        lines.filter_map(count).sum()
    }
    for setup in setups(&[2]).into_iter().filter(|setup| setup.threads > 1) {
        within(&setup.to_string(), move || {
            let proactor: Proactor = setup.build();
            post_to(proactor.port(), 1, || ());
            let before = switches();
            // This thread is worker 0.
            assert_eq!(proactor.run_for(Duration::from_millis(300)), 0);
            let switches = switches() - before;
            assert!(switches < 10, "{setup}: it woke up {switches} times");
        });
    }
}

#[test]
fn thousands_of_calls_between_two_workers_arrive() {
    everywhere_once(|setup| {
        fn bounce(port: CompletionPort, left: usize, threads: usize) {
            if left > 0 {
                let next = port.clone();
                post_to(&port, left % threads, move || {
                    bounce(next, left - 1, threads);
                });
            }
        }
        let proactor = setup.build();
        bounce(proactor.port().clone(), 5000, setup.threads);
        assert_eq!(proactor.run(), 5000);
    });
}
