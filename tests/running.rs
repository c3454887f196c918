//! Running, beside what `tests/conformance/running.rs` has: how many threads there are.
#![cfg(not(proactor_loom))]

use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier};
use std::thread;

use proactor::Proactor;

#[test]
fn a_proactor_has_as_many_threads_as_processors_unless_told() {
    let proactor = Proactor::builder().build().unwrap();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let together = Arc::new(Barrier::new(threads));
    for _ in 0..threads {
        let together = Arc::clone(&together);
        proactor.post(move || {
            together.wait();
        });
    }
    assert_eq!(proactor.run(), threads);
}
