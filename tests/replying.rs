//! Requests and replies by one operation: each is answered, whole and in order, whatever ends it, and whatever goes on beside it.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

#[path = "replying/beside.rs"]
mod beside;
mod common;
#[path = "replying/ended.rs"]
mod ended;
#[path = "replying/hostile.rs"]
mod hostile;
#[path = "replying/strategies.rs"]
mod strategies;
#[path = "replying/ways.rs"]
mod ways;
#[path = "replying/within.rs"]
mod within;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use common::{Random, SOON, everywhere, everywhere_once, pair, until};
use proactor::net::{Reply, TcpStream};
use proactor::{Buf, BufferPool, Error, Kind, PooledBuf, Proactor};

/// More than the kernel takes for a peer that does not read.
const LARGE: usize = 16 << 20;

/// How one ended.
type Output<B> = (Result<(), Error>, Option<B>);

/// Begins; what comes out is how it ended.
fn replying<B: Buf>(
    stream: &TcpStream,
    each: impl FnMut(PooledBuf) -> Reply<B> + Send + 'static,
) -> mpsc::Receiver<Output<B>> {
    let (to, end) = mpsc::channel();
    let replying = stream.reply_each(&BufferPool::new(1000), each);
    replying.then(move |output| to.send(output).unwrap());
    end
}

/// It has ended of itself, once, with nothing unsent.
fn assert_over<B>(end: &mpsc::Receiver<Output<B>>) {
    let (result, unsent) = end.recv_timeout(SOON).expect("an end");
    result.expect("it ended of itself");
    assert!(unsent.is_none());
}

/// As many bytes, of which none stands where another could: a prime number of them, again and again.
fn pattern(len: usize) -> Vec<u8> {
    const ONCE: usize = 65_521;
    let byte = |at: usize| (at.wrapping_mul(31) ^ (at >> 8)).to_le_bytes()[0];
    let once = Vec::from_iter((0..ONCE.min(len)).map(byte));
    let mut all = once.repeat(len / ONCE + 1);
    all.truncate(len);
    all
}

/// Whether all of them are `byte`; quicker than one by one.
fn are_all(bytes: &[u8], byte: u8) -> bool {
    bytes == vec![byte; bytes.len()]
}

fn assert_same(got: &[u8], expected: &[u8]) {
    if got != expected {
        let differs = got.iter().zip(expected).position(|(a, b)| a != b);
        panic!(
            "{} bytes of {}, another at {differs:?}",
            got.len(),
            expected.len()
        );
    }
}

fn next(peer: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// Answers until it is told that it is over.
fn until_over(bytes: PooledBuf) -> Reply<PooledBuf> {
    match bytes.ends_with(b".") {
        true => Reply::Last(bytes),
        false => Reply::Write(bytes),
    }
}

fn ask(peer: &mut StdStream, question: &str) {
    peer.write_all(question.as_bytes()).unwrap();
    assert_eq!(next(peer, question.len()), question.as_bytes());
}

/// Nothing comes any more: it is closed.
fn assert_closed(peer: &mut StdStream) {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("it is closed");
    assert!(rest.is_empty(), "{rest:?}");
}

/// Runs on this thread what there is, until there is nothing.
fn settle(proactor: &Proactor) {
    let idle = AtomicUsize::new(0);
    until("nothing is ready", || {
        let idles = match proactor.poll() {
            0 => idle.load(Ordering::Relaxed) + 1,
            _ => 0,
        };
        idle.store(idles, Ordering::Relaxed);
        idles > 50
    });
}

#[test]
fn messages_are_answered_in_order_one_by_one_and_many_at_a_time() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let within = AtomicBool::new(false);
        let end = replying(&stream, move |bytes| {
            assert!(!within.swap(true, Ordering::Relaxed), "two at a time");
            thread::yield_now();
            within.store(false, Ordering::Relaxed);
            Reply::Write(bytes)
        });
        for number in 0..500 {
            let message = pattern(1 + number % 700);
            peer.write_all(&message).unwrap();
            assert_eq!(next(&mut peer, message.len()), message, "message {number}");
        }
        let all = pattern(2_000_000);
        thread::scope(|scope| {
            let mut peer = &peer;
            let all = &all;
            scope.spawn(move || {
                for message in all.chunks(777) {
                    peer.write_all(message).unwrap();
                }
                peer.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = vec![0; all.len()];
            peer.read_exact(&mut back).unwrap();
            assert_same(&back, all);
        });
        assert_over(&end);
        drop(stream);
        assert_closed(&mut peer);
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

#[test]
fn a_message_in_pieces_is_answered_when_it_is_whole() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let (mut line, pieces) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&pieces);
        let end = replying(&stream, move |bytes| {
            counted.fetch_add(1, Ordering::SeqCst);
            line.extend_from_slice(&bytes);
            match line.ends_with(b"\n") {
                true => Reply::Write(std::mem::take(&mut line)),
                false => Reply::Nothing,
            }
        });
        for round in 0..20 {
            let before = pieces.load(Ordering::SeqCst);
            for (sent, piece) in ["o", "nc", "e m", "ore\n"].into_iter().enumerate() {
                peer.write_all(piece.as_bytes()).unwrap();
                until("the piece has come", || {
                    pieces.load(Ordering::SeqCst) == before + sent + 1
                });
            }
            assert_eq!(next(&mut peer, 10), b"once more\n", "{round}");
        }
        peer.write_all(b"half a li").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&end);
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn an_empty_reply_is_none_and_the_next_one_follows() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let (told, tells) = mpsc::channel();
        let end = replying(&stream, move |bytes| {
            told.send(bytes.len()).unwrap();
            match &bytes[..] {
                b"nothing" => Reply::Nothing,
                b"empty" => Reply::Write(Vec::new()),
                b"end" => Reply::Last(Vec::new()),
                other => Reply::Write(other.to_vec()),
            }
        });
        for message in ["nothing", "empty", "empty", "nothing"] {
            peer.write_all(message.as_bytes()).unwrap();
            assert_eq!(tells.recv_timeout(SOON), Ok(message.len()));
        }
        peer.write_all(b"some").unwrap();
        assert_eq!(next(&mut peer, 4), b"some");
        peer.write_all(b"end").unwrap();
        assert_over(&end);
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn after_the_last_reply_the_stream_is_as_any_other() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        for round in 0..10 {
            let last = round % 2 == 0;
            let end = replying(&stream, move |bytes| match &bytes[..] {
                b"over" if last => Reply::Last(b"bye".to_vec()),
                b"over" => Reply::End,
                _ => Reply::Write(bytes.to_vec()),
            });
            peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut peer, 4), b"some");
            peer.write_all(b"over").unwrap();
            if last {
                assert_eq!(next(&mut peer, 3), b"bye");
            }
            assert_over(&end);
            peer.write_all(b"more").unwrap();
            let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
            assert_eq!((result.unwrap(), &bytes), (4, b"more"));
            assert_eq!(stream.write_all("word").wait().0.unwrap(), 4);
            assert_eq!(next(&mut peer, 4), b"word");
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&replying(&stream, Reply::Write));
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn a_peer_that_sends_no_more_has_all_its_replies_and_then_the_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        // It is the only one that has the stream.
        let end = replying(&stream, |bytes| Reply::Write([&bytes[..], &bytes].concat()));
        drop(stream);
        let asked = pattern(50_000);
        peer.write_all(&asked).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        thread::scope(|scope| {
            let back = scope.spawn(|| {
                let mut back = Vec::new();
                peer.read_to_end(&mut back).expect("the end, no reset");
                back
            });
            proactor.run();
            // What came at a time is not known: at most a buffer full.
            let back = back.join().unwrap();
            assert_eq!(back.len(), 2 * asked.len());
            assert_replies(&back, &asked);
        });
        assert_over(&end);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// That `back` is pieces of `asked`, each twice.
fn assert_replies(mut back: &[u8], mut asked: &[u8]) {
    while !asked.is_empty() {
        let twice =
            |len: &usize| back[..*len] == asked[..*len] && back[*len..2 * len] == asked[..*len];
        let len = (1..=asked.len().min(1000)).rev().find(twice);
        let len = len.expect("a piece, twice");
        (back, asked) = (&back[2 * len..], &asked[len..]);
    }
}

#[test]
fn a_reply_beyond_what_the_kernel_takes_arrives_whole_before_anything_more_is_read() {
    everywhere_once(|setup| {
        for last in [false, true] {
            let proactor = setup.build();
            let (stream, mut peer) = pair(&proactor);
            let (called, large) = (Arc::new(AtomicUsize::new(0)), pattern(LARGE));
            let (count, mut first) = (Arc::clone(&called), Some(large.clone()));
            let end = replying(&stream, move |bytes| {
                count.fetch_add(1, Ordering::SeqCst);
                match first.take() {
                    Some(large) if last => Reply::Last(large),
                    Some(large) => Reply::Write(large),
                    None => Reply::Write(bytes.to_vec()),
                }
            });
            peer.write_all(b"first").unwrap();
            until("the first was asked for", || {
                proactor.poll();
                called.load(Ordering::SeqCst) == 1
            });
            peer.write_all(b"next").unwrap();
            settle(&proactor);
            let begun = next(&mut peer, 100_000);
            settle(&proactor);
            assert_eq!(called.load(Ordering::SeqCst), 1, "it was read on");
            assert!(end.try_recv().is_err());
            proactor.start().unwrap();
            let mut random = Random::new();
            let mut back = begun;
            while back.len() < LARGE {
                let some = random.within(1, 300_000).min(LARGE - back.len());
                back.extend(next(&mut peer, some));
            }
            assert_same(&back, &large);
            if last {
                assert_over(&end);
                let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
                assert_eq!((result.unwrap(), &bytes), (4, b"next"));
            } else {
                assert_eq!(next(&mut peer, 4), b"next");
                peer.shutdown(Shutdown::Write).unwrap();
                assert_over(&end);
            }
            drop(stream);
            assert_closed(&mut peer);
        }
    });
}

#[test]
fn many_large_replies_are_written_one_after_the_other() {
    everywhere_once(|setup| {
        const REPLIES: u8 = 6;
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let end = replying(&stream, move |bytes| {
            let replies = bytes.iter().map(|&number| vec![number; LARGE / 4]);
            Reply::Write(Vec::from_iter(replies).concat())
        });
        for number in 0..REPLIES {
            peer.write_all(&[number]).unwrap();
        }
        for number in 0..REPLIES {
            assert!(are_all(&next(&mut peer, LARGE / 4), number), "{number}");
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&end);
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn a_peer_that_goes_away_is_an_error_of_what_was_done() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        // In the middle of a reply, and while it waits.
        for large in [true, false] {
            let (stream, mut peer) = pair(&proactor);
            let end = replying(&stream, move |_| match large {
                true => Reply::Write(vec![1; LARGE]),
                false => Reply::Write(vec![1]),
            });
            peer.write_all(b"first").unwrap();
            next(&mut peer, 1);
            let linger = socket2::SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO));
            linger.expect("a close that resets");
            drop(peer);
            let (result, unsent) = end.recv_timeout(SOON).expect("an end");
            let error = result.expect_err("it was reset");
            assert!(error.raw_os_error().is_some(), "{error}");
            let unsent = unsent.map(|reply| reply.len());
            if large {
                assert_eq!((error.operation(), unsent), (Kind::Write, Some(LARGE)));
                assert!((1..LARGE).contains(&error.transferred()), "{error}");
            } else {
                assert_eq!((error.operation(), unsent), (Kind::Read, None));
                assert_eq!(error.transferred(), 0);
            }
        }
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}
