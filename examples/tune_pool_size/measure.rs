//! One repeat of one cell (`cargo run --release --example tune_pool_size`): a proactor from its building to its end.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use proactor::{BackendKind, Proactor};
use rustix::time::{ClockId, clock_gettime};

use crate::cell::{Cell, Sample};
use crate::histogram::Histogram;
use crate::labour::Labour;
use crate::{echo, jobs};

/// What the handlers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Echo over TCP on loopback
    Io,
    /// Handlers that compute, posted from outside and by each other
    Cpu,
    /// Echo, and every sixteenth request also computes
    Mixed,
    /// Handlers that block, posted from outside and by each other
    Blocking,
}

impl Load {
    /// Whether it is an echo server with a client.
    pub(crate) fn is_echo(self) -> bool {
        matches!(self, Self::Io | Self::Mixed)
    }

    /// What is counted.
    pub(crate) fn operation(self) -> &'static str {
        if self.is_echo() { "request" } else { "handler" }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Cpu => "cpu",
            Self::Mixed => "mixed",
            Self::Blocking => "blocking",
        }
    }
}

/// What is done to a cell, the same for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    /// Connections, or jobs.
    pub(crate) in_flight: usize,
    pub(crate) message_bytes: usize,
    pub(crate) labour: Labour,
    pub(crate) backend: BackendKind,
    /// Driven and verified, but not in the figures.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What was counted in the measured interval.
pub(crate) struct Figures {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// Of every thread but the client's.
    pub(crate) cpu: Duration,
    pub(crate) latencies: Histogram,
}

/// Measures a cell once. `progress` is told, now and then, how long this has gone on.
///
/// An error says what was lost or wrong, or what the builder does not take.
pub(crate) fn measure(
    cell: Cell,
    plan: Plan,
    progress: impl FnMut(Duration),
) -> Result<Sample, String> {
    let builder = cell.apply(Proactor::builder().backend(plan.backend));
    let proactor = builder.build().map_err(|e| e.to_string())?;
    let figures = if plan.load.is_echo() {
        echo::drive(&proactor, plan, progress)?
    } else {
        jobs::drive(&proactor, plan, progress)?
    };
    if figures.operations == 0 {
        return Err("nothing was finished in the measured interval: give it more --seconds".into());
    }
    let operations = figures.operations as f64;
    Ok(Sample {
        throughput: operations / figures.elapsed.as_secs_f64(),
        p50_us: figures.latencies.percentile_us(50),
        p99_us: figures.latencies.percentile_us(99),
        cpu_us: figures.cpu.as_secs_f64() * 1e6 / operations,
    })
}

/// Ends it, the client having gone: what is cancelled then is an accept.
pub(crate) fn end(proactor: &Proactor) -> Result<(), String> {
    match proactor.shutdown(Instant::now()).left {
        0 => Ok(()),
        left => Err(format!("{left} handlers were left at its end")),
    }
}

/// Processor time of every thread of this process but the calling one, which is the client.
pub(crate) fn others_cpu() -> Duration {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    read(ClockId::ProcessCPUTime).saturating_sub(read(ClockId::ThreadCPUTime))
}
