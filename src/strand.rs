//! Strands: a state, and handlers that run on it one at a time, in order, on whichever threads.
//!
//! A strand is a line before the port. One of its calls at a time is let in: handed to the strategy like any other, and run by
//! whichever worker takes it. When that is over, however it ended, the next is let in. So nobody ever waits for a strand, and
//! strands share nothing with each other. Protocol: `docs/dispatch-protocols.md`, "A strand".
#![allow(unsafe_code)] // the state that one handler at a time may touch

mod bound;

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::ManuallyDrop;

use crate::completion::{self, Completion};
use crate::error::Full;
use crate::local::{Held, Local};
use crate::port::dispatcher::{Origin, Worker};
use crate::port::{CompletionPort, Inner, Route, WeakPort};
use crate::queue::Line;
use crate::sync::{Arc, Weak, mutant};
pub use bound::On;

/// How many strands [`Strand::dispatch`] enters one within the other on one thread, before it queues.
const NESTED: usize = 16;

/// Runs handlers one at a time, in order, and owns the state that they share. A cheap clone; usable from any thread.
///
/// Whatever is posted to it gets the state as `&mut T`, and nobody else does: so there is nothing to lock, and nothing to forget.
/// No thread ever waits for a strand; handlers do, each strand's in a queue of its own, and different strands have nothing in common.
/// While a strand is busy on one thread, other threads run other things.
///
/// It does not keep its port, and its port does not keep it; but each call that is queued does, and so does each operation that is
/// [bound](crate::Initiation::on) to it. A state that owns a stream whose handler holds the strand would so keep itself: hold a
/// [`WeakStrand`] there. The state is dropped with the last of them, on whichever thread that is.
///
/// A panic in one handler follows the proactor's [policy](crate::PanicPolicy); the state stays as that handler left it, and the
/// next handler gets it. If the proactor is dropped, what is queued is dropped uncalled.
///
/// After Asio's `strand`, which owns no state and shares its queue with other strands.
///
/// ```
/// use proactor::{Proactor, Strand};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let log = Strand::new(&proactor, Vec::new());
/// for number in 0..3 {
///     log.post(move |log| log.push(number)); // from any thread
/// }
/// proactor.run(); // on any threads
/// assert_eq!(log.try_into_inner().expect("the last handle"), [0, 1, 2]);
/// # Ok(())
/// # }
/// ```
///
/// The state cannot be reached but through the strand:
///
/// ```compile_fail,E0609
/// # use proactor::{Proactor, Strand};
/// # let proactor = Proactor::builder().build().unwrap();
/// let log = Strand::new(&proactor, vec![1]);
/// log.state.push(2); // no such way: `log.post(|log| log.push(2))`
/// ```
pub struct Strand<T>(Arc<Shared<T>>);

/// A strand that may be gone: for state that owns what its own handlers wait on, which would else keep itself alive.
///
/// ```
/// use proactor::{Proactor, Strand, WeakStrand};
/// use std::time::Duration;
///
/// struct Session {
///     seconds: u32,
/// }
///
/// fn tick(session: &Strand<Session>) {
///     let weak: WeakStrand<Session> = session.downgrade();
///     session.port().expect("this thread runs it").sleep(Duration::from_secs(1)).then(move |_| {
///         // Whoever had the session has dropped it: this was the last tick.
///         let Some(session) = weak.upgrade() else { return };
///         session.post(|session| session.seconds += 1);
///         tick(&session);
///     });
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let session = Strand::new(&proactor, Session { seconds: 0 });
/// let weak = session.downgrade();
/// tick(&session);
/// drop(session);
/// assert!(weak.upgrade().is_none()); // the pending tick does not keep it
/// # Ok(())
/// # }
/// ```
pub struct WeakStrand<T>(Weak<Shared<T>>);

struct Shared<T> {
    gate: Gate,
    /// The line's own handle, for as long as it is not free: so the calls that wait in it count nothing. For whoever has the turn.
    kept: Cell<Option<Arc<Self>>>,
    state: UnsafeCell<T>,
}

// SAFETY: state and handle are touched by whoever has the `Turn` alone, so they go from thread to thread, as `Send` allows, and are
// never on two; the rest is shared safely by itself.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The line before the port.
struct Gate {
    line: Line,
    port: WeakPort,
}

/// The right to touch the state, and the duty to let the next call in: whoever drops it does that.
struct Turn<T> {
    /// Which lives until the turn has ended, since somebody has a handle of it: the line, or whose turn it is.
    strand: *const Shared<T>,
    /// How the next one comes to the port.
    next_by: Route,
}

impl<T> Drop for Turn<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the turn, and it ends here.
        unsafe { Shared::let_next_in(self.strand, self.next_by) };
    }
}

impl Gate {
    /// What this strand is called on the threads that hold it.
    #[inline]
    fn name(&self) -> *const () {
        (&raw const *self).cast()
    }

    /// Lets `next` in, if this thread works for the port; else gives it back.
    #[inline]
    fn let_in_here(&self, next: Completion, by: Route) -> Option<Completion> {
        self.port.with_local(next, |next, inner, local| {
            match by {
                Route::Outside => inner.place(next, Origin::Outside),
                // What follows from a handler runs next on its thread, as long as nothing else waits there for the same thread: or
                // two strands would wait for each other.
                Route::Finished if local.turn.is_empty() => inner.place_finished(next, local),
                Route::Finished | Route::Posted => {
                    inner.place(next, Origin::Posted(Worker::new(local)));
                }
            }
        })
    }
}

impl<T> Shared<T> {
    /// Lets the next call in, if there is one; the caller's turn ends. The strand may go with it.
    ///
    /// # Safety
    ///
    /// The caller has the turn, and the line or the caller a handle.
    #[inline]
    unsafe fn let_next_in(this: *const Self, by: Route) {
        // SAFETY: the caller's promise; whoever is let in below may let it go, and it is not used after that.
        let gate = unsafe { &(*this).gate };
        // SAFETY: the caller has the turn.
        let next = match unsafe { gate.line.next_at_hand() } {
            // The line is not free meanwhile, and keeps its handle.
            Some(next) => match gate.let_in_here(next, by) {
                None => return,
                elsewhere => elsewhere,
            },
            None => None,
        };
        // SAFETY: the caller's promise.
        unsafe { Self::let_next_in_fully(this, by, next) };
    }

    /// As `let_next_in`, where that has not `next` at hand, or does not know its way.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn let_next_in_fully(this: *const Self, by: Route, next: Option<Completion>) {
        // SAFETY: the caller's promise, as in `let_next_in`.
        let shared = unsafe { &*this };
        let port = shared.gate.port.reach();
        // Out of the line before that is free: the next to come puts its own there.
        let mut kept = shared.kept.take();
        // SAFETY: the caller has the turn.
        let look = || unsafe { shared.gate.line.next() };
        let mut next = next.or_else(look);
        while let Some(call) = next {
            // SAFETY: it was made by `Arc::new`, and somebody has a handle: the caller's promise.
            kept = kept.or_else(|| Some(unsafe { another_handle(this) }));
            shared.kept.set(kept.take());
            match port.inner() {
                Some(inner) => return inner.hand(call, route(inner, by)),
                None => {
                    // Not one within the other: the ticket of each sees that the strand is held here, and leaves the rest to us.
                    Held::enter(shared.gate.name(), || drop(call));
                    kept = shared.kept.take();
                }
            }
            next = look();
        }
        if mutant("strand-keeps-itself") {
            std::mem::forget(kept.take());
        }
        drop(kept);
    }
}

/// # Safety
///
/// `strand` was made by `Arc::new`, and somebody has a handle.
unsafe fn another_handle<T>(strand: *const Shared<T>) -> Arc<Shared<T>> {
    // SAFETY: the caller's promise.
    unsafe { Arc::increment_strong_count(strand) };
    // SAFETY: the count that was just made.
    unsafe { Arc::from_raw(strand) }
}

/// As in [`Gate::let_in_here`].
fn route(inner: &Inner, by: Route) -> Route {
    let first = || {
        Local::with(&inner.home, |local| {
            local.is_some_and(|local| local.turn.is_empty())
        })
    };
    if by == Route::Finished && !first() {
        Route::Posted
    } else {
        by
    }
}

/// A queued call.
struct Call<T, F> {
    call: F,
    ticket: Queued<T>,
}

/// What a call in the line holds: a turn, sooner or later. If it is dropped uncalled, its turn is over.
struct Queued<T>(*const Shared<T>);

// SAFETY: the strand may go from thread to thread, and the line keeps it until the turn has ended.
unsafe impl<T: Send> Send for Queued<T> {}

impl<T> Drop for Queued<T> {
    fn drop(&mut self) {
        // SAFETY: its turn is not over, so the line keeps the strand; nobody else has the turn, which is over here.
        unsafe { end_turn(self.0) };
    }
}

impl<T, F: FnOnce(&mut T)> Call<T, F> {
    /// Its turn has come: with it the handler ends, so what follows may stay with its thread.
    #[inline]
    fn run(self) {
        let Self { call, ticket } = self;
        let strand = ManuallyDrop::new(ticket).0;
        // SAFETY: its turn has come, and the line keeps the strand.
        unsafe { Shared::serve(strand, call, Route::Finished) };
    }
}

/// Ends the turn of what was dropped uncalled.
///
/// # Safety
///
/// As [`Shared::let_next_in`]; or this thread is in there, with the strand held, which then goes on by itself.
unsafe fn end_turn<T>(strand: *const Shared<T>) {
    // SAFETY: the caller's promise.
    let name = unsafe { &(*strand).gate }.name();
    // Held here already: `let_next_in` drops one after the other.
    if !Held::holds(name) && !mutant("strand-dropped-alone") {
        drop(Turn {
            strand,
            next_by: Route::Outside,
        });
    }
}

impl<T> Shared<T> {
    /// Runs `call`, for which the line has been passed; then lets the next in.
    ///
    /// # Safety
    ///
    /// As [`let_next_in`](Self::let_next_in).
    #[inline]
    unsafe fn serve(this: *const Self, call: impl FnOnce(&mut T), next_by: Route) {
        let turn = Turn {
            strand: this,
            next_by,
        };
        let served = || {
            // SAFETY: the caller's promise: it lives until `turn` has ended.
            let shared = unsafe { &*this };
            // SAFETY: whoever the line serves is alone with the state, until `turn` ends its turn.
            let state = unsafe { &mut *shared.state.get() };
            Held::enter(shared.gate.name(), || call(state));
        };
        if mutant("strand-wedged-by-panic") {
            let turn = ManuallyDrop::new(turn);
            served();
            drop(ManuallyDrop::into_inner(turn));
        } else {
            served(); // and then `turn` goes, also when the call panics
        }
    }
}

impl<T: Send + 'static> Strand<T> {
    /// A strand with that state, whose handlers run where `port` has them run. Allocates once: 64 bytes and the state.
    pub fn new(port: &impl AsRef<CompletionPort>, state: T) -> Self {
        Self(Arc::new(Shared {
            gate: Gate {
                line: Line::new(),
                port: port.as_ref().downgrade(),
            },
            kept: Cell::new(None),
            state: UnsafeCell::new(state),
        }))
    }

    /// Queues `call`, which gets the state when its turn has come: after what was queued before, never inside this call. From any
    /// thread, also from the strand's own handlers. Allocates only if what `call` captures is larger than 216 bytes, or more calls
    /// wait than ever before. It is outstanding work until it has run, and one handler to whoever counts them. If the port is gone,
    /// `call` is dropped. Blocks where [`CompletionPort::post`] does: outside of handlers, for room below
    /// [`max_pending`](crate::Builder::max_pending).
    pub fn post<F: FnOnce(&mut T) + Send + 'static>(&self, call: F) {
        self.0.gate.port.with(|inner| {
            if let Some(inner) = inner {
                self.queue(inner, inner.enter(), call);
            }
        });
    }

    /// As [`post`](Self::post), but never blocks, and counts against [`max_pending`](crate::Builder::max_pending) from wherever it is
    /// called, as [`CompletionPort::try_post`].
    ///
    /// # Errors
    ///
    /// [`Full`], with the call in it, if as many are pending as may be.
    pub fn try_post<F: FnOnce(&mut T) + Send + 'static>(&self, call: F) -> Result<(), Full<F>> {
        self.0.gate.port.with(|inner| {
            let Some(inner) = inner else { return Ok(()) };
            match inner.try_enter() {
                Ok(counted) => self.queue(inner, counted, call),
                Err(most) => return Err(Full::new(most, call)),
            }
            Ok(())
        })
    }

    /// As `post`, for what follows from an operation: that never blocks.
    fn follow<F: FnOnce(&mut T) + Send + 'static>(&self, call: F) {
        self.0.gate.port.with(|inner| {
            if let Some(inner) = inner {
                self.queue(inner, false, call);
            }
        });
    }

    fn queue<F: FnOnce(&mut T) + Send + 'static>(&self, inner: &Inner, counted: bool, call: F) {
        let ticket = Queued(Arc::as_ptr(&self.0));
        let queued = Call { call, ticket };
        let queued = completion::post(&inner.home, 0, counted, move || queued.run());
        if let Some(served) = self.0.gate.line.join(queued) {
            // The line was free: the turn is in our hands until it is handed on.
            self.0.kept.set(Some(Arc::clone(&self.0)));
            inner.hand(served, Route::Posted);
        }
    }

    /// Runs `call` now, if this thread is in a handler of the port and the strand is free; else as [`post`](Self::post). Never inside
    /// a handler of the same strand; within handlers of other strands up to 16 deep, beyond that it queues.
    ///
    /// # Panics
    ///
    /// With the panic of `call`, if that runs now.
    ///
    /// ```
    /// use proactor::{Proactor, Strand};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let total = Strand::new(&proactor, 0);
    /// total.dispatch(|total| *total += 1); // not in a handler: queued
    /// proactor.post({
    ///     let total = total.clone();
    ///     move || total.dispatch(|total| *total += 1) // now, if nobody else is at it
    /// });
    /// proactor.run();
    /// assert_eq!(total.try_into_inner().expect("the last handle"), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn dispatch<F: FnOnce(&mut T) + Send + 'static>(&self, call: F) {
        let gate = &self.0.gate;
        let inside = Local::with_port(gate.port.number, |local| {
            local.is_some_and(|local| local.depth.get() > 0)
        });
        if inside && Held::depth() < NESTED && gate.line.enter() {
            // The handler that calls goes on, so what follows is not for its thread alone.
            // SAFETY: it was entered just now, and `self` is a handle.
            unsafe { Shared::serve(Arc::as_ptr(&self.0), call, Route::Posted) };
        } else {
            self.post(call);
        }
    }

    /// The port that it was made for, if that is still there.
    pub fn port(&self) -> Option<CompletionPort> {
        self.0.gate.port.upgrade()
    }
}

impl<T> Strand<T> {
    /// Whether this thread is in one of its handlers.
    ///
    /// ```
    /// use proactor::{Proactor, Strand};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let strand = Strand::new(&proactor, ());
    /// assert!(!strand.is_current());
    /// strand.post({
    ///     let strand = strand.clone();
    ///     move |()| assert!(strand.is_current())
    /// });
    /// proactor.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_current(&self) -> bool {
        Held::holds(self.0.gate.name())
    }

    /// A handle that does not keep it.
    pub fn downgrade(&self) -> WeakStrand<T> {
        WeakStrand(Arc::downgrade(&self.0))
    }

    /// The state.
    ///
    /// # Errors
    ///
    /// The strand itself, if this is not the last handle: other clones, queued calls and bound operations are such.
    pub fn try_into_inner(self) -> Result<T, Self> {
        Arc::try_unwrap(self.0)
            .map(|shared| shared.state.into_inner())
            .map_err(Self)
    }
}

impl<T> WeakStrand<T> {
    /// The strand, if anything still keeps it.
    pub fn upgrade(&self) -> Option<Strand<T>> {
        self.0.upgrade().map(Strand)
    }
}

impl<T> Clone for Strand<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Clone for WeakStrand<T> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

impl<T> fmt::Debug for Strand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strand")
            .field("free", &self.0.gate.line.is_free())
            .field("current", &self.is_current())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for WeakStrand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakStrand")
    }
}
