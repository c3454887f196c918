//! What is begun at a proactor as at its port.

use std::time::{Duration, Instant};

use super::Proactor;
use crate::blocking::Blocking;
use crate::error::Error;
use crate::group::{Finished, Success};
use crate::initiation::Initiation;
use crate::operation::Operation;
use crate::port::compose::{Completer, Composed};
use crate::spawn::JoinHandle;
use crate::strand::Strand;
use crate::time::{Interval, Sleep, Timer};

impl Proactor {
    /// As [`CompletionPort::spawn`](crate::CompletionPort::spawn).
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.port.spawn(future)
    }

    /// As [`CompletionPort::spawn_on`](crate::CompletionPort::spawn_on).
    pub fn spawn_on<T, F>(&self, strand: &Strand<T>, future: F) -> JoinHandle<F::Output>
    where
        T: Send + 'static,
        F: Future<Output: Send> + Send + 'static,
    {
        self.port.spawn_on(strand, future)
    }

    /// As [`CompletionPort::block_on`](crate::CompletionPort::block_on).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        self.port.block_on(future)
    }

    /// As [`CompletionPort::blocking`](crate::CompletionPort::blocking).
    pub fn blocking<F, R>(&self, call: F) -> Initiation<Blocking<F, R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.port.blocking(call)
    }

    /// As [`CompletionPort::first_of`](crate::CompletionPort::first_of).
    pub fn first_of<O: Operation>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.port.first_of(initiations)
    }

    /// As [`CompletionPort::first_ok_of`](crate::CompletionPort::first_ok_of).
    pub fn first_ok_of<O: Operation<Output: Success>>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.port.first_ok_of(initiations)
    }

    /// As [`CompletionPort::all_of`](crate::CompletionPort::all_of).
    pub fn all_of<O: Operation>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.port.all_of(initiations)
    }

    /// As [`CompletionPort::compose`](crate::CompletionPort::compose).
    pub fn compose<T: Send + 'static>(
        &self,
        begin: impl FnOnce(Completer<T>) + Send + 'static,
    ) -> Initiation<Composed<T>> {
        self.port.compose(begin)
    }

    /// As [`CompletionPort::sleep`](crate::CompletionPort::sleep).
    pub fn sleep(&self, duration: Duration) -> Initiation<Sleep> {
        self.port.sleep(duration)
    }

    /// As [`CompletionPort::sleep_until`](crate::CompletionPort::sleep_until).
    pub fn sleep_until(&self, at: Instant) -> Initiation<Sleep> {
        self.port.sleep_until(at)
    }

    /// As [`CompletionPort::interval`](crate::CompletionPort::interval).
    pub fn interval(&self, period: Duration) -> Interval {
        self.port.interval(period)
    }

    /// As [`CompletionPort::timer`](crate::CompletionPort::timer).
    pub fn timer(&self) -> Timer {
        self.port.timer()
    }
}
