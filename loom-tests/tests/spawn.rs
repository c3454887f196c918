//! Spawned futures: their end beside whoever wakes, polls or spawns them; and the thread that works until one is ready. The tasks
//! themselves are the crate `async-task`'s, which loom does not see into.
#![cfg(proactor_loom)]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use loom::sync::Mutex;
use loom::thread;
use loom_tests::{Once, Seen, join, kills, model, port, workers};
use proactor::Strategy;

/// What a future waits for: whether it has come, and whom that is to wake.
#[derive(Default)]
struct Event(Mutex<(bool, Option<Waker>)>);

impl Event {
    /// It comes. Whether anybody waited.
    fn come(&self) -> bool {
        let waker = {
            let mut event = self.0.lock().expect("no thread panicked");
            event.0 = true;
            event.1.take()
        };
        let waited = waker.is_some();
        waker.into_iter().for_each(Waker::wake);
        waited
    }

    fn has_come(&self) -> bool {
        self.0.lock().expect("no thread panicked").0
    }

    async fn comes(&self) {
        poll_fn(|context| {
            let mut event = self.0.lock().expect("no thread panicked");
            if event.0 {
                return Poll::Ready(());
            }
            event.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Says when it is dropped, and whether its future had been polled.
struct Ends {
    once: Once<bool>,
    polled: bool,
}

impl Ends {
    fn is_polled(&mut self) {
        self.polled = true;
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.once.happen(self.polled);
    }
}

/// Waits for ever, and keeps its waker to itself.
async fn waits_for_ever(mut ends: Ends) {
    let mut kept = None;
    poll_fn(|context| {
        ends.is_polled();
        kept = Some(context.waker().clone());
        Poll::<()>::Pending
    })
    .await;
}

/// A future is spawned, and polled by a worker, while the proactor ends.
fn spawned_against_the_end(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = port.proactor();
    port.enter();
    let worker = workers(&port, 1);
    let once = Once::default();
    let spawner = {
        let (port, once) = (port.port.clone(), once.clone());
        thread::spawn(move || {
            let ends = Ends {
                once,
                polled: false,
            };
            port.spawn(waits_for_ever(ends)).detach();
        })
    };
    drop(proactor);
    spawner.join().expect("it spawns");
    join(worker);
    // The port is there yet: who dropped it was the end.
    seen.saw(match once.how() {
        true => "polled before",
        false => "never polled",
    });
    port.cross_off();
}

#[test]
fn a_future_that_is_spawned_beside_the_end_is_dropped() {
    model(
        "a_future_that_is_spawned_beside_the_end_is_dropped",
        &["polled before", "never polled"],
        spawned_against_the_end,
    );
}

#[test]
fn mutant_the_end_wakes_no_future() {
    kills(
        "end-wakes-no-future",
        "a_future_that_is_spawned_beside_the_end_is_dropped",
    );
}

#[test]
fn mutant_a_future_is_scheduled_before_it_is_known() {
    kills(
        "scheduled-before-known",
        "a_future_that_is_spawned_beside_the_end_is_dropped",
    );
}

/// A future that waits is woken from outside while the proactor ends.
fn woken_against_the_end(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = port.proactor();
    let (event, once) = (Arc::new(Event::default()), Once::default());
    let mut ends = Ends {
        once: once.clone(),
        polled: false,
    };
    let waits = Arc::clone(&event);
    let handle = port.port.spawn(async move {
        waits.comes().await;
        ends.is_polled();
    });
    assert_eq!(port.poll(), 1);
    let waking = {
        let event = Arc::clone(&event);
        thread::spawn(move || event.come())
    };
    // loom looks for orders of what it sees: the task's own state it does not.
    let _ = event.has_come();
    drop(proactor);
    let by_then = once.happened();
    assert!(waking.join().expect("it wakes"), "it waits");
    assert!(!once.how(), "it was polled, and nobody runs the port");
    assert!(handle.is_finished());
    seen.saw(if by_then {
        "by the end"
    } else {
        "by who woke it"
    });
}

#[test]
fn a_future_that_is_woken_beside_the_end_is_dropped() {
    model(
        "a_future_that_is_woken_beside_the_end_is_dropped",
        &["by the end", "by who woke it"],
        woken_against_the_end,
    );
}

/// A future waits as its proactor is shut down, with a worker in the background.
fn shutdown_against_poll(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let proactor = port.proactor();
    let once = Once::default();
    let ends = Ends {
        once: once.clone(),
        polled: false,
    };
    proactor.start().expect("threads");
    let handle = proactor.spawn(waits_for_ever(ends));
    let report = proactor.shutdown(Instant::now());
    assert_eq!(report.left, 0, "something was left");
    assert!(handle.is_finished());
    seen.saw(if once.how() {
        "polled before"
    } else {
        "never polled"
    });
}

#[test]
fn a_future_that_waits_ends_with_a_shutdown() {
    model(
        "a_future_that_waits_ends_with_a_shutdown",
        &["polled before", "never polled"],
        shutdown_against_poll,
    );
}

#[test]
fn mutant_futures_are_over_after_they_were_woken() {
    kills(
        "over-after-woken",
        "a_future_that_waits_ends_with_a_shutdown",
    );
}

/// A thread works until a future is ready; another one makes it so, and lets its waker go.
fn blocked_against_wake(seen: &Seen) {
    let port = port(Strategy::LeaderFollowers, 1, 2, 0);
    let event = Arc::new(Event::default());
    let waking = {
        let event = Arc::clone(&event);
        thread::spawn(move || event.come())
    };
    let comes = port.port.block_on(event.comes());
    comes.expect("somebody had its waker, or it was ready");
    seen.saw(match waking.join().expect("it wakes") {
        true => "woken",
        false => "ready",
    });
}

#[test]
fn a_thread_that_works_until_a_future_is_ready_hears_of_it() {
    model(
        "a_thread_that_works_until_a_future_is_ready_hears_of_it",
        &["woken", "ready"],
        blocked_against_wake,
    );
}

#[test]
fn mutant_a_bell_tells_nobody() {
    kills(
        "bell-tells-nobody",
        "a_thread_that_works_until_a_future_is_ready_hears_of_it",
    );
}

#[test]
fn mutant_what_is_pushed_late_stays() {
    kills(
        "late-push-stays",
        "a_future_that_is_woken_beside_the_end_is_dropped",
    );
}
