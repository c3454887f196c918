//! What the figures were made on, and of what: without that they say little.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Peers whose versions are told, as the lock file names them.
const PACKAGES: &[&str] = &[
    "async-executor",
    "compio",
    "crossbeam-channel",
    "crossbeam-deque",
    "hyper",
    "may",
    "monoio",
    "polling",
    "rayon",
    "smol",
    "threadpool",
    "tokio",
];
/// Peers in C and C++, as Debian names them.
const DEBIAN_PACKAGES: &[&str] = &["libasio-dev", "libuv1-dev", "redis-server"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    /// Whether it ran ahead of everything else on the machine.
    #[serde(default)]
    pub(crate) ahead: bool,
    /// Name and version.
    pub(crate) peers: Vec<(String, String)>,
}

impl Machine {
    /// This one. What cannot be found out is `unknown`.
    pub(crate) fn look() -> Self {
        let processors = proactor_bench::process::processors();
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = fs::read_to_string(lock).unwrap_or_default();
        let mut peers = versions(&lock, PACKAGES);
        peers.extend(DEBIAN_PACKAGES.iter().filter_map(|package| {
            let version = said("dpkg-query", &["-W", "-f=${Version}", package])?;
            Some(((*package).to_owned(), version))
        }));
        Self {
            processor: value_in("/proc/cpuinfo", "model name"),
            processors: processors.map_or(0, |all| all.len()),
            memory_gib: gib(&value_in("/proc/meminfo", "MemTotal")),
            kernel: kernel().unwrap_or_else(unknown),
            rustc: said("rustc", &["--version"]).unwrap_or_else(unknown),
            commit: commit().unwrap_or_else(unknown),
            ahead: is_real_time(&fs::read_to_string("/proc/self/stat").unwrap_or_default()),
            peers,
        }
    }

    /// In one paragraph.
    pub(crate) fn describe(&self) -> String {
        let peers = self.peers.iter();
        let peers = Vec::from_iter(peers.map(|(name, version)| format!("{name} {version}")));
        let ahead = if self.ahead {
            ", run ahead of all else (`chrt -r 1`)"
        } else {
            ""
        };
        format!(
            "{} processors of an {}, {} GiB, {}, {}; proactor at {}{ahead}. Peers: {}.",
            self.processors,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.rustc,
            self.commit,
            peers.join(", "),
        )
    }
}

/// Today, in UTC.
pub(crate) fn date() -> String {
    said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(unknown)
}

fn unknown() -> String {
    "unknown".into()
}

/// Its name and version, without what its builder calls it.
fn kernel() -> Option<String> {
    let said = said("uname", &["-sr"])?;
    said.split('-').next().map(str::to_owned)
}

/// The commit that is checked out, and whether something was changed since.
fn commit() -> Option<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git = |arguments: &[&str]| said("git", &[&["-C", directory], arguments].concat());
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "src", "benches/src"]).is_some();
    Some(commit + if changed { ", changed" } else { "" })
}

/// Whether the process of that `/proc/PID/stat` is scheduled before all that are not real-time ones.
fn is_real_time(stat: &str) -> bool {
    // Counted from behind the name, which may hold anything.
    const POLICY: usize = 38;
    let fields = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace());
    let policy = fields.and_then(|mut fields| fields.nth(POLICY));
    matches!(policy, Some("1" | "2")) // first in first out, round robin
}

/// What a program says on its standard output, if it ends well and says anything.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

/// What stands behind the colon of the first line with that key.
fn value_in(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    value.unwrap_or_else(unknown)
}

/// Of `16311332 kB`.
fn gib(kib: &str) -> u64 {
    let kib: Option<u64> = kib.split(' ').next().and_then(|kib| kib.parse().ok());
    kib.map_or(0, |kib| (kib + (1 << 19)) >> 20)
}

/// Name and version of those packages, of a lock file.
fn versions(lock: &str, packages: &[&str]) -> Vec<(String, String)> {
    let quoted = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        value.strip_suffix('"').map(str::to_owned)
    };
    let lines = lock.lines().zip(lock.lines().skip(1));
    let all = lines
        .filter_map(|(name, version)| Some((quoted(name, "name")?, quoted(version, "version")?)));
    all.filter(|(name, _)| packages.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_a_lock_file() {
        let lock = "[[package]]\nname = \"tokio\"\nversion = \"1.2.3\"\ndependencies = [\n \"mio\",\n]\n\n\
            [[package]]\nname = \"tokio-util\"\nversion = \"0.7.1\"\n";
        let expected = vec![("tokio".to_owned(), "1.2.3".to_owned())];
        assert_eq!(versions(lock, &["tokio", "smol"]), expected);
    }

    #[test]
    fn the_policy_is_the_41st_field() {
        let stat = |policy: u8| {
            let fields = Vec::from_iter((3..=52).map(|field| match field {
                41 => policy.to_string(),
                _ => "7".to_owned(),
            }));
            format!("12 (a) 2 b) {}", fields.join(" "))
        };
        assert_eq!(
            [0, 1, 2].map(|policy| is_real_time(&stat(policy))),
            [false, true, true]
        );
        assert!(!is_real_time(""));
    }

    #[test]
    fn memory_is_rounded() {
        assert_eq!(gib("16311332 kB"), 16);
        assert_eq!(gib("unknown"), 0);
    }
}
