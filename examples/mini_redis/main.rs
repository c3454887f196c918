//! A small Redis: the commands that a cache needs, in RESP2, for redis-cli, redis-benchmark, and clients that keep to them.
//!
//! ```text
//! cargo run --release --example mini_redis -- --addr 127.0.0.1:6379 --strategy work-stealing --threads 2
//! redis-cli -p 6379 set greeting hello EX 10
//! redis-benchmark -p 6379 -t get,set -c 50 -P 16 -q
//! ```
//!
//! PING, ECHO, GET, SET (EX and PX), DEL, INCR, MGET, EXPIRE, TTL, QUIT; COMMAND and CONFIG GET as far as those programs ask. Everything
//! is in memory. Each connection reads, carries out all that is whole, and writes the replies with one call: that is what pipelining
//! is. A value that expires has a timer of the proactor.
//!
//! It says `listening on ADDR` when it is ready; SIGINT or SIGTERM ends it, exit 0.

mod commands;
mod connection;
mod reply;
mod request;
#[path = "../serving/mod.rs"]
mod serving;
mod store;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use proactor::net::TcpListener;

use crate::connection::Connection;
use crate::serving::{Failure, Serving, announce, stop_on_signals};
use crate::store::Store;

/// Keeps keys and values in memory, and speaks Redis's protocol.
#[derive(Parser)]
#[command(name = "mini_redis")]
struct Options {
    #[command(flatten)]
    serving: Serving,
}

fn main() -> ExitCode {
    serving::main("mini_redis", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let proactor = options.serving.proactor()?;
    let listener = options
        .serving
        .bind(|address| TcpListener::bind(&proactor, address))?;
    serve(&listener, Store::new(proactor.port()));
    stop_on_signals(proactor.port())?;
    announce(listener.local_addr())?;
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    proactor.shutdown(Instant::now()); // every handler sees its operation cancelled, and lets go
    Ok(())
}

fn serve(listener: &TcpListener, store: Store) {
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                Connection::new(stream, store.clone()).read();
            }
        }
        Err(trouble) => eprintln!("mini_redis: {trouble}"),
    });
    serving.then(|_ended| ());
}
