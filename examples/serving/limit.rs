//! A time limit on any future: what is not over by then is dropped.

use std::io;
use std::time::Duration;

use futures_lite::future;
use proactor::CompletionPort;

/// The output of `doing`; [`TimedOut`](io::ErrorKind::TimedOut) after `limit`.
pub(crate) async fn within<T>(
    port: &CompletionPort,
    limit: Duration,
    doing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let too_late = async {
        port.sleep(limit).await?; // Else the port is closed.
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(doing, too_late).await
}
