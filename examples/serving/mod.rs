//! What the servers among the examples share: their command line, their signals, and how they end.
//!
//! SIGINT or SIGTERM stops them, and they exit with 0. Bad usage is one line on stderr and exit 2; a failure, such as a port in
//! use, one line and exit 1.

mod cli;

use std::error::Error as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread;

use clap::Args;
use proactor::{BackendKind, CompletionPort, Error, Proactor, Strategy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use cli::{Failure, main};

/// What every server is told.
#[derive(Args)]
pub(crate) struct Serving {
    /// Address to listen on; port 0 lets the system pick one
    #[arg(long, value_name = "A", default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Which threads run the handlers: single, leader-followers or work-stealing
    #[arg(long, value_name = "S", default_value = "work-stealing")]
    strategy: Strategy,
    /// Threads [default: 1 for single, otherwise one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to wait with: auto (the fast path where there is one) or portable
    #[arg(long, value_name = "B", default_value = "auto")]
    backend: BackendKind,
}

impl Serving {
    pub(crate) fn proactor(&self) -> Result<Proactor, Failure> {
        let mut builder = Proactor::builder()
            .strategy(self.strategy)
            .backend(self.backend);
        if let Some(threads) = self.threads.and_then(|n| NonZeroUsize::new(n.into())) {
            builder = builder.threads(threads);
        }
        builder.build().map_err(|error| match error.source() {
            Some(_) => Failure::Failed(error.to_string()),
            None => Failure::Usage(error.to_string()),
        })
    }

    /// What `bind` opens at the address.
    pub(crate) fn bind<S>(
        &self,
        bind: impl FnOnce(SocketAddr) -> Result<S, Error>,
    ) -> Result<S, Failure> {
        bind(self.addr).map_err(|error| {
            let change = match io::Error::from(error.clone()).kind() {
                io::ErrorKind::AddrInUse => ": take another port (0 lets the system pick one)",
                io::ErrorKind::AddrNotAvailable => ": --addr takes an address of this machine",
                io::ErrorKind::PermissionDenied => ": take a port from 1024 upwards",
                _ => "",
            };
            Failure::Failed(format!("{error}{change}"))
        })
    }
}

/// Has `run` return at the first signal.
pub(crate) fn stop_on_signals(port: &CompletionPort) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let port = port.clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            port.stop();
        }
    });
    Ok(())
}

/// Says where it listens, at once: whoever started the server waits for this line.
pub(crate) fn announce(address: Result<SocketAddr, Error>) -> Result<(), Failure> {
    let address = address.map_err(|error| Failure::Failed(error.to_string()))?;
    say(&format!("listening on {address}"));
    Ok(())
}

/// Says it at once; whoever closed stdout does not want to know.
pub(crate) fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
