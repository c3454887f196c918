//! Sleep and wake: a post meets a worker that is about to park or to sit, and no wake-up is lost.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{
    Once, Seen, Wait, join, kills, model, port, port_at_once,
    post_two_of_which_one_needs_the_other, workers,
};
use proactor::Strategy;
use proactor::model::ModelPort;
use std::time::Duration;

/// One worker, which sits when it has nothing to do; the post comes from outside.
fn post_against_sit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let worker = workers(&port, 1);
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
    assert_eq!(join(worker), 1);
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

/// The only worker looks, as it polls, and then works; the post comes from outside. Nobody rings for a look, and if it sleeps after that
/// it is told.
fn post_against_look(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let worker = thread::spawn({
        let port = port.clone();
        move || {
            let polled = port.poll();
            assert_eq!(port.rings(), 0, "rung for a look");
            (polled, port.work())
        }
    });
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    let (polled, worked) = worker.join().expect("the worker returns");
    assert_eq!(polled + worked, 1);
    seen.saw(match (polled, port.rings()) {
        (1, _) => "run as it polled",
        (_, 0) => "posted while it was awake",
        _ => "posted while it sat",
    });
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn nobody_rings_for_a_look_and_who_sleeps_after_it_is_told() {
    model(
        "nobody_rings_for_a_look_and_who_sleeps_after_it_is_told",
        &[
            "run as it polled",
            "posted while it was awake",
            "posted while it sat",
        ],
        post_against_look,
    );
}

#[test]
fn mutant_the_bell_is_rung_for_a_look() {
    kills(
        "rung-for-a-look",
        "nobody_rings_for_a_look_and_who_sleeps_after_it_is_told",
    );
}

#[test]
fn mutant_who_has_looked_still_counts_as_looking() {
    kills(
        "look-kept",
        "nobody_rings_for_a_look_and_who_sleeps_after_it_is_told",
    );
}

fn saw_the_bell(seen: &Seen, port: &ModelPort) {
    seen.saw(POSTS[usize::from(port.rings() > 0)]);
}

/// Two workers and one seat: one sits, the other parks. Two posts, and the first one's handler waits for the second one's, so
/// both workers must come.
fn posts_against_park(seen: &Seen, strategy: Strategy) {
    let port = port(strategy, 2, 1, 0);
    port.enter();
    let both = workers(&port, 2);
    post_two_of_which_one_needs_the_other(&port);
    saw_the_bell(seen, &port);
    assert_eq!(join(both), 2);
    assert!(port.is_quiet(), "somebody is still counted");
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

/// One of two workers comes for nothing. As it gives its search up there are two posts, and the first one's handler waits for the second
/// one's.
fn posts_against_giving_up(seen: &Seen) {
    let port = port_at_once(Strategy::LeaderFollowers, 2, 0);
    port.enter();
    let both = workers(&port, 2);
    port.wake_one();
    post_two_of_which_one_needs_the_other(&port);
    saw_the_bell(seen, &port);
    assert_eq!(join(both), 2);
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn what_was_left_to_a_search_that_is_given_up_is_handed_on() {
    model(
        "what_was_left_to_a_search_that_is_given_up_is_handed_on",
        &POSTS,
        posts_against_giving_up,
    );
}

#[test]
fn mutant_a_search_that_is_given_up_owes_nothing() {
    kills(
        "given-up-owes-nothing",
        "what_was_left_to_a_search_that_is_given_up_is_handed_on",
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
    let other = workers(&port, 1);
    assert_eq!(port.work() + join(other), 2);
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
    let worker = workers(&port, 1);
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
    assert_eq!(join(worker), 1);
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

/// Two producers at once, and one worker that sits: their bells may become one, and both posts are run.
fn two_posts_and_one_bell(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let post = |port: &ModelPort| {
        let inner = port.clone();
        port.port.post(move || inner.cross_off());
    };
    port.enter();
    port.enter();
    let worker = workers(&port, 1);
    let other = {
        let port = port.clone();
        loom::thread::spawn(move || post(&port))
    };
    post(&port);
    other.join().expect("it posts");
    assert_eq!(join(worker), 2);
    seen.saw(format!("{} rings", port.rings()));
}

#[test]
fn two_posts_share_a_bell_and_neither_is_lost() {
    model(
        "two_posts_share_a_bell_and_neither_is_lost",
        &["0 rings", "1 rings", "2 rings"],
        two_posts_and_one_bell,
    );
}

#[test]
fn mutant_the_bell_is_not_answered() {
    kills(
        "bell-unanswered",
        "two_posts_share_a_bell_and_neither_is_lost",
    );
}

/// The bell is rung as the only worker has been woken by an event, so that it hears it when it has sat down anew, and finds nothing: what was
/// posted it has run before. Then there is another post.
fn post_after_a_bell_for_nothing(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    object.take(1, |taken| assert_eq!(taken.ok(), Some(1)));
    port.enter();
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    let first = Wait::default();
    port.port.post({
        let first = first.clone();
        move || first.happen()
    });
    first.wait();
    let rings = port.rings();
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    seen.saw(format!("{rings} and {} rings", port.rings() - rings));
    assert_eq!(join(worker), 3);
    drop(object);
}

#[test]
fn a_bell_that_is_heard_for_nothing_is_answered() {
    model(
        "a_bell_that_is_heard_for_nothing_is_answered",
        &[
            "0 and 0 rings",
            "0 and 1 rings",
            "1 and 0 rings",
            "1 and 1 rings",
        ],
        post_after_a_bell_for_nothing,
    );
}

#[test]
fn mutant_who_has_heard_the_bell_leaves_as_if_unseen() {
    kills(
        "bell-left-unseen",
        "a_bell_that_is_heard_for_nothing_is_answered",
    );
}

/// A foreign loop asks for the descriptor that it will wait on while somebody posts: the bell rings for it.
fn post_against_foreign_loop(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let poster = {
        let port = port.clone();
        loom::thread::spawn(move || {
            port.port.post(|| ());
            port.rings()
        })
    };
    port.welcome_foreign_loop();
    seen.saw(match poster.join().expect("it posts") {
        0 => "told by itself",
        _ => "told by the poster",
    });
    assert_eq!(port.rings(), 1);
    assert_eq!(port.poll(), 1);
}

#[test]
fn a_foreign_loop_is_told_of_a_post() {
    model(
        "a_foreign_loop_is_told_of_a_post",
        &["told by itself", "told by the poster"],
        post_against_foreign_loop,
    );
}

#[test]
fn mutant_no_fence_after_announcing_a_foreign_loop() {
    kills("sleep-announce-fence", "a_foreign_loop_is_told_of_a_post");
}

/// The leader sleeps, or is about to, for a late timer when an earlier one is armed; time passes until between the two, and then
/// beyond.
fn earlier_timer(seen: &Seen, seats: usize) {
    let port = port(Strategy::LeaderFollowers, 1, seats, 0);
    let minute = Duration::from_secs(60);
    let late = Once::default();
    port.port.sleep(minute).then({
        let late = late.clone();
        move |result| late.happen(result.is_ok())
    });
    let worker = workers(&port, 1);
    port.port.sleep(minute / 60).then({
        let port = port.clone();
        move |result| {
            assert!(result.is_ok());
            port.pass(2 * minute);
        }
    });
    port.pass(minute / 2);
    assert_eq!(join(worker), 2);
    assert!(late.how() && port.is_timeless(), "a timer is still armed");
    seen.saw(if port.rings() == 0 {
        "seen by the leader"
    } else {
        "told to the leader"
    });
}

#[test]
fn an_earlier_timer_reaches_the_leader_through_its_descriptor() {
    model(
        "an_earlier_timer_reaches_the_leader_through_its_descriptor",
        &["seen by the leader"],
        |seen| earlier_timer(seen, 2),
    );
}

#[test]
fn mutant_the_kernel_is_not_told_of_an_earlier_timer() {
    kills(
        "timer-earlier-unset",
        "an_earlier_timer_reaches_the_leader_through_its_descriptor",
    );
}

#[test]
fn an_earlier_timer_shortens_the_sleep_of_the_leader() {
    model(
        "an_earlier_timer_shortens_the_sleep_of_the_leader",
        &["seen by the leader", "told to the leader"],
        |seen| earlier_timer(seen, 1),
    );
}

#[test]
fn mutant_no_fence_before_the_timer_is_looked_at_again() {
    kills(
        "alarm-sleep-fence",
        "an_earlier_timer_shortens_the_sleep_of_the_leader",
    );
}

#[test]
fn mutant_no_fence_before_the_sleeper_is_looked_at() {
    kills(
        "alarm-set-fence",
        "an_earlier_timer_shortens_the_sleep_of_the_leader",
    );
}

/// A handler posts more than its worker's stack holds, while another steals: what is over goes to a queue beside it.
fn overflow(seen: &Seen) {
    const POSTS: usize = 3;
    let port = port(Strategy::WorkStealing, 2, 2, 0);
    let calls: Vec<Once<bool>> = (0..POSTS).map(|_| Once::default()).collect();
    let main = loom::thread::current().id();
    port.port.post({
        let (port, calls) = (port.clone(), calls.clone());
        move || {
            for call in calls {
                port.port
                    .post(move || call.happen(loom::thread::current().id() == main));
            }
        }
    });
    let other = workers(&port, 1);
    assert_eq!(port.work() + join(other), POSTS + 1);
    let here = calls.iter().filter(|call| call.how()).count();
    seen.saw(match here {
        0 => "none here",
        POSTS => "all here",
        _ => "shared",
    });
}

#[test]
fn a_full_stack_overflows_and_loses_nothing() {
    model(
        "a_full_stack_overflows_and_loses_nothing",
        &["none here", "all here", "shared"],
        overflow,
    );
}

#[test]
fn mutant_what_overflows_is_forgotten() {
    kills(
        "overflow-forgotten",
        "a_full_stack_overflows_and_loses_nothing",
    );
}

/// As above, and the handler waits for the last, which did not fit or did: a thief must come for it.
fn overflow_while_waiting(seen: &Seen) {
    let port = port(Strategy::WorkStealing, 2, 2, 0);
    let done = Wait::default();
    port.port.post({
        let (port, done) = (port.clone(), done.clone());
        move || {
            port.port.post(|| {});
            port.port.post(|| {});
            port.port.post({
                let done = done.clone();
                move || done.happen()
            });
            done.wait();
        }
    });
    let other = workers(&port, 1);
    assert_eq!(port.work() + join(other), 4);
    seen.saw("taken");
}

#[test]
fn what_overflows_is_taken_while_its_poster_waits() {
    model(
        "what_overflows_is_taken_while_its_poster_waits",
        &["taken"],
        overflow_while_waiting,
    );
}

#[test]
fn mutant_what_overflowed_is_not_looked_at_before_sleep() {
    kills(
        "overflow-not-looked-at",
        "what_overflows_is_taken_while_its_poster_waits",
    );
}
