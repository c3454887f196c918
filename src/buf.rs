//! Buffers that an operation owns while it is under way, and gives back with its output.
//!
//! Reading fills a buffer from its start, up to its *capacity*, and then sets its length to what was read.
//! Writing sends its *length*. So one `Vec::with_capacity(4096)` goes round an echo loop without a slice, and
//! [`Slice`] narrows a buffer where a part is meant. After an error, a cancellation or a timeout the buffer
//! comes back with the length that it had.
#![allow(unsafe_code)] // the traits promise stable memory to the kernel; their impls stand here

mod datagram;
mod pool;

pub use datagram::Datagram;
pub use pool::{BufferPool, LateBuf, PooledBuf};

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

use crate::sync::Arc;

/// A buffer that can be written from.
///
/// # Safety
///
/// While the value is neither moved nor mutably borrowed, `ptr()` points to `len()` initialised bytes, and
/// both calls answer the same each time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no buffer that an operation can own",
    note = "buffers are given away and come back with the output: pass a `Vec<u8>`, a `String`, an array, a `Box<[u8]>`, an `Arc<[u8]>` or what is `'static`, not a borrow"
)]
pub unsafe trait Buf: Send + 'static {
    /// Where the bytes begin.
    fn ptr(&self) -> *const u8;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the trait's contract: `ptr` points to `len` initialised bytes for as long as `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.ptr(), self.len()) }
    }
}

/// A buffer that can be read into.
///
/// # Safety
///
/// While the value is not moved, `mut_ptr()` points to `capacity()` bytes that nobody else touches, and
/// both calls answer the same each time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no buffer that an operation can own and fill",
    note = "buffers are given away and come back with the output: pass a `Vec<u8>` with capacity, an array or a `Box<[u8]>`, not a borrow"
)]
pub unsafe trait BufMut: Buf {
    /// Where the first byte goes.
    fn mut_ptr(&mut self) -> *mut u8;
    /// How many bytes fit.
    fn capacity(&self) -> usize;
    /// Says that the first `len` bytes hold what was read.
    ///
    /// # Safety
    ///
    /// The first `len` bytes (at most `capacity()`) have been initialised.
    unsafe fn set_filled(&mut self, len: usize);
}

// SAFETY: a vector's heap memory stays where it is while the vector is not mutably borrowed.
unsafe impl Buf for Vec<u8> {
    fn ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

// SAFETY: as above; `capacity` bytes belong to the vector alone.
unsafe impl BufMut for Vec<u8> {
    fn mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        Vec::capacity(self)
    }
    unsafe fn set_filled(&mut self, len: usize) {
        // SAFETY: the caller initialised the first `len` bytes, within the capacity.
        unsafe { self.set_len(len) };
    }
}

// SAFETY: as a vector's, whose memory it has.
unsafe impl Buf for String {
    fn ptr(&self) -> *const u8 {
        self.as_bytes().as_ptr()
    }
    fn len(&self) -> usize {
        str::len(self)
    }
}

// SAFETY: what is shared stays where it is, and nobody writes to it.
unsafe impl Buf for Arc<[u8]> {
    fn ptr(&self) -> *const u8 {
        self.as_ref().as_ptr()
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: a box's memory stays where it is.
unsafe impl Buf for Box<[u8]> {
    fn ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: as above; all of it is initialised always.
unsafe impl BufMut for Box<[u8]> {
    fn mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        <[u8]>::len(self)
    }
    unsafe fn set_filled(&mut self, _len: usize) {}
}

// SAFETY: the bytes stand inside the value, which is not moved while it is in an operation's cell.
unsafe impl<const N: usize> Buf for [u8; N] {
    fn ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as above; all of it is initialised always.
unsafe impl<const N: usize> BufMut for [u8; N] {
    fn mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        N
    }
    unsafe fn set_filled(&mut self, _len: usize) {}
}

// SAFETY: static memory.
unsafe impl Buf for &'static [u8] {
    fn ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: static memory.
unsafe impl Buf for &'static str {
    fn ptr(&self) -> *const u8 {
        self.as_bytes().as_ptr()
    }
    fn len(&self) -> usize {
        str::len(self)
    }
}

/// A part of a buffer, as a buffer: `Slice::new(buf, 4..)`.
///
/// Writing sends what the range has of the buffer's length. Reading fills what it has of the *capacity*, and so goes on behind what
/// a `Vec` holds already, which then holds more:
///
/// ```
/// use proactor::{net::{TcpListener, TcpStream}, Proactor, Slice};
/// # use std::io::Write;
/// # use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let proactor = Proactor::builder().build()?;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let stream = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
/// # let mut peer = listener.accept()?.0;
/// # peer.write_all(b"half a")?;
/// # let (result, line) = stream.read_exact(vec![0; 6]).wait();
/// # result?;
/// # let mut line = line;
/// # line.reserve(64);
/// # peer.write_all(b" line\n")?;
/// // A line of which the beginning came before a time limit passed: `line` has it, and room for more.
/// let so_far = line.len();
/// let (result, rest) = stream.read_until("\n", Slice::new(line, so_far..)).wait();
/// assert_eq!((result?, &rest.into_inner()[..]), (6, &b"half a line\n"[..]));
/// # Ok(())
/// # }
/// ```
///
/// ```
/// use proactor::{Buf, Slice};
/// let part = Slice::new(b"header body".to_vec(), 7..);
/// assert_eq!(part.bytes(), b"body");
/// assert_eq!(part.into_inner(), b"header body");
/// ```
pub struct Slice<B> {
    inner: B,
    /// At most the buffer's length.
    start: usize,
    /// What was asked for, which may be beyond the buffer.
    end: usize,
}

impl<B: Buf> Slice<B> {
    /// The part of `inner` within `range`. A range that begins beyond the buffer's length begins there; one that ends beyond its
    /// length (for writing) or its capacity (for reading) ends there, and one that ends before it begins is empty.
    pub fn new(inner: B, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at.saturating_add(1),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => usize::MAX,
        };
        let start = start.min(inner.len()).min(end);
        Self { inner, start, end }
    }

    /// The whole buffer again.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

// SAFETY: a part of memory that `inner` promises to keep; `start` is at most `inner.len()`, which does not shrink.
unsafe impl<B: Buf> Buf for Slice<B> {
    fn ptr(&self) -> *const u8 {
        // SAFETY: `start` is at most `inner.len()`.
        unsafe { self.inner.ptr().add(self.start) }
    }
    fn len(&self) -> usize {
        self.end.min(self.inner.len()) - self.start
    }
}

// SAFETY: as above, of what belongs to `inner`; what is read behind its length is entered there.
unsafe impl<B: BufMut> BufMut for Slice<B> {
    fn mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: `start` is at most `inner.len()`, which is at most its capacity.
        unsafe { self.inner.mut_ptr().add(self.start) }
    }
    fn capacity(&self) -> usize {
        self.end.min(self.inner.capacity()) - self.start
    }
    unsafe fn set_filled(&mut self, len: usize) {
        let filled = self.start + len;
        if filled > self.inner.len() {
            // SAFETY: the first `start` bytes are initialised, and the caller did so with the next `len`, within the capacity.
            unsafe { self.inner.set_filled(filled) };
        }
    }
}

impl<B: Buf> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Slice({}..{} of {} bytes)",
            self.start,
            self.start + self.len(),
            self.inner.len()
        )
    }
}

impl<B: Buf> Deref for Slice<B> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl<B: BufMut> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        // SAFETY: `len` initialised bytes from `start` on belong to `inner`, which is mutably borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.mut_ptr(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_cut_to_what_the_buffer_holds() {
        let start = 9;
        let end = 3;
        assert_eq!(Slice::new(vec![1, 2, 3], 1..9).bytes(), [2, 3]);
        assert!(Slice::new(vec![1, 2, 3], 7..).is_empty());
        assert!(Slice::new(vec![1, 2, 3], start..end).is_empty());
        assert_eq!(Slice::new(vec![1, 2, 3], ..=0).bytes(), [1]);
    }

    #[test]
    fn a_slice_has_room_for_what_the_buffer_has_room_for() {
        let with_room = || {
            let mut buf = Vec::with_capacity(16);
            buf.extend([1, 2, 3]);
            buf
        };
        let room = with_room().capacity();
        assert_eq!(Slice::new(with_room(), 3..).capacity(), room - 3);
        assert_eq!(Slice::new(with_room(), 2..9).capacity(), 7);
        assert_eq!(Slice::new(with_room(), 9..).capacity(), room - 3);
        assert_eq!(Slice::new([0; 4], 1..9).capacity(), 3);
        let mut slice = Slice::new(with_room(), 2..);
        // SAFETY: the room is the vector's.
        unsafe { slice.mut_ptr().copy_from([7, 8].as_ptr(), 2) };
        // SAFETY: two bytes were written just now.
        unsafe { slice.set_filled(2) };
        assert_eq!(slice.bytes(), [7, 8]);
        // SAFETY: nothing more is said to be there than is.
        unsafe { slice.set_filled(0) };
        assert_eq!(slice.into_inner(), [1, 2, 7, 8]);
    }
}
