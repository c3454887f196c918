//! Every knob, its default, and why one would turn it.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::backend::BackendKind;
use crate::dispatch::{Dispatcher, Strategy, WorkStealing};
use crate::error::BuildError;
use crate::port::pool::{Knobs, MOST_SEATS, PanicPolicy};
use crate::sync::Arc;

/// Builds a [`Proactor`](crate::Proactor). Every knob has a default; a combination that cannot be is refused by
/// [`build`](Self::build), with what to change.
///
/// ```
/// use proactor::{dispatch::LeaderFollowers, BackendKind, Proactor};
/// use std::num::NonZeroUsize;
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder()
///     .dispatcher(LeaderFollowers::new()) // the concurrency strategy: this line, and no other
///     .threads(NonZeroUsize::new(2).unwrap())
///     .backend(BackendKind::Auto)
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    pub(crate) dispatcher: Box<dyn Dispatcher>,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) backend: BackendKind,
    pub(crate) knobs: Knobs,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            dispatcher: Box::new(WorkStealing::new()),
            threads: None,
            backend: BackendKind::Auto,
            knobs: Knobs::default(),
        }
    }
}

impl Builder {
    /// All defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The concurrency strategy: one of [`dispatch`](crate::dispatch), or one of your own. Default: [`WorkStealing`].
    /// Change it when measuring says so; nothing else in the program changes with it.
    pub fn dispatcher(mut self, dispatcher: impl Dispatcher) -> Self {
        self.dispatcher = Box::new(dispatcher);
        self
    }

    /// As [`dispatcher`](Self::dispatcher), by name: for a strategy that comes from configuration.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.dispatcher = strategy.dispatcher();
        self
    }

    /// How many threads run handlers. Default: what the strategy says; 1 for the single-threaded one, the number of
    /// processors for the pools. More help when handlers block; fewer leave processors to others.
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How many handlers are runnable at a time, at most: the concurrency value of an I/O completion port. Default: as many as
    /// there are threads, and then nothing is counted. Set it to the number of processors, and more threads than that, if handlers
    /// now and then block in a [`blocking_section`](crate::blocking_section): while one does, another runs in its stead. More than
    /// threads is refused by [`build`](Self::build).
    ///
    /// A handler that blocks outside of a section counts as runnable; one that waits for an output
    /// ([`wait`](crate::Initiation::wait)) does not, while there is nothing to run for it. One that comes back from a section goes on at
    /// once, and a call to one worker ([`post_to`](crate::CompletionPort::post_to)) does not wait for others, so that for a moment there may be
    /// more; no further one begins until there are fewer.
    pub fn concurrency(mut self, handlers: NonZeroUsize) -> Self {
        self.knobs.concurrency = Some(handlers);
        self
    }

    /// What carries operations out. Default: [`BackendKind::Auto`]. Choose `Portable` to compare, or to rule the fast path
    /// out when something is odd.
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// How many events a thread reaps at once. Default: 128. Smaller batches spread a burst over more threads, larger ones
    /// save system calls.
    pub fn batch(mut self, events: NonZeroUsize) -> Self {
        self.knobs.batch = events;
        self
    }

    /// How many threads wait for events at once: 1, the default, or 2. With one, a thread that runs a handler leaves the place
    /// empty at first, and another looks after it once a millisecond while there is anything going on: throughput is highest, and
    /// the others wait 2 ms at most, and a few on a busy machine, beside a handler that is long. With two, a second thread listens
    /// at once while the first runs its handler, and each event may wake a thread, which cost a quarter of the throughput at 64
    /// connections where cores were shared (`docs/decisions.md`, 5). The portable backend always has one; a pool of one thread needs one. More than 2 is refused by [`build`](Self::build).
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::num::NonZeroUsize;
    /// let two = NonZeroUsize::new(2).unwrap();
    /// assert!(Proactor::builder().seats(two).build().is_ok());
    /// let three = NonZeroUsize::new(3).unwrap();
    /// assert!(Proactor::builder().seats(three).build().is_err());
    /// ```
    pub fn seats(mut self, threads: NonZeroUsize) -> Self {
        self.knobs.seats = threads;
        self
    }

    /// How many completions in a row a thread runs of what its own handlers finished, before the queue has its turn; a future that goes
    /// on since its output was there at once counts as one. Default: 16. More keeps data warm, fewer is fairer; 0 is strict order of
    /// arrival.
    pub fn turn_budget(mut self, completions: usize) -> Self {
        self.knobs.turn_budget = completions;
        self
    }

    /// After how many picks from the queues a busy thread looks for events, if nobody else waits for them; but no more often than
    /// each 20 microseconds. Default: 64. Lower it if handlers are long and there is one thread.
    pub fn poll_every(mut self, picks: NonZeroUsize) -> Self {
        self.knobs.poll_every = picks;
        self
    }

    /// How long a thread that has nothing to run looks for work before it sleeps. Default: not at all. It burns a processor for
    /// the sake of a faster wake-up; some tens of microseconds at most are sensible. A thread spins only beside another one that waits
    /// for events: one thread alone never does.
    pub fn spin(mut self, before_sleep: Duration) -> Self {
        self.knobs.spin = before_sleep;
        self
    }

    /// How many calls that come from outside may be pending: queued, or running. Default: as many as memory holds. Set it where
    /// threads that produce work can outrun those that run it. Beyond it:
    ///
    /// - [`post`](crate::CompletionPort::post) from a thread that is none of the workers blocks until there is room;
    /// - [`try_post`](crate::CompletionPort::try_post) and [`try_submit`](crate::Initiation::try_submit) hand back what they were
    ///   given, inside [`Full`](crate::Full), from wherever they are called;
    /// - `post` inside a handler goes through and is not counted, since room is made by handlers: one that waited for
    ///   room could wait for itself.
    ///
    /// Never more than that many are pending of what was counted. Operations that are begun with
    /// [`then`](crate::Initiation::then), and timers, are not.
    pub fn max_pending(mut self, calls: NonZeroUsize) -> Self {
        self.knobs.max_pending = Some(calls);
        self
    }

    /// What the threads that it starts are called: the worker's number is appended, or, for those of
    /// [`blocking`](crate::Proactor::blocking), `b` and a number. Default: `proactor`. A name with a NUL byte is
    /// refused by [`build`](Self::build).
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.knobs.thread_name = name.into();
        self
    }

    /// The stack of each thread that the proactor starts, in bytes. Default: the standard library's (2 MiB). Raise it for
    /// handlers that recurse. More than 2⁴⁷ is refused by [`build`](Self::build).
    pub fn stack_size(mut self, bytes: NonZeroUsize) -> Self {
        self.knobs.stack_size = Some(bytes);
        self
    }

    /// How many calls of [`blocking`](crate::Proactor::blocking) are made at once, each on a thread of its own. Default: 64; at most
    /// 1024. Threads start on demand and end after a second without a call. Raise it if calls block for long and others should
    /// not wait behind them, or if calls wait for each other; lower it to spare what they call.
    pub fn blocking_threads(mut self, most: NonZeroUsize) -> Self {
        self.knobs.blocking_threads = most;
        self
    }

    /// Called with the worker's number, on its thread, when that begins to run in `run` or `start`. Default: nothing. This is
    /// the place to pin it to a processor:
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # fn main() -> Result<(), proactor::BuildError> {
    /// use proactor::Proactor;
    /// use rustix::thread::{sched_setaffinity, CpuSet};
    ///
    /// let proactor = Proactor::builder()
    ///     .on_thread_start(|worker| {
    ///         let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    ///         let mut only = CpuSet::new();
    ///         only.set(worker % processors);
    ///         if let Err(refused) = sched_setaffinity(None, &only) { // None: this thread
    ///             eprintln!("worker {worker} is not pinned: {refused}");
    ///         }
    ///     })
    ///     .build()?;
    /// proactor.post(|| ());
    /// assert_eq!(proactor.run(), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.knobs.on_start = Some(Arc::new(hook));
        self
    }

    /// Called with the worker's number, on its thread, when that has ended its run. Default: nothing.
    pub fn on_thread_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.knobs.on_stop = Some(Arc::new(hook));
        self
    }

    /// What a handler's panic leads to. Default: [`PanicPolicy::Propagate`].
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.knobs.panic = policy;
        self
    }

    /// Checks the knobs, and has the strategy say how many threads there are.
    pub(crate) fn check(mut self) -> Result<Self, BuildError> {
        const MOST: usize = 1024;
        // An address space; beyond it the standard library panics, up to it the system refuses.
        const MOST_STACK: usize = 1 << 47;
        if self.knobs.thread_name.contains('\0') {
            return Err(BuildError::knobs(
                "thread_name has a NUL byte, which no thread's name can have: take it out",
            ));
        }
        if self.knobs.batch.get() > 65_536 {
            return Err(BuildError::knobs(format!(
                "batch({}) is more than 65536: lower it",
                self.knobs.batch
            )));
        }
        if self.knobs.seats > MOST_SEATS {
            return Err(BuildError::knobs(format!(
                "seats({}) is more than {MOST_SEATS}: lower it",
                self.knobs.seats
            )));
        }
        if let Some(stack) = self.knobs.stack_size.filter(|size| size.get() > MOST_STACK) {
            return Err(BuildError::knobs(format!(
                "stack_size({stack}) is more than {MOST_STACK} bytes: lower it"
            )));
        }
        // Before the strategy makes room for them, and after it has said how many.
        let few = |threads: NonZeroUsize, whose: &str| match threads.get() {
            0..=MOST => Ok(threads),
            _ => Err(BuildError::knobs(format!(
                "{whose}({threads}) is more than {MOST}: lower it"
            ))),
        };
        self.knobs.blocking_threads = few(self.knobs.blocking_threads, "blocking_threads")?;
        let asked = self
            .threads
            .map(|asked| few(asked, "threads"))
            .transpose()?;
        let answered = self.dispatcher.attach(asked)?;
        self.knobs.workers = few(answered, "what the strategy's attach answers, threads")?;
        let (asked, workers) = (self.knobs.concurrency, self.knobs.workers);
        if let Some(handlers) = asked.filter(|&handlers| handlers > workers) {
            return Err(BuildError::knobs(format!(
                "concurrency({handlers}) is more than there are threads, {workers}: lower it, or raise threads"
            )));
        }
        Ok(self)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("dispatcher", &self.dispatcher)
            .field("threads", &self.threads)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
