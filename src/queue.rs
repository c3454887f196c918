//! Intrusive queues of completions: a list for one thread, and an injector for many.
#![allow(unsafe_code)] // cells linked through their headers

use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};

use crossbeam::utils::CachePadded;

use crate::cell::{Header, Ptr, header};
use crate::completion::Completion;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::{Mutex, guess_pointer, mutant, own};

/// First in, first out, for whoever holds it. Two words.
pub(crate) struct List {
    head: Cell<*mut Header>,
    tail: Cell<*mut Header>,
}

// SAFETY: the list owns the completions that it links, which are `Send`.
unsafe impl Send for List {}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            head: Cell::new(ptr::null_mut()),
            tail: Cell::new(ptr::null_mut()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    #[inline]
    pub(crate) fn push_back(&self, completion: Completion) {
        let cell = completion.into_ptr();
        header(cell).next.store(ptr::null_mut(), Ordering::Relaxed);
        match NonNull::new(self.tail.replace(cell.as_ptr())) {
            Some(tail) => header(tail).next.store(cell.as_ptr(), Ordering::Relaxed),
            None => self.head.set(cell.as_ptr()),
        }
    }

    pub(crate) fn push_front(&self, completion: Completion) {
        let cell = completion.into_ptr();
        header(cell)
            .next
            .store(self.head.replace(cell.as_ptr()), Ordering::Relaxed);
        if self.tail.get().is_null() {
            self.tail.set(cell.as_ptr());
        }
    }

    /// The first, which stays.
    pub(crate) fn first(&self) -> Option<Ptr> {
        NonNull::new(self.head.get())
    }

    #[inline]
    pub(crate) fn pop_front(&self) -> Option<Completion> {
        let cell = NonNull::new(self.head.get())?;
        let next = header(cell).next.load(Ordering::Relaxed);
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null_mut());
        }
        // SAFETY: `push_back` and `push_front` took it from a completion, and it is out of the list now.
        Some(unsafe { Completion::from_ptr(cell) })
    }

    /// Takes out the first that `wanted` says yes to.
    pub(crate) fn remove(&self, wanted: impl Fn(Ptr) -> bool) -> Option<Completion> {
        let kept = Self::new();
        let mut found = None;
        while let Some(completion) = self.pop_front() {
            if found.is_none() && wanted(completion.ptr()) {
                found = Some(completion);
            } else {
                kept.push_back(completion);
            }
        }
        self.head.set(kept.head.replace(ptr::null_mut()));
        self.tail.set(kept.tail.replace(ptr::null_mut()));
        found
    }

    /// Everything, leaving nothing.
    pub(crate) fn take_all(&self) -> Self {
        let all = Self::new();
        all.head.set(self.head.replace(ptr::null_mut()));
        all.tail.set(self.tail.replace(ptr::null_mut()));
        all
    }
}

impl Iterator for List {
    type Item = Completion;
    fn next(&mut self) -> Option<Completion> {
        self.pop_front()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "List(empty)"
        } else {
            "List(..)"
        })
    }
}

/// A queue that any thread puts completions into and takes them from, first in, first out for each producer.
///
/// Producers push onto a stack with one compare-exchange; a consumer, under the lock, takes the whole stack at
/// once, turns it round, and serves from the result. Never allocates. For strategies of one's own, too.
///
/// ```
/// use proactor::dispatch::Injector;
/// assert!(Injector::new().is_empty());
/// ```
pub struct Injector {
    inbox: CachePadded<AtomicPtr<Header>>,
    out: CachePadded<Out>,
}

struct Out {
    list: Mutex<List>,
    /// How many the list holds. Written under the lock, and raised *before* the inbox is emptied into the
    /// list: see `is_empty`.
    len: AtomicUsize,
}

impl Injector {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            inbox: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            out: CachePadded::new(Out {
                list: Mutex::new(List::new()),
                len: AtomicUsize::new(0),
            }),
        }
    }

    /// Puts `completion` at the back. Lock-free; one compare-exchange when nobody interferes.
    pub fn push(&self, completion: Completion) {
        let cell = completion.into_ptr();
        let mut top = guess_pointer(&self.inbox);
        // Release publishes the body; the other half is the Acquire of `take_inbox`.
        let order = if mutant("injector-push-relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        loop {
            header(cell).next.store(top, Ordering::Relaxed);
            match self
                .inbox
                .compare_exchange_weak(top, cell.as_ptr(), order, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes the oldest. Locks, for a few instructions.
    pub fn pop(&self) -> Option<Completion> {
        if self.is_empty() {
            return None;
        }
        self.pop_locked()
    }

    /// The rest of `pop`, without the look that spares an empty queue's lock.
    pub(crate) fn pop_locked(&self) -> Option<Completion> {
        let list = self.out.list.lock();
        let len = own(&self.out.len);
        if let Some(completion) = list.pop_front() {
            self.out.len.store(len - 1, Ordering::Relaxed);
            return Some(completion);
        }
        // Until the list holds what the inbox held, somebody who sees the inbox empty must see the list full.
        if !mutant("injector-len-late") {
            self.out.len.store(1, Ordering::Relaxed);
        }
        let taken = self.take_inbox(&list);
        let first = list.pop_front();
        self.out
            .len
            .store(taken.saturating_sub(1), Ordering::Relaxed);
        first
    }

    /// Empties the inbox into `list`, oldest first; how many.
    fn take_inbox(&self, list: &List) -> usize {
        // AcqRel: Acquire for the bodies, Release for `len`, which was raised before.
        let mut top = self.inbox.swap(ptr::null_mut(), Ordering::AcqRel);
        let mut count = 0;
        while let Some(cell) = NonNull::new(top) {
            top = header(cell).next.load(Ordering::Relaxed);
            // SAFETY: pushed as a completion; the swap made the whole stack ours.
            list.push_front(unsafe { Completion::from_ptr(cell) });
            count += 1;
        }
        count
    }

    /// Whether nothing is queued. Never true while something is whose `push` returned before.
    pub fn is_empty(&self) -> bool {
        // The inbox first: Acquire, so that whoever sees it emptied sees the raised length.
        self.inbox.load(Ordering::Acquire).is_null() && self.out.len.load(Ordering::Relaxed) == 0
    }
}

impl Default for Injector {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let list = List::new();
        self.take_inbox(&list);
    }
}

impl fmt::Debug for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injector")
            .field("is_empty", &self.is_empty())
            .finish()
    }
}
