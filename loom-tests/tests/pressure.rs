//! Backpressure: never more from outside than there is room for, and whoever waits for room hears of it.
#![cfg(proactor_loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, workers};
use proactor::Strategy;
use proactor::model::{Door, ModelPort, spurious};

fn limited(workers: usize, most: usize) -> ModelPort {
    ModelPort::limited(Strategy::LeaderFollowers.dispatcher(), workers, most)
}

/// There is room for one, which is taken. It is made, by a worker or by somebody else, while two come for it: one of them gets it, and
/// has seen what went before.
fn one_room_for_two(seen: &Seen, maker: Option<usize>) {
    let door = Arc::new(Door::new());
    let done = loom::sync::Arc::new(AtomicUsize::new(0));
    assert!(door.try_enter());
    let enter = {
        let (door, done) = (Arc::clone(&door), done.clone());
        move || {
            let entered = door.try_enter();
            if entered {
                assert_eq!(done.load(Ordering::Relaxed), 1, "let in before the end");
            }
            usize::from(entered)
        }
    };
    let another = thread::spawn(enter.clone());
    let leaves = thread::spawn(move || {
        done.store(1, Ordering::Relaxed);
        door.leave(maker);
    });
    let entered = enter() + another.join().expect("it returns");
    leaves.join().expect("it returns");
    assert!(entered < 2, "two were let in");
    seen.saw(format!("{entered} let in"));
}

#[test]
fn no_room_is_given_twice_or_early() {
    model(
        "no_room_is_given_twice_or_early",
        &["0 let in", "1 let in"],
        |seen| one_room_for_two(seen, Some(0)),
    );
}

#[test]
fn room_that_no_worker_made_is_not_given_early() {
    model(
        "room_that_no_worker_made_is_not_given_early",
        &["0 let in", "1 let in"],
        |seen| one_room_for_two(seen, None),
    );
}

#[test]
fn mutant_nobody_asks_whether_there_is_room() {
    kills("room-unasked", "no_room_is_given_twice_or_early");
}

#[test]
fn mutant_nobody_asks_whether_others_made_room() {
    kills(
        "room-unasked",
        "room_that_no_worker_made_is_not_given_early",
    );
}

/// There is room for one. A second call is posted while a worker runs the first: it waits for that to be over.
fn post_against_room(seen: &Seen) {
    spurious(1);
    let port = limited(1, 1);
    let first = loom::sync::Arc::new(AtomicUsize::new(0));
    port.port.post({
        let first = first.clone();
        move || first.store(1, Ordering::Relaxed)
    });
    port.enter();
    let worker = workers(&port, 1);
    let refused = port.port.try_post(|| ());
    seen.saw(if refused.is_ok() { "room" } else { "full" });
    port.port.post({
        let port = port.clone();
        move || port.cross_off()
    });
    assert_eq!(first.load(Ordering::Relaxed), 1, "let in before the end");
    assert_eq!(join(worker), 2 + usize::from(refused.is_ok()));
}

#[test]
fn who_waits_for_room_is_let_in_when_it_is_made() {
    model(
        "who_waits_for_room_is_let_in_when_it_is_made",
        &["room", "full"],
        post_against_room,
    );
}

#[test]
fn mutant_no_fence_before_room_is_looked_for_again() {
    kills(
        "room-waiter-fence",
        "who_waits_for_room_is_let_in_when_it_is_made",
    );
}

#[test]
fn mutant_no_fence_before_who_waits_is_looked_for() {
    kills(
        "room-maker-fence",
        "who_waits_for_room_is_let_in_when_it_is_made",
    );
}

#[test]
fn mutant_who_makes_room_calls_nobody() {
    kills(
        "room-calls-nobody",
        "who_waits_for_room_is_let_in_when_it_is_made",
    );
}

/// Two wait for room while a worker makes it, once for each.
fn two_posts_against_room(seen: &Seen) {
    let port = limited(1, 1);
    port.enter();
    port.enter();
    let post = |port: &ModelPort| {
        let inside = port.clone();
        port.port.post(move || {
            // One that waited for room here would wait for itself.
            inside.port.post(|| ());
            inside.cross_off();
        });
    };
    let worker = workers(&port, 1);
    let other = {
        let port = port.clone();
        thread::spawn(move || post(&port))
    };
    post(&port);
    other.join().expect("it posts");
    assert_eq!(join(worker), 4);
    seen.saw("all ran");
}

#[test]
fn two_that_wait_for_room_are_let_in_one_after_the_other() {
    model(
        "two_that_wait_for_room_are_let_in_one_after_the_other",
        &["all ran"],
        two_posts_against_room,
    );
}

#[test]
fn mutant_who_makes_room_for_two_calls_nobody() {
    kills(
        "room-calls-nobody",
        "two_that_wait_for_room_are_let_in_one_after_the_other",
    );
}

/// Tells when it is dropped.
struct Tell(Once<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.happen(self.1);
    }
}

impl Tell {
    fn run(mut self) {
        self.1 = "run";
    }
}

/// Two posts that nobody makes room for, while the port closes: both are let go, and run like the one before them.
fn posts_against_close(seen: &Seen) {
    let port = limited(1, 1);
    port.port.post(|| ());
    let onces: [Once<&'static str>; 2] = Default::default();
    let posters = onces.clone().map(|once| {
        let tell = Tell(once, "dropped");
        let port = port.port.clone();
        thread::spawn(move || port.post(move || tell.run()))
    });
    port.port.close();
    for poster in posters {
        poster.join().expect("it is let go");
    }
    assert_eq!(port.work(), 3);
    onces.iter().for_each(|once| seen.saw(once.how()));
}

#[test]
fn who_waits_for_room_is_let_go_when_the_port_closes() {
    model(
        "who_waits_for_room_is_let_go_when_the_port_closes",
        &["run"],
        posts_against_close,
    );
}

/// A proactor is dropped while a handler has the only room, and waits for a thread that posts: that is let go, and its call
/// dropped uncalled.
fn post_against_drop(seen: &Seen) {
    let port = limited(1, 1);
    let proactor = port.proactor();
    let (once, begun, posted) = (Once::default(), Wait::default(), Wait::default());
    proactor.start().expect("threads");
    proactor.post({
        let (begun, posted) = (begun.clone(), posted.clone());
        move || {
            begun.happen();
            posted.wait();
        }
    });
    let poster = {
        let tell = Tell(once.clone(), "dropped");
        let port = port.port.clone();
        thread::spawn(move || {
            port.post(move || tell.run());
            posted.happen();
        })
    };
    begun.wait();
    drop(proactor);
    poster.join().expect("it is let go");
    seen.saw(once.how());
}

#[test]
fn who_waits_for_room_is_let_go_when_the_proactor_is_dropped() {
    model(
        "who_waits_for_room_is_let_go_when_the_proactor_is_dropped",
        &["dropped"],
        post_against_drop,
    );
}

#[test]
fn mutant_a_port_that_closes_leaves_posters_outside() {
    kills(
        "door-stays-shut",
        "who_waits_for_room_is_let_go_when_the_port_closes",
    );
}

#[test]
fn mutant_a_port_that_goes_leaves_posters_outside() {
    kills(
        "door-stays-shut",
        "who_waits_for_room_is_let_go_when_the_proactor_is_dropped",
    );
}
