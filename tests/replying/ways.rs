//! Begun, run and waited for in each of the ways that there are.

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use proactor::net::{Reply, TcpStream};
use proactor::{Batch, BufferPool, Completion, CompletionPort, ErrorKind, Kind, PooledBuf, Strand};

use super::common::{SOON, everywhere, everywhere_once, pair, setups, std_pair, until, within};
use super::{LARGE, assert_closed, assert_over, next, replying};

/// Counts, and says it again.
fn counting(counter: &Arc<AtomicUsize>) -> impl FnMut(PooledBuf) -> Reply<PooledBuf> + 'static {
    let counter = Arc::clone(counter);
    move |bytes| {
        counter.fetch_add(1, Ordering::SeqCst);
        Reply::Write(bytes)
    }
}

/// The next completion of a port that is used alone.
fn take(port: &CompletionPort) -> Completion {
    let mut batch = Batch::new();
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(completion) = batch.drain().next() {
            return completion;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        let seat = port.seat().expect("nobody else waits");
        seat.reap(&mut batch, Some(deadline)).unwrap();
    }
}

#[test]
fn by_hand_a_turn_is_a_completion_that_runs_a_handler() {
    within("a port by hand", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut peer) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let called = Arc::new(AtomicUsize::new(0));
        let end = replying(&stream, counting(&called));
        for turn in 1..=100 {
            peer.write_all(b"message").unwrap();
            let before = called.load(Ordering::SeqCst);
            while called.load(Ordering::SeqCst) == before {
                let completion = take(&port);
                assert_eq!(completion.kind(), Kind::Read);
                assert_eq!(completion.object(), stream.id());
                let ran = completion.run();
                assert_eq!(ran, called.load(Ordering::SeqCst) > before, "turn {turn}");
            }
            assert_eq!(next(&mut peer, 7), b"message");
            assert_eq!(port.outstanding(), 1);
        }
        peer.shutdown(Shutdown::Write).unwrap();
        while end.try_recv().is_err() {
            take(&port).run();
        }
        assert_eq!(
            (called.load(Ordering::SeqCst), port.outstanding()),
            (100, 0)
        );
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn by_hand_a_turn_that_is_dropped_ends_it_and_has_read_nothing() {
    within("a port by hand", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut peer) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let called = Arc::new(AtomicUsize::new(0));
        let end = replying(&stream, counting(&called));
        peer.write_all(b"message").unwrap();
        let completion = take(&port);
        drop(completion);
        assert!(end.recv().is_err(), "its handler is dropped uncalled");
        assert_eq!((called.load(Ordering::SeqCst), port.outstanding()), (0, 0));
        assert_eq!(Arc::strong_count(&called), 1);
        let (told, tells) = mpsc::channel();
        stream
            .read_exact([0; 7])
            .then(move |(_, bytes)| told.send(bytes).unwrap());
        take(&port).run();
        assert_eq!(tells.recv(), Ok(*b"message"));
        // A future has its output all the same; and of the middle of a reply nothing is left.
        let mut future = stream
            .reply_each(&BufferPool::new(10), Reply::Write)
            .into_future();
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        drop(take(&port));
        let Poll::Ready((result, _)) = Pin::new(&mut future).poll(&mut context) else {
            panic!("it is over");
        };
        assert!(result.unwrap_err().is_cancelled());
        let end = replying(&stream, |_| Reply::Write(vec![5; LARGE]));
        peer.write_all(b"message").unwrap();
        while !take(&port).run() {}
        let slowly = peer.try_clone().unwrap();
        let reading = thread::spawn(move || next(&mut &slowly, LARGE / 8));
        let rest = take(&port);
        assert_eq!(rest.kind(), Kind::Write);
        drop(rest);
        assert!(end.recv().is_err());
        assert_eq!(port.outstanding(), 0);
        drop(stream);
        reading.join().unwrap();
        peer.read_to_end(&mut Vec::new()).expect("it is closed");
    });
}

#[test]
fn by_hand_a_handler_that_panics_panics_out_of_run_and_ends_it() {
    within("a port by hand", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut peer) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let end = replying(&stream, |_| -> Reply<Vec<u8>> { panic!("on purpose") });
        peer.write_all(b"message").unwrap();
        while catch_unwind(AssertUnwindSafe(|| take(&port).run())).is_ok() {}
        assert_eq!(port.outstanding(), 1);
        assert!(take(&port).run());
        let (result, _) = end.recv_timeout(SOON).unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
        assert_eq!(port.outstanding(), 0);
    });
}

#[test]
fn by_hand_a_large_reply_goes_on_and_the_end_comes() {
    within("a port by hand", || {
        let port = CompletionPort::new().unwrap();
        let (server, mut peer) = std_pair();
        let stream = TcpStream::from_std(&port, server).unwrap();
        let end = replying(&stream, |_| Reply::Last(vec![5; LARGE]));
        peer.write_all(b"message").unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        let mut ran = 0;
        while port.outstanding() > 0 {
            ran += usize::from(take(&port).run());
        }
        assert_over(&end);
        assert_eq!(ran, 2, "its handler, and its end's");
        drop(stream);
        let all = reader.join().unwrap().unwrap();
        assert!(all == vec![5; LARGE]);
    });
}

#[test]
fn each_turn_counts_as_a_handler_and_bounds_who_runs_a_few() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        let called = Arc::new(AtomicUsize::new(0));
        let calls = || called.load(Ordering::SeqCst);
        let end = replying(&stream, counting(&called));
        for turn in 0..20 {
            peer.write_all(b"message").unwrap();
            let ran = match turn % 2 {
                0 => proactor.run_one(),
                _ => loop {
                    let ran = proactor.poll_one();
                    assert_eq!(ran, calls() - turn);
                    if ran > 0 {
                        break ran;
                    }
                },
            };
            assert_eq!((ran, calls()), (1, turn + 1));
            assert_eq!(next(&mut peer, 7), b"message");
        }
        // Several that are ready at a time, each bounded by itself.
        let (other, mut others_peer) = pair(&proactor);
        let others_end = replying(&other, counting(&called));
        for peer in [&mut peer, &mut others_peer] {
            peer.write_all(b"message").unwrap();
        }
        assert_eq!((proactor.run_one(), calls()), (1, 21));
        assert_eq!((proactor.run_one(), calls()), (1, 22));
        for peer in [&mut peer, &mut others_peer] {
            peer.write_all(b"message").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        }
        // A turn each for the last message and for the end of the stream, and each its own end.
        let ran = proactor.run();
        assert_eq!(calls(), 24);
        assert_eq!(ran, 2 * 3);
        assert_over(&end);
        assert_over(&others_end);
    });
}

#[test]
fn a_wait_outside_of_handlers_runs_it() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        peer.write_all(b"some").unwrap();
        let peer = thread::spawn(move || {
            assert_eq!(next(&mut peer, 4), b"some");
            peer.write_all(b"more").unwrap();
            assert_eq!(next(&mut peer, 4), b"more");
            peer.shutdown(Shutdown::Write).unwrap();
            peer
        });
        let pool = BufferPool::new(100);
        let (result, unsent) = stream.reply_each(&pool, Reply::Write).wait();
        result.unwrap();
        assert!(unsent.is_none());
        let late = stream.reply_each(&pool, Reply::Write).wait();
        late.0.expect("the end of the stream again");
        drop(stream);
        assert_closed(&mut peer.join().unwrap());
        assert_eq!(proactor.port().outstanding(), 0);
        let (stream, _peer) = pair(&proactor);
        let limited = stream.reply_each(&pool, Reply::Write);
        let (result, _) = limited.timeout(Duration::from_millis(5)).wait();
        assert!(result.unwrap_err().is_timeout());
        proactor.port().close();
        let (result, _) = stream.reply_each(&pool, Reply::Write).wait();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_wait_inside_a_handler_runs_its_turns_nested() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        for ready in [true, false] {
            let (told, tells) = mpsc::channel();
            let again =
                stream.reply_each(&BufferPool::new(100), |bytes| match bytes.ends_with(b".") {
                    true => Reply::Last(bytes),
                    false => Reply::Write(bytes),
                });
            if ready {
                peer.write_all(b"some").unwrap();
            }
            proactor.post(move || {
                told.send(again.wait().0.map_err(|error| error.kind()))
                    .unwrap();
            });
            thread::scope(|scope| {
                let peer = &mut peer;
                scope.spawn(move || {
                    if !ready {
                        peer.write_all(b"some").unwrap();
                    }
                    assert_eq!(next(peer, 4), b"some");
                    peer.write_all(b"more.").unwrap();
                    assert_eq!(next(peer, 5), b"more.");
                });
                proactor.run();
            });
            assert_eq!(tells.recv_timeout(SOON), Ok(Ok(())), "{ready}");
        }
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn a_wait_inside_a_strand_leaves_its_turns_to_others_or_says_that_there_are_none() {
    everywhere(|setup| {
        let proactor = setup.build();
        for ready in [true, false] {
            let (stream, mut peer) = pair(&proactor);
            let (told, tells) = mpsc::channel();
            let strand = Strand::new(&proactor, ());
            let waits = stream.reply_each(&BufferPool::new(100), Reply::Last);
            if ready {
                peer.write_all(b"some").unwrap();
            }
            strand.post(move |()| {
                let (result, unsent) = waits.wait();
                assert!(unsent.is_none());
                told.send(result.map_err(|error| error.kind())).unwrap();
            });
            let lone = setup.threads == 1;
            thread::scope(|scope| {
                scope.spawn(|| {
                    if !ready {
                        peer.write_all(b"some").unwrap();
                    }
                    if !lone {
                        assert_eq!(next(&mut peer, 4), b"some");
                    }
                });
                proactor.run();
            });
            let expected = if lone {
                Err(ErrorKind::WouldDeadlock)
            } else {
                Ok(())
            };
            assert_eq!(tells.recv_timeout(SOON), Ok(expected), "{ready}");
        }
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn on_a_strand_is_its_end_and_its_turns_are_not() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let strand = Strand::new(&proactor, 0);
        let (told, tells) = mpsc::channel();
        let (leave, leaves) = mpsc::channel();
        let replying = stream.reply_each(&BufferPool::new(100), Reply::Write);
        replying.on(&strand).then(move |count, (result, unsent)| {
            assert!(result.is_ok() && unsent.is_none());
            *count += 1;
            told.send(*count).unwrap();
        });
        if setup.threads > 1 {
            strand.post(move |count| {
                leaves.recv_timeout(SOON).expect("it is let go");
                *count += 10;
            });
        }
        for _ in 0..3 {
            peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut peer, 4), b"some");
        }
        peer.shutdown(Shutdown::Write).unwrap();
        if setup.threads > 1 {
            assert!(tells.recv_timeout(Duration::from_millis(2)).is_err());
            leave.send(()).unwrap();
            assert_eq!(tells.recv_timeout(SOON), Ok(11));
        } else {
            assert_eq!(tells.recv_timeout(SOON), Ok(1));
        }
        drop(stream);
        assert_closed(&mut peer);
    });
}

#[test]
fn one_that_counts_has_its_room_until_its_end() {
    everywhere(|setup| {
        let builder = setup.builder().max_pending(NonZeroUsize::MIN);
        let proactor = builder.build().unwrap();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let (other, mut others_peer) = pair(&proactor);
        let pool = BufferPool::new(100);
        for round in 0..3 {
            let (told, tells) = mpsc::channel();
            let echo = stream.reply_each(&pool, |bytes| match &bytes[..] {
                b"over" => Reply::Last(vec![1; LARGE]),
                _ => Reply::Write(bytes.to_vec()),
            });
            let begun =
                echo.try_submit(move |output: (Result<(), _>, _)| told.send(output.0).unwrap());
            assert!(begun.is_ok(), "round {round}");
            peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut peer, 4), b"some");
            let refused = other.reply_each(&pool, Reply::Write).try_submit(drop);
            let (initiation, handler) = refused.expect_err("it has no room").into_inner();
            peer.write_all(b"over").unwrap();
            next(&mut peer, 1000);
            assert!(proactor.try_post(|| ()).is_err(), "it writes still");
            next(&mut peer, LARGE - 1000);
            tells.recv_timeout(SOON).unwrap().unwrap();
            until("there is room again", || proactor.try_post(|| ()).is_ok());
            until("it has run", || proactor.port().outstanding() == 1);
            let key = initiation.try_submit(handler);
            others_peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut others_peer, 4), b"some");
            proactor.cancel(key.expect("room"));
            until("it has ended", || proactor.port().outstanding() == 1);
        }
    });
}

#[test]
fn as_a_future_it_has_its_output() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let task = proactor.spawn(async move {
            let pool = BufferPool::new(100);
            for _ in 0..2 {
                let (result, unsent) = stream.reply_each(&pool, Reply::Last).await;
                assert!(result.is_ok() && unsent.is_none());
                let (result, bytes) = stream.read_exact([0; 4]).await;
                assert_eq!((result.unwrap(), &bytes), (4, b"then"));
            }
            let (result, unsent) = stream.reply_each(&pool, Reply::Write).await;
            assert!(result.is_ok() && unsent.is_none());
        });
        for _ in 0..2 {
            peer.write_all(b"some").unwrap();
            assert_eq!(next(&mut peer, 4), b"some");
            peer.write_all(b"then").unwrap();
        }
        // What comes between an end and the next begin is the next one's.
        for _ in 0..100 {
            peer.write_all(b"more").unwrap();
            assert_eq!(next(&mut peer, 4), b"more");
        }
        peer.shutdown(Shutdown::Write).unwrap();
        task.wait().unwrap();
        assert_closed(&mut peer);
    });
}

#[test]
fn a_future_that_is_dropped_ends_it_and_the_stream_goes_on() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        for sent in ["", "some", "large", "slow"] {
            let (stream, mut peer) = pair(&proactor);
            let held = Arc::new(());
            let (watched, (entered, enters)) = (Arc::clone(&held), mpsc::channel());
            let (leave, leaves) = mpsc::channel();
            let replying = stream.reply_each(&BufferPool::new(100), move |bytes| {
                let _watched = &watched;
                entered.send(()).unwrap();
                match &bytes[..] {
                    b"large" => return Reply::Write(vec![1; LARGE]),
                    b"slow" => leaves.recv_timeout(SOON).expect("it may go on"),
                    _ => {}
                }
                Reply::Write(bytes.to_vec())
            });
            let mut future = replying.into_future();
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
            peer.write_all(sent.as_bytes()).unwrap();
            if !sent.is_empty() {
                enters.recv_timeout(SOON).expect("it is called");
            }
            match sent {
                "some" => assert_eq!(next(&mut peer, 4), b"some"),
                "large" => drop(next(&mut peer, 1)),
                _ => {}
            }
            drop(future);
            let _ = leave.send(());
            until("it is gone", || Arc::strong_count(&held) == 1);
            if sent == "slow" {
                assert_eq!(next(&mut peer, 4), b"slow");
            }
            peer.write_all(b"more").unwrap();
            let (result, bytes) = stream.read_exact([0; 4]).timeout(SOON).wait();
            assert_eq!((result.unwrap(), &bytes), (4, b"more"));
            drop(stream);
            peer.read_to_end(&mut Vec::new()).expect("it is closed");
        }
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

/// How many turns one may have while another is ready.
const PATIENCE: usize = 20_000;

#[test]
fn one_that_always_has_something_lets_the_others_have_their_turn() {
    for setup in setups(&[1]) {
        within(&setup.to_string(), move || {
            let proactor = setup.build();
            let ((greedy, mut floods), (other, mut asks)) = (pair(&proactor), pair(&proactor));
            let turns = Arc::new(AtomicUsize::new(0));
            let (seen, (told, tells)) = (Arc::clone(&turns), mpsc::channel());
            let end = replying(&other, move |bytes| {
                told.send(seen.load(Ordering::SeqCst)).unwrap();
                Reply::Write(bytes)
            });
            // A byte at a time, and each more than it can have in so many turns.
            floods.write_all(&[0; 5 * PATIENCE]).unwrap();
            let counted = Arc::clone(&turns);
            let (port, pool) = (proactor.port().clone(), BufferPool::new(1));
            let flooded = greedy.reply_each(&pool, move |_| {
                let turn = counted.fetch_add(1, Ordering::SeqCst) + 1;
                if turn == PATIENCE {
                    asks.write_all(b"now").unwrap();
                }
                if turn == 3 * PATIENCE {
                    port.stop();
                }
                Reply::<PooledBuf>::Nothing
            });
            flooded.then(|_| ());
            proactor.run();
            let at = tells.try_recv().expect("the other had a turn");
            assert!(at < 2 * PATIENCE, "it waited for {} turns", at - PATIENCE);
            drop(proactor);
            assert!(end.recv().is_err());
        });
    }
}

#[test]
fn handlers_of_a_full_house_all_have_their_turns() {
    everywhere_once(|setup| {
        const CONNECTIONS: usize = 50;
        let proactor = setup.build();
        proactor.start().unwrap();
        let mut ends = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..CONNECTIONS {
            let (stream, peer) = pair(&proactor);
            ends.push(replying(&stream, Reply::Write));
            peers.push(peer);
        }
        for round in 0..100_u32 {
            for peer in &mut peers {
                peer.write_all(&round.to_le_bytes()).unwrap();
            }
            for peer in &mut peers {
                assert_eq!(next(peer, 4), round.to_le_bytes());
            }
        }
        for mut peer in peers {
            peer.shutdown(Shutdown::Write).unwrap();
            assert_closed(&mut peer);
        }
        ends.iter().for_each(assert_over);
    });
}
