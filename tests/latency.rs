//! A handler that takes long holds nobody else up, read from clients: two threads, one of them asleep in a handler.
#![cfg(not(proactor_loom))]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Setup, pair, setups, within};
use proactor::net::TcpStream;
use proactor::{Proactor, Strategy};

const LONG: Duration = Duration::from_millis(100);
const BOUND: Duration = Duration::from_millis(5);
/// How often the long handler runs, and how many connections there are besides.
const TIMES: usize = 6;
const CONNECTIONS: usize = 4;

fn echo(stream: TcpStream, buf: Vec<u8>) {
    stream.read(buf).then(move |(result, buf)| {
        if result.is_ok_and(|count| count > 0) {
            stream.write_all(buf).then(move |(result, buf)| {
                if result.is_ok() {
                    echo(stream, buf);
                }
            });
        }
    });
}

/// Answers each byte after a long while.
fn dawdle(stream: TcpStream) {
    stream.read([0; 1]).then(move |(result, buf)| {
        if result.is_ok_and(|count| count > 0) {
            thread::sleep(LONG); // sleep: the handler under test
            stream.write_all(buf).then(move |_| dawdle(stream));
        }
    });
}

/// The times of round trips until `over`, with a pause of `gap` between them.
fn round_trips(mut client: StdStream, gap: Duration, over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::with_capacity(100_000);
    let mut back = [0; 64];
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        client.write_all(&[5; 64]).expect("a request");
        client.read_exact(&mut back).expect("the echo");
        times.push(begin.elapsed());
        if !gap.is_zero() {
            thread::sleep(gap); // sleep: a client that is mostly quiet, so that threads go to sleep in between
        }
    }
    times
}

fn connect(proactor: &Proactor) -> StdStream {
    let (stream, client) = pair(proactor);
    echo(stream, Vec::with_capacity(256));
    client
}

/// The 99th percentile of the others' round trips while the long handler runs again and again.
fn p99_beside_a_long_handler(setup: Setup, seats: NonZeroUsize, gap: Duration) -> Duration {
    let proactor = setup.builder().seats(seats).build().expect("a proactor");
    proactor.start().expect("threads");
    let (slow, mut slow_client) = pair(&proactor);
    dawdle(slow);
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (client, over) = (connect(&proactor), Arc::clone(&over));
            thread::spawn(move || round_trips(client, gap, &over))
        })
        .collect();
    for _ in 0..TIMES {
        let begin = Instant::now();
        slow_client.write_all(b"!").expect("a request");
        slow_client.read_exact(&mut [0]).expect("the answer");
        assert!(begin.elapsed() >= LONG);
    }
    over.store(true, Ordering::Relaxed);
    let mut times: Vec<Duration> = others
        .into_iter()
        .flat_map(|client| client.join().expect("a client"))
        .collect();
    times.sort_unstable();
    assert!(
        times.len() >= 100,
        "{setup}: {} round trips say little",
        times.len()
    );
    let p99 = times[times.len() * 99 / 100];
    println!(
        "{setup}, seats {seats}, gap {gap:?}: {} round trips, p50 {:?}, p99 {p99:?}, most {:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    p99
}

fn others_are_not_held_up(setup: Setup, seats: NonZeroUsize) {
    for gap in [Duration::ZERO, Duration::from_millis(3)] {
        // A machine that is busy with something else may fail a run; a thread that is held up fails them all.
        let best = (0..3)
            .map(|_| p99_beside_a_long_handler(setup, seats, gap))
            .find(|p99| *p99 < BOUND);
        assert!(
            best.is_some(),
            "{setup}, seats {seats}, gap {gap:?}: others waited for a handler that is not theirs"
        );
    }
}

#[test]
fn a_long_handler_holds_no_other_connection_up() {
    let pools = setups(&[2])
        .into_iter()
        .filter(|setup| setup.strategy != Strategy::Single);
    for setup in pools {
        for seats in [1, 2].map(|seats| NonZeroUsize::new(seats).expect("above zero")) {
            within(&setup.to_string(), move || {
                others_are_not_held_up(setup, seats);
            });
        }
    }
}
