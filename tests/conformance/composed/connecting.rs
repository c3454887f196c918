//! Several addresses: promise 42.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use proactor::ErrorKind;
use proactor::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::common::{Setup, any_port, everywhere};

/// An address at which nobody listens.
fn gone() -> SocketAddr {
    let listener = StdListener::bind(any_port()).unwrap();
    listener.local_addr().unwrap()
}

/// A listener whose queue is full, so that a connection to it neither fails nor comes about.
fn silent() -> (StdListener, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any_port().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let fill = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address);
        client
    };
    let clients = (0..8).map(|_| fill()).collect();
    (socket.into(), clients)
}

fn in_order(setup: Setup) {
    let proactor = setup.build();
    let listeners: [_; 2] = std::array::from_fn(|_| StdListener::bind(any_port()).unwrap());
    let addresses = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let all = [gone(), addresses[0], addresses[1]];
    let stream = TcpStream::connect_any(&proactor, all).wait().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[0]);
    listeners[1].set_nonblocking(true).unwrap();
    let none = listeners[1].accept().unwrap_err();
    assert_eq!(
        none.kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody went on"
    );
    let (first, last) = (gone(), gone());
    let error = TcpStream::connect_any(&proactor, [first, last])
        .wait()
        .unwrap_err();
    assert_eq!(error.address(), Some(last));
    assert!(
        error.to_string().starts_with(&format!("connect {last}: ")),
        "{error}"
    );
    let error = TcpStream::connect_any(&proactor, []).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoAddress);
    assert_eq!(error.to_string(), "connect: there is no address to try");
}

/// Cancelled in the middle it tries no further.
fn until_it_is_ended(setup: Setup) {
    let proactor = setup.build();
    let (silent, _clients) = silent();
    let listener = StdListener::bind(any_port()).unwrap();
    let address = silent.local_addr().unwrap();
    let addresses = [address, listener.local_addr().unwrap()];
    let limit = Duration::from_millis(20);
    let begin = Instant::now();
    let connecting = TcpStream::connect_any(&proactor, addresses).timeout(limit);
    let error = connecting.wait().unwrap_err();
    assert!(error.is_timeout() && begin.elapsed() >= limit, "{error}");
    assert_eq!(error.address(), Some(address));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it went on");
}

#[test]
fn p42_connect_tries_addresses_in_order_and_reports_the_last_error() {
    everywhere(in_order);
    everywhere(until_it_is_ended);
}
