//! The strategies: which thread runs which handler. One line of the builder chooses.
//!
//! | strategy | order | for |
//! |---|---|---|
//! | [`SingleThreaded`] | first come, first served, on one thread | handlers that are short, or share what only one thread may touch |
//! | [`LeaderFollowers`] | one queue for all threads; one thread leads (waits for the next event), the others follow | connections that mostly wait |
//! | [`WorkStealing`] | a stack for each thread, others steal from its old end | handlers that make more work for each other |
//!
//! The trait, and what it takes to write another: [`Dispatcher`].

mod leader_followers;
mod single;
mod work_stealing;

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

pub use crate::port::dispatcher::{Dispatcher, Origin, Placed, Worker};
pub use crate::queue::{Injector, Stack};
pub use leader_followers::LeaderFollowers;
pub use single::SingleThreaded;
pub use work_stealing::WorkStealing;

/// The name of one of the strategies here, for configuration.
///
/// ```
/// use proactor::Strategy;
/// let strategy: Strategy = "work-stealing".parse()?;
/// assert_eq!(strategy.to_string(), "work-stealing");
/// assert_eq!("threads".parse::<Strategy>().unwrap_err().to_string(),
///     "unknown strategy `threads`: it is one of single, leader-followers, work-stealing");
/// # Ok::<(), proactor::ParseStrategyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// [`SingleThreaded`]
    Single,
    /// [`LeaderFollowers`]
    LeaderFollowers,
    /// [`WorkStealing`]
    WorkStealing,
}

impl Strategy {
    /// All of them, the simplest first.
    pub const ALL: [Self; 3] = [Self::Single, Self::LeaderFollowers, Self::WorkStealing];

    /// A dispatcher of that name.
    pub fn dispatcher(self) -> Box<dyn Dispatcher> {
        match self {
            Self::Single => Box::new(SingleThreaded::new()),
            Self::LeaderFollowers => Box::new(LeaderFollowers::new()),
            Self::WorkStealing => Box::new(WorkStealing::new()),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Single => "single",
            Self::LeaderFollowers => "leader-followers",
            Self::WorkStealing => "work-stealing",
        })
    }
}

impl FromStr for Strategy {
    type Err = ParseStrategyError;
    fn from_str(text: &str) -> Result<Self, ParseStrategyError> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.to_string() == text)
            .ok_or_else(|| ParseStrategyError(text.to_owned()))
    }
}

/// A text that names no [`Strategy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseStrategyError(String);

impl fmt::Display for ParseStrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown strategy `{}`: it is one of single, leader-followers, work-stealing",
            self.0
        )
    }
}

impl std::error::Error for ParseStrategyError {}

/// What pools take when the builder is told nothing: as many threads as the machine has processors.
fn all_processors() -> NonZeroUsize {
    NonZeroUsize::new(num_cpus::get()).unwrap_or(NonZeroUsize::MIN)
}
