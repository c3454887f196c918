//! Operations that are completed by hand: the end of what is composed of others, or of what happens elsewhere.
//!
//! Such an operation's cell belongs to its [`Completer`], which the port does not know. So that a request to cancel finds its
//! way, the port keeps the token of each in a table, under the cell and its generation: a key that has gone stale finds nothing.
//! Protocol: `docs/dispatch-protocols.md`, "An operation by hand".
#![allow(unsafe_code)] // an output is written into a cell whose body's type is forgotten

use std::fmt;
use std::marker::PhantomData;

use super::token::CancelToken;
use super::{CompletionPort, Inner, WeakPort};
use crate::cell::{Ptr, header, phase};
use crate::completion::Completion;
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::operation::{Operation, OperationKey, Request, cancelled, part, sealed};
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, mutant};

/// The operation of [`CompletionPort::compose`](crate::CompletionPort::compose).
pub struct Composed<T> {
    output: Option<Result<T, Error>>,
}

impl<T> Composed<T> {
    pub(crate) fn new() -> Self {
        Self { output: None }
    }
}

impl<T> fmt::Debug for Composed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Composed")
    }
}

impl<T> sealed::Sealed for Composed<T> {}

impl<T: Send + 'static> Operation for Composed<T> {
    type Output = Result<T, Error>;
    const KIND: Kind = Kind::Composed;

    fn request(&mut self) -> Request {
        Request::ByHand((&raw mut self.output).cast())
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        match (self.output, result) {
            (Some(output), _) => output,
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::new(ErrorKind::Abandoned, Self::KIND)),
        }
    }
}

/// The right, and the duty, to complete one operation: what [`CompletionPort::compose`](crate::CompletionPort::compose) hands out.
///
/// It may go to any thread and wait anywhere: in the handler of the next step, in a table of what a device still owes. Dropped
/// without [`complete`](Self::complete), the operation ends as [`Abandoned`](ErrorKind::Abandoned), or as cancelled if it was asked
/// to end. Until then the operation is outstanding work.
///
/// ```
/// use proactor::{Completer, ErrorKind, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// proactor.compose(|completer: Completer<u32>| {
///     std::thread::spawn(move || completer.complete(Ok(7))); // whenever it is known, from wherever
/// })
/// .then(|output| assert_eq!(output.ok(), Some(7)));
/// proactor.compose(|completer: Completer<u32>| drop(completer))
///     .then(|output| assert_eq!(output.unwrap_err().kind(), ErrorKind::Abandoned));
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Completer<T: Send + 'static> {
    /// None once it is completed.
    cell: Option<Ptr>,
    place: usize,
    port: WeakPort,
    token: CancelToken,
    output: PhantomData<fn(T)>,
}

// SAFETY: it owns the cell, which it gives up once; what is written there is `Send`.
unsafe impl<T: Send> Send for Completer<T> {}
// SAFETY: through a shared reference only the token is reached.
unsafe impl<T: Send> Sync for Completer<T> {}

impl<T: Send + 'static> Completer<T> {
    /// Takes the cell over.
    ///
    /// # Safety
    ///
    /// `cell` holds a `Composed<T>`, open, and is nobody else's from now on.
    pub(crate) unsafe fn new(port: &CompletionPort, begun: Begun) -> Self {
        Self {
            cell: Some(begun.cell),
            place: begun.place,
            port: port.downgrade(),
            token: begun.token,
            output: PhantomData,
        }
    }

    /// Completes the operation: its handler, or whoever waits for it, gets `output`, never inside this call. A request to end that
    /// came before changes nothing about it, except that an error which says *cancelled* says *timed out*, if the operation's time
    /// limit was what had passed.
    pub fn complete(mut self, output: Result<T, Error>) {
        self.end(Some(output));
    }

    /// Cancelled when the operation is asked to end: by its key, its time limit, a token of its own, or the end of the port. For
    /// what the operation is made of: [`cancel_with`](crate::Initiation::cancel_with).
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Whether the operation's time limit has passed: then its token was cancelled for that.
    pub fn has_timed_out(&self) -> bool {
        self.cell
            .is_some_and(|cell| header(cell).phase() == phase::TIMEOUT)
    }

    /// What an error of a part means for the whole: *cancelled* is *timed out*, if the whole's limit has passed. For an output that
    /// has the error elsewhere than where [`complete`](Self::complete) looks: inside a `T` that is a result of your own, say.
    pub fn limited(&self, error: Error) -> Error {
        error.of_limit(self.has_timed_out())
    }

    fn end(&mut self, output: Option<Result<T, Error>>) {
        let Some(cell) = self.cell.take() else {
            return;
        };
        let port = self.port.upgrade();
        if let Some(port) = &port {
            port.0.composed.remove(self.place);
        }
        let asked = header(cell).fix();
        let timed_out = asked == phase::TIMEOUT;
        let output = output.map(|output| output.map_err(|error| error.of_limit(timed_out)));
        // SAFETY: the cell is ours, and its table its body's.
        if let Request::ByHand(place) = unsafe { (header(cell).vtable().request)(cell) } {
            // SAFETY: a `Composed<T>`'s place for its output, as whoever made this promised.
            unsafe { *place.cast::<Option<Result<T, Error>>>() = output };
        }
        // SAFETY: the cell is ours.
        unsafe { part(cell) }.set_raw(cancelled(asked).unwrap_or(0));
        // SAFETY: as above, and its result is fixed.
        let done = unsafe { Completion::from_ptr(cell) };
        match port {
            Some(port) => port.0.complete(done, None),
            // Nobody runs handlers any more.
            None => drop(done),
        }
    }
}

impl<T: Send + 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T: Send + 'static> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// An operation by hand that has begun.
pub(crate) struct Begun {
    pub(crate) cell: Ptr,
    pub(crate) place: usize,
    pub(crate) token: CancelToken,
}

/// The tokens of a port's open operations by hand.
#[derive(Default)]
pub(crate) struct Table(Mutex<Places>);

#[derive(Default)]
struct Places {
    taken: Vec<Option<Taken>>,
    free: Vec<usize>,
}

/// Whose place it is.
struct Taken {
    cell: Ptr,
    generation: u32,
    token: CancelToken,
}

// SAFETY: the cells are names here, compared and never followed.
unsafe impl Send for Places {}

impl Table {
    /// A place, not yet anybody's.
    pub(crate) fn reserve(&self) -> usize {
        let mut places = self.0.lock();
        if let Some(place) = places.free.pop() {
            return place;
        }
        places.taken.push(None);
        places.taken.len() - 1
    }

    /// Enters an operation at its place, with a token of its own.
    pub(crate) fn enter(&self, cell: Ptr, place: usize) -> Begun {
        let token = CancelToken::new();
        let taken = Taken {
            cell,
            generation: header(cell).generation(),
            token: token.clone(),
        };
        self.0.lock().taken[place] = Some(taken);
        Begun { cell, place, token }
    }

    fn remove(&self, place: usize) {
        let mut places = self.0.lock();
        let taken = places.taken[place].take();
        places.free.push(place);
        drop(places);
        drop(taken);
    }

    /// Whom to pass a request to end on to that the cell has accepted; a tenant that has gone meanwhile hears nothing.
    pub(crate) fn token(&self, cell: Ptr, generation: u32, place: usize) -> Option<CancelToken> {
        let places = self.0.lock();
        let taken = places.taken.get(place).and_then(Option::as_ref);
        let is_it = |taken: &&Taken| {
            (taken.cell == cell && taken.generation == generation)
                || mutant("composed-of-any-tenant")
        };
        taken.filter(is_it).map(|taken| taken.token.clone())
    }

    /// Whose places are taken.
    fn all(&self) -> Vec<(Ptr, u32)> {
        let places = self.0.lock();
        let taken = places.taken.iter().flatten();
        taken.map(|taken| (taken.cell, taken.generation)).collect()
    }
}

impl Inner {
    /// Asks an operation by hand that has just begun to end, if the port is closed. It has been entered before this looks, and the
    /// port is closed before `cancel_composed` looks, under the same lock: one of the two sees the other.
    pub(crate) fn cancel_if_closed(&self, key: OperationKey) {
        if self.closed.load(Ordering::Relaxed) {
            self.cancel_key(key, phase::CANCEL);
        }
    }

    /// Asks every open operation by hand to end.
    pub(crate) fn cancel_composed(&self) {
        for (cell, generation) in self.composed.all() {
            self.cancel(cell, generation, phase::CANCEL);
        }
    }
}
