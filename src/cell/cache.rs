//! A thread's free cells, of the first living home that it met; any other home's go by its depot's lock.

use super::{CLASSES, Chain, Class, Home, MAGAZINE, Ptr};
use std::cell::RefCell;

use crate::sync::{Weak, recycles, thread_slot};

#[derive(Clone, Copy)]
struct Magazines {
    loaded: Chain,
    spare: Chain,
}

struct Cache {
    home: Weak<Home>,
    id: u32,
    classes: [Magazines; CLASSES],
}

impl Drop for Cache {
    /// The thread ends, or its home has died: what is cached goes back, or away with the home's slabs.
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            for (class, magazines) in Class::ALL.into_iter().zip(&self.classes) {
                home.return_magazine(class, magazines.loaded);
                home.return_magazine(class, magazines.spare);
            }
        }
    }
}

thread_slot!(CACHE: RefCell<Option<Cache>> = RefCell::new(None));

/// Runs `f` with this thread's magazines, if they are of this home or can become so.
#[inline]
fn with<R>(home: &Home, f: impl FnOnce(&mut [Magazines; CLASSES]) -> R) -> Option<R> {
    CACHE
        .try_with(|cache| {
            let mut cache = cache.try_borrow_mut().ok()?;
            match &mut *cache {
                Some(mine) if mine.id == home.id => Some(f(&mut mine.classes)),
                other => adopt(other, home).map(f),
            }
        })
        .ok()
        .flatten()
}

#[cold]
fn adopt<'a>(cache: &'a mut Option<Cache>, home: &Home) -> Option<&'a mut [Magazines; CLASSES]> {
    if cache
        .as_ref()
        .is_some_and(|other| other.home.strong_count() > 0)
    {
        return None;
    }
    let empty = Magazines {
        loaded: Chain::EMPTY,
        spare: Chain::EMPTY,
    };
    let fresh = Cache {
        home: home.me.clone(),
        id: home.id,
        classes: [empty; CLASSES],
    };
    Some(&mut cache.insert(fresh).classes)
}

#[inline]
pub(super) fn take(home: &Home, class: Class) -> Option<Ptr> {
    if !recycles() {
        return None;
    }
    with(home, |classes| {
        let mine = &mut classes[class.index()];
        mine.loaded.pop().or_else(|| refill(mine, home, class))
    })
    .flatten()
}

#[cold]
fn refill(mine: &mut Magazines, home: &Home, class: Class) -> Option<Ptr> {
    std::mem::swap(&mut mine.loaded, &mut mine.spare);
    if mine.loaded.head.is_null() {
        mine.loaded = home.magazine(class);
    }
    mine.loaded.pop()
}

/// Hands `cell` back if this thread caches another home's.
#[inline]
pub(super) fn give(home: &Home, class: Class, cell: Ptr) -> Option<Ptr> {
    if !recycles() {
        return None;
    }
    let given = with(home, |classes| {
        let mine = &mut classes[class.index()];
        if mine.loaded.len == MAGAZINE {
            let full = std::mem::replace(&mut mine.spare, mine.loaded);
            mine.loaded = Chain::EMPTY;
            home.return_magazine(class, full);
        }
        mine.loaded.push(cell);
    });
    match given {
        Some(()) => None,
        None => Some(cell),
    }
}
