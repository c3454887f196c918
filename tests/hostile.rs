//! What no user should do, and one will: buffers, wakers and futures that panic, re-enter, or are never dropped.
#![cfg(not(proactor_loom))]
#![allow(unsafe_code)] // buffers of our own making

mod common;

use std::future::{IntoFuture, poll_fn};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{Setup, everywhere, pair, until};
use proactor::net::TcpStream;
use proactor::{Buf, BufMut, CompletionPort, ErrorKind, JoinHandle, PanicPolicy, Proactor};

/// Says so when it is dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn watch(&self) -> Watched {
        Watched(Arc::clone(&self.0))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct Watched(Arc<AtomicUsize>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A buffer that calls something of ours whenever it is asked for its room.
struct Asked<F> {
    bytes: [u8; 4],
    ask: F,
    _watched: Watched,
}

// SAFETY: the bytes stand inside the value, as an array's.
unsafe impl<F: Fn() + Send + 'static> Buf for Asked<F> {
    fn ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above.
unsafe impl<F: Fn() + Send + 'static> BufMut for Asked<F> {
    fn mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        (self.ask)();
        self.bytes.len()
    }
    unsafe fn set_filled(&mut self, _len: usize) {}
}

/// A proactor that counts the panics of its handlers.
fn isolated(setup: Setup) -> (Proactor, Drops) {
    let reports = Drops::default();
    let policy = PanicPolicy::isolate({
        let reports = reports.clone();
        move |_| drop(reports.watch())
    });
    let proactor = setup.builder().panic_policy(policy).build();
    (proactor.expect("a setup is sound"), reports)
}

#[test]
fn a_buffer_that_panics_as_its_operation_begins_takes_nothing_with_it() {
    everywhere(|setup| {
        let builder = setup.builder().max_pending(NonZeroUsize::MIN);
        let proactor = builder.build().expect("a setup is sound");
        let (stream, mut peer) = pair(&proactor);
        let drops = Drops::default();
        let buf = || Asked {
            bytes: [0; 4],
            ask: || panic!("on purpose"),
            _watched: drops.watch(),
        };
        let handler = drops.watch();
        let begun = catch_unwind(AssertUnwindSafe(|| {
            stream.read(buf()).then(move |_| drop(handler));
        }));
        assert!(begun.is_err(), "it panics here");
        assert_eq!(drops.count(), 2, "the buffer and the handler are dropped");
        let future = stream.read(buf()).into_future();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
        }));
        assert!(polled.is_err(), "it panics here, too");
        assert_eq!(drops.count(), 3);
        let waited = catch_unwind(AssertUnwindSafe(|| drop(stream.read(buf()).wait())));
        assert!(waited.is_err());
        assert_eq!(drops.count(), 4);
        // Nor does it keep the only room there is.
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let _ = stream.read(buf()).try_submit(drop);
        }));
        assert!(refused.is_err());
        assert_eq!(drops.count(), 5);
        assert!(proactor.try_post(|| ()).is_ok());
        assert_eq!(proactor.run(), 1);
        assert_eq!(proactor.port().outstanding(), 0);
        peer.write_all(b"here").expect("room in the kernel");
        assert_eq!(stream.read_exact([0; 4]).wait().1, *b"here");
    });
}

/// A delimiter that says so many times where it is, and how long.
struct Shy(AtomicUsize);

impl Shy {
    fn ask(&self) {
        let left = self.0.load(Ordering::SeqCst).checked_sub(1);
        self.0.store(left.expect("on purpose"), Ordering::SeqCst);
    }
}

// SAFETY: what it says, if it does, is a static text.
unsafe impl Buf for Shy {
    fn ptr(&self) -> *const u8 {
        self.ask();
        b";".as_ptr()
    }
    fn len(&self) -> usize {
        self.ask();
        1
    }
}

#[test]
fn a_buffer_that_panics_in_an_attempt_is_a_failure_and_the_stream_goes_on() {
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        let (stream, mut peer) = pair(&proactor);
        let drops = Drops::default();
        // Asked as it begins, at an attempt that finds nothing, and when there is something.
        for calm in 1..4 {
            let asked = AtomicUsize::new(0);
            let buf = Asked {
                bytes: [0; 4],
                ask: move || {
                    let before = asked.fetch_add(1, Ordering::SeqCst);
                    assert!(before < calm, "on purpose");
                },
                _watched: drops.watch(),
            };
            let (ended, end) = mpsc::channel();
            stream.read(buf).then(move |(result, _buf)| {
                let _ = ended.send(result.map_err(|error| error.kind()));
            });
            peer.write_all(b"!").expect("room in the kernel");
            proactor.run();
            let result = end.recv().expect("its handler runs");
            assert!(
                matches!(result, Err(ErrorKind::Panicked) | Ok(1)),
                "{result:?}"
            );
            assert_eq!(drops.count(), calm);
            if result.is_err() {
                assert_eq!(stream.read([0; 1]).wait().1, *b"!");
            }
        }
        let mut kinds = Vec::new();
        for calm in 1..32 {
            peer.write_all(b"!;").expect("room in the kernel");
            let read = || {
                stream
                    .read_until(Shy(AtomicUsize::new(calm)), [0; 8])
                    .wait()
            };
            match catch_unwind(AssertUnwindSafe(read)) {
                Ok((Ok(found), _buf)) => assert_eq!(found, 2),
                Ok((Err(error), _buf)) => kinds.push(error.kind()),
                Err(_at_its_beginning) => drop(stream.read_exact([0; 2]).wait()),
            }
        }
        assert!(!kinds.is_empty(), "it never panicked in an attempt");
        assert!(
            kinds.iter().all(|&kind| kind == ErrorKind::Panicked),
            "{kinds:?}"
        );
        peer.write_all(b"here").expect("room in the kernel");
        assert_eq!(stream.read_exact([0; 4]).wait().1, *b"here");
        assert_eq!((reports.count(), proactor.port().outstanding()), (0, 0));
    });
}

/// Has bytes given back to the stream.
fn shelve(stream: &TcpStream, peer: &mut std::net::TcpStream, rest: &str) {
    peer.write_all(b"first\n").expect("room in the kernel");
    peer.write_all(rest.as_bytes()).expect("room in the kernel");
    // All of it has come, or nothing is read beyond.
    until("all has come", || {
        let (result, _) = stream.read([0; 0]).wait();
        result.is_ok()
    });
    let (result, _) = stream.read_until("\n", Vec::with_capacity(64)).wait();
    assert_eq!(result.expect("a line"), 6);
}

#[test]
fn a_buffer_may_begin_operations_whenever_it_is_asked() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        let (other, mut others_peer) = pair(&proactor);
        shelve(&stream, &mut peer, "rest");
        shelve(&other, &mut others_peer, "more");
        let (heard, hears) = mpsc::channel();
        let other = Arc::new(other);
        let ask = move || {
            let heard = heard.clone();
            other.read([0; 1]).then(move |(result, byte)| {
                let _ = heard.send(result.map(|_| byte[0]));
            });
        };
        let buf = Asked {
            bytes: [0; 4],
            ask,
            _watched: Drops::default().watch(),
        };
        let (result, bufs) = stream.read_vectored(vec![buf]).wait();
        assert_eq!((result.expect("bytes"), &bufs[0].bytes), (4, b"rest"));
        drop(bufs);
        let first = hears.recv().expect("it was asked").expect("a byte");
        assert_eq!(first, b'm');
    });
}

#[test]
fn a_future_that_panics_as_it_is_dropped_is_as_a_handler_that_panics() {
    struct Bomb(#[expect(dead_code, reason = "it is dropped")] Watched);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, as it is dropped");
        }
    }
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        let drops = Drops::default();
        let bomb = || {
            let bomb = Bomb(drops.watch());
            async move {
                let _bomb = bomb;
                std::future::pending::<()>().await;
            }
        };
        let mut handle = proactor.spawn(bomb());
        proactor.poll();
        handle.abort();
        assert!(handle.wait().expect_err("aborted").is_cancelled());
        let unpolled = proactor.spawn(bomb());
        let mut unpolled = unpolled;
        unpolled.abort();
        assert!(unpolled.wait().expect_err("aborted").is_cancelled());
        proactor.run();
        assert_eq!((drops.count(), reports.count()), (2, 2), "{setup}");
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn handlers_of_two_proactors_wait_for_each_other_as_deep_as_they_like() {
    fn down(here: &CompletionPort, there: &CompletionPort, depth: usize) {
        let (next, after) = (there.clone(), here.clone());
        here.spawn(async move {
            if depth > 0 {
                down(&next, &after, depth - 1);
            }
            next.sleep(Duration::from_millis(1)).wait().expect("a tick");
        })
        .wait()
        .expect("it ends");
    }
    everywhere(|setup| {
        let (one, other) = (setup.build(), setup.build());
        down(one.port(), other.port(), 6);
        assert_eq!((one.run(), other.run()), (0, 0));
    });
}

/// Has a handler of `one` wait for a handler of `other` that does `what`.
fn within_another(
    one: &CompletionPort,
    other: &CompletionPort,
    what: impl FnOnce() + Send + 'static,
) {
    let other = other.clone();
    one.post(move || other.spawn(async { what() }).wait().expect("it ends"));
}

#[test]
fn a_handler_runs_others_of_its_proactor_also_from_within_another_proactors() {
    everywhere(|setup| {
        let (one, other) = (Arc::new(setup.build()), setup.build());
        let called = Drops::default();
        let (again, watched) = (Arc::clone(&one), called.watch());
        let calls = called.clone();
        within_another(one.port(), other.port(), move || {
            again.post(|| drop(watched));
            until("it is run", || {
                again.poll();
                calls.count() == 1
            });
        });
        one.run();
        assert_eq!(called.count(), 1);
    });
}

#[test]
fn a_handler_drops_its_proactor_also_from_within_another_proactors() {
    everywhere(|setup| {
        let (one, other) = (setup.build(), setup.build());
        one.start().expect("threads");
        let port = one.port().clone();
        let dropped = Drops::default();
        // On another thread of it, if it has one: a handler that ends after the drop.
        let (begun, seen) = (Drops::default(), dropped.clone());
        if setup.threads > 1 {
            let watched = begun.watch();
            one.post(move || {
                drop(watched);
                until("the drop is over", || seen.count() == 1);
            });
            until("it is run", || begun.count() == 1);
        }
        let watched = dropped.watch();
        within_another(&port, other.port(), move || {
            drop(one);
            drop(watched);
        });
        until("all is over", || port.outstanding() == 0);
        assert_eq!(dropped.count(), 1);
    });
}

/// A waker that does something.
struct Does<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn a_waker_that_panics_is_as_a_handler_that_panics_and_loses_nothing() {
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        let (stream, mut peer) = pair(&proactor);
        let (next, mut next_peer) = pair(&proactor);
        let waker = Waker::from(Arc::new(Does(|| panic!("on purpose"))));
        let mut context = Context::from_waker(&waker);
        let mut reading = pin!(stream.read_exact([0; 4]).into_future());
        assert!(reading.as_mut().poll(&mut context).is_pending());
        let mut buf = [0; 4];
        let polled = {
            let stream: &mut &TcpStream = &mut &next;
            futures_io::AsyncRead::poll_read(Pin::new(stream), &mut context, &mut buf)
        };
        assert!(polled.is_pending());
        peer.write_all(b"here").expect("room in the kernel");
        next_peer.write_all(b"more").expect("room in the kernel");
        until("both were woken", || {
            proactor.poll();
            reports.count() == 2
        });
        match reading.as_mut().poll(&mut context) {
            Poll::Ready((result, buf)) => assert_eq!((result.expect("bytes"), &buf), (4, b"here")),
            Poll::Pending => panic!("it was woken"),
        }
        assert_eq!(next.read_exact([0; 4]).wait().1, *b"more");
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// Spawns a future that is ready once it has been woken, and a waker that wakes it and then panics.
fn wakes_and_panics(proactor: &Proactor) -> (JoinHandle<()>, Waker) {
    let (woken, shown) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let waker = Waker::from(Arc::new(Does({
        let (woken, shown) = (Arc::clone(&woken), Arc::clone(&shown));
        move || {
            woken.store(true, Ordering::SeqCst);
            let waker = shown.lock().expect("not poisoned").take();
            waker.into_iter().for_each(Waker::wake);
            panic!("on purpose");
        }
    })));
    let handle = proactor.spawn(poll_fn(move |context| {
        *shown.lock().expect("not poisoned") = Some(context.waker().clone());
        match woken.load(Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }));
    proactor.poll();
    (handle, waker)
}

#[test]
fn whom_a_waker_that_panics_has_woken_before_goes_on() {
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        let (stream, mut peer) = pair(&proactor);
        for by_poll in [true, false] {
            let (handle, waker) = wakes_and_panics(&proactor);
            let mut context = Context::from_waker(&waker);
            let mut reading = stream.read([0; 4]).into_future();
            let is_pending = if by_poll {
                let stream: &mut &TcpStream = &mut &stream;
                futures_io::AsyncRead::poll_read(Pin::new(stream), &mut context, &mut [0; 4])
                    .is_pending()
            } else {
                Pin::new(&mut reading).poll(&mut context).is_pending()
            };
            assert!(is_pending);
            let before = reports.count();
            peer.write_all(b"here").expect("room in the kernel");
            until("it was woken and has ended", || {
                proactor.poll();
                reports.count() == before + 1 && handle.is_finished()
            });
            handle.wait().expect("it ends");
            drop(reading);
            assert_eq!(stream.read_exact([0; 4]).wait().1, *b"here");
        }
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn a_waker_that_polls_or_drops_the_future_then_and_there_may() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        for polls in [true, false] {
            type Reading = proactor::InitiationFuture<proactor::net::ReadExact<[u8; 4]>>;
            let place: Arc<Mutex<Option<Reading>>> = Arc::default();
            let (told, tells) = mpsc::channel();
            let within = Arc::clone(&place);
            let waker = Waker::from(Arc::new(Does(move || {
                let future = within.lock().expect("not poisoned").take();
                let mut future = future.expect("it is woken once");
                if polls {
                    let polled =
                        Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
                    let _ = told.send(polled.is_ready());
                } else {
                    drop(future);
                    let _ = told.send(true);
                }
            })));
            let mut future = stream.read_exact([0; 4]).into_future();
            let mut context = Context::from_waker(&waker);
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
            *place.lock().expect("not poisoned") = Some(future);
            peer.write_all(b"here").expect("room in the kernel");
            proactor.run();
            assert!(tells.recv().expect("it was woken"));
            if !polls {
                assert_eq!(stream.read_exact([0; 4]).wait().1, *b"here");
            }
        }
    });
}

#[test]
fn a_future_that_is_forgotten_holds_up_neither_a_close_nor_the_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        for finished in [true, false] {
            let (stream, mut peer) = pair(&proactor);
            let mut future = stream.read([0; 4]).into_future();
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
            if finished {
                peer.write_all(b"here").expect("room in the kernel");
                proactor.run();
            }
            std::mem::forget(future);
            drop(stream);
            assert_eq!(peer.read(&mut [0; 1]).expect("an end"), 0, "it is closed");
            proactor.run();
        }
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn an_abort_beside_a_poll_drops_the_future_once_that_is_over() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().expect("threads");
        let drops = Drops::default();
        let (entered, leave) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut handle = proactor.spawn({
            let (entered, leave, watched) =
                (Arc::clone(&entered), Arc::clone(&leave), drops.watch());
            async move {
                let _watched = watched;
                poll_fn(|_| {
                    entered.store(true, Ordering::SeqCst);
                    until("it may leave", || leave.load(Ordering::SeqCst));
                    Poll::<()>::Pending
                })
                .await;
            }
        });
        until("it is polled", || entered.load(Ordering::SeqCst));
        handle.abort();
        assert_eq!(drops.count(), 0);
        leave.store(true, Ordering::SeqCst);
        let joined = thread::spawn(move || handle.wait())
            .join()
            .expect("no panic");
        assert!(joined.expect_err("aborted").is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}
