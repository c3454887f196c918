//! Waiting within a strand: no handler runs on that thread, and yet nothing is held up by it.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::model::ticks;
use proactor::{Strand, Strategy};

/// The only worker waits within a strand for data, with a call behind it in the queue: it gets the one, and leaves the other.
fn wait_within_a_strand(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    let object = port.open(0);
    let strand = Strand::new(&port.port, ());
    let waited = Once::default();
    strand.post({
        let waited = waited.clone();
        move |()| {
            assert_eq!(object.taking(1).wait().expect("a unit"), 1);
            waited.happen("waited");
        }
    });
    let late = Once::default();
    port.port.post({
        let (waited, late) = (waited.clone(), late.clone());
        move || late.happen(waited.how())
    });
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    assert_eq!(port.work(), 2);
    data.join().expect("they arrive");
    // The call came after: `how` would panic, had it run within the strand's handler.
    seen.saw(late.how());
    drop(strand);
}

#[test]
fn the_only_worker_waits_within_a_strand() {
    model(
        "the_only_worker_waits_within_a_strand",
        &["waited"],
        wait_within_a_strand,
    );
}

#[test]
fn mutant_the_output_is_queued() {
    kills(
        "strand-output-is-queued",
        "the_only_worker_waits_within_a_strand",
    );
}

#[test]
fn mutant_a_wait_within_a_strand_runs_handlers() {
    kills(
        "strand-waits-as-others",
        "the_only_worker_waits_within_a_strand",
    );
}

/// One worker waits within a strand for data that only a call from outside brings about; the other must be woken for that call, also
/// where the first was told of it.
fn post_beside_a_wait(seen: &Seen) {
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = port.open(0);
    let strand = Strand::new(&port.port, ());
    strand.post(move |()| assert_eq!(object.taking(1).wait().expect("a unit"), 1));
    let both = workers(&port, 2);
    port.port.post({
        let port = port.clone();
        move || port.arrive(0, 1)
    });
    assert_eq!(join(both), 2);
    assert!(port.is_quiet(), "somebody is still counted");
    seen.saw("both ran");
    drop(strand);
}

#[test]
fn a_call_finds_the_worker_that_does_not_wait_within_a_strand() {
    model(
        "a_call_finds_the_worker_that_does_not_wait_within_a_strand",
        &["both ran"],
        post_beside_a_wait,
    );
}

#[test]
fn mutant_who_waits_within_a_strand_keeps_what_it_was_told() {
    kills(
        "strand-keeps-its-search",
        "a_call_finds_the_worker_that_does_not_wait_within_a_strand",
    );
}

/// A handler waits for data while everybody is stopped: it is served, so that the run can end; and the other worker hears of the
/// stop, whoever the bell was rung for.
fn stop_beside_a_wait(seen: &Seen) {
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    // Other work is outstanding, so nobody goes home for want of it.
    port.enter();
    let object = port.open(0);
    let waited = Once::default();
    port.port.post({
        let waited = waited.clone();
        move || waited.happen(object.taking(1).wait().is_ok())
    });
    let both = workers(&port, 2);
    port.port.stop();
    port.arrive(0, 1);
    match join(both) {
        0 => seen.saw("never began"),
        _ => {
            assert!(waited.how());
            seen.saw("served");
        }
    }
    port.cross_off();
}

#[test]
fn a_handler_that_waits_is_served_beside_a_stop() {
    model(
        "a_handler_that_waits_is_served_beside_a_stop",
        &["never began", "served"],
        stop_beside_a_wait,
    );
}

#[test]
fn mutant_a_waiter_is_stopped_within_its_handler() {
    kills(
        "waiter-is-halted",
        "a_handler_that_waits_is_served_beside_a_stop",
    );
}

#[test]
fn mutant_a_waiter_keeps_the_stop_to_itself() {
    kills(
        "waiter-keeps-the-stop",
        "a_handler_that_waits_is_served_beside_a_stop",
    );
}
