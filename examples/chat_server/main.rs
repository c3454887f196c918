//! A chat server: what one says, all in the room hear. It speaks the protocol of Asio's C++11 chat example.
//!
//! ```text
//! cargo run --release --example chat_server -- 7007 7008 --strategy work-stealing
//! cargo run --release --example chat_client -- localhost 7007
//! ```
//!
//! Each port is a room: a state that a strand owns, so that nothing is locked, whichever threads run. It says `listening on ADDR` for
//! each when it is ready. Whoever joins is first told the last 100 messages.
//!
//! **Slow readers.** All hear everything, in one order, or are dropped: nobody is waited for, and nothing is left out. What a client has
//! yet to be told waits in a queue of its own. A client for whom more than `--backlog` messages wait (beyond the history), or
//! that reads nothing of them for `--patience` seconds, is dropped, with a line on stderr. By default that is 1 MB of queue for a client;
//! the messages themselves are kept once for all. Of what each says one message at a time waits for the room; the rest waits in its socket.
//!
//! SIGINT or SIGTERM ends it: it stops accepting, delivers what waits for as long as five seconds, and exits with 0. Bad usage
//! is one line on stderr and exit 2; a failure, such as a port in use, one line and exit 1.

#[path = "../serving/cli.rs"]
mod cli;
mod connection;
mod protocol;
mod room;

use std::error::Error as _;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::net::TcpListener;
use proactor::{BackendKind, Error, Proactor, Strategy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Failure;
use crate::connection::Site;

/// How long clients have, in the end, to take what waits for them and to go.
const GRACE: Duration = Duration::from_secs(5);

const SLOW_READERS: &str = "Slow readers: all hear everything, in one order, or are dropped. Nobody is waited for, and nothing is left \
    out: what a client has yet to be told waits in a queue of its own, and whoever lets that grow beyond --backlog, or reads nothing \
    of it for --patience, is dropped, with a line on stderr.";

/// Tells everybody in a room what anybody says; each port is a room
#[derive(Parser)]
#[command(name = "chat_server", after_help = SLOW_READERS)]
struct Options {
    /// Ports to listen on; 0 lets the system pick one
    #[arg(value_name = "PORT", required = true)]
    ports: Vec<u16>,
    /// Address of this machine to listen on
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Which threads run the handlers: single, leader-followers or work-stealing
    #[arg(long, value_name = "S", default_value = "leader-followers")]
    strategy: Strategy,
    /// Threads [default: 1 for single, otherwise one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to wait with: auto (the fast path where there is one) or portable
    #[arg(long, value_name = "B", default_value = "auto")]
    backend: BackendKind,
    /// How many messages beyond the history may wait for a client that reads slowly; with more it is dropped
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    backlog: u32,
    /// How long a client may read nothing of what waits for it, in seconds; then it is dropped
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    patience: u16,
}

fn main() -> ExitCode {
    cli::main("chat_server", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let proactor = build(&options)?;
    let mut sites = Vec::new();
    for port in &options.ports {
        let address = SocketAddr::new(options.bind, *port);
        let listener = TcpListener::bind(&proactor, address).map_err(|error| refused(&error))?;
        let patience = Duration::from_secs(options.patience.into());
        let backlog = options.backlog as usize;
        sites.push(Site::new(proactor.port(), listener, backlog, patience));
    }
    stop_on_signals(&proactor)?;
    for site in &sites {
        let address = site.address().map_err(|error| refused(&error))?;
        site.open();
        say(&format!("listening on {address}"));
    }
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    sites.iter().for_each(Site::close);
    proactor.shutdown(Instant::now() + GRACE);
    Ok(())
}

fn build(options: &Options) -> Result<Proactor, Failure> {
    let mut builder = Proactor::builder()
        .strategy(options.strategy)
        .backend(options.backend);
    if let Some(threads) = options.threads.and_then(|n| NonZeroUsize::new(n.into())) {
        builder = builder.threads(threads);
    }
    builder.build().map_err(|error| match error.source() {
        Some(_) => Failure::Failed(error.to_string()),
        None => Failure::Usage(error.to_string()),
    })
}

fn stop_on_signals(proactor: &Proactor) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let port = proactor.port().clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            port.stop();
        }
    });
    Ok(())
}

/// An address that cannot be listened on, and what to change.
fn refused(error: &Error) -> Failure {
    let change = match io::Error::from(error.clone()).kind() {
        io::ErrorKind::AddrInUse => ": take another port (0 lets the system pick one)",
        io::ErrorKind::AddrNotAvailable => ": --bind takes an address of this machine",
        io::ErrorKind::PermissionDenied => ": take a port from 1024 upwards",
        _ => "",
    };
    Failure::Failed(format!("{error}{change}"))
}

/// Says it at once; whoever closed stdout does not want to know.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
