//! Futures: their completion, their polls, their drop, and what they give back.
#![cfg(proactor_loom)]

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::atomic::AtomicBool;
use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, port, workers};
use proactor::model::{ModelPort, Take};
use proactor::{Error, Initiation, InitiationFuture, Strategy};

type Units = Poll<Result<usize, Error>>;

/// A waker: whether it was called.
#[derive(Default)]
struct Called(AtomicBool);

impl Called {
    fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A waker that a thread waits for.
#[derive(Default)]
struct Calls(Wait);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.happen();
    }
}

fn poll(
    future: &mut InitiationFuture<Take>,
    waker: &Arc<impl Wake + Send + Sync + 'static>,
) -> Units {
    let waker = Waker::from(Arc::clone(waker));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// The future of what is begun with it, polled once.
fn begun(
    initiation: Initiation<Take>,
    waker: &Arc<impl Wake + Send + Sync + 'static>,
) -> InitiationFuture<Take> {
    let mut future = initiation.into_future();
    assert!(
        poll(&mut future, waker).is_pending(),
        "ready inside the initiating call"
    );
    future
}

/// The only unit arrives while the future that would have it is dropped: whoever is next gets it.
fn drop_against_completion(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let called = Arc::new(Called::default());
    // It asks for more than comes, so that its direction has no data left when it goes on.
    let future = begun(object.taking(8), &called);
    let output = Once::default();
    object.take(1, {
        let output = output.clone();
        move |result| output.happen(result.expect("the unit"))
    });
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    let finished = called.yet();
    drop(future);
    join(worker);
    assert_eq!(output.how(), 1);
    seen.saw(if finished {
        "finished before"
    } else {
        "finished after"
    });
    drop(object);
}

#[test]
fn what_a_dropped_future_took_is_the_next_ones() {
    model(
        "what_a_dropped_future_took_is_the_next_ones",
        &["finished before", "finished after"],
        drop_against_completion,
    );
}

#[test]
fn mutant_a_dropped_future_gives_nothing_back() {
    kills(
        "future-gives-nothing-back",
        "what_a_dropped_future_took_is_the_next_ones",
    );
}

#[test]
fn mutant_the_finisher_does_not_see_that_the_future_is_gone() {
    kills(
        "future-gone-unseen",
        "what_a_dropped_future_took_is_the_next_ones",
    );
}

#[test]
fn mutant_the_shelf_is_not_looked_at() {
    kills(
        "shelf-not-looked-at",
        "what_a_dropped_future_took_is_the_next_ones",
    );
}

/// A composed read has had a part of what it wants when its future is dropped, and the rest arrives meanwhile.
fn drop_within_a_composed_read(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let called = Arc::new(Called::default());
    port.arrive(0, 1);
    let future = begun(object.taking_all(2), &called);
    let output = Once::default();
    object.taking_all(2).then({
        let output = output.clone();
        move |result| output.happen(result.expect("both units"))
    });
    let worker = workers(&port, 1);
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let finished = called.yet();
    drop(future);
    data.join().expect("they arrive");
    join(worker);
    assert_eq!(output.how(), 2);
    seen.saw(if finished { "had all" } else { "had a part" });
    drop(object);
}

#[test]
fn what_a_composed_read_had_is_the_next_ones() {
    model(
        "what_a_composed_read_had_is_the_next_ones",
        &["had all", "had a part"],
        drop_within_a_composed_read,
    );
}

#[test]
fn mutant_who_is_cancelled_lets_go() {
    kills(
        "cancelled-lets-go",
        "what_a_composed_read_had_is_the_next_ones",
    );
}

/// There are two units, and the second operation begins when the output of the first, a future's, was taken or dropped.
fn output_before_next(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let calls = Arc::new(Calls::default());
    let mut future = begun(object.taking(1), &calls);
    let taken = Arc::new(AtomicBool::new(false));
    let second = Once::default();
    object.take(1, {
        let (taken, second) = (Arc::clone(&taken), second.clone());
        move |result| second.happen((result.ok(), taken.load(Ordering::Relaxed)))
    });
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    port.arrive(0, 1);
    calls.0.wait();
    taken.store(true, Ordering::Relaxed);
    match poll(&mut future, &calls) {
        Poll::Ready(Ok(1)) => seen.saw("in order"),
        other => panic!("{other:?}"),
    }
    assert_eq!(join(worker), 2);
    assert_eq!(second.how(), (Some(1), true), "nobody had had the first");
    drop(object);
}

#[test]
fn the_next_operation_waits_for_the_output_of_a_future() {
    model(
        "the_next_operation_waits_for_the_output_of_a_future",
        &["in order"],
        output_before_next,
    );
}

#[test]
fn mutant_a_future_lets_go_of_its_direction() {
    kills(
        "future-lets-go",
        "the_next_operation_waits_for_the_output_of_a_future",
    );
}

/// A future is polled with another waker while its operation finishes: it is ready, or that waker is called.
fn poll_against_wake(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let mut future = begun(object.taking(1), &Arc::new(Called::default()));
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    let last = Arc::new(Calls::default());
    seen.saw(match output(&mut future, &last) {
        true => "ready",
        false => "woken",
    });
    join(worker);
    drop(object);
}

/// Polls until it has its unit; whether the first poll had it.
fn output(future: &mut InitiationFuture<Take>, waker: &Arc<Calls>) -> bool {
    let mut first = true;
    loop {
        match poll(future, waker) {
            Poll::Ready(units) => {
                assert_eq!(units.expect("a unit"), 1);
                return first;
            }
            Poll::Pending => waker.0.wait(),
        }
        first = false;
        thread::yield_now(); // It may have been polled in the very moment of its end.
    }
}

#[test]
fn a_future_that_is_pending_is_woken_by_its_last_waker() {
    model(
        "a_future_that_is_pending_is_woken_by_its_last_waker",
        &["ready", "woken"],
        poll_against_wake,
    );
}

#[test]
fn mutant_a_future_keeps_its_first_waker() {
    kills(
        "future-keeps-its-waker",
        "a_future_that_is_pending_is_woken_by_its_last_waker",
    );
}

#[test]
fn mutant_the_waker_is_taken_after_the_end() {
    kills(
        "future-finished-first",
        "a_future_that_is_pending_is_woken_by_its_last_waker",
    );
}

#[test]
fn mutant_a_poll_as_the_waker_is_taken_is_forgotten() {
    kills(
        "future-taken-unseen",
        "a_future_that_is_pending_is_woken_by_its_last_waker",
    );
}

#[test]
fn mutant_a_future_is_not_woken() {
    kills(
        "future-not-woken",
        "a_future_that_is_pending_is_woken_by_its_last_waker",
    );
}

/// A unit arrives while the operation that is to have it begins: its future is ready at once, or woken.
fn begin_against_arrival(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    port.enter();
    let worker = workers(&port, 1);
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let calls = Arc::new(Calls::default());
    let mut future = object.taking(1).into_future();
    seen.saw(match output(&mut future, &calls) {
        true => "ready",
        false => "woken",
    });
    port.cross_off();
    data.join().expect("it arrives");
    join(worker);
    drop(object);
}

#[test]
fn a_future_is_ready_or_woken_as_it_begins() {
    model(
        "a_future_is_ready_or_woken_as_it_begins",
        &["ready", "woken"],
        begin_against_arrival,
    );
}

#[test]
fn mutant_a_future_looks_once() {
    kills(
        "future-looks-once",
        "a_future_is_ready_or_woken_as_it_begins",
    );
}

/// The port goes while a future of it is polled: the future ends as cancelled.
fn port_against_poll(seen: &Seen) {
    let port = ModelPort::by_hand(1, 0);
    let calls = Arc::new(Calls::default());
    let mut nap = port.port.sleep(Duration::from_secs(1)).into_future();
    let mut poll = |calls: &Arc<Calls>| {
        let waker = Waker::from(Arc::clone(calls));
        Pin::new(&mut nap).poll(&mut Context::from_waker(&waker))
    };
    assert!(poll(&Arc::default()).is_pending());
    let ends = thread::spawn(move || drop(port));
    let mut polls = 1;
    let result = loop {
        match poll(&calls) {
            Poll::Ready(result) => break result,
            Poll::Pending => calls.0.wait(),
        }
        polls += 1;
        thread::yield_now();
    };
    assert!(result.expect_err("no time passes").is_cancelled());
    ends.join().expect("it goes");
    seen.saw(if polls == 1 { "ready" } else { "woken" });
}

#[test]
fn a_future_outlives_its_port() {
    model(
        "a_future_outlives_its_port",
        &["ready", "woken"],
        port_against_poll,
    );
}

#[test]
fn mutant_a_future_that_is_dropped_with_its_port_is_lost() {
    kills("dropped-future-is-lost", "a_future_outlives_its_port");
}

/// An object is closed while a future's operation on it finishes, whose output nobody takes: the descriptor is closed then, once,
/// and does not wait for that.
fn close_against_completion(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let called = Arc::new(Called::default());
    let mut future = begun(object.taking(1), &called);
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    object.close();
    assert_eq!(join(worker), 1);
    assert_eq!(port.closed(), [0]);
    match poll(&mut future, &called) {
        Poll::Ready(Ok(1)) => seen.saw("done"),
        Poll::Ready(Err(error)) if error.is_cancelled() => seen.saw("cancelled"),
        other => panic!("{other:?}"),
    }
    drop(object);
    assert_eq!(port.closed(), [0]);
}

#[test]
fn a_close_does_not_wait_for_a_future() {
    model(
        "a_close_does_not_wait_for_a_future",
        &["done", "cancelled"],
        close_against_completion,
    );
}

#[test]
fn mutant_a_close_waits_for_futures() {
    kills(
        "close-waits-for-futures",
        "a_close_does_not_wait_for_a_future",
    );
}
