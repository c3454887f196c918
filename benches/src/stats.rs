//! Medians and spreads.

use serde::{Deserialize, Serialize};

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle value; of an even number of them, the mean of the two in the middle.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
}

impl Spread {
    /// Of all that are finite; none if none is.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = Vec::from_iter(values.iter().copied().filter(|value| value.is_finite()));
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        let median = f64::midpoint(sorted[low], sorted[high]);
        Some(Self { median, min, max })
    }

    /// Of each value over the base's of the same round; none if they have no round in common, or the base is 0.
    pub fn of_ratios(values: &[f64], base: &[f64]) -> Option<Self> {
        let ratios = values.iter().zip(base).map(|(value, base)| value / base);
        Self::of(&Vec::from_iter(ratios))
    }
}

/// The value that `share` of them (0.5: half) do not exceed; `sorted` is in ascending order. 0 if there are none.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // below `last`, and not negative
    let rank = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    sorted.get(rank).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values).map(|s| (s.min, s.median, s.max));
        assert_eq!(of(&[3.0, 1.0, 9.0]), Some((1.0, 3.0, 9.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some((1.0, 3.0, 9.0)));
        assert_eq!(of(&[f64::NAN, 5.0]), Some((5.0, 5.0, 5.0)));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let spread = Spread::of_ratios(&[2.0, 30.0, 5.0], &[1.0, 10.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (2.0, 2.5, 3.0));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[], &[1.0]), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted = Vec::from_iter(1..=101);
        let shares = [0.0, 0.5, 0.99, 1.0].map(|share| percentile(&sorted, share));
        assert_eq!(shares, [1, 51, 100, 101]);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
