//! The echo on proactor: what `examples/echo_server.rs` does, without its counters. A connection that waits has no buffer: the pool lends
//! one when there are bytes.

use std::net::TcpListener as StdListener;
use std::num::NonZeroUsize;

use proactor::net::{TcpListener, TcpStream};
use proactor::{BufferPool, PooledBuf, Proactor, Strategy};

use super::READ_BYTES;
use crate::cli::Outcome;

pub(super) fn serve(listener: StdListener, strategy: Strategy, threads: usize) -> Outcome {
    let mut builder = Proactor::builder().strategy(strategy);
    if let Some(threads) = NonZeroUsize::new(threads) {
        builder = builder.threads(threads);
    }
    let proactor = builder.build()?;
    let listener = TcpListener::from_std(&proactor, listener)?;
    let pool = BufferPool::new(READ_BYTES);
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                let pool = pool.clone();
                read(Connection { stream, pool });
            }
        }
        Err(trouble) => eprintln!("{trouble}"),
    });
    serving.then(|_ended| ());
    proactor.run();
    Ok(())
}

struct Connection {
    stream: TcpStream,
    pool: BufferPool,
}

#[inline]
fn read(connection: Connection) {
    let received = connection.stream.recv_with(&connection.pool);
    received.then(move |received| match received {
        Ok(bytes) if !bytes.is_empty() => write(connection, bytes),
        _ended => (),
    });
}

#[inline]
fn write(connection: Connection, bytes: PooledBuf) {
    let sent = connection.stream.write_all(bytes);
    sent.then(move |(sent, bytes)| {
        drop(bytes);
        if sent.is_ok() {
            read(connection);
        }
    });
}
