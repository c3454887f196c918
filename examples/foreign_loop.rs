//! The port as a guest in somebody else's event loop: one `poll(2)` over the port's descriptor and another one.
//!
//! ```text
//! cargo run --release --example foreign_loop -- --addr 127.0.0.1:7007
//! ```
//!
//! The loop stands for any that knows descriptors and deadlines: a user interface's, a game's, another library's. Its own
//! source is stdin, a console: for each line it says what was served so far. The port's handlers echo what comes by TCP,
//! and hang up on whoever is quiet for too long; all of them run on the loop's one thread, which makes no system call
//! while nothing happens. It says `listening on ADDR` when it is ready. SIGINT or SIGTERM ends it: it closes its
//! connections, says how much it did, and exits with 0. Bad input, or an address that is in use, is one line on stderr
//! and exit 2.

use std::io::{self, Stdin, Write};
use std::net::SocketAddr;
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::net::{TcpListener, TcpStream};
use proactor::{Batch, CompletionPort};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const BUFFER_BYTES: usize = 4096;
/// How many completions a turn runs of what its handlers finished, at most.
const FOLLOW_UPS: usize = 64;

type Failure = Box<dyn std::error::Error>;

/// Sends every byte back to where it came from, in an event loop that is not the library's.
#[derive(Parser)]
#[command(name = "foreign_loop")]
struct Options {
    /// Address to listen on; port 0 lets the system pick one
    #[arg(long, value_name = "A", default_value = "127.0.0.1:7007")]
    addr: SocketAddr,
    /// After how many milliseconds without a byte a connection is closed
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..))]
    quiet: u32,
}

fn main() -> ExitCode {
    let done = Options::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit(); // --help
        }
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("error: ").into()
    });
    match done.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("foreign_loop: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    let port = CompletionPort::new()?;
    let listener = TcpListener::bind(&port, options.addr)?;
    let address = listener.local_addr()?;
    let server = Server {
        quiet: Duration::from_millis(options.quiet.into()),
        totals: Arc::default(),
    };
    let totals = Arc::clone(&server.totals);
    accept(&listener, server);
    let ended = on_signal(&port)?;
    descriptor(&port)?; // where there is none it is said before anything is promised

    let mut foreign = Loop {
        batch: Batch::new(),
        console: Some(io::stdin()),
        totals: &totals,
    };
    say(&format!("listening on {address}"));
    while !ended.load(Ordering::Relaxed) {
        foreign.turn(&port)?;
    }
    port.close(); // every handler sees its operation cancelled, and lets go
    while port.outstanding() > 0 {
        foreign.turn(&port)?;
    }
    say(&totals.summary());
    Ok(())
}

/// What the first signal sets. Signals come to a thread of their own, which posts: a post wakes the loop, too.
fn on_signal(port: &CompletionPort) -> Result<Arc<AtomicBool>, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let (port, end) = (port.clone(), Arc::clone(&ended));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            port.post(move || end.store(true, Ordering::Relaxed));
        }
    });
    Ok(ended)
}

// ---- the foreign loop ----

struct Loop<'a> {
    batch: Batch,
    /// Until its end.
    console: Option<Stdin>,
    totals: &'a Totals,
}

impl Loop<'_> {
    /// Waits until a descriptor is ready or the port's next deadline is there, and serves each once: a bounded number of
    /// completions, so a busy port keeps nobody else waiting.
    fn turn(&mut self, port: &CompletionPort) -> Result<(), Failure> {
        let mut sources = vec![PollFd::from_borrowed_fd(descriptor(port)?, PollFlags::IN)];
        if let Some(console) = &self.console {
            sources.push(PollFd::new(console, PollFlags::IN));
        }
        let timeout = port.next_deadline().map(remaining);
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |source: Option<&PollFd<'_>>| source.is_some_and(|fd| !fd.revents().is_empty());
        let (port_ready, console_ready) = (ready(sources.first()), ready(sources.get(1)));
        if port_ready || port.next_deadline().is_some_and(|at| at <= Instant::now()) {
            self.serve(port)?;
        }
        if console_ready {
            self.answer();
        }
        Ok(())
    }

    /// Takes what the port has, without waiting, and runs it, and then some of what that led to. What is left makes the
    /// descriptor readable again.
    fn serve(&mut self, port: &CompletionPort) -> io::Result<()> {
        if let Some(seat) = port.seat() {
            seat.reap(&mut self.batch, Some(Instant::now()))?;
        }
        let led_to = std::iter::from_fn(|| port.take()).take(FOLLOW_UPS);
        for completion in self.batch.drain().chain(led_to) {
            completion.run();
        }
        Ok(())
    }

    /// Says what was served so far, for each line that has come.
    fn answer(&mut self) {
        let mut bytes = [0; 512];
        let read = self
            .console
            .as_ref()
            .map_or(Ok(0), |console| rustix::io::read(console, &mut bytes));
        match read {
            Ok(count @ 1..) => {
                let lines = bytes[..count].iter().filter(|byte| **byte == b'\n').count();
                (0..lines).for_each(|_| say(&self.totals.summary()));
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.console = None, // its end, which would be ready for ever
        }
    }
}

fn remaining(until: Instant) -> Timespec {
    let left = until.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Where the port has one descriptor that says it all.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
fn descriptor(port: &CompletionPort) -> Result<BorrowedFd<'_>, Failure> {
    Ok(port.as_fd())
}

#[cfg(not(all(target_os = "linux", not(polling_test_poll_backend))))]
fn descriptor(_: &CompletionPort) -> Result<BorrowedFd<'_>, Failure> {
    Err("on this platform the port has no descriptor: give it a thread of its own, with Proactor::start".into())
}

// ---- what the port serves; it does not know in whose loop ----

/// What a connection needs to know.
#[derive(Clone)]
struct Server {
    quiet: Duration,
    totals: Arc<Totals>,
}

/// Serves whoever connects, until the port is closed.
fn accept(listener: &TcpListener, server: Server) {
    let accepting = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            server.totals.connections.fetch_add(1, Ordering::Relaxed);
            echo(stream, Vec::with_capacity(BUFFER_BYTES), server.clone());
        }
        Err(trouble) => eprintln!("foreign_loop: {trouble}"), // and the loop goes on
    });
    accepting.then(|_closed| ());
}

/// Reads what comes, writes it back, and goes on; the end of file, an error or the time limit closes the connection.
fn echo(stream: TcpStream, buffer: Vec<u8>, server: Server) {
    let reading = stream.read(buffer).timeout(server.quiet);
    reading.then(move |(read, buffer)| {
        let Ok(count @ 1..) = read else { return };
        let totals = Arc::clone(&server.totals);
        totals.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let writing = stream.write_all(buffer).timeout(server.quiet);
        writing.then(move |(written, buffer)| {
            if written.is_ok() {
                echo(stream, buffer, server);
            }
        });
    });
}

/// What was served so far.
#[derive(Default)]
struct Totals {
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl Totals {
    fn summary(&self) -> String {
        let [connections, bytes] =
            [&self.connections, &self.bytes].map(|total| total.load(Ordering::Relaxed));
        format!("served {connections} connections, {bytes} bytes")
    }
}

/// Says it at once; whoever closed stdout does not want to know.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
