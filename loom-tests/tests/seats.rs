//! Seats and promotion: while operations are pending and a worker is idle, somebody sits, so that one handler may wait for
//! what another one does, even for one whose event has not come yet.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, Wait, kills, model, model_at, port, port_at_once};
use proactor::Strategy;
use proactor::model::ModelPort;

/// The handler of the first object waits for the handler of the second, whose data arrive only when the first one runs: somebody
/// else must have the seat by then.
fn handler_waits_for_an_event(seen: &Seen, workers: usize, seats: usize, ticks: usize) {
    proactor::model::ticks(ticks);
    waits_on(
        seen,
        &port(Strategy::LeaderFollowers, workers, seats, 2),
        workers,
        seats,
    );
}

fn waits_on(seen: &Seen, port: &ModelPort, workers: usize, seats: usize) {
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
    let others: Vec<_> = (1..workers)
        .map(|_| {
            let port = port.clone();
            thread::spawn(move || port.work())
        })
        .collect();
    port.arrive(0, 1);
    let mut ran = port.work();
    for other in others {
        ran += other.join().expect("the worker returns");
    }
    assert_eq!(ran, 2);
    assert!(
        port.most_waiting() <= seats,
        "more waited than there are seats"
    );
    assert_eq!(
        port.census(),
        (0, 0, 0),
        "somebody still sits, is parked or searches"
    );
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
fn three_workers_with_two_seats_never_leave_the_port_alone() {
    model("three_workers_with_two_seats", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 3, 2, 0);
    });
}

#[test]
fn two_workers_with_one_seat_never_leave_the_port_alone() {
    model("two_workers_with_one_seat", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 2, 1, 2);
    });
}

#[test]
fn three_workers_with_one_seat_never_leave_the_port_alone() {
    model_at(1, "three_workers_with_one_seat", &BOTH, |seen| {
        handler_waits_for_an_event(seen, 3, 1, 2);
    });
}

/// Both seats' holders must go to work while the third is parked: two handlers wait for a third.
fn two_handlers_wait_for_a_third(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 3, 2, 3);
    let objects = [port.open(0), port.open(1), port.open(2)];
    let done = Wait::default();
    let both = loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    for object in &objects[..2] {
        let (port, done, both) = (port.clone(), done.clone(), both.clone());
        object.take(1, move |_| {
            if both.fetch_add(1, loom::sync::atomic::Ordering::AcqRel) == 1 {
                port.arrive(2, 1);
            }
            done.wait();
        });
    }
    objects[2].take(1, move |_| done.happen());
    let others: Vec<_> = (0..2)
        .map(|_| {
            let port = port.clone();
            thread::spawn(move || port.work())
        })
        .collect();
    port.arrive(0, 1);
    port.arrive(1, 1);
    let mut ran = port.work();
    for other in others {
        ran += other.join().expect("the worker returns");
    }
    assert_eq!(ran, 3);
    seen.saw("all three ran");
    drop(objects);
}

#[test]
fn whoever_leaves_the_last_seat_promotes() {
    // At two preemptions this takes minutes: `.ci/long` does.
    model_at(
        1,
        "whoever_leaves_the_last_seat_promotes",
        &["all three ran"],
        two_handlers_wait_for_a_third,
    );
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
    let other = {
        let port = port.clone();
        thread::spawn(move || port.work())
    };
    let ran = port.work();
    assert_eq!(ran + other.join().expect("the worker returns"), 2);
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
