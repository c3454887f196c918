//! A strategy of one's own, in under 60 lines beside its imports: a queue and an order. The port does the rest: it waits for events, wakes whoever
//! is to run something, and counts what is outstanding.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use proactor::conformance::sync::Mutex; // the standard library's; loom's under `--cfg proactor_loom`
use proactor::conformance::sync::atomic::{AtomicUsize, Ordering};
use proactor::dispatch::{Dispatcher, Origin, Placed, Worker};
use proactor::{BuildError, Completion};

/// A flood of high keys would starve the low ones: so of this many picks a worker gives one to the oldest of all.
pub(crate) const OLDEST_EVERY: usize = 64;

/// The highest key first; within a key, first come, first served. One queue for all workers.
#[derive(Debug, Default)]
pub(crate) struct Priority {
    waiting: Mutex<Waiting>,
    /// How many wait, written under the lock. The port fences around each look at it.
    count: AtomicUsize,
}

/// What waits, by key, each with its number in the order of arrival. No queue in it is empty.
#[derive(Debug, Default)]
struct Waiting {
    queues: BTreeMap<u64, VecDeque<(u64, Completion)>>,
    arrived: u64,
}

impl Dispatcher for Priority {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        let all = || available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(threads.unwrap_or_else(all))
    }

    // Whatever its origin: what stayed with a worker, as other strategies have it, would overtake a higher key.
    fn dispatch(&self, completion: Completion, _origin: Origin<'_>) -> Placed {
        let mut waiting = self.waiting.lock().expect("nobody panics under it");
        waiting.arrived += 1;
        let (key, number) = (completion.user_key(), waiting.arrived);
        let queue = waiting.queues.entry(key).or_default();
        queue.push_back((number, completion));
        self.count.fetch_add(1, Ordering::Relaxed);
        Placed::Shared
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        let mut waiting = self.waiting.lock().expect("nobody panics under it");
        let queues = &mut waiting.queues;
        let key = match worker.picks() % OLDEST_EVERY {
            0 => *queues.iter().min_by_key(|(_, queue)| queue[0].0)?.0,
            _ => *queues.last_key_value()?.0,
        };
        let queue = queues.get_mut(&key)?;
        let (_, completion) = queue.pop_front()?;
        if queue.is_empty() {
            queues.remove(&key);
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(completion)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}
