//! A bar on the terminal that draws only when told to, and so costs nothing while something is measured.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many steps, on stderr; hidden where that is no terminal.
pub fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Says on the bar what is about to be measured. Call [`inc`](ProgressBar::inc) when it is.
pub fn begin(bar: &ProgressBar, what: impl Into<String>) {
    bar.set_message(what.into());
    bar.tick();
}
