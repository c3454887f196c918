//! Of requests and replies by one operation.

use std::future::IntoFuture;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Waker};

use proactor::net::{Reply, ReplyEach, TcpStream};
use proactor::{Buf, BufferPool, Initiation, PooledBuf, Proactor};

use super::common::{pair, until};
use super::{MESSAGE, allocations, echo_allocates_nothing};

/// Never answers, and captures so much.
fn capturing<const N: usize, B: Buf>(
    stream: &TcpStream,
    pool: &BufferPool,
) -> Initiation<ReplyEach<impl FnMut(PooledBuf) -> Reply<B> + use<N, B>, B>> {
    let captured = [0_u8; N];
    stream.reply_each(pool, move |_| {
        black_box(&captured);
        Reply::Nothing
    })
}

/// How many allocations it is to begin one that captures so much, by handler and by future.
fn begun<const N: usize, B: Buf>(proactor: &Proactor) -> [usize; 2] {
    let pool = BufferPool::new(MESSAGE.len());
    drop(pool.take());
    let (stream, _peer) = pair(proactor);
    let ended = || {
        until("it has ended", || proactor.port().outstanding() == 1);
    };
    let by_handler = allocations(|| {
        capturing::<N, B>(&stream, &pool).then(|_| ());
    });
    stream.cancel();
    ended();
    let mut future = capturing::<N, B>(&stream, &pool).into_future();
    let by_future = allocations(|| {
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut future).poll(&mut context).is_pending());
    });
    drop(future);
    ended();
    [by_handler, by_future]
}

/// What is documented to fit in a cell, and what does not.
fn more_captures_are_boxed(proactor: &Proactor) {
    begun::<112, PooledBuf>(proactor);
    assert_eq!(begun::<152, PooledBuf>(proactor), [0, 1]);
    assert_eq!(begun::<153, PooledBuf>(proactor), [1, 1]);
    assert_eq!(begun::<128, PooledBuf>(proactor), [0, 0]);
    assert_eq!(begun::<136, Vec<u8>>(proactor), [0, 1]);
    assert_eq!(begun::<137, Vec<u8>>(proactor), [1, 1]);
    assert_eq!(begun::<112, Vec<u8>>(proactor), [0, 0]);
}

/// A pool that has lent as many buffers at a time as there are threads, as it may have to only late.
fn warm(size: usize) -> BufferPool {
    let pool = BufferPool::new(size);
    drop([(); 4].map(|()| pool.take()));
    pool
}

pub(super) fn allocate_nothing(proactor: &Proactor) {
    let pool = warm(MESSAGE.len());
    echo_allocates_nothing(proactor, "replies", |stream, _buf| {
        stream.reply_each(&pool, Reply::Write).then(|_| ());
    });
    echo_allocates_nothing(proactor, "replies that are awaited", |stream, _buf| {
        let pool = pool.clone();
        let echo = async move { stream.reply_each(&pool, Reply::Write).await };
        proactor.spawn(echo).detach();
    });
    let halves = warm(MESSAGE.len() / 2);
    echo_allocates_nothing(proactor, "replies to halves", |stream, _buf| {
        let mut come = 0;
        let echo = stream.reply_each(&halves, move |bytes| {
            come += bytes.len();
            match come % MESSAGE.len() {
                0 => Reply::Write(MESSAGE),
                _ => Reply::Nothing,
            }
        });
        echo.then(|_| ());
    });
    echo_allocates_nothing(proactor, "replies with more captures", |stream, _buf| {
        let captured = [0_u8; 500];
        let echo = stream.reply_each(&pool, move |bytes| {
            black_box(&captured);
            Reply::Write(bytes)
        });
        echo.then(|_| ());
    });
    until("the connections are closed", || {
        proactor.port().outstanding() == 1
    });
    more_captures_are_boxed(proactor);
}
