//! From figures to a recommendation (`cargo run --release --example tune_pool_size`): data in, a cell and the reason out.
//!
//! What is compared was measured at about the same time: the best cell is the one whose share of its repeat's best is the
//! largest, in the median over the repeats. Another *keeps up* with it unless the best was ahead beyond the noise (in
//! five repeats of six, or more) and by more than [`NEGLIGIBLE`] in the median. Of those that keep up, the smallest pool
//! is recommended.

use proactor::Strategy;

use crate::cell::{Cell, Measured, Sample, Spread};

/// A lead that is not worth a thread.
pub(crate) const NEGLIGIBLE: f64 = 0.03;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Throughput,
    /// A short 99th percentile.
    Latency,
}

impl Goal {
    /// More is better.
    fn score(self, sample: &Sample) -> f64 {
        match self {
            Self::Throughput => sample.throughput,
            Self::Latency => 1.0 / sample.p99_us,
        }
    }

    fn best(self) -> &'static str {
        match self {
            Self::Throughput => "fastest",
            Self::Latency => "lowest",
        }
    }
}

/// How the best cell stands to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lead {
    /// By how much the best is ahead, as a share: the median over the repeats.
    pub(crate) by: f64,
    /// In how many repeats it is.
    pub(crate) ahead: usize,
    pub(crate) repeats: usize,
}

impl Lead {
    fn over(best: &Measured, other: &Measured, goal: Goal) -> Self {
        let ratios: Vec<f64> = best
            .samples
            .iter()
            .zip(&other.samples)
            .map(|(best, other)| goal.score(best) / goal.score(other))
            .collect();
        Self {
            by: Spread::of(ratios.iter().copied()).median - 1.0,
            ahead: ratios.iter().filter(|ratio| **ratio > 1.0).count(),
            repeats: ratios.len(),
        }
    }

    fn is_noise(self) -> bool {
        6 * self.ahead < 5 * self.repeats
    }

    fn counts(self) -> bool {
        !self.is_noise() && self.by > NEGLIGIBLE
    }

    fn describe(self) -> String {
        let Self { by, ahead, repeats } = self;
        let percent = 100.0 * by;
        format!("{percent:.1}% in the median, ahead in {ahead} of {repeats} repeats")
    }
}

/// Which cell, by its index, and why.
#[derive(Clone, Debug)]
pub(crate) struct Recommendation {
    pub(crate) pick: usize,
    pub(crate) best: usize,
    /// Every other cell that keeps up with the best.
    pub(crate) keep_up: Vec<usize>,
    pub(crate) why: String,
}

impl Recommendation {
    /// Whether a cell is the best, or keeps up with it.
    pub(crate) fn admits(&self, index: usize) -> bool {
        self.best == index || self.keep_up.contains(&index)
    }
}

/// What the figures speak for; nothing if there are none. Cells that were never measured do not count.
pub(crate) fn recommend(cells: &[Measured], goal: Goal) -> Option<Recommendation> {
    let measured: Vec<usize> = (0..cells.len())
        .filter(|&index| !cells[index].samples.is_empty())
        .collect();
    let shares = shares(cells, goal);
    let best = measured.iter().copied().reduce(|best, next| {
        if shares[next] > shares[best] {
            next
        } else {
            best
        }
    })?;
    let lead = |index: usize| Lead::over(&cells[best], &cells[index], goal);
    let others: Vec<usize> = measured
        .into_iter()
        .filter(|&index| index != best)
        .collect();
    let (keep_up, behind): (Vec<usize>, Vec<usize>) =
        others.into_iter().partition(|&index| !lead(index).counts());
    let pick = keep_up
        .iter()
        .copied()
        .chain([best])
        .min_by_key(|&index| (size(cells[index].cell), index))?;
    let next = behind
        .into_iter()
        .min_by(|&a, &b| lead(a).by.total_cmp(&lead(b).by))
        .map(|index| (cells[index].cell, lead(index)));
    let mut why = if pick == best {
        stands_out(cells, goal, &keep_up, next)
    } else {
        keeps_up(cells[best].cell, cells[pick].cell, lead(pick))
    };
    if cells.len() > 1 && cells[best].samples.len() == 1 {
        why += ". One repeat shows no noise: ask for more with --repeats";
    }
    Some(Recommendation {
        pick,
        best,
        keep_up,
        why,
    })
}

/// Each cell's score as a share of the best of the same repeat: the median over its repeats.
fn shares(cells: &[Measured], goal: Goal) -> Vec<f64> {
    let score = |cell: &Measured, repeat: usize| cell.samples.get(repeat).map(|it| goal.score(it));
    let best_of = |repeat| {
        let scores = cells.iter().filter_map(|cell| score(cell, repeat));
        scores.fold(f64::MIN_POSITIVE, f64::max)
    };
    let share = |cell: &Measured| {
        let repeats = 0..cell.samples.len();
        let shares = repeats.filter_map(|repeat| Some(score(cell, repeat)? / best_of(repeat)));
        Spread::of(shares).median
    };
    cells.iter().map(share).collect()
}

/// The fewest threads first, then the simplest strategy.
fn size(cell: Cell) -> (usize, Option<usize>) {
    let simplicity = Strategy::ALL
        .iter()
        .position(|&strategy| strategy == cell.strategy);
    (cell.threads.get(), simplicity)
}

/// Why the best is recommended itself.
fn stands_out(
    cells: &[Measured],
    goal: Goal,
    keep_up: &[usize],
    next: Option<(Cell, Lead)>,
) -> String {
    let best = goal.best();
    let names = |indices: &[usize]| {
        let names: Vec<String> = indices
            .iter()
            .map(|&index| cells[index].cell.to_string())
            .collect();
        names.join("; ")
    };
    match (keep_up, next) {
        ([], None) => "the only cell measured".to_owned(),
        ([], Some((next, lead))) => {
            format!(
                "the {best}, beyond the noise: its lead over the next, {next}, is {}",
                lead.describe()
            )
        }
        (equal, _) => format!(
            "the {best}, and the others that keep up with it within the noise are no smaller: {}",
            names(equal)
        ),
    }
}

/// Why another than the best is recommended.
fn keeps_up(best: Cell, pick: Cell, lead: Lead) -> String {
    let what = if pick.threads < best.threads {
        "the smallest pool that keeps up with"
    } else if pick.strategy != best.strategy {
        "no larger than, and simpler than,"
    } else {
        "the first listed of those that keep up with"
    };
    let verdict = if lead.is_noise() {
        "the difference is within the noise".to_owned()
    } else {
        format!(
            "a difference below {:.0}% is not counted",
            100.0 * NEGLIGIBLE
        )
    };
    let more = match lead.is_noise() && lead.by > NEGLIGIBLE {
        true => "; more --repeats may tell them apart",
        false => "",
    };
    format!(
        "{what} the best, {best}: {verdict} (a lead of {}){more}",
        lead.describe()
    )
}
