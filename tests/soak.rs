//! Everything beside everything, at random: whatever is begun ends once, and what a stream carries arrives whole and in order, whatever is
//! cancelled, timed out, closed or given up beside it. `PROACTOR_SOAK_SECS` has each setup go on for as long.
#![cfg(not(proactor_loom))]

mod common;
/// An initiation, perhaps with a time limit, perhaps to be cancelled by whoever comes.
macro_rules! endangered {
    ($world:expr, $initiation:expr) => {{
        let (world, mut initiation) = (&*$world, $initiation);
        if world.rarely(6) {
            initiation = initiation.timeout(world.moment());
        }
        if world.rarely(6) {
            initiation = initiation.cancel_with(&locked(&world.token));
        }
        initiation
    }};
}

#[path = "soak/pipe.rs"]
mod pipe;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, SOON, Setup, setups, until, within};
use futures_lite::future::yield_now;
use pipe::Pipe;
use proactor::time::Timer;
use proactor::{
    BufferPool, Builder, CancelToken, CompletionPort, ErrorKind, OperationKey, Strand, Strategy,
    blocking_section,
};

/// How many things are begun in a round, beside the pipes.
const ACTIONS: usize = 3000;
const ONE: NonZeroUsize = NonZeroUsize::MIN;
const PIPES: usize = 4;
/// How many are pending before nobody outside begins more: most is to follow from handlers.
const FEW: usize = 60;

/// What all that goes on shares.
struct World {
    port: CompletionPort,
    pool: BufferPool,
    threads: usize,
    /// Whether a handler that blocks must say so, or others do not run.
    limited: bool,
    chance: Mutex<Random>,
    left: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// What was dropped, and has not ended.
    lost: AtomicUsize,
    strands: [Strand<Alone>; 3],
    timer: Timer,
    token: Mutex<CancelToken>,
    key: Mutex<Option<OperationKey>>,
    is_meeting: AtomicBool,
    pipes: Mutex<Vec<Arc<Pipe>>>,
}

/// A strand's state: whoever has it is alone.
#[derive(Default)]
struct Alone {
    entered: bool,
}

impl Alone {
    fn visit(&mut self, visit: impl FnOnce()) {
        assert!(!self.entered, "two handlers of one strand at a time");
        self.entered = true;
        visit();
        self.entered = false;
    }
}

/// Something that was begun, and is to end once.
struct Duty(Option<Arc<World>>);

impl Duty {
    fn end(mut self) {
        if let Some(world) = self.0.take() {
            world.go_on();
            world.ended.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(world) = &self.0 {
            world.lost.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Where two come together.
#[derive(Default)]
struct Meeting {
    count: Mutex<usize>,
    told: Condvar,
    left: AtomicBool,
}

impl Meeting {
    fn arrive(&self) {
        let mut count = locked(&self.count);
        *count += 1;
        self.told.notify_all();
        let waited = self
            .told
            .wait_timeout_while(count, SOON, |count| *count < 2)
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*waited.0, 2, "a call was left to one that needs it");
    }

    fn is_last_to_leave(&self) -> bool {
        self.left.swap(true, Ordering::SeqCst)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn duty(self: &Arc<Self>) -> Duty {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Duty(Some(Arc::clone(self)))
    }

    fn pending(&self) -> usize {
        let ended = self.ended.load(Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst).saturating_sub(ended)
    }

    fn random(&self, least: usize, most: usize) -> usize {
        locked(&self.chance).within(least, most)
    }

    /// One in so many.
    fn rarely(&self, of: usize) -> bool {
        self.random(1, of) == 1
    }

    fn moment(&self) -> Duration {
        Duration::from_micros(self.random(0, 2500) as u64)
    }

    /// What follows from a handler.
    fn go_on(self: &Arc<Self>) {
        for _ in 0..[0, 1, 1, 2][self.random(0, 3)] {
            self.act();
        }
    }

    /// Begins something, if there is something left.
    fn act(self: &Arc<Self>) {
        let take = |left: usize| left.checked_sub(1);
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if taken.is_err() {
            return;
        }
        match self.random(0, 15) {
            0..=1 => self.call(),
            2..=3 => self.call_on_strand(),
            4..=6 => self.sleep(),
            7 => self.wait_for_timer(),
            8 => self.block(),
            9..=10 => self.spawn(),
            11 => self.give_up_a_future(),
            12 => self.wait_here(),
            13 => self.meet(),
            14 => self.cancel(),
            _ => self.open_or_close(),
        }
    }

    fn call(self: &Arc<Self>) {
        let duty = self.duty();
        match self.random(0, 3) {
            0 => self.port.post(move || duty.end()),
            1 => self.port.post_keyed(7, move || duty.end()),
            2 => self.port.defer(move || duty.end()),
            _ => self.port.dispatch(move || duty.end()),
        }
    }

    fn strand(&self) -> &Strand<Alone> {
        &self.strands[self.random(0, self.strands.len() - 1)]
    }

    fn call_on_strand(self: &Arc<Self>) {
        let duty = self.duty();
        match self.rarely(2) {
            true => self.strand().post(move |alone| alone.visit(|| duty.end())),
            // Within the strand it would run here, as a part of this visit.
            false => self.strand().dispatch(move |_alone| duty.end()),
        }
    }

    fn sleep(self: &Arc<Self>) {
        let duty = self.duty();
        let sleep = endangered!(self, self.port.sleep(self.moment()));
        let key = match self.rarely(3) {
            true => sleep
                .on(self.strand())
                .then(move |alone, _ended| alone.visit(|| duty.end())),
            false => sleep.then(move |_ended| duty.end()),
        };
        if self.rarely(2) {
            *locked(&self.key) = Some(key);
        }
    }

    fn wait_for_timer(self: &Arc<Self>) {
        let duty = self.duty();
        // Set before, or at once: so nobody waits for a timer that nobody sets.
        if self.rarely(2) {
            self.timer.expires_after(self.moment());
        }
        self.timer.on_expiry().then(move |_ended| duty.end());
    }

    fn block(self: &Arc<Self>) {
        let duty = self.duty();
        let blocking = endangered!(self, self.port.blocking(thread::yield_now));
        blocking.then(move |_ended| duty.end());
    }

    fn spawn(self: &Arc<Self>) {
        let (duty, world) = (self.duty(), Arc::clone(self));
        let sleep = endangered!(self, self.port.sleep(self.moment()));
        let future = async move {
            let _ended = sleep.await;
            yield_now().await;
            let _ended = endangered!(world, world.port.blocking(|| 7)).await;
            duty.end();
        };
        match self.rarely(3) {
            true => self.port.spawn_on(self.strand(), future).detach(),
            false => self.port.spawn(future).detach(),
        }
    }

    /// Its task is aborted at some time; who joins it is told in any case.
    fn give_up_a_future(self: &Arc<Self>) {
        let duty = self.duty();
        let (sleep, later) = (self.port.sleep(self.moment()), self.moment());
        let mut task = self.port.spawn(async move { sleep.await.is_ok() });
        if self.rarely(2) {
            task.abort();
        }
        let port = self.port.clone();
        self.port
            .spawn(async move {
                let _ended = port.sleep(later).await;
                task.abort();
                let _joined = task.await;
                duty.end();
            })
            .detach();
    }

    fn wait_here(self: &Arc<Self>) {
        let duty = self.duty();
        let waiting = endangered!(self, self.port.sleep(self.moment() / 4));
        if let Err(error) = waiting.wait() {
            let known = [
                ErrorKind::Cancelled,
                ErrorKind::TimedOut,
                ErrorKind::WouldDeadlock,
            ];
            assert!(known.contains(&error.kind()), "{error}");
        }
        duty.end();
    }

    /// Two calls that need each other: one of them must not be left to whoever runs the other.
    fn meet(self: &Arc<Self>) {
        if self.threads < 2 || self.is_meeting.swap(true, Ordering::SeqCst) {
            return self.call();
        }
        let met = Arc::<Meeting>::default();
        for _ in 0..2 {
            let (duty, world, met) = (self.duty(), Arc::clone(self), Arc::clone(&met));
            self.port.post(move || {
                match world.limited {
                    true => blocking_section(|| met.arrive()),
                    false => met.arrive(),
                }
                if met.is_last_to_leave() {
                    world.is_meeting.store(false, Ordering::SeqCst);
                }
                duty.end();
            });
        }
    }

    fn cancel(self: &Arc<Self>) {
        if self.rarely(2) {
            let token = std::mem::take(&mut *locked(&self.token));
            token.cancel();
        } else if let Some(key) = locked(&self.key).take() {
            self.port.cancel(key);
        }
        self.timer.expires_after(self.moment());
    }

    fn open_or_close(self: &Arc<Self>) {
        let closes = self.rarely(8);
        let at = self.random(0, PIPES - 1);
        if let Some(pipe) = locked(&self.pipes).get(at).filter(|_| closes) {
            return pipe.close();
        }
        self.call();
    }
}

/// Knobs that are set by chance: none may matter. And whether not all threads may run handlers at a time.
fn tuned(setup: Setup, chance: &mut Random) -> (Builder, bool) {
    let mut any = |least, most| NonZeroUsize::new(chance.within(least, most)).unwrap_or(ONE);
    let mut builder = setup
        .builder()
        .batch(any(1, 64))
        .turn_budget(any(1, 32).get() - 1)
        .poll_every(any(1, 64))
        .blocking_threads(any(1, 3));
    if any(1, 3) == ONE {
        builder = builder.spin(Duration::from_micros(30));
    }
    if setup.strategy != Strategy::Single {
        builder = builder.seats(any(1, 2));
    }
    let limited = setup.threads > 1 && any(1, 3) == ONE;
    if limited {
        builder = builder.concurrency(any(1, setup.threads - 1));
    }
    (builder, limited)
}

/// One round, with a world of its own.
fn round(setup: Setup, mut chance: Random) {
    let (builder, limited) = tuned(setup, &mut chance);
    let proactor = builder.build().expect("sound settings");
    let port = proactor.port().clone();
    let strand = || Strand::new(&port, Alone::default());
    let world = Arc::new(World {
        pool: BufferPool::new(3000),
        threads: setup.threads,
        limited,
        chance: Mutex::new(chance.fork()),
        left: AtomicUsize::new(ACTIONS),
        begun: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
        lost: AtomicUsize::new(0),
        strands: [strand(), strand(), strand()],
        timer: Timer::new(&port),
        token: Mutex::default(),
        key: Mutex::default(),
        is_meeting: AtomicBool::new(false),
        pipes: Mutex::default(),
        port,
    });
    proactor.start().expect("threads");
    for _ in 0..PIPES {
        let pipe = Pipe::open(&world);
        locked(&world.pipes).push(pipe);
    }
    while world.left.load(Ordering::SeqCst) > 0 {
        match world.pending() < FEW {
            true => world.act(),
            false => thread::yield_now(),
        }
    }
    world.timer.expires_after(Duration::ZERO);
    until("everything that was begun has ended", || {
        world.timer.cancel();
        world.pending() == 0
    });
    for pipe in locked(&world.pipes).drain(..) {
        pipe.check();
    }
    let its_own_guard = 1;
    until("nothing is outstanding", || {
        world.port.outstanding() == its_own_guard
    });
    drop(proactor);
    assert_eq!(world.lost.load(Ordering::SeqCst), 0, "dropped, not ended");
}

#[test]
fn whatever_is_begun_beside_whatever_else_ends_once() {
    let seconds = std::env::var("PROACTOR_SOAK_SECS").map_or(0, |seconds| {
        seconds.parse().expect("PROACTOR_SOAK_SECS is a number")
    });
    let mut chance = Random::new();
    for setup in setups(&[1, 2, 4]) {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let chance = chance.fork();
            within(&setup.to_string(), move || round(setup, chance));
            if Instant::now() >= end {
                break;
            }
        }
    }
}
