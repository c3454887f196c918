//! An echo client, in handlers: each step begins the next, and the connection goes from hand to hand.
//!
//! ```text
//! cargo run --release --example echo_server &
//! cargo run --release --example echo_client -- 127.0.0.1:7007 hello again
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use clap::Parser;
use proactor::dispatch::SingleThreaded;
use proactor::net::TcpStream;
use proactor::{Error, Proactor};

/// Sends messages to an echo server, one after the other, and says what comes back.
#[derive(Parser)]
#[command(name = "echo_client")]
struct Options {
    /// Where the server listens
    #[arg(value_name = "ADDR")]
    address: SocketAddr,
    /// What to send
    #[arg(value_name = "MESSAGE", required = true)]
    messages: Vec<String>,
}

fn main() -> ExitCode {
    let done = run(Options::parse());
    if let Err(error) = &done {
        eprintln!("echo_client: {error}");
    }
    ExitCode::from(u8::from(done.is_err()))
}

fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let proactor = Proactor::builder()
        .dispatcher(SingleThreaded::new())
        .build()?;
    let (end, ended) = channel();
    TcpStream::connect(&proactor, options.address).then(move |connected| match connected {
        Ok(stream) => send(stream, options.messages.into(), end),
        Err(error) => drop(end.send(error)),
    });
    proactor.run(); // until no step began another
    ended.try_recv().map_or(Ok(()), |error| Err(error.into()))
}

/// Sends the first of `messages`; no message left, nothing goes on with the stream, which closes it.
fn send(stream: TcpStream, mut messages: VecDeque<String>, end: Sender<Error>) {
    let Some(message) = messages.pop_front() else {
        return;
    };
    let write = stream.write_all(message.into_bytes());
    write.then(move |(written, message)| match written {
        Ok(_) => receive(stream, message.len(), messages, end),
        Err(error) => drop(end.send(error)),
    });
}

/// Reads as much as was sent, says it, and goes on with the next message.
fn receive(stream: TcpStream, len: usize, messages: VecDeque<String>, end: Sender<Error>) {
    let read = stream.read_exact(vec![0; len]);
    read.then(move |(read, echo)| match read {
        Ok(_) => {
            println!("{}", String::from_utf8_lossy(&echo));
            send(stream, messages, end);
        }
        Err(error) => drop(end.send(error)),
    });
}
