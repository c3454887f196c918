//! The echo on proactor, without the counters of `examples/echo_server.rs`. A connection that waits has no buffer: the pool lends one when
//! there are bytes.

use std::net::TcpListener as StdListener;
use std::num::NonZeroUsize;

use proactor::net::{Reply, TcpListener, TcpStream};
use proactor::{BufferPool, PooledBuf, Proactor, Strategy};

use super::READ_BYTES;
use crate::cli::Outcome;

/// As the example: a connection is one operation.
pub(super) fn serve(listener: StdListener, strategy: Strategy, threads: usize) -> Outcome {
    serve_each(listener, strategy, threads, |stream, pool| {
        let echo = stream.reply_each(pool, Reply::Write);
        echo.then(|_ended| ());
    })
}

/// A connection is a read and a write that set each other: what a program does that needs more than a reply.
pub(super) fn serve_in_pairs(listener: StdListener, strategy: Strategy, threads: usize) -> Outcome {
    serve_each(listener, strategy, threads, |stream, pool| {
        let pool = pool.clone();
        read(Connection { stream, pool });
    })
}

fn serve_each(
    listener: StdListener,
    strategy: Strategy,
    threads: usize,
    echo: impl Fn(TcpStream, &BufferPool) + Send + Sync + 'static,
) -> Outcome {
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
                echo(stream, &pool);
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
