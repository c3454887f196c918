//! Of datagrams: with buffers of one's own, lent ones, and as a stream.

use std::net::UdpSocket as StdSocket;
use std::sync::Arc;

use futures_lite::StreamExt;
use proactor::net::UdpSocket;
use proactor::{BufferPool, Proactor};

use crate::common::{SOON, any_port};
use crate::{COUNTED, allocations};

/// Sends each back, from the buffer that it came in; until the socket is closed.
fn echo(socket: Arc<UdpSocket>, buf: Vec<u8>) {
    socket.recv_from(buf).then(move |(result, buf)| {
        if let Ok((_, peer)) = result {
            socket.send_to(buf, peer).then(move |(result, buf)| {
                result.expect("it is sent");
                echo(socket, buf);
            });
        }
    });
}

/// With more free buffers than are ever lent at once, whoever is kept from his own for how long.
fn pool() -> BufferPool {
    let pool = BufferPool::new(512);
    let lent: Vec<_> = (0..8).map(|_| pool.take()).collect();
    drop(lent);
    pool
}

fn echo_each(socket: &Arc<UdpSocket>) {
    let echo = Arc::clone(socket);
    let serving = socket.recv_each(&pool(), move |datagram| {
        if let Ok(datagram) = datagram {
            let peer = datagram.peer();
            let sending = echo.send_to(datagram.into_buf(), peer);
            sending.then(|(result, _)| assert!(result.is_ok()));
        }
    });
    serving.then(|_ended| ());
}

async fn echo_streamed(socket: Arc<UdpSocket>) {
    let mut datagrams = socket.datagrams(&pool());
    while let Some(Ok(datagram)) = datagrams.next().await {
        let peer = datagram.peer();
        let sent = socket.send_to(datagram.into_buf(), peer).await;
        sent.0.expect("it is sent");
    }
}

fn echo_allocates_nothing(proactor: &Proactor, name: &str, serve: impl Fn(&Arc<UdpSocket>)) {
    let socket = Arc::new(UdpSocket::bind(proactor, any_port()).expect("a port"));
    serve(&socket);
    let client = StdSocket::bind(any_port()).expect("a port");
    client.set_read_timeout(Some(SOON)).expect("a limit");
    client
        .connect(socket.local_addr().expect("open"))
        .expect("an address");
    let round_trips = |rounds: usize| {
        let mut back = [0; 200];
        for round in 0..rounds {
            let len = round % back.len();
            client.send(&[3; 200][..len]).expect("room");
            assert_eq!(client.recv(&mut back).expect("the echo"), len);
        }
    };
    round_trips(400);
    let count = allocations(|| round_trips(COUNTED / 2));
    assert_eq!(count, 0, "{name}: {} round trips allocated", COUNTED / 2);
    socket.close();
}

pub(crate) fn nothing_is_allocated(proactor: &Proactor) {
    echo_allocates_nothing(proactor, "datagrams", |socket| {
        echo(Arc::clone(socket), Vec::with_capacity(512));
    });
    echo_allocates_nothing(proactor, "datagrams by a handler for each", echo_each);
    echo_allocates_nothing(proactor, "datagrams as a stream", |socket| {
        proactor.spawn(echo_streamed(Arc::clone(socket))).detach();
    });
}
