//! Permits: no more handlers begin than may, and one that is free is taken while there is work.
#![cfg(proactor_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, model_at};
use proactor::model::ModelPort;
use proactor::{Strategy, blocking_section};

/// Something that has happened or not, beside what loom sees.
#[derive(Clone, Debug, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How many handlers run, beside what loom sees.
#[derive(Clone, Debug, Default)]
struct Running {
    now: Arc<AtomicUsize>,
    /// More than one was seen. A handler's panic would be its worker's.
    two: Flag,
}

impl Running {
    /// A handler runs, with a chance for others.
    fn one(&self) {
        if self.now.fetch_add(1, Ordering::SeqCst) > 0 {
            self.two.raise();
        }
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread that works for `port` until it has run `limit` handlers.
fn worker(port: &ModelPort, limit: usize) -> thread::JoinHandle<usize> {
    let port = port.clone();
    thread::spawn(move || port.work_some(limit))
}

/// Two workers, and one handler at a time: of two calls, one of which posts a third.
fn one_at_a_time(seen: &Seen, strategy: Strategy) {
    let port = ModelPort::with_permits(strategy, 2, 1, 2, 0);
    let (running, by) = (Running::default(), Once::default());
    port.port.post({
        let (port, running, by) = (port.port.clone(), running.clone(), by.clone());
        move || {
            by.happen(thread::current().id());
            let again = running.clone();
            port.post(move || again.one());
            running.one();
        }
    });
    port.port.post({
        let running = running.clone();
        move || running.one()
    });
    let other = worker(&port, usize::MAX);
    assert_eq!(port.work() + join(vec![other]), 3);
    assert!(!running.two.is_up(), "two handlers run, and one may");
    assert!(port.is_quiet(), "somebody is still counted");
    let here = by.how() == thread::current().id();
    seen.saw(if here {
        "by this worker"
    } else {
        "by the other"
    });
}

#[test]
fn no_more_handlers_run_than_may() {
    model(
        "no_more_handlers_run_than_may",
        &["by this worker", "by the other"],
        |seen| one_at_a_time(seen, Strategy::LeaderFollowers),
    );
}

#[test]
fn no_more_handlers_run_than_may_where_they_are_stolen() {
    model(
        "no_more_handlers_run_than_may_where_they_are_stolen",
        &["by this worker", "by the other"],
        |seen| one_at_a_time(seen, Strategy::WorkStealing),
    );
}

#[test]
fn mutant_a_permit_is_taken_unasked() {
    kills("permit-unasked", "no_more_handlers_run_than_may");
}

#[test]
fn mutant_a_permit_is_taken_unasked_where_handlers_are_stolen() {
    kills(
        "permit-unasked",
        "no_more_handlers_run_than_may_where_they_are_stolen",
    );
}

/// The handler that runs blocks in a section until another one has run, which is posted from outside meanwhile. The second worker
/// sits, or is about to.
fn section_against_post(seen: &Seen) {
    let port = ModelPort::with_permits(Strategy::LeaderFollowers, 2, 1, 2, 0);
    let (done, posted) = (Wait::default(), Flag::default());
    port.port.post({
        let (done, posted, seen) = (done.clone(), posted.clone(), seen.clone());
        move || {
            let before = posted.is_up();
            seen.saw(if before {
                "posted before"
            } else {
                "posted within"
            });
            blocking_section(|| done.wait());
        }
    });
    let workers = vec![worker(&port, 1), worker(&port, 1)];
    port.port.post(move || done.happen());
    posted.raise();
    assert_eq!(join(workers), 2);
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn a_permit_that_is_given_back_is_taken_by_who_sits() {
    model(
        "a_permit_that_is_given_back_is_taken_by_who_sits",
        &["posted before", "posted within"],
        section_against_post,
    );
}

#[test]
fn mutant_a_section_tells_nobody_who_sits() {
    kills(
        "section-tells-nobody",
        "a_permit_that_is_given_back_is_taken_by_who_sits",
    );
}

#[test]
fn mutant_a_waker_does_not_fence_before_the_permits() {
    kills(
        "permit-waker-fence",
        "a_permit_that_is_given_back_is_taken_by_who_sits",
    );
}

#[test]
fn mutant_who_gives_a_permit_back_does_not_fence() {
    kills(
        "permit-return-fence",
        "a_permit_that_is_given_back_is_taken_by_who_sits",
    );
}

/// Three workers, of whom one sits and one is parked. The third one's handler posts another, and blocks in a section until that
/// has run; with `most` of 2 it posts two, and the first waits for the second without a section.
fn section_of_three(seen: &Seen, most: usize) {
    let port = ModelPort::with_permits(Strategy::LeaderFollowers, 3, most, 1, 0);
    let by = Once::default();
    port.port.post({
        let (port, by) = (port.clone(), by.clone());
        move || {
            while port.asleep() < 2 {
                thread::yield_now();
            }
            let (done, last) = (Wait::default(), Wait::default());
            port.port.post({
                let (done, last) = (done.clone(), last.clone());
                move || {
                    by.happen(thread::current().id());
                    if most > 1 {
                        last.wait();
                    }
                    done.happen();
                }
            });
            if most > 1 {
                port.port.post(move || last.happen());
            }
            blocking_section(|| done.wait());
        }
    });
    let others = vec![worker(&port, usize::MAX), worker(&port, usize::MAX)];
    let second = others[1].thread().id();
    assert_eq!(port.work() + join(others), 1 + most);
    assert!(port.is_quiet(), "somebody is still counted");
    let parked = by.how() == second;
    seen.saw(if parked {
        "the last to come"
    } else {
        "another"
    });
}

const WHO: [&str; 2] = ["the last to come", "another"];

#[test]
fn a_permit_that_is_given_back_is_taken_by_who_is_parked() {
    model_at(
        1,
        "a_permit_that_is_given_back_is_taken_by_who_is_parked",
        &WHO,
        |seen| section_of_three(seen, 1),
    );
}

#[test]
fn mutant_a_section_tells_nobody_who_is_parked() {
    kills(
        "section-tells-nobody",
        "a_permit_that_is_given_back_is_taken_by_who_is_parked",
    );
}

#[test]
fn two_permits_are_taken_while_there_is_work() {
    model_at(
        1,
        "two_permits_are_taken_while_there_is_work",
        &WHO,
        |seen| section_of_three(seen, 2),
    );
}

#[test]
fn mutant_the_last_to_search_keeps_the_second_permit_free() {
    kills(
        "last-searcher-keeps-quiet",
        "two_permits_are_taken_while_there_is_work",
    );
}

/// A worker that was denied has taken an event's operation, whose handler another one waits for in a section.
fn reaped_without_permit(seen: &Seen, strategy: Strategy) {
    let port = ModelPort::with_permits(strategy, 2, 1, 2, 1);
    let object = port.open(0);
    let (done, events) = (Wait::default(), object.clone());
    port.port.post({
        let (port, done, seen) = (port.clone(), done.clone(), seen.clone());
        move || {
            port.arrive(0, 1);
            thread::yield_now();
            let reaped = events.events() > 0;
            seen.saw(if reaped {
                "reaped before"
            } else {
                "reaped within"
            });
            blocking_section(|| done.wait());
        }
    });
    object.take(1, move |_| done.happen());
    let other = worker(&port, 1);
    assert_eq!(port.work_some(1) + join(vec![other]), 2);
    assert!(port.is_quiet(), "somebody is still counted");
    drop(object);
}

#[test]
fn what_is_reaped_without_a_permit_is_for_whoever_has_one() {
    model(
        "what_is_reaped_without_a_permit_is_for_whoever_has_one",
        &["reaped before", "reaped within"],
        |seen| reaped_without_permit(seen, Strategy::WorkStealing),
    );
}

#[test]
fn mutant_who_is_denied_keeps_its_turn() {
    kills(
        "denied-keeps-its-turn",
        "what_is_reaped_without_a_permit_is_for_whoever_has_one",
    );
}

/// A handler that has the only permit waits, without a section, for a call to the other worker alone.
fn call_against_permit(seen: &Seen) {
    let port = ModelPort::with_permits(Strategy::LeaderFollowers, 2, 1, 2, 0);
    port.prepare_calls();
    port.port.post({
        let (port, seen) = (port.port.clone(), seen.clone());
        move || {
            let done = Wait::default();
            let mine = port.worker_index().expect("a worker runs it");
            let call = {
                let done = done.clone();
                move || done.happen()
            };
            port.post_to(1 - mine, call).expect("there are two");
            done.wait();
            seen.saw(if mine == 0 {
                "by the first"
            } else {
                "by the second"
            });
        }
    });
    let other = worker(&port, 1);
    assert_eq!((port.work_some(1), join(vec![other])), (1, 1));
    assert!(port.is_quiet(), "somebody is still counted");
}

#[test]
fn a_call_to_a_worker_without_a_permit_is_made() {
    model(
        "a_call_to_a_worker_without_a_permit_is_made",
        &["by the first", "by the second"],
        call_against_permit,
    );
}

#[test]
fn mutant_a_call_waits_for_a_permit() {
    kills(
        "call-waits-for-permit",
        "a_call_to_a_worker_without_a_permit_is_made",
    );
}

/// Two workers leave after a handler each: the second has to wait for the first one's permit.
fn leave_against_denied(seen: &Seen) {
    let port = ModelPort::with_permits(Strategy::LeaderFollowers, 2, 1, 2, 0);
    let running = Running::default();
    for _ in 0..2 {
        let running = running.clone();
        port.port.post(move || running.one());
    }
    let other = worker(&port, 1);
    assert_eq!((port.work_some(1), join(vec![other])), (1, 1));
    assert!(!running.two.is_up(), "two handlers run, and one may");
    seen.saw("one each");
}

#[test]
fn a_permit_of_a_worker_that_leaves_is_taken() {
    model(
        "a_permit_of_a_worker_that_leaves_is_taken",
        &["one each"],
        leave_against_denied,
    );
}

#[test]
fn mutant_a_worker_leaves_with_its_permit() {
    kills(
        "leave-keeps-permit",
        "a_permit_of_a_worker_that_leaves_is_taken",
    );
}

/// A handler comes back from a section while another one runs in its stead. When that one ends, a third may not begin before the
/// first has ended, too.
fn return_against_next(seen: &Seen) {
    let port = ModelPort::with_permits(Strategy::LeaderFollowers, 2, 1, 2, 0);
    let begun = Wait::default();
    let (back, ended, beside, three) = (
        Flag::default(),
        Flag::default(),
        Flag::default(),
        Flag::default(),
    );
    port.port.post({
        let (begun, back, ended) = (begun.clone(), back.clone(), ended.clone());
        move || {
            blocking_section(|| begun.wait());
            back.raise();
            thread::yield_now();
            ended.raise();
        }
    });
    port.port.post({
        let (ended, beside) = (ended.clone(), beside.clone());
        move || {
            begun.happen();
            thread::yield_now();
            if back.is_up() && !ended.is_up() {
                beside.raise();
            }
        }
    });
    port.port.post({
        let (beside, three) = (beside.clone(), three.clone());
        move || {
            if beside.is_up() && !ended.is_up() {
                three.raise();
            }
        }
    });
    let other = worker(&port, usize::MAX);
    assert_eq!(port.work() + join(vec![other]), 3);
    assert!(!three.is_up(), "a handler began though one too many ran");
    seen.saw(if beside.is_up() {
        "one too many for a moment"
    } else {
        "one at a time"
    });
}

#[test]
fn nobody_begins_while_one_too_many_runs() {
    model(
        "nobody_begins_while_one_too_many_runs",
        &["one too many for a moment", "one at a time"],
        return_against_next,
    );
}

#[test]
fn mutant_a_surplus_is_kept() {
    kills("surplus-kept", "nobody_begins_while_one_too_many_runs");
}

#[test]
fn mutant_a_handler_goes_on_without_a_permit() {
    kills(
        "section-takes-none",
        "nobody_begins_while_one_too_many_runs",
    );
}
