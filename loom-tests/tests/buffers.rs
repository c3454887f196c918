//! Buffers that are lent: what one thread gives back, and another takes.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, kills, model};
use proactor::BufferPool;

/// Takes a buffer and gives it back; where it stands.
fn lend(pool: &BufferPool) -> usize {
    pool.take().as_ptr().addr()
}

/// Two threads take a buffer and give it back: the second has that of the first, or one of its own.
fn lend_beside(seen: &Seen) {
    let pool = BufferPool::new(1);
    let other = {
        let pool = pool.clone();
        thread::spawn(move || lend(&pool))
    };
    let mine = lend(&pool);
    let its = other.join().expect("it gives back");
    seen.saw(if mine == its { "the same" } else { "two" });
}

#[test]
fn a_buffer_is_lent_after_it_was_given_back() {
    model(
        "a_buffer_is_lent_after_it_was_given_back",
        &["the same", "two"],
        lend_beside,
    );
}

#[test]
fn mutant_a_buffer_is_given_back_unordered() {
    kills(
        "buffer-put-relaxed",
        "a_buffer_is_lent_after_it_was_given_back",
    );
}
