//! `http_server` and `axum_app` as their clients meet them: byte by byte where that matters, and by hyper's own client.
#![cfg(not(proactor_loom))]

#[path = "http/client.rs"]
mod client;
#[path = "http/files.rs"]
mod files;
#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;
#[path = "http/waits.rs"]
mod waits;

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use client::{Http2, ask, get, hangs_up, reply};
use hyper::Method;
use hyper::body::Bytes;
use process::{WATCHDOG, assert_fails, assert_helps, signal};
use serving::{Server, everywhere};

const HELLO: &str = "Hello, world!\n";

/// Bytes that tell where they stand.
fn pattern(length: u32) -> Vec<u8> {
    let byte = |i: u32| i.wrapping_mul(0x9E37_79B9).to_be_bytes()[0];
    (0..length).map(byte).collect()
}

#[test]
fn a_connection_takes_one_request_after_another_in_any_pieces_and_many_at_once() {
    everywhere(|arguments| {
        let server = Server::start("http_server", arguments);
        let client = &mut server.connect();
        client.set_nodelay(true).expect("no delay");
        for _ in 0..3 {
            let hello = get(client, "GET /");
            assert_eq!((hello.status, hello.text()), (200, HELLO));
        }
        for byte in b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" {
            client.write_all(&[*byte]).expect("to send");
        }
        let replies = &mut BufReader::new(client.try_clone().expect("a clone"));
        assert_eq!(reply(replies, false).expect("a reply").text(), HELLO);
        let (hello, other) = (
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        );
        let many = [hello, other].concat().repeat(200);
        client.write_all(many.as_bytes()).expect("to send");
        for number in 0..400 {
            let reply = reply(replies, false).expect("a reply to each");
            assert_eq!(reply.status, [200, 404][number % 2], "{number}: in order");
        }
        assert_eq!(get(client, "HEAD /").header("content-length"), Some("14"));
        assert_eq!(get(client, "DELETE /").header("allow"), Some("get, head"));
        assert_eq!(get(client, "GET /echo").header("allow"), Some("post, put"));
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .expect("to send");
        assert_eq!(reply(replies, false).expect("the last").text(), HELLO);
        assert!(reply(replies, false).is_none());
        server.end();
    });
}

#[test]
fn http_2_is_spoken_on_the_same_port_and_many_requests_at_once() {
    everywhere(|arguments| {
        let server = Server::start("http_server", arguments);
        let old = server.connect();
        let new = Http2::connect(server.address);
        let requests = (0..100_u32).map(|number| match number % 3 {
            0 => (Method::GET, "/", Bytes::new()),
            1 => (Method::POST, "/echo", pattern(number * 1000).into()),
            _ => (Method::PATCH, "/", Bytes::new()),
        });
        assert_eq!(get(&old, "GET /").text(), HELLO);
        for (number, (status, body)) in (0..).zip(new.ask_all(requests.collect())) {
            match number % 3 {
                0 => assert!(
                    status == 200 && body == HELLO,
                    "{number}: {status} {body:?}"
                ),
                1 => assert!(
                    status == 200 && body == pattern(number * 1000),
                    "{number}: {status}"
                ),
                _ => assert_eq!(status, 405, "{number}"),
            }
        }
        assert_eq!(get(&old, "GET /").text(), HELLO);
        server.end();
    });
}

#[test]
fn a_body_of_ten_megabytes_comes_back_byte_for_byte() {
    let body: Bytes = pattern(10_000_000).into();
    everywhere(|arguments| {
        let server = Server::start("http_server", arguments);
        let client = server.connect();
        let mut writer = client.try_clone().expect("a clone");
        let sent = body.clone();
        let writing = thread::spawn(move || {
            ask(&mut writer, "PUT /echo", &sent);
            let chunked = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            writer.write_all(chunked).expect("to send");
            for chunk in sent.chunks(100_001) {
                let head = format!("{:x}\r\n", chunk.len());
                writer.write_all(head.as_bytes()).expect("to send");
                writer.write_all(chunk).expect("to send");
                writer.write_all(b"\r\n").expect("to send");
            }
            writer.write_all(b"0\r\n\r\n").expect("to send");
        });
        let replies = &mut BufReader::new(client);
        for how in ["with a length", "in chunks"] {
            let reply = reply(replies, false).expect("a reply");
            assert!(
                reply.status == 200 && reply.body == body,
                "{how}: {}",
                reply.body.len()
            );
        }
        writing.join().expect("the writer");
        let two = vec![
            (Method::POST, "/echo", body.clone()),
            (Method::PUT, "/echo", body.clone()),
        ];
        for (status, back) in Http2::connect(server.address).ask_all(two) {
            assert!(status == 200 && back == body, "{status}, {}", back.len());
        }
        server.end();
    });
}

/// How many descriptors the process has open.
fn descriptors(server: &Server) -> usize {
    let directory = format!("/proc/{}/fd", server.pid());
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Looks until `condition` holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

#[test]
fn clients_that_die_in_the_middle_are_forgotten() {
    everywhere(|arguments| {
        let server = Server::start("http_server", arguments);
        let steady = server.connect();
        assert_eq!(get(&steady, "GET /").text(), HELLO);
        let before = descriptors(&server);
        for number in 0..60_u32 {
            let mut client = server.connect();
            let head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
            match number % 4 {
                0 => client.write_all(&head[..30]),
                1 => client.write_all(head),
                // What has come back is not read, so closing resets the connection.
                2 => client
                    .write_all(head)
                    .and_then(|()| client.write_all(&pattern(300_000))),
                _ => client
                    .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    .and_then(|()| client.shutdown(Shutdown::Write)),
            }
            .expect("to send");
        }
        assert_eq!(get(&steady, "GET /").text(), HELLO);
        if cfg!(target_os = "linux") {
            until("their descriptors are closed", || {
                descriptors(&server) <= before
            });
        }
        server.end();
    });
}

#[test]
fn a_client_that_is_too_slow_is_hung_up_on_and_one_at_work_is_not() {
    everywhere(|arguments| {
        let limit = ["--header-timeout", "0.3"];
        let server = Server::start("http_server", &[arguments, &limit].concat());
        let uploading = &mut server.connect();
        let head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab";
        uploading.write_all(head).expect("to send");
        let begin = Instant::now();
        let slow = ["", "G", "GET / HTTP/1.1\r\nhost: ", "PRI * HTTP/2"].map(|beginning| {
            let mut client = server.connect();
            client.write_all(beginning.as_bytes()).expect("to send");
            client
        });
        let mut idle = server.connect();
        assert_eq!(get(&idle, "GET /").text(), HELLO);
        for mut client in slow {
            hangs_up(&mut client);
        }
        hangs_up(&mut idle);
        assert!(begin.elapsed() >= Duration::from_millis(300), "too early");
        uploading.write_all(b"cd").expect("to send");
        let echoed = reply(&mut BufReader::new(&*uploading), false);
        assert_eq!(echoed.expect("an echo").text(), "abcd");
        server.end();
    });
}

/// Whether nobody accepts there any more. What was accepted late is hung up on, which is as good.
fn is_closed(server: &Server) -> bool {
    let connected = TcpStream::connect(server.address);
    connected.is_err()
}

#[test]
fn a_request_under_way_is_finished_before_the_end() {
    everywhere(|arguments| {
        let server = Server::start("http_server", arguments);
        let (mut idle, busy) = (server.connect(), &mut server.connect());
        assert_eq!(get(&idle, "GET /").text(), HELLO);
        let head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf";
        busy.write_all(head).expect("to send");
        let replies = &mut BufReader::new(busy.try_clone().expect("a clone"));
        peek(replies); // its reply has begun
        signal(server.pid(), "-TERM");
        hangs_up(&mut idle);
        until("nobody is accepted", || is_closed(&server));
        busy.write_all(b"done").expect("to send");
        assert_eq!(reply(replies, false).expect("all of it").text(), "halfdone");
        assert!(reply(replies, false).is_none(), "and then the end");
        server.ended();
    });
}

fn peek(from: &mut BufReader<TcpStream>) {
    use std::io::BufRead;
    assert!(!from.fill_buf().expect("bytes").is_empty());
}

#[test]
fn who_does_not_finish_in_the_time_of_grace_is_cut_off() {
    everywhere(|arguments| {
        let grace = ["--grace", "0.2"];
        let server = Server::start("http_server", &[arguments, &grace].concat());
        let client = &mut server.connect();
        let head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf";
        client.write_all(head).expect("to send");
        let replies = &mut BufReader::new(client.try_clone().expect("a clone"));
        peek(replies);
        server.end();
    });
}

#[test]
fn the_application_has_a_state_and_does_not_wait_for_long_work() {
    everywhere(|arguments| {
        let server = Server::start("axum_app", arguments);
        let client = &mut server.connect();
        assert_eq!(get(client, "GET /").text(), "Welcome, visitor 1!\n");
        let (status, body) = Http2::connect(server.address)
            .ask_all(vec![(Method::GET, "/", Bytes::new())])
            .remove(0);
        assert!(status == 200 && body == "Welcome, visitor 2!\n", "{body:?}");

        for note in ["first", "second"] {
            let text = format!("\"{note}\"");
            let head = "POST /notes HTTP/1.1\r\nhost: a\r\ncontent-type: application/json";
            let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            client.write_all(request.as_bytes()).expect("to send");
            let reply = reply(&mut BufReader::new(&*client), false);
            assert_eq!(reply.expect("a reply").status, 201);
        }
        assert_eq!(get(client, "GET /notes").text(), "[\"second\",\"first\"]");

        // Counted by its own thread: with one thread for handlers, others are served meanwhile.
        let other = server.connect();
        client
            .write_all(b"GET /primes/3000000 HTTP/1.1\r\nhost: a\r\n\r\n")
            .expect("to send");
        for _ in 0..10 {
            assert_eq!(get(&other, "GET /notes").status, 200);
        }
        let counted = reply(&mut BufReader::new(&*client), false).expect("a reply");
        assert_eq!(counted.text(), "216816\n");
        for (path, status) in [
            ("/primes/many", 400),
            ("/primes/200000000", 400),
            ("/x", 404),
        ] {
            assert_eq!(get(client, &format!("GET {path}")).status, status, "{path}");
        }
        assert_eq!(get(client, "DELETE /notes").status, 405);
        for (below, count) in [(0, "0\n"), (2, "0\n"), (3, "1\n"), (100, "25\n")] {
            assert_eq!(get(client, &format!("GET /primes/{below}")).text(), count);
        }
        server.end();
    });
}

#[test]
fn they_help_and_refuse_bad_input_in_one_line() {
    for name in ["http_server", "axum_app"] {
        let flags = [
            "--addr",
            "--strategy",
            "--threads",
            "--backend",
            "--header-timeout",
            "--grace",
        ];
        assert_helps(name, &flags);
        assert_fails(name, &["--strategy", "magic"], 2, "work-stealing");
        assert_fails(name, &["--header-timeout", "soon"], 2, "86400");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address").to_string();
        assert_fails(name, &["--addr", &address], 1, "another port");
    }
}
