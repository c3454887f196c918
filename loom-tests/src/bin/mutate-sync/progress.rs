//! A bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::hunt::Verdict;

pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    killed: AtomicUsize,
    survived: AtomicUsize,
    /// What each thread is at.
    current: Mutex<Vec<String>>,
}

impl Progress {
    pub(crate) fn new(length: usize, what: &'static str) -> Self {
        let bar = ProgressBar::new(length as u64);
        let template = "{prefix} [{wide_bar}] {pos}/{len}, {eta} left\n{wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
            killed: AtomicUsize::new(0),
            survived: AtomicUsize::new(0),
            current: Mutex::default(),
        }
    }

    pub(crate) fn begin(&self, thread: usize, what: &str) {
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if current.len() <= thread {
            current.resize(thread + 1, String::new());
        }
        what.clone_into(&mut current[thread]);
        let (killed, survived) = (
            self.killed.load(Ordering::Relaxed),
            self.survived.load(Ordering::Relaxed),
        );
        self.bar.set_message(format!(
            "{killed} killed, {survived} survived; {}",
            current.join("; ")
        ));
    }

    /// A mutant is done with.
    pub(crate) fn end(&self, verdict: &Verdict, mutant: &str) {
        let (counter, word) = match verdict {
            Verdict::Killed { .. } => (&self.killed, "killed"),
            Verdict::Survived { .. } => (&self.survived, "survived"),
            Verdict::Unreached => (&self.survived, "not reached"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.step(&format!("{word} {mutant}"));
    }

    /// One of however many is done with.
    pub(crate) fn step(&self, said: &str) {
        self.bar.inc(1);
        if self.plain {
            let (done, of) = (self.bar.position(), self.bar.length().unwrap_or(0));
            eprintln!("[{done}/{of}] {said}");
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
