//! Requests and replies, one after the other, by one operation.

use std::fmt;
use std::mem;
use std::ptr::NonNull;

use super::stream::TcpStream;
use crate::buf::{Buf, BufMut, BufferPool, LateBuf, PooledBuf};
use crate::error::Error;
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::operation::{Operation, Request, TurnOf, code, sealed};
use crate::port::repeat::{self, Came, Turn, Turns};

/// What [`reply_each`](TcpStream::reply_each) is to do about what came.
///
/// ```
/// use proactor::net::Reply;
///
/// /// Answers whole lines, each with itself.
/// fn answer(bytes: &[u8], line: &mut Vec<u8>) -> Reply<Vec<u8>> {
///     line.extend_from_slice(bytes);
///     match line.ends_with(b"\n") {
///         true => Reply::Write(std::mem::take(line)),
///         false => Reply::Nothing,
///     }
/// }
///
/// let mut line = Vec::new();
/// assert_eq!(answer(b"hel", &mut line), Reply::Nothing);
/// assert_eq!(answer(b"lo\n", &mut line), Reply::Write(b"hello\n".to_vec()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<B> {
    /// Nothing is written, and it reads on.
    Nothing,
    /// All of it is written, and then it reads on. No bytes are as good as [`Nothing`](Self::Nothing).
    Write(B),
    /// All of it is written, and that was the last.
    Last(B),
    /// Nothing is written, and that was the last.
    End,
}

/// The operation of [`TcpStream::reply_each`].
pub struct ReplyEach<F, B> {
    pool: BufferPool,
    state: State<B>,
    each: F,
}

enum State<B> {
    Reading(LateBuf),
    /// So many bytes of the reply are written.
    Writing(B, usize),
    /// As `Writing`, of the last.
    Ending(B, usize),
}

impl<F, B> fmt::Debug for ReplyEach<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyEach")
    }
}

impl<F, B> sealed::Sealed for ReplyEach<F, B> {}

impl<F, B> Operation for ReplyEach<F, B>
where
    F: FnMut(PooledBuf) -> Reply<B> + Send + 'static,
    B: Buf,
{
    type Output = (Result<(), Error>, Option<B>);
    const KIND: Kind = Kind::Read;
    const TURN: Option<TurnOf<Self>> = Some(repeat::turn::<Self>);

    #[inline]
    fn request(&mut self) -> Request {
        match &mut self.state {
            State::Reading(late) => Request::ReadLate {
                len: late.size(),
                into: NonNull::from(late),
            },
            State::Writing(reply, done) | State::Ending(reply, done) => rest(reply, *done),
        }
    }

    #[inline]
    fn advance(&mut self, n: usize) -> bool {
        match &mut self.state {
            State::Reading(_) => false,
            State::Writing(reply, done) | State::Ending(reply, done) => {
                *done += n;
                n > 0 && *done < reply.len()
            }
        }
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        match self.state {
            State::Reading(_) => (result.map(|_| ()), None),
            State::Writing(reply, done) | State::Ending(reply, done) => {
                let failed = |error: Error| error.doing(Kind::Write).after(done);
                (result.map(|_| ()).map_err(failed), Some(reply))
            }
        }
    }
}

impl<F, B> Turns for ReplyEach<F, B>
where
    F: FnMut(PooledBuf) -> Reply<B> + Send + 'static,
    B: Buf,
{
    #[inline(always)]
    fn turn(&mut self, came: &mut Came<'_>) -> Turn {
        let already = came.already();
        let State::Reading(late) = &mut self.state else {
            return already.map_or(Turn::Unread, |_| self.written());
        };
        let bytes = match already {
            None => {
                let mut bytes = self.pool.take();
                match came.read(bytes.mut_ptr(), bytes.capacity()) {
                    None => return Turn::Unread,
                    Some(0) => return Turn::Over(0),
                    Some(count) => bytes.filled(count),
                }
            }
            Some(0) => return Turn::Over(0),
            Some(_) => late.take(&self.pool),
        };
        let (reply, then) = match (self.each)(bytes) {
            Reply::Nothing => return Turn::Again,
            Reply::End => return Turn::Over(0),
            Reply::Write(reply) => (reply, Turn::Again),
            Reply::Last(reply) => (reply, Turn::Over(0)),
        };
        let len = reply.len();
        let sent = match len {
            0 => 0,
            _ => came.send(reply.ptr(), len),
        };
        if sent == len as i64 {
            return then;
        }
        self.rest(reply, sent, then)
    }
}

impl<F, B: Buf> ReplyEach<F, B> {
    /// Not all of a reply could be sent at once.
    #[cold]
    fn rest(&mut self, reply: B, sent: i64, then: Turn) -> Turn {
        let sent = usize::try_from(sent).unwrap_or(0);
        self.state = match then {
            Turn::Again => State::Writing(reply, sent),
            _ => State::Ending(reply, sent),
        };
        Turn::Writes
    }

    /// A reply that could not be sent at once is written, or takes no more.
    #[cold]
    fn written(&mut self) -> Turn {
        let (reply, done, then) = match &self.state {
            State::Reading(_) => return Turn::Again,
            State::Writing(reply, done) => (reply, *done, Turn::Again),
            State::Ending(reply, done) => (reply, *done, Turn::Over(0)),
        };
        if done < reply.len() {
            return Turn::Over(code::WRITE_ZERO);
        }
        let written = mem::replace(&mut self.state, State::Reading(LateBuf::of(&self.pool)));
        drop(written);
        then
    }
}

/// The request to write what comes after `done` bytes.
#[inline]
fn rest<B: Buf>(reply: &B, done: usize) -> Request {
    Request::Write {
        ptr: reply.ptr().wrapping_add(done),
        len: reply.len() - done,
    }
}

impl TcpStream {
    /// Reads what comes, calls `each` with it, writes the reply whole, and reads again: the loop of a server's connection, as one
    /// operation. The next bytes are read only when the reply is written, so a client that does not take its replies is not served on.
    ///
    /// `each` is called by one thread at a time, whichever the strategy picks, and what it captures is the connection's state. It gets
    /// what one read brought, which may be half a request or several: it keeps what is not whole. While it waits the connection has
    /// no buffer, as with [`recv_with`](Self::recv_with); `pool` lends one when there are bytes.
    ///
    /// The output comes when all is over: `Ok` at the end of the stream, or when `each` says so; an error if reading or writing failed,
    /// it was cancelled, its time limit passed, or `each` panicked ([`Panicked`](crate::ErrorKind::Panicked); the
    /// [policy](crate::PanicPolicy) has the panic). With it comes the reply that was not written whole, if there is one:
    /// [`Error::transferred`] bytes of it were.
    ///
    /// - It is one operation of the reading direction, from its begin to its end: another read of the stream waits until it is over, and
    ///   `each` must not wait for one. Writes of others go before a reply or after it, never into it.
    /// - Cancelled, it ends before the next read, or in the middle of a reply that could not be written at once; a handler
    ///   that is running finishes, and what it has answered is sent if it can be sent at once. Nothing that was not given to `each` was
    ///   read.
    /// - A [`timeout`](Initiation::timeout) limits all of it. [`on`](Initiation::on) binds the handler that gets the output;
    ///   `each` runs outside of the strand.
    /// - The stream stays open until it is over. Then its last handle closes it, as ever. On a [`CompletionPort`](crate::CompletionPort) that
    ///   is used alone so does the port: close that, and run what comes, before its last clone goes.
    ///
    /// It is begun again in the cell in which it stands. So it takes less than half the instructions of a read and a write that set
    /// each other (`docs/benchmarks.md`), and allocates nothing once warm. It is boxed, once, if the
    /// captures of `each`, and of the handler that gets the output, are more than 136 bytes together, or, awaited, more than 112.
    ///
    /// ```
    /// use proactor::{BufferPool, Proactor, net::{Reply, TcpListener, TcpStream}};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// listener.accept().then(|accepted| {
    ///     let (stream, _peer) = accepted.expect("a connection");
    ///     let mut served = 0;
    ///     let echo = stream.reply_each(&BufferPool::new(4096), move |bytes| {
    ///         served += 1;
    ///         if served < 2 { Reply::Write(bytes) } else { Reply::Last(bytes) }
    ///     });
    ///     echo.then(|(ended, unsent)| assert!(ended.is_ok() && unsent.is_none()));
    /// });
    /// let client = TcpStream::connect(&proactor, address).wait()?;
    /// for word in ["once", "more"] {
    ///     client.write_all(word).wait().0?;
    ///     assert_eq!(client.read_exact([0; 4]).wait().1, word.as_bytes());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reply_each<F, B>(&self, pool: &BufferPool, each: F) -> Initiation<ReplyEach<F, B>>
    where
        F: FnMut(PooledBuf) -> Reply<B> + Send + 'static,
        B: Buf,
    {
        let op = ReplyEach {
            pool: pool.clone(),
            state: State::Reading(LateBuf::of(pool)),
            each,
        };
        Initiation::on_object(self.handle(), op)
    }
}
