//! What a measurement needs: the tools, the program that is measured, and a place for what is found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proactor_bench::example::{self, workspace};

use crate::clients::Speaks;
use crate::guard::{Guard, What};

pub(crate) struct Workshop {
    /// The servers that are measured, as far as they are.
    echo_server: PathBuf,
    http_server: PathBuf,
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
        if uses(|what| what.is_instructions()) {
            look_for("valgrind", "instructions")?;
        }
        let built = |name, is_used| match is_used {
            true => example::built(name),
            false => Ok(PathBuf::new()),
        };
        let http = uses(|what| what.speaks() == Speaks::Http);
        let echo = uses(|what| {
            what.speaks() == Speaks::Echo && !matches!(what, What::PostInstructions(_))
        });
        let (http_server, echo_server) = (built("http_server", http)?, built("echo_server", echo)?);
        let directory = workspace().join("target/guards");
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(Self {
            echo_server,
            http_server,
            directory,
        })
    }

    pub(crate) fn server(&self, speaks: Speaks) -> &Path {
        match speaks {
            Speaks::Echo => &self.echo_server,
            Speaks::Http => &self.http_server,
        }
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
