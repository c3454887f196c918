//! Reading up to a delimiter.
#![allow(unsafe_code)] // buffers become addresses

use std::fmt;
use std::slice;

use super::ops::{Transferred, returned};
use crate::buf::{Buf, BufMut};
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::operation::{Operation, Request, Returned, sealed};

/// The operation of [`TcpStream::read_until`](super::TcpStream::read_until).
pub struct ReadUntil<D, B> {
    delimiter: D,
    buf: B,
    done: usize,
    /// Whether the delimiter is what the first `done` bytes end with.
    found: bool,
    /// What was read behind that.
    beyond: usize,
}

/// How many bytes the first attempt asks for at most.
const FIRST: usize = 4096;

impl<D: Buf, B: BufMut> ReadUntil<D, B> {
    pub(super) fn new(delimiter: D, buf: B) -> Self {
        Self {
            found: delimiter.is_empty(),
            delimiter,
            buf,
            done: 0,
            beyond: 0,
        }
    }

    /// Where the delimiter ends in the first `len` bytes, if it does not end in the first `before`.
    fn find(&mut self, before: usize, len: usize) -> Option<usize> {
        let delimiter = self.delimiter.bytes();
        let from = (before + 1).saturating_sub(delimiter.len());
        // SAFETY: the backend filled the first `len` bytes.
        let bytes = unsafe { slice::from_raw_parts(self.buf.mut_ptr(), len) };
        let at = match *delimiter {
            [byte] => bytes[from..].iter().position(|&other| other == byte),
            _ => bytes[from..]
                .windows(delimiter.len())
                .position(|window| window == delimiter),
        };
        at.map(|at| from + at + delimiter.len())
    }
}

impl<D, B> sealed::Sealed for ReadUntil<D, B> {}

impl<D: Buf, B: BufMut> Operation for ReadUntil<D, B> {
    type Output = Transferred<B>;
    const KIND: Kind = Kind::Read;
    const READS_ON: bool = true;

    fn request(&mut self) -> Request {
        let room = self.buf.capacity() - self.done;
        // SAFETY: `done` is at most the capacity.
        let ptr = unsafe { self.buf.mut_ptr().add(self.done) };
        // As much again as there is, from a few on: what is read beyond the delimiter is copied out, and back for the next.
        let len = if self.found {
            0
        } else {
            room.min(self.done.max(FIRST))
        };
        Request::Read { ptr, len }
    }

    fn advance(&mut self, n: usize) -> bool {
        let before = self.done;
        self.done += n;
        if n == 0 {
            return false;
        }
        if let Some(end) = self.find(before, self.done) {
            self.found = true;
            self.beyond = self.done - end;
            self.done = end;
        }
        !self.found && self.done < self.buf.capacity()
    }

    fn surplus(&mut self) -> Option<Returned> {
        let beyond = std::mem::take(&mut self.beyond);
        if beyond == 0 {
            return None;
        }
        // SAFETY: `done` and what was read beyond it are at most the capacity.
        let start = unsafe { self.buf.mut_ptr().add(self.done) };
        // SAFETY: the backend filled these bytes.
        let bytes = unsafe { slice::from_raw_parts(start, beyond) };
        Some(Returned::Bytes(bytes.to_vec()))
    }

    fn finish(mut self, result: Result<usize, Error>) -> Self::Output {
        let done = self.done;
        let result = match result {
            Ok(_) if self.found => Ok(done),
            Ok(_) if done == self.buf.capacity() => {
                Err(Error::new(ErrorKind::LimitReached, Self::KIND))
            }
            Ok(_) => Err(Error::new(ErrorKind::UnexpectedEof, Self::KIND)),
            Err(error) => Err(error),
        };
        if done > 0 || result.is_ok() {
            // SAFETY: `advance` counted what the backend filled, from the start on.
            unsafe { self.buf.set_filled(done) };
        }
        (result.map_err(|error| error.after(done)), self.buf)
    }

    fn give_back(mut self, _result: Result<usize, Error>) -> Option<Returned> {
        returned(&mut self.buf, self.done)
    }
}

impl<D, B> fmt::Debug for ReadUntil<D, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadUntil")
    }
}
