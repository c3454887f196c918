//! A port in which nothing was ever opened: its workers park, and sit as soon as there is anything to hear of.
#![cfg(proactor_loom)]

use std::time::Duration;

use loom::thread::{spawn, yield_now};
use loom_tests::{
    Seen, Wait, join, kills, model, model_at, post_two_of_which_one_needs_the_other, unused_port,
    workers,
};
use proactor::Strategy;
use proactor::model::ModelPort;

const ASLEEP_OR_NOT: [&str; 2] = ["it was awake", "it was parked"];

fn saw_asleep(seen: &Seen, port: &ModelPort) {
    seen.saw(ASLEEP_OR_NOT[usize::from(port.asleep() > 0)]);
}

/// The only worker parks, or is about to, while somebody opens an object. Its event must be heard.
fn open_against_park(seen: &Seen, seats: usize) {
    let port = unused_port(Strategy::LeaderFollowers, 1, seats, 1);
    port.enter();
    let worker = workers(&port, 1);
    saw_asleep(seen, &port);
    let object = port.open(0);
    object.take(1, {
        let port = port.clone();
        move |result| {
            assert_eq!(result.expect("a unit"), 1);
            port.cross_off();
        }
    });
    port.arrive(0, 1);
    assert_eq!(join(worker), 1);
    assert!(port.is_quiet(), "somebody is still counted");
    drop(object);
}

#[test]
fn who_opens_has_a_parked_worker_sit() {
    model(
        "who_opens_has_a_parked_worker_sit",
        &ASLEEP_OR_NOT,
        |seen| {
            open_against_park(seen, 2);
        },
    );
}

#[test]
fn mutant_who_opens_wakes_nobody() {
    kills("wanted-quietly", "who_opens_has_a_parked_worker_sit");
}

#[test]
fn mutant_who_parks_does_not_see_that_the_seat_is_wanted() {
    kills(
        "park-beside-a-free-seat",
        "who_opens_has_a_parked_worker_sit",
    );
}

#[test]
fn who_opens_has_a_parked_worker_watch_the_only_seat() {
    model(
        "who_opens_has_a_parked_worker_watch_the_only_seat",
        &ASLEEP_OR_NOT,
        |seen| {
            open_against_park(seen, 1);
        },
    );
}

#[test]
fn mutant_who_opens_wakes_nobody_for_the_only_seat() {
    kills(
        "wanted-quietly",
        "who_opens_has_a_parked_worker_watch_the_only_seat",
    );
}

/// As before, but what is to be heard of is a timer.
fn timer_against_park(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 1, 1, 0);
    port.enter();
    let worker = workers(&port, 1);
    saw_asleep(seen, &port);
    port.port.sleep(Duration::from_secs(60)).then({
        let port = port.clone();
        move |result| {
            assert!(result.is_ok());
            port.cross_off();
        }
    });
    port.pass(Duration::MAX);
    assert_eq!(join(worker), 1);
}

#[test]
fn who_arms_a_timer_has_a_parked_worker_sit() {
    model(
        "who_arms_a_timer_has_a_parked_worker_sit",
        &ASLEEP_OR_NOT,
        timer_against_park,
    );
}

#[test]
fn mutant_who_arms_a_timer_wakes_nobody() {
    kills("wanted-quietly", "who_arms_a_timer_has_a_parked_worker_sit");
}

/// A handler opens an object and waits for it, while the other worker is parked, or is about to.
fn handler_opens(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 2, 1, 1);
    port.port.post({
        let (port, seen) = (port.clone(), seen.clone());
        move || {
            saw_asleep(&seen, &port);
            let (object, done) = (port.open(0), Wait::default());
            object.take(1, {
                let done = done.clone();
                move |_| done.happen()
            });
            port.arrive(0, 1);
            done.wait();
        }
    });
    let other = workers(&port, 1);
    assert_eq!(port.work() + join(other), 2);
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn a_handler_that_opens_has_another_sit() {
    model(
        "a_handler_that_opens_has_another_sit",
        &ASLEEP_OR_NOT,
        handler_opens,
    );
}

#[test]
fn mutant_a_handler_that_opens_wakes_nobody() {
    kills("wanted-quietly", "a_handler_that_opens_has_another_sit");
}

/// A call is posted beside the opening of an object whose handler it waits for: who was woken to sit may find the call, and the other
/// worker is to sit.
fn open_against_post(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 2, 2, 1);
    port.enter();
    let both = workers(&port, 2);
    yield_now();
    let asleep = port.asleep();
    let object = port.open(0);
    let done = Wait::default();
    port.port.post({
        let done = done.clone();
        move || done.wait()
    });
    object.take(1, {
        let port = port.clone();
        move |_| {
            done.happen();
            port.cross_off();
        }
    });
    port.arrive(0, 1);
    assert_eq!(join(both), 2);
    seen.saw(format!("{asleep} slept"));
    assert!(port.is_quiet(), "somebody is still counted");
    drop(object);
}

#[test]
fn who_comes_to_sit_and_finds_work_sends_another() {
    model_at(
        1,
        "who_comes_to_sit_and_finds_work_sends_another",
        &["0 slept", "1 slept", "2 slept"],
        open_against_post,
    );
}

#[test]
fn mutant_who_comes_to_sit_and_finds_work_promotes_nobody() {
    kills(
        "promote-nobody",
        "who_comes_to_sit_and_finds_work_sends_another",
    );
}

/// Somebody polls, and thus has a seat for a moment, as another opens an object; the only worker who stays is parked meanwhile.
fn look_against_open(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 2, 2, 1);
    port.enter();
    let worker = workers(&port, 1);
    let poller = {
        let port = port.clone();
        spawn(move || port.poll())
    };
    saw_asleep(seen, &port);
    let object = port.open(0);
    object.take(1, {
        let port = port.clone();
        move |_| port.cross_off()
    });
    port.arrive(0, 1);
    let polled = poller.join().expect("it returns");
    assert_eq!(join(worker) + polled, 1);
    assert!(port.is_quiet(), "somebody is still counted");
    drop(object);
}

#[test]
fn who_looks_as_the_port_is_used_hands_over() {
    model(
        "who_looks_as_the_port_is_used_hands_over",
        &ASLEEP_OR_NOT,
        look_against_open,
    );
}

#[test]
fn mutant_who_looks_as_the_port_is_used_promotes_nobody() {
    kills("promote-nobody", "who_looks_as_the_port_is_used_hands_over");
}

/// The only worker parks, or is about to, as a call is posted from outside; nobody ever sits.
fn post_against_park(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let worker = workers(&port, 1);
    saw_asleep(seen, &port);
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    assert_eq!(join(worker), 1);
    assert_eq!((port.rings(), port.most_waiting()), (0, 0), "somebody sat");
}

#[test]
fn a_post_reaches_the_worker_of_an_unused_port() {
    model(
        "a_post_reaches_the_worker_of_an_unused_port",
        &ASLEEP_OR_NOT,
        post_against_park,
    );
}

#[test]
fn mutant_who_parks_does_not_fence() {
    kills(
        "sleep-announce-fence",
        "a_post_reaches_the_worker_of_an_unused_port",
    );
}

#[test]
fn mutant_who_posts_does_not_fence() {
    kills(
        "sleep-waker-fence",
        "a_post_reaches_the_worker_of_an_unused_port",
    );
}

#[test]
fn mutant_who_unparks_does_not_notify() {
    kills(
        "unpark-no-notify",
        "a_post_reaches_the_worker_of_an_unused_port",
    );
}

/// Two posts from outside, of which the first one's handler waits for the second one's: both workers must come, and nobody ever sits.
fn posts_against_park(seen: &Seen) {
    let port = unused_port(Strategy::LeaderFollowers, 2, 2, 0);
    port.enter();
    let both = workers(&port, 2);
    yield_now();
    let asleep = port.asleep();
    post_two_of_which_one_needs_the_other(&port);
    assert_eq!(join(both), 2);
    seen.saw(format!("{asleep} slept"));
    assert_eq!((port.rings(), port.most_waiting()), (0, 0), "somebody sat");
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn posts_reach_the_workers_of_an_unused_port() {
    model_at(
        1,
        "posts_reach_the_workers_of_an_unused_port",
        &["0 slept", "1 slept", "2 slept"],
        posts_against_park,
    );
}

#[test]
fn mutant_who_unparks_one_of_two_does_not_notify() {
    kills(
        "unpark-no-notify",
        "posts_reach_the_workers_of_an_unused_port",
    );
}
