//! What came in one piece, and from where.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use super::PooledBuf;

/// A datagram: its bytes, and who sent it.
///
/// ```
/// use proactor::{BufferPool, Proactor, net::UdpSocket};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let here = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// let there = UdpSocket::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// there.send_to("hello", here.local_addr()?).wait().0?;
/// let datagram = here.recv_from_with(&BufferPool::new(1500)).wait()?;
/// assert_eq!((&datagram[..], datagram.peer()), (&b"hello"[..], there.local_addr()?));
/// here.send_to(datagram.into_buf(), there.local_addr()?).wait().0?; // an echo
/// # Ok(())
/// # }
/// ```
pub struct Datagram {
    bytes: PooledBuf,
    peer: SocketAddr,
    truncated: bool,
}

impl Datagram {
    pub(crate) fn new(bytes: PooledBuf, peer: SocketAddr, truncated: bool) -> Self {
        Self {
            bytes,
            peer,
            truncated,
        }
    }

    /// Who sent it.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it was longer than its buffer had room for: the rest of it is lost.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The buffer that it came in, to be sent from, or dropped, which gives it back to its pool. An empty datagram has come without one.
    pub fn into_buf(self) -> PooledBuf {
        self.bytes
    }
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.truncated { ", truncated" } else { "" };
        write!(f, "Datagram({} bytes from {}{cut})", self.len(), self.peer)
    }
}
