//! A kernel that a model plays: objects that data and room arrive at, a bell, a clock. Only under the loom cfg.
//!
//! With one seat it behaves as `polling` in oneshot mode does: an event disarms its object, whoever waits has a time-out and
//! knows of no timer, and nobody is told why a wait ended. With two it behaves as edge-triggered epoll does: registering
//! reports what is there already, each arrival is one event, an event goes to one of those who wait, the bell wakes one
//! and stays rung until somebody comes, and the timer is an object of its own.

use std::io;
use std::iter;
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::registry::Tag;
use super::{Demux, Events, Ready, Sink, Woken};
use crate::operation::perform::{self as scripted, Fd, WOULD_BLOCK};
use crate::sync::{Arc, Condvar, Mutex};

/// See the module's page. All clones are of one kernel, so that a model keeps a hand on what the port stands on.
#[derive(Clone, Debug)]
pub(crate) struct Script(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    kernel: Mutex<Kernel>,
    changed: Condvar,
    alarm: Alarm,
    seats: usize,
    edge: bool,
    at_once: bool,
}

impl std::ops::Deref for Script {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Debug, Default)]
struct Kernel {
    objects: Vec<Object>,
    events: Vec<(Tag, Ready)>,
    bell: bool,
    /// What the clock shows, in nanoseconds, and what the timer object is set to.
    now: u64,
    timer: Option<u64>,
    /// How many wait now, and the most that ever did.
    waiting: usize,
    most: usize,
    closed: Vec<usize>,
    rings: usize,
}

#[derive(Clone, Debug, Default)]
struct Object {
    data: usize,
    room: usize,
    ended: bool,
    /// Whose each unit was that was given, by the address of its memory.
    given: Vec<usize>,
    registered: Option<Tag>,
    /// Oneshot: what an event may come for.
    read: bool,
    write: bool,
}

impl Kernel {
    /// What an event for the object would say now, if it has one coming.
    fn event(&mut self, number: usize, edge: bool) -> Option<(Tag, Ready)> {
        let object = &mut self.objects[number];
        let id = object.registered?;
        let ready = Ready {
            read: (object.data > 0 || object.ended) && (edge || object.read),
            write: object.room > 0 && (edge || object.write),
            hang_up: object.ended,
        };
        if !(ready.read || ready.write) {
            return None;
        }
        (object.read, object.write) = (false, false);
        Some((id, ready))
    }

    fn queue(&mut self, id: Tag, ready: Ready) {
        match self.events.iter_mut().find(|(other, _)| *other == id) {
            Some((_, other)) => {
                other.read |= ready.read;
                other.write |= ready.write;
                other.hang_up |= ready.hang_up;
            }
            None => self.events.push((id, ready)),
        }
    }
}

impl Script {
    pub(crate) fn new(seats: usize, at_once: bool, objects: usize) -> Self {
        let kernel = Kernel {
            objects: vec![Object::default(); objects],
            ..Kernel::default()
        };
        Self(Arc::new(Shared {
            kernel: Mutex::new(kernel),
            changed: Condvar::new(),
            alarm: Alarm::new(),
            seats,
            edge: seats > 1,
            at_once,
        }))
    }

    pub(crate) fn socket(&self, number: usize) -> Fd {
        let kernel: Box<dyn scripted::Kernel> = Box::new(self.clone());
        Fd { kernel, number }
    }

    /// `data` units to take and `room` for units to give arrive at an object.
    pub(crate) fn arrive(&self, number: usize, data: usize, room: usize) {
        self.change(number, |object| {
            object.data += data;
            object.room += room;
        });
    }

    /// No more will arrive at an object.
    pub(crate) fn end(&self, number: usize) {
        self.change(number, |object| object.ended = true);
    }

    fn change(&self, number: usize, what: impl FnOnce(&mut Object)) {
        let mut kernel = self.kernel.lock();
        what(&mut kernel.objects[number]);
        self.report(&mut kernel, number);
    }

    /// An event that nothing is behind.
    pub(crate) fn rattle(&self, number: usize) {
        let mut kernel = self.kernel.lock();
        if let Some(id) = kernel.objects[number].registered {
            let read = Ready {
                read: true,
                ..Ready::default()
            };
            kernel.queue(id, read);
            self.changed.notify_one();
        }
    }

    /// Time passes, until that long after the beginning.
    pub(crate) fn pass(&self, until: Duration) {
        let mut kernel = self.kernel.lock();
        // Not never, so that whatever is set is over then.
        kernel.now = u64::try_from(until.as_nanos()).unwrap_or(Alarm::NEVER - 1);
        drop(kernel);
        self.changed.notify_all();
    }

    /// The most that ever waited at once.
    pub(crate) fn most_waiting(&self) -> usize {
        self.kernel.lock().most
    }

    /// How often the bell was rung.
    pub(crate) fn rings(&self) -> usize {
        self.kernel.lock().rings
    }

    /// Whose each unit was that an object was given.
    pub(crate) fn given(&self, number: usize) -> Vec<usize> {
        self.kernel.lock().objects[number].given.clone()
    }

    /// Which descriptors were closed.
    pub(crate) fn closed(&self) -> Vec<usize> {
        self.kernel.lock().closed.clone()
    }

    fn report(&self, kernel: &mut Kernel, number: usize) {
        if let Some((id, ready)) = kernel.event(number, self.edge) {
            kernel.queue(id, ready);
            self.changed.notify_one();
        }
    }

    /// Waits for something to happen, as one who sleeps until `until`; what, and whether the bell was heard.
    fn events(&self, until: u64, deadline: Option<Instant>) -> (Vec<(Tag, Ready)>, Woken) {
        let mut late = deadline.is_some_and(|at| at <= Instant::now());
        let mut kernel = self.kernel.lock();
        kernel.waiting += 1;
        kernel.most = kernel.most.max(kernel.waiting);
        let over = |kernel: &Kernel| {
            kernel.now >= until || kernel.timer.is_some_and(|timer| timer <= kernel.now)
        };
        while !(kernel.bell || !kernel.events.is_empty() || over(&kernel) || late) {
            match deadline {
                Some(at) => (kernel, late) = self.changed.wait_until(kernel, at),
                None => kernel = self.changed.wait(kernel),
            }
        }
        kernel.waiting -= 1;
        let now = kernel.now;
        let timer = kernel.timer.take_if(|timer| *timer <= now).is_some();
        let notified = std::mem::take(&mut kernel.bell);
        let woken = Woken::default()
            .also(Woken::NOTIFIED, notified)
            .also(Woken::TIMER, timer);
        (std::mem::take(&mut kernel.events), woken)
    }
}

impl scripted::Kernel for Script {
    fn transfer(&self, number: usize, len: usize, write: bool, whose: usize) -> i64 {
        let mut kernel = self.kernel.lock();
        assert!(
            !kernel.closed.contains(&number),
            "a call on a closed descriptor"
        );
        let object = &mut kernel.objects[number];
        let there = if write {
            &mut object.room
        } else {
            &mut object.data
        };
        let moved = (*there).min(len);
        *there -= moved;
        if write {
            object.given.extend(iter::repeat_n(whose, moved));
        }
        if moved == 0 && !object.ended {
            return WOULD_BLOCK;
        }
        i64::try_from(moved).unwrap_or(i64::MAX)
    }

    fn close(&self, number: usize) {
        let mut kernel = self.kernel.lock();
        kernel.objects[number].registered = None;
        kernel.closed.push(number);
    }
}

impl Demux for Script {
    fn seats(&self) -> usize {
        self.seats
    }

    fn promotes_at_once(&self) -> bool {
        self.at_once
    }

    fn edge(&self) -> bool {
        self.edge
    }

    fn short_read_drains(&self) -> bool {
        self.edge
    }

    fn arm(&self, fd: &Fd, tag: Tag, read: bool, write: bool, _again: bool) -> io::Result<()> {
        let mut kernel = self.kernel.lock();
        let armed = &mut kernel.objects[fd.number];
        armed.registered = Some(tag);
        (armed.read, armed.write) = (read, write);
        self.report(&mut kernel, fd.number);
        Ok(())
    }

    fn disarm(&self, fd: &Fd) {
        self.kernel.lock().objects[fd.number].registered = None;
    }

    fn prepare(&self, _events: &mut Events) {}

    fn wait(
        &self,
        _events: &mut Events,
        deadline: Option<Instant>,
        sink: &mut impl Sink,
    ) -> io::Result<Woken> {
        let (events, woken) = if self.edge {
            self.events(Alarm::NEVER, deadline)
        } else {
            let until = self.alarm.sleep(deadline);
            let (events, _) = self.events(until, deadline);
            self.alarm.wake();
            let timer = self.alarm.is_over(self.kernel.lock().now);
            let woken = Woken::NOTIFIED.also(Woken::TIMER, timer);
            (events, woken)
        };
        for (id, ready) in events {
            sink.ready(id, ready);
        }
        Ok(woken)
    }

    fn notify(&self) {
        let mut kernel = self.kernel.lock();
        kernel.bell = true;
        kernel.rings += 1;
        drop(kernel);
        self.changed.notify_one();
    }

    fn set_timer(&self, at: Option<Instant>) {
        if self.edge {
            let at = at.map(|at| self.alarm.nanos(at));
            let mut kernel = self.kernel.lock();
            kernel.timer = at;
            if at.is_some_and(|at| at <= kernel.now) {
                self.changed.notify_one();
            }
        } else if self.alarm.set(at) {
            self.notify();
        }
    }

    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
