//! Posting: calls that go in from anywhere, and how many of those from outside may be pending.

use super::dispatcher::{Origin, Worker};
use super::{CompletionPort, Inner, Route};
use crate::completion;
use crate::error::Full;
use crate::local::Local;
use crate::sync::atomic::Ordering;
use crate::sync::mutant;

impl Inner {
    /// Whether a call that this thread posts takes up room; if it does, waits until there is some. What handlers post does not,
    /// nor does what comes when the port is closed.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        self.home.pressure.is_some() && self.enter_slow()
    }

    fn enter_slow(&self) -> bool {
        let inside = Local::with(&self.home, |local| local.is_some());
        let Some(pressure) = self.home.pressure.as_ref().filter(|_| !inside) else {
            return false;
        };
        pressure.enter(|| self.is_ended() || self.closed.load(Ordering::Relaxed))
    }

    /// Whether something that is to be refused when there is no room takes up room; how many may be pending, if there is none.
    pub(crate) fn try_enter(&self) -> Result<bool, usize> {
        match &self.home.pressure {
            None => Ok(false),
            Some(pressure) if pressure.try_enter() => Ok(true),
            Some(pressure) => Err(pressure.most()),
        }
    }

    /// Has who waits for room look at why it should not; said before.
    pub(crate) fn open_door(&self) {
        if let Some(pressure) = &self.home.pressure {
            if !mutant("door-stays-shut") {
                pressure.call_all();
            }
        }
    }
}

impl CompletionPort {
    /// Queues `call`. It runs where the strategy decides, never inside this call, in the order of posting as far as
    /// the strategy keeps one. From any thread, also from inside handlers. Allocates only if what `call` captures is larger
    /// than 224 bytes, or more calls wait than ever before. On a port that was closed the call is still queued, and dropped
    /// uncalled with the port.
    ///
    /// Does not block, but where [`max_pending`](crate::Builder::max_pending) was set: then a thread that is none of this port's
    /// workers waits for room. That needs somebody who runs the port, now or later. A stop keeps it waiting; when the
    /// port is closed or its proactor dropped, the call is queued, or dropped uncalled, as without a limit.
    pub fn post<F: FnOnce() + Send + 'static>(&self, call: F) {
        self.post_keyed(0, call);
    }

    /// As [`post`](Self::post), with a key that the strategy and [`Completion::user_key`](crate::Completion::user_key) see.
    pub fn post_keyed<F: FnOnce() + Send + 'static>(&self, key: u64, call: F) {
        let inner = &*self.0;
        Local::with(&inner.home, |local| match local {
            Some(local) => {
                let call = completion::post_by(local, &inner.home, key, call);
                match local.push(call) {
                    Ok(()) if local.workers == 1 => {}
                    Ok(()) => inner.tell_one(),
                    Err(call) => inner.place(call, Origin::Posted(Worker::new(local))),
                }
            }
            None => {
                let counted = inner.enter();
                let call = completion::post(&inner.home, key, counted, call);
                inner.place(call, Origin::Outside);
            }
        });
    }

    /// As [`post`](Self::post), but never blocks, and counts against [`max_pending`](crate::Builder::max_pending) from wherever it
    /// is called, also inside handlers. Without a limit it always succeeds.
    ///
    /// # Errors
    ///
    /// [`Full`], with the call in it, if as many are pending as may be.
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::num::NonZeroUsize;
    /// # fn main() -> Result<(), proactor::BuildError> {
    /// let proactor = Proactor::builder().max_pending(NonZeroUsize::MIN).build()?;
    /// proactor.post(|| println!("the one that may be pending"));
    /// let refused = proactor.try_post(|| println!("one more")).expect_err("full");
    /// assert!(refused.to_string().contains("max_pending(1)"));
    /// proactor.run(); // makes room
    /// assert!(proactor.try_post(refused.into_inner()).is_ok());
    /// assert_eq!(proactor.run(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_post<F: FnOnce() + Send + 'static>(&self, call: F) -> Result<(), Full<F>> {
        match self.0.try_enter() {
            Ok(counted) => {
                let call = completion::post(&self.0.home, 0, counted, call);
                self.0.hand(call, Route::Posted);
                Ok(())
            }
            Err(most) => Err(Full::new(most, call)),
        }
    }

    /// Runs `call` now, if this thread is a worker of this port and inside a handler; else as [`post`](Self::post).
    pub fn dispatch<F: FnOnce() + Send + 'static>(&self, call: F) {
        if Local::with(&self.0.home, |local| {
            local.is_some_and(|local| local.depth.get() > 0)
        }) {
            call();
        } else {
            self.post(call);
        }
    }

    /// Queues `call` as what follows from this handler: under the strategies here in this thread's turn, before what is queued
    /// already; one of your own decides ([`Origin::Finished`](crate::dispatch::Origin::Finished)). Outside of a handler as
    /// [`post`](Self::post).
    pub fn defer<F: FnOnce() + Send + 'static>(&self, call: F) {
        let counted = self.0.enter();
        let call = completion::post(&self.0.home, 0, counted, call);
        self.0.hand(call, Route::Finished);
    }
}
