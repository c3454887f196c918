//! Timers: never early, exactly once, cancelled or not, and an earlier one wakes whoever waits for a later one.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, SOON, everywhere, until};
use proactor::time::Interval;
use proactor::{CancelOutcome, CompletionPort, OperationKey};

const FAR: Duration = Duration::from_secs(3600);

#[test]
fn p17_p18_each_timer_expires_once_and_never_early() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let expired = Arc::new(Mutex::new(Vec::new()));
        for name in 0..1000 {
            let wait = Duration::from_micros(random.next() % 30_000);
            let (expired, port, at) = (
                Arc::clone(&expired),
                proactor.port().clone(),
                Instant::now() + wait,
            );
            let timer = if name % 2 == 0 {
                port.sleep_until(at)
            } else {
                port.sleep(wait)
            };
            timer.then(move |result| {
                assert!(Instant::now() >= at, "{name} is early");
                result.unwrap();
                expired.lock().unwrap().push(name);
            });
        }
        assert_eq!(proactor.run(), 1000);
        let expired = expired.lock().unwrap();
        assert_eq!(expired.len(), 1000);
        assert_eq!(
            expired.iter().collect::<HashSet<_>>().len(),
            1000,
            "one expired twice"
        );
        assert_eq!(proactor.port().next_deadline(), None);
    });
}

#[test]
fn p17_timers_of_one_thread_expire_in_the_order_of_their_deadlines() {
    for backend in common::BACKENDS {
        common::within("order", move || {
            let builder = proactor::Proactor::builder().strategy(proactor::Strategy::Single);
            let proactor = builder.backend(backend).build().unwrap();
            let (to, order) = mpsc::channel();
            let begin = Instant::now() + Duration::from_millis(2);
            for wait in [9, 3, 7, 1, 8, 2] {
                let to = to.clone();
                let timer = proactor.sleep_until(begin + Duration::from_millis(wait));
                timer.then(move |_| to.send(wait).unwrap());
            }
            drop(to);
            proactor.run();
            assert_eq!(order.iter().collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9]);
        });
    }
}

#[test]
fn p19_every_cancelled_timer_completes_as_cancelled_at_once() {
    everywhere(|setup| {
        let proactor = setup.build();
        let cancelled = Arc::new(AtomicUsize::new(0));
        let arm = |wait: Duration| -> OperationKey {
            let cancelled = Arc::clone(&cancelled);
            proactor.sleep(wait).then(move |result| {
                if result.is_err_and(|error| error.is_cancelled()) {
                    cancelled.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let keys: Vec<_> = (0..100)
            .map(|extra| arm(FAR + Duration::from_millis(extra)))
            .collect();
        let left = arm(Duration::from_millis(2));
        let begin = Instant::now();
        assert!(
            keys.iter()
                .all(|&key| proactor.cancel(key) == CancelOutcome::Requested)
        );
        assert!(
            keys.iter()
                .all(|&key| proactor.cancel(key) == CancelOutcome::TooLate)
        );
        assert_eq!(proactor.run(), 101);
        assert!(begin.elapsed() < FAR);
        assert_eq!(
            cancelled.load(Ordering::SeqCst),
            100,
            "cancelling one cancels one"
        );
        assert_eq!(proactor.cancel(left), CancelOutcome::TooLate);
    });
}

#[test]
fn p20_an_interval_serves_again_after_a_tick_was_cancelled() {
    everywhere(|setup| {
        let proactor = setup.build();
        let mut interval = proactor.interval(Duration::from_millis(2));
        assert_eq!(interval.period(), Duration::from_millis(2));
        let key = interval
            .tick()
            .then(|result| assert!(result.unwrap_err().is_cancelled()));
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        interval.tick().then(|result| result.unwrap());
        assert_eq!(proactor.run(), 2);
    });
}

#[test]
fn p22_a_cancellation_after_expiry_is_too_late_and_the_handler_sees_success() {
    everywhere(|setup| {
        let proactor = setup.build();
        let at = Instant::now() + Duration::from_millis(2);
        // Both expire together; the first to run finds the other's expiry queued, or run.
        let keys: Arc<Mutex<Vec<OperationKey>>> = Arc::default();
        for _ in 0..2 {
            let (port, others) = (proactor.port().clone(), Arc::clone(&keys));
            let key = proactor.sleep_until(at).then(move |result| {
                result.expect("success");
                for &key in &*others.lock().unwrap() {
                    assert_eq!(port.cancel(key), CancelOutcome::TooLate);
                }
            });
            keys.lock().unwrap().push(key);
        }
        assert_eq!(proactor.run(), 2);
    });
}

#[test]
fn p22_cancel_against_expiry_completes_each_timer_once() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().unwrap();
        let (to, ends) = mpsc::channel();
        let keys: Vec<_> = (0..1000)
            .map(|name| {
                let to = to.clone();
                let wait = Duration::from_micros(random.next() % 4000);
                proactor
                    .sleep(wait)
                    .then(move |result| to.send((name, result.is_ok())).unwrap())
            })
            .collect();
        drop(to);
        let outcomes: Vec<_> = keys.into_iter().map(|key| proactor.cancel(key)).collect();
        let mut ended = HashSet::new();
        for _ in 0..1000 {
            let (name, expired): (usize, bool) = ends.recv_timeout(SOON).expect("every timer ends");
            assert!(ended.insert(name), "{name} completed twice");
            let too_late = outcomes[name] == CancelOutcome::TooLate;
            assert_eq!(too_late, expired, "{name}: {:?}", outcomes[name]);
        }
        assert!(ends.recv().is_err());
    });
}

#[test]
fn p24_an_earlier_timer_from_another_thread_wakes_whoever_waits() {
    everywhere(|setup| {
        let proactor = setup.build();
        let far = proactor
            .sleep(FAR)
            .then(|result| assert!(result.unwrap_err().is_cancelled()));
        thread::scope(|scope| {
            let runner = scope.spawn(|| proactor.run());
            let mut wait = Duration::from_millis(20);
            for _ in 0..10 {
                // Each earlier than the one before would be.
                wait = wait * 3 / 4;
                let (to, expired) = mpsc::channel();
                let begin = Instant::now();
                proactor.sleep(wait).then(move |_| to.send(()).unwrap());
                expired
                    .recv_timeout(SOON)
                    .expect("the waiting thread was not woken");
                assert!(begin.elapsed() >= wait, "early");
            }
            assert!(!runner.is_finished());
            assert_eq!(proactor.cancel(far), CancelOutcome::Requested);
            assert_eq!(runner.join().unwrap(), 11);
        });
    });
}

#[test]
fn durations_of_nothing_and_beyond_the_clock_are_taken() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor
            .sleep(Duration::ZERO)
            .then(|result| result.unwrap());
        let past = Instant::now();
        until("the clock has moved", || past < Instant::now());
        proactor.sleep_until(past).then(|result| result.unwrap());
        let key = proactor
            .sleep(Duration::MAX)
            .then(|result| assert!(result.is_err()));
        until("the first two have expired", || {
            proactor.poll();
            proactor.port().outstanding() == 1
        });
        assert!(proactor.port().next_deadline().is_some());
        proactor.cancel(key);
        assert_eq!(proactor.run(), 1);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// Posts itself until it is told to end.
fn again(port: CompletionPort, over: Arc<AtomicBool>) {
    if !over.load(Ordering::SeqCst) {
        let next = port.clone();
        port.post(move || again(next, over));
    }
}

#[test]
fn handlers_that_post_themselves_starve_no_timer() {
    everywhere(|setup| {
        let proactor = setup.build();
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..setup.threads {
            let (port, over) = (proactor.port().clone(), Arc::clone(&over));
            proactor.post(move || again(port, over));
        }
        let ended = Arc::clone(&over);
        proactor
            .sleep(Duration::from_millis(3))
            .then(move |_| ended.store(true, Ordering::SeqCst));
        let begin = Instant::now();
        proactor.run_for(SOON);
        assert!(
            over.load(Ordering::SeqCst) && begin.elapsed() < SOON,
            "the timer was starved"
        );
        proactor.run();
    });
}

// ---- intervals ----

const PERIOD: Duration = Duration::from_millis(5);

/// Ticks `left` times; each handler takes `busy`, and notes when it began.
fn tick(
    mut interval: Interval,
    begin: Instant,
    busy: Duration,
    times: Vec<Duration>,
    to: mpsc::Sender<Vec<Duration>>,
) {
    if times.len() == 20 {
        return to.send(times).unwrap();
    }
    interval.tick().then(move |result| {
        result.unwrap();
        let now = begin.elapsed();
        let mut times = times;
        times.push(now);
        until("the handler has been busy", || {
            begin.elapsed() >= now + busy
        });
        tick(interval, begin, busy, times, to);
    });
}

#[test]
fn an_interval_does_not_drift() {
    everywhere(|setup| {
        let proactor = setup.build();
        // With drift, twenty ticks take 20 x 7 ms, always; without, 100 ms unless the machine is busy.
        let on_time = (0..10).any(|_| {
            let (to, times) = mpsc::channel();
            let begin = Instant::now();
            let interval = proactor.interval(PERIOD);
            tick(interval, begin, Duration::from_millis(2), Vec::new(), to);
            proactor.run();
            let times = times.recv().unwrap();
            for (number, time) in (1..).zip(&times) {
                assert!(*time >= PERIOD * number, "tick {number} is early: {time:?}");
            }
            times[19] < Duration::from_millis(125)
        });
        assert!(on_time, "ten times it drifted");
    });
}

#[test]
fn ticks_that_were_missed_are_skipped() {
    everywhere(|setup| {
        let proactor = setup.build();
        let begin = Instant::now();
        let mut interval = proactor.interval(PERIOD);
        let begun = Instant::now();
        until("five ticks are missed", || begun.elapsed() > PERIOD * 5);
        let late = begun.elapsed();
        interval.tick().wait().unwrap();
        interval.tick().wait().unwrap();
        let grid = late.as_millis() / PERIOD.as_millis() + 1;
        let next = PERIOD * u32::try_from(grid).unwrap();
        assert!(
            begin.elapsed() >= next,
            "ticks came in a burst: {:?} before {next:?}",
            begin.elapsed()
        );
    });
}
