//! Two pipes join two streams, one for each direction. A pipe reads, writes, and then rests until what it passed on is paid for.
//!
//! It has one buffer and reads only when that has gone: so whoever reads slowly at the one end slows down who writes at the
//! other, and the proxy's memory is a buffer for each direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use proactor::CompletionPort;
use proactor::net::{ReadHalf, TcpStream, WriteHalf};

use crate::allowance::Allowance;

/// What all connections passed on, in one direction.
#[derive(Default)]
pub(crate) struct Passed(AtomicU64);

impl Passed {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One direction of a connection.
struct Pipe {
    port: CompletionPort,
    from: ReadHalf,
    to: WriteHalf,
    allowance: Allowance,
    passed: Arc<Passed>,
}

/// Joins two streams until both directions have ended, or one has failed. What went there and back is added to `passed`.
pub(crate) fn join(
    port: &CompletionPort,
    [here, there]: [TcpStream; 2],
    rate: u64,
    passed: [&Arc<Passed>; 2],
) {
    let (from_here, to_here) = here.into_split();
    let (from_there, to_there) = there.into_split();
    for (from, to, passed) in [
        (from_here, to_there, passed[0]),
        (from_there, to_here, passed[1]),
    ] {
        let pipe = Pipe {
            port: port.clone(),
            from,
            to,
            allowance: Allowance::new(rate, Instant::now()),
            passed: Arc::clone(passed),
        };
        let buffer = Vec::with_capacity(pipe.allowance.chunk_bytes());
        pass(pipe, buffer);
    }
}

/// Passes on what comes, until the end of file or a failure.
fn pass(mut pipe: Pipe, buffer: Vec<u8>) {
    pipe.from.read(buffer).then(move |(read, buffer)| {
        let count = match read {
            Ok(0) => return end(pipe),
            Ok(count) => count,
            Err(_) => return pipe.fail(),
        };
        let next = pipe.allowance.spend(count, Instant::now());
        pipe.to.write_all(buffer).then(move |(written, buffer)| {
            if written.is_err() {
                return pipe.fail();
            }
            pipe.passed.0.fetch_add(count as u64, Ordering::Relaxed);
            if next <= Instant::now() {
                return pass(pipe, buffer);
            }
            pipe.port
                .clone()
                .sleep_until(next)
                .then(move |slept| match slept {
                    Ok(()) => pass(pipe, buffer),
                    Err(_cancelled) => pipe.fail(),
                });
        });
    });
}

/// The end of file: said to the other side, too, whose own direction goes on. A stream closes when both its halves are gone, so the
/// connection ends with the second pipe.
fn end(pipe: Pipe) {
    pipe.to.shutdown().then(move |said| {
        if said.is_err() {
            pipe.fail();
        }
    });
}

impl Pipe {
    /// Closes both streams, and with that the other pipe.
    fn fail(self) {
        self.from.close();
        self.to.close();
    }
}
