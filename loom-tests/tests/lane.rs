//! The lane for calls that block: no call is left without a thread, and a request to cancel one counts or is too late.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, Wait, kills, model};
use proactor::CancelOutcome;
use proactor::model::{ModelPort, ticks};

/// Runs what the lane has finished, `count` of it.
fn serve(port: &ModelPort, count: usize) {
    let mut ran = 0;
    while ran < count {
        match port.port.take() {
            Some(completion) => ran += usize::from(completion.run()),
            None => thread::yield_now(),
        }
    }
}

/// A call that is noted with the thread that made it.
fn noting(port: &ModelPort) -> (Wait, Once<thread::ThreadId>) {
    let (made, by) = (Wait::default(), Once::default());
    let call = port.port.blocking({
        let (made, by) = (made.clone(), by.clone());
        move || {
            by.happen(thread::current().id());
            made.happen();
        }
    });
    call.then(|result| result.expect("it returns"));
    (made, by)
}

/// Two calls, one after the other, on one thread: it may be idle when the second one is entered, or about to be, or, with a
/// tick, about to end.
fn one_after_the_other(seen: &Seen, ticked: usize) {
    ticks(ticked);
    let port = ModelPort::with_lane(1);
    let (made, first) = noting(&port);
    made.wait();
    let (made, second) = noting(&port);
    made.wait();
    let same = first.how() == second.how();
    seen.saw(if same { "the same thread" } else { "another" });
    serve(&port, 2);
    assert_eq!(port.port.outstanding(), 0);
}

#[test]
fn a_call_that_meets_the_end_of_an_idle_thread_is_made() {
    model(
        "a_call_that_meets_the_end_of_an_idle_thread_is_made",
        &["the same thread", "another"],
        |seen| one_after_the_other(seen, 1),
    );
}

#[test]
fn an_idle_thread_makes_the_next_call() {
    model(
        "an_idle_thread_makes_the_next_call",
        &["the same thread"],
        |seen| one_after_the_other(seen, 0),
    );
}

#[test]
fn mutant_a_thread_ends_without_a_look() {
    kills(
        "lane-ends-unlooked",
        "a_call_that_meets_the_end_of_an_idle_thread_is_made",
    );
}

#[test]
fn mutant_nobody_is_told_of_a_call() {
    kills("lane-tells-nobody", "an_idle_thread_makes_the_next_call");
}

/// Two calls of which one waits for the other, when one thread is idle and another may be started.
fn two_against_one_idle(seen: &Seen) {
    let port = ModelPort::with_lane(2);
    let (made, _) = noting(&port);
    made.wait();
    let met = Wait::default();
    let waits = port.port.blocking({
        let met = met.clone();
        move || met.wait()
    });
    waits.then(|result| result.expect("it returns"));
    let meets = port.port.blocking(move || met.happen());
    meets.then(|result| result.expect("it returns"));
    serve(&port, 3);
    seen.saw("they met");
}

#[test]
fn two_calls_have_a_thread_each() {
    model(
        "two_calls_have_a_thread_each",
        &["they met"],
        two_against_one_idle,
    );
}

#[test]
fn mutant_one_idle_thread_is_taken_for_two() {
    kills("lane-tells-one-of-two", "two_calls_have_a_thread_each");
}

/// A call is cancelled while it begins, and while one that was made before still occupies the thread, or does not.
fn cancel_against_begin(seen: &Seen) {
    let port = ModelPort::with_lane(1);
    let (called, ended) = (Once::default(), Once::default());
    let made = Once::default();
    let call = port.port.blocking({
        let made = made.clone();
        move || made.happen(())
    });
    let key = call.then({
        let (ended, made) = (ended.clone(), made.clone());
        move |result| match result {
            Ok(()) => {
                made.how();
                ended.happen("made");
            }
            Err(error) => {
                assert!(error.is_cancelled());
                ended.happen("cancelled");
            }
        }
    });
    called.happen(port.port.cancel(key));
    serve(&port, 1);
    let expected = match called.how() {
        CancelOutcome::Requested => "cancelled",
        CancelOutcome::TooLate => "made",
    };
    assert_eq!(ended.how(), expected);
    if expected == "cancelled" {
        made.happen(()); // Fails if the call has happened.
    }
    seen.saw(expected);
}

#[test]
fn a_call_is_cancelled_uncalled_or_made() {
    model(
        "a_call_is_cancelled_uncalled_or_made",
        &["cancelled", "made"],
        cancel_against_begin,
    );
}

#[test]
fn mutant_a_call_begins_whatever_was_asked() {
    kills(
        "lane-begins-unasked",
        "a_call_is_cancelled_uncalled_or_made",
    );
}

/// A port goes while a call is entered, waits, is made, or its thread has become idle. The thread ends, or the model
/// would not; the call's output is dropped, or nobody's.
fn drop_against_call(seen: &Seen) {
    let port = ModelPort::with_lane(1);
    let made = Once::default();
    let call = port.port.blocking({
        let made = made.clone();
        move || made.happen("made")
    });
    call.then(|_| unreachable!("nobody serves the port"));
    thread::yield_now();
    drop(port);
    seen.saw(if made.happened() {
        "made"
    } else {
        "not yet, or never"
    });
}

#[test]
fn a_thread_of_the_lane_ends_with_the_port() {
    model(
        "a_thread_of_the_lane_ends_with_the_port",
        &["made", "not yet, or never"],
        drop_against_call,
    );
}

/// A port goes when two threads are idle, or about to be.
fn drop_against_two(seen: &Seen) {
    let port = ModelPort::with_lane(2);
    let (first, _) = noting(&port);
    let (second, _) = noting(&port);
    first.wait();
    second.wait();
    serve(&port, 2);
    drop(port);
    seen.saw("gone");
}

#[test]
fn all_threads_of_the_lane_end_with_the_port() {
    model(
        "all_threads_of_the_lane_end_with_the_port",
        &["gone"],
        drop_against_two,
    );
}

#[test]
fn mutant_none_of_two_is_told_that_the_port_goes() {
    kills(
        "lane-close-tells-nobody",
        "all_threads_of_the_lane_end_with_the_port",
    );
}

#[test]
fn mutant_nobody_is_told_that_the_port_goes() {
    kills(
        "lane-close-tells-nobody",
        "a_thread_of_the_lane_ends_with_the_port",
    );
}
