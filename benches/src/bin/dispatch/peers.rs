//! The competitors. What has no strands gets one that is made of a locked queue and a flag, as its users would write it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam::channel::{Sender, unbounded};
use proactor_bench::cli::Outcome;
use proactor_bench::count::Count;

use crate::pools::{Line, Pool};

type Call = Box<dyn FnOnce() + Send>;
type Ordered = Box<dyn FnOnce(&mut Line) + Send>;

/// Runs its calls one at a time, in order, on any pool.
#[derive(Clone, Default)]
pub(crate) struct Serial(Arc<State>);

#[derive(Default)]
struct State {
    waiting: Mutex<(VecDeque<Ordered>, bool)>,
    line: Mutex<Line>,
}

/// How many calls of a strand run before others have their turn.
const AT_A_TIME: usize = 64;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serial {
    fn post<P: Pool>(&self, pool: &'static P, call: Ordered) {
        let mut waiting = locked(&self.0.waiting);
        waiting.0.push_back(call);
        if !std::mem::replace(&mut waiting.1, true) {
            drop(waiting);
            self.run_on(pool);
        }
    }

    fn run_on<P: Pool>(&self, pool: &'static P) {
        let serial = self.clone();
        pool.post(move || {
            let mut line = locked(&serial.0.line);
            for _ in 0..AT_A_TIME {
                let mut waiting = locked(&serial.0.waiting);
                let Some(call) = waiting.0.pop_front() else {
                    waiting.1 = false;
                    return;
                };
                drop(waiting);
                call(&mut line);
            }
            drop(line);
            serial.run_on(pool);
        });
    }
}

macro_rules! serial {
    () => {
        type Strand = Serial;
        fn strand(&'static self) -> Serial {
            Serial::default()
        }
        fn post_to<F>(&'static self, strand: &Serial, call: F)
        where
            F: FnOnce(&mut Line) + Send + 'static,
        {
            strand.post(self, Box::new(call));
        }
    };
}

/// Threads that take boxed calls from a channel of crossbeam's.
pub(crate) struct Channel(Sender<Call>);

impl Channel {
    pub(crate) fn new(threads: usize) -> Outcome<&'static Self> {
        let (sender, receiver) = unbounded::<Call>();
        for _ in 0..threads {
            let receiver = receiver.clone();
            thread::Builder::new().spawn(move || receiver.into_iter().for_each(|call| call()))?;
        }
        Ok(Box::leak(Box::new(Self(sender))))
    }
}

impl Pool for Channel {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        // Its threads have the other end for as long as the process lives.
        let _ = self.0.send(Box::new(call));
    }
}

pub(crate) fn rayon(threads: usize) -> Outcome<&'static rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    Ok(Box::leak(Box::new(pool)))
}

impl Pool for rayon::ThreadPool {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.spawn(call);
    }
}

/// The crate `threadpool`, whose handle threads share under a lock.
pub(crate) struct Pooled(threadpool::ThreadPool);

impl Pooled {
    pub(crate) fn new(threads: usize) -> &'static Self {
        Box::leak(Box::new(Self(threadpool::ThreadPool::new(threads))))
    }
}

// The crate's handle is `Sync` since its sender is; it is used by reference alone.
impl Pool for Pooled {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.0.execute(call);
    }
}

pub(crate) fn tokio(threads: usize) -> Outcome<&'static tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .build()?;
    Ok(Box::leak(Box::new(runtime)))
}

impl Pool for tokio::runtime::Runtime {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.spawn(async move { call() });
    }
    fn take_turns(&'static self, count: &'static Count) -> Outcome {
        self.spawn(turns(count, tokio::task::yield_now));
        Ok(())
    }
}

/// Yields before each call.
async fn turns<F: Future<Output = ()>>(count: &'static Count, yields: fn() -> F) {
    for call in 0..count.calls() {
        yields().await;
        count.ran(call);
    }
}

/// tokio's runtime of one thread, on a thread of its own.
pub(crate) struct Current(tokio::runtime::Handle);

impl Current {
    pub(crate) fn new(threads: usize) -> Outcome<&'static Self> {
        if threads > 1 {
            return Err(format!("tokio-current has one thread, not {threads}").into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Box::leak(Box::new(Self(handle))))
    }
}

impl Pool for Current {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.0.spawn(async move { call() });
    }
    fn take_turns(&'static self, count: &'static Count) -> Outcome {
        self.0.spawn(turns(count, tokio::task::yield_now));
        Ok(())
    }
}

/// What smol runs on.
impl Pool for smol::Executor<'static> {
    serial!();
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.spawn(async move { call() }).detach();
    }
    fn take_turns(&'static self, count: &'static Count) -> Outcome {
        self.spawn(turns(count, smol::future::yield_now)).detach();
        Ok(())
    }
}
