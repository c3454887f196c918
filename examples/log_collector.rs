//! Collects lines from many connections in one file: handlers read them, a future writes them, and a channel is between the two.
//!
//! ```text
//! cargo run --release --example log_collector -- --addr 127.0.0.1:5170 --file all.log
//! journalctl --follow | nc 127.0.0.1 5170
//! ```
//!
//! How the two styles hand over to each other: a handler cannot wait, so it tries to send; where the channel is full, it spawns a future
//! that waits for room and then reads on, and the connection is not read from meanwhile. The future that writes takes all that
//! waits, and has the disk's work done on a thread that may block. The file stands in a lock that may be held meanwhile: a second
//! future, which has the disk keep what was written, takes turns with the first.
//!
//! It says `listening on ADDR` when it is ready. SIGINT or SIGTERM ends it: all that came is written first; exit 0.

#[path = "serving/mod.rs"]
mod serving;

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, TrySendError};
use async_lock::Mutex;
use clap::Parser;
use futures_lite::future;
use proactor::net::{TcpListener, TcpStream};
use proactor::{CancelToken, CompletionPort, ErrorKind};

use crate::serving::{Failure, Serving, announce, stop_on_signals};

/// Appends every line that it is sent to a file.
#[derive(Parser)]
#[command(name = "log_collector")]
struct Options {
    #[command(flatten)]
    serving: Serving,
    /// The file to append to
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How many lines may wait for the disk; with more, nobody is read from
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
}

/// The longest line, with its end; a longer one becomes several.
const LONGEST_LINE_BYTES: usize = 8 * 1024;
/// The most that is written at once, but for a line.
const BATCH_BYTES: usize = 64 * 1024;
/// How often the disk is told to keep what was written.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How long the disk may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    serving::main("log_collector", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let file = File::options()
        .append(true)
        .create(true)
        .open(&options.file);
    let about = |error: io::Error| Failure::Failed(format!("{}: {error}", options.file.display()));
    let log = Arc::new(Mutex::new(Log {
        file: file.map_err(about)?,
        unkept: false,
    }));

    let proactor = options.serving.proactor()?;
    let port = proactor.port();
    let listener = options
        .serving
        .bind(|address| TcpListener::bind(&proactor, address))?;
    let (lines, waiting) = async_channel::bounded(options.queue as usize);
    let ending = CancelToken::new();
    collect(&listener, lines, &ending);
    let writing = write(port.clone(), waiting, Arc::clone(&log));
    let keeping = keep(port.clone(), log);
    let writer = port.spawn({
        let port = port.clone();
        async move {
            let written = future::or(writing, keeping).await;
            port.stop(); // If it is not the end already, the disk has failed.
            written
        }
    });
    stop_on_signals(port)?;
    announce(listener.local_addr())?;
    proactor.run();
    proactor.restart();
    ending.cancel(); // Nobody reads any more: the last sender goes with the last handler, and then the writer ends.
    proactor.shutdown(Instant::now() + LAST_WORDS);
    let written = writer.wait().map_err(io::Error::from);
    written.and_then(|written| written).map_err(about)
}

fn collect(listener: &TcpListener, lines: Sender<Box<[u8]>>, ending: &CancelToken) {
    let ending = ending.clone();
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            let (lines, ending) = (lines.clone(), ending.clone());
            let source = Source {
                stream,
                lines,
                ending,
            };
            source.read(Vec::with_capacity(LONGEST_LINE_BYTES));
        }
        Err(trouble) => eprintln!("log_collector: {trouble}"),
    });
    serving.then(|_ended| ());
}

/// A connection: handlers, one after the other.
struct Source {
    stream: TcpStream,
    lines: Sender<Box<[u8]>>,
    ending: CancelToken,
}

impl Source {
    fn read(self, buf: Vec<u8>) {
        let reading = self.stream.read_until("\n", buf).cancel_with(&self.ending);
        reading.then(move |(read, buf)| {
            // What the end or the limit cuts off is a line, too.
            let (end, go_on) = match read {
                Ok(_) => ("", true),
                Err(error) if error.transferred() == 0 => return,
                Err(error) => ("\n", error.kind() == ErrorKind::LimitReached),
            };
            let line = [&buf, end.as_bytes()].concat();
            self.hand_over(line.into(), buf, go_on);
        });
    }

    /// Sends the line to the future that writes, and reads on, if there is more; at once, or when there is room.
    fn hand_over(self, line: Box<[u8]>, buf: Vec<u8>, go_on: bool) {
        match self.lines.try_send(line) {
            Ok(()) if go_on => self.read(buf),
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(line)) => {
                let port = self.stream.port();
                let sending = async move {
                    if self.lines.send(line).await.is_ok() && go_on {
                        self.read(buf);
                    }
                };
                port.spawn(sending).detach();
            }
        }
    }
}

/// What both futures have to do with, in turns.
struct Log {
    file: File,
    /// Whether something was written that the disk was not told to keep.
    unkept: bool,
}

/// Writes what comes, many lines at once where many wait, until nobody is left who could send.
async fn write(
    port: CompletionPort,
    lines: Receiver<Box<[u8]>>,
    log: Arc<Mutex<Log>>,
) -> io::Result<()> {
    while let Ok(line) = lines.recv().await {
        let mut batch = line.into_vec();
        while batch.len() < BATCH_BYTES {
            let Ok(line) = lines.try_recv() else { break };
            batch.extend_from_slice(&line);
        }
        let mut log = log.lock_arc().await;
        log.unkept = true;
        // On a thread that may block, and the lock's guard with it.
        port.blocking(move || log.file.write_all(&batch)).await??;
    }
    let log = log.lock_arc().await;
    port.blocking(move || log.file.sync_data()).await?
}

/// Has the disk keep what was written, again and again.
async fn keep(port: CompletionPort, log: Arc<Mutex<Log>>) -> io::Result<()> {
    let mut rhythm = port.interval(KEEP_EVERY);
    loop {
        rhythm.tick().await?;
        let mut log = log.lock_arc().await;
        if mem::take(&mut log.unkept) {
            port.blocking(move || log.file.sync_data()).await??;
        }
    }
}
