//! What a thread knows while it works for a port: which worker it is, and the two lists that only it sees.

#![allow(unsafe_code)] // one pointer of this thread to its own stack

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::ptr;
use std::task::Waker;

use async_task::Runnable;
use crossbeam::utils::CachePadded;

use crate::cell::Home;
use crate::completion::Completion;
use crate::queue::{List, Stack};
use crate::sync::{mutant, thread_pointer, thread_slot};
use crate::work::Counters;

/// At which picks the strategy is asked, although the worker's stack has something.
const ASK_EVERY: usize = 64;

/// At which picks the strategy is asked, although the worker keeps something.
const KEPT_IN_A_ROW: usize = 16;

/// A worker's own side. It stands on the worker's stack for as long as the thread works.
#[derive(Debug)]
pub(crate) struct Local {
    home: *const Home,
    /// Its own in the home's books.
    books: *const CachePadded<Counters>,
    /// The home's number.
    pub(crate) port: u32,
    pub(crate) index: usize,
    pub(crate) workers: usize,
    /// What this thread's handlers finished: runs next.
    pub(crate) turn: List,
    /// What a strategy keeps for this thread alone.
    pub(crate) kept: List,
    /// Where its strategy has what its handlers post, if it says so; it lives as long as the port.
    stack: Cell<*const Stack>,
    /// How many of `turn` may still run before the queues get their chance.
    pub(crate) turn_left: Cell<usize>,
    /// How many completions this worker has picked.
    pub(crate) picks: Cell<usize>,
    /// How many handlers are on this thread's stack.
    pub(crate) depth: Cell<usize>,
    /// How many polls of a stream went through, and in which handler: how many were finished before it.
    polls: Cell<(usize, usize)>,
    /// Whether the handler that it is in does its last thing, which is to wake.
    last: Cell<Last>,
    /// Whom it has woken by that, and is to poll.
    woken: Woken,
    /// Whether it has one of the port's permits, where these are fewer than workers.
    pub(crate) permit: Cell<bool>,
}

/// What becomes of the first future that is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// It is one of several things that the handler does.
    Not,
    /// It follows in this thread's turn.
    Follows,
    /// The handler polls it.
    Polls,
}

/// A future that was woken.
#[derive(Default)]
struct Woken(Cell<Option<Runnable>>);

impl fmt::Debug for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Woken")
    }
}

/// How many polls of streams a handler makes before it lets others on. With a full turn of a future that wakes itself, some hundreds of
/// system calls.
const POLLS: usize = 32;

thread_pointer!(CURRENT: Local);

/// What is on the stack of the worker that this thread is.
#[derive(Clone, Copy)]
pub(crate) struct Stacked<'a> {
    stack: &'a Stack,
    local: &'a Local,
}

impl Stacked<'_> {
    /// The youngest.
    #[inline(always)]
    pub(crate) fn pop(self) -> Option<Completion> {
        // SAFETY: this worker's, which this thread is.
        unsafe { self.stack.pop(self.local) }
    }

    /// Whether there is nothing.
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.stack.is_empty()
    }
}

/// A worker that this thread is: a link of the chain of them, the innermost first, in which one that works nested is twice. It stands on
/// the stack of `enter`.
struct Entered {
    local: *const Local,
    outer: *const Entered,
}

thread_pointer!(ENTERED: Entered);

impl Local {
    pub(crate) fn new(home: &Home, index: usize, workers: usize) -> Self {
        Self {
            home,
            books: home.ledger.of_worker(index),
            port: home.id,
            index,
            workers,
            turn: List::new(),
            kept: List::new(),
            stack: Cell::new(ptr::null()),
            turn_left: Cell::new(0),
            picks: Cell::new(0),
            depth: Cell::new(0),
            polls: Cell::new((0, 0)),
            last: Cell::new(Last::Not),
            woken: Woken::default(),
            permit: Cell::new(false),
        }
    }

    /// Runs `f` with `self` as this thread's current worker, also if it panics.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave(*const Local, *const Entered);
        impl Drop for Leave {
            fn drop(&mut self) {
                ENTERED.with(|entered| entered.set(self.1));
                CURRENT.with(|current| current.set(self.0));
            }
        }
        let outer = ENTERED.with(Cell::get);
        let entered = Entered { local: self, outer };
        let _leave = Leave(CURRENT.with(|current| current.replace(self)), outer);
        ENTERED.with(|innermost| innermost.set(&raw const entered));
        f()
    }

    /// Wakes as the last thing that a handler does: the first future of the worker's port that is woken so follows in this thread's turn.
    pub(crate) fn wake_last(waker: Waker) {
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                Local::current(|local| local.map(|local| local.last.set(Last::Not)));
            }
        }
        Self::current(|local| local.map(|local| local.last.set(Last::Follows)));
        let _over = Over; // also if a waker panics
        waker.wake();
    }

    /// Wakes as all that a handler does: the first future of the worker's port that is woken so is polled in it, in place of a handler of
    /// its own.
    pub(crate) fn poll_last(waker: Waker) {
        struct Over;
        impl Drop for Over {
            /// If a waker panics: whom it has woken before is sent on.
            fn drop(&mut self) {
                Local::woken_last().into_iter().for_each(Runnable::schedule);
            }
        }
        Self::current(|local| local.map(|local| local.last.set(Last::Polls)));
        let over = Over;
        waker.wake();
        mem::forget(over);
        let woken = Self::woken_last().filter(|_| !mutant("woken-last-is-lost"));
        woken.map(Runnable::run);
    }

    /// Whom the handler has woken by its last thing, which is done.
    #[inline]
    fn woken_last() -> Option<Runnable> {
        Self::current(|local| {
            let local = local?;
            local.last.set(Last::Not);
            local.woken.0.take()
        })
    }

    /// Keeps a future that was woken for the handler to poll, if that does its last thing, and has none yet; else gives it back.
    #[inline]
    pub(crate) fn keep_woken(&self, woken: Runnable) -> Option<Runnable> {
        if self.last.get() != Last::Polls {
            return Some(woken);
        }
        self.last.set(Last::Not);
        self.woken.0.set(Some(woken));
        None
    }

    /// Whether what is woken now follows in this thread's turn; told once.
    pub(crate) fn follows(&self) -> bool {
        self.last.replace(Last::Not) != Last::Not
    }

    /// Whether the handler that this worker is in has made its share of polls, and is to let others on. It is asked at each, and
    /// may go on when it has been told.
    pub(crate) fn has_polled_enough(&self) -> bool {
        let finished = self.books().have_finished();
        let (before, polls) = self.polls.get();
        let polls = if before == finished { polls } else { 0 };
        let enough = polls >= POLLS;
        self.polls
            .set((finished, if enough { 0 } else { polls + 1 }));
        enough
    }

    /// Its counters.
    #[inline]
    pub(crate) fn books(&self) -> &CachePadded<Counters> {
        // SAFETY: as in `home`, whose they are.
        unsafe { &*self.books }
    }

    /// Uses `stack`, if it is this worker's.
    ///
    /// # Safety
    ///
    /// It lives as long as the local.
    pub(crate) unsafe fn use_stack(&self, stack: Option<&Stack>) {
        if let Some(stack) = stack.filter(|stack| stack.is_of(self)) {
            self.stack.set(stack);
        }
    }

    /// Puts `completion`, which is of its port, on its stack, or gives it back.
    #[inline]
    pub(crate) fn push(&self, completion: Completion) -> Result<(), Completion> {
        debug_assert!(completion.is_of(self.home()));
        // SAFETY: whoever set it promised that it lives.
        match unsafe { self.stack.get().as_ref() } {
            // SAFETY: this worker's, which this thread is; and its port's, as the caller says.
            Some(stack) => unsafe { stack.push(completion) },
            None => Err(completion),
        }
    }

    /// What comes next by itself: the youngest of its stack, if it has one, keeps nothing, and it is not the strategy's turn.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Completion> {
        if self.picks.get() % ASK_EVERY == 0 || !self.kept.is_empty() {
            return None;
        }
        self.stacked()?.pop()
    }

    /// What is on its stack, if it has one.
    #[inline(always)]
    pub(crate) fn stacked(&self) -> Option<Stacked<'_>> {
        // SAFETY: whoever set it promised that it lives.
        let stack = unsafe { self.stack.get().as_ref() }?;
        Some(Stacked { stack, local: self })
    }

    /// How many picks there are before the one that is the strategy's turn.
    pub(crate) fn picks_to_strategy(&self) -> usize {
        ASK_EVERY - 1 - self.picks.get() % ASK_EVERY
    }

    /// What comes next by itself of what the worker keeps, if it is not the strategy's turn.
    #[inline]
    pub(crate) fn pop_kept(&self) -> Option<Completion> {
        if self.picks.get() % KEPT_IN_A_ROW == 0 {
            return None;
        }
        self.kept.pop_front()
    }

    /// Enters a piece of work in the books.
    #[inline]
    pub(crate) fn create(&self) {
        self.books().create();
    }

    /// Crosses a piece of work off, after everything that it created was entered.
    #[inline]
    pub(crate) fn finish(&self) {
        self.books().finish();
    }

    /// The home of the port that it works for.
    #[inline]
    pub(crate) fn home(&self) -> &Home {
        // SAFETY: whoever made it has the port, which keeps the home, for as long as the thread works.
        unsafe { &*self.home }
    }

    /// Runs `f` with the worker that this thread is, if it is one.
    #[inline]
    pub(crate) fn current<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
        let current = CURRENT.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: set by `enter` alone, which borrows the local for as long as it is current, on this very thread.
        f(unsafe { current.as_ref() })
    }

    /// The workers that this thread is, the innermost first.
    fn chain<'a>() -> impl Iterator<Item = &'a Self> {
        let innermost = ENTERED.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: `enter` alone makes links, and takes each out of the chain before it goes, on this very thread.
        let link = |entered: *const Entered| unsafe { entered.as_ref() };
        std::iter::successors(link(innermost), move |entered| link(entered.outer))
            // SAFETY: `enter` borrows the local for as long as its link is there.
            .map(|entered| unsafe { &*entered.local })
    }

    /// As [`with`](Self::with), also if this thread has become the worker of another port since, further up on its stack.
    pub(crate) fn with_any<R>(home: &Home, f: impl FnOnce(Option<&Local>) -> R) -> R {
        f(Self::chain().find(|local| ptr::eq(local.home, home)))
    }

    /// Runs `f` with the worker that this thread is for `home`, if it is one.
    #[inline]
    pub(crate) fn with<R>(home: &Home, f: impl FnOnce(Option<&Local>) -> R) -> R {
        Self::current(|local| f(local.filter(|local| ptr::eq(local.home, home))))
    }

    /// Runs `f` with the worker that this thread is for the port of that number, if it is one.
    #[inline]
    pub(crate) fn with_port<R>(port: u32, f: impl FnOnce(Option<&Local>) -> R) -> R {
        let current = CURRENT.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: as in `with`.
        let local = unsafe { current.as_ref() };
        f(local.filter(|local| local.port == port))
    }

    /// Enters a piece of work in the books, as this thread.
    #[inline]
    pub(crate) fn created(home: &Home) {
        Self::with(home, |local| match local {
            Some(local) => local.create(),
            None => home.ledger.created(None),
        });
    }

    /// Crosses a piece of work off, if this thread is a worker of the home's port.
    #[inline]
    pub(crate) fn finished(home: &Home) -> bool {
        Self::with(home, |local| match local {
            Some(local) => {
                local.finish();
                true
            }
            None => false,
        })
    }
}

// How many outputs in a row this thread, as no worker, has taken that were there at once.
thread_slot!(AT_ONCE: Cell<usize> = Cell::new(0));

impl Local {
    /// Whether a future on this thread may go on with an output that was there at once: a worker has one more of its turn for that. If not,
    /// others come first.
    pub(crate) fn may_go_on(home: &Home) -> bool {
        Self::with(home, |local| match local {
            Some(local) => {
                let left = local.turn_left.get();
                local.turn_left.set(left.saturating_sub(1));
                left > 0
            }
            None => {
                let taken = AT_ONCE.try_with(|taken| {
                    let before = taken.get();
                    taken.set(if before < home.turn { before + 1 } else { 0 });
                    before
                });
                taken.is_ok_and(|before| before < home.turn)
            }
        })
    }
}

/// A strand that is held on this thread: a link of the chain of them, the innermost first. It stands on the stack of who holds it.
#[derive(Debug)]
pub(crate) struct Held {
    strand: *const (),
    outer: *const Held,
}

thread_pointer!(HELD: Held);

impl Held {
    /// Runs `f` with the strand of that address held on this thread, also if it panics.
    #[inline]
    pub(crate) fn enter<R>(strand: *const (), f: impl FnOnce() -> R) -> R {
        struct Leave(*const Held);
        impl Drop for Leave {
            fn drop(&mut self) {
                HELD.with(|held| held.set(self.0));
            }
        }
        let outer = HELD.with(Cell::get);
        let held = Self { strand, outer };
        HELD.with(|innermost| innermost.set(&raw const held));
        let _leave = Leave(outer);
        f()
    }

    /// Whether the strand of that address is held on this thread.
    pub(crate) fn holds(strand: *const ()) -> bool {
        Self::chain().any(|held| held.strand == strand)
    }

    /// How many strands are held on this thread.
    pub(crate) fn depth() -> usize {
        Self::chain().count()
    }

    fn chain<'a>() -> impl Iterator<Item = &'a Self> {
        let innermost = HELD.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: `enter` alone makes links, and takes each out of the chain before it goes, on this very thread.
        let link = |held: *const Self| unsafe { held.as_ref() };
        std::iter::successors(link(innermost), move |held| link(held.outer))
    }
}

/// Whether this thread runs a handler of a strand: such a thread must not run others meanwhile.
pub(crate) fn strands_held() -> bool {
    Held::depth() > 0
}
