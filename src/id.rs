//! Names for things that come and go: an index that is used again, with a generation that is not.

use std::fmt;

/// An object of a completion port (a socket, say): what events and completions are about.
///
/// The kernel uses a descriptor's number again; an `ObjectId` is never the same for two objects of one port
/// (until 2³² objects have come and gone in one place). 64 bits: a 32-bit index and a 32-bit generation.
///
/// ```
/// use proactor::ObjectId;
/// assert_eq!(ObjectId::NONE.to_string(), "none");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u64);

impl ObjectId {
    /// No object: what a posted call and a timer are about.
    pub const NONE: Self = Self(u64::MAX);
    /// The port's timer.
    pub(crate) const TIMER: Self = Self(u64::MAX - 2);
    /// The port's lane for calls that block.
    pub(crate) const BLOCKING: Self = Self(u64::MAX - 3);
    /// The index of an operation by hand, whose place stands where others have their generation.
    const BY_HAND: u32 = u32::MAX;
    /// Indexes from here on are never issued: the port's own stand there.
    pub(crate) const INDEX_LIMIT: u32 = u32::MAX - 1;

    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self(((generation as u64) << 32) | index as u64)
    }

    /// An operation by hand, by its place in the port's table.
    pub(crate) fn by_hand(place: usize) -> Self {
        // The last generations are the port's own.
        let place = u32::try_from(place).unwrap_or(u32::MAX - 1);
        Self::new(Self::BY_HAND, place.min(u32::MAX - 1))
    }

    /// The place of an operation by hand, if it is one.
    pub(crate) fn place_by_hand(self) -> Option<usize> {
        let is_by_hand = self.index() == Self::BY_HAND && self.generation() != u32::MAX;
        is_by_hand.then_some(self.generation() as usize)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The place, used again by later objects.
    pub(crate) const fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// Which tenant of the place.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            id => write!(f, "{}.{}", id.index(), id.generation()),
        }
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// What a completion completes.
///
/// A strategy can order by it, and an [`Error`](crate::Error) names it.
///
/// ```
/// assert_eq!(proactor::Kind::Accept.to_string(), "accept");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A call that was posted, dispatched or deferred.
    Post,
    /// Bytes from a stream.
    Read,
    /// Bytes into a stream.
    Write,
    /// A datagram from a socket.
    Receive,
    /// A datagram into a socket.
    Send,
    /// A connection from a listener.
    Accept,
    /// A connection to an address.
    Connect,
    /// The end of one or both directions of a stream.
    Shutdown,
    /// A timer's expiry.
    Timer,
    /// A call that blocks, on a thread of its own.
    Blocking,
    /// An operation that is composed of others, or completed by hand.
    Composed,
    /// Making a listener, or a socket for datagrams: not an operation, but errors name it.
    Bind,
    /// Bringing a descriptor to the port: not an operation, but errors name it.
    Register,
    /// Taking a descriptor out of the port again: not an operation, but errors name it.
    Release,
    /// Asking for a socket's address: not an operation, but errors name it.
    Address,
    /// Setting a socket's option: not an operation, but errors name it.
    Configure,
    /// Starting a thread: not an operation, but errors name it.
    Start,
    /// A spawned future: not an operation, but errors name it.
    Spawned,
    /// Waiting in the port: not an operation, but errors name it.
    Wait,
}

impl Kind {
    /// Whether such an operation takes from its object: it goes in the reading direction.
    pub(crate) const fn takes(self) -> bool {
        matches!(self, Self::Read | Self::Receive | Self::Accept)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Post => "post",
            Self::Read => "read",
            Self::Write => "write",
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Shutdown => "shutdown",
            Self::Timer => "timer",
            Self::Blocking => "blocking call",
            Self::Composed => "composed operation",
            Self::Bind => "bind",
            Self::Register => "register",
            Self::Release => "release",
            Self::Address => "ask for the address",
            Self::Configure => "set the option",
            Self::Start => "start a thread",
            Self::Spawned => "spawned future",
            Self::Wait => "wait in the port",
        })
    }
}
