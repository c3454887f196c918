//! A strategy of one's own: the highest key runs first. It shows that it does, and that it serves I/O and timers as well.
//!
//! ```text
//! cargo run --release --example custom_dispatcher -- --threads 2
//! ```
//!
//! The strategy is in `priority.rs`, written as anybody outside the crate would write it; here is what it is shown to do. Exit 0 if
//! everything ran in the order that it claims, 1 if not, 2 for bad input. How to write another, and how to check it:
//! `docs/writing-a-strategy.md`.

mod priority;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use clap::Parser;
use priority::{OLDEST_EVERY, Priority};
use proactor::net::{TcpListener, TcpStream};
use proactor::{CompletionPort, Proactor};

type Failure = Box<dyn std::error::Error>;

/// In this order everything is begun; the same key comes more than once.
const KEYS: [u64; 12] = [2, 0, 9, 5, 2, 9, 0, 7, u64::MAX, 5, 9, 1];
const CLIENTS: usize = 16;
const ROUNDS: usize = 200;
const TIMERS: usize = 50;
const WAKE_UPS: usize = 500;
const MESSAGE_BYTES: usize = 64;
/// What no operation here takes longer than, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs handlers by priority, with a strategy of its own, and checks that it does.
#[derive(Parser)]
#[command(name = "custom_dispatcher")]
struct Options {
    /// Threads of the pool that wakes up for calls, and serves connections and timers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if !error.use_stderr() => error.exit(), // --help
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!("custom_dispatcher: {}", line.trim_start_matches("error: "));
            return ExitCode::from(2);
        }
    };
    match show(options.threads.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("custom_dispatcher: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn show(threads: usize) -> Result<(), Failure> {
    in_order("posts", |proactor, key, log| {
        proactor.port().post_keyed(key, log);
        Ok(())
    })?;
    in_order("reads", read_one)?;
    let at = Instant::now(); // one for all, so that they are due together
    in_order("timers", |proactor, key, log| {
        let nap = proactor.sleep_until(at).key(key);
        nap.then(move |slept| slept.map(|()| log()).unwrap_or_default());
        Ok(())
    })?;
    starves_nobody()?;
    wakes_up(threads)?;
    serve(threads)
}

fn proactor(threads: usize) -> Result<Proactor, Failure> {
    let threads = NonZeroUsize::new(threads).ok_or("no threads")?;
    let builder = Proactor::builder().dispatcher(Priority::default());
    Ok(builder.threads(threads).build()?)
}

/// Begins one thing for each of `KEYS`, and only then runs them, on one thread; `begin` gets what its handler is to call.
fn in_order<B>(what: &str, begin: B) -> Result<(), Failure>
where
    B: Fn(&Proactor, u64, Box<dyn FnOnce() + Send>) -> Result<(), Failure>,
{
    let proactor = proactor(1)?;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let numbered: Vec<(u64, usize)> = KEYS.into_iter().zip(1..).collect();
    for &(key, number) in &numbered {
        let ran = Arc::clone(&ran);
        let log = move || locked(&ran).push((key, number));
        begin(&proactor, key, Box::new(log))?;
    }
    proactor.run();
    let ran = locked(&ran).clone();
    let mut wanted = numbered.clone();
    wanted.sort_by_key(|&(key, _)| Reverse(key)); // stable: first come, first served
    say(&format!("{what:<7} begun {}", list(&numbered)));
    say(&format!("{what:<7} run   {}", list(&ran)));
    if ran != wanted {
        return Err(format!("{what} were to run as {}", list(&wanted)).into());
    }
    Ok(())
}

/// Each as `KEY#NUMBER`.
fn list(numbered: &[(u64, usize)]) -> String {
    let show = |&(key, number): &(u64, usize)| match key {
        u64::MAX => format!("max#{number}"),
        key => format!("{key}#{number}"),
    };
    numbered.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// A read of a byte that has come already.
fn read_one(proactor: &Proactor, key: u64, log: Box<dyn FnOnce() + Send>) -> Result<(), Failure> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut peer = std::net::TcpStream::connect(listener.local_addr()?)?;
    peer.write_all(b"!")?;
    let (stream, _) = listener.accept()?;
    stream.peek(&mut [0])?; // it is here
    let stream = TcpStream::from_std(proactor, stream)?;
    stream.read([0; 1]).key(key).then(move |(read, _)| {
        if let (Ok(1), _open) = (read, peer) {
            log();
        }
    });
    Ok(())
}

/// A call with key 0 runs beside a chain of calls with key 9 that goes on until it has.
fn starves_nobody() -> Result<(), Failure> {
    fn chain(port: CompletionPort, low: Arc<AtomicBool>, length: Arc<AtomicUsize>) {
        port.clone().post_keyed(9, move || {
            let runs = length.fetch_add(1, Ordering::Relaxed);
            if !low.load(Ordering::Relaxed) && runs < 10 * OLDEST_EVERY {
                chain(port, low, length);
            }
        });
    }
    let proactor = proactor(1)?;
    let (low, length) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let (port, ran) = (proactor.port(), Arc::clone(&low));
    chain(port.clone(), low, Arc::clone(&length));
    port.post_keyed(0, move || ran.store(true, Ordering::Relaxed));
    proactor.run();
    let before = length.load(Ordering::Relaxed);
    say(&format!(
        "starvation: key 0 ran beside an endless chain with key 9, which had {before} turns"
    ));
    match before {
        ..=OLDEST_EVERY => Ok(()),
        _ => Err(format!("key 0 was to run within {OLDEST_EVERY} turns").into()),
    }
}

/// A pool that has nothing to do wakes up for each of many calls from outside.
fn wakes_up(threads: usize) -> Result<(), Failure> {
    let proactor = proactor(threads)?;
    proactor.start()?;
    for _ in 0..WAKE_UPS {
        let (ran, over) = mpsc::channel();
        proactor.post(move || ran.send(()).unwrap_or_default());
        over.recv_timeout(LIMIT)
            .map_err(|_| "nobody woke up for a call, or it was lost")?;
    }
    say(&format!(
        "wake-ups: {WAKE_UPS} calls from outside found an idle pool of {threads}"
    ));
    Ok(())
}

/// What the last part counts.
#[derive(Debug, Default)]
struct Tally {
    echoed: AtomicUsize,
    fired: AtomicUsize,
    threads: Mutex<HashSet<ThreadId>>,
}

impl Tally {
    fn count(&self, what: &AtomicUsize) {
        what.fetch_add(1, Ordering::Relaxed);
        locked(&self.threads).insert(thread::current().id());
    }
}

/// Clients, their echo server and timers, all at once, by the same strategy.
fn serve(threads: usize) -> Result<(), Failure> {
    let proactor = proactor(threads)?;
    let tally = Arc::new(Tally::default());
    let listener = TcpListener::bind(&proactor, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    accept(listener, CLIENTS);
    for number in 0..CLIENTS {
        let tally = Arc::clone(&tally);
        let connecting = TcpStream::connect(&proactor, address);
        connecting.key(number as u64).then(move |connected| {
            if let Ok(stream) = connected {
                ask(stream, number, ROUNDS, tally);
            }
        });
    }
    for number in 0..TIMERS {
        let at = Instant::now() + Duration::from_millis(number as u64);
        let tally = Arc::clone(&tally);
        let nap = proactor.sleep_until(at);
        nap.key(number as u64).then(move |slept| {
            if slept.is_ok() && Instant::now() >= at {
                tally.count(&tally.fired);
            }
        });
    }
    let handlers = proactor.run();
    let [echoed, fired] = [&tally.echoed, &tally.fired].map(|count| count.load(Ordering::Relaxed));
    let took_part = locked(&tally.threads).len();
    say(&format!(
        "served: {echoed} of {} messages echoed to {CLIENTS} clients, {fired} of {TIMERS} timers fired, \
         {handlers} handlers by {took_part} of {threads} threads",
        CLIENTS * ROUNDS
    ));
    if (echoed, fired) != (CLIENTS * ROUNDS, TIMERS) {
        return Err("not everything was served".into());
    }
    Ok(())
}

/// Accepts as many connections as there are clients. Bringing in new work can wait.
fn accept(listener: TcpListener, clients: usize) {
    if clients == 0 {
        return;
    }
    listener.accept().timeout(LIMIT).then(move |accepted| {
        if let Ok((stream, _peer)) = accepted {
            echo(stream, Vec::with_capacity(MESSAGE_BYTES));
            accept(listener, clients - 1);
        }
    });
}

/// Sends back what comes, until the client closes.
fn echo(stream: TcpStream, buffer: Vec<u8>) {
    stream.read(buffer).key(1).then(move |(read, buffer)| {
        if matches!(read, Ok(1..)) {
            let answer = stream.write_all(buffer).key(2);
            answer.then(move |(written, buffer)| {
                if written.is_ok() {
                    echo(stream, buffer);
                }
            });
        }
    });
}

/// Sends a message, and has it come back, `rounds` times; a client's number is its key.
fn ask(stream: TcpStream, number: usize, rounds: usize, tally: Arc<Tally>) {
    if rounds == 0 {
        return;
    }
    let key = number as u64;
    let message = format!("{number:>8}{rounds:>8}").repeat(MESSAGE_BYTES / 16);
    let question = stream.write_all(message.clone().into_bytes()).key(key);
    question.then(move |(written, buffer)| {
        if written.is_err() {
            return;
        }
        let answer = stream.read_exact(buffer).timeout(LIMIT).key(key);
        answer.then(move |(read, buffer)| {
            if read.is_ok() && buffer == message.as_bytes() {
                tally.count(&tally.echoed);
                ask(stream, number, rounds - 1, tally);
            }
        });
    });
}

/// Also after a handler's panic, which `run` passes on by itself.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says it at once; whoever closed stdout does not want to know.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
