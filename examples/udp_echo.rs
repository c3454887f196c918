//! Sends every datagram back to where it came from.
//!
//! ```text
//! cargo run --release --example udp_echo -- --addr 127.0.0.1:7007
//! echo hello | socat - UDP:127.0.0.1:7007
//! ```
//!
//! One future has the datagrams as a stream, and waits until each is sent back before it takes the next: so what comes faster than it can
//! be answered waits in the system's buffer, and then is lost there, as datagrams are, and never piles up in here.
//!
//! It says `listening on ADDR` when it is ready. SIGINT or SIGTERM ends it: it says how much it did, and exits with 0.

#[path = "serving/mod.rs"]
mod serving;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use futures_lite::StreamExt;
use proactor::BufferPool;
use proactor::net::UdpSocket;

use crate::serving::{Failure, Serving, announce, stop_on_signals};

/// Sends every datagram back to where it came from.
#[derive(Parser)]
#[command(name = "udp_echo")]
struct Options {
    #[command(flatten)]
    serving: Serving,
}

/// Room for any datagram.
const LONGEST_BYTES: usize = 65_535;

#[derive(Default)]
struct Totals {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

fn main() -> ExitCode {
    serving::main("udp_echo", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let proactor = options.serving.proactor()?;
    let socket = options
        .serving
        .bind(|address| UdpSocket::bind(&proactor, address))?;
    let address = socket.local_addr();
    let totals = Arc::new(Totals::default());
    proactor.spawn(echo(socket, Arc::clone(&totals))).detach();
    stop_on_signals(proactor.port())?;
    announce(address)?;
    proactor.run(); // until the signal, or an error that lasts
    proactor.restart();
    proactor.shutdown(Instant::now()); // it is dropped, and the socket with it
    let [datagrams, bytes] =
        [&totals.datagrams, &totals.bytes].map(|total| total.load(Ordering::Relaxed));
    serving::say(&format!("sent back {datagrams} datagrams, {bytes} bytes"));
    Ok(())
}

async fn echo(socket: UdpSocket, totals: Arc<Totals>) {
    let mut datagrams = socket.datagrams(&BufferPool::new(LONGEST_BYTES));
    while let Some(datagram) = datagrams.next().await {
        let sent = match datagram {
            Ok(datagram) => {
                let peer = datagram.peer();
                socket.send_to(datagram.into_buf(), peer).await.0
            }
            Err(trouble) => Err(trouble),
        };
        match sent {
            Ok(bytes) => {
                totals.datagrams.fetch_add(1, Ordering::Relaxed);
                totals.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(trouble) => eprintln!("udp_echo: {trouble}"), // about one datagram, and the next may do
        }
    }
}
