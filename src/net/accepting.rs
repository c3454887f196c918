//! The accept loop that everybody would write, with what everybody forgets.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::listener::TcpListener;
use super::stream::TcpStream;
use crate::error::{Error, ErrorKind};
use crate::initiation::Initiation;
use crate::port::compose::{Completer, Composed};
use crate::sync::Arc;

/// How long the loop pauses when the system lacks descriptors or memory; twice as long each time, up to the second.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a failed accept means for those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This connection is lost, perhaps before it was ours; the next may be there.
    ThisOne,
    /// There are no descriptors, or no memory: it takes time.
    Scarcity,
    /// The listener is of no more use.
    Lasting,
}

pub(super) fn trouble(error: &Error) -> Trouble {
    let code = error
        .raw_os_error()
        .filter(|_| error.kind() == ErrorKind::Os);
    match code.map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Trouble::Scarcity,
        // What accept(2) of Linux hands on from the connection.
        Some(
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::INTR,
        ) => Trouble::ThisOne,
        _ => Trouble::Lasting,
    }
}

/// A loop that has begun.
struct Accepting<F> {
    listener: TcpListener,
    each: Arc<F>,
    completer: Completer<()>,
    accepted: usize,
    pause: Duration,
}

impl TcpListener {
    /// Accepts connections one after the other, and calls `each` with every one of them: the accept loop of a server. The next accept is
    /// initiated before `each` is called, so with several threads it may run on several at once.
    ///
    /// `each` is told of trouble, too, and the loop goes on by itself. When the system lacks descriptors (`EMFILE`, `ENFILE`) or memory it
    /// pauses first, 5 ms, then twice as long each time, up to one second, until an accept succeeds; meanwhile connections wait with the
    /// system. A connection that was lost before it was accepted costs nothing but the report.
    ///
    /// It ends when the operation or the listener is cancelled or closed, with that error, or with one that lasts, of which `each` is
    /// not told; [`Error::transferred`] says how many connections it accepted. The listener stays open as long as the loop.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// let serving = listener.accept_each(|connection| match connection {
    ///     Ok((stream, _peer)) => drop(stream.write_all(&b"welcome"[..]).then(move |_| drop(stream))),
    ///     Err(trouble) => eprintln!("{trouble}"),
    /// });
    /// serving.then(|ended| assert!(ended.is_err_and(|error| error.transferred() == 1)));
    /// let client = TcpStream::connect(&proactor, address).wait()?;
    /// assert_eq!(client.read_exact([0; 7]).wait().1, *b"welcome");
    /// listener.close();
    /// proactor.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept_each<F>(&self, each: F) -> Initiation<Composed<()>>
    where
        F: Fn(Result<(TcpStream, SocketAddr), Error>) + Send + Sync + 'static,
    {
        let listener = self.again();
        self.port().compose(move |completer| {
            accept(Accepting {
                listener,
                each: Arc::new(each),
                completer,
                accepted: 0,
                pause: FIRST_PAUSE,
            });
        })
    }
}

fn accept<F>(mut state: Accepting<F>)
where
    F: Fn(Result<(TcpStream, SocketAddr), Error>) + Send + Sync + 'static,
{
    let accepting = state.listener.accept();
    let accepting = accepting.cancel_with(state.completer.token());
    accepting.then(move |result| {
        let each = Arc::clone(&state.each);
        match &result {
            Ok(_) => {
                state.accepted += 1;
                state.pause = FIRST_PAUSE;
                accept(state);
            }
            Err(error) => match trouble(error) {
                Trouble::ThisOne => accept(state),
                Trouble::Scarcity => accept_later(state),
                Trouble::Lasting => {
                    let error = error.clone().after(state.accepted);
                    return state.completer.complete(Err(error));
                }
            },
        }
        each(result);
    });
}

fn accept_later<F>(mut state: Accepting<F>)
where
    F: Fn(Result<(TcpStream, SocketAddr), Error>) + Send + Sync + 'static,
{
    let pause = state.pause;
    state.pause = LONGEST_PAUSE.min(2 * pause);
    let pausing = state.listener.port().sleep(pause);
    let pausing = pausing.cancel_with(state.completer.token());
    // Also when the pause was cut short: the accept says why.
    pausing.then(move |_| accept(state));
}
