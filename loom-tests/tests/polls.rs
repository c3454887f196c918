//! Polls: calls with what is lent, and the notices that wait for them.
#![cfg(proactor_loom)]

use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::thread::{self, JoinHandle};
use loom_tests::{Once, Seen, Wait, join, kills, model, port, workers};
use proactor::model::ModelPort;
use proactor::{Error, Strategy};

/// A waker that a thread waits for.
#[derive(Default)]
struct Calls(Wait);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.happen();
    }
}

fn calls() -> (Arc<Calls>, Waker) {
    let calls = Arc::new(Calls::default());
    (Arc::clone(&calls), Waker::from(calls))
}

/// Polls until it is ready, each time after having been woken; and how often it was pending.
fn wait_for(poll: impl Fn(&Waker) -> Poll<Result<usize, Error>>) -> (Result<usize, Error>, usize) {
    let mut pending = 0;
    loop {
        let (calls, waker) = calls();
        match poll(&waker) {
            Poll::Ready(result) => return (result, pending),
            Poll::Pending => calls.0.wait(),
        }
        pending += 1;
    }
}

/// A port with one worker, which stays until `over`.
fn served(seats: usize) -> (ModelPort, Vec<JoinHandle<usize>>) {
    let port = port(Strategy::LeaderFollowers, 1, seats, 1);
    port.enter();
    let worker = workers(&port, 1);
    (port, worker)
}

fn over(port: &ModelPort, worker: Vec<JoinHandle<usize>>) {
    port.cross_off();
    join(worker);
}

/// A unit arrives while a stream is polled that has been waited for before, so that the kernel reports it; then none is left.
fn arrive_beside_a_poll(seen: &Seen) {
    let (port, worker) = served(2);
    let object = port.open(0);
    let (first, waker) = calls();
    assert!(object.poll_take(1, &waker).is_pending(), "there is nothing");
    port.arrive(0, 1);
    first.0.wait();
    assert!(matches!(object.poll_take(1, &waker), Poll::Ready(Ok(1))));
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let (taken, pending) = wait_for(|waker| object.poll_take(1, waker));
    assert_eq!(taken.expect("a unit"), 1);
    seen.saw(if pending > 0 { "woken" } else { "ready" });
    data.join().expect("it arrives");
    over(&port, worker);
}

#[test]
fn a_poll_that_is_pending_is_woken() {
    model(
        "a_poll_that_is_pending_is_woken",
        &["woken", "ready"],
        arrive_beside_a_poll,
    );
}

#[test]
fn mutant_a_poll_ignores_the_tick() {
    kills("poll-no-tick", "a_poll_that_is_pending_is_woken");
}

#[test]
fn mutant_a_poll_is_not_armed() {
    kills("poll-not-armed", "a_poll_that_is_pending_is_woken");
}

#[test]
fn mutant_a_notice_wakes_nobody() {
    kills("notice-wakes-nobody", "a_poll_that_is_pending_is_woken");
}

/// An operation is initiated beside a poll; there is a unit for each.
fn poll_beside_an_operation(seen: &Seen) {
    let (port, worker) = served(2);
    let object = port.open(0);
    port.arrive(0, 2);
    let output = Once::default();
    let other = {
        let (object, output) = (object.clone(), output.clone());
        thread::spawn(move || object.take(1, move |result| output.happen(result.ok())))
    };
    let (taken, pending) = wait_for(|waker| object.poll_take(1, waker));
    assert_eq!(taken.expect("a unit"), 1);
    other.join().expect("it is initiated");
    over(&port, worker);
    assert_eq!(output.how(), Some(1));
    seen.saw(if pending > 0 {
        "waited for it"
    } else {
        "at once"
    });
}

#[test]
fn a_poll_and_an_operation_take_a_unit_each() {
    model(
        "a_poll_and_an_operation_take_a_unit_each",
        &["waited for it", "at once"],
        poll_beside_an_operation,
    );
}

#[test]
fn mutant_a_poll_lets_nobody_on() {
    kills(
        "poll-lets-nobody-on",
        "a_poll_and_an_operation_take_a_unit_each",
    );
}

/// A future has read, and is dropped, beside a poll: what it took is the poll's.
fn give_back_beside_a_poll(seen: &Seen) {
    let (port, worker) = served(2);
    let object = port.open(0);
    let (read, waker) = calls();
    // It asks for more than comes, so that its direction has no data left when it goes on.
    let mut future = object.taking(8).into_future();
    let begun = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
    assert!(begun.is_pending(), "ready inside the initiating call");
    port.arrive(0, 1);
    read.0.wait();
    let poll = {
        let object = object.clone();
        thread::spawn(move || wait_for(|waker| object.poll_take(1, waker)))
    };
    drop(future);
    let (taken, pending) = poll.join().expect("it ends");
    assert_eq!(taken.expect("the unit"), 1);
    seen.saw(if pending > 0 { "woken" } else { "ready" });
    over(&port, worker);
}

#[test]
fn what_goes_back_wakes_a_poll() {
    model(
        "what_goes_back_wakes_a_poll",
        &["woken", "ready"],
        give_back_beside_a_poll,
    );
}

#[test]
fn mutant_what_goes_back_is_not_looked_at() {
    kills("shelf-not-looked-at", "what_goes_back_wakes_a_poll");
}

/// An object is closed beside a poll: the descriptor is closed once, not under the call, and the poll ends.
fn close_beside_a_poll(seen: &Seen) {
    let (port, worker) = served(2);
    let object = port.open(0);
    let poll = {
        let object = object.clone();
        thread::spawn(move || wait_for(|waker| object.poll_take(1, waker)))
    };
    object.close();
    let (taken, pending) = poll.join().expect("it ends");
    assert!(taken.is_err(), "there was nothing");
    seen.saw(if pending > 0 { "woken" } else { "refused" });
    assert_eq!(port.closed(), [0]);
    over(&port, worker);
}

#[test]
fn a_close_beside_a_poll_closes_once_and_wakes() {
    model(
        "a_close_beside_a_poll_closes_once_and_wakes",
        &["woken", "refused"],
        close_beside_a_poll,
    );
}

#[test]
fn mutant_a_poll_does_not_hold() {
    kills("poll-unheld", "a_close_beside_a_poll_closes_once_and_wakes");
}

/// What is pending is polled with another waker while a unit arrives: it is ready, or that one is called.
fn another_waker(seen: &Seen) {
    let (port, worker) = served(2);
    let object = port.open(0);
    let (_first, waker) = calls();
    assert!(object.poll_take(1, &waker).is_pending(), "there is nothing");
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let (taken, pending) = wait_for(|waker| object.poll_take(1, waker));
    assert_eq!(taken.expect("a unit"), 1);
    seen.saw(if pending > 0 { "woken" } else { "ready" });
    data.join().expect("it arrives");
    over(&port, worker);
}

#[test]
fn a_pending_poll_is_woken_by_its_last_waker() {
    model(
        "a_pending_poll_is_woken_by_its_last_waker",
        &["woken", "ready"],
        another_waker,
    );
}

#[test]
fn mutant_a_notice_keeps_its_waker() {
    kills(
        "notice-keeps-its-waker",
        "a_pending_poll_is_woken_by_its_last_waker",
    );
}

/// A poll comes when its notice has had its turn and has not run, since the only worker is at a handler that came with it.
fn poll_before_its_notice(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 2);
    let (busy, polled) = (port.open(0), port.open(1));
    let (at_it, go_on) = (Wait::default(), Wait::default());
    busy.take(1, {
        let (at_it, go_on) = (at_it.clone(), go_on.clone());
        move |_taken| {
            at_it.happen();
            go_on.wait();
        }
    });
    let (first, waker) = calls();
    assert!(polled.poll_take(1, &waker).is_pending(), "there is nothing");
    port.arrive(0, 1);
    port.arrive(1, 1);
    let worker = workers(&port, 1);
    at_it.wait();
    let (_second, waker) = calls();
    let taken = polled.poll_take(1, &waker);
    assert!(
        matches!(taken, Poll::Ready(Ok(1))),
        "its own notice is in its way"
    );
    seen.saw("taken");
    go_on.happen();
    assert_eq!(join(worker), 2, "a notice and a handler");
    first.0.wait();
}

#[test]
fn a_poll_is_not_held_up_by_its_own_notice() {
    model(
        "a_poll_is_not_held_up_by_its_own_notice",
        &["taken"],
        poll_before_its_notice,
    );
}

#[test]
fn mutant_a_notice_holds_its_direction() {
    kills("notice-holds", "a_poll_is_not_held_up_by_its_own_notice");
}

/// One thread reads and another writes, where an event disarms both directions; the unit and the room arrive apart.
fn two_halves(seen: &Seen) {
    let (port, worker) = served(1);
    let object = port.open(0);
    let writer = {
        let object = object.clone();
        thread::spawn(move || wait_for(|waker| object.poll_give(1, waker)))
    };
    port.arrive(0, 1);
    port.make_room(0, 1);
    let (taken, _) = wait_for(|waker| object.poll_take(1, waker));
    assert_eq!(taken.expect("a unit"), 1);
    let (given, pending) = writer.join().expect("it ends");
    assert_eq!(given.expect("room"), 1);
    seen.saw(if pending > 0 { "woken" } else { "ready" });
    over(&port, worker);
}

#[test]
fn two_halves_are_polled_beside_each_other() {
    model(
        "two_halves_are_polled_beside_each_other",
        &["woken", "ready"],
        two_halves,
    );
}

#[test]
fn mutant_the_other_half_is_not_armed_again() {
    kills("poll-not-armed", "two_halves_are_polled_beside_each_other");
}

/// A spawned future polls while a unit arrives; the notice that wakes it, and its poll, are one handler.
fn future_that_polls(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let output = Once::default();
    let future = {
        let output = output.clone();
        async move {
            let taken = poll_fn(|context| object.poll_take(1, context.waker())).await;
            output.happen(taken.ok());
        }
    };
    port.port.spawn(future).detach();
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let ran = join(workers(&port, 1));
    data.join().expect("it arrives");
    assert_eq!(output.how(), Some(1));
    match ran {
        1 => seen.saw("ready"),
        2 => seen.saw("woken"),
        more => panic!("{more} handlers"),
    }
}

#[test]
fn a_future_is_polled_by_the_notice_that_wakes_it() {
    model(
        "a_future_is_polled_by_the_notice_that_wakes_it",
        &["woken", "ready"],
        future_that_polls,
    );
}

#[test]
fn mutant_a_future_that_is_woken_last_is_lost() {
    kills(
        "woken-last-is-lost",
        "a_future_is_polled_by_the_notice_that_wakes_it",
    );
}
