//! The loom switch: the one place that names the standard library's, `parking_lot`'s or loom's
//! synchronisation and threads.
//!
//! Everything concurrent in this crate takes its atomics, locks, cells and threads from here, so that
//! the models in `loom-tests` run the very code that ships. Under `--cfg proactor_loom` they are loom's.
//!
//! What differs under the cfg is chosen so that a model sees more, never less: a [`Condvar`] wakes without cause when the
//! model asks for it (`spurious`); time is the model's (`ticks`, `set_clock`); cells serve again only where that is what is
//! looked at (`recycle`); a [`Trace`] tells of uses that nothing orders; and [`mutant`] lets a test leave out one step of a
//! protocol, to show that its model notices.

/// A lock that no model sees, for what is not part of a protocol; nothing of loom's happens while it is held.
pub(crate) use std::sync::Mutex as PlainMutex;
pub(crate) use std::sync::{Arc, OnceLock, Weak};

/// Threads and channels that no model sees: for who watches a model, or a strategy, from outside.
pub(crate) mod plain {
    pub(crate) use std::sync::MutexGuard;
    pub(crate) use std::sync::mpsc;
    pub(crate) use std::thread;
}

/// What strategies take from the switch: see `conformance::sync`.
pub(crate) mod switch {
    #[cfg(proactor_loom)]
    use loom::sync as seen;
    #[cfg(not(proactor_loom))]
    use std::sync as seen;

    pub use seen::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
}

/// A number that nobody else in this process gets.
pub(crate) fn fresh_id() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Remembers the first name that it is shown. Not part of a protocol, so no model sees it.
#[derive(Debug)]
pub(crate) struct Mark(std::sync::atomic::AtomicU64);

impl Mark {
    pub(crate) const fn new() -> Self {
        Self(std::sync::atomic::AtomicU64::new(0))
    }

    /// The first name, or 0.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether `name` is the first that came, or was first just now.
    #[inline]
    pub(crate) fn is(&self, name: u64) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let first = self.get();
        first == name || (first == 0 && self.0.compare_exchange(0, name, Relaxed, Relaxed).is_ok())
    }
}

#[cfg(not(proactor_loom))]
mod imp {
    use std::time::Instant;

    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread::{self, scope, yield_now};

    /// Starts a thread that may borrow what outlives `scope`.
    pub(crate) fn spawn_scoped<'scope, F, T>(
        builder: thread::Builder,
        scope: &'scope thread::Scope<'scope, '_>,
        f: F,
    ) -> std::io::Result<thread::ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        builder.spawn_scoped(scope, f)
    }

    /// A lock without poisoning: a panic while it is held leaves the data as they are.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);
    pub(crate) type MutexGuard<'a, T> = parking_lot::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) const fn new() -> Self {
            Self(parking_lot::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        /// Waits until notified or until `deadline`; the second value says whether time ran out.
        pub(crate) fn wait_until<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            deadline: Instant,
        ) -> (MutexGuard<'a, T>, bool) {
            let result = self.0.wait_until(&mut guard, deadline);
            (guard, result.timed_out())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A pointer that each thread has one of, null at first.
    macro_rules! thread_pointer {
        ($name:ident: $target:ty) => {
            ::std::thread_local! {
                static $name: ::std::cell::Cell<*const $target> = const { ::std::cell::Cell::new(::std::ptr::null()) };
            }
        };
    }
    pub(crate) use thread_pointer;

    /// Something that each thread has one of.
    macro_rules! thread_slot {
        ($name:ident: $type:ty = $init:expr) => {
            ::std::thread_local! {
                static $name: $type = const { $init };
            }
        };
    }
    pub(crate) use thread_slot;

    /// A [`PlainMutex`] that a model sees if it asked for cells to be recycled; a panic while it is held leaves the data as
    /// they are.
    pub(crate) struct QuietMutex<T>(std::sync::Mutex<T>);
    pub(crate) type QuietGuard<'a, T> = std::sync::MutexGuard<'a, T>;

    impl<T> QuietMutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> QuietGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// Whether cells serve again. Always: only models do without.
    #[inline(always)]
    pub(crate) const fn recycles() -> bool {
        true
    }

    /// Nothing; in a model, a place of which loom says so if two threads use and change it without an order between them.
    #[derive(Debug, Default)]
    pub(crate) struct Trace;

    impl Trace {
        #[inline(always)]
        pub(crate) const fn new() -> Self {
            Self
        }

        /// What it stands for is used.
        #[inline(always)]
        #[allow(clippy::unused_self)]
        pub(crate) const fn used(&self) {}

        /// What it stands for changes.
        #[inline(always)]
        #[allow(clippy::unused_self)]
        pub(crate) const fn changed(&self) {}
    }

    /// A cell whose accesses loom would see; here a plain one, with the same interface.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// The value of a counter that nobody else writes now: its owner, or whoever has its lock, asks.
    #[inline(always)]
    pub(crate) fn own(counter: &atomic::AtomicUsize) -> usize {
        counter.load(atomic::Ordering::Relaxed)
    }

    /// A first guess of a word that a compare-exchange then corrects.
    #[inline(always)]
    pub(crate) fn guess(word: &atomic::AtomicU64) -> u64 {
        word.load(atomic::Ordering::Relaxed)
    }

    /// As `guess`, of a pointer.
    #[inline(always)]
    pub(crate) fn guess_pointer<T>(word: &atomic::AtomicPtr<T>) -> *mut T {
        word.load(atomic::Ordering::Relaxed)
    }

    /// Milliseconds since `epoch`.
    pub(crate) fn elapsed(epoch: Instant) -> u64 {
        u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Always false, and folded away: every step of every protocol is taken.
    #[inline(always)]
    pub(crate) const fn mutant(_name: &str) -> bool {
        false
    }
}

#[cfg(proactor_loom)]
mod imp {
    #![allow(unsafe_code)] // loom's read without synchronisation, threads that borrow

    use std::time::Instant;

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::model::Builder as Explorer;
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::thread::yield_now;
    pub(crate) use scoped::{scope, spawn_scoped};
    pub(crate) mod thread {
        pub(crate) use loom::thread::{Builder, JoinHandle, Thread, current};
    }

    /// loom's lock behind the interface that the production one has.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// Knows its lock, so that a wait without a sleep can let it go and take it again.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        guard: loom::sync::MutexGuard<'a, T>,
        lock: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.guard(self.0.lock())
        }

        fn guard<'a>(
            &'a self,
            locked: std::sync::LockResult<loom::sync::MutexGuard<'a, T>>,
        ) -> MutexGuard<'a, T> {
            let guard = locked.unwrap_or_else(|poisoned| poisoned.into_inner());
            MutexGuard { guard, lock: self }
        }
    }

    impl<'a, T> MutexGuard<'a, T> {
        /// Lets go of the lock, lets others go first, and takes it again.
        fn step_aside(self) -> Self {
            let lock = self.lock;
            drop(self);
            loom::thread::yield_now();
            lock.lock()
        }
    }

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        /// A wait that may end for no reason: the first waits of an execution return at once when the
        /// model asked for spurious returns ([`model::spurious`]).
        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            if model::take_spurious() {
                return guard.step_aside();
            }
            let lock = guard.lock;
            lock.guard(self.0.wait(guard.guard))
        }

        /// Time is the model's: the wait times out at once while scripted ticks are left, and is untimed after.
        pub(crate) fn wait_until<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _deadline: Instant,
        ) -> (MutexGuard<'a, T>, bool) {
            if model::take_tick() {
                return (guard.step_aside(), true);
            }
            (self.wait(guard), false)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A pointer that each thread of a model has one of, null at first.
    macro_rules! thread_pointer {
        ($name:ident: $target:ty) => {
            ::loom::thread_local! {
                static $name: ::std::cell::Cell<*const $target> = ::std::cell::Cell::new(::std::ptr::null());
            }
        };
    }
    pub(crate) use thread_pointer;

    /// Something that each thread of a model has one of.
    macro_rules! thread_slot {
        ($name:ident: $type:ty = $init:expr) => {
            ::loom::thread_local! {
                static $name: $type = $init;
            }
        };
    }
    pub(crate) use thread_slot;

    /// A lock that a model sees if it asked for cells to be recycled, and else does not: what it guards would tie all threads
    /// of every model together, and hide races.
    pub(crate) struct QuietMutex<T> {
        value: std::sync::Mutex<T>,
        seen: Mutex<()>,
    }

    pub(crate) struct QuietGuard<'a, T> {
        value: std::sync::MutexGuard<'a, T>,
        // Let go last: who waits for it must find the other one free.
        _seen: Option<MutexGuard<'a, ()>>,
    }

    impl<T> QuietMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            let (value, seen) = (std::sync::Mutex::new(value), Mutex::new(()));
            Self { value, seen }
        }

        pub(crate) fn lock(&self) -> QuietGuard<'_, T> {
            let seen = (recycles() && !mutant("depot-unlocked")).then(|| self.seen.lock());
            let value = self
                .value
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            QuietGuard { value, _seen: seen }
        }
    }

    impl<T> std::ops::Deref for QuietGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.value
        }
    }

    impl<T> std::ops::DerefMut for QuietGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.value
        }
    }

    /// A place of which loom says so if two threads use and change it without an order between them.
    #[derive(Debug, Default)]
    pub(crate) struct Trace(UnsafeCell<()>);

    impl Trace {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        /// What it stands for is used.
        pub(crate) fn used(&self) {
            self.0.with(|_| ());
        }

        /// What it stands for changes.
        pub(crate) fn changed(&self) {
            self.0.with_mut(|_| ());
        }
    }

    /// Whether cells serve again: only in the model that is about that, since a cell that was somebody's before carries
    /// causality that would hide a race.
    pub(crate) fn recycles() -> bool {
        model::is_recycling()
    }

    /// The value of a counter that nobody else writes now: its owner, or whoever has its lock, asks.
    ///
    /// Not a load that loom knows of: loom remembers only the last access of a location, so a load right before this thread's
    /// own store would hide the orders in which that store precedes another thread's load.
    pub(crate) fn own(counter: &atomic::AtomicUsize) -> usize {
        // SAFETY: nobody writes it now, says the caller; loom checks that.
        unsafe { counter.unsync_load() }
    }

    /// A first guess of a word that a compare-exchange then corrects. A write that changes nothing, for the reason that
    /// `own` gives; the compare-exchange that follows orders as much.
    pub(crate) fn guess(word: &atomic::AtomicU64) -> u64 {
        word.fetch_add(0, atomic::Ordering::Relaxed)
    }

    /// As `guess`, of a pointer.
    pub(crate) fn guess_pointer<T>(word: &atomic::AtomicPtr<T>) -> *mut T {
        let null = std::ptr::null_mut();
        let relaxed = atomic::Ordering::Relaxed;
        word.compare_exchange(null, null, relaxed, relaxed)
            .unwrap_or_else(|now| now)
    }

    /// Milliseconds since the beginning, by the model's clock.
    pub(crate) fn elapsed(_epoch: Instant) -> u64 {
        model::clock()
    }

    /// Whether the step of that name is to be left out, so that its model can be seen to notice.
    pub(crate) fn mutant(name: &str) -> bool {
        model::mutant_is(name)
    }

    /// Threads that borrow: loom has none, so here they are lent for longer, and each must be joined within its scope.
    mod scoped {
        use super::thread;
        use std::cell::Cell;
        use std::mem::transmute;

        /// How many of its threads are not joined yet.
        pub(crate) struct Scope(Cell<usize>);

        pub(crate) struct Joined<'scope, T>(thread::JoinHandle<T>, &'scope Scope);

        impl<T> Joined<'_, T> {
            pub(crate) fn join(self) -> std::thread::Result<T> {
                self.1.0.set(self.1.0.get() - 1);
                self.0.join()
            }
        }

        impl Drop for Scope {
            fn drop(&mut self) {
                if self.0.get() > 0 {
                    std::process::abort(); // A thread that was not joined borrows what is about to go.
                }
            }
        }

        pub(crate) fn scope<R>(f: impl FnOnce(&Scope) -> R) -> R {
            f(&Scope(Cell::new(0)))
        }

        pub(crate) fn spawn_scoped<'scope, F, T>(
            builder: thread::Builder,
            scope: &'scope Scope,
            f: F,
        ) -> std::io::Result<Joined<'scope, T>>
        where
            F: FnOnce() -> T + Send,
            T: Send + 'static,
        {
            let f: Box<dyn FnOnce() -> T + Send + '_> = Box::new(f);
            // SAFETY: the thread is joined within the scope, or the process ends with it, so what it borrows outlives it.
            let f: Box<dyn FnOnce() -> T + Send + 'static> = unsafe { transmute(f) };
            scope.0.set(scope.0.get() + 1);
            Ok(Joined(builder.spawn(f)?, scope))
        }
    }

    /// What a model sets before it runs. loom runs all threads of a model on one thread of the system, which these belong to.
    #[expect(unreachable_pub, reason = "`crate::model` hands these on")]
    pub mod model {
        use std::cell::{Cell, RefCell};

        ::std::thread_local! {
            static MUTANT: RefCell<Option<String>> = const { RefCell::new(None) };
            static SPURIOUS: Cell<usize> = const { Cell::new(0) };
            static TICKS: Cell<usize> = const { Cell::new(0) };
            static RECYCLING: Cell<bool> = const { Cell::new(false) };
            static CLOCK: Cell<u64> = const { Cell::new(0) };
            static LIVING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        }

        fn take(counter: &Cell<usize>) -> bool {
            let left = counter.get();
            counter.set(left.saturating_sub(1));
            left > 0
        }

        /// Leaves out the protocol step of that name, in this model, until told otherwise.
        pub fn set_mutant(name: Option<&str>) {
            MUTANT.with(|mutant| *mutant.borrow_mut() = name.map(str::to_owned));
        }

        pub(super) fn mutant_is(name: &str) -> bool {
            MUTANT.with(|mutant| mutant.borrow().as_deref() == Some(name))
        }

        /// How many condvar waits of this execution return without cause.
        pub fn spurious(count: usize) {
            SPURIOUS.with(|left| left.set(count));
        }

        /// How many timed waits of this execution run out of time.
        pub fn ticks(count: usize) {
            TICKS.with(|left| left.set(count));
        }

        /// Whether cells serve again once they are free.
        pub fn recycle(whether: bool) {
            RECYCLING.with(|recycling| recycling.set(whether));
        }

        pub(super) fn is_recycling() -> bool {
            RECYCLING.with(Cell::get)
        }

        /// What the model's clock shows, in milliseconds after the beginning.
        pub fn set_clock(millis: u64) {
            CLOCK.with(|clock| clock.set(millis));
        }

        /// What lives, by its address.
        pub(crate) fn born<T>(it: &T) {
            LIVING.with(|living| living.borrow_mut().push(std::ptr::from_ref(it).addr()));
        }

        pub(crate) fn died<T>(it: &T) {
            let it = std::ptr::from_ref(it).addr();
            LIVING.with(|living| living.borrow_mut().retain(|&other| other != it));
        }

        pub(crate) fn lives<T>(it: &T) -> bool {
            let it = std::ptr::from_ref(it).addr();
            LIVING.with(|living| living.borrow().contains(&it))
        }

        pub(super) fn clock() -> u64 {
            CLOCK.with(Cell::get)
        }

        pub(super) fn take_spurious() -> bool {
            SPURIOUS.with(take)
        }

        pub(super) fn take_tick() -> bool {
            TICKS.with(take)
        }
    }
}

pub(crate) use imp::*;
