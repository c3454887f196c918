//! The completion port: where operations go in and completions come out.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | [`CompletionPort`] and the way of a completion: initiation, backend, strategy |
//! | `direct.rs` | the short way of an operation that finds its direction free; attempts |
//! | `repeat.rs` | operations that are begun again in their cell |
//! | `post.rs` | posting calls, and how many may come from outside |
//! | `affinity.rs` | calls for one worker alone |
//! | `seat.rs` | waiting by hand: [`Seat`], [`Batch`] |
//! | `sleep.rs` | seats, parking, waking, promotion |
//! | `worker.rs` | a worker's loop |
//! | `pool.rs` | who may be a worker, and how a run ends |
//! | `timers.rs`, `wheel.rs` | timers and time limits |
//! | `deadline.rs` | a deadline that can be moved, and the waits on it |
//! | `lane.rs` | threads for calls that block |
//! | `cancel.rs` | asking operations to end |
//! | `token.rs`, `compose.rs` | cancelling many at once; operations that are completed by hand |
//! | `tasks.rs` | spawned futures, and their end |
//! | `permits.rs` | how many handlers are runnable |
//! | `object.rs` | handles on what the port knows |
//! | `poll.rs` | calls of whoever lends a buffer, and the notices that wait for them |
//! | `dispatcher.rs` | the strategy trait |
#![allow(unsafe_code)] // entries and workers keep the port alive without a counted pointer

pub(crate) mod affinity;
mod cancel;
pub(crate) mod compose;
pub(crate) mod deadline;
mod direct;
pub(crate) mod dispatcher;
pub(crate) mod lane;
pub(crate) mod object;
pub(crate) mod permits;
mod poll;
pub(crate) mod pool;
mod post;
pub(crate) mod repeat;
pub(crate) mod seat;
pub(crate) mod sleep;
pub(crate) mod tasks;
pub(crate) mod timers;
pub(crate) mod token;
pub(crate) mod weak;
pub(crate) mod wheel;
pub(crate) mod worker;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::backend::readiness::Hold;
use crate::backend::registry::{EntryRef, Fd};
use crate::backend::{Backend, Outcome};
use crate::cell::{Home, Owner, Ptr, header, phase};
use crate::completion::Completion;
#[cfg(not(proactor_loom))]
use crate::error::BuildError;
use crate::error::Error;
use crate::id::Kind;
use crate::local::Local;
use crate::operation::{self, Admitted, OperationKey, part};
use crate::queue::List;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Weak, mutant};
use affinity::Affinity;
pub use cancel::CancelOutcome;
use dispatcher::{Dispatcher, Origin, Placed, Worker};
use lane::Lane;
use permits::Permits;
use pool::{Knobs, Pool};
use sleep::Sleep;
use tasks::Tasks;
use timers::Timers;
pub(crate) use weak::WeakPort;

/// The shared queue and demultiplexer: operations are submitted to it, calls posted, and completions come out where the
/// strategy sends them. A cheap clone; usable from any thread.
///
/// A [`Proactor`](crate::Proactor) has one and runs it. It can also be used alone, like an I/O completion port:
/// threads of your own take completions from it and run them.
///
/// ```
/// use proactor::{Batch, CompletionPort};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let port = CompletionPort::new()?;
/// let elsewhere = port.clone();
/// std::thread::spawn(move || elsewhere.post(|| println!("runs where the port is served")));
/// let mut batch = Batch::new();
/// let mut ran = 0;
/// while ran == 0 {
///     if let Some(seat) = port.seat() {
///         seat.reap(&mut batch, None)?; // waits; the seat is free again before anything runs
///     }
///     ran += batch.drain().map(|completion| usize::from(completion.run())).sum::<usize>();
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CompletionPort(pub(crate) Arc<Inner>);

/// What all clones of a port share.
pub(crate) struct Inner {
    pub(crate) home: Arc<Home>,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) dispatcher: Box<dyn Dispatcher>,
    pub(crate) affinity: Affinity,
    pub(crate) sleep: Sleep,
    pub(crate) timers: Timers,
    pub(crate) pool: Pool,
    pub(crate) permits: Permits,
    pub(crate) lane: Arc<Lane>,
    pub(crate) composed: compose::Table,
    pub(crate) tasks: Arc<Tasks>,
    /// Why nobody may run, as bits of [`halt`].
    halt: AtomicUsize,
    pub(crate) closed: AtomicBool,
    /// How often `discard` was asked for since it last went through.
    discards: AtomicUsize,
    /// Whether nobody works here but those who take completions by hand.
    by_hand: bool,
    /// What the strategy said of itself.
    finishes_in_turn: bool,
    keeps_reaped: bool,
}

/// Why nobody may run a port's handlers.
pub(crate) mod halt {
    /// Somebody said `stop`.
    pub(crate) const STOPPED: usize = 1;
    /// A handler panicked, and the others of its run are to return.
    pub(crate) const PANICKED: usize = 2;
    /// The proactor is gone: what comes now is dropped.
    pub(crate) const ENDED: usize = 4;
}

impl Inner {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        dispatcher: Box<dyn Dispatcher>,
        knobs: Knobs,
        by_hand: bool,
    ) -> Arc<Self> {
        let workers = knobs.workers.get();
        let home = Home::new(workers, knobs.max_pending, knobs.turn_budget);
        let inner = Arc::new(Self {
            affinity: Affinity::new(if by_hand { 0 } else { workers }),
            sleep: Sleep::new(workers, backend.seats(), backend.promotes_at_once()),
            timers: Timers::new(),
            permits: Permits::new(
                workers,
                knobs.concurrency.map_or(workers, NonZeroUsize::get),
            ),
            pool: Pool::new(knobs),
            lane: Arc::default(),
            composed: compose::Table::default(),
            tasks: Tasks::new(),
            halt: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            discards: AtomicUsize::new(0),
            by_hand,
            finishes_in_turn: dispatcher.finishes_in_turn(),
            keeps_reaped: dispatcher.keeps_reaped() && workers == 1,
            home,
            backend,
            dispatcher,
        });
        let me: Weak<Self> = Arc::downgrade(&inner);
        let _ = inner.home.owner.set(Owner { port: me });
        inner
    }

    /// What an open entry does when it is vacated: see `open`.
    pub(crate) fn let_go(owner: *const ()) {
        // SAFETY: `open` made the count with `Arc::into_raw`, once for each entry, and this is called once for each.
        drop(unsafe { Arc::from_raw(owner.cast::<Self>()) });
    }

    /// Brings a descriptor in.
    ///
    /// `drains` says that a short read means that there was no more: true of TCP, not of every socket.
    pub(crate) fn open(self: &Arc<Self>, fd: Fd, drains: bool) -> Result<EntryRef, Error> {
        let closed = || Error::new(crate::error::ErrorKind::Closed, Kind::Register);
        if self.closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        self.sleep.want();
        let owner = Arc::into_raw(Arc::clone(self)).cast::<()>();
        let entry = self.backend.open(fd, drains, owner).map_err(|error| {
            Self::let_go(owner);
            Error::from_io(Kind::Register, &error)
        })?;
        // `close` says that it closes, and then looks for entries, under the locks that made this one: one of the two sees the
        // other.
        if self.closed.load(Ordering::Relaxed) && !mutant("open-unseen") {
            let generation = entry.generation.load(Ordering::Relaxed);
            self.backend.close(entry, generation, &List::new());
            self.backend.release(entry);
            return Err(closed());
        }
        Ok(entry)
    }

    /// Hands a cell to the backend, and on with what comes back at once.
    #[inline]
    pub(crate) fn submit(&self, cell: Ptr, entry: EntryRef) {
        if header(cell).vtable().repeats.is_some() {
            return self.begin_repeating(cell, entry);
        }
        self.carried_out(self.backend.submit(cell, entry));
    }

    /// Hands on what the backend gave back.
    #[inline]
    fn carried_out(&self, Outcome { done, hold }: Outcome) {
        if let Some(done) = done {
            self.complete(done, hold);
        }
    }

    /// Where a timer is about to be armed; sees to it that somebody sits to hear of it.
    pub(crate) fn alarm(&self) -> &dyn Backend {
        self.sleep.want();
        &*self.backend
    }

    /// Arms a timer operation.
    pub(crate) fn arm(&self, cell: Ptr, at: Instant) {
        // SAFETY: the cell was placed by the caller as a timer operation's, and is nobody else's yet.
        let over = unsafe { self.timers.arm(self.alarm(), cell, at) };
        if let Some(over) = over {
            self.complete(over, None);
        }
    }

    /// Ends an operation that was not submitted.
    pub(crate) fn fail(&self, cell: Ptr, raw: i64) {
        // SAFETY: the cell was placed by the caller, and is nobody else's yet; its result is open.
        let done = unsafe { operation::complete(cell, raw) };
        self.complete(done, None);
    }

    /// Limits an operation that is about to be submitted.
    pub(crate) fn limit(&self, cell: Ptr, after: Duration) {
        let at = timers::from_now(after);
        // SAFETY: the cell was placed by the caller, and is nobody else's yet.
        let part = unsafe { part(cell) };
        self.timers
            .limit(self.alarm(), &self.home, cell, at, |limit, generation| {
                part.set_limit(limit, generation);
            });
    }

    /// Whether nobody may run, for whatever reason.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_halted_by(usize::MAX)
    }

    /// Whether nobody may run for one of these reasons. Acquire, the other half of the Release in `raise`: who returns for a stop has
    /// seen what came before it.
    #[inline]
    fn is_halted_by(&self, reasons: usize) -> bool {
        self.halt.load(Ordering::Acquire) & reasons != 0
    }

    /// Whether everything is closed, and what is initiated now ends as that.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether the proactor is gone.
    #[inline]
    pub(crate) fn is_ended(&self) -> bool {
        self.halt.load(Ordering::Relaxed) & halt::ENDED != 0
    }

    /// Gives a reason why nobody may run, and tells everybody.
    pub(crate) fn raise(&self, reason: usize) {
        self.halt.fetch_or(reason, Ordering::Release);
        self.tell_all();
        self.open_door();
    }

    /// Takes a reason back.
    pub(crate) fn lower(&self, reason: usize) {
        self.halt.fetch_and(!reason, Ordering::Relaxed);
        if !mutant("restart-calls-nobody") {
            self.pool.call_guests();
        }
    }

    /// Has everybody who sleeps or waits here look again.
    pub(crate) fn tell_all(&self) {
        if !mutant("end-wakes-nobody") {
            self.sleep.wake_all(&*self.backend);
        }
        self.pool.call_guests();
    }

    /// Sends a finished operation where it belongs, and then lets its direction go.
    pub(crate) fn complete(&self, done: Completion, hold: Option<Hold>) {
        self.lift_limit(&done);
        let had = self.had(&done);
        match operation::admit(done) {
            Admitted::Unbound(done) => self.hand(done, Route::Finished),
            // For any thread to take: its strand must not wait for the handler that this thread is in.
            Admitted::Served(done) => self.hand(done, Route::Posted),
            Admitted::Waits => {}
        }
        self.next(hold);
        self.let_have(had);
    }

    /// Lets a direction go, and sends the operation that is due then.
    pub(crate) fn next(&self, hold: Option<Hold>) {
        if let Some(due) = hold.and_then(|hold| self.backend.next(hold)) {
            self.hand(due, Route::Posted);
        }
    }

    /// The operation is over: so is its time limit.
    #[inline]
    pub(crate) fn lift_limit(&self, done: &Completion) {
        if done.kind() == Kind::Post || mutant("limit-not-lifted") {
            return;
        }
        // SAFETY: an operation's cell, which `done` owns.
        if let Some((limit, generation)) = unsafe { part(done.ptr()) }.take_limit() {
            timers::lift(&self.home, limit, generation);
        }
    }

    /// Gives a completion to the strategy, as coming from this thread, and wakes somebody if that is needed.
    pub(crate) fn hand(&self, completion: Completion, route: Route) {
        let Some(completion) = self.deliver(completion) else {
            return;
        };
        Local::with(&self.home, |local| {
            let origin = match (local, route) {
                (None, _) | (_, Route::Outside) => Origin::Outside,
                (Some(local), Route::Posted) => Origin::Posted(Worker::new(local)),
                (Some(local), Route::Finished) => Origin::Finished(Worker::new(local)),
            };
            self.place(completion, origin);
        });
    }

    /// As `hand`, of what any worker may run, and from there.
    #[inline]
    pub(crate) fn place(&self, completion: Completion, origin: Origin<'_>) {
        if self.dispatcher.dispatch(completion, origin) == Placed::Shared {
            self.tell_one();
        }
    }

    /// Something was made visible.
    #[inline]
    pub(crate) fn tell_one(&self) {
        self.wake_one();
        self.discard_late();
    }

    /// Drops what was pushed just now, and could be left otherwise, if the port ends. After the push and a fence, so that either
    /// this thread or whoever ends the port sees the other.
    #[inline]
    fn discard_late(&self) {
        if self.is_ended() && !mutant("late-push-stays") {
            self.discard();
        }
    }

    /// Sends all of `list`.
    pub(crate) fn hand_all(&self, list: List) {
        for done in list {
            self.complete(done, None);
        }
    }

    /// A foreign loop will wait on the port's descriptor: from now on the bell is for it, too, and first for what was there before.
    pub(crate) fn welcome_foreign_loop(&self) {
        if self.sleep.is_foreign() && (!self.dispatcher.is_empty() || self.affinity.is_any()) {
            self.sleep.wake_one(&*self.backend);
        }
    }

    /// Whether worker `index`, about to sleep, must not. For who has announced that, and fenced.
    #[inline]
    pub(crate) fn is_restless(&self, index: usize) -> bool {
        self.has_work_for(index) || self.home.ledger.is_settled_by_now()
    }

    /// Whether there is something to run for worker `index`.
    #[inline]
    pub(crate) fn has_work_for(&self, index: usize) -> bool {
        self.has_work() || !(self.affinity.is_empty(index) || mutant("call-not-looked-for"))
    }

    /// Closes every object, and takes out every timer and blocking call that has not begun: cancelled, in the list.
    pub(crate) fn close(&self) -> List {
        self.closed.store(true, Ordering::Relaxed);
        self.open_door();
        let out = List::new();
        self.backend.close_all(&out);
        self.timers.drain(&self.home, &out);
        self.lane.close(&out);
        out
    }

    /// Drops everything that is held, uncalled, and closes. For the end: no handler runs any more. What a worker that is still at
    /// work holds, it drops as it leaves; what is pushed meanwhile, whoever has its place and waits in a handler, or leaves it (`Place`).
    pub(crate) fn discard(&self) {
        if self.discards.fetch_add(1, Ordering::Relaxed) > 0 {
            return; // Whoever is at it, also further up on this stack, goes another round.
        }
        let mut asked = 1;
        loop {
            // Before what they are made of is dropped: they end as cancelled, not as abandoned.
            self.tasks.end_all();
            self.cancel_composed();
            // All let go before the first is dropped, which may panic.
            let closed = List::new();
            for done in self.close() {
                self.lift_limit(&done);
                self.let_have(self.had(&done));
                closed.push_back(done);
            }
            drop(closed);
            // Each place at once: a strategy's `next` is for whoever has the place.
            let places: Vec<_> = std::iter::from_fn(|| self.pool.claim()).collect();
            for place in &places {
                let local = Local::new(&self.home, place.index, self.pool.knobs.workers.get());
                while let Some(held) = self.dispatcher.next(Worker::new(&local)) {
                    drop(held);
                }
            }
            drop(places);
            self.affinity.take_all().for_each(drop);
            if !self.dispatcher.is_empty() && !mutant("end-calls-no-waiter") {
                // It is for a worker that waits within a handler, and so has the place.
                self.pool.call_guests();
            }
            match self
                .discards
                // Acquire, for the fence between a push and its asking (`wake_one`): the next round sees the push.
                .compare_exchange(asked, 0, Ordering::Relaxed, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => asked = now,
            }
        }
    }
}

/// By which way a completion comes, said before it is known whether the thread is a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Outside,
    Posted,
    Finished,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No entry is open any more, since each holds the port. What the strategy still holds goes with it; the cells
        // that somebody else holds keep the home.
        self.discard();
        if self.home.ledger.outstanding() > 0 {
            std::mem::forget(Arc::clone(&self.home));
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("backend", &self.backend)
            .field("dispatcher", &self.dispatcher)
            .finish()
    }
}

impl CompletionPort {
    pub(crate) fn downgrade(&self) -> WeakPort {
        WeakPort {
            inner: Arc::downgrade(&self.0),
            number: self.0.home.id,
        }
    }

    /// A port to be used alone: completions wait in it until somebody takes them.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the descriptors that it stands on.
    #[cfg(not(proactor_loom))]
    pub fn new() -> Result<Self, BuildError> {
        use crate::backend;
        let backend = backend::make(backend::BackendKind::Auto, pool::MOST_SEATS, Inner::let_go)?;
        Ok(Self(Inner::new(
            backend,
            Box::new(seat::Waiting::default()),
            Knobs::default(),
            true,
        )))
    }

    /// Asks an operation to end; its handler gets an output all the same, and the output is what counts. A key of
    /// an operation that is over, or of another port, is too late.
    pub fn cancel(&self, key: OperationKey) -> CancelOutcome {
        self.0.cancel_key(key, phase::CANCEL)
    }

    /// Makes everyone who runs this port return soon, leaving what is ready. See [`Proactor::stop`](crate::Proactor::stop).
    pub fn stop(&self) {
        self.0.raise(halt::STOPPED);
    }

    /// Wakes one thread that waits in the port, or the next to come.
    pub fn notify(&self) {
        self.0.backend.notify();
    }

    /// Ends every pending [accept](crate::net::TcpListener::accept) as cancelled, and those that are initiated from now on as closed; all
    /// else goes on. Listeners stay open, so the system goes on to take connections in for them until they are
    /// [closed](crate::net::TcpListener::close) or dropped: close them where newcomers are to be refused at once. The first step of a
    /// graceful end, and of [`Proactor::shutdown`](crate::Proactor::shutdown).
    pub fn stop_accepting(&self) {
        let out = List::new();
        self.0.backend.stop_accepting(&out);
        self.0.hand_all(out);
    }

    /// Closes every object, and ends every outstanding operation and timer as cancelled. The handlers still run where they
    /// are run; operations that are initiated from now on end as closed.
    pub fn close(&self) {
        let out = self.0.close();
        self.0.hand_all(out);
        self.0.cancel_composed();
    }

    /// How many operations and calls are outstanding: initiated or posted, and their handlers not finished. A composed one counts beside
    /// its parts, and a [`WorkGuard`](crate::WorkGuard) as one, of which a started proactor has its own. A snapshot.
    pub fn outstanding(&self) -> usize {
        self.0.home.ledger.outstanding()
    }

    /// When somebody must look at the port's timers next, which may be before one expires: for a foreign event loop.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.timers.next_deadline()
    }
}

impl AsRef<CompletionPort> for CompletionPort {
    fn as_ref(&self) -> &CompletionPort {
        self
    }
}

/// The descriptor that becomes readable when the port has something to reap: for a foreign event loop. Made when it is first asked for;
/// that panics if the process may have no more descriptors.
#[cfg(all(
    target_os = "linux",
    not(polling_test_poll_backend),
    not(proactor_loom)
))]
impl std::os::fd::AsFd for CompletionPort {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.welcome_foreign_loop();
        // Both backends of this platform stand on epoll.
        match self.0.backend.as_fd() {
            Some(fd) => fd,
            None => panic!("the system gives no descriptor for a foreign loop"),
        }
    }
}

impl fmt::Debug for CompletionPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionPort")
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}
