//! One operation after another on the same object: as a stream, and as a loop of handlers, with what everybody forgets.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::initiation::{Initiation, InitiationFuture};
use crate::operation::Operation;
use crate::port::CompletionPort;
use crate::port::compose::{Completer, Composed};
use crate::sync::Arc;

/// How long a series pauses when the system lacks descriptors or memory; twice as long each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is initiated again and again.
pub(super) trait Repeated: Send + 'static {
    type Item: Send + 'static;
    type Op: Operation<Output = Result<Self::Item, Error>>;
    /// The errors that are about this one, and say nothing of those to come.
    const PASSING: &'static [Errno];
    /// Where it is initiated.
    fn port(&self) -> CompletionPort;
    /// Describes the next.
    fn next(&self) -> Initiation<Self::Op>;
}

/// How fast a series goes.
struct Pace {
    pause: Duration,
}

/// What an output means for those to come.
enum Next<'a> {
    Now,
    /// There are no descriptors, or no memory: it takes time.
    After(Duration),
    Never(&'a Error),
}

impl Pace {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    fn after<'a, S: Repeated>(&mut self, output: &'a Result<S::Item, Error>) -> Next<'a> {
        let Err(error) = output else {
            self.pause = FIRST_PAUSE;
            return Next::Now;
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                let pause = self.pause;
                self.pause = LONGEST_PAUSE.min(2 * pause);
                Next::After(pause)
            }
            Some(passing) if S::PASSING.contains(&passing) => Next::Now,
            _ => Next::Never(error),
        }
    }
}

/// A series that is polled. What it has and nobody took goes back when it is dropped, as with any future.
pub(super) struct Series<S: Repeated> {
    pub(super) source: S,
    state: State<S::Op>,
    pace: Pace,
}

enum State<O: Operation> {
    Idle,
    UnderWay(InitiationFuture<O>),
    /// Boxed: it is rare.
    Pausing(Pin<Box<dyn Future<Output = ()> + Send>>),
    Over,
}

impl<S: Repeated> Series<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            source,
            state: State::Idle,
            pace: Pace::new(),
        }
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Item, Error>>> {
        loop {
            match &mut self.state {
                State::Idle => self.state = State::UnderWay(self.source.next().into_future()),
                State::UnderWay(future) => {
                    let output = ready!(Pin::new(future).poll(context));
                    return Poll::Ready(self.take_in(output));
                }
                State::Pausing(pausing) => {
                    ready!(pausing.as_mut().poll(context));
                    self.state = State::Idle;
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    /// An output as an item; and what comes after it.
    fn take_in(&mut self, output: Result<S::Item, Error>) -> Option<Result<S::Item, Error>> {
        self.state = match self.pace.after::<S>(&output) {
            Next::Now => State::Idle,
            Next::After(pause) => {
                let pausing = self.source.port().sleep(pause);
                State::Pausing(Box::pin(async move {
                    // Also when it was cut short: the next one says why.
                    let _ = pausing.await;
                }))
            }
            Next::Never(error) => {
                self.state = State::Over;
                let was_asked_for =
                    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled);
                return (!was_asked_for).then_some(output);
            }
        };
        Some(output)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

/// A loop of handlers that has begun.
struct Loop<S, F> {
    source: S,
    each: Arc<F>,
    completer: Completer<()>,
    count: usize,
    pace: Pace,
}

/// Calls `each` with every output, the next being initiated before. It ends with the first error that lasts, of which `each` is not
/// told, and which says how many there were.
pub(super) fn each<S, F>(source: S, each: F) -> Initiation<Composed<()>>
where
    S: Repeated,
    F: Fn(Result<S::Item, Error>) + Send + Sync + 'static,
{
    let port = source.port();
    port.compose(move |completer| {
        go_on(Loop {
            source,
            each: Arc::new(each),
            completer,
            count: 0,
            pace: Pace::new(),
        });
    })
}

fn go_on<S, F>(mut state: Loop<S, F>)
where
    S: Repeated,
    F: Fn(Result<S::Item, Error>) + Send + Sync + 'static,
{
    let next = state.source.next().cancel_with(state.completer.token());
    next.then(move |output| {
        let each = Arc::clone(&state.each);
        state.count += usize::from(output.is_ok());
        match state.pace.after::<S>(&output) {
            Next::Now => go_on(state),
            Next::After(pause) => {
                let pausing = state.source.port().sleep(pause);
                let pausing = pausing.cancel_with(state.completer.token());
                // Also when the pause was cut short: the next one says why.
                pausing.then(move |_| go_on(state));
            }
            Next::Never(error) => {
                let error = error.clone().after(state.count);
                return state.completer.complete(Err(error));
            }
        }
        each(output);
    });
}
