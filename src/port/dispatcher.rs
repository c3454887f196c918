//! The strategy: where completions go, and which a worker runs next.
#![allow(unsafe_code)] // a worker's stack is its thread's

use std::fmt;
use std::num::NonZeroUsize;

use crate::completion::Completion;
use crate::error::BuildError;
use crate::local::Local;
use crate::queue::Stack;

/// A concurrency strategy: it decides which thread runs which handler, and in what order.
///
/// Three stand in [`dispatch`](crate::dispatch); one of your own is a queue and an order, and the port does the rest: it
/// waits, wakes, promotes, counts and stops. Two duties follow. What [`dispatch`](Self::dispatch) took, some
/// [`next`](Self::next) must give back, exactly once; and [`is_empty`](Self::is_empty) must never say yes while a
/// completion is held that was taken as [`Placed::Shared`] by a call that has returned. Then no wake-up is lost.
/// [`conformance`](crate::conformance) checks these, and the rest of what a strategy promises.
///
/// ```
/// use proactor::dispatch::{Dispatcher, Injector, Origin, Placed, Worker};
/// use proactor::{BuildError, Completion, Proactor};
/// use std::num::NonZeroUsize;
///
/// #[derive(Default, Debug)]
/// struct FirstComeFirstServed(Injector);
///
/// impl Dispatcher for FirstComeFirstServed {
///     fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
///         Ok(threads.unwrap_or(NonZeroUsize::MIN))
///     }
///     fn dispatch(&self, completion: Completion, _origin: Origin<'_>) -> Placed {
///         self.0.push(completion);
///         Placed::Shared
///     }
///     fn next(&self, _worker: Worker<'_>) -> Option<Completion> {
///         self.0.pop()
///     }
///     fn is_empty(&self) -> bool {
///         self.0.is_empty()
///     }
/// }
///
/// # fn main() -> Result<(), BuildError> {
/// let proactor = Proactor::builder().dispatcher(FirstComeFirstServed::default()).build()?;
/// proactor.post(|| println!("dispatched by a strategy of one's own"));
/// assert_eq!(proactor.run(), 1);
/// # Ok(())
/// # }
/// ```
pub trait Dispatcher: Send + Sync + fmt::Debug + 'static {
    /// Called once, by the thread that builds, before anything else: `threads` is what the builder was told, `None` if
    /// nothing. Returns how many workers there will be: as many as it was told. May allocate.
    ///
    /// # Errors
    ///
    /// [`BuildError::knobs`], saying what to change, if the strategy cannot work with so many.
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError>;

    /// Takes a completion. Called by any thread, often many at once, also from inside handlers; it may lock for a few
    /// instructions but must not wait for other threads' handlers, and it must not run the completion.
    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed;

    /// What `worker` is to run now, or `None` if there is nothing for it. Called by that worker's thread alone, between
    /// handlers; it may lock for a few instructions.
    fn next(&self, worker: Worker<'_>) -> Option<Completion>;

    /// The stack of that worker, if the strategy has one for each: then the port puts what the worker's handlers post there, and takes
    /// from it what comes next, without asking; it asks if the stack is full, or empty, if the worker keeps something, and at each
    /// 64th pick. For strategies that would do just that. Asked once by each thread that becomes a worker.
    fn stack(&self, worker: Worker<'_>) -> Option<&Stack> {
        let _ = worker;
        None
    }

    /// Whether nothing is waiting in places that more than one worker takes from. Called by any thread, at each turn to
    /// sleep; keep it to a few loads. May say no too often (that costs a look), never yes too early.
    fn is_empty(&self) -> bool;

    /// Whether [`dispatch`](Self::dispatch) runs all in turn that comes as [`Origin::Finished`], and does nothing besides. Asked once,
    /// after `attach`: then the port does so itself, without a call for each.
    fn finishes_in_turn(&self) -> bool {
        false
    }

    /// Whether its only worker keeps what it reaps: [`dispatch`](Self::dispatch) of [`Origin::Reaped`] is [`Worker::keep`] and nothing
    /// besides, and [`next`](Self::next) gives what is kept ([`Worker::take_kept`]) before anything else, but for what it does at picks
    /// that are multiples of 16. Asked once, after `attach`: then the port does both itself, and asks `next` when nothing is kept, and
    /// at those picks, at which it must give what is kept if it has nothing else. It does not ask for the first that a wait brings, nor, when all
    /// that was brought has run, before the next wait, if [`is_empty`](Self::is_empty) says so.
    fn keeps_reaped(&self) -> bool {
        false
    }
}

/// Where a completion comes from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Origin<'a> {
    /// A thread that is no worker of this port; or a worker's own leftovers, when it has had its turn or stops.
    Outside,
    /// Posted by a handler that this worker is running.
    Posted(Worker<'a>),
    /// An operation that a handler of this worker initiated and that was finished at once, or a call that it deferred; or the next turn
    /// of [`reply_each`](crate::net::TcpStream::reply_each), the first included, for which there may be bytes already: what follows from
    /// the handler, with the data still warm.
    Finished(Worker<'a>),
    /// Reaped from the port by this worker, which has left its seat and is free; `first` of its batch or not.
    Reaped {
        /// Whose batch.
        worker: Worker<'a>,
        /// Whether it is the first of the batch, and only the first should stay with the worker.
        first: bool,
    },
}

/// Whether somebody may have to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Other workers may take it: one that sleeps is woken, unless one is already on its way.
    Shared,
    /// It stands where only the worker named in the origin looks, which it does before it sleeps.
    Own,
}

/// A worker, as its strategy sees it: its number, and two lists that no other thread sees.
///
/// A worker looks at its turn list first, at most [`turn_budget`](crate::Builder::turn_budget) times in a row, and only then
/// asks its strategy. What is left then goes to the strategy as [`Origin::Outside`].
#[derive(Clone, Copy)]
pub struct Worker<'a>(&'a Local);

impl<'a> Worker<'a> {
    pub(crate) fn new(local: &'a Local) -> Self {
        Self(local)
    }

    /// Which worker, from 0 to `threads() - 1`.
    pub fn index(self) -> usize {
        self.0.index
    }

    /// How many workers the port has.
    pub fn threads(self) -> usize {
        self.0.workers
    }

    /// How many completions this worker has picked: for what is to happen now and then.
    pub fn picks(self) -> usize {
        self.0.picks.get()
    }

    /// Runs `completion` in this worker's turn, before anything else. Only this worker can: use it for what follows from a
    /// handler, not for what another thread could run meanwhile.
    pub fn run_in_turn(self, completion: Completion) -> Placed {
        self.0.turn.push_back(completion);
        Placed::Own
    }

    /// Keeps `completion` for this worker alone, behind what it keeps already. [`take_kept`](Self::take_kept) gives it back.
    pub fn keep(self, completion: Completion) -> Placed {
        self.0.kept.push_back(completion);
        Placed::Own
    }

    /// Puts `completion` on top of this worker's `stack`.
    ///
    /// # Errors
    ///
    /// With the completion, if there is no room, or it is another worker's stack, or the completion another port's.
    #[inline]
    pub fn push(self, stack: &Stack, completion: Completion) -> Result<(), Completion> {
        if !stack.is_of(self.0) || !completion.is_of(self.0.home()) {
            return Err(completion);
        }
        // SAFETY: this thread is the worker, and a `Worker` does not leave its thread; the port is the completion's.
        unsafe { stack.push(completion) }
    }

    /// The youngest of this worker's `stack`; nothing of another's.
    #[inline]
    pub fn pop(self, stack: &Stack) -> Option<Completion> {
        let mine = stack.is_of(self.0);
        // SAFETY: as in `push`.
        mine.then(|| unsafe { stack.pop(self.0) }).flatten()
    }

    /// The oldest of the `stack` of any worker of the same port.
    pub fn steal(self, stack: &Stack) -> Option<Completion> {
        stack.steal(self.0)
    }

    /// The oldest that this worker keeps.
    #[inline]
    pub fn take_kept(self) -> Option<Completion> {
        self.0.kept.pop_front()
    }
}

impl fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({} of {})", self.index(), self.threads())
    }
}
