//! What every strategy promises, and how the kit says whether it is so.

use std::fmt;

/// What a strategy promises. Shown in words.
///
/// ```
/// use proactor::conformance::Promise;
/// assert_eq!(Promise::ExactlyOnce.to_string(), "what `dispatch` took, some `next` gives back, exactly once");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// `attach` answers with the number that it was told, or refuses it and says what to change; told nothing, it chooses. It
    /// takes at least one of the numbers that it is asked for, and answers 1 to 1024.
    Attach,
    /// `dispatch`, `next` and `is_empty` return, however much is held: they wait for nobody, have no capacity, and do not panic.
    Answers,
    /// `dispatch` runs nothing and drops nothing.
    OnlyTakes,
    /// What `dispatch` took comes back: whatever its key, wherever it came from, whoever asks, and however much it is.
    ExactlyOnce,
    /// What comes from outside is `Shared`, and whatever is `Shared` can be taken by every worker, while another that may have
    /// taken some of it is in a handler.
    Shared,
    /// What is `Own` is found by the worker that the origin names, in its turn or by `next`, though nobody else asks.
    Own,
    /// `is_empty` is no longer true when `dispatch` has answered `Shared`, until the last such completion was taken.
    HonestlyEmpty,
    /// When everything was taken, `is_empty` says so: a worker that hears no never sleeps, and burns a processor.
    SleepsWhenEmpty,
    /// When a worker leaves, what its turn and its kept list hold is dispatched anew by the port; nothing else stays behind that
    /// only this worker would find.
    HandsOn,
    /// One that waits runs within 10,000 picks of a worker, though its handlers post, defer or reap new ones all the time.
    /// A promise of every strategy, but for one that is said to break it ([`Kit::may_starve`](super::Kit::may_starve)).
    NobodyStarves,
    /// The order that is claimed ([`Kit::order`](super::Kit::order)), for one worker. Not looked at unless one is.
    Order,
    /// A pool that sleeps wakes for each call; and two calls that need each other both run, if there are two threads.
    Wakes,
    /// Exactly once, also when many threads post, also from inside handlers, and many take.
    Together,
    /// Operations on sockets and timers are served as calls are, on both backends.
    EveryKind,
    /// A worker is a number, not a thread: what a stop left is run after the restart, by whichever threads come then.
    AnyThread,
    /// A handler's panic loses nothing: neither what is held, nor what is posted while the handler's stack unwinds.
    Panics,
    /// At the end everything is given up: `next` gives it to whoever clears up, or it goes as the strategy is dropped.
    GivesUp,
}

impl Promise {
    /// All of them, the simplest first: so are they looked at.
    pub const ALL: [Self; 17] = [
        Self::Attach,
        Self::Answers,
        Self::OnlyTakes,
        Self::ExactlyOnce,
        Self::Shared,
        Self::Own,
        Self::HonestlyEmpty,
        Self::SleepsWhenEmpty,
        Self::HandsOn,
        Self::NobodyStarves,
        Self::Order,
        Self::Wakes,
        Self::Together,
        Self::EveryKind,
        Self::AnyThread,
        Self::Panics,
        Self::GivesUp,
    ];

    /// Whether a model looks at it, too.
    pub fn is_modelled(self) -> bool {
        use Promise::{AnyThread, ExactlyOnce, GivesUp, HandsOn, HonestlyEmpty, Shared, Wakes};
        matches!(
            self,
            ExactlyOnce | Shared | HonestlyEmpty | HandsOn | Wakes | AnyThread | GivesUp
        )
    }

    fn words(self) -> &'static str {
        match self {
            Self::Attach => "`attach` answers with as many workers as it was told, or refuses",
            Self::Answers => "`dispatch`, `next` and `is_empty` return: none waits, none panics",
            Self::OnlyTakes => "`dispatch` only takes: it runs nothing and drops nothing",
            Self::ExactlyOnce => "what `dispatch` took, some `next` gives back, exactly once",
            Self::Shared => "what is `Shared` any worker can take, while others are in handlers",
            Self::Own => "what is `Own` is found by the worker that its origin names",
            Self::HonestlyEmpty => "`is_empty` never says yes while something `Shared` is held",
            Self::SleepsWhenEmpty => "`is_empty` says yes when everything was taken",
            Self::HandsOn => "what a worker holds is handed on when it leaves",
            Self::NobodyStarves => "nobody starves: what waits has its turn within 10,000 picks",
            Self::Order => "one worker runs calls in the order that it claims",
            Self::Wakes => "a pool that sleeps wakes for each call",
            Self::Together => "nothing is lost when many threads post and many take",
            Self::EveryKind => "operations and timers are served as calls are, on both backends",
            Self::AnyThread => "what a stop left is run after the restart, by whichever threads",
            Self::Panics => "a handler's panic loses nothing",
            Self::GivesUp => "at the end everything that is held is given up",
        }
    }

    /// The promise is broken, as `details` show.
    pub(super) fn broken(self, details: impl Into<String>) -> Broken {
        Broken {
            promise: self,
            details: details.into(),
        }
    }

    /// Broken unless `kept`.
    pub(super) fn holds(self, kept: bool, details: impl FnOnce() -> String) -> Result<(), Broken> {
        if kept {
            Ok(())
        } else {
            Err(self.broken(details()))
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// A promise that a strategy does not keep, and what was seen of that.
///
/// ```
/// use proactor::conformance::{Kit, Promise};
/// use proactor::dispatch::WorkStealing;
///
/// let claims_too_much = Kit::new().only(Promise::Order).order(|keys| (0..keys.len()).rev().collect());
/// let broken = claims_too_much.check(WorkStealing::new).unwrap_err();
/// assert_eq!(broken.promise(), Promise::Order);
/// assert!(broken.to_string().starts_with("broken promise: one worker runs calls in the order that it claims"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    promise: Promise,
    details: String,
}

impl Broken {
    /// Which.
    pub fn promise(&self) -> Promise {
        self.promise
    }

    /// What was seen.
    pub fn details(&self) -> &str {
        &self.details
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken promise: {}\n  {}", self.promise, self.details)
    }
}

impl std::error::Error for Broken {}

/// What was looked at, and found to be kept.
#[derive(Clone, Debug, Default)]
pub struct Report {
    kept: Vec<(Promise, String)>,
}

impl Report {
    pub(super) fn add(&mut self, promise: Promise, how: String) {
        self.kept.push((promise, how));
    }

    /// The promises that were looked at, in that order.
    pub fn kept(&self) -> impl Iterator<Item = Promise> {
        self.kept.iter().map(|(promise, _)| *promise)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kept, as far as was looked:")?;
        for (promise, how) in &self.kept {
            write!(f, "\n  {promise} ({how})")?;
        }
        Ok(())
    }
}
