//! Every form of reading on one stream, by chance: the bytes come out once, and in order.

use std::future::IntoFuture;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Instant;

use futures_lite::future::{block_on, or, poll_fn, yield_now};
use proactor::BufferPool;
use proactor::net::TcpStream;

use super::{read, started};
use crate::common::{Random, everywhere_once, pair, until};

const BYTES: usize = 120_000;

/// Sends all in pieces of any size.
fn send(mut peer: impl Write, bytes: &[u8], mut chance: Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(chance.within(1, 3000).min(rest.len()));
        peer.write_all(now).expect("it takes all");
        rest = later;
    }
}

/// Some of the bytes, or the end, by whichever form chance has; `None` if that was given up or cancelled.
async fn some(stream: &TcpStream, pool: &BufferPool, chance: &mut Random) -> Option<Vec<u8>> {
    let room = chance.within(1, 900);
    let cancelled = |error: proactor::Error| assert!(error.is_cancelled(), "{error}");
    match chance.within(0, 5) {
        0 | 1 => {
            let mut buf = vec![0; room];
            let reading = async { Some(read(stream, &mut buf).await.expect("no error")) };
            let impatient = async {
                yield_now().await;
                None
            };
            let count = or(reading, impatient).await?;
            buf.truncate(count);
            Some(buf)
        }
        2 => {
            let (result, buf) = stream.read(Vec::with_capacity(room)).await;
            result.map_err(cancelled).ok().map(|_| buf)
        }
        3 => match stream.recv_with(pool).await {
            Ok(bytes) => Some(bytes.to_vec()),
            Err(error) => {
                cancelled(error);
                None
            }
        },
        4 => {
            // What it has up to its limit, its delimiter, or its being cancelled is the stream's next, whatever it ended as.
            let (result, mut buf) = stream.read_until([7], Vec::with_capacity(room)).await;
            let (count, ended) = match result {
                Ok(count) => (count, false),
                Err(error) => (error.transferred(), !error.is_cancelled()),
            };
            buf.truncate(count);
            (ended || count > 0).then_some(buf)
        }
        _ => {
            // Begun, perhaps finished, and dropped.
            let mut future = stream.read(Vec::with_capacity(room)).into_future();
            let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
            match polled {
                Poll::Ready((result, buf)) => result.map_err(cancelled).ok().map(|_| buf),
                Poll::Pending => {
                    yield_now().await;
                    drop(future);
                    None
                }
            }
        }
    }
}

#[test]
fn a_reader_that_changes_its_form_at_each_step_has_every_byte_in_order() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = started(setup);
        let (stream, peer) = pair(&proactor);
        let stream = Arc::new(stream);
        let (bytes, sending) = (random.bytes(BYTES), random.fork());
        let over = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let bytes = bytes.clone();
            move || send(peer, &bytes, sending)
        });
        let canceller = thread::spawn({
            let (stream, over) = (Arc::clone(&stream), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Acquire) {
                    stream.cancel();
                    thread::yield_now();
                }
            }
        });
        let pool = BufferPool::new(512);
        let all = block_on(async {
            let mut all = Vec::new();
            while all.len() < BYTES {
                all.extend(some(&stream, &pool, &mut random).await.unwrap_or_default());
            }
            all
        });
        over.store(true, Ordering::Release);
        let first = all.iter().zip(&bytes).position(|(one, other)| one != other);
        assert_eq!(
            (all.len(), first),
            (BYTES, None),
            "how many, and the first other"
        );
        assert_eq!(block_on(read(&*stream, &mut [0])).expect("the end"), 0);
        sender.join().expect("it ends");
        canceller.join().expect("it ends");
        drop(stream);
        until("nothing is left", || proactor.port().outstanding() == 1);
    });
}

#[test]
fn a_shutdown_ends_a_poll_that_is_pending() {
    everywhere_once(|setup| {
        let proactor = started(setup);
        let (stream, _peer) = pair(&proactor);
        let reader = thread::spawn(move || block_on(read(&stream, &mut [0])));
        until("the poll is pending", || proactor.port().outstanding() == 2);
        let report = proactor.shutdown(Instant::now());
        assert_eq!(report.left, 0);
        let error = reader.join().expect("it ends").expect_err("it was closed");
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    });
}
