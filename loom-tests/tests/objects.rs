//! A direction of an object: events, attempts and cancellations that cross each other.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, model_at, port, port_at_once, workers};
use proactor::model::ModelObject;
use proactor::{CancelOutcome, ErrorKind, Strategy};
use std::sync::{Arc, Mutex};

/// Data arrive between the attempt that finds none and its clearing of `ready`: the edge must not be lost. A reader goes on
/// until it has seen every unit, so every arrival must be noticed.
fn event_between_call_and_clear(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = Arc::new(port.open(0));
    let reads = Arc::new(Mutex::new(Vec::new()));
    go_on(&object, &reads);
    let both = workers(&port, 2);
    port.arrive(0, 1);
    port.arrive(0, 1);
    join(both);
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

/// Room comes while a writer finds none, in a direction that was calm before: the event must not pass it by.
fn room_against_attempt(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = Arc::new(port.open(0));
    let given = Arc::new(Mutex::new(0));
    let (again, both_given) = (Arc::clone(&object), Arc::clone(&given));
    // The first registers the object, and leaves its direction calm.
    object.give(1, move |result| {
        assert_eq!(result.expect("room"), 1);
        again.give(1, move |result| {
            *both_given.lock().expect("no panic") += result.expect("room");
        });
    });
    let both = workers(&port, 2);
    port.make_room(0, 1);
    port.make_room(0, 1);
    join(both);
    seen.saw(format!("{}", given.lock().expect("no panic")));
}

#[test]
fn room_is_not_lost_on_a_direction_that_was_calm() {
    model(
        "room_is_not_lost_on_a_direction_that_was_calm",
        &["1"],
        room_against_attempt,
    );
}

#[test]
fn mutant_a_direction_is_calm_while_it_is_attempted() {
    kills(
        "calm-while-attempted",
        "room_is_not_lost_on_a_direction_that_was_calm",
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
    let other = workers(&port, 1);
    let arrives = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    let outcome = port.port.cancel(key);
    arrives.join().expect("returns");
    assert_eq!(join(other), 1);
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
    let other = workers(&port, 1);
    port.rattle(0);
    assert_eq!(port.port.cancel(key), CancelOutcome::Requested);
    assert_eq!(join(other), 1);
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

/// The object's operations are cancelled from outside while two are being submitted, and once more after that: no data ever come,
/// and each completes once, as cancelled.
fn cancel_against_submit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let canceller = {
        let object = object.clone();
        thread::spawn(move || object.cancel())
    };
    let outputs = [Once::default(), Once::default()];
    for output in outputs.clone() {
        object.take(1, move |result| output.happen(result.is_err()));
    }
    canceller.join().expect("it cancels");
    let by_the_first = port.poll();
    object.cancel();
    assert_eq!(by_the_first + port.work(), 2);
    assert!(outputs.iter().all(Once::how), "there were no data");
    seen.saw(format!("{by_the_first} by the first"));
}

#[test]
fn what_is_cancelled_while_it_is_submitted_completes_once() {
    model(
        "what_is_cancelled_while_it_is_submitted_completes_once",
        &["0 by the first", "1 by the first", "2 by the first"],
        cancel_against_submit,
    );
}

#[test]
fn mutant_a_cancel_asks_nobody() {
    kills(
        "cancel-asks-nobody",
        "what_is_cancelled_while_it_is_submitted_completes_once",
    );
}

/// The only data there will be arrive while a direction is attempted in vain and armed for the first time.
fn event_against_arming(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let worker = workers(&port, 1);
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    port.enter();
    object.take(1, |result| assert_eq!(result.expect("a unit"), 1));
    data.join().expect("they arrive");
    let told = object.events() > 0;
    seen.saw(if told { "told" } else { "found, or told later" });
    port.cross_off();
    assert_eq!(join(worker) + port.poll(), 1);
    drop(object);
}

#[test]
fn no_event_is_lost_while_a_direction_is_armed() {
    model(
        "no_event_is_lost_while_a_direction_is_armed",
        &["told", "found, or told later"],
        event_against_arming,
    );
}

#[test]
fn mutant_a_direction_is_armed_before_it_is_locked() {
    kills(
        "armed-before-locked",
        "no_event_is_lost_while_a_direction_is_armed",
    );
}

/// Oneshot: an event for one direction disarms both, while workers attempt either, find nothing, and arm again.
fn event_against_rearm(seen: &Seen) {
    let port = port_at_once(Strategy::LeaderFollowers, 2, 1);
    let object = Arc::new(port.open(0));
    let reads = Arc::new(Mutex::new(Vec::new()));
    go_on(&object, &reads);
    object.give(1, |result| assert_eq!(result.expect("room"), 1));
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    port.make_room(0, 1);
    port.arrive(0, 1);
    join(worker);
    port.work();
    seen.saw(format!("{:?}", reads.lock().expect("no panic")));
}

#[test]
fn what_an_event_did_not_report_is_armed_again() {
    model(
        "what_an_event_did_not_report_is_armed_again",
        &["[1, 1]", "[2]"],
        event_against_rearm,
    );
}

#[test]
fn mutant_nothing_is_armed_again() {
    kills(
        "rearm-nothing",
        "what_an_event_did_not_report_is_armed_again",
    );
}

/// An object is closed while its operation is attempted; its descriptor is closed once, and no call is made on it after that,
/// nor on the operation's memory.
fn close_against_attempt(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let output = Once::default();
    object.take(1, {
        let output = output.clone();
        move |result| output.happen(result.is_ok())
    });
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    object.close();
    assert_eq!(join(worker), 1);
    drop(object);
    assert_eq!(port.closed(), [0]);
    seen.saw(if output.how() { "done" } else { "cancelled" });
}

#[test]
fn a_descriptor_is_closed_once_and_after_the_last_call() {
    // With fewer preemptions the worker is never done between the closer's shares.
    model_at(
        3,
        "a_descriptor_is_closed_once_and_after_the_last_call",
        &["done", "cancelled"],
        close_against_attempt,
    );
}

#[test]
fn mutant_the_close_waits_for_nobody() {
    kills(
        "close-waits-for-nobody",
        "a_descriptor_is_closed_once_and_after_the_last_call",
    );
}

/// An operation that would block goes back to wait while its object is closed.
fn close_against_put_back(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    object.take(1, |result| assert!(result.is_err()));
    let worker = workers(&port, 1);
    port.rattle(0);
    object.close();
    assert_eq!(join(worker), 1);
    drop(object);
    assert_eq!(port.closed(), [0]);
    seen.saw("cancelled");
}

#[test]
fn nothing_goes_back_to_wait_on_what_is_closed() {
    model(
        "nothing_goes_back_to_wait_on_what_is_closed",
        &["cancelled"],
        close_against_put_back,
    );
}

#[test]
fn mutant_a_close_is_not_seen_when_the_operation_goes_back_to_wait() {
    kills(
        "cancel-unseen-at-put-back",
        "nothing_goes_back_to_wait_on_what_is_closed",
    );
}

/// An event that was reaped for an object is delivered after the object has gone and another has its place.
fn close_against_late_event(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 2);
    let first = port.open(0);
    let output = Once::default();
    first.take(1, {
        let output = output.clone();
        move |result| output.happen(result.is_ok())
    });
    port.end(0);
    let reaper = {
        let port = port.clone();
        thread::spawn(move || port.poll())
    };
    drop(first);
    let second = port.open(1);
    reaper.join().expect("it reaps");
    assert_eq!(second.events(), 0, "another object's event");
    second.take(1, |result| assert_eq!(result.expect("a unit"), 1));
    port.arrive(1, 1);
    port.work();
    seen.saw(if output.how() { "the end" } else { "cancelled" });
    drop(second);
    assert_eq!(port.closed(), [0, 1]);
}

#[test]
fn an_event_of_a_former_tenant_is_not_the_next_ones() {
    model(
        "an_event_of_a_former_tenant_is_not_the_next_ones",
        &["the end", "cancelled"],
        close_against_late_event,
    );
}

#[test]
fn mutant_a_close_asks_nobody() {
    kills(
        "close-asks-nobody",
        "nothing_goes_back_to_wait_on_what_is_closed",
    );
}

#[test]
fn mutant_an_event_is_anybodys() {
    kills(
        "event-of-any-generation",
        "an_event_of_a_former_tenant_is_not_the_next_ones",
    );
}

/// An object is opened while the port is closed: it is refused, or its operation ends as closed or cancelled.
fn open_against_close(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let opener = {
        let port = port.clone();
        thread::spawn(move || {
            let object = port.try_open(0)?;
            object.take(1, |result| assert!(result.is_err()));
            Some(object)
        })
    };
    port.port.close();
    let opened = opener.join().expect("it opens, or not");
    assert_eq!(port.work(), usize::from(opened.is_some()));
    seen.saw(match opened {
        Some(_) => "closed again",
        None => "refused",
    });
    assert_eq!(port.closed(), [0]);
}

#[test]
fn what_is_opened_while_the_port_closes_is_closed() {
    model(
        "what_is_opened_while_the_port_closes_is_closed",
        &["closed again", "refused"],
        open_against_close,
    );
}

#[test]
fn mutant_an_object_is_opened_unseen() {
    kills(
        "open-unseen",
        "what_is_opened_while_the_port_closes_is_closed",
    );
}

/// Two handles of an object go at the same time, one of them perhaps with a close, and so does the object; the next object has its
/// place.
fn handles_go(seen: &Seen, close: bool) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 2);
    let first = port.open(0);
    let other = first.clone();
    let dropper = thread::spawn(move || {
        if close {
            other.close();
        }
    });
    drop(first);
    let gone = port.closed() == [0];
    drop(port.open(1));
    dropper.join().expect("it drops");
    assert!(port.closed().contains(&0) && port.closed().contains(&1));
    seen.saw(if gone {
        "gone already"
    } else {
        "closed by the other"
    });
}

#[test]
fn the_last_handle_closes_the_object() {
    model(
        "the_last_handle_closes_the_object",
        &["gone already", "closed by the other"],
        |seen| handles_go(seen, false),
    );
}

#[test]
fn mutant_the_last_handle_waits_for_nobody() {
    kills(
        "close-waits-for-nobody",
        "the_last_handle_closes_the_object",
    );
}

#[test]
fn a_closed_object_goes_with_its_last_handle() {
    model(
        "a_closed_object_goes_with_its_last_handle",
        &["gone already", "closed by the other"],
        |seen| handles_go(seen, true),
    );
}

#[test]
fn mutant_a_closer_with_a_handle_waits_for_nobody() {
    kills(
        "close-waits-for-nobody",
        "a_closed_object_goes_with_its_last_handle",
    );
}

/// An object is closed while the thread that initiates attempts; that one may be done before the closer is.
fn close_against_submit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    port.arrive(0, 1);
    let closer = {
        let object = object.clone();
        thread::spawn(move || object.close())
    };
    let output = Once::default();
    object.take(1, {
        let output = output.clone();
        move |result| output.happen(result.is_ok())
    });
    closer.join().expect("it closes");
    assert_eq!(port.work(), 1);
    assert_eq!(port.closed(), [0]);
    seen.saw(if output.how() { "done" } else { "closed" });
}

#[test]
fn a_descriptor_outlives_the_attempt_of_who_initiates() {
    model(
        "a_descriptor_outlives_the_attempt_of_who_initiates",
        &["done", "closed"],
        close_against_submit,
    );
}

#[test]
fn mutant_the_close_does_not_wait_for_who_initiates() {
    kills(
        "close-waits-for-nobody",
        "a_descriptor_outlives_the_attempt_of_who_initiates",
    );
}

/// A connection is waited for while the port stops accepting: nothing arrives, so only that ends it.
fn accept_against_shutdown(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let listener = port.listen(0);
    let stopper = {
        let port = port.clone();
        thread::spawn(move || port.port.stop_accepting())
    };
    let ended = Once::default();
    listener.take(1, {
        let ended = ended.clone();
        move |result| ended.happen(result.expect_err("nothing arrives").kind())
    });
    assert_eq!(port.work(), 1);
    stopper.join().expect("it stops");
    seen.saw(match ended.how() {
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Closed => "closed",
        other => panic!("{other}"),
    });
    drop(listener);
}

#[test]
fn what_is_accepted_beside_a_shutdown_ends() {
    model(
        "what_is_accepted_beside_a_shutdown_ends",
        &["cancelled", "closed"],
        accept_against_shutdown,
    );
}

#[test]
fn mutant_a_port_that_stops_accepting_is_not_looked_at() {
    kills(
        "accept-beside-shutdown",
        "what_is_accepted_beside_a_shutdown_ends",
    );
}
