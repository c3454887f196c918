//! A connection.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Protocol, Socket, Type};

use super::listener::{address_of, internet_address, socket_for, with_socket};
use super::ops::{
    Connect, Load, Read, ReadExact, ReadVectored, RecvWith, Room, ShutdownOp, Write, WriteAll,
    WriteVectored,
};
use super::until::ReadUntil;
use crate::backend::registry::Fd;
use crate::buf::{Buf, BufMut, BufferPool, LateBuf};
use crate::error::Error;
use crate::id::{Kind, ObjectId};
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::object::Handle;

/// A TCP connection. Dropping it closes it, and ends what is pending as cancelled; so a handler that goes on with it owns it.
///
/// ```
/// use proactor::{net::{TcpListener, TcpStream}, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let address = listener.local_addr()?;
/// listener.accept().then(|result| {
///     let (stream, _) = result.expect("a connection");
///     stream.read(Vec::with_capacity(64)).then(move |(result, buf)| {
///         assert_eq!((result.expect("bytes"), buf.as_slice()), (5, &b"hello"[..]));
///         stream.write_all("bye").then(|(result, _)| assert!(result.is_ok()));
///         drop(stream); // cancels nothing: the kernel took the three bytes at once
///     });
/// });
/// TcpStream::connect(&proactor, address).then(|result| {
///     let stream = result.expect("connected");
///     stream.write_all("hello").then(|(result, _)| assert!(result.is_ok()));
///     stream.read_exact([0; 3]).then(move |(result, buf)| {
///         assert_eq!((result.expect("bytes"), &buf), (3, b"bye"));
///         drop(stream);
///     });
/// });
/// proactor.run();
/// # Ok(())
/// # }
/// ```
///
/// # As futures-io's reader and writer
///
/// The stream, a reference to it, and its halves are `AsyncRead` and `AsyncWrite`: for libraries that read and write by polls, such as TLS
/// or HTTP over any stream, and for `copy`, `BufReader` and the like of futures-lite or futures. The stream's own operations and those
/// of the traits have the same names. Called on a stream its own are meant, on a `&mut TcpStream` the traits', if they are in scope; to say
/// which, `AsyncReadExt::read(&mut stream, &mut buf)`.
///
/// - A poll makes the system call itself, with what was lent, on the thread that polls; what waits in the port is only the word that it
///   is worth another poll. Nothing is allocated for it once warm. Somebody has to run the proactor,
///   [in the background](crate::Proactor::start) most simply; the executor may be any.
/// - A poll that is given up (its future dropped) has taken nothing. Bytes that were given back to the stream come first.
/// - It keeps its place behind what was initiated before it, and between two polls what is initiated has its turn. Polls and owned
///   operations in one direction at once share it, in no order that could be told. The two directions know nothing of each other.
/// - Within a handler or a spawned future of this proactor every 33rd poll of one go is pending, and wakes at once: a stream that is always
///   ready does not keep its thread from the others.
/// - A poll that is pending counts as outstanding until it is woken, or the stream is closed, as it is when it is dropped.
/// - Of two tasks that poll one direction, through references, each wakes the other as it becomes pending: both go on, at a price.
///   So does one task whose waker is another at each poll.
/// - The system's errors are those of the standard library's streams; a stream that was closed is
///   [`NotConnected`](std::io::ErrorKind::NotConnected). [`cancel`](Self::cancel) wakes what is pending, and it polls again.
/// - `poll_close` ends the writing direction, behind the writes that were initiated. `poll_flush` has nothing to do.
///
/// ```
/// use futures_lite::{AsyncBufReadExt, AsyncWriteExt, future, io::BufReader};
/// use proactor::{net::{TcpListener, TcpStream}, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// proactor.start()?;
/// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let address = listener.local_addr()?;
/// let echo = proactor.spawn(async move {
///     let (stream, _peer) = listener.accept().await?;
///     futures_lite::io::copy(&stream, &stream).await
/// });
/// let line = future::block_on(async {
///     let mut stream = BufReader::new(TcpStream::connect(&proactor, address).await?);
///     stream.write_all(b"over and out\n").await?;
///     let mut line = String::new();
///     stream.read_line(&mut line).await?;
///     stream.close().await?; // it ends the writing direction, and so the echo
///     std::io::Result::Ok(line)
/// })?;
/// assert_eq!(line, "over and out\n");
/// assert_eq!(echo.wait()??, 13);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpStream(Handle);

/// The reading side of a stream that was split: for one thread, while another writes. An `AsyncRead`, as the [stream](TcpStream).
///
/// ```
/// # use proactor::{net::{TcpListener, TcpStream}, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let proactor = Proactor::builder().build()?;
/// # let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let (reader, writer) = TcpStream::connect(&proactor, listener.local_addr()?).wait()?.into_split();
/// drop(writer); // closes nothing
/// assert!(reader.peer_addr().is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReadHalf(TcpStream);

/// The writing side of a stream that was split; an `AsyncWrite`, as the [stream](TcpStream). Dropping it closes nothing while the other half lives: to end the direction, use
/// [`shutdown`](Self::shutdown). See [`ReadHalf`].
#[derive(Debug)]
pub struct WriteHalf(TcpStream);

impl TcpStream {
    /// See `Inner::open` for `drains`.
    pub(super) fn over(port: &CompletionPort, socket: Fd, drains: bool) -> Result<Self, Error> {
        Ok(Self(Handle::open(port, socket, drains)?))
    }

    pub(super) fn of(handle: Handle) -> Self {
        Self(handle)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.0
    }

    /// Another handle on the same socket.
    pub(super) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// The port that it is open on: for operations of your own, [`CompletionPort::compose`].
    pub fn port(&self) -> CompletionPort {
        self.0.port()
    }

    /// Connects to `address`. The error says which address, and why.
    pub fn connect(port: &impl AsRef<CompletionPort>, address: SocketAddr) -> Initiation<Connect> {
        Initiation::on_new(
            port.as_ref(),
            || socket_for(address, Type::STREAM, Protocol::TCP).map(Fd::from),
            |handle| Connect {
                address,
                begun: false,
                handle: handle.cloned(),
            },
        )
    }

    /// Takes in a connection of the standard library's.
    ///
    /// # Errors
    ///
    /// The operating system's, if it cannot be made non-blocking; [`Closed`](crate::ErrorKind::Closed) on a closed port.
    pub fn from_std(
        port: &impl AsRef<CompletionPort>,
        stream: std::net::TcpStream,
    ) -> Result<Self, Error> {
        Self::register(port.as_ref(), Socket::from(stream), true)
    }

    /// Takes in any connected stream socket that the caller owns: a Unix socket, one end of a pair.
    ///
    /// # Errors
    ///
    /// As [`from_std`](Self::from_std).
    pub fn from_fd(port: &impl AsRef<CompletionPort>, socket: OwnedFd) -> Result<Self, Error> {
        // Messages with boundaries may end a read early with more behind: every read goes on until there is no more.
        Self::register(port.as_ref(), Socket::from(socket), false)
    }

    fn register(port: &CompletionPort, socket: Socket, drains: bool) -> Result<Self, Error> {
        let peer = internet_address(socket.peer_addr());
        socket
            .set_nonblocking(true)
            .map_err(|error| Error::from_io(Kind::Register, &error))
            .and_then(|()| Self::over(port, socket.into(), drains))
            .map_err(|error| error.at_any(peer))
    }

    /// Reads what is there, as much as `buf` has *capacity* for, from its start, and sets its length to that. 0 is the end of the
    /// stream, unless the capacity is 0: that is always 0. Cancelled, nothing was read.
    #[inline]
    pub fn read<B: BufMut>(&self, buf: B) -> Initiation<Read<B>> {
        Initiation::on_object(&self.0, Read(buf))
    }

    /// As [`read`](Self::read), into a buffer that is taken from `pool` only when there are bytes for it, on the thread that reads
    /// them: what waits has none. No bytes are the end of the stream; they, and errors, come without a buffer. A message of a socket
    /// that has boundaries is cut to the pool's [size](BufferPool::size), and of a stream the next read gets what is left.
    ///
    /// Cancelled, timed out, or its future dropped, it has read nothing, or gives it back to the stream; the buffer, if there was one,
    /// goes back to the pool.
    ///
    /// ```
    /// use proactor::{BufferPool, Proactor, net::{TcpListener, TcpStream}};
    /// use std::time::Duration;
    ///
    /// /// Sends back what comes; between two messages, the connection holds no memory but its own.
    /// fn echo(stream: TcpStream, pool: BufferPool) {
    ///     stream.recv_with(&pool).timeout(Duration::from_secs(60)).then(move |received| match received {
    ///         Ok(bytes) if !bytes.is_empty() => {
    ///             stream.write_all(bytes).then(move |(sent, _bytes)| {
    ///                 if sent.is_ok() {
    ///                     echo(stream, pool);
    ///                 }
    ///             });
    ///         }
    ///         _ended => (),
    ///     });
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// # let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// # let client = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
    /// # echo(listener.accept().wait()?.0, BufferPool::new(4096));
    /// client.write_all("anybody?").wait().0?;
    /// let (result, buf) = client.read_exact([0; 8]).wait();
    /// assert_eq!((result?, &buf), (8, b"anybody?"));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn recv_with(&self, pool: &BufferPool) -> Initiation<RecvWith> {
        Initiation::on_object(&self.0, RecvWith(LateBuf::of(pool)))
    }

    /// Reads until `buf`'s capacity is full. A stream that ends before that is
    /// [`UnexpectedEof`](crate::ErrorKind::UnexpectedEof); after any error, [`Error::transferred`] bytes are in the buffer.
    #[inline]
    pub fn read_exact<B: BufMut>(&self, buf: B) -> Initiation<ReadExact<B>> {
        Initiation::on_object(&self.0, ReadExact { buf, done: 0 })
    }

    /// Reads until `delimiter` has come, and says how many bytes that is, the delimiter included. What was read beyond it goes back to
    /// the stream: the next read gets it. So the result does not depend on how the stream came in pieces. In a buffer whose length
    /// is fixed (an array), what stands behind the count is of no meaning. An empty delimiter is there at once, with 0.
    ///
    /// `buf`'s capacity is the limit: full without a delimiter, it is [`LimitReached`](crate::ErrorKind::LimitReached). A stream that
    /// ends before is [`UnexpectedEof`](crate::ErrorKind::UnexpectedEof), also if it ends with nothing. After these as after any
    /// error, cancelled and timed out too, [`Error::transferred`] bytes are in the buffer, and the next read goes on behind them.
    ///
    /// ```
    /// # use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// # let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// # let client = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
    /// # let (server, _) = listener.accept().wait()?;
    /// client.write_all("GET /\r\nHost: a\r\n").wait().0?;
    /// let (result, line) = server.read_until("\r\n", Vec::with_capacity(64)).wait();
    /// assert_eq!((result?, line.as_slice()), (7, &b"GET /\r\n"[..]));
    /// let (result, rest) = server.read_exact([0; 9]).wait();
    /// assert_eq!((result?, &rest), (9, b"Host: a\r\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_until<D: Buf, B: BufMut>(
        &self,
        delimiter: D,
        buf: B,
    ) -> Initiation<ReadUntil<D, B>> {
        Initiation::on_object(&self.0, ReadUntil::new(delimiter, buf))
    }

    /// As [`read`](Self::read), into several buffers, each filled before the next; 64 at most take part.
    pub fn read_vectored<B: BufMut>(&self, bufs: Vec<B>) -> Initiation<ReadVectored<B>> {
        Initiation::on_object(&self.0, ReadVectored(Room(bufs)))
    }

    /// Writes from `buf`'s start as much as the kernel takes at once, of its *length*. Cancelled, nothing was written.
    #[inline]
    pub fn write<B: Buf>(&self, buf: B) -> Initiation<Write<B>> {
        Initiation::on_object(&self.0, Write(buf))
    }

    /// Writes all of `buf`'s length. After an error, [`Error::transferred`] bytes had gone.
    #[inline]
    pub fn write_all<B: Buf>(&self, buf: B) -> Initiation<WriteAll<B>> {
        Initiation::on_object(&self.0, WriteAll { buf, done: 0 })
    }

    /// As [`write`](Self::write), from several buffers, one after the other; 64 at most take part.
    pub fn write_vectored<B: Buf>(&self, bufs: Vec<B>) -> Initiation<WriteVectored<B>> {
        Initiation::on_object(&self.0, WriteVectored(Load(bufs)))
    }

    /// Ends a direction, or both, after the writes that were initiated before. The other direction goes on.
    pub fn shutdown(&self, how: Shutdown) -> Initiation<ShutdownOp> {
        Initiation::on_object(&self.0, ShutdownOp(how))
    }

    /// Two halves, for two threads. The stream closes when both are gone.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let other = self.again();
        (ReadHalf(self), WriteHalf(other))
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// The operating system's; [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn set_nodelay(&self, nodelay: bool) -> Result<(), Error> {
        with_socket(&self.0, Kind::Configure, |socket| {
            socket.set_tcp_nodelay(nodelay)
        })
    }

    /// This end's address.
    ///
    /// # Errors
    ///
    /// As [`set_nodelay`](Self::set_nodelay).
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        address_of(&self.0, Socket::local_addr)
    }

    /// The other end's address.
    ///
    /// # Errors
    ///
    /// As [`set_nodelay`](Self::set_nodelay).
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        address_of(&self.0, Socket::peer_addr)
    }

    /// Ends everything that is pending on it as cancelled. What was composed says how far it got.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Closes it now, for both halves: what is pending ends as cancelled, what comes later as closed.
    pub fn close(&self) {
        self.0.close();
    }

    /// Gives the socket up again: its descriptor, which is non-blocking still, and what was read of it and given back (by
    /// [`read_until`](Self::read_until), or by futures that were dropped), which comes before what the descriptor has.
    ///
    /// # Errors
    ///
    /// With the stream, which stays as it was: [`InUse`](crate::ErrorKind::InUse) while there is another half, an operation is under
    /// way, or an initiation or a future of one is kept; [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    ///
    /// ```
    /// # use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// # let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// # let client = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
    /// # let (server, _) = listener.accept().wait()?;
    /// client.write_all("upgrade\nbinary").wait().0?;
    /// let (result, _) = server.read_until("\n", Vec::with_capacity(64)).wait();
    /// assert_eq!(result?, 8);
    /// let (socket, first) = server.into_fd().map_err(|(error, _server)| error)?;
    /// let socket = std::net::TcpStream::from(socket);
    /// assert_eq!((socket.peer_addr()?, first.as_slice()), (client.local_addr()?, &b"binary"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_fd(self) -> Result<(OwnedFd, Vec<u8>), (Error, Self)> {
        match self.0.take_out() {
            Ok((fd, stock)) => Ok((fd, stock.bytes.into())),
            Err(error) => Err((error, self)),
        }
    }

    /// Its name among the port's objects.
    pub fn id(&self) -> ObjectId {
        self.0.id()
    }
}

impl ReadHalf {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.0
    }

    /// As [`TcpStream::port`].
    pub fn port(&self) -> CompletionPort {
        self.0.port()
    }

    /// As [`TcpStream::read_until`].
    pub fn read_until<D: Buf, B: BufMut>(
        &self,
        delimiter: D,
        buf: B,
    ) -> Initiation<ReadUntil<D, B>> {
        self.0.read_until(delimiter, buf)
    }

    /// As [`TcpStream::into_fd`], once the other half is gone.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn into_fd(self) -> Result<(OwnedFd, Vec<u8>), (Error, Self)> {
        self.0
            .into_fd()
            .map_err(|(error, stream)| (error, Self(stream)))
    }

    /// As [`TcpStream::read`].
    #[inline]
    pub fn read<B: BufMut>(&self, buf: B) -> Initiation<Read<B>> {
        self.0.read(buf)
    }

    /// As [`TcpStream::recv_with`].
    #[inline]
    pub fn recv_with(&self, pool: &BufferPool) -> Initiation<RecvWith> {
        self.0.recv_with(pool)
    }

    /// As [`TcpStream::read_exact`].
    #[inline]
    pub fn read_exact<B: BufMut>(&self, buf: B) -> Initiation<ReadExact<B>> {
        self.0.read_exact(buf)
    }

    /// As [`TcpStream::read_vectored`].
    pub fn read_vectored<B: BufMut>(&self, bufs: Vec<B>) -> Initiation<ReadVectored<B>> {
        self.0.read_vectored(bufs)
    }

    /// As [`TcpStream::peer_addr`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.0.peer_addr()
    }

    /// As [`TcpStream::close`].
    pub fn close(&self) {
        self.0.close();
    }
}

impl WriteHalf {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.0
    }

    /// As [`TcpStream::port`].
    pub fn port(&self) -> CompletionPort {
        self.0.port()
    }

    /// As [`TcpStream::write`].
    #[inline]
    pub fn write<B: Buf>(&self, buf: B) -> Initiation<Write<B>> {
        self.0.write(buf)
    }

    /// As [`TcpStream::write_all`].
    #[inline]
    pub fn write_all<B: Buf>(&self, buf: B) -> Initiation<WriteAll<B>> {
        self.0.write_all(buf)
    }

    /// As [`TcpStream::write_vectored`].
    pub fn write_vectored<B: Buf>(&self, bufs: Vec<B>) -> Initiation<WriteVectored<B>> {
        self.0.write_vectored(bufs)
    }

    /// Ends the writing direction, after the writes that were initiated before.
    pub fn shutdown(&self) -> Initiation<ShutdownOp> {
        self.0.shutdown(Shutdown::Write)
    }

    /// As [`TcpStream::close`].
    pub fn close(&self) {
        self.0.close();
    }
}
