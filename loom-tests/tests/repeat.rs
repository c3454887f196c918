//! Operations that repeat: what comes during a turn, who asks them to end, and who else writes.
#![cfg(proactor_loom)]

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use loom::thread;
use loom_tests::{Once, Seen, Wait, join, kills, model, port, workers};
use proactor::model::{Answer, AnswerEach, ModelObject, ModelPort};
use proactor::{Batch, CancelOutcome, ErrorKind, Initiation, OperationKey, Strategy};

/// How an operation ended: not at all wrong, or with what error; how many units of an answer were given then, of how many.
type Ended = (Option<ErrorKind>, usize, Option<usize>);

/// An operation that repeats, as its model follows it. Loom sees nothing of it but that it is over.
#[derive(Clone, Default)]
struct Course {
    /// Two for each turn that is over, and one for the turn that it is in.
    steps: Arc<AtomicUsize>,
    turns: Arc<Mutex<Vec<usize>>>,
    /// Whether an event was reaped during a turn.
    told: Arc<AtomicBool>,
    over: Wait,
    ended: Once<Ended>,
}

impl Course {
    /// What repeats on `object`, one unit or several at a time, and answers as `each` says, which gets how many came in each turn so far.
    fn of<F>(
        &self,
        object: &ModelObject,
        len: usize,
        each: F,
    ) -> Initiation<AnswerEach<impl FnMut(usize) -> Answer + Send + 'static>>
    where
        F: Fn(&[usize]) -> Answer + Send + 'static,
    {
        let (course, within) = (self.clone(), object.clone());
        object.answering(len, move |units| {
            course.steps.fetch_add(1, Ordering::Relaxed);
            let events = within.events();
            if within.events() > events {
                course.told.store(true, Ordering::Relaxed);
            }
            let answer = {
                let mut turns = course.turns.lock().expect("no panic");
                turns.push(units);
                each(&turns)
            };
            course.steps.fetch_add(1, Ordering::Relaxed);
            answer
        })
    }

    /// Begins it.
    fn begin<F>(&self, initiation: Initiation<AnswerEach<F>>) -> OperationKey
    where
        F: FnMut(usize) -> Answer + Send + 'static,
    {
        let (ended, over) = (self.ended.clone(), self.over.clone());
        initiation.then(move |(result, unsent)| {
            let error = result.err();
            let given = error.as_ref().map_or(0, |error| error.transferred());
            ended.happen((error.map(|error| error.kind()), given, unsent));
            over.happen();
        })
    }

    fn turns(&self) -> Vec<usize> {
        self.turns.lock().expect("no panic").clone()
    }

    /// How both of two units came.
    fn how_it_came(&self) -> &'static str {
        match (&self.turns()[..], self.told.load(Ordering::Relaxed)) {
            ([2], _) => "both in a turn",
            ([1, 1], true) => "one told of in the turn of the other",
            ([1, 1], false) => "one after the other",
            other => panic!("{other:?}"),
        }
    }

    /// Does something, and says when that was.
    fn beside(&self, port: &ModelPort, what: impl FnOnce()) -> &'static str {
        port.rings(); // Others may come in here.
        let before = self.steps.load(Ordering::Relaxed);
        what();
        match (before, self.steps.load(Ordering::Relaxed)) {
            (0, 0) => "before the turn",
            (1, 1) => "in the turn",
            (2, 2) => "after the turn",
            _ => "beside the turn",
        }
    }
}

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

const CAME: [&str; 3] = [
    "both in a turn",
    "one after the other",
    "one told of in the turn of the other",
];

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
        request_during_turn(seen, None, |_, object, _| object.cancel())
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

/// As `event_during_turn`, and that turn has a rest, for which room comes.
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

/// Another one gives three units while an answer of two is given: neither comes between the units of the other. `room` is the room that comes
/// before the other begins.
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

fn cancel(port: &ModelPort, _: &ModelObject, key: OperationKey) {
    let asked = port.port.cancel(key);
    assert_eq!(asked, CancelOutcome::Requested, "it is not over");
}

fn close(_: &ModelPort, object: &ModelObject, _: OperationKey) {
    object.close();
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
        behind_it(seen, 1)
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
