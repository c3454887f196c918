//! The other end of the servers: one thread that serves its connections in turn, so that two runs are alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MESSAGE_BYTES: usize = 64;
/// A server under callgrind is slow, but not that slow.
const LOST_AFTER: Duration = Duration::from_secs(30);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Longer than any reply to it.
const REPLY_BYTES: usize = 1024;

/// What a server does with what it is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Speaks {
    Echo,
    Http,
}

pub(crate) struct Clients {
    streams: Vec<TcpStream>,
    speaks: Speaks,
}

impl Clients {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        speaks: Speaks,
    ) -> Result<Self, String> {
        let mut clients = Self {
            streams: Vec::with_capacity(connections),
            speaks,
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

    /// So many messages over each connection, the next as soon as the reply to the last was read and compared, and the client
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
        let mut stream = &self.streams[index];
        let sent = match self.speaks {
            Speaks::Echo => stream.write_all(&message(index, round)),
            Speaks::Http => stream.write_all(REQUEST),
        };
        sent.map_err(|error| format!("a message of connection {index} could not be sent: {error}"))
    }

    fn receive(&mut self, index: usize, round: usize) -> Result<(), String> {
        if self.speaks == Speaks::Http {
            let reply = reply(&self.streams[index]);
            return reply.map_err(|error| format!("a reply to connection {index}: {error}"));
        }
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

/// Reads a reply, which must be a good one.
fn reply(mut stream: impl Read) -> Result<(), String> {
    let mut reply = [0; REPLY_BYTES];
    let mut end = 0;
    loop {
        let n = stream.read(&mut reply[end..]);
        let n = n.map_err(|error| error.to_string())?;
        end += n;
        let said = String::from_utf8_lossy(&reply[..end]);
        match whole(&said) {
            Some(true) if said.starts_with("HTTP/1.1 200 ") => return Ok(()),
            Some(false) if n > 0 => {}
            None if n > 0 && !said.contains("\r\n\r\n") => {}
            _ => return Err(format!("not a good one: {said:?}")),
        }
    }
}

/// Whether a reply has all of its body; none if it does not say how long that is.
fn whole(reply: &str) -> Option<bool> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Some(body.len() == length?.parse::<usize>().ok()?)
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
            let mut clients = Clients::connect(address, 1, Speaks::Echo)?;
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
    fn a_reply_is_read_to_its_end_and_must_be_good() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let (begin, rest) = good.split_at(30);
        assert_eq!(reply(begin.as_bytes().chain(rest.as_bytes())), Ok(()));
        for wrong in [
            begin,
            &good[..good.len() - 1],
            &good.replace("200", "500"),
            &good.replace("content-length", "other"),
        ] {
            assert!(reply(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn messages_differ_by_connection_and_round() {
        assert_ne!(message(0, 0), message(1, 0));
        assert_ne!(message(0, 0), message(0, 1));
    }
}
