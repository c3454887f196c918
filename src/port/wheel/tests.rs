use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Of whoever can be armed: its arming, by number; 0 if it is not armed.
type Arming = Cell<usize>;

/// An arming of a number, by name.
#[derive(Clone, Copy)]
struct Armed<'a> {
    now: &'a Arming,
    arming: usize,
    id: usize,
}

impl Name for Armed<'_> {
    fn is_live(self) -> bool {
        self.now.get() == self.arming
    }

    fn prefetch(self) {}
}

/// Advances, and returns the ids of what was live, in order.
fn fired(wheel: &mut Wheel<Armed<'_>>, to: u64) -> Vec<usize> {
    let mut fired = Vec::new();
    wheel.advance(to, |name| {
        if name.is_live() {
            name.now.set(0);
            fired.push(name.id);
        }
    });
    fired
}

/// A fixed set that can be armed, and what a correct wheel would hold.
struct Model<'a> {
    wheel: Wheel<Armed<'a>>,
    all: &'a [Arming],
    /// Tick and number of the arming, to id.
    armed: BTreeMap<(u64, usize), usize>,
    armings: usize,
}

impl<'a> Model<'a> {
    fn new(all: &'a [Arming], now: u64) -> Self {
        let mut model = Self {
            wheel: Wheel::new(),
            all,
            armed: BTreeMap::new(),
            armings: 0,
        };
        model.advance(now);
        model
    }

    /// Arms, or disarms what is armed.
    fn toggle(&mut self, id: usize, tick: u64) {
        let now = &self.all[id];
        if now.replace(0) > 0 {
            return self.armed.retain(|_, armed| *armed != id);
        }
        self.armings += 1;
        let arming = self.armings;
        now.set(arming);
        self.wheel.insert(Armed { now, arming, id }, tick);
        self.armed.insert((tick.max(self.wheel.now), arming), id);
    }

    fn advance(&mut self, to: u64) {
        let mut due = Vec::new();
        while let Some(entry) = self.armed.first_entry().filter(|e| e.key().0 <= to) {
            due.push(entry.remove());
        }
        assert_eq!(fired(&mut self.wheel, to), due);
        assert_eq!(self.wheel.now, to);
    }

    /// When to look.
    fn next(&mut self) -> Option<u64> {
        let earliest = self.armed.first_key_value().map(|(key, _)| key.0);
        let next = self.wheel.next_tick();
        assert_eq!(
            next.is_some(),
            earliest.is_some(),
            "the dead are waited for"
        );
        assert!(next <= earliest, "late: {next:?}, not {earliest:?}");
        assert!(next >= earliest.map(|_| self.wheel.now));
        next
    }

    /// Advances from look to look until nothing is left.
    fn run_out(&mut self) {
        let mut looks = self.armed.len() * LEVELS as usize;
        while let Some(next) = self.next() {
            assert_ne!(looks, 0, "too many looks");
            looks -= 1;
            self.advance(next);
        }
    }
}

const IDS: usize = 48;

fn ids() -> [Arming; IDS] {
    std::array::from_fn(|_| Cell::new(0))
}

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
        4 => (0..IDS, distance()).prop_map(|(id, ticks)| Op::ToggleAfter(id, ticks)),
        12 => (0..IDS, meeting).prop_map(|(id, ticks)| Op::ToggleAt(id, ticks)),
        2 => distance().prop_map(Op::Advance),
        2 => Just(Op::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 500 }))]
    #[test]
    fn it_is_a_sorted_map(start in start(), ops in prop::collection::vec(op(), 1..400)) {
        let ids = ids();
        let mut model = Model::new(&ids, start);
        for op in ops {
            let now = model.wheel.now;
            match op {
                Op::ToggleAfter(id, ticks) => model.toggle(id, now.saturating_add(ticks)),
                Op::ToggleAt(id, ticks) => model.toggle(id, start.saturating_add(ticks)),
                Op::Advance(ticks) => model.advance(now.saturating_add(ticks)),
                Op::Look => {
                    let next = model.next();
                    model.advance(next.unwrap_or(now));
                }
            }
        }
        model.run_out();
    }
}

#[test]
fn the_first_level_is_exact_and_nothing_is_early() {
    for start in [0, 1, 63, 64, 4095, 1 << 40, u64::MAX - 63] {
        for tick in start + 1..=start + 63 {
            let ids = ids();
            let mut model = Model::new(&ids, start);
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
    let ids = ids();
    let mut model = Model::new(&ids, 12_345);
    let ticks = [u64::MAX, u64::MAX - 1, 1 << 63, 200 * YEAR, YEAR, 3_600_000];
    (0..6).for_each(|id| model.toggle(id, ticks[id]));
    model.advance(100 * YEAR);
    assert_eq!(model.armed.len(), 4);
    model.run_out();
    model.toggle(0, 7);
    model.toggle(1, 3);
    assert_eq!(fired(&mut model.wheel, 10), [0, 1]);
    assert_eq!(model.wheel.now, u64::MAX);
}

#[test]
fn drain_hands_over_everything_and_the_wheel_goes_on() {
    let ids = ids();
    let mut model = Model::new(&ids, 5000);
    (0..IDS).for_each(|id| model.toggle(id, 5000 + (1 << id)));
    let mut drained = Vec::new();
    model.wheel.drain(|name| {
        name.now.set(0);
        drained.push(name.id);
    });
    drained.sort_unstable();
    assert!(drained.into_iter().eq(0..IDS));
    model.armed.clear();
    model.toggle(3, 5100);
    model.run_out();
}

#[test]
fn a_panic_in_fire_spends_one_name_only() {
    let ids = ids();
    let mut model = Model::new(&ids, 0);
    (0..4).for_each(|id| model.toggle(id, 70 + id as u64 / 3));
    let panicking = AssertUnwindSafe(|| model.wheel.advance(100, |_| panic!("on purpose")));
    assert!(catch_unwind(panicking).is_err());
    assert_eq!(model.wheel.now, 70);
    assert_eq!(fired(&mut model.wheel, 100), [1, 2, 3]);
}

/// Whoever arms and cancels for ever, beside a crowd that stays armed: the memory is a small multiple of the crowd's.
#[test]
fn the_dead_are_never_many_more_than_the_living() {
    const CROWD: usize = if cfg!(miri) { 200 } else { 20_000 };
    let crowd = Vec::from_iter((0..CROWD).map(|_| Cell::new(0)));
    let mut model = Model::new(&crowd, 1);
    let far = |nth: usize| 30_000 + nth as u64 * 7919 % 30_000;
    (0..CROWD).for_each(|id| model.toggle(id, far(id)));
    let full = model.wheel.blocks.len();
    let fleeting = Cell::new(0);
    for arming in 1..=20 * CROWD {
        fleeting.set(arming);
        let now = &fleeting;
        let name = Armed {
            now,
            arming,
            id: CROWD,
        };
        model.wheel.insert(name, far(arming));
    }
    let blocks = model.wheel.blocks.len();
    assert!(blocks <= 4 * full + 50, "{blocks} blocks, not {full}");
    fleeting.set(0);
    model.run_out();
    assert_eq!(model.wheel.earliest(), None);
}
