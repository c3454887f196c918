//! Waiting by hand: the right to wait in the port, and what it yields.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use super::dispatcher::{Dispatcher, Origin, Placed, Worker};
use super::sleep::Stay;
use super::{CompletionPort, Inner};
use crate::backend::{Events, Woken};
use crate::completion::Completion;
use crate::error::{BuildError, Error};
use crate::id::Kind;
use crate::local::Local;
use crate::queue::{Injector, List};
use crate::sync::yield_now;

/// The strategy of a port that is used alone: everything waits in one queue.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Injector);

impl Dispatcher for Waiting {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(threads.unwrap_or(NonZeroUsize::MIN))
    }

    fn dispatch(&self, completion: Completion, _origin: Origin<'_>) -> Placed {
        self.0.push(completion);
        Placed::Shared
    }

    fn next(&self, _worker: Worker<'_>) -> Option<Completion> {
        self.0.pop()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The right to wait in a port. At most as many exist at once as the backend lets wait (two on Linux, else one); so
/// nobody waits in vain, and no seat is held while a handler runs, for [`reap`](Seat::reap) gives it up.
pub struct Seat<'a> {
    inner: &'a Inner,
}

impl Seat<'_> {
    /// Waits until something is finished or posted, somebody notifies, or `deadline`, and puts what there is into `batch`.
    /// Returns how many it holds now. What is posted already is taken without waiting. Thread-safe; allocates only for the
    /// batch's own room.
    ///
    /// # Errors
    ///
    /// The operating system's, when waiting fails. Nothing is lost then.
    pub fn reap(self, batch: &mut Batch, deadline: Option<Instant>) -> Result<usize, Error> {
        let inner = self.inner;
        let due = List::new();
        // If something is posted, look, but do not wait.
        let until = if !inner.dispatcher.is_empty() || inner.is_stopped() {
            Some(Instant::now())
        } else {
            deadline
        };
        let waited = inner.backend.wait(&mut batch.events, &due, until);
        let woken = waited.unwrap_or_default();
        std::mem::forget(self);
        let answered = stand(inner, woken.was(Woken::NOTIFIED));
        if woken.was(Woken::TIMER) {
            inner.fire_timers(&due);
        }
        for completion in due {
            batch.add(inner, completion);
        }
        let local = Local::new(&inner.home, 0, 1);
        while inner.by_hand && batch.len < inner.pool.knobs.batch.get() {
            match inner.dispatcher.next(Worker::new(&local)) {
                Some(completion) => batch.add(inner, completion),
                None => break,
            }
        }
        if answered {
            found(inner);
        }
        waited.map_err(|raw| Error::from_io(Kind::Wait, &io::Error::from_raw_os_error(raw)))?;
        Ok(batch.len)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        stand(self.inner, false);
    }
}

/// Leaves a seat, and passes on what others rely on: a stop, an empty seat. True if it has answered the bell: then this thread
/// searches, until `found`.
fn stand(inner: &Inner, notified: bool) -> bool {
    let stood = inner.sleep.stand(None, Stay::Asleep, notified);
    let for_another = notified && inner.pool.somebody_is_alone();
    if inner.is_stopped() || for_another || stood.for_sitter {
        inner.sleep.pass_on(&*inner.backend);
    }
    inner.sleep.hand_over();
    if for_another {
        yield_now(); // Or this one, sitting again at once, hears it once more.
    }
    stood.searching
}

/// Ends a search; if it was the last, and left something, another one searches.
fn found(inner: &Inner) {
    if inner.sleep.found() {
        inner.wake_for_rest();
    }
}

impl fmt::Debug for Seat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}

/// Completions that were reaped together, and the room for the events of the next time.
///
/// Completions that are still in it when it is dropped are dropped uncalled.
///
/// ```
/// assert!(proactor::Batch::new().is_empty());
/// ```
pub struct Batch {
    list: List,
    len: usize,
    events: Events,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            list: List::new(),
            len: 0,
            events: Events::new(super::Knobs::default().batch),
        }
    }

    /// How many completions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the completions out, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Completion> {
        self.len = 0;
        self.list.take_all()
    }

    /// Adds what is finished; what is due is attempted first, and goes back to wait if it would block.
    fn add(&mut self, inner: &Inner, completion: Completion) {
        let completion = if completion.is_due() && !completion.is_to_go_on() {
            crate::completion::Attempt::attempt(inner, completion.into_ptr())
        } else {
            Some(completion)
        };
        if let Some(finished) = completion {
            if !finished.is_due() {
                inner.lift_limit(&finished);
            }
            self.list.push_back(finished);
            self.len += 1;
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl CompletionPort {
    /// The right to wait in the port, or `None` if all seats are taken: then others wait already, and this thread may do
    /// something else, or try again when one of them has left. For ports that are used alone: a
    /// [`Proactor`](crate::Proactor)'s workers take its seats themselves.
    pub fn seat(&self) -> Option<Seat<'_>> {
        // Made only if it was taken: dropping one gives it back.
        self.0
            .sleep
            .sit(None, Stay::Asleep)
            .map(|_| Seat { inner: &self.0 })
    }

    /// The oldest completion that is posted or finished, without waiting and without a seat. For ports that are used
    /// alone.
    pub fn take(&self) -> Option<Completion> {
        if !self.0.by_hand {
            return None; // A strategy's `next` is for its workers.
        }
        let local = Local::new(&self.0.home, 0, 1);
        self.0.dispatcher.next(Worker::new(&local))
    }
}
