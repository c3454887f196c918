//! A complete echo server with every knob on its command line; what comparisons with other servers are made with.
//!
//! ```text
//! cargo run --release --example echo_server -- --addr 127.0.0.1:7007 --strategy leader-followers
//! ```
//!
//! It says `listening on ADDR` when it is ready. SIGINT or SIGTERM ends it: it closes its connections, says how
//! much it did, and exits with 0. Bad input, or an address that is in use, is one line on stderr and exit 2.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use proactor::net::{Reply, TcpListener, TcpStream};
use proactor::{BackendKind, BufferPool, PooledBuf, Proactor, Strategy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Sends every byte back to where it came from.
#[derive(Parser)]
#[command(name = "echo_server")]
struct Options {
    /// Address to listen on; port 0 lets the system pick one
    #[arg(long, value_name = "A", default_value = "127.0.0.1:7007")]
    addr: SocketAddr,
    /// Which threads run the handlers: single, leader-followers or work-stealing
    #[arg(long, value_name = "S", default_value = "leader-followers")]
    strategy: Strategy,
    /// Threads [default: 1 for single, otherwise one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to wait with: auto (the fast path where there is one) or portable
    #[arg(long, value_name = "B", default_value = "auto")]
    backend: BackendKind,
    /// Size of a buffer; a connection has one only while it has something to send back
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    buffer: u32,
    /// Reads and writes by a handler each, which set each other, where one operation could do
    #[arg(long)]
    pairs: bool,
}

fn main() -> ExitCode {
    let done = Options::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit(); // --help
        }
        one_line(&error).into()
    });
    match done.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Proactor::builder()
        .strategy(options.strategy)
        .backend(options.backend);
    if let Some(threads) = options
        .threads
        .and_then(|threads| NonZeroUsize::new(threads.into()))
    {
        builder = builder.threads(threads);
    }
    let proactor = builder.build()?;
    let listener = TcpListener::bind(&proactor, options.addr)?;
    let address = listener.local_addr()?;
    let totals = Arc::new(Totals::default());
    let pool = BufferPool::new(options.buffer as usize);
    let echo = if options.pairs { echo_in_pairs } else { echo };
    serve(&listener, pool, Arc::clone(&totals), echo);

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let port = proactor.port().clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            port.stop();
        }
    });

    say(&format!("listening on {address}"));
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    proactor.shutdown(Instant::now()); // every handler sees its operation cancelled, and lets go
    drop(proactor);
    say(&totals.summary());
    Ok(())
}

/// How a connection is served.
type Echo = fn(TcpStream, &BufferPool, Connection);

/// Accepts connections, and serves each; where one could not be had, the loop goes on by itself.
fn serve(listener: &TcpListener, pool: BufferPool, totals: Arc<Totals>, echo: Echo) {
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                echo(stream, &pool, Connection::new(Arc::clone(&totals)));
            }
        }
        Err(trouble) => eprintln!("echo_server: {trouble}"),
    });
    serving.then(|_ended| ());
}

/// Writes back what comes, until the end of the stream or an error; then the stream, which the operation has kept open, is closed. While it
/// waits it has no buffer: the pool lends one when there are bytes.
fn echo(stream: TcpStream, pool: &BufferPool, mut connection: Connection) {
    let echo = stream.reply_each(pool, move |bytes| {
        connection.count(bytes.len());
        Reply::Write(bytes)
    });
    echo.then(|_ended| ());
}

/// The same by two operations, the handler of each of which begins the other: for what is more than a reply.
fn echo_in_pairs(stream: TcpStream, pool: &BufferPool, connection: Connection) {
    let pool = pool.clone();
    Pair {
        stream,
        pool,
        connection,
    }
    .read();
}

struct Pair {
    stream: TcpStream,
    pool: BufferPool,
    connection: Connection,
}

impl Pair {
    /// Reads what comes, and writes it back; the end of the stream or an error drops the pair, which closes it.
    #[inline]
    fn read(mut self) {
        let received = self.stream.recv_with(&self.pool);
        received.then(move |received| match received {
            Ok(bytes) if !bytes.is_empty() => {
                self.connection.count(bytes.len());
                self.write(bytes);
            }
            _ended => (),
        });
    }

    /// Writes the bytes back, gives their buffer back, and reads again.
    #[inline]
    fn write(self, bytes: PooledBuf) {
        let sent = self.stream.write_all(bytes);
        sent.then(move |(sent, bytes)| {
            drop(bytes);
            if sent.is_ok() {
                self.read();
            }
        });
    }
}

/// What a connection did, which is added to the totals once, at its end: no atomic per request.
struct Connection {
    totals: Arc<Totals>,
    requests: u64,
    bytes: u64,
}

impl Connection {
    fn new(totals: Arc<Totals>) -> Self {
        Self {
            totals,
            requests: 0,
            bytes: 0,
        }
    }

    fn count(&mut self, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes as u64;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.totals.connections.fetch_add(1, Ordering::Relaxed);
        self.totals
            .requests
            .fetch_add(self.requests, Ordering::Relaxed);
        self.totals.bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What every connection did that has ended.
#[derive(Default)]
struct Totals {
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Totals {
    fn summary(&self) -> String {
        let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
        let (connections, requests, bytes) = (
            read(&self.connections),
            read(&self.requests),
            read(&self.bytes),
        );
        format!("served {connections} connections, {requests} requests, {bytes} bytes")
    }
}

/// Says it at once; whoever closed stdout does not want to know.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The essence of clap's several lines: its first paragraph, without the label.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_string()
}
