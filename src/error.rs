//! What can go wrong, saying what was being done, to what, and why.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::id::Kind;

/// Why an operation did not do what it was asked to do.
///
/// ```
/// use proactor::ErrorKind;
/// assert_eq!(ErrorKind::Cancelled.to_string(), "cancelled");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It was cancelled, or its object was closed while it was pending.
    Cancelled,
    /// Its time limit passed first.
    TimedOut,
    /// The port or the object was closed before it was initiated.
    Closed,
    /// Waiting for it here could never end (see [`Initiation::wait`](crate::Initiation::wait)).
    WouldDeadlock,
    /// The stream ended before all that was asked for had come.
    UnexpectedEof,
    /// The stream takes no more bytes.
    WriteZero,
    /// The call that was handed over panicked, and the error's text has the panic's; or a buffer did, as it was asked where and how long
    /// it is.
    Panicked,
    /// There was no address to try.
    NoAddress,
    /// Nobody will complete it: its [`Completer`](crate::Completer) was dropped.
    Abandoned,
    /// The buffer was full before what was looked for had come.
    LimitReached,
    /// The object has another handle, or something under way or kept.
    InUse,
    /// The operating system refused.
    Os,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Closed => "closed",
            Self::WouldDeadlock => "waiting here would deadlock",
            Self::UnexpectedEof => "the stream ended early",
            Self::WriteZero => "the stream takes no more bytes",
            Self::Panicked => "panicked",
            Self::NoAddress => "there is no address to try",
            Self::Abandoned => "nobody is left to complete it",
            Self::LimitReached => "the buffer is full, and what was looked for has not come",
            Self::InUse => {
                "still in use: let its operations end, and drop its other half, its initiations and futures first"
            }
            Self::Os => "refused by the operating system",
        })
    }
}

/// An operation's failure: what was being done ([`operation`](Error::operation)), to which address where
/// there is one, how far it got, and the cause. Small, and made without allocation on the paths of data.
///
/// Turns into an [`io::Error`] with `?` or `into()`, and nothing of it is lost.
///
/// ```
/// use proactor::{net::TcpStream, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?; // nobody listens there any more
/// let error = TcpStream::connect(&proactor, gone).wait().expect_err("refused");
/// assert_eq!(error.address(), Some(gone));
/// assert!(error.to_string().starts_with(&format!("connect {gone}: ")), "{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    operation: Kind,
    cause: Option<Cause>,
    transferred: usize,
    about: Option<Box<About>>,
}

/// What few errors say besides.
#[derive(Clone)]
enum About {
    Address(SocketAddr),
    Panic(String),
}

/// What the operating system said.
struct Cause(io::Error);

impl Clone for Cause {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl Cause {
    fn of(error: &io::Error) -> Self {
        Self(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        })
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: Kind) -> Self {
        Self {
            kind,
            operation,
            cause: None,
            transferred: 0,
            about: None,
        }
    }

    pub(crate) fn os(operation: Kind, code: i32) -> Self {
        Self::from_io(operation, &io::Error::from_raw_os_error(code))
    }

    pub(crate) fn from_io(operation: Kind, error: &io::Error) -> Self {
        Self {
            cause: Some(Cause::of(error)),
            ..Self::new(ErrorKind::Os, operation)
        }
    }

    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.about = Some(Box::new(About::Address(address)));
        self
    }

    /// A panic that said `text`.
    pub(crate) fn panicked(operation: Kind, text: String) -> Self {
        Self {
            about: Some(Box::new(About::Panic(text))),
            ..Self::new(ErrorKind::Panicked, operation)
        }
    }

    /// As [`at`](Self::at), if there is an address.
    pub(crate) fn at_any(self, address: Option<SocketAddr>) -> Self {
        match address {
            Some(address) => self.at(address),
            None => self,
        }
    }

    pub(crate) fn after(mut self, transferred: usize) -> Self {
        self.transferred = transferred;
        self
    }

    /// The same, of something else that the operation was doing.
    pub(crate) fn doing(mut self, operation: Kind) -> Self {
        self.operation = operation;
        self
    }

    /// The same, of an operation whose time limit had passed: then what was cancelled has timed out.
    pub(crate) fn of_limit(mut self, passed: bool) -> Self {
        if passed && self.kind == ErrorKind::Cancelled {
            self.kind = ErrorKind::TimedOut;
        }
        self
    }

    /// The same error, saying that `bytes` had been transferred before: for an operation of your own that is composed of others.
    #[must_use]
    pub fn with_transferred(self, bytes: usize) -> Self {
        self.after(bytes)
    }

    /// Why.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn operation(&self) -> Kind {
        self.operation
    }

    /// The address it was about: the one to listen on, to connect to or to send to, the listener's of an accept, the socket's that
    /// was brought to the port. `None` where there is none; of a stream's operations whoever initiated them knows it.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.about.as_deref() {
            Some(About::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// How many bytes a composed operation (`read_exact`, `read_until`, `write_all`) had transferred before; of
    /// [`reply_each`](crate::net::TcpStream::reply_each) how many of the reply that comes back; of
    /// [`accept_each`](crate::net::TcpListener::accept_each) how many connections, and of
    /// [`recv_each`](crate::net::UdpSocket::recv_each) how many datagrams.
    pub fn transferred(&self) -> usize {
        self.transferred
    }

    /// The operating system's error number, for [`ErrorKind::Os`]. Its text is in this error's, and
    /// [`source`](std::error::Error::source) is the [`io::Error`] itself.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause.as_ref()?.0.raw_os_error()
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind == ErrorKind::Cancelled
    }

    /// Whether its time limit passed.
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::TimedOut
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(address) = self.address() {
            write!(f, " {address}")?;
        }
        match &self.cause {
            Some(cause) => write!(f, ": {}", cause.0)?,
            None => write!(f, ": {}", self.kind)?,
        }
        if let Some(About::Panic(text)) = self.about.as_deref() {
            write!(f, ": {text}")?;
        }
        if self.transferred > 0 {
            let what = match self.operation {
                Kind::Accept => "connections",
                Kind::Receive => "datagrams",
                _ => "bytes",
            };
            write!(f, " (after {} {what})", self.transferred)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause.as_ref()?.0)
    }
}

/// The kind is the nearest of [`io::ErrorKind`]'s; [`io::Error::get_ref`] gives this error back.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Cancelled => io::ErrorKind::Interrupted,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Closed => io::ErrorKind::NotConnected,
            ErrorKind::WouldDeadlock => io::ErrorKind::WouldBlock,
            ErrorKind::UnexpectedEof => io::ErrorKind::UnexpectedEof,
            ErrorKind::WriteZero => io::ErrorKind::WriteZero,
            ErrorKind::Panicked => io::ErrorKind::Other,
            ErrorKind::NoAddress => io::ErrorKind::InvalidInput,
            ErrorKind::Abandoned => io::ErrorKind::BrokenPipe,
            ErrorKind::LimitReached => io::ErrorKind::InvalidData,
            ErrorKind::InUse => io::ErrorKind::ResourceBusy,
            ErrorKind::Os => error
                .cause
                .as_ref()
                .map_or(io::ErrorKind::Other, |cause| cause.0.kind()),
        };
        Self::new(kind, error)
    }
}

/// As many calls are pending as [`max_pending`](crate::Builder::max_pending) lets, and this one was not taken:
/// [`into_inner`](Self::into_inner) gives it back.
///
/// ```
/// use proactor::{Full, Proactor};
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder().max_pending(NonZeroUsize::MIN).build()?;
/// proactor.post(|| ());
/// let nap = proactor.sleep(Duration::from_millis(1));
/// match nap.try_submit(|slept| assert!(slept.is_ok())) {
///     Ok(_key) => unreachable!("one call is pending already"),
///     Err(full) => {
///         let (nap, handler) = full.into_inner(); // nothing was begun
///         proactor.run(); // makes room
///         assert!(nap.try_submit(handler).is_ok());
///     }
/// }
/// assert_eq!(proactor.run(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T> {
    most: usize,
    refused: T,
}

impl<T> Full<T> {
    pub(crate) fn new(most: usize, refused: T) -> Self {
        Self { most, refused }
    }

    /// What was not taken.
    pub fn into_inner(self) -> T {
        self.refused
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "as many calls are pending as max_pending({}) lets: try again when some have run, or raise it",
            self.most
        )
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Full({self})")
    }
}

impl<T> std::error::Error for Full<T> {}

/// There is no worker of that number, and the call for it was not taken: [`into_inner`](Self::into_inner) gives it back.
///
/// ```
/// use proactor::{dispatch::SingleThreaded, Proactor};
/// # fn main() -> Result<(), proactor::BuildError> {
/// let proactor = Proactor::builder().dispatcher(SingleThreaded::new()).build()?;
/// let refused = proactor.post_to(1, || println!("here")).expect_err("there is worker 0 alone");
/// assert!(proactor.post_to(0, refused.into_inner()).is_ok());
/// assert_eq!(proactor.run(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NoWorker<T> {
    worker: usize,
    workers: usize,
    refused: T,
}

impl<T> NoWorker<T> {
    pub(crate) fn new(worker: usize, workers: usize, refused: T) -> Self {
        Self {
            worker,
            workers,
            refused,
        }
    }

    /// What was not taken.
    pub fn into_inner(self) -> T {
        self.refused
    }
}

impl<T> fmt::Display for NoWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worker, workers, ..
        } = self;
        match workers.checked_sub(1) {
            Some(last) => write!(
                f,
                "there is no worker {worker}, the last is {last}: post to that or one before it, or build with threads({})",
                worker.saturating_add(1)
            ),
            None => write!(
                f,
                "there is no worker {worker}, since this port is used alone: post to a proactor's, or to nobody in particular"
            ),
        }
    }
}

impl<T> fmt::Debug for NoWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoWorker({self})")
    }
}

impl<T> std::error::Error for NoWorker<T> {}

/// Why a proactor or a port could not be built; the text says what to change.
///
/// ```
/// use proactor::{dispatch::SingleThreaded, Proactor};
/// use std::num::NonZeroUsize;
/// let two = NonZeroUsize::new(2).unwrap();
/// let error = Proactor::builder().dispatcher(SingleThreaded::new()).threads(two).build().unwrap_err();
/// assert!(error.to_string().contains("threads(1)"));
/// ```
pub struct BuildError(BuildErrorKind);

pub(crate) enum BuildErrorKind {
    Knobs(String),
    Io(&'static str, io::Error),
}

impl BuildError {
    /// A combination of knobs that cannot be: `message` says what to change. For the
    /// [`attach`](crate::dispatch::Dispatcher::attach) of a strategy of one's own.
    pub fn knobs(message: impl Into<String>) -> Self {
        Self(BuildErrorKind::Knobs(message.into()))
    }

    pub(crate) fn io(doing: &'static str, error: io::Error) -> Self {
        Self(BuildErrorKind::Io(doing, error))
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BuildErrorKind::Knobs(message) => f.write_str(message),
            BuildErrorKind::Io(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildError({self})")
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            BuildErrorKind::Knobs(_) => None,
            BuildErrorKind::Io(_, error) => Some(error),
        }
    }
}
