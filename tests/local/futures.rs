//! Futures of one thread's proactor: polled here, dropped here, whoever wakes them.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::future::yield_now;
use proactor::{ErrorKind, LocalProactor};

use super::elsewhere::Seen;
use super::{log, on_both_backends, pair};

/// Sends its waker, and is ready when it is polled again.
async fn shows(waker: mpsc::Sender<Waker>) {
    let mut shown = false;
    poll_fn(|context| {
        if std::mem::replace(&mut shown, true) {
            return Poll::Ready(());
        }
        waker.send(context.waker().clone()).expect("somebody wakes");
        Poll::Pending
    })
    .await;
}

#[test]
fn futures_that_are_not_send_share_what_is_not_locked() {
    on_both_backends(|local| {
        let (said, heard) = log();
        let handles = Vec::from_iter((0..20).map(|number| {
            let (said, nap) = (Rc::clone(&said), local.sleep(Duration::from_millis(1)));
            local.spawn(async move {
                for _ in 0..number {
                    yield_now().await;
                }
                nap.await.expect("nobody cancels it");
                said.borrow_mut().push(number);
                Rc::new(number)
            })
        }));
        let sum = local.spawn(async move {
            let mut sum = 0;
            for handle in handles {
                sum += *handle.await.expect("it ends");
            }
            sum
        });
        assert!(heard.borrow().is_empty(), "polled inside the call");
        assert_eq!(sum.wait().expect("it ends"), 190);
        let mut heard = heard.take();
        heard.sort_unstable();
        assert_eq!(heard, Vec::from_iter(0..20));
        assert_eq!(local.remote().outstanding(), 0);
    });
}

#[test]
fn a_future_spawns_others_and_reads_and_writes() {
    on_both_backends(|local| {
        let (stream, mut peer) = pair(&local);
        let bytes = Rc::new(Cell::new(0));
        local.spawn({
            let (port, bytes) = (local.port().clone(), Rc::clone(&bytes));
            async move {
                let inner = port.spawn(async move {
                    let (result, read) = stream.read_exact([0; 5]).await;
                    bytes.set(result.expect("bytes"));
                    stream.write_all(read).await.0.expect("room")
                });
                assert_eq!(inner.await.expect("it ends"), 5);
            }
        });
        peer.write_all(b"hello").expect("room");
        local.run();
        assert_eq!(bytes.get(), 5);
        let output = local.block_on(async { bytes.get() + 1 });
        assert_eq!(output.expect("it need not wait"), 6);
    });
}

#[test]
fn whoever_wakes_it_a_future_is_polled_and_dropped_here() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let (send, wakers) = mpsc::channel();
        let mark = seen.mark();
        let handle = local.spawn(async move {
            mark.called();
            shows(send).await;
            mark.called();
            mark
        });
        let waking = thread::spawn(move || wakers.recv().expect("it waits").wake());
        let mark = handle.wait().expect("it ends");
        waking.join().expect("it wakes");
        seen.only_here(2, 0);
        drop(mark);
        seen.only_here(2, 1);
    });
}

#[test]
fn an_aborted_future_is_dropped_here_and_its_handle_says_so() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let mark = seen.mark();
        let mut handle = local.spawn(async move {
            let _mark = mark;
            pending::<()>().await;
        });
        local.poll();
        handle.abort();
        local.run();
        seen.only_here(0, 1);
        assert!(handle.wait().expect_err("aborted").is_cancelled());
    });
}

#[test]
fn a_panic_is_for_whoever_joins_or_else_as_a_handlers() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let panics = || {
            let mark = seen.mark();
            async move {
                let _mark = mark;
                yield_now().await;
                panic!("on purpose");
            }
        };
        let error = local.spawn(panics()).wait().expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        local.spawn(panics()).detach();
        let panic = catch_unwind(AssertUnwindSafe(|| local.run())).expect_err("nobody joins");
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        seen.only_here(0, 2);
    });
}

#[test]
fn what_is_left_is_dropped_with_the_proactor() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let port = local.port().clone();
        let spawn = |local: &LocalProactor| {
            let (mark, kept) = (seen.mark(), Arc::clone(&kept));
            local.spawn(async move {
                let _mark = mark;
                poll_fn(|context| {
                    kept.lock().expect("no panic").push(context.waker().clone());
                    Poll::<()>::Pending
                })
                .await;
            })
        };
        let polled = spawn(&local);
        local.poll();
        let unpolled = spawn(&local);
        drop(local);
        seen.only_here(0, 2);
        for handle in [polled, unpolled] {
            assert!(handle.wait().expect_err("it is gone").is_cancelled());
        }
        let wakers = std::mem::take(&mut *kept.lock().expect("no panic"));
        assert_eq!(wakers.len(), 1);
        wakers.into_iter().for_each(Waker::wake);
        let late = port.spawn(async {});
        assert!(late.wait().expect_err("it is gone").is_cancelled());
    });
}

/// An output that nobody takes is dropped here, too.
#[test]
fn an_output_of_a_detached_future_is_dropped_here() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let mark = seen.mark();
        let last = Rc::new(RefCell::new(None));
        let keeps = Rc::clone(&last);
        local.spawn(async move { mark }).detach();
        local
            .spawn(async move { *keeps.borrow_mut() = Some(1) })
            .detach();
        local.run();
        seen.only_here(0, 1);
        assert_eq!(last.take(), Some(1));
    });
}
