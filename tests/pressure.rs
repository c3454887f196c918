//! Backpressure: never more from outside than may be pending; who would bring more waits, or has it handed back.
#![cfg(not(proactor_loom))]

mod common;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::{SOON, Setup, everywhere, everywhere_once, until, within};
use proactor::{CompletionPort, PanicPolicy, Proactor};

const FAR: Duration = Duration::from_secs(3600);

fn limited(setup: Setup, most: usize) -> Proactor {
    let most = NonZeroUsize::new(most).expect("room for one");
    let builder = setup.builder().max_pending(most);
    builder.build().expect("a setup is sound")
}

/// Posts on a thread of its own; what is sent tells that `post` has returned.
fn post_outside(port: &CompletionPort, call: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (returned, receiver) = mpsc::channel();
    let port = port.clone();
    thread::spawn(move || {
        port.post(call);
        let _ = returned.send(());
    });
    receiver
}

#[test]
fn a_full_port_hands_the_call_back() {
    everywhere(|setup| {
        let proactor = limited(setup, 3);
        let ran = Arc::new(AtomicUsize::new(0));
        let one = || {
            let ran = Arc::clone(&ran);
            move || {
                ran.fetch_add(1, Ordering::SeqCst);
            }
        };
        for _ in 0..3 {
            assert!(proactor.try_post(one()).is_ok());
        }
        let full = proactor.try_post(one()).expect_err("there is no room");
        let says = "as many calls are pending as max_pending(3) lets: try again when some have run, or raise it";
        assert_eq!(full.to_string(), says);
        assert_eq!(format!("{full:?}"), format!("Full({says})"));
        assert_eq!(proactor.run(), 3);
        proactor.try_post(full.into_inner()).expect("room");
        assert_eq!((proactor.run(), ran.load(Ordering::SeqCst)), (1, 4));
    });
}

#[test]
fn without_a_limit_nothing_is_refused() {
    everywhere(|setup| {
        let proactor = setup.build();
        for _ in 0..1000 {
            proactor.try_post(|| ()).expect("room");
        }
        let nap = proactor.sleep(Duration::ZERO);
        nap.try_submit(|_| ()).expect("room");
        assert_eq!(proactor.run(), 1001);
    });
}

#[test]
fn an_operation_has_its_room_until_its_handler_has_run() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        let port = proactor.port().clone();
        let key = proactor
            .sleep(FAR)
            .try_submit(move |result| {
                assert!(result.unwrap_err().is_cancelled());
                assert!(port.try_post(|| ()).is_err(), "not yet");
            })
            .expect("room");
        assert!(proactor.try_post(|| ()).is_err());
        let refused = proactor.sleep(Duration::ZERO).key(7).try_submit(|_| ());
        proactor.cancel(key);
        assert_eq!(proactor.run(), 1);
        let (nap, handler) = refused.expect_err("there was no room").into_inner();
        nap.try_submit(handler).expect("room");
        assert_eq!(proactor.run(), 1);
        assert!(proactor.try_post(|| ()).is_ok());
    });
}

#[test]
fn what_is_begun_with_then_is_not_counted() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        for _ in 0..10 {
            proactor.sleep(Duration::ZERO).then(|_| ());
        }
        assert!(proactor.try_post(|| ()).is_ok());
        assert_eq!(proactor.run(), 11);
    });
}

#[test]
fn a_post_from_outside_returns_when_there_is_room() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        let first = Arc::new(AtomicBool::new(false));
        proactor.post({
            let first = Arc::clone(&first);
            move || first.store(true, Ordering::SeqCst)
        });
        let guard = proactor.guard();
        let seen = Arc::clone(&first);
        let returned = post_outside(proactor.port(), move || drop(guard));
        assert!(returned.try_recv().is_err());
        assert_eq!(proactor.run(), 2);
        returned.recv_timeout(SOON).expect("it returned");
        assert!(seen.load(Ordering::SeqCst));
    });
}

#[test]
fn a_post_inside_a_handler_never_waits() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        let port = proactor.port().clone();
        proactor.post(move || {
            for _ in 0..100 {
                port.post(|| ());
                port.dispatch(|| ());
                port.defer(|| ());
                port.post_keyed(7, || ());
            }
            assert!(port.try_post(|| ()).is_err(), "this one has the only room");
        });
        assert_eq!(proactor.run(), 301);
    });
}

/// Many threads post as fast as they can: what has come back from `post` and not been run is never more than the limit.
fn flood(setup: Setup) {
    const POSTERS: usize = 4;
    const POSTS: usize = 5000;
    const MOST: usize = 16;
    let proactor = limited(setup, MOST);
    proactor.start().expect("threads");
    let (posted, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    thread::scope(|scope| {
        for _ in 0..POSTERS {
            scope.spawn(|| {
                for _ in 0..POSTS {
                    let count = Arc::clone(&done);
                    proactor.post(move || {
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                    let posted = posted.fetch_add(1, Ordering::SeqCst) + 1;
                    let pending = posted.saturating_sub(done.load(Ordering::SeqCst));
                    assert!(pending <= MOST, "{setup}: {pending} are pending");
                }
            });
        }
    });
    until("all have run", || {
        done.load(Ordering::SeqCst) == POSTERS * POSTS
    });
}

#[test]
fn never_more_are_pending_than_may_be() {
    everywhere_once(flood);
}

#[test]
fn a_stop_keeps_who_waits_for_room() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        let port = proactor.port().clone();
        proactor.post(move || port.stop());
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let returned = post_outside(proactor.port(), move || runs.store(true, Ordering::SeqCst));
        assert_eq!(proactor.run(), 1);
        returned.recv_timeout(SOON).expect("there is room now");
        let second = post_outside(proactor.port(), || ());
        assert!(!ran.load(Ordering::SeqCst), "it is stopped");
        assert!(proactor.try_post(|| ()).is_err(), "and full");
        proactor.restart();
        // The second may come while this runs, or after.
        let mut more = proactor.run();
        second.recv_timeout(SOON).expect("there is room again");
        more += proactor.run();
        assert_eq!((more, ran.load(Ordering::SeqCst)), (2, true));
    });
}

#[test]
fn closing_lets_who_waits_go_and_keeps_the_calls() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        proactor.post(|| ());
        let waiting: Vec<_> = (0..3)
            .map(|_| post_outside(proactor.port(), || ()))
            .collect();
        proactor.port().close();
        for returned in waiting {
            returned.recv_timeout(SOON).expect("it is let go");
        }
        assert_eq!(proactor.run(), 4);
    });
}

#[test]
fn dropping_the_proactor_lets_who_waits_go_and_drops_the_calls() {
    everywhere(|setup| {
        let proactor = limited(setup, 1);
        proactor.post(|| panic!("it is not run"));
        let held = Arc::new(());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let held = Arc::clone(&held);
                post_outside(proactor.port(), move || panic!("it is not run: {held:?}"))
            })
            .collect();
        drop(proactor);
        for returned in waiting {
            returned.recv_timeout(SOON).expect("it is let go");
        }
        assert_eq!(Arc::strong_count(&held), 1, "a call is still held");
    });
}

#[test]
fn a_handler_that_panics_makes_room() {
    everywhere(|setup| {
        let builder = setup.builder().max_pending(NonZeroUsize::MIN);
        let isolate = PanicPolicy::isolate(|_| ());
        let proactor = builder.panic_policy(isolate).build().expect("sound");
        for _ in 0..3 {
            proactor
                .try_post(|| std::panic::panic_any("on purpose"))
                .expect("room");
            assert_eq!(proactor.run(), 1);
        }
    });
}

#[test]
fn another_ports_handler_is_outside() {
    within("two ports", || {
        let build = || {
            let builder = Proactor::builder().max_pending(NonZeroUsize::MIN);
            builder.build().expect("sound")
        };
        let (here, there) = (build(), build());
        let port = there.port().clone();
        here.post(move || (0..100).for_each(|_| port.post(|| ())));
        let guard = there.guard();
        let runs = thread::spawn(move || there.run());
        assert_eq!(here.run(), 1);
        drop(guard);
        assert_eq!(runs.join().expect("it returns"), 100);
    });
}
