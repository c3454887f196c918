//! The bounded work-stealing deque of one worker: the owner works at the young end, thieves take from the old one.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | [`Local`] | the owner's end: pushes and pops at the *young* end, so the last pushed comes first |
//! | [`Stealer`] | a thief's end: takes from the *old* end, from any thread |
//! | [`CAPACITY`] | how many items a deque holds before [`Local::push`] hands the item back |
//!
//! # Rules
//!
//! 1. Every item that was pushed comes out exactly once: from `pop`, from `steal`, or dropped with the last handle.
//! 2. `None` means that the deque was seen empty. Losing a race for an item is not `None` but another attempt.
//! 3. No operation waits for another thread, and none allocates, but for a thread's first `steal` (crossbeam's epochs).
//!
//! # Two implementations, one interface
//!
//! Production wraps `crossbeam::deque`. loom cannot see into crossbeam, and a mutex in its place would hide missing
//! fences, so under `--cfg proactor_loom` the models run on `stand_in`: a Chase-Lev deque of fixed capacity with
//! crossbeam's steps, orderings and fences. It is itself model-checked, and the proptest below ties it to crossbeam's.

#[cfg(not(proactor_loom))]
pub(crate) use production::{Local, Stealer, deque};
#[cfg(proactor_loom)]
pub(crate) use stand_in::{Local, Stealer, deque};

/// How many items a deque holds at most; what does not fit overflows to the injector.
///
/// crossbeam's buffer starts with 64 entries and reallocates when a push finds all of them used. At 60 it never does.
#[cfg(not(proactor_loom))]
pub(crate) const CAPACITY: usize = 60;

/// How many items a deque holds at most: few, so that a model reaches the full deque and the wrap of the ring.
#[cfg(proactor_loom)]
pub(crate) const CAPACITY: usize = 2;

/// crossbeam's deque, kept below the size at which it reallocates.
///
/// Checked against crossbeam-deque 0.8.8: `push` grows the buffer only at `len >= cap`, a LIFO `pop` shrinks it only
/// at `cap > MIN_CAP`, and both start at `cap == MIN_CAP == 64`.
#[cfg(not(proactor_loom))]
mod production {
    use super::CAPACITY;
    use crossbeam::deque::{self as crossbeam_deque, Steal, Worker};

    /// The owner's end: `Send` but not `Sync`, since only one thread at a time may work at the young end.
    pub(crate) struct Local<T>(Worker<T>);

    /// A thief's end: cloned or shared freely.
    pub(crate) struct Stealer<T>(crossbeam_deque::Stealer<T>);

    /// Creates an empty deque: its only owner's end, and the first of its thieves' ends.
    pub(crate) fn deque<T: Send>() -> (Local<T>, Stealer<T>) {
        let worker = Worker::new_lifo();
        let stealer = worker.stealer();
        (Local(worker), Stealer(stealer))
    }

    impl<T> Local<T> {
        /// Adds `item` at the young end, or hands it back if the deque holds [`CAPACITY`] items already.
        #[inline]
        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            // Thieves only ever make it shorter, so crossbeam's own look at the length finds no more than this one.
            if self.len() >= CAPACITY {
                return Err(item);
            }
            self.0.push(item);
            Ok(())
        }

        /// Takes the item pushed last, or `None` if there is none.
        #[inline]
        pub(crate) fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        /// Whether it holds nothing. Only thieves can change a `false`, nobody but the caller a `true`.
        #[inline]
        #[cfg(test)]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// How many items it holds, or more if thieves are at it.
        #[inline]
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
    }

    impl<T> Stealer<T> {
        /// Takes the oldest item, or `None` if the deque was seen empty.
        ///
        /// A lost race is tried again. Each one means that another thread took an item, as the buffer never moves and
        /// the exchange never fails spuriously: the attempts are at most one more than the items others take meanwhile.
        #[inline]
        pub(crate) fn steal(&self) -> Option<T> {
            loop {
                match self.0.steal() {
                    Steal::Success(item) => return Some(item),
                    Steal::Empty => return None,
                    Steal::Retry => {}
                }
            }
        }

        /// Whether it was seen empty; either answer may be outdated when it arrives.
        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    impl<T> Clone for Stealer<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }
}

/// What stands in for crossbeam's deque under loom: the same steps with the same orderings, in a ring that never grows.
///
/// Two indices only ever matter by their difference. `front` is that of the oldest item and is advanced by
/// compare-and-exchange, whoever does it owns the item; `back` is one past the youngest and is written by the owner.
/// Item `i` lies in slot `i` modulo [`SLOTS`].
///
/// The owner lowers `back` before it looks at `front`, a thief looks at `front` before it looks at `back`, and each has
/// a `SeqCst` fence in between: so either the owner sees that the thief has taken the items before, or the thief sees
/// that the owner has claimed this one. Only for the last item can both go on, and the exchange decides.
///
/// Where crossbeam copies the item itself, perhaps torn, and forgets the copy if it loses the race, a slot here is an
/// atomic pointer to a [`Node`] on the heap: loom would report the torn copy as the race it is. The nodes live as long
/// as the ring, so that a broken protocol (a mutant) ends in a panic and not in a double free.
///
/// The conditions named to [`mutant`] break one step each:
///
/// | mutant | what it breaks |
/// |---|---|
/// | `deque-push-fence` | no `Release` fence before an item is published |
/// | `deque-pop-fence` | no `SeqCst` fence between lowering `back` and reading `front` |
/// | `deque-pop-cas` | the owner takes the last item without asking |
/// | `deque-steal-fence` | no `SeqCst` fence between reading `front` and reading `back` |
/// | `deque-steal-acquire` | `back` is read `Relaxed` |
/// | `deque-steal-cas` | a thief takes an item without asking |
#[cfg(any(test, proactor_loom))]
#[allow(
    unsafe_code,
    reason = "items are reached through the raw pointers in the slots"
)]
mod stand_in {
    use super::CAPACITY;
    use crate::sync::atomic::{AtomicIsize, AtomicPtr, Ordering, fence};
    use crate::sync::{Arc, UnsafeCell, mutant};
    use std::array;
    use std::cell::Cell;
    use std::marker::PhantomData;
    use std::ptr;

    /// The slots of the ring: a power of two, so that the indices may wrap around.
    const SLOTS: usize = CAPACITY.next_power_of_two();

    /// One pushed item, allocated by `push` and freed with the ring.
    struct Node<T> {
        /// The node pushed before this one.
        older: *mut Node<T>,
        /// The item until it is taken; touched only by who pushed it and by who then won its index.
        item: UnsafeCell<Option<T>>,
    }

    /// What the two ends share.
    struct Ring<T> {
        /// Index of the oldest item.
        front: AtomicIsize,
        /// Index one past the youngest item; stored by the owner alone.
        back: AtomicIsize,
        /// The nodes of the items; a slot outside `front..back` holds null or a node whose item is gone.
        slots: [AtomicPtr<Node<T>>; SLOTS],
        /// The node pushed last, head of the list of all nodes; the owner's, then the destructor's.
        newest: AtomicPtr<Node<T>>,
    }

    /// The owner's end: `Send` but not `Sync`, since only one thread at a time may work at the young end.
    pub(crate) struct Local<T> {
        /// What it shares with its thieves.
        ring: Arc<Ring<T>>,
        /// Makes it `!Sync`.
        not_sync: PhantomData<Cell<()>>,
    }

    /// A thief's end: cloned or shared freely.
    pub(crate) struct Stealer<T> {
        /// What it shares with the owner and the other thieves.
        ring: Arc<Ring<T>>,
    }

    /// Creates an empty deque: its only owner's end, and the first of its thieves' ends.
    ///
    /// `T: Send` is demanded here, once for both ends: a deque of anything else does not come into being.
    pub(crate) fn deque<T: Send>() -> (Local<T>, Stealer<T>) {
        let ring = Arc::new(Ring {
            front: AtomicIsize::new(0),
            back: AtomicIsize::new(0),
            slots: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            newest: AtomicPtr::new(ptr::null_mut()),
        });
        let local = Local {
            ring: Arc::clone(&ring),
            not_sync: PhantomData,
        };
        (local, Stealer { ring })
    }

    impl<T> Ring<T> {
        /// The slot of the item at `index`.
        fn slot(&self, index: isize) -> &AtomicPtr<Node<T>> {
            &self.slots[index as usize & (SLOTS - 1)]
        }

        /// Tries to move `front` on from `front`, and with it to win the item there; `unasked` is the mutant that
        /// takes it in any case.
        fn win(&self, front: isize, unasked: &str) -> bool {
            let next = front.wrapping_add(1);
            if mutant(unasked) {
                self.front.store(next, Ordering::SeqCst);
                return true;
            }
            self.front
                .compare_exchange(front, next, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        }

        /// Takes the item out of the node that the caller read from a slot and whose index it then won.
        fn take(&self, node: *mut Node<T>) -> T {
            assert!(!node.is_null(), "an item of the deque was seen too early");
            // SAFETY: nodes are freed by the ring's destructor only, and `push` filled the slot with this one before
            // it published the index that the caller won; the caller's read of the index saw it published.
            let node = unsafe { &*node };
            let item = node.item.with_mut(|item| {
                // SAFETY: an index is won once, so nobody else touches the item (Chase-Lev's invariant, which the
                // models check: loom sees any access that is not ordered after `push` or that meets another).
                unsafe { (*item).take() }
            });
            item.expect("an item of the deque was taken twice")
        }
    }

    impl<T> Drop for Ring<T> {
        fn drop(&mut self) {
            // `std`'s `Arc` orders this after all other uses, but loom does not see that; reading by an exchange gives
            // the latest value all the same. Acquire pairs with the Release of `push`.
            let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
            while !newest.is_null() {
                // SAFETY: `push` linked each node once, by `Box::into_raw`, and this list alone owns them.
                let node = unsafe { Box::from_raw(newest) };
                newest = node.older;
            }
        }
    }

    impl<T> Local<T> {
        /// Adds `item` at the young end, or hands it back if the deque holds [`CAPACITY`] items already.
        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let back = self.ring.back.load(Ordering::Relaxed);
            // Acquire pairs with the exchange in `steal`: its thief has read the slot that is about to be written.
            let front = self.ring.front.load(Ordering::Acquire);
            if back.wrapping_sub(front) >= CAPACITY as isize {
                return Err(item);
            }
            let node = Box::into_raw(Box::new(Node {
                older: self.ring.newest.load(Ordering::Relaxed),
                item: UnsafeCell::new(Some(item)),
            }));
            self.ring.newest.store(node, Ordering::Release);
            self.ring.slot(back).store(node, Ordering::Relaxed);
            // Pairs with the Acquire load of `back` in `steal`.
            if !mutant("deque-push-fence") {
                fence(Ordering::Release);
            }
            self.ring
                .back
                .store(back.wrapping_add(1), Ordering::Relaxed);
            Ok(())
        }

        /// Takes the item pushed last, or `None` if there is none.
        pub(crate) fn pop(&self) -> Option<T> {
            let back = self.ring.back.load(Ordering::Relaxed);
            let front = self.ring.front.load(Ordering::Relaxed);
            if back.wrapping_sub(front) <= 0 {
                return None;
            }
            // Claim the youngest item, then look whether the thieves have come that far.
            let youngest = back.wrapping_sub(1);
            self.ring.back.store(youngest, Ordering::Relaxed);
            // Pairs with the fence in `steal`.
            if !mutant("deque-pop-fence") {
                fence(Ordering::SeqCst);
            }
            let front = self.ring.front.load(Ordering::Relaxed);
            let older = youngest.wrapping_sub(front);
            if older < 0 {
                self.ring.back.store(back, Ordering::Relaxed);
                return None;
            }
            let node = self.ring.slot(youngest).load(Ordering::Relaxed);
            if older == 0 {
                // The last item: thieves may have seen it before it was claimed.
                let won = self.ring.win(front, "deque-pop-cas");
                self.ring.back.store(back, Ordering::Relaxed);
                if !won {
                    return None;
                }
            }
            Some(self.ring.take(node))
        }

        /// Whether it holds nothing. Only thieves can change a `false`, nobody but the caller a `true`.
        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// How many items it holds, or more if thieves are at it.
        pub(crate) fn len(&self) -> usize {
            let back = self.ring.back.load(Ordering::Relaxed);
            let front = self.ring.front.load(Ordering::SeqCst);
            usize::try_from(back.wrapping_sub(front)).unwrap_or(0)
        }
    }

    impl<T> Stealer<T> {
        /// Takes the oldest item, or `None` if the deque was seen empty.
        ///
        /// A lost race is tried again. Each one means that another thread took an item, as the exchange never fails
        /// spuriously: the attempts are at most one more than the items others take meanwhile.
        pub(crate) fn steal(&self) -> Option<T> {
            loop {
                let front = self.ring.front.load(Ordering::Acquire);
                // Pairs with the fence in `pop`. crossbeam's is the one of pinning its epoch.
                if !mutant("deque-steal-fence") {
                    fence(Ordering::SeqCst);
                }
                // Pairs with the Release fence in `push`.
                let back = self.ring.back.load(if mutant("deque-steal-acquire") {
                    Ordering::Relaxed
                } else {
                    Ordering::Acquire
                });
                if back.wrapping_sub(front) <= 0 {
                    return None;
                }
                // Read before the index is won: afterwards the owner may fill the slot anew.
                let node = self.ring.slot(front).load(Ordering::Relaxed);
                if self.ring.win(front, "deque-steal-cas") {
                    return Some(self.ring.take(node));
                }
            }
        }

        /// Whether it was seen empty; either answer may be outdated when it arrives.
        pub(crate) fn is_empty(&self) -> bool {
            let front = self.ring.front.load(Ordering::Acquire);
            fence(Ordering::SeqCst);
            let back = self.ring.back.load(Ordering::Acquire);
            back.wrapping_sub(front) <= 0
        }
    }

    impl<T> Clone for Stealer<T> {
        fn clone(&self) -> Self {
            Self {
                ring: Arc::clone(&self.ring),
            }
        }
    }
}

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::{CAPACITY, production, stand_in};
    use crate::sync::atomic::{AtomicBool, Ordering};
    use crate::sync::{Arc, thread};
    use proptest::prelude::*;

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
        fn stand_in_does_what_crossbeam_does(steps in steps()) {
            let (real, real_stealer) = production::deque();
            let (model, model_stealer) = stand_in::deque();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push => {
                        let room = real.len() < CAPACITY;
                        let pushed = real.push(number);
                        prop_assert_eq!(pushed, if room { Ok(()) } else { Err(number) });
                        prop_assert_eq!(pushed, model.push(number));
                    }
                    Step::Pop => prop_assert_eq!(real.pop(), model.pop()),
                    Step::Steal => prop_assert_eq!(real_stealer.steal(), model_stealer.steal()),
                }
                prop_assert!(real.len() <= CAPACITY);
                prop_assert_eq!(real.len(), model.len());
                prop_assert_eq!(real.is_empty(), model.is_empty());
                prop_assert_eq!(real_stealer.is_empty(), model_stealer.is_empty());
            }
            prop_assert_eq!(
                std::iter::from_fn(|| real.pop()).collect::<Vec<_>>(),
                std::iter::from_fn(|| model.pop()).collect::<Vec<_>>()
            );
        }
    }

    /// The tests that each implementation passes by itself.
    macro_rules! each_implementation {
        ($($name:ident: $implementation:ident,)*) => {$(
            mod $name {
                use super::super::{$implementation::deque, CAPACITY};
                use super::{Arc, thread};

                #[test]
                fn owner_takes_the_youngest_and_thief_the_oldest() {
                    let (local, stealer) = deque();
                    (0..3).for_each(|item| local.push(item).unwrap());
                    assert_eq!(stealer.clone().steal(), Some(0));
                    assert_eq!(local.pop(), Some(2));
                    assert_eq!(local.pop(), Some(1));
                    assert_eq!((local.pop(), stealer.steal()), (None, None));
                }

                #[test]
                fn full_deque_hands_the_item_back_until_one_is_taken() {
                    let (local, stealer) = deque();
                    (0..CAPACITY).for_each(|item| local.push(item).unwrap());
                    assert_eq!(local.len(), CAPACITY);
                    assert_eq!(local.push(CAPACITY), Err(CAPACITY));
                    assert_eq!(stealer.steal(), Some(0));
                    assert_eq!(local.push(CAPACITY), Ok(()));
                    assert_eq!(local.push(CAPACITY), Err(CAPACITY));
                    assert_eq!(local.pop(), Some(CAPACITY));
                }

                #[test]
                fn what_is_left_is_dropped_with_the_last_end_and_once() {
                    let item = Arc::new(());
                    let (local, stealer) = deque();
                    (0..5).for_each(|_| local.push(Arc::clone(&item)).unwrap());
                    drop((local.pop(), stealer.steal()));
                    assert_eq!(Arc::strong_count(&item), 4);
                    drop(local);
                    drop(stealer.steal());
                    assert_eq!(Arc::strong_count(&item), 3);
                    drop(stealer);
                    assert_eq!(Arc::strong_count(&item), 1);
                }

                #[test]
                fn owner_end_moves_to_another_thread() {
                    let (local, stealer) = deque();
                    local.push(1).unwrap();
                    let popped = thread::spawn(move || local.pop());
                    assert_eq!(popped.join().unwrap(), Some(1));
                    assert!(stealer.is_empty());
                }
            }
        )*};
    }

    each_implementation! {
        of_production: production,
        of_stand_in: stand_in,
    }

    #[test]
    fn every_item_comes_out_once_under_stress() {
        const ITEMS: usize = 200_000;
        const THIEVES: usize = 3;
        let (local, stealer) = production::deque();
        let done = AtomicBool::new(false);
        let mut taken = thread::scope(|scope| {
            let thieves: Vec<_> = (0..THIEVES)
                .map(|_| scope.spawn(|| steal_until(&done, &stealer)))
                .collect();
            let mut taken = Vec::new();
            for item in 0..ITEMS {
                // Boxed, so that a sanitizer sees an item that is taken twice.
                if let Err(item) = local.push(Box::new(item)) {
                    taken.push(*item);
                }
                // Pop in bursts of growing and shrinking depth, down to the last item.
                if item % 7 == 0 {
                    taken.extend((0..item % 13).map_while(|_| local.pop()).map(|item| *item));
                }
            }
            taken.extend(std::iter::from_fn(|| local.pop()).map(|item| *item));
            done.store(true, Ordering::Release);
            for thief in thieves {
                taken.extend(thief.join().unwrap());
            }
            taken
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..ITEMS));
        assert!(local.is_empty());
    }

    /// What one thief gets before `done` is set and the deque is empty.
    fn steal_until(done: &AtomicBool, stealer: &production::Stealer<Box<usize>>) -> Vec<usize> {
        let mut taken = Vec::new();
        loop {
            let last_round = done.load(Ordering::Acquire);
            taken.extend(std::iter::from_fn(|| stealer.steal()).map(|item| *item));
            if last_round {
                return taken;
            }
            thread::yield_now();
        }
    }
}
