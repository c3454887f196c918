//! An intrusive hierarchical timing wheel: arm and cancel in O(1), no memory of its own per timer.
//!
//! A *tick* is 1 ms since an epoch that the caller keeps. A *level* is 64 *slots*: those of level 0 span one tick each,
//! those of level `l` span 64^l ticks. Eleven levels span every `u64`, so there is no overflow list, and the farthest
//! deadline is like any other. A slot is eight *chains*, doubly linked lists of [`Node`]s; a hash of its tick says
//! which chain a node is in, at every level.
//!
//! - **Place.** A node goes to the lowest level at which its slot is fewer than 64 slots ahead of the current one. From
//!   level 1 up it is then at least one ahead (in the current slot it would fit a level lower), so **current slots of
//!   level 1 and up are empty**, a slot holds one span only, and a bitmap rotated to `now` is in order of time.
//! - **Cascade.** When `now` reaches the start of a slot of level 1 or up, its nodes move to lower levels. `advance`
//!   goes from one occupied slot to the next by bitmaps, so it stops at each such start, and at nothing else.
//! - **Order.** Nodes of one tick fire in order of insertion. They share a chain wherever they share a slot. The level
//!   of a tick only falls as `now` grows, so of two such nodes the one in the higher level is the elder: a cascade puts
//!   its nodes *before* those already there. At the start of a slot of level `l`, let a tick in it fall to level `k`:
//!   its slots of the levels between start there too, so they cascade as well, the lower level before the higher.
//!
//! Why levels go by distance, not by the highest bit in which tick and `now` differ (the other usual rule): that rule
//! has no first level beyond the next multiple of 64, so a third of all 20 ms timers would cost a wake-up too many.
//!
//! Why chains: a cascade of cold nodes waits for memory, one list one miss at a time. Eight in turn, with a prefetch,
//! took the expiry of a million timers from 250 ns each to some 65.
#![allow(unsafe_code)] // an intrusive list: its links are raw pointers into cells that others own

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::mem::{replace, take};
use std::ptr::NonNull;

/// The bits of a tick that one level resolves.
const BITS: u32 = 6;
/// Masks the index of a slot within its level.
const MASK: u64 = (1 << BITS) - 1;
/// The levels: enough for all 64 bits of a tick.
const LEVELS: u32 = u64::BITS.div_ceil(BITS);
/// The slots of all levels.
const SLOTS: usize = (LEVELS as usize) << BITS;
/// The bits of a chain's number that name the chain within its slot.
const CHAIN_BITS: u32 = 3;
/// The chains of a slot.
const CHAINS: usize = 1 << CHAIN_BITS;
/// The `chain` of a node that is in no wheel.
const NOT_LINKED: u32 = u32::MAX;

/// A link of a chain, or an end of it.
type Link = Option<NonNull<Node>>;

/// A timer's place in the wheel, embedded in a cell of stable address.
///
/// While it is linked, only the holder of the wheel (of the mutex that the wheel is kept under) may read or write it.
#[repr(C)]
pub(crate) struct Node {
    prev: Link,
    next: Link,
    tick: u64,
    owner: *mut (),
    /// The number of its chain: level, slot and chain from the high bits to the low.
    chain: u32,
}

impl Node {
    /// A node in no wheel, which leads back to `owner`.
    pub(crate) const fn new(owner: *mut ()) -> Self {
        Self {
            prev: None,
            next: None,
            tick: 0,
            owner,
            chain: NOT_LINKED,
        }
    }

    /// Says whom it leads back to, once that has its place.
    ///
    /// # Safety
    ///
    /// `node` is alive, and nobody else touches it meanwhile.
    pub(crate) unsafe fn set_owner(node: NonNull<Self>, owner: *mut ()) {
        // SAFETY: the caller's promise.
        unsafe { (*node.as_ptr()).owner = owner };
    }

    /// What the node leads back to.
    pub(crate) fn owner(&self) -> *mut () {
        self.owner
    }

    /// The tick it was last armed for; the wheel's `now` of that moment, if that was later.
    #[cfg(test)]
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Whether it is in a wheel.
    pub(crate) fn is_linked(&self) -> bool {
        self.chain != NOT_LINKED
    }
}

/// The two ends of a chain: both or neither.
#[derive(Default)]
struct Chain {
    head: Link,
    tail: Link,
}

/// All chains of the wheel, by number: 88 KiB.
type Chains = [Chain; SLOTS * CHAINS];

/// The wheel. It is free to move, and its `Chains` take real memory only page by page, as levels come into use.
///
/// Every linked node is in exactly one chain, its `chain` names that, and `occupied` and `parts` have a bit for each
/// slot and chain that is not empty. The SAFETY comments below call this, together with the contract of
/// [`Wheel::insert`], *the list invariant*.
pub(crate) struct Wheel {
    now: u64,
    len: usize,
    /// Per level, a bit for each slot.
    occupied: [u64; LEVELS as usize],
    /// Per slot, a bit for each chain.
    parts: [u8; SLOTS],
    chains: Box<Chains>,
}

// SAFETY: the wheel has the only use of its nodes while they are linked (contract of `insert`), whichever thread it is
// on; it never touches an owner.
unsafe impl Send for Wheel {}

impl Wheel {
    /// An empty wheel at tick 0.
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            len: 0,
            occupied: [0; LEVELS as usize],
            parts: [0; SLOTS],
            chains: empty_chains(),
        }
    }

    /// The nodes in the wheel.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Arms `node` for `tick`; a past tick counts as `now` and fires at the next advance.
    ///
    /// # Safety
    ///
    /// The node is not linked. Until it fires, is removed or is drained, its address is stable, its memory is not
    /// reused, and nobody but this wheel touches it, save under the exclusion that guards the wheel.
    pub(crate) unsafe fn insert(&mut self, mut node: NonNull<Node>, tick: u64) {
        let tick = tick.max(self.now);
        let number = self.place(tick);
        let chain = &mut self.chains[number as usize];
        // SAFETY: the caller vouches that the node lives and is in no chain, so no other reference to it exists.
        let inner = unsafe { node.as_mut() };
        debug_assert!(!inner.is_linked(), "a node is armed twice");
        inner.tick = tick;
        inner.chain = number;
        inner.prev = chain.tail;
        inner.next = None;
        if let Some(mut tail) = chain.tail.replace(node) {
            // SAFETY: the list invariant: the tail is a linked node, hence alive, and not the node being armed.
            unsafe { tail.as_mut() }.next = Some(node);
        } else {
            chain.head = Some(node);
            self.mark(number);
        }
        self.len += 1;
    }

    /// Disarms `node`; false if it was not linked (it fired, or never was armed).
    ///
    /// # Safety
    ///
    /// The node is alive, and if it is linked, then in this wheel.
    pub(crate) unsafe fn remove(&mut self, node: NonNull<Node>) -> bool {
        // SAFETY: the caller vouches that the node is alive, and holds the exclusion that guards the wheel.
        let linked = unsafe { node.as_ref() }.is_linked();
        if linked {
            // SAFETY: it is linked, and the caller vouches that it is so in this wheel.
            unsafe { self.unlink(node) };
        }
        linked
    }

    /// Moves `now` to `to` (never back) and hands every node with a tick up to it to `fire`, unlinked already: in order
    /// of tick, and in order of insertion within a tick.
    ///
    /// `fire` may free the node. If it panics, that node is spent, and the others stay for the next advance.
    pub(crate) fn advance(&mut self, to: u64, mut fire: impl FnMut(NonNull<Node>)) {
        let to = to.max(self.now);
        while let Some(tick) = self.next_tick().filter(|&tick| tick <= to) {
            self.now = tick;
            self.cascade();
            self.empty((tick & MASK) as usize, &mut fire);
        }
        self.now = to;
    }

    /// When to look at the wheel again, at the latest: the earliest tick if it is in the first level (it is if it was
    /// less than 64 ticks off when armed), else the start of its slot or of an earlier one. Never later than the
    /// earliest tick, never before `now`. None if the wheel is empty.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        let mut earliest = None;
        for (level, &slots) in (0..).zip(&self.occupied) {
            if slots == 0 {
                continue;
            }
            let shift = level * BITS;
            let current = self.now >> shift;
            let ahead = slots.rotate_right((current & MASK) as u32).trailing_zeros();
            // No overflow: the slot has a node, whose tick is not before the slot's start.
            let start = (current + u64::from(ahead)) << shift;
            earliest = Some(earliest.map_or(start, |other: u64| other.min(start)));
            if (current & MASK) + u64::from(ahead) <= MASK {
                break; // before the next slot of the level above, where all higher levels begin
            }
        }
        earliest
    }

    /// Hands every node to `fire`, unlinked already, in no particular order; `now` stays.
    pub(crate) fn drain(&mut self, mut fire: impl FnMut(NonNull<Node>)) {
        for slot in 0..SLOTS {
            self.empty(slot, &mut fire);
        }
    }

    /// The number of the chain for a tick that is not past.
    fn place(&self, tick: u64) -> u32 {
        let level = ((tick - self.now) | 1).ilog2() / BITS;
        let shift = level * BITS;
        // Less than 64 spans of this level away is at most 64 slots ahead; if it is just 64, the next level has it.
        let ahead = (tick >> shift) - (self.now >> shift);
        let level = level + u32::from(ahead > MASK);
        let slot = (tick >> (level * BITS)) & MASK;
        // Fibonacci hashing: deadlines rounded to any step still spread over the chains.
        let part = tick.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - CHAIN_BITS);
        ((level << BITS | slot as u32) << CHAIN_BITS) | part as u32
    }

    /// Notes that a chain is no longer empty.
    fn mark(&mut self, number: u32) {
        let slot = number >> CHAIN_BITS;
        self.parts[slot as usize] |= 1 << (number as usize % CHAINS);
        self.occupied[(slot >> BITS) as usize] |= 1 << (u64::from(slot) & MASK);
    }

    /// Notes that a chain is empty.
    fn unmark(&mut self, number: u32) {
        let slot = number >> CHAIN_BITS;
        let parts = &mut self.parts[slot as usize];
        *parts &= !(1 << (number as usize % CHAINS));
        if *parts == 0 {
            self.occupied[(slot >> BITS) as usize] &= !(1 << (u64::from(slot) & MASK));
        }
    }

    /// Moves the nodes of all slots above level 0 that start at `now` down, the lower level first.
    fn cascade(&mut self) {
        let aligned = self.now.trailing_zeros() / BITS;
        for level in 1..LEVELS.min(aligned + 1) {
            let slot = (self.now >> (level * BITS)) & MASK;
            let slots = &mut self.occupied[level as usize];
            if *slots & (1 << slot) != 0 {
                *slots &= !(1 << slot);
                self.pour(((level << BITS) | slot as u32) as usize);
            }
        }
    }

    /// Moves the nodes of a slot down, its chains in turn so that their cache misses overlap.
    fn pour(&mut self, slot: usize) {
        self.parts[slot] = 0;
        let chains = &mut self.chains[slot * CHAINS..];
        let mut tails = std::array::from_fn(|part| take(&mut chains[part]).tail);
        while tails != [None; CHAINS] {
            for tail in &mut tails {
                if let Some(node) = *tail {
                    *tail = self.lower(node);
                }
            }
        }
    }

    /// Puts the tail of a chain that was taken out of its slot before all others of its new chain; returns the next.
    fn lower(&mut self, mut node: NonNull<Node>) -> Link {
        // SAFETY: the list invariant: the node is alive; it was taken out of its slot, so no other reference exists.
        let inner = unsafe { node.as_mut() };
        let rest = inner.prev;
        if let Some(rest) = rest {
            crate::queue::prefetch(rest.as_ptr());
        }
        let number = self.place(inner.tick);
        let chain = &mut self.chains[number as usize];
        inner.chain = number;
        inner.prev = None;
        inner.next = chain.head;
        if let Some(mut head) = chain.head.replace(node) {
            // SAFETY: the list invariant: the head is a linked node, hence alive, and not the node being moved.
            unsafe { head.as_mut() }.prev = Some(node);
        } else {
            chain.tail = Some(node);
            self.mark(number);
        }
        rest
    }

    /// Fires the nodes of a slot, each chain from its head, one at a time so that the wheel is whole when `fire` runs.
    fn empty(&mut self, slot: usize, fire: &mut impl FnMut(NonNull<Node>)) {
        while self.parts[slot] != 0 {
            let part = self.parts[slot].trailing_zeros() as usize;
            while let Some(node) = self.chains[slot * CHAINS + part].head {
                // SAFETY: the list invariant: the head of a chain is linked in this wheel.
                unsafe { self.unlink(node) };
                fire(node);
            }
        }
    }

    /// Takes `node` out of its chain.
    ///
    /// # Safety
    ///
    /// The node is linked in this wheel.
    unsafe fn unlink(&mut self, mut node: NonNull<Node>) {
        // SAFETY: the list invariant: a linked node is alive, and nobody else refers to it.
        let inner = unsafe { node.as_mut() };
        let (prev, next) = (inner.prev.take(), inner.next.take());
        let number = replace(&mut inner.chain, NOT_LINKED);
        let chain = &mut self.chains[number as usize];
        match prev {
            // SAFETY: the list invariant: a neighbour is a linked node, hence alive.
            Some(mut prev) => unsafe { prev.as_mut() }.next = next,
            None => chain.head = next,
        }
        match next {
            // SAFETY: as above.
            Some(mut next) => unsafe { next.as_mut() }.prev = prev,
            None => chain.tail = prev,
        }
        if chain.head.is_none() {
            self.unmark(number);
        }
        self.len -= 1;
    }
}

/// Zeroed rather than written, so that untouched pages stay untouched, and never on the stack.
fn empty_chains() -> Box<Chains> {
    let layout = Layout::new::<Chains>();
    // SAFETY: the layout is not of size zero, by the constants above.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<Chains>();
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: the global allocator gave this memory for this layout, and all zeroes are `None`s of `Option<NonNull>`.
    unsafe { Box::from_raw(memory) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr::without_provenance_mut;

    /// A node of its own, whose owner is its id.
    fn node(id: usize) -> NonNull<Node> {
        NonNull::from(Box::leak(Box::new(Node::new(without_provenance_mut(id)))))
    }

    fn insert(wheel: &mut Wheel, node: NonNull<Node>, tick: u64) {
        // SAFETY: nodes come from `node`, live until `free`, and the tests arm only unlinked ones.
        unsafe { wheel.insert(node, tick) };
    }

    fn get<'a>(node: NonNull<Node>) -> &'a Node {
        // SAFETY: nodes live until `free`; no test keeps the reference over a use of the wheel.
        unsafe { node.as_ref() }
    }

    fn free(node: NonNull<Node>) {
        assert!(!get(node).is_linked());
        // SAFETY: it was boxed by `node`, and tests free it once, unlinked.
        drop(unsafe { Box::from_raw(node.as_ptr()) });
    }

    /// Advances, and returns (tick, id) of what fired.
    fn fired(wheel: &mut Wheel, to: u64) -> Vec<(u64, usize)> {
        let mut fired = Vec::new();
        wheel.advance(to, |node| {
            assert!(!get(node).is_linked());
            fired.push((get(node).tick(), get(node).owner().addr()));
        });
        fired
    }

    /// A fixed set of nodes and what a correct wheel would hold.
    struct Model {
        wheel: Wheel,
        nodes: Vec<NonNull<Node>>,
        /// Tick and number of the arming, to id.
        armed: BTreeMap<(u64, usize), usize>,
        armings: usize,
    }

    impl Model {
        fn new(nodes: usize, now: u64) -> Self {
            let mut model = Self {
                wheel: Wheel::new(),
                nodes: (0..nodes).map(node).collect(),
                armed: BTreeMap::new(),
                armings: 0,
            };
            model.advance(now);
            model
        }

        /// Arms a node, or disarms it if it is armed.
        fn toggle(&mut self, id: usize, tick: u64) {
            let node = self.nodes[id];
            let linked = get(node).is_linked();
            // SAFETY: nodes live until `free`, and a model has one wheel.
            assert_eq!(unsafe { self.wheel.remove(node) }, linked);
            self.armed.retain(|_, armed| *armed != id);
            if !linked {
                insert(&mut self.wheel, node, tick);
                self.armings += 1;
                self.armed
                    .insert((tick.max(self.wheel.now), self.armings), id);
            }
            self.check();
        }

        fn advance(&mut self, to: u64) {
            let mut due = Vec::new();
            while let Some(entry) = self.armed.first_entry().filter(|e| e.key().0 <= to) {
                due.push((entry.key().0, entry.remove()));
            }
            assert_eq!(fired(&mut self.wheel, to), due);
            assert_eq!(self.wheel.now, to);
            self.check();
        }

        fn check(&self) {
            assert_eq!(self.wheel.len(), self.armed.len());
            let earliest = self.armed.first_key_value().map(|(key, _)| key.0);
            let next = self.wheel.next_tick();
            assert!(next <= earliest, "late: {next:?}, not {earliest:?}");
            assert!(next >= earliest.map(|_| self.wheel.now));
        }

        /// Advances from look to look until nothing is left.
        fn run_out(&mut self) {
            let mut looks = self.armed.len() * LEVELS as usize;
            while let Some(next) = self.wheel.next_tick() {
                assert_ne!(looks, 0, "too many looks");
                looks -= 1;
                self.advance(next);
            }
        }
    }

    impl Drop for Model {
        fn drop(&mut self) {
            self.wheel.drain(|_| ());
            self.nodes.iter().copied().for_each(free);
        }
    }

    const NODES: usize = 24;

    /// Arming is for so many ticks from now, or from the start (then one tick is met at different times).
    #[derive(Clone, Debug)]
    enum Op {
        ToggleAfter(usize, u64),
        ToggleAt(usize, u64),
        Advance(u64),
        Look,
    }

    /// Distances of every magnitude, thick around the borders of levels.
    fn distance() -> impl Strategy<Value = u64> {
        let border = (1..LEVELS, 1..3u64, 0..5u64);
        let border = border.prop_map(|(level, n, off)| (n << (level * BITS)) - 2 + off);
        prop_oneof![3 => 0..200u64, 3 => 0..20_000u64, 4 => border, 1 => any::<u64>()]
    }

    fn start() -> impl Strategy<Value = u64> {
        prop_oneof![1 => Just(0), 1 => 0..9999u64, 1 => any::<u64>(), 1 => u64::MAX - 9999..=u64::MAX]
    }

    fn op() -> impl Strategy<Value = Op> {
        let meeting = prop::sample::select(vec![64, 70, 127, 4096, 4106, 4170, 262_144, 300_000]);
        prop_oneof![
            4 => (0..NODES, distance()).prop_map(|(id, ticks)| Op::ToggleAfter(id, ticks)),
            6 => (0..NODES, meeting).prop_map(|(id, ticks)| Op::ToggleAt(id, ticks)),
            3 => distance().prop_map(Op::Advance),
            4 => Just(Op::Look),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1000 }))]
        #[test]
        fn it_is_a_sorted_map(start in start(), ops in prop::collection::vec(op(), 1..150)) {
            let mut model = Model::new(NODES, start);
            for op in ops {
                let now = model.wheel.now;
                match op {
                    Op::ToggleAfter(id, ticks) => model.toggle(id, now.saturating_add(ticks)),
                    Op::ToggleAt(id, ticks) => model.toggle(id, start.saturating_add(ticks)),
                    Op::Advance(ticks) => model.advance(now.saturating_add(ticks)),
                    Op::Look => model.advance(model.wheel.next_tick().unwrap_or(now)),
                }
            }
            model.run_out();
        }
    }

    #[test]
    fn the_first_level_is_exact_and_nothing_is_early() {
        for start in [0, 1, 63, 64, 4095, 1 << 40, u64::MAX - 63] {
            for tick in start + 1..=start + 63 {
                let mut model = Model::new(1, start);
                model.toggle(0, tick);
                assert_eq!(model.wheel.next_tick(), Some(tick));
                model.advance(tick - 1);
                model.advance(tick);
            }
        }
    }

    #[test]
    fn far_deadlines_are_like_any_other_and_time_never_goes_back() {
        const YEAR: u64 = 365 * 24 * 3_600_000;
        let mut model = Model::new(6, 12_345);
        let ticks = [u64::MAX, u64::MAX - 1, 1 << 63, 200 * YEAR, YEAR, 3_600_000];
        (0..6).for_each(|id| model.toggle(id, ticks[id]));
        model.advance(100 * YEAR);
        assert_eq!(model.wheel.len(), 4);
        model.run_out();
        model.toggle(0, 7);
        model.toggle(1, 3);
        assert_eq!(fired(&mut model.wheel, 10), [(u64::MAX, 0), (u64::MAX, 1)]);
        assert_eq!(model.wheel.now, u64::MAX);
    }

    #[test]
    fn drain_hands_over_everything_and_the_wheel_goes_on() {
        let mut model = Model::new(200, 5000);
        (0..200).for_each(|id| model.toggle(id, 5000 + (1 << (id % 63))));
        let mut ids = Vec::new();
        model.wheel.drain(|node| ids.push(get(node).owner().addr()));
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..200));
        model.armed.clear();
        model.toggle(3, 5100);
        model.run_out();
    }

    #[test]
    fn fire_may_free_the_node_and_the_wheel_may_move() {
        let mut wheel = Wheel::new();
        (0..99).for_each(|id| insert(&mut wheel, node(id), 4000 + id as u64 % 9 * 50));
        let mut boxed = Box::new(wheel);
        boxed.advance(4200, free);
        assert_eq!(boxed.len(), 44);
        let mut wheel = *boxed;
        wheel.drain(free);
    }

    #[test]
    fn a_panic_in_fire_spends_one_node_only() {
        let mut model = Model::new(4, 0);
        (0..4).for_each(|id| model.toggle(id, 70 + id as u64 / 3));
        let panicking = AssertUnwindSafe(|| model.wheel.advance(100, |_| panic!("on purpose")));
        assert!(catch_unwind(panicking).is_err());
        assert_eq!((model.wheel.len(), model.wheel.now), (3, 70));
        assert_eq!(fired(&mut model.wheel, 100), [(70, 1), (70, 2), (71, 3)]);
    }
}
