//! The Linux fast path: `polling`'s epoll instance, waited on directly.
//!
//! `polling::Poller` owns the epoll descriptor; its `wait` is five system calls each time, so the port makes the one
//! that matters itself. Registrations are edge-triggered, in both directions, with `EPOLLRDHUP`, made once, at the first
//! operation that would block. Waking is an edge-triggered eventfd of our own, written and never read; the nearest
//! timer is an edge-triggered timerfd, so that no wait needs a timeout, an earlier deadline needs no
//! wake-up, and the kernel wakes just one of the threads that sit. (Measured: `docs/decisions.md`.)
#![allow(unsafe_code)] // what comes back from the kernel is a tag of ours

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::outside::Outside;
use super::registry::Tag;
use super::{Demux, Events, Ready, Sink, Woken};
use crate::operation::perform::Fd;

/// What the bell and the timer are known by, which is no tag's.
const NOTIFY: u64 = 0;
const TIMER: u64 = 1;
/// Below it, and as near to the end of all numbers, are no tags.
const OWN: u64 = Tag::OWN as u64;
const _: () = assert!(TIMER < OWN);

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Epoll {
    poller: polling::Poller,
    /// The poller's own descriptor, of which it need not be asked at each wait.
    epoll: BorrowedFd<'static>,
    bell: OwnedFd,
    timer: OwnedFd,
    outside: Outside,
    /// How many threads may sit. With two the kernel wakes one of them for an event, and the other goes on listening while
    /// that one runs its handler.
    seats: NonZeroUsize,
}

impl Epoll {
    pub(crate) fn new(seats: NonZeroUsize) -> io::Result<Self> {
        let poller = polling::Poller::new()?;
        // SAFETY: the poller stands beside it, and is never exchanged for another.
        let epoll = unsafe { BorrowedFd::borrow_raw(poller.as_raw_fd()) };
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let own = Self {
            poller,
            epoll,
            bell,
            timer,
            outside: Outside::default(),
            seats,
        };
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let known_by = epoll::EventData::new_u64;
        epoll::add(own.epoll, &own.bell, known_by(NOTIFY), flags)?;
        epoll::add(own.epoll, &own.timer, known_by(TIMER), flags)?;
        // A sandbox that does not know this call says so now.
        let now = Timespec::default();
        let mut none = Vec::with_capacity(1);
        epoll::wait(
            own.epoll,
            rustix::buffer::spare_capacity(&mut none),
            Some(&now),
        )?;
        Ok(own)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cold]
fn failed(errno: Errno) -> io::Result<Woken> {
    match errno {
        Errno::INTR => Ok(Woken::default()),
        errno => Err(errno.into()),
    }
}

impl Epoll {
    /// Who has not said that it will wait has no room yet.
    #[cold]
    fn prepare_now(&self, events: &mut Events) {
        self.prepare(events);
    }

    #[inline(never)]
    fn wait_until(&self, room: &mut [epoll::Event], at: Instant) -> rustix::io::Result<usize> {
        let timeout = timespec(at.saturating_duration_since(Instant::now()));
        epoll::wait(self.epoll, room, Some(&timeout))
    }
}

impl Demux for Epoll {
    fn seats(&self) -> usize {
        self.seats.get()
    }

    fn edge(&self) -> bool {
        true
    }

    fn short_read_drains(&self) -> bool {
        true
    }

    fn arm(&self, fd: &Fd, tag: Tag, _read: bool, _write: bool, _again: bool) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::PRI | Flags::ET;
        let data = epoll::EventData::new_u64(tag.bits() as u64);
        Ok(epoll::add(self.epoll, fd, data, flags)?)
    }

    fn disarm(&self, fd: &Fd) {
        // Fails only if the descriptor is not registered, which is what is wanted.
        let _ = epoll::delete(self.epoll, fd);
    }

    fn prepare(&self, events: &mut Events) {
        let none = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        events.epoll.resize(events.batch.get(), none);
    }

    #[inline(always)]
    fn wait(
        &self,
        events: &mut Events,
        deadline: Option<Instant>,
        sink: &mut impl Sink,
    ) -> io::Result<Woken> {
        if events.epoll.is_empty() {
            self.prepare_now(events);
        }
        let buffer = &mut *events.epoll;
        // Each way by itself: where they met, what the kernel said would go through memory.
        let count = match deadline {
            None => match epoll::wait(self.epoll, &mut *buffer, None) {
                Ok(count) => count,
                Err(errno) => return failed(errno),
            },
            Some(at) => match self.wait_until(buffer, at) {
                Ok(count) => count,
                Err(errno) => return failed(errno),
            },
        };
        let Some(buffer) = buffer.get(..count) else {
            return Ok(Woken::default()); // The kernel keeps to the room.
        };
        let mut woken = Woken::default();
        for event in buffer.iter() {
            use epoll::EventFlags as Flags;
            let flags = event.flags;
            let data = { event.data }.u64();
            // Also the poller's own name for its bell, which is the last of all numbers.
            if data.wrapping_add(OWN) < 2 * OWN {
                woken = woken
                    .also(Woken::NOTIFIED, data == NOTIFY)
                    .also(Woken::TIMER, data == TIMER);
                continue;
            }
            #[allow(clippy::cast_possible_truncation)] // it was made of so many bits
            // SAFETY: all else that is in the instance is from `arm`, and entries outlive it. What foreign loops are given is another.
            let tag = unsafe { Tag::from_bits(data as usize) };
            let broken = Flags::HUP | Flags::ERR;
            let hang_up = broken | Flags::RDHUP;
            let ready = Ready {
                read: flags.intersects(hang_up | Flags::IN | Flags::PRI),
                write: flags.intersects(broken | Flags::OUT),
                hang_up: flags.intersects(hang_up),
            };
            sink.ready(tag, ready);
        }
        Ok(woken)
    }

    fn notify(&self) {
        // The counter is never read; it cannot overflow in less than centuries, and a full one has rung already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn set_timer(&self, at: Option<Instant>) {
        // From now on, so a thread that is put off the processor here is late, and never early. Zero would take it off.
        let value = at.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1))
        });
        let timer = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(value),
        };
        // Cannot fail: the descriptor is a timer, and the time is normalised.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.outside.of(&self.poller)
    }
}
