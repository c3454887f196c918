//! What those rely on who embed the library: the examples of a strategy of one's own and of a foreign event loop, run as
//! processes, and the pages with code to copy, which is copied here, built and run.
//!
//! `cargo test` builds the examples before it runs this; `cargo test --test embed` alone does not
//! (`cargo build --examples` does).
#![cfg(not(proactor_loom))]

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))] // the pages are the same everywhere
#[path = "embed/pages.rs"]
mod pages;

#[path = "common/outside.rs"]
mod outside;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outside::root;
use process::{
    WATCHDOG, Watchdog, assert_helps, assert_refused, connect, echo, example, finish, signal,
};

/// Whether the port has a descriptor here.
const GUEST: bool = cfg!(all(target_os = "linux", not(polling_test_poll_backend)));

// ---- a strategy of one's own ----

#[test]
fn custom_dispatcher_helps_and_refuses_bad_input_in_one_line() {
    assert_helps("custom_dispatcher", &["--threads", "--help"]);
    assert_refused("custom_dispatcher", &["--threads", "0"], "--threads");
    assert_refused("custom_dispatcher", &["--threads", "many"], "many");
    assert_refused("custom_dispatcher", &["stray"], "stray");
}

/// The `KEY#NUMBER`s of the line that begins with `what`.
fn keys(report: &str, what: &str) -> Vec<(u64, usize)> {
    let line = report.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found = what.split(' ').all(|word| words.next() == Some(word));
        found.then_some(words)
    });
    let line = line.unwrap_or_else(|| panic!("no {what:?} in {report}"));
    let pair = |word: &str| {
        let (key, number) = word.split_once('#').expect("KEY#NUMBER");
        let key = key.parse().unwrap_or(u64::MAX); // `max`
        (key, number.parse().expect("a number"))
    };
    line.map(pair).collect()
}

#[test]
fn custom_dispatcher_runs_the_highest_key_first_and_serves_everything_on_any_pool() {
    for threads in ["1", "2", "5"] {
        let mut command = example("custom_dispatcher");
        let (code, report, errors) = finish(command.args(["--threads", threads]), WATCHDOG);
        assert_eq!(
            (code, errors.as_str()),
            (Some(0), ""),
            "{threads} threads: {report}"
        );
        for what in ["posts", "reads", "timers"] {
            let begun = keys(&report, &format!("{what} begun"));
            let ran = keys(&report, &format!("{what} run"));
            let mut wanted = begun.clone();
            wanted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            assert!(
                begun.len() > 8 && wanted != begun,
                "nothing to order: {begun:?}"
            );
            assert_eq!(ran, wanted, "{what}");
        }
        let served = report
            .lines()
            .find(|line| line.starts_with("served: "))
            .expect("a summary");
        let numbers: Vec<usize> = served
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let [echoed, messages, clients, fired, timers, handlers, ..] = numbers[..] else {
            panic!("not the summary to expect: {served}");
        };
        assert_eq!((echoed, fired), (messages, timers), "{served}");
        assert!(
            messages >= 1000 && clients > 1 && handlers > 2 * messages,
            "{served}"
        );
    }
}

#[test]
fn the_strategy_of_custom_dispatcher_has_under_sixty_lines() {
    let source = root().join("examples/custom_dispatcher/priority.rs");
    let source = fs::read_to_string(source).expect("the strategy");
    let (_head, strategy) = source.split_once("\n\n/// ").expect("its begin");
    assert!(strategy.contains("impl Dispatcher for "), "{strategy}");
    for method in ["fn attach(", "fn dispatch(", "fn next(", "fn is_empty("] {
        assert!(strategy.contains(method), "{method} stands elsewhere");
    }
    let lines = strategy.trim().lines().count();
    assert!(lines < 60, "{lines} lines");
}

// ---- a foreign loop ----

/// A `foreign_loop` that listens, with its console.
struct Guest {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    _watchdog: Watchdog,
}

impl Guest {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("foreign_loop");
        command.args(["--addr", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().expect("to start it");
        let _watchdog = Watchdog::watch(&child);
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut guest = Self {
            child,
            stdout,
            address: String::new(),
            _watchdog,
        };
        let line = guest.line();
        let address = line.strip_prefix("listening on ");
        guest.address = address.expect("the line to expect").to_owned();
        guest
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// What the console says to a line: connections and bytes.
    fn ask(&mut self) -> (u64, u64) {
        let console = self.child.stdin.as_mut().expect("an open console");
        console.write_all(b"how much?\n").expect("to ask");
        served(&self.line())
    }

    /// Sends the signal and expects the graceful end; what was served.
    fn end(mut self, by: &str) -> (u64, u64) {
        signal(self.child.id(), by);
        let served = served(&self.line());
        let (mut rest, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).expect("the rest");
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut errors).expect("the errors");
        let code = self.child.wait().expect("its end").code();
        assert_eq!((code, rest.as_str(), errors.as_str()), (Some(0), "", ""));
        served
    }
}

fn served(line: &str) -> (u64, u64) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["served", connections, "connections,", bytes, "bytes"] = words[..] else {
        panic!("not the line to expect: {line:?}");
    };
    let number = |word: &str| word.parse().expect("a number");
    (number(connections), number(bytes))
}

#[test]
fn foreign_loop_helps_and_refuses_bad_input_in_one_line() {
    assert_helps("foreign_loop", &["--addr", "--quiet", "--help"]);
    assert_refused("foreign_loop", &["--quiet", "0"], "--quiet");
    assert_refused("foreign_loop", &["--addr", "nowhere"], "nowhere");
    assert_refused("foreign_loop", &["stray"], "stray");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    assert_refused("foreign_loop", &["--addr", &address], &address);
    if !GUEST {
        assert_refused(
            "foreign_loop",
            &["--addr", "127.0.0.1:0"],
            "has no descriptor",
        );
    }
}

#[test]
fn foreign_loop_echoes_and_serves_its_own_descriptor_and_ends_by_either_signal() {
    if !GUEST {
        return;
    }
    for by in ["-TERM", "-INT"] {
        let mut guest = Guest::start(&[]);
        assert_eq!(guest.ask(), (0, 0));
        let (mut first, mut second) = (guest.connect(), guest.connect());
        let mut bytes = 0;
        for length in [1_u32, 64, 4096, 4097, 200_000] {
            let message: Vec<u8> = (0..length).map(|i| i.to_le_bytes()[0]).collect();
            echo(&mut first, &message);
            echo(&mut second, &message);
            bytes += 2 * u64::from(length);
            assert_eq!(guest.ask(), (2, bytes));
        }
        drop(first); // one has gone before the signal, the other is open
        assert_eq!(guest.end(by), (2, bytes));
    }
}

/// A signal may come before the loop has waited for the first time, and must not get lost.
#[test]
fn foreign_loop_ends_by_a_signal_that_comes_at_once() {
    for _ in 0..if GUEST { 20 } else { 0 } {
        assert_eq!(Guest::start(&[]).end("-TERM"), (0, 0));
    }
}

#[test]
fn foreign_loop_hangs_up_on_the_quiet_when_their_time_is_over_and_not_before() {
    if !GUEST {
        return;
    }
    let mut guest = Guest::start(&["--quiet", "300"]);
    let mut stream = guest.connect();
    let mut last = Instant::now();
    for _ in 0..3 {
        last = Instant::now(); // before the read whose time is to run out
        echo(&mut stream, b"still here");
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end of file");
    let quiet = last.elapsed();
    assert!(
        rest.is_empty() && quiet >= Duration::from_millis(300),
        "{quiet:?}"
    );
    assert_eq!(guest.ask(), (1, 30));
    guest.end("-TERM");
}

#[test]
fn a_busy_port_does_not_keep_the_foreign_descriptor_waiting() {
    if !GUEST {
        return;
    }
    let mut guest = Guest::start(&[]);
    let over = AtomicBool::new(false);
    let streams: Vec<_> = (0..4).map(|_| guest.connect()).collect();
    thread::scope(|scope| {
        for stream in &streams {
            // One writes ahead, another takes what comes back: there is always more to read for the port.
            let (mut to, mut from) = (stream, stream);
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) && to.write_all(&[7; 1 << 16]).is_ok() {}
                let _ = to.shutdown(Shutdown::Write);
            });
            scope.spawn(move || std::io::copy(&mut from, &mut std::io::sink()));
        }
        let _over = Raise(&over); // also if an assertion fails
        let deadline = Instant::now() + WATCHDOG / 2;
        let (mut asked, mut before) = (0, 0);
        while asked < 200 || before < 100 << 20 {
            let (connections, bytes) = guest.ask();
            assert!(connections <= 4 && bytes >= before);
            assert!(Instant::now() < deadline, "{asked} answers, {bytes} bytes");
            (asked, before) = (asked + 1, bytes);
        }
    });
    guest.end("-TERM");
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often the process's threads gave up the processor or were put off it, and its nanoseconds of CPU.
#[cfg(target_os = "linux")]
fn used(pid: u32) -> (u64, u64) {
    let mut sum = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("Linux lists them") {
        let path = task.expect("a thread").path();
        let read = |name| fs::read_to_string(path.join(name)).expect("a file of /proc");
        let last = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
        let (status, times) = (read("status"), read("schedstat"));
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        sum.0 += switches.filter_map(last).sum::<u64>();
        let time = times
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok());
        sum.1 += time.expect("the time used");
    }
    assert!(sum.0 > 0, "no thread was found");
    sum
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_foreign_loop_does_nothing_with_and_without_its_console() {
    if !GUEST {
        return;
    }
    let mut guest = Guest::start(&["--quiet", "3600000"]);
    let mut streams: Vec<_> = (0..10).map(|_| guest.connect()).collect();
    for console in [true, false] {
        streams.iter_mut().for_each(|stream| echo(stream, b"hello"));
        if console {
            guest.ask();
        } else {
            drop(guest.child.stdin.take());
        }
        let deadline = Instant::now() + WATCHDOG / 2;
        let mut before = used(guest.child.id());
        loop {
            thread::sleep(Duration::from_millis(100)); // sleep: quiet can only be seen over time
            let now = used(guest.child.id());
            if std::mem::replace(&mut before, now) == now {
                break;
            }
            assert!(Instant::now() < deadline, "it does not become quiet");
        }
        thread::sleep(Duration::from_secs(3)); // sleep: the time over which idling is measured
        let after = used(guest.child.id());
        assert_eq!(after.0, before.0, "a thread woke up; console: {console}");
        assert!(after.1 - before.1 <= 1_000_000, "more than 1 ms of CPU");
    }
    echo(&mut streams[0], b"it sleeps, and is not dead");
    guest.end("-TERM");
}
