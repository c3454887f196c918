//! The books of outstanding work: whoever says "settled" is right, and of those who finish last at least one says it.
#![cfg(proactor_loom)]

use loom::thread;
use loom_tests::{Seen, kills, model};
use proactor::model::Books;
use std::sync::Arc;

/// One worker, or somebody outside, runs a handler that creates a child and finishes; the child is run by another; a third looks
/// on.
fn finish_against_look(seen: &Seen, who: Option<usize>) {
    let books = Arc::new(Books::new(2));
    let handed = Arc::new(loom::sync::atomic::AtomicBool::new(false));
    books.created(None);
    let first = {
        let (books, handed) = (Arc::clone(&books), Arc::clone(&handed));
        thread::spawn(move || {
            books.created(who);
            handed.store(true, loom::sync::atomic::Ordering::Release);
            books.finished(who);
        })
    };
    let second = {
        let (books, handed) = (Arc::clone(&books), Arc::clone(&handed));
        thread::spawn(move || {
            if handed.load(loom::sync::atomic::Ordering::Acquire) {
                books.finished(Some(1));
                return true;
            }
            false
        })
    };
    let settled = books.is_settled();
    first.join().expect("returns");
    let ran = second.join().expect("returns");
    if settled {
        assert!(ran, "settled, while the child was outstanding");
    }
    assert_eq!(books.is_settled(), ran);
    seen.saw(if settled {
        "settled early"
    } else {
        "not settled yet"
    });
}

#[test]
fn settled_is_never_said_too_early() {
    model(
        "settled_is_never_said_too_early",
        &["settled early", "not settled yet"],
        |seen| finish_against_look(seen, Some(0)),
    );
}

#[test]
fn settled_is_never_said_too_early_of_outsiders() {
    model(
        "settled_is_never_said_too_early_of_outsiders",
        &["settled early", "not settled yet"],
        |seen| finish_against_look(seen, None),
    );
}

#[test]
fn mutant_a_finish_outside_is_relaxed() {
    kills(
        "work-finish-relaxed",
        "settled_is_never_said_too_early_of_outsiders",
    );
}

#[test]
fn mutant_a_finish_is_relaxed() {
    kills("work-finish-relaxed", "settled_is_never_said_too_early");
}

#[test]
fn mutant_created_is_read_first() {
    kills("work-created-first", "settled_is_never_said_too_early");
}

/// Two workers finish the last two pieces and then look: two stores, two loads, and at least one sees both stores.
fn two_finish_and_look(seen: &Seen) {
    let books = Arc::new(Books::new(2));
    books.created(None);
    books.created(None);
    let other = {
        let books = Arc::clone(&books);
        thread::spawn(move || {
            books.finished(Some(1));
            books.is_settled()
        })
    };
    books.finished(Some(0));
    let mine = books.is_settled();
    let theirs = other.join().expect("returns");
    assert!(mine || theirs, "both looked, and neither saw the end");
    seen.saw(if mine && theirs {
        "both saw it"
    } else {
        "one saw it"
    });
}

#[test]
fn of_two_that_finish_last_one_sees_the_end() {
    model(
        "of_two_that_finish_last_one_sees_the_end",
        &["both saw it", "one saw it"],
        two_finish_and_look,
    );
}

#[test]
fn mutant_no_fence_before_the_books_are_read() {
    kills(
        "work-settled-fence",
        "of_two_that_finish_last_one_sees_the_end",
    );
}
