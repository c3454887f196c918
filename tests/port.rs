//! A completion port that is used alone: seats, batches, and a foreign event loop.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, std_pair, until, within};
use proactor::net::TcpStream;
use proactor::{Batch, CancelOutcome, CompletionPort, Kind, ObjectId};

/// Waits for completions and runs them, until `count` handlers have run.
fn serve(port: &CompletionPort, count: usize) {
    let mut batch = Batch::new();
    let mut ran = 0;
    let deadline = Instant::now() + SOON;
    while ran < count {
        assert!(
            Instant::now() < deadline,
            "{ran} of {count} handlers have run"
        );
        let seat = port.seat().expect("nobody else waits");
        seat.reap(&mut batch, Some(deadline)).unwrap();
        ran += batch
            .drain()
            .map(|completion| usize::from(completion.run()))
            .sum::<usize>();
    }
    assert_eq!(ran, count);
}

#[test]
fn what_is_posted_is_taken_in_order_with_its_key() {
    let port = CompletionPort::new().unwrap();
    for key in 1..=3 {
        port.post_keyed(key, || ());
    }
    for key in 1..=3 {
        let completion = port.take().expect("posted");
        assert_eq!(
            (
                completion.user_key(),
                completion.kind(),
                completion.object()
            ),
            (key, Kind::Post, ObjectId::NONE)
        );
        assert_eq!(port.outstanding(), 4 - usize::try_from(key).unwrap());
        assert!(completion.run());
    }
    assert!(port.take().is_none());
    assert_eq!(port.outstanding(), 0);
}

#[test]
fn a_seat_yields_calls_timers_and_operations() {
    within("a seat", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut client) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let (to, kinds) = mpsc::channel();
        let [posted, slept, limited] = [(); 3].map(|()| to.clone());
        stream.read([0; 8]).then(move |(result, buf)| {
            assert_eq!((result.unwrap(), &buf[..4]), (4, &b"data"[..]));
            to.send(Kind::Read).unwrap();
            let late = stream.read([0; 8]).timeout(Duration::from_millis(3));
            late.then(move |(result, _)| {
                assert!(result.unwrap_err().is_timeout());
                drop(stream);
                limited.send(Kind::Read).unwrap();
            });
        });
        let begin = Instant::now();
        port.sleep(Duration::from_millis(5)).then(move |result| {
            result.unwrap();
            assert!(begin.elapsed() >= Duration::from_millis(5));
            slept.send(Kind::Timer).unwrap();
        });
        port.post(move || posted.send(Kind::Post).unwrap());
        client.write_all(b"data").unwrap();
        serve(&port, 4);
        let kinds: Vec<_> = kinds.iter().collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Read).count(), 2);
        assert_eq!(port.outstanding(), 0);
    });
}

#[test]
fn seats_are_counted_and_come_back() {
    let port = CompletionPort::new().unwrap();
    let seats: Vec<_> = std::iter::from_fn(|| port.seat()).take(10).collect();
    assert!((1..=2).contains(&seats.len()), "{} seats", seats.len());
    assert!(port.seat().is_none());
    drop(seats);
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(3);
    let seat = port.seat().expect("they came back");
    assert_eq!(seat.reap(&mut Batch::new(), Some(deadline)).unwrap(), 0);
    assert!(
        Instant::now() >= deadline,
        "nothing was there to return for"
    );
}

#[test]
fn a_notification_and_a_post_wake_who_waits() {
    within("waking", || {
        let port = CompletionPort::new().unwrap();
        for round in 0..200 {
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let mut batch = Batch::new();
                    let deadline = Instant::now() + SOON;
                    let count = port
                        .seat()
                        .unwrap()
                        .reap(&mut batch, Some(deadline))
                        .unwrap();
                    assert!(Instant::now() < deadline, "round {round}: not woken");
                    count
                });
                if round % 2 == 0 {
                    port.notify();
                    assert_eq!(waiter.join().unwrap(), 0);
                } else {
                    port.post(|| ());
                    // Posted before the wait or during it; in the latter case it is in the batch as well.
                    let count = waiter.join().unwrap();
                    assert!(count == 1 || port.take().is_some());
                }
            });
        }
    });
}

#[test]
fn a_completion_that_is_dropped_drops_its_handler_uncalled_and_counts_as_done() {
    let port = CompletionPort::new().unwrap();
    let held = Arc::new(());
    let (posted, reading) = (Arc::clone(&held), Arc::clone(&held));
    port.post(move || drop(posted));
    drop(port.take().expect("posted"));
    assert_eq!((Arc::strong_count(&held), port.outstanding()), (2, 0));
    let (server, mut client) = std_pair();
    let stream = TcpStream::from_std(&port, server).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&ran);
    stream.read([0; 4]).then(move |_| {
        let _reading = reading;
        runs.fetch_add(1, Ordering::SeqCst);
    });
    assert!(port.take().is_none(), "nothing has come");
    client.write_all(b"lost").unwrap();
    drop(stream);
    let completion = port.take().expect("cancelled by the close");
    drop(completion);
    assert_eq!(
        (
            Arc::strong_count(&held),
            port.outstanding(),
            ran.load(Ordering::SeqCst)
        ),
        (1, 0, 0)
    );
}

#[test]
fn a_batch_that_is_dropped_drops_its_completions() {
    let port = CompletionPort::new().unwrap();
    let held = Arc::new(());
    for _ in 0..5 {
        let held = Arc::clone(&held);
        port.post(move || drop(held));
    }
    let mut batch = Batch::new();
    assert_eq!(port.seat().unwrap().reap(&mut batch, None).unwrap(), 5);
    assert_eq!((batch.len(), batch.is_empty()), (5, false));
    drop(batch);
    assert_eq!((Arc::strong_count(&held), port.outstanding()), (1, 0));
}

#[test]
fn a_port_that_was_closed_still_completes_what_was_begun() {
    let port = CompletionPort::new().unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let key = port.sleep(Duration::from_secs(3600)).then(move |result| {
        assert!(result.unwrap_err().is_cancelled());
        counted.fetch_add(1, Ordering::SeqCst);
    });
    port.close();
    assert_eq!(port.cancel(key), CancelOutcome::TooLate);
    serve(&port, 1);
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    let (server, _client) = std_pair();
    assert!(TcpStream::from_std(&port, server).is_err());
}

/// The loop of somebody else: it knows descriptors and deadlines, and asks the port only when one of them says so.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn a_foreign_event_loop_drives_the_port_by_its_descriptor_and_deadline() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;
    within("a foreign loop", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut client) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let (to, seen) = mpsc::channel();
        let timer = to.clone();
        stream.read([0; 4]).then(move |(result, buf)| {
            assert_eq!(result.unwrap(), 4);
            to.send(buf).unwrap();
        });
        // Far enough for the wheel to look at it once before.
        port.sleep(Duration::from_millis(150))
            .then(move |_| timer.send(*b"time").unwrap());
        let mut batch = Batch::new();
        let mut turns = 0;
        let mut turn = || {
            let wait = port
                .next_deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wait.unwrap_or(SOON).min(SOON);
            let timeout = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap(),
                tv_nsec: wait.subsec_nanos().into(),
            };
            poll(
                &mut [PollFd::from_borrowed_fd(port.as_fd(), PollFlags::IN)],
                Some(&timeout),
            )
            .unwrap();
            port.seat()
                .unwrap()
                .reap(&mut batch, Some(Instant::now()))
                .unwrap();
            batch
                .drain()
                .for_each(|completion| assert!(completion.run()));
            turns += 1;
            assert!(turns < 20, "the loop spins");
        };
        while port.next_deadline().is_some() {
            turn();
        }
        assert_eq!(seen.recv_timeout(SOON).unwrap(), *b"time");
        thread::scope(|scope| {
            scope.spawn(|| client.write_all(b"data").unwrap());
            while port.outstanding() > 0 {
                turn();
            }
        });
        assert_eq!(seen.recv_timeout(SOON).unwrap(), *b"data");
    });
}

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn a_foreign_event_loop_is_told_of_what_was_posted_before_it_came() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;
    within("a foreign loop that comes late", || {
        let port = CompletionPort::new().unwrap();
        port.post(|| ());
        let soon = Timespec {
            tv_sec: i64::try_from(SOON.as_secs()).unwrap(),
            tv_nsec: 0,
        };
        let mut asked = [PollFd::from_borrowed_fd(port.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut asked, Some(&soon)).unwrap(), 1);
        serve(&port, 1);
    });
}

#[test]
fn threads_of_ones_own_share_a_port() {
    within("threads of one's own", || {
        let port = CompletionPort::new().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    while ran.load(Ordering::SeqCst) < 2000 {
                        if let Some(seat) = port.seat() {
                            let tick = Instant::now() + Duration::from_millis(1);
                            seat.reap(&mut batch, Some(tick)).unwrap();
                        } else {
                            thread::yield_now();
                        }
                        batch
                            .drain()
                            .for_each(|completion| assert!(completion.run()));
                    }
                });
            }
            for number in 0..1000 {
                let (first, second) = (Arc::clone(&ran), Arc::clone(&ran));
                port.post(move || {
                    first.fetch_add(1, Ordering::SeqCst);
                });
                port.sleep(Duration::from_micros(number % 3000))
                    .then(move |_| {
                        second.fetch_add(1, Ordering::SeqCst);
                    });
            }
            until("all have run", || ran.load(Ordering::SeqCst) == 2000);
        });
        assert_eq!(port.outstanding(), 0);
    });
}

/// The thread that waits has the port's only place, and the other one has none: it must be told all the same.
#[test]
fn an_output_that_a_thread_without_a_place_delivers_ends_the_wait() {
    within("a waiter beside a hand", || {
        let port = CompletionPort::new().unwrap();
        // So that the end of all work does not tell.
        let other = port.sleep(Duration::from_secs(3600)).then(|_| ());
        let over = Arc::new(AtomicBool::new(false));
        let hand = {
            let (port, over) = (port.clone(), Arc::clone(&over));
            thread::spawn(move || {
                let mut batch = Batch::new();
                while !over.load(Ordering::SeqCst) {
                    if let Some(seat) = port.seat() {
                        seat.reap(&mut batch, Some(Instant::now() + SOON)).unwrap();
                    }
                    batch
                        .drain()
                        .for_each(|completion| assert!(completion.run()));
                }
            })
        };
        for _ in 0..50 {
            assert!(port.sleep(Duration::from_millis(1)).wait().is_ok());
        }
        over.store(true, Ordering::SeqCst);
        port.cancel(other);
        port.notify();
        hand.join().unwrap();
    });
}

/// The thread that runs the last completion holds nothing else of the port, which goes meanwhile.
#[test]
fn the_last_completion_may_outlive_its_port_on_another_thread() {
    within("ports that go", || {
        for _ in 0..500 {
            let port = CompletionPort::new().unwrap();
            let (to, ran) = mpsc::channel();
            port.post(move || to.send(()).unwrap());
            let last = port.take().unwrap();
            let runner = thread::spawn(move || assert!(last.run()));
            drop(port);
            runner.join().unwrap();
            ran.recv_timeout(SOON).unwrap();
        }
    });
}
