//! Sleep and wake: a post meets a worker that is about to park or to sit, and no wake-up is lost.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, kills, model, port};
use proactor::Strategy;

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
