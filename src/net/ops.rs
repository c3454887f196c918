//! What streams and listeners do, as descriptions.
#![allow(unsafe_code)] // buffers become addresses, and descriptors become sockets

use std::fmt;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::io::Errno;

use super::stream::TcpStream;
use crate::buf::{Buf, BufMut, LateBuf, PooledBuf};
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::operation::{Operation, Parts, Request, Returned, sealed};
use crate::port::WeakPort;
use crate::port::object::Handle;

/// What reading and writing end with: how many bytes, and the buffer.
pub(crate) type Transferred<B> = (Result<usize, Error>, B);

macro_rules! operation_debug {
    ($($name:ident),*) => {$(
        impl<B> fmt::Debug for $name<B> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
        impl<B> sealed::Sealed for $name<B> {}
    )*};
}

operation_debug!(
    Read,
    Write,
    ReadExact,
    WriteAll,
    ReadVectored,
    WriteVectored
);

/// The first `count` bytes of what was read into `buf`, to be given back.
pub(super) fn returned<B: BufMut>(buf: &mut B, count: usize) -> Option<Returned> {
    if count == 0 {
        return None;
    }
    // SAFETY: whoever calls was told by the backend that it filled as many bytes, from the start on.
    let bytes = unsafe { std::slice::from_raw_parts(buf.mut_ptr(), count) };
    Some(Returned::Bytes(bytes.to_vec()))
}

/// The operation of [`TcpStream::read`].
pub struct Read<B>(pub(super) B);

impl<B: BufMut> Operation for Read<B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Read;

    #[inline]
    fn request(&mut self) -> Request {
        Request::Read {
            len: self.0.capacity(),
            ptr: self.0.mut_ptr(),
        }
    }

    #[inline]
    fn finish(mut self, result: Result<usize, Error>) -> Self::Output {
        if let Ok(count) = result {
            // SAFETY: the backend says that it filled the first `count` bytes, which were at most the capacity.
            unsafe { self.0.set_filled(count) };
        }
        (result, self.0)
    }

    fn give_back(mut self, result: Result<usize, Error>) -> Option<Returned> {
        returned(&mut self.0, result.unwrap_or(0))
    }
}

/// The operation of [`TcpStream::recv_with`].
#[derive(Debug)]
pub struct RecvWith(pub(super) LateBuf);

impl sealed::Sealed for RecvWith {}

impl Operation for RecvWith {
    type Output = Result<PooledBuf, Error>;
    const KIND: Kind = Kind::Read;

    #[inline]
    fn request(&mut self) -> Request {
        Request::ReadLate {
            len: self.0.size(),
            into: NonNull::from(&mut self.0),
        }
    }

    #[inline]
    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        result.map(|_| self.0.into_buf())
    }

    fn give_back(self, result: Result<usize, Error>) -> Option<Returned> {
        let bytes = self.finish(result).ok()?;
        (!bytes.is_empty()).then(|| Returned::Bytes(bytes.to_vec()))
    }
}

/// As [`returned`], of several buffers, each filled fully before the next.
pub(super) fn returned_of_all<B: BufMut>(bufs: &mut [B], count: usize) -> Option<Returned> {
    let mut left = count;
    let mut bytes = Vec::with_capacity(left);
    for buf in bufs {
        let here = left.min(buf.capacity());
        // SAFETY: as there.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(buf.mut_ptr(), here) });
        left -= here;
    }
    (!bytes.is_empty()).then_some(Returned::Bytes(bytes))
}

/// The operation of [`TcpStream::write`].
pub struct Write<B>(pub(super) B);

impl<B: Buf> Operation for Write<B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Write;

    #[inline]
    fn request(&mut self) -> Request {
        Request::Write {
            ptr: self.0.ptr(),
            len: self.0.len(),
        }
    }

    #[inline]
    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        (result, self.0)
    }
}

/// The operation of [`TcpStream::read_exact`].
pub struct ReadExact<B> {
    pub(super) buf: B,
    pub(super) done: usize,
}

impl<B: BufMut> Operation for ReadExact<B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Read;

    #[inline]
    fn request(&mut self) -> Request {
        let left = self.buf.capacity() - self.done;
        // SAFETY: `done` is at most the capacity.
        let ptr = unsafe { self.buf.mut_ptr().add(self.done) };
        Request::Read { ptr, len: left }
    }

    #[inline]
    fn advance(&mut self, n: usize) -> bool {
        self.done += n;
        n > 0 && self.done < self.buf.capacity()
    }

    #[inline]
    fn finish(mut self, result: Result<usize, Error>) -> Self::Output {
        let done = self.done;
        let result = match result {
            Ok(_) if done < self.buf.capacity() => {
                Err(Error::new(ErrorKind::UnexpectedEof, Self::KIND))
            }
            Ok(_) => Ok(done),
            Err(error) => Err(error),
        };
        if done > 0 {
            // SAFETY: `advance` counted what the backend filled, from the start on.
            unsafe { self.buf.set_filled(done) };
        }
        (result.map_err(|error| error.after(done)), self.buf)
    }

    fn give_back(mut self, _result: Result<usize, Error>) -> Option<Returned> {
        returned(&mut self.buf, self.done)
    }
}

/// The operation of [`TcpStream::write_all`].
pub struct WriteAll<B> {
    pub(super) buf: B,
    pub(super) done: usize,
}

impl<B: Buf> Operation for WriteAll<B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Write;

    #[inline]
    fn request(&mut self) -> Request {
        // SAFETY: `done` is at most the length.
        let ptr = unsafe { self.buf.ptr().add(self.done) };
        let len = self.buf.len() - self.done;
        Request::Write { ptr, len }
    }

    #[inline]
    fn advance(&mut self, n: usize) -> bool {
        self.done += n;
        n > 0 && self.done < self.buf.len()
    }

    #[inline]
    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        let done = self.done;
        let result = match result {
            Ok(_) if done < self.buf.len() => Err(Error::new(ErrorKind::WriteZero, Self::KIND)),
            Ok(_) => Ok(done),
            Err(error) => Err(error),
        };
        (result.map_err(|error| error.after(done)), self.buf)
    }
}

/// The operation of [`TcpStream::read_vectored`].
pub struct ReadVectored<B>(pub(super) Room<B>);

/// Buffers to fill.
pub(super) struct Room<B>(pub(super) Vec<B>);

impl<B: BufMut> Parts for Room<B> {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        for buf in &mut self.0 {
            f(buf.mut_ptr(), buf.capacity());
        }
    }
}

impl<B: BufMut> Operation for ReadVectored<B> {
    type Output = Transferred<Vec<B>>;
    const KIND: Kind = Kind::Read;

    fn request(&mut self) -> Request {
        Request::ReadVectored(NonNull::from(&mut self.0))
    }

    fn finish(mut self, result: Result<usize, Error>) -> Self::Output {
        if let Ok(count) = result {
            let mut left = count;
            for buf in &mut self.0.0 {
                let here = left.min(buf.capacity());
                // SAFETY: the backend filled `count` bytes, each buffer fully before the next.
                unsafe { buf.set_filled(here) };
                left -= here;
            }
        }
        (result, self.0.0)
    }

    fn give_back(mut self, result: Result<usize, Error>) -> Option<Returned> {
        returned_of_all(&mut self.0.0, result.unwrap_or(0))
    }
}

/// The operation of [`TcpStream::write_vectored`].
pub struct WriteVectored<B>(pub(super) Load<B>);

/// Buffers to send.
pub(super) struct Load<B>(pub(super) Vec<B>);

impl<B: Buf> Parts for Load<B> {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        for buf in &self.0 {
            f(buf.ptr().cast_mut(), buf.len());
        }
    }
}

impl<B: Buf> Operation for WriteVectored<B> {
    type Output = Transferred<Vec<B>>;
    const KIND: Kind = Kind::Write;

    fn request(&mut self) -> Request {
        Request::WriteVectored(NonNull::from(&mut self.0))
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        (result, self.0.0)
    }
}

/// The operation of [`TcpListener::accept`](super::TcpListener::accept).
#[derive(Debug)]
pub struct Accept {
    /// Weak, or a port would keep itself alive by a completion that waits in it.
    pub(super) port: WeakPort,
    /// The listener's, for errors; once there is a connection, its peer's.
    pub(super) address: Option<SocketAddr>,
}

impl sealed::Sealed for Accept {}

impl Operation for Accept {
    type Output = Result<(TcpStream, SocketAddr), Error>;
    const KIND: Kind = Kind::Accept;

    fn request(&mut self) -> Request {
        Request::Accept {
            peer: &raw mut self.address,
        }
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        let address = self.address;
        let number = result.map_err(|error| error.at_any(address))?;
        let Some(socket) = accepted(number) else {
            return Err(Error::os(Self::KIND, Errno::BADF.raw_os_error())); // No kernel has such descriptors.
        };
        let port = self.port.upgrade();
        let port = port.ok_or_else(|| Error::new(ErrorKind::Closed, Self::KIND).at_any(address))?;
        let stream = TcpStream::over(&port, socket, true).map_err(|error| error.at_any(address))?;
        // A socket of another family has none.
        let unknown = || Error::os(Self::KIND, Errno::AFNOSUPPORT.raw_os_error());
        Ok((stream, address.ok_or_else(unknown)?))
    }

    fn give_back(self, result: Result<usize, Error>) -> Option<Returned> {
        let socket = accepted(result.ok()?)?;
        Some(Returned::Accepted(socket, self.address?))
    }
}

/// The connection that an accept ended with.
fn accepted(number: usize) -> Option<OwnedFd> {
    let number = i32::try_from(number).ok()?;
    // SAFETY: the backend's result is a descriptor that it has just made, and that nobody else knows.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The operation of [`TcpStream::connect`].
#[derive(Debug)]
pub struct Connect {
    pub(super) address: SocketAddr,
    pub(super) begun: bool,
    pub(super) handle: Option<Handle>,
}

impl sealed::Sealed for Connect {}

impl Operation for Connect {
    type Output = Result<TcpStream, Error>;
    const KIND: Kind = Kind::Connect;

    fn request(&mut self) -> Request {
        Request::Connect {
            address: &raw const self.address,
            begun: &raw mut self.begun,
        }
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        match (result, self.handle) {
            (Ok(_), Some(handle)) => Ok(TcpStream::of(handle)),
            (Err(error), _) => Err(error.at(self.address)),
            (Ok(_), None) => Err(Error::new(ErrorKind::Closed, Self::KIND).at(self.address)),
        }
    }
}

/// The operation of [`TcpStream::shutdown`].
#[derive(Debug)]
pub struct ShutdownOp(pub(super) Shutdown);

impl sealed::Sealed for ShutdownOp {}

impl Operation for ShutdownOp {
    type Output = Result<(), Error>;
    const KIND: Kind = Kind::Shutdown;

    fn request(&mut self) -> Request {
        Request::Shutdown(self.0)
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        result.map(|_| ())
    }
}
