//! Handles on what the port knows: a socket's user side.
#![allow(unsafe_code)] // an entry's owner is a raw count of the port

use std::fmt;

use super::{CompletionPort, Inner};
use crate::backend::TakenOut;
use crate::backend::registry::{EntryRef, Fd};
use crate::backend::shelf::Stock;
use crate::error::{Error, ErrorKind};
use crate::id::{Kind, ObjectId};
use crate::queue::List;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// One of an object's handles; the last one that goes closes it.
pub(crate) struct Handle(EntryRef);

impl Handle {
    /// See `Inner::open`.
    pub(crate) fn open(port: &CompletionPort, fd: Fd, drains: bool) -> Result<Self, Error> {
        port.0.open(fd, drains).map(Self)
    }

    /// As `open`, of what connections come out of.
    pub(crate) fn listen(port: &CompletionPort, fd: Fd) -> Result<Self, Error> {
        let handle = Self::open(port, fd, true)?;
        handle.0.listens.store(true, Ordering::Relaxed);
        Ok(handle)
    }

    /// One that was counted before: see `Inner::begin_repeating`.
    pub(super) fn counted(entry: EntryRef) -> Self {
        Self(entry)
    }

    #[inline]
    pub(crate) fn entry(&self) -> EntryRef {
        self.0
    }

    #[inline]
    pub(crate) fn id(&self) -> ObjectId {
        self.0.id()
    }

    /// The port, which lives while the entry has a reference.
    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        let owner = self.0.owner.load(Ordering::Relaxed).cast::<Inner>();
        // SAFETY: set by `Inner::open` from an `Arc` that the entry gives back only after its last reference, of
        // which this handle is one.
        unsafe { &*owner }
    }

    pub(crate) fn port(&self) -> CompletionPort {
        let owner = self
            .0
            .owner
            .load(Ordering::Relaxed)
            .cast_const()
            .cast::<Inner>();
        // SAFETY: as in `inner`, and the pointer came from `Arc::into_raw`.
        unsafe { Arc::increment_strong_count(owner) };
        // SAFETY: the count that was just made.
        CompletionPort(unsafe { Arc::from_raw(owner) })
    }

    /// Runs `f` with the descriptor, if the object is open.
    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(&Fd) -> R) -> Option<R> {
        let direction = self.0.direction(crate::backend::registry::Way::Write);
        if direction.is_closed() {
            return None;
        }
        // SAFETY: a direction that is not shut keeps the descriptor, and shutting takes its lock, which is held here.
        let result = unsafe { self.0.fd() }.map(f);
        drop(direction);
        result
    }

    /// Takes the descriptor out again, with what was given back to it, if this handle is the only one and nothing is under way. The
    /// object is over then.
    pub(crate) fn take_out(&self) -> Result<(Fd, Stock), Error> {
        let notices = List::new();
        let taken_out = self.inner().backend.take_out(self.0, &notices);
        self.inner().hand_all(notices);
        let kind = match taken_out {
            TakenOut::Descriptor(fd, stock) => return Ok((fd, stock)),
            TakenOut::Closed => ErrorKind::Closed,
            TakenOut::InUse => ErrorKind::InUse,
        };
        Err(Error::new(kind, Kind::Release))
    }

    /// Ends what is pending as cancelled.
    pub(crate) fn cancel(&self) {
        let out = List::new();
        self.inner().backend.cancel_all(self.0, &out);
        self.inner().hand_all(out);
    }

    /// Closes the object for all its handles.
    pub(crate) fn close(&self) {
        self.close_at(self.0.generation.load(Ordering::Relaxed));
    }

    fn close_at(&self, generation: u32) {
        let out = List::new();
        self.inner().backend.close(self.0, generation, &out);
        self.inner().hand_all(out);
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Self {
        self.0.refs.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        self.0.tenant.used();
        let refs = &self.0.refs;
        // Release, for the Acquire of the last (`Backend::release`): what each did comes before the entry is vacated. A close needs
        // no more than its locks.
        let mut count = refs.load(Ordering::Relaxed);
        while count > 2 {
            match refs.compare_exchange_weak(count, count - 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => count = now,
            }
        }
        self.go_last(count);
    }
}

impl Handle {
    /// One of the last two of the entry's references goes.
    #[cold]
    fn go_last(&self, count: u32) {
        // The port must outlive what follows, in which the entry may let it go.
        let port = self.port();
        if count == 2 {
            // This handle and the open descriptor (or, closed before, another handle): only a handle makes another, so this
            // is the last.
            self.close();
        }
        port.0.backend.release(self.0);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}", self.id())
    }
}
