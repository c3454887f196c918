//! With others beside it: other reads, other writers, whoever takes its stream away, and what its own handler does.

use std::future::IntoFuture;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use proactor::net::{Reply, TcpStream};
use proactor::{BufferPool, CancelToken, ErrorKind, InitiationFuture, PooledBuf, Proactor, Slice};
use socket2::SockRef;

use super::common::{Random, SOON, everywhere, everywhere_once, pair, std_pair, until};
use super::{ask, assert_closed, assert_over, assert_same, next, pattern, replying, until_over};

#[test]
fn another_read_waits_until_it_is_over_and_has_what_comes_then() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let end = replying(&stream, until_over);
        let (told, tells) = mpsc::channel();
        for _ in 0..2 {
            let told = told.clone();
            let read = stream.read_exact([0; 4]);
            read.then(move |(result, bytes)| told.send((result.unwrap(), bytes)).unwrap());
        }
        for _ in 0..20 {
            ask(&mut peer, "some");
        }
        assert!(tells.try_recv().is_err(), "it has read beside it");
        ask(&mut peer, "over.");
        assert_over(&end);
        peer.write_all(b"onetwo23").unwrap();
        let mut all = [(); 2].map(|()| tells.recv_timeout(SOON).unwrap());
        all.sort_unstable(); // handlers run on several threads
        assert_eq!(all, [(4, *b"onet"), (4, *b"wo23")]);
    });
}

#[test]
fn a_read_before_it_comes_first_and_one_after_the_other_they_have_the_stream() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let (told, tells) = mpsc::channel();
        let read = stream.read_exact([0; 4]);
        read.then(move |(_, bytes)| told.send(bytes).unwrap());
        let ends = [(); 3].map(|()| replying(&stream, until_over));
        let never = replying(&stream, until_over);
        peer.write_all(b"read").unwrap();
        assert_eq!(tells.recv_timeout(SOON), Ok(*b"read"));
        for end in &ends {
            assert!(end.try_recv().is_err());
            ask(&mut peer, "some");
            ask(&mut peer, "over.");
            assert_over(end);
        }
        ask(&mut peer, "more");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&never);
    });
}

#[test]
fn one_that_waits_for_its_turn_can_be_cancelled_there() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let first = replying(&stream, until_over);
        ask(&mut peer, "some");
        let (told, tells) = mpsc::channel();
        let second = stream.reply_each(&BufferPool::new(10), |_| Reply::<PooledBuf>::End);
        let key = second.then(move |(result, _)| told.send(result.unwrap_err().kind()).unwrap());
        let late = stream.reply_each(&BufferPool::new(10), |_| Reply::<PooledBuf>::End);
        let (result, _) = late.timeout(Duration::from_millis(2)).wait();
        assert!(result.unwrap_err().is_timeout());
        proactor.cancel(key);
        assert_eq!(tells.recv_timeout(SOON), Ok(ErrorKind::Cancelled));
        let (token, pool) = (CancelToken::new(), BufferPool::new(10));
        token.cancel();
        let cancelled = stream.reply_each(&pool, Reply::Write).cancel_with(&token);
        assert!(cancelled.wait().0.unwrap_err().is_cancelled());
        ask(&mut peer, "over.");
        assert_over(&first);
        stream.close();
        let (result, _) = stream.reply_each(&pool, Reply::Write).wait();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
        assert_closed(&mut peer);
    });
}

/// A future that was polled once, and is finished since, its output not taken: nobody but this thread runs the proactor.
fn finished(proactor: &Proactor, stream: &TcpStream) -> InitiationFuture<proactor::net::RecvWith> {
    let mut future = stream.recv_with(&BufferPool::new(6)).into_future();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut context).is_pending());
    super::settle(proactor);
    future
}

#[test]
fn what_was_given_back_to_the_stream_is_read_first() {
    everywhere(|setup| {
        let builder = setup.builder().turn_budget(0);
        let proactor = builder.build().unwrap();
        let (stream, mut peer) = pair(&proactor);
        for kept in [true, false] {
            peer.write_all(b"first second").unwrap();
            let future = finished(&proactor, &stream);
            let future = kept.then_some(future);
            let mut seen = Vec::new();
            let (told, tells) = mpsc::channel();
            let end = replying(&stream, move |bytes| {
                seen.extend_from_slice(&bytes);
                told.send(bytes.len()).unwrap();
                match seen.len() {
                    12 => Reply::Last(std::mem::take(&mut seen)),
                    _ => Reply::Nothing,
                }
            });
            super::settle(&proactor);
            assert_eq!(
                tells.try_recv().is_err(),
                kept,
                "it waits for the future's end"
            );
            drop(future);
            proactor.run();
            assert_over(&end);
            assert_eq!(next(&mut peer, 12), b"first second");
        }
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// As `pair`, with so little room for what is sent that much of it is sent in parts.
fn narrow_pair(proactor: &Proactor, room: usize) -> (TcpStream, StdStream) {
    let (server, client) = std_pair();
    let narrowed = SockRef::from(&server).set_send_buffer_size(room);
    narrowed.expect("a smaller buffer");
    let stream = TcpStream::from_std(proactor, server).expect("an open proactor");
    (stream, client)
}

/// A mark, a length, and as many bytes of that mark.
fn record(mark: u8, len: usize) -> Vec<u8> {
    let mut record = vec![mark; 5 + len];
    record[1..5].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    record
}

/// The next record's mark.
fn next_record(peer: &mut impl Read) -> u8 {
    let head = next(peer, 5);
    let len = u32::from_le_bytes(head[1..5].try_into().unwrap());
    let body = next(peer, len as usize);
    assert!(
        body.iter().all(|&byte| byte == head[0]),
        "something came between"
    );
    head[0]
}

/// Writes records, one when the other is written.
fn write_records(stream: Arc<TcpStream>, mark: u8, left: usize, mut random: Random) {
    if left == 0 {
        return;
    }
    let next = Arc::clone(&stream);
    let record = record(mark, random.within(0, 60_000));
    stream.write_all(record).then(move |(result, _)| {
        result.unwrap();
        write_records(next, mark, left - 1, random);
    });
}

#[test]
fn writers_beside_it_come_before_a_reply_or_after_it_never_into_it() {
    const EACH: usize = 150;
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = narrow_pair(&proactor, 100 << 10);
        let stream = Arc::new(stream);
        let mut chance = random.fork();
        let end = replying(&stream, move |bytes| {
            // Some of them more than the kernel has room for.
            let most = if chance.within(0, 20) == 0 {
                1_000_000
            } else {
                100_000
            };
            let replies = bytes.iter().map(|_| record(b'r', chance.within(0, most)));
            Reply::Write(Vec::from_iter(replies).concat())
        });
        for mark in [1, 2] {
            write_records(Arc::clone(&stream), mark, EACH, random.fork());
        }
        let mut asking = peer.try_clone().unwrap();
        let (others, mut chance) = (Arc::clone(&stream), random.fork());
        let writing = thread::spawn(move || {
            for _ in 0..EACH {
                asking.write_all(b"?").unwrap();
                let record = record(3, chance.within(0, 60_000));
                others.write_all(record).wait().0.unwrap();
            }
        });
        let mut counts = [0; 256];
        for _ in 0..4 * EACH {
            counts[usize::from(next_record(&mut peer))] += 1;
        }
        writing.join().unwrap();
        for mark in [1, 2, 3, b'r'] {
            assert_eq!(counts[usize::from(mark)], EACH, "{mark}");
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_over(&end);
    });
}

/// Asks in pieces, of which only a few are on their way at a time; what comes back.
fn ask_all(mut peer: &StdStream, all: &[u8], mut random: Random) -> Vec<u8> {
    let (mut left, mut back) = (all, Vec::new());
    while !left.is_empty() {
        let (some, rest) = left.split_at(random.within(1, 4000).min(left.len()));
        peer.write_all(some).unwrap();
        left = rest;
        let asked = all.len() - left.len();
        let due = asked.saturating_sub(back.len() + random.within(0, 12_000));
        back.extend(next(&mut peer, due));
    }
    back.extend(next(&mut peer, all.len() - back.len()));
    back
}

/// How many bytes are asked, one way or another.
const BYTES: usize = 5_000_000;

/// What came, in order, of which all is answered.
type Seen = Arc<Mutex<Vec<u8>>>;

/// A few bytes, or none; not for long, since more may not come before these are answered.
fn some_come(seen: &Seen, random: &mut Random) {
    let come = || seen.lock().unwrap().len();
    let enough = come() + random.within(0, 1) * random.within(0, 6000);
    let soon = Instant::now() + Duration::from_millis(1);
    while come() < enough && Instant::now() < soon {
        thread::yield_now();
    }
}

/// Begins one, and ends it at whatever point it has come to.
fn begin_and_end(stream: &TcpStream, pool: &BufferPool, seen: &Seen, random: &mut Random) {
    let (end, ends) = mpsc::channel();
    let sees = Arc::clone(seen);
    let mut echo = stream.reply_each(pool, move |bytes| {
        sees.lock().unwrap().extend_from_slice(&bytes);
        Reply::Write(bytes)
    });
    let token = CancelToken::new();
    let by = random.within(0, 3);
    if by == 0 {
        echo = echo.timeout(Duration::from_micros(random.within(0, 3000) as u64));
    }
    let key = echo
        .cancel_with(&token)
        .then(move |output| end.send(output).unwrap());
    if by > 0 {
        some_come(seen, random);
    }
    match by {
        0 => {}
        1 => drop(stream.port().cancel(key)),
        2 => token.cancel(),
        _ => stream.cancel(),
    }
    let (result, unsent) = ends.recv_timeout(SOON).expect("an end");
    let error = result.expect_err("nobody else ends it");
    assert!(error.is_cancelled() || error.is_timeout(), "{error}");
    // What it has not sent is sent by us, from where it stopped.
    if let Some(unsent) = unsent {
        let rest = Slice::new(unsent, error.transferred()..);
        stream.write_all(rest).wait().0.unwrap();
    }
}

/// As `begin_and_end`, a future that is dropped; so its handler answers nothing, and we do.
fn poll_and_drop(stream: &TcpStream, pool: &BufferPool, seen: &Seen, random: &mut Random) {
    let before = seen.lock().unwrap().len();
    let sees = Arc::clone(seen);
    let reading = stream.reply_each(pool, move |bytes| {
        sees.lock().unwrap().extend_from_slice(&bytes);
        Reply::<PooledBuf>::Nothing
    });
    let mut future = reading.into_future();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut context).is_pending());
    some_come(seen, random);
    drop(future);
    until("its handler is dropped", || Arc::strong_count(seen) == 1);
    let unanswered = seen.lock().unwrap()[before..].to_vec();
    stream.write_all(unanswered).wait().0.unwrap();
}

/// While a peer sends and reads, one after the other is begun, and ended at whatever point it has come to: by its key, a token, a limit,
/// its stream, or with its future; and now and then there is a plain read. No byte is lost, and none answered twice.
#[test]
fn ended_at_any_moment_it_has_lost_nothing() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, peer) = narrow_pair(&proactor, 1);
        let (all, seen) = (pattern(BYTES), Seen::default());
        let pool = BufferPool::new(3000);
        thread::scope(|scope| {
            let (all, chance) = (&all, random.fork());
            let back = scope.spawn(|| ask_all(&peer, all, chance));
            while seen.lock().unwrap().len() < BYTES {
                match random.within(0, 4) {
                    0 => poll_and_drop(&stream, &pool, &seen, &mut random),
                    1 => {
                        let read = stream.recv_with(&pool).timeout(Duration::from_millis(1));
                        if let Ok(bytes) = read.wait() {
                            seen.lock().unwrap().extend_from_slice(&bytes);
                            stream.write_all(bytes).wait().0.unwrap();
                        }
                    }
                    _ => begin_and_end(&stream, &pool, &seen, &mut random),
                }
            }
            assert_same(&seen.lock().unwrap(), all);
            assert_same(&back.join().unwrap(), all);
        });
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

#[test]
fn who_reads_by_polls_waits_until_it_is_over() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let stream = Arc::new(stream);
        let end = replying(&stream, until_over);
        let reads = Arc::clone(&stream);
        let reading = proactor.spawn(async move {
            let mut bytes = [0; 4];
            (&mut &*reads).read_exact(&mut bytes).await.unwrap();
            bytes
        });
        for _ in 0..20 {
            ask(&mut peer, "some");
        }
        assert!(!reading.is_finished());
        ask(&mut peer, "over.");
        assert_over(&end);
        peer.write_all(b"then").unwrap();
        assert_eq!(reading.wait().unwrap(), *b"then");
    });
}

#[test]
fn who_writes_by_polls_writes_before_a_reply_or_after_it() {
    const ASKED: usize = 30;
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = narrow_pair(&proactor, 100 << 10);
        let stream = Arc::new(stream);
        let mut chance = random.fork();
        let end = replying(&stream, move |bytes| {
            let replies = bytes
                .iter()
                .map(|_| record(b'r', chance.within(0, 200_000)));
            Reply::Write(Vec::from_iter(replies).concat())
        });
        let writes = Arc::clone(&stream);
        let writing = proactor.spawn(async move {
            loop {
                let bytes = vec![b'w'; random.within(1, 50_000)];
                if (&mut &*writes).write(&bytes).await.is_err() {
                    break;
                }
            }
        });
        let mut back = BufReader::new(peer.try_clone().unwrap());
        for asked in 0..ASKED {
            peer.write_all(b"?").unwrap();
            while let Some(others) = others(back.fill_buf().unwrap()) {
                back.consume(others);
            }
            assert_eq!(next_record(&mut back), b'r', "{asked}");
        }
        stream.close();
        writing.wait().unwrap();
        let (result, _) = end.recv_timeout(SOON).unwrap();
        assert!(result.unwrap_err().is_cancelled());
    });
}

/// How many bytes of the other writer's come first.
fn others(bytes: &[u8]) -> Option<usize> {
    let others = bytes.iter().take_while(|&&byte| byte == b'w').count();
    (others > 0).then_some(others)
}
