//! The end of a run: stop, and the last work, against posts, sleepers and seats.
#![cfg(proactor_loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use loom_tests::{Seen, join, kills, model, port, workers};
use proactor::Strategy;
use proactor::model::Witness;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Two workers under a guard; a handler posts and stops. All return, and the post was run or is still there.
fn stop_against_post(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 1, 0);
    port.enter();
    port.port.post({
        let port = port.clone();
        move || {
            port.port.post(|| ());
            port.port.stop();
        }
    });
    let other = workers(&port, 1);
    let ran = port.work() + join(other);
    seen.saw(if ran == 2 {
        "run before the stop"
    } else {
        "kept over the stop"
    });
    port.cross_off();
    port.restart();
    assert_eq!(port.work(), 2 - ran, "what was kept runs after a restart");
}

#[test]
fn stop_ends_both_workers_and_loses_no_post() {
    model(
        "stop_ends_both_workers_and_loses_no_post",
        &["run before the stop", "kept over the stop"],
        stop_against_post,
    );
}

#[test]
fn mutant_a_stop_is_not_told_to_the_other() {
    kills(
        "stop-not-passed-on",
        "stop_ends_both_workers_and_loses_no_post",
    );
}

/// The stop comes from outside, to three workers, as many of which sit as there are seats: all are told.
fn stop_from_outside(seen: &Seen, seats: usize) {
    let port = port(Strategy::LeaderFollowers, 3, seats, 0);
    port.enter();
    let others = workers(&port, 3);
    port.port.stop();
    assert_eq!(join(others), 0);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw("all returned");
    port.cross_off();
}

/// One sits and two are parked.
#[test]
fn stop_reaches_every_parked_worker() {
    model(
        "stop_reaches_every_parked_worker",
        &["all returned"],
        |seen| stop_from_outside(seen, 1),
    );
}

#[test]
fn mutant_stop_wakes_one_parked_worker() {
    kills("wake-all-wakes-one", "stop_reaches_every_parked_worker");
}

/// Two sit and one is parked: the bell wakes one sitter, and that one the next.
#[test]
fn stop_is_passed_on_from_seat_to_seat() {
    model(
        "stop_is_passed_on_from_seat_to_seat",
        &["all returned"],
        |seen| stop_from_outside(seen, 2),
    );
}

#[test]
fn mutant_stop_is_not_passed_on() {
    kills("stop-not-passed-on", "stop_is_passed_on_from_seat_to_seat");
}

/// Four workers, one of them in the seat, the others parked or not yet; the last work is done outside: all go home.
fn last_work_and_four_workers(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 4, 1, 0);
    port.enter();
    let others = workers(&port, 4);
    port.cross_off();
    assert_eq!(join(others), 0);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw(if port.rings() > 0 {
        "told while one sat"
    } else {
        "seen by themselves"
    });
}

#[test]
fn the_last_work_ends_all_four_workers() {
    let outcomes = ["told while one sat", "seen by themselves"];
    model(
        "the_last_work_ends_all_four_workers",
        &outcomes,
        last_work_and_four_workers,
    );
}

/// The last work makes new work as it ends: nobody goes home before that is done.
fn last_work_against_new_work(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 2, 2, 0);
    let done = Arc::new(AtomicUsize::new(0));
    port.port.post({
        let (port, done) = (port.clone(), done.clone());
        move || {
            port.port.post(move || {
                done.fetch_add(1, Ordering::AcqRel);
            });
        }
    });
    let others = workers(&port, 1);
    let here = port.work();
    assert_eq!((here + join(others), done.load(Ordering::Acquire)), (2, 1));
    seen.saw(if here == 1 {
        "two ran one each"
    } else {
        "one ran both"
    });
}

#[test]
fn nobody_goes_home_before_the_last_work_of_the_last_work() {
    model(
        "nobody_goes_home_early",
        &["one ran both", "two ran one each"],
        last_work_against_new_work,
    );
}

#[test]
fn mutant_the_end_of_a_guard_wakes_nobody() {
    kills("guard-wakes-nobody", "the_last_work_ends_all_four_workers");
}

#[test]
fn mutant_the_end_wakes_nobody() {
    kills(
        "end-wakes-nobody",
        "nobody_goes_home_before_the_last_work_of_the_last_work",
    );
}

/// Who finds the proactor stopped has seen what came before the stop. It does not fence, as a worker that returns does.
fn stop_hands_over(seen: &Seen) {
    let proactor = Arc::new(port(Strategy::LeaderFollowers, 1, 2, 0).proactor());
    let touched = Arc::new(Witness::default());
    let stopper = {
        let (proactor, touched) = (proactor.clone(), touched.clone());
        loom::thread::spawn(move || {
            touched.touch();
            proactor.stop();
        })
    };
    if proactor.stopped() {
        touched.touch();
        seen.saw("stopped");
    } else {
        seen.saw("not yet");
    }
    stopper.join().expect("it stops");
}

#[test]
fn a_stop_hands_over_what_came_before_it() {
    model(
        "a_stop_hands_over_what_came_before_it",
        &["stopped", "not yet"],
        stop_hands_over,
    );
}

/// A proactor is dropped under a thread that waits: its operation ends, and it gets the output.
fn drop_under_a_waiter(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 2, 1, 0);
    let proactor = port.proactor();
    let waiter = thread::spawn({
        let port = port.clone();
        move || port.port.sleep(SECOND).wait()
    });
    drop(proactor);
    let output = waiter.join().expect("the waiter returns");
    let error = output.expect_err("no time passes");
    seen.saw(error.kind().to_string());
    assert_eq!(port.port.outstanding(), 0);
}

#[test]
fn a_waiter_outlives_the_proactor() {
    model(
        "a_waiter_outlives_the_proactor",
        &["cancelled", "closed"],
        drop_under_a_waiter,
    );
}

#[test]
fn mutant_a_dropped_output_is_lost() {
    kills("dropped-output-is-lost", "a_waiter_outlives_the_proactor");
}

/// A proactor is dropped under a handler that waits: it gets the output, unless it was dropped before it began.
fn drop_under_a_handler_that_waits(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 1, 1, 0);
    let proactor = port.proactor();
    let output = Arc::new(std::sync::Mutex::new(None));
    port.port.post({
        let (port, output) = (port.port.clone(), Arc::clone(&output));
        move || *output.lock().expect("one thread") = Some(port.sleep(SECOND).wait())
    });
    let worker = workers(&port, 1);
    drop(proactor);
    let ran = join(worker);
    let output = output.lock().expect("one thread").take();
    assert_eq!(output.is_some(), ran == 1);
    seen.saw(match output {
        Some(output) => output.expect_err("no time passes").kind().to_string(),
        None => "dropped".to_owned(),
    });
    assert_eq!(port.port.outstanding(), 0);
}

#[test]
fn a_handler_that_waits_outlives_the_proactor() {
    model(
        "a_handler_that_waits_outlives_the_proactor",
        &["cancelled", "closed", "dropped"],
        drop_under_a_handler_that_waits,
    );
}

#[test]
fn mutant_a_handlers_dropped_output_is_lost() {
    kills(
        "dropped-output-is-lost",
        "a_handler_that_waits_outlives_the_proactor",
    );
}
