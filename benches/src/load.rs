//! Clients of an echo server, on one thread, that look at every byte that comes back.
//!
//! What a connection sends is one endless sequence, known beforehand: so nothing is copied to be sent, and what comes back is
//! compared where it stands. Its period is a prime, so that no two messages in a row are alike, and each connection begins at
//! a place of its own, so that an answer to another one is noticed.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const PERIOD: usize = 65_521;
const MOST_EVENTS: usize = 256;
const READ_BYTES: usize = 1 << 16;
/// A loopback address has some 28,000 ports for those who ask for any.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;
const STALLED_SECONDS: u8 = 10;

/// How many connections there are, and what each sends at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Connections, all of them open from the beginning.
    pub connections: usize,
    /// The size of a message.
    pub message_bytes: usize,
    /// Messages that a connection sends at once, before it waits for all of them.
    pub pipeline: usize,
}

/// Connected clients.
#[derive(Debug)]
pub struct Clients {
    poll: OwnedFd,
    connections: Vec<Connection>,
    sequence: Sequence,
    shape: Shape,
    buffer: Vec<u8>,
}

impl Clients {
    /// Connects them one by one, each with a message there and back, so that the server knows them all.
    ///
    /// # Errors
    ///
    /// If one cannot connect, or is not answered with what it sent.
    pub fn connect(server: SocketAddr, shape: Shape) -> io::Result<Self> {
        let burst_bytes = shape.message_bytes * shape.pipeline;
        let mut clients = Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(shape.connections),
            sequence: Sequence::new(burst_bytes.max(READ_BYTES)),
            shape,
            buffer: vec![0; READ_BYTES],
        };
        for index in 0..shape.connections {
            let stream = dial(server, index)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(STALLED_SECONDS.into())))?;
            let mut connection = Connection::new(stream, index);
            connection.greet(&clients.sequence, shape.message_bytes, &mut clients.buffer)?;
            connection.stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(
                &clients.poll,
                &connection.stream,
                data,
                epoll::EventFlags::IN,
            )?;
            clients.connections.push(connection);
        }
        Ok(clients)
    }

    /// Sends and receives on every connection for that time, and then until nothing is under way. Answers how many messages
    /// came back.
    ///
    /// # Errors
    ///
    /// If a byte is not what was sent, a connection is lost, or ten seconds pass without an answer.
    pub fn run(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        let burst_bytes = (self.shape.message_bytes * self.shape.pipeline) as u64;
        let mut bursts = 0;
        let mut busy = self.connections.len();
        for connection in &mut self.connections {
            connection.goal += burst_bytes;
            connection.send(&self.sequence)?;
        }
        let mut events = Vec::with_capacity(MOST_EVENTS);
        while busy > 0 {
            self.wait(&mut events, busy)?;
            let goes_on = Instant::now() < end;
            for event in events.drain(..) {
                #[allow(clippy::cast_possible_truncation)] // it was an index
                let connection = &mut self.connections[event.data.u64() as usize];
                if !connection.receive(&self.sequence, &mut self.buffer)? {
                    continue;
                }
                bursts += 1;
                if goes_on {
                    connection.goal += burst_bytes;
                    connection.send(&self.sequence)?;
                } else {
                    busy -= 1;
                }
            }
        }
        Ok(bursts * self.shape.pipeline as u64)
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, busy: usize) -> io::Result<()> {
        let patience = Timespec {
            tv_sec: STALLED_SECONDS.into(),
            tv_nsec: 0,
        };
        loop {
            match epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(events),
                Some(&patience),
            ) {
                Ok(0) => {
                    let text = format!(
                        "{busy} connections wait for an answer, for {STALLED_SECONDS} s now"
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Connects, from a loopback address of its own for each so many, where the server is on one.
fn dial(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let failed = |error: rustix::io::Errno| {
        let text = format!("connection {index} to {server}: {error}");
        io::Error::new(error.kind(), text)
    };
    let SocketAddr::V4(v4) = server else {
        return TcpStream::connect(server);
    };
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).map_err(failed)?;
    let beyond = u8::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
    if beyond > 0 && v4.ip().is_loopback() {
        let from = Ipv4Addr::new(127, 0, beyond, 1);
        bind(&socket, &SocketAddr::from((from, 0))).map_err(failed)?;
    }
    connect(&socket, &server).map_err(failed)?;
    Ok(socket.into())
}

/// What every connection sends, each from another place.
#[derive(Debug)]
struct Sequence(Vec<u8>);

impl Sequence {
    /// From which pieces of that many bytes can be had at any place.
    fn new(most_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64; // a fixed seed: every run sends the same
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let mut bytes = Vec::from_iter((0..PERIOD).map(|_| random()));
        for index in 0..most_bytes {
            bytes.push(bytes[index]);
        }
        Self(bytes)
    }

    /// That many bytes of a connection's stream from `position` on.
    fn piece(&self, position: u64, bytes: usize) -> &[u8] {
        #[allow(clippy::cast_possible_truncation)] // less than the period
        let start = (position % PERIOD as u64) as usize;
        &self.0[start..start + bytes]
    }
}

/// One connection; its positions are in its stream.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    index: usize,
    received: u64,
    sent: u64,
    goal: u64,
}

impl Connection {
    fn new(stream: TcpStream, index: usize) -> Self {
        let start = index as u64 * 7919 % PERIOD as u64;
        Self {
            stream,
            index,
            received: start,
            sent: start,
            goal: start,
        }
    }

    /// One message there and back, blocking.
    fn greet(&mut self, sequence: &Sequence, bytes: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.goal += bytes as u64;
        self.send(sequence)?;
        while !self.receive(sequence, buffer)? {}
        Ok(())
    }

    /// Sends up to the goal. What the socket has no room for follows the answers that are still to come.
    fn send(&mut self, sequence: &Sequence) -> io::Result<()> {
        while self.sent < self.goal {
            #[allow(clippy::cast_possible_truncation)] // at most a burst
            let piece = sequence.piece(self.sent, (self.goal - self.sent) as usize);
            match self.stream.write(piece) {
                Ok(sent) => self.sent += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }

    /// Receives what has come, and compares it. Answers whether all that was to be sent has come back.
    fn receive(&mut self, sequence: &Sequence, buffer: &mut [u8]) -> io::Result<bool> {
        let received = match self.stream.read(buffer) {
            Ok(0) => return Err(self.lost(&"the server closed it")),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(self.lost(&error)),
        };
        let got = &buffer[..received];
        let due = self.sent - self.received;
        if due < received as u64 || got != sequence.piece(self.received, received) {
            return Err(self.mismatch(sequence, got));
        }
        self.received += received as u64;
        self.send(sequence)?;
        Ok(self.received == self.goal)
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> io::Error {
        let Self {
            index,
            received,
            goal,
            ..
        } = self;
        let text = format!(
            "connection {index} is lost, {} bytes still to come: {why}",
            goal - received
        );
        io::Error::other(text)
    }

    fn mismatch(&self, sequence: &Sequence, got: &[u8]) -> io::Error {
        let index = self.index;
        let expected = sequence.piece(self.received, got.len());
        let place = got.iter().zip(expected).position(|(got, sent)| got != sent);
        let text = match place {
            Some(at) => format!(
                "connection {index}: {:#04x} was sent and {:#04x} came back, {at} bytes into an answer",
                expected[at], got[at]
            ),
            None => format!("connection {index}: more came back than was sent"),
        };
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const SHAPE: Shape = Shape {
        connections: 3,
        message_bytes: 64,
        pipeline: 2,
    };

    /// A server that sends back what `mangle` makes of each read, by number; an empty answer closes.
    fn server(mangle: fn(u32, &mut Vec<u8>)) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(SHAPE.connections) {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    for number in 0.. {
                        let count = stream.read(&mut buffer).unwrap_or(0);
                        let mut answer = buffer[..count].to_vec();
                        mangle(number, &mut answer);
                        if answer.is_empty() || stream.write_all(&answer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    fn run(mangle: fn(u32, &mut Vec<u8>)) -> io::Result<u64> {
        Clients::connect(server(mangle), SHAPE)?.run(Duration::from_millis(20))
    }

    #[test]
    fn many_connections_come_from_several_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (index, from) in [
            (19_999, "127.0.0.1"),
            (20_000, "127.0.1.1"),
            (40_000, "127.0.2.1"),
        ] {
            let stream = dial(address, index).unwrap();
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), from);
        }
    }

    #[test]
    fn an_honest_server_passes() {
        let messages = run(|_, _| ()).unwrap();
        assert!(messages >= 6 && messages % 2 == 0, "{messages}");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let error = run(|number, answer| {
            if number == 5 {
                answer[1] ^= 1;
            }
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("was sent and"), "{text}");
    }

    #[test]
    fn a_byte_too_many_is_noticed() {
        let error = run(|number, answer| {
            if number == 5 {
                answer.push(answer[0]);
            }
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_closed_connection_is_noticed() {
        let error = run(|number, answer| {
            if number == 5 {
                answer.clear();
            }
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("is lost"), "{text}");
    }
}
