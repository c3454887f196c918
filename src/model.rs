//! What the models drive: the production port over a kernel that the model plays. Only under the loom cfg, and
//! not part of the public interface.

#![allow(unsafe_code)] // what is polled is named by address

mod answer;
mod parts;

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::backend::readiness::Readiness;
use crate::backend::registry::Way;
use crate::backend::script::Script;
/// As `net` exports it, which no model has.
pub use crate::buf::Datagram;
use crate::dispatch::Dispatcher;
use crate::error::Error;
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::operation::{Operation, OperationKey, Request, Returned, decode, sealed};
use crate::port::object::Handle;
use crate::port::pool::Knobs;
use crate::port::seat::Waiting;
use crate::port::worker::Bounds;
use crate::port::{CompletionPort, Inner};
use crate::proactor::Proactor;
pub use crate::sync::model::{recycle, set_clock, set_mutant, spurious, ticks};
pub use answer::{Answer, AnswerEach};
pub use parts::*;

/// A port over a scripted kernel.
#[derive(Clone, Debug)]
pub struct ModelPort {
    /// The port itself.
    pub port: CompletionPort,
    kernel: Script,
}

/// One of the kernel's objects, open on the port.
#[derive(Clone, Debug)]
pub struct ModelObject(Handle);

/// Takes up to as many units, or gives them.
#[derive(Debug)]
pub struct Move<const WRITE: bool> {
    len: usize,
    done: usize,
    /// Whether it goes on until all has moved.
    all: bool,
    memory: Witness,
}

/// Takes up to as many units.
pub type Take = Move<false>;
/// Gives up to as many units.
pub type Give = Move<true>;

impl<const WRITE: bool> Move<WRITE> {
    fn new(len: usize, all: bool) -> Self {
        Self {
            len,
            done: 0,
            all,
            memory: Witness::default(),
        }
    }
}

impl<const WRITE: bool> sealed::Sealed for Move<WRITE> {}

impl<const WRITE: bool> Operation for Move<WRITE> {
    type Output = Result<usize, Error>;
    const KIND: Kind = if WRITE { Kind::Write } else { Kind::Read };

    fn request(&mut self) -> Request {
        Request::Script {
            len: self.len - self.done,
            write: WRITE,
            memory: (&raw const self.memory).cast(),
        }
    }

    fn advance(&mut self, n: usize) -> bool {
        self.done += n;
        self.all && n > 0 && self.done < self.len
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        // The memory goes: nobody may be using it.
        self.memory.touch();
        match result {
            Ok(_) => Ok(self.done),
            Err(error) => Err(error.after(self.done)),
        }
    }

    fn give_back(self, _result: Result<usize, Error>) -> Option<Returned> {
        self.memory.touch();
        (self.done > 0).then_some(Returned::Units(self.done))
    }
}

impl ModelPort {
    /// `workers` as many as the strategy is told, `seats` as many as may wait at once; `at_once` is how a seat is filled that
    /// was left: by the next worker, or by one that watches it.
    ///
    /// # Panics
    ///
    /// If the strategy refuses.
    pub fn new(
        dispatcher: Box<dyn Dispatcher>,
        workers: usize,
        seats: usize,
        at_once: bool,
        objects: usize,
    ) -> Self {
        let port = Self::unused(dispatcher, workers, seats, at_once, objects);
        port.wanted()
    }

    /// As `new`, but nothing was ever opened: nobody need sit.
    ///
    /// # Panics
    ///
    /// If the strategy refuses.
    pub fn unused(
        dispatcher: Box<dyn Dispatcher>,
        workers: usize,
        seats: usize,
        at_once: bool,
        objects: usize,
    ) -> Self {
        let kernel = Script::new(seats, at_once, objects);
        Self::of(kernel, dispatcher, workers, Knobs::default())
    }

    /// As if something had been opened: its workers sit.
    fn wanted(self) -> Self {
        self.port.0.sleep.want();
        self
    }

    /// As `new`, with two seats and no objects, where `most` calls from outside may be pending.
    ///
    /// # Panics
    ///
    /// If the strategy refuses, or `most` is 0.
    pub fn limited(dispatcher: Box<dyn Dispatcher>, workers: usize, most: usize) -> Self {
        let most = std::num::NonZeroUsize::new(most).expect("there is room");
        let knobs = Knobs {
            max_pending: Some(most),
            ..Knobs::default()
        };
        Self::of(Script::new(2, true, 0), dispatcher, workers, knobs).wanted()
    }

    fn of(
        kernel: Script,
        mut dispatcher: Box<dyn Dispatcher>,
        workers: usize,
        knobs: Knobs,
    ) -> Self {
        let workers = std::num::NonZeroUsize::new(workers).expect("a model has workers");
        dispatcher
            .attach(Some(workers))
            .expect("the strategy takes as many");
        let knobs = Knobs { workers, ..knobs };
        Self::over(kernel, dispatcher, knobs, false)
    }

    fn over(kernel: Script, dispatcher: Box<dyn Dispatcher>, knobs: Knobs, by_hand: bool) -> Self {
        let backend = Box::new(Readiness::new(kernel.clone(), Inner::let_go));
        Self {
            port: CompletionPort(Inner::new(backend, dispatcher, knobs, by_hand)),
            kernel,
        }
    }

    /// A port that is used alone, whose batches hold one completion.
    pub fn by_hand(seats: usize, objects: usize) -> Self {
        let kernel = Script::new(seats, seats > 1, objects);
        let knobs = Knobs {
            batch: std::num::NonZeroUsize::MIN,
            ..Knobs::default()
        };
        Self::over(kernel, Box::new(Waiting::default()), knobs, true)
    }

    /// A port of `strategy` for `workers`, of which `most` may run handlers at a time; with as many `seats` and objects.
    ///
    /// # Panics
    ///
    /// If the strategy refuses.
    pub fn with_permits(
        strategy: crate::dispatch::Strategy,
        workers: usize,
        most: usize,
        seats: usize,
        objects: usize,
    ) -> Self {
        let knobs = Knobs {
            concurrency: std::num::NonZeroUsize::new(most),
            ..Knobs::default()
        };
        let kernel = Script::new(seats, seats > 1, objects);
        Self::of(kernel, strategy.dispatcher(), workers, knobs).wanted()
    }

    /// A port that is used alone, whose lane has up to `threads` threads.
    ///
    /// # Panics
    ///
    /// If that is none.
    pub fn with_lane(threads: usize) -> Self {
        let threads = std::num::NonZeroUsize::new(threads).expect("a lane has threads");
        let knobs = Knobs {
            blocking_threads: threads,
            ..Knobs::default()
        };
        let kernel = Script::new(1, false, 0);
        Self::over(kernel, Box::new(Waiting::default()), knobs, true)
    }

    /// Opens object `number`.
    ///
    /// # Panics
    ///
    /// If the port is closed.
    pub fn open(&self, number: usize) -> ModelObject {
        self.try_open(number).expect("the port is open")
    }

    /// Opens object `number`, unless the port is closed.
    pub fn try_open(&self, number: usize) -> Option<ModelObject> {
        let socket = self.kernel.socket(number);
        Handle::open(&self.port, socket, true).ok().map(ModelObject)
    }

    /// Opens object `number`, as one that connections come out of: its units.
    ///
    /// # Panics
    ///
    /// If the port is closed.
    pub fn listen(&self, number: usize) -> ModelObject {
        let socket = self.kernel.socket(number);
        ModelObject(Handle::listen(&self.port, socket).expect("an open port"))
    }

    /// A proactor over it.
    pub fn proactor(&self) -> Proactor {
        Proactor::over(self.port.clone())
    }

    /// `count` units to take arrive at object `number`.
    pub fn arrive(&self, number: usize, count: usize) {
        self.kernel.arrive(number, count, 0);
    }

    /// Room for `count` units to give arrives at object `number`.
    pub fn make_room(&self, number: usize, count: usize) {
        self.kernel.arrive(number, 0, count);
    }

    /// No more will arrive at object `number`.
    pub fn end(&self, number: usize) {
        self.kernel.end(number);
    }

    /// An event comes for object `number` that nothing is behind.
    pub fn rattle(&self, number: usize) {
        self.kernel.rattle(number);
    }

    /// Who gave each unit that object `number` was given, in order: one word for the units of one operation.
    pub fn given(&self, number: usize) -> Vec<usize> {
        self.kernel.given(number)
    }

    /// Time passes, until that long after the beginning.
    pub fn pass(&self, until: Duration) {
        let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX - 1);
        set_clock(millis.min(u64::MAX - 1));
        self.kernel.pass(until);
    }

    /// Whether no timer is armed and no limit set.
    pub fn is_timeless(&self) -> bool {
        self.port.next_deadline().is_none()
    }

    /// The most threads that ever waited at once.
    pub fn most_waiting(&self) -> usize {
        self.kernel.most_waiting()
    }

    /// How often the bell was rung.
    pub fn rings(&self) -> usize {
        self.kernel.rings()
    }

    /// Which objects' descriptors were closed.
    pub fn closed(&self) -> Vec<usize> {
        self.kernel.closed()
    }

    /// Has one worker who sleeps come, for nothing.
    pub fn wake_one(&self) {
        self.port.0.wake_one();
    }

    /// Works as one of the port's workers until no work is outstanding or it is stopped; how many handlers ran.
    ///
    /// # Panics
    ///
    /// With a handler's panic, unless that says that it is "on purpose"; so do the other two.
    pub fn work(&self) -> usize {
        self.work_within(Bounds::FOREVER)
    }

    /// As `work`, for at most `limit` handlers.
    pub fn work_some(&self, limit: usize) -> usize {
        self.work_within(Bounds {
            limit,
            ..Bounds::FOREVER
        })
    }

    /// Runs what is ready without waiting.
    pub fn poll(&self) -> usize {
        self.work_within(Bounds {
            wait: false,
            ..Bounds::FOREVER
        })
    }

    fn work_within(&self, bounds: Bounds<'_>) -> usize {
        let inner = &*self.port.0;
        let Some(place) = inner.pool.claim() else {
            return 0;
        };
        let ran = inner.work(&place, bounds);
        // A handler's assertion is the model's.
        let panic = ran
            .panic
            .filter(|panic| panic.downcast_ref() != Some(&"on purpose"));
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
        ran.handlers
    }

    /// Makes the queues of calls for one worker now: loom does not see what orders their making before their use.
    pub fn prepare_calls(&self) {
        self.port.0.affinity.prepare();
    }

    /// A foreign loop asks for the port's descriptor.
    pub fn welcome_foreign_loop(&self) {
        self.port.0.welcome_foreign_loop();
    }

    /// Enters one piece of work from outside, as a guard does.
    pub fn enter(&self) {
        self.port.0.home.ledger.created(None);
    }

    /// Crosses it off again, and wakes everybody if it was the last.
    pub fn cross_off(&self) {
        self.port.0.cross_off();
    }

    /// Whether nobody sits, is parked or searches, and no watch is kept or left behind.
    pub fn is_quiet(&self) -> bool {
        self.port.0.sleep.is_quiet()
    }

    /// How many workers sit or are parked.
    pub fn asleep(&self) -> u64 {
        self.port.0.sleep.asleep()
    }

    /// Lets the port run again after a stop.
    pub fn restart(&self) {
        self.port.0.lower(crate::port::halt::STOPPED);
    }
}

impl ModelObject {
    /// Takes up to `len` units; the handler gets how many.
    pub fn take(
        &self,
        len: usize,
        handler: impl FnOnce(Result<usize, Error>) + Send + 'static,
    ) -> OperationKey {
        self.taking(len).then(handler)
    }

    /// To take up to `len` units, not yet begun.
    pub fn taking(&self, len: usize) -> Initiation<Take> {
        Initiation::on_object(&self.0, Move::new(len, false))
    }

    /// To take just as many units, in as many calls as that needs, not yet begun.
    pub fn taking_all(&self, len: usize) -> Initiation<Take> {
        Initiation::on_object(&self.0, Move::new(len, true))
    }

    /// Gives up to `len` units; the handler gets how many.
    pub fn give(
        &self,
        len: usize,
        handler: impl FnOnce(Result<usize, Error>) + Send + 'static,
    ) -> OperationKey {
        Initiation::on_object(&self.0, Give::new(len, false)).then(handler)
    }

    /// To give just as many units, in as many calls as that needs, not yet begun.
    pub fn giving_all(&self, len: usize) -> Initiation<Give> {
        Initiation::on_object(&self.0, Move::new(len, true))
    }

    /// Takes up to `len` units by a poll, here.
    pub fn poll_take(&self, len: usize, waker: &Waker) -> Poll<Result<usize, Error>> {
        self.poll(len, Way::Read, waker)
    }

    /// Gives up to `len` units by a poll, here.
    pub fn poll_give(&self, len: usize, waker: &Waker) -> Poll<Result<usize, Error>> {
        self.poll(len, Way::Write, waker)
    }

    fn poll(&self, len: usize, way: Way, waker: &Waker) -> Poll<Result<usize, Error>> {
        // What is lent is whoever polls's again as soon as this is over: nobody else may be using it then.
        let lent = Witness::default();
        let request = Request::Script {
            len,
            write: way == Way::Write,
            memory: (&raw const lent).cast(),
        };
        // SAFETY: `lent` stands here.
        let polled = unsafe { self.0.poll(way, request, &Context::from_waker(waker)) };
        lent.touch();
        polled.map(|raw| decode(raw, Kind::Read))
    }

    /// Asks what is pending to end as cancelled.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// How many events its reading side was told of.
    pub fn events(&self) -> u32 {
        self.0.entry().direction(Way::Read).tick
    }

    /// Ends what is pending as cancelled, and lets nothing in any more.
    pub fn close(&self) {
        self.0.close();
    }
}
