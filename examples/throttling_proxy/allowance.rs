//! How much one direction may pass on, and when.

use std::time::{Duration, Instant};

/// What a direction that was late may make up for; and as much is passed on at a time, if it is not too much at once.
const SLACK: Duration = Duration::from_millis(50);
/// What is passed on at a time at most: the size of a buffer.
const MOST_BYTES: u64 = 64 * 1024;

/// A number of bytes a second. In any span of time the direction passes on at most what the rate gives for the span and for
/// `SLACK` more, and one chunk.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    rate: u64,
    /// When what was passed on so far is paid for.
    paid_at: Instant,
}

impl Allowance {
    /// So many bytes a second, from `now` on; at least one.
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate: rate.max(1),
            paid_at: now,
        }
    }

    /// How many bytes to take at a time.
    pub(crate) fn chunk_bytes(&self) -> usize {
        let chunk = self.rate / (1000 / 50); // of SLACK
        usize::try_from(chunk.clamp(1, MOST_BYTES)).unwrap_or(1)
    }

    /// So many bytes, a chunk at most, were taken `now`: when the next may be.
    pub(crate) fn spend(&mut self, bytes: usize, now: Instant) -> Instant {
        let nanos = bytes as u64 * 1_000_000_000 / self.rate;
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        self.paid_at = self.paid_at.max(earliest) + Duration::from_nanos(nanos);
        self.paid_at
    }
}
