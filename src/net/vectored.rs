//! Several buffers at once, all of them.
#![allow(unsafe_code)] // buffers become addresses

use std::fmt;
use std::ptr::NonNull;

use super::ops::{Transferred, returned_of_all};
use super::stream::{ReadHalf, TcpStream, WriteHalf};
use crate::buf::{Buf, BufMut};
use crate::error::{Error, ErrorKind};
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::operation::{Operation, Parts, Request, Returned, sealed};

/// Buffers, of which the first `done` bytes are dealt with.
struct Progress<B> {
    bufs: Vec<B>,
    done: usize,
}

impl<B> Progress<B> {
    /// Calls `f` with the start and length of what is left of each buffer, given the start and length of all of it.
    fn left(
        &mut self,
        whole: impl Fn(&mut B) -> (*mut u8, usize),
        f: &mut dyn FnMut(*mut u8, usize),
    ) {
        let mut skip = self.done;
        for buf in &mut self.bufs {
            let (ptr, len) = whole(buf);
            let here = skip.min(len);
            skip -= here;
            if here < len {
                // Within the buffer, since `here` is below its length.
                f(ptr.wrapping_add(here), len - here);
            }
        }
    }
}

/// Buffers to fill.
struct Room<B>(Progress<B>);
/// Buffers to send.
struct Load<B>(Progress<B>);

impl<B: BufMut> Parts for Room<B> {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        self.0.left(|buf| (buf.mut_ptr(), buf.capacity()), f);
    }
}

impl<B: Buf> Parts for Load<B> {
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize)) {
        self.0.left(|buf| (buf.ptr().cast_mut(), buf.len()), f);
    }
}

/// The operation of [`TcpStream::read_exact_vectored`].
pub struct ReadExactVectored<B>(Room<B>);
/// The operation of [`TcpStream::write_all_vectored`].
pub struct WriteAllVectored<B>(Load<B>);

impl<B> fmt::Debug for ReadExactVectored<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadExactVectored")
    }
}

impl<B> fmt::Debug for WriteAllVectored<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteAllVectored")
    }
}

impl<B> sealed::Sealed for ReadExactVectored<B> {}
impl<B> sealed::Sealed for WriteAllVectored<B> {}

/// The end of an operation on all of `total` bytes, `done` of which it did.
fn end(
    result: Result<usize, Error>,
    done: usize,
    total: usize,
    early: Error,
) -> Result<usize, Error> {
    match result {
        Ok(_) if done < total => Err(early.after(done)),
        Ok(_) => Ok(done),
        Err(error) => Err(error.after(done)),
    }
}

impl<B: BufMut> Operation for ReadExactVectored<B> {
    type Output = Transferred<Vec<B>>;
    const KIND: Kind = Kind::Read;

    fn request(&mut self) -> Request {
        Request::ReadVectored(NonNull::from(&mut self.0))
    }

    fn advance(&mut self, n: usize) -> bool {
        let progress = &mut self.0.0;
        progress.done += n;
        n > 0 && progress.done < progress.bufs.iter().map(BufMut::capacity).sum()
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        let Progress { mut bufs, done } = self.0.0;
        let total = bufs.iter().map(BufMut::capacity).sum();
        let mut left = done;
        for buf in bufs.iter_mut().filter(|_| done > 0) {
            let here = left.min(buf.capacity());
            left -= here;
            // SAFETY: `advance` counted what the backend filled, each buffer fully before the next.
            unsafe { buf.set_filled(here) };
        }
        let early = Error::new(ErrorKind::UnexpectedEof, Self::KIND);
        (end(result, done, total, early), bufs)
    }

    fn give_back(mut self, _result: Result<usize, Error>) -> Option<Returned> {
        let Progress { bufs, done } = &mut self.0.0;
        returned_of_all(bufs, *done)
    }
}

impl<B: Buf> Operation for WriteAllVectored<B> {
    type Output = Transferred<Vec<B>>;
    const KIND: Kind = Kind::Write;

    fn request(&mut self) -> Request {
        Request::WriteVectored(NonNull::from(&mut self.0))
    }

    fn advance(&mut self, n: usize) -> bool {
        let progress = &mut self.0.0;
        progress.done += n;
        n > 0 && progress.done < progress.bufs.iter().map(Buf::len).sum()
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        let Progress { bufs, done } = self.0.0;
        let total = bufs.iter().map(Buf::len).sum();
        let early = Error::new(ErrorKind::WriteZero, Self::KIND);
        (end(result, done, total, early), bufs)
    }
}

impl TcpStream {
    /// Reads until every one of `bufs` is full to its capacity, each before the next; any number of them. Otherwise as
    /// [`read_exact`](Self::read_exact).
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let address = listener.local_addr()?;
    /// listener.accept().then(|accepted| {
    ///     let (stream, _) = accepted.expect("a connection");
    ///     stream.write_all_vectored(vec!["head", "body"]).then(move |(result, _)| {
    ///         assert_eq!(result.expect("all of it"), 8);
    ///         drop(stream);
    ///     });
    /// });
    /// let client = TcpStream::connect(&proactor, address).wait()?;
    /// let (result, bufs) = client.read_exact_vectored(vec![[0; 4]; 2]).wait();
    /// assert_eq!((result?, bufs), (8, vec![*b"head", *b"body"]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_exact_vectored<B: BufMut>(&self, bufs: Vec<B>) -> Initiation<ReadExactVectored<B>> {
        Initiation::on_object(
            self.handle(),
            ReadExactVectored(Room(Progress { bufs, done: 0 })),
        )
    }

    /// Writes all of every one of `bufs`, one after the other; any number of them. Otherwise as [`write_all`](Self::write_all).
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let stream = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
    /// let (result, _bufs) = stream.write_all_vectored(vec!["head", "body"]).wait();
    /// assert_eq!(result?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_all_vectored<B: Buf>(&self, bufs: Vec<B>) -> Initiation<WriteAllVectored<B>> {
        Initiation::on_object(
            self.handle(),
            WriteAllVectored(Load(Progress { bufs, done: 0 })),
        )
    }
}

impl ReadHalf {
    /// As [`TcpStream::read_exact_vectored`].
    pub fn read_exact_vectored<B: BufMut>(&self, bufs: Vec<B>) -> Initiation<ReadExactVectored<B>> {
        self.stream().read_exact_vectored(bufs)
    }
}

impl WriteHalf {
    /// As [`TcpStream::write_all_vectored`].
    pub fn write_all_vectored<B: Buf>(&self, bufs: Vec<B>) -> Initiation<WriteAllVectored<B>> {
        self.stream().write_all_vectored(bufs)
    }
}
