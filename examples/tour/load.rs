//! The client of the tour (`cargo run --release --example tour`): one thread that drives every connection in a
//! closed loop (one request under way on each), verifies every byte that comes back, and reads the clocks.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::histogram::Histogram;
use crate::ready::Readiness;

/// A connection on which nothing moves for this long has lost its reply.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);
/// How often the clocks and the watchdog are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(20);

/// What the client does to one server.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    /// Driven and verified, but not in the figures.
    pub(crate) warm_up: Duration,
    /// What the figures are about.
    pub(crate) measured: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Latencies of the requests answered in the measured interval.
    pub(crate) latencies: Histogram,
    pub(crate) elapsed: Duration,
    /// CPU of the whole process less that of this thread, in the measured interval.
    pub(crate) server_cpu: Duration,
    /// Replies, warm-up included, that were not their request.
    pub(crate) mismatches: u64,
    pub(crate) first_mismatch: Option<String>,
}

/// Drives the server at `address` as planned. `progress` is told, now and then, how long this has gone on.
///
/// An error says which reply was lost, or what else kept the plan from being carried out.
pub(crate) fn drive(
    address: SocketAddr,
    plan: Plan,
    mut progress: impl FnMut(Duration),
) -> Result<Outcome, String> {
    let mut readiness = Readiness::new().map_err(|e| format!("cannot wait for sockets: {e}"))?;
    let mut connections = connect(address, plan, &readiness)?;
    let mut tally = Tally::new();
    let mut ready = Vec::new();
    let started = Instant::now();
    for connection in &mut connections {
        connection.begin(started)?;
    }
    let (mut phase, mut ticked) = (Phase::WarmUp, started);
    while phase != Phase::Drain || connections.iter().any(|connection| connection.busy) {
        readiness
            .wait(connections.iter().map(Connection::socket), TICK, &mut ready)
            .map_err(|e| format!("cannot wait for sockets: {e}"))?;
        for &index in &ready {
            connections[index].advance(&mut tally, phase != Phase::Drain)?;
        }
        let now = Instant::now();
        if phase == Phase::WarmUp && now - started >= plan.warm_up {
            phase = Phase::Measured;
            tally.begin_interval(now);
        } else if phase == Phase::Measured && now - tally.interval_began >= plan.measured {
            phase = Phase::Drain;
            tally.end_interval(now);
        }
        if now - ticked >= TICK {
            ticked = now;
            progress(now - started);
            connections
                .iter()
                .try_for_each(|connection| connection.check_alive(now))?;
        }
    }
    close(connections, &mut tally)?;
    Ok(tally.outcome)
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Measured,
    /// No new request; those under way are waited for.
    Drain,
}

fn connect(
    address: SocketAddr,
    plan: Plan,
    readiness: &Readiness,
) -> Result<Vec<Connection>, String> {
    let mut connections = Vec::with_capacity(plan.connections);
    for index in 0..plan.connections {
        let open = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, LOST_AFTER)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            readiness.add(index, &stream)?;
            Ok(stream)
        };
        let stream = open().map_err(|e| format!("connection {index}: cannot connect: {e}"))?;
        connections.push(Connection::new(index, stream, plan.message_bytes));
    }
    Ok(connections)
}

/// Half-closes every connection and expects its end, and not a byte more.
fn close(connections: Vec<Connection>, tally: &mut Tally) -> Result<(), String> {
    for connection in &connections {
        // An error means that the peer is gone already: the read below says so.
        let _ = connection.stream.shutdown(Shutdown::Write);
    }
    for mut connection in connections {
        let mut end = || -> io::Result<usize> {
            connection.stream.set_nonblocking(false)?;
            connection.stream.set_read_timeout(Some(LOST_AFTER))?;
            connection.stream.read(&mut connection.reply)
        };
        let index = connection.index;
        match end() {
            Ok(0) => {}
            Ok(surplus) => {
                tally.mismatch(|| {
                    format!("connection {index}: {surplus} bytes came that were never sent")
                });
            }
            Err(e) => {
                let why = match e.kind() {
                    io::ErrorKind::WouldBlock => {
                        format!("nothing came for {} s", LOST_AFTER.as_secs())
                    }
                    _ => e.to_string(),
                };
                return Err(format!(
                    "connection {index}: no end of file after our half-close: {why}"
                ));
            }
        }
    }
    Ok(())
}

/// One client connection and its request under way.
struct Connection {
    index: usize,
    stream: TcpStream,
    /// The number of the request; with the connection's it makes the content.
    sequence: u64,
    request: Vec<u8>,
    reply: Vec<u8>,
    sent: usize,
    received: usize,
    busy: bool,
    began: Instant,
    /// When a byte last moved.
    moved: Instant,
}

impl Connection {
    fn new(index: usize, stream: TcpStream, message_bytes: usize) -> Self {
        let now = Instant::now();
        Self {
            index,
            stream,
            sequence: 0,
            request: vec![0; message_bytes],
            reply: vec![0; message_bytes],
            sent: 0,
            received: 0,
            busy: false,
            began: now,
            moved: now,
        }
    }

    /// What is waited for: the socket, and whether for room to send.
    fn socket(&self) -> (&TcpStream, bool) {
        (&self.stream, self.sent < self.request.len())
    }

    /// Sends the next request, as far as there is room.
    fn begin(&mut self, now: Instant) -> Result<(), String> {
        self.sequence += 1;
        fill(&mut self.request, self.index, self.sequence);
        (self.sent, self.received, self.busy) = (0, 0, true);
        (self.began, self.moved) = (now, now);
        self.send()
    }

    /// Goes on after an event; after a whole reply with the next request, if there is to be one.
    fn advance(&mut self, tally: &mut Tally, again: bool) -> Result<(), String> {
        if !self.busy {
            return Ok(()); // what this event is about is found when the connection is closed
        }
        self.send()?;
        if !self.receive()? {
            return Ok(());
        }
        self.busy = false;
        tally.record(self.moved - self.began);
        if self.reply != self.request {
            tally.mismatch(|| self.describe_mismatch());
        }
        if again {
            self.begin(self.moved)
        } else {
            Ok(())
        }
    }

    fn send(&mut self) -> Result<(), String> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.moved = Instant::now();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&format!("cannot send: {e}"))),
            }
        }
        Ok(())
    }

    /// Whether the reply is whole.
    fn receive(&mut self) -> Result<bool, String> {
        while self.received < self.reply.len() {
            match self.stream.read(&mut self.reply[self.received..]) {
                Ok(0) => return Err(self.lost("the server closed the connection")),
                Ok(count) => {
                    self.received += count;
                    self.moved = Instant::now();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&format!("cannot receive: {e}"))),
            }
        }
        Ok(true)
    }

    fn check_alive(&self, now: Instant) -> Result<(), String> {
        if self.busy && now.saturating_duration_since(self.moved) >= LOST_AFTER {
            return Err(self.lost(&format!("nothing came for {} s", LOST_AFTER.as_secs())));
        }
        Ok(())
    }

    fn lost(&self, why: &str) -> String {
        let Self {
            index,
            sequence,
            received,
            ..
        } = self;
        let size = self.reply.len();
        format!(
            "connection {index}: lost the reply to request {sequence} ({received} of {size} bytes came): {why}"
        )
    }

    fn describe_mismatch(&self) -> String {
        let differs = |(sent, got): (&u8, &u8)| sent != got;
        let at = self
            .request
            .iter()
            .zip(&self.reply)
            .position(differs)
            .unwrap_or_default();
        let Self {
            index, sequence, ..
        } = self;
        let (sent, got) = (self.request[at], self.reply[at]);
        format!(
            "connection {index}: request {sequence}: byte {at} was sent as {sent:#04x} and came back as {got:#04x}"
        )
    }
}

/// Content that no other connection and no other request has: `SplitMix64` of the two numbers.
fn fill(message: &mut [u8], connection: usize, sequence: u64) {
    let mut state = sequence ^ (connection as u64 + 1).rotate_right(16);
    for chunk in message.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}

/// The figures while they are gathered.
struct Tally {
    outcome: Outcome,
    interval_began: Instant,
    interval_over: bool,
    server_cpu_then: Duration,
}

impl Tally {
    fn new() -> Self {
        let outcome = Outcome {
            latencies: Histogram::new(),
            elapsed: Duration::ZERO,
            server_cpu: Duration::ZERO,
            mismatches: 0,
            first_mismatch: None,
        };
        Self {
            outcome,
            interval_began: Instant::now(),
            interval_over: false,
            server_cpu_then: Duration::ZERO,
        }
    }

    fn begin_interval(&mut self, now: Instant) {
        self.outcome.latencies = Histogram::new();
        self.interval_began = now;
        self.server_cpu_then = server_cpu();
    }

    fn end_interval(&mut self, now: Instant) {
        self.outcome.elapsed = now - self.interval_began;
        self.outcome.server_cpu = server_cpu().saturating_sub(self.server_cpu_then);
        self.interval_over = true;
    }

    fn record(&mut self, latency: Duration) {
        if !self.interval_over {
            self.outcome.latencies.record(latency);
        }
    }

    fn mismatch(&mut self, describe: impl FnOnce() -> String) {
        self.outcome.mismatches += 1;
        self.outcome.first_mismatch.get_or_insert_with(describe);
    }
}

/// CPU time of every thread of this process but the calling one, which is the client.
fn server_cpu() -> Duration {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    read(ClockId::ProcessCPUTime).saturating_sub(read(ClockId::ThreadCPUTime))
}
