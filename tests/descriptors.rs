//! Connections that reset leave no descriptor behind. Alone in its binary: it counts what the process has open.
#![cfg(all(target_os = "linux", not(proactor_loom)))]

mod common;

use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};

use common::{Setup, any_port, everywhere_once, until};
use proactor::net::{TcpListener, TcpStream};
use socket2::SockRef;

const RESETS: usize = 1000;
/// How many connections are open at once.
const AT_ONCE: usize = 50;

fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux lists them");
    // One is the listing's own.
    open.count() - 1
}

fn serve(listener: TcpListener) {
    listener.accept().then(move |result| {
        // A connection that was reset before it was accepted may be an error; the listener goes on.
        if let Ok((stream, _)) = result {
            read(stream, Vec::with_capacity(256));
        }
        if listener.local_addr().is_ok() {
            serve(listener);
        }
    });
}

/// Reads to the end, or to the reset, with a write pending besides.
fn read(stream: TcpStream, buf: Vec<u8>) {
    stream.read(buf).then(move |(result, buf)| {
        if result.is_ok_and(|count| count > 0) {
            stream.write_all("some").then(|_| ());
            read(stream, buf);
        }
    });
}

/// Connects, sends in every other case, and resets.
fn reset(address: SocketAddr, number: usize) {
    let mut clients = Vec::with_capacity(AT_ONCE);
    for _ in 0..AT_ONCE {
        clients.push(StdStream::connect(address).expect("a connection"));
    }
    for (at, mut client) in clients.into_iter().enumerate() {
        if (at + number) % 2 == 0 {
            std::io::Write::write_all(&mut client, b"bytes").expect("bytes sent");
        }
        let linger = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        linger.expect("a close that resets");
    }
}

fn resets(setup: Setup) {
    let before = descriptors();
    let proactor = setup.build();
    let listener = TcpListener::bind(&proactor, any_port()).expect("a listener");
    let address = listener.local_addr().expect("its address");
    serve(listener);
    proactor.start().expect("threads");
    let idle = descriptors();
    for number in 0..RESETS / AT_ONCE {
        reset(address, number);
    }
    // Only the listener's accept and the start's guard are outstanding.
    until("every connection has ended", || {
        proactor.port().outstanding() == 2 && descriptors() == idle
    });
    let report = proactor.shutdown(Instant::now());
    assert_eq!(report.left, 0);
    drop(proactor);
    assert_eq!(descriptors(), before, "the proactor itself left some");
}

#[test]
fn a_thousand_connections_that_reset_leave_no_descriptor_behind() {
    everywhere_once(resets);
}
