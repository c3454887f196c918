//! Futures and what they give back: promise 40. Most are about what is finished after the first poll, so no future goes on at once
//! (a turn's budget of 0).

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proactor::net::{TcpListener, TcpStream};
use proactor::{ErrorKind, Operation, Proactor};

use crate::common::{Random, SOON, Setup, any_port, everywhere, everywhere_once, pair, until};

/// No future is ready inside the initiating call.
fn build(setup: Setup) -> Proactor {
    let builder = setup.builder().turn_budget(0);
    builder.build().expect("a setup is sound")
}

/// Remembers that it was called.
#[derive(Default)]
struct Called(AtomicBool);

impl Called {
    fn yet(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A future that was polled once, and what its waker calls.
struct Polled<F> {
    future: Pin<Box<F>>,
    called: Arc<Called>,
}

impl<F: Future> Polled<F> {
    fn of(begun: impl IntoFuture<IntoFuture = F, Output = F::Output>) -> Self {
        let mut polled = Self {
            future: Box::pin(begun.into_future()),
            called: Arc::default(),
        };
        assert!(
            polled.poll().is_pending(),
            "ready inside the initiating call"
        );
        polled
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.called));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// As [`of`](Self::of), and its operation is finished since.
    fn finished(begun: impl IntoFuture<IntoFuture = F, Output = F::Output>) -> Self {
        let polled = Self::of(begun);
        until("the future is woken", || polled.called.yet());
        polled
    }

    fn output(mut self) -> F::Output {
        until("the future is woken", || self.called.yet());
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("woken for nothing"),
        }
    }
}

/// All that comes until the end of the stream.
fn rest(stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (result, buf) = stream.read(Vec::with_capacity(64)).timeout(SOON).wait();
        if result.expect("bytes, or the end") == 0 {
            return all;
        }
        all.extend_from_slice(&buf);
    }
}

#[test]
fn p40_a_future_dropped_after_its_read_finished_loses_no_byte() {
    everywhere(|setup| {
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        peer.write_all(b"first second").expect("room");
        let dropped = Polled::finished(stream.read(Vec::with_capacity(6)));
        drop(dropped);
        let dropped = Polled::finished(
            stream.read_vectored(vec![Vec::with_capacity(2), Vec::with_capacity(5)]),
        );
        drop(dropped);
        peer.write_all(b" third").expect("room");
        drop(peer);
        assert_eq!(rest(&stream), b"first second third");
    });
}

/// What a composed read had taken when it was cancelled by its drop, comes first for the next; in whichever half it is read.
#[test]
fn p40_a_future_dropped_within_a_composed_read_loses_no_byte() {
    everywhere(|setup| {
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        let (reader, writer) = stream.into_split();
        peer.write_all(b"abc").expect("room");
        let exact = Polled::of(reader.read_exact([0; 8]));
        // A peer that has sent, and a read that goes on: only cancelling says how far it has come.
        drop(exact);
        let until_line = Polled::of(reader.read_until("\n", Vec::with_capacity(9)));
        peer.write_all(b"de").expect("room");
        drop(until_line);
        peer.write_all(b"f\ng").expect("room");
        let (result, line) = reader.read_until("\n", [0; 16]).timeout(SOON).wait();
        assert_eq!(&line[..result.expect("a line")], b"abcdef\n");
        let vectored = Polled::of(reader.read_exact_vectored(vec![[0; 2], [0; 2]]));
        peer.write_all(b"hi").expect("room");
        drop(vectored);
        let (result, last) = reader.read_exact([0; 3]).timeout(SOON).wait();
        assert_eq!(&last[..result.expect("three bytes")], b"ghi");
        drop(writer);
    });
}

/// While a peer sends, futures are begun, and dropped at whatever point they have come to.
#[test]
fn p40_futures_dropped_at_any_moment_lose_no_byte() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        let sent = random.bytes(40_000);
        let sender = {
            let (sent, mut random) = (sent.clone(), random.fork());
            thread::spawn(move || {
                let mut left = &sent[..];
                while !left.is_empty() {
                    let (now, later) = left.split_at(random.within(1, 600).min(left.len()));
                    peer.write_all(now).expect("room");
                    left = later;
                    thread::yield_now();
                }
            })
        };
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let left = sent.len() - got.len();
            let size = random.within(1, 300).min(left);
            match random.within(0, 3) {
                0 => drop_soon(stream.read(Vec::with_capacity(size)), &mut random),
                1 => drop_soon(
                    stream.read_exact(vec![0; size].into_boxed_slice()),
                    &mut random,
                ),
                2 => drop_soon(
                    stream.read_until([7_u8], Vec::with_capacity(size)),
                    &mut random,
                ),
                _ => {
                    let (result, buf) = Polled::of(stream.read(Vec::with_capacity(size))).output();
                    assert!(result.expect("bytes") > 0, "the stream goes on");
                    got.extend_from_slice(&buf);
                }
            }
        }
        assert!(got == sent, "bytes were lost, or came in another order");
        sender.join().expect("it sends");
    });
}

/// Polls once, waits a little or none, and drops.
fn drop_soon<O: Operation>(begun: proactor::Initiation<O>, random: &mut Random) {
    let polled = Polled::of(begun);
    for _ in 0..random.within(0, 60) {
        if polled.called.yet() && random.within(0, 3) == 0 {
            break;
        }
        thread::yield_now();
    }
}

#[test]
fn p40_a_future_dropped_after_its_accept_finished_loses_no_connection() {
    everywhere(|setup| {
        let proactor = build(setup);
        proactor.start().expect("threads");
        let listener = TcpListener::bind(&proactor, any_port()).expect("a port");
        let address = listener.local_addr().expect("its address");
        let connect = || StdStream::connect(address).expect("the backlog has room");
        let clients = [connect(), connect(), connect()];
        let names = clients
            .each_ref()
            .map(|client| client.local_addr().expect("bound"));
        drop(Polled::finished(listener.accept()));
        let (mut first, peer) = {
            let (stream, peer) = Polled::finished(listener.accept())
                .output()
                .expect("the first");
            (stream, peer)
        };
        assert_eq!(peer, names[0]);
        drop(Polled::finished(listener.accept()));
        drop(Polled::finished(listener.accept()));
        let (_socket, accepted) = listener
            .into_fd()
            .map_err(|(error, _)| error)
            .expect("nothing else");
        assert_eq!(
            accepted.iter().map(|(_, peer)| *peer).collect::<Vec<_>>(),
            [names[1]]
        );
        // And it is a connection as any other.
        let (socket, _) = accepted.into_iter().next().expect("the second");
        let second = TcpStream::from_std(&proactor, socket.into()).expect("an open proactor");
        for (stream, mut client) in [&mut first, &mut { second }].into_iter().zip(clients) {
            client.write_all(b"x").expect("room");
            assert_eq!(stream.read([0]).timeout(SOON).wait().0.expect("a byte"), 1);
        }
    });
}

/// The next read waits until the output of the one before is taken, or dropped, in whichever form it is.
#[test]
fn p40_the_next_read_waits_for_the_output_of_a_future() {
    everywhere(|setup| {
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        let read = Arc::new(AtomicUsize::new(0));
        let next = |stream: &TcpStream| {
            let read = Arc::clone(&read);
            stream.read([0; 1]).then(move |(result, buf)| {
                assert_eq!(result.expect("a byte"), 1);
                read.store(buf[0].into(), Ordering::Release);
            });
        };
        peer.write_all(b"abc").expect("room");
        let first = Polled::finished(stream.read([0; 1]));
        next(&stream);
        // A later write is answered: whatever the port did for the first read's sake it has done.
        assert_eq!(
            stream.write_all("x").timeout(SOON).wait().0.expect("room"),
            1
        );
        assert_eq!(
            read.load(Ordering::Acquire),
            0,
            "the second read was not to be attempted"
        );
        assert_eq!(first.output().1, *b"a");
        until("the second read is done", || {
            read.load(Ordering::Acquire) == b'b'.into()
        });
        let third = Polled::finished(stream.read([0; 1]));
        next(&stream);
        drop(third);
        until("the last read is done", || {
            read.load(Ordering::Acquire) == b'c'.into()
        });
    });
}

#[test]
fn p40_what_was_given_back_leaves_with_the_descriptor() {
    everywhere(|setup| {
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        let (reader, writer) = stream.into_split();
        let (error, reader) = reader.into_fd().expect_err("there is the other half");
        assert_eq!(error.kind(), ErrorKind::InUse);
        drop(writer);
        let over = Arc::new(AtomicBool::new(false));
        let key = reader.read([0; 9]).then({
            let over = Arc::clone(&over);
            move |(result, _)| over.store(result.is_err(), Ordering::Release)
        });
        let (error, reader) = reader.into_fd().expect_err("an operation is under way");
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(
            error.to_string().starts_with("release: still in use"),
            "{error}"
        );
        proactor.cancel(key);
        until("it is over", || over.load(Ordering::Acquire));
        peer.write_all(b"kept").expect("room");
        let finished = Polled::finished(reader.read(Vec::with_capacity(64)));
        let (error, reader) = reader.into_fd().expect_err("a future keeps the direction");
        assert_eq!(error.kind(), ErrorKind::InUse);
        drop(finished);
        peer.write_all(b" and not read").expect("room");
        drop(peer);
        let (socket, bytes) = reader.into_fd().map_err(|(error, _)| error).expect("alone");
        assert_eq!(bytes, b"kept");
        let mut left = String::new();
        let socket = StdStream::from(socket);
        socket.set_nonblocking(false).expect("a socket");
        (&socket).read_to_string(&mut left).expect("text");
        assert_eq!(left, " and not read");
    });
}

/// Dropping the proactor, or closing the object, ends a pending future as cancelled; nothing waits for ever.
#[test]
fn p40_a_future_outlives_its_proactor() {
    everywhere(|setup: Setup| {
        let proactor = build(setup);
        let (stream, _peer) = pair(&proactor);
        let (closed, _other) = pair(&proactor);
        let read = Polled::of(stream.read([0; 4]));
        let nap = Polled::of(proactor.sleep(Duration::from_secs(3600)));
        let never_run = Polled::of(stream.write_all("abc"));
        let on_closed = Polled::of(closed.read([0; 4]));
        closed.close();
        drop(proactor);
        let (result, buf) = read.output();
        assert!(result.expect_err("no bytes").is_cancelled());
        assert_eq!(buf, [0; 4]);
        assert!(nap.output().expect_err("no such time").is_cancelled());
        assert_eq!(never_run.output().0.expect("room"), 3);
        assert!(on_closed.output().0.expect_err("no bytes").is_cancelled());
        let late = pollster::block_on(stream.read([0; 4]).into_future());
        let late = late.0.expect_err("it is closed");
        assert_eq!(late.kind(), ErrorKind::Closed);
    });
}
