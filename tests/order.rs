//! Several operations on one stream: in order, buffer after buffer, never inside the initiating call.
#![cfg(not(proactor_loom))]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use common::{Random, everywhere, pair};

const MEGABYTE: usize = 1 << 20;

// ---- vectored ----

#[test]
fn vectored_reads_fill_one_buffer_before_the_next() {
    everywhere(|setup| {
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
    });
}

#[test]
fn vectored_writes_send_one_buffer_after_the_other() {
    everywhere(|setup| {
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
    });
}

// ---- order ----

#[test]
fn reads_that_wait_together_fill_in_the_order_of_their_initiation() {
    everywhere(|setup| {
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
    });
}

#[test]
fn writes_that_wait_together_go_out_in_the_order_of_their_initiation() {
    everywhere(|setup| {
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
    });
}

// ---- nothing to do ----

#[test]
fn zero_lengths_succeed_with_zero_and_never_inside_the_initiating_call() {
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
fn a_handler_never_runs_inside_its_initiating_call() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(&[1; 100]).unwrap();
        let proactor = &proactor;
        proactor.post(move || {
            for _ in 0..100 {
                let returned = Arc::new(std::sync::Mutex::new(()));
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
