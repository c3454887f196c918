//! All of one stream into another.

use super::stream::{ReadHalf, TcpStream, WriteHalf};
use crate::error::Error;
use crate::initiation::Initiation;
use crate::port::compose::{Completer, Composed};

/// How many bytes are read at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// What [`copy`] came to.
#[derive(Debug)]
pub struct Copied {
    /// How many bytes were written.
    pub bytes: u64,
    /// What was read and could not be written: empty unless `result` is an error.
    pub unsent: Vec<u8>,
    /// Whether the whole stream was copied and its end passed on, or what came between.
    pub result: Result<(), Error>,
}

/// What can be copied from: a stream, or its reading half.
pub trait Source: sealed::End {}
/// What can be copied to: a stream, or its writing half.
pub trait Sink: sealed::End {}

impl Source for TcpStream {}
impl Source for ReadHalf {}
impl Sink for TcpStream {}
impl Sink for WriteHalf {}

mod sealed {
    use super::TcpStream;
    /// Another handle on the stream.
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait End {
        /// Makes one.
        fn again(&self) -> TcpStream;
    }
}

impl sealed::End for TcpStream {
    fn again(&self) -> TcpStream {
        self.again()
    }
}

impl sealed::End for ReadHalf {
    fn again(&self) -> TcpStream {
        self.stream().again()
    }
}

impl sealed::End for WriteHalf {
    fn again(&self) -> TcpStream {
        self.stream().again()
    }
}

/// Copies everything that comes `from` one stream `to` another, in order, and then ends the other's writing direction, which leaves its
/// reading direction open. At most one buffer of 16 KiB is under way, so a slow reader slows the copy.
///
/// Cancelled or timed out, it says how far it got, and what was read and not yet written comes back. Both streams stay open at least as
/// long as the copy. A proxy is two of them: [`join`](Initiation::join).
///
/// ```
/// use proactor::{net::{copy, TcpListener, TcpStream}, Proactor};
/// use std::net::Shutdown;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let address = listener.local_addr()?;
/// listener.accept().then(|accepted| {
///     let (stream, _) = accepted.expect("a connection");
///     copy(&stream, &stream).then(|copied| assert_eq!(copied.expect("whole").bytes, 5)); // an echo
/// });
/// let client = TcpStream::connect(&proactor, address).wait()?;
/// client.write_all("hello").wait().0?;
/// client.shutdown(Shutdown::Write).wait()?;
/// assert_eq!(client.read_exact([0; 5]).wait().1, *b"hello");
/// # Ok(())
/// # }
/// ```
pub fn copy(from: &impl Source, to: &impl Sink) -> Initiation<Composed<Copied>> {
    let (from, to) = (from.again(), to.again());
    from.port().compose(move |completer| {
        let copying = Copying {
            from,
            to,
            completer,
            bytes: 0,
        };
        read(copying, Vec::with_capacity(BUFFER_BYTES));
    })
}

struct Copying {
    from: TcpStream,
    to: TcpStream,
    completer: Completer<Copied>,
    bytes: u64,
}

impl Copying {
    fn end(self, unsent: Vec<u8>, result: Result<(), Error>) {
        // A limit of the whole is what the parts know as a cancellation.
        let result = result.map_err(|error| self.completer.limited(error));
        self.completer.complete(Ok(Copied {
            bytes: self.bytes,
            unsent,
            result,
        }));
    }
}

fn read(copying: Copying, buffer: Vec<u8>) {
    let reading = copying.from.read(buffer);
    let reading = reading.cancel_with(copying.completer.token());
    reading.then(move |(result, mut buffer)| match result {
        Ok(0) => shut(copying),
        Ok(_) => write(copying, buffer),
        Err(error) => {
            buffer.clear();
            copying.end(buffer, Err(error));
        }
    });
}

fn write(mut copying: Copying, buffer: Vec<u8>) {
    let writing = copying.to.write_all(buffer);
    let writing = writing.cancel_with(copying.completer.token());
    writing.then(move |(result, mut buffer)| match result {
        Ok(count) => {
            copying.bytes += count as u64;
            read(copying, buffer);
        }
        Err(error) => {
            copying.bytes += error.transferred() as u64;
            buffer.drain(..error.transferred());
            copying.end(buffer, Err(error));
        }
    });
}

fn shut(copying: Copying) {
    // Somebody else's write may be before it.
    let shutting = copying.to.shutdown(std::net::Shutdown::Write);
    let shutting = shutting.cancel_with(copying.completer.token());
    shutting.then(move |result| copying.end(Vec::new(), result));
}
