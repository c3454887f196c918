//! Buffers that are lent: a connection that waits has none, none is lost, and what was read into one goes back to its stream.
//!
//! Each test lends buffers of a size that nothing else has, and the allocator counts those.
#![cfg(not(proactor_loom))]
#![allow(unsafe_code)] // a global allocator, which hands everything on to the system's

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use common::{Setup, everywhere, pair, until};
use proactor::net::TcpStream;
use proactor::{BufferPool, CancelToken, Error, PooledBuf};
use socket2::{Domain, Socket, Type};

struct Counting;

const SIZES: usize = 8192;
static LIVE: [AtomicUsize; SIZES] = [const { AtomicUsize::new(0) }; SIZES];
static MADE: [AtomicUsize; SIZES] = [const { AtomicUsize::new(0) }; SIZES];

fn live(size: usize) -> usize {
    LIVE[size].load(Ordering::SeqCst)
}

fn made(size: usize) -> usize {
    MADE[size].load(Ordering::SeqCst)
}

fn count(size: usize) {
    if size < SIZES {
        LIVE[size].fetch_add(1, Ordering::SeqCst);
        MADE[size].fetch_add(1, Ordering::SeqCst);
    }
}

fn discount(size: usize) {
    if size < SIZES {
        LIVE[size].fetch_sub(1, Ordering::SeqCst);
    }
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the trait's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        discount(layout.size());
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        discount(layout.size());
        count(size);
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Received = Result<PooledBuf, Error>;

fn receive(stream: &TcpStream, pool: &BufferPool) -> Received {
    stream.recv_with(pool).wait()
}

#[test]
fn more_than_a_buffer_holds_is_read_in_parts_and_the_end_has_no_bytes() {
    everywhere(|setup: Setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        let pool = BufferPool::new(1009);
        let sent: Vec<u8> = (0..16 * 1024u32).map(|at| (at % 251) as u8).collect();
        peer.write_all(&sent).expect("room in the kernel");
        peer.shutdown(Shutdown::Write).expect("an open peer");
        let mut got = Vec::new();
        loop {
            let bytes = receive(&stream, &pool).expect("bytes");
            assert!(bytes.len() <= pool.size());
            if bytes.is_empty() {
                break;
            }
            got.extend_from_slice(&bytes);
        }
        assert!(got == sent, "bytes lost, or changed");
    });
}

#[test]
fn what_waits_has_no_buffer_and_nor_has_what_is_cancelled_or_late() {
    const SIZE: usize = 2003;
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut peer) = pair(&proactor);
        let pool = BufferPool::with_max_idle(SIZE, 0);
        let (ends, ended) = mpsc::channel::<Received>();
        let token = CancelToken::new();
        let waiting = ends.clone();
        let handler = move |received| waiting.send(received).expect("the test listens");
        stream.recv_with(&pool).cancel_with(&token).then(handler);
        let late = stream.recv_with(&pool).timeout(Duration::from_millis(5));
        assert!(late.wait().expect_err("nothing came").is_timeout());
        assert_eq!(live(SIZE), 0, "{setup}: what waits has a buffer");
        token.cancel();
        proactor.run();
        let error = ended.recv().expect("an end").expect_err("nothing came");
        assert!(error.is_cancelled(), "{error}");
        // Nothing was lost by any of them.
        peer.write_all(b"here").expect("room in the kernel");
        let bytes = receive(&stream, &pool).expect("bytes");
        assert_eq!((&bytes[..], live(SIZE)), (&b"here"[..], 1));
        drop(bytes);
        until("it is freed, as none is to be kept", || live(SIZE) == 0);
    });
}

#[test]
fn a_future_that_is_dropped_after_its_end_gives_bytes_and_buffer_back() {
    const SIZE: usize = 3001;
    everywhere(|setup| {
        // Never ready on the first poll.
        let builder = setup.builder().turn_budget(0);
        let proactor = builder.build().expect("a setup is sound");
        let (stream, mut peer) = pair(&proactor);
        let pool = BufferPool::with_max_idle(SIZE, 0);
        peer.write_all(b"first").expect("room in the kernel");
        {
            let mut future = pin!(stream.recv_with(&pool).into_future());
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
            proactor.poll();
            assert_eq!(live(SIZE), 1, "{setup}: it has bytes");
        }
        assert_eq!(live(SIZE), 0, "{setup}: its buffer went back");
        let bytes = receive(&stream, &pool).expect("bytes");
        assert_eq!(&bytes[..], b"first");
    });
}

#[test]
fn as_many_are_kept_as_was_said_and_all_are_freed_with_the_pool() {
    const SIZE: usize = 4007;
    let pool = BufferPool::with_max_idle(SIZE, 3);
    let lent: Vec<PooledBuf> = (0..20).map(|_| pool.take()).collect();
    assert_eq!(live(SIZE), 20);
    drop(lent);
    assert_eq!(live(SIZE), 3);
    let again = [pool.take(), pool.take(), pool.take()];
    assert_eq!(made(SIZE), 20, "those that were kept are lent first");
    drop(pool);
    assert_eq!(again[0].len(), 0);
    drop(again);
    assert_eq!(live(SIZE), 0);
}

#[test]
fn an_echo_lives_on_one_buffer_and_messages_keep_their_boundaries() {
    const SIZE: usize = 5003;
    everywhere(|setup| {
        let proactor = setup.build();
        let before = made(SIZE);
        let pool = BufferPool::new(SIZE);
        let (stream, mut peer) = pair(&proactor);
        for round in 0..200u8 {
            peer.write_all(&[round; 64]).expect("room in the kernel");
            let bytes = receive(&stream, &pool).expect("bytes");
            assert!(stream.write_all(bytes).wait().0.is_ok());
            let mut echo = [0; 64];
            peer.read_exact(&mut echo).expect("the echo");
            assert_eq!(echo, [round; 64]);
        }
        assert_eq!(made(SIZE) - before, 1, "{setup}: one buffer goes round");

        let kind = Type::SEQPACKET;
        let (near, far) = Socket::pair(Domain::UNIX, kind, None).expect("a pair");
        let near = TcpStream::from_fd(&proactor, OwnedFd::from(near)).expect("a socket");
        far.send(b"one").expect("room in the kernel");
        far.send(b"three").expect("room in the kernel");
        for message in [&b"one"[..], b"three"] {
            assert_eq!(&receive(&near, &pool).expect("a message")[..], message);
        }
    });
}
