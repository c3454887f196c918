//! Timers: one wait ([`CompletionPort::sleep`]), a rhythm ([`Interval`]), and a deadline that can be moved ([`Timer`]).

#[cfg(any(feature = "hyper", proactor_loom))] // adapters use it, and models
mod nap;
mod ticks;
mod timer;

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::id::Kind;
use crate::initiation::{Initiation, InitiationFuture};
use crate::operation::{Operation, Request, sealed};
use crate::port::CompletionPort;
use crate::port::deadline::When;
use crate::port::timers::from_now;

#[cfg(all(feature = "hyper", not(proactor_loom)))]
pub(crate) use nap::Nap;
pub use timer::Timer;

/// The operation of [`CompletionPort::sleep`]: ends when its time has come, or as cancelled.
pub struct Sleep {
    _private: (),
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

impl sealed::Sealed for Sleep {}

impl Operation for Sleep {
    type Output = Result<(), Error>;
    const KIND: Kind = Kind::Timer;

    fn request(&mut self) -> Request {
        Request::Timer
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        result.map(|_| ())
    }
}

fn sleep_when(port: &CompletionPort, when: When) -> Initiation<Sleep> {
    Initiation::timer(port.clone(), when, Sleep { _private: () })
}

impl CompletionPort {
    /// An operation that ends after `duration`, rounded up to a millisecond: never early. Cancelled, it ends as such at
    /// once. A duration beyond what the clock can say is cut to about a century.
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::time::{Duration, Instant};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let begin = Instant::now();
    /// proactor.port().sleep(Duration::from_millis(5)).then(move |result| {
    ///     assert!(result.is_ok() && begin.elapsed() >= Duration::from_millis(5));
    /// });
    /// proactor.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn sleep(&self, duration: Duration) -> Initiation<Sleep> {
        self.sleep_until(from_now(duration))
    }

    /// As [`sleep`](Self::sleep), to an instant. One that is past ends as soon as somebody looks.
    pub fn sleep_until(&self, at: Instant) -> Initiation<Sleep> {
        sleep_when(self, When::At(at))
    }

    /// A deadline that can be moved: see [`Timer`].
    pub fn timer(&self) -> Timer {
        Timer::new(self)
    }

    /// Ticks of a fixed rhythm: see [`Interval`]. A period of zero is taken as a millisecond.
    pub fn interval(&self, period: Duration) -> Interval {
        let period = period.max(Duration::from_millis(1));
        Interval {
            port: self.clone(),
            period,
            next: from_now(period),
            awaited: None,
        }
    }
}

/// A rhythm that does not drift: each tick is due one period after the former was due, however late that one's handler ran.
/// Ticks that were missed are skipped. It is also a [`Stream`](Interval#impl-Stream-for-Interval) of when its ticks were due.
///
/// ```
/// use proactor::{time::Interval, Proactor};
/// use std::time::Duration;
/// fn tick(mut interval: Interval, left: u32) {
///     if left > 0 {
///         interval.tick().then(move |result| if result.is_ok() { tick(interval, left - 1) });
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// tick(proactor.interval(Duration::from_millis(2)), 3);
/// assert_eq!(proactor.run(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Interval {
    port: CompletionPort,
    period: Duration,
    next: Instant,
    /// The tick that the stream waits for, and when it is due.
    awaited: Option<(Instant, InitiationFuture<Sleep>)>,
}

impl Interval {
    /// The next tick.
    pub fn tick(&mut self) -> Initiation<Sleep> {
        let due = self.next;
        let late = Instant::now().saturating_duration_since(due);
        let missed = u32::try_from(late.as_nanos() / self.period.as_nanos()).unwrap_or(u32::MAX);
        let step = self.period.saturating_mul(missed.saturating_add(1));
        self.next = due.checked_add(step).unwrap_or(due);
        self.port.sleep_until(due)
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }
}
