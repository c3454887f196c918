//! A kernel that a model plays: objects that data arrive at, a bell, a timer. Only under the loom cfg.
//!
//! It behaves as edge-triggered epoll does: registering reports what is there already, each arrival at a registered object
//! is one event, an event goes to one of those who wait, and the bell wakes one and stays rung until somebody comes.

use std::io;
use std::time::Instant;

use super::registry::Fd;
use super::{Demux, Events, Ready, Sink, WOULD_BLOCK, Woken};
use crate::id::ObjectId;
use crate::operation::Request;
use crate::sync::{Arc, Condvar, Mutex};

/// See the module's page. All clones are of one kernel, so that a model keeps a hand on what the port stands on.
#[derive(Clone, Debug)]
pub(crate) struct Script(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    kernel: Mutex<Kernel>,
    changed: Condvar,
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
    events: Vec<ObjectId>,
    bell: bool,
    timer: bool,
    timer_set: bool,
    /// How many wait now, and the most that ever did.
    waiting: usize,
    most: usize,
    closed: Vec<Fd>,
    rings: usize,
}

#[derive(Clone, Debug, Default)]
struct Object {
    data: usize,
    registered: Option<ObjectId>,
    /// Oneshot: whether an event may come.
    armed: bool,
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
            seats,
            edge: seats > 1,
            at_once,
        }))
    }

    /// `count` units arrive at an object.
    pub(crate) fn arrive(&self, fd: Fd, count: usize) {
        let mut kernel = self.kernel.lock();
        kernel.objects[fd].data += count;
        self.report(&mut kernel, fd);
    }

    /// An event that nothing is behind.
    pub(crate) fn rattle(&self, fd: Fd) {
        let mut kernel = self.kernel.lock();
        if let Some(id) = kernel.objects[fd].registered {
            kernel.events.push(id);
            self.changed.notify_one();
        }
    }

    /// The timer that was set expires.
    pub(crate) fn expire(&self) {
        let mut kernel = self.kernel.lock();
        if std::mem::take(&mut kernel.timer_set) {
            kernel.timer = true;
            self.changed.notify_one();
        }
    }

    /// The most that ever waited at once.
    pub(crate) fn most_waiting(&self) -> usize {
        self.kernel.lock().most
    }

    /// How often the bell was rung.
    pub(crate) fn rings(&self) -> usize {
        self.kernel.lock().rings
    }

    /// Which descriptors were closed.
    pub(crate) fn closed(&self) -> Vec<Fd> {
        self.kernel.lock().closed.clone()
    }

    fn report(&self, kernel: &mut Kernel, fd: Fd) {
        let object = &mut kernel.objects[fd];
        let Some(id) = object.registered else { return };
        if object.data == 0 || (!self.edge && !std::mem::take(&mut object.armed)) {
            return;
        }
        if !kernel.events.contains(&id) {
            kernel.events.push(id);
        }
        self.changed.notify_one();
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

    fn arm(
        &self,
        fd: &Fd,
        object: ObjectId,
        read: bool,
        _write: bool,
        _again: bool,
    ) -> io::Result<()> {
        let mut kernel = self.kernel.lock();
        kernel.objects[*fd].registered = Some(object);
        kernel.objects[*fd].armed = read;
        self.report(&mut kernel, *fd);
        Ok(())
    }

    fn disarm(&self, fd: &Fd) {
        let mut kernel = self.kernel.lock();
        kernel.objects[*fd].registered = None;
        kernel.closed.push(*fd);
    }

    fn prepare(&self, _events: &mut Events) {}

    fn wait(
        &self,
        _events: &mut Events,
        deadline: Option<Instant>,
        sink: &mut dyn Sink,
    ) -> io::Result<Woken> {
        let mut kernel = self.kernel.lock();
        kernel.waiting += 1;
        kernel.most = kernel.most.max(kernel.waiting);
        let poll = deadline.is_some_and(|at| at <= Instant::now());
        while !(kernel.bell || kernel.timer || !kernel.events.is_empty() || poll) {
            kernel = self.changed.wait(kernel);
        }
        kernel.waiting -= 1;
        let events = std::mem::take(&mut kernel.events);
        let notified = std::mem::take(&mut kernel.bell);
        let timer = std::mem::take(&mut kernel.timer);
        drop(kernel);
        for id in events {
            sink.ready(
                id,
                Ready {
                    read: true,
                    write: false,
                    hang_up: false,
                },
            );
        }
        Ok(Woken { notified, timer })
    }

    fn notify(&self) {
        let mut kernel = self.kernel.lock();
        kernel.bell = true;
        kernel.rings += 1;
        drop(kernel);
        self.changed.notify_one();
    }

    fn set_timer(&self, at: Option<Instant>) {
        self.kernel.lock().timer_set = at.is_some();
    }

    fn perform(&self, fd: &Fd, request: Request) -> i64 {
        let Request::Script(len) = request else {
            return -22;
        };
        let mut kernel = self.kernel.lock();
        let object = &mut kernel.objects[*fd];
        if object.data == 0 {
            return WOULD_BLOCK;
        }
        let taken = object.data.min(len);
        object.data -= taken;
        i64::try_from(taken).unwrap_or(i64::MAX)
    }

    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
