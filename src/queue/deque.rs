//! The bounded deque of one worker: its owner works at the young end, thieves take from the old one (Chase and Lev, 2005; with the
//! fences of Lê and others, 2013).
//!
//! # Rules
//!
//! 1. Every item that was pushed comes out exactly once, from `pop` or from `steal`: if `push` and `pop` are called by one thread at a
//!    time, the *owner*, and each owner sees what the one before it did.
//! 2. `None` means that the deque was seen empty. Losing a race for an item is not `None` but another attempt.
//! 3. No operation waits for another thread, and none allocates.
//!
//! # Protocol
//!
//! Two indices only ever matter by their difference. `front` is that of the oldest item and is advanced by compare-and-exchange,
//! whoever does it owns the item; `back` is one past the youngest and is written by the owner. Item `i` lies in slot `i` modulo
//! [`CAPACITY`].
//!
//! The owner lowers `back` before it looks at `front`, a thief looks at `front` before it looks at `back`, and each has a `SeqCst`
//! fence in between: so either the owner sees that the thief has taken the items before, or the thief sees that the owner has
//! claimed this one. Only for the last item can both go on, and the exchange decides.
//!
//! Items are pointers, which a thief may read although it loses the race for one.
//!
//! | mutant | what it breaks |
//! |---|---|
//! | `deque-push-release` | an item is published without its contents |
//! | `deque-pop-fence` | no `SeqCst` fence between lowering `back` and reading `front` |
//! | `deque-pop-cas` | the owner takes the last item without asking |
//! | `deque-steal-fence` | no `SeqCst` fence between reading `front` and reading `back` |
//! | `deque-steal-acquire` | `back` is read `Relaxed` |
//! | `deque-steal-cas` | a thief takes an item without asking |

use std::array;
use std::ptr::{self, NonNull};

use crossbeam::utils::CachePadded;

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use crate::sync::{mutant, own};

/// How many items a deque holds at most, a power of two; what does not fit overflows to the injector. In models few, so that one
/// reaches the full deque and the wrap of the ring.
pub(crate) const CAPACITY: usize = if cfg!(proactor_loom) { 2 } else { 128 };

pub(crate) struct Deque<T> {
    /// Index of the oldest item.
    front: CachePadded<AtomicUsize>,
    /// Index one past the youngest item; stored by the owner alone.
    back: CachePadded<AtomicUsize>,
    slots: [AtomicPtr<T>; CAPACITY],
}

impl<T> Deque<T> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            front: CachePadded::new(AtomicUsize::new(0)),
            back: CachePadded::new(AtomicUsize::new(0)),
            slots: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    fn slot(&self, index: usize) -> &AtomicPtr<T> {
        &self.slots[index % CAPACITY]
    }

    /// Adds `item` at the young end, or hands it back if the deque holds [`CAPACITY`] items already. For the owner.
    #[inline]
    pub(crate) fn push(&self, item: NonNull<T>) -> Result<(), NonNull<T>> {
        let back = own(&self.back);
        // Acquire, the other half of the exchange in `win`: who took an item has read the slot that is about to be written.
        if back.wrapping_sub(self.front.load(Ordering::Acquire)) >= CAPACITY {
            return Err(item);
        }
        self.slot(back).store(item.as_ptr(), Ordering::Relaxed);
        // Release, the other half of the Acquire in `steal`.
        let order = if mutant("deque-push-release") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.back.store(back.wrapping_add(1), order);
        Ok(())
    }

    /// Takes the item pushed last, or `None` if there is none. For the owner, who is `alone` if it is also the only one who steals.
    #[inline]
    pub(crate) fn pop(&self, alone: bool) -> Option<NonNull<T>> {
        let back = own(&self.back);
        if back == self.front.load(Ordering::Relaxed) {
            return None;
        }
        // Claim the youngest item, then look whether the thieves have come that far.
        let youngest = back.wrapping_sub(1);
        // Release, as in `push`: a thief may take what was pushed before, by the length that this says. The language
        // asks for it; no model shows it.
        self.back.store(youngest, Ordering::Release);
        if !alone && !self.claim(youngest) {
            return None;
        }
        NonNull::new(self.slot(youngest).load(Ordering::Relaxed))
    }

    /// Whether the owner, who has claimed that item, has it.
    #[inline]
    fn claim(&self, youngest: usize) -> bool {
        // Pairs with the fence in `steal`.
        if !mutant("deque-pop-fence") {
            fence(Ordering::SeqCst);
        }
        let front = self.front.load(Ordering::Relaxed);
        if front == youngest || front == youngest.wrapping_add(1) {
            // It was the last item: thieves may have seen it before it was claimed, or have it.
            let won = front == youngest && self.win(front, "deque-pop-cas");
            self.back.store(youngest.wrapping_add(1), Ordering::Relaxed);
            return won;
        }
        true
    }

    /// Takes the oldest item, or `None` if the deque was seen empty.
    ///
    /// A lost race is tried again. Each one means that another thread took an item, as the exchange never fails spuriously: the
    /// attempts are at most one more than the items others take meanwhile.
    pub(crate) fn steal(&self) -> Option<NonNull<T>> {
        loop {
            let front = self.front.load(Ordering::Acquire);
            // Pairs with the fence in `claim`.
            if !mutant("deque-steal-fence") {
                fence(Ordering::SeqCst);
            }
            // Acquire, the other half of the Release in `push`.
            let back = self.back.load(if mutant("deque-steal-acquire") {
                Ordering::Relaxed
            } else {
                Ordering::Acquire
            });
            if is_none(front, back) {
                return None;
            }
            // Read before the index is won: afterwards the owner may fill the slot anew.
            let item = self.slot(front).load(Ordering::Relaxed);
            if self.win(front, "deque-steal-cas") {
                return NonNull::new(item);
            }
        }
    }

    /// Tries to move `front` on from `front`, and with it to win the item there; `unasked` is the mutant that takes it in any case.
    fn win(&self, front: usize, unasked: &str) -> bool {
        let next = front.wrapping_add(1);
        if mutant(unasked) {
            self.front.store(next, Ordering::SeqCst);
            return true;
        }
        self.front
            .compare_exchange(front, next, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether it was seen empty; either answer may be outdated when it arrives. Whoever goes to sleep on it has fenced before.
    pub(crate) fn is_empty(&self) -> bool {
        let front = self.front.load(Ordering::Relaxed);
        is_none(front, self.back.load(Ordering::Relaxed))
    }
}

/// Whether there is nothing between the two, `back` being one less than `front` while the owner looks whether it was too late.
fn is_none(front: usize, back: usize) -> bool {
    back.wrapping_sub(front) as isize <= 0
}

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicBool;
    use crate::sync::thread;
    use crossbeam::deque::{Steal, Worker};
    use proptest::prelude::*;

    /// Numbers in place of pointers, beginning with 1.
    fn item(number: usize) -> NonNull<usize> {
        NonNull::new(ptr::without_provenance_mut(number)).expect("above zero")
    }

    fn number(item: NonNull<usize>) -> usize {
        item.as_ptr().addr()
    }

    /// What the differential test does to both deques.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The owner pushes the number of the step.
        Push,
        /// The owner pops.
        Pop,
        /// A thief steals.
        Steal,
    }

    /// Runs of one step, mostly pushes, so that the deques fill up and run empty and the ring wraps around.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Push),
            2 => Just(Step::Pop),
            2 => Just(Step::Steal),
        ];
        let run = (step, 1..CAPACITY).prop_map(|(step, times)| vec![step; times]);
        prop::collection::vec(run, 0..24).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn it_does_what_crossbeams_does(steps in steps(), alone: bool) {
            let (deque, real) = (Deque::new(), Worker::new_lifo());
            let old = real.stealer();
            for (step, at) in steps.into_iter().zip(1..) {
                match step {
                    Step::Push => {
                        let pushed = deque.push(item(at)).is_ok();
                        prop_assert_eq!(pushed, real.len() < CAPACITY);
                        if pushed {
                            real.push(at);
                        }
                    }
                    Step::Pop => prop_assert_eq!(deque.pop(alone).map(number), real.pop()),
                    Step::Steal => {
                        let stolen = match old.steal() {
                            Steal::Success(at) => Some(at),
                            _ => None,
                        };
                        prop_assert_eq!(deque.steal().map(number), stolen);
                    }
                }
                prop_assert_eq!(deque.is_empty(), real.is_empty());
            }
            let left = std::iter::from_fn(|| deque.pop(alone)).map(number);
            prop_assert!(left.eq(std::iter::from_fn(|| real.pop())));
        }
    }

    #[test]
    fn a_full_deque_hands_the_item_back_until_one_is_taken() {
        let deque = Deque::new();
        (1..=CAPACITY).for_each(|at| deque.push(item(at)).unwrap());
        assert_eq!(deque.push(item(200)), Err(item(200)));
        assert_eq!(deque.steal(), Some(item(1)));
        assert_eq!(deque.push(item(200)), Ok(()));
        assert_eq!(deque.push(item(201)), Err(item(201)));
        assert_eq!(deque.pop(false), Some(item(200)));
    }

    #[test]
    fn every_item_comes_out_once_under_stress() {
        const ITEMS: usize = 200_000;
        const THIEVES: usize = 3;
        let (deque, done) = (Deque::new(), AtomicBool::new(false));
        let mut taken = thread::scope(|scope| {
            let thieves: Vec<_> = (0..THIEVES)
                .map(|_| scope.spawn(|| steal_until(&done, &deque)))
                .collect();
            let mut taken = Vec::new();
            for at in 1..=ITEMS {
                taken.extend(deque.push(item(at)).err());
                // Pop in bursts of growing and shrinking depth, down to the last item.
                if at % 7 == 0 {
                    taken.extend((0..at % 13).map_while(|_| deque.pop(false)));
                }
            }
            taken.extend(std::iter::from_fn(|| deque.pop(false)));
            let mut taken: Vec<_> = taken.into_iter().map(number).collect();
            done.store(true, Ordering::Release);
            for thief in thieves {
                taken.extend(thief.join().unwrap());
            }
            taken
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(1..=ITEMS));
        assert!(deque.is_empty());
    }

    /// What one thief gets before `done` is set and the deque is empty.
    fn steal_until(done: &AtomicBool, deque: &Deque<usize>) -> Vec<usize> {
        let mut taken = Vec::new();
        loop {
            let last_round = done.load(Ordering::Acquire);
            taken.extend(std::iter::from_fn(|| deque.steal()).map(number));
            if last_round {
                return taken;
            }
            thread::yield_now();
        }
    }
}
