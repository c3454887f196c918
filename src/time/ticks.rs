//! A rhythm as a stream.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_core::Stream;

use super::Interval;

/// When each tick was due. It ends when the port is closed. A poll that is given up loses no tick: the next one waits for the same.
///
/// ```
/// use futures_lite::{StreamExt, future};
/// use proactor::Proactor;
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// proactor.start()?;
/// let ticks = proactor.interval(Duration::from_millis(2));
/// let due: Vec<_> = future::block_on(ticks.take(3).collect());
/// assert!(due[1] - due[0] >= Duration::from_millis(2) && due[2] > due[1]);
/// # Ok(())
/// # }
/// ```
impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Instant>> {
        let (due, mut tick) = match self.awaited.take() {
            Some(awaited) => awaited,
            None => (self.next, self.tick().into_future()),
        };
        match Pin::new(&mut tick).poll(context) {
            Poll::Ready(ticked) => Poll::Ready(ticked.is_ok().then_some(due)),
            Poll::Pending => {
                self.awaited = Some((due, tick));
                Poll::Pending
            }
        }
    }
}
