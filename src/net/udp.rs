//! A socket for datagrams.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Protocol, Socket, Type};

use super::datagrams::{RecvFrom, RecvFromWith, SendTo};
use super::listener::{address_of, internet_address, socket_for, with_socket};
use crate::buf::{Buf, BufMut, BufferPool, Datagram, LateBuf};
use crate::error::Error;
use crate::id::{Kind, ObjectId};
use crate::initiation::Initiation;
use crate::operation::Envelope;
use crate::port::CompletionPort;
use crate::port::object::Handle;

/// A UDP socket: datagrams to anybody and from anybody, or from and to one peer, once it is [connected](Self::connect). Dropping it
/// closes it, and ends what is pending as cancelled. `&self` serves any number of threads: share it in an `Arc`.
///
/// Datagrams keep their boundaries, and an empty one is one. Whatever is longer than the buffer that it comes into loses the rest, as
/// with every system; 65,535 bytes are room for any. Several operations of each direction may be pending at once, and are carried out in order.
///
/// Cancelled, timed out, or its future dropped, a receive has received nothing, or gives back what it has: the next one gets
/// that first, whole and with its sender.
///
/// For what else a socket can be told (broadcast, multicast groups, the size of its buffers, an address that several share), tell a
/// socket of the standard library's or of `socket2`'s, and take it in: [`from_std`](Self::from_std).
///
/// ```
/// use proactor::{Proactor, net::UdpSocket};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let server = UdpSocket::bind(&proactor, "[::1]:0".parse()?)?;
/// let client = UdpSocket::bind(&proactor, "[::1]:0".parse()?)?;
/// client.connect(server.local_addr()?)?;
/// server.recv_from(Vec::with_capacity(1500)).then(move |(result, question)| {
///     let (_bytes, peer) = result.expect("a datagram");
///     assert_eq!(question, b"anybody?");
///     server.send_to("here", peer).then(move |(result, _)| {
///         assert_eq!(result.expect("sent"), 4);
///         drop(server);
///     });
/// });
/// client.send("anybody?").then(|(result, _)| assert!(result.is_ok()));
/// client.recv_from([0; 1500]).then(|(result, answer)| {
///     assert_eq!(&answer[..result.expect("a datagram").0], b"here");
/// });
/// assert_eq!(proactor.run(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket(Handle);

impl UdpSocket {
    /// Receives at `address`, and sends from there; port 0 lets the system choose ([`local_addr`](Self::local_addr) says which).
    ///
    /// # Errors
    ///
    /// The operating system's, with the address: in use, not available, not allowed.
    pub fn bind(port: &impl AsRef<CompletionPort>, address: SocketAddr) -> Result<Self, Error> {
        let bound = socket_for(address, Type::DGRAM, Protocol::UDP).and_then(|socket| {
            socket.bind(&address.into())?;
            Ok(socket)
        });
        let socket = bound.map_err(|error| Error::from_io(Kind::Bind, &error).at(address))?;
        Self::over(port.as_ref(), socket)
    }

    fn over(port: &CompletionPort, socket: Socket) -> Result<Self, Error> {
        let address = internet_address(socket.local_addr());
        // A datagram that is shorter than its buffer says nothing of the next.
        let handle = Handle::open(port, socket.into(), false);
        Ok(Self(handle.map_err(|error| error.at_any(address))?))
    }

    /// Takes in a socket of the standard library's.
    ///
    /// # Errors
    ///
    /// The operating system's, if it cannot be made non-blocking; [`Closed`](crate::ErrorKind::Closed) on a closed port.
    ///
    /// ```
    /// # use proactor::{Proactor, net::UdpSocket};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_broadcast(true)?;
    /// let socket = UdpSocket::from_std(&proactor, socket)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_std(
        port: &impl AsRef<CompletionPort>,
        socket: std::net::UdpSocket,
    ) -> Result<Self, Error> {
        let address = socket.local_addr().ok();
        socket
            .set_nonblocking(true)
            .map_err(|error| Error::from_io(Kind::Register, &error).at_any(address))?;
        Self::over(port.as_ref(), Socket::from(socket))
    }

    /// From now on it receives from `peer` alone, and [`send`](Self::send) sends there. Nothing is sent by this, and it does not
    /// block. Called again, another peer takes the place. What had come from others before is received still.
    ///
    /// Only a connected socket is told when the peer's system refuses what was sent: the next operation, of either direction, ends with that
    /// error, and those after it are as if nothing had been.
    ///
    /// # Errors
    ///
    /// The operating system's, with the address: another family's, no way there; [`Closed`](crate::ErrorKind::Closed) after
    /// [`close`](Self::close).
    pub fn connect(&self, peer: SocketAddr) -> Result<(), Error> {
        with_socket(&self.0, Kind::Connect, |socket| {
            socket.connect(&peer.into())
        })
        .map_err(|error| error.at(peer))
    }

    /// Receives a datagram into `buf`, as much as it has *capacity* for, from its start, and sets its length to that. The output says
    /// how many bytes it is, and who sent it; what had no room is lost. An empty buffer takes a datagram, too.
    #[inline]
    pub fn recv_from<B: BufMut>(&self, buf: B) -> Initiation<RecvFrom<B>> {
        let envelope = Envelope::default();
        Initiation::on_object(&self.0, RecvFrom { buf, envelope })
    }

    /// As [`recv_from`](Self::recv_from), into a buffer that is taken from `pool` only when there is a datagram, on the thread that
    /// receives it: what waits has none. What is longer than the pool's [size](BufferPool::size) is cut, and
    /// [says so](Datagram::is_truncated). An error comes without a buffer.
    ///
    /// ```
    /// # use proactor::{BufferPool, Proactor, net::UdpSocket};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// # let socket = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// socket.send_to("too long", socket.local_addr()?).wait().0?;
    /// let datagram = socket.recv_from_with(&BufferPool::new(3)).wait()?;
    /// assert_eq!((&datagram[..], datagram.is_truncated()), (&b"too"[..], true));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn recv_from_with(&self, pool: &BufferPool) -> Initiation<RecvFromWith> {
        let op = RecvFromWith {
            into: LateBuf::of(pool),
            envelope: Envelope::default(),
        };
        Initiation::on_object(&self.0, op)
    }

    /// Sends `buf`'s length to `address`, all of it in one datagram, or nothing. If the socket's own buffer is full, it waits until there is
    /// room; that it was sent does not say that it arrives. Cancelled, nothing was sent. The error names the address.
    #[inline]
    pub fn send_to<B: Buf>(&self, buf: B, address: SocketAddr) -> Initiation<SendTo<B>> {
        let to = Some(address);
        Initiation::on_object(&self.0, SendTo { buf, to })
    }

    /// As [`send_to`](Self::send_to), to the peer that the socket is [connected](Self::connect) to. Without one it is an error.
    #[inline]
    pub fn send<B: Buf>(&self, buf: B) -> Initiation<SendTo<B>> {
        Initiation::on_object(&self.0, SendTo { buf, to: None })
    }

    /// Another handle on the same socket.
    pub(super) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// The port that it is open on: for operations of your own, [`CompletionPort::compose`].
    pub fn port(&self) -> CompletionPort {
        self.0.port()
    }

    /// The address that it receives at.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        address_of(&self.0, Socket::local_addr)
    }

    /// Whom it is [connected](Self::connect) to.
    ///
    /// # Errors
    ///
    /// The operating system's, if it is not; [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        address_of(&self.0, Socket::peer_addr)
    }

    /// Ends everything that is pending on it as cancelled.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Closes it now: what is pending ends as cancelled, what comes later as closed.
    pub fn close(&self) {
        self.0.close();
    }

    /// Gives the socket up again: its descriptor, which is non-blocking still, and the datagrams that were received for futures which
    /// were dropped then, oldest first.
    ///
    /// # Errors
    ///
    /// With the socket, which stays as it was: [`InUse`](crate::ErrorKind::InUse) while an operation is under way, or an initiation, a
    /// future or a stream of it is kept; [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    ///
    /// ```
    /// # use proactor::{net::UdpSocket, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// let socket = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = socket.local_addr()?;
    /// let (socket, received) = socket.into_fd().map_err(|(error, _socket)| error)?;
    /// assert_eq!(std::net::UdpSocket::from(socket).local_addr()?, address);
    /// assert!(received.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_fd(self) -> Result<(OwnedFd, Vec<Datagram>), (Error, Self)> {
        match self.0.take_out() {
            Ok((fd, stock)) => Ok((fd, stock.datagrams.into())),
            Err(error) => Err((error, self)),
        }
    }

    /// Its name among the port's objects.
    pub fn id(&self) -> ObjectId {
        self.0.id()
    }
}
