//! TCP: listeners, streams, and the operations on them.
//!
//! Operations of one direction of one stream are carried out in the order in which they were initiated, also composed ones
//! ([`read_exact`](TcpStream::read_exact), [`write_all`](TcpStream::write_all)), which nothing comes between. Dropping an object's last
//! handle closes it, and ends what is pending as cancelled.

mod listener;
mod ops;
mod stream;

pub use listener::TcpListener;
pub use ops::{
    Accept, Connect, Read, ReadExact, ReadVectored, ShutdownOp, Write, WriteAll, WriteVectored,
};
pub use stream::{ReadHalf, TcpStream, WriteHalf};
