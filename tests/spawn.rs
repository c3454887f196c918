//! Spawned futures, under every strategy and both backends: their outputs, their ends, and how they count.
#![cfg(not(proactor_loom))]

mod common;

use std::future::{IntoFuture, pending, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;

use common::{SOON, everywhere, pair, until, within};
use proactor::{CompletionPort, Error, ErrorKind, Initiation, PanicPolicy, Proactor, Strand};

/// Ready once it has been polled `times` times more; it wakes itself.
async fn yields(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}

/// Says so when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that waits for ever, and shows whoever could wake it.
fn waits(
    shown: &Arc<Mutex<Option<Waker>>>,
    dropped: &Arc<AtomicUsize>,
) -> impl Future<Output = ()> + use<> {
    let (shown, dropped) = (Arc::clone(shown), Dropped(Arc::clone(dropped)));
    async move {
        let _dropped = dropped;
        poll_fn(|context| {
            *shown.lock().expect("not poisoned") = Some(context.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }
}

#[test]
fn outputs_come_to_whoever_joins() {
    everywhere(|setup| {
        let proactor = setup.build();
        let handles: Vec<_> = (0..50)
            .map(|number| {
                proactor.spawn(async move {
                    yields(number).await;
                    number
                })
            })
            .collect();
        let sum = proactor.spawn(async move {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.expect("it ends");
            }
            sum
        });
        assert_eq!(sum.wait().expect("it ends"), 49 * 50 / 2);
    });
}

#[test]
fn an_output_that_is_there_at_once_is_ready_on_the_first_poll() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        peer.write_all(b"ab").expect("room");
        let polled = |read: Initiation<_>| {
            let mut future = pin!(read.into_future());
            let polled = future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            polled.map(|(result, bytes): (Result<usize, Error>, [u8; 1])| {
                (result.expect("a byte"), bytes)
            })
        };
        // Nobody runs the proactor.
        assert_eq!(polled(stream.read([0])), Poll::Ready((1, *b"a")));
        assert_eq!(polled(stream.read([0])), Poll::Ready((1, *b"b")));
        assert!(polled(stream.read([0])).is_pending());
        peer.write_all(b"c").expect("room");
        until("the byte has come", || {
            proactor.poll(); // Hears of it.
            polled(stream.read([0])) == Poll::Ready((1, *b"c"))
        });
    });
}

/// A future whose operations all end at once does not keep its thread to itself.
#[test]
fn a_future_that_need_never_wait_lets_others_run() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _peer) = pair(&proactor);
        let others = Arc::new(AtomicBool::new(false));
        let handle = proactor.spawn({
            let others = Arc::clone(&others);
            async move {
                let mut writes = 0;
                while !others.load(Ordering::SeqCst) {
                    stream
                        .write_all([0; 0])
                        .await
                        .0
                        .expect("nothing is written");
                    writes += 1;
                }
                writes
            }
        });
        proactor.post(move || others.store(true, Ordering::SeqCst));
        proactor.run();
        let writes: usize = handle.wait().expect("it ends");
        assert!(
            setup.threads > 1 || writes <= 17,
            "{setup}: {writes} in a row"
        );
    });
}

#[test]
fn run_returns_when_the_last_future_has_ended() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (tell, mut told) = (Arc::new(Mutex::new(None)), false);
        let over = Arc::new(AtomicBool::new(false));
        let (shown, ended) = (Arc::clone(&tell), Arc::clone(&over));
        proactor
            .spawn(async move {
                poll_fn(|context| {
                    if std::mem::replace(&mut told, true) {
                        return Poll::Ready(());
                    }
                    *shown.lock().expect("not poisoned") = Some(context.waker().clone());
                    Poll::Pending
                })
                .await;
                ended.store(true, Ordering::SeqCst);
            })
            .detach();
        assert_eq!(
            proactor.port().outstanding(),
            2,
            "the future, and its first poll"
        );
        let outside = thread::spawn(move || {
            let waker = || tell.lock().expect("not poisoned").take();
            let deadline = Instant::now() + SOON;
            loop {
                if let Some(waker) = waker() {
                    return waker.wake();
                }
                assert!(Instant::now() < deadline, "never polled");
                thread::yield_now();
            }
        });
        proactor.run();
        assert!(
            over.load(Ordering::SeqCst),
            "run went home before the future"
        );
        assert_eq!(proactor.port().outstanding(), 0);
        outside.join().expect("it wakes");
    });
}

#[test]
fn a_panic_comes_to_whoever_joins_and_else_to_the_policy() {
    everywhere(|setup| {
        let reports = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reports);
        let policy = PanicPolicy::isolate(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let proactor = setup.builder().panic_policy(policy).build().expect("sound");
        let panics = || async { panic!("on purpose") };
        let error = proactor.spawn(panics()).wait().expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.to_string().contains("on purpose"), "{error}");
        assert_eq!(reports.load(Ordering::SeqCst), 0);
        proactor.spawn(panics()).detach();
        proactor.run();
        assert_eq!(reports.load(Ordering::SeqCst), 1);
        let unasked = proactor.spawn(panics());
        proactor.run();
        assert_eq!(reports.load(Ordering::SeqCst), 1, "somebody may still ask");
        drop(unasked);
        proactor.run();
        assert_eq!(reports.load(Ordering::SeqCst), 2);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn an_aborted_future_is_dropped_and_its_handle_says_so() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (shown, dropped) = (Arc::default(), Arc::default());
        let mut handle = proactor.spawn(waits(&shown, &dropped));
        proactor.poll();
        handle.abort();
        handle.abort();
        assert!(handle.wait().expect_err("aborted").is_cancelled());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let mut ended = proactor.spawn(async { 7 });
        proactor.run();
        ended.abort();
        assert_eq!(ended.wait().expect("it had ended"), 7);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn the_end_drops_what_waits_and_late_wakers_are_harmless() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (shown, dropped) = (Arc::default(), Arc::default());
        let handle = proactor.spawn(waits(&shown, &dropped));
        let never_polled = Arc::default();
        let other = proactor.spawn(waits(&Arc::default(), &never_polled));
        let port = proactor.port().clone();
        proactor.poll();
        drop(proactor);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(never_polled.load(Ordering::SeqCst), 1);
        assert!(handle.wait().expect_err("it was dropped").is_cancelled());
        let late = port.spawn(async { 1 });
        assert!(late.wait().is_err(), "nobody is left to poll it");
        assert_eq!(port.outstanding(), 0);
        drop(port);
        if let Some(waker) = shown.lock().expect("not poisoned").take() {
            waker.wake();
        }
        assert!(other.wait().expect_err("it was dropped").is_cancelled());
    });
}

#[test]
fn a_shutdown_drops_at_its_deadline_what_still_waits() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().expect("threads");
        let (shown, dropped) = (Arc::default(), Arc::default());
        let handle = proactor.spawn(waits(&shown, &dropped));
        until("it waits", || shown.lock().expect("not poisoned").is_some());
        let report = proactor.shutdown(Instant::now() + Duration::from_millis(5));
        assert_eq!((report.cancelled, report.left), (1, 0));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert!(handle.wait().expect_err("it was dropped").is_cancelled());
    });
}

#[test]
fn a_stop_keeps_futures_for_the_next_run() {
    everywhere(|setup| {
        let proactor = setup.build();
        let handle = proactor.spawn(async {
            yields(100).await;
            3
        });
        proactor.stop();
        proactor.run();
        assert!(!handle.is_finished());
        proactor.restart();
        proactor.run();
        assert_eq!(handle.wait().expect("it ends"), 3);
    });
}

#[test]
fn who_wakes_itself_for_ever_starves_nobody() {
    everywhere(|setup| {
        let proactor = setup.build();
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let over = Arc::clone(&over);
            proactor
                .spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        yields(1).await;
                    }
                })
                .detach();
        }
        let (stream, mut client) = pair(&proactor);
        let port = proactor.port().clone();
        std::io::Write::write_all(&mut client, b"x").expect("it takes a byte");
        proactor
            .spawn(async move {
                let (result, _) = stream.read([0; 1]).await;
                result.expect("a byte");
                port.sleep(Duration::from_millis(1)).await.expect("awake");
                over.store(true, Ordering::SeqCst);
            })
            .detach();
        proactor.run(); // the watchdog ends it otherwise
    });
}

#[test]
fn polls_on_a_strand_are_never_two_at_once_nor_beside_its_handlers() {
    everywhere(|setup| {
        let proactor = setup.build();
        let strand = Strand::new(&proactor, 0usize);
        let busy = Arc::new(AtomicBool::new(false));
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let (same, busy) = (strand.clone(), Arc::clone(&busy));
                proactor.spawn_on(&strand, async move {
                    for _ in 0..50 {
                        assert!(!busy.swap(true, Ordering::SeqCst), "two at once");
                        assert!(same.is_current());
                        let beside = Arc::clone(&busy);
                        same.post(move |polls| {
                            assert!(!beside.load(Ordering::SeqCst), "beside a poll");
                            *polls += 1;
                        });
                        busy.store(false, Ordering::SeqCst);
                        yields(1).await;
                    }
                })
            })
            .collect();
        proactor.run();
        for handle in handles {
            handle.wait().expect("no assertion failed");
        }
        proactor.run();
        assert_eq!(strand.try_into_inner().expect("the last handle"), 200);
    });
}

#[test]
fn block_on_works_meanwhile_outside_and_inside() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (send, receive) = mpsc::channel();
        let port = proactor.port().clone();
        proactor.post(move || {
            let inner = port.spawn(async { 2 });
            let nap = port.sleep(Duration::from_millis(1));
            let output = port.block_on(async { (nap.await, inner.await) });
            send.send(output).expect("the test listens");
        });
        let outer = proactor.spawn(yields(10));
        proactor
            .block_on(outer)
            .expect("no deadlock")
            .expect("it ends");
        proactor.run();
        let (nap, two) = receive
            .recv()
            .expect("the handler ran")
            .expect("no deadlock");
        assert!(nap.is_ok());
        assert_eq!(two.expect("it ends"), 2);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn block_on_refuses_what_could_never_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let error = proactor
            .block_on(pending::<()>())
            .expect_err("nobody can wake it");
        assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
        let shown: Arc<Mutex<Option<Waker>>> = Arc::default();
        let waiting = waits(&shown, &Arc::default());
        let port: CompletionPort = proactor.port().clone();
        let outside = thread::spawn(move || {
            let taken = || shown.lock().expect("not poisoned").take();
            let deadline = Instant::now() + SOON;
            while taken().is_none() {
                assert!(Instant::now() < deadline, "never polled");
                thread::yield_now();
            }
            // Dropped without a wake: whoever waits sees that when it looks next.
            port.post(|| ());
        });
        let error = proactor.block_on(waiting).expect_err("forgotten");
        assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
        outside.join().expect("it looks");
    });
}

#[test]
fn a_port_that_is_used_alone_polls_when_it_is_served() {
    within("a port alone", || {
        let port = CompletionPort::new().expect("a port");
        let handle = port.spawn(async {
            yields(3).await;
            5
        });
        let mut polls = 0;
        while let Some(poll) = port.take() {
            polls += usize::from(poll.run());
        }
        assert_eq!((polls, handle.is_finished()), (4, true));
        let (shown, dropped) = (Arc::default(), Arc::default());
        let waiting = port.spawn(waits(&shown, &dropped));
        assert!(port.take().expect("its first poll").run());
        drop(port);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert!(waiting.wait().expect_err("dropped").is_cancelled());
        assert_eq!(handle.wait().expect("it had ended"), 5);
    });
}

#[test]
fn an_unfinished_proactor_leaks_no_future() {
    everywhere(|setup| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let proactor: Proactor = setup.build();
        for _ in 0..100 {
            let guard = Dropped(Arc::clone(&dropped));
            let port = proactor.port().clone();
            let nap = port.sleep(Duration::from_secs(3600));
            proactor
                .spawn(async move {
                    let _all = (guard, port);
                    let _ = nap.await;
                    pending::<()>().await;
                })
                .detach();
        }
        proactor.poll();
        drop(proactor);
        assert_eq!(dropped.load(Ordering::SeqCst), 100);
    });
}
