//! Shared pieces of the model checks. Run them with `cargo loom`; `docs/dispatch-protocols.md` says what each is about.
//!
//! A model drives the production port over a kernel that the model plays. It names the outcomes that it is about, and fails if
//! one was never reached: a model that cannot reach what it checks proves nothing. For each there is a mutant, a protocol
//! step left out, that it is shown to kill, in a process of its own.

#[cfg(all(feature = "run", not(proactor_loom)))]
compile_error!(
    "the models need `--cfg proactor_loom`: run `cargo loom`, and unset RUSTFLAGS, which overrides the alias's flag"
);

#[cfg(proactor_loom)]
pub use run::{
    Once, Seen, Wait, join, kills, model, model_at, port, port_at_once,
    post_two_of_which_one_needs_the_other, unused_port, workers,
};

#[cfg(proactor_loom)]
mod run {
    use std::collections::BTreeSet;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use loom::thread::JoinHandle;
    use proactor::Strategy;
    use proactor::model::ModelPort;

    /// The outcomes that the executions of a model have reached.
    #[derive(Clone, Debug, Default)]
    pub struct Seen(Arc<Mutex<BTreeSet<String>>>);

    impl Seen {
        /// This execution reached `outcome`.
        pub fn saw(&self, outcome: impl Into<String>) {
            self.0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .insert(outcome.into());
        }
    }

    const MUTANT: &str = "PROACTOR_MUTANT";

    /// Explores `body`, two preemptions deep unless `LOOM_MAX_PREEMPTIONS` says otherwise, prints how many executions that took,
    /// and fails unless each of `outcomes` was reached.
    ///
    /// # Panics
    ///
    /// When the model fails: that is how it tells.
    pub fn model(name: &str, outcomes: &[&str], body: impl Fn(&Seen) + Send + Sync + 'static) {
        model_at(2, name, outcomes, body);
    }

    /// As [`model`], `bound` preemptions deep unless `LOOM_MAX_PREEMPTIONS` says otherwise: for models of many threads.
    ///
    /// # Panics
    ///
    /// When the model fails: that is how it tells.
    pub fn model_at(
        bound: usize,
        name: &str,
        outcomes: &[&str],
        body: impl Fn(&Seen) + Send + Sync + 'static,
    ) {
        let mutant = std::env::var(MUTANT).ok();
        let seen = Seen::default();
        let executions = Arc::new(AtomicUsize::new(0));
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 100_000;
        if builder.preemption_bound.is_none() {
            builder.preemption_bound = Some(bound);
        }
        let bound = builder.preemption_bound.unwrap_or(bound);
        let began = std::time::Instant::now();
        let whole = mutant.is_none();
        {
            let (seen, executions) = (seen.clone(), Arc::clone(&executions));
            builder.check(move || {
                executions.fetch_add(1, Ordering::Relaxed);
                proactor::model::set_mutant(mutant.as_deref());
                proactor::model::spurious(0);
                proactor::model::ticks(0);
                proactor::model::recycle(false);
                proactor::model::set_clock(0);
                body(&seen);
            });
        }
        let count = executions.load(Ordering::Relaxed);
        println!(
            "model {name}: {count} executions at {bound} preemptions in {:.1} s",
            began.elapsed().as_secs_f64()
        );
        let reached = seen
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let expected: BTreeSet<String> =
            outcomes.iter().map(|&outcome| outcome.to_owned()).collect();
        // A mutant is to be killed by what it does, not by what it makes unreachable.
        assert!(
            !whole || *reached == expected,
            "model {name} did not reach just the outcomes that it is about: {reached:?}"
        );
    }

    /// Shows that the model in test `test` of this binary fails when the protocol step `mutant` is left out: one preemption
    /// deep, or else two, which takes longer but is what finds the subtle ones.
    ///
    /// # Panics
    ///
    /// If the mutant survives.
    pub fn kills(mutant: &str, test: &str) {
        let bound = ["1", "2"]
            .into_iter()
            .find(|bound| dies(mutant, test, bound));
        let bound = bound.unwrap_or_else(|| {
            panic!("the mutant {mutant} survives {test}: the model is blind to it")
        });
        println!("mutant {mutant}: killed by {test} at {bound} preemptions");
    }

    fn dies(mutant: &str, test: &str, bound: &str) -> bool {
        let exe = std::env::current_exe().expect("this test's own path");
        let output = Command::new(exe)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(MUTANT, mutant)
            .env("LOOM_MAX_PREEMPTIONS", bound)
            .stdin(Stdio::null())
            .output()
            .expect("a child process");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("running 1 test"),
            "there is no test named {test}: {text}"
        );
        !output.status.success()
    }

    /// A port of `strategy` for `workers`, with as many `seats` and scripted `objects`.
    pub fn port(strategy: Strategy, workers: usize, seats: usize, objects: usize) -> ModelPort {
        ModelPort::new(strategy.dispatcher(), workers, seats, seats > 1, objects)
    }

    /// As [`port`] with one seat, which is filled at once when it is left, as two are: the policy for several seats, where
    /// few workers show it.
    pub fn port_at_once(strategy: Strategy, workers: usize, objects: usize) -> ModelPort {
        ModelPort::new(strategy.dispatcher(), workers, 1, true, objects)
    }

    /// As [`port`], but nothing was ever opened in it: nobody need sit.
    pub fn unused_port(
        strategy: Strategy,
        workers: usize,
        seats: usize,
        objects: usize,
    ) -> ModelPort {
        ModelPort::unused(strategy.dispatcher(), workers, seats, seats > 1, objects)
    }

    /// Starts `count` threads that work for `port`.
    pub fn workers(port: &ModelPort, count: usize) -> Vec<JoinHandle<usize>> {
        let worker = |_| {
            let port = port.clone();
            loom::thread::spawn(move || port.work())
        };
        (0..count).map(worker).collect()
    }

    /// Posts two calls, of which the first needs the second: both of two workers must come. The second also leaves `port`.
    pub fn post_two_of_which_one_needs_the_other(port: &ModelPort) {
        let done = Wait::default();
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
    }

    /// How many handlers they ran in all.
    ///
    /// # Panics
    ///
    /// If one of them did.
    pub fn join(workers: Vec<JoinHandle<usize>>) -> usize {
        let ran = |worker: JoinHandle<usize>| worker.join().expect("the worker returns");
        workers.into_iter().map(ran).sum()
    }

    /// Something that is to happen exactly once: the run of a handler, or its drop. Seen by no model.
    #[derive(Clone, Debug)]
    pub struct Once<T>(Arc<Mutex<Option<T>>>);

    impl<T> Default for Once<T> {
        fn default() -> Self {
            Self(Arc::new(Mutex::new(None)))
        }
    }

    impl<T: Copy + std::fmt::Debug> Once<T> {
        /// It happens.
        ///
        /// # Panics
        ///
        /// If it has happened before.
        pub fn happen(&self, how: T) {
            let mut happened = self
                .0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            assert!(
                happened.is_none(),
                "it happened again: {happened:?}, {how:?}"
            );
            *happened = Some(how);
        }

        /// Whether it has happened.
        pub fn happened(&self) -> bool {
            let happened = self.0.lock();
            happened.is_ok_and(|happened| happened.is_some())
        }

        /// How it happened.
        ///
        /// # Panics
        ///
        /// If it has not.
        pub fn how(&self) -> T {
            let happened = self
                .0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            happened.expect("it happened")
        }
    }

    /// Something that one handler waits for and another one does.
    #[derive(Clone, Debug)]
    pub struct Wait(loom::sync::Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>);

    impl Default for Wait {
        fn default() -> Self {
            Self(loom::sync::Arc::new((
                loom::sync::Mutex::new(false),
                loom::sync::Condvar::new(),
            )))
        }
    }

    impl Wait {
        /// It has happened.
        ///
        /// # Panics
        ///
        /// If a thread of the model panicked.
        pub fn happen(&self) {
            *self.0.0.lock().expect("no thread panicked") = true;
            self.0.1.notify_all();
        }

        /// Waits until it has.
        ///
        /// # Panics
        ///
        /// If a thread of the model panicked.
        pub fn wait(&self) {
            let mut done = self.0.0.lock().expect("no thread panicked");
            while !*done {
                done = self.0.1.wait(done).expect("no thread panicked");
            }
        }
    }
}
