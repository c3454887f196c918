//! The echo on proactor: what `examples/echo_server.rs` does, without its counters.

use std::net::TcpListener as StdListener;
use std::num::NonZeroUsize;

use proactor::net::{TcpListener, TcpStream};
use proactor::{Proactor, Strategy};

use super::READ_BYTES;
use crate::cli::Outcome;

pub(super) fn serve(listener: StdListener, strategy: Strategy, threads: usize) -> Outcome {
    let mut builder = Proactor::builder().strategy(strategy);
    if let Some(threads) = NonZeroUsize::new(threads) {
        builder = builder.threads(threads);
    }
    let proactor = builder.build()?;
    let listener = TcpListener::from_std(&proactor, listener)?;
    let serving = listener.accept_each(|accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                read(stream, Vec::with_capacity(READ_BYTES));
            }
        }
        Err(trouble) => eprintln!("{trouble}"),
    });
    serving.then(|_ended| ());
    proactor.run();
    Ok(())
}

fn read(stream: TcpStream, buffer: Vec<u8>) {
    stream.read(buffer).then(move |(read, buffer)| {
        if let Ok(1..) = read {
            write(stream, buffer);
        }
    });
}

fn write(stream: TcpStream, buffer: Vec<u8>) {
    stream.write_all(buffer).then(move |(written, buffer)| {
        if written.is_ok() {
            read(stream, buffer);
        }
    });
}
