//! What an operation that repeats answers: all at once, or with a rest, beside others that write.
#![cfg(proactor_loom)]

#[path = "repeat/course.rs"]
mod course;

use course::{CAME, Course, cancel, close};
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::model::{Answer, ModelObject, ModelPort};
use proactor::{ErrorKind, OperationKey, Strategy};

/// How many units were given in a row by one operation, and then by another, and so on.
fn runs(given: &[usize]) -> Vec<usize> {
    given
        .chunk_by(|one, next| one == next)
        .map(<[usize]>::len)
        .collect()
}

/// A port with what repeats waiting in it; it answers the first unit with two, for one of which there is room, and ends at the second one.
fn two_for_one(seats: usize) -> (ModelPort, ModelObject, Course, OperationKey) {
    let port = port(Strategy::LeaderFollowers, 2, seats, 1);
    let object = port.open(0);
    let course = Course::default();
    let answer = |turns: &[usize]| match turns {
        [1] => Answer::Give(2),
        [_] => Answer::Last(2),
        _ => Answer::End,
    };
    let key = course.begin(course.of(&object, 8, answer));
    assert_eq!(port.poll(), 0, "it waits, and is armed");
    port.make_room(0, 1);
    (port, object, course, key)
}

/// Units arrive one after the other, and are told of by this thread while a worker is in a turn that has a rest, for which room comes.
fn event_before_rest(seen: &Seen) {
    let (port, _object, course, _) = two_for_one(2);
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    // First: an event for room tells of units, too.
    port.make_room(0, 1);
    port.arrive(0, 1);
    port.poll();
    join(worker);
    assert_eq!(course.ended.how(), (None, 0, None));
    assert_eq!(port.given(0).len(), 2);
    seen.saw(course.how_it_came());
}

#[test]
fn what_comes_before_a_rest_is_the_next_turn() {
    model(
        "what_comes_before_a_rest_is_the_next_turn",
        &CAME,
        event_before_rest,
    );
}

#[test]
fn mutant_the_read_before_a_rest_does_not_look_at_the_tick() {
    kills(
        "direction-no-tick",
        "what_comes_before_a_rest_is_the_next_turn",
    );
}

/// Another one gives three units while an answer of two is given: neither comes between the units of the other. `room` comes before the
/// other begins.
fn reply_beside_writer(seen: &Seen, room: usize) {
    let (port, object, course, _) = two_for_one(2);
    let worker = workers(&port, 1);
    port.arrive(0, 1);
    port.make_room(0, room);
    let given = Once::default();
    object.giving_all(3).then({
        let given = given.clone();
        move |result| given.happen(result.ok())
    });
    port.make_room(0, 4 - room);
    port.arrive(0, 1);
    join(worker);
    assert_eq!(course.ended.how(), (None, 0, None));
    assert_eq!(given.how(), Some(3));
    match runs(&port.given(0))[..] {
        [2, 3] => seen.saw("the answer first"),
        [3, 2] => seen.saw("the other first"),
        ref torn => panic!("torn apart: {torn:?}"),
    }
}

#[test]
fn a_reply_is_written_whole_beside_another_writer() {
    model(
        "a_reply_is_written_whole_beside_another_writer",
        &["the answer first", "the other first"],
        |seen| reply_beside_writer(seen, 3),
    );
}

#[test]
fn mutant_others_come_between_a_part_and_its_rest() {
    kills(
        "rest-lets-others-between",
        "a_reply_is_written_whole_beside_another_writer",
    );
}

#[test]
fn another_writer_is_not_torn_apart_by_a_reply() {
    model(
        "another_writer_is_not_torn_apart_by_a_reply",
        &["the answer first", "the other first"],
        |seen| reply_beside_writer(seen, 0),
    );
}

#[test]
fn mutant_a_reply_is_written_among_others() {
    kills(
        "reply-among-others",
        "another_writer_is_not_torn_apart_by_a_reply",
    );
}

/// It is asked to end while it waits, in its turn, and while the rest of its answer waits for room: it ends once, and at once. The room
/// comes beside it, unless there is `another` writer, which was there before and waits for it, too.
fn request_beside_rest(
    seen: &Seen,
    seats: usize,
    another: bool,
    ask: fn(&ModelPort, &ModelObject, OperationKey),
) {
    let (port, object, course, key) = two_for_one(seats);
    let other = Once::default();
    if another {
        object.giving_all(3).then({
            let other = other.clone();
            move |result| other.happen(result.is_ok())
        });
    }
    port.arrive(0, 1);
    let worker = workers(&port, 1);
    if !another {
        port.make_room(0, 1);
    }
    let asked = course.beside(&port, || ask(&port, &object, key));
    course.over.wait();
    port.make_room(0, 2);
    join(worker);
    assert!(!another || other.happened());
    let (error, given, unsent) = course.ended.how();
    assert_eq!(error, Some(ErrorKind::Cancelled));
    drop(object);
    assert_eq!(
        port.closed(),
        [0],
        "its directions and its handle are let go"
    );
    seen.saw(match unsent {
        None => asked.to_owned(),
        Some(of) => format!("{asked}, {given} of {of} given"),
    });
}

#[test]
fn a_request_ends_what_writes_a_rest() {
    model(
        "a_request_ends_what_writes_a_rest",
        &[
            "before the turn",
            "in the turn",
            "after the turn",
            "beside the turn",
            "after the turn, 1 of 2 given",
        ],
        |seen| {
            request_beside_rest(seen, 2, false, cancel);
        },
    );
}

#[test]
fn mutant_a_request_is_not_seen_after_a_rest() {
    kills(
        "cancel-unseen-between-turns",
        "a_request_ends_what_writes_a_rest",
    );
}

const BEFORE_A_REST: [&str; 5] = [
    "before the turn",
    "before the turn, 0 of 2 given",
    "in the turn, 0 of 2 given",
    "after the turn, 0 of 2 given",
    "beside the turn, 0 of 2 given",
];

#[test]
fn a_request_ends_what_waits_to_write_a_rest() {
    model(
        "a_request_ends_what_waits_to_write_a_rest",
        &BEFORE_A_REST,
        |seen| {
            request_beside_rest(seen, 1, true, cancel);
        },
    );
}

#[test]
fn mutant_a_request_is_not_seen_before_a_rest() {
    kills(
        "cancel-unseen-before-a-rest",
        "a_request_ends_what_waits_to_write_a_rest",
    );
}

#[test]
fn a_close_ends_what_writes_a_rest() {
    model(
        "a_close_ends_what_writes_a_rest",
        &[
            "after the turn",
            "after the turn, 0 of 2 given",
            "after the turn, 1 of 2 given",
            "before the turn",
            "before the turn, 0 of 2 given",
            "beside the turn",
            "beside the turn, 0 of 2 given",
            "in the turn, 0 of 2 given",
        ],
        |seen| {
            request_beside_rest(seen, 2, false, close);
        },
    );
}

#[test]
fn mutant_what_writes_a_rest_keeps_its_direction() {
    kills(
        "repeated-keeps-its-direction",
        "a_close_ends_what_writes_a_rest",
    );
}

#[test]
fn a_close_ends_what_waits_to_write_a_rest() {
    model(
        "a_close_ends_what_waits_to_write_a_rest",
        &BEFORE_A_REST,
        |seen| {
            request_beside_rest(seen, 2, true, close);
        },
    );
}

#[test]
fn mutant_a_close_is_not_seen_before_a_rest() {
    kills(
        "cancel-unseen-before-a-rest",
        "a_close_ends_what_waits_to_write_a_rest",
    );
}
