//! Intrusive queues of completions: a list for one thread, an injector for many, and a line that is served one at a time.
#![allow(unsafe_code)] // cells linked through their headers

mod deque;
mod stack;

use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};

use crossbeam::utils::CachePadded;

use crate::cell::{Header, Ptr, header};
use crate::completion::Completion;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::{Mutex, guess_pointer, mutant, own};

#[cfg(proactor_loom)]
pub(crate) use deque::Deque;
pub use stack::Stack;

/// Asks for memory ahead of its use, where there is a way to.
#[inline(always)]
pub(crate) fn prefetch<T>(_place: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that may name any address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(_place.cast()) };
    }
}

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

    #[inline]
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

    /// All, in order; they stay.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Ptr> {
        let after = |cell: &Ptr| NonNull::new(header(*cell).next.load(Ordering::Relaxed));
        std::iter::successors(self.first(), after)
    }

    #[inline]
    pub(crate) fn pop_front(&self) -> Option<Completion> {
        let cell = NonNull::new(self.head.get())?;
        let next = header(cell).next.load(Ordering::Relaxed);
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null_mut());
        } else {
            prefetch(next);
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
    #[inline]
    pub fn pop(&self) -> Option<Completion> {
        if self.is_empty() {
            return None;
        }
        self.pop_locked()
    }

    /// The rest of `pop`, without the look that spares an empty queue's lock.
    #[inline(never)]
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
        let top = self.inbox.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: pushed as completions; the swap made the whole stack ours.
        unsafe { turn_round(top, list) }
    }

    /// Whether nothing is queued. Never true while something is whose `push` returned before.
    #[inline]
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

/// Puts a stack of completions into `list`, the one that was pushed first in front; how many.
///
/// # Safety
///
/// The stack is the caller's, made of completions that were linked by their `next`, and ends with null.
unsafe fn turn_round(mut top: *mut Header, list: &List) -> usize {
    let mut count = 0;
    while let Some(cell) = NonNull::new(top) {
        top = header(cell).next.load(Ordering::Relaxed);
        // SAFETY: the caller's promise.
        let completion = unsafe { Completion::from_ptr(cell) };
        if mutant("line-youngest-first") {
            list.push_back(completion);
        } else {
            list.push_front(completion);
        }
        count += 1;
    }
    count
}

/// A line that is served one at a time, in the order of coming. Its word says in one whether somebody is served, and who came
/// meanwhile; so whoever comes is served, or is seen by whoever is. Protocol: `docs/dispatch-protocols.md`, "A strand".
///
/// | word | meaning |
/// |---|---|
/// | `FREE` | nobody is served, nobody waits |
/// | `SERVED` | somebody is served, and nobody came since the last look |
/// | else | somebody is served; the youngest of those who came, linked to the one before |
pub(crate) struct Line {
    word: AtomicPtr<Header>,
    /// Those who came before the last look, oldest first. For whoever is served, and nobody else.
    rest: List,
}

const FREE: *mut Header = ptr::null_mut();
/// No cell's address.
const SERVED: *mut Header = ptr::without_provenance_mut(1);

// SAFETY: `rest` is touched only by `next`, whose caller is the one who is served.
unsafe impl Sync for Line {}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicPtr::new(FREE),
            rest: List::new(),
        }
    }

    /// Whether the caller is served at once, since nobody else is: it owes a [`next`](Self::next).
    pub(crate) fn enter(&self) -> bool {
        self.serve().is_ok()
    }

    /// Acquire, the other half of the Release in `next`: who is served sees what the one before it did.
    fn serve(&self) -> Result<*mut Header, *mut Header> {
        if mutant("line-looked-at-then-taken") {
            let top = self.word.load(Ordering::Acquire);
            if top == FREE {
                self.word.store(SERVED, Ordering::Relaxed);
            }
            return if top == FREE { Ok(top) } else { Err(top) };
        }
        self.word
            .compare_exchange(FREE, SERVED, Ordering::Acquire, Ordering::Relaxed)
    }

    /// Joins the line. Gives `completion` back if it is served at once: it owes a [`next`](Self::next) when it is over.
    pub(crate) fn join(&self, completion: Completion) -> Option<Completion> {
        let cell = completion.into_ptr();
        let mut top = guess_pointer(&self.word);
        loop {
            // Release publishes the body; the other half is the Acquire of `next`.
            let joined = if top == FREE {
                self.serve()
            } else {
                let before = if top == SERVED { ptr::null_mut() } else { top };
                header(cell).next.store(before, Ordering::Relaxed);
                let (to, order) = (cell.as_ptr(), Ordering::Release);
                self.word
                    .compare_exchange_weak(top, to, order, Ordering::Relaxed)
            };
            match joined {
                // SAFETY: taken from a completion above, and nobody else has seen it.
                Ok(FREE) => return Some(unsafe { Completion::from_ptr(cell) }),
                Ok(_) => return None,
                Err(now) => top = now,
            }
        }
    }

    /// Who was served is done: the next, which is served now, if it came before the last look; if none did, the caller asks `next`.
    ///
    /// # Safety
    ///
    /// As [`next`](Self::next).
    #[inline]
    pub(crate) unsafe fn next_at_hand(&self) -> Option<Completion> {
        self.rest.pop_front()
    }

    /// Who was served is done: the next, which is served now; if there is none, the line is free.
    ///
    /// # Safety
    ///
    /// The caller is the one who was served.
    pub(crate) unsafe fn next(&self) -> Option<Completion> {
        if self.rest.is_empty() {
            if mutant("line-freed-unseen") {
                self.word.store(FREE, Ordering::Release);
                return None;
            }
            // Release, the other half of the Acquire in `enter`. It fails if somebody has come.
            if self
                .word
                .compare_exchange(SERVED, FREE, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return None;
            }
            let top = self.word.swap(SERVED, Ordering::Acquire);
            // SAFETY: `join` made the stack; the swap made the whole of it ours.
            unsafe { turn_round(top, &self.rest) };
        }
        self.rest.pop_front()
    }

    /// Whether nobody is served. Old news by the time it is read.
    pub(crate) fn is_free(&self) -> bool {
        self.word.load(Ordering::Relaxed) == FREE
    }
}
