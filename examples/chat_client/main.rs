//! A chat client: what is typed is said, what is heard is printed. It speaks the protocol of Asio's C++11 chat example.
//!
//! ```text
//! cargo run --release --example chat_client -- localhost 7007
//! ```
//!
//! Each line of stdin is a message, and each message that comes is a line of stdout. At the end of stdin it says that no more
//! will come, prints what still arrives, and ends when the server closes the connection.
//!
//! A line of more than 512 bytes is refused with a word on stderr, and not sent; then the exit status is 1 in the end. So it is,
//! at once, when there is no connection or it is lost. Bad usage is exit 2.

#[path = "../serving/cli.rs"]
mod cli;
#[path = "../chat_server/protocol.rs"]
mod protocol;

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use clap::Parser;
use proactor::dispatch::SingleThreaded;
use proactor::net::{ReadHalf, TcpStream, WriteHalf};
use proactor::{CompletionPort, Proactor};

use crate::cli::Failure;
use crate::protocol::{Ended, MOST_BODY_BYTES, Message};

/// How long each address of the host has to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How many messages may be on their way to the server's kernel before stdin has to wait.
const MOST_UNDER_WAY: usize = 64;

/// Says each line of stdin, and prints what all in the room say
#[derive(Parser)]
#[command(name = "chat_client")]
struct Options {
    /// The server's name or address
    host: String,
    /// The port of the room
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

/// What stdin's thread and the handlers tell each other.
struct Session {
    port: CompletionPort,
    /// Nothing more will be said.
    finished: AtomicBool,
    /// Something could not be said.
    refused: AtomicBool,
    /// How it ended; an error says why.
    outcome: OnceLock<Result<(), String>>,
}

impl Session {
    fn end(&self, outcome: Result<(), String>) {
        self.outcome.get_or_init(|| outcome);
        self.port.stop();
    }
}

fn main() -> ExitCode {
    cli::main("chat_client", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let Options { host, port } = options;
    let addresses: Vec<_> = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| Failure::Failed(format!("cannot find the host {host}: {error}")))?
        .collect();
    let proactor = Proactor::builder()
        .dispatcher(SingleThreaded::new())
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let session = Arc::new(Session {
        port: proactor.port().clone(),
        finished: AtomicBool::new(false),
        refused: AtomicBool::new(false),
        outcome: OnceLock::new(),
    });
    let nowhere = format!("the host {host} has no address");
    connect(Arc::clone(&session), addresses.into_iter(), nowhere);
    proactor.run();
    match session.outcome.get() {
        Some(Err(why)) => Err(Failure::Failed(why.clone())),
        _ if session.refused.load(Ordering::Acquire) => {
            Err(Failure::Failed("not every line was sent".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Tries one address after the other; the last error counts.
fn connect(
    session: Arc<Session>,
    mut addresses: impl Iterator<Item = SocketAddr> + Send + 'static,
    last: String,
) {
    let Some(address) = addresses.next() else {
        return session.end(Err(last));
    };
    let connecting = TcpStream::connect(&session.port, address).timeout(CONNECT_WITHIN);
    connecting.then(move |connected| match connected {
        Ok(stream) => {
            let (reader, writer) = stream.into_split();
            print(Arc::clone(&session), reader);
            thread::spawn(move || say_lines(&session, &writer));
        }
        Err(error) => {
            let why = format!("{error}: is a chat server running there?");
            connect(session, addresses, why);
        }
    });
}

/// Prints a message, then the next, until the server says no more.
fn print(session: Arc<Session>, reader: ReadHalf) {
    protocol::receive(reader, move |reader, received| match received {
        Ok(message) => match print_line(&message) {
            Ok(()) => print(session, reader),
            Err(error) => session.end(Err(format!("cannot write to stdout: {error}"))),
        },
        Err(Ended::Finished) if session.finished.load(Ordering::Acquire) => session.end(Ok(())),
        Err(ended) => session.end(Err(format!("lost the server: {ended}"))),
    });
}

fn print_line(message: &Message) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // A message is a line, and what others say does not steer this terminal.
    let visible = protocol::body(message).iter().map(|&byte| {
        if byte.is_ascii_control() && byte != b'\t' {
            b'?'
        } else {
            byte
        }
    });
    stdout.write_all(&visible.chain([b'\n']).collect::<Vec<u8>>())?;
    stdout.flush()
}

/// Sends stdin line by line, and then ends this direction. Has a thread of its own, since reading stdin blocks.
fn say_lines(session: &Session, writer: &WriteHalf) {
    let (give_back, permits) = mpsc::channel();
    (0..MOST_UNDER_WAY).for_each(|_| give_back.send(()).expect("the other end is here"));
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    for number in 1_u64.. {
        match read_line(&mut input, &mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return session.end(Err(format!("cannot read stdin: {error}"))),
        }
        let Some(message) = protocol::message(&line) else {
            eprintln!(
                "chat_client: line {number} has more than {MOST_BODY_BYTES} bytes and is not sent: make it shorter"
            );
            session.refused.store(true, Ordering::Release);
            continue;
        };
        permits.recv().expect("the other end is here");
        let give_back = give_back.clone();
        writer.write_all(message.to_vec()).then(move |(sent, _)| {
            if sent.is_ok() {
                let _ = give_back.send(()); // otherwise the reader finds the connection lost
            }
        });
    }
    session.finished.store(true, Ordering::Release);
    writer.shutdown().then(|_| ()); // after what was said before
}

/// Reads a line without its end, and of one that is too long a byte more than a message has. False when there is none.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let most = MOST_BODY_BYTES as u64 + 1;
    if input.take(most).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MOST_BODY_BYTES {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}
