//! The base: loops around epoll by hand, with nothing to spare, as one would write them for this server alone.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::epoll::{self, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::READ_BYTES;

/// What is sent for what was read.
pub(super) type Answer = for<'a> fn(&'a [u8]) -> &'a [u8];

const MOST_EVENTS: usize = 256;
const LISTENER: u64 = u64::MAX;
const NEWCOMERS: u64 = u64::MAX - 1;

/// How readiness is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// As long as it lasts; an event is one read and one write.
    Level,
    /// Once; an event is read until a short read says that there is no more.
    Edge,
}

/// Sends back what comes.
pub(super) fn echo(listener: TcpListener, trigger: Trigger, threads: usize) -> io::Result<()> {
    serve(listener, trigger, threads, |data| data)
}

/// Serves with one loop for each thread; the first accepts, and deals connections out in turn.
pub(super) fn serve(
    listener: TcpListener,
    trigger: Trigger,
    threads: usize,
    answer: Answer,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut doors = Vec::new();
    for index in 1..threads {
        let door = Arc::new(Door::new()?);
        doors.push(Arc::clone(&door));
        let others = Loop::new(trigger, answer)?;
        let builder = thread::Builder::new().name(format!("epoll{index}"));
        builder.spawn(move || {
            if let Err(error) = others.behind(&door) {
                eprintln!("epoll loop {index}: {error}");
                std::process::exit(1);
            }
        })?;
    }
    Loop::new(trigger, answer)?.in_front(&listener, &doors)
}

/// Where a loop without a listener is handed its connections.
struct Door {
    newcomers: Mutex<VecDeque<OwnedFd>>,
    bell: OwnedFd,
}

impl Door {
    fn new() -> io::Result<Self> {
        Ok(Self {
            newcomers: Mutex::default(),
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    fn enter(&self, stream: OwnedFd) -> io::Result<()> {
        let mut newcomers = self
            .newcomers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        newcomers.push_back(stream);
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn next(&self) -> Option<OwnedFd> {
        let mut newcomers = self
            .newcomers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        newcomers.pop_front()
    }
}

struct Loop {
    poll: OwnedFd,
    trigger: Trigger,
    answer: Answer,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// A connection, and what it could not send yet.
struct Connection {
    stream: OwnedFd,
    owed: Vec<u8>,
}

impl Loop {
    fn new(trigger: Trigger, answer: Answer) -> io::Result<Self> {
        Ok(Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            trigger,
            answer,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// The loop that accepts.
    fn in_front(mut self, listener: &TcpListener, doors: &[Arc<Door>]) -> io::Result<()> {
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&self.poll, listener, data, EventFlags::IN)?;
        let mut accepted = 0;
        self.run(|this| {
            while let Some((stream, _)) = unless_blocked(listener.accept())? {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                accepted += 1;
                match (accepted % (doors.len() + 1)).checked_sub(1) {
                    None => this.admit(stream.into())?,
                    Some(index) => doors[index].enter(stream.into())?,
                }
            }
            Ok(())
        })
    }

    /// A loop that is handed its connections.
    fn behind(mut self, door: &Door) -> io::Result<()> {
        let data = epoll::EventData::new_u64(NEWCOMERS);
        epoll::add(&self.poll, &door.bell, data, EventFlags::IN)?;
        self.run(|this| {
            let mut rings = [0; 8];
            rustix::io::read(&door.bell, &mut rings)?;
            while let Some(stream) = door.next() {
                this.admit(stream)?;
            }
            Ok(())
        })
    }

    fn run(&mut self, mut newcomers: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let mut events = Vec::with_capacity(MOST_EVENTS);
        loop {
            match epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER | NEWCOMERS => newcomers(self)?,
                    #[allow(clippy::cast_possible_truncation)] // it was an index
                    index => self.serve(index as usize, event.flags),
                }
            }
        }
    }

    fn admit(&mut self, stream: OwnedFd) -> io::Result<()> {
        let index = self.free.pop().unwrap_or(self.connections.len());
        if index == self.connections.len() {
            self.connections.push(None);
        }
        let flags = match self.trigger {
            Trigger::Level => EventFlags::IN,
            Trigger::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.poll, &stream, data, flags)?;
        self.connections[index] = Some(Connection {
            stream,
            owed: Vec::new(),
        });
        Ok(())
    }

    fn serve(&mut self, index: usize, flags: EventFlags) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let owed = !connection.owed.is_empty();
        // The end of the stream is told no second time, and may stand right behind a short read.
        let full = if flags.contains(EventFlags::RDHUP) {
            1
        } else {
            READ_BYTES
        };
        let mut turn = connection.turn(&mut self.buffer, full, self.answer);
        while self.trigger == Trigger::Edge && matches!(turn, Ok(Turn::Full)) {
            turn = connection.turn(&mut self.buffer, full, self.answer);
        }
        let owes = !connection.owed.is_empty();
        if turn.is_ok() && (owes == owed || self.trigger == Trigger::Edge) {
            return;
        }
        let flags = if owes {
            EventFlags::OUT
        } else {
            EventFlags::IN
        };
        let data = epoll::EventData::new_u64(index as u64);
        let changed = turn.and_then(|_| epoll::modify(&self.poll, &connection.stream, data, flags));
        if changed.is_err() {
            self.connections[index] = None; // and the descriptor closes
            self.free.push(index);
        }
    }
}

/// What came of a read and a write.
enum Turn {
    /// There may be more to read.
    Full,
    /// The next event is to be waited for.
    Done,
}

impl Connection {
    /// Reads and writes once; an error at the end of the stream.
    fn turn(&mut self, buffer: &mut [u8], full: usize, answer: Answer) -> Result<Turn, Errno> {
        if !self.owed.is_empty() {
            return self.settle();
        }
        let count = match rustix::io::read(&self.stream, &mut *buffer) {
            Ok(0) => return Err(Errno::PIPE),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Turn::Done),
            Err(error) => return Err(error),
        };
        let data = answer(&buffer[..count]);
        let sent = match send(&self.stream, data, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => 0,
            sent => sent?,
        };
        if sent < data.len() {
            self.owed = data[sent..].to_vec();
            return Ok(Turn::Done);
        }
        Ok(if count >= full {
            Turn::Full
        } else {
            Turn::Done
        })
    }

    /// Sends what is owed, and then there may be more to read.
    fn settle(&mut self) -> Result<Turn, Errno> {
        match send(&self.stream, &self.owed, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => return Ok(Turn::Done),
            sent => drop(self.owed.drain(..sent?)),
        }
        Ok(if self.owed.is_empty() {
            Turn::Full
        } else {
            Turn::Done
        })
    }
}

/// What it answers, unless it would have blocked.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}
