//! An operation described but not begun: its last method decides how it completes.

use std::fmt;
use std::time::{Duration, Instant};

use crate::backend::registry::Fd;
use crate::error::Error;
use crate::id::ObjectId;
use crate::local::Local;
use crate::operation::{self, Operation, OperationKey, code};
use crate::port::object::Handle;
use crate::port::worker::Bounds;
use crate::port::{CompletionPort, Inner};
use crate::sync::{Arc, Mutex, Weak, mutant};

/// How many handlers deep [`Initiation::wait`] runs other handlers while it waits.
pub const WAIT_DEPTH: usize = 16;

/// An operation described but not begun. Nothing happens until a last method is called:
///
/// - [`then`](Self::then) gives its output to a handler, on whichever thread the strategy picks;
/// - [`wait`](Self::wait) blocks this thread until it is there.
///
/// `C` says what the handler is bound to; as yet that is nothing. It borrows neither its object nor its port.
///
/// ```
/// use proactor::Proactor;
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let nap = proactor.sleep(Duration::from_millis(1)); // not begun
/// nap.key(7).then(|result| assert!(result.is_ok())); // begun
/// proactor.run();
/// assert!(proactor.sleep(Duration::from_millis(1)).wait().is_ok());
/// # Ok(())
/// # }
/// ```
#[must_use = "an initiation does nothing until `then` or `wait` is called"]
pub struct Initiation<O, C = Unbound> {
    op: O,
    target: Target,
    key: u64,
    limit: Option<Duration>,
    binding: C,
}

/// The handler is bound to nothing: it runs wherever the strategy has it run.
#[derive(Clone, Copy, Debug)]
pub struct Unbound;

/// What an operation is about.
#[derive(Debug)]
enum Target {
    Object(Handle),
    Timer(CompletionPort, Instant),
    /// There is no object: it ends with this raw result.
    Failed(CompletionPort, i64),
}

impl<O: Operation> Initiation<O> {
    pub(crate) fn on_object(handle: &Handle, op: O) -> Self {
        Self::new(Target::Object(handle.clone()), op)
    }

    pub(crate) fn timer(port: CompletionPort, at: Instant, op: O) -> Self {
        Self::new(Target::Timer(port, at), op)
    }

    /// On an object of its own, which `make` opens; if that fails, so does the operation.
    pub(crate) fn on_new(
        port: &CompletionPort,
        make: impl FnOnce() -> std::io::Result<Fd>,
        op: impl FnOnce(Option<&Handle>) -> O,
    ) -> Self {
        let failed = |code: i64, op: O| Self::new(Target::Failed(port.clone(), code), op);
        let opened = match make() {
            Ok(fd) => Handle::open(port, fd, true),
            Err(error) => Err(Error::from_io(O::KIND, &error)),
        };
        match opened {
            Ok(handle) => {
                let op = op(Some(&handle));
                Self::new(Target::Object(handle), op)
            }
            Err(error) => failed(
                error
                    .raw_os_error()
                    .map_or(code::CLOSED, |errno| -i64::from(errno)),
                op(None),
            ),
        }
    }

    fn new(target: Target, op: O) -> Self {
        Self {
            op,
            target,
            key: 0,
            limit: None,
            binding: Unbound,
        }
    }
}

impl<O: Operation, C> Initiation<O, C> {
    /// The key that the strategy and [`Completion::user_key`](crate::Completion::user_key) see; 0 if this is not called.
    pub fn key(mut self, key: u64) -> Self {
        self.key = key;
        self
    }

    /// Ends the operation as timed out, if it is not finished `after` its initiation. Of two limits the earlier counts. Never
    /// early; rounded up to a millisecond.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let error = listener.accept().timeout(Duration::from_millis(5)).wait().expect_err("nobody comes");
    /// assert!(error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, after: Duration) -> Self {
        self.limit = Some(self.limit.map_or(after, |limit| limit.min(after)));
        self
    }

    fn inner(&self) -> &Inner {
        match &self.target {
            Target::Object(handle) => handle.inner(),
            Target::Timer(port, _) | Target::Failed(port, _) => &port.0,
        }
    }
}

impl<O: Operation> Initiation<O> {
    /// Begins the operation. `handler` gets its output, once, never inside this call, on whichever thread the strategy
    /// picks; it gets it also when the operation fails, is cancelled or times out, and then the buffers with it. Does not
    /// block. Allocates nothing once warm, if operation and captures fit in 256 bytes.
    ///
    /// On a stopped proactor the operation begins, and its handler waits for the next run; on a closed port or object it
    /// ends as closed. If the proactor is dropped first, the handler is dropped uncalled.
    ///
    /// The key that comes back cancels this operation and no other: [`CompletionPort::cancel`].
    pub fn then<H: FnOnce(O::Output) + Send + 'static>(self, handler: H) -> OperationKey {
        let Self {
            op,
            target,
            key,
            limit,
            binding: Unbound,
        } = self;
        match target {
            Target::Object(handle) => {
                let inner = handle.inner();
                let cell = operation::place(&inner.home, handle.id(), key, op, handler);
                let name = OperationKey::of(cell, &inner.home);
                set_limit(inner, cell, limit);
                inner.submit(cell, handle.entry());
                name
            }
            Target::Timer(port, at) => {
                let inner = &*port.0;
                let cell = operation::place(&inner.home, ObjectId::TIMER, key, op, handler);
                let name = OperationKey::of(cell, &inner.home);
                // A limit before the time itself ends the timer as timed out.
                set_limit(
                    inner,
                    cell,
                    limit.filter(|&after| crate::port::timers::from_now(after) < at),
                );
                inner.arm(cell, at);
                name
            }
            Target::Failed(port, raw) => {
                let inner = &*port.0;
                let cell = operation::place(&inner.home, ObjectId::NONE, key, op, handler);
                let name = OperationKey::of(cell, &inner.home);
                inner.fail(cell, raw);
                name
            }
        }
    }
}

fn set_limit(inner: &Inner, cell: crate::cell::Ptr, limit: Option<Duration>) {
    if let Some(after) = limit {
        inner.limit(cell, after);
    }
}

/// Where a waiting thread finds its output.
struct Slot<T> {
    filled: Mutex<Filled<T>>,
    inner: Weak<Inner>,
}

enum Filled<T> {
    NotYet,
    Output(T),
    /// The handler was dropped uncalled.
    Dropped,
}

/// Fills the slot: with the output, or at least with the news that none will come.
struct Filler<T>(Arc<Slot<T>>);

impl<T> Filler<T> {
    fn fill(&self, with: Filled<T>) {
        *self.0.filled.lock() = with;
        if let Some(inner) = self
            .0
            .inner
            .upgrade()
            .filter(|_| !mutant("output-calls-nobody"))
        {
            inner.pool.call_guests();
            // A thread that has no place, but takes completions by hand, is no company that the waiter knows of.
            if inner.pool.somebody_is_alone() && !mutant("output-rings-nobody") {
                inner.sleep.pass_on(&*inner.backend);
            }
        }
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let open = matches!(*self.0.filled.lock(), Filled::NotYet);
        if open {
            self.fill(Filled::Dropped);
        }
    }
}

impl<O: Operation> Initiation<O> {
    /// Begins the operation and blocks this thread until its output is there.
    ///
    /// Outside of handlers this thread works for the proactor meanwhile, if it has a place for it; so it needs nobody
    /// else to run it. Inside a handler it first leaves what its worker has lying to the others, and then runs other
    /// handlers nested, up to [`WAIT_DEPTH`] deep; beyond that the *result* is
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock), at once, and the buffers come back.
    ///
    /// # Panics
    ///
    /// With a handler's panic, if this thread runs it meanwhile and the policy is
    /// [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate); the operation goes on, and its output is dropped. Also if the port
    /// drops the operation while this thread waits for it, which takes a second thread that drops the proactor.
    pub fn wait(self) -> O::Output {
        let port = match &self.target {
            Target::Object(handle) => handle.port(),
            Target::Timer(port, _) | Target::Failed(port, _) => port.clone(),
        };
        let inner = &*port.0;
        let depth = Local::with(&inner.home, |local| {
            local.map_or(0, |local| local.depth.get())
        });
        if depth >= WAIT_DEPTH {
            return self
                .op
                .finish(operation::decode(code::WOULD_DEADLOCK, O::KIND));
        }
        let slot = Arc::new(Slot {
            filled: Mutex::new(Filled::NotYet),
            inner: Arc::downgrade(&port.0),
        });
        let filler = Filler(Arc::clone(&slot));
        self.then(move |output| filler.fill(Filled::Output(output)));
        let open = || matches!(*slot.filled.lock(), Filled::NotYet);
        drive(inner, &open);
        let filled = std::mem::replace(&mut *slot.filled.lock(), Filled::Dropped);
        match filled {
            Filled::Output(output) => output,
            Filled::NotYet | Filled::Dropped => {
                panic!("the proactor was dropped under a thread that waited on it")
            }
        }
    }
}

/// Works for the port, or waits for those who do, while `open`.
fn drive(inner: &Inner, open: &dyn Fn() -> bool) {
    let bounds = Bounds {
        until: Some(open),
        ..Bounds::FOREVER
    };
    while open() && !inner.is_ended() {
        let nested = Local::with(&inner.home, |local| {
            local.map(|local| inner.help(local, bounds))
        });
        let ran = match nested {
            Some(ran) => ran,
            None => match inner.pool.claim_or(|| !open() || inner.is_ended()) {
                Some(place) => inner.work(&place, bounds),
                None => return,
            },
        };
        if let Some(panic) = ran.panic {
            std::panic::resume_unwind(panic);
        }
        if open() && inner.is_stopped() {
            // Whoever stopped it may have it run again.
            inner
                .pool
                .await_change(|| !open() || !inner.is_stopped() || inner.is_ended());
        }
    }
}

impl<O: Operation, C> fmt::Debug for Initiation<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiation")
            .field("kind", &O::KIND)
            .field("target", &self.target)
            .field("port", self.inner())
            .finish_non_exhaustive()
    }
}
