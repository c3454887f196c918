//! Ends other than success: cancelled, timed out, closed; each operation completes just once, with its buffer.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, SOON, Setup, any_port, everywhere, everywhere_once, pair, until};
use proactor::net::{TcpListener, TcpStream};
use proactor::{CancelOutcome, Error, ErrorKind};

/// How operations ended, each with what came back.
type Ends = mpsc::Sender<(Result<usize, Error>, Vec<u8>)>;

/// A handler that reports.
fn report(ends: &Ends) -> impl FnOnce((Result<usize, Error>, Vec<u8>)) + Send + 'static {
    let ends = ends.clone();
    move |output| ends.send(output).expect("the test listens")
}

/// A buffer that can be told from any other by its contents.
fn marked(mark: u8) -> Vec<u8> {
    let mut buf = Vec::with_capacity(64);
    buf.extend_from_slice(&[mark; 3]);
    buf
}

/// Fills what the kernel takes, so that a write waits.
fn stuff(stream: &TcpStream, ends: &Ends) {
    stream.write_all(vec![0; 64 << 20]).then(report(ends));
}

fn assert_all_cancelled(ends: &mpsc::Receiver<(Result<usize, Error>, Vec<u8>)>, marks: &[u8]) {
    let mut marks = marks.to_vec();
    for (result, buf) in ends {
        let error = result.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        if buf.len() == 3 {
            let at = marks.iter().position(|&mark| buf == [mark; 3]);
            marks.swap_remove(at.expect("a buffer that was not given, or came twice"));
        }
    }
    assert!(
        marks.is_empty(),
        "buffers that did not come back: {marks:?}"
    );
}

// ---- closing ----

#[test]
fn dropping_a_stream_cancels_what_is_pending_once_and_gives_the_buffers_back() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        stuff(&stream, &to);
        for mark in 0..3 {
            stream.read(marked(mark)).then(report(&to));
            stream.write(marked(10 + mark)).then(report(&to));
        }
        drop(to);
        assert_eq!(proactor.poll(), 0);
        drop(stream);
        assert_eq!(proactor.run(), 7);
        assert_all_cancelled(&ends, &[0, 1, 2, 10, 11, 12]);
    });
}

#[test]
fn dropping_one_half_closes_nothing_and_dropping_both_does() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (reader, writer) = stream.into_split();
        let (to, ends) = mpsc::channel();
        reader.read(marked(1)).then(report(&to));
        drop(writer);
        assert_eq!(proactor.poll(), 0);
        client.write_all(b"come").unwrap();
        assert_eq!(proactor.run(), 1);
        assert_eq!(ends.recv().unwrap().1, b"come");
        reader.read(marked(1)).then(report(&to));
        drop((reader, to));
        assert_eq!(proactor.run(), 1);
        assert_all_cancelled(&ends, &[1]);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed");
    });
}

#[test]
fn closing_cancels_what_is_pending_and_refuses_what_comes_later() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        stream.read(marked(1)).then(report(&to));
        drop(to);
        assert_eq!(proactor.poll(), 0);
        stream.close();
        stream.close();
        assert_eq!(proactor.run(), 1);
        assert_all_cancelled(&ends, &[1]);
        let (to, ends) = mpsc::channel();
        stream.read(marked(1)).then(report(&to));
        stream.read_exact(marked(2)).then(report(&to));
        stream.write(marked(3)).then(report(&to));
        stream.write_all(marked(4)).then(report(&to));
        drop(to);
        let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Closed);
        stream
            .read_vectored(vec![marked(5)])
            .then(move |(result, bufs)| {
                closed(result.unwrap_err());
                assert_eq!(bufs, [marked(5)]);
            });
        stream
            .shutdown(Shutdown::Both)
            .then(move |result| closed(result.unwrap_err()));
        closed(stream.peer_addr().unwrap_err());
        assert_eq!(proactor.run(), 6);
        let mut bufs = Vec::new();
        for (result, buf) in ends {
            closed(result.unwrap_err());
            bufs.push(buf[0]);
        }
        bufs.sort_unstable();
        assert_eq!(bufs, [1, 2, 3, 4]);
    });
}

#[test]
fn a_closed_listener_ends_its_accepts_and_a_closed_port_ends_everything() {
    everywhere(|setup| {
        let proactor = setup.build();
        let listener = TcpListener::bind(&proactor, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let ended = Arc::clone(&ended);
            listener.accept().then(move |result| {
                assert!(result.unwrap_err().is_cancelled());
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(proactor.poll(), 0);
        listener.close();
        assert_eq!(proactor.run(), 3);
        let (stream, _client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        stream.read(marked(1)).then(report(&to));
        drop(to);
        proactor.sleep(Duration::from_secs(3600)).then(|result| {
            assert!(result.unwrap_err().is_cancelled());
        });
        proactor.port().close();
        TcpStream::connect(&proactor, address).then(|result| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
        });
        proactor.sleep(Duration::ZERO).then(|result| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
        });
        assert_eq!(proactor.run(), 4);
        assert_all_cancelled(&ends, &[1]);
        assert_eq!(ended.load(Ordering::Relaxed), 3);
    });
}

// ---- cancelling ----

#[test]
fn a_cancelled_read_gives_the_buffer_back_and_a_second_request_is_too_late() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        let key = stream.read(marked(1)).then(report(&to));
        assert_eq!(proactor.poll(), 0);
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        assert_eq!(proactor.run(), 1);
        assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        drop(to);
        assert_all_cancelled(&ends, &[1]);
        // Nothing was consumed, and the direction serves on.
        let (to, ends) = mpsc::channel();
        let key = stream.read(marked(2)).then(report(&to));
        client.write_all(b"after").unwrap();
        assert_eq!(proactor.run(), 1);
        assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        let (result, buf) = ends.recv().unwrap();
        assert_eq!((result.unwrap(), &buf[..]), (5, &b"after"[..]));
    });
}

#[test]
fn cancelling_one_of_several_leaves_the_others_in_order() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let keys: Vec<_> = [b"aaaa", b"cccc", b"bbbb"]
            .into_iter()
            .map(|expected| {
                stream
                    .read_exact([0; 4])
                    .then(move |(result, buf)| match expected {
                        b"cccc" => assert!(result.unwrap_err().is_cancelled()),
                        expected => assert_eq!((result.unwrap(), &buf), (4, expected)),
                    })
            })
            .collect();
        assert_eq!(proactor.poll(), 0);
        assert_eq!(proactor.cancel(keys[1]), CancelOutcome::Requested);
        client.write_all(b"aaaabbbb").unwrap();
        assert_eq!(proactor.run(), 3);
    });
}

#[test]
fn cancelling_a_stream_cancels_all_that_is_pending_on_it_and_nothing_else() {
    everywhere(|setup| {
        let proactor = setup.build();
        let ((stream, mut client), (other, mut wakes)) = (pair(&proactor), pair(&proactor));
        let (to, ends) = mpsc::channel();
        for mark in 0..5 {
            stream.read(marked(mark)).then(report(&to));
        }
        drop(to);
        let (to, later) = mpsc::channel();
        other.read(marked(9)).then(report(&to));
        assert_eq!(proactor.poll(), 0);
        stream.cancel();
        stream.read(marked(8)).then(report(&to));
        client.write_all(b"late").unwrap();
        wakes.write_all(b"late").unwrap();
        assert_eq!(proactor.run(), 7);
        assert_all_cancelled(&ends, &[0, 1, 2, 3, 4]);
        for _ in 0..2 {
            assert_eq!(later.recv().unwrap().1, b"late");
        }
    });
}

#[test]
fn a_key_of_another_port_is_too_late() {
    everywhere(|setup| {
        let (proactor, other) = (setup.build(), setup.build());
        let key = proactor.sleep(Duration::from_secs(3600)).then(|result| {
            assert!(result.unwrap_err().is_cancelled());
        });
        assert_eq!(other.cancel(key), CancelOutcome::TooLate);
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        assert_eq!(proactor.run(), 1);
    });
}

/// A byte comes while the read that waits for it is cancelled: one of the two wins, and the byte is never lost.
fn cancel_against_completion(setup: Setup) {
    const ROUNDS: usize = 1500;
    let proactor = setup.build();
    proactor.start().unwrap();
    let (stream, mut client) = pair(&proactor);
    let (round, canceller_port) = (Barrier::new(2), proactor.port().clone());
    let (keys, to_cancel) = mpsc::channel();
    let (mut came, mut cancelled) = (0, 0);
    let mut random = Random::new();
    thread::scope(|scope| {
        let round = &round;
        let canceller = scope.spawn(move || {
            let mut outcomes = Vec::with_capacity(ROUNDS);
            for key in to_cancel {
                round.wait();
                // About as long as the byte takes to come.
                for _ in 0..random.within(0, 2500) {
                    std::hint::spin_loop();
                }
                outcomes.push(canceller_port.cancel(key));
            }
            outcomes
        });
        let mut results = Vec::with_capacity(ROUNDS);
        let (to, ends) = mpsc::channel();
        for number in 0..ROUNDS {
            let mark = u8::try_from(number % 251).unwrap();
            keys.send(stream.read(marked(mark)).then(report(&to)))
                .unwrap();
            round.wait();
            client.write_all(&[mark]).unwrap();
            let (result, buf) = ends.recv_timeout(SOON).expect("the read ends");
            if let Err(error) = &result {
                assert!(error.is_cancelled(), "{error}");
                assert_eq!(
                    buf,
                    marked(mark),
                    "a cancelled read gives back what it was given"
                );
                let (result, next) = stream.read(Vec::with_capacity(8)).wait();
                assert_eq!(
                    (result.unwrap(), &next[..]),
                    (1, &[mark][..]),
                    "the byte was lost"
                );
                cancelled += 1;
            } else {
                assert_eq!(buf, [mark]);
                came += 1;
            }
            results.push(result);
        }
        drop((keys, to));
        assert!(ends.try_recv().is_err(), "a handler ran twice");
        for (outcome, result) in canceller.join().unwrap().into_iter().zip(results) {
            let too_late = outcome == CancelOutcome::TooLate;
            assert!(
                !too_late || result.is_ok(),
                "too late, and cancelled all the same"
            );
        }
    });
    println!("{setup}: {came} came, {cancelled} were cancelled");
    assert_eq!(proactor.shutdown(Instant::now() + SOON).left, 0);
}

#[test]
fn an_operation_that_is_cancelled_as_it_completes_completes_once_and_loses_nothing() {
    everywhere_once(cancel_against_completion);
}

/// Streams are closed by one thread while another initiates and a third has their peers send.
fn close_against_everything(setup: Setup) {
    const ROUNDS: usize = 200;
    let proactor = setup.build();
    proactor.start().unwrap();
    let (to, ends) = mpsc::channel();
    for _ in 0..ROUNDS {
        let (stream, mut client) = pair(&proactor);
        thread::scope(|scope| {
            scope.spawn(|| {
                for mark in 0..10 {
                    stream.read(marked(mark)).then(report(&to));
                }
            });
            scope.spawn(|| {
                for _ in 0..10 {
                    // Fails once the stream is closed, which resets.
                    let _ = client.write_all(b"x");
                }
            });
            scope.spawn(|| stream.close());
        });
    }
    drop(to);
    let ended = (0..ROUNDS * 10).map(|_| ends.recv_timeout(SOON).expect("every read ends"));
    for (result, buf) in ended {
        match result {
            Ok(count) => assert_eq!(count, buf.len()),
            Err(error) => {
                let expected = [ErrorKind::Cancelled, ErrorKind::Closed, ErrorKind::Os];
                assert!(expected.contains(&error.kind()), "{error}");
                assert_eq!(buf.len(), 3, "the buffer as it was given");
            }
        }
    }
    assert!(ends.recv_timeout(SOON).is_err(), "a handler ran twice");
    until("nothing is outstanding but the start", || {
        proactor.port().outstanding() == 1
    });
}

#[test]
fn closing_against_initiating_and_completing_ends_each_operation_once() {
    everywhere_once(close_against_everything);
}

// ---- time limits ----

#[test]
fn a_limit_ends_the_operation_as_timed_out_with_its_buffer_and_never_early() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        let begin = Instant::now();
        let limited = stream.read(marked(1)).timeout(Duration::from_millis(7));
        limited.then(report(&to));
        assert_eq!(proactor.run(), 1);
        assert!(begin.elapsed() >= Duration::from_millis(7), "early");
        let (result, buf) = ends.recv().unwrap();
        assert!(result.unwrap_err().is_timeout());
        assert_eq!(buf, marked(1));
        // The direction serves on.
        client.write_all(b"on").unwrap();
        let (result, buf) = stream.read(buf).wait();
        assert_eq!((result.unwrap(), &buf[..]), (2, &b"on"[..]));
    });
}

#[test]
fn of_two_limits_the_earlier_counts() {
    everywhere(|setup| {
        let proactor = setup.build();
        let listener = TcpListener::bind(&proactor, any_port()).unwrap();
        let (short, long) = (Duration::from_millis(3), Duration::from_secs(3600));
        let accept = || listener.accept();
        for limited in [
            accept().timeout(short).timeout(long),
            accept().timeout(long).timeout(short),
        ] {
            limited.then(|result| assert!(result.unwrap_err().is_timeout()));
        }
        assert_eq!(proactor.run(), 2);
    });
}

#[test]
fn a_composed_operation_that_times_out_says_how_far_it_got() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(b"half").unwrap();
        let read = stream.read_exact([0; 8]).timeout(Duration::from_millis(20));
        read.then(|(result, buf)| {
            let error = result.unwrap_err();
            assert!(error.is_timeout());
            assert_eq!((error.transferred(), &buf[..4]), (4, &b"half"[..]));
        });
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn completion_lifts_the_limit() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let long = Duration::from_secs(3600);
        for _ in 0..200 {
            client.write_all(b"!").unwrap();
            let read = stream.read([0; 1]).timeout(long);
            read.then(|(result, _)| assert_eq!(result.unwrap(), 1));
            assert_eq!(proactor.run(), 1);
            let waiting = stream.read([0; 1]).timeout(long);
            let key = waiting.then(|(result, _)| assert!(result.unwrap_err().is_cancelled()));
            proactor.cancel(key);
            assert_eq!(proactor.run(), 1);
        }
        assert_eq!(
            proactor.port().next_deadline(),
            None,
            "a limit stayed behind"
        );
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// Limits of no length at all race with data that are there.
fn limits_against_completion(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let (to, ends) = mpsc::channel();
    let (mut came, mut random) = (0, Random::new());
    for round in 0..1000 {
        let limit = Duration::from_micros(random.next() % 1500);
        stream.read(marked(1)).timeout(limit).then(report(&to));
        thread::scope(|scope| {
            scope.spawn(|| proactor.run());
            client.write_all(b"!").unwrap();
        });
        let (result, buf) = ends.try_recv().expect("run returned, so the read ended");
        match result {
            Ok(count) => assert_eq!((count, &buf[..]), (1, &b"!"[..]), "round {round}"),
            Err(error) => {
                assert!(error.is_timeout(), "{error}");
                assert_eq!(
                    stream.read([0; 1]).wait().0.unwrap(),
                    1,
                    "the byte was lost"
                );
                continue;
            }
        }
        came += 1;
    }
    println!("{setup}: {came} of 1000 came in time");
    assert_eq!(
        proactor.port().next_deadline(),
        None,
        "a limit stayed behind"
    );
}

#[test]
fn a_limit_that_passes_as_the_operation_completes_ends_it_once_and_loses_nothing() {
    everywhere_once(limits_against_completion);
}

// ---- descriptors that come again ----

/// Closes a stream with a read pending while its peer sends, and opens another, which gets the number: the other's read must
/// end with what the other's peer sends, and with nothing else.
fn reuse(setup: Setup) {
    const ROUNDS: usize = 500;
    let proactor = setup.build();
    proactor.start().unwrap();
    let (to, ends) = mpsc::channel();
    for _ in 0..ROUNDS {
        let (old, mut old_client) = pair(&proactor);
        old.read(Vec::with_capacity(8)).then(|(result, buf)| {
            // An attempt that was under way as the stream was dropped may come late enough to see both writes.
            let all_of_it = buf == b"old" || buf == b"oldold";
            match result {
                Ok(_) => assert!(all_of_it, "read {buf:?}"),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        });
        let id = old.id();
        old_client.write_all(b"old").unwrap();
        drop(old);
        let (young, mut young_client) = pair(&proactor);
        assert_ne!(young.id(), id, "an object's name came again");
        let answered = Arc::new(AtomicUsize::new(0));
        let (to, seen) = (to.clone(), Arc::clone(&answered));
        young
            .read(Vec::with_capacity(8))
            .then(move |(result, buf)| {
                seen.fetch_add(1, Ordering::SeqCst);
                to.send((result.expect("a read"), buf))
                    .expect("the test listens");
            });
        // The predecessor's peer goes on, and ends: none of this is the successor's.
        let _ = old_client.write_all(b"old");
        drop(old_client);
        proactor.port().sleep(Duration::ZERO).wait().unwrap();
        assert_eq!(
            answered.load(Ordering::SeqCst),
            0,
            "the successor got its predecessor's event"
        );
        young_client.write_all(b"young").unwrap();
        let (count, buf) = ends.recv_timeout(SOON).expect("the successor's own event");
        assert_eq!((count, &buf[..]), (5, &b"young"[..]));
    }
    assert_eq!(proactor.shutdown(Instant::now() + SOON).left, 0);
}

#[test]
fn a_descriptor_that_comes_again_gets_no_event_of_its_predecessor() {
    everywhere_once(reuse);
}
