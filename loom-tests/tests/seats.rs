//! Seats and promotion: while operations are pending and a worker is idle, somebody sits, so that one handler may wait for
//! what another one does, even for one whose event has not come yet.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, port, port_at_once, workers};
use proactor::Strategy;
use proactor::model::ModelPort;

/// The handler of the first object waits for the handler of the second, whose data arrive only when the first one runs: somebody
/// else must have the seat by then.
fn handler_waits_for_an_event(seen: &Seen, count: usize, seats: usize, ticks: usize) {
    proactor::model::ticks(ticks);
    waits_on(
        seen,
        &port(Strategy::LeaderFollowers, count, seats, 2),
        count,
        seats,
    );
}

fn waits_on(seen: &Seen, port: &ModelPort, count: usize, seats: usize) {
    let (first, second) = (port.open(0), port.open(1));
    let done = Wait::default();
    let main = thread::current().id();
    first.take(1, {
        let (port, done, seen) = (port.clone(), done.clone(), seen.clone());
        move |result| {
            assert_eq!(result.expect("a unit"), 1);
            let here = thread::current().id() == main;
            seen.saw(if here {
                "this worker led"
            } else {
                "another led"
            });
            port.arrive(1, 1);
            done.wait();
        }
    });
    second.take(1, move |result| {
        assert_eq!(result.expect("a unit"), 1);
        done.happen();
    });
    let others = workers(port, count - 1);
    port.arrive(0, 1);
    assert_eq!(port.work() + join(others), 2);
    assert!(
        port.most_waiting() <= seats,
        "more waited than there are seats"
    );
    assert!(port.is_quiet(), "somebody is still counted");
    drop((first, second));
}

const BOTH: [&str; 2] = ["another led", "this worker led"];

#[test]
fn two_workers_with_two_seats_never_leave_the_port_alone() {
    model("two_workers_with_two_seats", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 2, 2, 0);
    });
}

#[test]
fn mutant_the_end_is_not_told_to_the_other_of_two() {
    kills(
        "stop-not-passed-on",
        "two_workers_with_two_seats_never_leave_the_port_alone",
    );
}

#[test]
fn three_workers_with_two_seats_never_leave_the_port_alone() {
    model("three_workers_with_two_seats", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 3, 2, 0);
    });
}

#[test]
fn mutant_the_end_is_not_told_to_the_others_of_three() {
    kills(
        "stop-not-passed-on",
        "three_workers_with_two_seats_never_leave_the_port_alone",
    );
}

#[test]
fn two_workers_with_one_seat_never_leave_the_port_alone() {
    model("two_workers_with_one_seat", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 2, 1, 2);
    });
}

#[test]
fn three_workers_with_one_seat_never_leave_the_port_alone() {
    model("three_workers_with_one_seat", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 3, 1, 2);
    });
}

#[test]
fn mutant_nobody_of_three_is_appointed_to_watch() {
    kills(
        "promote-nobody",
        "three_workers_with_one_seat_never_leave_the_port_alone",
    );
}

/// One handler after the other waits for a third, so both seats' holders go to work, while the third worker is parked or about
/// to be.
fn two_handlers_wait_for_a_third(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 3, 2, 3);
    let objects = [port.open(0), port.open(1), port.open(2)];
    let done = Wait::default();
    for (number, object) in objects.iter().enumerate().take(2) {
        let (port, done) = (port.clone(), done.clone());
        object.take(1, move |_| {
            port.arrive(number + 1, 1);
            done.wait();
        });
    }
    objects[2].take(1, move |_| done.happen());
    let others = workers(&port, 2);
    port.arrive(0, 1);
    assert_eq!(port.work() + join(others), 3);
    seen.saw("all three ran");
    drop(objects);
}

#[test]
fn whoever_leaves_the_last_seat_promotes() {
    model(
        "whoever_leaves_the_last_seat_promotes",
        &["all three ran"],
        two_handlers_wait_for_a_third,
    );
}

#[test]
fn mutant_whoever_leaves_the_last_seat_promotes_nobody() {
    kills("promote-nobody", "whoever_leaves_the_last_seat_promotes");
}

#[test]
fn two_workers_with_a_seat_that_is_filled_at_once_never_leave_the_port_alone() {
    model("two_workers_with_a_seat_filled_at_once", &BOTH, |seen| {
        waits_on(seen, &port_at_once(Strategy::LeaderFollowers, 2, 2), 2, 1);
    });
}

#[test]
fn mutant_nobody_is_promoted_at_once() {
    kills(
        "promote-nobody",
        "two_workers_with_a_seat_that_is_filled_at_once_never_leave_the_port_alone",
    );
}

#[test]
fn mutant_nobody_is_appointed_to_watch() {
    kills(
        "promote-nobody",
        "two_workers_with_one_seat_never_leave_the_port_alone",
    );
}

/// Two events in one batch, and the first one's handler waits for the second one's.
fn batch_of_two(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 2, 2, 2);
    let (first, second) = (port.open(0), port.open(1));
    let (one, two) = (Wait::default(), Wait::default());
    first.take(1, {
        let (one, two) = (one.clone(), two.clone());
        move |_| {
            one.happen();
            two.wait();
        }
    });
    second.take(1, move |_| {
        two.happen();
        one.wait();
    });
    // Both are there before anybody looks: one batch.
    port.arrive(0, 1);
    port.arrive(1, 1);
    let other = workers(&port, 1);
    assert_eq!(port.work() + join(other), 2);
    seen.saw("each ran while the other waited");
    drop((first, second));
}

#[test]
fn a_batch_is_visible_before_its_first_handler_runs() {
    model(
        "a_batch_is_visible",
        &["each ran while the other waited"],
        batch_of_two,
    );
}

#[test]
fn mutant_batch_stays_with_who_reaped_it() {
    kills(
        "batch-kept-private",
        "a_batch_is_visible_before_its_first_handler_runs",
    );
}

#[test]
fn mutant_a_seat_is_taken_unasked() {
    kills(
        "sit-unasked",
        "two_workers_with_one_seat_never_leave_the_port_alone",
    );
}

/// A follower is about to park while the leader gives its seat up: either it sees the seat free, or it is promoted.
#[test]
fn mutant_a_follower_parks_beside_a_free_seat() {
    kills(
        "park-beside-a-free-seat",
        "two_workers_with_one_seat_never_leave_the_port_alone",
    );
}

/// A worker leaves with two completions in its turn that only it sees, while another is at work or about to sleep: each is run
/// once.
fn worker_leaves_with_a_turn(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 0);
    let calls = [Once::default(), Once::default()];
    port.port.post({
        let (port, calls) = (port.clone(), calls.clone());
        move || {
            for call in calls {
                port.port.defer(move || call.happen(()));
            }
        }
    });
    let other = {
        let port = port.clone();
        thread::spawn(move || port.work_some(1))
    };
    let here = port.work();
    let there = other.join().expect("the worker returns");
    assert_eq!(here + there, 3);
    calls.iter().for_each(Once::how);
    seen.saw(if there == 1 { "taken over" } else { "kept" });
}

#[test]
fn what_a_leaving_worker_holds_is_run_once() {
    model(
        "what_a_leaving_worker_holds_is_run_once",
        &["taken over", "kept"],
        worker_leaves_with_a_turn,
    );
}

#[test]
fn mutant_a_leaving_worker_keeps_its_turn() {
    kills(
        "leave-keeps-its-turn",
        "what_a_leaving_worker_holds_is_run_once",
    );
}

/// A handler panics right after its worker has left the only seat, with a call in its turn; another connection has data, and
/// its worker is parked or about to be. Nothing is lost, and no seat, search or count stays held.
fn panic_over_a_seat(seen: &Seen) {
    let port = port_at_once(Strategy::LeaderFollowers, 2, 2);
    let (first, second) = (port.open(0), port.open(1));
    let (deferred, read) = (Once::default(), Once::default());
    let main = thread::current().id();
    first.take(1, {
        let (port, deferred) = (port.clone(), deferred.clone());
        move |_| {
            port.port
                .defer(move || deferred.happen(thread::current().id() == main));
            port.arrive(1, 1);
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    });
    second.take(1, {
        let read = read.clone();
        move |result| read.happen(result.is_ok())
    });
    let other = {
        let port = port.clone();
        thread::spawn(move || while port.work() > 0 {})
    };
    port.arrive(0, 1);
    while port.work() > 0 {}
    other.join().expect("the worker returns");
    assert!(read.how(), "the other connection was served");
    seen.saw(if deferred.how() {
        "run by this worker"
    } else {
        "run by the other"
    });
    assert!(port.is_quiet(), "somebody is still counted");
    assert_eq!(port.port.outstanding(), 0, "work is still counted");
    drop((first, second));
}

#[test]
fn a_panic_leaves_no_seat_search_or_work_behind() {
    model(
        "a_panic_leaves_no_seat_search_or_work_behind",
        &["run by this worker", "run by the other"],
        panic_over_a_seat,
    );
}

#[test]
fn mutant_a_panic_just_goes() {
    kills(
        "panic-just-goes",
        "a_panic_leaves_no_seat_search_or_work_behind",
    );
}
