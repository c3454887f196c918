//! Crates outside of the workspace, for which the library is what it is to those who embed it: built, run, or refused.
//!
//! Stands beside `process`, which whoever includes this includes, too. The first build of a test run builds the library anew.
#![allow(dead_code)] // every test uses a part of it

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::process::finish;

/// What cargo gets, for building the library anew.
const BUILD: Duration = Duration::from_secs(400);

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A crate outside of the workspace; gone with the test.
pub(crate) struct Crate(PathBuf);

impl Crate {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (number, process) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let unique = format!("proactor-{name}-{process}-{number}");
        let new = Self(std::env::temp_dir().join(unique));
        // The versions that the library was built with, which are here already.
        let lock = fs::read_to_string(root().join("Cargo.lock"));
        new.write("Cargo.lock", &lock.expect("the workspace's lock file"));
        new
    }

    /// One with a library, which depends on ours and on nothing else.
    pub(crate) fn with_library(name: &str, library: &str) -> Self {
        Self::with_dependencies(name, library, &[])
    }

    /// One with a library, which depends on ours, and on others that the workspace has, in the versions that it has.
    ///
    /// Its name tells its text: to cargo, crates of one name are one crate wherever they stand, and of two that are built at the
    /// same time it would take the one's result for the other's.
    pub(crate) fn with_dependencies(name: &str, library: &str, others: &[&str]) -> Self {
        let new = Self::new(name);
        let here = root().display();
        let mut text = DefaultHasher::new();
        library.hash(&mut text);
        let text = text.finish();
        let others: String = others
            .iter()
            .map(|other| format!("{other} = '*'\n"))
            .collect();
        let manifest = format!(
            "[package]\nname = \"{name}-{text:x}\"\nedition = \"2024\"\n[dependencies]\nproactor = {{ path = '{here}' }}\n{others}"
        );
        new.write("Cargo.toml", &manifest);
        new.write("src/lib.rs", library);
        new
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Runs cargo in it, without the network: exit code, stdout, stderr.
    fn try_cargo(&self, command: &str) -> (Option<i32>, String, String) {
        finish(&mut self.cargo_of("embed", &[command]), BUILD)
    }

    /// Cargo in it, without the network, and what it builds in a folder of that name.
    fn cargo_of(&self, target: &str, command: &[&str]) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo
            .current_dir(&self.0)
            .args(["--offline", "--quiet"])
            .args(command);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target);
        cargo.env("CARGO_TARGET_DIR", target);
        for flags in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
        ] {
            cargo.env_remove(flags);
        }
        cargo
    }

    /// Tests its library under loom; what is on stdout.
    pub(crate) fn test_under_loom(&self) -> String {
        let test = ["test", "--lib", "--", "--nocapture"];
        let mut cargo = self.cargo_of("embed-loom", &test);
        cargo.env("RUSTFLAGS", "--cfg proactor_loom");
        let (code, stdout, stderr) = finish(&mut cargo, BUILD);
        assert_eq!(code, Some(0), "under loom: {stdout}{stderr}");
        stdout
    }

    /// Runs cargo in it, which succeeds; what is on its stdout.
    pub(crate) fn cargo(&self, command: &str) -> String {
        let (code, stdout, stderr) = self.try_cargo(command);
        assert_eq!(code, Some(0), "cargo {command}: {stdout}{stderr}");
        stdout
    }
}

impl Drop for Crate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The snippet, a whole `lib.rs`, compiles.
pub(crate) fn compiles(snippet: &str) {
    Crate::with_library("snippet", snippet).cargo("check");
}

/// The compiler refuses the snippet, a whole `lib.rs`, with this error and no other. What it says.
///
/// Beside it stands its cure, which [`compiles`]: else the snippet may be refused for a slip of the pen.
pub(crate) fn refused(snippet: &str, error: &str) -> String {
    let (code, _, said) = Crate::with_library("snippet", snippet).try_cargo("check");
    assert_ne!(code, Some(0), "it compiles: {snippet}");
    let wanted = format!("error[{error}]: ");
    let others: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("error") && !line.starts_with(&wanted))
        .filter(|line| !line.starts_with("error: could not compile `snippet-"))
        .collect();
    assert!(said.contains(&wanted) && others.is_empty(), "{said}");
    said
}
