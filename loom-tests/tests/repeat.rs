//! Operations that repeat: what comes during a turn, who asks them to end, and what waits behind them.
#![cfg(proactor_loom)]

#[path = "repeat/course.rs"]
mod course;

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use course::{CAME, Course, cancel, close};
use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::model::{Answer, ModelObject, ModelPort};
use proactor::{Batch, ErrorKind, OperationKey, Strategy};

fn end_at_two(turns: &[usize]) -> Answer {
    match turns.iter().sum() {
        2 => Answer::End,
        _ => Answer::Nothing,
    }
}

/// Units arrive one after the other, and are told of by this thread while a worker is in a turn: none must be lost.
fn event_during_turn(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = port.open(0);
    let course = Course::default();
    course.begin(course.of(&object, 8, end_at_two));
    assert_eq!(port.poll(), 0, "it waits, and is armed");
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    port.arrive(0, 1);
    port.poll();
    join(worker);
    assert_eq!(course.ended.how(), (None, 0, None));
    seen.saw(course.how_it_came());
}

#[test]
fn what_comes_during_a_turn_is_the_next_turn() {
    model(
        "what_comes_during_a_turn_is_the_next_turn",
        &CAME,
        event_during_turn,
    );
}

#[test]
fn mutant_a_turn_does_not_look_at_the_tick() {
    kills("turn-no-tick", "what_comes_during_a_turn_is_the_next_turn");
}

/// It is asked to end while a unit arrives and a worker has it: it ends once, as that, whether it waits, is due, or has its turn.
fn request_during_turn(
    seen: &Seen,
    limit: Option<Duration>,
    ask: fn(&ModelPort, &ModelObject, OperationKey),
) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = port.open(0);
    let course = Course::default();
    let mut initiation = course.of(&object, 8, |_| Answer::Nothing);
    if let Some(limit) = limit {
        initiation = initiation.timeout(limit);
    }
    let key = course.begin(initiation);
    assert_eq!(port.poll(), 0, "it waits, and is armed");
    port.arrive(0, 1);
    let worker = workers(&port, 1);
    let asked = course.beside(&port, || ask(&port, &object, key));
    drop(object);
    join(worker);
    let how = match limit {
        Some(_) => ErrorKind::TimedOut,
        None => ErrorKind::Cancelled,
    };
    assert_eq!(course.ended.how(), (Some(how), 0, None));
    assert_eq!(port.closed(), [0], "its last handle went with it");
    seen.saw(asked);
}

const WHEN: [&str; 4] = [
    "before the turn",
    "in the turn",
    "after the turn",
    "beside the turn",
];

#[test]
fn a_request_during_a_turn_ends_what_repeats() {
    model("a_request_during_a_turn_ends_what_repeats", &WHEN, |seen| {
        request_during_turn(seen, None, cancel);
    });
}

#[test]
fn mutant_a_request_is_not_seen_between_turns() {
    kills(
        "cancel-unseen-between-turns",
        "a_request_during_a_turn_ends_what_repeats",
    );
}

#[test]
fn mutant_a_turn_fixes_the_result() {
    kills(
        "repeat-fixes-each-turn",
        "a_request_during_a_turn_ends_what_repeats",
    );
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_time_limit_during_a_turn_ends_what_repeats() {
    model(
        "a_time_limit_during_a_turn_ends_what_repeats",
        &WHEN,
        |seen| {
            request_during_turn(seen, Some(SECOND), |port, _, _| {
                port.pass(2 * SECOND);
                port.poll();
            });
        },
    );
}

#[test]
fn mutant_a_limit_is_not_seen_between_turns() {
    kills(
        "cancel-unseen-between-turns",
        "a_time_limit_during_a_turn_ends_what_repeats",
    );
}

/// All of an object is asked, and not what repeats by its key.
#[test]
fn a_request_to_its_object_ends_what_repeats() {
    model("a_request_to_its_object_ends_what_repeats", &WHEN, |seen| {
        request_during_turn(seen, None, |_, object, _| object.cancel());
    });
}

#[test]
fn mutant_the_object_asks_nobody() {
    kills(
        "close-asks-nobody",
        "a_request_to_its_object_ends_what_repeats",
    );
}

#[test]
fn a_close_ends_what_repeats_and_then_closes_the_descriptor() {
    model(
        "a_close_ends_what_repeats_and_then_closes_the_descriptor",
        &WHEN,
        |seen| request_during_turn(seen, None, close),
    );
}

#[test]
fn mutant_what_repeats_keeps_the_descriptor_that_was_closed() {
    kills(
        "repeated-keeps-its-direction",
        "a_close_ends_what_repeats_and_then_closes_the_descriptor",
    );
}

#[test]
fn mutant_the_close_does_not_wait_for_what_repeats() {
    kills(
        "close-waits-for-nobody",
        "a_close_ends_what_repeats_and_then_closes_the_descriptor",
    );
}

/// Its future is dropped, and its object closed, while a worker has it; two others wait behind it: each ends once, and the descriptor
/// is closed after the last call.
fn drop_of_a_future(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 2, 2, 1);
    let object = port.open(0);
    let course = Course::default();
    let mut future = course.of(&object, 1, |_| Answer::Nothing).into_future();
    let begun = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(begun.is_pending(), "it is due, and no more");
    let behind = [Once::default(), Once::default()];
    for output in behind.clone() {
        object.take(1, move |result| output.happen(result.is_ok()));
    }
    port.arrive(0, 2);
    let worker = workers(&port, 1);
    drop(future);
    object.close();
    join(worker);
    drop(object);
    assert_eq!(port.closed(), [0]);
    let taken = behind.iter().filter(|output| output.how()).count();
    let turns = course.turns().len();
    seen.saw(format!("it had {turns}, and {taken} of the others had one"));
}

#[test]
fn a_dropped_future_lets_the_direction_go_once() {
    model(
        "a_dropped_future_lets_the_direction_go_once",
        &[
            "it had 0, and 0 of the others had one",
            "it had 0, and 1 of the others had one",
            "it had 0, and 2 of the others had one",
            "it had 1, and 0 of the others had one",
            "it had 1, and 1 of the others had one",
            "it had 2, and 0 of the others had one",
        ],
        drop_of_a_future,
    );
}

#[test]
fn mutant_a_future_of_what_repeats_lets_go_too() {
    kills(
        "repeated-lets-go-twice",
        "a_dropped_future_lets_the_direction_go_once",
    );
}

/// Its completions are run by hand, while it is asked to end.
fn run_by_hand(seen: &Seen) {
    let port = ModelPort::by_hand(1, 1);
    let object = port.open(0);
    let course = Course::default();
    let key = course.begin(course.of(&object, 1, |_| Answer::Nothing));
    port.arrive(0, 1);
    let runner = {
        let (port, course) = (port.clone(), course.clone());
        thread::spawn(move || {
            let mut batch = Batch::new();
            while !course.ended.happened() {
                let seat = port.port.seat().expect("nobody else sits");
                seat.reap(&mut batch, None).expect("it waits");
                for completion in batch.drain() {
                    completion.run();
                }
            }
        })
    };
    let asked = course.beside(&port, || cancel(&port, &object, key));
    runner.join().expect("it returns");
    assert_eq!(course.ended.how(), (Some(ErrorKind::Cancelled), 0, None));
    drop(object);
    assert_eq!(port.closed(), [0]);
    seen.saw(asked);
}

#[test]
fn what_repeats_is_run_by_hand() {
    model("what_repeats_is_run_by_hand", &WHEN, run_by_hand);
}

#[test]
fn mutant_a_turn_by_hand_fixes_the_result() {
    kills("repeat-fixes-each-turn", "what_repeats_is_run_by_hand");
}

/// Another operation waits behind it, and has its turn when it is over: at its own end, or since it was asked to end.
fn behind_it(seen: &Seen, seats: usize) {
    let port = port(Strategy::LeaderFollowers, 2, seats, 1);
    let object = port.open(0);
    let course = Course::default();
    let key = course.begin(course.of(&object, 1, end_at_two));
    let output = Once::default();
    object.take(1, {
        let output = output.clone();
        move |result| output.happen(result.expect("a unit, or the end"))
    });
    let worker = workers(&port, 1);
    port.arrive(0, 2);
    port.port.cancel(key);
    port.arrive(0, 1);
    port.end(0);
    join(worker);
    assert_eq!(output.how(), 1);
    let how = match course.ended.how() {
        (None, _, None) => "its own end",
        (Some(ErrorKind::Cancelled), _, None) => "cancelled",
        other => panic!("{other:?}"),
    };
    seen.saw(format!("it had {}: {how}", course.turns().len()));
}

const BEHIND: [&str; 3] = [
    "it had 0: cancelled",
    "it had 1: cancelled",
    "it had 2: its own end",
];

#[test]
fn what_waits_behind_an_operation_that_repeats_has_its_turn_after_it() {
    model(
        "what_waits_behind_an_operation_that_repeats_has_its_turn_after_it",
        &BEHIND,
        |seen| behind_it(seen, 2),
    );
}

#[test]
fn what_waits_behind_is_armed_again() {
    model("what_waits_behind_is_armed_again", &BEHIND, |seen| {
        behind_it(seen, 1);
    });
}

#[test]
fn mutant_what_repeats_keeps_its_direction() {
    kills(
        "repeated-keeps-its-direction",
        "what_waits_behind_an_operation_that_repeats_has_its_turn_after_it",
    );
}

#[test]
fn mutant_what_repeats_keeps_its_direction_where_events_disarm() {
    kills(
        "repeated-keeps-its-direction",
        "what_waits_behind_is_armed_again",
    );
}
