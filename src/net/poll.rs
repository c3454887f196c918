//! Reading and writing by polls, into and from what the caller lends: futures-io's traits.
#![allow(unsafe_code)] // what is lent becomes addresses

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::slice;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::stream::{ReadHalf, TcpStream, WriteHalf};
use crate::backend::registry::Way;
use crate::id::Kind;
use crate::operation::{Parts, Request, decode};

/// Slices that were lent, to be filled.
struct Room(*mut IoSliceMut<'static>, usize);

impl Parts for Room {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        // SAFETY: made of a slice that lasts as long as this, and is nobody else's; no lifetime of what it points to comes out.
        for part in unsafe { std::slice::from_raw_parts_mut(self.0, self.1) } {
            f(part.as_mut_ptr(), part.len());
        }
    }
}

/// Slices that were lent, to be sent.
struct Load(*const IoSlice<'static>, usize);

impl Parts for Load {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        // SAFETY: as in `Room`.
        for part in unsafe { std::slice::from_raw_parts(self.0, self.1) } {
            f(part.as_ptr().cast_mut(), part.len());
        }
    }
}

/// So many bytes, a reply's head and a few words, are put together first: to have the kernel gather two parts costs some 200 ns more.
const FEW: usize = 512;

/// All the bytes of `bufs`, put together in `room`; none if that is too small.
fn gather<'a>(bufs: &[IoSlice<'_>], room: &'a mut [MaybeUninit<u8>; FEW]) -> Option<&'a [u8]> {
    let mut end = 0;
    for buf in bufs {
        let part = room.get_mut(end..)?.get_mut(..buf.len())?;
        // SAFETY: it is as long as `buf`, and nobody else's.
        unsafe { ptr::copy_nonoverlapping(buf.as_ptr(), part.as_mut_ptr().cast(), buf.len()) };
        end += buf.len();
    }
    // SAFETY: so many of them were written just now.
    Some(unsafe { slice::from_raw_parts(room.as_ptr().cast(), end) })
}

/// A raw result as the standard library's: the system's errors are as `std` has them.
fn outcome(raw: i64, kind: Kind) -> io::Result<usize> {
    decode(raw, kind).map_err(|error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.into(),
    })
}

impl TcpStream {
    /// # Safety
    ///
    /// What the request names is good for that until this returns, and nobody else's.
    #[inline(always)]
    unsafe fn poll(
        &self,
        context: &Context<'_>,
        kind: Kind,
        request: Request,
    ) -> Poll<io::Result<usize>> {
        let way = match kind {
            Kind::Read => Way::Read,
            _ => Way::Write,
        };
        // SAFETY: handed on to the caller.
        let polled = unsafe { self.handle().poll(way, request, context) };
        polled.map(|raw| outcome(raw, kind))
    }

    fn poll_filling(&self, context: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let (ptr, len) = (buf.as_mut_ptr(), buf.len());
        // SAFETY: `buf` is borrowed for this call.
        unsafe { self.poll(context, Kind::Read, Request::Read { ptr, len }) }
    }

    /// As futures-io's `poll_read`, into memory that may be uninitialised. It writes there alone; as many bytes as it says, from the start,
    /// are initialised then.
    #[cfg(feature = "hyper")]
    pub(crate) fn poll_filling_uninit(
        &self,
        context: &Context<'_>,
        buf: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        let (ptr, len) = (buf.as_mut_ptr().cast(), buf.len());
        // SAFETY: `buf` is borrowed for this call.
        unsafe { self.poll(context, Kind::Read, Request::Read { ptr, len }) }
    }

    fn poll_filling_all(
        &self,
        context: &Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = Room(bufs.as_mut_ptr().cast(), bufs.len());
        let request = Request::ReadVectored(NonNull::from(&mut room));
        // SAFETY: `bufs` is borrowed for this call, and `room` stands here.
        unsafe { self.poll(context, Kind::Read, request) }
    }

    fn poll_sending(&self, context: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (ptr, len) = (buf.as_ptr(), buf.len());
        // SAFETY: `buf` is borrowed for this call.
        unsafe { self.poll(context, Kind::Write, Request::Write { ptr, len }) }
    }

    fn poll_sending_all(
        &self,
        context: &Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut together = [MaybeUninit::uninit(); FEW];
        if let Some(bytes) = gather(bufs, &mut together) {
            return self.poll_sending(context, bytes);
        }
        let mut load = Load(bufs.as_ptr().cast(), bufs.len());
        let request = Request::WriteVectored(NonNull::from(&mut load));
        // SAFETY: `bufs` is borrowed for this call, and `load` stands here.
        unsafe { self.poll(context, Kind::Write, request) }
    }

    fn poll_ending(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let request = Request::Shutdown(Shutdown::Write);
        // SAFETY: it names nothing.
        let ended = unsafe { self.poll(context, Kind::Shutdown, request) };
        ended.map(|result| match result {
            // The other end has gone already: so has this direction.
            Err(error) if error.raw_os_error() == Some(NOT_CONNECTED) => Ok(()),
            result => result.map(|_| ()),
        })
    }
}

const NOT_CONNECTED: i32 = rustix::io::Errno::NOTCONN.raw_os_error();

/// The traits for a type that has a stream within.
macro_rules! reads {
    ($($type:ty: $it:ident => $stream:expr),*) => {$(
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                let $it = &*self;
                $stream.poll_filling(context, buf)
            }

            fn poll_read_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
                let $it = &*self;
                $stream.poll_filling_all(context, bufs)
            }
        }
    )*};
}

macro_rules! writes {
    ($($type:ty: $it:ident => $stream:expr),*) => {$(
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let $it = &*self;
                $stream.poll_sending(context, buf)
            }

            fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                let $it = &*self;
                $stream.poll_sending_all(context, bufs)
            }

            /// Nothing is held back: what was written is the kernel's.
            fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Ends the writing direction, after the writes that were initiated before; reading goes on.
            fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $it = &*self;
                $stream.poll_ending(context)
            }
        }
    )*};
}

reads!(
    TcpStream: it => it,
    &TcpStream: it => it,
    ReadHalf: it => it.stream(),
    &ReadHalf: it => it.stream()
);
writes!(
    TcpStream: it => it,
    &TcpStream: it => it,
    WriteHalf: it => it.stream(),
    &WriteHalf: it => it.stream()
);
