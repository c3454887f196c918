//! A worker's stack, which others steal from.
#![allow(unsafe_code)] // what comes out of a deque is a completion

use std::fmt;
use std::ptr::NonNull;

use super::deque::Deque;
use crate::cell::Header;
use crate::completion::Completion;
use crate::local::Local;
use crate::sync::Mark;

/// What one worker's handlers post: it takes what is youngest, and others steal what is oldest. Bounded; never allocates. For
/// strategies of one's own, too, which have one for each worker ([`Worker::push`], [`pop`], [`steal`]).
///
/// It belongs to the first worker that pushes.
///
/// [`Worker::push`]: crate::dispatch::Worker::push
/// [`pop`]: crate::dispatch::Worker::pop
/// [`steal`]: crate::dispatch::Worker::steal
///
/// ```
/// use proactor::dispatch::Stack;
/// assert!(Stack::new().is_empty());
/// ```
pub struct Stack {
    /// Of completions' cells.
    deque: Deque<Header>,
    /// The worker whose it is: the deque's owner. A worker of a port, since that has one thread at an index at a time (`Pool::claim`,
    /// whose lock orders one tenant before the next).
    owner: Mark,
}

impl Stack {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            deque: Deque::new(),
            owner: Mark::new(),
        }
    }

    /// Whether nothing is in it. Never true while something is whose push returned before, if the caller has fenced since, as the port
    /// does where it matters.
    pub fn is_empty(&self) -> bool {
        self.deque.is_empty()
    }

    /// Whether it is that worker's.
    #[inline]
    pub(crate) fn is_of(&self, local: &Local) -> bool {
        self.owner
            .is(u64::from(local.port) << 32 | local.index as u64)
    }

    /// Puts `completion` on top, or gives it back if there is no room.
    ///
    /// # Safety
    ///
    /// It is of the worker that this thread is, and the completion of that worker's port.
    #[inline]
    pub(crate) unsafe fn push(&self, completion: Completion) -> Result<(), Completion> {
        self.deque.push(completion.into_ptr()).map_err(out)
    }

    /// Takes the youngest.
    ///
    /// # Safety
    ///
    /// It is of the worker `local`, which this thread is.
    #[inline]
    pub(crate) unsafe fn pop(&self, local: &Local) -> Option<Completion> {
        self.deque.pop(local.workers == 1).map(out)
    }

    /// Takes the oldest, for a worker of the same port: its only worker is the one whose it is.
    pub(crate) fn steal(&self, local: &Local) -> Option<Completion> {
        let same = self.owner.get() >> 32 == u64::from(local.port);
        same.then(|| self.deque.steal()).flatten().map(out)
    }
}

fn out(cell: NonNull<Header>) -> Completion {
    // SAFETY: `push` took it from a completion, and the deque gives each item to one, since its owner is one thread at a time.
    unsafe { Completion::from_ptr(cell) }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while self.deque.steal().map(out).is_some() {}
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("is_empty", &self.is_empty())
            .finish()
    }
}
