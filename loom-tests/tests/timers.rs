//! Timers and time limits: expiry, cancellation and the end of what is limited cross each other.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, port, workers};
use proactor::{CancelOutcome, Strategy};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A timer is cancelled while it expires: a request that is accepted counts, one that is too late does not.
fn cancel_against_expiry(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let output = Once::default();
    let key = port.port.sleep(SECOND).then({
        let output = output.clone();
        move |result| output.happen(result.is_ok())
    });
    let worker = workers(&port, 1);
    port.pass(2 * SECOND);
    let outcome = port.port.cancel(key);
    assert_eq!(join(worker), 1);
    assert!(port.is_timeless(), "the timer is still armed");
    match (outcome, output.how()) {
        (CancelOutcome::Requested, false) => seen.saw("cancelled"),
        (CancelOutcome::TooLate, true) => seen.saw("too late"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_timer_is_cancelled_or_expires() {
    model(
        "a_timer_is_cancelled_or_expires",
        &["cancelled", "too late"],
        cancel_against_expiry,
    );
}

#[test]
fn mutant_a_request_that_is_too_late_counts() {
    kills("request-believes-itself", "a_timer_is_cancelled_or_expires");
}

/// A limit passes while its operation gets its data.
fn expiry_against_end(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let output = Once::default();
    object.taking(1).timeout(SECOND).then({
        let output = output.clone();
        move |result| {
            output.happen(result.map_err(|error| assert!(error.is_timeout())).is_ok());
        }
    });
    let worker = workers(&port, 1);
    let clock = {
        let port = port.clone();
        thread::spawn(move || port.pass(2 * SECOND))
    };
    port.arrive(0, 1);
    clock.join().expect("time passes");
    assert_eq!(join(worker), 1);
    assert!(port.is_timeless(), "the limit is still set");
    seen.saw(if output.how() { "in time" } else { "timed out" });
    drop(object);
}

#[test]
fn a_limit_passes_or_is_lifted() {
    model(
        "a_limit_passes_or_is_lifted",
        &["in time", "timed out"],
        expiry_against_end,
    );
}

#[test]
fn mutant_a_limit_is_not_lifted() {
    kills("limit-not-lifted", "a_limit_passes_or_is_lifted");
}

/// A limit passes while its operation is still being submitted, behind another one: nobody will look for it later.
fn expiry_against_submit(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let first = object.take(1, |result| assert!(result.is_err()));
    let worker = workers(&port, 1);
    port.pass(2 * SECOND);
    object.taking(1).timeout(SECOND).then({
        let port = port.clone();
        move |result| {
            assert!(result.expect_err("no data").is_timeout());
            port.port.cancel(first);
        }
    });
    assert_eq!(join(worker), 2);
    seen.saw("timed out");
    drop(object);
}

#[test]
fn a_limit_that_passes_before_its_operation_is_submitted_is_seen() {
    model(
        "a_limit_that_passes_before_its_operation_is_submitted_is_seen",
        &["timed out"],
        expiry_against_submit,
    );
}

#[test]
fn mutant_a_request_is_not_seen_at_submission() {
    kills(
        "cancel-unseen-at-submit",
        "a_limit_that_passes_before_its_operation_is_submitted_is_seen",
    );
}

/// A timer's waits are cancelled while they expire: as many as it says, and no other.
fn timer_against_expiry(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let timer = port.port.timer();
    timer.expires_after(SECOND);
    let outputs = [Once::default(), Once::default()];
    for output in outputs.clone() {
        let wait = timer.on_expiry();
        wait.then(move |result| output.happen(result.is_ok()));
    }
    let worker = workers(&port, 1);
    port.pass(2 * SECOND);
    let counted = timer.cancel();
    assert_eq!(join(worker), 2);
    let cancelled = outputs.iter().filter(|output| !output.how()).count();
    assert_eq!(counted, cancelled);
    assert!(port.is_timeless(), "a wait is still armed");
    seen.saw(["none", "one", "both"][cancelled]);
}

#[test]
fn a_timer_counts_what_it_cancels() {
    model(
        "a_timer_counts_what_it_cancels",
        &["none", "one", "both"],
        timer_against_expiry,
    );
}

#[test]
fn mutant_late_cancellations_count() {
    kills("late-cancellations-count", "a_timer_counts_what_it_cancels");
}

/// A deadline moves while a wait begins: it is cancelled, or it has the new deadline, and is not cancelled if it was asked for
/// after the move was seen.
fn move_against_wait(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let timer = Arc::new(port.port.timer());
    timer.expires_after(SECOND);
    let old = timer.deadline();
    let output = Once::default();
    let beginner = {
        let (timer, output) = (Arc::clone(&timer), output.clone());
        thread::spawn(move || {
            let moved = timer.deadline() != old;
            let wait = timer.on_expiry();
            wait.then(move |result| output.happen(result.is_ok()));
            moved
        })
    };
    let cancelled = timer.expires_after(3 * SECOND);
    let moved = beginner.join().expect("the wait begins");
    port.pass(2 * SECOND);
    assert_eq!(port.poll(), cancelled, "it had the old deadline");
    port.pass(4 * SECOND);
    assert_eq!(port.work(), 1 - cancelled);
    assert_eq!(output.how(), cancelled == 0);
    assert!(!moved || cancelled == 0, "a later wait was cancelled");
    seen.saw(match (cancelled, moved) {
        (0, false) => "joined after",
        (0, true) => "asked after",
        _ => "cancelled",
    });
}

#[test]
fn a_wait_begins_before_its_deadline_moves_or_after() {
    model(
        "a_wait_begins_before_its_deadline_moves_or_after",
        &["joined after", "asked after", "cancelled"],
        move_against_wait,
    );
}

#[test]
fn mutant_a_timer_is_armed_unasked() {
    kills(
        "armed-unasked",
        "a_wait_begins_before_its_deadline_moves_or_after",
    );
}

#[test]
fn mutant_a_wait_joins_late() {
    kills(
        "wait-joins-late",
        "a_wait_begins_before_its_deadline_moves_or_after",
    );
}

#[test]
fn mutant_young_waits_are_cancelled() {
    kills(
        "young-waits-are-cancelled",
        "a_wait_begins_before_its_deadline_moves_or_after",
    );
}

/// A waker that a thread waits for.
#[derive(Default)]
struct Call(Wait);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.0.happen();
    }
}

/// A nap is polled with another waker while its time comes: it is over, or that one is called.
fn nap_against_expiry(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let mut nap = port.port.nap(SECOND);
    let mut poll = |call: &Arc<Call>| {
        let waker = Waker::from(Arc::clone(call));
        Pin::new(&mut nap).poll(&mut Context::from_waker(&waker))
    };
    let (first, second) = (Arc::default(), Arc::default());
    assert!(poll(&first).is_pending(), "its time has not come");
    let worker = workers(&port, 1);
    let clock = {
        let port = port.clone();
        thread::spawn(move || port.pass(2 * SECOND))
    };
    if poll(&second).is_pending() {
        second.0.wait();
        assert!(poll(&second).is_ready(), "woken too early");
        seen.saw("woken");
    } else {
        seen.saw("over");
    }
    clock.join().expect("time passes");
    join(worker);
    assert!(port.is_timeless(), "it is still armed");
}

#[test]
fn a_nap_wakes_its_last_waker() {
    model(
        "a_nap_wakes_its_last_waker",
        &["woken", "over"],
        nap_against_expiry,
    );
}

#[test]
fn mutant_a_nap_keeps_its_waker() {
    kills("nap-keeps-its-waker", "a_nap_wakes_its_last_waker");
}

/// Two naps are given up, one while its time comes: it is over once. Neither holds up anybody.
fn nap_given_up(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let woken = Once::default();
    let waker = Waker::from(Arc::new(Told(woken.clone())));
    let naps = [SECOND, 1000 * SECOND].map(|after| {
        let mut nap = port.port.nap(after);
        let begun = Pin::new(&mut nap).poll(&mut Context::from_waker(&waker));
        assert!(begun.is_pending(), "its time has not come");
        nap
    });
    let worker = workers(&port, 1);
    let giving_up = thread::spawn(move || drop(naps));
    port.pass(2 * SECOND);
    giving_up.join().expect("it is dropped");
    let ran = join(worker);
    match (ran, woken.happened()) {
        (0, false) => seen.saw("given up"),
        (1, true) => seen.saw("expired"),
        other => panic!("{other:?}"),
    }
}

/// A waker that tells.
struct Told(Once<()>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.happen(());
    }
}

#[test]
fn a_nap_that_is_given_up_is_over() {
    model(
        "a_nap_that_is_given_up_is_over",
        &["given up", "expired"],
        nap_given_up,
    );
}

#[test]
fn mutant_a_nap_is_left_armed() {
    kills("nap-left-armed", "a_nap_that_is_given_up_is_over");
}

/// Naps are begun where others were given up, one of them later and one earlier, while the time of one of those comes: each of the new
/// ones wakes at its own.
fn naps_in_the_place_of_others(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    port.enter();
    let begin = |after, waker: &Waker| {
        let mut nap = port.port.nap(after);
        let begun = Pin::new(&mut nap).poll(&mut Context::from_waker(waker));
        assert!(begun.is_pending(), "its time has not come");
        nap
    };
    let woken = Once::default();
    let former = Waker::from(Arc::new(Told(woken.clone())));
    let given_up = [SECOND, 1000 * SECOND].map(|after| begin(after, &former));
    let worker = workers(&port, 1);
    let clock = {
        let port = port.clone();
        thread::spawn(move || port.pass(2 * SECOND))
    };
    drop(given_up);
    let calls: [Arc<Call>; 2] = Default::default();
    let wakers = [0, 1].map(|nth| Waker::from(Arc::clone(&calls[nth])));
    let mut naps = [0, 1].map(|nth| begin(3 * SECOND, &wakers[nth]));
    clock.join().expect("time passes");
    let mut poll =
        |nth: usize| Pin::new(&mut naps[nth]).poll(&mut Context::from_waker(&wakers[nth]));
    assert!(poll(0).is_pending() && poll(1).is_pending(), "too early");
    port.pass(4 * SECOND);
    for nth in [0, 1] {
        calls[nth].0.wait();
        assert!(poll(nth).is_ready(), "woken too early");
    }
    seen.saw(if woken.happened() {
        "expired"
    } else {
        "given up"
    });
    port.cross_off();
    join(worker);
    assert!(port.is_timeless(), "one is still armed");
}

#[test]
fn naps_begin_where_others_were_given_up() {
    model(
        "naps_begin_where_others_were_given_up",
        &["given up", "expired"],
        naps_in_the_place_of_others,
    );
}

#[test]
fn mutant_a_nap_is_over_when_its_node_was() {
    kills(
        "nap-believes-its-node",
        "naps_begin_where_others_were_given_up",
    );
}

#[test]
fn mutant_a_nap_whose_node_was_early_is_forgotten() {
    kills(
        "nap-not-linked-again",
        "naps_begin_where_others_were_given_up",
    );
}

#[test]
fn mutant_a_nap_has_the_later_node_of_another() {
    kills(
        "nap-earlier-unlinked",
        "naps_begin_where_others_were_given_up",
    );
}
