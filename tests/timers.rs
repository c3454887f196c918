//! Timers, beside what `tests/conformance/timers.rs` has: their order, odd durations, company, and intervals.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::{SOON, everywhere, until};
use proactor::CompletionPort;
use proactor::time::Interval;

#[test]
fn timers_of_one_thread_expire_in_the_order_of_their_deadlines() {
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
