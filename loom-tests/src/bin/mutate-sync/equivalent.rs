//! The list of mutants that no test could tell from the original, each with the argument why.

use std::collections::{HashMap, HashSet};

/// The list, from the workspace's root.
pub(crate) const LIST: &str = "loom-tests/equivalent-mutants.txt";

#[derive(Debug, Default)]
pub(crate) struct Equivalent {
    /// By identity: the line where it stands.
    entries: HashMap<String, usize>,
    /// What is wrong with the list itself.
    pub(crate) faults: Vec<String>,
}

impl Equivalent {
    /// Reads the list: a mutant's identity on a line, and below it, indented, the argument.
    pub(crate) fn parse(text: &str) -> Self {
        let mut list = Self::default();
        let mut open: Option<(usize, String)> = None;
        for (at, line) in (1..).zip(text.lines()) {
            let said = line.trim();
            if said.is_empty() || said.starts_with('#') {
                continue;
            }
            if line.starts_with(char::is_whitespace) {
                if open.take().is_none() && list.entries.is_empty() {
                    list.fault(at, "an argument for no mutant: an identity is not indented");
                }
                continue;
            }
            list.unargued(open.take());
            if let Some(first) = list.entries.insert(said.to_owned(), at) {
                list.fault(at, &format!("listed on line {first} already: {said}"));
            }
            open = Some((at, said.to_owned()));
        }
        list.unargued(open);
        list
    }

    fn fault(&mut self, line: usize, what: &str) {
        self.faults.push(format!("{LIST}:{line}: {what}"));
    }

    fn unargued(&mut self, entry: Option<(usize, String)>) {
        if let Some((at, identity)) = entry {
            let what = format!("say below it, indented, why no test can tell: {identity}");
            self.fault(at, &what);
        }
    }

    pub(crate) fn has(&self, identity: &str) -> bool {
        self.entries.contains_key(identity)
    }

    /// Where the mutant is listed.
    pub(crate) fn place(&self, identity: &str) -> String {
        let line = self.entries.get(identity).copied().unwrap_or(0);
        format!("{LIST}:{line}")
    }

    /// Entries of the files looked at, as `is_looked_at` says, that are no mutant's.
    pub(crate) fn stale(
        &self,
        present: &HashSet<&str>,
        is_looked_at: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut stale: Vec<_> = self
            .entries
            .iter()
            .filter(|(identity, _)| {
                let file = identity.split(" :: ").next().unwrap_or_default();
                is_looked_at(file) && !present.contains(identity.as_str())
            })
            .collect();
        stale.sort_by_key(|(_, line)| **line);
        stale
            .into_iter()
            .map(|(identity, line)| format!("{LIST}:{line}: there is no such mutant: {identity}"))
            .collect()
    }
}
