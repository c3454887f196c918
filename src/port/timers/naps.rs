//! Naps: waits that have a waker in place of a handler, for those who mostly give them up, and soon begin another.
//!
//! A nap has a cell of its own, which is no operation: one that expires is a call that wakes. One that is given up leaves its cell, its
//! name in the wheel as it was, to the next nap; at the name's tick the nap is asked how things are now.
//! Protocol: `docs/dispatch-protocols.md`, "Timers".

use std::mem;
use std::task::Waker;

use super::*;
use crate::completion;
use crate::local::Local;
use crate::operation::OperationKey;

/// The cell of a nap.
#[repr(C)]
struct Nap {
    header: Header,
    wait: Wait,
}

/// What a nap waits for. The lock's, but for that of a nap that has expired.
struct Wait {
    at: Instant,
    /// What its name stands at in the wheel, which is not later; none if it does not stand there. Else it is `ARMED`.
    named: Option<Instant>,
    /// None if it was given up.
    waker: Option<Waker>,
}

fn wait_of(nap: Ptr) -> *mut Wait {
    cell::place(nap, offset_of!(Nap, wait))
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

/// Whether what the wheel named is a nap.
pub(super) fn is_nap(cell: Ptr) -> bool {
    std::ptr::eq(header(cell).vtable(), &NAP)
}

/// A nap's name has left the wheel: the nap as a call, if somebody waits for it and it is `over`; in `later`, if it is not. One that
/// was given up stays where it is.
///
/// # Safety
///
/// `nap` is a nap that the caller has taken, and the caller has the wheel's lock.
pub(super) unsafe fn called(
    nap: Ptr,
    over: impl FnOnce(Instant) -> bool,
    later: &mut Chain,
) -> Option<Completion> {
    // SAFETY: the caller's promise: the wait is the lock's.
    let wait = unsafe { &mut *wait_of(nap) };
    wait.named = None;
    header(nap).set_phase(phase::PENDING);
    wait.waker.as_ref()?;
    if !over(wait.at) && !mutant("nap-believes-its-node") {
        later.push(nap);
        return None;
    }
    header(nap).set_phase(phase::DONE);
    // SAFETY: nobody's but ours, and a call from now on.
    Some(unsafe { Completion::from_ptr(nap) })
}

/// The name of a nap, for the wheel.
fn armed(nap: Ptr) -> Armed {
    header(nap).set_phase(phase::ARMED);
    Armed {
        cell: nap,
        generation: header(nap).generation(),
    }
}

impl State {
    /// What a nap waits for whose time has not come.
    fn wait(&mut self, nap: Ptr, generation: u32) -> Option<&mut Wait> {
        if !header(nap).is(generation, phase::ARMED) {
            return None;
        }
        header(nap).used();
        // SAFETY: armed, so the cell is still this nap's, and its wait is the lock's: whoever ends it says so under the lock.
        Some(unsafe { &mut *wait_of(nap) })
    }

    /// A nap that nobody waits for, and whose name, if it stands in the wheel, does not stand there later than at `at`.
    fn spare(&mut self, home: &Home, at: Instant) -> Ptr {
        if let Some(nap) = self.spare.pop() {
            // SAFETY: nobody waits for it, so its wait is the lock's; there is nothing in it to drop.
            let named = unsafe { &*wait_of(nap) }.named;
            if named.is_none_or(|named| named <= at) || mutant("nap-earlier-unlinked") {
                return nap;
            }
            home.free_as(CLASS, nap); // Its name is dead with that.
        }
        let nap = home.alloc(CLASS, &NAP, phase::PENDING, 0);
        let wait = Wait {
            at,
            named: None,
            waker: None,
        };
        // SAFETY: the class has room for a `Nap`, and nobody else has the cell.
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
        if wait.named.is_none() {
            wait.named = Some(at);
            self.insert(&mut state, backend, armed(nap), at);
        }
        Some(OperationKey::of(nap, home))
    }

    /// Has a nap whose time has not come wake `waker`; whether it does.
    pub(crate) fn will_wake(&self, nap: Ptr, generation: u32, waker: &Waker) -> bool {
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

    /// Names again what had left the wheel before its time.
    pub(super) fn name_again(&self, state: &mut State, mut later: Chain) {
        while let Some(nap) = later.pop().filter(|_| !mutant("nap-not-linked-again")) {
            // SAFETY: somebody waits for it, so its wait is the lock's.
            let wait = unsafe { &mut *wait_of(nap) };
            wait.named = Some(wait.at);
            let tick = self.tick_after(wait.at);
            state.wheel.insert(armed(nap), tick);
        }
    }
}
