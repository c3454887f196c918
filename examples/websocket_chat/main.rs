//! A chat for browsers: async-tungstenite on the proactor's streams, and the page that it is used from, on one port.
//!
//! ```text
//! cargo run --release --example websocket_chat -- --addr 127.0.0.1:8080 --strategy work-stealing
//! chromium http://127.0.0.1:8080/
//! ```
//!
//! Each connection is a spawned future that reads, writes, and sends pings, all at once. The room puts what is said into a bounded queue
//! for each member, and waits for nobody: whose queue is full is shown out, and the others are told. A member that sends without
//! end is read from no faster than the pace, and who is silent for two pings is dead.
//!
//! It says `listening on ADDR` when it is ready; SIGINT or SIGTERM says goodbye to everybody, and ends it with 0.

#[path = "../serving/limit.rs"]
mod limit;
mod member;
mod room;
#[path = "../serving/mod.rs"]
mod serving;
mod visitor;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::CompletionPort;
use proactor::net::TcpListener;

use crate::room::Room;
use crate::serving::{Failure, Serving, announce, stop_on_signals};

/// A chat for browsers, with the page to open it from, on one port
#[derive(Parser)]
#[command(name = "websocket_chat")]
struct Options {
    #[command(flatten)]
    serving: Serving,
    /// How many messages may wait for a client that reads slowly; with more it is shown out
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..))]
    queue: u16,
    /// The least time between two messages of one client, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pace_ms: u32,
    /// How long a client may take to ask for something and to say its name, and then to hear that it is shown out, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    patience_ms: u32,
    /// How often each client is pinged, in milliseconds; who is silent for two pings is dropped
    #[arg(long, value_name = "MS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    ping_ms: u32,
}

/// How long everybody has to hear the goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    serving::main("websocket_chat", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let proactor = options.serving.proactor()?;
    let listener = options
        .serving
        .bind(|address| TcpListener::bind(&proactor, address))?;
    let house = Arc::new(House {
        room: Room::new(options.queue.into()),
        port: proactor.port().clone(),
        pace: Duration::from_millis(options.pace_ms.into()),
        patience: Duration::from_millis(options.patience_ms.into()),
        ping: Duration::from_millis(options.ping_ms.into()),
    });
    serve(&listener, Arc::clone(&house));
    stop_on_signals(proactor.port())?;
    announce(listener.local_addr())?;
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    house.room.close();
    proactor.shutdown(Instant::now() + GOODBYE);
    Ok(())
}

/// What every connection needs.
struct House {
    room: Room,
    port: CompletionPort,
    pace: Duration,
    patience: Duration,
    ping: Duration,
}

fn serve(listener: &TcpListener, house: Arc<House>) {
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                let visit = visitor::receive(Arc::clone(&house), stream);
                house.port.spawn(visit).detach();
            }
        }
        Err(trouble) => eprintln!("websocket_chat: {trouble}"),
    });
    serving.then(|_ended| ());
}
