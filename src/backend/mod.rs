//! The asynchronous operation processor: what carries operations out.
//!
//! # What a backend owes
//!
//! - [`Backend::submit`] takes an operation's cell, and with it the operation's buffers. The backend gives the cell back
//!   exactly once, as finished: from `submit` itself, from `attempt`, from `cancel`, from `close`, or through `wait`.
//! - `wait` may give a cell back as *due*: then [`Backend::attempt`] is to be called with it, by any thread.
//! - [`Backend::cancel`] is a request. The cell comes back all the same.
//! - It calls no handler and knows no dispatcher.
//!
//! One backend stands here, [`Readiness`], over what tells it that a descriptor has become ready (a [`Demux`]):
//! the Linux fast path (`epoll`), everything that `polling` knows (`portable`), and the models' scripted kernel.
//! A completion backend (`io_uring`) would implement [`Backend`] beside it.

mod alarm;
pub(crate) mod direct;
pub(crate) mod direction;
pub(crate) mod polls;
pub(crate) mod readiness;
pub(crate) mod registry;
pub(crate) mod repeats;
pub(crate) mod shelf;

#[cfg(not(proactor_loom))]
pub(crate) mod portable;

#[cfg(all(
    target_os = "linux",
    not(polling_test_poll_backend),
    not(proactor_loom)
))]
pub(crate) mod epoll;

#[cfg(all(
    target_os = "linux",
    not(polling_test_poll_backend),
    not(proactor_loom)
))]
mod outside;

#[cfg(proactor_loom)]
pub(crate) mod script;

use std::fmt;
use std::io;
use std::task::Waker;
use std::time::Instant;

use crate::cell::Ptr;
use crate::completion::Completion;
use crate::id::ObjectId;
use crate::operation::{Attempted, Request, Returned};
use crate::queue::List;
use readiness::Hold;
use registry::{EntryRef, Fd, Tag, Way};
use shelf::Stock;

/// What a call to the backend gave back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The operation, finished.
    pub(crate) done: Option<Completion>,
    /// Its direction, held until `next` is called with it.
    pub(crate) hold: Option<Hold>,
}

/// What became of a poll.
#[derive(Debug)]
pub(crate) enum Polled {
    /// It made its call: the number or the negated `errno`.
    Done(i64),
    /// It would block, or others are before it, perhaps a notice of it `among` them.
    Waits(bool),
}

/// What became of an object that was to be given up.
#[derive(Debug)]
pub(crate) enum TakenOut {
    Descriptor(Fd, Stock),
    Closed,
    InUse,
}

/// What a wait ended with, beside the operations that it put in the list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Woken(u8);

impl Woken {
    /// Somebody notified.
    pub(crate) const NOTIFIED: Self = Self(1);
    /// The port's timer may have expired.
    pub(crate) const TIMER: Self = Self(2);

    /// Also `other`, if it was so.
    #[inline]
    pub(crate) fn also(self, other: Self, was: bool) -> Self {
        Self(self.0 | if was { other.0 } else { 0 })
    }

    #[inline]
    pub(crate) fn was(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// Whether there is nothing to see to but what is in the list.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.0 == 0
    }
}

/// See the module's page for what each call owes.
pub(crate) trait Backend: Send + Sync + fmt::Debug {
    /// How many threads may wait at once.
    fn seats(&self) -> usize;
    /// Whether whoever leaves the last seat to work has another take it at once; else the seat is watched. With several seats
    /// the last one is rarely left, with one it is at every event.
    fn promotes_at_once(&self) -> bool;
    /// Brings a descriptor in. It belongs to the backend from now on, also after an error. `drains` says that a short read means
    /// that there was no more.
    fn open(&self, fd: Fd, drains: bool, owner: *const ()) -> io::Result<EntryRef>;
    /// Takes an operation on `entry`.
    fn submit(&self, cell: Ptr, entry: EntryRef) -> Outcome;
    /// Carries out an operation that is due.
    fn attempt(&self, cell: Ptr) -> Outcome;
    /// Goes on with an operation that was attempted the short way (`direct`), if it was not the end of it.
    fn carry_on(&self, cell: Ptr, entry: EntryRef, attempted: Option<Attempted>) -> Outcome;
    /// Lets a direction go that was closed while it was held.
    fn give_up(&self, entry: EntryRef);
    /// Lets a direction go, once the operation that held it is where it belongs; perhaps another is due then.
    fn next(&self, hold: Hold) -> Option<Completion>;
    /// Gives the operation back, if it is waiting; its state says already that it is to be cancelled.
    fn cancel(&self, cell: Ptr, generation: u32, object: ObjectId) -> Option<Completion>;
    /// Finishes everything that waits on `entry` as cancelled, and asks the same of what is under way.
    fn cancel_all(&self, entry: EntryRef, out: &List);
    /// As `cancel_all`, and lets nothing in any more; the descriptor is closed as soon as no attempt holds it. A
    /// generation that is over is left alone.
    fn close(&self, entry: EntryRef, generation: u32, out: &List);
    /// Lets go of a reading direction that a finished operation has kept, with what it gives back; perhaps another is due then.
    fn give_back(
        &self,
        cell: Ptr,
        generation: u32,
        object: ObjectId,
        returned: Option<Returned>,
    ) -> Option<Completion>;
    /// Carries out now, here, what `request` says, if nobody is before it and it does not block. What it names is good until this
    /// returns, and not used later. A poll that has `taken` its turn the short way (`polls`), at that tick, has found that it would block.
    /// With the operation that is due now.
    fn poll(
        &self,
        entry: EntryRef,
        way: Way,
        request: Request,
        taken: Option<u32>,
    ) -> (Polled, Option<Completion>);
    /// Gives `waker` to the notice that waits in the direction for its turn, or its turn alone (`now`), and gives back what it had, or what it need not have. An error, with the
    /// waker, if there is none.
    fn give_waker(
        &self,
        entry: EntryRef,
        way: Way,
        now: bool,
        waker: Waker,
    ) -> Result<Waker, Waker>;
    /// Takes the descriptor out again, and what was given back to it, which ends the object. Only if the caller's handle is the
    /// only one, and no operation is under way or keeps a direction; notices end, in `out`.
    fn take_out(&self, entry: EntryRef, out: &List) -> TakenOut;
    /// Ends what waits on what listens, and lets nothing in there any more.
    fn stop_accepting(&self, out: &List);
    /// Closes everything.
    fn close_all(&self, out: &List);
    /// Gives up one reference to `entry`. With the last, the entry lets its owner go and is vacant.
    fn release(&self, entry: EntryRef);
    /// Makes room for events now, so that no later wait allocates.
    fn prepare(&self, events: &mut Events);
    /// Waits until something is due, somebody notifies, the timer expires, or `deadline`. At most `seats` at once. An error is the
    /// system's number of it: that comes back in a register, as `Woken` does.
    fn wait(
        &self,
        events: &mut Events,
        due: &List,
        deadline: Option<Instant>,
    ) -> Result<Woken, i32>;
    /// Wakes one thread in `wait`, or the next to come.
    fn notify(&self);
    /// When the port's timer expires next. Called under the timers' lock.
    fn set_timer(&self, at: Option<Instant>);
    /// A descriptor that is readable when `wait` would find something.
    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

/// What a demultiplexer says of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// No more will come: the read direction stays ready.
    pub(crate) hang_up: bool,
}

/// Where a demultiplexer reports to.
pub(crate) trait Sink {
    fn ready(&mut self, tag: Tag, ready: Ready);
}

/// A way to be told that descriptors have become ready.
pub(crate) trait Demux: Send + Sync + fmt::Debug + 'static {
    /// How many threads may wait at once.
    fn seats(&self) -> usize;
    /// See [`Backend::promotes_at_once`].
    fn promotes_at_once(&self) -> bool {
        self.seats() > 1
    }
    /// Whether a registration stays (edge-triggered); else interest is armed anew after each event.
    fn edge(&self) -> bool;
    /// Whether a short read means that an event will follow, whatever comes, the end of file included.
    fn short_read_drains(&self) -> bool;
    /// Registers, or with `again` changes, the interest in `fd`. With `edge`, in both directions, once.
    fn arm(&self, fd: &Fd, tag: Tag, read: bool, write: bool, again: bool) -> io::Result<()>;
    /// Forgets `fd`, which is about to be closed.
    fn disarm(&self, fd: &Fd);
    /// See [`Backend::prepare`].
    fn prepare(&self, events: &mut Events);
    /// Waits, and reports each event.
    fn wait(
        &self,
        events: &mut Events,
        deadline: Option<Instant>,
        sink: &mut impl Sink,
    ) -> io::Result<Woken>;
    fn notify(&self);
    fn set_timer(&self, at: Option<Instant>);
    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

/// A thread's room for events, made when it first waits, or by `prepare`.
pub(crate) struct Events {
    #[cfg(all(
        target_os = "linux",
        not(polling_test_poll_backend),
        not(proactor_loom)
    ))]
    pub(crate) epoll: Vec<rustix::event::epoll::Event>,
    #[cfg(not(proactor_loom))]
    pub(crate) portable: Option<polling::Events>,
    pub(crate) batch: std::num::NonZeroUsize,
}

impl Events {
    pub(crate) fn new(batch: std::num::NonZeroUsize) -> Self {
        Self {
            #[cfg(all(
                target_os = "linux",
                not(polling_test_poll_backend),
                not(proactor_loom)
            ))]
            epoll: Vec::new(),
            #[cfg(not(proactor_loom))]
            portable: None,
            batch,
        }
    }
}

/// Which backend carries operations out.
///
/// ```
/// use proactor::BackendKind;
/// assert_eq!("portable".parse::<BackendKind>(), Ok(BackendKind::Portable));
/// assert_eq!(BackendKind::Auto.to_string(), "auto");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The fastest that the platform has: on Linux epoll, waited on directly.
    #[default]
    Auto,
    /// What works wherever `polling` does, through its own interface. For other platforms, and for comparing.
    Portable,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Portable => "portable",
        })
    }
}

/// A text that names no [`BackendKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseBackendError(String);

impl fmt::Display for ParseBackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown backend `{}`: it is one of auto, portable",
            self.0
        )
    }
}

impl std::error::Error for ParseBackendError {}

impl std::str::FromStr for BackendKind {
    type Err = ParseBackendError;
    fn from_str(text: &str) -> Result<Self, ParseBackendError> {
        match text {
            "auto" => Ok(Self::Auto),
            "portable" => Ok(Self::Portable),
            other => Err(ParseBackendError(other.to_owned())),
        }
    }
}

/// A backend of that kind, in which as many threads wait at once if it can have them. `let_go` is what an entry does with its owner when it is vacated.
#[cfg(not(proactor_loom))]
pub(crate) fn make(
    kind: BackendKind,
    seats: std::num::NonZeroUsize,
    let_go: fn(*const ()),
) -> Result<Box<dyn Backend>, crate::error::BuildError> {
    let failed = |error| crate::error::BuildError::io("cannot make the port's descriptors", error);
    match kind {
        #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
        BackendKind::Auto => match epoll::Epoll::new(seats) {
            Ok(demux) => Ok(Box::new(readiness::Readiness::new(demux, let_go))),
            // The kernel lacks something: do with less.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                make(BackendKind::Portable, seats, let_go)
            }
            Err(error) => Err(failed(error)),
        },
        _ => {
            let _ = seats; // `polling` has one
            let demux = portable::Portable::new().map_err(failed)?;
            Ok(Box::new(readiness::Readiness::new(demux, let_go)))
        }
    }
}
