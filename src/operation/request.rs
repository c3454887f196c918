//! What operations ask of a backend, what came of it, and what they give back.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use crate::buf::{Datagram, LateBuf};

/// What an operation wants from the backend. The addresses are good for as long as the backend has the cell.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// Nothing: not an operation.
    None,
    /// Up to `len` bytes to `ptr`.
    Read {
        /// Where to.
        ptr: *mut u8,
        /// How many at most.
        len: usize,
    },
    /// Up to `len` bytes into a buffer that is taken from its pool when there are some, by whoever has them.
    ReadLate {
        /// Where the buffer goes.
        into: NonNull<LateBuf>,
        /// How many at most.
        len: usize,
    },
    /// `len` bytes from `ptr`.
    Write {
        /// Where from.
        ptr: *const u8,
        /// How many.
        len: usize,
    },
    /// Bytes into several parts, one after the other.
    ReadVectored(NonNull<dyn Parts>),
    /// Bytes from several parts, one after the other.
    WriteVectored(NonNull<dyn Parts>),
    /// A datagram to `ptr`, the first `len` bytes of it; the result says how many came.
    RecvFrom {
        /// Where to.
        ptr: *mut u8,
        /// How many at most.
        len: usize,
        /// Where it is said what came.
        envelope: *mut Envelope,
    },
    /// A datagram into a buffer that is taken from its pool when there is one.
    RecvFromLate {
        /// Where the buffer goes.
        into: NonNull<LateBuf>,
        /// Where it is said what came.
        envelope: *mut Envelope,
    },
    /// A datagram of `len` bytes from `ptr`.
    SendTo {
        /// Where from.
        ptr: *const u8,
        /// How many.
        len: usize,
        /// To whom; or to whom the socket is connected.
        to: *const Option<SocketAddr>,
    },
    /// A connection; the result is its descriptor.
    Accept {
        /// Where the peer's address goes.
        peer: *mut Option<SocketAddr>,
    },
    /// A connection to `address`; `begun` says whether it was asked for before.
    Connect {
        /// To where.
        address: *const SocketAddr,
        /// Whether the kernel has been asked.
        begun: *mut bool,
    },
    /// The end of the read direction, of the write direction, or of both.
    Shutdown(std::net::Shutdown),
    /// Nothing, but that it be its turn; and, unless it is to be told `now`, that an attempt of another may succeed.
    Ready {
        /// Whether to end whatever the direction's state.
        now: bool,
    },
    /// Nothing: the wheel knows when it ends (see `port::wheel`).
    Timer,
    /// A call, for a thread that may block.
    Call(NonNull<dyn Call>),
    /// Nothing: somebody completes it by hand. Where its output goes.
    ByHand(*mut ()),
    /// Up to `len` units of what a model deals in.
    Script {
        /// How many at most.
        len: usize,
        /// Whether they are given, not taken.
        write: bool,
        /// What the model watches in place of a buffer.
        memory: *const (),
    },
}

/// What is known of a datagram beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope {
    /// Who sent it, once it has come; none, too, if that is no address of the internet.
    pub peer: Option<SocketAddr>,
    /// Whether there was more of it than room.
    pub truncated: bool,
}

/// What an operation took from its direction and gives back: the next one gets it first.
#[derive(Debug)]
pub enum Returned {
    /// Bytes of a stream.
    Bytes(Vec<u8>),
    /// A listener's connection, and its other end.
    Accepted(OwnedFd, SocketAddr),
    /// A datagram, in memory of its own.
    Datagram(Datagram),
    /// So many units of what a model deals in.
    Units(usize),
}

/// Several parts of memory.
pub trait Parts {
    /// Calls `f` with pointer and length of each part that is left, in order.
    fn each(&mut self, f: &mut dyn FnMut(*mut u8, usize));
}

/// Something to be called once, by whoever has the operation.
pub trait Call {
    /// Calls it. It does not panic: what becomes of it is kept for the operation's output.
    fn call(&mut self);
}

/// How many bytes a read asks for; none where a short count says nothing.
#[inline(always)]
pub(crate) fn wanted(request: &Request) -> Option<usize> {
    match request {
        Request::Read { len, .. } | Request::ReadLate { len, .. } => Some(*len),
        #[cfg(proactor_loom)]
        Request::Script {
            len, write: false, ..
        } => Some(*len),
        _ => None,
    }
}

/// What an attempt came to. Fits in two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempted {
    /// The number, or the negated `errno`.
    pub(crate) raw: i64,
    /// Bits: see `MORE` and `SHORT`.
    pub(crate) how: u8,
}

impl Attempted {
    /// The operation wants more before it is finished.
    pub(crate) const MORE: u8 = 1;
    /// It got less than it had room for.
    pub(crate) const SHORT: u8 = 2;

    #[inline(always)]
    pub(crate) fn failed(raw: i64) -> Self {
        Self { raw, how: 0 }
    }

    /// The operation took in `count` bytes, and now says whether it wants `more`.
    #[inline(always)]
    pub(crate) fn moved(count: usize, more: bool, wanted: Option<usize>) -> Self {
        let short = wanted.is_some_and(|wanted| 0 < count && count < wanted);
        Self {
            raw: count as i64,
            how: (u8::from(more) * Self::MORE) | (u8::from(short) * Self::SHORT),
        }
    }

    #[inline(always)]
    pub(crate) fn more(self) -> bool {
        self.how & Self::MORE != 0
    }

    #[inline(always)]
    pub(crate) fn short(self) -> bool {
        self.how & Self::SHORT != 0
    }
}
