//! The servers of the tour (`cargo run --release --example tour`): the same echo in each of the seed's three
//! models, on a port of loopback that the system picks.
//!
//! The part to read is [`echo_server`] with [`serve`], which no strategy changes, and [`proactor`], where the
//! strategy is one builder line.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use proactor::net::{TcpListener, TcpStream};
use proactor::{BackendKind, Error, Proactor, Strategy};

/// What a connection reads into.
const BUFFER_BYTES: usize = 4096;
/// A server that has not ended by then, all its clients gone, is reported.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Which server.
#[derive(Clone, Copy)]
pub(crate) enum Model {
    Synchronous,
    ThreadPerConnection,
    Proactor {
        strategy: Strategy,
        backend: BackendKind,
        threads: NonZeroUsize,
    },
}

impl Model {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::ThreadPerConnection => "thread-per-connection",
            Self::Proactor { .. } => "proactor",
        }
    }

    pub(crate) fn strategy(self) -> Option<Strategy> {
        match self {
            Self::Proactor { strategy, .. } => Some(strategy),
            Self::Synchronous | Self::ThreadPerConnection => None,
        }
    }

    /// How many of the `wanted` connections it can serve at the same time.
    pub(crate) fn connections(self, wanted: usize) -> usize {
        match self {
            Self::Synchronous => 1,
            Self::ThreadPerConnection | Self::Proactor { .. } => wanted,
        }
    }

    /// How many threads serve so many connections.
    pub(crate) fn threads(self, connections: usize) -> usize {
        match self {
            Self::Synchronous => 1,
            Self::ThreadPerConnection => connections,
            Self::Proactor { threads, .. } => threads.get(),
        }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Result<Server, String> {
        let started = match self {
            Self::Synchronous => blocking(serve_one_at_a_time),
            Self::ThreadPerConnection => blocking(serve_one_per_thread),
            Self::Proactor {
                strategy,
                backend,
                threads,
            } => proactor(strategy, backend, threads),
        };
        started.map_err(|e| format!("cannot start the server: {e}"))
    }
}

/// A server that is running.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Box<dyn FnOnce() -> Result<(), String>>,
}

impl Server {
    /// Ends it and joins its threads; an error says what would not end.
    pub(crate) fn stop(self) -> Result<(), String> {
        (self.stop)()
    }
}

type Started = Result<Server, Box<dyn std::error::Error>>;

// ---- the proactor model ------------------------------------------------------------------------------------

/// The whole server, whichever the strategy: accepts for ever, and serves each connection.
fn echo_server(proactor: &Proactor, address: SocketAddr) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(proactor, address)?;
    let address = listener.local_addr()?;
    let serving = listener.accept_each(|accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                serve(stream, Vec::with_capacity(BUFFER_BYTES));
            }
        }
        Err(trouble) => eprintln!("tour: {trouble}"), // and the loop goes on
    });
    serving.then(|_ended| ()); // when the proactor is shut down
    Ok(address)
}

/// Read, write it all back, and again; the one buffer goes round.
fn serve(stream: TcpStream, buffer: Vec<u8>) {
    stream.read(buffer).then(move |(read, buffer)| {
        if matches!(read, Ok(1..)) {
            stream.write_all(buffer).then(move |(written, buffer)| {
                if written.is_ok() {
                    serve(stream, buffer);
                }
            });
        }
    });
}

/// Builds the proactor, starts its threads, and gives it the server.
fn proactor(strategy: Strategy, backend: BackendKind, threads: NonZeroUsize) -> Started {
    let proactor = Proactor::builder()
        .strategy(strategy) // <- the one line that differs between the tour's last rows
        .threads(threads)
        .backend(backend)
        .build()?;
    let address = echo_server(&proactor, (Ipv4Addr::LOCALHOST, 0).into())?;
    proactor.start()?;
    let stop = move || {
        // The clients have gone: what is cancelled here is the accept.
        match proactor.shutdown(Instant::now()).left {
            0 => Ok(()),
            left => Err(format!(
                "{left} handlers of the server were left at its end"
            )),
        }
    };
    Ok(Server {
        address,
        stop: Box::new(stop),
    })
}

// ---- the blocking models -----------------------------------------------------------------------------------

/// A server whose accept loop is `serve_all`, on a thread of its own.
fn blocking(serve_all: fn(&std::net::TcpListener, &AtomicBool)) -> Started {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let stopping = Arc::new(AtomicBool::new(false));
    let (alive, ended) = mpsc::channel::<()>();
    let thread = thread::spawn({
        let stopping = Arc::clone(&stopping);
        move || {
            let _alive = alive; // dropped at the end, also by a panic
            serve_all(&listener, &stopping);
        }
    });
    let stop = move || {
        stopping.store(true, Ordering::Release);
        // The accept loop looks at the flag when a connection comes: this one.
        let wake = std::net::TcpStream::connect_timeout(&address, STOP_WITHIN);
        wake.map_err(|e| format!("cannot reach the server to stop it: {e}"))?;
        match ended.recv_timeout(STOP_WITHIN) {
            Err(RecvTimeoutError::Timeout) => Err("a thread of the server did not end".into()),
            _ => thread
                .join()
                .map_err(|_| "a thread of the server panicked".into()),
        }
    };
    Ok(Server {
        address,
        stop: Box::new(stop),
    })
}

/// The synchronous model: the next connection waits until this one is closed.
fn serve_one_at_a_time(listener: &std::net::TcpListener, stopping: &AtomicBool) {
    for stream in listener.incoming().flatten() {
        if stopping.load(Ordering::Acquire) {
            break;
        }
        echo_blocking(stream);
    }
}

/// The synchronous multi-threading model: a thread for each connection.
fn serve_one_per_thread(listener: &std::net::TcpListener, stopping: &AtomicBool) {
    thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            if stopping.load(Ordering::Acquire) {
                break;
            }
            scope.spawn(|| echo_blocking(stream));
        }
    });
}

/// Serves one connection until its end; an error ends it too, and the client says so.
fn echo_blocking(mut stream: std::net::TcpStream) {
    let mut buffer = [0; BUFFER_BYTES];
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
