//! Once warm, calls, timers, reads and writes allocate nothing, awaited or with handlers. Alone in its binary, for the allocator that counts.
#![cfg(not(proactor_loom))]
#![allow(unsafe_code)] // a global allocator, which hands everything on to the system's

mod common;
#[path = "allocations/datagrams.rs"]
mod datagrams;
#[path = "allocations/local.rs"]
mod local;
#[path = "allocations/replies.rs"]
mod replies;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::{IntoFuture, poll_fn};
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use common::{BACKENDS, Setup, pair, setups, std_pair, until, within};
use proactor::net::TcpStream;
use proactor::time::Timer;
use proactor::{CancelToken, CompletionPort, Error, Proactor, Strand};

/// Counts, of all threads, what is allocated or grown while it is told to.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the trait's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `body` makes, on any thread.
fn allocations(body: impl FnOnce()) -> usize {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    BYTES.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    body();
    COUNTING.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// Rounds of the warm-up, which is held up so that its backlog is the larger one, and of what is counted: a list that is looked
/// through before it grows does so if more than half of it is needed.
const WARM: usize = 4000;
const COUNTED: usize = 2000;

/// What a scenario shares between its handlers.
struct Shared {
    port: CompletionPort,
    timer: Timer,
    done: AtomicUsize,
    open: AtomicBool,
    token: CancelToken,
    strand: Strand<usize>,
}

type Scenario = fn(&Arc<Shared>, usize, bool);

fn finish(shared: &Shared) {
    shared.done.fetch_add(1, Ordering::SeqCst);
}

/// Calls from outside. `hold`: none runs before all are posted.
fn post_from_outside(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    shared.open.store(!hold, Ordering::SeqCst);
    for _ in 0..rounds {
        let shared = Arc::clone(shared);
        shared.clone().port.post(move || {
            until("all are posted", || shared.open.load(Ordering::SeqCst));
            finish(&shared);
        });
    }
    shared.open.store(true, Ordering::SeqCst);
}

/// As many calls that capture much: cells come in sizes.
fn large_calls<const N: usize>(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    shared.open.store(!hold, Ordering::SeqCst);
    for _ in 0..rounds {
        let (each, large) = (Arc::clone(shared), [1_u8; N]);
        shared.port.post(move || {
            until("all are posted", || each.open.load(Ordering::SeqCst));
            std::hint::black_box(large);
            finish(&each);
        });
    }
    shared.open.store(true, Ordering::SeqCst);
}

/// Calls from one handler: a backlog of all of them, run by any.
fn post_from_inside(shared: &Arc<Shared>, rounds: usize, _hold: bool) {
    let inside = Arc::clone(shared);
    shared.port.post(move || {
        for _ in 0..rounds {
            let each = Arc::clone(&inside);
            inside.port.post(move || finish(&each));
        }
    });
}

/// Timers, all armed before the first expires or many of them.
fn timers(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    let wait = Duration::from_millis(if hold { 60 } else { 3 });
    for _ in 0..rounds {
        let each = Arc::clone(shared);
        shared.port.sleep(wait).then(move |result| {
            result.expect("nobody cancels it");
            finish(&each);
        });
    }
}

/// Waits on one timer, which is moved now and then: some end as cancelled.
fn waits(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    let after = Duration::from_millis(if hold { 60 } else { 3 });
    for round in 0..rounds {
        if round == 0 || (!hold && round % 100 == 0) {
            shared.timer.expires_after(after);
        }
        let each = Arc::clone(shared);
        let wait = shared.timer.on_expiry();
        wait.then(move |_| finish(&each));
    }
}

/// As the timers, each with a limit that is lifted by cancelling.
fn limits(shared: &Arc<Shared>, rounds: usize, _hold: bool) {
    for _ in 0..rounds {
        let each = Arc::clone(shared);
        let limited = shared
            .port
            .sleep(Duration::from_secs(3600))
            .timeout(Duration::from_secs(1800));
        let key = limited.then(move |result| {
            assert!(result.is_err_and(|error| error.is_cancelled()));
            finish(&each);
        });
        shared.port.cancel(key);
    }
}

/// Timers with a token that serves all of them; all of the warm-up's are open at once.
fn tokens(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    let wait = match hold {
        true => Duration::from_secs(3600),
        false => Duration::from_millis(3),
    };
    let mut held = Vec::new();
    for _ in 0..rounds {
        let each = Arc::clone(shared);
        let nap = shared.port.sleep(wait).cancel_with(&shared.token);
        let key = nap.then(move |_| finish(&each));
        if hold {
            held.push(key);
        }
    }
    for key in held {
        shared.port.cancel(key);
    }
}

/// Calls of one strand, from outside and from its own handlers. `hold`: none runs before all are posted.
fn strand_calls(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    shared.open.store(!hold, Ordering::SeqCst);
    for _ in 0..rounds / 2 {
        let shared = Arc::clone(shared);
        shared.clone().strand.post(move |calls| {
            until("all are posted", || shared.open.load(Ordering::SeqCst));
            *calls += 1;
            let inside = Arc::clone(&shared);
            inside.clone().strand.dispatch(move |_| finish(&inside));
            finish(&shared);
        });
    }
    shared.open.store(true, Ordering::SeqCst);
}

/// As the timers, bound to a strand.
fn strand_timers(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    let wait = Duration::from_millis(if hold { 60 } else { 3 });
    for _ in 0..rounds {
        let each = Arc::clone(shared);
        let nap = shared.port.sleep(wait).on(&shared.strand);
        nap.then(move |calls, result| {
            result.expect("nobody cancels it");
            *calls += 1;
            finish(&each);
        });
    }
}

/// The other ways to hand a call over.
fn other_calls(shared: &Arc<Shared>, rounds: usize, hold: bool) {
    shared.open.store(!hold, Ordering::SeqCst);
    for round in 0..rounds {
        let each = Arc::clone(shared);
        let call = move || {
            until("all are posted", || each.open.load(Ordering::SeqCst));
            finish(&each);
        };
        let port = &shared.port;
        match round % 5 {
            0 => port.post_to(0, call).expect("a worker"),
            1 => port.defer(call),
            2 => port.dispatch(call),
            3 => port.try_post(call).expect("no bound"),
            _ => port.post_keyed(7, call),
        }
    }
    shared.open.store(true, Ordering::SeqCst);
}

/// An idle strand is one allocation, of its state and a stated number of bytes.
fn strands_are_small(proactor: &Proactor) {
    const STRANDS: usize = 1000;
    const BESIDE: usize = 64;
    let mut strands = Vec::with_capacity(STRANDS);
    let count = allocations(|| {
        strands.extend((0..STRANDS).map(|_| Strand::new(proactor, [0_u64; 4])));
    });
    let bytes = BYTES.load(Ordering::SeqCst) / STRANDS;
    assert_eq!(count, STRANDS);
    assert_eq!(bytes, size_of::<[u64; 4]>() + BESIDE, "bytes for a strand");
}

/// Has every thread run handlers, steal, and go to sleep, so that all have met what a thread meets once in its life.
fn all_at_once(proactor: &Proactor, threads: usize) {
    for _ in 0..5 {
        let together = Arc::new(Barrier::new(threads + 1));
        for _ in 0..threads {
            let together = Arc::clone(&together);
            proactor.post(move || {
                together.wait();
            });
        }
        together.wait();
        // Time in which nothing else is ready.
        let nap = proactor.sleep(Duration::from_millis(2)).wait();
        nap.expect("nobody cancels it");
    }
    until("only the start is outstanding", || {
        proactor.port().outstanding() == 1
    });
}

fn measure(proactor: &Proactor, threads: usize, name: &str, scenario: Scenario) {
    let shared = Arc::new(Shared {
        port: proactor.port().clone(),
        timer: proactor.timer(),
        done: AtomicUsize::new(0),
        open: AtomicBool::new(true),
        token: CancelToken::new(),
        strand: Strand::new(proactor, 0),
    });
    let through = |rounds: usize, hold: bool| {
        shared.done.store(0, Ordering::SeqCst);
        scenario(&shared, rounds, hold);
        until(name, || shared.done.load(Ordering::SeqCst) == rounds);
    };
    through(WARM, true);
    all_at_once(proactor, threads);
    let count = allocations(|| through(COUNTED, false));
    assert_eq!(count, 0, "{name}: {COUNTED} rounds allocated");
}

/// An echo server's connection, whose buffer goes round; never ends by itself.
fn echo(stream: TcpStream, buf: Vec<u8>) {
    stream.read(buf).then(move |(result, buf)| {
        if result.is_ok_and(|count| count > 0) {
            stream.write_all(buf).then(move |(result, buf)| {
                result.expect("a write");
                echo(stream, buf);
            });
        }
    });
}

/// As [`echo`], by polls of a spawned future, whose buffer is its own.
fn echo_polled(stream: TcpStream, _buf: Vec<u8>) {
    let port = stream.port();
    let echo = async move { futures_lite::io::copy(&stream, &stream).await };
    port.spawn(echo).detach();
}

/// As [`echo`], a message at a time: that many bytes, or up to a delimiter.
fn echo_messages(stream: TcpStream, buf: Vec<u8>, lines: bool) {
    let answer = move |stream: TcpStream, count: Result<usize, Error>, buf: Vec<u8>| {
        if count.is_ok_and(|count| count > 0) {
            let once = stream.write(buf);
            once.then(move |(result, buf)| {
                assert_eq!(result.expect("a write"), MESSAGE.len());
                echo_messages(stream, buf, !lines);
            });
        }
    };
    if lines {
        let line = stream.read_until(&b"\n"[..], buf);
        line.then(move |(result, buf)| answer(stream, result, buf));
    } else {
        let exact = stream.read_exact(buf);
        exact.then(move |(result, buf)| answer(stream, result, buf));
    }
}

/// A line of its own.
const MESSAGE: [u8; 100] = {
    let mut message = [3; 100];
    message[99] = b'\n';
    message
};

/// As [`echo`], awaited.
async fn echo_awaited(stream: TcpStream, mut buf: Vec<u8>) {
    loop {
        let (result, read) = stream.read(buf).await;
        if result.is_ok_and(|count| count == 0) {
            return;
        }
        let (result, written) = stream.write_all(read).await;
        result.expect("a write");
        buf = written;
    }
}

/// Ready when a call that it has posted has run.
async fn posted(port: CompletionPort) {
    let mut posted = false;
    poll_fn(|context| {
        if std::mem::replace(&mut posted, true) {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        port.post(move || waker.wake());
        Poll::Pending
    })
    .await;
}

/// A spawned future awaits what `each` makes, again and again; twice as often before it counts.
fn awaiting_allocates_nothing<F: Future<Output = ()> + Send>(
    proactor: &Proactor,
    name: &str,
    awaits: usize,
    each: impl Fn() -> F + Send + 'static,
) {
    let handle = proactor.spawn(async move {
        for _ in 0..2 * awaits {
            each().await;
        }
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNTING.store(true, Ordering::SeqCst);
        for _ in 0..awaits {
            each().await;
        }
        COUNTING.store(false, Ordering::SeqCst);
        ALLOCATIONS.load(Ordering::SeqCst)
    });
    until(name, || handle.is_finished());
    let count = handle.wait().expect("it ends");
    assert_eq!(count, 0, "{name}: {awaits} allocated");
}

fn futures_allocate_nothing(proactor: &Proactor) {
    let port = proactor.port().clone();
    awaiting_allocates_nothing(proactor, "awaited calls", COUNTED, move || {
        posted(port.clone())
    });
    let port = proactor.port().clone();
    awaiting_allocates_nothing(proactor, "awaited timers", 100, move || {
        let nap = port.sleep(Duration::from_millis(1));
        async { nap.await.expect("nobody cancels it") }
    });
    let port = proactor.port().clone();
    awaiting_allocates_nothing(
        proactor,
        "awaited timers that are dropped",
        COUNTED,
        move || {
            let nap = port.sleep(Duration::from_secs(3600));
            async { assert!(poll_once(nap.into_future()).await.is_none()) }
        },
    );
    let streams = {
        let (server, client) = std_pair();
        [server, client].map(|end| TcpStream::from_std(proactor, end).expect("an open port"))
    };
    let streams = Arc::new(streams);
    awaiting_allocates_nothing(proactor, "awaited reads and writes", COUNTED, move || {
        let streams = Arc::clone(&streams);
        async move {
            let [one, other] = &*streams;
            assert_eq!(one.write_all(MESSAGE).await.0.expect("room"), MESSAGE.len());
            let (result, bytes) = other.read_exact([0; MESSAGE.len()]).await;
            assert_eq!((result.expect("bytes"), bytes), (MESSAGE.len(), MESSAGE));
        }
    });
    echo_allocates_nothing(proactor, "awaited messages", |stream, buf| {
        proactor.spawn(echo_awaited(stream, buf)).detach();
    });
}

/// Polls once, and drops.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

fn echo_allocates_nothing(proactor: &Proactor, name: &str, serve: impl Fn(TcpStream, Vec<u8>)) {
    const CONNECTIONS: usize = 8;
    let mut clients: Vec<StdStream> = Vec::new();
    for _ in 0..CONNECTIONS {
        let (stream, client) = pair(proactor);
        serve(stream, Vec::with_capacity(MESSAGE.len()));
        clients.push(client);
    }
    let mut round_trips = |rounds: usize| {
        let mut back = [0; MESSAGE.len()];
        for _ in 0..rounds {
            for client in &mut clients {
                client.write_all(&MESSAGE).expect("a request");
            }
            for client in &mut clients {
                client.read_exact(&mut back).expect("the echo");
                assert_eq!(back, MESSAGE);
            }
        }
    };
    round_trips(100);
    let count = allocations(|| round_trips(COUNTED / CONNECTIONS));
    assert_eq!(count, 0, "{name}: {COUNTED} round trips allocated");
}

fn nothing_is_allocated(setup: Setup) {
    let proactor = setup.build();
    proactor.start().expect("threads");
    let scenarios: [(&str, Scenario); 11] = [
        ("calls posted from outside", post_from_outside),
        ("calls that capture much", large_calls::<120>),
        ("calls that capture more", large_calls::<160>),
        ("calls posted from inside", post_from_inside),
        ("calls handed over otherwise", other_calls),
        ("timers", timers),
        ("waits on one timer", waits),
        ("time limits", limits),
        ("tokens", tokens),
        ("calls of a strand", strand_calls),
        ("timers of a strand", strand_timers),
    ];
    for (name, scenario) in scenarios {
        measure(&proactor, setup.threads, name, scenario);
    }
    strands_are_small(&proactor);
    echo_allocates_nothing(&proactor, "polls", echo_polled);
    echo_allocates_nothing(&proactor, "reads and writes", echo);
    replies::allocate_nothing(&proactor);
    echo_allocates_nothing(&proactor, "messages", |stream, buf| {
        echo_messages(stream, buf, false);
    });
    futures_allocate_nothing(&proactor);
    datagrams::nothing_is_allocated(&proactor);
    until("the connections are closed", || {
        proactor.port().outstanding() == 1
    });
    let large = [1_u8; 500];
    let boxed = allocations(|| {
        proactor.post(move || {
            std::hint::black_box(large);
        });
        until("it has run", || proactor.port().outstanding() == 1);
    });
    assert_eq!(
        boxed, 1,
        "a capture that fits no cell is allocated, and counted"
    );
}

#[test]
fn calls_timers_reads_writes_and_awaiting_them_allocate_nothing_once_warm() {
    for setup in setups(&[2]) {
        within(&setup.to_string(), move || nothing_is_allocated(setup));
    }
    // In the same test, for what other threads allocate is counted, too.
    for backend in BACKENDS {
        within(&format!("local, {backend}"), move || {
            local::nothing_is_allocated(backend);
        });
    }
}
