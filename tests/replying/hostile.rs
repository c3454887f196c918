//! Handlers that panic, and replies that panic when they are asked or dropped: it ends, once, and everything else goes on.
#![allow(unsafe_code)] // buffers of our own making

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use proactor::net::{Reply, TcpStream};
use proactor::{Buf, BufferPool, ErrorKind, Kind, PanicPolicy, Proactor};

use super::common::{SOON, Setup, everywhere, everywhere_once, pair, until};
use super::{LARGE, Output, are_all, assert_over, next, replying, settle};

/// A reply that answers so many questions, and then panics; or panics as it is dropped.
struct Shy {
    bytes: Vec<u8>,
    left: AtomicUsize,
    blows_up: bool,
}

impl Shy {
    fn asked(len: usize, left: usize) -> Self {
        Self {
            bytes: vec![b'!'; len],
            left: AtomicUsize::new(left),
            blows_up: false,
        }
    }

    fn dropped(len: usize) -> Self {
        let mut shy = Self::asked(len, usize::MAX);
        shy.blows_up = true;
        shy
    }

    fn ask(&self) {
        let left = self.left.load(Ordering::SeqCst).checked_sub(1);
        self.left.store(left.expect("on purpose"), Ordering::SeqCst);
    }
}

impl Drop for Shy {
    fn drop(&mut self) {
        assert!(!self.blows_up, "on purpose, as it is dropped");
    }
}

// SAFETY: what it says, if it does, is the vector's.
unsafe impl Buf for Shy {
    fn ptr(&self) -> *const u8 {
        self.ask();
        self.bytes.as_ptr()
    }
    fn len(&self) -> usize {
        self.ask();
        self.bytes.len()
    }
}

/// A proactor that counts the panics of its handlers.
fn with_reports(
    setup: Setup,
    policy: impl FnOnce(Box<dyn Fn() + Send + Sync>) -> PanicPolicy,
) -> (Proactor, Arc<AtomicUsize>) {
    let reports = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reports);
    let policy = policy(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    (
        setup.builder().panic_policy(policy).build().unwrap(),
        reports,
    )
}

fn isolated(setup: Setup) -> (Proactor, Arc<AtomicUsize>) {
    with_reports(setup, |report| PanicPolicy::isolate(move |_| report()))
}

/// It has ended because something panicked.
fn assert_panicked<B>(end: &mpsc::Receiver<Output<B>>) -> Option<B> {
    let (result, unsent) = end.recv_timeout(SOON).expect("an end");
    let error = result.expect_err("it panicked");
    assert_eq!(error.kind(), ErrorKind::Panicked);
    let operation = if unsent.is_some() {
        Kind::Write
    } else {
        Kind::Read
    };
    assert_eq!(error.operation(), operation);
    unsent
}

fn assert_usable(stream: &TcpStream, peer: &mut StdStream) {
    peer.write_all(b"more").unwrap();
    let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
    assert_eq!((result.unwrap(), &bytes), (4, b"more"));
    assert_eq!(stream.write_all("word").wait().0.unwrap(), 4);
    assert_eq!(next(peer, 4), b"word");
}

/// The first is answered, the second panics.
fn panicking(stream: &TcpStream) -> mpsc::Receiver<Output<Vec<u8>>> {
    let mut first = true;
    replying(stream, move |bytes| {
        assert!(std::mem::take(&mut first), "on purpose");
        Reply::Write(bytes.to_vec())
    })
}

fn ask_twice(mut peer: StdStream) -> JoinHandle<StdStream> {
    thread::spawn(move || {
        peer.write_all(b"some").unwrap();
        assert_eq!(next(&mut peer, 4), b"some");
        peer.write_all(b"boom").unwrap();
        peer
    })
}

#[test]
fn a_handler_that_panics_goes_out_of_run_and_the_next_run_has_its_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, peer) = pair(&proactor);
        let end = panicking(&stream);
        let asking = ask_twice(peer);
        let panic = catch_unwind(AssertUnwindSafe(|| proactor.run())).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        proactor.run();
        assert!(assert_panicked(&end).is_none());
        assert_usable(&stream, &mut asking.join().unwrap());
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn a_handler_that_panics_in_the_background_goes_out_of_shutdown() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, peer) = pair(&proactor);
        let end = panicking(&stream);
        let mut peer = ask_twice(peer).join().unwrap();
        until("it has stopped", || proactor.stopped());
        let shutdown = catch_unwind(AssertUnwindSafe(|| proactor.shutdown(Instant::now())));
        assert!(shutdown.is_err(), "it panics");
        drop(proactor);
        if let Ok((result, _)) = end.recv() {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
        }
        drop(stream);
        peer.read_to_end(&mut Vec::new()).expect("it is closed");
    });
}

#[test]
fn a_handler_that_panics_is_reported_and_all_else_goes_on() {
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        proactor.start().unwrap();
        let (other, mut others_peer) = pair(&proactor);
        let others_end = replying(&other, Reply::Write);
        for round in 1..=20 {
            let (stream, peer) = pair(&proactor);
            let end = panicking(&stream);
            let mut peer = ask_twice(peer).join().unwrap();
            assert!(assert_panicked(&end).is_none());
            until("it is reported", || reports.load(Ordering::SeqCst) == round);
            assert_usable(&stream, &mut peer);
            others_peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut others_peer, 4), b"some");
        }
        others_peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&others_end);
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

#[test]
fn a_handler_that_panics_stops_the_proactor_which_goes_on_when_it_is_restarted() {
    everywhere(|setup| {
        let (proactor, reports) =
            with_reports(setup, |report| PanicPolicy::stop(move |_| report()));
        let (stream, peer) = pair(&proactor);
        let end = panicking(&stream);
        let asking = ask_twice(peer);
        proactor.run();
        assert_eq!(
            (reports.load(Ordering::SeqCst), proactor.stopped()),
            (1, true)
        );
        proactor.restart();
        proactor.run();
        assert!(assert_panicked(&end).is_none());
        assert_usable(&stream, &mut asking.join().unwrap());
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn a_handler_that_panics_panics_out_of_a_wait_or_ends_a_future() {
    everywhere(|setup| {
        let (proactor, reports) = isolated(setup);
        let (stream, mut peer) = pair(&proactor);
        let panics = || {
            stream.reply_each(&BufferPool::new(10), |_| -> Reply<Vec<u8>> {
                panic!("on purpose")
            })
        };
        peer.write_all(b"boom").unwrap();
        let (result, _) = panics().wait();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
        propagates(setup);
        proactor.start().unwrap();
        let awaited = panics();
        let task = proactor.spawn(async move { awaited.await });
        peer.write_all(b"boom").unwrap();
        let (result, _) = task.wait().unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
        until("both are reported", || reports.load(Ordering::SeqCst) == 2);
        assert_usable(&stream, &mut peer);
    });
}

/// Out of the wait itself, under the policy that is the default.
fn propagates(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut peer) = pair(&proactor);
    peer.write_all(b"boom").unwrap();
    let pool = BufferPool::new(10);
    let waited = catch_unwind(AssertUnwindSafe(|| {
        let panics = |_| -> Reply<Vec<u8>> { panic!("on purpose") };
        stream.reply_each(&pool, panics).wait()
    }));
    assert!(waited.is_err());
    proactor.run();
    assert_usable(&stream, &mut peer);
    assert_eq!(proactor.port().outstanding(), 0);
}

/// Takes what comes, late, until the end.
fn drain(mut peer: StdStream) -> JoinHandle<usize> {
    thread::spawn(move || {
        let (mut buf, mut count) = (vec![0; 1 << 16], 0);
        loop {
            match peer.read(&mut buf).expect("bytes, or the end") {
                0 => return count,
                some => {
                    assert!(are_all(&buf[..some], b'!'));
                    count += some;
                }
            }
        }
    })
}

#[test]
fn a_reply_that_panics_when_it_is_asked_ends_it() {
    everywhere_once(|setup| {
        let (proactor, reports) = isolated(setup);
        proactor.start().unwrap();
        let mut ends = [0; 3];
        for (len, most) in [(10, 6), (LARGE, 16)] {
            for questions in 0..most {
                let before = reports.load(Ordering::SeqCst);
                let (stream, mut peer) = pair(&proactor);
                let mut reply = Some(Shy::asked(len, questions));
                let end = replying(&stream, move |_| {
                    reply.take().map_or(Reply::End, Reply::Last)
                });
                peer.write_all(b"some").unwrap();
                let drained = drain(peer);
                let (result, unsent) = end.recv_timeout(SOON).expect("an end");
                let transferred = match result {
                    Ok(()) => {
                        ends[0] += 1;
                        assert!(unsent.is_none());
                        len
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Panicked);
                        let reported = reports.load(Ordering::SeqCst) - before;
                        assert!(reported <= 1);
                        match unsent {
                            None => {
                                ends[1] += 1;
                                assert_eq!(error.transferred(), 0);
                                0
                            }
                            Some(reply) => {
                                ends[2] += 1;
                                assert_eq!(
                                    (error.operation(), reply.bytes.len()),
                                    (Kind::Write, len)
                                );
                                error.transferred()
                            }
                        }
                    }
                };
                drop(stream);
                assert_eq!(drained.join().unwrap(), transferred, "{len}, {questions}");
            }
        }
        assert!(ends.iter().all(|&count| count > 0), "{ends:?}");
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
        proactor.shutdown(Instant::now());
    });
}

#[test]
fn a_buffer_that_cannot_be_made_ends_it() {
    everywhere_once(|setup| {
        let (proactor, _reports) = isolated(setup);
        let (stream, mut peer) = pair(&proactor);
        let (to, end) = mpsc::channel();
        // No memory is as large: making one panics, before anything is read.
        let each = stream.reply_each(&BufferPool::new(usize::MAX), Reply::Write);
        each.then(move |output| to.send(output).unwrap());
        peer.write_all(b"much").unwrap();
        proactor.run();
        assert!(assert_panicked(&end).is_none());
        let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
        assert_eq!((result.unwrap(), &bytes), (4, b"much"));
        assert_usable(&stream, &mut peer);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn a_reply_that_panics_as_it_is_dropped_ends_it() {
    everywhere_once(|setup| {
        let (proactor, _reports) = isolated(setup);
        proactor.start().unwrap();
        for len in [0, 10, LARGE] {
            for last in [true, false] {
                let (stream, mut peer) = pair(&proactor);
                let end = replying(&stream, move |_| match last {
                    true => Reply::Last(Shy::dropped(len)),
                    false => Reply::Write(Shy::dropped(len)),
                });
                peer.write_all(b"some").unwrap();
                assert!(are_all(&next(&mut peer, len), b'!'));
                assert!(assert_panicked(&end).is_none());
                assert_usable(&stream, &mut peer);
            }
        }
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
        proactor.shutdown(Instant::now());
    });
}

#[test]
fn what_it_has_and_nobody_wants_may_panic_as_it_is_dropped() {
    everywhere_once(|setup| {
        let (proactor, reports) = isolated(setup);
        proactor.start().unwrap();
        // The handler's own, at its end; and a reply of which nobody wants the rest.
        for by_future in [false, true] {
            let (stream, mut peer) = pair(&proactor);
            let before = reports.load(Ordering::SeqCst);
            let bomb = Shy::dropped(1);
            let (entered, enters) = mpsc::channel();
            let replying = stream.reply_each(&BufferPool::new(10), move |_| {
                let _bomb = (!by_future).then_some(&bomb);
                entered.send(()).unwrap();
                Reply::Write(Shy::dropped(LARGE))
            });
            let key = match by_future {
                true => {
                    let task = proactor.spawn(async move { replying.await });
                    task.detach();
                    None
                }
                false => Some(replying.then(std::mem::forget)),
            };
            peer.write_all(b"some").unwrap();
            enters.recv_timeout(SOON).unwrap();
            next(&mut peer, 1);
            match key {
                Some(key) => drop(proactor.cancel(key)),
                None => stream.cancel(),
            }
            until("it is reported", || reports.load(Ordering::SeqCst) > before);
            peer.write_all(b"more").unwrap();
            let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
            assert_eq!((result.unwrap(), &bytes), (4, b"more"));
        }
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
        proactor.shutdown(Instant::now());
    });
}

/// The proactor is dropped with one that waits, whose handler panics as it goes, and one that has a rest to write: either is closed.
#[test]
fn a_handler_that_panics_as_the_proactor_drops_it_keeps_no_other_open() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let (waits, mut waits_peer) = pair(&proactor);
        let (writes, mut writes_peer) = pair(&proactor);
        let bomb = Shy::dropped(1);
        drop(replying(&waits, move |_| {
            let _bomb = &bomb;
            Reply::<Vec<u8>>::Nothing
        }));
        drop(replying(&writes, |_| Reply::Write(vec![b'!'; LARGE])));
        writes_peer.write_all(b"some").unwrap();
        until("it writes", || {
            proactor.poll();
            writes_peer.peek(&mut [0]).is_ok_and(|count| count > 0)
        });
        settle(&proactor);
        drop((waits, writes));
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(proactor)));
        assert!(dropped.is_err(), "it panics out of the drop");
        for peer in [&mut waits_peer, &mut writes_peer] {
            peer.read_to_end(&mut Vec::new()).expect("it is closed");
        }
    });
}
