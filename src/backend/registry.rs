//! The objects of a port: entries of an address that stays, found by index, or by that; told apart by generation.
//!
//! An entry is used again after its object is gone, and its memory is freed with the registry alone. So an event that
//! comes late finds an entry, sees another generation under the direction's lock, and does nothing.
//!
//! | field | who may touch it |
//! |---|---|
//! | `generation` | written by whoever frees the entry, when nothing else refers to it; read by anybody |
//! | `refs` | one for each handle, and one for as long as the descriptor is open |
//! | `fd` | written at `open` and by the last share of the close; read by whoever holds a direction |
//! | `shares` | the closer and each direction that is held when it closes |
//! | `shelved` | whoever holds the reading direction |
//! | `interest` | under its lock (portable, oneshot) |
//! | `directions` | each under its lock |
#![allow(unsafe_code)] // entries outlive the borrows that a lock-free lookup can express

use std::fmt;
use std::ptr::{self, NonNull};

use super::direction::Direction;
use crate::id::ObjectId;
pub(crate) use crate::operation::perform::Fd;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard, OnceLock, Trace};

/// What was asked of the demultiplexer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interest {
    pub(crate) registered: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Which direction of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Write,
}

/// One object.
#[repr(align(8))] // for its tags
pub(crate) struct Entry {
    pub(crate) index: u32,
    pub(crate) generation: AtomicU32,
    pub(crate) refs: AtomicU32,
    pub(crate) shares: AtomicU32,
    /// Whether a short read of it can mean that there was no more.
    pub(crate) drains: AtomicBool,
    /// Whether connections come out of it.
    pub(crate) listens: AtomicBool,
    /// Whether it does: `drains`, and the demultiplexer knows it, and tells what comes after one.
    pub(crate) short_drains: AtomicBool,
    /// Whether the writing direction is free and ready, and nobody waits there: then an event changes nothing. Written under its lock.
    pub(crate) calm: AtomicBool,
    /// Whether something of the reading direction lies on the shelf: see `Shelf::has`.
    pub(crate) shelved: AtomicBool,
    pub(crate) interest: Mutex<Interest>,
    /// The port, which each open entry keeps alive; the backend only carries it.
    pub(crate) owner: AtomicPtr<()>,
    fd: std::cell::UnsafeCell<Option<Fd>>,
    directions: [Mutex<Direction>; 2],
    /// The descriptor, and the tenant that handles stand for.
    descriptor: Trace,
    pub(crate) tenant: Trace,
}

// SAFETY: `fd` is written only by `occupy` (nobody else knows the entry yet) and `take_fd` (nobody holds a direction any
// more); all else is atomics and locks.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

impl Entry {
    fn vacant(index: u32) -> Self {
        let direction = || Mutex::new(Direction::vacant());
        Self {
            index,
            generation: AtomicU32::new(0),
            refs: AtomicU32::new(0),
            shares: AtomicU32::new(0),
            drains: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            short_drains: AtomicBool::new(false),
            calm: AtomicBool::new(true),
            shelved: AtomicBool::new(false),
            interest: Mutex::new(Interest::default()),
            owner: AtomicPtr::new(std::ptr::null_mut()),
            fd: std::cell::UnsafeCell::new(None),
            directions: [direction(), direction()],
            descriptor: Trace::new(),
            tenant: Trace::new(),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> ObjectId {
        ObjectId::new(self.index, self.generation.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn direction(&self, way: Way) -> MutexGuard<'_, Direction> {
        self.directions[way as usize].lock()
    }

    /// The descriptor.
    ///
    /// # Safety
    ///
    /// The caller holds a direction (is its `current`), or a handle while the object is open and is the only closer.
    pub(crate) unsafe fn fd(&self) -> Option<&Fd> {
        self.descriptor.used();
        // SAFETY: it is taken out only after every direction was let go, which the caller's hold rules out.
        unsafe { (*self.fd.get()).as_ref() }
    }

    /// Takes the descriptor out, to close it.
    ///
    /// # Safety
    ///
    /// The caller gave back the last share of the close.
    pub(crate) unsafe fn take_fd(&self) -> Option<Fd> {
        self.descriptor.changed();
        // SAFETY: no direction is held and none can be taken any more, so nobody reads it.
        unsafe { (*self.fd.get()).take() }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// An entry of a registry that lives. Whoever keeps one beyond a call counts in `refs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef(NonNull<Entry>);

impl EntryRef {
    /// Its address, which `from_raw` takes.
    #[inline]
    pub(crate) fn as_ptr(self) -> *const () {
        self.0.as_ptr().cast_const().cast()
    }

    /// What a demultiplexer is to know its present object by.
    pub(crate) fn tag(self) -> Tag {
        let generation = self.generation.load(Ordering::Relaxed) as usize;
        let last = generation % Tag::GENERATIONS;
        Tag(self.0.map_addr(|bits| bits | last))
    }

    #[inline]
    pub(super) fn from_raw(entry: NonNull<Entry>) -> Self {
        Self(entry)
    }
}

// SAFETY: a shared reference to an `Entry`, which is `Sync`.
unsafe impl Send for EntryRef {}
// SAFETY: as above.
unsafe impl Sync for EntryRef {}

impl std::ops::Deref for EntryRef {
    type Target = Entry;
    #[inline]
    fn deref(&self) -> &Entry {
        // SAFETY: entries are freed with their registry alone, and that with the port, which everyone who has an
        // `EntryRef` keeps alive.
        unsafe { self.0.as_ref() }
    }
}

/// What a demultiplexer knows an object by: the address of its entry, which stays, and in the bits that alignment leaves free the last of
/// its generation. An event that is late by a multiple of [`GENERATIONS`](Self::GENERATIONS) of them passes for the present tenant's, and
/// costs that an attempt in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(NonNull<Entry>);

// SAFETY: as an `EntryRef`.
unsafe impl Send for Tag {}

impl Tag {
    const GENERATIONS: usize = align_of::<Entry>();
    /// Numbers below are no tag's, and the port's own: as every address, an entry's is beyond them.
    pub(crate) const OWN: usize = Self::GENERATIONS;

    /// What is to be told to the kernel.
    #[inline]
    pub(crate) fn bits(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// The one that has these bits.
    ///
    /// # Safety
    ///
    /// They are a tag's, and its registry lives for as long as this one is used.
    #[inline]
    pub(crate) unsafe fn from_bits(bits: usize) -> Self {
        // SAFETY: an entry has an address, says the caller.
        Self(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(bits)) })
    }

    /// Whether it was made for the object of that generation, as far as it tells.
    #[inline]
    pub(super) fn is_of(self, generation: u32) -> bool {
        (self.0.addr().get() ^ generation as usize) % Self::GENERATIONS == 0
    }

    #[inline]
    pub(super) fn entry(self) -> EntryRef {
        let at = self
            .0
            .as_ptr()
            .map_addr(|bits| bits & !(Self::GENERATIONS - 1));
        // SAFETY: an entry's address, as whoever made the tag has promised.
        EntryRef(unsafe { NonNull::new_unchecked(at) })
    }
}

/// Pages double: page `p` holds `FIRST << p` entries.
const FIRST: usize = if cfg!(proactor_loom) { 2 } else { 64 };
const PAGES: usize = 24;

/// Entries are made so many at a time: a page whose last entries nobody has needed costs a word for each chunk of them.
const CHUNK: usize = if cfg!(proactor_loom) { 2 } else { 32 };

type Chunk = OnceLock<Box<[Entry; CHUNK]>>;

/// All entries.
pub(crate) struct Registry {
    pages: [OnceLock<Box<[Chunk]>>; PAGES],
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    indexes: Vec<u32>,
    issued: u32,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            pages: [const { OnceLock::new() }; PAGES],
            free: Mutex::new(Free::default()),
        }
    }

    #[inline]
    fn locate(index: u32) -> (usize, usize) {
        let at = index as usize / FIRST + 1;
        let page = at.ilog2() as usize;
        (page, index as usize - FIRST * ((1 << page) - 1))
    }

    /// The entry of that index, if it was ever issued.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<EntryRef> {
        let (page, at) = Self::locate(index);
        let chunk = self.pages.get(page)?.get()?.get(at / CHUNK)?.get()?;
        Some(EntryRef(NonNull::from(&chunk[at % CHUNK])))
    }

    /// A vacant entry, made the home of `fd` with one handle. `None` when there are too many; the descriptor is dropped.
    pub(crate) fn occupy(&self, fd: Fd, drains: bool, owner: *const ()) -> Option<EntryRef> {
        let index = {
            let mut free = self.free.lock();
            match free.indexes.pop() {
                Some(index) => index,
                None if free.issued < ObjectId::INDEX_LIMIT => {
                    free.issued += 1;
                    free.issued - 1
                }
                None => return None,
            }
        };
        self.make(index)?;
        let entry = self.get(index)?;
        entry.tenant.changed();
        entry.descriptor.changed();
        // SAFETY: a vacant entry has no handle, no operation and no registration, so nobody else looks at `fd`.
        unsafe { *entry.fd.get() = Some(fd) };
        entry.owner.store(owner.cast_mut(), Ordering::Relaxed);
        entry.shares.store(3, Ordering::Relaxed);
        *entry.interest.lock() = Interest::default();
        entry.short_drains.store(false, Ordering::Relaxed);
        entry.drains.store(drains, Ordering::Relaxed);
        entry.listens.store(false, Ordering::Relaxed);
        entry.calm.store(true, Ordering::Relaxed);
        // One for the handle, one for the open descriptor.
        entry.refs.store(2, Ordering::Relaxed);
        // Both at once: whoever closes everything finds it open in both directions, or not at all.
        let mut directions = (entry.direction(Way::Read), entry.direction(Way::Write));
        for direction in [&mut directions.0, &mut directions.1] {
            direction.open();
        }
        drop(directions);
        Some(entry)
    }

    /// Makes the chunk of the entry of that index, if it is the first of it.
    fn make(&self, index: u32) -> Option<()> {
        let (page, at) = Self::locate(index);
        let chunks = (FIRST << page) / CHUNK;
        let chunks = self
            .pages
            .get(page)?
            .get_or_init(|| (0..chunks).map(|_| OnceLock::new()).collect());
        chunks.get(at / CHUNK)?.get_or_init(|| {
            let first = index - u32::try_from(at % CHUNK).unwrap_or(0);
            let mut indexes = first..;
            Box::new(std::array::from_fn(|_| {
                Entry::vacant(indexes.next().unwrap_or(0))
            }))
        });
        Some(())
    }

    /// Makes the entry vacant again, under the next generation.
    pub(crate) fn vacate(&self, entry: EntryRef) {
        entry.tenant.changed();
        entry.generation.fetch_add(1, Ordering::Relaxed);
        self.free.lock().indexes.push(entry.index);
    }

    /// Every entry that was ever issued.
    pub(crate) fn all(&self) -> impl Iterator<Item = EntryRef> {
        let issued = self.free.lock().issued;
        (0..issued).filter_map(|index| self.get(index))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn socket() -> Fd {
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket")
            .into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn an_index_has_one_tenant_and_a_generation_never_returns(steps in proptest::collection::vec(any::<(bool, u8)>(), 1..300)) {
            let registry = Registry::new();
            let mut living: Vec<EntryRef> = Vec::new();
            let mut seen: HashMap<ObjectId, ()> = HashMap::new();
            for (open, which) in steps {
                if open || living.is_empty() {
                    let entry = registry.occupy(socket(), true, std::ptr::null()).expect("room");
                    prop_assert!(seen.insert(entry.id(), ()).is_none(), "an id was issued twice");
                    prop_assert!(!living.contains(&entry));
                    prop_assert_eq!(registry.get(entry.index), Some(entry));
                    living.push(entry);
                } else {
                    let entry = living.swap_remove(usize::from(which) % living.len());
                    // SAFETY: nobody else knows the entry.
                    drop(unsafe { entry.take_fd() });
                    registry.vacate(entry);
                }
            }
        }
    }

    #[test]
    fn a_tag_leads_to_its_entry_and_tells_it_from_the_next_tenants() {
        let registry = Registry::new();
        let entry = registry.occupy(socket(), true, ptr::null()).expect("room");
        let tag = entry.tag();
        // SAFETY: the tag's own bits, and the registry is here.
        assert_eq!(unsafe { Tag::from_bits(tag.bits()) }, tag);
        assert!(tag.bits() >= Tag::OWN);
        for later in 0..3 * Tag::GENERATIONS {
            let generation = entry.generation.load(Ordering::Relaxed);
            assert_eq!(entry.tag().entry(), entry);
            assert!(entry.tag().is_of(generation));
            let passes = later % Tag::GENERATIONS == 0;
            assert_eq!(tag.is_of(generation), passes, "{later} tenants later");
            // SAFETY: nobody else knows the entry.
            drop(unsafe { entry.take_fd() });
            registry.vacate(entry);
            let again = registry.occupy(socket(), true, ptr::null());
            assert_eq!(again, Some(entry));
        }
    }

    #[test]
    fn an_object_costs_little_while_it_is_idle() {
        let bytes = size_of::<Entry>();
        assert!(bytes <= 136, "an entry has grown to {bytes} bytes");
    }

    #[test]
    fn pages_hold_every_index_once() {
        let mut last = (0, usize::MAX);
        for index in 0..10_000 {
            let at = Registry::locate(index);
            assert!(
                at == (last.0, last.1.wrapping_add(1)) || at == (last.0 + 1, 0),
                "{index}: {at:?} after {last:?}"
            );
            last = at;
        }
    }
}
