//! The dispatch models, against any strategy: loom tries every interleaving of a few threads.
//!
//! They run over the port of the models, with its scripted kernel. A model that fails does so by a panic; what is then dropped on the
//! way out asks loom again, which ends the process without a word. So the hook has the last word: it says which promise is broken, and
//! ends the process itself.

use std::cell::Cell;
use std::io::Write;
use std::panic;
use std::time::Duration;

use super::Make;
use super::bench::attached;
use super::promise::{Broken, Promise};
use super::watch::{Ended, Stage, on_a_thread, text};
use crate::cell::Home;
use crate::completion::{self, Completion};
use crate::dispatch::{Dispatcher, Origin, Placed, Worker};
use crate::error::BuildError;
use crate::local::Local;
use crate::model::{ModelPort, Witness, recycle, set_clock, spurious, ticks};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Arc, Condvar, Explorer, Mutex, OnceLock, PlainMutex};

/// A model: what it is about, how many preemptions deep unless `LOOM_MAX_PREEMPTIONS` says otherwise, and what happens in each
/// execution.
pub(super) struct Model(pub(super) Promise, usize, fn(&Scene));

pub(super) const ALL: [&Model; 9] = [
    &Model(Promise::Wakes, 2, wakes),
    &Model(Promise::Wakes, 1, wakes_two),
    &Model(Promise::ExactlyOnce, 2, posts_against_takes),
    &Model(Promise::ExactlyOnce, 2, two_take),
    &Model(Promise::Shared, 2, stolen),
    &Model(Promise::HonestlyEmpty, 2, honestly_empty),
    &Model(Promise::HandsOn, 2, hands_on),
    &Model(Promise::AnyThread, 2, stopped),
    &Model(Promise::GivesUp, 2, gives_up),
];

// ---- how a model is run ----

std::thread_local! {
    /// What this thread's model is about.
    static PROMISE: Cell<Option<Promise>> = const { Cell::new(None) };
}

/// Explores `model` for as long as `patience` lasts; how far that went, in words.
pub(super) fn explore(
    model: &'static Model,
    make: &Make,
    patience: Duration,
) -> Result<String, Broken> {
    have_the_last_word();
    let mut loom = Explorer::new();
    loom.max_branches = loom.max_branches.max(20_000);
    loom.max_duration = Some(loom.max_duration.unwrap_or(patience));
    let Model(promise, bound, body) = *model;
    let bound = *loom.preemption_bound.get_or_insert(bound);
    let began = std::time::Instant::now();
    let (make, stage) = (Arc::clone(make), Stage::default());
    let executing = stage.clone();
    let ended = on_a_thread(patience, &stage, move |report| {
        PROMISE.set(Some(promise));
        let scene = Scene::new(&make);
        loom.check(move || {
            executing.at("");
            spurious(0);
            ticks(0);
            recycle(false);
            set_clock(0);
            body(&scene);
        });
        let _ = report.send(Ended::Returned(()));
    });
    let took = began.elapsed();
    match ended {
        Some(Ended::Returned(())) => {
            let count = stage.steps();
            let all = if took < patience { "all" } else { "the first" };
            let took = took.as_secs_f64();
            Ok(format!("{all} {count} executions at {bound} preemptions, {took:.1} s"))
        }
        Some(Ended::Panicked(text)) => Err(promise.broken(text)),
        None => Err(promise.broken(format!(
            "in a model of it an execution hangs, and loom does not see where: after {patience:?} it was not over. Are the \
             strategy's locks those of `proactor::conformance::sync`?"
        ))),
    }
}

/// A model that panics ends the process, with the promise that it is about, and what was seen, on stderr.
fn have_the_last_word() {
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let Some(promise) = PROMISE.get() else {
                return before(panic);
            };
            let at = panic.location().map(|at| format!(" ({at})"));
            let (said, at) = (text(panic.payload()), at.unwrap_or_default());
            let broken = promise.broken(format!("in a model of it: {}{at}", said.trim_end()));
            // Not by a macro, whose words a test harness would keep for the end of the test.
            let _ = writeln!(std::io::stderr(), "\n{broken}");
            std::process::exit(101);
        }));
    });
}

fn lock<T>(mutex: &PlainMutex<T>) -> crate::sync::plain::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

// ---- what a model is made of ----

/// The strategy, and how many workers it takes of two.
struct Scene {
    make: Make,
    workers: usize,
}

impl Scene {
    /// Asks the strategy, in a model that it has to itself: its locks may be loom's.
    fn new(make: &Make) -> Self {
        let (asked, workers) = (Arc::clone(make), Arc::new(PlainMutex::new(1)));
        let answered = Arc::clone(&workers);
        Explorer::new().check(move || {
            *lock(&answered) = if attached(&asked, 2).is_some() { 2 } else { 1 };
        });
        let workers = *lock(&workers);
        let make = Arc::clone(make);
        Self { make, workers }
    }

    fn port(&self, seats: usize) -> ModelPort {
        self.port_of((self.make)(), seats)
    }

    fn port_of(&self, dispatcher: Box<dyn Dispatcher>, seats: usize) -> ModelPort {
        ModelPort::new(dispatcher, self.workers, seats, seats > 1, 0)
    }

    /// The workers beside the main thread, at work.
    fn others(&self, port: &ModelPort) -> Vec<JoinHandle<()>> {
        let other = |_| {
            let port = port.clone();
            spawn(move || {
                port.work();
            })
        };
        (1..self.workers).map(other).collect()
    }
}

/// A thread of the model.
fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(body).expect("a model's thread")
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("a model's thread returns")
}

/// A call that is to happen once, and that knows whether it was run or dropped. It reads what was written before it was posted.
#[derive(Clone, Default)]
struct Once(Arc<(PlainMutex<Vec<&'static str>>, Witness)>);

struct Tell(Once, &'static str);

impl Once {
    fn call(&self) -> impl FnOnce() + Send + 'static {
        self.0.1.touch();
        let tell = Tell(self.clone(), "dropped uncalled");
        move || tell.run()
    }

    #[track_caller]
    fn ended(&self, how: &str, what: &str) {
        let happened = lock(&self.0.0).clone();
        match happened[..] {
            [] => panic!("{what} was lost: neither run nor dropped"),
            [once] => assert!(once == how, "{what} was {once}"),
            _ => panic!("{what} came back more than once: {happened:?}"),
        }
    }
}

impl Tell {
    fn run(mut self) {
        self.0.0.1.touch(); // loom says so if nothing orders this behind the posting
        self.1 = "run";
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        lock(&self.0.0.0).push(self.1);
    }
}

/// Something that one handler waits for and another one does.
#[derive(Clone, Default)]
struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    fn happen(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut done = self.0.0.lock();
        while !*done {
            done = self.0.1.wait(done);
        }
    }
}

/// The strategy, and what it last said of what a handler posted.
#[derive(Debug)]
struct Overheard {
    strategy: Box<dyn Dispatcher>,
    said: Arc<PlainMutex<Option<Placed>>>,
}

impl Dispatcher for Overheard {
    fn attach(
        &mut self,
        threads: Option<std::num::NonZeroUsize>,
    ) -> Result<std::num::NonZeroUsize, BuildError> {
        self.strategy.attach(threads)
    }

    fn dispatch(&self, completion: Completion, origin: Origin<'_>) -> Placed {
        let placed = self.strategy.dispatch(completion, origin);
        if let Origin::Posted(_) = origin {
            *lock(&self.said) = Some(placed);
        }
        placed
    }

    fn next(&self, worker: Worker<'_>) -> Option<Completion> {
        self.strategy.next(worker)
    }

    fn is_empty(&self) -> bool {
        self.strategy.is_empty()
    }
}

// ---- the models ----

/// One posts while a worker takes, and its handler posts, too.
fn posts_against_takes(scene: &Scene) {
    let port = scene.port(2);
    port.enter();
    let calls: [Once; 2] = Default::default();
    port.port.post({
        let (port, call) = (port.clone(), calls[0].call());
        move || port.port.post(call)
    });
    let worker = {
        let port = port.clone();
        spawn(move || port.work())
    };
    port.port.post(calls[1].call());
    port.cross_off();
    join(worker);
    calls[0].ended("run", "what a handler posted");
    calls[1].ended("run", "what was posted from outside meanwhile");
}

/// Two workers take what two calls and their handlers make.
fn two_take(scene: &Scene) {
    let port = scene.port(2);
    let calls: [Once; 2] = Default::default();
    port.port.post({
        let (port, call) = (port.clone(), calls[0].call());
        move || port.port.defer(call)
    });
    port.port.post(calls[1].call());
    let others = scene.others(&port);
    port.work();
    others.into_iter().for_each(join);
    calls[0].ended("run", "what a handler deferred");
    calls[1].ended("run", "what was posted from outside");
}

/// A handler waits for what it posted, if the strategy said that another may take it.
fn stolen(scene: &Scene) {
    if scene.workers < 2 {
        return;
    }
    let said = Arc::default();
    let overheard = Overheard {
        strategy: (scene.make)(),
        said: Arc::clone(&said),
    };
    let port = scene.port_of(Box::new(overheard), 2);
    let (done, posted) = (Event::default(), Once::default());
    port.port.post({
        let (port, done, call) = (port.clone(), done.clone(), posted.call());
        move || {
            let happens = done.clone();
            port.port.post(move || {
                call();
                happens.happen();
            });
            if *lock(&said) == Some(Placed::Shared) {
                done.wait();
            }
        }
    });
    let other = {
        let port = port.clone();
        spawn(move || port.work())
    };
    port.work();
    join(other);
    posted.ended("run", "what a handler posted");
}

/// One is held; a worker takes one, while somebody gives another and then looks whether there is any: one there is.
fn honestly_empty(scene: &Scene) {
    let home = Home::new(scene.workers, None, 0);
    let strategy = attached(&scene.make, scene.workers).expect("as many as before");
    let strategy: Arc<dyn Dispatcher> = Arc::from(strategy);
    let give = |strategy: &dyn Dispatcher, home: &Home| {
        strategy.dispatch(completion::post(home, 0, false, || ()), Origin::Outside);
    };
    give(&*strategy, &home);
    let looker = {
        let (strategy, home) = (Arc::clone(&strategy), Arc::clone(&home));
        spawn(move || {
            give(&*strategy, &home);
            strategy.is_empty()
        })
    };
    let local = Local::new(&home, 0, scene.workers);
    local.picks.set(1);
    let taken = strategy.next(Worker::new(&local));
    // A worker may have taken one over for itself.
    let listed = !(local.turn.is_empty() && local.kept.is_empty());
    assert!(
        !join(looker) || listed,
        "two were given, and a worker had asked for one of them, when whoever gave the second was told that nothing is there"
    );
    drop(taken);
    drop(local.turn.take_all().chain(local.kept.take_all()));
    for index in 0..scene.workers {
        let local = Local::new(&home, index, scene.workers);
        local.picks.set(1);
        while strategy.next(Worker::new(&local)).is_some() {}
    }
}

/// A worker leaves after one handler, which posted one call and deferred another.
fn hands_on(scene: &Scene) {
    let port = scene.port(2);
    let calls: [Once; 2] = Default::default();
    port.port.post({
        let (port, first, second) = (port.clone(), calls[0].call(), calls[1].call());
        move || {
            port.port.post(first);
            port.port.defer(second);
        }
    });
    let other = {
        let port = port.clone();
        spawn(move || port.work_some(1))
    };
    if scene.workers < 2 {
        join(other);
        port.work();
    } else {
        port.work();
        join(other);
    }
    calls[0].ended("run", "what the handler of a worker that left had posted");
    calls[1].ended("run", "what the handler of a worker that left had deferred");
}

/// A worker is about to sleep when a call is posted from outside.
fn wakes(scene: &Scene) {
    let port = scene.port(2);
    port.enter();
    let worker = {
        let port = port.clone();
        spawn(move || port.work())
    };
    let done = Event::default();
    port.port.post({
        let done = done.clone();
        move || done.happen()
    });
    done.wait();
    port.cross_off();
    join(worker);
}

/// Two workers are about to sleep: one sits, the other parks. Of two calls that are posted the first one's handler waits for the
/// second.
fn wakes_two(scene: &Scene) {
    if scene.workers < 2 {
        return;
    }
    let port = scene.port(1);
    port.enter();
    let workers = [port.clone(), port.clone()].map(|port| spawn(move || port.work()));
    let done = Event::default();
    port.port.post({
        let done = done.clone();
        move || done.wait()
    });
    port.port.post({
        let port = port.clone();
        move || {
            done.happen();
            port.cross_off();
        }
    });
    workers.into_iter().for_each(|worker| {
        join(worker);
    });
}

/// A handler posts and stops; what it posted is run, by then or after the restart.
fn stopped(scene: &Scene) {
    let port = scene.port(1);
    port.enter();
    let calls: [Once; 2] = Default::default();
    port.port.post({
        let (port, first, second) = (port.clone(), calls[0].call(), calls[1].call());
        move || {
            port.port.post(first);
            port.port.defer(second);
            port.port.stop();
        }
    });
    let others = scene.others(&port);
    port.work();
    others.into_iter().for_each(join);
    port.cross_off();
    port.restart();
    // Another thread than before.
    join(spawn(move || port.work()));
    calls[0].ended("run", "what a handler had posted before it stopped the run");
    calls[1].ended(
        "run",
        "what a handler had deferred before it stopped the run",
    );
}

/// One call is held, and another posted, when the proactor is dropped.
fn gives_up(scene: &Scene) {
    let model = scene.port(2);
    let proactor = model.proactor();
    let calls: [Once; 2] = Default::default();
    proactor.post(calls[0].call());
    let poster = {
        let (model, call) = (model.clone(), calls[1].call());
        spawn(move || model.port.post(call))
    };
    drop(proactor);
    join(poster);
    drop(model);
    calls[0].ended("dropped uncalled", "what was held at the end");
    calls[1].ended("dropped uncalled", "what was posted at the end");
}
