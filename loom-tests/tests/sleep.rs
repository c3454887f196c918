//! Sleep and wake: a post meets a worker that is about to park or to sit, and no wake-up is lost.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, Wait, kills, model, port};
use proactor::Strategy;
use std::time::Duration;

/// One worker, which sits when it has nothing to do; the post comes from outside.
fn post_against_sit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let worker = {
        let port = port.clone();
        thread::spawn(move || port.work())
    };
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    let rings = port.rings();
    seen.saw(if rings == 0 {
        "posted while it was awake"
    } else {
        "posted while it sat"
    });
    assert_eq!(worker.join().expect("the worker returns"), 1);
}

#[test]
fn a_post_reaches_a_worker_that_is_about_to_sit() {
    model(
        "a_post_reaches_a_worker_that_is_about_to_sit",
        &["posted while it was awake", "posted while it sat"],
        post_against_sit,
    );
}

#[test]
fn mutant_no_fence_after_announcing_sleep() {
    kills(
        "sleep-announce-fence",
        "a_post_reaches_a_worker_that_is_about_to_sit",
    );
}

#[test]
fn mutant_no_fence_before_looking_for_sleepers() {
    kills(
        "sleep-waker-fence",
        "a_post_reaches_a_worker_that_is_about_to_sit",
    );
}

/// Two workers and one seat: one sits, the other parks. Two posts, and the first one's handler waits for the second one's, so
/// both workers must come.
fn posts_against_park(seen: &Seen, strategy: Strategy) {
    proactor::model::spurious(1);
    let port = port(strategy, 2, 1, 0);
    port.enter();
    let done = Wait::default();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let port = port.clone();
            thread::spawn(move || port.work())
        })
        .collect();
    port.port.post({
        let done = done.clone();
        move || done.wait()
    });
    port.port.post({
        let port = port.clone();
        move || {
            done.happen();
            port.cross_off();
        }
    });
    seen.saw(if port.rings() == 0 {
        "nobody sat"
    } else {
        "the bell rang"
    });
    let ran: usize = workers
        .into_iter()
        .map(|worker| worker.join().expect("the worker returns"))
        .sum();
    assert_eq!(ran, 2);
    assert_eq!(
        port.census(),
        (0, 0, 0),
        "somebody still sits, is parked or searches"
    );
}

const POSTS: [&str; 2] = ["nobody sat", "the bell rang"];

#[test]
fn posts_reach_a_worker_that_is_about_to_park() {
    model(
        "posts_reach_a_worker_that_is_about_to_park",
        &POSTS,
        |seen| {
            posts_against_park(seen, Strategy::LeaderFollowers);
        },
    );
}

#[test]
fn mutant_whoever_unparks_forgets_to_notify() {
    kills(
        "unpark-no-notify",
        "posts_reach_a_worker_that_is_about_to_park",
    );
}

#[test]
fn mutant_the_last_searcher_does_not_hand_the_search_on() {
    kills(
        "last-searcher-keeps-quiet",
        "posts_reach_a_worker_that_is_about_to_park",
    );
}

/// A handler posts to its own worker's stack and waits for what it posted: a thief must come, also one that was about to sit.
fn post_from_inside_against_sit(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 2, 2, 0);
    let done = Wait::default();
    port.port.post({
        let (port, done) = (port.clone(), done.clone());
        move || {
            port.port.post({
                let done = done.clone();
                move || done.happen()
            });
            done.wait();
        }
    });
    let other = {
        let port = port.clone();
        thread::spawn(move || port.work())
    };
    let here = port.work();
    assert_eq!(here + other.join().expect("the worker returns"), 2);
    seen.saw("stolen");
}

#[test]
fn what_a_handler_posts_is_stolen_while_it_waits() {
    model(
        "what_a_handler_posts_is_stolen_while_it_waits",
        &["stolen"],
        post_from_inside_against_sit,
    );
}

#[test]
fn mutant_the_stacks_of_others_are_not_looked_at_before_sleep() {
    kills(
        "steal-not-looked-at",
        "what_a_handler_posts_is_stolen_while_it_waits",
    );
}

/// A timer is armed while the only worker is about to sit: the kernel must know of it.
fn timer_against_sit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let worker = {
        let port = port.clone();
        thread::spawn(move || port.work())
    };
    let fired = {
        let port = port.clone();
        port.port
            .clone()
            .sleep(std::time::Duration::from_secs(60))
            .then(move |result| {
                assert!(result.is_ok());
                port.cross_off();
            })
    };
    port.pass(Duration::MAX);
    assert_eq!(worker.join().expect("the worker returns"), 1);
    assert_eq!(port.port.cancel(fired), proactor::CancelOutcome::TooLate);
    seen.saw("fired");
}

#[test]
fn a_timer_that_is_armed_reaches_a_worker_that_is_about_to_sit() {
    model(
        "a_timer_reaches_a_worker_that_is_about_to_sit",
        &["fired"],
        timer_against_sit,
    );
}

#[test]
fn mutant_the_kernel_is_not_told_of_a_timer() {
    kills(
        "timer-earlier-unset",
        "a_timer_that_is_armed_reaches_a_worker_that_is_about_to_sit",
    );
}
