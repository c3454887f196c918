//! A copy of the workspace in which every mutant sleeps, and the models built from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::Fault;
use crate::files::{SWITCH, SourceFile};
use crate::scan::{Scan, scan};

/// Which mutant a process is to be, and where it is to note the steps that it reaches.
pub(crate) const MUTANT: &str = "MUTATE_SYNC_MUTANT";
pub(crate) const REACHED: &str = "MUTATE_SYNC_REACHED";

const RUNTIME: &str = include_str!("runtime.in");

/// All the library's mutants, and the sources that hold them.
pub(crate) struct Instrumented {
    pub(crate) scan: Scan,
    texts: BTreeMap<String, String>,
}

/// Scans `files`; the mutants are numbered over all of them.
pub(crate) fn instrument(files: &[SourceFile]) -> Result<Instrumented, Fault> {
    let mut whole = Scan::default();
    let mut texts = BTreeMap::new();
    for file in files {
        let first = whole.mutants.len() + 1;
        let found = scan(&file.path, &file.text, first).map_err(|e| Fault::of(&file.path, e))?;
        whole.mutants.extend(found.mutants);
        whole.skipped.extend(found.skipped);
        texts.insert(file.path.clone(), found.instrumented);
    }
    Ok(Instrumented { scan: whole, texts })
}

/// Where this tool keeps what it makes.
pub(crate) struct Workshop {
    root: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Workshop {
    /// In the workspace's target directory.
    pub(crate) fn new(root: &Path) -> Result<Self, Fault> {
        let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let folder = root.join(target).join("mutate");
        fs::create_dir_all(&folder).map_err(|e| Fault::of(folder.display(), e))?;
        Ok(Self {
            root: root.to_owned(),
            folder,
        })
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Makes the tree what the workspace is now, but instrumented. Files that have not changed are not touched, so that cargo
    /// builds no more than it must.
    pub(crate) fn copy(&self, instrumented: &Instrumented) -> Result<(), Fault> {
        let mut paths = BTreeSet::new();
        list(&self.root, Path::new(""), &mut paths)?;
        for path in &paths {
            let name = path.display().to_string().replace('\\', "/");
            let text = match instrumented.texts.get(&name) {
                Some(text) => text.clone().into_bytes(),
                None => {
                    let read = fs::read(self.root.join(path));
                    let mut bytes = read.map_err(|e| Fault::of(path.display(), e))?;
                    if name == SWITCH {
                        bytes.extend(runtime(instrumented.scan.mutants.len()).into_bytes());
                    }
                    bytes
                }
            };
            write_if_changed(&self.tree().join(path), &text)?;
        }
        let mut present = BTreeSet::new();
        list(&self.tree(), Path::new(""), &mut present)?;
        for stale in present.difference(&paths) {
            let path = self.tree().join(stale);
            fs::remove_file(&path).map_err(|e| Fault::of(path.display(), e))?;
        }
        Ok(())
    }

    /// Builds the models; each test binary by its name, in `bench`, where no later build replaces it. Flags in the environment
    /// would take the place of the cfg, so they are left out.
    pub(crate) fn build(&self, bench: &Bench) -> Result<Vec<(String, PathBuf)>, Fault> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let flags = [
            "--cfg",
            "proactor_loom",
            "--cap-lints",
            "warn",
            "-Awarnings",
        ];
        let output = Command::new(cargo)
            .args(["test", "--package", "loom-tests", "--profile", "loom"])
            .args(["--features", "run", "--test", "*", "--no-run", "--locked"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(self.tree())
            .env("CARGO_TARGET_DIR", self.folder.join("build"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS")
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| Fault::of("cargo", e))?;
        if !output.status.success() {
            return Err(Fault::Other(format!(
                "the models do not build from the instrumented tree in {}",
                self.tree().display()
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let taken = text.lines().filter_map(binary).map(|(name, built)| {
            let path = bench.0.join(&name);
            fs::copy(&built, &path).map_err(|e| Fault::of(built.display(), e))?;
            Ok((name, path))
        });
        taken.collect()
    }
}

/// Where one run of this tool has its models, their notes and their output; gone when it ends.
pub(crate) struct Bench(pub(crate) PathBuf);

/// A run that left its bench so long ago was killed.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

impl Bench {
    pub(crate) fn new(workshop: &Workshop) -> Result<Self, Fault> {
        let fault = |e| Fault::of(workshop.folder.display(), e);
        for entry in fs::read_dir(&workshop.folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let is_bench = entry.file_name().to_string_lossy().starts_with("run-");
            let changed = entry.metadata().and_then(|about| about.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            if is_bench && age.is_some_and(|age| age > LEFT) {
                fs::remove_dir_all(entry.path()).map_err(fault)?;
            }
        }
        let folder = workshop.folder.join(format!("run-{}", process::id()));
        fs::create_dir_all(&folder).map_err(fault)?;
        Ok(Self(folder))
    }

    /// Where the models that a thread runs note the steps that they reach.
    pub(crate) fn notes(&self, thread: usize) -> PathBuf {
        self.0.join(format!("{thread}.reached"))
    }

    /// Where they say what they have to say.
    pub(crate) fn log(&self, thread: usize) -> PathBuf {
        self.0.join(format!("{thread}.log"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nobody misses it, and the next run but a day clears it away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn runtime(count: usize) -> String {
    RUNTIME
        .replace("@COUNT@", &count.to_string())
        .replace("@MUTANT@", MUTANT)
        .replace("@REACHED@", REACHED)
}

/// A test binary, if a line of cargo's messages speaks of one.
fn binary(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let executable = message["executable"].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), executable.into()))
}

/// The files below `root`, without hidden ones and what cargo has built.
fn list(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), Fault> {
    let folder = root.join(below);
    let fault = |e| Fault::of(folder.display(), e);
    for entry in fs::read_dir(&folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name();
        let path = below.join(&name);
        let built = name == "target" || entry.path().join("CACHEDIR.TAG").exists();
        if built || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(fault)?;
        if kind.is_dir() {
            list(root, &path, found)?;
        } else if kind.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}

fn write_if_changed(path: &Path, text: &[u8]) -> Result<(), Fault> {
    let fault = |e| Fault::of(path.display(), e);
    if fs::read(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    fs::write(path, text).map_err(fault)
}
