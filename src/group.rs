//! Several operations as one: the first of them, or all of them.

use crate::initiation::Initiation;
use crate::operation::Operation;
use crate::port::CompletionPort;
use crate::port::compose::{Completer, Composed};
use crate::sync::{Arc, Mutex, mutant};

/// What a group came to: every output, so that nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished<T> {
    /// The outputs, in the order in which the operations were given.
    pub outputs: Vec<T>,
    /// Whose output came first, second and so on, as indexes of `outputs`.
    pub order: Vec<usize>,
    /// Whether the time limit of the whole had passed; then what it cut short says *cancelled*.
    pub timed_out: bool,
}

impl<T> Finished<T> {
    /// Whose output came first, and that output; `None` of none at all.
    pub fn first(&self) -> Option<(usize, &T)> {
        let &index = self.order.first()?;
        Some((index, self.outputs.get(index)?))
    }
}

/// What can be said to have gone well: the outputs of this crate's operations.
pub trait Success {
    /// Whether it has.
    fn is_success(&self) -> bool;
}

impl<T, E> Success for Result<T, E> {
    fn is_success(&self) -> bool {
        self.is_ok()
    }
}

/// With the buffer.
impl<T, E, B> Success for (Result<T, E>, B) {
    fn is_success(&self) -> bool {
        self.0.is_ok()
    }
}

/// What a pair came to: both outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both<A, B> {
    /// The output of the one.
    pub this: A,
    /// The output of the other.
    pub other: B,
    /// Whether `this` came first.
    pub this_first: bool,
    /// Whether the time limit of the whole had passed; then what it cut short says *cancelled*.
    pub timed_out: bool,
}

/// After which output the rest of a group is asked to end.
type Enough<T> = fn(&T) -> bool;

/// Makes the whole of the outputs, their order, and whether the limit of the whole had passed.
type Make<T, W> = fn(Vec<T>, Vec<usize>, bool) -> Option<W>;

/// A group that has begun.
struct Group<T: Send + 'static, W: Send + 'static> {
    enough: Enough<T>,
    make: Make<T, W>,
    gathered: Mutex<Gathered<T, W>>,
}

struct Gathered<T: Send + 'static, W: Send + 'static> {
    outputs: Vec<Option<T>>,
    order: Vec<usize>,
    completer: Option<Completer<W>>,
}

impl<T: Send + 'static, W: Send + 'static> Group<T, W> {
    fn new(
        enough: Enough<T>,
        count: usize,
        completer: Completer<W>,
        make: Make<T, W>,
    ) -> Arc<Self> {
        Arc::new(Self {
            enough,
            make,
            gathered: Mutex::new(Gathered {
                outputs: (0..count).map(|_| None).collect(),
                order: Vec::with_capacity(count),
                completer: Some(completer),
            }),
        })
    }

    /// Takes in the output of the operation `index`. Whoever brings the last completes the group.
    fn take(&self, index: usize, output: T) {
        let enough = (self.enough)(&output);
        let mut gathered = self.gathered.lock();
        gathered.outputs[index] = Some(output);
        gathered.order.push(index);
        if gathered.order.len() < gathered.outputs.len() && !mutant("group-waits-for-one") {
            let rest = gathered.completer.as_ref().filter(|_| enough);
            let rest = rest.map(|completer| completer.token().clone());
            drop(gathered);
            if let Some(rest) = rest.filter(|_| !mutant("first-cancels-nobody")) {
                rest.cancel();
            }
            return;
        }
        let outputs = std::mem::take(&mut gathered.outputs);
        let order = std::mem::take(&mut gathered.order);
        let completer = gathered.completer.take();
        drop(gathered);
        // Without a whole the completer is dropped, which says that nobody completes it.
        if let Some(completer) = completer {
            let outputs = outputs.into_iter().flatten().collect();
            if let Some(whole) = (self.make)(outputs, order, completer.has_timed_out()) {
                completer.complete(Ok(whole));
            }
        }
    }
}

/// One of a pair's outputs.
enum Either<A, B> {
    This(A),
    Other(B),
}

fn both<A, B>(
    outputs: Vec<Either<A, B>>,
    order: Vec<usize>,
    timed_out: bool,
) -> Option<Both<A, B>> {
    let mut outputs = outputs.into_iter();
    match (outputs.next()?, outputs.next()?) {
        (Either::This(this), Either::Other(other)) => Some(Both {
            this,
            other,
            this_first: order.first() == Some(&0),
            timed_out,
        }),
        _ => None,
    }
}

impl CompletionPort {
    /// The first of several operations, which may be of several ports: when one has ended, well or not, the others are asked to end, and
    /// when all have, there is the output of each. So what ended all the same at the last moment is not lost. Each of them may have
    /// time limits and tokens of its own. Where a failure is no end, take [`first_ok_of`](Self::first_ok_of).
    ///
    /// A request to end this one ends all of them, as cancelled; if that was its time limit, [`Finished::timed_out`] says so. Of none at
    /// all the output is empty, at once.
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let naps = [3600, 0].map(|seconds| proactor.sleep(Duration::from_secs(seconds)));
    /// let finished = proactor.port().first_of(naps).wait()?;
    /// assert_eq!(finished.order, [1, 0]);
    /// assert!(finished.outputs[1].is_ok() && finished.outputs[0].as_ref().unwrap_err().is_cancelled());
    /// # Ok(())
    /// # }
    /// ```
    pub fn first_of<O: Operation>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.group(|_| true, initiations)
    }

    /// As [`first_of`](Self::first_of), but goes on until one has ended well, or all have ended.
    ///
    /// ```
    /// use proactor::{net::{TcpListener, TcpStream}, Proactor};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?; // nobody listens there any more
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let addresses = [gone, listener.local_addr()?];
    /// let connects = addresses.map(|address| TcpStream::connect(&proactor, address));
    /// let finished = proactor.first_ok_of(connects).wait()?;
    /// assert!(finished.outputs[0].is_err() && finished.outputs[1].is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn first_ok_of<O: Operation<Output: Success>>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.group(O::Output::is_success, initiations)
    }

    /// All of several operations: when all have ended, there is the output of each. Nothing ends because another failed.
    ///
    /// A request to end this one ends all of them, as with [`first_of`](Self::first_of). Of none at all the output is empty, at once.
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let naps = [5, 1].map(|millis| proactor.sleep(Duration::from_millis(millis)));
    /// let finished = proactor.port().all_of(naps).wait()?;
    /// assert_eq!(finished.order, [1, 0]);
    /// assert!(finished.outputs.iter().all(|output| output.is_ok()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_of<O: Operation>(
        &self,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        self.group(|_| false, initiations)
    }

    fn group<O: Operation>(
        &self,
        enough: Enough<O::Output>,
        initiations: impl IntoIterator<Item = Initiation<O>>,
    ) -> Initiation<Composed<Finished<O::Output>>> {
        let initiations: Vec<_> = initiations.into_iter().collect();
        self.compose(move |completer: Completer<Finished<O::Output>>| {
            if initiations.is_empty() {
                return completer.complete(Ok(Finished {
                    outputs: Vec::new(),
                    order: Vec::new(),
                    timed_out: false,
                }));
            }
            let token = completer.token().clone();
            let make = |outputs, order, timed_out| {
                Some(Finished {
                    outputs,
                    order,
                    timed_out,
                })
            };
            // A member whose port is dropped brings its output all the same: else that of the others would be lost with it.
            let group = Group::new(enough, initiations.len(), completer, make);
            for (index, initiation) in initiations.into_iter().enumerate() {
                let group = Arc::clone(&group);
                initiation
                    .cancel_with(&token)
                    .keep(move |output| group.take(index, output));
            }
        })
    }
}

impl<O: Operation> Initiation<O> {
    /// This operation against another: when one has ended, the other is asked to end, and when both have, there are both outputs. As
    /// [`CompletionPort::first_of`], for two of different kinds.
    ///
    /// ```
    /// use proactor::{net::TcpListener, Proactor};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
    /// let raced = listener.accept().race(proactor.sleep(Duration::from_millis(1))).wait()?;
    /// assert!(!raced.this_first && raced.other.is_ok() && raced.this.unwrap_err().is_cancelled());
    /// # Ok(())
    /// # }
    /// ```
    pub fn race<P: Operation>(
        self,
        other: Initiation<P>,
    ) -> Initiation<Composed<Both<O::Output, P::Output>>> {
        self.pair(other, |_| true)
    }

    /// This operation and another: when both have ended, there are both outputs. As [`CompletionPort::all_of`], for two of different
    /// kinds.
    ///
    /// ```
    /// use proactor::Proactor;
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proactor = Proactor::builder().build()?;
    /// let nap = |millis| proactor.sleep(Duration::from_millis(millis));
    /// let joined = nap(5).join(nap(1)).wait()?;
    /// assert!(!joined.this_first && joined.this.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn join<P: Operation>(
        self,
        other: Initiation<P>,
    ) -> Initiation<Composed<Both<O::Output, P::Output>>> {
        self.pair(other, |_| false)
    }

    fn pair<P: Operation>(
        self,
        other: Initiation<P>,
        enough: Enough<Either<O::Output, P::Output>>,
    ) -> Initiation<Composed<Both<O::Output, P::Output>>> {
        self.port()
            .compose(move |completer: Completer<Both<_, _>>| {
                let token = completer.token().clone();
                let this = Group::new(enough, 2, completer, both);
                let that = Arc::clone(&this);
                self.cancel_with(&token)
                    .keep(move |output| this.take(0, Either::This(output)));
                other
                    .cancel_with(&token)
                    .keep(move |output| that.take(1, Either::Other(output)));
            })
    }
}
