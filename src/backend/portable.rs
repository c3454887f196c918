//! Everything that `polling` knows, through its own interface: edge-triggered where it can, oneshot where not.
//!
//! `polling` lets one thread wait, so there is one seat. It never asks for a hang-up of the peer's writing side, so a
//! short read says nothing about what follows, and each read goes on to `WouldBlock`.
#![allow(unsafe_code)] // `polling`'s registrations outlive the borrow of their source

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "64-bit systems only: nobody has tried another width of `polling`'s keys and of the port's words"
);

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use polling::{Event, PollMode, Poller};

use super::alarm::Alarm;
use super::registry::Tag;
use super::{Demux, Events, Ready, Sink, Woken};
use crate::operation::perform::Fd;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Portable {
    poller: Poller,
    edge: bool,
    alarm: Alarm,
    #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
    outside: super::outside::Outside,
}

/// How often a wait that says would-block is made again. `polling`'s `poll` backend says so when it looks between the two
/// steps of a notification; it then believes itself notified, and ignores every later notification, until a wait succeeds.
const RETRIES: usize = 8;

impl Portable {
    pub(crate) fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        Ok(Self {
            edge: poller.supports_edge(),
            poller,
            alarm: Alarm::new(),
            #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
            outside: super::outside::Outside::default(),
        })
    }
}

impl Demux for Portable {
    fn seats(&self) -> usize {
        1
    }

    fn edge(&self) -> bool {
        self.edge
    }

    fn short_read_drains(&self) -> bool {
        false
    }

    fn arm(&self, fd: &Fd, tag: Tag, read: bool, write: bool, again: bool) -> io::Result<()> {
        let (event, mode) = if self.edge {
            (Event::new(tag.bits(), true, true), PollMode::Edge)
        } else {
            (Event::new(tag.bits(), read, write), PollMode::Oneshot)
        };
        if again {
            return self.poller.modify_with_mode(fd, event, mode);
        }
        // SAFETY: `disarm` is called before the descriptor is closed (`Readiness::give_share`).
        unsafe { self.poller.add_with_mode(fd, event, mode) }
    }

    fn disarm(&self, fd: &Fd) {
        // Fails only if the descriptor is not registered, which is what is wanted.
        let _ = self.poller.delete(fd);
    }

    fn prepare(&self, events: &mut Events) {
        events.portable.get_or_insert_with(polling::Events::new);
    }

    fn wait(
        &self,
        events: &mut Events,
        deadline: Option<Instant>,
        sink: &mut impl Sink,
    ) -> io::Result<Woken> {
        let until = self.alarm.sleep(deadline);
        let now = self.alarm.nanos(Instant::now());
        let timeout =
            (until != Alarm::NEVER).then(|| Duration::from_nanos(until.saturating_sub(now)));
        let room = events.portable.get_or_insert_with(polling::Events::new);
        room.clear();
        let mut waited = self.poller.wait(room, timeout);
        for _ in 0..RETRIES {
            match &waited {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
            room.clear();
            waited = self.poller.wait(room, Some(Duration::ZERO));
        }
        self.alarm.wake();
        match waited {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Woken::NOTIFIED);
            }
            Err(error) => return Err(error),
        }
        for event in room.iter() {
            let hang_up = event.is_interrupt() || event.is_err() == Some(true);
            let ready = Ready {
                read: event.readable || event.is_priority() || hang_up,
                write: event.writable || hang_up,
                hang_up,
            };
            // SAFETY: all that the poller reports is from `arm`, and entries outlive it. What foreign loops are given is another one.
            sink.ready(unsafe { Tag::from_bits(event.key) }, ready);
        }
        // `polling` does not tell that it was notified: an empty wait may have been.
        let timer = self.alarm.is_over(self.alarm.nanos(Instant::now()));
        Ok(Woken::NOTIFIED.also(Woken::TIMER, timer))
    }

    fn notify(&self) {
        // Fails only if the poller is gone.
        let _ = self.poller.notify();
    }

    fn set_timer(&self, at: Option<Instant>) {
        if self.alarm.set(at) {
            self.notify();
        }
    }

    #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        // Its timer is not in the descriptor: a foreign loop asks `next_deadline`.
        self.outside.of(&self.poller)
    }

    #[cfg(not(all(target_os = "linux", not(polling_test_poll_backend))))]
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
