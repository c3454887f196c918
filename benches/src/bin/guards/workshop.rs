//! What a measurement needs: the tools, the program that is measured, and a place for what is found.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
            true => build_echo_server()?,
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

/// The root of the source that this was built from.
pub(crate) fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
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

fn build_echo_server() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let building = Command::new(cargo)
        .args(["build", "--release", "-p", "proactor"])
        .args(["--example", "echo_server", "--message-format=json"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut building = building.map_err(|error| format!("cannot run cargo: {error}"))?;
    let mut messages = String::new();
    if let Some(mut stdout) = building.stdout.take() {
        let read = stdout.read_to_string(&mut messages);
        read.map_err(|error| format!("cannot hear cargo: {error}"))?;
    }
    let status = building
        .wait()
        .map_err(|error| format!("cannot wait for cargo: {error}"))?;
    executable(&messages)
        .filter(|_| status.success())
        .ok_or_else(|| "the echo server could not be built: cargo said why".into())
}

/// The echo server, in the messages of cargo.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().rev();
    let mut values = messages.filter_map(|line| serde_json::from_str(line).ok());
    values.find_map(|message: serde_json::Value| {
        let built = message["target"]["name"] == "echo_server";
        built.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_server_is() {
        let messages = "\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"proactor\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"echo_server\"},\"executable\":\"/t/echo_server\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some("/t/echo_server".into()));
        assert_eq!(executable("{\"reason\":\"build-finished\"}"), None);
    }
}
