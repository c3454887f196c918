//! The lives of objects and operations: promises 28, 32, 33 and 35.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use proactor::net::{TcpListener, TcpStream};
use proactor::{CancelOutcome, CompletionPort, Error, ErrorKind, OperationKey};

use crate::common::{
    Random, SOON, Setup, any_port, assert_all_cancelled, everywhere, everywhere_once, marked, pair,
    report, stuff, until,
};

// ---- 28: closing ----

fn dropping_closes(setup: Setup) {
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
}

fn dropping_both_halves_closes(setup: Setup) {
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
}

fn closing_refuses_what_comes_later(setup: Setup) {
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
}

fn a_listener_closes_and_a_port_closes_everything(setup: Setup) {
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
fn p28_closing_completes_everything_outstanding_as_cancelled_once() {
    everywhere(dropping_closes);
    everywhere(dropping_both_halves_closes);
    everywhere(closing_refuses_what_comes_later);
    everywhere(a_listener_closes_and_a_port_closes_everything);
    everywhere_once(close_against_everything);
}

// ---- 32: at most once ----

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

/// Sleeps `left` times, each in the handler of the former: whose memory is free by then, since the next one gets it.
fn sleep_again(
    port: &CompletionPort,
    former: Option<OperationKey>,
    left: usize,
    done: mpsc::Sender<()>,
) {
    let place = |key: OperationKey| format!("{key:?}").split('.').next().unwrap().to_owned();
    let own = Arc::new(Mutex::new(None));
    let mut known = own.lock().unwrap();
    let (seen, inside) = (Arc::clone(&own), port.clone());
    let key = port.sleep(Duration::ZERO).then(move |result| {
        result.unwrap();
        let key: OperationKey = seen.lock().unwrap().unwrap();
        assert_eq!(inside.cancel(key), CancelOutcome::TooLate, "it is over");
        match left {
            0 => done.send(()).unwrap(),
            left => sleep_again(&inside, Some(key), left - 1, done),
        }
    });
    *known = Some(key);
    if let Some(former) = former {
        assert_eq!(place(key), place(former));
        assert_ne!(key, former, "yet another name");
    }
}

fn memory_is_free_before_the_handler_runs(setup: Setup) {
    let proactor = setup.build();
    let (to, done) = mpsc::channel();
    sleep_again(proactor.port(), None, 50, to);
    assert_eq!(proactor.run(), 51);
    done.try_recv().unwrap();
}

#[test]
fn p32_a_handler_runs_at_most_once_and_the_operations_memory_is_free() {
    everywhere(memory_is_free_before_the_handler_runs);
    everywhere_once(cancel_against_completion);
    everywhere_once(limits_against_completion);
}

// ---- 33, 35 ----

#[test]
fn p33_an_outstanding_operation_counts_as_work() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let listener = TcpListener::bind(&proactor, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let (to, ends) = mpsc::channel();
        stream.read(marked(1)).then(report(&to));
        let accept = listener.accept();
        accept.then(move |result| assert!(result.is_ok()));
        assert_eq!(proactor.port().outstanding(), 2);
        thread::scope(|scope| {
            let runner = scope.spawn(|| proactor.run());
            client.write_all(b"one").unwrap();
            ends.recv_timeout(SOON).unwrap().0.unwrap();
            until("the read is crossed off", || {
                proactor.port().outstanding() == 1
            });
            assert!(!runner.is_finished(), "the accept is outstanding");
            let _client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(runner.join().unwrap(), 2);
        });
        // What was described and not begun is no work.
        drop(stream.read(marked(1)));
        let _not_begun = stream.read(marked(1));
        assert_eq!((proactor.port().outstanding(), proactor.run()), (0, 0));
    });
}

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
fn p35_a_descriptor_that_comes_again_gets_no_event_of_its_predecessor() {
    everywhere_once(reuse);
}
