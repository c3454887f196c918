//! A TCP proxy that passes on a limited number of bytes a second, in each direction of each connection.
//!
//! ```text
//! python3 -m http.server 8000
//! cargo run --release --example throttling_proxy -- 7007 localhost:8000 --rate 100000    # in another terminal
//! curl -o /dev/null http://localhost:7007/...
//! ```
//!
//! It says `listening on ADDR` when it is ready. An end of file goes through as such, while the other direction goes on; a
//! failure on one side closes the other. A target that cannot be reached is a line on stderr, and the client is hung up on.
//!
//! SIGINT or SIGTERM ends it: it stops accepting, goes on with what is under way for as long as five seconds, says how much it
//! passed on, and exits with 0. Bad usage is one line on stderr and exit 2; a failure, such as a port in use, one line and exit 1.

mod allowance;
#[path = "../serving/cli.rs"]
mod cli;
mod pipe;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::net::{TcpListener, TcpStream};
use proactor::{BackendKind, CompletionPort, ErrorKind, Proactor, Strategy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Failure;
use crate::pipe::{Passed, join};

/// How long connections have, in the end, to pass on what is under way.
const GRACE: Duration = Duration::from_secs(5);
/// How long the target may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Passes connections on to a target, at a limited number of bytes a second
#[derive(Parser)]
#[command(name = "throttling_proxy")]
struct Options {
    /// Port to listen on; 0 lets the system pick one
    #[arg(value_name = "LISTEN_PORT")]
    port: u16,
    /// Where to pass connections on to: HOST:PORT
    #[arg(value_name = "TARGET", value_parser = resolve)]
    target: Target,
    /// Bytes a second, in each direction of each connection
    #[arg(long, value_name = "BYTES_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
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
}

/// The addresses of the target, at least one, in the order in which to try them.
#[derive(Clone)]
struct Target(Arc<[SocketAddr]>);

fn resolve(target: &str) -> Result<Target, String> {
    let addresses = target
        .to_socket_addrs()
        .map_err(|error| format!("{error}; write HOST:PORT"))?;
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        return Err("the host has no address".to_owned());
    }
    Ok(Target(addresses.into()))
}

/// What its connections share.
struct Proxy {
    port: CompletionPort,
    listener: TcpListener,
    target: Target,
    rate: u64,
    connections: AtomicU64,
    there: Arc<Passed>,
    back: Arc<Passed>,
}

fn main() -> ExitCode {
    cli::main("throttling_proxy", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Failed(error.to_string());
    let mut builder = Proactor::builder()
        .strategy(options.strategy)
        .backend(options.backend);
    if let Some(threads) = options.threads.and_then(|n| NonZeroUsize::new(n.into())) {
        builder = builder.threads(threads);
    }
    let proactor = builder
        .build()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let address = SocketAddr::new(options.bind, options.port);
    let listener = TcpListener::bind(&proactor, address).map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let proxy = Arc::new(Proxy {
        port: proactor.port().clone(),
        listener,
        target: options.target,
        rate: options.rate,
        connections: AtomicU64::new(0),
        there: Arc::default(),
        back: Arc::default(),
    });
    stop_on_signals(&proxy.port).map_err(|error| failed(&error))?;
    accept(&proxy);
    say(&format!("listening on {address}"));
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    proxy.listener.close();
    proactor.shutdown(Instant::now() + GRACE);
    say(&format!(
        "passed on {} connections, {} bytes there, {} bytes back",
        proxy.connections.load(Ordering::Relaxed),
        proxy.there.bytes(),
        proxy.back.bytes(),
    ));
    Ok(())
}

fn stop_on_signals(port: &CompletionPort) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let port = port.clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            port.stop();
        }
    });
    Ok(())
}

/// Passes on whoever connects, until the listener is closed.
fn accept(proxy: &Arc<Proxy>) {
    let serving = Arc::clone(proxy);
    let accepting = proxy.listener.accept_each(move |accepted| match accepted {
        Ok((client, _peer)) => connect(Arc::clone(&serving), client, 0),
        Err(trouble) => eprintln!("throttling_proxy: {trouble}"), // and the loop goes on
    });
    accepting.then(|_closed| ());
}

/// Connects to the target, trying its addresses from the one of that number on; meanwhile what the client sends waits with the
/// system. If none answers, the client goes, and is hung up on.
fn connect(proxy: Arc<Proxy>, client: TcpStream, number: usize) {
    let connecting = TcpStream::connect(&proxy.port, proxy.target.0[number]).timeout(PATIENCE);
    connecting.then(move |connected| match connected {
        Ok(target) => {
            for stream in [&client, &target] {
                let _ = stream.set_nodelay(true); // it is no worse a proxy without
            }
            proxy.connections.fetch_add(1, Ordering::Relaxed);
            let passed = [&proxy.there, &proxy.back];
            join(&proxy.port, [client, target], proxy.rate, passed);
        }
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed) => {}
        Err(_) if number + 1 < proxy.target.0.len() => connect(proxy, client, number + 1),
        Err(error) => eprintln!("throttling_proxy: {error}"),
    });
}

/// Says it at once; whoever closed stdout does not want to know.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
