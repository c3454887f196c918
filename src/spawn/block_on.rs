//! A future, and a thread that works for the port until it is ready.

use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use crate::completion;
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::initiation::WAIT_DEPTH;
use crate::initiation::wait::{drive, tell_waiters, would_be_stuck};
use crate::local::{Local, strands_held};
use crate::port::{CompletionPort, Inner};
use crate::sync::{Arc, Mutex, Weak, mutant};

/// The waker of a thread that works meanwhile.
struct Bell {
    rung: Mutex<bool>,
    inner: Weak<Inner>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = std::mem::replace(&mut *self.rung.lock(), true);
        let inner = self.inner.upgrade().filter(|_| !before);
        if let Some(inner) = inner.filter(|_| !mutant("bell-tells-nobody")) {
            tell_waiters(&inner);
        }
    }
}

/// Whoever waits is outstanding work: nobody goes home over it.
struct Counted<'a>(&'a Inner);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        completion::cross_off(&self.0.home);
    }
}

impl CompletionPort {
    /// Polls `future` on this thread, and works for the port meanwhile, until it is ready: for `main`, and for handlers that must have
    /// the output. The future need be neither `Send` nor `'static`.
    ///
    /// The rules are those of [`Initiation::wait`](crate::Initiation::wait): outside of handlers this thread takes a place if there is
    /// one, so nobody else need run the proactor; inside a handler it runs other handlers nested; inside a handler of a
    /// [`Strand`](crate::Strand) it runs none, and needs another thread at work. Whoever waits counts as outstanding work. While the
    /// proactor is stopped nobody delivers anything, and this waits for what others wake. Allocates once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldDeadlock`] where it could never end: more than [`WAIT_DEPTH`] handlers deep, inside a handler of a strand where
    /// nobody else is at work, or when nobody has the future's waker any more, as with [`std::future::pending`]. The future is dropped.
    /// [`ErrorKind::Closed`] if the proactor is dropped meanwhile.
    ///
    /// # Panics
    ///
    /// With a handler's panic, if this thread runs it meanwhile and the policy is
    /// [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate), and with the future's own.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let heard = proactor.block_on(async {
    ///     let client = TcpStream::connect(&proactor, listener.local_addr()?).await?;
    ///     let (server, _) = listener.accept().await?;
    ///     client.write_all("hello").await.0?;
    ///     let (result, bytes) = server.read_exact([0; 5]).await;
    ///     result.map(|_| bytes)
    /// })??;
    /// assert_eq!(&heard, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let inner = &*self.0;
        let error = |kind| Err(Error::new(kind, Kind::Wait));
        let depth = Local::with_any(&inner.home, |local| {
            local.map_or(0, |local| local.depth.get())
        });
        if depth >= WAIT_DEPTH || would_be_stuck(inner) {
            return error(ErrorKind::WouldDeadlock);
        }
        let _leading = strands_held().then(|| inner.pool.lead_only());
        inner.home.ledger.created(None);
        let _counted = Counted(inner);
        let bell = Arc::new(Bell {
            rung: Mutex::new(false),
            inner: Arc::downgrade(&self.0),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut future = pin!(future);
        loop {
            *bell.rung.lock() = false;
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = polled {
                return Ok(output);
            }
            // Ours are two: what others have is more. Whoever has woken has rung before it let its own go, and who sees that it has let go
            // comes later to the lock of `rung`.
            let forgotten = || Arc::strong_count(&bell) == 2;
            let open = || !forgotten() && !inner.is_ended() && !*bell.rung.lock();
            drive(inner, &open, strands_held());
            if forgotten() && !*bell.rung.lock() {
                return error(ErrorKind::WouldDeadlock);
            }
            if inner.is_ended() && !*bell.rung.lock() {
                return error(ErrorKind::Closed);
            }
        }
    }
}
