//! Receives that are cancelled, limited, closed or dropped: none takes a datagram with it.

use std::future::{IntoFuture, poll_fn};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use proactor::net::{Datagram, RecvFromWith, UdpSocket};
use proactor::{BufferPool, CancelToken, ErrorKind, InitiationFuture, Proactor};

use super::common::{Random, SOON, Setup, everywhere, everywhere_once, until};
use super::{next, numbered, socket_and_peer};

/// No future is ready inside the initiating call.
fn build(setup: Setup) -> Proactor {
    let builder = setup.builder().turn_budget(0);
    builder.build().expect("a setup is sound")
}

/// A future that was polled once, and is finished since, its output not taken: nobody but this thread runs the proactor.
fn finished(
    proactor: &Proactor,
    socket: &UdpSocket,
    size: usize,
) -> InitiationFuture<RecvFromWith> {
    let mut future = socket.recv_from_with(&BufferPool::new(size)).into_future();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut context).is_pending());
    proactor.poll();
    future
}

#[test]
fn what_is_cancelled_or_late_has_received_nothing() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let (to, ends) = mpsc::channel();
        let report = || {
            let to = to.clone();
            move |output: Result<Datagram, _>| to.send(output.map(|_| ())).unwrap()
        };
        let pool = BufferPool::new(64);
        let token = CancelToken::new();
        let by_key = socket.recv_from_with(&pool).then(report());
        let by_token = socket.recv_from_with(&pool).cancel_with(&token);
        by_token.then(report());
        let late = socket
            .recv_from_with(&pool)
            .timeout(Duration::from_millis(5));
        assert!(late.wait().unwrap_err().is_timeout());
        proactor.port().cancel(by_key);
        token.cancel();
        proactor.run();
        for _ in 0..2 {
            assert!(ends.recv().unwrap().unwrap_err().is_cancelled());
        }
        socket.recv_from_with(&pool).then(report());
        let (result, buf) = {
            let received = socket.recv_from(vec![42]);
            socket.cancel();
            socket.recv_from_with(&pool).then(report());
            let (to, end) = mpsc::channel();
            received.then(move |output| to.send(output).unwrap());
            socket.cancel();
            proactor.run();
            end.recv().unwrap()
        };
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(buf, [42], "the buffer comes back as it was");
        for _ in 0..2 {
            assert!(ends.recv().unwrap().unwrap_err().is_cancelled());
        }
        peer.send_to(b"first", address).unwrap();
        peer.send_to(b"second", address).unwrap();
        assert_eq!(*next(&socket), *b"first");
        assert_eq!(*next(&socket), *b"second");
    });
}

#[test]
fn closing_or_dropping_ends_what_is_pending_and_what_comes_later() {
    everywhere(|setup| {
        let proactor = setup.build();
        let pool = BufferPool::new(64);
        let (to, ends) = mpsc::channel();
        let pending = |socket: &UdpSocket| {
            for _ in 0..2 {
                let to = to.clone();
                let received = socket.recv_from_with(&pool);
                received.then(move |output| to.send(output.unwrap_err().kind()).unwrap());
            }
        };
        let (closed, address, peer) = socket_and_peer(&proactor);
        let (dropped, ..) = socket_and_peer(&proactor);
        for socket in [&closed, &dropped] {
            pending(socket);
        }
        proactor.poll();
        closed.close();
        drop(dropped);
        proactor.run();
        assert_eq!(
            ends.try_iter().collect::<Vec<_>>(),
            [ErrorKind::Cancelled; 4]
        );
        let error = closed.recv_from_with(&pool).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        let (result, buf) = closed.send_to("late", peer.local_addr().unwrap()).wait();
        assert_eq!(
            (result.unwrap_err().kind(), buf),
            (ErrorKind::Closed, "late")
        );
        let error = closed.connect(address).unwrap_err();
        assert_eq!(
            (error.kind(), error.address()),
            (ErrorKind::Closed, Some(address))
        );
        assert_eq!(closed.local_addr().unwrap_err().kind(), ErrorKind::Closed);
        let (error, _) = closed.into_fd().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        // Its address is free again.
        StdSocket::bind(address).unwrap();
    });
}

#[test]
fn a_future_dropped_after_its_end_gives_its_datagram_back_whole() {
    everywhere(|setup| {
        let proactor = build(setup);
        let (socket, address, peer) = socket_and_peer(&proactor);
        for number in 0..4 {
            peer.send_to(&numbered(number, 10 * number), address)
                .unwrap();
        }
        // Each takes the same one, and the last takes it for good.
        for _ in 0..3 {
            drop(finished(&proactor, &socket, 64));
        }
        for number in 0..2 {
            let datagram = next(&socket);
            assert_eq!(datagram.peer(), peer.local_addr().unwrap());
            assert_eq!(*datagram, numbered(number, 10 * number));
        }
        // What was cut stays so, and a buffer of one's own gets no more than it has room for.
        drop(finished(&proactor, &socket, 16));
        let cut = next(&socket);
        assert_eq!(*cut, numbered(2, 16));
        assert!(cut.is_truncated());
        drop(finished(&proactor, &socket, 64));
        let (result, buf) = socket.recv_from(Vec::with_capacity(8)).timeout(SOON).wait();
        assert_eq!(result.unwrap(), (buf.len(), peer.local_addr().unwrap()));
        assert_eq!(buf, numbered(3, buf.len()));
        let late = socket.recv_from([0; 8]).timeout(Duration::from_millis(5));
        assert!(
            late.wait().0.unwrap_err().is_timeout(),
            "there was one too many"
        );
    });
}

#[test]
fn a_buffer_of_ones_own_gives_its_datagram_back_too() {
    everywhere(|setup| {
        let proactor = build(setup);
        let (socket, address, peer) = socket_and_peer(&proactor);
        for bytes in [&b"text"[..], b""] {
            peer.send_to(bytes, address).unwrap();
            let mut future = socket.recv_from(Vec::with_capacity(64)).into_future();
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
            proactor.poll();
            drop(future);
            let datagram = next(&socket);
            assert_eq!(
                (&*datagram, datagram.peer()),
                (bytes, peer.local_addr().unwrap())
            );
        }
    });
}

#[test]
fn the_next_receive_waits_until_it_is_known_what_becomes_of_the_datagram() {
    everywhere(|setup| {
        let proactor = build(setup);
        let (socket, address, peer) = socket_and_peer(&proactor);
        peer.send_to(b"first", address).unwrap();
        peer.send_to(b"second", address).unwrap();
        let kept = finished(&proactor, &socket, 64);
        let (to, ends) = mpsc::channel();
        for _ in 0..2 {
            let to = to.clone();
            let received = socket.recv_from(Vec::with_capacity(64));
            received.then(move |(_, buf)| to.send(buf).unwrap());
        }
        proactor.poll();
        assert!(ends.try_recv().is_err(), "it has overtaken the first");
        drop(kept);
        proactor.run();
        let mut all = [ends.recv().unwrap(), ends.recv().unwrap()];
        all.sort(); // handlers run on several threads
        assert_eq!(all, [b"first".to_vec(), b"second".to_vec()]);
    });
}

#[test]
fn a_descriptor_comes_out_with_what_was_given_back() {
    everywhere(|setup| {
        let proactor = build(setup);
        let (socket, address, peer) = socket_and_peer(&proactor);
        for text in ["first", "second"] {
            peer.send_to(text.as_bytes(), address).unwrap();
        }
        let kept = finished(&proactor, &socket, 4);
        let (error, socket) = socket.into_fd().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        drop(kept);
        let (fd, received) = socket.into_fd().map_err(|(error, _)| error).unwrap();
        let [first] = &received[..] else {
            panic!("{received:?} were given back");
        };
        assert_eq!((&first[..], first.is_truncated()), (&b"firs"[..], true));
        assert_eq!(first.peer(), peer.local_addr().unwrap());
        let std = StdSocket::from(fd);
        let mut buf = [0; 16];
        let (count, from) = std.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..count], from), (&b"second"[..], first.peer()));
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

const SENT: usize = 2000;
/// More would be lost by the kernel.
const ON_THE_WAY: usize = 40;

/// Sends as many, of which few are on the way at a time: `got` says how many were received.
fn send_all(
    peer: StdSocket,
    address: SocketAddr,
    got: &Arc<AtomicUsize>,
    mut random: Random,
) -> JoinHandle<()> {
    let got = Arc::clone(got);
    thread::spawn(move || {
        for number in 0..SENT {
            until("some are received", || {
                number < got.load(Ordering::SeqCst) + ON_THE_WAY
            });
            let len = 8 + random.within(0, 56);
            peer.send_to(&numbered(number, len), address).unwrap();
            if random.within(0, 3) == 0 {
                thread::yield_now();
            }
        }
    })
}

/// While a peer sends, futures are begun, and dropped at whatever point they have come to.
#[test]
fn futures_dropped_at_any_moment_lose_no_datagram() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = build(setup);
        proactor.start().expect("threads");
        let (socket, address, peer) = socket_and_peer(&proactor);
        let got = Arc::new(AtomicUsize::new(0));
        let sender = send_all(peer, address, &got, random.fork());
        let pool = BufferPool::new(64);
        while got.load(Ordering::SeqCst) < SENT {
            let yields = random.within(0, 40);
            let number = got.load(Ordering::SeqCst);
            match random.within(0, 2) {
                0 => poll_and_drop(socket.recv_from_with(&pool).into_future(), yields),
                1 => poll_and_drop(socket.recv_from([0; 64]).into_future(), yields),
                _ => {
                    let datagram = next(&socket);
                    assert_eq!(*datagram, numbered(number, datagram.len()), "{number}");
                    got.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        sender.join().expect("it sends");
    });
}

/// While a peer sends, receives are begun and cancelled, or limited: each ends with the next datagram, or without any.
#[test]
fn receives_cancelled_at_any_moment_lose_no_datagram() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().expect("threads");
        let (socket, address, peer) = socket_and_peer(&proactor);
        let got = Arc::new(AtomicUsize::new(0));
        let sender = send_all(peer, address, &got, random.fork());
        let pool = BufferPool::new(64);
        let (to, ended) = mpsc::channel();
        while got.load(Ordering::SeqCst) < SENT {
            let (token, to) = (CancelToken::new(), to.clone());
            let limit = Duration::from_millis(random.within(0, 50) as u64);
            let receiving = socket.recv_from_with(&pool).timeout(limit);
            let receiving = receiving.cancel_with(&token);
            let key = receiving.then(move |output| to.send(output).unwrap());
            for _ in 0..random.within(0, 40) {
                thread::yield_now();
            }
            match random.within(0, 4) {
                0 => drop(proactor.port().cancel(key)),
                1 => token.cancel(),
                2 => socket.cancel(),
                _ => {}
            }
            match ended.recv_timeout(SOON).expect("an end") {
                Ok(datagram) => {
                    let number = got.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(*datagram, numbered(number, datagram.len()), "{number}");
                }
                Err(error) => assert!(error.is_cancelled() || error.is_timeout(), "{error}"),
            }
        }
        sender.join().expect("it sends");
    });
}

/// Polls once, waits a little or not, and drops.
fn poll_and_drop<F: Future>(future: F, yields: usize) {
    let mut future = pin!(future);
    let once = poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    });
    pollster::block_on(once);
    for _ in 0..yields {
        thread::yield_now();
    }
}
