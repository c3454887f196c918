//! The library's own examples, built for what measures them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the example of that name for release, as it stands in the source that this was built from. Where it is then.
///
/// # Errors
///
/// If this is a debug build, whose figures say nothing; if cargo cannot be run, or cannot build it.
pub fn built(name: &str) -> Result<PathBuf, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: run it with `--release`".into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let building = Command::new(cargo)
        .args(["build", "--release", "-p", "proactor"])
        .args(["--example", name, "--message-format=json"])
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
    executable(&messages, name)
        .filter(|_| status.success())
        .ok_or_else(|| format!("the example {name} could not be built: cargo said why"))
}

/// The root of the source that this was built from.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The example, in the messages of cargo.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().rev();
    let mut values = messages.filter_map(|line| serde_json::from_str(line).ok());
    values.find_map(|message: serde_json::Value| {
        let built = message["target"]["name"] == name;
        built.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_example_is() {
        let messages = "\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"proactor\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"echo_server\"},\"executable\":\"/t/echo_server\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        let found = executable(messages, "echo_server");
        assert_eq!(found, Some("/t/echo_server".into()));
        assert_eq!(executable(messages, "mini_redis"), None);
    }
}
