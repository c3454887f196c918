//! The system calls: a request, carried out without blocking.
#![allow(unsafe_code)] // an operation's buffers are known by address

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;

use rustix::buffer::Buffer;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{MaybeUninitSlice, SockRef, Socket};

use super::{Envelope, Parts, Request};

/// A descriptor, as an operation knows it.
pub(crate) type Fd = std::os::fd::OwnedFd;

/// The answer of [`perform`] when the operation would block.
pub(crate) const WOULD_BLOCK: i64 = -(Errno::WOULDBLOCK.raw_os_error() as i64);

/// How many parts go into one system call; what is left goes into the next.
const PARTS: usize = 64;

/// A number, or the negated `errno`. Interrupted calls are made again.
#[inline(always)]
pub(crate) fn perform(fd: &Fd, request: Request) -> i64 {
    // SAFETY (of each): an operation's request names memory that the operation owns, and that stays while the backend has the
    // cell (`Operation` is sealed).
    let result = match request {
        Request::Read { ptr, len } if len > 0 => {
            // SAFETY: see above.
            return unsafe { recv(fd, ptr, len) };
        }
        Request::Write { ptr, len } if len > 0 => {
            // SAFETY: see above.
            return unsafe { send(fd, ptr, len) };
        }
        Request::ReadLate { mut into, .. } => {
            // SAFETY: see above.
            let late = unsafe { into.as_mut() };
            let raw = receive(fd, late.bind());
            late.filled(usize::try_from(raw).unwrap_or(0));
            return raw;
        }
        Request::RecvFrom { ptr, len, envelope } => {
            // SAFETY: see above.
            unsafe { receive_from(fd, ptr, len, envelope) }
        }
        Request::RecvFromLate { mut into, envelope } => {
            // SAFETY: see above.
            let late = unsafe { into.as_mut() };
            let room = late.bind();
            // SAFETY: the room is as long as it says, and nobody else's; for the rest see above.
            let result = unsafe { receive_from(fd, room.as_mut_ptr(), room.len(), envelope) };
            late.filled(result.unwrap_or(0));
            result
        }
        Request::SendTo { ptr, len, to } => {
            // SAFETY: see above.
            let bytes = unsafe { std::slice::from_raw_parts(ptr, len) };
            // SAFETY: see above.
            send_to(fd, bytes, unsafe { *to })
        }
        // SAFETY: see above.
        request => unsafe { call(fd, request) },
    };
    raw(result)
}

/// Sends so many bytes, or fewer: how many, or the negated `errno`.
///
/// # Safety
///
/// `ptr` is good for reading `len` bytes.
#[inline(always)]
pub(crate) unsafe fn send(fd: &Fd, ptr: *const u8, len: usize) -> i64 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(ptr, len) };
    numbered(|| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL))
}

/// Takes up to so many bytes of a stream: how many, or the negated `errno`.
///
/// # Safety
///
/// `ptr` is good for writing `len` bytes, and nobody else's.
#[inline(always)]
pub(crate) unsafe fn recv(fd: &Fd, ptr: *mut u8, len: usize) -> i64 {
    // SAFETY: the caller's promise.
    let room = unsafe { std::slice::from_raw_parts_mut(ptr.cast::<MaybeUninit<u8>>(), len) };
    receive(fd, room)
}

/// As `recv`.
#[inline(always)]
fn receive<T>(fd: &Fd, room: &mut [T]) -> i64
where
    for<'a> &'a mut [T]: Buffer<u8>,
{
    numbered(|| rustix::net::recv(fd, &mut *room, RecvFlags::empty()).map(|(_, count)| count))
}

/// As `raw(retry(..))`, a number at once.
#[inline(always)]
fn numbered(mut call: impl FnMut() -> Result<usize, Errno>) -> i64 {
    loop {
        match call() {
            Ok(count) => return count as i64,
            Err(Errno::INTR) => {}
            Err(errno) => return -i64::from(errno.raw_os_error()),
        }
    }
}

#[inline(always)]
fn raw(result: Result<usize, Errno>) -> i64 {
    match result {
        // The kernel transfers less than that at once.
        Ok(count) => count as i64,
        Err(errno) => -i64::from(errno.raw_os_error()),
    }
}

/// Takes a datagram: how much of it fitted.
///
/// # Safety
///
/// `ptr` is good for writing `len` bytes, `envelope` for writing, and both are nobody else's.
unsafe fn receive_from(
    fd: &Fd,
    ptr: *mut u8,
    len: usize,
    envelope: *mut Envelope,
) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let room = unsafe { std::slice::from_raw_parts_mut(ptr.cast::<MaybeUninit<u8>>(), len) };
    let (count, came) = retry(|| datagram(fd, room))?;
    // SAFETY: the caller's promise.
    unsafe { *envelope = came };
    Ok(count)
}

/// How much of a datagram fitted, and its envelope.
type Came = Result<(usize, Envelope), Errno>;

/// Linux says how long it was, when it is asked so.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn datagram(fd: &Fd, room: &mut [MaybeUninit<u8>]) -> Came {
    let len = room.len();
    let (_, whole, peer) = rustix::net::recvfrom(fd, room, RecvFlags::TRUNC)?;
    let envelope = Envelope {
        peer: peer.and_then(|peer| peer.try_into().ok()),
        truncated: whole > len,
    };
    Ok((whole.min(len), envelope))
}

/// Elsewhere `recvmsg` tells, which takes longer.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use datagram_by_message as datagram;

#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
fn datagram_by_message(fd: &Fd, room: &mut [MaybeUninit<u8>]) -> Came {
    let mut parts = [MaybeUninitSlice::new(room)];
    let came = SockRef::from(fd).recv_from_vectored(&mut parts);
    let (count, flags, peer) = came.map_err(|error| errno(&error))?;
    let envelope = Envelope {
        peer: peer.as_socket(),
        truncated: flags.is_truncated(),
    };
    Ok((count, envelope))
}

fn send_to(fd: &Fd, bytes: &[u8], to: Option<SocketAddr>) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL;
    retry(|| match &to {
        Some(to) => rustix::net::sendto(fd, bytes, flags, to),
        None => rustix::net::send(fd, bytes, flags),
    })
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// # Safety
///
/// The memory that the request names is good for reading or writing, as the request says, and nobody else's.
#[cold]
unsafe fn call(fd: &Fd, request: Request) -> Result<usize, Errno> {
    match request {
        Request::Read { .. } | Request::Write { .. } => Ok(0), // no bytes
        Request::ReadVectored(mut parts) => {
            // SAFETY: the caller's promise.
            let parts = unsafe { parts.as_mut() };
            // SAFETY: the caller's promise, for each part.
            unsafe { read_vectored(fd, parts) }
        }
        Request::WriteVectored(mut parts) => {
            // SAFETY: the caller's promise.
            let parts = unsafe { parts.as_mut() };
            // SAFETY: the caller's promise, for each part.
            unsafe { write_vectored(fd, parts) }
        }
        Request::Accept { peer } => {
            // SAFETY: the caller's promise.
            accept(&SockRef::from(fd), unsafe { &mut *peer })
        }
        Request::Connect { address, begun } => {
            // SAFETY: the caller's promise.
            let begun = unsafe { &mut *begun };
            // SAFETY: the caller's promise.
            let address = unsafe { *address };
            connect(&SockRef::from(fd), address.into(), begun)
        }
        Request::Shutdown(how) => match SockRef::from(fd).shutdown(how) {
            Ok(()) => Ok(0),
            Err(error) => Err(errno(&error)),
        },
        Request::Ready { .. } => Ok(0),
        Request::None
        | Request::ReadLate { .. } // made by the caller, as are the next three
        | Request::RecvFrom { .. }
        | Request::RecvFromLate { .. }
        | Request::SendTo { .. }
        | Request::Timer
        | Request::Call(_)
        | Request::ByHand(_)
        | Request::Script { .. } => Err(Errno::INVAL),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// # Safety
///
/// The parts are good for writing, and nobody else's.
unsafe fn read_vectored(fd: &Fd, parts: &mut dyn Parts) -> Result<usize, Errno> {
    let mut slices: [MaybeUninitSlice<'_>; PARTS] =
        std::array::from_fn(|_| MaybeUninitSlice::new(&mut []));
    let mut count = 0;
    parts.each(&mut |ptr, len| {
        if count < PARTS && len > 0 {
            // SAFETY: the caller's promise.
            let room = unsafe { std::slice::from_raw_parts_mut(ptr.cast(), len) };
            slices[count] = MaybeUninitSlice::new(room);
            count += 1;
        }
    });
    if count == 0 {
        return Ok(0);
    }
    let fd = SockRef::from(fd);
    retry(|| match fd.recv_vectored(&mut slices[..count]) {
        Ok((count, _)) => Ok(count),
        Err(error) => Err(errno(&error)),
    })
}

/// # Safety
///
/// The parts are good for reading.
unsafe fn write_vectored(fd: &Fd, parts: &mut dyn Parts) -> Result<usize, Errno> {
    let mut slices = [IoSlice::new(&[]); PARTS];
    let mut count = 0;
    parts.each(&mut |ptr, len| {
        if count < PARTS && len > 0 {
            // SAFETY: the caller's promise.
            slices[count] = IoSlice::new(unsafe { std::slice::from_raw_parts(ptr, len) });
            count += 1;
        }
    });
    if count == 0 {
        return Ok(0);
    }
    let fd = SockRef::from(fd);
    retry(|| {
        fd.send_vectored(&slices[..count])
            .map_err(|error| errno(&error))
    })
}

fn accept(fd: &Socket, peer: &mut Option<SocketAddr>) -> Result<usize, Errno> {
    retry(|| {
        let (socket, address) = fd.accept().map_err(|error| errno(&error))?;
        socket
            .set_nonblocking(true)
            .map_err(|error| errno(&error))?;
        *peer = address.as_socket();
        Ok(usize::try_from(socket.into_raw_fd()).unwrap_or(0))
    })
}

fn connect(fd: &Socket, address: socket2::SockAddr, begun: &mut bool) -> Result<usize, Errno> {
    if !std::mem::replace(begun, true) {
        return match fd.connect(&address) {
            Ok(()) => Ok(0),
            Err(error) => match errno(&error) {
                Errno::INPROGRESS | Errno::INTR => Err(Errno::WOULDBLOCK),
                other => Err(other),
            },
        };
    }
    match fd.take_error() {
        Ok(Some(error)) | Err(error) => Err(errno(&error)),
        // An event that came before the kernel was done says nothing yet.
        Ok(None) => match fd.peer_addr() {
            Ok(_) => Ok(0),
            Err(error) if errno(&error) == Errno::NOTCONN => Err(Errno::WOULDBLOCK),
            Err(error) => Err(errno(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each system's way says of datagrams of as many bytes, taken with room for four.
    fn told(take: fn(&Fd, &mut [MaybeUninit<u8>]) -> Came) {
        let [from, to] =
            [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").expect("a port on loopback"));
        let (address, peer) = (
            to.local_addr().expect("one"),
            from.local_addr().expect("one"),
        );
        to.set_nonblocking(true).expect("so that no test hangs");
        let to = Fd::from(to);
        for (sent, count, truncated) in [(0, 0, false), (4, 4, false), (5, 4, true)] {
            from.send_to(&[7; 5][..sent], address).expect("to be sent");
            let mut room = [MaybeUninit::new(0); 4];
            let (came, envelope) = take(&to, &mut room).expect("it is there");
            let told = (came, envelope.peer, envelope.truncated);
            assert_eq!(told, (count, Some(peer), truncated), "of {sent} bytes");
        }
        let none = take(&to, &mut [MaybeUninit::new(0); 4]);
        assert_eq!(none.err(), Some(Errno::WOULDBLOCK));
    }

    #[test]
    fn a_datagram_says_from_whom_it_is_and_whether_it_fitted() {
        told(datagram);
        told(datagram_by_message);
    }
}
