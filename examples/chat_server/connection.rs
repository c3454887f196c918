//! Connections: accepted for a room, read from by one chain of handlers, written to by another.
//!
//! Whoever holds a connection keeps it open: its room, the chain that reads, and the chain that writes. What the peer sends
//! ends with the first; what waits for it is written all the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proactor::net::{ReadHalf, TcpListener, TcpStream, WriteHalf};
use proactor::{CompletionPort, Error, ErrorKind};

use crate::protocol::{self, Message};
use crate::room::{MemberId, Room, Turn};

/// How long to wait after an accept that failed, for want of descriptors most likely.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(10);

type SharedRoom = Arc<Mutex<Room<Arc<Connection>>>>;

/// A port that is listened on, and its room.
pub(crate) struct Site {
    port: CompletionPort,
    listener: TcpListener,
    room: SharedRoom,
    patience: Duration,
}

struct Connection {
    writer: WriteHalf,
    peer: SocketAddr,
    room: SharedRoom,
    id: MemberId,
    /// How long one write (64 messages at most) may take. Who reads nothing for so long is dropped, also one that has nothing more to
    /// say, and whose queue grows no more.
    patience: Duration,
}

impl Site {
    pub(crate) fn new(
        port: &CompletionPort,
        listener: TcpListener,
        backlog: usize,
        patience: Duration,
    ) -> Self {
        Self {
            patience,
            port: port.clone(),
            listener,
            room: Arc::new(Mutex::new(Room::new(backlog))),
        }
    }

    /// The address that is listened on.
    pub(crate) fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr()
    }

    /// Stops accepting, and lets each connection go once it was told what waits for it.
    pub(crate) fn close(&self) {
        self.listener.close();
        let idle = self.room.lock().close();
        idle.into_iter()
            .for_each(|connection| write(connection, Vec::new()));
    }
}

/// Accepts a connection, then the next.
pub(crate) fn accept(site: Arc<Site>) {
    site.listener.accept().then(move |accepted| match accepted {
        Ok((stream, peer)) => {
            if stream.set_nodelay(true).is_ok() {
                welcome(&site, stream, peer);
            }
            accept(site);
        }
        Err(error) if error.kind() == ErrorKind::Os => {
            site.port.sleep(ACCEPT_AGAIN_AFTER).then(move |slept| {
                if slept.is_ok() {
                    accept(site);
                }
            });
        }
        Err(_closed) => {}
    });
}

fn welcome(site: &Site, stream: TcpStream, peer: SocketAddr) {
    let (reader, writer) = stream.into_split();
    let joined = site.room.lock().join(|id| {
        Arc::new(Connection {
            writer,
            peer,
            room: Arc::clone(&site.room),
            id,
            patience: site.patience,
        })
    });
    if let Some(connection) = joined {
        write(Arc::clone(&connection), Vec::new());
        read(reader, connection);
    }
}

/// Reads a message and says it to all, then the next, until the peer says no more or what it must not.
fn read(reader: ReadHalf, connection: Arc<Connection>) {
    protocol::receive(reader, move |reader, received| match received {
        Ok(message) => {
            deliver(&connection.room, &message);
            read(reader, connection);
        }
        Err(_ended) => connection.room.lock().leave(connection.id),
    });
}

fn deliver(room: &SharedRoom, message: &Message) {
    let delivery = room.lock().deliver(message);
    for connection in delivery.idle {
        write(connection, Vec::new());
    }
    for connection in delivery.slow {
        let peer = connection.peer;
        eprintln!("chat_server: dropped {peer}: it reads too slowly, see --backlog");
        connection.writer.close();
    }
}

/// Writes what waits, again and again until nothing does. `batch` is room from the write before.
fn write(connection: Arc<Connection>, mut batch: Vec<u8>) {
    batch.clear();
    let turn = connection.room.lock().take(connection.id, &mut batch);
    match turn {
        Turn::Write => {
            let written = connection
                .writer
                .write_all(batch)
                .timeout(connection.patience);
            written.then(move |(written, batch)| match written {
                Ok(_) => write(connection, batch),
                Err(lost) => {
                    if lost.is_timeout() {
                        let peer = connection.peer;
                        eprintln!("chat_server: dropped {peer}: it reads nothing, see --patience");
                    }
                    connection.room.lock().remove(connection.id);
                    connection.writer.close();
                }
            });
        }
        Turn::Idle => {}
        // Not closed at once: what the peer still sends would reset the connection, and lose what is on its way.
        Turn::Over => {
            let ended = connection.writer.shutdown();
            ended.then(move |_| drop(connection));
        }
    }
}
