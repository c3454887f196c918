//! Naps: waits that have a waker in place of a handler, for those who mostly give them up, and soon begin another.
//!
//! A nap has a cell of its own, which is no operation: one that expires is a call that wakes. One that is given up leaves its cell, its
//! node in the wheel as it was, to the next nap; at its tick the node is asked how things are now.
//! Protocol: `docs/dispatch-protocols.md`, "Timers".

use std::mem;
use std::task::Waker;

use super::*;
use crate::completion;
use crate::local::Local;
use crate::operation::OperationKey;
use crate::sync::atomic::Ordering;

/// The cell of a nap.
#[repr(C)]
struct Nap {
    header: Header,
    node: Node,
    wait: Wait,
}

/// What a nap waits for. The lock's, but for that of a nap that has expired.
struct Wait {
    at: Instant,
    /// What its node stands at in the wheel, which is not later; none if it is in no wheel.
    linked: Option<Instant>,
    /// None if it was given up.
    waker: Option<Waker>,
}

fn wait_of(nap: Ptr) -> *mut Wait {
    cell::place(nap, offset_of!(Nap, wait))
}

fn node_of(nap: Ptr) -> NonNull<Node> {
    // SAFETY: a place within a cell is not null.
    unsafe { NonNull::new_unchecked(cell::place(nap, offset_of!(Nap, node))) }
}

/// That of a call, which an expired nap is: however it ends, it wakes.
static NAP: VTable = VTable {
    kind: Kind::Post,
    class: CLASS,
    run: wake,
    discard: wake,
    ..VTable::NOTHING
};

const CLASS: Class = match Class::of(Layout::new::<Nap>()) {
    Some(class) => class,
    None => panic!("a nap fits in a cell"),
};

/// # Safety
///
/// `nap` is the caller's, and has expired.
unsafe fn wake(nap: Ptr, home: &Home) {
    // SAFETY: the caller's promise.
    let waker = unsafe { (*wait_of(nap)).waker.take() };
    home.free_as(CLASS, nap);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Naps that nobody waits for, linked through their headers. They keep nothing but their memory, which is their home's.
pub(super) struct Chain(*mut Header);

// SAFETY: it owns what it links; it is touched under the wheel's lock.
unsafe impl Send for Chain {}

impl Chain {
    pub(super) const EMPTY: Self = Self(std::ptr::null_mut());

    fn push(&mut self, nap: Ptr) {
        header(nap).next.store(self.0, Ordering::Relaxed);
        self.0 = nap.as_ptr();
    }

    fn pop(&mut self) -> Option<Ptr> {
        let nap = NonNull::new(self.0)?;
        self.0 = header(nap).next.load(Ordering::Relaxed);
        Some(nap)
    }
}

/// Whether what a node leads back to is a nap: of all that have one, it alone has a call's table.
pub(super) fn is_nap(cell: Ptr) -> bool {
    header(cell).vtable().kind == Kind::Post
}

/// A nap's node has left the wheel: the nap as a call, if somebody waits for it and it is `over`; in `later`, if it is not. One that
/// was given up stays where it is.
///
/// # Safety
///
/// `nap` is a nap whose node was unlinked just now, and the caller has the wheel's lock.
pub(super) unsafe fn unlinked(
    nap: Ptr,
    over: impl FnOnce(Instant) -> bool,
    later: &mut Chain,
) -> Option<Completion> {
    // SAFETY: the caller's promise: the wait is the lock's.
    let wait = unsafe { &mut *wait_of(nap) };
    wait.linked = None;
    wait.waker.as_ref()?;
    if !over(wait.at) && !mutant("nap-believes-its-node") {
        later.push(nap);
        return None;
    }
    header(nap).set_phase(phase::DONE);
    // SAFETY: nobody's but ours, and a call from now on.
    Some(unsafe { Completion::from_ptr(nap) })
}

impl State {
    /// What a nap waits for whose time has not come.
    fn wait(&mut self, nap: Ptr, generation: u32) -> Option<&mut Wait> {
        if !header(nap).is(generation, phase::PENDING) {
            return None;
        }
        header(nap).used();
        // SAFETY: pending, so the cell is still this nap's, and its wait is the lock's: whoever ends it says so under the lock.
        Some(unsafe { &mut *wait_of(nap) })
    }

    /// A nap that nobody waits for.
    fn spare(&mut self, home: &Home, at: Instant) -> Ptr {
        if let Some(nap) = self.spare.pop() {
            return nap;
        }
        let nap = home.alloc(CLASS, &NAP, phase::PENDING, 0);
        let wait = Wait {
            at,
            linked: None,
            waker: None,
        };
        // SAFETY: the class has room for a `Nap`, and nobody else has the cell.
        unsafe { node_of(nap).write(Node::new(nap.as_ptr().cast())) };
        // SAFETY: as above.
        unsafe { wait_of(nap).write(wait) };
        nap
    }
}

impl Timers {
    /// Has `waker` woken at `at`: outstanding work until then, or until it is given up. None, and nothing is armed, if everything is closed.
    #[inline]
    pub(crate) fn nap(
        &self,
        backend: &dyn Backend,
        home: &Home,
        at: Instant,
        waker: Waker,
    ) -> Option<OperationKey> {
        Local::created(home);
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            completion::cross_off(home);
            return None;
        }
        let nap = state.spare(home, at);
        // SAFETY: nobody waits for it, so its wait is the lock's.
        let wait = unsafe { &mut *wait_of(nap) };
        wait.at = at;
        wait.waker = Some(waker);
        if wait.linked.is_none_or(|linked| at < linked) && !mutant("nap-earlier-unlinked") {
            wait.linked = Some(at);
            // SAFETY: linked in this wheel, or in none.
            unsafe { state.wheel.remove(node_of(nap)) };
            self.link(&mut state, backend, node_of(nap), at);
        }
        Some(OperationKey::of(nap, home))
    }

    /// Has a nap whose time has not come wake `waker`; whether it does.
    pub(crate) fn knows(&self, nap: Ptr, generation: u32, waker: &Waker) -> bool {
        let knows = |wait: &mut Wait| {
            let knows = wait.waker.as_ref().is_some_and(|it| it.will_wake(waker));
            knows || mutant("nap-keeps-its-waker")
        };
        let known = self.state.lock().wait(nap, generation).map(knows);
        if known != Some(false) {
            return known.is_some();
        }
        let mut new = Some(waker.clone()); // not under the lock: a waker's own code may do anything, also below
        let swap = |wait: &mut Wait| mem::swap(&mut wait.waker, &mut new);
        self.state.lock().wait(nap, generation).map(swap).is_some()
    }

    /// Takes the waker of a nap whose time has not come, to be dropped outside of everything: it is over, and wakes nobody.
    #[inline]
    pub(crate) fn give_up(&self, home: &Home, nap: Ptr, generation: u32) -> Option<Waker> {
        let mut state = self.state.lock();
        let wait = state
            .wait(nap, generation)
            .filter(|_| !mutant("nap-left-armed"))?;
        let waker = wait.waker.take();
        state.spare.push(nap);
        drop(state);
        completion::cross_off(home);
        waker
    }

    /// Links again what had left the wheel before its time.
    pub(super) fn link_again(&self, state: &mut State, mut later: Chain) {
        while let Some(nap) = later.pop().filter(|_| !mutant("nap-not-linked-again")) {
            // SAFETY: somebody waits for it, so its wait is the lock's.
            let wait = unsafe { &mut *wait_of(nap) };
            wait.linked = Some(wait.at);
            let tick = self.tick_after(wait.at);
            // SAFETY: as in `link`; it was unlinked before.
            unsafe { state.wheel.insert(node_of(nap), tick) };
        }
    }
}
