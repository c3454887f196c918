//! Operations of one's own, composed of others or completed by hand.
#![allow(unsafe_code)] // a completer is made for the operation beside it

use super::{Initiation, Target};
use crate::port::CompletionPort;
use crate::port::compose::{Completer, Composed};

impl CompletionPort {
    /// An operation that `begin` begins and a [`Completer`] completes: composed of others, or of what happens elsewhere. It is an
    /// initiation like any other: handler or wait, time limit, token and strand are its caller's choice.
    ///
    /// `begin` runs inside the initiating call. What it initiates takes the completer's [token](Completer::token), so that a request to
    /// end reaches it; its handlers pass the completer on, and the last one completes. Then it says how far it got, with the output or
    /// with [`Error::with_transferred`](crate::Error::with_transferred). Allocates a box for `begin`, and the token.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Completer, Composed, Initiation, Proactor};
    /// use std::net::SocketAddr;
    ///
    /// /// Connects, and reads the greeting.
    /// fn greeting(proactor: &Proactor, address: SocketAddr) -> Initiation<Composed<Vec<u8>>> {
    ///     let connect = TcpStream::connect(proactor, address);
    ///     proactor.compose(move |completer: Completer<Vec<u8>>| {
    ///         let token = completer.token().clone();
    ///         connect.cancel_with(&token).then(move |stream| match stream {
    ///             Err(error) => completer.complete(Err(error)),
    ///             Ok(stream) => {
    ///                 stream.read(Vec::with_capacity(64)).cancel_with(&token).then(move |(result, bytes)| {
    ///                     completer.complete(result.map(|_| bytes));
    ///                 });
    ///             }
    ///         });
    ///     })
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// listener.accept().then(|peer| {
    ///     peer.expect("a connection").0.write_all(&b"hello"[..]).then(|_| ());
    /// });
    /// assert_eq!(greeting(&proactor, address).wait()?, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn compose<T: Send + 'static>(
        &self,
        begin: impl FnOnce(Completer<T>) + Send + 'static,
    ) -> Initiation<Composed<T>> {
        let begin = move |port: &CompletionPort, begun| {
            // SAFETY: the operation beside this target is a `Composed<T>`, which `then` has just placed.
            begin(unsafe { Completer::new(port, begun) });
        };
        Initiation::new(
            Target::ByHand(self.clone(), Box::new(begin)),
            Composed::new(),
        )
    }
}
