//! Mutants, and the insertions that make each step of a source ask whether it is to be taken.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::Span;

use crate::scan::Scan;

/// One step left out or weakened.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// By which the instrumented tree knows it: from 1 on, over all files.
    pub(crate) number: usize,
    /// File, function, step: the same after lines have moved.
    pub(crate) identity: String,
    /// File and function: its siblings have the same.
    pub(crate) scope: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) before: String,
    pub(crate) after: String,
}

/// A step that no mutant was made of.
#[derive(Clone, Debug)]
pub(crate) struct Skipped {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) step: String,
    pub(crate) why: &'static str,
}

/// Where a `while` and its parts stand.
pub(crate) struct WhileParts {
    pub(crate) whole: Range<usize>,
    pub(crate) word: Range<usize>,
    /// Right after the opening brace.
    pub(crate) body: usize,
}

/// Texts to be inserted at an offset: those that close what stands before it, innermost first, and then those that open what
/// follows, outermost first.
#[derive(Default)]
struct At {
    closing: Vec<String>,
    opening: Vec<String>,
}

/// A file's mutants and edits, while it is being scanned; steps come outermost first.
pub(crate) struct Edits<'s> {
    file: &'s str,
    source: &'s str,
    first: usize,
    insertions: HashMap<usize, At>,
    identities: HashMap<String, usize>,
    scan: Scan,
}

/// Where the runtime stands, in the instrumented tree.
const RUNTIME: &str = "crate::sync::mutate::";

impl<'s> Edits<'s> {
    pub(crate) fn new(file: &'s str, source: &'s str, first: usize) -> Self {
        Self {
            file,
            source,
            first,
            insertions: HashMap::new(),
            identities: HashMap::new(),
            scan: Scan::default(),
        }
    }

    fn line(&self, at: usize) -> usize {
        self.source[..at].matches('\n').count() + 1
    }

    pub(crate) fn skip(&mut self, span: Span, step: &str, why: &'static str) {
        self.scan.skipped.push(Skipped {
            file: self.file.to_owned(),
            line: self.line(span.byte_range().start),
            step: step.to_owned(),
            why,
        });
    }

    /// The source itself.
    pub(crate) fn text(&self, of: Range<usize>) -> &'s str {
        &self.source[of]
    }

    fn mutant(&mut self, path: &[String], what: &str) -> usize {
        let number = self.first + self.scan.mutants.len();
        let scope = format!("{} :: {}", self.file, path.join("::"));
        let mut identity = format!("{scope} :: {what}");
        let count = self.identities.entry(identity.clone()).or_default();
        *count += 1;
        if *count > 1 {
            identity = format!("{identity} ({count})");
        }
        self.scan.mutants.push(Mutant {
            number,
            identity,
            scope,
            file: self.file.to_owned(),
            line: 0,
            before: String::new(),
            after: String::new(),
        });
        number
    }

    fn open(&mut self, at: usize, text: &str, number: usize) {
        let text = spelt(text, number);
        self.insertions.entry(at).or_default().opening.push(text);
    }

    fn close(&mut self, at: usize, text: &str, number: usize) {
        let text = spelt(text, number);
        self.insertions.entry(at).or_default().closing.push(text);
    }

    /// A mutant that stands around `whole`; the texts are as `spelt` reads them.
    pub(crate) fn wrap(
        &mut self,
        path: &[String],
        what: &str,
        whole: &Range<usize>,
        open: &str,
        close: &str,
    ) -> Shown<'_, 's> {
        let number = self.mutant(path, what);
        self.open(whole.start, open, number);
        self.close(whole.end, close, number);
        Shown(self)
    }

    /// A mutant that goes round a loop once at most.
    pub(crate) fn once(&mut self, path: &[String], what: &str, parts: &WhileParts) {
        let number = self.mutant(path, what);
        self.open(parts.whole.start, "{ let mut gone_round = false; ", number);
        let leave = " if @again(#, &mut gone_round) { break; }";
        self.open(parts.body, leave, number);
        self.close(parts.whole.end, " }", number);
        Shown(self).shown(&parts.word, "if");
    }

    /// All the texts inserted.
    pub(crate) fn finish(mut self) -> Scan {
        let mut offsets: Vec<_> = self.insertions.into_iter().collect();
        offsets.sort_unstable_by_key(|(at, _)| *at);
        let mut text = String::with_capacity(self.source.len() * 2);
        let mut done = 0;
        for (at, texts) in offsets {
            text.push_str(&self.source[done..at]);
            text.extend(texts.closing.into_iter().rev());
            text.extend(texts.opening);
            done = at;
        }
        text.push_str(&self.source[done..]);
        self.scan.instrumented = text;
        self.scan
    }
}

/// The first `@` of a text stands for the runtime, the first `#` for the mutant's number.
fn spelt(text: &str, number: usize) -> String {
    let number = number.to_string();
    text.replacen('@', RUNTIME, 1).replacen('#', &number, 1)
}

/// The latest mutant, which is yet to be shown to readers.
pub(crate) struct Shown<'e, 's>(&'e mut Edits<'s>);

impl Shown<'_, '_> {
    /// Its lines before and after: `part` of them becomes `with`.
    pub(crate) fn shown(self, part: &Range<usize>, with: &str) {
        let source = self.0.source;
        let start = source[..part.start].rfind('\n').map_or(0, |at| at + 1);
        let end = source[part.end..]
            .find('\n')
            .map_or(source.len(), |at| part.end + at);
        let line = self.0.line(part.start);
        let after = [&source[start..part.start], with, &source[part.end..end]].concat();
        if let Some(mutant) = self.0.scan.mutants.last_mut() {
            mutant.line = line;
            mutant.before = on_one_line(&source[start..end]);
            mutant.after = on_one_line(&after);
        }
    }
}

fn on_one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}
