//! What the integration tests share: every strategy on every backend, a watchdog, sockets, and chance with a seed.
#![allow(dead_code)] // every test uses a part of it

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proactor::net::TcpStream;
use proactor::{BackendKind, Builder, Error, Proactor, Strategy};

/// What no test body takes longer than.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);
/// What no single wait in a test takes longer than.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// One way to run a program that does not know which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) strategy: Strategy,
    pub(crate) backend: BackendKind,
    pub(crate) threads: usize,
}

impl Setup {
    pub(crate) fn builder(self) -> Builder {
        Proactor::builder()
            .strategy(self.strategy)
            .backend(self.backend)
            .threads(NonZeroUsize::new(self.threads).expect("a setup has threads"))
    }

    pub(crate) fn build(self) -> Proactor {
        self.builder().build().expect("a setup is sound")
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            strategy,
            backend,
            threads,
        } = self;
        write!(f, "{strategy}, {backend}, {threads} threads")
    }
}

pub(crate) const BACKENDS: [BackendKind; 2] = [BackendKind::Auto, BackendKind::Portable];

/// Every strategy with each of `threads` (the single-threaded one with one), on both backends.
pub(crate) fn setups(threads: &[usize]) -> Vec<Setup> {
    let mut all = Vec::new();
    for backend in BACKENDS {
        for strategy in Strategy::ALL {
            let threads = match strategy {
                Strategy::Single => &[1],
                _ => threads,
            };
            all.extend(threads.iter().map(|&threads| Setup {
                strategy,
                backend,
                threads,
            }));
        }
    }
    all
}

/// Runs `body` under every strategy on both backends, the pools with one, two and four threads; each with a watchdog.
pub(crate) fn everywhere(body: fn(Setup)) {
    for setup in setups(&[1, 2, 4]) {
        within(&setup.to_string(), move || body(setup));
    }
}

/// As [`everywhere`], the pools with two threads only: for what takes long.
pub(crate) fn everywhere_once(body: fn(Setup)) {
    for setup in setups(&[2]) {
        within(&setup.to_string(), move || body(setup));
    }
}

/// Runs `body` on a thread of its own; fails, saying so, if it hangs.
pub(crate) fn within(what: &str, body: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(what.to_owned())
        .spawn(move || {
            body();
            let _ = done.send(());
        })
        .expect("a thread for the test");
    if over.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
        panic!("with {what}: the test hangs, it is not over after {WATCHDOG:?}");
    }
    if let Err(panic) = thread.join() {
        eprintln!("failed with {what}");
        resume_unwind(panic);
    }
}

/// Looks until `condition` holds; fails, saying what it waited for.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// Any port on loopback.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Two ends of a connection on loopback; both fail rather than block for ever.
pub(crate) fn std_pair() -> (StdStream, StdStream) {
    let listener = StdListener::bind(any_port()).expect("a port on loopback");
    let address = listener.local_addr().expect("its address");
    let client = StdStream::connect(address).expect("a connection to it");
    let (server, _) = listener.accept().expect("the connection");
    for end in [&client, &server] {
        end.set_read_timeout(Some(SOON)).expect("a read timeout");
        end.set_write_timeout(Some(SOON)).expect("a write timeout");
        end.set_nodelay(true).expect("no delay");
    }
    (server, client)
}

/// A connection: the proactor's end, and the peer's.
pub(crate) fn pair(proactor: &Proactor) -> (TcpStream, StdStream) {
    let (server, client) = std_pair();
    let stream = TcpStream::from_std(proactor, server).expect("an open proactor");
    (stream, client)
}

/// How operations ended, each with what came back.
pub(crate) type Ends = mpsc::Sender<(Result<usize, Error>, Vec<u8>)>;

/// A handler that reports.
pub(crate) fn report(ends: &Ends) -> impl FnOnce((Result<usize, Error>, Vec<u8>)) + Send + 'static {
    let ends = ends.clone();
    move |output| ends.send(output).expect("the test listens")
}

/// A buffer that can be told from any other by its contents.
pub(crate) fn marked(mark: u8) -> Vec<u8> {
    let mut buf = Vec::with_capacity(64);
    buf.extend_from_slice(&[mark; 3]);
    buf
}

/// Fills what the kernel takes, so that a write waits.
pub(crate) fn stuff(stream: &TcpStream, ends: &Ends) {
    stream.write_all(vec![0; 64 << 20]).then(report(ends));
}

pub(crate) fn assert_all_cancelled(
    ends: &mpsc::Receiver<(Result<usize, Error>, Vec<u8>)>,
    marks: &[u8],
) {
    let mut marks = marks.to_vec();
    for (result, buf) in ends {
        let error = result.expect_err("it was cancelled");
        assert!(error.is_cancelled(), "{error}");
        if buf.len() == 3 {
            let at = marks.iter().position(|&mark| buf == [mark; 3]);
            marks.swap_remove(at.expect("a buffer that was not given, or came twice"));
        }
    }
    assert!(
        marks.is_empty(),
        "buffers that did not come back: {marks:?}"
    );
}

/// Random numbers from a seed that a failing test shows; `PROACTOR_TEST_SEED` sets it.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let given = std::env::var("PROACTOR_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(1, |now| u64::from(now.subsec_nanos()) + now.as_secs())
        });
        println!("PROACTOR_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, of the same seed.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// `SplitMix64`.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `least` to `most`.
    pub(crate) fn within(&mut self, least: usize, most: usize) -> usize {
        let range = (most - least + 1) as u64;
        least + usize::try_from(self.next() % range).expect("below usize::MAX")
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
