//! Sources as words, numbers and operators: no Rust parser. The tests in `tidy.rs` show what it understands.

use crate::Fault;

/// Words, numbers and operators, each with its line.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) words: Vec<&'static str>,
    pub(crate) lines: Vec<usize>,
}

impl Tokens {
    pub(crate) fn of(text: &'static str) -> Self {
        let mut tokens = Self::default();
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let skipped = skipped(rest);
            let length = match first {
                _ if skipped > 0 => skipped,
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ if ["::", "->", "=>"].iter().any(|two| rest.starts_with(two)) => 2,
                _ => first.len_utf8(),
            };
            let (word, after) = rest.split_at(length);
            if skipped == 0 {
                tokens.words.push(word);
                tokens.lines.push(line);
            }
            line += word.matches('\n').count();
            rest = after;
        }
        tokens
    }

    /// The word at an index; nothing beyond the ends.
    pub(crate) fn word(&self, at: usize) -> &'static str {
        self.words.get(at).copied().unwrap_or("")
    }

    pub(crate) fn begins(&self, at: usize, with: &str) -> bool {
        let mut with = with.split(' ').zip(at..);
        with.all(|(word, at)| self.word(at) == word)
    }

    /// The first of `ends` from `start` on that stands outside of all brackets.
    fn find(&self, start: usize, brackets: [&[&str]; 2], ends: &[&str]) -> Option<usize> {
        let mut depth = 0_usize;
        (start..self.words.len()).find(|&at| {
            let word = &self.word(at);
            let found = depth == 0 && ends.contains(word);
            depth += usize::from(brackets[0].contains(word));
            depth = depth.saturating_sub(usize::from(brackets[1].contains(word)));
            found
        })
    }

    /// The same, in what comes before an item's body.
    fn find_in_head(&self, start: usize, ends: &[&str]) -> Option<usize> {
        self.find(start, [&["(", "[", "<"], &[")", "]", ">"]], ends)
    }

    /// The index of the brace that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let found = self.find(open + 1, [&["{"], &["}"]], &["}"]);
        found.unwrap_or(self.words.len() - 1)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the space, comment, string or character that `rest` begins with.
fn skipped(rest: &str) -> usize {
    let until = |start: usize, end: &str| match rest[start..].find(end) {
        Some(length) => start + length + end.len(),
        None => rest.len(),
    };
    if rest.starts_with("//") {
        return until(0, "\n");
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    let raw = rest.trim_start_matches(['b', 'c', 'r']);
    let quoted = raw.trim_start_matches('#');
    if ["r", "br", "cr"].contains(&&rest[..rest.len() - raw.len()]) && quoted.starts_with('"') {
        let hashes = "#".repeat(raw.len() - quoted.len());
        return until(rest.len() - quoted.len() + 1, &format!("\"{hashes}"));
    }
    // A quote that closes neither after one character nor after an escape is a lifetime's.
    let is_char = rest.starts_with('\'') && rest.chars().nth(2) == Some('\'');
    if !is_char && !rest.starts_with('"') && !rest.starts_with("'\\") {
        return rest.len() - rest.trim_start().len();
    }
    let (quote, mut escaped) = (&rest[..1], false);
    let closes = |c: char| {
        let closes = !escaped && quote.starts_with(c);
        escaped = !escaped && c == '\\';
        closes
    };
    let length = rest[1..].find(closes);
    length.map_or(rest.len(), |length| length + 2)
}

/// Leaves out each item under `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
pub(crate) fn without_tests(mut tokens: Tokens) -> Tokens {
    let mut at = 0;
    while at < tokens.words.len() {
        let mut attributes = ["# [ cfg ( test ) ]", "# [ cfg ( all ( test ,"].into_iter();
        if !attributes.any(|attribute| tokens.begins(at, attribute)) {
            at += 1;
            continue;
        }
        // The item ends with its body, or like a declaration, a field, or the last one of these.
        let end = tokens.find_in_head(at, &["{", ";", ",", "}"]);
        let end = match end.map(|end| (end, tokens.word(end))) {
            Some((open, "{")) => tokens.closing(open) + 1,
            Some((end, word)) => end + usize::from(word != "}"),
            None => tokens.words.len(),
        };
        tokens.words.drain(at..end);
        tokens.lines.drain(at..end);
    }
    tokens
}

/// Name and line of every function with a body, and how many lines it has.
pub(crate) fn functions(tokens: &Tokens) -> Vec<(&'static str, usize, usize)> {
    let function = |at: usize| {
        // Without a name it is the type of a pointer.
        let is_function = tokens.word(at) == "fn" && tokens.word(at + 1) != "(";
        let open = is_function.then(|| tokens.find_in_head(at, &["{", ";"]))??;
        let has_body = tokens.word(open) == "{";
        let (name, line) = (tokens.word(at + 1), tokens.lines[at]);
        has_body.then(|| (name, line, tokens.lines[tokens.closing(open)] - line + 1))
    };
    (0..tokens.words.len()).filter_map(function).collect()
}

/// Every path that is named: groups are taken apart, and what begins with `self` or `super` is told from
/// `crate`, given the file's module.
pub(crate) fn paths(tokens: &Tokens, module: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut inside: Vec<(usize, String)> = vec![(usize::MAX, module.to_owned())];
    let mut at = 0;
    while at < tokens.words.len() {
        inside.retain(|(end, _)| at < *end);
        let module = inside.last().map_or("", |(_, module)| module);
        if tokens.word(at) == "mod" && tokens.word(at + 2) == "{" {
            let inner = format!("{module}::{}", tokens.word(at + 1));
            inside.push((tokens.closing(at + 2), inner));
            at += 3;
            continue;
        }
        let first = found.len();
        let is_scope = tokens.begins(at.saturating_sub(2), "( in");
        at = read_path(tokens, at, "", &mut found);
        if is_scope {
            found.truncate(first); // `pub(in crate::a)` names nothing.
        }
        for (_, path) in &mut found[first..] {
            *path = from_crate(path, module);
        }
    }
    found
}

/// Reads the path at `at`, or each path of the group that it ends in. Gives the index after it.
fn read_path(tokens: &Tokens, mut at: usize, prefix: &str, found: &mut Vec<Fault>) -> usize {
    let line = tokens.lines[at];
    let is_name = |name: &str| name == "*" || name.starts_with(is_word);
    let first = tokens.word(at);
    let mut path = format!("{prefix}{first}");
    at += 1;
    if !is_name(first) && first != ">" {
        return at; // What is between paths is none.
    }
    while tokens.word(at) == "::" && is_name(tokens.word(at + 1)) {
        path = format!("{path}::{}", tokens.word(at + 1));
        at += 2;
    }
    if tokens.begins(at, ":: {") {
        let close = tokens.closing(at + 1);
        at += 2;
        while at < close {
            at = read_path(tokens, at, &format!("{path}::"), found);
        }
        return close + 1;
    }
    // The rest of `Vec::<u8>::new` is none either.
    if path.split("::").all(is_name) {
        found.push((line, path));
    }
    // In a group, the new name would be read as a path of its own.
    let renamed = tokens.word(at) == "as" && !prefix.is_empty();
    if renamed { at + 2 } else { at }
}

pub(crate) fn from_crate(path: &str, module: &str) -> String {
    let rest = path.strip_prefix("self::");
    if let Some(rest) = rest.unwrap_or(path).strip_prefix("super::") {
        let (parent, _) = module.rsplit_once("::").unwrap_or((module, ""));
        return from_crate(&format!("self::{rest}"), parent);
    }
    rest.map_or(path.to_owned(), |rest| format!("{module}::{rest}"))
}
