//! What a foreign event loop waits on: a descriptor beside the demultiplexer's own.
//!
//! Whoever has a descriptor of epoll's may put into it whatever he likes, under whatever name, by calls that are safe. A demultiplexer
//! believes the names of what comes out of its own. So it keeps that to itself, and a loop of others gets one in which there is nothing
//! but it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;

use crate::sync::OnceLock;

/// Made when somebody first asks.
#[derive(Debug, Default)]
pub(super) struct Outside(OnceLock<OwnedFd>);

impl Outside {
    /// A descriptor that is readable while `own` is. None if the system gives none.
    pub(super) fn of(&self, own: impl AsFd) -> Option<BorrowedFd<'_>> {
        let fd = match self.0.get() {
            Some(fd) => fd,
            None => {
                let made = beside(own).ok()?;
                self.0.get_or_init(|| made)
            }
        };
        Some(fd.as_fd())
    }
}

fn beside(own: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let made = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let nameless = epoll::EventData::new_u64(0);
    epoll::add(&made, own, nameless, epoll::EventFlags::IN)?;
    Ok(made)
}
