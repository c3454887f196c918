//! `websocket_chat` as its clients meet it: tungstenite over sockets of the standard library, and clients that do not behave.
#![cfg(all(target_os = "linux", not(proactor_loom)))]

#[path = "common/memory.rs"]
mod memory;
#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Error, Message, WebSocket};
use process::{assert_fails, assert_helps};
use serde_json::{Value, json};
use serving::{Server, everywhere};

/// A member, who reads when it is asked to.
struct Client(WebSocket<TcpStream>);

impl Client {
    fn connect(server: &Server) -> Self {
        Self::over(server.connect())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("no delay");
        let address = stream.peer_addr().expect("its address");
        let shaken = tungstenite::client(format!("ws://{address}/chat"), stream);
        Self(shaken.expect("a handshake").0)
    }

    /// In the room, with those who are there.
    fn enter(server: &Server, name: &str, there: &[&str]) -> Self {
        let mut client = Self::connect(server);
        client.say(name);
        client.hears(&json!({ "kind": "welcome", "name": name.trim(), "names": there }));
        client
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("to send");
    }

    /// The next that is said to it. Reading answers pings.
    fn hear(&mut self) -> Result<Value, Error> {
        loop {
            match self.0.read()? {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Message::Close(frame) => {
                    let frame = frame.expect("a reason");
                    return Ok(json!({ "closed": u16::from(frame.code), "why": &*frame.reason }));
                }
                _pings => {}
            }
        }
    }

    fn hears(&mut self, wanted: &Value) {
        assert_eq!(self.hear().as_ref().expect("something"), wanted);
    }

    fn hears_said(&mut self, name: &str, text: &str) {
        self.hears(&json!({ "kind": "said", "name": name, "text": text }));
    }

    fn hears_joined(&mut self, name: &str) {
        self.hears(&json!({ "kind": "joined", "name": name }));
    }

    fn hears_left(&mut self, name: &str) {
        self.hears(&json!({ "kind": "left", "name": name }));
    }

    /// Is told why it has to go, and nothing after that.
    fn is_closed(&mut self, code: CloseCode, why: &str) {
        self.hears(&json!({ "closed": u16::from(code), "why": why }));
        let end = self.hear().expect_err("the end");
        assert!(matches!(end, Error::ConnectionClosed), "{end}");
    }
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

// ---- what is to work ----

#[test]
fn two_clients_talk_and_hear_who_comes_and_who_goes() {
    everywhere(|arguments| {
        let server = Server::start("websocket_chat", arguments);
        let mut anna = Client::enter(&server, "Anna", &["Anna"]);
        let mut bert = Client::enter(&server, " Bert ", &["Anna", "Bert"]);
        anna.hears_joined("Bert");
        anna.say("hello");
        for client in [&mut anna, &mut bert] {
            client.hears_said("Anna", "hello");
        }
        bert.say("\u{1f600} <b>\"&\\");
        for client in [&mut anna, &mut bert] {
            client.hears_said("Bert", "\u{1f600} <b>\"&\\");
        }
        let longest = "x".repeat(16 * 1024);
        bert.say(&longest);
        for client in [&mut anna, &mut bert] {
            client.hears_said("Bert", &longest);
        }
        bert.0.close(None).expect("to say goodbye");
        anna.hears_left("Bert");
        anna.say("alone");
        anna.hears_said("Anna", "alone");
        server.end();
        anna.is_closed(CloseCode::Away, "the chat ends");
    });
}

#[test]
fn all_hear_everything_in_one_order() {
    everywhere(|arguments| {
        let server = Server::start("websocket_chat", &with(arguments, &["--pace-ms", "0"]));
        let mut anna = Client::enter(&server, "Anna", &["Anna"]);
        let mut bert = Client::enter(&server, "Bert", &["Anna", "Bert"]);
        anna.hears_joined("Bert");
        for number in 0..100 {
            anna.say(&format!("a{number}"));
            bert.say(&format!("b{number}"));
        }
        let heard = [&mut anna, &mut bert].map(|client| {
            let lines = (0..200).map(|_| client.hear().expect("a line"));
            lines.collect::<Vec<_>>()
        });
        assert_eq!(heard[0], heard[1]);
        for name in ["Anna", "Bert"] {
            let own = heard[0].iter().filter(|line| line["name"] == name);
            let numbers = own.map(|line| line["text"].as_str().expect("text")[1..].parse::<u32>());
            assert!(numbers.eq((0..100).map(Ok)), "{name}'s come in order");
        }
        server.end();
    });
}

#[test]
fn a_name_is_one_members_alone_and_is_free_again_when_that_has_left() {
    let server = Server::start("websocket_chat", &[]);
    let mut anna = Client::enter(&server, "Anna", &["Anna"]);
    let long = "x".repeat(33);
    for (name, why) in [
        ("Anna", "this name is taken: choose another"),
        (" Anna\t", "this name is taken: choose another"),
        ("", "a name has 1 to 32 characters"),
        (" ", "a name has 1 to 32 characters"),
        ("a\nb", "a name has 1 to 32 characters"),
        (&long, "a name has 1 to 32 characters"),
    ] {
        let mut client = Client::connect(&server);
        client.say(name);
        client.hears(&json!({ "kind": "refused", "why": why }));
        client.is_closed(CloseCode::Policy, why);
    }
    let watcher = &mut Client::enter(&server, "Watcher", &["Anna", "Watcher"]);
    anna.hears_joined("Watcher");
    anna.0.close(None).expect("to say goodbye");
    watcher.hears_left("Anna");
    Client::enter(&server, "Anna", &["Anna", "Watcher"]);
    server.end();
}

#[test]
fn the_page_is_served_on_the_same_port_and_nothing_else_is() {
    let server = Server::start("websocket_chat", &[]);
    let page = include_str!("../examples/websocket_chat/page.html");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(8192));
    let half = UPGRADE.replace("Sec-WebSocket-Key", "X") + "\r\n";
    for (request, status, body) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", page),
        ("GET /page.html HTTP/1.1\r\n\r\n", "404 ", "there are / and"),
        ("POST / HTTP/1.1\r\n\r\n", "400 ", "this is no GET"),
        ("\r\n\r\nno HTTP\r\n\r\n", "400 ", "this is no GET"),
        (&long, "400 ", "the request is too long"),
        (&half, "400 ", "WebSocket protocol error: "),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).expect("to send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, said) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(said.starts_with(body), "{answer}");
        assert!(
            head.contains(&format!("Content-Length: {}", said.len())),
            "{answer}"
        );
    }
    server.end();
}

#[test]
fn a_request_may_come_in_any_pieces_and_with_the_name_behind_it() {
    let server = Server::start("websocket_chat", &[]);
    let mut stream = server.connect();
    stream.set_nodelay(true).expect("no delay");
    let mut bytes = format!("{UPGRADE}\r\n").into_bytes();
    bytes.extend_from_slice(b"\x81\x84\0\0\0\0Anna"); // masked with zeros
    for byte in bytes {
        stream.write_all(&[byte]).expect("to send");
    }
    let mut watcher = Client::connect(&server);
    watcher.say("Anna");
    let answer = watcher.hear().expect("an answer");
    // Whichever came first: one of them has the name.
    assert!(
        ["refused", "welcome"]
            .map(Value::from)
            .contains(&answer["kind"])
    );
    let mut heard = vec![0; 12];
    stream.read_exact(&mut heard).expect("an answer");
    assert_eq!(heard, b"HTTP/1.1 101");
    server.end();
}

#[test]
fn who_answers_its_pings_stays_however_many_come_and_talk_meanwhile() {
    for strategy in ["single", "work-stealing"] {
        let options = ["--ping-ms", "1500", "--queue", "2000"];
        let server = Server::start("websocket_chat", &with(&["--strategy", strategy], &options));
        let begin = Instant::now();
        let mut members: Vec<Client> = Vec::new();
        // Long enough for a ping that was not answered to be noticed.
        while begin.elapsed() < Duration::from_secs(6) {
            if members.len() < 200 {
                let mut member = Client::connect(&server);
                member.say(&format!("member {}", members.len()));
                member.0.get_mut().set_nonblocking(true).expect("to set it");
                members.push(member);
            }
            for member in &mut members {
                match member.hear() {
                    Ok(line) => assert_ne!(line["kind"], "left", "{line}"),
                    Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    Err(error) => panic!("hung up on: {error}"),
                }
            }
        }
        assert!(members.len() > 50, "{} came", members.len());
        server.end();
    }
}

// ---- those who do not behave ----

#[test]
fn who_dies_or_says_nothing_any_more_has_left() {
    everywhere(|arguments| {
        let server = Server::start("websocket_chat", &with(arguments, &["--ping-ms", "500"]));
        let before = memory::descriptors(server.pid());
        let mut anna = Client::enter(&server, "Anna", &["Anna"]);
        let dead = Client::enter(&server, "Dead", &["Anna", "Dead"]);
        anna.hears_joined("Dead");
        drop(dead.0); // without a goodbye
        anna.hears_left("Dead");
        // This one neither reads nor writes, and so answers no ping. Anna does as she reads, and stays.
        let begin = Instant::now();
        let mute = Client::enter(&server, "Mute", &["Anna", "Mute"]);
        anna.hears_joined("Mute");
        anna.hears_left("Mute");
        assert!(begin.elapsed() >= Duration::from_secs(1));
        memory::comes_back_to(server.pid(), before + 1);
        anna.say("still here");
        anna.hears_said("Anna", "still here");
        drop(mute);
        server.end();
    });
}

#[test]
fn who_never_reads_is_shown_out_and_costs_the_others_neither_time_nor_memory() {
    everywhere(|arguments| {
        let options = ["--pace-ms", "0", "--queue", "16", "--patience-ms", "1000"];
        let server = Server::start("websocket_chat", &with(arguments, &options));
        let mut anna = Client::enter(&server, "Anna", &["Anna"]);
        let _deaf = Client::enter(&server, "Deaf", &["Anna", "Deaf"]);
        anna.hears_joined("Deaf");
        let before = memory::descriptors(server.pid());
        let line = "x".repeat(16 * 1024);
        let mut lines = 0;
        // Until what the kernel holds for the deaf one is full, and its queue, too.
        loop {
            anna.say(&line);
            lines += 1;
            let mut heard = anna.hear().expect("something");
            if heard["kind"] == "left" {
                assert_eq!(heard["why"], "reads too slowly");
                heard = anna.hear().expect("something");
                assert_eq!(heard["kind"], "said");
                break;
            }
            assert_eq!(heard["kind"], "said");
            assert!(lines < 4000, "64 MiB wait for who reads nothing");
        }
        let resident = memory::resident_kb(server.pid());
        assert!(resident < 8 * 1024, "{resident} KiB, after {lines} lines");
        memory::comes_back_to(server.pid(), before - 1);
        anna.say("goes on");
        anna.hears_said("Anna", "goes on");
        server.end();
    });
}

#[test]
fn who_is_shown_out_and_reads_on_hears_what_waited_and_why() {
    let options = ["--pace-ms", "0", "--queue", "16", "--patience-ms", "20000"];
    let server = Server::start("websocket_chat", &options);
    let mut anna = Client::enter(&server, "Anna", &["Anna"]);
    let mut slow = Client::enter(&server, "Slow", &["Anna", "Slow"]);
    anna.hears_joined("Slow");
    let line = "x".repeat(16 * 1024);
    let mut said = 0;
    loop {
        anna.say(&line);
        said += 1;
        if anna.hear().expect("something")["kind"] == "left" {
            break;
        }
    }
    let mut heard = 0;
    loop {
        let line = slow.hear().expect("a line");
        if line["closed"] == u16::from(CloseCode::Policy) {
            assert_eq!(line["why"], "you read too slowly");
            break;
        }
        assert_eq!(line["kind"], "said");
        heard += 1;
    }
    // All but the line that was one too many, and the one after it, behind which Anna heard of it.
    assert_eq!(heard, said - 2);
    server.end();
}

#[test]
fn who_sends_without_end_is_read_from_at_the_pace() {
    let server = Server::start("websocket_chat", &["--pace-ms", "20"]);
    let mut anna = Client::enter(&server, "Anna", &["Anna"]);
    let begin = Instant::now();
    for number in 0..25 {
        anna.say(&number.to_string());
    }
    for number in 0..25 {
        anna.hears_said("Anna", &number.to_string());
    }
    assert!(begin.elapsed() >= Duration::from_millis(24 * 20));
    server.end();
}

#[test]
fn a_message_that_is_too_long_or_broken_ends_its_connection_alone() {
    let server = Server::start("websocket_chat", &[]);
    let mut anna = Client::enter(&server, "Anna", &["Anna"]);
    let unmasked = b"\x81\x02hi";
    let not_text = b"\x81\x82\0\0\0\0\xff\xff";
    let too_long = b"\x81\xff\0\0\0\0\0\x01\0\0\0\0\0\0";
    let pieces = b"\x01\xfe\x30\0\0\0\0\0".as_slice(); // and 12 KiB, and another such
    for (number, bytes) in [&unmasked[..], not_text, too_long, pieces]
        .iter()
        .enumerate()
    {
        let name = format!("Odd{number}");
        let mut odd = Client::enter(&server, &name, &["Anna", &name]);
        anna.hears_joined(&name);
        let stream = odd.0.get_mut();
        stream.write_all(bytes).expect("to send");
        if bytes[0] == 1 {
            // Pieces that are short enough, and together too long.
            let _ = stream.write_all(&[b'x'; 0x3000]);
            let _ = stream.write_all(b"\x80\xfe\x30\0\0\0\0\0");
            let _ = stream.write_all(&[b'x'; 0x3000]);
        }
        anna.hears_left(&name);
    }
    anna.say("untouched");
    anna.hears_said("Anna", "untouched");
    server.end();
}

#[test]
fn a_handshake_that_never_ends_is_ended_and_a_thousand_leave_nothing() {
    everywhere(|arguments| {
        let patience = ["--patience-ms", "1000"];
        let server = Server::start("websocket_chat", &with(arguments, &patience));
        let pid = server.pid();
        let before = memory::descriptors(pid);
        let upgrade = format!("{UPGRADE}\r\n");
        let parts = ["", "GET /cha", UPGRADE, &upgrade];
        let mut resident = 0;
        for number in 0..1200 {
            let mut stream = server.connect();
            let part = parts[number % parts.len()];
            stream.write_all(part.as_bytes()).expect("to send");
            drop(stream);
            if number % 25 == 24 {
                memory::comes_back_to(pid, before); // so that no peak hides what each one leaves
            }
            if number == 199 {
                resident = memory::resident_kb(pid);
            }
        }
        let grown = memory::resident_kb(pid).saturating_sub(resident);
        assert!(grown < 1024, "{grown} KiB are left of 1000 handshakes");

        // Those who stay, the last without a name, are hung up on, each in its time.
        let begin = Instant::now();
        let mut idle = parts.map(|part| {
            let mut stream = server.connect();
            stream.write_all(part.as_bytes()).expect("to send");
            stream
        });
        let mut anna = Client::enter(&server, "Anna", &["Anna"]);
        for stream in &mut idle {
            stream.read_to_end(&mut Vec::new()).expect("the end");
        }
        assert!(begin.elapsed() >= Duration::from_secs(1));
        anna.say("who has a name may stay");
        anna.hears_said("Anna", "who has a name may stay");
        server.end();
    });
}

#[test]
fn it_helps_and_refuses_bad_input_in_one_line() {
    let flags = ["--addr", "--strategy", "--threads", "--backend"];
    let own = ["--queue", "--pace-ms", "--patience-ms", "--ping-ms"];
    assert_helps("websocket_chat", &flags);
    assert_helps("websocket_chat", &own);
    assert_fails(
        "websocket_chat",
        &["--strategy", "magic"],
        2,
        "work-stealing",
    );
    assert_fails("websocket_chat", &["--queue", "1"], 2, "--queue");
}
