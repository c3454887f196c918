//! Timers: promises 17 to 24.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use proactor::time::Timer;
use proactor::{CancelOutcome, Error, OperationKey, Proactor};

use crate::common::{Random, SOON, Setup, any_port, everywhere, everywhere_once, until};

const FAR: Duration = Duration::from_secs(3600);

/// How waits ended: the name of each, and its result.
type Ends = mpsc::Receiver<(usize, Result<(), Error>)>;

/// Begins a wait on `timer` that reports its end.
fn wait(timer: &Timer, name: usize, to: &mpsc::Sender<(usize, Result<(), Error>)>) -> OperationKey {
    let to = to.clone();
    let wait = timer.on_expiry();
    wait.then(move |result| to.send((name, result)).expect("the test listens"))
}

/// The names that ended so far: as cancelled, and as a success.
fn so_far(ends: &Ends) -> (Vec<usize>, Vec<usize>) {
    let (mut cancelled, mut expired) = (Vec::new(), Vec::new());
    for (name, result) in ends.try_iter() {
        match result {
            Ok(()) => expired.push(name),
            Err(error) => {
                assert!(error.is_cancelled(), "{error}");
                cancelled.push(name);
            }
        }
    }
    cancelled.sort_unstable();
    expired.sort_unstable();
    (cancelled, expired)
}

/// A timer that expires in an hour, with `count` waits on it.
fn with_waits(proactor: &Proactor, count: usize) -> (Timer, Ends) {
    let timer = proactor.timer();
    timer.expires_after(FAR);
    let (to, ends) = mpsc::channel();
    for name in 0..count {
        wait(&timer, name, &to);
    }
    (timer, ends)
}

/// Begins a wait of one of the four kinds, which asserts that it does not end before its time.
fn begin_timely(proactor: &Proactor, kind: usize, after: Duration, ended: &Arc<AtomicUsize>) {
    let at = Instant::now() + after;
    let ended = Arc::clone(ended);
    let on_time = move || {
        assert!(Instant::now() >= at, "early");
        ended.fetch_add(1, Ordering::Relaxed);
    };
    match kind % 4 {
        0 => drop(proactor.sleep_until(at).then(move |_| on_time())),
        1 => drop(proactor.sleep(after).then(move |_| on_time())),
        2 => {
            let timer = proactor.timer();
            timer.expires_at(at);
            let wait = timer.on_expiry();
            wait.then(move |result| {
                result.expect("nobody cancels");
                drop(timer);
                on_time();
            });
        }
        _ => {
            let limited = proactor.sleep(FAR).timeout(after);
            limited.then(move |result| {
                assert!(result.unwrap_err().is_timeout());
                on_time();
            });
        }
    }
}

#[test]
fn p17_no_timer_is_early() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let ended = Arc::new(AtomicUsize::new(0));
        for kind in 0..1000 {
            let after = Duration::from_micros(random.next() % 30_000);
            begin_timely(&proactor, kind, after, &ended);
        }
        let begin = Instant::now();
        let mut interval = proactor.interval(Duration::from_millis(3));
        for number in 1..=5 {
            interval.tick().wait().unwrap();
            assert!(begin.elapsed() >= Duration::from_millis(3) * number);
        }
        proactor.run();
        assert_eq!(ended.load(Ordering::Relaxed), 1000);
        assert_eq!(proactor.port().next_deadline(), None);
    });
}

/// Waits expire while one thread cancels them by their keys and another one moves their timer.
fn waits_under_fire(setup: Setup) {
    const WAITS: usize = 2000;
    let mut random = Random::new();
    let proactor = setup.build();
    proactor.start().unwrap();
    let timer = proactor.timer();
    let (to, ends) = mpsc::channel();
    let (keys, to_cancel) = mpsc::channel();
    let canceller = proactor.port().clone();
    let (by_key, by_move) = thread::scope(|scope| {
        let by_key = scope.spawn(move || {
            let cancel = |key| canceller.cancel(key) == CancelOutcome::Requested;
            to_cancel.iter().filter(|&key| cancel(key)).count()
        });
        let mut by_move = 0;
        for name in 0..WAITS {
            let key = wait(&timer, name, &to);
            match name % 4 {
                0 => keys.send(key).unwrap(),
                1 => by_move += timer.expires_after(Duration::from_micros(random.next() % 3000)),
                _ => {}
            }
        }
        drop(keys);
        (by_key.join().unwrap(), by_move)
    });
    drop(to);
    let mut ended = vec![0; WAITS];
    let mut cancelled = 0;
    for _ in 0..WAITS {
        let (name, result) = ends.recv_timeout(SOON).expect("every wait ends");
        ended[name] += 1;
        cancelled += usize::from(result.is_err());
    }
    assert!(ends.recv_timeout(SOON).is_err(), "one ended twice");
    assert!(ended.iter().all(|&times| times == 1));
    assert_eq!(cancelled, by_key + by_move);
    println!("{setup}: {by_key} by key, {by_move} by moving, of {WAITS}");
}

#[test]
fn p18_each_wait_completes_exactly_once() {
    everywhere_once(waits_under_fire);
}

#[test]
fn p19_cancelling_says_how_many_and_each_completes_as_cancelled() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (timer, ends) = with_waits(&proactor, 100);
        let begin = Instant::now();
        assert_eq!(timer.cancel(), 100);
        assert_eq!(timer.cancel(), 0, "each is counted once");
        assert_eq!(proactor.run(), 100);
        assert_eq!(so_far(&ends), ((0..100).collect(), Vec::new()));
        assert!(begin.elapsed() < FAR);
        // So also of those that wait on nothing else, by their keys.
        let keys: Vec<_> = (0..100)
            .map(|_| proactor.sleep(FAR))
            .map(|sleep| sleep.then(|result| assert!(result.unwrap_err().is_cancelled())))
            .collect();
        let cancel = |&&key: &&OperationKey| proactor.cancel(key) == CancelOutcome::Requested;
        assert_eq!(keys.iter().filter(cancel).count(), 100);
        assert_eq!(keys.iter().filter(cancel).count(), 0);
        assert_eq!(proactor.run(), 100);
    });
}

#[test]
fn p20_a_timer_serves_again_after_cancel() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (timer, ends) = with_waits(&proactor, 2);
        let (to, later) = mpsc::channel();
        let deadline = timer.deadline();
        for round in 0..20 {
            timer.cancel();
            assert_eq!(timer.deadline(), deadline, "cancelling moves nothing");
            wait(&timer, round, &to);
        }
        timer.expires_after(Duration::from_millis(2));
        wait(&timer, 20, &to);
        assert_eq!(proactor.run(), 23);
        assert_eq!(so_far(&ends).0, [0, 1]);
        assert_eq!(so_far(&later), ((0..20).collect(), vec![20]));
        let mut interval = proactor.interval(Duration::from_millis(2));
        let tick = interval.tick();
        let key = tick.then(|result| assert!(result.unwrap_err().is_cancelled()));
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        interval.tick().then(|result| result.unwrap());
        assert_eq!(proactor.run(), 2);
    });
}

#[test]
fn p21_cancelling_one_cancels_one_the_oldest() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (timer, ends) = with_waits(&proactor, 5);
        for oldest in 0..4 {
            assert_eq!(timer.cancel_one(), 1);
            assert_eq!(proactor.poll(), 1);
            assert_eq!(so_far(&ends), (vec![oldest], Vec::new()));
        }
        // A wait that is over is no longer the oldest.
        let (to, limited) = mpsc::channel();
        let key = timer.on_expiry().then(move |_| to.send(()).unwrap());
        let other = with_waits(&proactor, 1);
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        assert_eq!((timer.cancel_one(), timer.cancel_one()), (1, 0));
        assert_eq!(proactor.poll(), 2);
        assert_eq!(so_far(&ends).0, [4]);
        assert!(limited.try_recv().is_ok());
        assert_eq!(so_far(&other.1).0.len(), 0, "it is another's");
        drop(other.0);
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn p22_a_cancellation_after_expiry_is_too_late_and_the_handler_sees_success() {
    everywhere(|setup| {
        let proactor = setup.build();
        // All expire together; the first to run finds the others' expiries queued, or run.
        let timer = Arc::new(proactor.timer());
        timer.expires_after(Duration::from_millis(2));
        let keys: Arc<Mutex<Vec<OperationKey>>> = Arc::default();
        let mut all = keys.lock().unwrap();
        for _ in 0..4 {
            let (port, timer, keys) = (
                proactor.port().clone(),
                Arc::clone(&timer),
                Arc::clone(&keys),
            );
            let wait = timer.on_expiry();
            all.push(wait.then(move |result| {
                result.expect("success");
                for &key in &*keys.lock().unwrap() {
                    assert_eq!(port.cancel(key), CancelOutcome::TooLate);
                }
                assert_eq!((timer.cancel_one(), timer.cancel()), (0, 0));
                assert_eq!(timer.expires_after(FAR), 0, "so also of moving");
            }));
        }
        drop(all);
        assert_eq!(proactor.run(), 4);
    });
}

#[test]
fn p23_moving_a_deadline_cancels_the_waits_on_it() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (timer, ends) = with_waits(&proactor, 3);
        assert_eq!(timer.expires_after(FAR * 2), 3, "to later");
        assert_eq!(proactor.poll(), 3);
        assert_eq!(so_far(&ends), (vec![0, 1, 2], Vec::new()));
        let (to, ends) = mpsc::channel();
        wait(&timer, 3, &to);
        let soon = Instant::now() + Duration::from_millis(2);
        assert_eq!(timer.expires_at(soon), 1, "to sooner");
        assert_eq!(timer.deadline(), soon);
        wait(&timer, 4, &to);
        assert_eq!(proactor.run(), 2);
        assert!(Instant::now() >= soon);
        assert_eq!(so_far(&ends), (vec![3], vec![4]));
        assert_eq!(timer.expires_after(FAR), 0, "nobody waits");
        // A handler that waits again as it is cancelled has the new deadline, and is not cancelled by the same move.
        let timer = Arc::new(timer);
        let (again, to) = (Arc::clone(&timer), to.clone());
        timer.on_expiry().then(move |result| {
            assert!(result.unwrap_err().is_cancelled());
            wait(&again, 5, &to);
        });
        assert_eq!(timer.expires_after(Duration::from_millis(2)), 1);
        assert_eq!(proactor.run(), 2);
        assert_eq!(so_far(&ends), (Vec::new(), vec![5]));
    });
}

#[test]
fn p24_an_earlier_timer_from_another_thread_wakes_a_waiting_leader() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (far, far_ends) = with_waits(&proactor, 1);
        let timer = proactor.timer();
        thread::scope(|scope| {
            let runner = scope.spawn(|| proactor.run());
            let mut after = Duration::from_millis(20);
            for round in 0..10 {
                // Each earlier than the one before would be.
                after = after * 3 / 4;
                let (to, expired) = mpsc::channel();
                let begin = Instant::now();
                let wait = if round % 2 == 0 {
                    proactor.sleep(after)
                } else {
                    timer.expires_after(after);
                    timer.on_expiry()
                };
                wait.then(move |_| to.send(()).unwrap());
                let woken = expired.recv_timeout(SOON);
                woken.expect("the waiting thread was not woken");
                assert!(begin.elapsed() >= after, "early");
            }
            let listener = proactor::net::TcpListener::bind(&proactor, any_port()).unwrap();
            let (to, expired) = mpsc::channel();
            let limited = listener.accept().timeout(Duration::from_millis(1));
            limited.then(move |_| to.send(()).unwrap());
            let woken = expired.recv_timeout(SOON);
            woken.expect("the waiting thread was not woken for a limit");
            assert!(!runner.is_finished());
            assert_eq!(far.cancel(), 1);
            assert_eq!(runner.join().unwrap(), 12);
        });
        until("the wait was told", || far_ends.try_recv().is_ok());
    });
}
