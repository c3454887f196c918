//! Bytes over real sockets, beside what `tests/conformance` has: many of them, none lost, none doubled; odd peers and sockets.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::sync::mpsc;
use std::thread;

use common::{Random, SOON, Setup, any_port, everywhere, everywhere_once, pair};
use proactor::net::{TcpListener, TcpStream};
use proactor::{ErrorKind, Proactor};

// ---- an echo server, and 64 megabytes through it ----

const CONNECTIONS: usize = 64;
const MEGABYTE: usize = 1 << 20;

/// Echoes until the end of the stream, then ends its own direction. Reads of random sizes.
fn echo(stream: TcpStream, mut random: Random) {
    let buf = Vec::with_capacity(random.within(1, 32 * 1024));
    stream.read(buf).then(move |(result, buf)| {
        if result.expect("a read") == 0 {
            let end = stream.shutdown(Shutdown::Write);
            end.then(move |result| {
                result.expect("a shutdown");
                drop(stream);
            });
            return;
        }
        stream.write_all(buf).then(move |(result, buf)| {
            assert_eq!(result.expect("a write"), buf.len());
            echo(stream, random);
        });
    });
}

fn serve(listener: TcpListener, left: usize, mut random: Random) {
    if left == 0 {
        return;
    }
    listener.accept().then(move |result| {
        let (stream, _) = result.expect("a connection");
        echo(stream, random.fork());
        serve(listener, left - 1, random);
    });
}

/// Sends `data` in random segments, ends its direction, and checks that just this comes back.
fn send_and_check(address: SocketAddr, data: &[u8], mut random: Random) {
    let mut reader = StdStream::connect(address).expect("a connection");
    reader.set_read_timeout(Some(SOON)).expect("a read timeout");
    let mut writer = reader.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = data;
            while !left.is_empty() {
                let (segment, rest) = left.split_at(random.within(1, 64 * 1024).min(left.len()));
                writer.write_all(segment).expect("a segment sent");
                left = rest;
            }
            writer.shutdown(Shutdown::Write).expect("a half-close");
        });
        let mut back = Vec::with_capacity(data.len());
        reader.read_to_end(&mut back).expect("the echo");
        assert_eq!(back.len(), data.len(), "bytes lost or doubled");
        assert!(back == data, "the echo is not what was sent");
    });
}

fn echo_64_megabytes(setup: Setup) {
    let mut random = Random::new();
    let proactor = setup.build();
    let listener = TcpListener::bind(&proactor, any_port()).expect("a listener");
    let address = listener.local_addr().expect("its address");
    serve(listener, CONNECTIONS, random.fork());
    let block = random.bytes(MEGABYTE + CONNECTIONS);
    thread::scope(|scope| {
        for start in 0..CONNECTIONS {
            let random = random.fork();
            let data = &block[start..start + MEGABYTE];
            scope.spawn(move || send_and_check(address, data, random));
        }
        proactor.run();
    });
    assert_eq!(proactor.port().outstanding(), 0);
}

#[test]
fn no_byte_of_64_connections_is_lost_or_changed() {
    everywhere_once(echo_64_megabytes);
}

// ---- composed operations ----

#[test]
fn write_all_and_read_exact_carry_on_after_short_counts() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let ((out, mut sink), (input, mut source)) = (pair(&proactor), pair(&proactor));
        let data = random.bytes(4 * MEGABYTE);
        let expected = data.clone();
        out.write_all(data.clone()).then(move |(result, buf)| {
            assert_eq!(result.unwrap(), buf.len());
            drop(out);
        });
        let mut received = Vec::new();
        input
            .read_exact(vec![0; MEGABYTE].into_boxed_slice())
            .then(move |(result, buf)| {
                assert_eq!(result.unwrap(), MEGABYTE);
                assert!(*buf == expected[..MEGABYTE], "read_exact mixed bytes up");
                drop(input);
            });
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut left = &data[..MEGABYTE];
                while !left.is_empty() {
                    let (segment, rest) = left.split_at(random.within(1, 9000).min(left.len()));
                    source.write_all(segment).unwrap();
                    left = rest;
                }
            });
            scope.spawn(|| sink.read_to_end(&mut received).unwrap());
            assert_eq!(proactor.run(), 2);
        });
        assert!(received == data, "write_all mixed bytes up");
    });
}

#[test]
fn read_exact_says_how_far_it_got_before_the_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(b"seven b").unwrap();
        drop(client);
        stream
            .read_exact(Vec::with_capacity(100))
            .then(|(result, buf)| {
                let error = result.unwrap_err();
                assert_eq!(
                    (error.kind(), error.transferred()),
                    (ErrorKind::UnexpectedEof, 7)
                );
                assert_eq!(buf, b"seven b");
            });
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn a_write_to_a_peer_that_resets_ends_with_the_systems_error() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, client) = pair(&proactor);
        stream
            .write_all(vec![7; 16 * MEGABYTE])
            .then(|(result, buf)| {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Os);
                assert!(error.raw_os_error().is_some());
                assert!(error.transferred() < buf.len());
                assert_eq!(buf.len(), 16 * MEGABYTE);
            });
        // With bytes unread, closing resets.
        drop(client);
        assert_eq!(proactor.run(), 1);
    });
}

// ---- halves, accepts, other sockets ----

#[test]
fn two_threads_use_the_two_halves() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (reader, writer) = stream.into_split();
        let data = random.bytes(MEGABYTE);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buf = [0; 8192];
                let mut back = client.try_clone().unwrap();
                loop {
                    let count = client.read(&mut buf).unwrap();
                    if count == 0 {
                        break;
                    }
                    back.write_all(&buf[..count]).unwrap();
                }
                back.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(|| {
                for part in data.chunks(10_000) {
                    let (result, _) = writer.write_all(part.to_vec()).wait();
                    assert_eq!(result.unwrap(), part.len());
                }
                writer.shutdown().wait().unwrap();
                drop(writer);
            });
            let mut received = Vec::new();
            let mut buf = Vec::with_capacity(8192);
            loop {
                let result;
                (result, buf) = reader.read(buf).wait();
                if result.unwrap() == 0 {
                    break;
                }
                received.extend_from_slice(&buf);
            }
            assert!(received == data);
        });
    });
}

#[test]
fn each_waiting_accept_takes_one_connection() {
    everywhere(|setup| {
        let proactor = setup.build();
        let listener = TcpListener::bind(&proactor, any_port()).unwrap();
        let (to, accepted) = mpsc::channel();
        for _ in 0..8 {
            let to = to.clone();
            listener.accept().then(move |result| {
                let (stream, peer) = result.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), peer);
                to.send(peer).unwrap();
            });
        }
        drop(to);
        assert_eq!(proactor.poll(), 0);
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..8)
            .map(|_| StdStream::connect(address).unwrap())
            .collect();
        assert_eq!(proactor.run(), 8);
        let mut accepted: Vec<_> = accepted.iter().collect();
        let mut expected: Vec<_> = clients
            .iter()
            .map(|client| client.local_addr().unwrap())
            .collect();
        accepted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(accepted, expected);
    });
}

#[test]
fn a_refused_connection_says_to_where() {
    everywhere(|setup| {
        let proactor = setup.build();
        let gone = std::net::TcpListener::bind(any_port())
            .unwrap()
            .local_addr()
            .unwrap();
        TcpStream::connect(&proactor, gone).then(move |result| {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.address()), (ErrorKind::Os, Some(gone)));
            assert!(
                error.to_string().starts_with(&format!("connect {gone}: ")),
                "{error}"
            );
        });
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn an_address_in_use_is_said_to_be() {
    let proactor = Proactor::builder().build().unwrap();
    let first = TcpListener::bind(&proactor, any_port()).unwrap();
    let address = first.local_addr().unwrap();
    let error = TcpListener::bind(&proactor, address).unwrap_err();
    assert_eq!(error.address(), Some(address));
    assert!(
        error.to_string().starts_with(&format!("bind {address}: ")),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_pair_of_unix_sockets_serves_as_a_stream() {
    everywhere(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let one = TcpStream::from_fd(&proactor, one.into()).unwrap();
        let other = TcpStream::from_fd(&proactor, other.into()).unwrap();
        assert!(one.peer_addr().is_err(), "no internet address");
        let data = random.bytes(2 * MEGABYTE);
        let expected = data.clone();
        one.write_all(data).then(move |(result, _)| {
            assert_eq!(result.unwrap(), 2 * MEGABYTE);
            drop(one);
        });
        let read = other.read_exact(Vec::with_capacity(2 * MEGABYTE));
        read.then(move |(result, buf)| {
            assert_eq!(result.unwrap(), 2 * MEGABYTE);
            assert!(buf == expected);
            let end = other.read([0; 8]);
            end.then(move |(result, _)| {
                assert_eq!(result.unwrap(), 0);
                drop(other);
            });
        });
        assert_eq!(proactor.run(), 3);
    });
}
