//! A worker's deque: every item comes out once, whole, whoever takes it. (That it does what crossbeam's does is a property test, in
//! `queue/deque.rs`.)
#![cfg(proactor_loom)]

use loom::thread::{self, JoinHandle};
use loom_tests::{Seen, kills, model};
use proactor::model::{DequeOwner, DequeThief, deque};

fn thief(thief: &DequeThief, times: usize) -> JoinHandle<Vec<usize>> {
    let thief = thief.clone();
    thread::spawn(move || std::iter::from_fn(|| thief.steal()).take(times).collect())
}

fn drain(owner: &DequeOwner) -> Vec<usize> {
    std::iter::from_fn(|| owner.pop()).collect()
}

/// Everything that was taken is `0..count`, each once; says who took how many.
fn each_once(
    seen: &Seen,
    mine: Vec<usize>,
    thieves: impl IntoIterator<Item = JoinHandle<Vec<usize>>>,
    count: usize,
) {
    let kept = mine.len();
    let mut taken = mine;
    for thief in thieves {
        taken.extend(thief.join().expect("the thief returns"));
    }
    taken.sort_unstable();
    assert!(taken.iter().copied().eq(0..count), "taken: {taken:?}");
    seen.saw(format!("the owner took {kept} of {count}"));
}

/// The owner comes down from the young end while a thief comes up from the old one, over the last item.
fn owner_meets_thief(seen: &Seen) {
    let (owner, old) = deque();
    assert!(owner.push(0) && owner.push(1));
    let thieves = [thief(&old, 2)];
    each_once(seen, drain(&owner), thieves, 2);
}

#[test]
fn owner_and_thief_share_the_last_items() {
    let outcomes = [
        "the owner took 0 of 2",
        "the owner took 1 of 2",
        "the owner took 2 of 2",
    ];
    model(
        "owner_and_thief_share_the_last_items",
        &outcomes,
        owner_meets_thief,
    );
}

#[test]
fn mutant_no_fence_in_pop() {
    kills("deque-pop-fence", "owner_and_thief_share_the_last_items");
}

#[test]
fn mutant_no_fence_in_steal() {
    kills("deque-steal-fence", "owner_and_thief_share_the_last_items");
}

#[test]
fn mutant_the_owner_takes_the_last_item_unasked() {
    kills("deque-pop-cas", "owner_and_thief_share_the_last_items");
}

#[test]
fn mutant_a_thief_takes_unasked() {
    kills("deque-steal-cas", "owner_and_thief_share_the_last_items");
}

/// The owner pushes under the eyes of the thief: what is stolen was published with its contents.
fn push_under_a_thief(seen: &Seen) {
    let (owner, old) = deque();
    let thieves = [thief(&old, 2)];
    assert!(owner.push(0) && owner.push(1));
    each_once(seen, drain(&owner), thieves, 2);
}

#[test]
fn what_is_stolen_was_published() {
    let outcomes = [
        "the owner took 0 of 2",
        "the owner took 1 of 2",
        "the owner took 2 of 2",
    ];
    model(
        "what_is_stolen_was_published",
        &outcomes,
        push_under_a_thief,
    );
}

#[test]
fn mutant_a_push_publishes_nothing() {
    kills("deque-push-release", "what_is_stolen_was_published");
}

#[test]
fn mutant_a_thief_reads_too_early() {
    kills("deque-steal-acquire", "what_is_stolen_was_published");
}
