//! Spawned futures: polled as ordinary calls, by whichever strategy was chosen.
//!
//! A future stands, with its output, in a task of the `async-task` crate, which is its one allocation. To wake it is to post a call
//! that polls it. Protocol: `docs/dispatch-protocols.md`, "A spawned future".

mod block_on;
mod join;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_task::{Runnable, ScheduleInfo, WithInfo};
use pin_project_lite::pin_project;

use crate::port::tasks::Entry;
use crate::port::{CompletionPort, Inner, WeakPort};
use crate::sync::mutant;
pub use join::JoinHandle;
pub(crate) use join::text_of;

pin_project! {
    /// What is spawned: the future, and then its place in the port's books.
    struct Root<F> {
        // There until it is dropped.
        #[pin]
        future: Option<F>,
        entry: Entry,
        port: WeakPort,
    }

    impl<F> PinnedDrop for Root<F> {
        // A future that panics as it is dropped is as a handler that panics: its task would end the process.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
                drop(Unclaimed::new(panic, this.port));
            }
        }
    }
}

pin_project! {
    /// A future that keeps something until it ends.
    pub(crate) struct With<F, K> {
        #[pin]
        future: F,
        kept: K,
    }
}

pub(crate) fn with<F, K>(future: F, kept: K) -> With<F, K> {
    With { future, kept }
}

impl<F: Future, K> Future for With<F, K> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(context)
    }
}

/// How a spawned future ended.
enum Outcome<T> {
    Done(T),
    Panicked(Unclaimed),
    Cancelled,
}

/// A panic that nobody has been told of. Dropped as such, it becomes that of a handler of its own.
struct Unclaimed {
    panic: Option<Box<dyn Any + Send>>,
    port: WeakPort,
}

impl Unclaimed {
    fn new(panic: Box<dyn Any + Send>, port: &WeakPort) -> Self {
        Self {
            panic: Some(panic),
            port: port.clone(),
        }
    }

    fn claim(mut self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let Some(panic) = self.panic.take() else {
            return;
        };
        self.port.with(|inner| {
            if let Some(inner) = inner {
                inner.hand_future(false, move || resume_unwind(panic));
            }
        });
    }
}

impl<F: Future> Future for Root<F> {
    type Output = Outcome<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(future) = this.future.as_pin_mut().filter(|_| !this.entry.is_over()) else {
            return Poll::Ready(Outcome::Cancelled);
        };
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled.map(Outcome::Done),
            Err(panic) => Poll::Ready(Outcome::Panicked(Unclaimed::new(panic, this.port))),
        }
    }
}

/// Sends a future on its way to be polled, wherever `queue` says; without a port it is dropped, here.
pub(crate) fn spawn_by<F>(
    port: &CompletionPort,
    future: F,
    queue: impl Fn(&Inner, Runnable, bool) + Send + Sync + 'static,
) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let weak = port.downgrade();
    let entry = port.0.tasks.enter(&port.0.home);
    let place = entry.place();
    let root = Root {
        future: Some(future),
        entry,
        port: weak.clone(),
    };
    let home = weak.clone();
    let schedule = move |runnable: Runnable, info: ScheduleInfo| {
        home.with(|inner| {
            if let Some(inner) = inner {
                queue(inner, runnable, info.woken_while_running);
            }
        });
    };
    let (runnable, task) = async_task::spawn(root, WithInfo(schedule));
    let waker = runnable.waker();
    if mutant("scheduled-before-known") {
        runnable.schedule();
        port.0.tasks.know(place, waker);
    } else {
        port.0.tasks.know(place, waker);
        runnable.schedule();
    }
    JoinHandle::new(task, weak)
}

impl CompletionPort {
    /// Has the strategy run `future` to its end, on whichever threads: each poll is a call like any other, queued when the future is
    /// woken, never inside this call. The handle is a future of its output; dropped, it lets the future go on alone.
    ///
    /// It allocates once, for the future and its output; waking it allocates nothing. A future that wakes itself all the time stays
    /// on its thread for a turn ([`turn_budget`](crate::Builder::turn_budget)) at most, and then queues behind the others.
    ///
    /// *It is outstanding work until it ends*, also while it waits for something that is not this port's: `run` does not return before.
    /// *A stop* leaves it where it is, for the next run. *At the end* it is dropped: when the proactor is dropped, or at the
    /// [shutdown](crate::Proactor::shutdown)'s deadline; whoever wakes it afterwards does nothing. Where it is dropped is where it
    /// would have been polled.
    ///
    /// *A panic* is for whoever awaits the handle ([`ErrorKind::Panicked`](crate::ErrorKind::Panicked)); if nobody has the handle, it
    /// is as a handler's, and the builder's [`PanicPolicy`](crate::PanicPolicy) is asked.
    ///
    /// After Asio's `co_spawn` and tokio's `spawn`.
    ///
    /// ```
    /// use proactor::{dispatch::WorkStealing, Proactor};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().dispatcher(WorkStealing::new()).build()?;
    /// let nap = proactor.sleep(Duration::from_millis(1));
    /// let handle = proactor.spawn(async move { nap.await.map(|()| 7) });
    /// assert_eq!(handle.wait()??, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        spawn_by(self, future, |inner, runnable, itself| {
            inner.hand_woken(runnable, itself);
        })
    }
}
