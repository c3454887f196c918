//! The loads without I/O (`cargo run --release --example tune_pool_size`): jobs of a few handlers each, the first posted
//! from outside, the others by the first.
//!
//! As many jobs as were asked for are under way all the time. A handler counts itself, so one that is lost or runs twice
//! is found: each must have run once in each round of its job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use proactor::{CompletionPort, Proactor};

use crate::histogram::Histogram;
use crate::labour::Labour;
use crate::load::LOST_AFTER;
use crate::measure::{Figures, Plan, end, others_cpu};

/// Handlers of a job: one from outside, the rest from inside.
pub(crate) const HANDLERS: usize = 8;
/// How often the clock is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(20);

/// What the handlers share.
struct Jobs {
    port: CompletionPort,
    labour: Labour,
    jobs: Box<[Job]>,
    done: Sender<usize>,
}

#[derive(Default)]
struct Job {
    members: [Member; HANDLERS],
    /// How many have not run in this round. Who takes the last one off publishes what all of them wrote.
    left: AtomicUsize,
}

#[derive(Default)]
struct Member {
    runs: AtomicU64,
    /// From its posting to its end, the last time.
    latency_ns: AtomicU64,
}

impl Jobs {
    fn begin(self: &Arc<Self>, job: usize) {
        self.jobs[job].left.store(HANDLERS, Ordering::Release);
        self.post(job, 0);
    }

    fn post(self: &Arc<Self>, job: usize, member: usize) {
        let (jobs, posted) = (Arc::clone(self), Instant::now());
        self.port.post(move || jobs.run(job, member, posted));
    }

    /// A handler.
    fn run(self: &Arc<Self>, index: usize, member: usize, posted: Instant) {
        self.labour.perform();
        if member == 0 {
            (1..HANDLERS).for_each(|member| self.post(index, member));
        }
        let job = &self.jobs[index];
        let me = &job.members[member];
        let latency_ns = u64::try_from(posted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        me.latency_ns.store(latency_ns, Ordering::Relaxed);
        me.runs.fetch_add(1, Ordering::Relaxed);
        if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.done.send(index); // whoever gave up waiting has said why
        }
    }

    /// How many handlers have run so far.
    fn ran(&self) -> u64 {
        let members = self.jobs.iter().flat_map(|job| &job.members);
        members
            .map(|member| member.runs.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether every handler of a job has run once in each of its rounds.
    fn check(&self, index: usize, rounds: u64) -> Result<(), String> {
        let members = self.jobs[index].members.iter().enumerate();
        for (member, state) in members {
            let runs = state.runs.load(Ordering::Relaxed);
            if runs != rounds {
                return Err(format!(
                    "job {index}: handler {member} ran {runs} times in {rounds} rounds"
                ));
            }
        }
        Ok(())
    }
}

/// Keeps `plan.in_flight` jobs under way, and counts.
///
/// An error says which handler was lost or ran too often.
pub(crate) fn drive(
    proactor: &Proactor,
    plan: Plan,
    progress: impl FnMut(Duration),
) -> Result<Figures, String> {
    let (done, finished) = mpsc::channel();
    let jobs = Arc::new(Jobs {
        port: proactor.port().clone(),
        labour: plan.labour,
        jobs: (0..plan.in_flight).map(|_| Job::default()).collect(),
        done,
    });
    proactor
        .start()
        .map_err(|e| format!("cannot start threads: {e}"))?;
    let mut client = Client {
        rounds: vec![0; plan.in_flight],
        busy: 0,
        latencies: Histogram::new(),
        finished,
        jobs,
    };
    let figures = client.drive(plan, progress)?;
    end(proactor)?; // a handler that runs twice has done so by then
    (0..plan.in_flight).try_for_each(|job| client.jobs.check(job, client.rounds[job]))?;
    Ok(figures)
}

struct Client {
    jobs: Arc<Jobs>,
    finished: Receiver<usize>,
    /// How often each job was begun.
    rounds: Vec<u64>,
    /// How many are under way.
    busy: usize,
    /// Of the measured interval.
    latencies: Histogram,
}

impl Client {
    fn drive(&mut self, plan: Plan, mut progress: impl FnMut(Duration)) -> Result<Figures, String> {
        (0..plan.in_flight).for_each(|job| self.begin(job));
        let began = Instant::now();
        let warm = |_: &Histogram| began.elapsed() >= plan.warm_up;
        self.go_on(warm, &mut || progress(began.elapsed()))?;
        self.latencies = Histogram::new();
        let (ran, cpu, at) = (self.jobs.ran(), others_cpu(), Instant::now());
        // A load that is slower than was thought is measured for as long as it takes to have a figure.
        let enough = |latencies: &Histogram| at.elapsed() >= plan.measured && latencies.total() > 0;
        self.go_on(enough, &mut || progress(began.elapsed()))?;
        let figures = Figures {
            elapsed: at.elapsed(),
            operations: self.jobs.ran() - ran,
            cpu: others_cpu().saturating_sub(cpu),
            latencies: std::mem::replace(&mut self.latencies, Histogram::new()),
        };
        while self.busy > 0 {
            let _ = self.next()?;
        }
        Ok(figures)
    }

    fn begin(&mut self, job: usize) {
        self.rounds[job] += 1;
        self.busy += 1;
        self.jobs.begin(job);
    }

    /// Begins again what is finished, until `enough`.
    fn go_on(
        &mut self,
        enough: impl Fn(&Histogram) -> bool,
        tell: &mut dyn FnMut(),
    ) -> Result<(), String> {
        let mut ticked = Instant::now();
        while !enough(&self.latencies) {
            if let Some(job) = self.next()? {
                self.begin(job);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                tell();
            }
        }
        Ok(())
    }

    /// A job that is finished, checked and entered; none if none is for a while.
    fn next(&mut self) -> Result<Option<usize>, String> {
        let waited_since = (Instant::now(), self.jobs.ran());
        loop {
            match self.finished.recv_timeout(TICK) {
                Ok(job) => {
                    self.busy -= 1;
                    self.jobs.check(job, self.rounds[job])?;
                    for member in &self.jobs.jobs[job].members {
                        let latency_ns = member.latency_ns.load(Ordering::Relaxed);
                        self.latencies.record(Duration::from_nanos(latency_ns));
                    }
                    return Ok(Some(job));
                }
                Err(RecvTimeoutError::Timeout) if self.jobs.ran() != waited_since.1 => {
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) if waited_since.0.elapsed() < LOST_AFTER => {}
                Err(_) => return Err(self.describe_loss()),
            }
        }
    }

    fn describe_loss(&self) -> String {
        let lost = self
            .jobs
            .jobs
            .iter()
            .map(|job| job.left.load(Ordering::Acquire));
        let (job, left) = lost
            .enumerate()
            .find(|(_, left)| *left > 0)
            .unwrap_or_default();
        let seconds = LOST_AFTER.as_secs();
        format!("no handler ran for {seconds} s: job {job} lacks {left} of its {HANDLERS}")
    }
}
