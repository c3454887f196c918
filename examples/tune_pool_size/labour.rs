//! What a handler does besides I/O (`cargo run --release --example tune_pool_size`): nothing, compute, or block.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// The same amount for every handler of a run, whatever else the machine does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Labour {
    Nothing,
    Compute { rounds: u64 },
    Block(Duration),
}

impl Labour {
    /// So much computing as takes `time` on an undisturbed processor.
    ///
    /// It is a number of rounds, found once, not a look at the clock: whoever is kept from the processor has as much left to
    /// do as before.
    pub(crate) fn computing(time: Duration) -> Self {
        const ROUNDS: u64 = 100_000;
        let once = || {
            let began = Instant::now();
            churn(ROUNDS);
            began.elapsed()
        };
        // The shortest was disturbed the least.
        let shortest = (0..20).map(|_| once()).min().unwrap_or_default();
        let rounds = u128::from(ROUNDS) * time.as_nanos() / shortest.as_nanos().max(1);
        Self::Compute {
            rounds: u64::try_from(rounds).unwrap_or(u64::MAX).max(1),
        }
    }

    pub(crate) fn perform(self) {
        match self {
            Self::Nothing => {}
            Self::Compute { rounds } => churn(rounds),
            Self::Block(time) => thread::sleep(time), // sleep: blocking is the load
        }
    }
}

/// Multiplications, each of which needs the one before.
fn churn(rounds: u64) {
    let mut value = black_box(rounds);
    for _ in 0..rounds {
        value = (value ^ (value >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    black_box(value);
}
