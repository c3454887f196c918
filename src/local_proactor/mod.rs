//! One thread's proactor, whose handlers need not be `Send`.

mod spawn;
mod table;

use std::fmt;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backend::BackendKind;
use crate::builder::Builder;
use crate::dispatch::SingleThreaded;
use crate::error::BuildError;
use crate::initiation::{Initiation, Unbound};
use crate::local::Local;
use crate::operation::{Operation, OperationKey};
use crate::port::pool::PanicPolicy;
use crate::port::{CancelOutcome, CompletionPort};
use crate::proactor::{Proactor, ShutdownReport, WorkGuard};
use crate::sync::thread;
use crate::time::Sleep;
pub use spawn::LocalJoinHandle;
use table::Table;

/// A proactor of one thread: handlers run where it was built and nowhere else, so what they capture need be neither `Send` nor
/// locked. It stands outside the library's claim that the strategy is one builder line: there is one strategy.
///
/// Sockets are opened on it as on any proactor; [`here`](Initiation::here) then takes a handler that stays on this thread. A
/// handler that goes on with the proactor takes along a [`LocalPort`], its cheap clone.
///
/// ```
/// use proactor::{net::{TcpListener, TcpStream}, LocalPort, LocalProactor};
/// use std::{cell::RefCell, rc::Rc};
///
/// fn read(local: LocalPort, stream: TcpStream, heard: Rc<RefCell<Vec<u8>>>) {
///     stream.read(Vec::with_capacity(64)).here(&local).then(move |(result, buf)| if result.is_ok_and(|n| n > 0) {
///         heard.borrow_mut().extend(buf); // no lock, and no other thread
///         read(local, stream, heard);
///     });
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let local = LocalProactor::new()?;
/// let heard = Rc::new(RefCell::new(Vec::new()));
/// let listener = TcpListener::bind(&local, "127.0.0.1:0".parse()?)?;
/// let address = listener.local_addr()?;
/// listener.accept().here(&local).then({
///     let (local, heard) = (local.port().clone(), Rc::clone(&heard));
///     move |result| read(local, result.expect("a connection").0, heard)
/// });
/// TcpStream::connect(&local, address).here(&local).then(|result| {
///     let stream = result.expect("connected");
///     stream.write_all("hello").then(move |_| drop(stream)); // this one may go without `here`
/// });
/// local.run();
/// assert_eq!(heard.take(), b"hello");
/// # Ok(())
/// # }
/// ```
///
/// # What other threads can do
///
/// A `LocalProactor` and a `LocalPort` do not leave their thread; that is a matter of types. Objects do, for a `TcpStream` is
/// `Send`, and so does the [`CompletionPort`] that [`remote`](LocalPort::remote) shows. None of it runs or drops a handler of
/// [`here`](Initiation::here) elsewhere: the handler itself never leaves a table of its own thread, and its operation carries
/// but the number of its place there. So:
///
/// | elsewhere | here |
/// |---|---|
/// | `remote().post(call)` | wakes this proactor and runs `call`, which is `Send`, among the handlers |
/// | an operation with `.then`, of a stream that went there | its handler, which is `Send`, runs here |
/// | an operation with `.wait` | that thread blocks until this one has run it, and never works for this proactor itself; while nobody runs this proactor, it waits |
/// | a future that was [spawned](LocalPort::spawn) here is woken | it is polled here |
/// | a stream is closed or dropped, a key cancelled | what was pending ends as cancelled: its handler is called here |
/// | `remote().seat()`, and a completion of it is run there | the output comes here, and the handler is called |
/// | the same, and the completion is dropped | the handler is dropped, uncalled, here |
/// | `remote().stop()`, `close()` | as for a [`Proactor`] |
/// | all that, after the `LocalProactor` was dropped | nothing: its handlers were dropped then, here |
///
/// It goes the other way, too: an operation of another proactor can have its handler [`here`](Initiation::here).
///
/// # Cost
///
/// A handler stands in a table by its type; once warm nothing is allocated, and each type's part of the table has room for the
/// most of its handlers that were ever pending at once. Beyond what the operation costs there is one lookup for keeping the handler, one
/// for finding it. Nothing is locked or counted for it.
///
/// # The end
///
/// Dropping it drops every handler that has not run, uncalled, and closes its sockets. It is borrowed while it runs, so no handler
/// can drop it; one may stop it. A `LocalPort` that a handler captured does not keep it: afterwards what is begun with that
/// goes on without its handler, which is dropped at once.
///
/// A handler's panic goes out of [`run`](Self::run), or where [`LocalBuilder::panic_policy`] says. It loses no other handler.
pub struct LocalProactor {
    port: LocalPort,
    proactor: Proactor,
}

/// What a [`LocalProactor`]'s handlers take along to post and to begin operations: a cheap clone, for the same thread.
///
/// ```
/// use proactor::{LocalPort, LocalProactor};
/// use std::{cell::Cell, rc::Rc};
/// fn count(local: &LocalPort, calls: Rc<Cell<u32>>) {
///     let next = local.clone();
///     local.post(move || {
///         calls.set(calls.get() + 1);
///         if calls.get() < 3 {
///             count(&next, calls);
///         }
///     });
/// }
/// # fn main() -> Result<(), proactor::BuildError> {
/// let local = LocalProactor::new()?;
/// count(local.port(), Rc::default());
/// assert_eq!(local.run(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalPort(Rc<Table>);

/// The handler is bound to the thread of a [`LocalProactor`], and need not be `Send`. See [`Initiation::here`].
#[derive(Clone, Debug)]
pub struct Here(LocalPort);

/// Builds a [`LocalProactor`]. It has the knobs of [`Builder`] that mean something to one thread.
///
/// ```
/// use proactor::{BackendKind, LocalProactor};
/// # fn main() -> Result<(), proactor::BuildError> {
/// let local = LocalProactor::builder().backend(BackendKind::Portable).turn_budget(0).build()?;
/// local.post(|| ());
/// assert_eq!(local.run(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalBuilder(Builder);

impl LocalBuilder {
    /// As [`Builder::backend`].
    pub fn backend(self, backend: BackendKind) -> Self {
        Self(self.0.backend(backend))
    }

    /// As [`Builder::batch`].
    pub fn batch(self, events: NonZeroUsize) -> Self {
        Self(self.0.batch(events))
    }

    /// As [`Builder::turn_budget`].
    pub fn turn_budget(self, completions: usize) -> Self {
        Self(self.0.turn_budget(completions))
    }

    /// As [`Builder::poll_every`].
    pub fn poll_every(self, picks: NonZeroUsize) -> Self {
        Self(self.0.poll_every(picks))
    }

    /// As [`Builder::panic_policy`].
    pub fn panic_policy(self, policy: PanicPolicy) -> Self {
        Self(self.0.panic_policy(policy))
    }

    /// Builds it, for the thread that calls.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if a knob cannot be (it says what to change) or the operating system refuses the port's descriptors.
    pub fn build(mut self) -> Result<LocalProactor, BuildError> {
        self.0.knobs.only = Some(thread::current());
        let proactor = self.0.build()?;
        let port = LocalPort(Table::new(proactor.port().clone()));
        Ok(LocalProactor { port, proactor })
    }
}

impl LocalProactor {
    /// One with every default, for the thread that calls.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if the operating system refuses the port's descriptors.
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// A builder with every default.
    pub fn builder() -> LocalBuilder {
        LocalBuilder(Builder::new().dispatcher(SingleThreaded::new()))
    }

    /// What handlers take along.
    pub fn port(&self) -> &LocalPort {
        &self.port
    }

    /// As [`LocalPort::remote`].
    pub fn remote(&self) -> &CompletionPort {
        self.port.remote()
    }

    /// As [`LocalPort::post`].
    pub fn post<F: FnOnce() + 'static>(&self, call: F) {
        self.port.post(call);
    }

    /// As [`LocalPort::dispatch`].
    pub fn dispatch<F: FnOnce() + 'static>(&self, call: F) {
        self.port.dispatch(call);
    }

    /// As [`LocalPort::defer`].
    pub fn defer<F: FnOnce() + 'static>(&self, call: F) {
        self.port.defer(call);
    }

    /// As [`LocalPort::sleep`].
    pub fn sleep(&self, duration: Duration) -> Initiation<Sleep, Here> {
        self.port.sleep(duration)
    }

    /// As [`LocalPort::sleep_until`].
    pub fn sleep_until(&self, at: Instant) -> Initiation<Sleep, Here> {
        self.port.sleep_until(at)
    }

    /// As [`CompletionPort::cancel`].
    pub fn cancel(&self, key: OperationKey) -> CancelOutcome {
        self.port.cancel(key)
    }

    /// Runs handlers on this thread until no work is outstanding, or [`stop`](Self::stop). Returns how many. Inside a handler it
    /// runs other handlers until `stop`, as [`Proactor::run`] does.
    ///
    /// # Panics
    ///
    /// With a handler's panic, under [`PanicPolicy::Propagate`]. What is left stays for the next `run`.
    pub fn run(&self) -> usize {
        self.proactor.run()
    }

    /// As [`Proactor::run_one`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_one(&self) -> usize {
        self.proactor.run_one()
    }

    /// As [`Proactor::run_for`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_for(&self, duration: Duration) -> usize {
        self.proactor.run_for(duration)
    }

    /// As [`Proactor::run_until`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_until(&self, deadline: Instant) -> usize {
        self.proactor.run_until(deadline)
    }

    /// As [`Proactor::poll`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn poll(&self) -> usize {
        self.proactor.poll()
    }

    /// As [`Proactor::poll_one`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn poll_one(&self) -> usize {
        self.proactor.poll_one()
    }

    /// As [`Proactor::stop`]. Other threads say it to [`remote`](Self::remote).
    pub fn stop(&self) {
        self.proactor.stop();
    }

    /// As [`Proactor::stopped`].
    pub fn stopped(&self) -> bool {
        self.proactor.stopped()
    }

    /// As [`Proactor::restart`].
    pub fn restart(&self) {
        self.proactor.restart();
    }

    /// As [`Proactor::guard`]. The guard may go to another thread.
    pub fn guard(&self) -> WorkGuard {
        self.proactor.guard()
    }

    /// As [`Proactor::shutdown`].
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn shutdown(&self, deadline: Instant) -> ShutdownReport {
        self.proactor.shutdown(deadline)
    }
}

impl LocalPort {
    /// Queues `call`, which runs on this thread, never inside this call, in the order of posting. Does not block. On a proactor that
    /// was dropped `call` is dropped.
    pub fn post<F: FnOnce() + 'static>(&self, call: F) {
        if let Ok(ticket) = self.0.keep(call) {
            self.remote().post(move || ticket.redeem(|call: F| call()));
        }
    }

    /// Runs `call` now, if this thread is inside a handler of this proactor; else as [`post`](Self::post).
    pub fn dispatch<F: FnOnce() + 'static>(&self, call: F) {
        let home = &self.remote().0.home;
        if Local::with(home, |local| {
            local.is_some_and(|local| local.depth.get() > 0)
        }) {
            call();
        } else {
            self.post(call);
        }
    }

    /// Queues `call` as what follows from this handler, before what is queued already. Outside of a handler as
    /// [`post`](Self::post).
    pub fn defer<F: FnOnce() + 'static>(&self, call: F) {
        if let Ok(ticket) = self.0.keep(call) {
            self.remote().defer(move || ticket.redeem(|call: F| call()));
        }
    }

    /// As [`CompletionPort::sleep`], its handler bound to this thread.
    pub fn sleep(&self, duration: Duration) -> Initiation<Sleep, Here> {
        self.remote().sleep(duration).here(self)
    }

    /// As [`CompletionPort::sleep_until`], its handler bound to this thread.
    pub fn sleep_until(&self, at: Instant) -> Initiation<Sleep, Here> {
        self.remote().sleep_until(at).here(self)
    }

    /// As [`CompletionPort::cancel`].
    pub fn cancel(&self, key: OperationKey) -> CancelOutcome {
        self.remote().cancel(key)
    }

    /// As [`CompletionPort::stop`]: for a handler.
    pub fn stop(&self) {
        self.remote().stop();
    }

    /// What other threads may have: a clone of it posts from there, and wakes this proactor; what it posts is `Send`.
    ///
    /// ```
    /// use proactor::LocalProactor;
    /// # fn main() -> Result<(), proactor::BuildError> {
    /// let local = LocalProactor::new()?;
    /// let (remote, guard) = (local.remote().clone(), local.guard());
    /// let elsewhere = std::thread::spawn(move || remote.post(move || drop(guard)));
    /// assert_eq!(local.run(), 1); // waits for it
    /// # elsewhere.join().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn remote(&self) -> &CompletionPort {
        self.0.port()
    }
}

impl<O: Operation> Initiation<O> {
    /// Binds the handler to this thread, on which `local` runs it: so it need not be `Send`. The operation may be another
    /// proactor's, too; its output is then sent here, and `local` counts it as work.
    ///
    /// ```
    /// use proactor::{LocalProactor, Proactor};
    /// use std::{cell::Cell, rc::Rc, time::Duration};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (pool, local) = (Proactor::builder().build()?, LocalProactor::new()?);
    /// pool.start()?;
    /// let slept = Rc::new(Cell::new(false));
    /// let wanted = Rc::clone(&slept);
    /// pool.sleep(Duration::from_millis(1)).here(&local).then(move |result| wanted.set(result.is_ok()));
    /// local.run();
    /// assert!(slept.get());
    /// # Ok(())
    /// # }
    /// ```
    pub fn here(self, local: &impl AsRef<LocalPort>) -> Initiation<O, Here> {
        self.bind(Here(local.as_ref().clone())).0
    }
}

impl<O: Operation> Initiation<O, Here> {
    /// As [`then`](Initiation::then) of what is not bound, but `handler` is called and dropped on this thread alone. If the
    /// [`LocalProactor`] is gone, it is dropped at once, and the operation goes on without.
    pub fn then<H: FnOnce(O::Output) + 'static>(self, handler: H) -> OperationKey {
        let (initiation, Here(local)) = self.bind(Unbound);
        let Ok(ticket) = local.0.keep(handler) else {
            return initiation.then(drop);
        };
        let elsewhere = initiation.port_number() != local.0.number();
        let guard = elsewhere.then(|| WorkGuard::of(local.remote().clone()));
        initiation.then(move |output| {
            ticket.redeem(move |handler: H| {
                drop(guard); // The call that this is in counts by itself.
                handler(output);
            });
        })
    }

    /// As [`wait`](Initiation::wait) of what is not bound.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn wait(self) -> O::Output {
        self.bind(Unbound).0.wait()
    }
}

impl Drop for LocalProactor {
    /// Handlers first: what they captured, sockets of this proactor for the most part, is closed while that can still be said.
    fn drop(&mut self) {
        self.port.0.end();
    }
}

impl AsRef<CompletionPort> for LocalProactor {
    fn as_ref(&self) -> &CompletionPort {
        self.remote()
    }
}

impl AsRef<CompletionPort> for LocalPort {
    fn as_ref(&self) -> &CompletionPort {
        self.remote()
    }
}

impl AsRef<LocalPort> for LocalProactor {
    fn as_ref(&self) -> &LocalPort {
        &self.port
    }
}

impl AsRef<LocalPort> for LocalPort {
    fn as_ref(&self) -> &LocalPort {
        self
    }
}

impl fmt::Debug for LocalProactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalProactor")
            .field(&self.proactor)
            .finish()
    }
}

impl fmt::Debug for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalPort").field(self.remote()).finish()
    }
}
