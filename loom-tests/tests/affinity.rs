//! Calls to one worker: whoever it is, and whether it sits, is parked, or is about to be, it hears of them, and nobody else runs them.
#![cfg(proactor_loom)]

use std::sync::{Arc, Mutex};

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, model_at, workers};
use proactor::Strategy;
use proactor::model::{ModelPort, spurious, ticks};

/// A port whose workers have queues of their own.
fn port(count: usize, seats: usize, objects: usize) -> ModelPort {
    let port = loom_tests::port(Strategy::LeaderFollowers, count, seats, objects);
    port.prepare_calls();
    port
}

/// Posts to worker `index` a call that must run there, and ends the work that was entered.
fn post_to(port: &ModelPort, index: usize, ran: impl FnOnce(&ModelPort) + Send + 'static) {
    let inside = port.clone();
    let posted = port.port.post_to(index, move || {
        assert_eq!(inside.port.worker_index(), Some(index), "on another worker");
        ran(&inside);
        inside.cross_off();
    });
    posted.expect("there is such a worker");
}

/// A call for one of several workers that go to sleep.
fn call_to_one(seen: &Seen, count: usize, seats: usize, index: usize) {
    let port = port(count, seats, 0);
    port.enter();
    let others = workers(&port, count);
    let seen = seen.clone();
    post_to(&port, index, move |port| {
        seen.saw(format!("{} rings", port.rings()));
    });
    assert_eq!(join(others), 1);
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn a_call_to_one_of_two_that_sit_reaches_that_one() {
    model(
        "a_call_to_one_of_two_that_sit_reaches_that_one",
        &["0 rings", "1 rings", "2 rings"],
        |seen| call_to_one(seen, 2, 2, 1),
    );
}

#[test]
fn a_call_to_the_first_of_two_that_sit_reaches_that_one() {
    model(
        "a_call_to_the_first_of_two_that_sit_reaches_that_one",
        &["0 rings", "1 rings", "2 rings"],
        |seen| call_to_one(seen, 2, 2, 0),
    );
}

#[test]
fn mutant_a_call_is_not_passed_on() {
    kills(
        "call-not-passed-on",
        "a_call_to_one_of_two_that_sit_reaches_that_one",
    );
}

#[test]
fn mutant_a_call_to_the_first_is_not_passed_on() {
    kills(
        "call-not-passed-on",
        "a_call_to_the_first_of_two_that_sit_reaches_that_one",
    );
}

#[test]
fn mutant_who_passes_a_call_on_hears_it_again() {
    kills(
        "sit-beside-a-call",
        "a_call_to_one_of_two_that_sit_reaches_that_one",
    );
}

#[test]
fn mutant_no_fence_before_the_callee_is_looked_for() {
    kills(
        "call-waker-fence",
        "a_call_to_one_of_two_that_sit_reaches_that_one",
    );
}

#[test]
fn mutant_calls_are_not_looked_for_before_sleep() {
    kills(
        "call-not-looked-for",
        "a_call_to_one_of_two_that_sit_reaches_that_one",
    );
}

/// With one seat the other is parked: on its own condvar, where nobody else hears for it.
#[test]
fn a_call_to_one_that_is_parked_reaches_that_one() {
    model(
        "a_call_to_one_that_is_parked_reaches_that_one",
        &["0 rings", "1 rings"],
        |seen| {
            spurious(1);
            call_to_one(seen, 2, 1, 1);
        },
    );
}

#[test]
fn mutant_a_call_to_one_that_is_parked_is_not_heard() {
    kills(
        "call-parked-unheard",
        "a_call_to_one_that_is_parked_reaches_that_one",
    );
}

#[test]
fn a_call_to_one_of_three_reaches_that_one() {
    model(
        "a_call_to_one_of_three_reaches_that_one",
        &["0 rings", "2 rings"],
        |seen| call_to_one(seen, 3, 2, 2),
    );
}

#[test]
fn mutant_calls_to_one_of_three_are_not_passed_on() {
    kills(
        "call-not-passed-on",
        "a_call_to_one_of_three_reaches_that_one",
    );
}

/// Two calls to one worker, and a post that anybody may run: one bell may stand for all of them. The calls run in order.
fn calls_beside_a_post(seen: &Seen) {
    let port = port(2, 2, 0);
    for _ in 0..3 {
        port.enter();
    }
    let others = workers(&port, 2);
    let poster = {
        let port = port.clone();
        thread::spawn(move || {
            let inside = port.clone();
            port.port.post(move || inside.cross_off());
        })
    };
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..2 {
        let order = Arc::clone(&order);
        post_to(&port, 1, move |_| {
            order.lock().expect("no panic").push(number);
        });
    }
    poster.join().expect("it posts");
    assert_eq!(join(others), 3);
    assert_eq!(*order.lock().expect("no panic"), [0, 1]);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw("in order");
}

#[test]
fn calls_to_one_run_in_order_beside_what_anybody_runs() {
    model_at(
        1,
        "calls_to_one_run_in_order_beside_what_anybody_runs",
        &["in order"],
        calls_beside_a_post,
    );
}

#[test]
fn mutant_calls_beside_a_post_are_not_looked_for() {
    kills(
        "call-not-looked-for",
        "calls_to_one_run_in_order_beside_what_anybody_runs",
    );
}

/// The call waits for a handler whose event comes only then: somebody else must have a seat, also one who made room for the
/// call to be heard.
fn call_waits_for_an_event(seen: &Seen, count: usize, seats: usize) {
    ticks(2);
    let port = port(count, seats, 1);
    port.enter();
    let (object, done) = (port.open(0), Wait::default());
    object.take(1, {
        let done = done.clone();
        move |_| done.happen()
    });
    let others = workers(&port, count);
    post_to(&port, 1, move |port| {
        port.arrive(0, 1);
        done.wait();
    });
    assert_eq!(join(others), 2);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw("both ran");
    drop(object);
}

#[test]
fn who_made_room_for_a_call_takes_its_seat_again() {
    model(
        "who_made_room_for_a_call_takes_its_seat_again",
        &["both ran"],
        |seen| call_waits_for_an_event(seen, 2, 2),
    );
}

#[test]
fn mutant_a_call_is_kept_after_its_worker_has_risen() {
    kills("call-kept", "who_made_room_for_a_call_takes_its_seat_again");
}

#[test]
fn mutant_who_made_room_is_not_promoted() {
    kills(
        "promote-nobody",
        "who_made_room_for_a_call_takes_its_seat_again",
    );
}

#[test]
fn a_call_from_the_seat_of_one_leaves_it_watched() {
    model(
        "a_call_from_the_seat_of_one_leaves_it_watched",
        &["both ran"],
        |seen| call_waits_for_an_event(seen, 2, 1),
    );
}

#[test]
fn mutant_nobody_watches_the_seat_of_who_is_called() {
    kills(
        "promote-nobody",
        "a_call_from_the_seat_of_one_leaves_it_watched",
    );
}

/// A foreign loop asks for the descriptor while somebody posts to a worker that nobody is: the loop hears, and polls as that worker.
fn call_against_foreign_loop(seen: &Seen) {
    let port = port(1, 2, 0);
    port.enter();
    let poster = {
        let port = port.clone();
        thread::spawn(move || {
            post_to(&port, 0, |_| ());
            port.rings()
        })
    };
    port.welcome_foreign_loop();
    seen.saw(match poster.join().expect("it posts") {
        0 => "told by itself",
        _ => "told by the poster",
    });
    assert!(port.rings() > 0, "nobody was told");
    assert_eq!(port.poll(), 1);
}

#[test]
fn a_foreign_loop_is_told_of_a_call() {
    model(
        "a_foreign_loop_is_told_of_a_call",
        &["told by itself", "told by the poster"],
        call_against_foreign_loop,
    );
}

#[test]
fn mutant_a_foreign_loop_is_not_told_of_a_call() {
    kills("call-foreign-unheard", "a_foreign_loop_is_told_of_a_call");
}

/// Tells when it is dropped.
struct Tell(Once<&'static str>, &'static str);

impl Tell {
    fn run(mut self) {
        self.1 = "run";
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.happen(self.1);
    }
}

/// A call is posted to a worker while the proactor goes: it is run, or dropped uncalled.
fn call_against_drop(seen: &Seen) {
    let port = port(1, 2, 0);
    let proactor = port.proactor();
    proactor.start().expect("threads");
    let once = Once::default();
    let poster = {
        let tell = Tell(once.clone(), "dropped");
        let port = port.port.clone();
        thread::spawn(move || port.post_to(0, move || tell.run()).is_ok())
    };
    drop(proactor);
    assert!(poster.join().expect("it posts"));
    seen.saw(once.how());
}

#[test]
fn a_call_to_a_worker_that_goes_is_run_or_dropped() {
    model(
        "a_call_to_a_worker_that_goes_is_run_or_dropped",
        &["run", "dropped"],
        call_against_drop,
    );
}

#[test]
fn mutant_a_late_call_stays() {
    kills(
        "late-push-stays",
        "a_call_to_a_worker_that_goes_is_run_or_dropped",
    );
}
