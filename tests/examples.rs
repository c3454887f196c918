//! The examples as their users meet them: as processes, with arguments, signals and exit codes.
//!
//! `cargo test` builds the examples before it runs this; `cargo test --test examples` alone does not
//! (`cargo build --examples` does).
#![cfg(not(proactor_loom))]

#[path = "common/process.rs"]
mod process;
#[path = "examples/small.rs"]
mod small;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout};

use process::{Watchdog, assert_helps, assert_refused, connect, echo, example, run, signal, text};

const STRATEGIES: [&str; 3] = ["single", "leader-followers", "work-stealing"];

/// An `echo_server` that listens.
struct EchoServer {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    _watchdog: Watchdog,
}

impl EchoServer {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("echo_server");
        command.args(["--addr", "127.0.0.1:0"]).args(arguments);
        let mut child = command.spawn().expect("to start the server");
        let watchdog = Watchdog::watch(&child);
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.strip_suffix('\n'));
        let address = address
            .unwrap_or_else(|| panic!("not the line to expect: {line:?}"))
            .to_string();
        Self {
            child,
            stdout,
            address,
            _watchdog: watchdog,
        }
    }

    fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// Sends the signal and expects the graceful end; gives what was printed after the first line.
    fn end(mut self, by: &str) -> String {
        signal(self.child.id(), by);
        let (mut rest, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).expect("the rest");
        let errors = self.child.stderr.as_mut().expect("a pipe");
        errors.read_to_string(&mut stderr).expect("the errors");
        let status = self.child.wait().expect("its end");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{rest}");
        rest
    }
}

#[test]
fn echo_server_helps_with_every_flag() {
    assert_helps(
        "echo_server",
        &[
            "--addr",
            "--strategy",
            "--threads",
            "--backend",
            "--buffer",
            "--help",
        ],
    );
}

#[test]
fn echo_server_refuses_bad_input_in_one_line() {
    for (arguments, about) in [
        (&["--strategy", "wishful"][..], "wishful"),
        (&["--addr", "nowhere"], "nowhere"),
        (&["--addr", "127.0.0.1:70000"], "127.0.0.1:70000"),
        (&["--buffer", "0"], "--buffer"),
        (&["--buffer", "many"], "many"),
        (&["--threads", "0"], "--threads"),
        (&["--backend", "magic"], "magic"),
        (&["--strategy", "single", "--threads", "2"], "threads"),
        (&["--strategy"], "--strategy"),
        (&["--unheard-of"], "--unheard-of"),
        (&["stray"], "stray"),
    ] {
        assert_refused("echo_server", arguments, about);
    }
}

#[test]
fn echo_server_names_an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    assert_refused("echo_server", &["--addr", &address], &address);
}

#[test]
fn echo_server_echoes_under_every_strategy_and_backend_and_ends_gracefully() {
    for strategy in STRATEGIES {
        for backend in ["auto", "portable"] {
            let server = EchoServer::start(&["--strategy", strategy, "--backend", backend]);
            let (mut first, mut second) = (server.connect(), server.connect());
            for length in [1, 64, 4096, 4097, 20_000] {
                let message: Vec<u8> = (0..length)
                    .map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
                    .collect();
                echo(&mut first, &message);
                echo(&mut second, &message);
            }
            // One has gone before the signal, the other is open: both are in the summary.
            drop(first);
            let rest = server.end("-TERM");
            let words: Vec<&str> = rest.split_whitespace().collect();
            let [
                "served",
                "2",
                "connections,",
                requests,
                "requests,",
                bytes,
                "bytes",
            ] = words[..]
            else {
                panic!("{strategy}, {backend}: not the summary to expect: {rest:?}");
            };
            let requests: u64 = requests.parse().expect("a number");
            assert!(requests >= 10, "{strategy}, {backend}: {rest}");
            assert_eq!(
                bytes,
                (2 * (1 + 64 + 4096 + 4097 + 20_000)).to_string(),
                "{strategy}, {backend}"
            );
            assert_eq!(rest.lines().count(), 1, "{strategy}, {backend}: {rest}");
        }
    }
}

#[test]
fn echo_server_echoes_the_last_bytes_before_a_half_close() {
    for strategy in STRATEGIES {
        let server = EchoServer::start(&["--strategy", strategy]);
        let mut stream = server.connect();
        stream.write_all(b"last words").expect("to send");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("to half-close");
        let mut reply = Vec::new();
        stream
            .read_to_end(&mut reply)
            .expect("the reply and the end of file");
        assert_eq!(reply, b"last words", "{strategy}");
        server.end("-TERM");
    }
}

#[test]
fn echo_server_ends_by_an_interrupt_too_with_small_buffers_and_threads() {
    let server = EchoServer::start(&[
        "--strategy",
        "work-stealing",
        "--threads",
        "3",
        "--buffer",
        "7",
    ]);
    echo(&mut server.connect(), b"more than one buffer of it");
    assert!(server.end("-INT").starts_with("served 1 connections, "));
}

#[test]
fn tour_helps_with_every_flag() {
    let flags = [
        "--connections",
        "--seconds-per-row",
        "--message-bytes",
        "--strategy",
        "--backend",
        "--threads",
        "--json",
        "--help",
    ];
    assert_helps("tour", &flags);
}

#[test]
fn tour_refuses_bad_input_in_one_line() {
    for (arguments, about) in [
        (&["--strategy", "wishful"][..], "wishful"),
        (&["--backend", "magic"], "magic"),
        (&["--connections", "0"], "--connections"),
        (&["--message-bytes", "0"], "--message-bytes"),
        (&["--seconds-per-row", "-1"], "--seconds-per-row"),
        (&["--seconds-per-row", "soon"], "soon"),
        (&["--threads", "0"], "--threads"),
        (&["--strategy", "single", "--threads", "2"], "--threads"),
        (&["stray"], "stray"),
    ] {
        assert_refused("tour", arguments, about);
    }
}

#[test]
fn tour_as_json_is_one_object_with_a_row_for_each_model_and_strategy() {
    for backend in ["auto", "portable"] {
        let small = [
            "--json",
            "--connections",
            "4",
            "--seconds-per-row",
            "0.3",
            "--backend",
            backend,
        ];
        let output = run("tour", &small);
        let stderr = text(&output.stderr);
        assert_eq!(
            (output.status.code(), stderr),
            (Some(0), ""),
            "{}",
            text(&output.stdout)
        );
        let object: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON object alone");
        assert_eq!(object.as_object().expect("an object").len(), 1);
        let rows = object["rows"].as_array().expect("rows");
        let names: Vec<_> = rows
            .iter()
            .map(|row| (row["model"].as_str(), row["strategy"].as_str()))
            .collect();
        let proactor = |strategy| (Some("proactor"), Some(strategy));
        let mut expected = vec![
            (Some("synchronous"), None),
            (Some("thread-per-connection"), None),
        ];
        expected.extend(STRATEGIES.map(proactor));
        assert_eq!(names, expected);
        for row in rows {
            assert_eq!(row["mismatches"], 0, "{row}");
            assert!(row["threads"].as_u64() >= Some(1), "{row}");
            assert!(row["requests"].as_u64() > Some(0), "{row}");
            for figure in ["rps", "p50_us", "p99_us", "cpu_us_per_request"] {
                assert!(row[figure].as_f64() > Some(0.0), "{figure} in {row}");
            }
            assert!(row["p50_us"].as_f64() <= row["p99_us"].as_f64(), "{row}");
        }
    }
}

#[test]
fn tour_as_a_table_drives_what_was_asked_for_and_says_so() {
    // Messages of several buffers, so that both sides meet full sockets and short reads.
    let output = run(
        "tour",
        &[
            "--connections=3",
            "--seconds-per-row=0.3",
            "--message-bytes=300000",
            "--threads=3",
            "--strategy=work-stealing",
            "--strategy=leader-followers",
        ],
    );
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), stderr), (Some(0), ""), "{stdout}");
    let rows: Vec<&str> = stdout
        .lines()
        .filter(|line| line.starts_with("proactor "))
        .collect();
    assert_eq!(rows.len(), 2, "{stdout}");
    assert!(
        rows[0].contains("work-stealing") && rows[1].contains("leader-followers"),
        "{stdout}"
    );
    assert!(
        stdout.starts_with("tour: ") && stdout.contains("\nFastest here: proactor, "),
        "{stdout}"
    );

    let output = run("tour", &["--connections=3", "--seconds-per-row=0.2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("\n* serves one connection at a time"),
        "{}",
        text(&output.stdout)
    );
}
