//! Connections as a stream.

use std::fmt;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::{FusedStream, Stream};

use super::accepting::{FIRST_PAUSE, LONGEST_PAUSE, Trouble, trouble};
use super::listener::TcpListener;
use super::ops::Accept;
use super::stream::TcpStream;
use crate::error::{Error, ErrorKind};
use crate::initiation::InitiationFuture;

/// The connections of a [listener](TcpListener::incoming), as a `Stream`.
///
/// Trouble is an item, too, and the stream goes on: a connection that was lost before it was accepted; a lack of descriptors or
/// memory, after which it pauses as [`accept_each`](TcpListener::accept_each) does. It ends when the listener is closed or cancelled, or
/// nothing is accepted any more; of an error that lasts it tells first. The listener stays open as long as it.
///
/// A poll that is given up loses nothing, and nothing is lost with the stream: a connection that it has and nobody took goes back
/// to the listener, for the next accept.
#[must_use = "a stream accepts nothing until it is polled"]
pub struct Incoming {
    listener: TcpListener,
    state: State,
    pause: Duration,
}

enum State {
    Idle,
    Accepting(InitiationFuture<Accept>),
    /// Boxed: it is rare.
    Pausing(Pin<Box<dyn Future<Output = ()> + Send>>),
    Over,
}

impl TcpListener {
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
        Incoming {
            listener: self.again(),
            state: State::Idle,
            pause: FIRST_PAUSE,
        }
    }
}

impl Incoming {
    /// What an accept ended with, as an item; and what comes after it.
    fn take_in(
        &mut self,
        accepted: Result<(TcpStream, SocketAddr), Error>,
    ) -> Option<<Self as Stream>::Item> {
        let trouble = accepted.as_ref().err().map(|error| (trouble(error), error));
        self.state = match trouble {
            None => {
                self.pause = FIRST_PAUSE;
                State::Idle
            }
            Some((Trouble::ThisOne, _)) => State::Idle,
            Some((Trouble::Scarcity, _)) => {
                let pause = self.pause;
                self.pause = LONGEST_PAUSE.min(2 * pause);
                let pausing = self.listener.port().sleep(pause);
                State::Pausing(Box::pin(async move {
                    // Also when it was cut short: the accept says why.
                    let _ = pausing.await;
                }))
            }
            Some((Trouble::Lasting, error)) => {
                self.state = State::Over;
                let is_told = !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled);
                return is_told.then_some(accepted);
            }
        };
        Some(accepted)
    }
}

impl Stream for Incoming {
    type Item = Result<(TcpStream, SocketAddr), Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.state {
                State::Idle => {
                    self.state = State::Accepting(self.listener.accept().into_future());
                }
                State::Accepting(accepting) => {
                    let accepted = ready!(Pin::new(accepting).poll(context));
                    return Poll::Ready(self.take_in(accepted));
                }
                State::Pausing(pausing) => {
                    ready!(pausing.as_mut().poll(context));
                    self.state = State::Idle;
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

impl FusedStream for Incoming {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
