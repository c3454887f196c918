//! The small examples, in the order of `examples/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::process::{Watchdog, assert_fails, assert_helps, connect, example, run, text};
use crate::{EchoServer, STRATEGIES};

const SMALL: [&str; 8] = [
    "timer",
    "daytime_client",
    "daytime_server",
    "echo_client",
    "timeouts",
    "bank",
    "parallel_connect",
    "by_hand",
];

#[test]
fn the_list_of_examples_has_them_all() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let list = fs::read_to_string(folder.join("README.md")).expect("the list");
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<&str> = rows
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|names| names.split(['`', ',', ' ']).filter(|name| !name.is_empty()))
        .collect();
    let entries = fs::read_dir(&folder).expect("the examples");
    let there: BTreeSet<String> = entries
        .map(|entry| entry.expect("an entry").path())
        // A folder without a `main.rs` is what several of them share.
        .filter(|path| {
            path.join("main.rs").exists() || path.extension().is_some_and(|end| end == "rs")
        })
        .map(|path| {
            let name = path.file_stem().expect("a name");
            name.to_string_lossy().into_owned()
        })
        .collect();
    assert!(
        there.iter().eq(listed),
        "examples/README.md, against {there:?}"
    );
}

#[test]
fn small_examples_help_and_refuse_bad_input() {
    for name in SMALL {
        assert_helps(name, &["--help", "Usage"]);
        let output = run(name, &["--unheard-of"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output.stderr).contains("--unheard-of"), "{name}");
    }
}

/// The lines of an example that ends well.
fn lines_of(name: &str, arguments: &[&str]) -> Vec<String> {
    let output = run(name, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), stderr), (Some(0), ""), "{stdout}");
    stdout.lines().map(str::to_owned).collect()
}

/// The number of milliseconds in `line`, which has one.
fn millis(line: &str) -> u64 {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| word.starts_with("ms"));
    let number = words[at.expect("milliseconds") - 1];
    number
        .parse()
        .unwrap_or_else(|_| panic!("{number} in {line}"))
}

#[test]
fn timer_waits_in_every_way() {
    let all = "9 handlers ran";
    // A machine that is busy for as long as the deadline is put off by finds it quiet too early.
    let mut runs = (0..10).map(|_| lines_of("timer", &["50"]));
    let lines = runs.find(|lines| lines.last().is_some_and(|line| line == all));
    let lines = lines.expect("ten times it was quiet too early");
    assert_eq!(lines[0], "nothing has run yet");
    assert_eq!(lines[1], "an hour: Err(Error(timer: cancelled))");
    let line = |begin: &str| lines.iter().find(|line| line.starts_with(begin));
    assert!(millis(line("slept").expect("the wait")) >= 50);
    let ticks: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("tick"))
        .collect();
    assert_eq!(ticks, ["tick 1", "tick 2", "tick 3"]);
    let quiet = millis(line("quiet").expect("the deadline"));
    assert!(quiet >= 250, "three ticks, and two more: {quiet}");
}

fn utc_now() -> String {
    let mut date = Command::new("date");
    let output = date.args(["-u", "+%Y-%m-%d %H:%M:%S UTC"]).output();
    text(&output.expect("the command date").stdout)
        .trim()
        .to_owned()
}

#[test]
fn daytime_server_tells_the_time_as_the_system_does_and_daytime_client_shows_it() {
    let mut command = example("daytime_server");
    let mut child = command.args(["--count", "2"]).spawn().expect("to start it");
    let _watchdog = Watchdog::watch(&child);
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ").expect("where");
    let before = utc_now();
    let mut told = String::new();
    connect(address)
        .read_to_string(&mut told)
        .expect("the time, and the end");
    let shown = lines_of("daytime_client", &[address]);
    let after = utc_now();
    // So written, what is later is greater.
    assert!(
        before.as_str() <= told.trim() && told.trim() <= shown[0].as_str(),
        "{told}"
    );
    assert!(shown[0] <= after && shown.len() == 1, "{shown:?}");
    assert!(child.wait().expect("its end").success());
}

/// Serves one connection in the standard library's way.
fn peer(serve: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let thread = thread::spawn(move || serve(listener.accept().expect("a connection").0));
    (address, thread)
}

#[test]
fn daytime_client_shows_what_comes_in_pieces_and_gives_up_on_who_is_quiet() {
    let (address, server) = peer(|mut stream| {
        for piece in ["half past ", "seven\r\n"] {
            stream.write_all(piece.as_bytes()).expect("to send");
        }
    });
    assert_eq!(lines_of("daytime_client", &[&address]), ["half past seven"]);
    server.join().expect("the server ends");
    let (address, server) = peer(|mut stream| {
        let _ = stream.read(&mut [0]); // until the client gives up
    });
    let patience = ["--timeout", "300", &address];
    assert_fails("daytime_client", &patience, 1, "read: timed out");
    server.join().expect("the server ends");
}

#[test]
fn echo_client_gets_its_messages_back_from_any_echo_server() {
    let messages = ["one", "and two", "", "drei\u{df}ig"];
    let server = EchoServer::start(&[]);
    let arguments = [&[server.address.as_str()], &messages[..]].concat();
    assert_eq!(lines_of("echo_client", &arguments), messages);
    assert!(server.end("-TERM").starts_with("served 1 connections, "));
    let (address, ordinary) = peer(|mut stream| {
        let mut back = stream.try_clone().expect("a second handle");
        std::io::copy(&mut stream, &mut back).expect("to echo");
    });
    let arguments = [&[address.as_str()], &messages[..]].concat();
    assert_eq!(lines_of("echo_client", &arguments), messages);
    ordinary.join().expect("the server ends");
}

#[test]
fn echo_client_says_what_went_wrong() {
    let (address, server) = peer(|mut stream| {
        stream.read_exact(&mut [0; 5]).expect("the message");
        stream.write_all(b"he").expect("to send");
    });
    assert_fails(
        "echo_client",
        &[&address, "hello"],
        1,
        "early (after 2 bytes)",
    );
    server.join().expect("the server ends");
    // Nobody listens there any more.
    assert_fails(
        "echo_client",
        &[&address, "hello"],
        1,
        &format!("connect {address}: "),
    );
}

#[test]
fn timeouts_shows_each_limit_pass() {
    let lines = lines_of("timeouts", &["20"]);
    let passed = [
        "read: timed out, and the buffer is back: 64 bytes of room",
        "read: timed out (after 4 bytes): \"four\"",
        "read: timed out",
        "closed by the deadline: read: cancelled",
    ];
    assert_eq!(lines.len(), passed.len(), "{lines:?}");
    for (number, (line, passed)) in (1..).zip(lines.iter().zip(passed)) {
        assert!(line.ends_with(&format!("ms: {passed}")), "{line}");
        assert!(millis(line) >= 20 * number, "early: {line}");
    }
}

#[test]
fn bank_keeps_all_money_whatever_the_strategy() {
    for strategy in STRATEGIES {
        let lines = lines_of("bank", &["5000", "--accounts", "7", "--strategy", strategy]);
        assert!(
            lines[0].starts_with("5000 transfers between 7 accounts: "),
            "{lines:?}"
        );
        let numbers: Vec<u64> = lines[0]
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [_, _, refused, moved] = numbers[..] else {
            panic!("not the line to expect: {lines:?}");
        };
        assert!(0 < refused && refused < 4000 && moved > 5000, "{lines:?}");
        let money: Vec<&str> = lines[1..]
            .iter()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(money, ["700", "700"], "{lines:?}");
    }
    let one = run("bank", &["--accounts", "1"]);
    assert_eq!(one.status.code(), Some(2));
    assert!(text(&one.stderr).contains("--accounts"));
}

#[test]
fn by_hand_completes_out_of_order_and_serves_every_call_once() {
    let lines = lines_of("by_hand", &["100"]);
    let squares = [(3, 9), (2, 4), (5, 25), (4, 16)];
    for (line, (number, square)) in lines.iter().zip(squares) {
        assert_eq!(*line, format!("{number} squared is {square}"));
    }
    let unknown = "6 squared is unknown: composed operation: nobody is left to complete it";
    assert_eq!(lines[4], unknown);
    let mut calls: Vec<_> = lines[5..105].iter().map(String::as_str).collect();
    calls.sort_by_key(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok()));
    assert!(
        calls
            .iter()
            .copied()
            .eq((1..=100).map(|n| format!("call {n}"))),
        "{lines:?}"
    );
    // The calls, the timer, and the word to quit for one thread or for both.
    let last = &lines[105..];
    assert!(
        last == ["102 handlers by 2 threads"] || last == ["103 handlers by 2 threads"],
        "{last:?}"
    );
}

/// A listener that lets nobody in any more, and those who keep it so: whoever else connects hears nothing.
fn nobody_answers() -> (String, Vec<Socket>) {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let listener = new();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any_port.into()).expect("a port");
    listener.listen(0).expect("to listen");
    let address = listener.local_addr().expect("its address");
    let mut held = vec![listener];
    for _ in 0..8 {
        let client = new();
        let waits = client
            .connect_timeout(&address, Duration::from_millis(200))
            .is_err();
        held.push(client);
        if waits {
            break;
        }
    }
    (address.as_socket().expect("an address").to_string(), held)
}

fn gone() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

#[test]
fn parallel_connect_takes_who_answers_and_cancels_who_does_not() {
    let (quiet, _held) = nobody_answers();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let live = listener.local_addr().expect("its address").to_string();
    let lines = lines_of("parallel_connect", &["--stagger", "50", &quiet, &live]);
    assert_eq!(lines[0], format!("connect {quiet}: cancelled"));
    let answer = lines[1].strip_prefix(&format!("{live}: answered after "));
    assert!(millis(answer.expect("the answer")) >= 50, "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn parallel_connect_does_not_wait_for_its_turn_after_a_refusal_nor_takes_it_for_the_end() {
    let refused = gone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let live = listener.local_addr().expect("its address").to_string();
    // Longer than any example may live here.
    let lines = lines_of("parallel_connect", &["--stagger", "60000", &refused, &live]);
    assert!(
        lines[0].starts_with(&format!("connect {refused}: ")),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!("{live}: answered")),
        "{lines:?}"
    );
}

#[test]
fn parallel_connect_says_why_nobody_answered() {
    let [first, second] = [gone(), gone()];
    let output = run("parallel_connect", &[&first, &second]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    for address in [first, second] {
        assert!(stdout.contains(&format!("connect {address}: ")), "{stdout}");
    }
    assert_eq!(
        text(&output.stderr),
        "parallel_connect: no address answered\n"
    );
    let (quiet, _held) = nobody_answers();
    let output = run("parallel_connect", &["--timeout", "1", &quiet]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        format!("connect {quiet}: cancelled\n")
    );
    assert_fails("parallel_connect", &["nowhere"], 1, "write HOST:PORT");
}
