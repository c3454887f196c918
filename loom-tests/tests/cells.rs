//! Cells that serve again: each tenant sees the end of the last, and a key of the last is nothing to the next.
//! The other models have recycling off, since a cell that was somebody's carries causality that would hide their races.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, model_at, port, workers};
use proactor::model::{Calls, ModelPort, recycle};
use proactor::{CancelOutcome, Strategy};
use std::sync::Arc;
use std::time::Duration;

/// Cells go from the thread that posts to the one that runs, and back by the depot, a magazine at a time.
fn cells_come_back(seen: &Seen) {
    recycle(true);
    let calls = Arc::new(Calls::new());
    for _ in 0..3 {
        calls.push(|| ());
    }
    let runner = {
        let calls = Arc::clone(&calls);
        thread::spawn(move || while calls.pop() {})
    };
    let before = calls.slabs();
    calls.push(|| ());
    calls.push(|| ());
    seen.saw(match calls.slabs() - before {
        0 => "both served before",
        1 => "one served before",
        _ => "both new",
    });
    runner.join().expect("it runs them");
    while calls.pop() {}
}

#[test]
fn a_cell_that_serves_again_was_let_go_before() {
    model(
        "a_cell_that_serves_again_was_let_go_before",
        &["both served before", "one served before", "both new"],
        cells_come_back,
    );
}

#[test]
fn mutant_the_depot_is_not_locked() {
    kills(
        "depot-unlocked",
        "a_cell_that_serves_again_was_let_go_before",
    );
}

/// A key is used while its operation ends and another operation gets the same cell.
fn old_key_new_tenant(seen: &Seen) {
    recycle(true);
    let port = port(Strategy::Single, 1, 2, 1);
    let object = Arc::new(port.open(0));
    let output = Once::default();
    port.arrive(0, 1);
    let key = object.take(1, {
        let (object, output) = (Arc::clone(&object), output.clone());
        move |result| {
            assert!(result.is_ok(), "it was done when its key came back");
            object.take(1, move |result| output.happen(result.is_ok()));
        }
    });
    let worker = workers(&port, 1);
    assert_eq!(port.port.cancel(key), CancelOutcome::TooLate);
    port.arrive(0, 1);
    assert_eq!(join(worker), 2);
    assert!(output.how(), "another operation was cancelled");
    seen.saw("too late");
}

#[test]
fn an_old_key_is_nothing_to_the_next_tenant() {
    model(
        "an_old_key_is_nothing_to_the_next_tenant",
        &["too late"],
        old_key_new_tenant,
    );
}

#[test]
fn mutant_a_cell_keeps_its_generation() {
    kills(
        "free-keeps-generation",
        "an_old_key_is_nothing_to_the_next_tenant",
    );
}

/// A key is used while its operation ends, and its cell becomes a timer's: the canceller may look at the timer's place, and at
/// nothing that the timer's maker still writes. Three preemptions deep: with fewer the maker is never cut short there.
fn late_key(seen: &Seen) {
    recycle(true);
    let port = port(Strategy::Single, 1, 2, 1);
    let object = port.open(0);
    let key = object.take(1, {
        let port = port.port.clone();
        move |_| {
            port.sleep(Duration::from_secs(1)).then(|_| ());
        }
    });
    let canceller = {
        let port = port.port.clone();
        thread::spawn(move || port.cancel(key))
    };
    port.arrive(0, 1);
    assert_eq!(port.work_some(1), 1);
    seen.saw(format!("{:?}", canceller.join().expect("it cancels")));
    port.port.close();
    port.work();
}

#[test]
fn a_key_that_is_late_reads_no_other_tenants_body() {
    model_at(
        3,
        "a_key_that_is_late_reads_no_other_tenants_body",
        &["Requested", "TooLate"],
        late_key,
    );
}

/// The last piece of work is run by a thread that holds nothing else of the port, while the port goes.
fn last_of_a_home(seen: &Seen) {
    let port = ModelPort::by_hand(1, 0);
    port.port.post(|| ());
    let last = port.port.take().expect("it was posted");
    let runner = thread::spawn(move || assert!(last.run()));
    let left = port.port.outstanding();
    drop(port);
    runner.join().expect("it runs");
    seen.saw(format!("{left} left"));
}

#[test]
fn a_home_outlives_the_last_of_its_work() {
    model(
        "a_home_outlives_the_last_of_its_work",
        &["0 left", "1 left"],
        last_of_a_home,
    );
}

#[test]
fn mutant_a_home_is_not_kept() {
    kills("home-not-kept", "a_home_outlives_the_last_of_its_work");
}
