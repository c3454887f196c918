//! Tokens, operations that are composed or completed by hand, and groups.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, everywhere, everywhere_once, pair, until};
use proactor::{
    CancelOutcome, CancelToken, Completer, CompletionPort, Composed, ErrorKind, Finished,
    Initiation, Proactor,
};

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn a_token_ends_its_own_and_its_childrens() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let root = CancelToken::new();
        let (left, right) = (root.child(), root.child());
        let leaf = left.child();
        let over = Arc::new(Mutex::new(Vec::new()));
        let nap = |name: &'static str, token: &CancelToken| {
            let over = Arc::clone(&over);
            proactor.sleep(HOUR).cancel_with(token).then(move |result| {
                assert!(result.unwrap_err().is_cancelled());
                over.lock().unwrap().push(name);
            });
        };
        nap("leaf", &leaf);
        nap("right", &right);
        let read = stream.read([0; 8]).cancel_with(&leaf);
        let read_over = Arc::clone(&over);
        read.then(move |(result, _)| {
            assert!(result.unwrap_err().is_cancelled());
            read_over.lock().unwrap().push("read");
        });
        left.cancel();
        assert!(leaf.is_cancelled() && !right.is_cancelled() && !root.is_cancelled());
        while over.lock().unwrap().len() < 2 {
            proactor.run_one();
        }
        let mut first = over.lock().unwrap().clone();
        first.sort_unstable();
        assert_eq!(first, ["leaf", "read"]);
        root.cancel();
        assert!(right.is_cancelled() && right.child().is_cancelled());
        proactor.run();
        assert_eq!(over.lock().unwrap().last(), Some(&"right"));
    });
}

#[test]
fn a_token_that_is_cancelled_ends_what_comes_later_at_once() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(b"data").unwrap();
        let (token, other) = (CancelToken::new(), CancelToken::new());
        token.cancel();
        token.cancel();
        let read = stream.read([0; 8]).cancel_with(&other).cancel_with(&token);
        assert!(read.wait().0.unwrap_err().is_cancelled());
        // Nothing was consumed.
        let (result, buf) = stream.read([0; 8]).cancel_with(&other).wait();
        assert_eq!(&buf[..result.unwrap()], b"data");
    });
}

#[test]
fn a_token_of_two_ports_outlives_one() {
    everywhere_once(|setup| {
        let (one, other) = (setup.build(), setup.build());
        let token = CancelToken::new();
        for _ in 0..100 {
            for proactor in [&one, &other] {
                proactor
                    .sleep(Duration::ZERO)
                    .cancel_with(&token)
                    .wait()
                    .unwrap();
            }
            drop(token.child());
        }
        drop(one);
        other.sleep(HOUR).cancel_with(&token).then(|result| {
            assert!(result.unwrap_err().is_cancelled());
        });
        token.cancel();
        assert_eq!(other.run(), 1);
    });
}

#[test]
fn a_tree_may_be_deep() {
    let setup = common::setups(&[1])[0];
    let proactor = setup.build();
    let root = CancelToken::new();
    let mut leaf = root.child();
    for _ in 0..200_000 {
        leaf = leaf.child();
    }
    proactor.sleep(HOUR).cancel_with(&leaf).then(|_| ());
    drop(leaf);
    for _ in 0..100 {
        drop(root.child()); // looks for what is needed no more
    }
    root.cancel();
    assert_eq!(proactor.run(), 1);
    let mut leaf = root.child();
    for _ in 0..200_000 {
        leaf = leaf.child();
    }
    let other = CancelToken::new();
    let mut leaf = other.child();
    for _ in 0..200_000 {
        leaf = leaf.child();
    }
    drop((other, leaf));
}

#[test]
fn tokens_are_cancelled_from_anywhere_while_operations_come_and_go() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        for _ in 0..50 {
            let root = CancelToken::new();
            let over = Arc::new(AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let token = root.child();
                        for _ in 0..5 {
                            let over = Arc::clone(&over);
                            proactor
                                .sleep(HOUR)
                                .cancel_with(&token)
                                .then(move |result| {
                                    assert!(result.unwrap_err().is_cancelled());
                                    over.fetch_add(1, Ordering::Relaxed);
                                });
                        }
                    });
                }
                root.cancel();
            });
            until("all are cancelled", || over.load(Ordering::Relaxed) == 10);
        }
        assert_eq!(proactor.shutdown(Instant::now() + HOUR).cancelled, 0);
    });
}

/// Completes when `steps` naps are over, with how many there were.
fn naps(proactor: &Proactor, steps: usize, each: Duration) -> Initiation<Composed<usize>> {
    fn step(
        port: proactor::CompletionPort,
        (done, steps): (usize, usize),
        each: Duration,
        completer: Completer<usize>,
    ) {
        if done == steps {
            return completer.complete(Ok(done));
        }
        let token = completer.token().clone();
        let nap = port.sleep(each).cancel_with(&token);
        nap.then(move |result| match result {
            Ok(()) => step(port, (done + 1, steps), each, completer),
            Err(error) => completer.complete(Err(error.with_transferred(done))),
        });
    }
    let port = proactor.port().clone();
    proactor.compose(move |completer| step(port, (0, steps), each, completer))
}

#[test]
fn what_is_composed_completes_as_what_is_not() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!(naps(&proactor, 3, SHORT).wait().unwrap(), 3);
        let (sent, came) = mpsc::channel();
        naps(&proactor, 2, SHORT)
            .key(5)
            .then(move |result| sent.send(result.unwrap()).unwrap());
        proactor.run();
        assert_eq!(came.recv().unwrap(), 2);
    });
}

/// In the middle: two naps are over, the third is long.
fn interrupted(
    setup: Setup,
    interrupt: fn(&Proactor, Initiation<Composed<usize>>) -> proactor::Error,
) {
    let proactor = setup.build();
    proactor.start().unwrap();
    let port = proactor.port().clone();
    let composed = proactor.compose(move |completer: Completer<usize>| {
        let token = completer.token().clone();
        port.sleep(SHORT).cancel_with(&token).then(move |result| {
            result.unwrap();
            port.sleep(HOUR).cancel_with(&token).then(move |result| {
                completer.complete(
                    result
                        .map(|()| 2)
                        .map_err(|error| error.with_transferred(1)),
                );
            });
        });
    });
    let error = interrupt(&proactor, composed);
    assert_eq!(error.transferred(), 1);
}

#[test]
fn what_is_composed_says_how_far_it_was_when_it_was_ended() {
    everywhere(|setup| {
        interrupted(setup, |_, composed| {
            let error = composed.timeout(10 * SHORT).wait().unwrap_err();
            assert!(error.is_timeout(), "{error}");
            error
        });
        interrupted(setup, |proactor, composed| {
            let (sent, came) = mpsc::channel();
            let key = composed.then(move |result| sent.send(result.unwrap_err()).unwrap());
            // The long nap has begun when nothing else is due.
            until("the second nap", || {
                proactor
                    .port()
                    .next_deadline()
                    .is_some_and(|at| at > Instant::now() + HOUR / 2)
            });
            assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
            assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
            let error = came.recv().unwrap();
            assert!(error.is_cancelled());
            assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
            error
        });
    });
}

#[test]
fn whoever_drops_a_completer_abandons_the_operation() {
    everywhere(|setup| {
        let proactor = setup.build();
        let error = proactor
            .compose(|completer: Completer<()>| drop(completer))
            .wait();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Abandoned);
        assert_eq!(
            error.to_string(),
            "composed operation: nobody is left to complete it"
        );
        // Asked to end first, it ends as that.
        let token = CancelToken::new();
        token.cancel();
        let composed = proactor.compose(|completer: Completer<()>| {
            assert!(completer.token().is_cancelled());
        });
        assert!(
            composed
                .cancel_with(&token)
                .wait()
                .unwrap_err()
                .is_cancelled()
        );
    });
}

#[test]
fn a_completer_outlives_its_proactor() {
    everywhere(|setup| {
        let kept = Arc::new(Mutex::new(None));
        let called = Arc::new(());
        {
            let proactor = setup.build();
            let (kept, called) = (Arc::clone(&kept), Arc::clone(&called));
            proactor
                .compose(move |completer: Completer<Vec<u8>>| {
                    *kept.lock().unwrap() = Some(completer);
                })
                .then(move |_| drop(called));
            assert_eq!(proactor.port().outstanding(), 1);
        }
        let completer = kept.lock().unwrap().take().unwrap();
        completer.complete(Ok(vec![0; 64]));
        assert_eq!(Arc::strong_count(&called), 1, "the handler is still there");
    });
}

#[test]
fn a_port_that_closes_asks_what_is_composed_to_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (sent, came) = mpsc::channel();
        let kept = naps(&proactor, 1, HOUR);
        kept.then(move |result| sent.send(result.unwrap_err()).unwrap());
        let report = proactor.shutdown(Instant::now());
        assert_eq!(report.left, 0);
        assert!(came.recv().unwrap().is_cancelled());
    });
}

/// An operation that is made of one that is made of one, and so on.
fn nested(port: &CompletionPort, depth: usize) -> Initiation<Composed<()>> {
    let again = port.clone();
    port.compose(move |completer: Completer<()>| {
        let port = again.clone();
        again.post(move || {
            let token = completer.token().clone();
            if depth == 0 {
                let nap = port.sleep(HOUR).cancel_with(&token);
                nap.then(move |result| completer.complete(result));
            } else {
                let next = nested(&port, depth - 1).cancel_with(&token);
                next.then(move |result| completer.complete(result));
            }
        });
    })
}

#[test]
fn what_is_composed_may_be_deep() {
    everywhere_once(|setup| {
        for dropped in [false, true] {
            let proactor = setup.build();
            let token = CancelToken::new();
            let deep = nested(proactor.port(), 20_000).cancel_with(&token);
            deep.then(|result| assert!(result.unwrap_err().is_cancelled()));
            while proactor.poll() > 0 {}
            assert!(proactor.port().outstanding() > 20_000);
            if !dropped {
                token.cancel();
                proactor.run();
            }
        }
    });
}

#[test]
fn what_is_composed_on_a_closed_port_is_asked_to_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.port().close();
        let (kept, keep) = mpsc::channel();
        proactor
            .compose(move |completer: Completer<()>| kept.send(completer).unwrap())
            .then(|result| assert!(result.unwrap_err().is_cancelled()));
        let completer = keep.recv().unwrap();
        assert!(completer.token().is_cancelled());
        drop(completer);
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn of_a_group_every_output_is_there() {
    everywhere(|setup| {
        let proactor = setup.build();
        let port = proactor.port();
        let nap = |millis| proactor.sleep(Duration::from_millis(millis));
        let all = port.all_of([nap(12), nap(1), nap(6)]).wait().unwrap();
        assert_eq!(all.order, [1, 2, 0]);
        assert!(all.outputs.iter().all(Result::is_ok));
        let none = port.first_of(std::iter::empty::<Initiation<proactor::time::Sleep>>());
        let none = none.wait().unwrap();
        assert!(none.outputs.is_empty() && none.order.is_empty());
        // A group of groups, ended from outside.
        let groups = [3600, 7200].map(|s| port.all_of([nap(s * 1000), nap(s * 1000)]));
        let error = port.first_of(groups).timeout(SHORT).wait().unwrap();
        let naps = error
            .outputs
            .into_iter()
            .flat_map(|group: Result<Finished<_>, _>| group.unwrap().outputs);
        assert_eq!(
            naps.filter(|nap| nap.as_ref().unwrap_err().is_cancelled())
                .count(),
            4
        );
    });
}

#[test]
fn the_loser_of_a_race_loses_no_byte() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let raced = stream
            .read([0; 4])
            .race(proactor.sleep(SHORT))
            .wait()
            .unwrap();
        assert!(!raced.this_first && raced.other.is_ok());
        assert!(raced.this.0.unwrap_err().is_cancelled());
        client.write_all(b"data").unwrap();
        let raced = stream
            .read([0; 4])
            .race(proactor.sleep(HOUR))
            .wait()
            .unwrap();
        assert!(raced.this_first && raced.other.unwrap_err().is_cancelled());
        assert_eq!((raced.this.0.unwrap(), &raced.this.1), (4, b"data"));
    });
}

#[test]
fn the_first_that_succeeds_ends_the_others_and_a_failure_does_not() {
    everywhere(|setup| {
        let proactor = setup.build();
        let fails = || proactor.sleep(HOUR).timeout(SHORT);
        let naps = [fails(), proactor.sleep(5 * SHORT), proactor.sleep(HOUR)];
        let finished = proactor.first_ok_of(naps).wait().unwrap();
        assert_eq!(finished.order, [0, 1, 2]);
        assert!(finished.outputs[0].as_ref().unwrap_err().is_timeout());
        assert!(finished.outputs[1].is_ok());
        assert!(finished.outputs[2].as_ref().unwrap_err().is_cancelled());
        assert_eq!(finished.first().map(|(index, _)| index), Some(0));
        let none = proactor.first_ok_of([fails(), fails()]).wait().unwrap();
        assert!(
            none.outputs
                .iter()
                .all(|nap| nap.as_ref().unwrap_err().is_timeout())
        );
        assert!(!none.timed_out, "the parts' limits, not the whole's");
        let late = [proactor.sleep(HOUR), proactor.sleep(HOUR)];
        let late = proactor.first_ok_of(late).timeout(SHORT).wait().unwrap();
        assert!(late.timed_out && late.outputs.iter().all(Result::is_err));
        let both = proactor
            .sleep(HOUR)
            .join(proactor.sleep(HOUR))
            .timeout(SHORT);
        assert!(both.wait().unwrap().timed_out);
    });
}

/// A loser's proactor goes: what the winner got is there all the same.
#[test]
fn a_group_over_two_proactors_outlives_one() {
    everywhere(|setup| {
        let (one, other) = (setup.build(), setup.build());
        let naps = [one.sleep(SHORT), other.sleep(HOUR)];
        let (sent, came) = mpsc::channel();
        one.first_of(naps)
            .then(move |finished| sent.send(finished.unwrap()).unwrap());
        assert_eq!(one.run_one(), 1);
        drop(other);
        one.run();
        let finished = came.recv_timeout(SOON).unwrap();
        assert_eq!(finished.order, [0, 1]);
        assert!(finished.outputs[0].is_ok());
        assert!(finished.outputs[1].as_ref().unwrap_err().is_cancelled());
    });
}
