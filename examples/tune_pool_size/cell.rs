//! What is measured (`cargo run --release --example tune_pool_size`): a cell of the sweep, and what its repeats came to.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use proactor::{BackendKind, Builder, Strategy};

/// A builder line's worth: who runs the handlers, and how many of them there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) strategy: Strategy,
    pub(crate) threads: NonZeroUsize,
    /// The knob that is varied besides, and its value here.
    pub(crate) setting: Option<Setting>,
}

impl Cell {
    /// Every cell of the sweep. The single-threaded strategy has one, whatever the list says.
    pub(crate) fn all(
        strategies: &[Strategy],
        threads: &[NonZeroUsize],
        settings: &[Option<Setting>],
    ) -> Vec<Self> {
        let mut cells = Vec::new();
        for &strategy in strategies {
            let threads = match strategy {
                Strategy::Single => &[NonZeroUsize::MIN],
                Strategy::LeaderFollowers | Strategy::WorkStealing => threads,
            };
            for &threads in threads {
                cells.extend(settings.iter().map(|&setting| Self {
                    strategy,
                    threads,
                    setting,
                }));
            }
        }
        cells
    }

    /// Sets the builder's knobs.
    pub(crate) fn apply(self, builder: Builder) -> Builder {
        let builder = builder.strategy(self.strategy).threads(self.threads);
        match self.setting {
            Some(setting) => setting.apply(builder),
            None => builder,
        }
    }

    /// The same as text, to paste.
    pub(crate) fn builder_line(self) -> String {
        let mut line = match self.strategy {
            Strategy::Single => ".dispatcher(SingleThreaded::new())".to_owned(),
            Strategy::LeaderFollowers => ".dispatcher(LeaderFollowers::new())".to_owned(),
            Strategy::WorkStealing => ".dispatcher(WorkStealing::new())".to_owned(),
        };
        if self.strategy != Strategy::Single {
            line += &format!(".threads(NonZeroUsize::new({}).unwrap())", self.threads);
        }
        if let Some(setting) = self.setting {
            line += &setting.builder_line();
        }
        line
    }

    /// What its line in the chart is called: everything but the number of threads.
    pub(crate) fn series(self) -> String {
        match self.setting {
            Some(setting) => format!("{}, {setting}", self.strategy),
            None => self.strategy.to_string(),
        }
    }

    /// Whether `other` is this but for the number of threads.
    pub(crate) fn is_of_series(self, other: Self) -> bool {
        (self.strategy, self.setting) == (other.strategy, other.setting)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads;
        let plural = if threads == NonZeroUsize::MIN {
            ""
        } else {
            "s"
        };
        write!(f, "{}, {threads} thread{plural}", self.series())
    }
}

/// A knob of the builder's that can be swept beside the pool's size, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Batch(NonZeroUsize),
    TurnBudget(usize),
    PollEvery(NonZeroUsize),
    SpinUs(u16),
    Seats(NonZeroUsize),
    Backend(BackendKind),
}

impl Setting {
    const KNOBS: &str = "batch, turn-budget, poll-every, spin-us, seats, backend";

    /// An error says which knobs or values there are.
    fn of(knob: &str, value: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{value}` is no {knob}: it is {what}");
        let above_zero = || {
            let parsed = value
                .parse()
                .ok()
                .filter(|value: &NonZeroUsize| value.get() <= 65_536);
            parsed.ok_or_else(|| wrong("a number from 1 to 65536"))
        };
        Ok(match knob {
            "batch" => Self::Batch(above_zero()?),
            "poll-every" => Self::PollEvery(above_zero()?),
            "seats" => {
                let few = value
                    .parse()
                    .ok()
                    .filter(|seats: &NonZeroUsize| seats.get() <= 2);
                Self::Seats(few.ok_or_else(|| wrong("1 or 2"))?)
            }
            "turn-budget" => Self::TurnBudget(value.parse().map_err(|_| wrong("a number from 0"))?),
            "spin-us" => Self::SpinUs(
                value
                    .parse()
                    .map_err(|_| wrong("a number from 0 to 65535"))?,
            ),
            "backend" => Self::Backend(value.parse().map_err(|e| format!("{e}"))?),
            _ => {
                return Err(format!(
                    "unknown knob `{knob}`: it is one of {}",
                    Self::KNOBS
                ));
            }
        })
    }

    fn apply(self, builder: Builder) -> Builder {
        match self {
            Self::Batch(events) => builder.batch(events),
            Self::TurnBudget(completions) => builder.turn_budget(completions),
            Self::PollEvery(picks) => builder.poll_every(picks),
            Self::SpinUs(time) => builder.spin(Duration::from_micros(time.into())),
            Self::Seats(threads) => builder.seats(threads),
            Self::Backend(backend) => builder.backend(backend),
        }
    }

    fn builder_line(self) -> String {
        match self {
            Self::Batch(events) => format!(".batch(NonZeroUsize::new({events}).unwrap())"),
            Self::TurnBudget(completions) => format!(".turn_budget({completions})"),
            Self::PollEvery(picks) => format!(".poll_every(NonZeroUsize::new({picks}).unwrap())"),
            Self::SpinUs(time) => format!(".spin(Duration::from_micros({time}))"),
            Self::Seats(threads) => format!(".seats(NonZeroUsize::new({threads}).unwrap())"),
            Self::Backend(backend) => format!(".backend(BackendKind::{backend:?})"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(events) => write!(f, "batch {events}"),
            Self::TurnBudget(completions) => write!(f, "turn-budget {completions}"),
            Self::PollEvery(picks) => write!(f, "poll-every {picks}"),
            Self::SpinUs(time) => write!(f, "spin-us {time}"),
            Self::Seats(threads) => write!(f, "seats {threads}"),
            Self::Backend(backend) => write!(f, "backend {backend}"),
        }
    }
}

/// A knob with the values that it is to be tried with: `batch=1,16,128`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variation(pub(crate) Vec<Setting>);

impl FromStr for Variation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "not of the form KNOB=LIST, as in batch=1,16,128";
        let (knob, values) = text.split_once('=').ok_or(form)?;
        let mut settings = Vec::new();
        for value in values.split(',') {
            let setting = Setting::of(knob, value.trim())?;
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        Ok(Self(settings))
    }
}

/// One repeat of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Operations a second.
    pub(crate) throughput: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time for each operation, the client's left out.
    pub(crate) cpu_us: f64,
}

/// A cell and its repeats, in the order in which they were made.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) cell: Cell,
    pub(crate) samples: Vec<Sample>,
}

impl Measured {
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure))
    }

    /// The figure's ratio to that of `other`, repeat by repeat: what was the matter with the machine at the time was so for
    /// both.
    pub(crate) fn ratio(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> Spread {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(mine, theirs)| figure(mine) / figure(theirs)))
    }
}

/// What repeats came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// All zero if there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Self {
            median: f64::midpoint(at(lower), at(upper)),
            min: at(0),
            max: at(values.len().saturating_sub(1)),
        }
    }
}
