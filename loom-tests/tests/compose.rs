//! Tokens, operations by hand and groups: who is asked to end, and who completes.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::{CancelOutcome, CancelToken, Completer, Strategy};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A token's parent is cancelled while an operation is initiated with the token.
fn cancel_against_initiation(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let root = CancelToken::new();
    let token = root.child();
    let canceller = thread::spawn(move || root.cancel());
    let asked_before = token.is_cancelled();
    port.port
        .sleep(SECOND)
        .cancel_with(&token)
        .then(|result| assert!(result.is_err_and(|error| error.is_cancelled())));
    // Nobody lets time pass: only the token ends it.
    assert_eq!(port.work(), 1);
    canceller.join().expect("the canceller returns");
    seen.saw(if asked_before { "before" } else { "meanwhile" });
}

#[test]
fn what_is_initiated_while_its_token_is_cancelled_ends() {
    model(
        "what_is_initiated_while_its_token_is_cancelled_ends",
        &["before", "meanwhile"],
        cancel_against_initiation,
    );
}

#[test]
fn mutant_a_cancelled_token_keeps_the_key() {
    kills(
        "token-watches-though-cancelled",
        "what_is_initiated_while_its_token_is_cancelled_ends",
    );
}

/// A child is made while its parent is cancelled.
fn cancel_against_child(seen: &Seen) {
    let root = CancelToken::new();
    let canceller = {
        let root = root.clone();
        thread::spawn(move || root.cancel())
    };
    let asked_before = root.is_cancelled();
    let child = root.child();
    canceller.join().expect("the canceller returns");
    assert!(child.is_cancelled());
    seen.saw(if asked_before { "before" } else { "meanwhile" });
}

#[test]
fn a_child_that_is_made_while_its_parent_is_cancelled_is_cancelled() {
    model(
        "a_child_that_is_made_while_its_parent_is_cancelled_is_cancelled",
        &["before", "meanwhile"],
        cancel_against_child,
    );
}

#[test]
fn mutant_a_child_of_the_cancelled_is_not() {
    kills(
        "child-of-the-cancelled",
        "a_child_that_is_made_while_its_parent_is_cancelled_is_cancelled",
    );
}

/// An operation by hand is cancelled by its key while it is completed, and its place in the table is the next one's.
fn cancel_against_completion(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let (sender, completers) = std::sync::mpsc::channel();
    let begin = |sender: &std::sync::mpsc::Sender<_>| {
        let sender = sender.clone();
        port.port
            .compose(move |completer: Completer<u32>| sender.send(completer).expect("kept"))
    };
    let first = Once::default();
    let key = begin(&sender).then({
        let first = first.clone();
        move |output| first.happen(output.expect("completed"))
    });
    let completer = completers.recv().expect("the first");
    let canceller = {
        let port = port.port.clone();
        thread::spawn(move || port.cancel(key))
    };
    completer.complete(Ok(1));
    let second = begin(&sender).then(|output| assert_eq!(output.ok(), Some(2)));
    let completer = completers.recv().expect("the second");
    let outcome = canceller.join().expect("the canceller returns");
    assert!(
        !completer.token().is_cancelled(),
        "the next tenant was asked to end"
    );
    completer.complete(Ok(2));
    assert_eq!(port.port.cancel(second), CancelOutcome::TooLate);
    assert_eq!(port.work(), 2);
    assert_eq!(first.how(), 1);
    seen.saw(match outcome {
        CancelOutcome::Requested => "requested",
        CancelOutcome::TooLate => "too late",
    });
}

#[test]
fn a_request_reaches_the_operation_by_hand_that_it_is_for() {
    model(
        "a_request_reaches_the_operation_by_hand_that_it_is_for",
        &["requested", "too late"],
        cancel_against_completion,
    );
}

#[test]
fn mutant_a_request_reaches_whoever_has_the_place() {
    kills(
        "composed-of-any-tenant",
        "a_request_reaches_the_operation_by_hand_that_it_is_for",
    );
}

/// Two of a group may end at the same time: the group completes once, with both outputs, and asks what is left to end.
fn first_of_two(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 2);
    let objects = [port.open(0), port.open(1)];
    let order = Once::default();
    let takes = objects.each_ref().map(|object| object.taking(1));
    port.port.first_of(takes).then({
        let order = order.clone();
        move |finished| {
            let finished = finished.expect("completed");
            let won = finished
                .outputs
                .iter()
                .filter(|output| output.is_ok())
                .count();
            order.happen((finished.order[0], won));
        }
    });
    let others = workers(&port, 1);
    port.arrive(0, 1);
    let ran = port.work() + join(others);
    assert_eq!(ran, 3);
    assert_eq!(order.how(), (0, 1));
    seen.saw("the first");
    drop(objects);
}

#[test]
fn a_group_asks_the_rest_to_end_and_completes_once() {
    model(
        "a_group_asks_the_rest_to_end_and_completes_once",
        &["the first"],
        first_of_two,
    );
}

#[test]
fn mutant_the_first_asks_nobody_to_end() {
    kills(
        "first-cancels-nobody",
        "a_group_asks_the_rest_to_end_and_completes_once",
    );
}

/// Both have ended before either handler ran: nobody is asked in vain, and nothing is lost.
fn two_at_once(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 0);
    let naps = [port.port.sleep(SECOND), port.port.sleep(2 * SECOND)];
    let outcome = Once::default();
    let [one, two] = naps;
    one.race(two).then({
        let outcome = outcome.clone();
        move |both| {
            let both = both.expect("completed");
            outcome.happen((both.this_first, both.this.is_ok(), both.other.is_ok()));
        }
    });
    port.pass(3 * SECOND);
    let others = workers(&port, 1);
    assert_eq!(port.work() + join(others), 3);
    let (this_first, this, other) = outcome.how();
    assert!(
        if this_first { this } else { other },
        "the first has succeeded"
    );
    seen.saw(if this && other { "both" } else { "one" });
}

#[test]
fn two_that_end_at_once_are_both_in_the_output() {
    model(
        "two_that_end_at_once_are_both_in_the_output",
        &["both"],
        two_at_once,
    );
}

#[test]
fn mutant_a_group_waits_for_one() {
    kills(
        "group-waits-for-one",
        "two_that_end_at_once_are_both_in_the_output",
    );
}
