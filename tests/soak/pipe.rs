//! A connection, with bytes on their way in both directions: written and read in all the ways that there are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use proactor::net::{Reply, TcpStream};
use proactor::{Error, ErrorKind, PooledBuf};

use super::{Duty, World, locked};
use crate::common::std_pair;

/// How many bytes go each way.
const LENGTH: usize = 150_000;

pub(super) struct Pipe {
    ends: [TcpStream; 2],
    is_closed: AtomicBool,
    /// How far the readers of both ends have come.
    read: [AtomicUsize; 2],
}

/// The byte at a place of what goes to an end.
fn byte(end: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 7) ^ end).to_le_bytes()[0]
}

/// That these bytes are those from `at` on.
fn check(end: usize, at: usize, bytes: &[u8]) {
    for (at, &got) in (at..).zip(bytes) {
        assert_eq!(got, byte(end, at), "byte {at} is another");
    }
}

impl Pipe {
    /// Opens one, and has four loops go on with it.
    pub(super) fn open(world: &Arc<World>) -> Arc<Self> {
        let (one, other) = std_pair();
        let over = |socket| TcpStream::from_std(&world.port, socket).expect("an open port");
        let pipe = Arc::new(Self {
            ends: [over(one), over(other)],
            is_closed: AtomicBool::new(false),
            read: Default::default(),
        });
        for end in [0, 1] {
            let way = || Way {
                world: Arc::clone(world),
                pipe: Arc::clone(&pipe),
                end,
                at: 0,
            };
            way().write(world.duty());
            way().read(world.duty());
        }
        pipe
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.ends[0].close();
    }

    /// Nothing goes on any more: all has arrived, unless it was closed.
    pub(super) fn check(&self) {
        if !self.is_closed.load(Ordering::SeqCst) {
            let read = self.read.each_ref().map(|read| read.load(Ordering::SeqCst));
            assert_eq!(read, [LENGTH; 2], "bytes were lost");
        }
    }
}

/// A loop of one end: writing, or reading.
struct Way {
    world: Arc<World>,
    pipe: Arc<Pipe>,
    end: usize,
    at: usize,
}

/// Why an operation came to nothing, or to a part.
struct Failed {
    kind: ErrorKind,
    transferred: usize,
}

impl Failed {
    const GIVEN_UP: Self = Self {
        kind: ErrorKind::Cancelled,
        transferred: 0,
    };
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            transferred: error.transferred(),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(_) => Self {
                kind: ErrorKind::Os,
                transferred: 0,
            },
        }
    }
}

type Outcome = Result<usize, Failed>;

/// How many bytes have moved.
fn moved(outcome: &Outcome) -> usize {
    match outcome {
        Ok(count) => *count,
        Err(failed) => failed.transferred,
    }
}

impl Way {
    fn stream(&self) -> &TcpStream {
        &self.pipe.ends[self.end]
    }

    /// Whether what ended so is the last of its loop.
    fn is_over(&self, failed: &Failed) -> bool {
        let is_closed = self.pipe.is_closed.load(Ordering::SeqCst);
        let goes_on = [
            ErrorKind::Cancelled,
            ErrorKind::TimedOut,
            ErrorKind::UnexpectedEof,
        ];
        let kind = failed.kind;
        assert!(is_closed || goes_on.contains(&kind), "{kind:?}");
        is_closed
    }

    fn write(self, duty: Duty) {
        if self.at == LENGTH {
            let shutdown = self.stream().shutdown(std::net::Shutdown::Write);
            shutdown.then(move |_ended| duty.end());
            return;
        }
        let len = self.world.random(1, 9000).min(LENGTH - self.at);
        let bytes = Vec::from_iter((self.at..self.at + len).map(|at| byte(1 - self.end, at)));
        let stream = self.stream();
        match self.world.random(0, 3) {
            0 => self.write_awaited(bytes, duty),
            1 => {
                let writing = endangered!(self.world, stream.write(bytes));
                writing.then(move |(result, _)| self.written(result.map_err(Failed::from), duty));
            }
            _ => {
                let writing = endangered!(self.world, stream.write_all(bytes));
                writing.then(move |(result, _)| self.written(result.map_err(Failed::from), duty));
            }
        }
    }

    fn write_awaited(self, bytes: Vec<u8>, duty: Duty) {
        let port = self.world.port.clone();
        let task = port.spawn(async move {
            let result = match self.world.rarely(2) {
                true => self.stream().write(bytes).await.0.map_err(Failed::from),
                false => {
                    let written = AsyncWriteExt::write(&mut self.stream(), &bytes).await;
                    written.map_err(Failed::from)
                }
            };
            self.written(result, duty);
        });
        task.detach();
    }

    fn written(mut self, outcome: Outcome, duty: Duty) {
        self.at += moved(&outcome);
        let goes_on = outcome.map_or_else(|failed| !self.is_over(&failed), |_| true);
        if goes_on {
            let next = self.world.duty();
            self.write(next);
        }
        duty.end();
    }

    fn read(self, duty: Duty) {
        let len = self.world.random(1, 6000);
        let buf = Vec::with_capacity(len);
        let stream = self.stream();
        match self.world.random(0, 6) {
            6 => self.read_by_turns(duty),
            0 => {
                let reading = endangered!(self.world, stream.read_exact(buf));
                reading.then(move |(result, buf)| {
                    self.received(result.map_err(Failed::from), &buf, duty);
                });
            }
            1 => {
                let reading = endangered!(self.world, stream.recv_with(&self.world.pool));
                reading.then(move |received| match received {
                    Ok(buf) => self.received(Ok(buf.len()), &buf, duty),
                    Err(error) => self.received(Err(error.into()), &[], duty),
                });
            }
            2 => {
                let reading = stream.read(buf).on(self.world.strand());
                reading.then(move |_alone, (result, buf)| {
                    self.received(result.map_err(Failed::from), &buf, duty);
                });
            }
            3..=4 => self.read_awaited(buf, duty),
            _ => {
                let reading = endangered!(self.world, stream.read(buf));
                reading.then(move |(result, buf)| {
                    self.received(result.map_err(Failed::from), &buf, duty);
                });
            }
        }
    }

    /// A few in a row, by one operation.
    fn read_by_turns(mut self, duty: Duty) {
        let (pipe, end, mut at) = (Arc::clone(&self.pipe), self.end, self.at);
        let mut left = self.world.random(1, 6);
        let each = move |bytes: PooledBuf| -> Reply<PooledBuf> {
            check(end, at, &bytes);
            at += bytes.len();
            pipe.read[end].store(at, Ordering::SeqCst);
            left -= 1;
            match left {
                0 => Reply::End,
                _ => Reply::Nothing,
            }
        };
        let reading = self.stream().reply_each(&self.world.pool, each);
        let reading = endangered!(self.world, reading);
        reading.then(move |(result, unsent)| {
            assert!(unsent.is_none());
            self.at = self.pipe.read[self.end].load(Ordering::SeqCst);
            let goes_on = result.map_or_else(|error| !self.is_over(&error.into()), |()| true);
            self.go_on(goes_on, duty);
        });
    }

    /// As a future, which may be dropped half-way: what it has then goes to the next.
    fn read_awaited(self, buf: Vec<u8>, duty: Duty) {
        let port = self.world.port.clone();
        let task = port.spawn(async move {
            let patience = self.world.moment();
            let given_up = async {
                let _ended = self.world.port.sleep(patience).await;
            };
            let (outcome, buf) = match self.world.rarely(2) {
                true => {
                    let reading = async {
                        let (result, buf) = self.stream().read(buf).await;
                        (result.map_err(Failed::from), buf)
                    };
                    let given_up = async {
                        given_up.await;
                        (Err(Failed::GIVEN_UP), Vec::new())
                    };
                    future::or(reading, given_up).await
                }
                false => {
                    let mut buf = vec![0; buf.capacity()];
                    let reading = async {
                        let read = AsyncReadExt::read(&mut self.stream(), &mut buf).await;
                        read.map_err(Failed::from)
                    };
                    let given_up = async {
                        given_up.await;
                        Err(Failed::GIVEN_UP)
                    };
                    let outcome = future::or(reading, given_up).await;
                    buf.truncate(moved(&outcome));
                    (outcome, buf)
                }
            };
            self.received(outcome, &buf, duty);
        });
        task.detach();
    }

    fn received(mut self, outcome: Outcome, bytes: &[u8], duty: Duty) {
        let count = moved(&outcome);
        assert_eq!(count, bytes.len(), "what it says, and what it has");
        check(self.end, self.at, bytes);
        self.at += count;
        self.pipe.read[self.end].store(self.at, Ordering::SeqCst);
        let goes_on = match &outcome {
            Ok(count) => *count > 0,
            Err(failed) => !self.is_over(failed),
        };
        self.go_on(goes_on, duty);
    }

    fn go_on(self, goes_on: bool, duty: Duty) {
        if goes_on {
            let next = self.world.duty();
            self.read(next);
        }
        duty.end();
    }
}
