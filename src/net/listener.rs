//! A socket that takes connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::ops::Accept;
use crate::error::{Error, ErrorKind};
use crate::id::{Kind, ObjectId};
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::object::Handle;

/// How many connections the kernel holds for a listener that does not accept them yet.
const BACKLOG: i32 = 1024;

/// Connections that were accepted, and their other ends.
type Accepted = Vec<(OwnedFd, SocketAddr)>;

/// A listening socket. Dropping it closes it, and ends what is pending as cancelled. `&self` serves any number of threads: to
/// close it from elsewhere while a handler accepts with it, share it in an `Arc` and call [`close`](Self::close).
///
/// ```
/// use proactor::{net::{TcpListener, TcpStream}, Proactor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let address = listener.local_addr()?;
/// listener.accept().then(|result| println!("{:?}", result.expect("a connection").1));
/// TcpStream::connect(&proactor, address).then(|result| assert!(result.is_ok()));
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpListener {
    handle: Handle,
    /// For errors.
    address: Option<SocketAddr>,
}

impl TcpListener {
    /// Listens on `address`; port 0 lets the system choose ([`local_addr`](Self::local_addr) says which). An address that was
    /// used a moment ago may be used again.
    ///
    /// # Errors
    ///
    /// The operating system's, with the address: in use, not available, not allowed.
    pub fn bind(port: &impl AsRef<CompletionPort>, address: SocketAddr) -> Result<Self, Error> {
        let socket =
            bound(address).map_err(|error| Error::from_io(Kind::Bind, &error).at(address))?;
        Self::over(port.as_ref(), socket)
    }

    fn over(port: &CompletionPort, socket: Socket) -> Result<Self, Error> {
        let address = internet_address(socket.local_addr());
        let handle = Handle::listen(port, socket.into()).map_err(|error| error.at_any(address))?;
        Ok(Self { handle, address })
    }

    /// Takes in a listener of the standard library's.
    ///
    /// # Errors
    ///
    /// The operating system's, if it cannot be made non-blocking; [`ErrorKind::Closed`] on a closed port.
    pub fn from_std(
        port: &impl AsRef<CompletionPort>,
        listener: std::net::TcpListener,
    ) -> Result<Self, Error> {
        let address = listener.local_addr().ok();
        listener
            .set_nonblocking(true)
            .map_err(|error| Error::from_io(Kind::Register, &error).at_any(address))?;
        Self::over(port.as_ref(), Socket::from(listener))
    }

    /// Waits for a connection. Several may be pending at once.
    ///
    /// Cancelled before there was one, none is lost: it stays with the system for the next. An output that is dropped
    /// closes its connection; that of a future which is dropped before it is ready goes to the next accept.
    pub fn accept(&self) -> Initiation<Accept> {
        Initiation::on_object(
            &self.handle,
            Accept {
                port: self.handle.port().downgrade(),
                address: self.address,
            },
        )
    }

    /// Another handle on the same socket.
    pub(super) fn again(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            address: self.address,
        }
    }

    /// The port that it is open on: for operations of your own, [`CompletionPort::compose`].
    pub fn port(&self) -> CompletionPort {
        self.handle.port()
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after [`close`](Self::close).
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        address_of(&self.handle, Socket::local_addr)
    }

    /// Ends every pending accept as cancelled.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Closes it now: what is pending ends as cancelled, what comes later as closed.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Gives the socket up again: its descriptor, which is non-blocking still, and the connections that were accepted for futures
    /// which were dropped then, oldest first.
    ///
    /// # Errors
    ///
    /// With the listener, which stays as it was: [`ErrorKind::InUse`] while an accept is under way, or an initiation or a future of
    /// one is kept; [`ErrorKind::Closed`] after [`close`](Self::close).
    ///
    /// ```
    /// # use proactor::{net::TcpListener, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// let (socket, accepted) = listener.into_fd().map_err(|(error, _listener)| error)?;
    /// assert_eq!(std::net::TcpListener::from(socket).local_addr()?, address);
    /// assert!(accepted.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_fd(self) -> Result<(OwnedFd, Accepted), (Error, Self)> {
        match self.handle.take_out() {
            Ok((fd, stock)) => Ok((fd, stock.sockets.into())),
            Err(error) => Err((error, self)),
        }
    }

    /// Its name among the port's objects.
    pub fn id(&self) -> ObjectId {
        self.handle.id()
    }
}

/// A non-blocking socket for `address`'s family.
pub(super) fn socket_for(
    address: SocketAddr,
    what: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), what, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket_for(address, Type::STREAM, Protocol::TCP)?;
    // On Windows this would allow to take over an address that is in use.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// An address of an object's socket.
pub(super) fn address_of(
    handle: &Handle,
    which: impl FnOnce(&Socket) -> io::Result<SockAddr>,
) -> Result<SocketAddr, Error> {
    with_socket(handle, Kind::Address, which)?
        .as_socket()
        .ok_or_else(|| Error::os(Kind::Address, Errno::AFNOSUPPORT.raw_os_error()))
}

/// What a socket says to `what`, or why it cannot.
pub(super) fn with_socket<R>(
    handle: &Handle,
    what: Kind,
    ask: impl FnOnce(&Socket) -> io::Result<R>,
) -> Result<R, Error> {
    handle
        .with_fd(|fd| ask(&SockRef::from(fd)))
        .ok_or_else(|| Error::new(ErrorKind::Closed, what))?
        .map_err(|error| Error::from_io(what, &error))
}

/// For errors: a socket of another family has none.
pub(super) fn internet_address(address: io::Result<SockAddr>) -> Option<SocketAddr> {
    address.ok()?.as_socket()
}
