//! Ports that may be gone, for whoever must not keep them.
#![allow(unsafe_code)] // a worker has borrowed its port

use super::{CompletionPort, Inner};
use crate::local::Local;
use crate::sync::{Arc, Weak};

/// A port that may be gone.
#[derive(Clone, Debug)]
pub(crate) struct WeakPort {
    pub(super) inner: Weak<Inner>,
    /// Its number, by which keys and workers know it.
    pub(crate) number: u32,
}

impl WeakPort {
    pub(crate) fn upgrade(&self) -> Option<CompletionPort> {
        self.inner.upgrade().map(CompletionPort)
    }

    /// The port, if it is still there, for whoever may outlive this weak handle. A thread that works for it counts nothing.
    pub(crate) fn reach(&self) -> Reached {
        if Local::with_port(self.number, |local| local.is_some()) {
            return Reached::Here(self.inner.as_ptr());
        }
        self.inner.upgrade().map_or(Reached::Gone, Reached::Kept)
    }

    /// Runs `f` with the port and with the worker that this thread is for it, if it is one; else gives back what `f` would get.
    #[inline]
    pub(crate) fn with_local<T>(&self, given: T, f: impl FnOnce(T, &Inner, &Local)) -> Option<T> {
        Local::with_port(self.number, |local| match local {
            Some(local) => {
                // SAFETY: as in `with`.
                f(given, unsafe { &*self.inner.as_ptr() }, local);
                None
            }
            None => Some(given),
        })
    }

    /// Runs `f` with the port, if it is still there. A thread that works for it counts nothing.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(Option<&Inner>) -> R) -> R {
        if Local::with_port(self.number, |local| local.is_some()) {
            // SAFETY: whoever works for the port has borrowed it for as long: `Inner::work`.
            return f(Some(unsafe { &*self.inner.as_ptr() }));
        }
        f(self.inner.upgrade().as_deref())
    }
}

/// A port that stays while this is at hand.
pub(crate) enum Reached {
    /// This thread works for it.
    Here(*const Inner),
    Kept(Arc<Inner>),
    Gone,
}

impl Reached {
    pub(crate) fn inner(&self) -> Option<&Inner> {
        match self {
            // SAFETY: whoever works for the port has borrowed it for as long: `Inner::work`.
            Self::Here(inner) => Some(unsafe { &**inner }),
            Self::Kept(inner) => Some(inner),
            Self::Gone => None,
        }
    }
}
