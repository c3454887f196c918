//! A thread's free cells, of the first living home that it met; any other home's go by its depot's lock.

use std::cell::{Cell, RefCell};
use std::ptr;

use super::{CLASSES, Chain, Class, Home, MAGAZINE, Ptr};
use crate::sync::{Weak, recycles, thread_pointer, thread_slot};

struct Magazines {
    loaded: Cell<Chain>,
    spare: Cell<Chain>,
}

struct Cache {
    /// Keeps the address, though not the home.
    home: Weak<Home>,
    of: *const Home,
    classes: [Magazines; CLASSES],
}

/// Where a thread's cache stays, until the thread ends or its home has died.
struct Kept(Box<Cache>);

impl Drop for Kept {
    /// What is cached goes back, or away with the home's slabs.
    fn drop(&mut self) {
        let _ = MINE.try_with(|mine| mine.set(ptr::null()));
        if let Some(home) = self.0.home.upgrade() {
            for (class, magazines) in Class::ALL.into_iter().zip(&self.0.classes) {
                home.return_magazine(class, magazines.loaded.get());
                home.return_magazine(class, magazines.spare.get());
            }
        }
    }
}

// The first owns; the second is what is looked at, since a thread's value that has something to drop costs a check each time.
thread_slot!(KEPT: RefCell<Option<Kept>> = RefCell::new(None));
thread_pointer!(MINE: Cache);

/// Runs `f` with this thread's magazines, if they are of this home or can become so. `f` calls nobody's code but this module's.
#[inline(always)]
fn with<R>(home: &Home, f: impl FnOnce(&[Magazines; CLASSES]) -> R) -> Option<R> {
    let mut mine = MINE.try_with(Cell::get).unwrap_or(ptr::null());
    // SAFETY: it points into this thread's box, and `Kept` takes it back before the box goes.
    let known = unsafe { mine.as_ref() };
    if !known.is_some_and(|mine| ptr::eq(mine.of, home)) {
        mine = adopt(home);
    }
    // SAFETY: as above; the box does not go within `f`.
    unsafe { mine.as_ref() }.map(|mine| f(&mine.classes))
}

/// Makes this thread's cache that home's, if it is no other living one's; then that is it.
#[cold]
fn adopt(home: &Home) -> *const Cache {
    let adopted = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        let other = kept.as_ref().map(|kept| &kept.0.home);
        if other.is_some_and(|other| other.strong_count() > 0) {
            return None;
        }
        *kept = None;
        let empty = || Magazines {
            loaded: Cell::new(Chain::EMPTY),
            spare: Cell::new(Chain::EMPTY),
        };
        let fresh = kept.insert(Kept(Box::new(Cache {
            home: home.me.clone(),
            of: home,
            classes: [empty(), empty(), empty(), empty()],
        })));
        let fresh = &raw const *fresh.0;
        MINE.try_with(|mine| mine.set(fresh)).ok()?;
        Some(fresh)
    });
    adopted.ok().flatten().unwrap_or(ptr::null())
}

#[inline(always)]
pub(super) fn take(home: &Home, class: Class) -> Option<Ptr> {
    if !recycles() {
        return None;
    }
    with(home, |classes| {
        let mine = &classes[class.index()];
        let mut loaded = mine.loaded.get();
        match loaded.pop() {
            Some(cell) => {
                mine.loaded.set(loaded);
                Some(cell)
            }
            None => refill(mine, home, class),
        }
    })
    .flatten()
}

#[cold]
fn refill(mine: &Magazines, home: &Home, class: Class) -> Option<Ptr> {
    let mut full = mine.spare.replace(Chain::EMPTY);
    if full.head.is_null() {
        full = home.magazine(class);
    }
    let cell = full.pop();
    mine.loaded.set(full);
    cell
}

/// Hands `cell` back if this thread caches another home's.
#[inline(always)]
pub(super) fn give(home: &Home, class: Class, cell: Ptr) -> Option<Ptr> {
    if !recycles() {
        return None;
    }
    let given = with(home, |classes| {
        let mine = &classes[class.index()];
        let mut loaded = mine.loaded.get();
        if loaded.len == MAGAZINE {
            loaded = spill(mine, home, class);
        }
        loaded.push(cell);
        mine.loaded.set(loaded);
    });
    match given {
        Some(()) => None,
        None => Some(cell),
    }
}

/// The full magazine becomes the spare one, and that goes to the depot: room for more.
#[cold]
fn spill(mine: &Magazines, home: &Home, class: Class) -> Chain {
    home.return_magazine(class, mine.spare.replace(mine.loaded.get()));
    Chain::EMPTY
}
