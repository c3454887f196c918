//! What a measurement needs: the tools, the program that is measured, and a place for what is found.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use proactor_bench::example::{self, workspace};

use crate::guard::{Guard, What};

pub(crate) struct Workshop {
    /// The echo server that is measured.
    pub(crate) echo_server: PathBuf,
    directory: PathBuf,
}

impl Workshop {
    /// Looks for the tools, and builds the server, if the guards need them.
    pub(crate) fn open(guards: &[Guard]) -> Result<Self, String> {
        if cfg!(debug_assertions) {
            return Err("figures of a debug build say nothing: run it with `--release`".into());
        }
        let uses = |what: fn(&What) -> bool| guards.iter().any(|guard| what(&guard.what));
        if uses(|what| matches!(what, What::EchoCalls { .. })) {
            look_for("strace", "system calls")?;
        }
        if uses(|what| {
            matches!(
                what,
                What::EchoInstructions { .. } | What::PostInstructions(_)
            )
        }) {
            look_for("valgrind", "instructions")?;
        }
        let echo_server = match uses(|what| !matches!(what, What::PostInstructions(_))) {
            true => example::built("echo_server")?,
            false => PathBuf::new(),
        };
        let directory = workspace().join("target/guards");
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(Self {
            echo_server,
            directory,
        })
    }

    /// Where a guard leaves its findings: a path that wants an extension.
    pub(crate) fn keep(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn look_for(tool: &str, what: &str) -> Result<(), String> {
    let mut asked = Command::new(tool);
    asked
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match asked.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!(
            "{what} are counted by {tool}, which is not here: install it (Debian: `apt-get install {tool}`), or choose guards by name"
        )),
    }
}
