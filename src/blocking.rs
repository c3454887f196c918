//! Calls that block, on threads of their own.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::operation::{Call, Operation, Request, sealed};
use crate::port::CompletionPort;
use crate::spawn::text_of;

/// The operation of [`CompletionPort::blocking`]: ends when the call has returned or panicked, or, before it has begun, as
/// cancelled.
pub struct Blocking<F, R>(State<F, R>);

enum State<F, R> {
    Waiting(F),
    Begun,
    Returned(R),
    /// What the panic said.
    Panicked(String),
}

impl<F, R> fmt::Debug for Blocking<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}

impl<F, R> sealed::Sealed for Blocking<F, R> {}

impl<F, R> Operation for Blocking<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = Result<R, Error>;
    const KIND: Kind = Kind::Blocking;

    fn request(&mut self) -> Request {
        Request::Call(NonNull::from(self as &mut dyn Call))
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        result?;
        match self.0 {
            State::Returned(output) => Ok(output),
            State::Panicked(text) => Err(Error::panicked(Self::KIND, text)),
            // Not reached: who ends a call successfully has made it.
            State::Waiting(_) | State::Begun => Err(Error::new(ErrorKind::Cancelled, Self::KIND)),
        }
    }
}

impl<F: FnOnce() -> R, R> Call for Blocking<F, R> {
    fn call(&mut self) {
        let State::Waiting(call) = std::mem::replace(&mut self.0, State::Begun) else {
            return;
        };
        self.0 = match catch_unwind(AssertUnwindSafe(call)) {
            Ok(output) => State::Returned(output),
            Err(panic) => State::Panicked(text_of(panic)),
        };
    }
}

impl CompletionPort {
    /// An operation that makes `call` on a thread where it may block: a file, a lock, another library. The thread is none of the
    /// workers', so that as many handlers run beside it as without it; what the call returns comes back through the port like any
    /// other output.
    ///
    /// Threads start on demand, up to [`Builder::blocking_threads`](crate::Builder::blocking_threads), and end after a second
    /// without a call; while nothing is called there is none. Calls beyond them wait, and begin in the order of initiation. A
    /// call that waits for another one on the lane, in a ring of more than there are threads, waits for ever.
    ///
    /// *Cancelled*, or past its [`timeout`](Initiation::timeout), before it has begun, it ends as such at once, and `call` is
    /// dropped uncalled, with the output. Once it has begun, cancelling is
    /// [`TooLate`](crate::CancelOutcome::TooLate) and a time limit is lifted: a thread cannot be taken out of a call, and the output
    /// is what the call returns, whenever that is.
    ///
    /// *On shutdown* it is outstanding work, waited for until the deadline; then those that wait end as cancelled. *A drop* of the
    /// proactor does not wait for a call that has begun: it goes on, on its thread, and what it returns is dropped with the
    /// handler.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Panicked`] if `call` panicked: its output says so, with the panic's text, and the builder's
    /// [`PanicPolicy`](crate::PanicPolicy), which is for handlers, is not asked. Who wants that unwraps in the handler. Cancelled,
    /// timed out, closed; and the system's own, if it refuses the first thread.
    ///
    /// ```
    /// use proactor::{ErrorKind, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// proactor.blocking(|| std::fs::read_to_string("/no/such/file")).then(|result| {
    ///     let read = result.expect("neither cancelled nor panicked");
    ///     assert!(read.is_err(), "what the call returned");
    /// });
    /// proactor.run();
    /// let error = proactor.blocking(|| -> u8 { panic!("on purpose") }).wait().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Panicked);
    /// assert_eq!(error.to_string(), "blocking call: panicked: on purpose");
    /// # Ok(())
    /// # }
    /// ```
    pub fn blocking<F, R>(&self, call: F) -> Initiation<Blocking<F, R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Initiation::blocking(self.clone(), Blocking(State::Waiting(call)))
    }
}
