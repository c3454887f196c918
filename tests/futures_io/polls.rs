//! Single polls: who is woken, by what, and who comes first.

use std::future::IntoFuture;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use futures_lite::{AsyncRead, AsyncWrite};
use proactor::net::TcpStream;
use proactor::{InitiationFuture, Operation};
use socket2::SockRef;

use super::{close, read, read_to_end, started};
use crate::common::{SOON, everywhere, pair, until};

/// How often it was woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// A waker, and how often it woke.
fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (Arc::clone(&woken), Waker::from(woken))
}

/// Has a future read while there is nothing, then `send`s, waits until its operation is finished, and drops it with what it has.
pub(crate) fn finish_and_drop<O: Operation>(mut future: InitiationFuture<O>, send: impl FnOnce()) {
    let (woken, waker) = waker();
    let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending(), "there was nothing");
    send();
    until("the future is woken", || woken.times() > 0);
}

/// Closes it as one who does not want what is under way.
pub(crate) fn reset(peer: StdStream) {
    let linger = SockRef::from(&peer).set_linger(Some(Duration::ZERO));
    linger.expect("a socket that can be told");
}

fn poll_read(mut stream: &TcpStream, waker: &Waker, buf: &mut [u8]) -> Poll<Result<usize>> {
    Pin::new(&mut stream).poll_read(&mut Context::from_waker(waker), buf)
}

fn poll_write(mut stream: &TcpStream, waker: &Waker, buf: &[u8]) -> Poll<Result<usize>> {
    Pin::new(&mut stream).poll_write(&mut Context::from_waker(waker), buf)
}

#[test]
fn a_poll_that_is_pending_wakes_once_and_costs_nothing_until_then() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let idle = proactor.port().outstanding();
        let (first, first_waker) = waker();
        let (last, last_waker) = waker();
        let mut buf = [0; 8];
        for _ in 0..100 {
            assert!(poll_read(&stream, &first_waker, &mut buf).is_pending());
        }
        assert_eq!(
            proactor.port().outstanding(),
            idle + 1,
            "one notice for all polls"
        );
        assert_eq!(first.times(), 0, "woken by nothing");
        assert!(poll_read(&stream, &last_waker, &mut buf).is_pending());
        let before = first.times();
        peer.write_all(b"x").expect("it takes it");
        until("the last waker is called", || last.times() == 1);
        assert_eq!(first.times(), before, "the former is not told of bytes");
        assert!(matches!(
            poll_read(&stream, &last_waker, &mut buf),
            Poll::Ready(Ok(1))
        ));
        until("the notice is gone", || {
            proactor.port().outstanding() == idle
        });
    });
}

#[test]
fn a_future_that_could_always_read_lets_others_on() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, peer) = pair(&proactor);
        drop(peer); // From now on a read is ready at each poll: with nothing.
        let (port, called) = (proactor.port().clone(), Arc::new(AtomicUsize::new(0)));
        let reading = proactor.spawn(async move {
            let calls = Arc::clone(&called);
            port.post(move || {
                calls.store(1, Ordering::Release);
            });
            while called.load(Ordering::Acquire) == 0 {
                read(&stream, &mut [0]).await?;
            }
            Result::Ok(())
        });
        reading.wait().expect("it ends").expect("no error");
    });
}

#[test]
fn two_tasks_that_read_one_stream_both_go_on() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let stream = Arc::new(stream);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let stream = Arc::clone(&stream);
                thread::spawn(move || block_on(read(&*stream, &mut [0])))
            })
            .collect();
        peer.write_all(b"12").expect("it takes both");
        for reader in readers {
            let read = reader.join().expect("it ends");
            assert_eq!(read.expect("no error"), 1);
        }
    });
}

#[test]
fn what_was_initiated_before_a_poll_comes_before_it() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (woken, waker) = waker();
        let (done, ended) = std::sync::mpsc::channel();
        stream.read_exact([0; 3]).then(move |(result, buf)| {
            done.send((result.ok(), buf)).expect("the test listens");
        });
        let mut buf = [0; 8];
        assert!(poll_read(&stream, &waker, &mut buf).is_pending());
        peer.write_all(b"12").expect("it takes it");
        peer.write_all(b"345").expect("it takes it");
        assert_eq!(ended.recv_timeout(SOON), Ok((Some(3), *b"123")));
        until("it is the poll's turn", || woken.times() > 0);
        let count = block_on(read(&stream, &mut buf)).expect("no error");
        assert!(count > 0 && b"45".starts_with(&buf[..count]));
    });
}

#[test]
fn a_close_by_poll_comes_after_the_writes_that_were_initiated() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (done, ended) = std::sync::mpsc::channel();
        let much = 16 << 20; // More than the kernel holds.
        stream.write_all(vec![7; much]).then(move |(result, _)| {
            done.send(result.ok()).expect("the test listens");
        });
        let closing = thread::spawn(move || (block_on(close(&stream)), stream));
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("all, and the end");
        assert_eq!(all.len(), much);
        assert_eq!(ended.recv_timeout(SOON), Ok(Some(much)));
        let (closed, stream) = closing.join().expect("it ends");
        closed.expect("no error");
        // The other direction is open still.
        peer.write_all(b"bye").expect("it takes it");
        drop(peer);
        let bye = block_on(read_to_end(&stream)).expect("no error");
        assert_eq!(bye, b"bye");
    });
}

#[test]
fn a_full_direction_wakes_its_writer_and_not_the_reader() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (reads, reader) = waker();
        let (writes, writer) = waker();
        assert!(poll_read(&stream, &reader, &mut [0; 8]).is_pending());
        let chunk = vec![1; 1 << 16];
        let mut sent = 0;
        while let Poll::Ready(count) = poll_write(&stream, &writer, &chunk) {
            sent += count.expect("no error");
        }
        let mut received = vec![0; sent];
        peer.read_exact(&mut received).expect("all of it");
        until("there is room", || writes.times() > 0);
        assert!(poll_write(&stream, &writer, b"on").is_ready());
        assert_eq!(reads.times(), 0, "nobody wrote to it");
        peer.write_all(b"x").expect("it takes it");
        until("there is a byte", || reads.times() > 0);
    });
}

#[test]
fn a_poll_of_what_is_closed_says_so_and_a_pending_one_is_woken() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, _peer) = pair(&proactor);
        let (woken, waker) = waker();
        let mut buf = [0; 8];
        assert!(poll_read(&stream, &waker, &mut buf).is_pending());
        stream.close();
        until("it is woken", || woken.times() > 0);
        let closed = |polled: Poll<Result<usize>>| match polled {
            Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::NotConnected),
            other => panic!("{other:?}"),
        };
        closed(poll_read(&stream, &waker, &mut buf));
        closed(poll_write(&stream, &waker, b"x"));
    });
}

#[test]
fn a_poll_outlives_its_proactor() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, _peer) = pair(&proactor);
        let (woken, waker) = waker();
        assert!(poll_read(&stream, &waker, &mut [0; 8]).is_pending());
        drop(proactor);
        until("it is woken", || woken.times() > 0);
        assert!(matches!(
            poll_read(&stream, &waker, &mut [0; 8]),
            Poll::Ready(Err(_))
        ));
    });
}

#[test]
fn cancelling_wakes_a_poll_which_goes_on() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (woken, waker) = waker();
        let mut buf = [0; 8];
        assert!(poll_read(&stream, &waker, &mut buf).is_pending());
        stream.cancel();
        until("it is woken", || woken.times() == 1);
        assert!(poll_read(&stream, &waker, &mut buf).is_pending());
        peer.write_all(b"x").expect("it takes it");
        until("it is woken again", || woken.times() == 2);
        assert!(matches!(
            poll_read(&stream, &waker, &mut buf),
            Poll::Ready(Ok(1))
        ));
    });
}

#[test]
fn a_poll_that_was_given_up_is_no_use_of_the_stream() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (woken, waker) = waker();
        assert!(poll_read(&stream, &waker, &mut [0; 8]).is_pending());
        let (socket, _) = stream.into_fd().expect("nobody uses it");
        until("its task is told", || woken.times() > 0);
        let mut socket = StdStream::from(socket);
        socket.set_nonblocking(false).expect("its descriptor");
        peer.write_all(b"x").expect("it takes it");
        socket.read_exact(&mut [0]).expect("the byte");
        until("nothing is left", || proactor.port().outstanding() <= 1);
    });
}

#[test]
fn a_poll_waits_for_the_output_of_a_future() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let (finished, its_waker) = waker();
        let (woken, waker) = waker();
        let mut future = stream.read([0; 2]).into_future();
        let mut context = Context::from_waker(&its_waker);
        assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        peer.write_all(b"1234").expect("it takes it");
        until("the future has its bytes", || finished.times() > 0);
        let mut buf = [0; 8];
        assert!(poll_read(&stream, &waker, &mut buf).is_pending());
        let (result, taken) = block_on(future);
        assert_eq!((result.expect("no error"), &taken), (2, b"12"));
        until("it is the poll's turn", || woken.times() > 0);
        assert!(matches!(
            poll_read(&stream, &waker, &mut buf),
            Poll::Ready(Ok(2))
        ));
        assert_eq!(&buf[..2], b"34");
    });
}
