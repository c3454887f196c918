//! Who runs posted calls: the proactor, and what every competitor has to offer.

use std::future::poll_fn;
use std::task::Poll;

use proactor::{CompletionPort, Proactor, Strand};
use proactor_bench::cli::Outcome;
use proactor_bench::count::Count;

/// The calls of one strand so far, which only one of them at a time may touch.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) next: usize,
}

/// Something that runs calls on threads of its own. It is never taken down: the process ends.
pub(crate) trait Pool: Sync + Sized + 'static {
    type Strand: Send + Sync + 'static;
    /// From outside, and from within a call.
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F);
    fn strand(&'static self) -> Self::Strand;
    /// Calls of one strand run one at a time, in the order of their posting.
    fn post_to<F>(&'static self, strand: &Self::Strand, call: F)
    where
        F: FnOnce(&mut Line) + Send + 'static;
    /// Spawns a future that lets others have their turn before each of the calls that are counted.
    fn take_turns(&'static self, count: &'static Count) -> Outcome {
        let _ = count;
        Err("this competitor runs no futures: `spawn` is for tokio, tokio-current and async-executor".into())
    }
}

/// Ready when a call that it has posted has run.
async fn posted(port: &CompletionPort) {
    let mut posted = false;
    poll_fn(|context| {
        if std::mem::replace(&mut posted, true) {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        port.post(move || waker.wake());
        Poll::Pending
    })
    .await;
}

impl Pool for Proactor {
    type Strand = Strand<Line>;

    #[inline]
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.port().post(call);
    }

    fn strand(&'static self) -> Strand<Line> {
        Strand::new(self.port(), Line::default())
    }

    #[inline]
    fn post_to<F>(&'static self, strand: &Strand<Line>, call: F)
    where
        F: FnOnce(&mut Line) + Send + 'static,
    {
        strand.post(call);
    }

    fn take_turns(&'static self, count: &'static Count) -> Outcome {
        let future = async move {
            for call in 0..count.calls() {
                posted(self.port()).await;
                count.ran(call);
            }
        };
        self.spawn(future).detach();
        Ok(())
    }
}
