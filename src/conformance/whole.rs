//! Checks of whole proactors with the strategy, with threads, on both backends.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::promise::{Broken, Promise};
use super::{Check, Suite};
use crate::backend::BackendKind;
use crate::net::{TcpListener, TcpStream};
use crate::port::CompletionPort;
use crate::proactor::Proactor;
use crate::sync::{Arc, Condvar, Mutex, scope};

pub(super) const CHECKS: &[Check] = &[
    (Promise::Wakes, wakes),
    (Promise::Together, together),
    (Promise::EveryKind, every_kind),
    (Promise::AnyThread, any_thread),
    (Promise::Panics, panics),
    (Promise::GivesUp, gives_up),
];

/// How often a run that was stopped is taken up again before that counts as never.
const RUNS: usize = 20;

/// Counts what handlers did.
#[derive(Clone, Default)]
struct Tally(Arc<(Mutex<usize>, Condvar)>);

impl Tally {
    fn add(&self) {
        *self.0.0.lock() += 1;
        self.0.1.notify_all();
    }

    fn count(&self) -> usize {
        *self.0.0.lock()
    }

    fn wait(&self, until: usize) {
        let mut count = self.0.0.lock();
        while *count < until {
            count = self.0.1.wait(count);
        }
    }

    /// A call that adds one.
    fn adding(&self) -> impl FnOnce() + Send + 'static {
        let tally = self.clone();
        move || tally.add()
    }
}

/// Does `body` with a proactor of each number of threads that the strategy takes, on both backends; in words, too.
fn each(
    suite: &Suite,
    promise: Promise,
    body: impl Fn(Proactor, usize, &str) -> Result<(), Broken>,
) -> Result<(), Broken> {
    for backend in [BackendKind::Auto, BackendKind::Portable] {
        for threads in suite.counts() {
            let mut builder = Proactor::builder().backend(backend);
            builder.dispatcher = (suite.make)();
            builder.threads = std::num::NonZeroUsize::new(threads);
            let built = builder.build();
            let proactor = built
                .map_err(|error| promise.broken(format!("it could not be looked at: {error}")))?;
            body(proactor, threads, &format!("{threads} threads, {backend}"))?;
        }
    }
    Ok(())
}

fn wakes(suite: &Suite) -> Result<(), Broken> {
    const CALLS: usize = 300;
    let stage = &suite.stage;
    each(suite, Promise::Wakes, |proactor, threads, here| {
        started(&proactor, Promise::Wakes)?;
        let tally = Tally::default();
        for number in 1..=CALLS {
            stage.at(format!(
                "an idle pool to run call {number} that was posted to it ({here})"
            ));
            proactor.post(tally.adding());
            tally.wait(number);
        }
        // Each waits for the other, so both of two threads must come.
        for pair in 1..=if threads > 1 { CALLS } else { 0 } {
            stage.at(format!(
                "the second of two calls that need each other, pair {pair} ({here})"
            ));
            let (met, done) = (Tally::default(), Tally::default());
            for _ in 0..2 {
                let (met, done) = (met.clone(), done.clone());
                proactor.post(move || {
                    met.add();
                    met.wait(2);
                    done.add();
                });
            }
            done.wait(2);
        }
        Ok(())
    })
}

fn started(proactor: &Proactor, promise: Promise) -> Result<(), Broken> {
    let refused = |error| promise.broken(format!("it could not be looked at: {error}"));
    proactor.start().map_err(refused)
}

fn together(suite: &Suite) -> Result<(), Broken> {
    const POSTERS: usize = 3;
    const POSTS: usize = 1000;
    let promise = Promise::Together;
    each(suite, promise, |proactor, _, here| {
        suite.stage.at(format!(
            "{POSTERS} posting threads and all that they posted ({here})"
        ));
        started(&proactor, promise)?;
        let tally = Tally::default();
        scope(|scope| {
            for _ in 0..POSTERS {
                scope.spawn(|| {
                    for key in 0..POSTS as u64 {
                        let (port, tally) = (proactor.port().clone(), tally.clone());
                        proactor.post_keyed(key, move || {
                            port.post_keyed(key, tally.adding());
                            port.defer(tally.adding());
                            tally.add();
                        });
                    }
                });
            }
        });
        let report = proactor.shutdown(Instant::now() + suite.patience / 2);
        promise.holds(report.cancelled == 0, || {
            format!(
                "{} calls were left, though there was time ({here})",
                report.cancelled
            )
        })?;
        let (ran, all) = (tally.count(), POSTERS * POSTS * 3);
        promise.holds(ran == all, || {
            format!(
                "of {all} calls {ran} were run, and none is left: the others were dropped ({here})"
            )
        })
    })
}

const CLIENTS: usize = 4;
const ROUNDS: usize = 20;
const TIMERS: usize = 20;

fn every_kind(suite: &Suite) -> Result<(), Broken> {
    let promise = Promise::EveryKind;
    each(suite, promise, |proactor, _, here| {
        suite
            .stage
            .at(format!("connections and timers to end ({here})"));
        let loopback = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let refused = |error| promise.broken(format!("it could not be looked at: {error}"));
        let listener = TcpListener::bind(&proactor, loopback).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (echoed, fired) = (Tally::default(), Tally::default());
        accept(listener, CLIENTS);
        for client in 0..CLIENTS {
            let echoed = echoed.clone();
            let connecting = TcpStream::connect(&proactor, address).key(client as u64);
            connecting.then(move |stream| {
                if let Ok(stream) = stream {
                    ask(stream, vec![7; 1000], ROUNDS, echoed);
                }
            });
        }
        for timer in 0..TIMERS {
            let tally = fired.clone();
            let nap = proactor.sleep(Duration::from_millis(timer as u64 / 2));
            nap.key(timer as u64).then(move |slept| {
                if slept.is_ok() {
                    tally.add();
                }
            });
        }
        proactor.run();
        let (echoed, fired) = (echoed.count(), fired.count());
        promise.holds((echoed, fired) == (CLIENTS * ROUNDS, TIMERS), || {
            let all = CLIENTS * ROUNDS;
            format!("{echoed} of {all} messages came back, and {fired} of {TIMERS} timers fired ({here})")
        })
    })
}

fn accept(listener: TcpListener, clients: usize) {
    if clients > 0 {
        listener.accept().then(move |accepted| {
            if let Ok((stream, _)) = accepted {
                echo(stream, Vec::with_capacity(2048));
                accept(listener, clients - 1);
            }
        });
    }
}

fn echo(stream: TcpStream, buffer: Vec<u8>) {
    stream.read(buffer).then(move |(read, buffer)| {
        if matches!(read, Ok(1..)) {
            stream.write_all(buffer).then(move |(written, buffer)| {
                if written.is_ok() {
                    echo(stream, buffer);
                }
            });
        }
    });
}

fn ask(stream: TcpStream, message: Vec<u8>, rounds: usize, echoed: Tally) {
    if rounds > 0 {
        stream.write_all(message).then(move |(written, buffer)| {
            if written.is_ok() {
                stream.read_exact(buffer).then(move |(read, buffer)| {
                    if read.is_ok() {
                        echoed.add();
                        ask(stream, buffer, rounds - 1, echoed);
                    }
                });
            }
        });
    }
}

/// Runs what is left, each time with threads of their own, until nothing is.
fn run_out(suite: &Suite, proactor: &Proactor, promise: Promise, here: &str) -> Result<(), Broken> {
    for run in 1..=RUNS {
        let left = proactor.port().outstanding();
        if left == 0 {
            return Ok(());
        }
        suite.stage.at(format!(
            "run {run} to find {left} calls that were left ({here})"
        ));
        scope(|scope| {
            scope.spawn(|| catch_unwind(AssertUnwindSafe(|| proactor.run())).is_ok());
        });
        proactor.restart();
    }
    let left = proactor.port().outstanding();
    Err(promise.broken(format!(
        "after {RUNS} runs {left} calls are still left ({here})"
    )))
}

/// A call that makes two more, one of which is this worker's to run next.
fn makes_two(port: &CompletionPort, tally: &Tally) -> impl FnOnce() + Send + 'static {
    let (port, tally) = (port.clone(), tally.clone());
    move || {
        port.post(tally.adding());
        port.defer(tally.adding());
        tally.add();
    }
}

fn any_thread(suite: &Suite) -> Result<(), Broken> {
    const CALLS: usize = 60;
    let promise = Promise::AnyThread;
    each(suite, promise, |proactor, _, here| {
        let tally = Tally::default();
        for number in 0..CALLS {
            let (port, call) = (proactor.port().clone(), makes_two(proactor.port(), &tally));
            proactor.post(move || {
                call();
                if number % 12 == 0 {
                    port.stop();
                }
            });
        }
        run_out(suite, &proactor, promise, here)?;
        let (ran, all) = (tally.count(), 3 * CALLS);
        promise.holds(ran == all, || {
            format!("of {all} calls {ran} were run, and none is left ({here})")
        })
    })
}

/// Posts when it is dropped: as a handler's stack unwinds.
struct Unwinds(CompletionPort, Tally);

impl Drop for Unwinds {
    fn drop(&mut self) {
        self.0.post(self.1.adding());
    }
}

fn panics(suite: &Suite) -> Result<(), Broken> {
    const CALLS: usize = 60;
    const PANICS: usize = 5;
    let promise = Promise::Panics;
    each(suite, promise, |proactor, _, here| {
        let tally = Tally::default();
        for number in 0..CALLS {
            let (port, call) = (proactor.port().clone(), makes_two(proactor.port(), &tally));
            let later = tally.clone();
            proactor.post(move || {
                call();
                if number % (CALLS / PANICS) == 0 {
                    let _unwinds = Unwinds(port, later);
                    resume_unwind(Box::new("on purpose")); // without a word on stderr
                }
            });
        }
        run_out(suite, &proactor, promise, here)?;
        let (ran, all) = (tally.count(), 3 * CALLS + PANICS);
        promise.holds(ran == all, || {
            format!("of {all} calls, {PANICS} of them posted by panicking handlers, {ran} were run ({here})")
        })
    })
}

fn gives_up(suite: &Suite) -> Result<(), Broken> {
    const CALLS: usize = 60;
    let promise = Promise::GivesUp;
    each(suite, promise, |proactor, _, here| {
        suite.stage.at(format!(
            "the drop of a proactor whose strategy holds calls ({here})"
        ));
        let held = Arc::new(());
        for number in 0..CALLS {
            let (port, mine) = (proactor.port().clone(), Arc::clone(&held));
            proactor.post(move || {
                let (posted, deferred) = (Arc::clone(&mine), Arc::clone(&mine));
                port.post(move || drop(posted));
                port.defer(move || drop(deferred));
                if number == CALLS / 2 {
                    port.stop();
                }
            });
        }
        proactor.run();
        let before = Arc::strong_count(&held) - 1;
        drop(proactor);
        let left = Arc::strong_count(&held) - 1;
        promise.holds(left == 0, || {
            format!("of {before} calls that it held, {left} were neither given to who cleared up nor dropped ({here})")
        })
    })
}
