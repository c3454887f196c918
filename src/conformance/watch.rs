//! The watch over a check: a thread of its own, a limit in time, and words for how it ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::promise::{Broken, Promise};
use crate::sync::plain::{MutexGuard, mpsc, thread};
use crate::sync::{Arc, PlainMutex};

/// What a check is at: said if it never gets beyond that.
#[derive(Clone, Default)]
pub(super) struct Stage(Arc<PlainMutex<(u64, String)>>);

impl Stage {
    pub(super) fn at(&self, what: impl Into<String>) {
        let mut stage = self.lock();
        *stage = (stage.0 + 1, what.into());
    }

    /// How often it got on.
    pub(super) fn steps(&self) -> u64 {
        self.lock().0
    }

    fn lock(&self) -> MutexGuard<'_, (u64, String)> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How a thread under watch ended.
pub(super) enum Ended<T> {
    Returned(T),
    Panicked(String),
}

/// Runs `body` on a thread of its own, which is left behind if it hangs.
pub(super) fn watched<T: Send + 'static>(
    promise: Promise,
    patience: Duration,
    stage: &Stage,
    body: impl FnOnce() -> Result<T, Broken> + Send + 'static,
) -> Result<T, Broken> {
    let ended = on_a_thread(patience, stage, move |report| {
        let ended = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(result) => Ended::Returned(result),
            Err(panic) => Ended::Panicked(text(&*panic).to_owned()),
        };
        let _ = report.send(ended); // Whoever waited may have given up.
    });
    match ended {
        Some(Ended::Returned(result)) => result,
        Some(Ended::Panicked(text)) => Err(Promise::Answers.broken(format!(
            "a panic, \"{text}\", while this was looked at: {promise} (at: {})",
            stage.lock().1
        ))),
        None => Err(promise.broken(format!(
            "it hangs: after {patience:?} it still waited for {}",
            stage.lock().1
        ))),
    }
}

/// Starts `body`, and waits for its report, unless it gets no further for as long as `patience` lasts.
pub(super) fn on_a_thread<T: Send + 'static>(
    patience: Duration,
    stage: &Stage,
    body: impl FnOnce(mpsc::Sender<Ended<T>>) + Send + 'static,
) -> Option<Ended<T>> {
    let (report, reported) = mpsc::channel();
    let thread = thread::Builder::new().name("conformance".to_owned());
    if let Err(error) = thread.spawn(move || body(report)) {
        return Some(Ended::Panicked(format!("no thread to look from: {error}")));
    }
    loop {
        let before = stage.steps();
        match reported.recv_timeout(patience) {
            Err(mpsc::RecvTimeoutError::Timeout) if stage.steps() != before => {}
            ended => return ended.ok(),
        }
    }
}

/// What a panic says.
pub(super) fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    let text = panic.downcast_ref::<&str>().copied().or_else(owned);
    text.unwrap_or("a panic without words")
}
