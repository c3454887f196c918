//! The other end of the echo: one thread that serves its connections in turn, so that two runs are alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MESSAGE_BYTES: usize = 64;
/// A server under callgrind is slow, but not that slow.
const LOST_AFTER: Duration = Duration::from_secs(30);

pub(crate) struct Clients {
    streams: Vec<TcpStream>,
}

impl Clients {
    pub(crate) fn connect(address: SocketAddr, connections: usize) -> Result<Self, String> {
        let mut clients = Self {
            streams: Vec::with_capacity(connections),
        };
        for _ in 0..connections {
            clients.connect_one(address)?;
        }
        Ok(clients)
    }

    fn connect_one(&mut self, address: SocketAddr) -> Result<(), String> {
        let connected = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LOST_AFTER))?;
            Ok(stream)
        };
        let stream = connected().map_err(|error: std::io::Error| {
            format!("connection {}: {error}", self.streams.len() + 1)
        })?;
        self.streams.push(stream);
        Ok(())
    }

    /// One more connection, and a message over it.
    pub(crate) fn greet(&mut self, address: SocketAddr) -> Result<(), String> {
        self.connect_one(address)?;
        let new = self.streams.len() - 1;
        self.send(new, 0)?;
        self.receive(new, 0)
    }

    /// So many messages over each connection, the next as soon as the echo of the last was read and compared, and the client
    /// has thought for a moment.
    pub(crate) fn exchange(&mut self, rounds: usize, think: Duration) -> Result<(), String> {
        let all = 0..self.streams.len();
        all.clone().try_for_each(|index| self.send(index, 0))?;
        for round in 0..rounds {
            for index in all.clone() {
                self.receive(index, round)?;
                if !think.is_zero() {
                    std::thread::sleep(think);
                }
                if round + 1 < rounds {
                    self.send(index, round + 1)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, round: usize) -> Result<(), String> {
        let message = message(index, round);
        let sent = self.streams[index].write_all(&message);
        sent.map_err(|error| format!("a message of connection {index} could not be sent: {error}"))
    }

    fn receive(&mut self, index: usize, round: usize) -> Result<(), String> {
        let mut echo = [0; MESSAGE_BYTES];
        let read = self.streams[index].read_exact(&mut echo);
        read.map_err(|error| format!("an echo of connection {index} is missing: {error}"))?;
        if echo != message(index, round) {
            return Err(format!(
                "connection {index} received what it had not sent, in round {round}"
            ));
        }
        Ok(())
    }
}

/// What no other connection sends in this round, nor this one in the next.
fn message(index: usize, round: usize) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    for (at, words) in message.chunks_exact_mut(16).enumerate() {
        words[..8].copy_from_slice(&(index + at).to_le_bytes());
        words[8..].copy_from_slice(&(round ^ !at).to_le_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server of one connection that answers with `answer` of what comes.
    fn one_exchange(answer: fn(&mut [u8])) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; MESSAGE_BYTES];
                while stream.read_exact(&mut bytes).is_ok() {
                    answer(&mut bytes);
                    stream.write_all(&bytes).unwrap();
                }
            });
            let mut clients = Clients::connect(address, 1)?;
            clients.exchange(2, Duration::ZERO)
        })
    }

    #[test]
    fn an_echo_is_compared_byte_by_byte() {
        assert_eq!(one_exchange(|_| ()), Ok(()));
        let error = one_exchange(|bytes| bytes[63] ^= 1).unwrap_err();
        assert!(error.contains("had not sent"), "{error}");
    }

    #[test]
    fn messages_differ_by_connection_and_round() {
        assert_ne!(message(0, 0), message(1, 0));
        assert_ne!(message(0, 0), message(0, 1));
    }
}
