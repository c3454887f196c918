//! `mini_redis` as its clients meet it, byte by byte.
#![cfg(not(proactor_loom))]

#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use process::{WATCHDOG, assert_fails, assert_helps};
use serving::{Server, everywhere};

/// A request as clients send it.
fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

fn hears(client: &mut TcpStream, wanted: &str) {
    let mut heard = vec![0; wanted.len()];
    client.read_exact(&mut heard).expect("a reply");
    assert_eq!(String::from_utf8_lossy(&heard), wanted);
}

/// Sends a line's words, and expects that reply.
fn asks(client: &mut TcpStream, line: &str, wanted: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    client.write_all(&request(&words)).expect("to send");
    println!("{line}"); // shown when it fails
    hears(client, wanted);
}

fn hangs_up(client: &mut TcpStream) {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn each_command_answers_as_redis_does() {
    everywhere(|arguments| {
        let server = Server::start("mini_redis", arguments);
        let client = &mut server.connect();
        for (line, wanted) in [
            ("PING", "+PONG\r\n"),
            ("ping hello", "$5\r\nhello\r\n"),
            ("ECHO hello", "$5\r\nhello\r\n"),
            ("GET a", "$-1\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("get a", "$1\r\n1\r\n"),
            ("INCR a", ":2\r\n"),
            ("INCR fresh", ":1\r\n"),
            ("TTL a", ":-1\r\n"),
            ("TTL none", ":-2\r\n"),
            ("SET a b EX 100", "+OK\r\n"),
            ("TTL a", ":100\r\n"),
            ("SET a b px 99600", "+OK\r\n"),
            ("TTL a", ":100\r\n"),
            ("SET a c", "+OK\r\n"),
            ("TTL a", ":-1\r\n"),
            ("EXPIRE a 50", ":1\r\n"),
            ("EXPIRE none 50", ":0\r\n"),
            ("TTL a", ":50\r\n"),
            ("MGET a none fresh", "*3\r\n$1\r\nc\r\n$-1\r\n$1\r\n1\r\n"),
            ("EXPIRE a 0", ":1\r\n"),
            ("GET a", "$-1\r\n"),
            ("DEL fresh none", ":1\r\n"),
            ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
            ("CONFIG GET magic", "*0\r\n"),
            ("COMMAND DOCS", "*0\r\n"),
        ] {
            asks(client, line, wanted);
        }
        asks(client, "QUIT", "+OK\r\n");
        hangs_up(client);
        server.end();
    });
}

#[test]
fn what_cannot_be_done_is_an_error_and_the_connection_goes_on() {
    let server = Server::start("mini_redis", &[]);
    let client = &mut server.connect();
    let not_a_number = "-ERR value is not an integer or out of range\r\n";
    asks(client, "SET word abc", "+OK\r\n");
    asks(client, "SET most 9223372036854775807", "+OK\r\n");
    for (line, wanted) in [
        ("INCR word", not_a_number),
        (
            "INCR most",
            "-ERR increment or decrement would overflow\r\n",
        ),
        ("SET a b EX ten", not_a_number),
        (
            "SET a b EX 0",
            "-ERR invalid expire time in 'set' command\r\n",
        ),
        (
            "SET a b EX 9223372036854775807",
            "-ERR invalid expire time in 'set' command\r\n",
        ),
        ("SET a b NX", "-ERR syntax error\r\n"),
        (
            "SET a",
            "-ERR wrong number of arguments for 'set' command\r\n",
        ),
        (
            "GET",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        ("EXPIRE word soon", not_a_number),
        (
            "EXPIRE word 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        ("EXPIRE word 1 NX", "-ERR Unsupported option NX\r\n"),
        ("CONFIG SET save no", "-ERR CONFIG has GET only here\r\n"),
        (
            "LPUSH list a\r\nb",
            "-ERR unknown command 'LPUSH', with args beginning with: 'list' 'ab' \r\n",
        ),
        ("GET a", "$-1\r\n"),
    ] {
        asks(client, line, wanted);
    }
    server.end();
}

#[test]
fn who_cannot_be_understood_is_told_why_and_hung_up_on() {
    let server = Server::start("mini_redis", &[]);
    let mut endless = vec![b'x'; 70_000];
    endless[0] = b'*';
    let long_line = vec![b'x'; 70_000];
    let nested = b"*1\r\n".repeat(10_000);
    for (input, why) in [
        (&b"*a\r\n"[..], "invalid multibulk length"),
        (b"*99999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$'"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$999999999\r\n", "invalid bulk length"),
        (
            b"*1\r\n$1\r\nabc",
            "expected a line's end after a bulk string",
        ),
        (&nested, "expected '$'"),
        (&endless, "too big a line"),
        (&long_line, "too big a line"),
    ] {
        let client = &mut server.connect();
        // It may hang up before all has come, and then even a reply may be lost: the kernel resets the connection.
        let _ = client.write_all(&request(&["PING"]));
        hears(client, "+PONG\r\n");
        let sent = client.write_all(input);
        let mut heard = String::new();
        match client.read_to_string(&mut heard) {
            Ok(_) => assert_eq!(heard, format!("-ERR Protocol error: {why}\r\n")),
            Err(error) => assert!(input.len() > 10_000, "{why}: {error}, {sent:?}"),
        }
    }
    asks(&mut server.connect(), "PING", "+PONG\r\n"); // and goes on with the others
    server.end();
}

#[test]
fn requests_may_come_in_any_pieces_and_many_at_once() {
    everywhere(|arguments| {
        let server = Server::start("mini_redis", arguments);
        let client = &mut server.connect();
        client.set_nodelay(true).expect("no delay");
        let value = "v".repeat(300);
        for byte in request(&["SET", "key", &value]) {
            client.write_all(&[byte]).expect("to send");
        }
        hears(client, "+OK\r\n");
        client
            .write_all(b"PING\r\n  GET   key \nPING\r\n\r\n")
            .expect("to send"); // as by hand
        hears(client, &format!("+PONG\r\n$300\r\n{value}\r\n+PONG\r\n"));

        // More than all buffers on the way hold, in both directions.
        let large = "w".repeat(1 << 20);
        asks(client, &format!("SET large {large}"), "+OK\r\n");
        let many = request(&["MGET", "large", "key"]).repeat(50);
        let wanted = format!("*2\r\n${}\r\n{large}\r\n$300\r\n{value}\r\n", large.len());
        let mut writer = client.try_clone().expect("a clone");
        let writing = thread::spawn(move || writer.write_all(&many).expect("to send"));
        for _ in 0..50 {
            hears(client, &wanted);
        }
        writing.join().expect("the writer");
        client.shutdown(Shutdown::Write).expect("to end");
        hangs_up(client);
        server.end();
    });
}

#[test]
fn a_value_goes_when_its_time_is_over_and_not_before() {
    everywhere(|arguments| {
        let server = Server::start("mini_redis", arguments);
        let client = &mut server.connect();
        let begin = Instant::now();
        asks(client, "SET short x PX 60", "+OK\r\n");
        asks(client, "SET kept x PX 30", "+OK\r\n");
        asks(client, "SET kept y", "+OK\r\n"); // and its life with it
        asks(client, "SET longer x PX 30", "+OK\r\n");
        asks(client, "EXPIRE longer 1000", ":1\r\n");
        loop {
            client
                .write_all(&request(&["GET", "short"]))
                .expect("to send");
            let mut heard = [0; 5];
            client.read_exact(&mut heard).expect("a reply");
            if &heard == b"$-1\r\n" {
                break;
            }
            assert!(begin.elapsed() < WATCHDOG, "it stays");
            hears(client, "\r\n");
        }
        assert!(begin.elapsed() >= Duration::from_millis(60));
        asks(client, "GET kept", "$1\r\ny\r\n");
        asks(client, "GET longer", "$1\r\nx\r\n");
        server.end();
    });
}

#[test]
fn clients_count_together_and_nothing_is_counted_twice() {
    everywhere(|arguments| {
        let server = Server::start("mini_redis", arguments);
        let counting = (0..8).map(|_| {
            let mut client = server.connect();
            thread::spawn(move || {
                client
                    .write_all(&request(&["INCR", "n"]).repeat(500))
                    .expect("to send");
                let mut replies = String::new();
                client.shutdown(Shutdown::Write).expect("to end");
                client.read_to_string(&mut replies).expect("the replies");
                let numbers = replies
                    .lines()
                    .map(|line| line[1..].parse::<u64>().expect("a number"));
                numbers.collect::<Vec<_>>()
            })
        });
        let counting: Vec<_> = counting.collect();
        let mut all: Vec<u64> = Vec::new();
        for client in counting {
            let numbers = client.join().expect("a client");
            assert!(numbers.is_sorted(), "a client's own come in order");
            all.extend(numbers);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(1..=4000));
        server.end();
    });
}

#[test]
fn it_helps_and_refuses_bad_input_in_one_line() {
    assert_helps("mini_redis", &["--addr", "--strategy", "--threads"]);
    assert_fails("mini_redis", &["--strategy", "magic"], 2, "work-stealing");
    assert_fails("mini_redis", &["--threads", "0"], 2, "1..=1024");
}
