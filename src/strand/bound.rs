//! Operations whose handlers are bound to a strand.
#![allow(unsafe_code)] // a turn ends once

use std::fmt;
use std::ptr::NonNull;

use super::{Shared, Strand, end_turn};
use crate::initiation::wait::would_be_stuck;
use crate::initiation::{Initiation, Unbound};
use crate::operation::{Handler, Operation, OperationKey};
use crate::port::compose::Completer;
use crate::port::{CompletionPort, Route};
use crate::queue::Line;
use crate::spawn::{JoinHandle, spawn_by};
use crate::sync::Arc;

/// An operation's handler that is bound to a strand.
struct Bound<T, H> {
    handler: H,
    ticket: Ticket<T>,
}

/// What a bound handler holds: it keeps the strand, and if it is dropped uncalled, its turn is over.
struct Ticket<T> {
    strand: Option<Arc<Shared<T>>>,
    /// Whether it has joined the line; if not, it never has a turn.
    joined: bool,
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        if let Some(strand) = self.strand.take().filter(|_| self.joined) {
            // SAFETY: its turn is not over, and it has a handle.
            unsafe { end_turn(Arc::as_ptr(&strand)) };
        }
    }
}

impl<T, O, H> Handler<O> for Bound<T, H>
where
    T: Send + 'static,
    H: FnOnce(&mut T, O) + Send + 'static,
{
    const LINED: bool = true;
    fn line(&mut self) -> Option<NonNull<Line>> {
        let strand = self
            .ticket
            .strand
            .as_ref()
            .filter(|_| !self.ticket.joined)?;
        self.ticket.joined = true;
        Some(NonNull::from(&strand.gate.line))
    }

    fn call(self, output: O) {
        let Self {
            handler,
            mut ticket,
        } = self;
        // It has not joined if its port was gone by the end of the operation: then there is no line to wait in.
        let may = |strand: &Arc<Shared<T>>| ticket.joined || strand.gate.line.enter();
        if !ticket.strand.as_ref().is_some_and(may) {
            return;
        }
        if let Some(strand) = ticket.strand.take() {
            let call = move |state: &mut T| handler(state, output);
            // SAFETY: its turn has come, and it has a handle.
            unsafe { Shared::serve(Arc::as_ptr(&strand), call, Route::Finished) };
        }
    }
}

/// The handler is bound to a strand, and gets its state: what [`Initiation::on`] makes of an initiation.
pub struct On<T>(Strand<T>);

impl<O: Operation> Initiation<O> {
    /// Binds the handler to `strand`: it gets the state beside the output, alone and in order. It joins the strand's queue as its
    /// operation ends, so what ends in order comes in order, as several reads of one stream do. Until it has run, the handler keeps
    /// the strand: where the state owns the operation's object, see [`WeakStrand`](crate::WeakStrand).
    ///
    /// ```
    /// use proactor::{Proactor, Strand};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let fired = Strand::new(&proactor, 0);
    /// for millis in 1..4 {
    ///     let nap = proactor.sleep(Duration::from_millis(millis));
    ///     nap.on(&fired).key(millis).then(|fired, result| {
    ///         assert!(result.is_ok());
    ///         *fired += 1;
    ///     });
    /// }
    /// proactor.run();
    /// assert_eq!(fired.try_into_inner().expect("the last handle"), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<T: Send + 'static>(self, strand: &Strand<T>) -> Initiation<O, On<T>> {
        self.bind(On(strand.clone())).0
    }
}

impl<O: Operation, T: Send + 'static> Initiation<O, On<T>> {
    /// As [`wait`](Initiation::wait) of one that is not bound, and then until the strand's turn has come: what was posted to the strand
    /// before has run. Inside a handler of the same strand, or of another where nobody else is at work, that could never be, and the
    /// *result* is [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock), at once.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn wait(self) -> O::Output {
        let (initiation, On(strand)) = self.bind(Unbound);
        let port = strand.port();
        if strand.is_current() || port.as_ref().is_some_and(|port| would_be_stuck(&port.0)) {
            return initiation.refuse();
        }
        let output = initiation.wait();
        if let Some(port) = port {
            let turn = port.compose(move |completer: Completer<()>| {
                strand.follow(move |_| completer.complete(Ok(())));
            });
            // Abandoned, if the proactor was dropped: then there are no turns.
            let _ = turn.wait();
        }
        output
    }

    /// Begins the operation, as [`then`](Initiation::then) of one that is not bound; `handler` gets the strand's state, too.
    pub fn then<H: FnOnce(&mut T, O::Output) + Send + 'static>(self, handler: H) -> OperationKey {
        let (initiation, On(strand)) = self.bind(Unbound);
        if initiation.port_number() != strand.0.gate.port.number {
            // The strand's handlers run on its own port.
            return initiation.then(move |output| {
                strand.follow(move |state| handler(state, output));
            });
        }
        let ticket = Ticket {
            strand: Some(strand.0),
            joined: false,
        };
        initiation.begin::<false, _>(Bound { handler, ticket }, false)
    }
}

impl CompletionPort {
    /// As [`spawn`](Self::spawn), each poll a handler of `strand`: one at a time with its others, in the order in which the future was
    /// woken among them. The future keeps the strand until it ends. It does not get the state, and posts to the strand for that.
    ///
    /// ```
    /// use proactor::{Proactor, Strand};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let total = Strand::new(&proactor, 0);
    /// let same = total.clone();
    /// let handle = proactor.spawn_on(&total, async move {
    ///     assert!(same.is_current());
    ///     same.post(|total| *total += 1); // when this poll is over
    /// });
    /// handle.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_on<T, F>(&self, strand: &Strand<T>, future: F) -> JoinHandle<F::Output>
    where
        T: Send + 'static,
        F: Future<Output: Send> + Send + 'static,
    {
        // What schedules it outlives it, in its handle, and must not keep the strand.
        let weak = strand.downgrade();
        let future = crate::spawn::with(future, strand.clone());
        spawn_by(self, future, move |_, runnable, _| {
            if let Some(strand) = weak.upgrade() {
                strand.follow(move |_| {
                    runnable.run();
                });
            }
        })
    }
}

impl<T> fmt::Debug for On<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("On").field(&self.0).finish()
    }
}
