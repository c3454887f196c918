//! A connection to the first of several addresses that answers.

use std::net::SocketAddr;
use std::vec;

use super::stream::TcpStream;
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::compose::{Completer, Composed};

impl TcpStream {
    /// Connects to the first of `addresses` that answers, one after the other, in their order: those of one name, say. Output: the
    /// stream, or the error of the last address that was tried. Without any address that is
    /// [`NoAddress`](ErrorKind::NoAddress).
    ///
    /// Cancelled or timed out, it tries no further, and the error says at which address it was. A time limit is for all of them
    /// together.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, ErrorKind, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?; // nobody listens there any more
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// let stream = TcpStream::connect_any(&proactor, [gone, address]).wait()?;
    /// assert_eq!(stream.peer_addr()?, address);
    /// let error = TcpStream::connect_any(&proactor, []).wait().expect_err("no address");
    /// assert_eq!(error.kind(), ErrorKind::NoAddress);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_any(
        port: &impl AsRef<CompletionPort>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Initiation<Composed<Self>> {
        let addresses = addresses.into_iter().collect::<Vec<_>>().into_iter();
        let port = port.as_ref().clone();
        let none = Error::new(ErrorKind::NoAddress, Kind::Connect);
        port.clone()
            .compose(move |completer| connect(port, addresses, none, completer))
    }
}

fn connect(
    port: CompletionPort,
    mut addresses: vec::IntoIter<SocketAddr>,
    last: Error,
    completer: Completer<TcpStream>,
) {
    let Some(address) = addresses.next() else {
        return completer.complete(Err(last));
    };
    let connecting = TcpStream::connect(&port, address);
    let connecting = connecting.cancel_with(completer.token());
    connecting.then(move |result| match result {
        Err(error) if !completer.token().is_cancelled() => {
            connect(port, addresses, error, completer);
        }
        result => completer.complete(result),
    });
}
