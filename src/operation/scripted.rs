//! The system calls of a model: whoever plays the kernel makes them. Only under the loom cfg.
#![allow(unsafe_code)] // an operation's memory, named by address

use std::fmt;

use super::Request;
use crate::sync::UnsafeCell;

/// The answer of [`perform`] when the operation would block.
pub(crate) const WOULD_BLOCK: i64 = -11;

/// Who plays the kernel.
pub(crate) trait Kernel: Send + Sync + fmt::Debug {
    /// Gives, or takes, up to `len` units: how many, or `WOULD_BLOCK`. `whose` tells one operation from another.
    fn transfer(&self, number: usize, len: usize, write: bool, whose: usize) -> i64;
    /// The descriptor is closed.
    fn close(&self, number: usize);
}

/// A descriptor: an object of the kernel, open until this is dropped.
#[derive(Debug)]
pub(crate) struct Fd {
    pub(crate) kernel: Box<dyn Kernel>,
    pub(crate) number: usize,
}

impl Drop for Fd {
    fn drop(&mut self) {
        self.kernel.close(self.number);
    }
}

/// As the system's: the number, or the negated `errno`.
pub(crate) fn perform(fd: &Fd, request: Request) -> i64 {
    let (len, write, memory) = match request {
        Request::Script { len, write, memory } => (len, write, memory),
        Request::Ready { .. } => return 0,
        _ => return -22,
    };
    touch(memory);
    fd.kernel.transfer(fd.number, len, write, memory.addr())
}

/// Takes up to so many units.
///
/// # Safety
///
/// As a request's `memory`.
pub(crate) unsafe fn recv(fd: &Fd, memory: *mut u8, len: usize) -> i64 {
    touch(memory.cast_const().cast());
    fd.kernel.transfer(fd.number, len, false, memory.addr())
}

/// Gives so many units, or fewer.
///
/// # Safety
///
/// As a request's `memory`.
pub(crate) unsafe fn send(fd: &Fd, memory: *const u8, len: usize) -> i64 {
    touch(memory.cast());
    fd.kernel.transfer(fd.number, len, true, memory.addr())
}

/// What whoever carries a request out does to the operation's memory.
pub(crate) fn touch(memory: *const ()) {
    // SAFETY: the operation's memory stays until it is finished. If a protocol is broken it may not: loom tells.
    unsafe { &*memory.cast::<UnsafeCell<()>>() }.with_mut(|_| ());
}
