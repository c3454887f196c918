//! Who has timers: the proactor, and the competitors.

use std::time::Instant;

use proactor::{CancelOutcome, OperationKey, Proactor};

use crate::cases::{Clock, Watch};

impl Clock for Proactor {
    type Armed = OperationKey;

    #[inline]
    fn arm(&'static self, watch: &'static Watch, which: usize, at: Instant) -> OperationKey {
        let sleep = self.port().sleep_until(at);
        sleep.then(move |slept| match slept {
            Ok(_) => watch.expired(which, at),
            Err(_) => watch.count.ran(which),
        })
    }

    #[inline]
    fn cancel(&'static self, watch: &'static Watch, _which: usize, timer: OperationKey) {
        if self.port().cancel(timer) == CancelOutcome::TooLate {
            watch.count.went_wrong();
        }
    }
}

#[cfg(feature = "peers")]
pub(crate) mod peers {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    use proactor_bench::case;
    use proactor_bench::cli::Outcome;

    use crate::cases::{Clock, Watch};

    /// Polls a timer once, which arms it.
    fn arm<F: Future>(timer: Pin<&mut F>, watch: &Watch) {
        let poll = timer.poll(&mut Context::from_waker(Waker::noop()));
        if poll.is_ready() {
            watch.count.went_wrong();
        }
    }

    /// Timers that expire are futures that are spawned; those that are cancelled are armed, and dropped.
    pub(crate) struct Tokio(tokio::runtime::Runtime);

    impl Tokio {
        pub(crate) fn new(threads: usize) -> Outcome<&'static Self> {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(threads).enable_time().build()?;
            Ok(Box::leak(Box::new(Self(runtime))))
        }
    }

    impl Clock for Tokio {
        type Armed = Option<Pin<Box<tokio::time::Sleep>>>;

        fn arm(&'static self, watch: &'static Watch, which: usize, at: Instant) -> Self::Armed {
            self.0.spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                watch.expired(which, at);
            });
            None
        }

        fn arm_far(
            &'static self,
            watch: &'static Watch,
            _which: usize,
            at: Instant,
        ) -> Self::Armed {
            let _entered = self.0.enter();
            let mut sleep = Box::pin(tokio::time::sleep_until(at.into()));
            arm(sleep.as_mut(), watch);
            Some(sleep)
        }

        fn cancel(&'static self, watch: &'static Watch, which: usize, armed: Self::Armed) {
            drop(armed);
            watch.count.ran(which);
        }
    }

    /// What smol has: timers of async-io, on an executor.
    pub(crate) struct Smol(&'static smol::Executor<'static>);

    impl Smol {
        pub(crate) fn new(threads: usize) -> Outcome<&'static Self> {
            Ok(Box::leak(Box::new(Self(case::executor(threads)?))))
        }
    }

    impl Clock for Smol {
        type Armed = Option<smol::Timer>;

        fn arm(&'static self, watch: &'static Watch, which: usize, at: Instant) -> Self::Armed {
            let waiting = async move {
                smol::Timer::at(at).await;
                watch.expired(which, at);
            };
            self.0.spawn(waiting).detach();
            None
        }

        fn arm_far(
            &'static self,
            watch: &'static Watch,
            _which: usize,
            at: Instant,
        ) -> Self::Armed {
            let mut timer = smol::Timer::at(at);
            if Pin::new(&mut timer).poll(&mut Context::from_waker(Waker::noop())) != Poll::Pending {
                watch.count.went_wrong();
            }
            Some(timer)
        }

        fn cancel(&'static self, watch: &'static Watch, which: usize, armed: Self::Armed) {
            drop(armed);
            watch.count.ran(which);
        }
    }
}
