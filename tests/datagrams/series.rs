//! Datagrams one after the other: as a stream, and by a handler for each.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream};
use futures_lite::StreamExt;
use proactor::net::Datagrams;
use proactor::{BufferPool, ErrorKind, Kind};

use super::common::{SOON, everywhere, until};
use super::{ECONNREFUSED, assert_names, next, nobodys, numbered, socket_and_peer};

fn poll(datagrams: &mut Datagrams) -> Poll<Option<<Datagrams as Stream>::Item>> {
    Pin::new(datagrams).poll_next(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_stream_has_every_datagram_in_order_and_ends_with_its_socket() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let mut datagrams = socket.datagrams(&BufferPool::new(64));
        let counted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counted);
        let receiving = proactor.spawn(async move {
            while let Some(datagram) = datagrams.next().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                assert_eq!(*datagram.unwrap(), numbered(number, number % 64));
            }
            assert!(datagrams.is_terminated());
            assert!(datagrams.next().await.is_none());
        });
        for number in 0..200 {
            peer.send_to(&numbered(number, number % 64), address)
                .unwrap();
            until("few are on the way", || {
                number < counted.load(Ordering::SeqCst) + 40
            });
        }
        until("all are received", || counted.load(Ordering::SeqCst) == 200);
        assert!(!receiving.is_finished());
        socket.close();
        receiving.wait().unwrap();
    });
}

#[test]
fn trouble_is_an_item_of_a_stream_and_it_goes_on_until_it_is_cancelled() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let mut datagrams = socket.datagrams(&BufferPool::new(64));
        let mut item = || pollster::block_on(datagrams.next());
        for _ in 0..2 {
            socket.connect(nobodys()).unwrap();
            socket.send("anybody?").wait().0.unwrap();
            let error = item().unwrap().unwrap_err();
            assert_names(&error, Kind::Receive, None, ECONNREFUSED);
            socket.connect(peer.local_addr().unwrap()).unwrap();
            peer.send_to(b"here", address).unwrap();
            assert_eq!(*item().unwrap().unwrap(), *b"here");
        }
        assert!(poll(&mut datagrams).is_pending());
        assert!(!datagrams.is_terminated());
        socket.cancel();
        assert!(pollster::block_on(datagrams.next()).is_none());
        assert!(datagrams.is_terminated());
        // The socket is as it was.
        peer.send_to(b"still", address).unwrap();
        assert_eq!(*next(&socket), *b"still");
    });
}

#[test]
fn a_stream_that_is_dropped_gives_back_what_it_has() {
    everywhere(|setup| {
        let builder = setup.builder().turn_budget(0);
        let proactor = builder.build().expect("a setup is sound");
        let (socket, address, peer) = socket_and_peer(&proactor);
        for text in ["first", "second"] {
            peer.send_to(text.as_bytes(), address).unwrap();
        }
        let mut datagrams = socket.datagrams(&BufferPool::new(64));
        assert!(poll(&mut datagrams).is_pending());
        proactor.poll();
        drop(datagrams);
        assert_eq!(*next(&socket), *b"first");
        assert_eq!(*next(&socket), *b"second");
        assert!(socket.into_fd().is_ok(), "nothing of the stream is left");
    });
}

#[test]
fn several_streams_of_one_socket_have_each_datagram_once() {
    const SENT: usize = 300;
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let (to, came) = mpsc::channel();
        let pool = BufferPool::new(64);
        let receiving = [(); 3].map(|()| {
            let (mut datagrams, to) = (socket.datagrams(&pool), to.clone());
            proactor.spawn(async move {
                while let Some(datagram) = datagrams.next().await {
                    to.send(datagram.unwrap().to_vec()).unwrap();
                }
            })
        });
        let mut numbers = Vec::new();
        for number in 0..SENT {
            peer.send_to(&numbered(number, 8), address).unwrap();
            if number >= 20 {
                numbers.push(came.recv_timeout(SOON).unwrap());
            }
        }
        numbers.extend((0..20).map(|_| came.recv_timeout(SOON).unwrap()));
        socket.close();
        for stream in receiving {
            stream.wait().unwrap();
        }
        assert!(came.try_recv().is_err(), "one came twice");
        let number = |bytes: Vec<u8>| usize::from_le_bytes(bytes.try_into().unwrap());
        let mut numbers: Vec<_> = numbers.into_iter().map(number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..SENT));
    });
}

#[test]
fn an_error_that_lasts_is_told_and_ends_a_stream() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let socket = std::net::UdpSocket::from(std::os::fd::OwnedFd::from(ours));
        let socket = proactor::net::UdpSocket::from_std(&proactor, socket).unwrap();
        theirs.send(b"of a sender that has no address").unwrap();
        let mut datagrams = socket.datagrams(&BufferPool::new(64));
        let mut next = || proactor.block_on(datagrams.next()).unwrap();
        assert_eq!(next().unwrap().unwrap_err().kind(), ErrorKind::Os);
        assert!(next().is_none());
    });
}

#[test]
fn a_handler_has_each_datagram_and_the_end_says_how_many() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let socket = Arc::new(socket);
        let (to, end) = mpsc::channel();
        let (echo, troubles) = (Arc::clone(&socket), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&troubles);
        let serving = socket.recv_each(&BufferPool::new(64), move |datagram| match datagram {
            Ok(datagram) => {
                let peer = datagram.peer();
                let sending = echo.send_to(datagram.into_buf(), peer);
                sending.then(|(sent, _)| assert!(sent.is_ok()));
            }
            Err(error) => {
                assert_names(&error, Kind::Receive, None, ECONNREFUSED);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let key = serving.then(move |ended| to.send(ended.unwrap_err()).unwrap());
        for number in 0..100 {
            peer.send_to(&numbered(number, number % 64), address)
                .unwrap();
            let mut buf = [0; 64];
            let (count, from) = peer.recv_from(&mut buf).unwrap();
            assert_eq!(
                (&buf[..count], from),
                (&numbered(number, number % 64)[..], address)
            );
        }
        socket.connect(nobodys()).unwrap();
        socket.send("anybody?").wait().0.unwrap();
        until("the handler is told", || {
            troubles.load(Ordering::SeqCst) == 1
        });
        proactor.port().cancel(key);
        let error = end.recv_timeout(SOON).unwrap();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(error.transferred(), 100);
        assert!(
            error.to_string().ends_with("(after 100 datagrams)"),
            "{error}"
        );
    });
}
