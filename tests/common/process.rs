//! What the tests of the examples share: examples as processes, with arguments, signals and exit codes.
//!
//! `cargo test` builds the examples before it runs a test; `cargo test --test NAME` alone does not
//! (`cargo build --examples` does).
#![allow(dead_code)] // every test uses a part of it

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What no wait for a process takes longer than.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

/// An example, its streams piped, but for an empty stdin.
pub(crate) fn example(name: &str) -> Command {
    let mut command = Command::new(path_of(name));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let mut path = profile.join("examples").join(name);
    path.set_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --examples` first",
        path.display()
    );
    path
}

pub(crate) fn signal(child: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.to_string()])
        .status();
    assert!(
        status.expect("the command kill").success(),
        "kill {signal} {child}"
    );
}

/// Kills a process that lives for too long, which ends every wait for it, and fails the test; also one whose test has failed.
pub(crate) struct Watchdog {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<bool>>,
}

impl Watchdog {
    pub(crate) fn watch(child: &Child) -> Self {
        Self::watch_for(child, WATCHDOG)
    }

    /// With a time limit of one's own, for what takes longer.
    pub(crate) fn watch_for(child: &Child, limit: Duration) -> Self {
        let (over, ended) = mpsc::channel();
        let pid = child.id();
        let thread = thread::spawn(move || {
            let ended = ended.recv_timeout(limit);
            if ended != Err(RecvTimeoutError::Disconnected) {
                signal(pid, "-KILL");
            }
            ended == Err(RecvTimeoutError::Timeout)
        });
        Self {
            over: Some(over),
            thread: Some(thread),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let (Some(over), true) = (self.over.take(), thread::panicking()) {
            let _ = over.send(()); // nobody else will end it
        }
        let late = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(
                matches!(late, Some(Ok(false))),
                "killed: it lived for too long"
            );
        }
    }
}

/// Waits for a process and its output.
pub(crate) fn output_of(child: Child) -> Output {
    let _watchdog = Watchdog::watch(&child);
    child.wait_with_output().expect("the example's output")
}

/// Runs any command to its end: exit code, stdout, stderr.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> (Option<i32>, String, String) {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("to start it");
    let _watchdog = Watchdog::watch_for(&child, limit);
    let output = child.wait_with_output().expect("its output");
    let owned = |bytes: &[u8]| text(bytes).to_owned();
    (
        output.status.code(),
        owned(&output.stdout),
        owned(&output.stderr),
    )
}

/// Runs an example to its end.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Output {
    let child = example(name).args(arguments).spawn();
    output_of(child.expect("to start the example"))
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// The process ended with `status`, nothing on stdout, and one line on stderr that says `about`.
pub(crate) fn assert_fails(name: &str, arguments: &[&str], status: i32, about: &str) {
    let output = run(name, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let what = format!("{name} {arguments:?}: {stdout}{stderr}");
    assert_eq!(output.status.code(), Some(status), "{what}");
    assert_eq!(stdout, "", "{what}");
    assert!(
        stderr.ends_with('\n') && stderr.lines().count() == 1,
        "{what}"
    );
    assert!(stderr.contains(about), "{about:?} is not in {what}");
}

/// Bad input: exit 2, one line on stderr that says `about`.
pub(crate) fn assert_refused(name: &str, arguments: &[&str], about: &str) {
    assert_fails(name, arguments, 2, about);
}

/// `--help`: exit 0, and every flag is in it.
pub(crate) fn assert_helps(name: &str, flags: &[&str]) {
    let output = run(name, &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for flag in flags {
        assert!(
            help.contains(flag),
            "{flag} is not in the help of {name}: {help}"
        );
    }
}

/// One request and its reply; the reply may come in pieces.
pub(crate) fn echo(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("to send");
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply, message);
}

/// A client that waits for nothing longer than a process may live.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("to connect");
    for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        limit(&stream, Some(WATCHDOG)).expect("a time limit");
    }
    stream
}
