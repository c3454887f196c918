//! The whole proactor: threads in the background, restart, shutdown, drop, and waiting for one output.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, model_at, port, workers};
use proactor::model::{spurious, ticks};
use proactor::{Completer, Strategy};
use std::sync::Arc;
use std::time::Instant;

/// Tells when it is dropped.
struct Tell(Once<&'static str>, &'static str);

impl Tell {
    /// How a call that holds this ended: `run` from within, else dropped uncalled.
    fn new(once: &Once<&'static str>) -> Self {
        Self(once.clone(), "dropped")
    }

    fn run(mut self) {
        self.1 = "run";
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.happen(self.1);
    }
}

/// A worker in the background is late for a stop: it is restarted before the worker has seen that.
fn restart_against_late_worker(seen: &Seen) {
    spurious(1);
    let proactor = port(Strategy::LeaderFollowers, 1, 2, 0).proactor();
    proactor.start().expect("threads");
    proactor.stop();
    proactor.restart();
    let done = Wait::default();
    proactor.post({
        let done = done.clone();
        move || done.happen()
    });
    done.wait();
    drop(proactor);
    seen.saw("it came back");
}

#[test]
fn a_worker_that_is_late_for_a_stop_runs_after_the_restart() {
    model(
        "a_worker_that_is_late_for_a_stop_runs_after_the_restart",
        &["it came back"],
        restart_against_late_worker,
    );
}

#[test]
fn mutant_a_restart_calls_nobody() {
    kills(
        "restart-calls-nobody",
        "a_worker_that_is_late_for_a_stop_runs_after_the_restart",
    );
}

/// `run` starts a thread for the second place; a handler polls nested, and then waits for what the nested handler left behind.
fn nested_poll(seen: &Seen) {
    let proactor = Arc::new(port(Strategy::LeaderFollowers, 2, 2, 0).proactor());
    let done = Wait::default();
    let nested = Once::default();
    proactor.post({
        let (proactor, done, nested) = (Arc::clone(&proactor), done.clone(), nested.clone());
        move || {
            nested.happen(proactor.poll_one());
            done.wait();
        }
    });
    proactor.post({
        let port = proactor.port().clone();
        move || port.defer(move || done.happen())
    });
    proactor.run();
    seen.saw(match nested.how() {
        0 => "the other ran it",
        _ => "nested",
    });
    assert_eq!(proactor.port().outstanding(), 0);
}

#[test]
fn a_nested_poll_leaves_nothing_behind() {
    model(
        "a_nested_poll_leaves_nothing_behind",
        &["the other ran it", "nested"],
        nested_poll,
    );
}

#[test]
fn mutant_a_nested_poll_keeps_its_turn() {
    kills(
        "leave-keeps-its-turn",
        "a_nested_poll_leaves_nothing_behind",
    );
}

/// A shutdown whose deadline has passed meets data that arrive, and a worker that attempts. The operation's memory outlives the
/// attempt (`Move::finish` touches it, as the kernel does), and its handler learns how it ended.
fn shutdown_against_data(seen: &Seen) {
    let model = port(Strategy::LeaderFollowers, 1, 2, 1);
    let proactor = model.proactor();
    let object = model.open(0);
    let (read, posted) = (Once::default(), Once::default());
    object.take(1, {
        let read = read.clone();
        move |result| read.happen(result.is_ok())
    });
    proactor.start().expect("threads");
    proactor.post({
        let tell = Tell::new(&posted);
        move || tell.run()
    });
    let data = {
        let model = model.clone();
        thread::spawn(move || model.arrive(0, 1))
    };
    let report = proactor.shutdown(Instant::now());
    data.join().expect("they arrive");
    assert_eq!(report.left, 0, "something was left");
    assert_eq!(posted.how(), "run");
    seen.saw(if read.how() { "done" } else { "cancelled" });
    drop(object);
    assert_eq!(model.closed(), [0]);
}

#[test]
fn a_shutdown_gives_every_operation_its_handler() {
    model(
        "a_shutdown_gives_every_operation_its_handler",
        &["done", "cancelled"],
        shutdown_against_data,
    );
}

#[test]
fn mutant_a_shutdown_leaves_at_once() {
    kills(
        "shutdown-leaves-at-once",
        "a_shutdown_gives_every_operation_its_handler",
    );
}

/// A handler drops the proactor while another thread of it works, or sleeps. What is left is dropped uncalled, once.
fn drop_in_handler(seen: &Seen, workers: usize) {
    let proactor = port(Strategy::LeaderFollowers, workers, 2, 0).proactor();
    proactor.start().expect("threads");
    let (first, second) = (Once::default(), Once::default());
    let (gone, left) = (Wait::default(), Tell::new(&second));
    let port = proactor.port().clone();
    port.post({
        let (tell, gone) = (Tell::new(&first), gone.clone());
        move || {
            drop(proactor);
            tell.run();
            gone.happen();
        }
    });
    port.post(move || left.run());
    gone.wait();
    assert_eq!(first.how(), "run");
    drop(port);
    seen.saw("gone");
}

#[test]
fn a_handler_may_drop_the_proactor() {
    model("a_handler_may_drop_the_proactor", &["gone"], |seen| {
        drop_in_handler(seen, 1);
    });
}

#[test]
fn a_handler_may_drop_the_proactor_of_two() {
    model_at(
        1,
        "a_handler_may_drop_the_proactor_of_two",
        &["gone"],
        |seen| {
            drop_in_handler(seen, 2);
        },
    );
}

#[test]
fn mutant_what_is_left_of_two_stays() {
    kills("late-push-stays", "a_handler_may_drop_the_proactor_of_two");
}

#[test]
fn mutant_a_proactor_joins_itself() {
    kills("drop-joins-itself", "a_handler_may_drop_the_proactor");
}

/// A call is posted, and an operation submitted, while the proactor is dropped: each is dropped uncalled then, not when the last
/// clone of the port goes.
fn submit_against_drop(seen: &Seen) {
    let model = port(Strategy::LeaderFollowers, 1, 2, 1);
    let proactor = model.proactor();
    let object = model.open(0);
    let (posted, read) = (Once::default(), Once::default());
    let poster = {
        let (model, post, take) = (model.clone(), Tell::new(&posted), Tell::new(&read));
        thread::spawn(move || {
            model.port.post(move || post.run());
            object.take(1, move |_| take.run());
            object
        })
    };
    drop(proactor);
    let object = poster.join().expect("it posts");
    assert_eq!((posted.how(), read.how()), ("dropped", "dropped"));
    seen.saw("dropped");
    drop(object);
}

/// A call is posted while the proactor is dropped and a worker leaves: it is run or dropped, and never left behind.
fn post_beside_a_leaving_worker(seen: &Seen) {
    let model = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = model.proactor();
    // Other work is outstanding, so the worker leaves for the end alone.
    model.enter();
    let worker = workers(&model, 1);
    let posted = Once::default();
    let poster = {
        let (model, post) = (model.clone(), Tell::new(&posted));
        thread::spawn(move || model.port.post(move || post.run()))
    };
    drop(proactor);
    poster.join().expect("it posts");
    join(worker);
    seen.saw(posted.how());
    model.cross_off();
}

#[test]
fn what_is_posted_beside_a_leaving_worker_is_not_left_behind() {
    model(
        "what_is_posted_beside_a_leaving_worker_is_not_left_behind",
        &["run", "dropped"],
        post_beside_a_leaving_worker,
    );
}

#[test]
fn mutant_a_place_is_left_undrained() {
    kills(
        "place-left-undrained",
        "what_is_posted_beside_a_leaving_worker_is_not_left_behind",
    );
}

/// A handler waits, and so has the only place, for what another thread completes while the proactor is dropped.
fn output_after_the_end(seen: &Seen) {
    ticks(usize::MAX);
    let model = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = model.proactor();
    let waited = Once::default();
    model.port.post({
        let (port, tell) = (model.port.clone(), Tell::new(&waited));
        move || {
            let composed = port.compose(|completer: Completer<()>| {
                thread::spawn(move || completer.complete(Ok(())));
            });
            // Completed, or closed before it began.
            drop(composed.wait());
            tell.run();
        }
    });
    let worker = workers(&model, 1);
    drop(proactor);
    join(worker);
    seen.saw(waited.how());
}

#[test]
fn a_handler_that_waits_has_what_comes_after_the_end() {
    model(
        "a_handler_that_waits_has_what_comes_after_the_end",
        &["run", "dropped"],
        output_after_the_end,
    );
}

#[test]
fn mutant_the_end_calls_no_waiter() {
    kills(
        "end-calls-no-waiter",
        "a_handler_that_waits_has_what_comes_after_the_end",
    );
}

#[test]
fn what_is_submitted_during_the_drop_is_dropped() {
    model(
        "what_is_submitted_during_the_drop_is_dropped",
        &["dropped"],
        submit_against_drop,
    );
}

#[test]
fn mutant_what_is_posted_late_stays() {
    kills(
        "late-push-stays",
        "what_is_submitted_during_the_drop_is_dropped",
    );
}

/// A thread waits for an output, alone at first; then a newcomer may take its event and deliver its output.
fn wait_against_newcomer(seen: &Seen, seats: usize) {
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 2, seats, 1);
    port.enter();
    let object = port.open(0);
    let others = workers(&port, 1);
    let data = {
        let port = port.clone();
        thread::spawn(move || port.arrive(0, 1))
    };
    assert_eq!(object.taking(1).wait().expect("a unit"), 1);
    data.join().expect("they arrive");
    port.cross_off();
    seen.saw(match join(others) {
        1 => "delivered by the other",
        _ => "found alone",
    });
    assert!(port.is_quiet(), "somebody is still counted");
    drop(object);
}

#[test]
fn a_waiter_that_is_no_longer_alone_is_told() {
    model(
        "a_waiter_that_is_no_longer_alone_is_told",
        &["delivered by the other", "found alone"],
        |seen| wait_against_newcomer(seen, 2),
    );
}

/// With one seat the waiter may be parked when its output is delivered.
#[test]
fn a_waiter_that_is_parked_looks_again() {
    model(
        "a_waiter_that_is_parked_looks_again",
        &["delivered by the other", "found alone"],
        |seen| wait_against_newcomer(seen, 1),
    );
}

#[test]
fn mutant_a_parked_waiter_keeps_its_watch() {
    kills("watch-kept", "a_waiter_that_is_parked_looks_again");
}

#[test]
fn mutant_an_output_rings_nobody() {
    kills(
        "output-rings-nobody",
        "a_waiter_that_is_no_longer_alone_is_told",
    );
}

/// A thread waits for an output while the only place is another worker's: as a guest, until that one delivers or leaves.
fn wait_as_guest(seen: &Seen) {
    spurious(1);
    ticks(usize::MAX);
    let port = port(Strategy::LeaderFollowers, 1, 2, 1);
    port.enter();
    let object = port.open(0);
    let other = workers(&port, 1);
    port.arrive(0, 1);
    assert_eq!(object.taking(1).wait().expect("a unit"), 1);
    port.cross_off();
    seen.saw(match join(other) {
        0 => "found here",
        _ => "found there",
    });
    drop(object);
}

#[test]
fn an_output_that_another_delivers_is_seen() {
    model(
        "an_output_that_another_delivers_is_seen",
        &["found here", "found there"],
        wait_as_guest,
    );
}

#[test]
fn mutant_an_output_calls_nobody() {
    kills(
        "output-calls-nobody",
        "an_output_that_another_delivers_is_seen",
    );
}

/// Two threads wait for a place while the only worker is in a handler that waits for them; a stop sends them home.
fn stop_against_guests(seen: &Seen) {
    let proactor = Arc::new(port(Strategy::LeaderFollowers, 1, 2, 0).proactor());
    let (begun, home) = (Wait::default(), [Wait::default(), Wait::default()]);
    proactor.post({
        let (begun, home) = (begun.clone(), home.clone());
        move || {
            begun.happen();
            home.iter().for_each(Wait::wait);
        }
    });
    let worker = {
        let proactor = Arc::clone(&proactor);
        thread::spawn(move || proactor.run())
    };
    begun.wait();
    let guests = home.map(|home| {
        let proactor = Arc::clone(&proactor);
        thread::spawn(move || {
            assert_eq!(proactor.run(), 0);
            home.happen();
        })
    });
    proactor.stop();
    for guest in guests {
        guest.join().expect("it returns");
    }
    assert_eq!(worker.join().expect("it returns"), 1);
    seen.saw("all returned");
}

#[test]
fn a_stop_sends_guests_home() {
    model(
        "a_stop_sends_guests_home",
        &["all returned"],
        stop_against_guests,
    );
}

/// A worker leaves with work undone; of two guests one waits for its place, and the other, a shutdown, for the end.
fn place_against_guests(seen: &Seen) {
    spurious(1);
    let model = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = Arc::new(model.proactor());
    let runs: [Once<()>; 2] = Default::default();
    for run in runs.clone() {
        proactor.post(move || run.happen(()));
    }
    let leaver = thread::spawn(move || model.work_some(1));
    let shutdown = {
        let proactor = Arc::clone(&proactor);
        let later = Instant::now() + std::time::Duration::from_secs(3600);
        thread::spawn(move || proactor.shutdown(later))
    };
    let here = proactor.run();
    let there = leaver.join().expect("it returns");
    let report = shutdown.join().expect("it returns");
    assert_eq!(here + there + report.ran, 2);
    runs.iter().for_each(Once::how);
    seen.saw(format!("{there} by who left"));
}

#[test]
fn a_place_that_is_left_is_taken() {
    // With fewer preemptions the shutdown is never the first to wait.
    model_at(
        3,
        "a_place_that_is_left_is_taken",
        &["0 by who left", "1 by who left"],
        place_against_guests,
    );
}
