//! A finished operation or a posted call, with its handler, ready to run exactly once.
#![allow(unsafe_code)] // calls the erased body that the cell's table belongs to

use std::alloc::Layout;
use std::fmt;
use std::mem::{ManuallyDrop, offset_of};

use crate::cell::{self, Class, Header, Home, Ptr, VTable, header, phase};
use crate::id::{Kind, ObjectId};
use crate::local::Local;
use crate::operation::{self, Returned, code};
use crate::sync::Arc;

/// One completion: what a [`Dispatcher`](crate::dispatch::Dispatcher) queues and a worker runs.
///
/// One word. It is run at most once; dropped without having been run, its handler is dropped uncalled, and
/// counts as done with. It may travel between threads and stand anywhere; while one is held the port's memory stays.
///
/// A completion that the port has just reaped may still be *due*: the system call that makes it final is made by
/// the thread that runs it, right before the handler, while the data are warm.
///
/// ```
/// use proactor::{CompletionPort, Kind};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let port = CompletionPort::new()?;
/// port.post_keyed(7, || println!("called"));
/// let completion = port.take().expect("posted just now");
/// assert_eq!((completion.user_key(), completion.kind()), (7, Kind::Post));
/// assert!(completion.run());
/// # Ok(())
/// # }
/// ```
pub struct Completion(Ptr);

// SAFETY: a completion owns its cell, and the bodies that makers put in cells are `Send`.
unsafe impl Send for Completion {}
// SAFETY: through a shared reference only plain fields are read, which are written before the cell is published.
unsafe impl Sync for Completion {}

impl Completion {
    /// Takes ownership of a cell.
    ///
    /// # Safety
    ///
    /// `cell` is nobody else's, and its body is written.
    pub(crate) unsafe fn from_ptr(cell: Ptr) -> Self {
        Self(cell)
    }

    pub(crate) fn into_ptr(self) -> Ptr {
        ManuallyDrop::new(self).0
    }

    pub(crate) fn ptr(&self) -> Ptr {
        self.0
    }

    /// The key that was given with `post_keyed` or `.key(..)`; 0 if none was.
    pub fn user_key(&self) -> u64 {
        match self.kind() {
            Kind::Post => header(self.0).data(),
            // SAFETY: every kind but Post is an operation's cell, which this completion owns.
            _ => unsafe { operation::part(self.0) }.key(),
        }
    }

    /// The object that it is about; [`ObjectId::NONE`] for calls, timers and calls that block.
    pub fn object(&self) -> ObjectId {
        match self.kind() {
            Kind::Post | Kind::Timer | Kind::Blocking | Kind::Composed => ObjectId::NONE,
            _ => ObjectId::from_bits(header(self.0).data()),
        }
    }

    /// What it completes.
    pub fn kind(&self) -> Kind {
        header(self.0).vtable().kind
    }

    /// Whether its system call is still to be made.
    pub(crate) fn is_due(&self) -> bool {
        header(self.0).phase() != phase::DONE
    }

    /// Whether whoever finishes it is to run it, at once.
    #[inline]
    pub(crate) fn is_at_once(&self) -> bool {
        match header(self.0).vtable().at_once {
            None => false,
            // SAFETY: the cell is ours, and its table is its body's.
            Some(asked) => unsafe { asked(self.0) },
        }
    }

    /// Whether it is of that home's port.
    #[inline]
    pub(crate) fn is_of(&self, home: &Home) -> bool {
        std::ptr::eq(Home::of(self.0), home)
    }

    /// Runs the handler on this thread; false if the operation turned out not to be finished yet and has
    /// gone back to the port, which completes it later. A turn of [`reply_each`](crate::net::TcpStream::reply_each) is a handler, too: what
    /// follows it, the next turn or the end, is another completion.
    ///
    /// Workers do this by themselves; it is for a port that is used without a proactor.
    ///
    /// # Panics
    ///
    /// With the handler's panic, if that panics. It counts as done with nevertheless.
    pub fn run(self) -> bool {
        let is_due = self.is_due();
        // From here on nothing of it is dropped: it goes on in its cell, or in none.
        let mut cell = self.into_ptr();
        if is_due {
            if let Some(ran) = go_on(cell) {
                return ran;
            }
            match attempt(cell) {
                Some(attempted) => cell = attempted,
                None => return false,
            }
        }
        // SAFETY: we own the cell.
        unsafe { run_finished(cell) };
        true
    }

    /// Whether its system call is made by whoever runs it, and not before.
    pub(crate) fn is_to_go_on(&self) -> bool {
        self.is_due() && header(self.0).vtable().repeats.is_some()
    }

    /// Runs the handler of a completion that is not due.
    #[inline]
    pub(crate) fn run_finished(self) {
        // SAFETY: a completion owns its cell.
        unsafe { run_finished(self.into_ptr()) };
    }

    /// As `run_finished`, of a completion of `home`; the caller, a worker of that port, then crosses it off, however it ended.
    #[inline]
    pub(crate) fn run_uncrossed(self, home: &Home) {
        let table = header(self.0).vtable();
        if table.counted {
            return self.run_counted(home);
        }
        // SAFETY: a completion owns its cell; a cell's table is its body's.
        unsafe { (table.run)(self.into_ptr(), home) };
    }

    /// Whether it is a posted call that takes up no room.
    #[inline(always)]
    pub(crate) fn is_posted(&self) -> bool {
        header(self.0).vtable().posted
    }

    /// As `run_uncrossed`, of what takes up no room.
    #[inline(always)]
    pub(crate) fn run_uncounted(self, home: &Home) {
        let table = header(self.0).vtable();
        debug_assert!(!table.counted);
        // SAFETY: as above.
        unsafe { (table.run)(self.into_ptr(), home) };
    }

    #[cold]
    fn run_counted(self, home: &Home) {
        let cell = self.into_ptr();
        let _room = Room(home);
        // SAFETY: as above.
        unsafe { (header(cell).vtable().run)(cell, home) };
    }
}

/// # Safety
///
/// `cell` is the caller's, and its result is fixed.
#[inline]
unsafe fn run_finished(cell: Ptr) {
    let home = Home::of(cell);
    let _finished = Finished(home);
    let table = header(cell).vtable();
    let _room = table.counted.then(|| Room(home));
    // SAFETY: the caller's promise; a cell's table is its body's.
    unsafe { (table.run)(cell, home) };
}

/// A port, as a completion sees it.
pub(crate) trait Attempt: Send + Sync {
    /// Makes the system call of an operation that is due: the completion, unless it has gone back to wait. Not of one that repeats, unless
    /// it was asked to end.
    fn attempt(&self, cell: Ptr) -> Option<Completion>;
    /// Has an operation that is due, if it is one that repeats, go on; whether a handler ran.
    fn go_on(&self, cell: Ptr) -> Option<bool>;
    /// Nothing is outstanding any more, as somebody found who is none of its workers.
    fn settled(&self);
    /// A handler of that worker is about to block: others run meanwhile. Whether it had a permit, which it then has back only with
    /// `resume`.
    fn pause(&self, local: &Local) -> bool;
    /// It goes on.
    fn resume(&self, local: &Local);
    /// Asks an operation to end as cancelled.
    fn ask_to_end(&self, cell: Ptr, generation: u32);
    /// Lets go of the direction that a finished operation has kept, with what it gives back.
    fn give_back(&self, cell: Ptr, generation: u32, object: ObjectId, returned: Option<Returned>);
}

/// The port that a home belongs to, if it is not gone.
pub(crate) fn port_of(home: &Home) -> Option<Arc<dyn Attempt>> {
    home.owner.get().and_then(|owner| owner.port.upgrade())
}

/// Runs `f` with the port that a home belongs to, if it is not gone. A thread that works for it counts nothing.
pub(crate) fn with_port<R>(home: &Home, f: impl FnOnce(Option<&dyn Attempt>) -> R) -> R {
    let Some(owner) = home.owner.get() else {
        return f(None);
    };
    if Local::with(home, |local| local.is_some()) {
        // SAFETY: whoever works for the port has borrowed it for as long: `Inner::work`.
        return f(Some(unsafe { &*owner.port.as_ptr() }));
    }
    f(owner.port.upgrade().as_deref())
}

/// Has the port make the system call of an operation that is due. Without a port it ends as cancelled.
fn attempt(cell: Ptr) -> Option<Ptr> {
    let attempted = match port_of(Home::of(cell)) {
        Some(port) => port.attempt(cell),
        // SAFETY: the caller's cell, an operation's, since it is due; its result is open.
        None => Some(unsafe { operation::complete(cell, code::CANCELLED) }),
    };
    attempted.map(Completion::into_ptr)
}

/// Has an operation that is due go on, if it is one that repeats; whether a handler ran.
fn go_on(cell: Ptr) -> Option<bool> {
    header(cell).vtable().repeats.as_ref()?;
    port_of(Home::of(cell))?.go_on(cell)
}

/// Crosses a piece of work off that was no completion, as whichever thread this is.
pub(crate) fn cross_off(home: &Home) {
    drop(Finished(home));
}

/// Crosses the work off, also when the handler panics.
struct Finished<'a>(&'a Home);

impl Drop for Finished<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // A worker looks by itself before it sleeps or leaves, and its port keeps the home.
        if !Local::finished(self.0) {
            self.cross_off_outside();
        }
    }
}

impl Finished<'_> {
    #[cold]
    fn cross_off_outside(&self) {
        let home = self.0;
        // Once the work is crossed off the port may go, and nobody else may hold the home.
        let _kept = home.keep();
        home.ledger.finished(None);
        home.must_live();
        if home.ledger.is_settled() {
            if let Some(port) = port_of(home) {
                port.settled();
            }
        }
    }
}

/// Makes room for another from outside, also when the handler panics. Goes before [`Finished`], which may let the home go.
pub(crate) struct Room<'a>(pub(crate) &'a Home);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(pressure) = &self.0.pressure {
            Local::with(self.0, |local| {
                pressure.leave(local.map(|local| local.index));
            });
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let mut cell = self.0;
        if self.is_due() {
            // Its direction waits for it: finish it as cancelled first.
            let pending = header(cell);
            pending.request_cancel(pending.generation(), phase::CANCEL);
            match attempt(cell) {
                Some(finished) => cell = finished,
                None => return,
            }
        }
        let home = Home::of(cell);
        let _finished = Finished(home);
        let table = header(cell).vtable();
        let _room = table.counted.then(|| Room(home));
        // SAFETY: we own the cell, and its table is its body's.
        unsafe { (table.discard)(cell, home) };
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("kind", &self.kind())
            .field("key", &self.user_key())
            .field("object", &self.object())
            .finish()
    }
}

#[repr(C)]
struct Call<F> {
    header: Header,
    call: F,
}

/// A completion that calls `call`, entered in the books; `counted` says that it takes up room (`crate::pressure`).
#[inline]
pub(crate) fn post<F: FnOnce() + Send + 'static>(
    home: &Home,
    key: u64,
    counted: bool,
    call: F,
) -> Completion {
    let call = write(home, key, counted, call);
    Local::created(home);
    call
}

/// As [`post`], by that worker of the home's port; it takes up no room.
#[inline]
pub(crate) fn post_by<F: FnOnce() + Send + 'static>(
    local: &Local,
    home: &Home,
    key: u64,
    call: F,
) -> Completion {
    let call = write(home, key, false, call);
    local.create();
    call
}

#[inline]
fn write<F: FnOnce() + Send + 'static>(
    home: &Home,
    key: u64,
    counted: bool,
    call: F,
) -> Completion {
    if const { fits::<F>() } {
        place(home, key, counted, call)
    } else {
        place(home, key, counted, Box::new(call))
    }
}

const fn fits<F>() -> bool {
    Class::of(Layout::new::<Call<F>>()).is_some()
}

#[inline]
fn place<F: FnOnce() + Send + 'static>(
    home: &Home,
    key: u64,
    counted: bool,
    call: F,
) -> Completion {
    let table = match counted {
        true => &const { call_table::<F>(true) },
        false => &const { call_table::<F>(false) },
    };
    let cell = home.alloc(const { class_of::<F>() }, table, phase::DONE, key);
    // SAFETY: the cell's class has room for a `Call<F>`, and nobody else has the cell.
    unsafe { cell::place::<F>(cell, offset_of!(Call<F>, call)).write(call) };
    Completion(cell)
}

const fn class_of<F>() -> Class {
    match Class::of(Layout::new::<Call<F>>()) {
        Some(class) => class,
        // Never placed: `fits` sends such a call to a box. Evaluated all the same, for every F.
        None => Class::LARGEST,
    }
}

const fn call_table<F: FnOnce() + Send + 'static>(counted: bool) -> VTable {
    VTable {
        class: class_of::<F>(),
        counted,
        posted: !counted,
        run: run_call::<F>,
        discard: discard_call::<F>,
        ..VTable::NOTHING
    }
}

/// # Safety
///
/// `cell` is the caller's and holds a `Call<F>`.
#[inline(always)]
unsafe fn take_call<F>(cell: Ptr, home: &Home) -> F {
    // SAFETY: the caller says that the cell holds a `Call<F>`; it is moved out once, since the cell is freed here.
    let call = unsafe { cell::place::<F>(cell, offset_of!(Call<F>, call)).read() };
    home.free_as(const { class_of::<F>() }, cell);
    call
}

/// # Safety
///
/// As `take_call`.
unsafe fn run_call<F: FnOnce()>(cell: Ptr, home: &Home) {
    // SAFETY: handed on to the caller.
    let call = unsafe { take_call::<F>(cell, home) };
    call();
}

/// # Safety
///
/// As `take_call`.
unsafe fn discard_call<F>(cell: Ptr, home: &Home) {
    // SAFETY: handed on to the caller.
    drop(unsafe { take_call::<F>(cell, home) });
}
