//! Strands: one handler at a time, none lost, in order, on any worker, also after a panic, and to a clean end.
#![cfg(proactor_loom)]

use std::sync::Arc;

use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::model::{ModelPort, Witness};
use proactor::{Strand, Strategy};

/// A state that two threads must never touch without an order between them, and the numbers of those who came.
#[derive(Default)]
struct State {
    witness: Witness,
    came: Vec<usize>,
}

impl State {
    fn come(&mut self, number: usize) {
        self.witness.touch();
        self.came.push(number);
    }
}

fn strand(port: &ModelPort) -> Strand<State> {
    Strand::new(&port.port, State::default())
}

/// The state, when nothing is outstanding.
fn state(strand: Strand<State>) -> State {
    strand.try_into_inner().expect("nothing is queued")
}

/// Two workers; both handlers of an operation and of a call want the strand, one by entering it, one by its queue.
fn enter_against_post(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 0);
    let strand = strand(&port);
    for number in 0..2 {
        let mine = strand.clone();
        port.port.post(move || {
            let there = thread::current().id();
            mine.dispatch(move |state| {
                state.come(number);
                state.come(if thread::current().id() == there {
                    2
                } else {
                    3
                });
            });
        });
    }
    let other = workers(&port, 1);
    let ran = port.work() + join(other);
    let came = state(strand).came;
    assert_eq!(came.len(), 4);
    seen.saw(if ran == 2 {
        "both entered"
    } else {
        "one was queued"
    });
}

#[test]
fn a_strand_is_entered_by_one_at_a_time() {
    model(
        "a_strand_is_entered_by_one_at_a_time",
        &["both entered", "one was queued"],
        enter_against_post,
    );
}

#[test]
fn mutant_a_line_is_looked_at_and_then_taken() {
    kills(
        "line-looked-at-then-taken",
        "a_strand_is_entered_by_one_at_a_time",
    );
}

/// A worker runs the strand's only call, and lets it go, while another is posted; which has seen what came before its post.
fn drain_against_enqueue(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let strand = strand(&port);
    strand.post(|state| state.come(0));
    let worker = workers(&port, 1);
    let before = Arc::new(Witness::default());
    before.touch();
    strand.post(move |state| {
        before.touch();
        state.come(1);
    });
    let early = join(worker);
    let ran = early + port.work();
    assert_eq!(ran, 2, "one was lost");
    assert_eq!(state(strand).came, [0, 1]);
    seen.saw(if early == 2 {
        "in one run"
    } else {
        "in two runs"
    });
}

#[test]
fn what_joins_as_a_strand_falls_free_is_run() {
    model(
        "what_joins_as_a_strand_falls_free_is_run",
        &["in one run", "in two runs"],
        drain_against_enqueue,
    );
}

#[test]
fn mutant_a_line_is_freed_unseen() {
    kills(
        "line-freed-unseen",
        "what_joins_as_a_strand_falls_free_is_run",
    );
}

/// Two workers, and three calls, the last of which is posted meanwhile: they come in the order of posting, whoever runs which.
fn order_across_workers(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 0);
    let strand = strand(&port);
    for number in 0..2 {
        strand.post(move |state| state.come(number));
    }
    let other = workers(&port, 1);
    strand.post(move |state| state.come(2));
    let here = port.work();
    let there = join(other);
    assert_eq!(here + there, 3);
    assert_eq!(state(strand).came, [0, 1, 2]);
    seen.saw(if here % 3 == 0 {
        "one ran all"
    } else {
        "each ran some"
    });
}

#[test]
fn a_strand_keeps_its_order_on_any_worker() {
    model(
        "a_strand_keeps_its_order_on_any_worker",
        &["one ran all", "each ran some"],
        order_across_workers,
    );
}

#[test]
fn mutant_the_youngest_comes_first() {
    kills(
        "line-youngest-first",
        "a_strand_keeps_its_order_on_any_worker",
    );
}

/// The first of two calls panics, and takes its worker with it: the other one runs the second.
fn panic_against_the_next(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 0);
    let strand = strand(&port);
    strand.post(|state| {
        state.come(0);
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    let other = workers(&port, 1);
    strand.post(|state| state.come(1));
    let here = port.work();
    assert_eq!(here + join(other), 2, "the second was left behind");
    assert_eq!(port.port.outstanding(), 0);
    assert_eq!(state(strand).came, [0, 1]);
    assert_eq!(here, 1, "who panicked went on");
    seen.saw("one each");
}

#[test]
fn a_panic_leaves_a_strand_to_the_next() {
    model(
        "a_panic_leaves_a_strand_to_the_next",
        &["one each"],
        panic_against_the_next,
    );
}

#[test]
fn mutant_a_strand_is_wedged_by_a_panic() {
    kills(
        "strand-wedged-by-panic",
        "a_panic_leaves_a_strand_to_the_next",
    );
}

/// Two workers, and two operations of one direction that are due one after the other: they come to the strand in that order.
fn end_in_order(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let strand = strand(&port);
    let object = port.open(0);
    for number in 0..2 {
        let taking = object.taking(1).on(&strand);
        taking.then(move |state, result| {
            assert!(result.is_ok());
            state.come(number);
        });
    }
    let other = workers(&port, 1);
    port.arrive(0, 2);
    let here = port.work();
    let there = join(other);
    assert_eq!(here + there, 2);
    drop(object);
    assert_eq!(state(strand).came, [0, 1]);
    seen.saw(format!("{here} here"));
}

#[test]
fn what_ends_in_order_joins_a_strand_in_order() {
    model(
        "what_ends_in_order_joins_a_strand_in_order",
        &["0 here", "1 here", "2 here"],
        end_in_order,
    );
}

#[test]
fn mutant_a_direction_is_let_go_before_its_operation_has_joined() {
    kills(
        "next-before-joined",
        "what_ends_in_order_joins_a_strand_in_order",
    );
}

/// Tells when it is dropped uncalled.
struct Tell(Once<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.happen(self.1);
    }
}

/// Calls are posted to a strand, and to one whose handle is gone then, while the proactor is dropped: each is dropped, once.
fn post_against_drop(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = port.proactor();
    let ends: [Once<&'static str>; 3] = Default::default();
    let strand = strand(&port);
    let tell = |number: usize| Tell(ends[number].clone(), "dropped");
    let (first, second, third) = (tell(0), tell(1), tell(2));
    strand.post(move |_| drop(first));
    let poster = thread::spawn(move || {
        strand.post(move |_| drop(second));
        strand.post(move |_| drop(third));
    });
    drop(proactor);
    poster.join().expect("it posts");
    for end in ends {
        assert_eq!(end.how(), "dropped");
    }
    assert_eq!(port.port.outstanding(), 0);
    seen.saw("dropped");
}

#[test]
fn what_is_queued_in_a_strand_goes_with_the_proactor() {
    model(
        "what_is_queued_in_a_strand_goes_with_the_proactor",
        &["dropped"],
        post_against_drop,
    );
}

#[test]
fn mutant_a_call_is_dropped_alone() {
    kills(
        "strand-dropped-alone",
        "what_is_queued_in_a_strand_goes_with_the_proactor",
    );
}

/// A worker runs a strand's call and lets it go, while another is posted and then the only handle dropped: the state goes, once, with
/// whoever comes last.
fn last_call_against_last_handle(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let end: Once<&'static str> = Once::default();
    let strand = Strand::new(&port.port, Tell(end.clone(), "gone"));
    strand.post(|_| ());
    let worker = workers(&port, 1);
    strand.post(|_| ());
    drop(strand);
    let early = join(worker);
    assert_eq!(early + port.work(), 2, "one was lost");
    assert_eq!(end.how(), "gone");
    seen.saw(if early == 2 {
        "in one run"
    } else {
        "in two runs"
    });
}

#[test]
fn a_strand_goes_with_its_last_call() {
    model(
        "a_strand_goes_with_its_last_call",
        &["in one run", "in two runs"],
        last_call_against_last_handle,
    );
}

#[test]
fn mutant_a_strand_keeps_itself() {
    kills("strand-keeps-itself", "a_strand_goes_with_its_last_call");
}
