//! A direction of an object: events, attempts and cancellations that cross each other.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, kills, model, port};
use proactor::model::{ModelObject, ModelPort};
use proactor::{CancelOutcome, Strategy};
use std::sync::{Arc, Mutex};

fn worker(port: &ModelPort) -> thread::JoinHandle<usize> {
    let port = port.clone();
    thread::spawn(move || port.work())
}

/// Data arrive between the attempt that finds none and its clearing of `ready`: the edge must not be lost. A reader goes on
/// until it has seen every unit, so every arrival must be noticed.
fn event_between_call_and_clear(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = Arc::new(port.open(0));
    let reads = Arc::new(Mutex::new(Vec::new()));
    go_on(&object, &reads);
    let (a, b) = (worker(&port), worker(&port));
    port.arrive(0, 1);
    port.arrive(0, 1);
    a.join().expect("returns");
    b.join().expect("returns");
    seen.saw(format!("{:?}", reads.lock().expect("no panic")));
}

#[test]
fn no_event_is_lost_between_an_attempt_and_its_clear() {
    model(
        "no_event_is_lost_between_an_attempt_and_its_clear",
        &["[1, 1]", "[2]"],
        event_between_call_and_clear,
    );
}

fn go_on(object: &Arc<ModelObject>, reads: &Arc<Mutex<Vec<usize>>>) {
    let (again, seen) = (Arc::clone(object), Arc::clone(reads));
    object.take(8, move |result| {
        let enough = {
            let mut reads = seen.lock().expect("no panic");
            reads.push(result.expect("units"));
            reads.iter().sum::<usize>() == 2
        };
        if !enough {
            go_on(&again, &seen);
        }
    });
}

#[test]
fn mutant_the_tick_is_not_looked_at() {
    kills(
        "direction-no-tick",
        "no_event_is_lost_between_an_attempt_and_its_clear",
    );
}

/// An operation is cancelled from outside while its data arrive and workers attempt it.
fn cancel_against_complete(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let output = Arc::new(Mutex::new(None));
    let key = object.take(1, {
        let output = Arc::clone(&output);
        move |result| {
            let before = output.lock().expect("no panic").replace(result.is_ok());
            assert_eq!(before, None, "the handler ran twice");
        }
    });
    let other = worker(&port);
    let arrives = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let outcome = port.port.cancel(key);
    arrives.join().expect("returns");
    assert_eq!(other.join().expect("the worker returns"), 1);
    let ok = output.lock().expect("no panic").expect("the handler ran");
    let again = port.port.cancel(key);
    assert_eq!(again, CancelOutcome::TooLate, "a stale key is believed");
    match (outcome, ok) {
        (CancelOutcome::Requested, false) => seen.saw("requested, cancelled"),
        (CancelOutcome::Requested, true) => seen.saw("requested, done all the same"),
        (CancelOutcome::TooLate, true) => seen.saw("too late"),
        (CancelOutcome::TooLate, false) => panic!("too late, and cancelled all the same"),
    }
    drop(object);
}

#[test]
fn a_cancelled_operation_completes_once_and_says_how() {
    model(
        "a_cancelled_operation_completes_once_and_says_how",
        &[
            "requested, cancelled",
            "requested, done all the same",
            "too late",
        ],
        cancel_against_complete,
    );
}

#[test]
fn mutant_a_key_that_is_stale_is_believed() {
    kills(
        "cancel-believes-any-key",
        "a_cancelled_operation_completes_once_and_says_how",
    );
}

/// The cancellation comes while a worker attempts in vain, and puts the operation back: nobody must miss it.
fn cancel_against_put_back(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let key = object.take(1, |result| assert!(result.is_err()));
    let other = worker(&port);
    port.rattle(0);
    assert_eq!(port.port.cancel(key), CancelOutcome::Requested);
    assert_eq!(other.join().expect("the worker returns"), 1);
    seen.saw("cancelled");
    drop(object);
}

#[test]
fn a_request_is_seen_by_the_canceller_or_by_who_puts_the_operation_back() {
    model(
        "a_request_is_seen_by_the_canceller_or_by_who_puts_back",
        &["cancelled"],
        cancel_against_put_back,
    );
}

#[test]
fn mutant_a_request_is_not_seen_when_the_operation_goes_back_to_wait() {
    kills(
        "cancel-unseen-at-put-back",
        "a_request_is_seen_by_the_canceller_or_by_who_puts_the_operation_back",
    );
}
