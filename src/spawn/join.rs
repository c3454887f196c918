//! Whoever waits for a spawned future.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_task::{FallibleTask, Task};

use super::Outcome;
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::port::WeakPort;

/// The way to the output of a [spawned](crate::CompletionPort::spawn) future: a future itself, under any executor, or
/// [`wait`](Self::wait).
///
/// Dropped, it lets the future go on, as [`detach`](Self::detach) says in words.
///
/// # Errors
///
/// Of its output: [`ErrorKind::Panicked`] if the future panicked, with the panic's text; [`ErrorKind::Cancelled`] if it was
/// [aborted](Self::abort), or its proactor ended before it did.
///
/// ```
/// use proactor::{ErrorKind, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let inner = proactor.spawn(async { 20 + 1 });
/// let outer = proactor.spawn(async { inner.await.map(|half| 2 * half) });
/// assert_eq!(outer.wait()??, 42);
/// let error = proactor.spawn(async { panic!("on purpose") }).wait().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Panicked);
/// assert_eq!(error.to_string(), "spawned future: panicked: on purpose");
/// # Ok(())
/// # }
/// ```
pub struct JoinHandle<T> {
    state: State<T>,
    port: WeakPort,
}

enum State<T> {
    Spawned(FallibleTask<Outcome<T>>),
    Aborted(Pin<Box<dyn Future<Output = Option<Outcome<T>>> + Send>>),
    /// It had ended before it was aborted.
    Known(Option<Outcome<T>>),
    Over,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: Task<Outcome<T>>, port: WeakPort) -> Self {
        let state = State::Spawned(task.fallible());
        Self { state, port }
    }

    /// Lets the future go on alone; its output is dropped, and a panic of it is as a handler's.
    pub fn detach(self) {
        drop(self);
    }

    /// Whether the future has ended, or was dropped. After an [`abort`](Self::abort) that came before its end: false, until whoever awaits
    /// the handle has heard of it.
    pub fn is_finished(&self) -> bool {
        match &self.state {
            State::Spawned(task) => task.is_finished(),
            State::Aborted(_) => false,
            State::Known(_) | State::Over => true,
        }
    }

    /// Blocks until the output is there, as [`CompletionPort::block_on`](crate::CompletionPort::block_on) does.
    ///
    /// # Errors
    ///
    /// Those of awaiting it, and [`ErrorKind::WouldDeadlock`], at once, where this thread could wait for ever.
    ///
    /// # Panics
    ///
    /// With a handler's panic, as [`Initiation::wait`](crate::Initiation::wait).
    pub fn wait(mut self) -> Result<T, Error>
    where
        T: Send,
    {
        match self.port.upgrade() {
            Some(port) => port.block_on(self).and_then(|output| output),
            None => match Pin::new(&mut self).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => output,
                // Its port is gone, and it is being dropped just now.
                Poll::Pending => Err(cancelled()),
            },
        }
    }
}

impl<T: Send + 'static> JoinHandle<T> {
    /// Asks the future to end: it is dropped where it would be polled next, after the poll that is under way. The handle's output is
    /// then [`ErrorKind::Cancelled`]; the future's, if that had ended before. Allocates once.
    ///
    /// ```
    /// use proactor::Proactor;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let mut handle = proactor.spawn(std::future::pending::<()>());
    /// handle.abort();
    /// assert!(handle.wait().unwrap_err().is_cancelled());
    /// # Ok(())
    /// # }
    /// ```
    pub fn abort(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Spawned(task) => {
                let mut ending = Box::pin(task.cancel());
                // The first poll is what asks.
                match ending
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                {
                    Poll::Ready(outcome) => State::Known(outcome),
                    Poll::Pending => State::Aborted(ending),
                }
            }
            other => other,
        };
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Error>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.state {
            State::Spawned(task) => Pin::new(task).poll(context),
            State::Aborted(ending) => ending.as_mut().poll(context),
            State::Known(outcome) => Poll::Ready(outcome.take()),
            State::Over => panic!("a handle was polled after its future's output was taken"),
        };
        outcome.map(|outcome| {
            self.state = State::Over;
            output_of(outcome)
        })
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, Kind::Spawned)
}

fn output_of<T>(outcome: Option<Outcome<T>>) -> Result<T, Error> {
    match outcome {
        Some(Outcome::Done(output)) => Ok(output),
        Some(Outcome::Panicked(unclaimed)) => {
            let text = unclaimed.claim().map_or_else(String::new, text_of);
            Err(Error::panicked(Kind::Spawned, text))
        }
        Some(Outcome::Cancelled) | None => Err(cancelled()),
    }
}

/// What a panic said. Its payload goes here, and what that panics with as it goes is nobody's.
pub(crate) fn text_of(panic: Box<dyn Any + Send>) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "with something that is no text".to_owned(),
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
    text
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let State::Spawned(task) = mem::replace(&mut self.state, State::Over) {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
