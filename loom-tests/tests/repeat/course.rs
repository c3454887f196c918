//! An operation that repeats, as its models follow it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use loom_tests::{Once, Wait};
use proactor::model::{Answer, AnswerEach, ModelObject, ModelPort};
use proactor::{CancelOutcome, ErrorKind, Initiation, OperationKey};

/// How an operation ended: not at all wrong, or with what error; how many units of an answer were given then, of how many.
pub(crate) type Ended = (Option<ErrorKind>, usize, Option<usize>);

/// An operation that repeats, as its model follows it. Loom sees nothing of it but that it is over.
#[derive(Clone, Default)]
pub(crate) struct Course {
    /// Two for each turn that is over, and one for the turn that it is in.
    steps: Arc<AtomicUsize>,
    turns: Arc<Mutex<Vec<usize>>>,
    /// Whether an event was reaped during a turn.
    told: Arc<AtomicBool>,
    pub(crate) over: Wait,
    pub(crate) ended: Once<Ended>,
}

impl Course {
    /// What repeats on `object`, one unit or several at a time, and answers as `each` says, which gets how many came in each turn so far.
    pub(crate) fn of<F>(
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
    pub(crate) fn begin<F>(&self, initiation: Initiation<AnswerEach<F>>) -> OperationKey
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

    pub(crate) fn turns(&self) -> Vec<usize> {
        self.turns.lock().expect("no panic").clone()
    }

    /// How both of two units came.
    pub(crate) fn how_it_came(&self) -> &'static str {
        match (&self.turns()[..], self.told.load(Ordering::Relaxed)) {
            ([2], _) => "both in a turn",
            ([1, 1], true) => "one told of in the turn of the other",
            ([1, 1], false) => "one after the other",
            other => panic!("{other:?}"),
        }
    }

    /// Does something, and says when that was.
    pub(crate) fn beside(&self, port: &ModelPort, what: impl FnOnce()) -> &'static str {
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

/// What `how_it_came` says.
pub(crate) const CAME: [&str; 3] = [
    "both in a turn",
    "one after the other",
    "one told of in the turn of the other",
];

/// Asks it by its key, and it is not over.
pub(crate) fn cancel(port: &ModelPort, _: &ModelObject, key: OperationKey) {
    let asked = port.port.cancel(key);
    assert_eq!(asked, CancelOutcome::Requested, "it is not over");
}

/// Closes its object.
pub(crate) fn close(_: &ModelPort, object: &ModelObject, _: OperationKey) {
    object.close();
}
