//! Cancellation and limits, beside what `tests/conformance` has: of one among several, and of none.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{assert_all_cancelled, everywhere, marked, pair, report};
use proactor::CancelOutcome;

#[test]
fn cancelling_one_of_several_leaves_the_others_in_order() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let keys: Vec<_> = [b"aaaa", b"cccc", b"bbbb"]
            .into_iter()
            .map(|expected| {
                stream
                    .read_exact([0; 4])
                    .then(move |(result, buf)| match expected {
                        b"cccc" => assert!(result.unwrap_err().is_cancelled()),
                        expected => assert_eq!((result.unwrap(), &buf), (4, expected)),
                    })
            })
            .collect();
        assert_eq!(proactor.poll(), 0);
        assert_eq!(proactor.cancel(keys[1]), CancelOutcome::Requested);
        client.write_all(b"aaaabbbb").unwrap();
        assert_eq!(proactor.run(), 3);
    });
}

#[test]
fn cancelling_a_stream_cancels_all_that_is_pending_on_it_and_nothing_else() {
    everywhere(|setup| {
        let proactor = setup.build();
        let ((stream, mut client), (other, mut wakes)) = (pair(&proactor), pair(&proactor));
        let (to, ends) = mpsc::channel();
        for mark in 0..5 {
            stream.read(marked(mark)).then(report(&to));
        }
        drop(to);
        let (to, later) = mpsc::channel();
        other.read(marked(9)).then(report(&to));
        assert_eq!(proactor.poll(), 0);
        stream.cancel();
        stream.read(marked(8)).then(report(&to));
        client.write_all(b"late").unwrap();
        wakes.write_all(b"late").unwrap();
        assert_eq!(proactor.run(), 7);
        assert_all_cancelled(&ends, &[0, 1, 2, 3, 4]);
        for _ in 0..2 {
            assert_eq!(later.recv().unwrap().1, b"late");
        }
    });
}

#[test]
fn a_key_of_another_port_is_too_late() {
    everywhere(|setup| {
        let (proactor, other) = (setup.build(), setup.build());
        let key = proactor.sleep(Duration::from_secs(3600)).then(|result| {
            assert!(result.unwrap_err().is_cancelled());
        });
        assert_eq!(other.cancel(key), CancelOutcome::TooLate);
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        assert_eq!(proactor.run(), 1);
    });
}

// ---- time limits ----

#[test]
fn a_limit_ends_the_operation_as_timed_out_with_its_buffer_and_never_early() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (to, ends) = mpsc::channel();
        let begin = Instant::now();
        let limited = stream.read(marked(1)).timeout(Duration::from_millis(7));
        limited.then(report(&to));
        assert_eq!(proactor.run(), 1);
        assert!(begin.elapsed() >= Duration::from_millis(7), "early");
        let (result, buf) = ends.recv().unwrap();
        assert!(result.unwrap_err().is_timeout());
        assert_eq!(buf, marked(1));
        // The direction serves on.
        client.write_all(b"on").unwrap();
        let (result, buf) = stream.read(buf).wait();
        assert_eq!((result.unwrap(), &buf[..]), (2, &b"on"[..]));
    });
}

#[test]
fn completion_lifts_the_limit() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let long = Duration::from_secs(3600);
        for _ in 0..200 {
            client.write_all(b"!").unwrap();
            let read = stream.read([0; 1]).timeout(long);
            read.then(|(result, _)| assert_eq!(result.unwrap(), 1));
            assert_eq!(proactor.run(), 1);
            let waiting = stream.read([0; 1]).timeout(long);
            let key = waiting.then(|(result, _)| assert!(result.unwrap_err().is_cancelled()));
            proactor.cancel(key);
            assert_eq!(proactor.run(), 1);
        }
        assert_eq!(
            proactor.port().next_deadline(),
            None,
            "a limit stayed behind"
        );
        assert_eq!(proactor.port().outstanding(), 0);
    });
}
