//! Connections and ticks as streams, and what futures-lite makes of them.

use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, or, race, yield_now, zip};
use futures_lite::stream::{self, StreamExt};
use proactor::net::TcpListener;

use super::{copy, started};
use crate::common::{SOON, any_port, everywhere, everywhere_once, until, within};

const PERIOD: Duration = Duration::from_millis(2);

/// A connection that fails rather than blocks for ever.
fn connected(listener: &TcpListener) -> StdStream {
    let address = listener.local_addr().expect("its address");
    let client = StdStream::connect(address).expect("a connection");
    client.set_read_timeout(Some(SOON)).expect("a read timeout");
    client
}

#[test]
fn a_server_that_is_a_loop_over_its_connections_serves_them_all() {
    everywhere_once(|setup| {
        let proactor = started(setup);
        let listener = TcpListener::bind(&proactor, any_port()).expect("a port on loopback");
        let (port, mut incoming) = (proactor.port().clone(), listener.incoming());
        let serving = proactor.spawn(async move {
            let mut served = 0;
            while let Some(connection) = incoming.next().await {
                let (stream, _) = connection.expect("a connection");
                port.spawn(async move { copy(&stream, &stream).await })
                    .detach();
                served += 1;
            }
            served
        });
        let clients: Vec<_> = (0..20).map(|_| connected(&listener)).collect();
        for (mut client, number) in clients.into_iter().zip(0_u8..) {
            client.write_all(&[number; 100]).expect("it takes all");
            let mut back = [0; 100];
            client.read_exact(&mut back).expect("the echo");
            assert_eq!(back, [number; 100]);
        }
        // Who stops accepting ends the loop, and nothing else.
        proactor.port().stop_accepting();
        assert_eq!(serving.wait().expect("it ends"), 20);
    });
}

#[test]
fn a_connection_that_nobody_took_from_the_stream_goes_to_the_next_accept() {
    everywhere(|setup| {
        let proactor = started(setup);
        let listener = TcpListener::bind(&proactor, any_port()).expect("a port on loopback");
        let mut incoming = listener.incoming();
        let impatient = async {
            yield_now().await;
            None
        };
        let none = block_on(or(incoming.next(), impatient));
        assert!(none.is_none(), "nobody has come");
        let client = connected(&listener);
        drop(incoming);
        let (_, peer) = listener.accept().timeout(SOON).wait().expect("it is there");
        assert_eq!(peer, client.local_addr().expect("its address"));
    });
}

#[test]
fn a_stream_of_connections_ends_with_its_listener() {
    everywhere(|setup| {
        let proactor = started(setup);
        let listener = TcpListener::bind(&proactor, any_port()).expect("a port on loopback");
        let mut incoming = listener.incoming();
        let ended = proactor.spawn(async move {
            let first = incoming.next().await.is_none();
            first && incoming.next().await.is_none()
        });
        listener.close();
        assert!(
            ended.wait().expect("it ends"),
            "an item of a closed listener"
        );
    });
}

#[test]
fn ticks_come_in_their_rhythm_and_none_is_lost_with_a_poll() {
    everywhere(|setup| {
        let proactor = started(setup);
        let begin = Instant::now();
        let mut ticks = proactor.interval(PERIOD);
        let mut due = Vec::new();
        block_on(async {
            while due.len() < 4 {
                // Each wait is given up many times.
                let impatient = async {
                    yield_now().await;
                    None
                };
                if let Some(tick) = or(ticks.next(), impatient).await {
                    assert!(tick <= Instant::now(), "a tick came before it was due");
                    due.push(tick);
                }
            }
        });
        assert!(due[0] >= begin + PERIOD);
        for pair in due.windows(2) {
            let apart = (pair[1] - pair[0]).as_nanos();
            assert!(
                apart > 0 && apart % PERIOD.as_nanos() == 0,
                "out of its rhythm"
            );
        }
    });
}

#[test]
fn ticks_end_with_their_proactor() {
    everywhere(|setup| {
        let proactor = started(setup);
        let mut ticks = proactor.interval(Duration::from_secs(3600));
        let port = proactor.port().clone();
        within("the end of the ticks", move || {
            let closing = async {
                yield_now().await;
                port.close();
                pending().await
            };
            assert_eq!(block_on(or(ticks.next(), closing)), None);
            assert_eq!(block_on(ticks.next()), None, "it stays so");
        });
    });
}

#[test]
fn streams_and_initiations_are_joined_raced_and_merged() {
    everywhere(|setup| {
        let proactor = started(setup);
        let listener = TcpListener::bind(&proactor, any_port()).expect("a port on loopback");
        let connections = listener.incoming().map(|_| "connection");
        let ticks = proactor.interval(PERIOD).map(|_| "tick");
        let mut both = stream::race(connections, ticks);
        let client = connected(&listener);
        let mut seen = (false, false);
        block_on(async {
            while seen != (true, true) {
                match both.next().await {
                    Some("tick") => seen.0 = true,
                    other => seen.1 |= other == Some("connection"),
                }
            }
        });
        drop((client, both));
        let long = proactor.sleep(Duration::from_secs(3600));
        let (first, second) = block_on(zip(
            async { proactor.sleep(PERIOD).await.is_ok() },
            race(async { proactor.sleep(PERIOD).await.is_ok() }, async {
                long.await.is_err()
            }),
        ));
        assert!(first && second);
        // The loser was cancelled as it was dropped.
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}
