//! Latencies of the tour (`cargo run --release --example tour`): a histogram of fixed size whose buckets are
//! linear inside each power of two, so that every percentile is exact to 1 part in 64 whatever the range.

use std::time::Duration;

/// Each power of two is cut into this many buckets.
const SUB_BUCKETS: u64 = 1 << SUB_BITS;
const SUB_BITS: u32 = 6;
/// Enough for every `u64` of nanoseconds.
const BUCKETS: usize = 59 << SUB_BITS;

/// How many requests took how long.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
        }
    }

    /// Counts one request.
    pub(crate) fn record(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(latency_ns)] += 1;
        self.total += 1;
    }

    /// How many requests were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The time in microseconds within which `percent` of the requests were answered; 0 if there were none.
    pub(crate) fn percentile_us(&self, percent: u64) -> f64 {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle_ns(bucket) / 1000.0;
            }
        }
        0.0
    }
}

/// The bucket of a latency: below `SUB_BUCKETS` one each, then `SUB_BUCKETS` for each power of two.
fn bucket(latency_ns: u64) -> usize {
    let power = (latency_ns | (SUB_BUCKETS - 1)).ilog2() + 1 - SUB_BITS;
    let index = if power == 0 {
        latency_ns
    } else {
        // The top bit stands for the power; the SUB_BITS below it say where inside.
        u64::from(power) * SUB_BUCKETS + ((latency_ns >> (power - 1)) - SUB_BUCKETS)
    };
    usize::try_from(index).expect("below BUCKETS")
}

/// The middle of a bucket, in nanoseconds.
fn middle_ns(bucket: usize) -> f64 {
    let sub_buckets = 1usize << SUB_BITS;
    let (power, inside) = (bucket / sub_buckets, bucket % sub_buckets);
    if power == 0 {
        return inside as f64;
    }
    let width = 2f64.powi(i32::try_from(power).expect("a power of two below 64") - 1);
    ((sub_buckets + inside) as f64 + 0.5) * width
}
