//! A daytime server (RFC 867): whoever connects is told the time, and the connection ends.
//!
//! ```text
//! cargo run --release --example daytime_server
//! cargo run --release --example daytime_client -- ADDR    # in another terminal; or: nc HOST PORT
//! ```

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use proactor::Proactor;
use proactor::dispatch::LeaderFollowers;
use proactor::net::TcpListener;

/// Tells the time to whoever connects.
#[derive(Parser)]
#[command(name = "daytime_server")]
struct Options {
    /// Where to listen; port 0 lets the system choose
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// How many to serve before it ends [default: no end]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

fn main() -> ExitCode {
    let done = run(&Options::parse());
    if let Err(error) = &done {
        eprintln!("daytime_server: {error}");
    }
    ExitCode::from(u8::from(done.is_err()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let proactor = Proactor::builder()
        .dispatcher(LeaderFollowers::new())
        .build()?;
    let listener = TcpListener::bind(&proactor, options.address)?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener, options.count.unwrap_or(u64::MAX));
    proactor.run(); // for as long as an accept is outstanding
    Ok(())
}

/// Accepts one connection, and then the next: the handler owns the listener, which closes when nobody goes on with it.
fn serve(listener: TcpListener, left: u64) {
    if left == 0 {
        return;
    }
    listener.accept().then(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            serve(listener, left - 1);
            stream.write_all(daytime()).then(move |(written, _text)| {
                if let Err(error) = written {
                    eprintln!("{error}");
                }
                drop(stream); // until here the handler kept it open
            });
        }
        Err(error) => eprintln!("{error}"),
    });
}

/// The time by Greenwich: `2026-11-23 07:31:59 UTC`.
fn daytime() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut month) = (1970, 0);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let (month, day) = (month + 1, days + 1);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC\r\n").into_bytes()
}
