//! The load of the guards for posts: one thread, so that every run is the same to the instruction.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::ValueEnum;
use proactor::{CompletionPort, Proactor, Strand, Strategy};

/// Levels of a tree, and with them the handlers of a round.
const LEVELS: u32 = 9;
pub(crate) const HANDLERS: usize = (1 << LEVELS) - 1;

/// Who posts.
#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
pub(crate) enum Shape {
    /// A thread that runs no handler at that time
    Post,
    /// Each handler, two others
    Tree,
    /// As the first, but to a strand
    Strand,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Tree => "tree",
            Self::Strand => "strand",
        }
    }
}

static RAN: AtomicUsize = AtomicUsize::new(0);

fn count() {
    // One thread: plain, so that the counting itself costs next to nothing.
    RAN.store(RAN.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Posts and runs the handlers of each round.
pub(crate) fn run(shape: Shape, strategy: Strategy, rounds: usize) -> Result<(), String> {
    let proactor = Proactor::builder()
        .strategy(strategy)
        .threads(NonZeroUsize::MIN)
        .build();
    let proactor = proactor.map_err(|error| error.to_string())?;
    let before = RAN.load(Ordering::Relaxed);
    let strand = Strand::new(&proactor, ());
    for _ in 0..rounds {
        match shape {
            Shape::Post => (0..HANDLERS).for_each(|_| proactor.post(count)),
            Shape::Tree => grow(proactor.port(), LEVELS),
            Shape::Strand => (0..HANDLERS).for_each(|_| strand.post(|()| count())),
        }
        proactor.run();
    }
    match RAN.load(Ordering::Relaxed) - before {
        ran if ran == rounds * HANDLERS => Ok(()),
        ran => Err(format!("{ran} handlers ran of {}", rounds * HANDLERS)),
    }
}

/// Posts the top of a tree, whose handler posts the two below it.
fn grow(port: &CompletionPort, levels: u32) {
    let inside = port.clone();
    port.post(move || {
        count();
        if levels > 1 {
            grow(&inside, levels - 1);
            grow(&inside, levels - 1);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handler_of_every_shape_runs() {
        for shape in [Shape::Post, Shape::Tree, Shape::Strand] {
            for strategy in Strategy::ALL {
                assert_eq!(run(shape, strategy, 3), Ok(()), "{shape:?}, {strategy}");
            }
        }
    }
}
