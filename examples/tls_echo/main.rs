//! An echo server over TLS: rustls as it is, on the proactor's streams, by way of futures-io.
//!
//! ```text
//! cargo run --release --example tls_echo -- --addr 127.0.0.1:7443 --certificate echo.pem
//! openssl s_client -connect 127.0.0.1:7443 -CAfile echo.pem -verify_return_error -quiet
//! ```
//!
//! Its certificate is made at the start, for `localhost` and the loopback addresses, and signs itself; clients that are to trust it
//! take it from the file. Each connection is a spawned future, polled under whichever strategy was chosen. Who has not finished its
//! handshake in time is hung up on, so that those who only knock cannot pile up.
//!
//! It says `listening on ADDR` when it is ready; SIGINT or SIGTERM ends it, exit 0.

mod certificate;
#[path = "../serving/limit.rs"]
mod limit;
#[path = "../serving/mod.rs"]
mod serving;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use proactor::CompletionPort;
use proactor::net::TcpListener;

use crate::limit::within;
use crate::serving::{Failure, Serving, announce, stop_on_signals};

/// Sends every byte back to where it came from, over TLS.
#[derive(Parser)]
#[command(name = "tls_echo")]
struct Options {
    #[command(flatten)]
    serving: Serving,
    /// Where to write the certificate, as PEM, for clients that are to trust it
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// How long a client may take for its handshake, and for hearing that the connection ends, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    patience_ms: u32,
}

/// The most that is read, and sent back, at once: what a record of TLS holds.
const CHUNK_BYTES: usize = 16 * 1024;

fn main() -> ExitCode {
    serving::main("tls_echo", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let proactor = options.serving.proactor()?;
    let listener = options
        .serving
        .bind(|address| TcpListener::bind(&proactor, address))?;
    let server = Server {
        acceptor: certificate::acceptor(options.certificate.as_deref())?,
        port: proactor.port().clone(),
        patience: Duration::from_millis(options.patience_ms.into()),
    };
    serve(&listener, server);
    stop_on_signals(proactor.port())?;
    announce(listener.local_addr())?;
    proactor.run(); // until the signal: there is always an accept under way
    proactor.restart();
    proactor.shutdown(Instant::now()); // every future is dropped, and its connection with it
    Ok(())
}

fn serve(listener: &TcpListener, server: Server) {
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                let server = server.clone();
                let port = server.port.clone();
                // How it ended concerns the client alone.
                let echoing = async move { drop(server.echo(stream).await) };
                port.spawn(echoing).detach();
            }
        }
        Err(trouble) => eprintln!("tls_echo: {trouble}"),
    });
    serving.then(|_ended| ());
}

/// What every connection needs.
#[derive(Clone)]
struct Server {
    acceptor: TlsAcceptor,
    port: CompletionPort,
    patience: Duration,
}

impl Server {
    /// One connection, from its handshake to its end. The client's `close_notify` ends its half: it is answered with ours when all
    /// was sent back. An end without one is an error, since anybody on the way could have made it.
    async fn echo(self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let accepting = self.acceptor.accept(stream);
        let mut stream = within(&self.port, self.patience, accepting).await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return within(&self.port, self.patience, stream.close()).await;
            }
            stream.write_all(&chunk[..read]).await?;
            stream.flush().await?;
        }
    }
}
