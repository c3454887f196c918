//! The dispatch models, against any strategy: loom tries every interleaving of a few threads.
//!
//! They run over the port of the models, with its scripted kernel, and with the steps that `docs/dispatch-protocols.md` names. A model that
//! fails does so by a panic, which under loom ends the process as it unwinds (what is dropped on the way asks loom again). So a model
//! has a thread of its own, and the hook stops that thread where it panics, for ever, once it has told what it knows.

use std::cell::RefCell;
use std::panic;
use std::time::Duration;

use super::Make;
use super::bench::attached;
use super::promise::{Broken, Promise};
use super::watch::{Ended, on_a_thread, text};
use crate::cell::Home;
use crate::completion::{self, Completion};
use crate::dispatch::{Dispatcher, Origin, Placed, Worker};
use crate::error::BuildError;
use crate::local::Local;
use crate::model::{ModelPort, Witness, recycle, set_clock, spurious, ticks};
use crate::sync::plain::{mpsc, thread as plain};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, OnceLock, PlainMutex};

/// A model: what it is about, and what happens in each execution.
pub(super) struct Model {
    pub(super) promise: Promise,
    body: fn(&Scene),
}

pub(super) const ALL: [&Model; 7] = [
    &Model {
        promise: Promise::ExactlyOnce,
        body: exactly_once,
    },
    &Model {
        promise: Promise::Shared,
        body: stolen,
    },
    &Model {
        promise: Promise::HonestlyEmpty,
        body: honestly_empty,
    },
    &Model {
        promise: Promise::HandsOn,
        body: hands_on,
    },
    &Model {
        promise: Promise::Wakes,
        body: wakes,
    },
    &Model {
        promise: Promise::AnyThread,
        body: stopped,
    },
    &Model {
        promise: Promise::GivesUp,
        body: gives_up,
    },
];

/// How many preemptions deep, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

// ---- how a model is run ----

type Report = mpsc::Sender<Ended<usize>>;

std::thread_local! {
    /// Whom this thread tells how its model ended.
    static REPORT: RefCell<Option<Report>> = const { RefCell::new(None) };
}

/// Explores `model` for as long as `patience` lasts; how far that went, in words.
pub(super) fn explore(
    model: &'static Model,
    make: &Make,
    patience: Duration,
) -> Result<String, Broken> {
    stop_where_it_panics();
    let mut loom = loom::model::Builder::new();
    loom.max_branches = loom.max_branches.max(20_000);
    loom.max_duration = Some(loom.max_duration.unwrap_or(patience));
    let bound = *loom.preemption_bound.get_or_insert(PREEMPTIONS);
    let began = std::time::Instant::now();
    let scene = Scene::new(make);
    let ended = on_a_thread(2 * patience, move |report| {
        REPORT.set(Some(report.clone()));
        let executions = Arc::new(PlainMutex::new(0));
        let counted = Arc::clone(&executions);
        loom.check(move || {
            *lock(&counted) += 1;
            spurious(0);
            ticks(0);
            recycle(false);
            set_clock(0);
            (model.body)(&scene);
        });
        let count = *lock(&executions);
        let _ = report.send(Ended::Returned(count));
    });
    let took = began.elapsed();
    let promise = model.promise;
    match ended {
        Some(Ended::Returned(count)) => {
            let all = if took < patience { "all" } else { "the first" };
            let took = took.as_secs_f64();
            Ok(format!("{all} {count} executions at {bound} preemptions, {took:.1} s"))
        }
        Some(Ended::Panicked(text)) => Err(promise.broken(format!("in a model of it: {text}"))),
        None => Err(promise.broken(format!(
            "in a model of it an execution hangs, and loom does not see where: after {:?} it was not over. Are the \
             strategy's locks those of `proactor::conformance::sync`?",
            2 * patience
        ))),
    }
}

/// A thread that has a report to make makes it where it panics, and stays there: nothing of the model is unwound or dropped. The
/// hook is never left again on that thread, so nobody can change the hook afterwards: it is for a process that ends with its tests.
fn stop_where_it_panics() {
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let Some(report) = REPORT.take() else {
                return before(panic);
            };
            let text = match panic.location() {
                Some(at) => format!("{} ({at})", text(panic.payload())),
                None => text(panic.payload()).to_owned(),
            };
            let _ = report.send(Ended::Panicked(text));
            loop {
                plain::park();
            }
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
    fn new(make: &Make) -> Self {
        let takes = |workers: &usize| attached(make, *workers).is_some();
        Self {
            make: Arc::clone(make),
            workers: [2, 1].into_iter().find(takes).unwrap_or(1),
        }
    }

    fn port(&self, seats: usize) -> ModelPort {
        self.port_of((self.make)(), seats)
    }

    fn port_of(&self, dispatcher: Box<dyn Dispatcher>, seats: usize) -> ModelPort {
        ModelPort::new(dispatcher, self.workers, seats, seats > 1, 0)
    }
}

/// A thread of the model.
fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
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

/// Two workers take from what one posts from outside and a handler posts from inside.
fn exactly_once(scene: &Scene) {
    let port = scene.port(2);
    let calls: [Once; 3] = Default::default();
    port.port.post({
        let (port, first, second) = (port.clone(), calls[0].call(), calls[1].call());
        move || {
            port.port.post(first);
            port.port.defer(second);
        }
    });
    let others = (1..scene.workers).map(|_| {
        let port = port.clone();
        spawn(move || port.work())
    });
    let others: Vec<_> = others.collect();
    port.port.post(calls[2].call());
    port.work();
    others.into_iter().for_each(|other| drop(join(other)));
    for (call, what) in calls.iter().zip([
        "what a handler posted",
        "what a handler deferred",
        "what was posted",
    ]) {
        call.ended("run", what);
    }
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
    let home = Home::new(scene.workers);
    let strategy = attached(&scene.make, scene.workers).expect("as many as before");
    let strategy: Arc<dyn Dispatcher> = Arc::from(strategy);
    let give = |strategy: &dyn Dispatcher, home: &Home| {
        strategy.dispatch(completion::post(home, 0, || ()), Origin::Outside);
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

/// Workers are about to sleep: one sits, another parks. Of two calls that are posted the first one's handler waits for the second.
fn wakes(scene: &Scene) {
    let port = scene.port(1);
    port.enter();
    let workers = (0..scene.workers).map(|_| {
        let port = port.clone();
        spawn(move || port.work())
    });
    let workers: Vec<_> = workers.collect();
    let done = Event::default();
    if scene.workers > 1 {
        let done = done.clone();
        port.port.post(move || done.wait());
    }
    port.port.post({
        let port = port.clone();
        move || {
            done.happen();
            port.cross_off();
        }
    });
    workers.into_iter().for_each(|worker| drop(join(worker)));
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
    let others = (1..scene.workers).map(|_| {
        let port = port.clone();
        spawn(move || port.work())
    });
    let others: Vec<_> = others.collect();
    port.work();
    others.into_iter().for_each(|other| drop(join(other)));
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
