//! Transfers that are made of several: copies with half-close, and buffers in numbers.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, SOON, Setup, everywhere, pair, until};
use proactor::net::{TcpListener, TcpStream, copy};
use proactor::{CancelToken, ErrorKind, Proactor};

/// Two connections to a proactor, and their other ends.
fn two(proactor: &Proactor) -> [(TcpStream, StdStream); 2] {
    [pair(proactor), pair(proactor)]
}

#[test]
fn a_copy_is_whole_and_passes_the_end_on() {
    everywhere(|setup| {
        let proactor = setup.build();
        let bytes = Random::new().bytes(1 << 20);
        let [(from, mut sender), (to, mut receiver)] = two(&proactor);
        let (sent, came) = mpsc::channel();
        let (writer, reader) = (sender.try_clone().unwrap(), to.into_split());
        copy(&from, &reader.1).then(move |copied| sent.send(copied.unwrap()).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.write_all(&bytes).unwrap();
                sender.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(|| {
                let mut back = Vec::new();
                receiver.read_to_end(&mut back).unwrap();
                assert!(back == bytes, "{} bytes came", back.len());
                // The other direction lives.
                receiver.write_all(b"thanks").unwrap();
            });
            proactor.run();
        });
        let copied = came.recv().unwrap();
        copied.result.unwrap();
        assert_eq!((copied.bytes, copied.unsent.len()), (1 << 20, 0));
        let (result, thanks) = reader.0.read_exact([0; 6]).wait();
        assert_eq!((result.unwrap(), &thanks), (6, b"thanks"));
        drop(writer);
    });
}

/// A proxy: two copies, of which each ends by itself.
#[test]
fn two_copies_are_a_proxy() {
    everywhere(|setup| {
        let proactor = setup.build();
        let [(left, mut client), (right, mut server)] = two(&proactor);
        let (left, right) = (left.into_split(), right.into_split());
        let both = copy(&left.0, &right.1).join(copy(&right.0, &left.1));
        both.then(|both| {
            let both = both.unwrap();
            assert_eq!(
                (both.this.unwrap().bytes, both.other.unwrap().bytes),
                (8, 6)
            );
        });
        let served = thread::spawn(move || {
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            server.read_to_string(&mut text).unwrap();
            assert_eq!(text, "question");
            server.write_all(b"answer").unwrap();
            drop(server);
            text.clear();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "answer");
        });
        assert!(proactor.run() > 0);
        served.join().unwrap();
    });
}

/// What was read and not written comes back; with what was written it is what was sent so far.
fn cut_short(setup: Setup) {
    let proactor = setup.build();
    proactor.start().unwrap();
    let [(from, mut sender), (to, mut receiver)] = two(&proactor);
    let token = CancelToken::new();
    let (sent, came) = mpsc::channel();
    let copying = copy(&from, &to).cancel_with(&token);
    copying.then(move |copied| sent.send(copied.unwrap()).unwrap());
    // More than the kernel holds: the copy is stuck in the middle of a write.
    let bytes = Random::new().bytes(32 << 20);
    sender.set_nonblocking(true).unwrap();
    let mut given = 0;
    let mut stuck = 0;
    while given < bytes.len() && stuck < 50 {
        match sender.write(&bytes[given..]) {
            Ok(count) => (given, stuck) = (given + count, 0),
            Err(_) => {
                stuck += 1;
                // sleep: that nothing moves any more shows only in time
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    token.cancel();
    let copied = came.recv_timeout(SOON).unwrap();
    assert!(copied.result.unwrap_err().is_cancelled());
    let written = usize::try_from(copied.bytes).unwrap();
    assert!(!copied.unsent.is_empty() && written + copied.unsent.len() < given);
    assert!(bytes[written..].starts_with(&copied.unsent));
    // Nothing in between is lost: the next to read goes on where the copy was.
    let (result, next) = from.read_exact([0; 1000]).wait();
    result.unwrap();
    assert!(bytes[written + copied.unsent.len()..].starts_with(&next));
    drop(to);
    let mut came = Vec::new();
    receiver.read_to_end(&mut came).unwrap();
    assert!(came == bytes[..written], "{} of {written}", came.len());
}

#[test]
fn a_copy_that_is_cut_short_loses_nothing() {
    everywhere(cut_short);
}

/// The end of the sending direction waits its turn as any operation does.
#[test]
fn a_copy_that_waits_to_pass_the_end_on_can_be_cut_short() {
    everywhere(|setup| {
        let proactor = setup.build();
        let [(from, sender), (to, receiver)] = two(&proactor);
        // More than the kernel holds, and nobody reads it.
        to.write_all(vec![0; 64 << 20]).then(drop);
        drop(sender);
        let copied = copy(&from, &to)
            .timeout(Duration::from_millis(10))
            .wait()
            .unwrap();
        assert!(copied.result.unwrap_err().is_timeout());
        drop((to, receiver));
    });
}

#[test]
fn a_copy_that_takes_too_long_says_so() {
    everywhere(|setup| {
        let proactor = setup.build();
        let [(from, mut sender), (to, mut receiver)] = two(&proactor);
        sender.write_all(b"some").unwrap();
        let copied = copy(&from, &to)
            .timeout(Duration::from_millis(10))
            .wait()
            .unwrap();
        assert!(copied.result.unwrap_err().is_timeout());
        assert_eq!((copied.bytes, copied.unsent.len()), (4, 0));
        let mut some = [0; 4];
        receiver.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"some");
    });
}

/// Buffers of odd sizes, more of them than one call takes.
fn odd_buffers(random: &mut Random) -> Vec<usize> {
    (0..200)
        .map(|_| random.within(0, 3) * random.within(0, 700))
        .collect()
}

#[test]
fn all_buffers_are_written_and_all_are_filled_each_before_the_next() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let [(from, near), (to, far)] = two(&proactor);
        let sizes = odd_buffers(&mut random);
        let total: usize = sizes.iter().sum();
        let bytes = random.bytes(total);
        let parts = |sizes: &[usize]| {
            let mut at = 0;
            let part = |&size: &usize| {
                at += size;
                bytes[at - size..at].to_vec()
            };
            sizes.iter().map(part).collect::<Vec<_>>()
        };
        let relay = thread::spawn(move || std::io::copy(&mut { near }, &mut { far }));
        from.write_all_vectored(parts(&sizes))
            .then(move |(result, bufs)| {
                assert_eq!((result.unwrap(), bufs.len()), (total, 200));
                from.shutdown(Shutdown::Write)
                    .then(|result| result.unwrap());
            });
        let mut room = odd_buffers(&mut random);
        while room.iter().sum::<usize>() > total {
            room.pop();
        }
        let fits: usize = room.iter().sum();
        let (result, bufs) = to
            .read_exact_vectored(room.iter().map(|&size| Vec::with_capacity(size)).collect())
            .wait();
        // A vector's capacity may be more than was asked for.
        assert!(result.unwrap() >= fits);
        assert!(bytes.starts_with(&bufs.concat()));
        assert!(bufs.iter().all(|buf: &Vec<u8>| buf.len() == buf.capacity()));
        let left = total - bufs.concat().len();
        let (result, bufs) = to
            .read_exact_vectored(vec![vec![0; left], vec![0; 9]])
            .wait();
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.transferred()),
            (ErrorKind::UnexpectedEof, left)
        );
        assert!(bytes.ends_with(&bufs[0]) && bufs[1].is_empty());
        until("the writer is done", || proactor.run() == 0);
        drop(to);
        relay.join().unwrap().unwrap();
    });
}

/// A server that is shut down accepts nobody any more, but answers whom it serves.
#[test]
fn a_shutdown_ends_the_accept_loop_first_and_lets_connections_finish() {
    everywhere(|setup| {
        let proactor = setup.build();
        let listener = TcpListener::bind(&proactor, common::any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let (served, ends) = mpsc::channel();
        let serving = listener.accept_each(|accepted| {
            let (stream, _) = accepted.unwrap();
            copy(&stream, &stream).then(|copied| copied.unwrap().result.unwrap());
        });
        serving.then(move |ended| served.send(ended.unwrap_err()).unwrap());
        let mut client = StdStream::connect(address).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(b"before").unwrap();
        client.set_nonblocking(true).unwrap();
        until("it is served", || {
            proactor.poll();
            client.peek(&mut [0; 6]).is_ok_and(|count| count == 6)
        });
        client.set_nonblocking(false).unwrap();
        let (talking, accepts) = (client.try_clone().unwrap(), listener);
        let finishing = thread::spawn(move || {
            let error = ends.recv_timeout(SOON).unwrap();
            assert!(error.is_cancelled() && error.transferred() == 1, "{error}");
            // The loop is over, and this connection goes on until it has had its say.
            let mut client = talking;
            client.write_all(b" and after").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut all = String::new();
            client.read_to_string(&mut all).unwrap();
            assert_eq!(all, "before and after");
        });
        let begin = Instant::now();
        let report = proactor.shutdown(begin + SOON);
        assert!(begin.elapsed() < SOON, "it waited for nothing");
        assert_eq!((report.cancelled, report.left), (0, 0));
        finishing.join().unwrap();
        proactor.restart(); // or a wait would wait for that
        assert_eq!(
            accepts.accept().wait().unwrap_err().kind(),
            ErrorKind::Closed
        );
    });
}
