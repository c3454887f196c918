//! A hierarchical timing wheel of names: to arm is O(1), and whoever cancels does not touch it.
//!
//! A *tick* is 1 ms since an epoch that the caller keeps. A *level* is 64 *slots*: those of level 0 span one tick each,
//! those of level `l` span 64^l ticks. Eleven levels span every `u64`, so there is no overflow list, and the farthest
//! deadline is like any other. A slot is a list of *blocks*, of twenty *entries* each: a tick and a [`Name`].
//!
//! - **Place.** An entry goes to the lowest level at which its slot is fewer than 64 slots ahead of the current one. From
//!   level 1 up it is then at least one ahead (in the current slot it would fit a level lower), so **current slots of
//!   level 1 and up are empty**, a slot holds one span only, and a bitmap rotated to `now` is in order of time.
//! - **Cascade.** When `now` reaches the start of a slot of level 1 or up, its entries move to lower levels. `advance`
//!   goes from one occupied slot to the next by bitmaps, so it stops at each such start, and at nothing else.
//! - **Order.** Entries of one tick fire in order of insertion. The level of a tick only falls as `now` grows, so of two such
//!   entries the one in the higher level is the elder: a cascade puts its entries *before* those already there. At the start of a
//!   slot of level `l`, let a tick in it fall to level `k`: its slots of the levels between start there too, so they cascade as
//!   well, the lower level before the higher.
//! - **The dead.** What an entry names may end without the wheel's knowing: the entry is dead, and is told from a live one only by
//!   asking its name, which is memory elsewhere. So nobody asks one by one. `next_tick` drops the dead that come first, so
//!   that nobody is woken for them. When three times as many blocks are in use as the last round of *sweeps* has left, there is another: with
//!   each block that comes into use sixteen are swept, so that nobody waits long. The dead in them go, and two neighbours that fit
//!   in one block become one. So there are at most some four times the blocks that the living fill.
//!
//! Why levels go by distance, not by the highest bit in which tick and `now` differ (the other usual rule): that rule
//! has no first level beyond the next multiple of 64, so a third of all 20 ms timers would cost a wake-up too many.
//!
//! Why entries, not nodes in the cells of what is armed: taking a node out of a list of a million touches three cold cells, its own and
//! its neighbours', under a lock; a name is left behind for nothing. And a cascade of entries touches no cell at all.

/// The bits of a tick that one level resolves.
const BITS: u32 = 6;
/// Masks the index of a slot within its level.
const MASK: u64 = (1 << BITS) - 1;
/// The levels: enough for all 64 bits of a tick.
const LEVELS: u32 = u64::BITS.div_ceil(BITS);
/// The slots of all levels.
const SLOTS: usize = (LEVELS as usize) << BITS;
/// The entries of a block.
const ROOM: usize = 20;
/// How many blocks are swept for one that comes into use.
const SWEPT: usize = 16;
/// By how much blocks grow in number before they are swept. Well below `SWEPT`: the dead of a round itself are left by it.
const GROWTH: usize = 3;
/// So few are never swept.
const FEW: usize = 16;
/// How many of the dead one look at the time drops: a pause that nobody notices.
const DROPPED: usize = 4096;
/// No block's number.
const NONE: usize = usize::MAX;
/// No slot's number: a free block's.
const FREE: usize = usize::MAX;

/// What is armed, by name.
pub(crate) trait Name: Copy {
    /// Whether it is still to fire. If it once is not, it never is again.
    fn is_live(self) -> bool;
    /// Has what that looks at fetched.
    fn prefetch(self);
}

#[derive(Clone, Copy)]
struct Entry<N> {
    tick: u64,
    name: N,
}

#[derive(Clone, Copy)]
struct Block<N> {
    /// Those from `start` to `end` count, and there is at least one.
    entries: [Entry<N>; ROOM],
    start: usize,
    end: usize,
    slot: usize,
    prev: usize,
    /// Of a free one: the next free one.
    next: usize,
}

impl<N: Copy> Block<N> {
    fn entries(&self) -> &[Entry<N>] {
        &self.entries[self.start..self.end]
    }
}

/// The ends of a slot's list: both or neither.
#[derive(Clone, Copy)]
struct Slot {
    first: usize,
    last: usize,
}

impl Slot {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// The wheel. Its memory is that of its peak.
///
/// Every block is free or in one slot's list, and `occupied` has a bit for each slot that is not empty.
pub(crate) struct Wheel<N> {
    now: u64,
    /// Per level, a bit for each slot.
    occupied: [u64; LEVELS as usize],
    slots: Box<[Slot]>,
    blocks: Vec<Block<N>>,
    /// The first free block.
    free: usize,
    /// The blocks in use, and how many have them swept.
    used: usize,
    many: usize,
    /// The block to be swept next.
    cursor: usize,
}

impl<N: Name> Wheel<N> {
    /// An empty wheel at tick 0.
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            occupied: [0; LEVELS as usize],
            slots: vec![Slot::EMPTY; SLOTS].into(),
            blocks: Vec::new(),
            free: NONE,
            used: 0,
            many: FEW,
            cursor: 0,
        }
    }

    /// Arms `name` for `tick`; a past tick counts as `now` and fires at the next advance.
    pub(crate) fn insert(&mut self, name: N, tick: u64) {
        let tick = tick.max(self.now);
        let slot = self.place(tick);
        if self.used >= self.many && !self.has_room(slot) {
            self.sweep(); // Which may make room there.
        }
        self.push_back(slot, Entry { tick, name });
    }

    /// Moves `now` to `to` (never back) and hands everything with a tick up to it to `fire`, also the dead: in order
    /// of tick, and in order of insertion within a tick.
    ///
    /// If `fire` panics, that name is spent, and the others stay for the next advance.
    pub(crate) fn advance(&mut self, to: u64, mut fire: impl FnMut(N)) {
        let to = to.max(self.now);
        while let Some((tick, _)) = self.earliest().filter(|&(tick, _)| tick <= to) {
            self.now = tick;
            self.cascade();
            self.empty((tick & MASK) as usize, &mut fire);
        }
        self.now = to;
    }

    /// When to look at the wheel again, at the latest: the earliest tick if it is in the first level (it is if it was
    /// less than 64 ticks off when armed), else the start of its slot or of an earlier one. Never later than the
    /// earliest tick, never before `now`. None if nothing in it is live. The dead that come first go, up to a number.
    pub(crate) fn next_tick(&mut self) -> Option<u64> {
        let mut left = DROPPED;
        while let Some((start, slot)) = self.earliest() {
            self.fetch(self.slots[slot].first);
            while let Some(first) = self.first(slot) {
                if first.name.is_live() || left == 0 {
                    return Some(start);
                }
                left -= 1;
                self.pop_front(slot);
            }
        }
        None
    }

    /// Hands everything to `fire`, also the dead, in no particular order; `now` stays.
    pub(crate) fn drain(&mut self, mut fire: impl FnMut(N)) {
        for slot in 0..SLOTS {
            self.empty(slot, &mut fire);
        }
    }

    /// The slot that is next in time, and its start, or `now` if that is later.
    fn earliest(&self) -> Option<(u64, usize)> {
        let mut earliest: Option<(u64, usize)> = None;
        for (level, &slots) in (0..).zip(&self.occupied) {
            if slots == 0 {
                continue;
            }
            let shift = level * BITS;
            let current = self.now >> shift;
            let ahead = slots.rotate_right((current & MASK) as u32).trailing_zeros();
            let next = current + u64::from(ahead);
            // No overflow: the slot has an entry, whose tick is not before the slot's start.
            let start = next << shift;
            if earliest.is_none_or(|(other, _)| start < other) {
                earliest = Some((start, number(level, next)));
            }
            if (current & MASK) + u64::from(ahead) <= MASK {
                break; // before the next slot of the level above, where all higher levels begin
            }
        }
        earliest
    }

    /// The slot for a tick that is not past.
    fn place(&self, tick: u64) -> usize {
        let level = ((tick - self.now) | 1).ilog2() / BITS;
        let shift = level * BITS;
        // Less than 64 spans of this level away is at most 64 slots ahead; if it is just 64, the next level has it.
        let ahead = (tick >> shift) - (self.now >> shift);
        let level = level + u32::from(ahead > MASK);
        number(level, tick >> (level * BITS))
    }

    /// Moves the entries of all slots above level 0 that start at `now` down, the lower level first.
    fn cascade(&mut self) {
        let aligned = self.now.trailing_zeros() / BITS;
        for level in 1..LEVELS.min(aligned + 1) {
            self.pour(number(level, self.now >> (level * BITS)));
        }
    }

    /// Moves the entries of a slot down, the last first, each before all that are there.
    fn pour(&mut self, slot: usize) {
        let mut last = std::mem::replace(&mut self.slots[slot], Slot::EMPTY).last;
        self.mark(slot);
        while let Some(&block) = self.blocks.get(last) {
            self.set_free(last);
            last = block.prev;
            for &entry in block.entries().iter().rev() {
                self.push_front(self.place(entry.tick), entry);
            }
        }
    }

    /// Fires the entries of a slot, one at a time so that the wheel is whole when `fire` runs.
    fn empty(&mut self, slot: usize, fire: &mut impl FnMut(N)) {
        self.fetch(self.slots[slot].first);
        while let Some(entry) = self.pop_front(slot) {
            fire(entry.name);
        }
    }

    /// Drops the dead of the blocks whose turn it is.
    fn sweep(&mut self) {
        self.many = 0; // Until the round is over.
        for _ in 0..SWEPT {
            self.fetch(self.cursor + 1);
            self.sweep_block(self.cursor);
            self.cursor += 1;
            if self.cursor >= self.blocks.len() {
                self.cursor = 0;
                self.many = FEW.max(self.used * GROWTH);
            }
        }
    }

    fn sweep_block(&mut self, number: usize) {
        let Some(block) = self.blocks.get_mut(number).filter(|it| it.slot != FREE) else {
            return;
        };
        let mut end = block.start;
        for from in block.start..block.end {
            let entry = block.entries[from];
            if entry.name.is_live() {
                block.entries[end] = entry;
                end += 1;
            }
        }
        block.end = end;
        let block = *block;
        if block.entries().is_empty() {
            return self.remove(number);
        }
        // The one before it takes it in.
        let before = self.blocks.get_mut(block.prev);
        if let Some(before) = before.filter(|it| it.entries().len() + block.entries().len() <= ROOM)
        {
            let len = before.entries().len();
            before.entries.copy_within(before.start..before.end, 0);
            let both = len + block.entries().len();
            before.entries[len..both].copy_from_slice(block.entries());
            (before.start, before.end) = (0, both);
            self.remove(number);
        }
    }

    /// Whether a slot's last block has room.
    fn has_room(&self, slot: usize) -> bool {
        let last = self.blocks.get(self.slots[slot].last);
        last.is_some_and(|last| last.end < ROOM)
    }

    fn push_back(&mut self, slot: usize, entry: Entry<N>) {
        let last = self.slots[slot].last;
        match self.blocks.get_mut(last) {
            Some(block) if block.end < ROOM => {
                block.entries[block.end] = entry;
                block.end += 1;
            }
            _ => self.add(slot, entry, 0, last, NONE),
        }
    }

    fn push_front(&mut self, slot: usize, entry: Entry<N>) {
        let first = self.slots[slot].first;
        match self.blocks.get_mut(first) {
            Some(block) if block.start > 0 => {
                block.start -= 1;
                block.entries[block.start] = entry;
            }
            _ => self.add(slot, entry, ROOM - 1, NONE, first),
        }
    }

    /// The first entry of a slot, which stays.
    fn first(&self, slot: usize) -> Option<Entry<N>> {
        let block = self.blocks.get(self.slots[slot].first)?;
        Some(block.entries[block.start])
    }

    fn pop_front(&mut self, slot: usize) -> Option<Entry<N>> {
        let first = self.slots[slot].first;
        let block = self.blocks.get_mut(first)?;
        let entry = block.entries[block.start];
        block.start += 1;
        if block.start == block.end {
            let next = block.next;
            self.remove(first);
            self.fetch(next);
        }
        Some(entry)
    }

    /// Has the names of a block fetched.
    fn fetch(&self, number: usize) {
        if let Some(block) = self.blocks.get(number) {
            for entry in block.entries() {
                entry.name.prefetch();
            }
        }
    }

    /// Puts a block with one entry, its `at`th, between two of a slot.
    fn add(&mut self, slot: usize, entry: Entry<N>, at: usize, prev: usize, next: usize) {
        let block = Block {
            entries: [entry; ROOM],
            start: at,
            end: at + 1,
            slot,
            prev,
            next,
        };
        let number = match self.blocks.get_mut(self.free) {
            Some(free) => {
                let after = free.next;
                *free = block;
                std::mem::replace(&mut self.free, after)
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        self.used += 1;
        self.join(slot, prev, number, true);
        self.join(slot, next, number, false);
        self.mark(slot);
    }

    /// Takes a block out of its slot.
    fn remove(&mut self, number: usize) {
        let Block {
            slot, prev, next, ..
        } = self.blocks[number];
        self.join(slot, prev, next, true);
        self.join(slot, next, prev, false);
        self.mark(slot);
        self.set_free(number);
    }

    /// Has `to` come `after` a block, or before it; without a block it is that end of the slot.
    fn join(&mut self, slot: usize, block: usize, to: usize, after: bool) {
        let slot = &mut self.slots[slot];
        match (self.blocks.get_mut(block), after) {
            (Some(block), true) => block.next = to,
            (Some(block), false) => block.prev = to,
            (None, true) => slot.first = to,
            (None, false) => slot.last = to,
        }
    }

    fn set_free(&mut self, number: usize) {
        let block = &mut self.blocks[number];
        self.used -= 1;
        block.slot = FREE;
        (block.start, block.end) = (0, 0);
        block.next = std::mem::replace(&mut self.free, number);
    }

    /// Notes whether a slot is empty.
    fn mark(&mut self, slot: usize) {
        let bit = 1 << (slot as u64 & MASK);
        let level = &mut self.occupied[slot >> BITS];
        if self.slots[slot].first == NONE {
            *level &= !bit;
        } else {
            *level |= bit;
        }
    }
}

/// The number of the slot of that level with that index, of which the low bits count.
fn number(level: u32, index: u64) -> usize {
    ((level << BITS) as usize) | (index & MASK) as usize
}

#[cfg(test)]
mod tests;
