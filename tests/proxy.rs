//! The throttling proxy as its users meet it, between plain sockets; and its allowance, by the clock of a script.
#![cfg(not(proactor_loom))]

#[path = "../examples/throttling_proxy/allowance.rs"]
mod allowance;
#[allow(unused_imports)] // a part of what the tests share is for others
mod common;
#[path = "common/process.rs"]
mod process;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout};
use std::thread;
use std::time::{Duration, Instant};

use allowance::Allowance;
use common::{Random, any_port, until};
use process::{WATCHDOG, Watchdog, assert_fails, assert_helps, connect, example, signal};
use socket2::{Domain, Socket, Type};

// ---- the allowance ----

#[test]
fn an_allowance_is_never_exceeded_and_never_wasted_by_who_is_on_time() {
    let mut random = Random::new();
    for _ in 0..200 {
        let rate = 1 << random.within(0, 30);
        let begin = Instant::now();
        let mut allowance = Allowance::new(rate, begin);
        let chunk = allowance.chunk_bytes();
        assert!((1..=64 * 1024).contains(&chunk));
        let (mut now, mut taken) = (begin, Vec::new());
        for _ in 0..200 {
            let bytes = random.within(1, chunk);
            taken.push((now, bytes));
            let next = allowance.spend(bytes, now);
            // As a timer: never early, a little late, and now and then much; the sender may be idle, too.
            let late = match random.within(0, 9) {
                0 => random.within(0, 500_000),
                _ => random.within(0, 2000),
            };
            now = now.max(next) + Duration::from_micros(late as u64);
        }
        for (first, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (to, bytes) in &taken[first..] {
                sum += bytes;
                let span = (*to - *from).as_secs_f64() + 0.050;
                let most = span * rate as f64 + chunk as f64 + 1.0;
                assert!(sum as f64 <= most, "{sum} bytes in {span} s at {rate}");
            }
        }
    }
}

#[test]
fn who_is_a_little_late_each_time_gets_the_whole_rate_all_the_same() {
    for rate in [1000, 300_000, 5_000_000] {
        let begin = Instant::now();
        let mut allowance = Allowance::new(rate, begin);
        let (chunk, mut now, mut sum) = (allowance.chunk_bytes(), begin, 0);
        while now < begin + Duration::from_secs(10) {
            let next = allowance.spend(chunk, now);
            sum += chunk as u64;
            now = now.max(next) + Duration::from_millis(2);
        }
        let (least, most) = (10 * rate * 99 / 100, 10 * rate * 102 / 100);
        assert!((least..=most).contains(&sum), "{sum} bytes at {rate}");
    }
}

// ---- processes ----

const UNLIMITED: &str = "1000000000000";

/// A proxy that listens.
struct Proxy {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    _watchdog: Watchdog,
}

impl Proxy {
    fn start(target: SocketAddr, rate: &str, arguments: &[&str]) -> Self {
        let mut command = example("throttling_proxy");
        command.args(["0", &target.to_string(), "--rate", rate]);
        let mut child = command.args(arguments).spawn().expect("to start it");
        let watchdog = Watchdog::watch(&child);
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut proxy = Self {
            child,
            stdout,
            address: String::new(),
            _watchdog: watchdog,
        };
        let line = proxy.line();
        let address = line.strip_prefix("listening on ");
        proxy.address = address.expect("the line to expect").to_owned();
        proxy
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// A client's end, and the target's.
    fn pair(&self, target: &TcpListener) -> (TcpStream, TcpStream) {
        let client = connect(&self.address);
        let (server, _) = target.accept().expect("the proxy connects");
        for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            limit(&server, Some(WATCHDOG)).expect("a time limit");
        }
        (client, server)
    }

    /// The graceful end: connections, bytes there, bytes back; and what is on stderr.
    fn end(mut self) -> ([u64; 3], String) {
        signal(self.child.id(), "-TERM");
        let line = self.line();
        let (mut rest, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).expect("the rest");
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut errors).expect("the errors");
        let code = self.child.wait().expect("its end").code();
        assert_eq!((code, rest.as_str()), (Some(0), ""), "{errors}");
        let words: Vec<_> = line.split(' ').collect();
        let [
            "passed",
            "on",
            connections,
            "connections,",
            there,
            _,
            _,
            back,
            "bytes",
            "back",
        ] = words[..]
        else {
            panic!("not the line to expect: {line:?}");
        };
        let number = |word: &str| word.parse().expect("a number");
        ([connections, there, back].map(number), errors)
    }
}

fn target() -> (TcpListener, SocketAddr) {
    let target = TcpListener::bind(any_port()).expect("a port");
    let address = target.local_addr().expect("its address");
    (target, address)
}

/// Runs `body` with a command line for every strategy on both backends.
fn everywhere(body: impl Fn(&[&str])) {
    for strategy in ["single", "leader-followers", "work-stealing"] {
        for backend in ["auto", "portable"] {
            println!("with {strategy}, {backend}"); // shown when it fails
            body(&["--strategy", strategy, "--backend", backend]);
        }
    }
}

fn rest(mut of: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    of.read_to_end(&mut bytes).expect("the end of file");
    bytes
}

fn say(mut to: &TcpStream, bytes: &[u8]) {
    to.write_all(bytes).expect("to send");
}

#[test]
fn it_helps_and_refuses_bad_input_in_one_line() {
    let flags = ["LISTEN_PORT", "TARGET", "--rate", "--strategy", "--threads"];
    assert_helps("throttling_proxy", &flags);
    let (_target, address) = target();
    let address = address.to_string();
    for (arguments, about) in [
        (&["0", &address][..], "--rate"),
        (&["0", &address, "--rate", "0"], "--rate"),
        (&["0", "nowhere", "--rate", "1"], "HOST:PORT"),
        (&["70000", &address, "--rate", "1"], "70000"),
        (
            &[
                "0",
                &address,
                "--rate",
                "1",
                "--strategy",
                "single",
                "--threads",
                "2",
            ],
            "threads(1)",
        ),
    ] {
        assert_fails("throttling_proxy", arguments, 2, about);
    }
    let taken = address.rsplit(':').next().expect("a port");
    let in_use = [taken, &address, "--rate", "1"];
    assert_fails("throttling_proxy", &in_use, 1, &address);
}

#[test]
fn bytes_go_both_ways_unchanged_and_an_end_of_file_leaves_the_other_way_open() {
    let mut random = Random::new();
    let (question, answer) = (random.bytes(300_000), random.bytes(500_000));
    everywhere(|arguments| {
        let (target, address) = target();
        let proxy = Proxy::start(address, UNLIMITED, arguments);
        // Whoever begins says all and ends its direction; then the other.
        for client_first in [true, false] {
            let (client, server) = proxy.pair(&target);
            let (first, second) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    say(&first, &question);
                    first.shutdown(Shutdown::Write).expect("half a close");
                });
                assert!(rest(&second) == question, "client first: {client_first}");
            });
            thread::scope(|scope| {
                scope.spawn(|| {
                    say(&second, &answer);
                    second.shutdown(Shutdown::Write).expect("the other half");
                });
                assert!(rest(&first) == answer, "client first: {client_first}");
            });
        }
        let all = (question.len() + answer.len()) as u64;
        assert_eq!(proxy.end(), ([2, all, all], String::new()));
    });
}

#[test]
fn no_direction_is_faster_than_its_rate() {
    const RATE: usize = 400_000;
    let bytes = vec![7; 160_000];
    everywhere(|arguments| {
        let (target, address) = target();
        let proxy = Proxy::start(address, &RATE.to_string(), arguments);
        let (client, server) = proxy.pair(&target);
        let begin = Instant::now();
        let send = |to: &TcpStream| {
            say(to, &bytes);
            to.shutdown(Shutdown::Write).expect("the end");
        };
        let took = |from: &TcpStream| {
            assert_eq!(rest(from).len(), bytes.len());
            begin.elapsed()
        };
        let took = thread::scope(|scope| {
            scope.spawn(|| send(&client));
            scope.spawn(|| send(&server));
            let there = scope.spawn(|| took(&server));
            [took(&client), there.join().expect("no panic")]
        });
        // A chunk and what may be made up for come at once, 50 ms worth each.
        let least = bytes.len() as f64 / RATE as f64 - 0.1;
        for took in took {
            assert!(took.as_secs_f64() >= least, "{took:?}, at least {least} s");
        }
        proxy.end();
    });
}

#[test]
fn a_target_that_refuses_is_a_line_and_the_client_is_hung_up_on() {
    everywhere(|arguments| {
        // An address that is taken, and at which nobody listens yet.
        let target = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        target.bind(&any_port().into()).expect("a port");
        let address = target.local_addr().expect("its address").as_socket();
        let address = address.expect("an address of the internet");
        let proxy = Proxy::start(address, UNLIMITED, arguments);
        assert_eq!(rest(&connect(&proxy.address)), b"");
        // It goes on, and when the target listens, it serves.
        target.listen(1).expect("to listen");
        let target = TcpListener::from(target);
        let (client, server) = proxy.pair(&target);
        say(&client, b"hello");
        drop(client);
        assert_eq!(rest(&server), b"hello");
        drop(server);
        let (passed, errors) = proxy.end();
        assert_eq!(passed, [1, 5, 0]);
        let start = format!("throttling_proxy: connect {address}: ");
        assert!(errors.starts_with(&start), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    });
}

#[test]
fn a_side_that_fails_takes_the_other_with_it() {
    everywhere(|arguments| {
        let (target, address) = target();
        let proxy = Proxy::start(address, UNLIMITED, arguments);
        let (client, server) = proxy.pair(&target);
        say(&server, b"unread");
        client.peek(&mut [0]).expect("it has come");
        drop(client); // with bytes unread: the system resets the connection
        let mut buf = [0; 1];
        let end = (&server).read(&mut buf);
        let gone = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(
            end.as_ref().map_or_else(gone, |count| *count == 0),
            "{end:?}"
        );
        proxy.end();
    });
}

/// What the process holds in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a file of /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    1024 * kilobytes.expect("its size")
}

/// Sends until nothing goes for a while; how much went.
#[cfg(target_os = "linux")]
fn say_until_it_stalls(mut to: &TcpStream, part: &[u8]) -> usize {
    let quiet = Some(Duration::from_millis(500));
    to.set_write_timeout(quiet).expect("a time limit");
    let mut sent = 0;
    loop {
        // That nothing moves can only be seen over time.
        match to.write(&part[sent % part.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return sent;
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
        assert!(sent < 1 << 30, "it takes all, though nobody reads");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn who_reads_slowly_slows_down_who_writes_and_the_proxy_keeps_a_buffer_and_no_more() {
    let mut random = Random::new();
    let part = random.bytes(1 << 20);
    for strategy in ["single", "work-stealing"] {
        let (target, address) = target();
        let proxy = Proxy::start(address, UNLIMITED, &["--strategy", strategy]);
        let (client, server) = proxy.pair(&target);
        let before = resident(proxy.child.id());
        let sent = say_until_it_stalls(&client, &part);
        let grown = resident(proxy.child.id()).saturating_sub(before);
        assert!(
            sent > 1 << 16 && grown < 1 << 20,
            "{sent} bytes sent: it has grown by {grown}"
        );
        client.shutdown(Shutdown::Write).expect("the end");
        // Nothing of it is lost.
        let all = rest(&server);
        assert_eq!(all.len(), sent);
        assert!(all.chunks(part.len()).all(|chunk| part.starts_with(chunk)));
        drop((client, server));
        assert_eq!(proxy.end().0, [1, sent as u64, 0]);
    }
}

#[test]
fn by_either_signal_it_stops_accepting_and_goes_on_with_what_is_under_way() {
    for by in ["-TERM", "-INT"] {
        let (target, address) = target();
        let mut proxy = Proxy::start(address, "100000", &[]);
        let (client, server) = proxy.pair(&target);
        let bytes = vec![3; 50_000];
        say(&server, &bytes);
        drop(server); // half a second of it is still to go
        signal(proxy.child.id(), by);
        until("it accepts no more", || {
            TcpStream::connect(&proxy.address).is_err()
        });
        assert_eq!(rest(&client), bytes);
        drop(client);
        let line = proxy.line();
        assert!(line.ends_with(" 0 bytes there, 50000 bytes back"), "{line}");
        assert_eq!(proxy.child.wait().expect("its end").code(), Some(0));
    }
}
