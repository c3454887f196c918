//! A port that is used alone, and one whose seats are shared with threads that take them by hand.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::model::ModelPort;
use proactor::{Batch, Completion, Strategy};
use std::time::Instant;

/// Waits in the port until it has a completion, and runs it.
fn serve_one(port: &ModelPort) {
    let mut batch = Batch::new();
    while batch.is_empty() {
        let seat = port.port.seat().expect("a seat for each");
        seat.reap(&mut batch, None).expect("the kernel waits");
    }
    batch
        .drain()
        .for_each(|completion| assert!(completion.run()));
}

/// Two threads wait by hand, and take one call at a time; two calls are posted, and one bell may be all that rings.
fn two_posts_two_seats(seen: &Seen) {
    let port = ModelPort::by_hand(2, 0);
    let (first, second) = (Once::default(), Once::default());
    let other = {
        let port = port.clone();
        thread::spawn(move || serve_one(&port))
    };
    let poster = {
        let (port, first, second) = (port.clone(), first.clone(), second.clone());
        thread::spawn(move || {
            port.port.post(move || first.happen(()));
            port.port.post(move || second.happen(()));
        })
    };
    serve_one(&port);
    other.join().expect("it serves");
    poster.join().expect("it posts");
    first.how();
    second.how();
    seen.saw("both served");
}

#[test]
fn who_takes_one_of_two_by_hand_has_another_come() {
    model(
        "who_takes_one_of_two_by_hand_has_another_come",
        &["both served"],
        two_posts_two_seats,
    );
}

#[test]
fn mutant_the_last_to_search_by_hand_keeps_quiet() {
    kills(
        "last-searcher-keeps-quiet",
        "who_takes_one_of_two_by_hand_has_another_come",
    );
}

/// Waits once, whatever comes of it.
fn wait_once(port: &ModelPort) {
    let seat = port.port.seat().expect("a seat for each");
    seat.reap(&mut Batch::new(), None)
        .expect("the kernel waits");
}

/// Two threads wait by hand when the port is stopped.
fn stop_by_hand(seen: &Seen) {
    let port = ModelPort::by_hand(2, 0);
    let other = {
        let port = port.clone();
        thread::spawn(move || wait_once(&port))
    };
    let stopper = {
        let port = port.clone();
        thread::spawn(move || port.port.stop())
    };
    wait_once(&port);
    other.join().expect("it returns");
    stopper.join().expect("it stops");
    seen.saw("both returned");
}

#[test]
fn a_stop_reaches_everybody_who_waits_by_hand() {
    model(
        "a_stop_reaches_everybody_who_waits_by_hand",
        &["both returned"],
        stop_by_hand,
    );
}

#[test]
fn mutant_a_stop_is_not_passed_on_by_hand() {
    kills(
        "stop-not-passed-on",
        "a_stop_reaches_everybody_who_waits_by_hand",
    );
}

/// Somebody says `notify` to a thread that waits, or is about to.
fn notify(seen: &Seen) {
    let port = ModelPort::by_hand(1, 0);
    let waiter = {
        let port = port.clone();
        thread::spawn(move || wait_once(&port))
    };
    port.port.notify();
    waiter.join().expect("it returns");
    seen.saw("returned");
}

#[test]
fn a_notification_ends_a_wait() {
    model("a_notification_ends_a_wait", &["returned"], notify);
}

/// A thread has the only seat by hand and gives it up, while a worker parks for want of one.
fn seat_given_up(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 1, 1);
    proactor::model::ticks(usize::MAX);
    let object = port.open(0);
    object.take(1, |result| assert!(result.is_ok()));
    let seat = port.port.seat();
    let worker = workers(&port, 1);
    seen.saw(match seat {
        Some(_) => "the worker had none",
        None => "the worker had it",
    });
    drop(seat);
    port.arrive(0, 1);
    assert_eq!(join(worker), 1);
    drop(object);
}

#[test]
fn a_seat_that_is_given_up_is_taken() {
    model(
        "a_seat_that_is_given_up_is_taken",
        &["the worker had none"],
        seat_given_up,
    );
}

#[test]
fn mutant_nobody_takes_a_seat_that_is_given_up() {
    kills("promote-nobody", "a_seat_that_is_given_up_is_taken");
}

/// The last work is reaped and run by a thread that is no worker, while a worker sleeps on it.
fn last_work_by_hand(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    object.take(1, |result| assert!(result.is_ok()));
    port.arrive(0, 1);
    let worker = workers(&port, 1);
    let mut batch = Batch::new();
    if let Some(seat) = port.port.seat() {
        seat.reap(&mut batch, Some(Instant::now()))
            .expect("the kernel looks");
    }
    let here: usize = batch
        .drain()
        .map(|completion| usize::from(completion.run()))
        .sum();
    assert_eq!(here + join(worker), 1);
    seen.saw(if here == 1 {
        "by hand"
    } else {
        "by the worker"
    });
    drop(object);
}

#[test]
fn the_last_work_by_hand_ends_a_worker() {
    model(
        "the_last_work_by_hand_ends_a_worker",
        &["by hand", "by the worker"],
        last_work_by_hand,
    );
}

#[test]
fn mutant_the_end_by_hand_wakes_nobody() {
    kills("end-wakes-nobody", "the_last_work_by_hand_ends_a_worker");
}

/// A thread waits for its output, alone as far as places go, while another takes completions by hand and may run its.
fn wait_beside_a_hand(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    port.enter();
    let object = port.open(0);
    let hand = {
        let port = port.clone();
        thread::spawn(move || {
            port.arrive(0, 1);
            let mut batch = Batch::new();
            if let Some(seat) = port.port.seat() {
                seat.reap(&mut batch, Some(Instant::now()))
                    .expect("the kernel looks");
            }
            let run = |completion: Completion| usize::from(completion.run());
            batch.drain().map(run).sum::<usize>()
        })
    };
    assert_eq!(object.taking(1).wait().expect("a unit"), 1);
    seen.saw(match hand.join().expect("it returns") {
        0 => "found here",
        _ => "found by hand",
    });
    port.cross_off();
    drop(object);
}

#[test]
fn a_waiter_beside_a_hand_is_told() {
    model(
        "a_waiter_beside_a_hand_is_told",
        &["found here", "found by hand"],
        wait_beside_a_hand,
    );
}

#[test]
fn mutant_an_output_rings_nobody() {
    kills("output-rings-nobody", "a_waiter_beside_a_hand_is_told");
}

/// A thread has the only seat by hand, and does nothing with it, while a worker is about to park and somebody posts.
fn post_beside_a_hand(seen: &Seen) {
    proactor::model::spurious(1);
    let port = port(Strategy::LeaderFollowers, 1, 1, 0);
    port.enter();
    let seat = port.port.seat().expect("nobody else has it");
    let worker = workers(&port, 1);
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    assert_eq!(join(worker), 1);
    drop(seat);
    seen.saw("woken");
}

#[test]
fn a_post_beside_a_hand_reaches_a_worker_that_is_about_to_park() {
    model(
        "a_post_beside_a_hand_reaches_a_worker_that_is_about_to_park",
        &["woken"],
        post_beside_a_hand,
    );
}

#[test]
fn mutant_no_fence_before_a_worker_parks() {
    kills(
        "sleep-announce-fence",
        "a_post_beside_a_hand_reaches_a_worker_that_is_about_to_park",
    );
}
