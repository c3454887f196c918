//! The watch over a port's only seat: whoever leaves the seat is watched, however the last watch ended.
#![cfg(proactor_loom)]

use loom_tests::{Once, Seen, Wait, join, kills, model, model_at, port, workers};
use proactor::Strategy;
use proactor::model::ticks;

/// A first event has a follower appointed, and its handler posts, which may call the watcher away, before it watches or after.
/// Then the handler of a second event waits for that of a third: the follower must be appointed anew.
fn watch_is_given_back(seen: &Seen) {
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 2, 1, 3);
    let objects = [port.open(0), port.open(1), port.open(2)];
    let (done, posted) = (Wait::default(), Once::default());
    let main = loom::thread::current().id();
    objects[0].take(1, {
        let (port, posted) = (port.clone(), posted.clone());
        move |_| {
            let here = loom::thread::current().id();
            port.port
                .post(move || posted.happen(here == loom::thread::current().id()));
            port.arrive(1, 1);
        }
    });
    objects[1].take(1, {
        let (port, done) = (port.clone(), done.clone());
        move |_| {
            port.arrive(2, 1);
            done.wait();
        }
    });
    objects[2].take(1, {
        let seen = seen.clone();
        move |_| {
            done.happen();
            let here = loom::thread::current().id() == main;
            seen.saw(if here {
                "this one sat"
            } else {
                "the other sat"
            });
        }
    });
    let other = workers(&port, 1);
    port.arrive(0, 1);
    assert_eq!(port.work() + join(other), 4);
    seen.saw(if posted.how() {
        "no one was called away"
    } else {
        "called away"
    });
    assert!(port.is_quiet(), "somebody is still counted");
    drop(objects);
}

#[test]
fn a_watch_is_given_back() {
    let outcomes = [
        "this one sat",
        "the other sat",
        "no one was called away",
        "called away",
    ];
    model("a_watch_is_given_back", &outcomes, watch_is_given_back);
}

#[test]
fn mutant_a_watch_is_not_given_back() {
    kills("watch-kept", "a_watch_is_given_back");
}

/// The watcher is called away for a post whose handler waits, as the leader's does, for an event: a third worker must be
/// appointed.
fn watcher_is_replaced(seen: &Seen) {
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 3, 1, 2);
    let objects = [port.open(0), port.open(1)];
    let done = Wait::default();
    objects[0].take(1, {
        let (port, done) = (port.clone(), done.clone());
        move |_| {
            let called = done.clone();
            port.port.post(move || called.wait());
            port.arrive(1, 1);
            done.wait();
        }
    });
    objects[1].take(1, move |_| done.happen());
    let others = workers(&port, 2);
    port.arrive(0, 1);
    assert_eq!(port.work() + join(others), 3);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw("all three ran");
    drop(objects);
}

#[test]
fn a_watcher_that_is_called_away_is_replaced() {
    model_at(
        1,
        "a_watcher_that_is_called_away_is_replaced",
        &["all three ran"],
        watcher_is_replaced,
    );
}

#[test]
fn mutant_who_is_called_away_keeps_the_watch() {
    kills("watch-kept", "a_watcher_that_is_called_away_is_replaced");
}
