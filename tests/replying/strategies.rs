//! With strategies of the user's, which shuffle, lose and mix up what they are given; and with stops at any moment.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use proactor::dispatch::{Dispatcher, Injector, Origin, Placed, Worker};
use proactor::net::Reply;
use proactor::{BufferPool, BuildError, Completion, Proactor};

use super::common::{BACKENDS, Random, SOON, everywhere_once, pair, until, within};
use super::{LARGE, assert_closed, assert_over, assert_same, next, pattern, replying};

/// Gives out what it has in no order, and loses one of so many.
#[derive(Debug)]
struct Whim {
    held: Mutex<(Vec<Completion>, Random)>,
    loses_of: usize,
}

impl Whim {
    fn new(random: &mut Random, loses_of: usize) -> Self {
        Self {
            held: Mutex::new((Vec::new(), random.fork())),
            loses_of,
        }
    }
}

impl Dispatcher for Whim {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(threads.unwrap_or(NonZeroUsize::MIN))
    }

    fn dispatch(&self, completion: Completion, _: Origin<'_>) -> Placed {
        let mut held = self.held.lock().unwrap();
        if self.loses_of > 0 && held.1.within(1, self.loses_of) == 1 {
            drop(held);
            drop(completion);
        } else {
            held.0.push(completion);
        }
        Placed::Shared
    }

    fn next(&self, _: Worker<'_>) -> Option<Completion> {
        let mut held = self.held.lock().unwrap();
        let (completions, random) = &mut *held;
        let last = completions.len().checked_sub(1)?;
        let at = random.within(0, last);
        Some(completions.swap_remove(at))
    }

    fn is_empty(&self) -> bool {
        self.held.lock().unwrap().0.is_empty()
    }
}

/// With a whim of each kind of backend, and one to three threads.
fn with_whims(loses_of: usize, body: fn(&Proactor, Random)) {
    for backend in BACKENDS {
        for threads in 1..=3 {
            within(&format!("{backend}, {threads} threads"), move || {
                let mut random = Random::new();
                let builder = Proactor::builder()
                    .dispatcher(Whim::new(&mut random, loses_of))
                    .threads(NonZeroUsize::new(threads).unwrap());
                let proactor = builder.backend(backend).build().unwrap();
                proactor.start().unwrap();
                body(&proactor, random);
            });
        }
    }
}

/// Asks so many times, now and then for more than the kernel takes at once, and reads the answers late.
fn ask_on(peer: &mut StdStream, times: usize, random: &mut Random) {
    for _ in 0..times {
        let len = match random.within(0, 20) {
            0 => 300_000,
            _ => random.within(1, 3000),
        };
        let all = pattern(len);
        thread::scope(|scope| {
            let mut out = &*peer;
            let all = &all[..];
            scope.spawn(move || out.write_all(all).unwrap());
            let mut back = &*peer;
            assert_same(&next(&mut back, len), all);
        });
    }
}

#[test]
fn a_strategy_that_shuffles_does_not_shuffle_replies() {
    with_whims(0, |proactor, mut random| {
        thread::scope(|scope| {
            for _ in 0..10 {
                let (stream, mut peer) = pair(proactor);
                let end = replying(&stream, Reply::Write);
                let mut random = random.fork();
                scope.spawn(move || {
                    ask_on(&mut peer, 20, &mut random);
                    peer.shutdown(Shutdown::Write).unwrap();
                    assert_over(&end);
                    drop(stream);
                    assert_closed(&mut peer);
                });
            }
        });
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

/// Says so when it is dropped.
struct Watched(Arc<AtomicUsize>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks until it is closed, or has asked often enough.
fn ask_until_closed(peer: &mut StdStream, times: usize) {
    let gone = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    for len in 1..=times {
        let mut back = [0; 200_000];
        let len = if len % 10 == 0 { back.len() } else { len };
        let asked = thread::scope(|scope| {
            let mut out = &*peer;
            let asks = scope.spawn(move || out.write_all(&vec![9; len]));
            let mut count = 0;
            while count < len {
                match (&*peer).read(&mut back[count..len]) {
                    Ok(0) => break,
                    Ok(some) => count += some,
                    Err(error) if gone(error.kind()) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let asked = asks.join().unwrap();
            (asked.is_ok() && count == len).then_some(())
        });
        if asked.is_none() {
            return;
        }
    }
    peer.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("it is closed");
}

#[test]
fn what_a_strategy_loses_is_over_and_leaves_nothing_behind() {
    with_whims(40, |proactor, _| {
        const CONNECTIONS: usize = 40;
        let drops = Arc::new(AtomicUsize::new(0));
        let ends = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                let (stream, mut peer) = pair(proactor);
                let watched = [(); 2].map(|()| Watched(Arc::clone(&drops)));
                let [of_each, of_end] = watched;
                let ends = Arc::clone(&ends);
                let echo = stream.reply_each(&BufferPool::new(1000), move |bytes| {
                    let _watched = &of_each;
                    Reply::Write(bytes)
                });
                echo.then(move |_| {
                    drop(of_end);
                    ends.fetch_add(1, Ordering::SeqCst);
                });
                // The operation alone keeps it open.
                drop(stream);
                scope.spawn(move || ask_until_closed(&mut peer, 30));
            }
        });
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
        assert_eq!(drops.load(Ordering::SeqCst), 2 * CONNECTIONS);
        assert!(ends.load(Ordering::SeqCst) < CONNECTIONS, "none was lost");
    });
}

/// Gives all to whoever has the other end.
#[derive(Clone, Debug)]
struct Outlet {
    queue: Arc<Injector>,
    give: bool,
}

impl Dispatcher for Outlet {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(threads.unwrap_or(NonZeroUsize::MIN))
    }

    fn dispatch(&self, completion: Completion, _: Origin<'_>) -> Placed {
        self.queue.push(completion);
        Placed::Shared
    }

    fn next(&self, _: Worker<'_>) -> Option<Completion> {
        self.give.then(|| self.queue.pop()).flatten()
    }

    fn is_empty(&self) -> bool {
        !self.give || self.queue.is_empty()
    }
}

#[test]
fn a_turn_that_another_ports_worker_runs_is_about_its_own_stream() {
    for backend in BACKENDS {
        within(&backend.to_string(), move || {
            let queue = Arc::new(Injector::new());
            let outlet = |give| {
                let queue = Arc::clone(&queue);
                let builder = Proactor::builder().dispatcher(Outlet { queue, give });
                builder.backend(backend).build().unwrap()
            };
            let (runs, reaps) = (outlet(true), outlet(false));
            let (stream, mut peer) = pair(&reaps);
            let (_others, _others_peer) = pair(&runs);
            let end = replying(&stream, |bytes| match bytes.len() {
                3 => Reply::Write(vec![1; 3]),
                _ => Reply::Last(vec![2; LARGE]),
            });
            let peer = thread::spawn(move || {
                peer.write_all(b"one").unwrap();
                assert_eq!(next(&mut peer, 3), [1; 3]);
                peer.write_all(b"more").unwrap();
                assert!(next(&mut peer, LARGE) == vec![2; LARGE]);
            });
            until("it is over", || {
                reaps.poll();
                runs.poll();
                reaps.port().outstanding() == 0
            });
            peer.join().unwrap();
            assert_over(&end);
            assert_eq!(runs.port().outstanding(), 0);
        });
    }
}

#[test]
fn stopped_at_any_moment_and_restarted_it_has_lost_nothing() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = setup.build();
        proactor.start().unwrap();
        let (done, over) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..6 {
                let (stream, mut peer) = pair(&proactor);
                let end = replying(&stream, Reply::Write);
                let (mut random, done) = (random.fork(), done.clone());
                scope.spawn(move || {
                    ask_on(&mut peer, 40, &mut random);
                    peer.shutdown(Shutdown::Write).unwrap();
                    let (result, unsent) = end.recv_timeout(SOON).expect("an end");
                    result.unwrap();
                    assert!(unsent.is_none());
                    done.send(()).unwrap();
                });
            }
            drop(done);
            while over.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                proactor.stop();
                for _ in 0..random.within(0, 200) {
                    thread::yield_now();
                }
                proactor.restart();
                for _ in 0..random.within(0, 400) {
                    thread::yield_now();
                }
            }
        });
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}
