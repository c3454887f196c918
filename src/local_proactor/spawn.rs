//! Futures that need not be `Send`. A future stands in the table, as handlers do; what is spawned is its ticket, which is `Send`, and
//! polls it where its proactor runs. Its output goes into the table, too, and comes out by a ticket.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::table::{Table, Ticket};
use super::{Here, LocalPort, LocalProactor};
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::initiation::{Initiation, InitiationFuture, Unbound};
use crate::operation::Operation;
use crate::spawn::JoinHandle;

type Kept<F> = Pin<Box<F>>;

/// Stands for a future of the table of that port, on whichever thread: its ticket, but for when it is polled.
struct Proxy<F: Future<Output: 'static> + 'static> {
    port: u32,
    ticket: Option<Ticket<Kept<F>>>,
}

impl<F: Future<Output: 'static> + 'static> Future for Proxy<F> {
    /// None, if the table has ended.
    type Output = Option<Ticket<F::Output>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(table) = Table::at_work(self.port) else {
            // Its calls run nowhere else, so this is the end; the ticket has the future dropped at home.
            return Poll::Ready(None);
        };
        // Out of the table meanwhile: a poll may spawn another.
        let future = self.ticket.take().and_then(|ticket| ticket.claim(&table));
        let Some(mut future) = future else {
            return Poll::Ready(None);
        };
        match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                drop(future); // Before its output is known of.
                Poll::Ready(table.keep(output).ok())
            }
            Poll::Pending => match table.keep(future) {
                Ok(ticket) => {
                    self.ticket = Some(ticket);
                    Poll::Pending
                }
                Err(_ended) => Poll::Ready(None),
            },
        }
    }
}

/// The way to the output of a future that was [spawned](LocalPort::spawn) on a [`LocalProactor`]: as a [`JoinHandle`], for the same
/// thread.
///
/// # Errors
///
/// Of its output: as a [`JoinHandle`]'s.
///
/// ```
/// use proactor::LocalProactor;
/// use std::rc::Rc;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let local = LocalProactor::new()?;
/// let inner = local.spawn(async { Rc::new(21) });
/// let outer = local.spawn(async { inner.await.map(|half| 2 * *half) });
/// assert_eq!(outer.wait()??, 42);
/// # Ok(())
/// # }
/// ```
pub struct LocalJoinHandle<T: 'static> {
    handle: JoinHandle<Option<Ticket<T>>>,
    local: LocalPort,
}

impl<T: 'static> LocalJoinHandle<T> {
    /// Lets the future go on alone; its output is dropped, and a panic of it is as a handler's.
    pub fn detach(self) {
        self.handle.detach();
    }

    /// Whether the future has ended, or was dropped.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Asks the future to end, as [`JoinHandle::abort`].
    pub fn abort(&mut self) {
        self.handle.abort();
    }

    /// Runs the proactor on this thread until the output is there.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::wait`].
    ///
    /// # Panics
    ///
    /// As there.
    pub fn wait(self) -> Result<T, Error> {
        let Self { handle, local } = self;
        local.output(handle.wait())
    }
}

impl<T: 'static> Future for LocalJoinHandle<T> {
    type Output = Result<T, Error>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = Pin::new(&mut self.handle).poll(context);
        joined.map(|joined| self.local.output(joined))
    }
}

impl<T: 'static> fmt::Debug for LocalJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalJoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl LocalProactor {
    /// As [`LocalPort::spawn`].
    pub fn spawn<F>(&self, future: F) -> LocalJoinHandle<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        self.port.spawn(future)
    }

    /// As [`LocalPort::block_on`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        self.port.block_on(future)
    }
}

impl LocalPort {
    /// Runs `future` to its end on this thread, among the handlers: neither it nor its output need be `Send`. Otherwise as
    /// [`CompletionPort::spawn`](crate::CompletionPort::spawn): it is outstanding work, may be woken from anywhere, and its handle is the
    /// way to its output. Dropped, on this thread, when the [`LocalProactor`] is. Allocates twice; waking it allocates nothing once warm.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, LocalProactor};
    /// use std::{cell::Cell, rc::Rc};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalProactor::new()?;
    /// let listener = TcpListener::bind(&local, "127.0.0.1:0".parse()?)?;
    /// let client = TcpStream::connect(&local, listener.local_addr()?);
    /// let heard = Rc::new(Cell::new(0)); // no lock
    /// local.spawn({
    ///     let heard = Rc::clone(&heard);
    ///     async move {
    ///         let (server, _) = listener.accept().await?;
    ///         heard.set(server.read([0; 64]).await.0?);
    ///         Ok::<(), proactor::Error>(())
    ///     }
    /// });
    /// local.spawn(async { client.await?.write_all("hello").await.0 });
    /// local.run();
    /// assert_eq!(heard.get(), 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<F>(&self, future: F) -> LocalJoinHandle<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        let (local, port) = (self.clone(), self.0.number());
        let ticket = self.0.keep(Box::pin(future)).ok();
        let handle = self.remote().spawn(Proxy { port, ticket });
        LocalJoinHandle { handle, local }
    }

    /// Polls `future` and runs the proactor until it is ready, as [`CompletionPort::block_on`](crate::CompletionPort::block_on).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        self.remote().block_on(future)
    }

    /// What the table has of a future that was joined.
    fn output<T: 'static>(&self, joined: Result<Option<Ticket<T>>, Error>) -> Result<T, Error> {
        let output = joined?.and_then(|ticket| ticket.claim(&self.0));
        output.ok_or_else(|| Error::new(ErrorKind::Cancelled, Kind::Spawned))
    }
}

impl<O: Operation> IntoFuture for Initiation<O, Here> {
    type Output = O::Output;
    type IntoFuture = InitiationFuture<O>;

    /// A future is polled where it is spawned, so it is bound to nothing.
    fn into_future(self) -> InitiationFuture<O> {
        self.bind(Unbound).0.into_future()
    }
}
