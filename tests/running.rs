//! Running, beside what `tests/conformance/running.rs` has: posts under a stop, and how many threads there are.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{Setup, everywhere_once};
use proactor::Proactor;

type Count = Arc<AtomicUsize>;

/// A counter, and what makes calls that count in it.
fn counter() -> (Count, impl Fn() -> Box<dyn FnOnce() + Send>) {
    let count = Count::default();
    let counted = Arc::clone(&count);
    let one_more = move || -> Box<dyn FnOnce() + Send> {
        let counted = Arc::clone(&counted);
        Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
    };
    (count, one_more)
}

fn value(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

/// Handlers post, and some of them stop meanwhile: each call was run, or is still held.
fn posts_under_a_stop(setup: Setup) {
    const POSTS: usize = 10_000;
    let proactor = setup.build();
    let (count, one_more) = counter();
    for poster in 0..POSTS / 100 {
        let port = proactor.port().clone();
        let mut calls: Vec<_> = (0..99).map(|_| one_more()).collect();
        proactor.post(move || {
            let later = calls.split_off(50);
            calls.into_iter().for_each(|call| port.post(call));
            if poster % 10 == 0 {
                port.stop();
            }
            later.into_iter().for_each(|call| port.post(call));
        });
    }
    let (mut ran, mut runs) = (0, 0);
    while proactor.port().outstanding() > 0 {
        ran += proactor.run();
        runs += 1;
        assert!(runs <= 11, "a run that was not stopped left something");
        proactor.restart();
    }
    assert!(runs >= 10 / setup.threads, "a stop was not heeded");
    assert_eq!((ran, value(&count)), (POSTS, POSTS / 100 * 99));
}

#[test]
fn p48_ten_thousand_posts_under_a_stop_lose_none() {
    everywhere_once(posts_under_a_stop);
}

#[test]
fn a_proactor_has_as_many_threads_as_processors_unless_told() {
    let proactor = Proactor::builder().build().unwrap();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let together = Arc::new(Barrier::new(threads));
    for _ in 0..threads {
        let together = Arc::clone(&together);
        proactor.post(move || {
            together.wait();
        });
    }
    assert_eq!(proactor.run(), threads);
}
