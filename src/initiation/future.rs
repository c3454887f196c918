//! An initiation as a future: begun when it is first polled, cancelled when it is dropped before its end.
//!
//! Protocol: `docs/dispatch-protocols.md`, "A future, and what it gives back".

use std::fmt;
use std::future::IntoFuture;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Initiation;
use crate::local::Local;
use crate::operation::{Awaiting, Operation, code};
use crate::sync::Arc;

/// The future of an [`Initiation`]: what `.await` makes of it. It needs no executor in particular, and the executor nothing of
/// this crate's; but somebody has to run the proactor, [in the background](crate::Proactor::start) most simply.
///
/// - The operation begins when the future is first polled. It is woken from the thread that completes the operation.
/// - Dropped before the operation's end, it asks it to end as cancelled. **Nothing is lost:** what a read has taken, a
///   datagram that was received and a connection that was accepted go back to the stream, socket or listener and come out first, also if
///   the operation was finished and its output not yet taken, and also from within a composed read. What a write has written is written.
/// - So a read, a receive or an accept keeps its direction until its output is taken or the future is dropped: the next one of that
///   object waits for that, in whichever form it is. Whoever keeps the future of a finished read unpolled and waits for
///   a later read of the same stream waits for ever.
/// - On a closed port it ends as closed at once. While the proactor is stopped it waits for a
///   [`restart`](crate::Proactor::restart), as everything does.
/// - If the proactor is dropped, the output is as it is then: cancelled, most likely. A future never hangs for that.
///
/// An operation that ends within its begin is ready at once, a [turn's budget](crate::Builder::turn_budget) of them in a row; then others
/// come first.
///
/// It can be sent to another thread between two polls. Allocates nothing once warm, if the operation fits in 160 bytes.
///
/// ```
/// use proactor::{Proactor, dispatch::LeaderFollowers, net::{TcpListener, TcpStream}};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().dispatcher(LeaderFollowers::new()).build()?;
/// proactor.start()?;
/// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let client = TcpStream::connect(&proactor, listener.local_addr()?);
/// pollster::block_on(async {
///     let (client, (server, _)) = (client.await?, listener.accept().await?);
///     client.write_all("hello").await.0?;
///     drop(server.read([0; 3]).into_future()); // reads nothing: it was never polled
///     let (result, buf) = server.read_exact([0; 5]).await;
///     assert_eq!((result?, &buf), (5, b"hello"));
///     # Ok::<(), proactor::Error>(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a future does nothing until it is polled"]
pub struct InitiationFuture<O: Operation>(State<O>);

enum State<O: Operation> {
    Described(Initiation<O>),
    Begun(Awaiting<O>),
    Over,
}

impl<O: Operation> IntoFuture for Initiation<O> {
    type Output = O::Output;
    type IntoFuture = InitiationFuture<O>;

    fn into_future(self) -> InitiationFuture<O> {
        InitiationFuture(State::Described(self))
    }
}

// Nothing is pinned in it: an operation under way stands in its cell.
impl<O: Operation> Unpin for InitiationFuture<O> {}

impl<O: Operation> Future for InitiationFuture<O> {
    type Output = O::Output;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        let begun = match mem::replace(&mut self.0, State::Over) {
            State::Described(initiation) if initiation.is_on_closed_port() => {
                return Poll::Ready(initiation.end(code::CLOSED));
            }
            State::Described(initiation) => {
                let begun = begin(initiation);
                if begun.is_finished() && !Local::may_go_on(begun.home()) {
                    self.0 = State::Begun(begun);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                begun
            }
            State::Begun(begun) => begun,
            State::Over => panic!("a future was polled after it was ready"),
        };
        match begun.poll(context.waker()) {
            Ok((op, result)) => Poll::Ready(op.finish(result)),
            Err(begun) => {
                self.0 = State::Begun(begun);
                Poll::Pending
            }
        }
    }
}

fn begin<O: Operation>(initiation: Initiation<O>) -> Awaiting<O> {
    let home = Arc::clone(&initiation.target.inner().home);
    let (_, begun) =
        initiation.begin_in(|_, object, key, op| Awaiting::place(home, object, key, op));
    begun
}

impl<O: Operation> fmt::Debug for InitiationFuture<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Described(_) => "not begun",
            State::Begun(..) => "begun",
            State::Over => "over",
        };
        f.debug_struct("InitiationFuture")
            .field("kind", &O::KIND)
            .field("state", &state)
            .finish()
    }
}
