//! `.wait()`: outside of handlers, inside, nested to its depth, and where it could never end.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, everywhere, everywhere_once, pair, until};
use proactor::net::TcpStream;
use proactor::{Completer, CompletionPort, ErrorKind, Strand, WAIT_DEPTH};

#[test]
fn outside_it_drives_a_proactor_that_nobody_runs() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (result, buf) = stream.write_all("to the peer").wait();
        assert_eq!((result.unwrap(), buf), (11, "to the peer"));
        let mut seen = [0; 11];
        client.read_exact(&mut seen).unwrap();
        client.write_all(&seen).unwrap();
        let (result, buf) = stream.read_exact([0; 11]).wait();
        assert_eq!((result.unwrap(), &buf), (11, b"to the peer"));
        let begin = Instant::now();
        proactor.sleep(Duration::from_millis(3)).wait().unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(3));
    });
}

#[test]
fn outside_it_waits_for_those_who_run() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut client) = pair(&proactor);
        thread::scope(|scope| {
            // More threads than the proactor has places.
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let (result, _) = stream.read_exact([0; 10]).wait();
                        assert_eq!(result.unwrap(), 10);
                    }
                });
            }
            for _ in 0..6 * 20 {
                client.write_all(&[7; 10]).unwrap();
            }
        });
        assert_eq!(proactor.shutdown(Instant::now() + SOON).left, 0);
    });
}

#[test]
fn many_threads_that_wait_need_nobody_who_runs() {
    everywhere(|setup| {
        let proactor = setup.build();
        thread::scope(|scope| {
            for thread in 0..6 {
                let proactor = &proactor;
                scope.spawn(move || {
                    for round in 0..10 {
                        let nap = Duration::from_millis((thread + round) % 3);
                        proactor.sleep(nap).wait().unwrap();
                    }
                });
            }
        });
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn inside_a_handler_it_gives_the_output_and_others_run_meanwhile() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let port = proactor.port().clone();
        let ran = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ran);
        proactor.post(move || {
            // What the peer sends comes only after this call has run, which therefore must not wait for us.
            port.post(move || {
                ran.store(true, Ordering::SeqCst);
                client.write_all(b"go on").unwrap();
            });
            let (result, buf) = stream.read_exact([0; 5]).wait();
            assert_eq!((result.unwrap(), &buf), (5, b"go on"));
            assert!(seen.load(Ordering::SeqCst));
        });
        assert!(proactor.run() > 0);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

/// Waits in each of `left` handlers that stand on one another; the innermost says how its wait ended.
fn deeper(
    port: CompletionPort,
    stream: Arc<TcpStream>,
    left: usize,
    to: mpsc::Sender<(Option<ErrorKind>, Vec<u8>)>,
) {
    if left > 0 {
        let next = port.clone();
        let (inner, innermost) = (Arc::clone(&stream), to.clone());
        // This call is run by the wait below: on this thread, if there is no other.
        port.post(move || deeper(next, inner, left - 1, innermost));
        port.sleep(Duration::from_millis(1)).wait().unwrap();
    } else {
        let (result, buf) = stream.read(vec![42]).wait();
        to.send((result.err().map(|error| error.kind()), buf))
            .unwrap();
    }
}

#[test]
fn beyond_its_depth_the_result_says_so_and_the_buffer_comes_back() {
    everywhere(|setup| {
        if setup.threads > 1 {
            return; // Others take the calls, so that no thread's stack gets deep.
        }
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        client.write_all(b"!").unwrap();
        let stream = Arc::new(stream);
        for (below, expected) in [
            (WAIT_DEPTH - 2, None),
            (WAIT_DEPTH - 1, Some(ErrorKind::WouldDeadlock)),
        ] {
            let (to, end) = mpsc::channel();
            let (port, stream) = (proactor.port().clone(), Arc::clone(&stream));
            proactor.post(move || deeper(port, stream, below, to));
            proactor.run();
            let (kind, buf) = end.recv().unwrap();
            assert_eq!(kind, expected, "{} handlers deep", below + 1);
            assert_eq!(buf, [if kind.is_some() { 42 } else { b'!' }]);
            assert_eq!(proactor.port().outstanding(), 0);
        }
    });
}

#[test]
fn more_handlers_than_threads_may_wait_at_once() {
    everywhere(|setup| {
        let proactor = setup.build();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..WAIT_DEPTH - 1 {
            let (stream, mut client) = pair(&proactor);
            let (port, done) = (proactor.port().clone(), Arc::clone(&done));
            proactor.post(move || {
                port.post(move || client.write_all(b"byte").unwrap());
                assert_eq!(stream.read_exact([0; 4]).wait().0.unwrap(), 4);
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        proactor.run();
        assert_eq!(done.load(Ordering::SeqCst), WAIT_DEPTH - 1);
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn run_inside_a_handler_runs_the_others_on_this_thread() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let (inside, ran) = (Arc::clone(&proactor), Arc::new(AtomicUsize::new(0)));
        let (to, counts) = mpsc::channel();
        proactor.post({
            let ran = Arc::clone(&ran);
            move || {
                for _ in 0..3 {
                    let ran = Arc::clone(&ran);
                    inside.post(move || {
                        let _ = ran.fetch_add(1, Ordering::SeqCst);
                    });
                }
                until("the three have run", || {
                    inside.poll();
                    ran.load(Ordering::SeqCst) == 3
                });
                to.send(inside.poll_one() + inside.run_for(Duration::from_millis(1)))
                    .unwrap();
            }
        });
        proactor.run();
        assert_eq!(counts.recv().unwrap(), 0, "nothing was left to run");
        assert_eq!(ran.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn run_inside_a_handler_goes_on_until_stop() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let (inside, ran) = (Arc::clone(&proactor), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&ran);
        proactor.post(move || {
            for _ in 0..100 {
                let ran = Arc::clone(&ran);
                inside.post(move || {
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            }
            let port = inside.port().clone();
            inside.sleep(Duration::from_millis(2)).then(move |_| {
                until("the others have run", || {
                    ran.load(Ordering::SeqCst) == 100 || setup.threads == 1
                });
                port.stop();
            });
            inside.run();
            assert!(inside.stopped());
        });
        proactor.run();
        proactor.restart();
        proactor.run();
        assert_eq!(seen.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn a_wait_on_a_stopped_proactor_goes_on_after_restart() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.stop();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| proactor.sleep(Duration::ZERO).wait());
            until("the operation has begun", || {
                proactor.port().outstanding() == 1
            });
            assert!(!waiter.is_finished());
            proactor.restart();
            waiter.join().unwrap().unwrap();
        });
    });
}

/// Has `wait` begun by a thread of its own, drops the proactor when the operation is under way, and gives what the thread got.
fn dropped_under<T: Send + 'static>(
    setup: Setup,
    wait: impl FnOnce(&CompletionPort) -> T + Send + 'static,
) -> T {
    let proactor = setup.build();
    proactor.start().unwrap();
    let port = proactor.port().clone();
    let waiter = thread::spawn(move || wait(&port));
    until("the operation is under way", || {
        proactor.port().outstanding() > 1
    });
    drop(proactor);
    waiter.join().expect("it gets an output")
}

/// A call that has begun is not cancelled: it ends after the proactor, while the only worker is in the handler that waits for it.
#[test]
fn a_handler_that_waits_has_the_output_that_comes_after_the_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let (sent, came) = mpsc::channel();
        let port = proactor.port().clone();
        proactor.post(move || {
            let call = port.blocking(move || {
                begun.send(()).unwrap();
                ends.recv().unwrap()
            });
            sent.send(call.wait()).unwrap();
        });
        has_begun.recv().unwrap();
        let dropped = thread::spawn(move || drop(proactor));
        // sleep: so that the worker has mostly gone to wait by then; there is no seeing it
        thread::sleep(Duration::from_millis(5));
        end.send(7).unwrap();
        let output = came.recv_timeout(SOON).expect("the handler hangs");
        assert_eq!(output.unwrap(), 7);
        dropped.join().unwrap();
    });
}

#[test]
fn whatever_is_waited_for_has_an_output_when_the_proactor_is_dropped() {
    everywhere(|setup| {
        let hour = Duration::from_secs(3600);
        // Cancelled, or begun after the end.
        let ended = |error: proactor::Error| {
            let kind = error.kind();
            assert!(
                [ErrorKind::Cancelled, ErrorKind::Closed].contains(&kind),
                "{error}"
            );
        };
        let slept = dropped_under(setup, move |port| port.sleep(hour).wait());
        ended(slept.unwrap_err());
        let raced = dropped_under(setup, move |port| {
            port.sleep(hour).race(port.sleep(hour)).wait()
        });
        let raced = raced.expect("both outputs");
        ended(raced.this.unwrap_err());
        ended(raced.other.unwrap_err());
        let composed = dropped_under(setup, move |port| {
            let inner = port.clone();
            let steps = port.compose(move |completer: Completer<()>| {
                let first = inner.sleep(hour).cancel_with(completer.token());
                first.then(move |result| completer.complete(result));
            });
            steps.wait()
        });
        ended(composed.unwrap_err());
        // A call that has begun goes on, and what it returns is what was waited for.
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let proactor = setup.build();
        let port = proactor.port().clone();
        let waiter = thread::spawn(move || {
            let call = port.blocking(move || {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                42
            });
            call.wait()
        });
        begun.recv_timeout(SOON).unwrap();
        drop(proactor);
        end.send(()).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 42);
    });
}
/// Inside a strand: one read, one timer and one call that blocks are waited for; no handler runs meanwhile on that thread.
fn inside_a_strand(setup: Setup) {
    let proactor = setup.build();
    let (stream, mut client) = pair(&proactor);
    let strand = Strand::new(&proactor, Vec::new());
    let (port, here) = (proactor.port().clone(), Arc::new(AtomicUsize::new(0)));
    let ran_elsewhere = Arc::clone(&here);
    strand.post(move |log| {
        let me = thread::current().id();
        for _ in 0..10 {
            let here = Arc::clone(&here);
            port.post(move || {
                let nested = thread::current().id() == me;
                here.fetch_add(usize::from(nested), Ordering::Relaxed);
            });
        }
        client.write_all(b"bytes").unwrap();
        let (result, buf) = stream.read_exact([0; 5]).wait();
        assert_eq!((result.unwrap(), &buf), (5, b"bytes"));
        port.sleep(Duration::from_millis(3)).wait().unwrap();
        assert_eq!(port.blocking(|| 7).wait().unwrap(), 7);
        let late = stream.read([0; 5]).timeout(Duration::from_millis(3)).wait();
        assert!(late.0.unwrap_err().is_timeout());
        let writer = thread::spawn(move || client.write_all(b"later").map(|()| client));
        let (result, buf) = stream.read_exact([0; 5]).wait();
        assert_eq!((result.unwrap(), &buf), (5, b"later"));
        drop(writer.join().unwrap().unwrap());
        assert_eq!(
            here.load(Ordering::Relaxed),
            0,
            "another handler ran within the strand"
        );
        log.push("first");
    });
    strand.post(|log| log.push("second"));
    assert_eq!(proactor.run(), 12);
    assert_eq!(strand.try_into_inner().unwrap(), ["first", "second"]);
    drop(ran_elsewhere);
}

#[test]
fn inside_a_strand_it_gives_the_output_and_runs_no_handler() {
    everywhere(inside_a_strand);
}

/// Whoever waits within a strand takes wake-ups that are meant for those who run handlers: it must pass them on.
#[test]
fn posts_are_run_by_others_while_all_but_one_wait_within_strands() {
    for setup in common::setups(&[2, 4]) {
        if setup.threads == 1 {
            continue;
        }
        common::within(&setup.to_string(), move || {
            let proactor = setup.build();
            proactor.start().unwrap();
            let mut waiting = Vec::new();
            let over = Arc::new(AtomicUsize::new(0));
            for _ in 1..setup.threads {
                let strand = Strand::new(&proactor, pair(&proactor));
                let over = Arc::clone(&over);
                let (client, clients) = mpsc::channel();
                strand.post(move |(stream, peer)| {
                    client.send(peer.try_clone().unwrap()).unwrap();
                    assert_eq!(stream.read([0; 1]).wait().0.unwrap(), 1);
                    over.fetch_add(1, Ordering::Relaxed);
                });
                waiting.push((strand, clients.recv().unwrap()));
            }
            for _ in 0..200 {
                let (done, came) = mpsc::channel();
                proactor.post(move || done.send(()).unwrap());
                came.recv_timeout(SOON)
                    .expect("the one that is left runs it");
            }
            assert_eq!(over.load(Ordering::Relaxed), 0);
            for (_, client) in &mut waiting {
                client.write_all(&[1]).unwrap();
            }
            until("all are over", || {
                over.load(Ordering::Relaxed) == setup.threads - 1
            });
            assert_eq!(proactor.shutdown(Instant::now() + SOON).left, 0);
        });
    }
}

fn composed(port: &CompletionPort) -> proactor::Initiation<proactor::Composed<()>> {
    let nap = port.sleep(Duration::from_millis(1));
    port.compose(|completer: Completer<()>| {
        nap.then(move |result| completer.complete(result));
    })
}

/// Where no other thread could run what it waits for, or its strand is held on this thread.
#[test]
fn what_could_never_be_is_refused_and_the_buffer_comes_back() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let strand = Strand::new(&proactor, 0);
        let other = Strand::new(&proactor, ());
        let (port, same) = (proactor.port().clone(), strand.clone());
        let alone = Arc::new(AtomicBool::new(false));
        let was_alone = Arc::clone(&alone);
        client.write_all(b"data").unwrap();
        strand.post(move |count| {
            let (result, buf) = stream.read([9; 4]).on(&same).wait();
            assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldDeadlock);
            assert_eq!(buf, [9; 4]);
            match composed(&port).wait() {
                Ok(()) => stream.read(buf).on(&other).wait().0.map(drop).unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
                    let (result, buf) = stream.read(buf).on(&other).wait();
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldDeadlock);
                    assert_eq!(stream.read(buf).wait().0.unwrap(), 4);
                    was_alone.store(true, Ordering::Relaxed);
                }
            }
            *count += 1;
        });
        proactor.run();
        assert_eq!(alone.load(Ordering::Relaxed), setup.threads == 1);
        assert_eq!(strand.try_into_inner().unwrap(), 1);
    });
}

/// Each of two handlers on strands sees the other at work until that waits as well: not both may rely on the other.
#[test]
fn two_that_wait_within_strands_do_not_wait_for_each_other() {
    fn again(strand: &Strand<(usize, mpsc::Sender<()>)>) {
        let same = strand.clone();
        strand.post(move |(left, _)| {
            let port = same.port().unwrap();
            let other = port.clone();
            let turn = port.compose(move |completer: Completer<()>| {
                other.post(move || completer.complete(Ok(())));
            });
            if let Err(error) = turn.wait() {
                assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
            }
            *left -= 1;
            if *left > 0 {
                again(&same);
            }
        });
    }
    everywhere_once(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (over, all) = mpsc::channel();
        for _ in 0..2 {
            again(&Strand::new(&proactor, (1000, over.clone())));
        }
        drop(over);
        let none = all.recv_timeout(SOON).unwrap_err();
        assert_eq!(none, mpsc::RecvTimeoutError::Disconnected, "they hang");
    });
}

/// Bound to a strand that others hold, it waits for its turn.
#[test]
fn bound_to_a_strand_it_comes_after_what_was_posted_to_it() {
    everywhere(|setup| {
        let proactor = setup.build();
        let strand = Strand::new(&proactor, 0);
        for _ in 0..100 {
            strand.post(|count| *count += 1);
        }
        proactor
            .sleep(Duration::from_millis(1))
            .on(&strand)
            .wait()
            .unwrap();
        let count = strand.try_into_inner();
        assert_eq!(count.unwrap_or_else(|_| panic!("the last handle")), 100);
    });
}

/// A handler of one proactor, run within a handler of another, waits for an operation of that other, which has no other thread.
#[test]
fn further_up_on_the_stack_it_finds_its_place_again() {
    everywhere(|setup| {
        let (outer, inner) = (setup.build(), Arc::new(setup.build()));
        let (port, nested) = (outer.port().clone(), Arc::clone(&inner));
        outer.post(move || {
            let port = port.clone();
            nested.post(move || port.sleep(Duration::from_millis(1)).wait().unwrap());
            nested.run_one();
        });
        assert!(outer.run_one() == 1);
    });
}

/// A handler waits while the proactor is stopped, by a word or by another's panic: `run` returns as soon as it has its output, a
/// composed one too.
#[test]
fn a_handler_that_waits_is_served_while_nobody_else_runs() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (port, stopper) = (proactor.port().clone(), proactor.port().clone());
        let (two_naps, late) = (composed(&port), Arc::new(AtomicBool::new(false)));
        let ran_late = Arc::clone(&late);
        proactor.post(move || {
            stopper.stop();
            port.sleep(Duration::from_millis(2)).wait().unwrap();
            two_naps.wait().unwrap();
            port.sleep(Duration::from_secs(3600))
                .then(move |_| ran_late.store(true, Ordering::Relaxed));
        });
        assert!(proactor.run() >= 1 && proactor.stopped());
        assert_eq!(
            (late.load(Ordering::Relaxed), proactor.port().outstanding()),
            (false, 1)
        );

        let panicking = setup.build();
        let port = panicking.port().clone();
        let (begin, begun) = mpsc::channel();
        panicking.post(move || {
            begin.send(()).unwrap();
            port.sleep(Duration::from_millis(5)).wait().unwrap();
            composed(&port).wait().unwrap();
        });
        panicking.post(move || {
            begun.recv().unwrap();
            panic!("on purpose");
        });
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panicking.run()));
        assert!(ran.is_err(), "the panic goes out");
        // Where the waiter's own thread ran what panicked, its nap is left behind.
        panicking.run();
        assert_eq!(panicking.port().outstanding(), 0);
    });
}

/// On a port that is closed nobody need run: whatever is waited for ends as closed, and its buffer comes back.
#[test]
fn after_a_shutdown_whatever_is_waited_for_ends_as_closed() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let group = proactor.all_of([proactor.sleep(Duration::ZERO)]);
        proactor.shutdown(Instant::now());
        let (result, buf) = stream.read(vec![7; 3]).wait();
        assert_eq!(
            (result.unwrap_err().kind(), buf),
            (ErrorKind::Closed, vec![7; 3])
        );
        assert_eq!(
            proactor
                .sleep(SOON)
                .timeout(SOON)
                .wait()
                .unwrap_err()
                .kind(),
            ErrorKind::Closed
        );
        assert_eq!(group.wait().unwrap_err().kind(), ErrorKind::Closed);
        let awaited =
            pollster::block_on(std::future::IntoFuture::into_future(proactor.sleep(SOON)));
        assert_eq!(awaited.unwrap_err().kind(), ErrorKind::Closed);
    });
}
