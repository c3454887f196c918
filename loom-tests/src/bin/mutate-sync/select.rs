//! Which of the mutants are wanted.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use crate::edits::{Mutant, Skipped};
use crate::files::SourceFile;
use crate::{Fault, Options};

/// The Ith of N parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    part: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<usize>().ok();
        let parts = text
            .split_once('/')
            .map(|(part, of)| (parse(part), parse(of)));
        match parts {
            Some((Some(part), Some(of))) if 1 <= part && part <= of => Ok(Self { part, of }),
            _ => Err("write it as 1/4, which is the first of four".to_owned()),
        }
    }
}

pub(crate) struct Selection {
    /// None are all, also those that are no more.
    files: Option<BTreeSet<String>>,
    shard: Option<Shard>,
}

impl Selection {
    pub(crate) fn new(options: &Options, root: &Path, files: &[SourceFile]) -> Result<Self, Fault> {
        let mut wanted = None;
        for only in &options.only {
            let matching = files.iter().filter(|file| names(only, &file.path));
            let matching: Vec<_> = matching.map(|file| file.path.clone()).collect();
            if matching.is_empty() {
                let all: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
                return Err(Fault::Usage(format!(
                    "the models compile no file {only}; there are\n  {}",
                    all.join("\n  ")
                )));
            }
            wanted.get_or_insert_with(BTreeSet::new).extend(matching);
        }
        if let Some(revision) = &options.changed {
            let changed = changed(root, revision)?;
            wanted = Some(match wanted {
                Some(wanted) => wanted.intersection(&changed).cloned().collect(),
                None => changed,
            });
        }
        Ok(Self {
            files: wanted,
            shard: options.shard,
        })
    }

    pub(crate) fn looks_at(&self, file: &str) -> bool {
        self.files.as_ref().is_none_or(|files| files.contains(file))
    }

    pub(crate) fn mutants<'m>(&self, all: &'m [Mutant]) -> Vec<&'m Mutant> {
        let of_files = all.iter().filter(|mutant| self.looks_at(&mutant.file));
        match self.shard {
            Some(Shard { part, of }) => of_files.skip(part - 1).step_by(of).collect(),
            None => of_files.collect(),
        }
    }

    pub(crate) fn skipped<'s>(&self, all: &'s [Skipped]) -> Vec<&'s Skipped> {
        all.iter()
            .filter(|skip| self.looks_at(&skip.file))
            .collect()
    }
}

/// Whether `path` ends with the parts of `only`.
fn names(only: &str, path: &str) -> bool {
    let only = only.trim_start_matches("./");
    let before = path.strip_suffix(only);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The sources that differ from `revision`, also those that git does not know yet.
fn changed(root: &Path, revision: &str) -> Result<BTreeSet<String>, Fault> {
    let differ: &[&str] = &["diff", "--name-only", "--relative", revision, "--", "src"];
    let unknown: &[&str] = &["ls-files", "--others", "--exclude-standard", "--", "src"];
    let mut changed = BTreeSet::new();
    for arguments in [differ, unknown] {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(root)
            .output()
            .map_err(|e| Fault::of("git", e))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Fault::Usage(format!(
                "git cannot tell what changed: {}",
                said.trim()
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        changed.extend(text.lines().map(str::to_owned));
    }
    Ok(changed)
}
