//! An operation described but not begun: its last method decides how it completes.

mod compose;
mod future;
pub(crate) mod wait;

pub use future::InitiationFuture;

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

use crate::backend::registry::Fd;
use crate::cell::{Home, Ptr};
use crate::error::{Error, Full};
use crate::id::ObjectId;
use crate::operation::{self, Handler, Operation, OperationKey, code};
use crate::port::compose::Begun;
use crate::port::deadline::When;
use crate::port::object::Handle;
use crate::port::timers::from_now;
use crate::port::token::CancelToken;
use crate::port::{CompletionPort, Inner};

/// How many handlers deep [`Initiation::wait`] runs other handlers while it waits.
pub const WAIT_DEPTH: usize = 16;

/// An operation described but not begun. Nothing happens until a last method is called:
///
/// - [`then`](Self::then) gives its output to a handler, on whichever thread the strategy picks;
/// - `.await` makes it a [future](InitiationFuture), for whichever executor;
/// - [`wait`](Self::wait) blocks this thread until it is there.
///
/// `C` says what the handler is bound to: nothing, or the strand of [`on`](Self::on). It borrows neither its object nor its port.
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
#[must_use = "an initiation does nothing until `then` or `wait` is called, or it is awaited"]
pub struct Initiation<O, C = Unbound> {
    op: O,
    target: Target,
    key: u64,
    limit: Option<Duration>,
    tokens: SmallVec<[CancelToken; 1]>,
    binding: C,
}

/// The handler is bound to nothing: it runs wherever the strategy has it run.
#[derive(Clone, Copy, Debug)]
pub struct Unbound;

/// What an operation is about.
enum Target {
    Object(Handle),
    Timer(CompletionPort, When),
    Blocking(CompletionPort),
    /// There is no object: it ends with this raw result.
    Failed(CompletionPort, i64),
    /// Somebody else completes it: what the function hands the operation to.
    ByHand(CompletionPort, Begin),
}

/// Begins an operation by hand.
type Begin = Box<dyn FnOnce(&CompletionPort, Begun) + Send>;

impl Target {
    fn inner(&self) -> &Inner {
        match self {
            Self::Object(handle) => handle.inner(),
            Self::Timer(port, _)
            | Self::Blocking(port)
            | Self::Failed(port, _)
            | Self::ByHand(port, _) => &port.0,
        }
    }

    fn port(&self) -> CompletionPort {
        match self {
            Self::Object(handle) => handle.port(),
            Self::Timer(port, _)
            | Self::Blocking(port)
            | Self::Failed(port, _)
            | Self::ByHand(port, _) => port.clone(),
        }
    }
}

impl<O: Operation> Initiation<O> {
    #[inline]
    pub(crate) fn on_object(handle: &Handle, op: O) -> Self {
        Self::new(Target::Object(handle.clone()), op)
    }

    pub(crate) fn timer(port: CompletionPort, when: When, op: O) -> Self {
        Self::new(Target::Timer(port, when), op)
    }

    /// A call on the port's lane for those that block.
    pub(crate) fn blocking(port: CompletionPort, op: O) -> Self {
        Self::new(Target::Blocking(port), op)
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

    #[inline]
    fn new(target: Target, op: O) -> Self {
        Self {
            op,
            target,
            key: 0,
            limit: None,
            tokens: SmallVec::new(),
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

    /// Ends the operation as cancelled when `token` is cancelled, or at once if it is already. With several tokens any of them does.
    pub fn cancel_with(mut self, token: &CancelToken) -> Self {
        self.tokens.push(token.clone());
        self
    }

    /// The same operation, its handler bound otherwise; and what it was bound to until now.
    pub(crate) fn bind<D>(self, binding: D) -> (Initiation<O, D>, C) {
        let Self {
            op,
            target,
            key,
            limit,
            tokens,
            binding: former,
        } = self;
        let bound = Initiation {
            op,
            target,
            key,
            limit,
            tokens,
            binding,
        };
        (bound, former)
    }

    /// The number of the port that it will be initiated on.
    pub(crate) fn port_number(&self) -> u32 {
        self.target.inner().home.id
    }

    /// Whether it could only end as closed.
    fn is_on_closed_port(&self) -> bool {
        self.target.inner().is_closed()
    }

    /// The port that it will be initiated on.
    pub(crate) fn port(&self) -> CompletionPort {
        self.target.port()
    }
}

impl<O: Operation> Initiation<O> {
    /// Begins the operation. `handler` gets its output, once, never inside this call, on whichever thread the strategy
    /// picks; it gets it also when the operation fails, is cancelled or times out, and then the buffers with it. Does not
    /// block. Allocates nothing once warm, if operation and captures fit in 184 bytes.
    ///
    /// On a stopped proactor the operation begins, and its handler waits for the next run; on a closed port or object it
    /// ends as closed. If the proactor is dropped first, the handler is dropped uncalled.
    ///
    /// The key that comes back cancels this operation and no other: [`CompletionPort::cancel`].
    #[inline]
    pub fn then<H: FnOnce(O::Output) + Send + 'static>(self, handler: H) -> OperationKey {
        self.begin::<false, H>(handler, false)
    }

    /// As [`then`](Self::then), but counts against [`max_pending`](crate::Builder::max_pending) until the handler has run, and is
    /// refused when there is no room: what was given comes back, and nothing was begun. Never blocks. Without a limit it
    /// always succeeds.
    ///
    /// # Errors
    ///
    /// [`Full`], with the initiation and the handler in it.
    pub fn try_submit<H: FnOnce(O::Output) + Send + 'static>(
        self,
        handler: H,
    ) -> Result<OperationKey, Full<(Self, H)>> {
        match self.target.inner().try_enter() {
            Ok(counted) => Ok(self.begin::<false, H>(handler, counted)),
            Err(most) => Err(Full::new(most, (self, handler))),
        }
    }

    /// As `then`; `handler` is called also if the port drops the operation, and must be this crate's.
    pub(crate) fn keep<H: FnOnce(O::Output) + Send + 'static>(self, handler: H) -> OperationKey {
        self.begin::<true, H>(handler, false)
    }

    /// See [`operation::place`] for `KEEP` and `counted`.
    #[inline]
    pub(crate) fn begin<const KEEP: bool, H>(self, handler: H, counted: bool) -> OperationKey
    where
        H: Handler<O::Output>,
    {
        let make = |home: &Home, object, key, op| {
            let placed = operation::place::<KEEP, O, H>(home, object, key, op, handler, counted);
            (placed, ())
        };
        self.begin_in(make).0
    }

    /// Begins the operation in the cell that `make` makes of it. Its key, and what else `make` made. What has no modifier goes a short way,
    /// which is inlined, so that nothing of an initiation is ever built.
    #[inline]
    fn begin_in<M>(
        self,
        make: impl FnOnce(&Home, ObjectId, u64, O) -> (Ptr, M),
    ) -> (OperationKey, M) {
        if self.limit.is_some() || !self.tokens.is_empty() {
            return self.begin_modified(make);
        }
        let Self {
            op,
            target: Target::Object(handle),
            key,
            tokens,
            ..
        } = self
        else {
            return self.begin_modified(make);
        };
        std::mem::forget(tokens); // it has nothing
        let (inner, object) = (handle.inner(), handle.id());
        let (cell, made) = make(&inner.home, object, key, op);
        let name = OperationKey::of(cell, &inner.home);
        inner.begin(cell, handle.entry());
        (name, made)
    }

    #[inline(never)]
    fn begin_modified<M>(
        self,
        make: impl FnOnce(&Home, ObjectId, u64, O) -> (Ptr, M),
    ) -> (OperationKey, M) {
        let Self {
            op,
            target,
            key,
            limit,
            tokens,
            binding: Unbound,
        } = self;
        let inner = target.inner();
        let place = matches!(target, Target::ByHand(..)).then(|| inner.composed.reserve());
        let object = match (&target, place) {
            (Target::Object(handle), _) => handle.id(),
            (Target::Timer(..), _) => ObjectId::TIMER,
            (Target::Blocking(_), _) => ObjectId::BLOCKING,
            (_, Some(place)) => ObjectId::by_hand(place),
            (_, None) => ObjectId::NONE,
        };
        let (cell, made) = make(&inner.home, object, key, op);
        let begun = place.map(|place| inner.composed.enter(cell, place));
        let name = OperationKey::of(cell, &inner.home);
        for token in &tokens {
            token.watch(&target.port(), name);
        }
        let limit_it = |inner: &Inner| limit.map(|after| inner.limit(cell, after));
        match (target, begun) {
            (Target::Object(handle), _) => {
                limit_it(handle.inner());
                handle.inner().submit(cell, handle.entry());
            }
            (Target::Timer(port, when), _) => {
                let at = when.begin(name, &port.0.home);
                // A timer that expires before its limit is not limited by it.
                if limit.is_some_and(|after| from_now(after) < at) {
                    limit_it(&port.0);
                }
                port.0.arm(cell, at);
            }
            (Target::Blocking(port), _) => {
                limit_it(&port.0);
                port.0.block(cell);
            }
            (Target::ByHand(port, begin), Some(begun)) => {
                limit_it(&port.0);
                begin(&port, begun);
                port.0.cancel_if_closed(name);
            }
            (Target::ByHand(port, _), None) => port.0.fail(cell, code::CLOSED),
            (Target::Failed(port, raw), _) => port.0.fail(cell, raw),
        }
        (name, made)
    }
}

impl<O: Operation, C> fmt::Debug for Initiation<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiation")
            .field("kind", &O::KIND)
            .field("port", self.target.inner())
            .finish_non_exhaustive()
    }
}
