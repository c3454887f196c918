//! Connections: accepted for a room, read from by one chain of handlers, written to by another.
//!
//! The room is a strand's state: whatever happens in it is posted to the strand, one thing after the other, and nothing is locked.
//! Reading and taking messages apart goes on beside it. The end of a write is bound to the strand, since there the next one begins.
//!
//! Whoever holds a connection keeps it open: its room, the chain that reads, and the chain that writes. What the peer sends
//! ends with the first; what waits for it is written all the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proactor::net::{ReadHalf, TcpListener, TcpStream, WriteHalf};
use proactor::{CompletionPort, Error, Strand};

use crate::protocol::{self, Message};
use crate::room::{MemberId, Room, Turn};

/// A room's state, and the strand on which it is changed.
type Members = Room<Arc<Connection>>;
type SharedRoom = Strand<Members>;

/// A port that is listened on, and its room.
pub(crate) struct Site {
    listener: TcpListener,
    room: SharedRoom,
    patience: Duration,
}

struct Connection {
    writer: WriteHalf,
    peer: SocketAddr,
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
            listener,
            room: Strand::new(port, Room::new(backlog)),
            patience,
        }
    }

    /// The address that is listened on.
    pub(crate) fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr()
    }

    /// Takes in whoever connects, until the listener is closed.
    pub(crate) fn open(&self) {
        let (room, patience) = (self.room.clone(), self.patience);
        let accepting = self.listener.accept_each(move |accepted| match accepted {
            Ok((stream, peer)) => {
                if stream.set_nodelay(true).is_ok() {
                    welcome(room.clone(), stream, peer, patience);
                }
            }
            Err(trouble) => eprintln!("chat_server: {trouble}"),
        });
        accepting.then(|_closed| ());
    }

    /// Stops accepting, and lets each connection go once it was told what waits for it.
    pub(crate) fn close(&self) {
        self.listener.close();
        let strand = self.room.clone();
        self.room.post(move |room| {
            for connection in room.close() {
                write(&strand, room, connection, Vec::new());
            }
        });
    }
}

fn welcome(strand: SharedRoom, stream: TcpStream, peer: SocketAddr, patience: Duration) {
    let (reader, writer) = stream.into_split();
    strand.clone().post(move |room| {
        let joined = room.join(|id| {
            Arc::new(Connection {
                writer,
                peer,
                id,
                patience,
            })
        });
        if let Some(connection) = joined {
            write(&strand, room, Arc::clone(&connection), Vec::new());
            read(strand, reader, connection);
        }
    });
}

/// Reads a message, and the next when all in the room have that in their queues: so of each client one at a time waits for the room.
/// It ends when the peer says no more, or what it must not.
fn read(strand: SharedRoom, reader: ReadHalf, connection: Arc<Connection>) {
    protocol::receive(reader, move |reader, received| {
        strand.clone().post(move |room| match received {
            Ok(message) => {
                deliver(&strand, room, &message);
                read(strand, reader, connection);
            }
            Err(_ended) => room.leave(connection.id),
        });
    });
}

/// Puts it into everybody's queue, and drops those whose queue is full.
fn deliver(strand: &SharedRoom, room: &mut Members, message: &Message) {
    let delivery = room.deliver(message);
    for connection in delivery.idle {
        write(strand, room, connection, Vec::new());
    }
    for connection in delivery.slow {
        let peer = connection.peer;
        eprintln!("chat_server: dropped {peer}: it reads too slowly, see --backlog");
        connection.writer.close();
    }
}

/// Writes what waits, again and again until nothing does. `batch` is room from the write before.
fn write(strand: &SharedRoom, room: &mut Members, connection: Arc<Connection>, mut batch: Vec<u8>) {
    batch.clear();
    match room.take(connection.id, &mut batch) {
        Turn::Write => {
            let writing = connection.writer.write_all(batch);
            let writing = writing.timeout(connection.patience).on(strand);
            let strand = strand.clone();
            writing.then(move |room, (written, batch)| match written {
                Ok(_) => write(&strand, room, connection, batch),
                Err(lost) => {
                    if lost.is_timeout() {
                        let peer = connection.peer;
                        eprintln!("chat_server: dropped {peer}: it reads nothing, see --patience");
                    }
                    room.remove(connection.id);
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
