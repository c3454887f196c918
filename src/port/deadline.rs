//! A deadline that can be moved, and the waits on it. Protocol: `docs/dispatch-protocols.md`, "A deadline that moves".

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::{CancelOutcome, CompletionPort};
use crate::cell::Home;
use crate::operation::OperationKey;
use crate::sync::{Arc, Mutex, mutant};

/// When a timer operation is due.
#[derive(Clone, Debug)]
pub(crate) enum When {
    At(Instant),
    /// When this says, as the operation begins.
    On(Arc<Deadline>),
}

impl When {
    /// The instant to arm the wait `key` with, which has begun.
    pub(crate) fn begin(&self, key: OperationKey, home: &Home) -> Instant {
        match self {
            Self::At(at) => *at,
            Self::On(deadline) => deadline.join(key, home),
        }
    }
}

pub(crate) struct Deadline(Mutex<State>);

struct State {
    at: Instant,
    /// The waits with their numbers, oldest first. Some may be over.
    waits: VecDeque<(u64, OperationKey)>,
    /// How many waits have begun: the next one's number.
    begun: u64,
}

impl Deadline {
    pub(crate) fn new(at: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            at,
            waits: VecDeque::new(),
            begun: 0,
        })))
    }

    pub(crate) fn at(&self) -> Instant {
        self.0.lock().at
    }

    /// A wait begins: it is on the list, and has the deadline, in one step.
    fn join(&self, key: OperationKey, home: &Home) -> Instant {
        let early = mutant("wait-joins-late").then(|| self.at());
        let mut state = self.0.lock();
        let State { waits, begun, .. } = &mut *state;
        if waits.len() == waits.capacity() {
            waits.retain(|(_, key)| key.is_open(home));
            if waits.len() > waits.capacity() / 2 {
                waits.reserve(waits.capacity()); // Or nearly every wait would look through the list.
            }
        }
        waits.push_back((*begun, key));
        *begun += 1;
        early.unwrap_or(state.at)
    }

    /// Moves it, if there is a `to`, and cancels the oldest waits, `most` of them, of those that have begun by now. How many
    /// were cancelled; the others were over.
    pub(crate) fn cancel(&self, port: &CompletionPort, to: Option<Instant>, most: usize) -> usize {
        let begun = {
            let mut state = self.0.lock();
            state.at = to.unwrap_or(state.at);
            state.begun
        };
        let mut cancelled = 0;
        while cancelled < most {
            // Outside the lock, since a handler may be dropped in the course of it.
            let Some(oldest) = self.take_before(begun) else {
                break;
            };
            let outcome = port.cancel(oldest);
            cancelled += usize::from(
                outcome == CancelOutcome::Requested || mutant("late-cancellations-count"),
            );
        }
        cancelled
    }

    fn take_before(&self, number: u64) -> Option<OperationKey> {
        let mut state = self.0.lock();
        let (oldest, key) = *state.waits.front()?;
        if oldest >= number && !mutant("young-waits-are-cancelled") {
            return None;
        }
        state.waits.pop_front();
        Some(key)
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadline").field(&self.at()).finish()
    }
}
