//! The loom switch, for strategies: locks and atomics that are the standard library's, and loom's under `--cfg proactor_loom`.
//!
//! A strategy that takes them from here is seen through by [`loom_check`](super::loom_check), and needs no dependency on loom. One that
//! does not passes, too, but loom then sees its steps as one, and tries no interleaving between them.
//!
//! ```
//! use proactor::conformance::sync::Mutex;
//! use proactor::conformance::sync::atomic::{AtomicUsize, Ordering};
//!
//! let (waiting, count) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
//! waiting.lock().unwrap().push("a completion");
//! count.fetch_add(1, Ordering::Relaxed);
//! ```

pub use crate::sync::switch::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
};
