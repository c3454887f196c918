//! What sockets for datagrams do, as descriptions.
#![allow(unsafe_code)] // buffers become addresses

use std::fmt;
use std::net::SocketAddr;
use std::ptr::NonNull;

use rustix::io::Errno;

use super::ops::Transferred;
use crate::buf::{Buf, BufMut, Datagram, LateBuf, PooledBuf};
use crate::error::Error;
use crate::id::Kind;
use crate::operation::{Envelope, Operation, Request, Returned, sealed};

/// Who sent it, of a datagram that has come.
fn peer_of(envelope: Envelope, kind: Kind) -> Result<SocketAddr, Error> {
    // A socket of another family has none.
    let unknown = || Error::os(kind, Errno::AFNOSUPPORT.raw_os_error());
    envelope.peer.ok_or_else(unknown)
}

/// The operation of [`UdpSocket::recv_from`](super::UdpSocket::recv_from).
pub struct RecvFrom<B> {
    pub(super) buf: B,
    pub(super) envelope: Envelope,
}

impl<B> fmt::Debug for RecvFrom<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecvFrom")
    }
}

impl<B> sealed::Sealed for RecvFrom<B> {}

impl<B: BufMut> Operation for RecvFrom<B> {
    type Output = (Result<(usize, SocketAddr), Error>, B);
    const KIND: Kind = Kind::Receive;

    #[inline]
    fn request(&mut self) -> Request {
        Request::RecvFrom {
            len: self.buf.capacity(),
            ptr: self.buf.mut_ptr(),
            envelope: &raw mut self.envelope,
        }
    }

    fn finish(mut self, result: Result<usize, Error>) -> Self::Output {
        if let Ok(count) = result {
            // SAFETY: the backend says that it filled the first `count` bytes, which were at most the capacity.
            unsafe { self.buf.set_filled(count) };
        }
        let came = result.and_then(|count| Ok((count, peer_of(self.envelope, Self::KIND)?)));
        (came, self.buf)
    }

    fn give_back(mut self, result: Result<usize, Error>) -> Option<Returned> {
        let (count, Envelope { peer, truncated }) = (result.ok()?, self.envelope);
        // SAFETY: the backend filled as many bytes, from the start on.
        let bytes = unsafe { std::slice::from_raw_parts(self.buf.mut_ptr(), count) };
        let datagram = Datagram::new(PooledBuf::holding(bytes), peer?, truncated);
        Some(Returned::Datagram(datagram))
    }
}

/// The operation of [`UdpSocket::recv_from_with`](super::UdpSocket::recv_from_with).
#[derive(Debug)]
pub struct RecvFromWith {
    pub(super) into: LateBuf,
    pub(super) envelope: Envelope,
}

impl sealed::Sealed for RecvFromWith {}

impl Operation for RecvFromWith {
    type Output = Result<Datagram, Error>;
    const KIND: Kind = Kind::Receive;

    #[inline]
    fn request(&mut self) -> Request {
        Request::RecvFromLate {
            into: NonNull::from(&mut self.into),
            envelope: &raw mut self.envelope,
        }
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        result?;
        let (peer, truncated) = (peer_of(self.envelope, Self::KIND)?, self.envelope.truncated);
        Ok(Datagram::new(self.into.into_buf(), peer, truncated))
    }

    fn give_back(self, result: Result<usize, Error>) -> Option<Returned> {
        let came = self.finish(result).ok()?;
        let bytes = PooledBuf::holding(&came); // the pool has its own again
        let datagram = Datagram::new(bytes, came.peer(), came.is_truncated());
        Some(Returned::Datagram(datagram))
    }
}

/// The operation of [`UdpSocket::send_to`](super::UdpSocket::send_to) and [`UdpSocket::send`](super::UdpSocket::send).
pub struct SendTo<B> {
    pub(super) buf: B,
    pub(super) to: Option<SocketAddr>,
}

impl<B> fmt::Debug for SendTo<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendTo")
    }
}

impl<B> sealed::Sealed for SendTo<B> {}

impl<B: Buf> Operation for SendTo<B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Send;

    #[inline]
    fn request(&mut self) -> Request {
        Request::SendTo {
            ptr: self.buf.ptr(),
            len: self.buf.len(),
            to: &raw const self.to,
        }
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        (result.map_err(|error| error.at_any(self.to)), self.buf)
    }
}
