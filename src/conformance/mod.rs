//! The conformance kit for strategies: does a [`Dispatcher`] of one's own keep what every strategy promises?
//!
//! One test in the crate of the strategy is enough:
//!
//! ```
//! # use proactor::dispatch::LeaderFollowers as MyStrategy;
//! # /*
//! #[test]
//! # */
//! fn my_strategy_keeps_its_promises() {
//!     proactor::conformance::check(|| MyStrategy::new());
//! }
//! # my_strategy_keeps_its_promises();
//! ```
//!
//! It fails with the words of the first [`Promise`] that is broken, and with what was seen. In an ordinary build it gives
//! completions to the strategy by hand, looks at each answer, and then runs whole proactors, on both backends and with several
//! numbers of threads. Built with `--cfg proactor_loom`, the same test runs the dispatch models under loom, which tries
//! every interleaving of a few threads: what is wrong once in a million runs is found there. For that the strategy takes its
//! locks and atomics from [`sync`]. The page `docs/writing-a-strategy.md` shows both.
//!
//! What a strategy claims beyond that is said to a [`Kit`]: an order, or that it starves what comes last.
//!
//! A strategy that waits where it may not is found by the clock ([`Kit::patience`]); the threads that it holds up stay until the
//! process ends. Under loom a broken promise ends the process at once, with the words on stderr and exit code 101: loom's threads cannot
//! be unwound. So the place for the kit is a test.

#[cfg(not(proactor_loom))]
mod alone;
mod bench;
#[cfg(proactor_loom)]
mod models;
mod promise;
pub mod sync;
mod watch;
#[cfg(not(proactor_loom))]
mod whole;

use std::fmt;
use std::time::Duration;

use crate::dispatch::Dispatcher;
use crate::sync::Arc;
pub use promise::{Broken, Promise, Report};

/// Makes the strategy, anew for each look at it.
type Make = Arc<dyn Fn() -> Box<dyn Dispatcher> + Send + Sync>;

/// In which order the calls with these keys, posted in this order, are claimed to run.
type Order = Arc<dyn Fn(&[u64]) -> Vec<usize> + Send + Sync>;

/// Checks the strategy that `make` makes: in an ordinary build every promise that all strategies make, under
/// `--cfg proactor_loom` the models ([`loom_check`]). Takes some seconds. For claims of its own see [`Kit`].
///
/// # Panics
///
/// With the first promise that is broken, in words, and what was seen.
#[track_caller]
pub fn check<D: Dispatcher>(make: impl Fn() -> D + Send + Sync + 'static) {
    tell(Kit::new().check(make));
}

/// Runs the dispatch models against the strategy that `make` makes: posts that meet workers about to sleep, two workers that take
/// from it, one that leaves, a thief, a stop, the end.
///
/// # Panics
///
/// Without `--cfg proactor_loom`, saying what to do: a run of no model at all must not pass for one. A broken promise ends the process,
/// with the promise in words and what was seen on stderr, and exit code 101.
#[track_caller]
pub fn loom_check<D: Dispatcher>(make: impl Fn() -> D + Send + Sync + 'static) {
    tell(Kit::new().loom_check(make));
}

#[track_caller]
fn tell(result: Result<Report, Broken>) {
    match result {
        Ok(report) => println!("{report}"),
        Err(broken) => panic!("{broken}"),
    }
}

/// The checks, and what the strategy claims beside what all promise.
///
/// ```
/// use proactor::conformance::{Kit, Promise};
/// use proactor::dispatch::LeaderFollowers;
///
/// let kit = Kit::new().first_come_first_served();
/// let report = kit.check(LeaderFollowers::new).expect("every promise is kept");
/// assert!(report.kept().any(|promise| promise == Promise::Order));
/// ```
#[derive(Clone)]
pub struct Kit {
    order: Option<Order>,
    may_starve: bool,
    patience: Duration,
    only: Option<Promise>,
}

impl Default for Kit {
    fn default() -> Self {
        Self {
            order: None,
            may_starve: false,
            patience: Duration::from_secs(60),
            only: None,
        }
    }
}

impl Kit {
    /// What every strategy promises, and no more.
    pub fn new() -> Self {
        Self::default()
    }

    /// The strategy claims an order ([`Promise::Order`]): `claim` gets the keys of calls in the order in which they were posted
    /// from outside, and says in which order one worker runs them, as indices into those keys. Default: no order is claimed.
    ///
    /// ```
    /// use proactor::conformance::Kit;
    /// use std::cmp::Reverse;
    ///
    /// let highest_key_first = Kit::new().order(|keys| {
    ///     let mut order: Vec<usize> = (0..keys.len()).collect();
    ///     order.sort_by_key(|&index| Reverse(keys[index])); // stable: within a key, first come, first served
    ///     order
    /// });
    /// let broken = highest_key_first.check(proactor::dispatch::LeaderFollowers::new).unwrap_err();
    /// assert!(broken.to_string().contains("the order that it claims"), "{broken}");
    /// ```
    pub fn order(mut self, claim: impl Fn(&[u64]) -> Vec<usize> + Send + Sync + 'static) -> Self {
        self.order = Some(Arc::new(claim));
        self
    }

    /// The strategy claims that what was posted first runs first, whatever its key.
    pub fn first_come_first_served(self) -> Self {
        self.order(|keys| (0..keys.len()).collect())
    }

    /// Leaves [`Promise::NobodyStarves`] out: for a strategy that says so to its users, as one of strict priorities does.
    pub fn may_starve(mut self) -> Self {
        self.may_starve = true;
        self
    }

    /// How long a check may take before it counts as hanging, and how long a model is explored at most. Default: a minute;
    /// checks take a second or two.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Looks at this promise alone.
    pub fn only(mut self, promise: Promise) -> Self {
        self.only = Some(promise);
        self
    }

    /// As [`check`](check()), with the result as a value.
    ///
    /// # Errors
    ///
    /// The first promise that is broken. Under `--cfg proactor_loom` that ends the process, as [`loom_check`] says.
    pub fn check<D: Dispatcher>(
        &self,
        make: impl Fn() -> D + Send + Sync + 'static,
    ) -> Result<Report, Broken> {
        self.run(Arc::new(move || Box::new(make())))
    }

    /// As [`loom_check`], with the result as a value.
    ///
    /// # Errors
    ///
    /// The promise that a model is about in which the strategy hangs, and loom does not see where. What loom sees ends the process.
    ///
    /// # Panics
    ///
    /// Without `--cfg proactor_loom`, saying what to do.
    pub fn loom_check<D: Dispatcher>(
        &self,
        make: impl Fn() -> D + Send + Sync + 'static,
    ) -> Result<Report, Broken> {
        if !cfg!(proactor_loom) {
            panic!(
                "the models need loom, and this build has none: RUSTFLAGS=\"--cfg proactor_loom\" cargo test --release \
                 --target-dir target/loom"
            );
        }
        self.check(make)
    }

    #[cfg(proactor_loom)]
    fn run(&self, make: Make) -> Result<Report, Broken> {
        let mut report = Report::default();
        for model in models::ALL {
            if self.wants(model.0) {
                let explored = models::explore(model, &make, self.patience)?;
                report.add(model.0, explored);
            }
        }
        Ok(report)
    }

    #[cfg(not(proactor_loom))]
    fn run(&self, make: Make) -> Result<Report, Broken> {
        let mut report = Report::default();
        for (promise, body) in alone::CHECKS.iter().chain(whole::CHECKS) {
            if self.wants(*promise) {
                let suite = Suite::new(&make, self);
                let stage = suite.stage.clone();
                let body = *body;
                let began = std::time::Instant::now();
                watch::watched(*promise, self.patience, &stage, move || body(&suite))?;
                let took = began.elapsed().as_secs_f64();
                report.add(*promise, format!("{took:.1} s"));
            }
        }
        Ok(report)
    }

    fn wants(&self, promise: Promise) -> bool {
        let claimed = match promise {
            Promise::Order => self.order.is_some(),
            Promise::NobodyStarves => !self.may_starve,
            _ => true,
        };
        claimed && self.only.is_none_or(|only| only == promise)
    }
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("order", &self.order.is_some())
            .field("may_starve", &self.may_starve)
            .field("patience", &self.patience)
            .field("only", &self.only)
            .finish()
    }
}

/// What a check gets.
struct Suite {
    make: Make,
    order: Option<Order>,
    patience: Duration,
    stage: watch::Stage,
}

/// A check: what it is about, and what looks whether it is so.
type Check = (Promise, fn(&Suite) -> Result<(), Broken>);

/// With how many workers a strategy is looked at, as far as it takes so many.
const COUNTS: [usize; 4] = [1, 2, 3, 8];

impl Suite {
    fn new(make: &Make, kit: &Kit) -> Self {
        Self {
            make: Arc::clone(make),
            order: kit.order.clone(),
            patience: kit.patience,
            stage: watch::Stage::default(),
        }
    }

    /// The numbers of workers that it takes.
    fn counts(&self) -> Vec<usize> {
        let takes = |&count: &usize| bench::attached(&self.make, count).is_some();
        COUNTS.into_iter().filter(takes).collect()
    }
}
