//! Datagrams over real sockets: whole, in order, none lost that came, whatever is cancelled or dropped meanwhile.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

#[path = "datagrams/cancelled.rs"]
mod cancelled;
mod common;
#[path = "datagrams/series.rs"]
mod series;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;

use common::{SOON, any_port, everywhere, until};
use proactor::net::{Datagram, UdpSocket};
use proactor::{BufferPool, Error, ErrorKind, Kind, Proactor};
use rustix::io::Errno;

/// Bytes that can be told from any others by their number, `len` of them.
fn numbered(number: usize, len: usize) -> Vec<u8> {
    let number = number.to_le_bytes();
    number.into_iter().cycle().take(len).collect()
}

fn bind(proactor: &Proactor, address: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(proactor, address).expect("a port on loopback");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

/// A socket of the proactor's, its address, and a peer that is not the proactor's.
fn socket_and_peer(proactor: &Proactor) -> (UdpSocket, SocketAddr, StdSocket) {
    let (socket, address) = bind(proactor, any_port());
    let peer = StdSocket::bind(any_port()).expect("a port on loopback");
    peer.set_read_timeout(Some(SOON)).expect("a read timeout");
    (socket, address, peer)
}

/// The next datagram, with room for 64 bytes.
fn next(socket: &UdpSocket) -> Datagram {
    let received = socket.recv_from_with(&BufferPool::new(64)).timeout(SOON);
    received.wait().expect("a datagram")
}

/// An address at which nobody receives any more.
fn nobodys() -> SocketAddr {
    let gone = StdSocket::bind(any_port()).expect("a port on loopback");
    gone.local_addr().expect("its address")
}

/// What an error of `operation` says: the address, and what the system said.
fn assert_names(error: &Error, operation: Kind, address: Option<SocketAddr>, errno: i32) {
    let told = (error.operation(), error.address(), error.raw_os_error());
    assert_eq!(told, (operation, address, Some(errno)), "{error}");
}

const EMSGSIZE: i32 = Errno::MSGSIZE.raw_os_error();
const ECONNREFUSED: i32 = Errno::CONNREFUSED.raw_os_error();

#[test]
fn datagrams_go_there_and_back_by_handler_future_and_wait() {
    everywhere(|setup| {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let proactor = setup.build();
            let host: SocketAddr = host.parse().unwrap();
            let ((one, here), (other, there)) = (bind(&proactor, host), bind(&proactor, host));
            // By handler.
            let (to, end) = mpsc::channel();
            one.send_to("handler", there)
                .then(|(sent, _)| assert_eq!(sent.unwrap(), 7));
            let received = other.recv_from(Vec::with_capacity(64));
            received.then(move |(result, buf)| to.send((result.unwrap(), buf)).unwrap());
            proactor.run();
            assert_eq!(end.recv().unwrap(), ((7, here), b"handler".to_vec()));
            // By waiting.
            assert_eq!(other.send_to("wait", here).wait().0.unwrap(), 4);
            let (result, buf) = one.recv_from([0; 64]).timeout(SOON).wait();
            assert_eq!((result.unwrap(), &buf[..4]), ((4, there), &b"wait"[..]));
            // As a future, between two that are connected.
            one.connect(there).unwrap();
            other.connect(here).unwrap();
            assert_eq!(
                (one.peer_addr().unwrap(), other.peer_addr().unwrap()),
                (there, here)
            );
            let answer = proactor.block_on(async {
                one.send("future").await.0?;
                let question = other.recv_from_with(&BufferPool::new(64)).await?;
                assert_eq!((&question[..], question.peer()), (&b"future"[..], here));
                other.send(question.into_buf()).await.0?;
                one.recv_from_with(&BufferPool::new(64)).await
            });
            let answer = answer.unwrap().unwrap();
            assert_eq!((&answer[..], answer.peer()), (&b"future"[..], there));
            assert!(!answer.is_truncated());
            assert_eq!(proactor.port().outstanding(), 0);
        }
    });
}

#[test]
fn receives_that_wait_get_one_whole_datagram_each_in_order() {
    const LENGTHS: [usize; 8] = [9, 0, 1472, 1, 0, 20_000, 65_507, 8];
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let (to, ends) = mpsc::channel();
        for number in 0..LENGTHS.len() {
            let to = to.clone();
            let received = socket.recv_from(Vec::with_capacity(65_536));
            received.then(move |output| to.send((number, output)).unwrap());
        }
        drop(to);
        for (number, len) in LENGTHS.into_iter().enumerate() {
            peer.send_to(&numbered(number, len), address).unwrap();
        }
        proactor.run();
        let mut ends: Vec<_> = ends.iter().collect();
        ends.sort_by_key(|(number, _)| *number); // handlers run on several threads
        assert_eq!(ends.len(), LENGTHS.len());
        for (number, (result, buf)) in ends {
            let expected = (LENGTHS[number], peer.local_addr().unwrap());
            assert_eq!(result.unwrap(), expected);
            assert!(
                buf == numbered(number, LENGTHS[number]),
                "datagram {number}"
            );
        }
    });
}

#[test]
fn what_was_sent_before_it_is_received_is_there_in_order_with_its_sender() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let (other, other_address) = bind(&proactor, any_port());
        for number in 0..20 {
            peer.send_to(&numbered(number, 9), address).unwrap();
            let sent = other.send_to(numbered(number, 10), address).wait();
            assert_eq!(sent.0.unwrap(), 10);
        }
        for number in 0..20 {
            let (first, second) = (next(&socket), next(&socket));
            let senders = (first.peer(), second.peer());
            assert_eq!(senders, (peer.local_addr().unwrap(), other_address));
            assert_eq!(*first, numbered(number, 9));
            assert_eq!(*second, numbered(number, 10));
        }
    });
}

#[test]
fn an_empty_datagram_is_one_in_both_directions() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let peer_address = peer.local_addr().unwrap();
        assert_eq!(socket.send_to("", peer_address).wait().0.unwrap(), 0);
        assert_eq!(peer.recv_from(&mut [0; 8]).unwrap(), (0, address));
        for _ in 0..3 {
            peer.send_to(&[], address).unwrap();
        }
        let (result, buf) = socket.recv_from(vec![1, 2]).timeout(SOON).wait();
        assert_eq!((result.unwrap(), buf), ((0, peer_address), Vec::new()));
        let empty = next(&socket);
        assert_eq!((empty.len(), empty.peer()), (0, peer_address));
        assert!(!empty.is_truncated());
        socket.connect(peer_address).unwrap();
        assert_eq!(socket.send(empty.into_buf()).wait().0.unwrap(), 0);
        assert_eq!(peer.recv_from(&mut [0; 8]).unwrap(), (0, address));
        // An empty buffer takes one: the third, and then one that has bytes. It waits if there is none.
        let (result, _) = socket.recv_from(Vec::new()).timeout(SOON).wait();
        assert_eq!(result.unwrap(), (0, peer_address));
        peer.send_to(b"gone", address).unwrap();
        let (result, _) = socket.recv_from(Vec::new()).timeout(SOON).wait();
        assert_eq!(result.unwrap(), (0, peer_address));
        let (result, _) = socket
            .recv_from([0; 0])
            .timeout(std::time::Duration::from_millis(5))
            .wait();
        assert!(result.unwrap_err().is_timeout());
    });
}

#[test]
fn what_has_no_room_is_lost_and_the_next_is_whole() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        for len in [10, 9, 10, 9, 8] {
            peer.send_to(&numbered(len, len), address).unwrap();
        }
        let pool = BufferPool::new(9);
        for (len, truncated) in [(10, true), (9, false)] {
            let datagram = socket.recv_from_with(&pool).timeout(SOON).wait().unwrap();
            assert_eq!(*datagram, numbered(len, 9));
            assert_eq!(datagram.is_truncated(), truncated, "{datagram:?}");
        }
        for (len, count) in [(10, 9), (9, 9), (8, 8)] {
            let (result, buf) = socket.recv_from([0; 9]).timeout(SOON).wait();
            assert_eq!(result.unwrap().0, count);
            assert_eq!(buf[..count], numbered(len, count));
        }
    });
}

#[test]
fn what_is_too_long_for_a_datagram_is_an_error_with_the_address_and_the_buffer_comes_back() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        let (result, buf) = socket.send_to(vec![7; 65_508], address).wait();
        let error = result.unwrap_err();
        assert_names(&error, Kind::Send, Some(address), EMSGSIZE);
        assert!(
            error.to_string().starts_with(&format!("send {address}: ")),
            "{error}"
        );
        assert!(buf == [7; 65_508]);
        socket.connect(peer.local_addr().unwrap()).unwrap();
        let (result, buf) = socket.send(vec![7; 65_508]).wait();
        assert_names(&result.unwrap_err(), Kind::Send, None, EMSGSIZE);
        assert_eq!(buf.len(), 65_508);
        assert_eq!(socket.send("short").wait().0.unwrap(), 5, "and it goes on");
    });
}

#[test]
fn a_connected_socket_is_told_that_nobody_is_there_and_goes_on() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address, peer) = socket_and_peer(&proactor);
        socket.connect(nobodys()).unwrap();
        // Whether it waits before the news comes, or comes after it.
        let (to, end) = mpsc::channel();
        let received = socket.recv_from_with(&BufferPool::new(64));
        received.then(move |output| to.send(output).unwrap());
        socket.send("anybody?").wait().0.unwrap();
        proactor.run();
        let error = end.recv().unwrap().unwrap_err();
        assert_names(&error, Kind::Receive, None, ECONNREFUSED);
        socket.send("anybody?").wait().0.unwrap();
        let error = socket.recv_from([0; 8]).timeout(SOON).wait().0.unwrap_err();
        assert_names(&error, Kind::Receive, None, ECONNREFUSED);
        // Another peer takes the place, and is the only one from now on.
        let stranger = StdSocket::bind(any_port()).unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        stranger.send_to(b"not connected", address).unwrap();
        peer.send_to(b"here", address).unwrap();
        assert_eq!(*next(&socket), *b"here");
    });
}

#[test]
fn errors_name_what_was_done_and_the_address() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (socket, address) = bind(&proactor, any_port());
        let error = UdpSocket::bind(&proactor, address).expect_err("it is in use");
        assert_eq!(
            (error.operation(), error.address()),
            (Kind::Bind, Some(address))
        );
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        let error = socket.connect(v6).expect_err("of another family");
        assert_eq!(
            (error.operation(), error.address()),
            (Kind::Connect, Some(v6))
        );
        let error = socket
            .send_to("", v6)
            .wait()
            .0
            .expect_err("of another family");
        assert_eq!((error.operation(), error.address()), (Kind::Send, Some(v6)));
        let error = socket.send("").wait().0.expect_err("to nobody");
        assert_eq!(
            (error.operation(), error.kind()),
            (Kind::Send, ErrorKind::Os)
        );
        let error = socket.peer_addr().expect_err("it has none");
        assert_eq!(
            (error.operation(), error.kind()),
            (Kind::Address, ErrorKind::Os)
        );
        proactor.port().clone().close();
        let std = StdSocket::bind(any_port()).unwrap();
        let address = std.local_addr().unwrap();
        let error = UdpSocket::from_std(&proactor, std).expect_err("the port is closed");
        assert_eq!(
            (error.kind(), error.address()),
            (ErrorKind::Closed, Some(address))
        );
    });
}

/// Linux's datagram sockets of the Unix family have little room, and say so.
#[test]
fn a_send_waits_for_room_and_goes_on_in_order() {
    const SENT: usize = 100;
    const LEN: usize = 16 << 10;
    everywhere(|setup| {
        let proactor = setup.build();
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let socket = StdSocket::from(OwnedFd::from(ours));
        let socket = UdpSocket::from_std(&proactor, socket).unwrap();
        let (to, ends) = mpsc::channel();
        for number in 0..SENT {
            let to = to.clone();
            let sending = socket.send(numbered(number, LEN));
            sending.then(move |(result, buf)| to.send((result, buf)).unwrap());
        }
        let key = socket.send("never sent").then(|(result, _)| {
            assert!(result.unwrap_err().is_cancelled());
        });
        drop(to);
        proactor.poll();
        let full = ends.try_iter().count();
        assert!(full < SENT, "all of {SENT} had room at once");
        proactor.port().cancel(key);
        proactor.start().unwrap();
        theirs.set_read_timeout(Some(SOON)).unwrap();
        for number in 0..SENT {
            let mut buf = vec![0; 2 * LEN];
            assert_eq!(theirs.recv(&mut buf).unwrap(), LEN);
            assert!(buf[..LEN] == numbered(number, LEN), "datagram {number}");
        }
        assert_eq!(ends.iter().count(), SENT - full);
        theirs.set_nonblocking(true).unwrap();
        assert!(
            theirs.recv(&mut [0; 32]).is_err(),
            "what was cancelled was sent"
        );
        // The other way its sender has no address of the internet, which is an error and not a lie.
        theirs.send(b"hello").unwrap();
        let error = socket.recv_from([0; 8]).timeout(SOON).wait().0.unwrap_err();
        assert_eq!(
            (error.operation(), error.kind()),
            (Kind::Receive, ErrorKind::Os)
        );
        until("nothing is outstanding", || {
            proactor.port().outstanding() <= 1
        });
    });
}
