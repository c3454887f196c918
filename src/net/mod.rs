//! TCP and UDP: listeners, streams, sockets for datagrams, and the operations on them.
//!
//! Operations of one direction of one stream are carried out in the order in which they were initiated, also composed ones
//! ([`read_exact`](TcpStream::read_exact), [`read_until`](TcpStream::read_until), [`write_all`](TcpStream::write_all)), which nothing comes between. Several receives of one socket get one datagram each, in order. Dropping an object's last
//! handle closes it, and ends what is pending as cancelled.
//!
//! # Errors
//!
//! None of the methods that describe an operation fails or panics: what goes wrong comes out with the output, as an
//! [`Error`](crate::Error) that names the operation, and the address for [`bind`](TcpListener::bind), [`connect`](TcpStream::connect),
//! [`accept`](TcpListener::accept), [`send_to`](UdpSocket::send_to) and what brings a socket to the port.
//!
//! | output ends as | of which operations | when |
//! |---|---|---|
//! | [`Cancelled`](crate::ErrorKind::Cancelled) | all | it was cancelled, or its object, its port or its proactor was closed or dropped while it was pending |
//! | [`TimedOut`](crate::ErrorKind::TimedOut) | all that have a [`timeout`](crate::Initiation::timeout) | that passed first |
//! | [`Closed`](crate::ErrorKind::Closed) | all | the object or the port was closed before it began |
//! | [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) | all, by [`wait`](crate::Initiation::wait) | too many handlers wait on this thread already |
//! | [`UnexpectedEof`](crate::ErrorKind::UnexpectedEof) | `read_exact`, `read_until` | the stream ended before the buffer was full, or the delimiter had come |
//! | [`LimitReached`](crate::ErrorKind::LimitReached) | `read_until` | the buffer is full, and the delimiter has not come |
//! | [`WriteZero`](crate::ErrorKind::WriteZero) | `write_all` | the stream takes no more |
//! | [`Os`](crate::ErrorKind::Os) | all | the operating system refused: [`source`](std::error::Error::source) says why |
//!
//! Of datagrams the system's are: one too long to be sent; and, on a connected socket, what the network says of one that was sent before
//! (nobody receives there, no way leads there), which ends the next operation and no other.
//!
//! In every case the buffers come back.

mod accepting;
mod connecting;
mod copying;
mod datagrams;
mod listener;
mod ops;
mod poll;
mod receiving;
mod replying;
mod series;
mod stream;
mod udp;
mod until;
mod vectored;

pub use crate::buf::Datagram;
pub use accepting::Incoming;
pub use copying::{Copied, Sink, Source, copy};
pub use datagrams::{RecvFrom, RecvFromWith, SendTo};
pub use listener::TcpListener;
pub use ops::{
    Accept, Connect, Read, ReadExact, ReadVectored, RecvWith, ShutdownOp, Write, WriteAll,
    WriteVectored,
};
pub use receiving::Datagrams;
pub use replying::{Reply, ReplyEach};
pub use stream::{ReadHalf, TcpStream, WriteHalf};
pub use udp::UdpSocket;
pub use until::ReadUntil;
pub use vectored::{ReadExactVectored, WriteAllVectored};
