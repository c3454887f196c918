//! The whole: a port, a strategy, and threads that run.

mod begin;

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use crate::builder::Builder;
#[cfg(not(proactor_loom))]
use crate::error::BuildError;
use crate::error::{Error, Full, NoWorker};
use crate::id::Kind;
use crate::initiation::WAIT_DEPTH;
use crate::local::Local;
use crate::operation::OperationKey;
use crate::port::pool::Place;
use crate::port::worker::{Bounds, Ran};
use crate::port::{CancelOutcome, CompletionPort, Inner, halt};
use crate::sync::{Arc, Mutex, mutant, scope, spawn_scoped, thread};

/// A completion port, the strategy that dispatches what comes out of it, and the threads that run handlers.
///
/// It owns what it runs: dropped, it stops, closes every object, and drops handlers that are left uncalled. It may be shared
/// (`&Proactor`, `Arc<Proactor>`), and dropped inside a handler.
///
/// ```
/// use proactor::Proactor;
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder().build()?;
/// proactor.post(|| println!("a handler"));
/// assert_eq!(proactor.run(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Proactor {
    port: CompletionPort,
    background: Mutex<Background>,
}

#[derive(Default)]
struct Background {
    threads: Vec<thread::JoinHandle<Option<Box<dyn Any + Send>>>>,
    guard: Option<WorkGuard>,
}

impl Builder {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if knobs do not go together (it says what to change) or the operating system refuses the port's
    /// descriptors.
    #[cfg(not(proactor_loom))]
    pub fn build(self) -> Result<Proactor, BuildError> {
        let checked = self.check()?;
        let backend = crate::backend::make(checked.backend, checked.knobs.seats, Inner::let_go)?;
        Ok(Proactor::over(CompletionPort(Inner::new(
            backend,
            checked.dispatcher,
            checked.knobs,
            false,
        ))))
    }
}

/// Keeps `run` from returning for want of work. Made by [`Proactor::guard`]; dropping it lets go.
///
/// ```
/// use proactor::Proactor;
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder().build()?;
/// let guard = proactor.guard();
/// proactor.post(move || drop(guard)); // without this, run would wait for more
/// proactor.run();
/// # Ok(())
/// # }
/// ```
pub struct WorkGuard {
    port: CompletionPort,
}

impl WorkGuard {
    pub(crate) fn of(port: CompletionPort) -> Self {
        port.0.home.ledger.created(None);
        Self { port }
    }
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.port.0.cross_off();
    }
}

impl fmt::Debug for WorkGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkGuard")
    }
}

/// What a shutdown left.
///
/// ```
/// use proactor::Proactor;
/// use std::time::{Duration, Instant};
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder().build()?;
/// proactor.post(|| ());
/// let report = proactor.shutdown(Instant::now() + Duration::from_secs(5));
/// assert_eq!((report.ran, report.cancelled, report.left), (1, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many handlers this thread ran meanwhile.
    pub ran: usize,
    /// How many operations were outstanding at the deadline, and were cancelled.
    pub cancelled: usize,
    /// How many handlers were left all the same, and are dropped uncalled with the proactor.
    pub left: usize,
}

/// How long a shutdown gives handlers to see their cancellation, once the deadline is past.
const LAST_CALL: Duration = Duration::from_secs(1);

impl Proactor {
    /// A builder with every default.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn over(port: CompletionPort) -> Self {
        Self {
            port,
            background: Mutex::new(Background::default()),
        }
    }

    /// The port: a cheap clone of it goes wherever operations are initiated.
    pub fn port(&self) -> &CompletionPort {
        &self.port
    }

    fn inner(&self) -> &Inner {
        &self.port.0
    }

    /// Runs handlers until no work is outstanding, or [`stop`](Self::stop): on this thread and, if the builder was told more, on as
    /// many others as it said, which are started for this call and have ended when it returns. Returns how many handlers
    /// they ran. Other threads may call it, too: they take places that are free, or wait for one, and all of them
    /// return together.
    ///
    /// Called inside a handler it runs other handlers, on this thread alone, until [`stop`](Self::stop): the handler that
    /// calls is work itself. More than [`WAIT_DEPTH`] handlers deep it runs none.
    ///
    /// # Panics
    ///
    /// With a handler's panic, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate). What is left stays for the
    /// next `run`.
    pub fn run(&self) -> usize {
        let inner = self.inner();
        if Local::with_any(&inner.home, |local| local.is_some()) {
            return self.run_here(Bounds::FOREVER);
        }
        let mine = match inner.pool.claim() {
            Some(place) => place,
            None => match inner
                .pool
                .claim_or(|| inner.is_stopped() || inner.home.ledger.is_settled())
            {
                Some(place) => place,
                None => return 0,
            },
        };
        let others: Vec<Place<'_>> = std::iter::from_fn(|| inner.pool.claim()).collect();
        let ran = run_all(inner, mine, others);
        if let Some(panic) = ran.panic {
            resume_unwind(panic);
        }
        ran.handlers
    }

    /// Runs at most one handler, on this thread, waiting for it if need be; 0 when none was outstanding, the proactor is stopped,
    /// or all of its threads are at work. Inside a handler it does not wait: that handler is outstanding itself.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_one(&self) -> usize {
        let inside = Local::with_any(&self.inner().home, |local| local.is_some());
        self.run_here(Bounds {
            limit: 1,
            wait: !inside,
            ..Bounds::FOREVER
        })
    }

    /// Runs handlers on this thread for that long, or until none is outstanding, or `stop`.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_for(&self, duration: Duration) -> usize {
        self.run_until(crate::port::timers::from_now(duration))
    }

    /// Runs handlers on this thread until then, or until none is outstanding, or `stop`. One that has begun is finished.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_until(&self, deadline: Instant) -> usize {
        self.run_here(Bounds {
            deadline: Some(deadline),
            ..Bounds::FOREVER
        })
    }

    /// Runs what is ready, on this thread, without waiting.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn poll(&self) -> usize {
        self.run_here(Bounds {
            wait: false,
            ..Bounds::FOREVER
        })
    }

    /// Runs at most one handler that is ready, on this thread, without waiting.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn poll_one(&self) -> usize {
        self.run_here(Bounds {
            wait: false,
            limit: 1,
            ..Bounds::FOREVER
        })
    }

    /// On this thread: nested if it is a worker already, else at a place of its own; if there is none, not at all.
    fn run_here(&self, bounds: Bounds<'_>) -> usize {
        let inner = self.inner();
        let help = |local: &Local| {
            if local.depth.get() < WAIT_DEPTH {
                inner.help(local, bounds)
            } else {
                Ran::default()
            }
        };
        let nested = Local::with_any(&inner.home, |local| local.map(help));
        let ran = nested
            .or_else(|| inner.pool.claim().map(|place| inner.work(&place, bounds)))
            .unwrap_or_default();
        if let Some(panic) = ran.panic {
            resume_unwind(panic);
        }
        ran.handlers
    }

    /// Starts the threads in the background, where they run handlers until [`stop`](Self::stop), and again after
    /// [`restart`](Self::restart), until [`shutdown`](Self::shutdown); also while nothing is outstanding. Once they are there, a
    /// second call does nothing.
    ///
    /// # Errors
    ///
    /// The operating system's, if it refuses a thread; those that were started are stopped again.
    pub fn start(&self) -> Result<(), Error> {
        let mut background = self.background.lock();
        if !background.threads.is_empty() {
            return Ok(());
        }
        self.inner().pool.set_ending(false);
        background.guard = Some(self.guard());
        let inner = &self.port.0;
        for index in 0..inner.pool.knobs.workers.get() {
            let mine = Arc::clone(inner);
            match inner
                .pool
                .knobs
                .thread(index)
                .spawn(move || in_background(&mine))
            {
                Ok(thread) => background.threads.push(thread),
                Err(error) => {
                    drop(background);
                    self.stop();
                    self.join();
                    return Err(Error::from_io(Kind::Start, &error));
                }
            }
        }
        Ok(())
    }

    /// Makes every thread that runs this proactor return as soon as its handler does. What is ready stays, for a later run after
    /// [`restart`](Self::restart). From any thread, also from a handler.
    pub fn stop(&self) {
        self.port.stop();
    }

    /// Whether it is stopped. Who finds it so has seen what came before the [`stop`](Self::stop).
    pub fn stopped(&self) -> bool {
        self.inner().is_stopped()
    }

    /// Lets it run again after [`stop`](Self::stop).
    pub fn restart(&self) {
        self.inner().lower(halt::STOPPED | halt::PANICKED);
    }

    /// Work that is outstanding for as long as the guard lives: `run` does not return meanwhile.
    #[must_use = "a guard that is dropped at once keeps nothing"]
    pub fn guard(&self) -> WorkGuard {
        WorkGuard::of(self.port.clone())
    }

    /// Ends everything: [stops accepting](CompletionPort::stop_accepting) connections, runs handlers until nothing is outstanding or
    /// `deadline`, then closes the port, which cancels what is left, lets the handlers see that, stops, and joins background threads.
    /// Says what was left. Afterwards it stays closed.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), also with the panic of a handler that ran in the background.
    pub fn shutdown(&self, deadline: Instant) -> ShutdownReport {
        self.background.lock().guard = None;
        self.port.stop_accepting();
        let mut ran = self.drain(deadline);
        let cancelled = self.port.outstanding();
        self.port.close();
        self.inner().tasks.end();
        if cancelled > 0 && !mutant("shutdown-leaves-at-once") {
            ran += self.drain(Instant::now() + LAST_CALL);
        }
        let left = self.port.outstanding();
        self.stop();
        if let Some(panic) = self.join() {
            resume_unwind(panic);
        }
        ShutdownReport {
            ran,
            cancelled,
            left,
        }
    }

    /// Has everything run until nothing is outstanding or `deadline`.
    fn drain(&self, deadline: Instant) -> usize {
        let inner = self.inner();
        let mut ran = 0;
        while !inner.home.ledger.is_settled() && Instant::now() < deadline && !inner.is_stopped() {
            if inner.pool.busy() < inner.pool.knobs.workers.get() {
                ran += self.run_until(deadline);
            } else {
                inner.pool.await_change_until(deadline, || {
                    inner.home.ledger.is_settled() || inner.is_stopped()
                });
            }
        }
        ran
    }

    /// Joins the background, unless this is one of its threads.
    fn join(&self) -> Option<Box<dyn Any + Send>> {
        let (threads, guard) = {
            let mut background = self.background.lock();
            (
                std::mem::take(&mut background.threads),
                background.guard.take(),
            )
        };
        drop(guard);
        self.inner().pool.set_ending(true);
        let here = thread::current().id();
        let mut panic = None;
        for thread in threads {
            if thread.thread().id() != here || mutant("drop-joins-itself") {
                panic = thread.join().unwrap_or_else(Some).or(panic);
            }
        }
        panic
    }

    /// As [`CompletionPort::post`].
    pub fn post<F: FnOnce() + Send + 'static>(&self, call: F) {
        self.port.post(call);
    }

    /// As [`CompletionPort::try_post`].
    ///
    /// # Errors
    ///
    /// [`Full`], with the call in it, if as many are pending as may be.
    pub fn try_post<F: FnOnce() + Send + 'static>(&self, call: F) -> Result<(), Full<F>> {
        self.port.try_post(call)
    }

    /// As [`CompletionPort::post_keyed`].
    pub fn post_keyed<F: FnOnce() + Send + 'static>(&self, key: u64, call: F) {
        self.port.post_keyed(key, call);
    }

    /// As [`CompletionPort::post_to`].
    ///
    /// # Errors
    ///
    /// [`NoWorker`], with the call in it, if the number is too large.
    pub fn post_to<F: FnOnce() + Send + 'static>(
        &self,
        worker: usize,
        call: F,
    ) -> Result<(), NoWorker<F>> {
        self.port.post_to(worker, call)
    }

    /// As [`CompletionPort::dispatch`].
    pub fn dispatch<F: FnOnce() + Send + 'static>(&self, call: F) {
        self.port.dispatch(call);
    }

    /// As [`CompletionPort::defer`].
    pub fn defer<F: FnOnce() + Send + 'static>(&self, call: F) {
        self.port.defer(call);
    }

    /// As [`CompletionPort::cancel`].
    pub fn cancel(&self, key: OperationKey) -> CancelOutcome {
        self.port.cancel(key)
    }
}

/// Works at `place`, with the hooks around.
fn hooked<'a>(inner: &'a Inner, place: &Place<'a>) -> Ran {
    let knobs = &inner.pool.knobs;
    if let Some(hook) = &knobs.on_start {
        hook(place.index);
    }
    let ran = inner.work(place, Bounds::FOREVER);
    if let Some(hook) = &knobs.on_stop {
        hook(place.index);
    }
    if ran.panic.is_some() {
        // The others of this run return, too.
        inner.raise(halt::PANICKED);
    }
    ran
}

/// A background thread: works until the end, except while stopped. Its handler's panic is for whoever joins it.
fn in_background(inner: &Inner) -> Option<Box<dyn Any + Send>> {
    while !inner.pool.is_ending() {
        if let Some(place) = inner.pool.claim_or(|| inner.is_stopped()) {
            let ran = hooked(inner, &place);
            drop(place);
            if ran.panic.is_some() {
                return ran.panic;
            }
        }
        // Stopped, perhaps to be restarted; or out of work, though the guard held: shutdown has let go of it.
        let may_work = || !inner.is_stopped() && !inner.home.ledger.is_settled();
        inner
            .pool
            .await_change(|| inner.pool.is_ending() || may_work());
    }
    None
}

/// This thread at `mine`, and a thread for each of `others`.
fn run_all<'a>(inner: &'a Inner, mine: Place<'a>, others: Vec<Place<'a>>) -> Ran {
    let total = if others.is_empty() {
        hooked(inner, &mine)
    } else {
        scope(|scope| {
            let threads: Vec<_> = others
                .into_iter()
                // A thread that the system refuses is done without: this one is enough to run everything.
                .filter_map(|place| {
                    let thread = inner.pool.knobs.thread(place.index);
                    spawn_scoped(thread, scope, move || hooked(inner, &place)).ok()
                })
                .collect();
            let mut total = hooked(inner, &mine);
            for thread in threads {
                let ran = thread.join().unwrap_or_else(|panic| Ran {
                    handlers: 0,
                    panic: Some(panic),
                });
                total.handlers += ran.handlers;
                total.panic = total.panic.or(ran.panic);
            }
            total
        })
    };
    drop(mine);
    if total.panic.is_some() {
        inner.lower(halt::PANICKED);
    }
    total
}

impl AsRef<CompletionPort> for Proactor {
    fn as_ref(&self) -> &CompletionPort {
        &self.port
    }
}

impl Drop for Proactor {
    /// Stops, joins the background, closes, and drops what is left uncalled. Inside a handler of its own it joins nothing: what runs
    /// ends by itself, and the last thread to leave drops what is left.
    fn drop(&mut self) {
        self.inner().raise(halt::STOPPED | halt::ENDED);
        let inside = Local::with_any(&self.inner().home, |local| local.is_some());
        if inside && !mutant("drop-joins-itself") {
            self.inner().pool.set_ending(true);
        } else {
            let _ = self.join();
        }
        self.inner().discard();
    }
}

impl fmt::Debug for Proactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proactor")
            .field("port", &self.port)
            .field("stopped", &self.stopped())
            .finish()
    }
}
