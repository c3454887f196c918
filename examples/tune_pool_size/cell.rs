//! What is measured (`cargo run --release --example tune_pool_size`): a cell of the sweep, and what its repeats came to.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use proactor::{Builder, Strategy};

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

/// A knob of the builder's that can be swept beside the pool's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knob {
    Batch,
    TurnBudget,
    PollEvery,
    SpinUs,
}

impl Knob {
    const ALL: [Self; 4] = [Self::Batch, Self::TurnBudget, Self::PollEvery, Self::SpinUs];

    /// What values it takes.
    fn range(self) -> (usize, usize) {
        match self {
            Self::Batch => (1, 65_536),
            Self::TurnBudget => (0, 1_000_000),
            Self::PollEvery => (1, 1_000_000),
            Self::SpinUs => (0, 10_000),
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::TurnBudget => "turn-budget",
            Self::PollEvery => "poll-every",
            Self::SpinUs => "spin-us",
        })
    }
}

/// A knob and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) knob: Knob,
    pub(crate) value: usize,
}

impl Setting {
    fn apply(self, builder: Builder) -> Builder {
        let above_zero = NonZeroUsize::new(self.value).unwrap_or(NonZeroUsize::MIN);
        match self.knob {
            Knob::Batch => builder.batch(above_zero),
            Knob::TurnBudget => builder.turn_budget(self.value),
            Knob::PollEvery => builder.poll_every(above_zero),
            Knob::SpinUs => builder.spin(self.spin()),
        }
    }

    fn spin(self) -> Duration {
        Duration::from_micros(self.value as u64)
    }

    fn builder_line(self) -> String {
        let value = self.value;
        match self.knob {
            Knob::Batch => format!(".batch(NonZeroUsize::new({value}).unwrap())"),
            Knob::TurnBudget => format!(".turn_budget({value})"),
            Knob::PollEvery => format!(".poll_every(NonZeroUsize::new({value}).unwrap())"),
            Knob::SpinUs => format!(".spin(Duration::from_micros({value}))"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.knob, self.value)
    }
}

/// A knob and the values that it is to be tried with: `batch=1,16,128`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variation(pub(crate) Vec<Setting>);

impl FromStr for Variation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text
            .split_once('=')
            .ok_or("not of the form KNOB=LIST, as in batch=1,16,128")?;
        let knob = Knob::ALL.into_iter().find(|knob| knob.to_string() == name);
        let knob = knob.ok_or_else(|| {
            format!(
                "unknown knob `{name}`: it is one of {}",
                Knob::ALL.map(|knob| knob.to_string()).join(", ")
            )
        })?;
        let (least, most) = knob.range();
        let mut settings = Vec::new();
        for value in values.split(',') {
            let parsed = value.trim().parse().ok();
            let value = parsed
                .filter(|value| (least..=most).contains(value))
                .ok_or_else(|| {
                    format!("`{value}` is no {knob}: it is a number from {least} to {most}")
                })?;
            let setting = Setting { knob, value };
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
