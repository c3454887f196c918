//! Composed operations: promises 41 to 43.

mod connecting;

use std::io::Write;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proactor::net::TcpStream;
use proactor::{ErrorKind, Proactor};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::{SOON, everywhere, everywhere_once, pair, std_pair, until};

/// Two ends of a connection that keeps messages apart: each read gets one, so a test says how a stream comes in pieces.
fn in_pieces(proactor: &Proactor) -> (TcpStream, Socket) {
    let (here, there) =
        Socket::pair(Domain::UNIX, Type::SEQPACKET, None).expect("a pair of sockets");
    let stream = TcpStream::from_fd(proactor, OwnedFd::from(here)).expect("an open proactor");
    (stream, there)
}

/// Checks `property` of `cases` inputs; the message of a failure has the smallest that fails.
fn always<S: Strategy>(cases: u32, inputs: S, property: impl Fn(S::Value)) {
    let config = Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&inputs, |input| {
        property(input);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

/// A text of few letters, so that a delimiter often is there in part; where it is cut; the delimiter.
fn texts() -> impl Strategy<Value = (Vec<u8>, Vec<usize>, Vec<u8>)> {
    let letters = |most| prop::collection::vec(prop::sample::select(&b"ab\n"[..]), 1..=most);
    (
        letters(60),
        prop::collection::vec(1..9_usize, 60),
        letters(4),
    )
}

/// The text up to and with each delimiter, and what is left.
fn split<'a>(mut text: &'a [u8], delimiter: &[u8]) -> (Vec<&'a [u8]>, &'a [u8]) {
    let mut parts = Vec::new();
    while let Some(at) = text
        .windows(delimiter.len())
        .position(|part| part == delimiter)
    {
        let (part, left) = text.split_at(at + delimiter.len());
        parts.push(part);
        text = left;
    }
    (parts, text)
}

#[test]
fn p41_any_segmentation_gives_the_same_parts() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        always(48, texts(), |(text, cuts, delimiter)| {
            let (stream, peer) = in_pieces(&proactor);
            let mut left = &text[..];
            for cut in cuts {
                let (piece, later) = left.split_at(cut.min(left.len()));
                if !piece.is_empty() {
                    peer.send(piece).expect("room");
                }
                left = later;
            }
            drop(peer);
            let (parts, end) = split(&text, &delimiter);
            for part in parts {
                let (result, buf) = stream
                    .read_until(delimiter.clone(), Vec::with_capacity(64))
                    .timeout(SOON)
                    .wait();
                assert_eq!((result.expect("a part"), &buf[..]), (part.len(), part));
            }
            let (result, buf) = stream
                .read_until(delimiter, Vec::with_capacity(64))
                .timeout(SOON)
                .wait();
            let error = result.expect_err("no delimiter is left");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert_eq!((error.transferred(), &buf[..]), (end.len(), end));
        });
    });
}

#[test]
fn p41_the_limit_is_an_error_of_its_own_and_loses_nothing() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        peer.write_all(b"abcd\r\nefgh\r\n").expect("room");
        let (result, buf) = stream.read_until("\r\n", [0; 5]).timeout(SOON).wait();
        let error = result.expect_err("the limit comes first");
        assert_eq!(error.kind(), ErrorKind::LimitReached);
        assert_eq!((error.transferred(), &buf), (5, b"abcd\r"));
        // The next goes on behind it, and a delimiter that ends with the buffer is no limit.
        let (result, buf) = stream.read_until("\n", [0; 1]).timeout(SOON).wait();
        assert_eq!((result.expect("a byte"), &buf), (1, b"\n"));
        let (result, buf) = stream.read_until("\r\n", [0; 6]).timeout(SOON).wait();
        assert_eq!((result.expect("a line"), &buf), (6, b"efgh\r\n"));
        let (result, _) = stream.read_until("\n", Vec::new()).timeout(SOON).wait();
        assert_eq!(result.expect_err("no room").kind(), ErrorKind::LimitReached);
        let (result, buf) = stream.read_until("", b"x".to_vec()).timeout(SOON).wait();
        assert_eq!((result.expect("there at once"), buf.len()), (0, 0));
    });
}

/// Everything that reads next gets what was read beyond the delimiter, in order: what waited behind, and what comes.
#[test]
fn p41_what_is_beyond_the_delimiter_is_the_next_reads() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        let (reader, _writer) = stream.into_split();
        let reads = Arc::new(Mutex::new(Vec::new()));
        let note = |reads: &Arc<Mutex<Vec<Vec<u8>>>>| {
            let reads = Arc::clone(reads);
            move |bytes: &[u8]| reads.lock().expect("no panic").push(bytes.to_vec())
        };
        let first = note(&reads);
        reader
            .read_until([b'\n'], Vec::with_capacity(64))
            .then(move |(result, buf)| {
                result.expect("a line");
                first(&buf);
            });
        let second = note(&reads);
        reader
            .read_vectored(vec![[0; 2], [0; 2]])
            .then(move |(result, bufs)| {
                assert_eq!(result.expect("bytes"), 4);
                second(&bufs.concat());
            });
        let third = note(&reads);
        reader.read_exact([0; 5]).then(move |(result, buf)| {
            result.expect("bytes");
            third(&buf);
        });
        peer.write_all(b"a line\nwxyz123").expect("room");
        until("two reads are done", || {
            proactor.poll();
            reads.lock().expect("no panic").len() == 2
        });
        peer.write_all(b"45").expect("room");
        proactor.run();
        let reads = reads.lock().expect("no panic").concat();
        assert_eq!(reads, b"a line\nwxyz12345");
    });
}

/// Cancelled or timed out within, it says how much it had read, which is in the buffer; the next read goes on behind.
#[test]
fn p41_cut_short_it_says_how_far_it_came() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (server, mut peer) = std_pair();
        let looks = server.try_clone().expect("a descriptor");
        let stream = TcpStream::from_std(&proactor, server).expect("an open proactor");
        let arrived = |count: usize| until("they arrive", || there(&looks) >= count);
        peer.write_all(b"half a").expect("room");
        arrived(6);
        let (result, buf) = stream
            .read_until("\n", Vec::with_capacity(64))
            .timeout(Duration::from_millis(5))
            .wait();
        let error = result.expect_err("no line");
        assert!(error.is_timeout());
        assert_eq!((error.transferred(), &buf[..]), (6, &b"half a"[..]));
        peer.write_all(b" line").expect("room");
        arrived(5);
        let line = stream.read_until("\n", Vec::with_capacity(64));
        let key = line.then(|(result, buf)| {
            let error = result.expect_err("no line");
            assert!(error.is_cancelled());
            assert_eq!((error.transferred(), &buf[..]), (5, &b" line"[..]));
        });
        until("it has read what there is", || {
            proactor.poll();
            there(&looks) == 0
        });
        proactor.cancel(key);
        proactor.run();
        peer.write_all(b"\n").expect("room");
        let (result, buf) = stream.read_until("\n", [0; 8]).timeout(SOON).wait();
        assert_eq!((result.expect("its end"), buf[0]), (1, b'\n'));
    });
}

/// How many bytes a read would get.
fn there(socket: &StdStream) -> usize {
    match socket.peek(&mut [0; 64]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
        peeked => peeked.expect("a connection"),
    }
}

/// Closing an object drops what was given back to it; its successor in the same place has nothing of it.
#[test]
fn p41_what_was_beyond_goes_with_its_stream() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (first, mut peer) = pair(&proactor);
        peer.write_all(b"a\nold").expect("room");
        let (result, _) = first.read_until("\n", [0; 8]).timeout(SOON).wait();
        result.expect("a line");
        let place = first.id().to_string();
        drop(first);
        let (second, mut peer) = pair(&proactor);
        let index = |id: &str| id.split('.').next().map(str::to_owned);
        assert_eq!(
            index(&place),
            index(&second.id().to_string()),
            "the same place"
        );
        peer.write_all(b"new").expect("room");
        let (result, buf) = second.read([0; 8]).timeout(SOON).wait();
        assert_eq!(&buf[..result.expect("bytes")], b"new");
    });
}

/// Whatever the sizes of the pieces that go in, of those that come out, and of what the kernel takes between them.
#[test]
fn p43_all_is_written_and_read_under_any_short_counts() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        proactor.start().expect("threads");
        let sizes = || prop::collection::vec(1..20_000_usize, 1..8);
        let inputs = (sizes(), sizes(), 1..4_usize);
        always(6, inputs, |(written, read, buffers)| {
            let (here, there) = std_pair();
            for end in [&here, &there] {
                // The least there is, or not much more: so writes and reads are short.
                let end = SockRef::from(end);
                end.set_send_buffer_size(buffers * 2048).expect("a size");
                end.set_recv_buffer_size(buffers * 2048).expect("a size");
            }
            let take_in = |end| TcpStream::from_std(&proactor, end).expect("an open proactor");
            let (writer, reader) = (take_in(here), take_in(there));
            let total: usize = written.iter().sum();
            let text: Vec<u8> = (0..=250).cycle().take(total).collect();
            let sent = text.clone();
            let writes = thread::spawn(move || {
                let mut left = &sent[..];
                for size in written {
                    let (now, later) = left.split_at(size);
                    let (result, buf) = writer.write_all(now.to_vec()).timeout(SOON).wait();
                    assert_eq!((result.expect("room"), buf.len()), (size, size));
                    left = later;
                }
            });
            let mut came = Vec::new();
            for size in read.iter().cycle() {
                let size = (*size).min(total - came.len());
                let room = vec![0; size].into_boxed_slice();
                let (result, buf) = reader.read_exact(room).timeout(SOON).wait();
                assert_eq!(result.expect("bytes"), size);
                came.extend_from_slice(&buf);
                if came.len() == total {
                    break;
                }
            }
            writes.join().expect("it writes");
            assert!(came == text, "bytes were lost, or came in another order");
        });
    });
}
