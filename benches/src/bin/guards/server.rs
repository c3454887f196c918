//! A server, under a tool that looks at it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use proactor_bench::process::{self, Server};

use crate::clients::{Clients, Speaks};
use crate::guard::Guard;
use crate::workshop::Workshop;

/// A server that is watched, and where what it says goes.
pub(crate) struct Watched {
    pub(crate) server: Server,
    said: PathBuf,
    speaks: Speaks,
}

impl Watched {
    /// Runs the guard's server as an argument of `tool`, or alone if that is empty, and waits until it listens.
    pub(crate) fn start(
        workshop: &Workshop,
        guard: Guard,
        tool: &[&OsStr],
        kept: &Path,
    ) -> Result<Self, String> {
        let said = kept.with_extension("err");
        let stderr = File::create(&said)
            .map_err(|error| format!("cannot write {}: {error}", said.display()))?;
        let speaks = guard.what.speaks();
        let words = [tool, &[workshop.server(speaks).as_os_str()]].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["--addr", "127.0.0.1:0"])
            .args(["--strategy", &guard.strategy.to_string()])
            .args(["--threads", &guard.threads.to_string()])
            .args(guard.what.arguments())
            .stderr(stderr);
        let started = process::processors().and_then(|all| Server::start(command, &all));
        match started {
            Ok(server) => Ok(Self {
                server,
                said,
                speaks,
            }),
            Err(error) => Err(format!("{error}; {}", tail(&said))),
        }
    }

    pub(crate) fn clients(&self, connections: usize) -> Result<Clients, String> {
        Clients::connect(self.server.address(), connections, self.speaks)
    }

    /// Has it end by itself.
    pub(crate) fn stop(self) -> Result<(), String> {
        let stopped = self.server.stop();
        stopped.map_err(|error| format!("{error}; {}", tail(&self.said)))
    }
}

/// The last of what a process said.
fn tail(said: &Path) -> String {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match &lines[lines.len().saturating_sub(5)..] {
        [] => "it said nothing".into(),
        last => format!("it said:\n{}", last.join("\n")),
    }
}
