//! Where a home's cells come from: slabs, cut a magazine at a time, and a depot for each size, where threads trade magazines.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::mem;
use std::ptr::{self, NonNull};

use super::{Class, FREE, Header, Home, MAGAZINE, Ptr, SLAB, header};
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::sync::{self, QuietGuard, Trace};

/// The first bytes of a slab, found from any of its cells by masking.
#[repr(C, align(64))]
pub(super) struct Slab {
    pub(super) home: *const Home,
}

const SLAB_LAYOUT: Layout = match Layout::from_size_align(SLAB, SLAB) {
    Ok(layout) => layout,
    Err(_) => panic!("a slab's size is a power of two"),
};

/// Cells that nobody uses, linked through `next`.
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    pub(super) head: *mut Header,
    pub(super) len: usize,
}

// SAFETY: it owns the cells that it links, and goes from thread to thread under a lock.
unsafe impl Send for Chain {}

impl Chain {
    pub(crate) const EMPTY: Self = Self {
        head: ptr::null_mut(),
        len: 0,
    };

    #[inline(always)]
    pub(crate) fn push(&mut self, cell: Ptr) {
        header(cell).next.store(self.head, Ordering::Relaxed);
        self.head = cell.as_ptr();
        self.len += 1;
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Ptr> {
        let cell = NonNull::new(self.head)?;
        self.head = header(cell).next.load(Ordering::Relaxed);
        self.len -= 1;
        Some(cell)
    }
}

/// Memory of a slab that was never used, and is not cut into cells yet.
struct Uncut {
    at: *mut u8,
    cells: usize,
}

// SAFETY: it owns its part of the slab, and goes from thread to thread under the depot's lock.
unsafe impl Send for Uncut {}

impl Uncut {
    const NONE: Self = Self {
        at: ptr::null_mut(),
        cells: 0,
    };

    /// What makes a magazine, or what is left.
    fn split(&mut self, class: Class) -> Self {
        let cells = self.cells.min(MAGAZINE);
        let first = Self { cells, ..*self };
        self.cells -= cells;
        self.at = self.at.wrapping_add(cells * class.size());
        first
    }

    /// Cells, which come out of the chain as they stand in memory.
    fn cut(self, class: Class) -> Chain {
        let mut chain = Chain::EMPTY;
        for cell in (0..self.cells).rev() {
            let cell = self.at.wrapping_add(cell * class.size()).cast::<Header>();
            let fresh = Header {
                next: AtomicPtr::new(ptr::null_mut()),
                vtable: Cell::new(&FREE),
                state: AtomicU64::new(0),
                data: AtomicU64::new(0),
                tenant: Trace::new(),
                table: Trace::new(),
            };
            // SAFETY: within the slab, by the count; aligned to 64; fresh, and nobody else's.
            unsafe { cell.write(fresh) };
            // SAFETY: within a slab, so it is not null.
            chain.push(unsafe { Ptr::new_unchecked(cell) });
        }
        chain
    }
}

/// Free cells that no thread's cache holds.
pub(super) struct Depot {
    magazines: Vec<Chain>,
    pub(super) loose: Chain,
    /// What is left of the latest slab.
    uncut: Uncut,
}

impl Depot {
    pub(super) const fn new() -> Self {
        Self {
            magazines: Vec::new(),
            loose: Chain::EMPTY,
            uncut: Uncut::NONE,
        }
    }
}

/// All that a home has, which go with it.
pub(super) struct Slabs(Vec<NonNull<u8>>);

// SAFETY: the list owns its slabs; it is touched under its lock and at the home's drop.
unsafe impl Send for Slabs {}

impl Slabs {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        for slab in self.0.drain(..) {
            // SAFETY: allocated by `Home::slab` with this layout; the port drops its home only when nothing is
            // outstanding, so no cell of it is anybody's.
            unsafe { dealloc(slab.as_ptr(), SLAB_LAYOUT) };
        }
    }
}

impl Home {
    pub(super) fn depot(&self, class: Class) -> QuietGuard<'_, Depot> {
        self.depots[class.index()].lock()
    }

    #[cold]
    pub(super) fn alloc_slow(&self, class: Class) -> Ptr {
        if !sync::recycles() {
            return self.never_used(class);
        }
        let loose = self.depot(class).loose.pop();
        loose.unwrap_or_else(|| {
            let mut full = self.magazine(class);
            let one = full.pop();
            while let Some(cell) = full.pop() {
                self.free_slow(class, cell);
            }
            one.unwrap_or_else(|| handle_alloc_error(SLAB_LAYOUT))
        })
    }

    /// A cell for a model without recycling: one that no other thread has seen.
    fn never_used(&self, class: Class) -> Ptr {
        let one = self.slab(class).split(class).cut(class).pop();
        one.unwrap_or_else(|| handle_alloc_error(SLAB_LAYOUT))
    }

    /// A full magazine for a thread's cache.
    #[cold]
    pub(super) fn magazine(&self, class: Class) -> Chain {
        let uncut = {
            let mut depot = self.depot(class);
            if let Some(full) = depot.magazines.pop() {
                return full;
            }
            let mut taken = Chain::EMPTY;
            while taken.len < MAGAZINE {
                match depot.loose.pop() {
                    Some(cell) => taken.push(cell),
                    None => break,
                }
            }
            if taken.len > 0 {
                return taken;
            }
            depot.uncut.split(class)
        };
        // Without the lock: who gives cells back would wait while the system finds the memory that is touched here first.
        match uncut.cells {
            0 => self.magazine_of_slab(class),
            _ => uncut.cut(class),
        }
    }

    /// The first magazine of a new slab, which becomes the depot's.
    fn magazine_of_slab(&self, class: Class) -> Chain {
        let mut slab = self.slab(class);
        let first = slab.split(class);
        let mut other = mem::replace(&mut self.depot(class).uncut, slab);
        // Of a slab that another thread has made meanwhile.
        while other.cells > 0 {
            self.return_magazine(class, other.split(class).cut(class));
        }
        first.cut(class)
    }

    #[cold]
    pub(super) fn return_magazine(&self, class: Class, chain: Chain) {
        if chain.len > 0 {
            self.depot(class).magazines.push(chain);
        }
    }

    /// How many slabs it has.
    #[cfg(any(test, proactor_loom))]
    pub(crate) fn slabs(&self) -> usize {
        self.slabs
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .0
            .len()
    }

    /// A new slab.
    fn slab(&self, class: Class) -> Uncut {
        // SAFETY: the layout has a size above zero.
        let Some(slab) = NonNull::new(unsafe { alloc(SLAB_LAYOUT) }) else {
            handle_alloc_error(SLAB_LAYOUT);
        };
        // SAFETY: fresh memory, aligned to 64 and larger than a `Slab`.
        unsafe { slab.cast::<Slab>().write(Slab { home: self }) };
        self.slabs
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .0
            .push(slab);
        let first = class.size().max(size_of::<Slab>());
        Uncut {
            at: slab.as_ptr().wrapping_add(first),
            // In a model one is enough, and each costs it its time.
            cells: if cfg!(proactor_loom) {
                1
            } else {
                (SLAB - first) / class.size()
            },
        }
    }
}
