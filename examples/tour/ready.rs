//! How the tour's client (`cargo run --release --example tour`) waits for its sockets: edge-triggered epoll on
//! Linux, `poll` elsewhere and under `--cfg polling_test_poll_backend`. Both are asked and answer in the same way:
//! `wait` is given every socket, in the order of its index, and whether it has bytes to send that found no room.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::Timespec;

pub(crate) use imp::Readiness;

fn timespec(timeout: Duration) -> Timespec {
    timeout
        .try_into()
        .expect("a timeout of a client, not of centuries")
}

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod imp {
    use super::{Duration, TcpStream, io, timespec};
    use rustix::buffer::spare_capacity;
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    use std::os::fd::OwnedFd;

    /// An epoll instance; each socket is registered once, for edges in both directions.
    pub(crate) struct Readiness {
        epoll: OwnedFd,
        events: Vec<epoll::Event>,
    }

    impl Readiness {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                epoll: epoll::create(CreateFlags::CLOEXEC)?,
                events: Vec::with_capacity(256),
            })
        }

        /// Makes the socket known as `index`.
        pub(crate) fn add(&self, index: usize, stream: &TcpStream) -> io::Result<()> {
            let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let index = EventData::new_u64(index as u64);
            Ok(epoll::add(&self.epoll, stream, index, edges)?)
        }

        /// Waits, at most for `timeout`, and fills `ready` with the indices of the sockets that can go on.
        pub(crate) fn wait<'a>(
            &mut self,
            _sockets: impl Iterator<Item = (&'a TcpStream, bool)>,
            timeout: Duration,
            ready: &mut Vec<usize>,
        ) -> io::Result<()> {
            ready.clear();
            self.events.clear();
            let timeout = timespec(timeout);
            match epoll::wait(
                &self.epoll,
                spare_capacity(&mut self.events),
                Some(&timeout),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &self.events {
                ready.push(
                    usize::try_from(event.data.u64()).expect("an index that add() was given"),
                );
            }
            Ok(())
        }
    }
}

#[cfg(not(all(target_os = "linux", not(polling_test_poll_backend))))]
mod imp {
    use super::{Duration, TcpStream, io, timespec};
    use rustix::event::{PollFd, PollFlags, poll};

    /// Nothing is kept from one wait to the next.
    pub(crate) struct Readiness;

    impl Readiness {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Makes the socket known as `index`.
        pub(crate) fn add(&self, _index: usize, _stream: &TcpStream) -> io::Result<()> {
            Ok(())
        }

        /// Waits, at most for `timeout`, and fills `ready` with the indices of the sockets that can go on.
        pub(crate) fn wait<'a>(
            &mut self,
            sockets: impl Iterator<Item = (&'a TcpStream, bool)>,
            timeout: Duration,
            ready: &mut Vec<usize>,
        ) -> io::Result<()> {
            ready.clear();
            let mut waited: Vec<PollFd<'_>> = sockets
                .map(|(stream, write)| {
                    let room = if write {
                        PollFlags::OUT
                    } else {
                        PollFlags::empty()
                    };
                    PollFd::new(stream, PollFlags::IN | room)
                })
                .collect();
            match poll(&mut waited, Some(&timespec(timeout))) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (index, socket) in waited.iter().enumerate() {
                if !socket.revents().is_empty() {
                    ready.push(index);
                }
            }
            Ok(())
        }
    }
}
