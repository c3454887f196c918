//! A daytime client (RFC 867), step by step: each operation is waited for, as in a program without a proactor.
//!
//! ```text
//! cargo run --release --example daytime_client -- 127.0.0.1:13
//! ```

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use proactor::Proactor;
use proactor::dispatch::SingleThreaded;
use proactor::net::TcpStream;

/// Asks a daytime server for the time.
#[derive(Parser)]
#[command(name = "daytime_client")]
struct Options {
    /// Where the server listens
    #[arg(value_name = "ADDR")]
    address: SocketAddr,
    /// How long each step may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    timeout: u64,
}

fn main() -> ExitCode {
    let done = run(&Options::parse());
    if let Err(error) = &done {
        eprintln!("daytime_client: {error}");
    }
    ExitCode::from(u8::from(done.is_err()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let limit = Duration::from_millis(options.timeout);
    let proactor = Proactor::builder()
        .dispatcher(SingleThreaded::new())
        .build()?;

    // `wait` works for the proactor until the output is there; nobody else needs to run it.
    let connect = TcpStream::connect(&proactor, options.address);
    let stream = connect.timeout(limit).wait()?;

    // A read lends its buffer to the operation, and gets it back with the output; 0 bytes are the end.
    let mut buf = Vec::with_capacity(256);
    loop {
        let read;
        (read, buf) = stream.read(buf).timeout(limit).wait();
        if read? == 0 {
            return Ok(());
        }
        stdout().write_all(&buf)?;
    }
}
