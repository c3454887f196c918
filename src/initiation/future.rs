//! An initiation as a future: begun when it is first polled, cancelled when it is dropped before its end.
//!
//! Protocol: `docs/dispatch-protocols.md`, "A future, and what it gives back".

use std::fmt;
use std::future::IntoFuture;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Initiation;
use crate::cell::phase;
use crate::error::Error;
use crate::id::{Kind, ObjectId};
use crate::operation::{self, Body, Operation, OperationKey, code};
use crate::port::WeakPort;
use crate::sync::{Arc, Mutex, mutant};

/// The future of an [`Initiation`]: what `.await` makes of it. It needs no executor in particular, and the executor nothing of
/// this crate's; but somebody has to run the proactor, [in the background](crate::Proactor::start) most simply.
///
/// - The operation begins when the future is first polled. It is woken from the thread that completes the operation.
/// - Dropped before the operation's end, it asks it to end as cancelled. **Nothing is lost:** what a read has taken, and a
///   connection that was accepted, goes back to the stream or listener and comes out first, also if the operation was finished and its
///   output not yet taken, and also from within a composed read. What a write has written is written.
/// - So a read or an accept keeps its direction until its output is taken or the future is dropped: the next one of that stream
///   or listener waits for that, in whichever form it is. Whoever keeps the future of a finished read unpolled and waits for
///   a later read of the same stream waits for ever.
/// - On a closed port it ends as closed at once. While the proactor is stopped it waits for a
///   [`restart`](crate::Proactor::restart), as everything does.
/// - If the proactor is dropped, the output is as it is then: cancelled, most likely. A future never hangs for that.
///
/// It can be sent to another thread between two polls. Beginning it allocates once.
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
    Begun(Arc<Slot<O>>, Began),
    Over,
}

/// What was begun, by name.
#[derive(Clone)]
struct Began {
    /// Weak, or a completion that waits in a port could keep it alive.
    port: WeakPort,
    key: OperationKey,
    object: ObjectId,
}

/// Where the completion leaves what the future takes: one of the two is there first.
struct Slot<O>(Mutex<Filled<O>>);

enum Filled<O> {
    /// The operation is under way; whom to tell.
    Open(Waker),
    /// It is finished.
    Finished(O, Result<usize, Error>),
    /// The future is gone, and left the name of what is to be let go.
    Nobody(Began),
    Taken,
}

/// Whether a finished operation keeps its direction.
const fn keeps(kind: Kind) -> bool {
    matches!(kind, Kind::Read | Kind::Accept)
}

/// An operation with its slot, in a cell.
struct Awaited<O> {
    op: O,
    slot: Arc<Slot<O>>,
}

impl<O: Operation> Body for Awaited<O> {
    type Op = O;
    const HOLDS: bool = keeps(O::KIND);

    fn op(&mut self) -> &mut O {
        &mut self.op
    }

    fn run(self, result: Result<usize, Error>) {
        let mut filled = self.slot.0.lock();
        match mem::replace(&mut *filled, Filled::Taken) {
            Filled::Open(waker) => {
                *filled = Filled::Finished(self.op, result);
                drop(filled);
                if !mutant("future-not-woken") {
                    waker.wake();
                }
            }
            Filled::Nobody(began) => {
                drop(filled);
                began.give_back(self.op, result);
            }
            Filled::Finished(..) | Filled::Taken => {}
        }
    }

    /// Its handler would be dropped uncalled: a future gets what there is.
    fn discard(self, result: Result<usize, Error>) {
        self.run(result);
    }
}

impl Began {
    /// The output was taken: the direction goes on.
    fn let_go(&self, kind: Kind) {
        if let Some(port) = self.port.upgrade().filter(|_| keeps(kind)) {
            port.0.give_back(self.key, self.object, None);
        }
    }

    /// Nobody wants the output: what was taken goes back, and the direction goes on.
    fn give_back<O: Operation>(&self, op: O, result: Result<usize, Error>) {
        let returned = op
            .give_back(result)
            .filter(|_| !mutant("future-gives-nothing-back"));
        if let Some(port) = self.port.upgrade().filter(|_| keeps(O::KIND)) {
            port.0.give_back(self.key, self.object, returned);
        }
    }

    fn cancel(&self) {
        if let Some(port) = self.port.upgrade() {
            if let Some((cell, generation)) = self.key.resolve(&port.0.home) {
                port.0.cancel(cell, generation, phase::CANCEL);
            }
        }
    }
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
        let waker = context.waker().clone();
        let (slot, began) = match mem::replace(&mut self.0, State::Over) {
            State::Described(initiation) => {
                if initiation.is_on_closed_port() {
                    return Poll::Ready(initiation.end(code::CLOSED));
                }
                // Nobody can have filled it unseen: the waker is there before the operation is.
                self.0 = begin(initiation, waker);
                return Poll::Pending;
            }
            State::Begun(slot, began) => (slot, began),
            State::Over => panic!("a future was polled after it was ready"),
        };
        let mut filled = slot.0.lock();
        match mem::replace(&mut *filled, Filled::Taken) {
            Filled::Finished(op, result) => {
                drop(filled);
                began.let_go(O::KIND);
                Poll::Ready(op.finish(result))
            }
            before => {
                let (stays, goes) = match before {
                    Filled::Open(old) if mutant("future-keeps-its-waker") => (old, waker),
                    Filled::Open(old) => (waker, old),
                    _ => unreachable!("only the future takes, and only once"),
                };
                *filled = Filled::Open(stays);
                drop(filled);
                drop(goes);
                self.0 = State::Begun(slot, began);
                Poll::Pending
            }
        }
    }
}

fn begin<O: Operation>(initiation: Initiation<O>, waker: Waker) -> State<O> {
    let port = initiation.port().downgrade();
    let slot = Arc::new(Slot(Mutex::new(Filled::Open(waker))));
    let filler = Arc::clone(&slot);
    let (key, object) = initiation.begin_in(|home, object, key, op| {
        operation::place_body(home, object, key, Awaited { op, slot: filler }, false)
    });
    State::Begun(slot, Began { port, key, object })
}

impl<O: Operation> Drop for InitiationFuture<O> {
    fn drop(&mut self) {
        let State::Begun(slot, began) = mem::replace(&mut self.0, State::Over) else {
            return;
        };
        let mut filled = slot.0.lock();
        match mem::replace(&mut *filled, Filled::Nobody(began.clone())) {
            Filled::Finished(op, result) => {
                drop(filled);
                began.give_back(op, result);
            }
            open => {
                drop(filled);
                drop(open); // a waker's drop may do anything
                began.cancel();
            }
        }
    }
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
