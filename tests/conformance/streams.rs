//! Streams and sockets: promises 25 to 35; what is about an object's and an operation's life stands in `lives.rs`.

mod accepting;
mod lives;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use proactor::net::TcpStream;
use proactor::{CancelOutcome, ErrorKind};

use crate::common::{Random, SOON, Setup, everywhere, marked, pair, report};

const MEGABYTE: usize = 1 << 20;

#[test]
fn p25_a_zero_length_succeeds_with_zero_and_not_inline() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |ran: &Arc<AtomicUsize>| {
            let ran = Arc::clone(ran);
            move |(result, _): (Result<usize, _>, Vec<u8>)| {
                assert_eq!(result.unwrap(), 0);
                ran.fetch_add(1, Ordering::Relaxed);
            }
        };
        stream.read(Vec::new()).then(count(&ran));
        stream.write(Vec::new()).then(count(&ran));
        stream.read_exact(Vec::new()).then(count(&ran));
        stream.write_all(Vec::new()).then(count(&ran));
        assert_eq!(
            ran.load(Ordering::Relaxed),
            0,
            "inside the initiating call, outside"
        );
        assert_eq!(proactor.run(), 4);
        // A direction that was drained knows that nothing is there; nothing is what is asked for.
        let more = stream.read(Vec::with_capacity(64));
        more.then(|(result, _)| assert_eq!(result.unwrap(), 1));
        assert_eq!(proactor.poll(), 0);
        client.write_all(b"!").unwrap();
        assert_eq!(proactor.run(), 1);
        let inside = Arc::clone(&ran);
        proactor.post(move || {
            stream.read(Vec::new()).then(count(&inside));
            stream.read_vectored(Vec::<Vec<u8>>::new()).then({
                let inside = Arc::clone(&inside);
                move |(result, _)| {
                    assert_eq!(result.unwrap(), 0);
                    inside.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(
                inside.load(Ordering::Relaxed),
                4,
                "inside the initiating call, in a handler"
            );
            drop(stream);
        });
        assert_eq!(proactor.run(), 3);
        assert_eq!(ran.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn p26_a_cancelled_read_gives_the_buffer_back_and_no_byte() {
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
        let (result, buf) = ends.recv().unwrap();
        let error = result.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!((error.transferred(), buf), (0, marked(1)));
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

// ---- 27: the end of the stream ----

/// Reads to the end with a large buffer; each read's bytes go to `to`.
fn read_to_end(stream: TcpStream, to: mpsc::Sender<Vec<u8>>) {
    let read = stream.read(Vec::with_capacity(4096));
    read.then(move |(result, buf)| {
        let count = result.expect("a read");
        assert_eq!(count, buf.len());
        to.send(buf).expect("the test listens");
        if count > 0 {
            read_to_end(stream, to);
        }
    });
}

/// How the peer ends: by closing, or by ending one direction.
fn data_with_end(setup: Setup, read_before: bool, registered: bool, half: bool) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let (to, reads) = mpsc::channel();
    let mut expected = Vec::new();
    if registered {
        // A read that waited once has the descriptor registered, and drained by a short read.
        stream
            .read(Vec::with_capacity(64))
            .then(|(result, _)| assert_eq!(result.unwrap(), 1));
        assert_eq!(proactor.poll(), 0);
        client.write_all(b"!").expect("a byte sent");
        assert_eq!(proactor.run(), 1);
    }
    let (reader, writer) = stream.into_split();
    let begin = move |to: mpsc::Sender<Vec<u8>>| {
        reader
            .read(Vec::with_capacity(4096))
            .then(move |(result, buf)| {
                result.expect("a read");
                let more = !buf.is_empty();
                to.send(buf).expect("the test listens");
                if more {
                    let read = reader.read(Vec::with_capacity(4096));
                    read.then(move |(result, buf)| {
                        result.expect("a read");
                        drop(reader);
                        to.send(buf).expect("the test listens");
                    });
                }
            });
    };
    let mut begin = Some(begin);
    if read_before {
        begin.take().expect("not begun")(to.clone());
    }
    client.write_all(b"0123456789").expect("ten bytes sent");
    if half {
        client.shutdown(Shutdown::Write).expect("a half-close");
    }
    let client = half.then_some(client);
    if let Some(begin) = begin {
        begin(to);
    } else {
        drop(to);
    }
    assert_eq!(proactor.run(), 2, "the data, then the end");
    expected.push(b"0123456789".to_vec());
    expected.push(Vec::new());
    assert_eq!(reads.iter().collect::<Vec<_>>(), expected);
    if let Some(mut client) = client {
        writer
            .write_all("still open")
            .then(|(result, _)| assert_eq!(result.unwrap(), 10));
        assert_eq!(proactor.run(), 1);
        let mut back = [0; 10];
        client
            .read_exact(&mut back)
            .expect("the other direction lives");
        assert_eq!(&back, b"still open");
    }
}

fn data_with_the_end_come_first(setup: Setup) {
    for case in 0..8 {
        data_with_end(setup, case & 1 != 0, case & 2 != 0, case & 4 != 0);
    }
}

fn an_end_reaches_a_read_that_waits(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let (to, reads) = mpsc::channel();
    read_to_end(stream, to);
    thread::scope(|scope| {
        scope.spawn(|| proactor.run());
        client.write_all(b"data").unwrap();
        assert_eq!(reads.recv_timeout(SOON).unwrap(), b"data");
        drop(client);
        assert_eq!(reads.recv_timeout(SOON).unwrap(), b"");
    });
}

fn after_a_half_close_the_peer_can_still_send(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let (to, reads) = mpsc::channel();
    stream
        .write_all("last words")
        .then(|(result, _)| assert!(result.is_ok()));
    stream
        .shutdown(Shutdown::Write)
        .then(|result| assert!(result.is_ok()));
    read_to_end(stream, to);
    thread::scope(|scope| {
        scope.spawn(|| proactor.run());
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"last words");
        client.write_all(b"answer").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reads.iter().collect::<Vec<_>>().concat(), b"answer");
    });
}

/// Nothing read into no room is no end, before the end or after; nothing read into room is.
fn an_end_is_not_a_zero_length(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    client.write_all(b"data").unwrap();
    let no_room = || stream.read(Vec::new()).wait().0.unwrap();
    let no_bytes = || stream.read_exact([]).wait().0.unwrap();
    let room = || stream.read(Vec::with_capacity(64)).wait();
    assert_eq!((no_room(), no_bytes()), (0, 0));
    assert_eq!(room().1, b"data", "it was no end");
    drop(client);
    assert_eq!((no_room(), no_bytes()), (0, 0));
    assert_eq!(room().0.unwrap(), 0);
    let (result, _) = stream.read_exact([0; 1]).wait();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!((room().0.unwrap(), no_room()), (0, 0), "it stays");
}

#[test]
fn p27_the_peers_close_is_the_end_and_a_half_close_half_of_it() {
    everywhere(data_with_the_end_come_first);
    everywhere(an_end_reaches_a_read_that_waits);
    everywhere(after_a_half_close_the_peer_can_still_send);
    everywhere(an_end_is_not_a_zero_length);
}

// ---- 29, 30, 31: order ----

fn reads_fill_in_order(setup: Setup) {
    let mut random = Random::new();
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let data = random.bytes(200 * 4);
    let done = Arc::new(AtomicUsize::new(0));
    for expected in data.chunks(4) {
        let (expected, done) = (expected.to_vec(), Arc::clone(&done));
        stream.read_exact([0; 4]).then(move |(result, buf)| {
            assert_eq!(result.unwrap(), 4);
            assert_eq!(buf, expected[..]);
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = &data[..];
            while !left.is_empty() {
                let (segment, rest) = left.split_at(random.within(1, 30).min(left.len()));
                client.write_all(segment).unwrap();
                left = rest;
            }
        });
        proactor.run();
    });
    assert_eq!(done.load(Ordering::Relaxed), 200);
}

fn writes_go_out_in_order(setup: Setup) {
    let mut random = Random::new();
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    // More than the kernel takes at once, so that most of them wait.
    let data = random.bytes(8 * MEGABYTE);
    for part in data.chunks(100_000) {
        stream
            .write_all(part.to_vec())
            .then(|(result, buf)| assert_eq!(result.unwrap(), buf.len()));
    }
    stream
        .shutdown(Shutdown::Write)
        .then(|result| assert!(result.is_ok()));
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| client.read_to_end(&mut received).unwrap());
        proactor.run();
    });
    assert!(received == data, "writes overtook each other");
}

#[test]
fn p29_reads_fill_and_writes_go_out_in_the_order_of_initiation() {
    everywhere(reads_fill_in_order);
    everywhere(writes_go_out_in_order);
}

fn vectored_reads_fill_one_buffer_before_the_next(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    client.write_all(b"abcdefghij").unwrap();
    let room = Vec::from([3, 0, 4, 100, 5].map(Vec::with_capacity));
    // Into exactly sized parts: a vector's capacity may be larger than was asked for.
    let capacities: Vec<usize> = room.iter().map(Vec::capacity).collect();
    stream
        .read_vectored(room)
        .then(move |(result, bufs): (_, Vec<Vec<u8>>)| {
            assert_eq!(result.unwrap(), 10);
            assert_eq!(bufs.concat(), b"abcdefghij");
            let mut left = 10;
            for (buf, capacity) in bufs.iter().zip(capacities) {
                assert_eq!(buf.len(), capacity.min(left));
                left -= buf.len();
            }
        });
    assert_eq!(proactor.run(), 1);
}

fn vectored_writes_send_one_buffer_after_the_other(setup: Setup) {
    let mut random = Random::new();
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let parts: Vec<Vec<u8>> = (0..70)
        .map(|_| {
            let len = random.within(0, 50);
            random.bytes(len)
        })
        .collect();
    let expected = parts.concat();
    let (to, sent) = mpsc::channel();
    stream.write_vectored(parts).then(move |(result, parts)| {
        let count = result.unwrap();
        assert_eq!(parts.len(), 70);
        to.send(count).unwrap();
        drop(stream);
    });
    assert_eq!(proactor.run(), 1);
    let count = sent.recv().unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(count > 0 && received[..] == expected[..count]);
}

#[test]
fn p30_vectored_buffers_fill_one_fully_before_the_next() {
    everywhere(vectored_reads_fill_one_buffer_before_the_next);
    everywhere(vectored_writes_send_one_buffer_after_the_other);
}

#[test]
fn p31_a_handler_never_runs_inside_its_initiating_call() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(&[1; 100]).unwrap();
        let proactor = &proactor;
        proactor.post(move || {
            for _ in 0..100 {
                let returned = Arc::new(Mutex::new(()));
                let initiating = returned.lock().unwrap();
                let seen = Arc::clone(&returned);
                let here = thread::current().id();
                stream.read([0; 1]).then(move |(result, _)| {
                    assert_eq!(result.unwrap(), 1);
                    // On another thread it may run at once; on this one the lock is free only after the call.
                    assert!(thread::current().id() != here || seen.try_lock().is_ok());
                });
                drop(initiating);
            }
        });
        assert_eq!(proactor.run(), 101);
    });
}
