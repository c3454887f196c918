//! Datagrams one after the other: by a handler, or as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use rustix::io::Errno;

use super::datagrams::RecvFromWith;
use super::series::{self, Repeated, Series};
use super::udp::UdpSocket;
use crate::buf::{BufferPool, Datagram};
use crate::error::Error;
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::compose::Composed;

/// A socket, and where its buffers come from.
struct Receiving {
    socket: UdpSocket,
    pool: BufferPool,
}

impl Repeated for Receiving {
    type Item = Datagram;
    type Op = RecvFromWith;
    /// What became of a datagram that was sent before: what ip(7) and ipv6(7) of Linux hand on from the network.
    const PASSING: &'static [Errno] = &[
        Errno::CONNREFUSED,
        Errno::CONNRESET,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Errno::NONET,
        Errno::NETDOWN,
        Errno::MSGSIZE,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::PROTO,
        Errno::ACCESS,
    ];

    fn port(&self) -> CompletionPort {
        self.socket.port()
    }

    fn next(&self) -> Initiation<RecvFromWith> {
        self.socket.recv_from_with(&self.pool)
    }
}

/// The datagrams of a [socket](UdpSocket::datagrams), as a `Stream`.
///
/// Trouble is an item, too, and the stream goes on: what the network says of a datagram that was sent before (on a connected socket:
/// nobody listens there, no way leads there); a lack of memory, after which it pauses, 5 ms, then twice as long each time, up to one second.
/// It ends when the socket is closed or cancelled, or nothing is received any more; of an error that lasts it tells first. The socket
/// stays open as long as it.
///
/// A poll that is given up loses nothing, and nothing is lost with the stream: a datagram that it has and nobody took goes back to
/// the socket, for the next receive.
#[must_use = "a stream receives nothing until it is polled"]
pub struct Datagrams(Series<Receiving>);

impl UdpSocket {
    /// Receives datagrams one after the other, each into a buffer of `pool`, and calls `each` with every one of them: the loop of a
    /// server. The next receive is initiated before `each` is called, so with several threads it may run on several at once, and in
    /// another order than they came. It waits for nothing that `each` begins: where answers take longer than questions, take the
    /// [stream](Self::datagrams), or receive again once the answer is sent, and what comes too fast waits with the system.
    ///
    /// `each` is told of trouble, too, and the loop goes on by itself, as the [stream](Datagrams) does.
    ///
    /// It ends when the operation or the socket is cancelled or closed, with that error, or with one that lasts, of which `each` is
    /// not told; [`Error::transferred`] says how many datagrams it received. The socket stays open as long as the loop.
    ///
    /// ```
    /// use proactor::{BufferPool, Proactor, net::UdpSocket};
    /// use std::sync::Arc;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let socket = Arc::new(UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?);
    /// let echo = Arc::clone(&socket);
    /// let serving = socket.recv_each(&BufferPool::new(1500), move |datagram| match datagram {
    ///     Ok(datagram) => {
    ///         let peer = datagram.peer();
    ///         echo.send_to(datagram.into_buf(), peer).then(|(sent, _buf)| assert!(sent.is_ok()));
    ///     }
    ///     Err(trouble) => eprintln!("{trouble}"),
    /// });
    /// serving.then(|ended| assert!(ended.is_err_and(|error| error.transferred() == 1)));
    /// let client = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// client.send_to("hello", socket.local_addr()?).wait().0?;
    /// assert_eq!(client.recv_from([0; 5]).wait().1, *b"hello");
    /// socket.close();
    /// proactor.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_each<F>(&self, pool: &BufferPool, each: F) -> Initiation<Composed<()>>
    where
        F: Fn(Result<Datagram, Error>) + Send + Sync + 'static,
    {
        series::each(self.receiving(pool), each)
    }

    /// Datagrams one after the other, each in a buffer of `pool`, as a `Stream`: the loop of a server that is written with futures. One
    /// receive is pending at a time; for several, take several.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// use proactor::{BufferPool, Error, Proactor, net::UdpSocket};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// proactor.start()?;
    /// let socket = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = socket.local_addr()?;
    /// let adding = proactor.spawn(async move {
    ///     let mut datagrams = socket.datagrams(&BufferPool::new(1500)).take(3);
    ///     let mut sum = 0;
    ///     while let Some(datagram) = datagrams.next().await {
    ///         sum += datagram?.len();
    ///     }
    ///     Ok::<_, Error>(sum)
    /// });
    /// let client = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// for text in ["one", "", "three"] {
    ///     client.send_to(text, address).wait().0?;
    /// }
    /// assert_eq!(adding.wait()??, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn datagrams(&self, pool: &BufferPool) -> Datagrams {
        Datagrams(Series::new(self.receiving(pool)))
    }

    fn receiving(&self, pool: &BufferPool) -> Receiving {
        Receiving {
            socket: self.again(),
            pool: pool.clone(),
        }
    }
}

impl Stream for Datagrams {
    type Item = Result<Datagram, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}

impl FusedStream for Datagrams {
    fn is_terminated(&self) -> bool {
        self.0.is_over()
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams")
            .field("socket", &self.0.source.socket)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::*;

    /// What a filter or a policy of the system's forbids, it forbids the next time, too, and at once: going on would be a loop that never waits.
    #[test]
    fn what_the_network_says_passes_and_what_the_system_forbids_does_not() {
        let passing = |errno| Receiving::PASSING.contains(&errno);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert!(passing(Errno::NONET), "ICMP's `host isolated`");
        assert!(passing(Errno::CONNREFUSED));
        assert!(!passing(Errno::PERM));
    }
}
