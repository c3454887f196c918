//! The first of several connections: one attempt after the other begins, none waits for another to fail, and who loses is cancelled.
//!
//! ```text
//! cargo run --release --example parallel_connect -- localhost:7007 192.0.2.1:7007
//! ```
//!
//! The way is that of RFC 8305, "Happy Eyeballs": every 250 ms an attempt begins, or at once when the one before it has failed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use parking_lot::Mutex;
use proactor::net::TcpStream;
use proactor::{
    CancelToken, Completer, CompletionPort, Composed, Error, Initiation, Operation, Proactor,
};

/// Connects to whichever of several addresses answers first
#[derive(Parser)]
#[command(name = "parallel_connect")]
struct Options {
    /// Where to connect, the best first; all addresses of a name are tried
    #[arg(value_name = "HOST:PORT", required = true)]
    targets: Vec<String>,
    /// How long after an attempt the next begins, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u32).range(..=60_000))]
    stagger: u32,
    /// How long all may take together, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
}

fn main() -> ExitCode {
    let done = run(&Options::parse());
    if let Err(error) = &done {
        eprintln!("parallel_connect: {error}");
    }
    ExitCode::from(u8::from(done.is_err()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut addresses = Vec::new();
    for target in &options.targets {
        let found = target.to_socket_addrs();
        addresses.extend(found.map_err(|error| format!("{target}: {error}; write HOST:PORT"))?);
    }
    let proactor = Proactor::builder().build()?;
    let begin = Instant::now();
    let stagger = Duration::from_millis(options.stagger.into());
    let attempts = attempts(proactor.port(), &addresses, stagger);
    let limit = Duration::from_secs(options.timeout.into());
    let finished = proactor.port().first_of(attempts).timeout(limit).wait()?;
    let ends: Vec<_> = addresses.iter().zip(finished.outputs).collect();
    for (address, end) in &ends {
        match end {
            Ok(_stream) => println!(
                "{address}: answered after {} ms",
                begin.elapsed().as_millis()
            ),
            Err(error) => println!("{error}"),
        }
    }
    if ends.iter().all(|(_, end)| end.is_err()) {
        return Err("no address answered".into());
    }
    Ok(())
}

/// Those that failed. A failure is no end as long as others may answer: it is said when the last attempt has let go of this.
#[derive(Default)]
struct Failed(Mutex<Vec<(Completer<TcpStream>, Error)>>);

impl Drop for Failed {
    fn drop(&mut self) {
        for (attempt, error) in self.0.get_mut().drain(..) {
            attempt.complete(Err(error));
        }
    }
}

/// An attempt for each address.
fn attempts(
    port: &CompletionPort,
    addresses: &[SocketAddr],
    stagger: Duration,
) -> Vec<Initiation<Composed<TcpStream>>> {
    let failed = Arc::new(Failed::default());
    let mut hurry = CancelToken::new();
    let attempt = |(number, &address)| {
        let next = CancelToken::new();
        let this = std::mem::replace(&mut hurry, next.clone());
        let wait = port.sleep(stagger * number).cancel_with(&this);
        let connect = TcpStream::connect(port, address);
        attempt(port, wait, connect, next, Arc::clone(&failed))
    };
    (0..).zip(addresses).map(attempt).collect()
}

/// Connects after the `wait`; if that fails, hurries the `next`.
fn attempt(
    port: &CompletionPort,
    wait: Initiation<impl Operation>,
    connect: Initiation<impl Operation<Output = Result<TcpStream, Error>>>,
    next: CancelToken,
    failed: Arc<Failed>,
) -> Initiation<Composed<TcpStream>> {
    port.compose(move |attempt: Completer<TcpStream>| {
        let wait = wait.cancel_with(attempt.token());
        wait.then(move |_hurried_or_not| {
            let connect = connect.cancel_with(attempt.token());
            connect.then(move |connected| match connected {
                Ok(stream) => attempt.complete(Ok(stream)),
                Err(error) => {
                    next.cancel();
                    failed.0.lock().push((attempt, error));
                }
            });
        });
    })
}
