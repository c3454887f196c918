//! The injector: what is pushed comes out, whole, once, in each producer's order, and "empty" is never said too early.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, kills, model};
use proactor::model::{Calls, Witness};
use std::sync::Arc;

/// A producer pushes two calls that read what was written before, plainly; a consumer takes what it finds.
fn push_against_pop(seen: &Seen) {
    let calls = Arc::new(Calls::new());
    let cells: [Arc<Witness>; 2] = std::array::from_fn(|_| Arc::new(Witness::default()));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let producer = {
        let (calls, cells, order) = (Arc::clone(&calls), cells.clone(), Arc::clone(&order));
        thread::spawn(move || {
            for (number, cell) in cells.iter().enumerate() {
                cell.touch();
                let (cell, order) = (Arc::clone(cell), Arc::clone(&order));
                calls.push(move || {
                    // If this is not ordered after the producer's touch above, loom would say so.
                    cell.touch();
                    order.lock().expect("no panic").push(number);
                });
            }
        })
    };
    let early = usize::from(calls.pop()) + usize::from(calls.pop());
    producer.join().expect("returns");
    while calls.pop() {}
    assert_eq!(*order.lock().expect("no panic"), [0, 1]);
    assert!(calls.is_empty());
    seen.saw(format!("{early} early"));
}

#[test]
fn calls_come_out_whole_once_and_in_order() {
    model(
        "calls_come_out_whole_once_and_in_order",
        &["0 early", "1 early", "2 early"],
        push_against_pop,
    );
}

#[test]
fn mutant_a_push_publishes_nothing() {
    kills(
        "injector-push-relaxed",
        "calls_come_out_whole_once_and_in_order",
    );
}

/// Two calls are there; one consumer takes one. Whoever looks meanwhile must not see an empty queue.
fn look_against_pop(seen: &Seen) {
    let calls = Arc::new(Calls::new());
    calls.push(|| ());
    calls.push(|| ());
    let consumer = {
        let calls = Arc::clone(&calls);
        thread::spawn(move || assert!(calls.pop()))
    };
    assert!(
        !calls.is_empty(),
        "said to be empty, while one of two was left"
    );
    consumer.join().expect("returns");
    assert!(calls.pop());
    seen.saw("never empty");
}

#[test]
fn empty_is_never_said_too_early() {
    model(
        "empty_is_never_said_too_early",
        &["never empty"],
        look_against_pop,
    );
}

#[test]
fn mutant_the_length_is_raised_too_late() {
    kills("injector-len-late", "empty_is_never_said_too_early");
}
