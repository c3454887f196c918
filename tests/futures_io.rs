//! Streams as futures-io's readers and writers, connections and ticks as futures-core's streams, under every strategy and both backends.
#![cfg(not(proactor_loom))]

mod common;
#[path = "futures_io/mixed.rs"]
mod mixed;
#[path = "futures_io/polls.rs"]
mod polls;
#[path = "futures_io/scarce.rs"]
mod scarce;
#[path = "futures_io/streams.rs"]
mod streams;

use std::future::IntoFuture;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::net::TcpStream as StdStream;
use std::thread;
use std::time::Duration;

use common::{Random, Setup, any_port, everywhere, everywhere_once, pair};
use futures_lite::future::{block_on, or, race, yield_now, zip};
use futures_lite::io::copy;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use proactor::Proactor;
use proactor::net::{TcpListener, TcpStream};

/// What a long stream carries.
const MUCH: usize = 10_000_000;

// The stream's own methods, which own their buffers, have the names of the traits': so these, where the type is not known.

async fn read(mut from: impl AsyncRead + Unpin, buf: &mut [u8]) -> Result<usize> {
    from.read(buf).await
}

async fn read_to_end(mut from: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.map(|_| all)
}

async fn write(mut to: impl AsyncWrite + Unpin, bytes: &[u8]) -> Result<usize> {
    to.write(bytes).await
}

async fn write_all(mut to: impl AsyncWrite + Unpin, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).await
}

async fn close(mut to: impl AsyncWrite + Unpin) -> Result<()> {
    to.close().await
}

/// Sends all of `bytes`, and then the end.
async fn send(to: impl AsyncWrite + Unpin, bytes: &[u8]) -> Result<()> {
    let mut to = to;
    write_all(&mut to, bytes).await?;
    close(to).await
}

/// A proactor that runs on threads of its own.
fn started(setup: Setup) -> Proactor {
    let proactor = setup.build();
    proactor.start().expect("threads");
    proactor
}

/// Two ends of a connection, both the proactor's.
fn both(proactor: &Proactor) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(proactor, any_port()).expect("a port on loopback");
    let address = listener.local_addr().expect("its address");
    block_on(async {
        let connect = TcpStream::connect(proactor, address);
        let (client, server) =
            zip(async { connect.await }, async { listener.accept().await }).await;
        let (server, _) = server.expect("the connection");
        (server, client.expect("a connection"))
    })
}

/// Sends `bytes` and the end of the stream; what comes back until the end.
fn exchange(mut peer: StdStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut out = peer.try_clone().expect("another descriptor");
    let sender = thread::spawn(move || {
        out.write_all(&bytes).expect("it takes all");
        out.shutdown(std::net::Shutdown::Write).expect("open");
    });
    let mut back = Vec::new();
    peer.read_to_end(&mut back).expect("all of it");
    sender.join().expect("the sender ends");
    back
}

#[test]
fn ten_megabytes_are_copied_both_ways_byte_for_byte() {
    everywhere_once(|setup| {
        let proactor = started(setup);
        let (stream, peer) = pair(&proactor);
        let echo = proactor.spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let copied = copy(&mut reader, &mut writer).await?;
            close(writer).await?;
            Result::Ok(copied)
        });
        let bytes = Random::new().bytes(MUCH);
        let back = exchange(peer, bytes.clone());
        assert!(back == bytes, "{} of {MUCH} bytes, or others", back.len());
        let copied = echo.wait().expect("it ends").expect("no error");
        assert_eq!(copied, MUCH as u64);
    });
}

#[test]
fn a_proxy_of_two_copies_passes_half_closes_on() {
    everywhere_once(|setup| {
        let proactor = started(setup);
        let (near, client) = pair(&proactor);
        let (far, mut server) = pair(&proactor);
        let proxy = proactor.spawn(async move {
            let one_way = async |from: &TcpStream, to: &TcpStream| {
                copy(from, to).await?;
                close(to).await
            };
            let (there, back) = zip(one_way(&near, &far), one_way(&far, &near)).await;
            there.and(back)
        });
        // It answers only once it has seen the end.
        let server = thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).expect("all of it");
            all.reverse();
            server.write_all(&all).expect("it takes all");
        });
        let mut bytes = Random::new().bytes(MUCH);
        let back = exchange(client, bytes.clone());
        bytes.reverse();
        assert!(back == bytes, "{} bytes of {MUCH}, or others", back.len());
        server.join().expect("the server ends");
        proxy.wait().expect("it ends").expect("no error");
    });
}

#[test]
fn an_executor_of_somebody_elses_may_poll() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (server, client) = both(&proactor);
        let bytes = Random::new().bytes(300_000);
        let echoing = async {
            copy(&server, &server).await?;
            close(&server).await
        };
        let talking = async {
            let (sent, back) = zip(send(&client, &bytes), read_to_end(&client)).await;
            sent.and(back)
        };
        let (echoed, back) = block_on(zip(echoing, talking));
        echoed.expect("no error");
        assert!(back.expect("no error") == bytes);
    });
}

#[test]
fn one_task_reads_what_another_writes_on_the_halves_of_a_stream() {
    everywhere_once(|setup| {
        let proactor = started(setup);
        let (stream, peer) = pair(&proactor);
        let bytes = Random::new().bytes(2_000_000);
        let (reader, writer) = stream.into_split();
        let sent = bytes.clone();
        let writing = proactor.spawn(async move { send(writer, &sent).await });
        let reading = proactor.spawn(read_to_end(reader));
        assert!(exchange(peer, bytes.clone()) == bytes);
        writing.wait().expect("it ends").expect("no error");
        let read = reading.wait().expect("it ends").expect("no error");
        assert!(read == bytes);
    });
}

#[test]
fn reads_that_are_given_up_again_and_again_lose_no_byte() {
    everywhere_once(|setup| {
        let mut random = Random::new();
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let bytes = random.bytes(200_000);
        let mut chance = random.fork();
        let sent = bytes.clone();
        let sender = thread::spawn(move || {
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(chance.within(1, 2000).min(rest.len()));
                peer.write_all(now).expect("it takes all");
                rest = later;
            }
        });
        let mut all = Vec::new();
        let mut given_up = 0;
        block_on(async {
            loop {
                let mut buf = [0; 700];
                let reading = async { Some(read(&stream, &mut buf).await) };
                let impatient = async {
                    yield_now().await;
                    None
                };
                match or(reading, impatient).await {
                    Some(Ok(0)) => break,
                    Some(count) => all.extend_from_slice(&buf[..count.expect("no error")]),
                    None => given_up += 1,
                }
            }
        });
        sender.join().expect("the sender ends");
        assert!(
            all == bytes,
            "{} bytes after {given_up} polls that were given up",
            all.len()
        );
    });
}

#[test]
fn a_read_and_a_timer_are_raced() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, mut peer) = pair(&proactor);
        let nap = proactor.sleep(Duration::from_millis(2));
        let mut buf = [0; 8];
        let first = block_on(race(
            async { read(&stream, &mut buf).await.map(Some) },
            async {
                nap.await.expect("the timer");
                Ok(None)
            },
        ));
        assert_eq!(first.expect("no error"), None, "nobody wrote");
        peer.write_all(b"late").expect("it takes all");
        let count = block_on(read(&stream, &mut buf)).expect("no error");
        assert!(count > 0 && b"late".starts_with(&buf[..count]));
    });
}

#[test]
fn several_buffers_are_sent_and_filled_in_one_call() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (mut stream, mut peer) = pair(&proactor);
        let parts = [
            IoSlice::new(b"one, "),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        let sent = block_on(AsyncWriteExt::write_vectored(&mut stream, &parts)).expect("no error");
        assert_eq!(sent, 8);
        let mut there = [0; 8];
        peer.read_exact(&mut there).expect("eight bytes");
        assert_eq!(&there, b"one, two");
        peer.write_all(&there).expect("it takes all");
        drop(peer);
        let mut all = Vec::new();
        loop {
            let (mut first, mut second) = ([0; 3], [0; 4]);
            let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            match block_on(AsyncReadExt::read_vectored(&mut stream, &mut parts)).expect("no error")
            {
                0 => break,
                count => all.extend_from_slice(&[&first[..], &second[..]].concat()[..count]),
            }
        }
        assert_eq!(all, b"one, two");
    });
}

#[test]
fn what_a_future_gave_back_and_a_search_read_beyond_come_out_first() {
    everywhere(|setup| {
        // No future is ready on its first poll.
        let builder = setup.builder().turn_budget(0);
        let proactor = builder.build().expect("a setup is sound");
        proactor.start().expect("threads");
        let (stream, mut peer) = pair(&proactor);
        peer.write_all(b"line\nrest").expect("it takes all");
        let line = block_on(
            stream
                .read_until("\n", Vec::with_capacity(64))
                .into_future(),
        );
        assert_eq!(
            (line.0.expect("a line"), &line.1[..]),
            (5, &b"line\nrest"[..5])
        );
        let mut buf = [0; 8];
        let rest = block_on(read(&stream, &mut buf)).expect("no error");
        assert_eq!(&buf[..rest], b"rest");
        let mut all = Vec::new();
        for _ in 0..10 {
            // Two of the bytes were had by a future that is dropped with them.
            polls::finish_and_drop(stream.read(Vec::with_capacity(2)).into_future(), || {
                peer.write_all(b"12345").expect("it takes all");
            });
            let until = all.len() + 5;
            while all.len() < until {
                let count = block_on(read(&stream, &mut buf[..3])).expect("no error");
                all.extend_from_slice(&buf[..count]);
            }
        }
        assert_eq!(all, b"12345".repeat(10));
    });
}

#[test]
fn an_error_of_the_system_is_the_standard_librarys() {
    everywhere(|setup| {
        let proactor = started(setup);
        let (stream, peer) = pair(&proactor);
        let waiting = proactor.spawn(async move {
            let error = read(&stream, &mut [0; 8]).await.expect_err("a reset");
            let (mut writes, mut last) = (0, None);
            while last.is_none() && writes < 3 {
                last = write(&stream, b"into the void").await.err();
                writes += 1;
            }
            // Nothing is left to end.
            (error, last, close(&stream).await)
        });
        polls::reset(peer);
        let (read, write, close) = waiting.wait().expect("it ends");
        assert_eq!(read.kind(), ErrorKind::ConnectionReset);
        assert!(read.raw_os_error().is_some());
        let write = write.expect("nobody takes it");
        assert!(
            [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&write.kind()),
            "{write}"
        );
        close.expect("it is closed");
    });
}
