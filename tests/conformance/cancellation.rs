//! Cancellation and time limits: promises 36 to 40.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use proactor::net::{TcpListener, TcpStream};
use proactor::{CancelOutcome, Error, OperationKey, Proactor};

use crate::common::{Setup, any_port, everywhere, marked, pair, report, std_pair, until};

const FAR: Duration = Duration::from_secs(3600);

fn before_the_start(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let (to, ends) = mpsc::channel();
    let timer = proactor.timer();
    let (read, wait) = (stream.read(marked(1)), timer.on_expiry());
    // Neither has begun.
    stream.cancel();
    assert_eq!(timer.cancel(), 0);
    read.then(report(&to));
    wait.then(|result| assert!(result.is_ok()));
    client.write_all(b"come").unwrap();
    assert_eq!(proactor.run(), 2);
    let (result, buf) = ends.recv().unwrap();
    assert_eq!((result.unwrap(), &buf[..]), (4, &b"come"[..]));
}

/// Keys of what is over, of which each names memory that is somebody else's by now.
fn after_the_end(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let mut old: Vec<OperationKey> = Vec::new();
    for round in 0..50_u8 {
        let (to, ends) = mpsc::channel();
        old.push(stream.read(marked(round)).then(report(&to)));
        old.push(
            proactor
                .sleep(Duration::ZERO)
                .then(|result| assert!(result.is_ok())),
        );
        let new = old.split_off(2 * usize::from(round));
        for &key in &old {
            assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        }
        old.extend(new);
        client.write_all(&[round; 3]).unwrap();
        assert_eq!(proactor.run(), 2);
        let (result, buf) = ends.recv().unwrap();
        assert_eq!((result.unwrap(), buf), (3, vec![round; 3]), "undisturbed");
    }
    stream.cancel();
    assert_eq!(proactor.port().outstanding(), 0);
}

#[test]
fn p36_cancelling_before_the_start_or_after_the_end_does_nothing() {
    everywhere(before_the_start);
    everywhere(after_the_end);
}

/// A way to cut an operation short.
type Cut = fn(&Proactor, &TcpStream, OperationKey);

const CUTS: [Cut; 3] = [
    |proactor, _, key| assert_eq!(proactor.cancel(key), CancelOutcome::Requested),
    |_, stream, _| stream.cancel(),
    |_, stream, _| stream.close(),
];

fn a_read_says_how_far_it_got(setup: Setup) {
    for cut in CUTS {
        let proactor = setup.build();
        let (server, mut client) = std_pair();
        let spy = server.try_clone().unwrap();
        let stream = TcpStream::from_std(&proactor, server).unwrap();
        let (to, end) = mpsc::channel();
        let read = stream.read_exact([0; 100]);
        let key = read.then(move |output| to.send(output).unwrap());
        let unread = || spy.peek(&mut [0]).is_ok();
        client.write_all(b"fives").unwrap();
        until("the bytes have come", unread);
        until("they are read", || {
            assert_eq!(proactor.poll(), 0);
            !unread()
        });
        cut(&proactor, &stream, key);
        assert_eq!(proactor.run(), 1);
        let (result, buf) = end.recv().unwrap();
        let error = result.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!((error.transferred(), &buf[..5]), (5, &b"fives"[..]));
    }
}

fn a_write_says_how_far_it_got(setup: Setup) {
    const MUCH: usize = 16 << 20;
    for cut in CUTS {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (to, end) = mpsc::channel();
        let write = stream.write_all(vec![7; MUCH]);
        let key = write.then(move |output| to.send(output).unwrap());
        assert_eq!(proactor.poll(), 0, "the peer reads nothing");
        cut(&proactor, &stream, key);
        assert_eq!(proactor.run(), 1);
        let (result, buf) = end.recv().unwrap();
        let error = result.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(buf.len(), MUCH, "the buffer comes back");
        drop(stream);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(error.transferred(), received.len());
        assert!((1..MUCH).contains(&received.len()));
    }
}

#[test]
fn p37_a_composed_operation_that_is_cancelled_says_how_far_it_got() {
    everywhere(a_read_says_how_far_it_got);
    everywhere(a_write_says_how_far_it_got);
}

/// What each of two limits does to the end of something, whichever was said first.
fn both_ways(end: impl Fn(Duration, Duration) -> Error, short: Duration) {
    for (first, second) in [(short, FAR), (FAR, short)] {
        let begin = Instant::now();
        let error = end(first, second);
        assert!(error.is_timeout(), "{error}");
        assert!(begin.elapsed() >= short, "early");
        assert!(begin.elapsed() < FAR);
    }
}

fn the_earlier_counts(setup: Setup) {
    let proactor = setup.build();
    let listener = TcpListener::bind(&proactor, any_port()).unwrap();
    let short = Duration::from_millis(3);
    let accept = |first, second| listener.accept().timeout(first).timeout(second).wait();
    both_ways(|first, second| accept(first, second).unwrap_err(), short);
    let sleep = |first, second| proactor.sleep(FAR).timeout(first).timeout(second).wait();
    both_ways(|first, second| sleep(first, second).unwrap_err(), short);
    // What a limit is around may have the earliest end of all.
    let slept = proactor.sleep(short).timeout(FAR).timeout(FAR * 2).wait();
    slept.unwrap();
}

/// A limit holds for all of a composed operation, not for each of its steps.
fn of_a_composed_operation(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let short = Duration::from_millis(20);
    let read = |first, second, client: &mut StdStream| {
        client.write_all(b"half").unwrap();
        let limited = stream.read_exact([0; 8]).timeout(first).timeout(second);
        let (result, buf) = limited.wait();
        let error = result.unwrap_err();
        assert_eq!((error.transferred(), &buf[..4]), (4, &b"half"[..]));
        error
    };
    let begin = Instant::now();
    assert!(read(short, FAR, &mut client).is_timeout());
    assert!(read(FAR, short, &mut client).is_timeout());
    assert!(begin.elapsed() >= short * 2, "early");
    assert_eq!(
        proactor.port().next_deadline(),
        None,
        "a limit stayed behind"
    );
}

#[test]
fn p38_of_nested_time_limits_the_earliest_wins() {
    everywhere(the_earlier_counts);
    everywhere(of_a_composed_operation);
}

#[test]
fn p39_the_first_of_several_completes_once_and_cancels_the_rest() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let calls = Arc::new(AtomicUsize::new(0));
        let orders = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..20 {
            let naps = [FAR, Duration::from_millis(2), FAR].map(|nap| proactor.sleep(nap));
            let (calls, orders) = (Arc::clone(&calls), Arc::clone(&orders));
            let first = proactor.port().first_of(naps).race(stream.read([0; 8]));
            first.then(move |raced| {
                calls.fetch_add(1, Ordering::Relaxed);
                let raced = raced.unwrap();
                assert!(raced.this_first && raced.other.0.unwrap_err().is_cancelled());
                let finished = raced.this.unwrap();
                for (index, output) in finished.outputs.into_iter().enumerate() {
                    assert_eq!(index == 1, output.is_ok());
                    assert_eq!(index != 1, output.is_err_and(|error| error.is_cancelled()));
                }
                orders.lock().unwrap().push(finished.order[0]);
            });
        }
        proactor.run();
        assert_eq!(calls.load(Ordering::Relaxed), 20);
        assert_eq!(*orders.lock().unwrap(), [1; 20]);
    });
}
