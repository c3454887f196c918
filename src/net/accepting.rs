//! Connections one after the other: by a handler, or as a stream.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use rustix::io::Errno;

use super::listener::TcpListener;
use super::ops::Accept;
use super::series::{self, Repeated, Series};
use super::stream::TcpStream;
use crate::error::Error;
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::compose::Composed;

impl Repeated for TcpListener {
    type Item = (TcpStream, SocketAddr);
    type Op = Accept;
    /// A connection that was lost, perhaps before it was ours: what accept(2) of Linux hands on from it.
    const PASSING: &'static [Errno] = &[
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::PERM,
        Errno::INTR,
    ];

    fn port(&self) -> CompletionPort {
        self.port()
    }

    fn next(&self) -> Initiation<Accept> {
        self.accept()
    }
}

/// The connections of a [listener](TcpListener::incoming), as a `Stream`.
///
/// Trouble is an item, too, and the stream goes on: a connection that was lost before it was accepted; a lack of descriptors or
/// memory, after which it pauses as [`accept_each`](TcpListener::accept_each) does. It ends when the listener is closed or cancelled, or
/// nothing is accepted any more; of an error that lasts it tells first. The listener stays open as long as it.
///
/// A poll that is given up loses nothing, and nothing is lost with the stream: a connection that it has and nobody took goes back
/// to the listener, for the next accept.
#[must_use = "a stream accepts nothing until it is polled"]
pub struct Incoming(Series<TcpListener>);

impl TcpListener {
    /// Accepts connections one after the other, and calls `each` with every one of them: the accept loop of a server. The next accept is
    /// initiated before `each` is called, so with several threads it may run on several at once.
    ///
    /// `each` is told of trouble, too, and the loop goes on by itself. When the system lacks descriptors (`EMFILE`, `ENFILE`) or memory it
    /// pauses first, 5 ms, then twice as long each time, up to one second, until an accept succeeds; meanwhile connections wait with the
    /// system. A connection that was lost before it was accepted costs nothing but the report.
    ///
    /// It ends when the operation or the listener is cancelled or closed, with that error, or with one that lasts, of which `each` is
    /// not told; [`Error::transferred`] says how many connections it accepted. The listener stays open as long as the loop.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// let serving = listener.accept_each(|connection| match connection {
    ///     Ok((stream, _peer)) => drop(stream.write_all(&b"welcome"[..]).then(move |_| drop(stream))),
    ///     Err(trouble) => eprintln!("{trouble}"),
    /// });
    /// serving.then(|ended| assert!(ended.is_err_and(|error| error.transferred() == 1)));
    /// let client = TcpStream::connect(&proactor, address).wait()?;
    /// assert_eq!(client.read_exact([0; 7]).wait().1, *b"welcome");
    /// listener.close();
    /// proactor.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept_each<F>(&self, each: F) -> Initiation<Composed<()>>
    where
        F: Fn(Result<(TcpStream, SocketAddr), Error>) + Send + Sync + 'static,
    {
        series::each(self.again(), each)
    }

    /// Connections one after the other, as a `Stream`: the accept loop of a server that is written with futures. One accept is pending at
    /// a time; for several, take several.
    ///
    /// ```
    /// use futures_lite::{StreamExt, future};
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// proactor.start()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// let (port, mut incoming) = (proactor.port().clone(), listener.incoming());
    /// let serving = proactor.spawn(async move {
    ///     let mut served = 0;
    ///     while let Some(connection) = incoming.next().await {
    ///         match connection {
    ///             Ok((stream, _peer)) => port.spawn(async move { stream.write_all("welcome").await }).detach(),
    ///             Err(trouble) => eprintln!("{trouble}"),
    ///         }
    ///         served += 1;
    ///     }
    ///     served
    /// });
    /// let client = TcpStream::connect(&proactor, address).wait()?;
    /// assert_eq!(client.read_exact([0; 7]).wait().1, *b"welcome");
    /// listener.close();
    /// assert_eq!(serving.wait()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming {
        Incoming(Series::new(self.again()))
    }
}

impl Stream for Incoming {
    type Item = Result<(TcpStream, SocketAddr), Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}

impl FusedStream for Incoming {
    fn is_terminated(&self) -> bool {
        self.0.is_over()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.0.source)
            .finish_non_exhaustive()
    }
}
