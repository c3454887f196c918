//! A timer as an object: a deadline that can be moved, and any number of waits on it.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Sleep, sleep_when};
use crate::initiation::Initiation;
use crate::port::CompletionPort;
use crate::port::deadline::{Deadline, When};
use crate::port::timers::from_now;
use crate::sync::Arc;

/// A deadline that can be moved, and any number of waits on it: Asio's `steady_timer`. For one wait that nobody moves,
/// [`CompletionPort::sleep`] is enough.
///
/// Each wait completes once: as a success, never before the deadline it began with, or as cancelled. Moving the deadline
/// cancels the waits on it, as does dropping the timer; so what a handler goes on with it owns, or shares in an `Arc`. It
/// serves again after either: a wait that begins later has the deadline of then. `&self` serves any number of threads.
///
/// ```
/// use proactor::{time::Timer, Proactor};
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let idle = Timer::new(&proactor);
/// idle.expires_after(Duration::from_secs(3600));
/// idle.on_expiry().then(|result| assert!(result.unwrap_err().is_cancelled()));
/// assert_eq!(idle.expires_after(Duration::from_millis(2)), 1); // something happened: the clock starts again
/// idle.on_expiry().then(|result| assert!(result.is_ok()));
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a timer cancels what waits on it"]
pub struct Timer {
    port: CompletionPort,
    deadline: Arc<Deadline>,
}

impl Timer {
    /// A timer whose deadline is now: a wait on it ends as soon as somebody looks, until
    /// [`expires_after`](Self::expires_after) or [`expires_at`](Self::expires_at) moves it.
    pub fn new(port: &impl AsRef<CompletionPort>) -> Self {
        Self {
            port: port.as_ref().clone(),
            deadline: Deadline::new(Instant::now()),
        }
    }

    /// Moves the deadline, and cancels the waits on it. How many were cancelled: a wait whose expiry was queued already is
    /// not among them, and ends as a success. A wait that another thread begins meanwhile is cancelled and counted, or has
    /// the new deadline.
    pub fn expires_at(&self, at: Instant) -> usize {
        self.deadline.cancel(&self.port, Some(at), usize::MAX)
    }

    /// As [`expires_at`](Self::expires_at), to `duration` from now; about a century at most.
    pub fn expires_after(&self, duration: Duration) -> usize {
        self.expires_at(from_now(duration))
    }

    /// The deadline as it stands.
    pub fn deadline(&self) -> Instant {
        self.deadline.at()
    }

    /// A wait for the deadline as it stands when the wait begins, rounded up to a millisecond: never early. A deadline that
    /// is past ends it as soon as somebody looks. Allocates nothing once warm.
    pub fn on_expiry(&self) -> Initiation<Sleep> {
        sleep_when(&self.port, When::On(Arc::clone(&self.deadline)))
    }

    /// Cancels every wait that has begun by now. How many were cancelled; those that had expired end as a success. The
    /// deadline stands.
    ///
    /// ```
    /// # use proactor::{time::Timer, Proactor};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let proactor = Proactor::builder().build()?;
    /// let timer = Timer::new(&proactor);
    /// timer.expires_after(Duration::from_secs(3600));
    /// for _ in 0..3 {
    ///     timer.on_expiry().then(|result| assert!(result.is_err()));
    /// }
    /// assert_eq!((timer.cancel_one(), timer.cancel(), timer.cancel()), (1, 2, 0));
    /// assert_eq!(proactor.run(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) -> usize {
        self.deadline.cancel(&self.port, None, usize::MAX)
    }

    /// Cancels the oldest wait that is not over. How many were cancelled: 1, or 0 if there is none.
    pub fn cancel_one(&self) -> usize {
        self.deadline.cancel(&self.port, None, 1)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}
