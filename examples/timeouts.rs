//! Time limits: on one operation, on one that is composed, the earliest of several, and on a whole conversation.
//!
//! ```text
//! cargo run --release --example timeouts
//! ```
//!
//! The peer here sends four bytes and then nothing more, for ever.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::Proactor;
use proactor::net::TcpStream;

/// Reads from a peer that goes quiet, with a time limit in every way there is.
#[derive(Parser)]
#[command(name = "timeouts")]
struct Options {
    /// The time limit, in milliseconds
    #[arg(value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    limit: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let limit = Duration::from_millis(Options::parse().limit.into());
    let proactor = Proactor::builder().build()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = std::net::TcpListener::bind(any_port)?;
    let stream = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
    let (mut peer, _) = listener.accept()?;
    let begin = Instant::now();
    let say = move |what: &str| println!("{:>5} ms: {what}", begin.elapsed().as_millis());

    // One operation. Its buffer comes back all the same, and nothing is lost: what comes later, a later read gets.
    let (read, buf) = stream.read(Vec::with_capacity(64)).timeout(limit).wait();
    say(&format!(
        "{}, and the buffer is back: {} bytes of room",
        failed(read)?,
        buf.capacity()
    ));

    // A composed one: the limit holds for all of it, and the error says how far it got.
    peer.write_all(b"four")?;
    let (read, buf) = stream.read_exact([0; 8]).timeout(limit).wait();
    say(&format!(
        "{}: {:?}",
        failed(read)?,
        String::from_utf8_lossy(&buf[..4])
    ));

    // Of several limits the earliest counts: a function may limit what it is given, whatever limit that has.
    let patient = stream.read(buf).timeout(Duration::from_secs(3600));
    let (read, _) = patient.timeout(limit).wait();
    say(&failed(read)?);

    // A whole conversation: a timer beside it closes the stream, which cancels whatever step it is at.
    let stream = Arc::new(stream);
    let deadline = Arc::clone(&stream);
    proactor.sleep(limit).then(move |_| deadline.close());
    stream.read([0; 8]).then(move |(read, _)| {
        say(&format!(
            "closed by the deadline: {}",
            read.expect_err("nothing comes")
        ));
    });
    proactor.run();
    Ok(())
}

/// The error that was to be expected.
fn failed(result: Result<usize, proactor::Error>) -> Result<String, Box<dyn Error>> {
    match result {
        Ok(count) => Err(format!("{count} bytes came from a quiet peer").into()),
        Err(error) => Ok(error.to_string()),
    }
}
