//! Recycled memory: the cells in which posted calls and operations live, and the home that owns them.
//!
//! A cell is a [`Header`] and a body, in one of four sizes; a body that is larger or stricter in alignment
//! stands in a box of its own, which is the only allocation that a warm port makes. Cells are carved from slabs
//! that stay with their [`Home`] until it is dropped. So a cell's header is always a header, even when the cell
//! is free or somebody else's by now, and a key (pointer and generation) can be looked up safely by anyone who
//! keeps the home alive.
//!
//! | field | written by | when |
//! |---|---|---|
//! | `next` | whoever owns the cell | while it stands in one of the intrusive queues |
//! | `vtable` | the maker | before the cell is published |
//! | `state` | maker, freer (store), finisher (swap), canceller (compare-exchange) | see `docs/dispatch-protocols.md`, "Cancel" |
//! | `data` | the maker | before the cell is published; read by cancellers, so atomic |
//!
//! Threads take and give back cells through a cache of their own: two magazines a size, traded for full or
//! empty ones at the home's depot (Bonwick's magazines), so a producer's cells find their way back from the worker that
//! freed them without a lock for each.
#![allow(unsafe_code)] // memory of our own under an erased body

use std::alloc::Layout;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::pressure::Pressure;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::sync::{self, Arc, OnceLock, PlainMutex, QuietMutex, Trace, Weak, mutant};
use crate::work::Ledger;

/// A cell, by its header.
pub(crate) type Ptr = NonNull<Header>;

/// The first part of every cell.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) next: AtomicPtr<Header>,
    vtable: Cell<&'static VTable>,
    state: AtomicU64,
    data: AtomicU64,
    tenant: Trace,
    /// `vtable`, as the models see it.
    table: Trace,
}

/// How far an operation is. Low byte of `state`; the generation is its upper half.
pub(crate) mod phase {
    /// Submitted; its result is open.
    pub(crate) const PENDING: u64 = 1;
    /// Its result is open, and somebody asked to cancel it.
    pub(crate) const CANCEL: u64 = 2;
    /// Its result is open, and its time limit has passed.
    pub(crate) const TIMEOUT: u64 = 3;
    /// Its result is fixed; what is left is to run it.
    pub(crate) const DONE: u64 = 4;
    /// A timer that the wheel knows, or a limit: its result is open, and who moves it to `DONE` has it.
    pub(crate) const ARMED: u64 = 5;
}

const PHASE: u64 = 0xff;

// `state` hands nothing over: a cell goes from owner to owner through queues and locks, and whoever asks by an old key learns from
// one word whose it is now. So its accesses are relaxed, but for the timers': who arms one hands it to whoever takes it.
impl Header {
    /// The generation of the cell's present tenant.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        (self.state.load(Ordering::Relaxed) >> 32) as u32
    }

    /// How far the present tenant is.
    #[inline]
    pub(crate) fn phase(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & PHASE
    }

    /// Whether the present tenant is `generation`'s, in `phase`.
    pub(crate) fn is(&self, generation: u32, phase: u64) -> bool {
        self.state.load(Ordering::Relaxed) == (u64::from(generation) << 32) | phase
    }

    /// Moves the present tenant to `phase`. Only its owner may.
    #[inline]
    pub(crate) fn set_phase(&self, phase: u64) {
        let generation = self.state.load(Ordering::Relaxed) & !PHASE;
        self.state.store(generation | phase, Ordering::Relaxed);
    }

    /// Fixes the result: from now on a cancellation is too late. The phase until now. A swap, since the canceller's
    /// compare-exchange races with it.
    #[inline]
    pub(crate) fn fix(&self) -> u64 {
        let generation = self.state.load(Ordering::Relaxed) & !PHASE;
        self.state.swap(generation | phase::DONE, Ordering::Relaxed) & PHASE
    }

    /// The canceller's half: from PENDING to `to`, if the tenant is still that of `generation`.
    pub(crate) fn request_cancel(&self, generation: u32, to: u64) -> bool {
        if mutant("cancel-believes-any-key") {
            return true;
        }
        let tenant = u64::from(generation) << 32;
        self.state
            .compare_exchange(
                tenant | phase::PENDING,
                tenant | to,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The body is used by somebody who holds only a key.
    #[inline(always)]
    pub(crate) fn used(&self) {
        if sync::recycles() {
            self.tenant.used();
        }
    }

    /// A tenant comes or goes.
    #[inline(always)]
    fn touch(&self) {
        if sync::recycles() {
            self.tenant.changed();
        }
    }

    /// Acquire, the other half of the Release in `alloc`.
    #[inline]
    pub(crate) fn data(&self) -> u64 {
        self.data.load(Ordering::Acquire)
    }

    /// Its owner changes it, of an operation that repeats.
    pub(crate) fn set_vtable(&self, table: &'static VTable) {
        self.table.changed();
        self.vtable.set(table);
    }

    /// Of a cell that is the caller's, or of a queue whose lock it has.
    #[inline]
    pub(crate) fn vtable(&self) -> &'static VTable {
        self.table.used();
        self.vtable.get()
    }
}

/// The header of a cell.
///
/// Safe to call with any `Ptr` whose home lives: slabs are freed with the home alone.
#[inline]
pub(crate) fn header<'a>(ptr: Ptr) -> &'a Header {
    // SAFETY: every `Ptr` comes from `Home::alloc`, and its slab lives as long as its home, which everyone who holds a
    // `Ptr` keeps alive (workers and handles hold the port, a completion holds back the drop of its home).
    unsafe { ptr.as_ref() }
}

/// The place in a cell at `offset`: the body's, or a part of it.
#[inline]
pub(crate) fn place<T>(cell: Ptr, offset: usize) -> *mut T {
    cell.as_ptr().wrapping_byte_add(offset).cast()
}

/// A size of cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Small,
    Middle,
    Large,
    Largest,
}

pub(crate) const CLASSES: usize = 4;

/// loom's atomics are larger than the machine's.
#[cfg(not(proactor_loom))]
const SIZES: [usize; CLASSES] = [64, 128, 192, 256];
#[cfg(proactor_loom)]
const SIZES: [usize; CLASSES] = [512, 1024, 1536, 2048];

/// Cells are aligned to a cache line, so that two never share one.
const ALIGN: usize = 64;
const SLAB: usize = if cfg!(proactor_loom) { 4096 } else { 32 * 1024 };
/// Cells in a full magazine.
const MAGAZINE: usize = if cfg!(proactor_loom) { 1 } else { 32 };

impl Class {
    pub(crate) const LARGEST: Self = Self::Largest;
    pub(crate) const ALL: [Self; CLASSES] = [Self::Small, Self::Middle, Self::Large, Self::Largest];

    /// The class that `layout` fits in, or none.
    pub(crate) const fn of(layout: Layout) -> Option<Self> {
        let mut class = 0;
        while class < CLASSES {
            if layout.size() <= SIZES[class] && layout.align() <= ALIGN {
                return Some(Self::ALL[class]);
            }
            class += 1;
        }
        None
    }

    #[inline]
    fn index(self) -> usize {
        self as usize
    }

    fn size(self) -> usize {
        SIZES[self.index()]
    }
}

/// What every completion needs to go home: the memory it came from, the books it is kept in, and the port
/// that can finish it.
pub(crate) struct Home {
    pub(crate) ledger: Ledger,
    /// How many calls from outside may be pending, if there is a limit.
    pub(crate) pressure: Option<Pressure>,
    /// How much in a row a thread does of what follows from what it did, before others have their turn.
    pub(crate) turn: usize,
    /// Which port, among all of this process: a key of one is nothing to another.
    pub(crate) id: u32,
    me: Weak<Self>,
    depots: [QuietMutex<Depot>; CLASSES],
    slabs: PlainMutex<Slabs>,
    /// The port, for a completion that is run by hand: see [`Owner`].
    pub(crate) owner: OnceLock<Owner>,
}

/// The port that a home belongs to, without its type.
pub(crate) struct Owner {
    pub(crate) port: WeakPort,
}

/// A port that may be gone.
pub(crate) type WeakPort = crate::sync::Weak<dyn crate::completion::Attempt>;

// SAFETY: cells and slabs are reached under the depots' and slabs' locks; the ledger and the owner are atomics.
unsafe impl Sync for Home {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Home {}

impl Home {
    /// A home at an address that stays.
    pub(crate) fn new(workers: usize, most: Option<NonZeroUsize>, turn: usize) -> Arc<Self> {
        let depot = || QuietMutex::new(Depot::new());
        let home = Arc::new_cyclic(|me| Self {
            ledger: Ledger::new(workers),
            pressure: most.map(|most| Pressure::new(workers, most)),
            turn,
            id: sync::fresh_id(),
            me: me.clone(),
            depots: [depot(), depot(), depot(), depot()],
            slabs: PlainMutex::new(Slabs::new()),
            owner: OnceLock::new(),
        });
        #[cfg(proactor_loom)]
        sync::model::born(&*home);
        home
    }

    /// The home of a cell.
    #[inline]
    pub(crate) fn of<'a>(cell: Ptr) -> &'a Self {
        let slab = cell
            .as_ptr()
            .map_addr(|address| address & !(SLAB - 1))
            .cast::<Slab>();
        // SAFETY: every cell stands in a slab aligned to its size, which begins with a `Slab`, and lives with its home.
        let home = unsafe { (*slab).home };
        // SAFETY: the home lives while the cell is anybody's.
        unsafe { &*home }
    }

    /// Keeps it in memory, whatever becomes of its port. For whoever has a piece of its work, which keeps it until then.
    pub(crate) fn keep(&self) -> Option<Arc<Self>> {
        self.me.upgrade().filter(|_| !mutant("home-not-kept"))
    }

    /// Lets others go first, in a model, and says so if it was dropped by then. Not in the models of recycling, which need their
    /// switches elsewhere.
    #[inline(always)]
    pub(crate) fn must_live(&self) {
        #[cfg(proactor_loom)]
        if !sync::recycles() {
            sync::yield_now();
            assert!(sync::model::lives(self), "a home was used after its end");
        }
    }

    /// A cell for a body of `class`, with its header written. The body is the caller's to write.
    #[inline]
    pub(crate) fn alloc(
        &self,
        class: Class,
        vtable: &'static VTable,
        phase: u64,
        data: u64,
    ) -> Ptr {
        let cell = cache::take(self, class).unwrap_or_else(|| self.alloc_slow(class));
        let header = header(cell);
        header.touch();
        header.vtable.set(vtable);
        // Release, for a canceller with the key of an earlier tenant: if it reads this, it sees that the tenant has changed.
        header.data.store(data, Ordering::Release);
        let generation = header.state.load(Ordering::Relaxed) & !PHASE;
        header.state.store(generation | phase, Ordering::Relaxed);
        cell
    }

    /// Takes a cell back. Its body has been moved out.
    #[inline(always)]
    pub(crate) fn free(&self, cell: Ptr) {
        self.free_as(header(cell).vtable().class, cell);
    }

    /// As `free`, of a cell of that class.
    #[inline(always)]
    pub(crate) fn free_as(&self, class: Class, cell: Ptr) {
        header(cell).touch();
        let state = &header(cell).state;
        let step = u64::from(!mutant("free-keeps-generation")) << 32;
        // The phase stays as it is: no key is of this generation.
        let now = state.load(Ordering::Relaxed).wrapping_add(step);
        state.store(now, Ordering::Relaxed);
        if let Some(cell) = cache::give(self, class, cell) {
            self.free_slow(class, cell);
        }
    }

    #[cold]
    fn free_slow(&self, class: Class, cell: Ptr) {
        self.depot(class).loose.push(cell);
    }
}

#[cfg(proactor_loom)]
impl Drop for Home {
    fn drop(&mut self) {
        sync::model::died(self);
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

mod armed;
mod cache;
mod depot;
mod table;

pub(crate) use depot::Chain;
use depot::{Depot, Slab, Slabs};
use table::FREE;
pub(crate) use table::{Repeats, Run, SurplusOf, VTable};

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::*;
    use std::{ptr, thread};

    const TEST: VTable = VTable {
        class: Class::Middle,
        ..VTable::NOTHING
    };

    #[test]
    fn cells_of_one_home_never_overlap_and_name_their_home() {
        let home = Home::new(1, None, 0);
        let mut cells: Vec<_> = (0..1000)
            .map(|_| {
                home.alloc(Class::Middle, &TEST, phase::DONE, 7)
                    .as_ptr()
                    .addr()
            })
            .collect();
        cells.sort_unstable();
        assert!(cells.windows(2).all(|pair| pair[1] - pair[0] >= 128));
    }

    #[test]
    fn threads_that_take_cells_at_once_share_slabs_and_no_cell() {
        const EACH: usize = 20_000;
        let home = Home::new(1, None, 0);
        let take = || {
            let cell = home.alloc(Class::Middle, &TEST, phase::DONE, 0);
            cell.as_ptr().addr()
        };
        let mut cells = thread::scope(|scope| {
            let threads =
                [(); 3].map(|()| scope.spawn(|| Vec::from_iter((0..EACH).map(|_| take()))));
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        let last = Vec::from_iter((0..3 * 3 * MAGAZINE).map(|_| take()));
        // What a thread had left when it ended serves again, so the last ones need no slab of their own.
        let needed = (cells.len() + last.len()).div_ceil(SLAB / Class::Middle.size() - 1);
        assert!(
            home.slabs() <= needed + 1,
            "{} slabs, not {needed}",
            home.slabs()
        );
        cells.extend(last);
        cells.sort_unstable();
        assert!(cells.windows(2).all(|pair| pair[1] - pair[0] >= 128));
    }

    #[test]
    fn a_freed_cell_serves_again_under_another_generation() {
        let home = Home::new(1, None, 0);
        let first = home.alloc(Class::Middle, &TEST, phase::PENDING, 0);
        let generation = header(first).generation();
        assert!(ptr::eq(Home::of(first), &raw const *home));
        home.free(first);
        let second = home.alloc(Class::Middle, &TEST, phase::PENDING, 0);
        assert_eq!(first, second);
        assert!(!header(second).request_cancel(generation, phase::CANCEL));
        assert!(header(second).request_cancel(generation + 1, phase::CANCEL));
    }

    #[test]
    fn what_one_thread_frees_another_can_have() {
        let home = Home::new(1, None, 0);
        let cells: Vec<usize> = (0..500)
            .map(|_| {
                home.alloc(Class::Middle, &TEST, phase::DONE, 0)
                    .as_ptr()
                    .expose_provenance()
            })
            .collect();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                for &cell in &cells {
                    home.free(NonNull::new(ptr::with_exposed_provenance_mut(cell)).unwrap());
                }
            });
            // A scope does not wait for what a thread drops at its end, which gives back what it had left.
            thread.join().unwrap();
        });
        let slabs = home.slabs();
        for _ in 0..500 {
            home.alloc(Class::Middle, &TEST, phase::DONE, 0);
        }
        assert_eq!(home.slabs(), slabs, "the second round needs no new slab");
    }
}
