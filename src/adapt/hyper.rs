//! hyper 1 on a proactor: its streams, its threads and its timers under hyper's servers and clients, hyper-util and axum.
//!
//! - **IO:** a [`TcpStream`] is what hyper wants as it is; [`Io`] makes it of other streams, as of TLS over one.
//! - **[`Executor`] and [`Timer`]:** a [`CompletionPort`] is both, and a clone of it is cheap. Without a timer hyper has no time
//!   limits, so give it one: `.http1().timer(port.clone())`, `.http2().timer(port.clone())`.
//!
//! A connection is then a future, for [`spawn`](CompletionPort::spawn); which threads poll it is the strategy's matter.
//!
//! ```
//! use hyper::{body::{Bytes, Incoming}, client, server, service::service_fn, Request, Response};
//! use http_body_util::{BodyExt, Empty, Full};
//! use proactor::{Proactor, net::{TcpListener, TcpStream}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let proactor = Proactor::builder().build()?;
//! proactor.start()?;
//! let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
//! let address = listener.local_addr()?;
//! let port = proactor.port().clone();
//! listener.accept().then(move |accepted| if let Ok((stream, _peer)) = accepted {
//!     let hello = service_fn(async |_: Request<Incoming>| Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("hello")))));
//!     let serving = server::conn::http1::Builder::new().timer(port.clone()).serve_connection(stream, hello);
//!     port.spawn(serving).detach();
//! });
//! let reply = proactor.block_on(async {
//!     let stream = TcpStream::connect(&proactor, address).await?;
//!     let (mut requests, connection) = client::conn::http1::handshake(stream).await?;
//!     proactor.spawn(connection).detach();
//!     let reply = requests.send_request(Request::new(Empty::<Bytes>::new())).await?;
//!     Ok::<_, Box<dyn std::error::Error>>(reply.into_body().collect().await?.to_bytes())
//! })??;
//! assert_eq!(reply, "hello");
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code)] // hyper lends buffers that are uninitialised

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Timer, Write};
use futures_io::{AsyncRead, AsyncWrite};

use crate::net::TcpStream;
use crate::port::CompletionPort;
use crate::port::timers::from_now;
use crate::time::Nap;

/// What is read at once of a stream: hyper's own first buffer.
const CHUNK: usize = 8192;

/// A stream of futures-io as hyper wants it: TLS over a [`TcpStream`], say. That needs none: it reads into hyper's buffer itself, where
/// this reads into one of its own, 8 KiB at most, and copies.
///
/// ```
/// use hyper::{client, Request};
/// use http_body_util::{BodyExt, Empty};
/// use proactor::{Proactor, adapt::hyper::Io};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// // Any stream of futures-io; here, one that replies to whatever it is sent.
/// let canned: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
/// # struct Canned(&'static [u8], bool, Option<Waker>);
/// # use std::{io, pin::Pin, task::{Context, Poll, Waker}};
/// # impl futures_io::AsyncRead for Canned {
/// #     fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
/// #         if !self.1 {
/// #             self.2 = Some(context.waker().clone());
/// #             return Poll::Pending;
/// #         }
/// #         Pin::new(&mut self.0).poll_read(context, buf)
/// #     }
/// # }
/// # impl futures_io::AsyncWrite for Canned {
/// #     fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
/// #         self.1 = true;
/// #         self.2.take().map(Waker::wake);
/// #         Poll::Ready(Ok(buf.len()))
/// #     }
/// #     fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { Poll::Ready(Ok(())) }
/// #     fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { Poll::Ready(Ok(())) }
/// # }
/// # let canned = Canned(canned, false, None);
/// let body = proactor.block_on(async {
///     let (mut requests, connection) = client::conn::http1::handshake(Io::new(canned)).await?;
///     proactor.spawn(connection).detach();
///     let reply = requests.send_request(Request::new(Empty::<&[u8]>::new())).await?;
///     Ok::<_, hyper::Error>(reply.into_body().collect().await?.to_bytes())
/// })??;
/// assert_eq!(body, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Io<T>(T);

impl<T> Io<T> {
    /// Around `stream`.
    pub fn new(stream: T) -> Self {
        Self(stream)
    }

    /// The stream.
    pub fn get_ref(&self) -> &T {
        &self.0
    }

    /// The stream again, as after hyper's `into_parts` of a connection; what hyper has read of it and not used is in those parts.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Read for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: it is written to only, so nothing of it becomes uninitialised.
        let room = unsafe { buf.as_mut() };
        let n = ready!(self.poll_filling_uninit(context, room))?;
        // SAFETY: so many bytes are initialised now, as `poll_filling_uninit` promises.
        unsafe { buf.advance(n) };
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper's buffer may be uninitialised, and futures-io cannot read into that.
        let mut bytes = [0; CHUNK];
        let most = buf.remaining().min(CHUNK);
        let n = ready!(Pin::new(&mut self.0).poll_read(context, &mut bytes[..most]))?;
        buf.put_slice(&bytes[..n]);
        Poll::Ready(Ok(()))
    }
}

/// Writing is the same in futures-io and in hyper but for its names.
macro_rules! writes {
    ($([$($bounds:tt)*] $type:ty: $it:ident => $stream:expr),*) => {$(
        impl<$($bounds)*> Write for $type {
            fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let $it = &mut *self;
                AsyncWrite::poll_write(Pin::new($stream), context, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $it = &mut *self;
                AsyncWrite::poll_flush(Pin::new($stream), context)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $it = &mut *self;
                AsyncWrite::poll_close(Pin::new($stream), context)
            }

            /// Several parts cost no call more.
            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                let $it = &mut *self;
                AsyncWrite::poll_write_vectored(Pin::new($stream), context, bufs)
            }
        }
    )*};
}

writes!(
    [] TcpStream: it => it,
    [T: AsyncWrite + Unpin] Io<T>: it => &mut it.0
);

/// As [`CompletionPort::spawn`], detached.
impl<F: Future<Output: Send> + Send + 'static> Executor<F> for CompletionPort {
    fn execute(&self, future: F) {
        self.spawn(future).detach();
    }
}

/// The proactor's timers: 1 ms fine, never early. When the proactor ends, every wait is over.
impl Timer for CompletionPort {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Timer::sleep_until(self, from_now(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap::until(self, deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Nap>() {
            Some(mut nap) => nap.set(Nap::until(self, new_deadline)),
            None => *sleep = Timer::sleep_until(self, new_deadline),
        }
    }
}

impl Sleep for Nap {}
