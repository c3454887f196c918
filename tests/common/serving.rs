//! An example that serves, as a process: `listening on ADDR`, and a signal that ends it with 0.
#![allow(dead_code)] // every test uses a part of it

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout};

use crate::process::{WATCHDOG, Watchdog, example, signal};

/// Runs `body` with a command line for every strategy on both backends.
pub(crate) fn everywhere(body: impl Fn(&[&str])) {
    for strategy in ["single", "leader-followers", "work-stealing"] {
        for backend in ["auto", "portable"] {
            println!("with {strategy}, {backend}"); // shown when it fails
            body(&["--strategy", strategy, "--backend", backend]);
        }
    }
}

pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    _watchdog: Watchdog,
}

impl Server {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = example(name);
        command.args(["--addr", "127.0.0.1:0"]).args(arguments);
        let mut child = command.spawn().expect("to start the server");
        let watchdog = Watchdog::watch(&child);
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening on ").map(str::trim_end);
        let address = address.and_then(|address| address.parse().ok());
        Self {
            child,
            stdout,
            address: address.unwrap_or_else(|| panic!("not the line to expect: {line:?}")),
            _watchdog: watchdog,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("to connect");
        stream.set_read_timeout(Some(WATCHDOG)).expect("a limit");
        stream
    }

    /// SIGTERM ends it, with 0 and without a word of complaint.
    pub(crate) fn end(self) {
        signal(self.child.id(), "-TERM");
        self.ended();
    }

    /// As `end`, for one that has had its signal.
    pub(crate) fn ended(mut self) {
        let status = self.child.wait().expect("its status");
        let mut words = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut words).expect("its words");
        assert!(status.success() && words.is_empty(), "{status}: {words}");
    }
}
