//! The parts of a report, each measured by a program of its own.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use proactor_bench::rows::{self, Row};
use proactor_bench::stats::Spread;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// Echo servers with one thread
    Echo,
    /// Echo servers with two threads
    Pools,
    /// Posted handlers
    Dispatch,
    /// Many timers
    Timers,
    /// Ten thousand connections that rest
    Idle,
    /// One hyper service here and on tokio
    Http,
    /// The example of a small Redis beside redis-server
    Redis,
    /// What is counted and not timed
    Guards,
}

impl Part {
    pub(crate) const ALL: [Self; 8] = [
        Self::Echo,
        Self::Pools,
        Self::Dispatch,
        Self::Timers,
        Self::Idle,
        Self::Http,
        Self::Redis,
        Self::Guards,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Pools => "pools",
            Self::Dispatch => "dispatch",
            Self::Timers => "timers",
            Self::Idle => "idle",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Guards => "guards",
        }
    }

    /// What is run for it, one after the other: each run ends with its rows.
    fn runs(self, quick: bool) -> Vec<Run> {
        let short: &[&str] = match (self, quick) {
            (Self::Echo | Self::Pools, true) => &["--rounds=1", "--seconds=0.1"],
            (Self::Echo | Self::Pools, false) => &["--rounds=5", "--seconds=0.3"],
            (Self::Dispatch | Self::Timers | Self::Idle | Self::Http, true) => &["--rounds=1"],
            (Self::Redis, true) => &["--rounds=1", "--requests=10000"],
            _ => &[],
        };
        let run = |program, arguments: &[&'static str]| Run {
            program,
            arguments: [&["--json"], arguments, short]
                .concat()
                .into_iter()
                .map(Cow::from)
                .collect(),
            alone: false,
        };
        match self {
            Self::Echo => Vec::from([run("echo", &["--threads=1"])]),
            Self::Pools => {
                let shared = run(
                    "echo",
                    &["--threads=2", "--shapes=1x64x1,64x64x1,1000x64x1"],
                );
                let alone = Run {
                    alone: true,
                    ..run(
                        "echo",
                        &["--threads=1,2", "--place=together", "--shapes=1x64x1", OURS],
                    )
                };
                vec![alone, shared]
            }
            Self::Dispatch => vec![run("dispatch", &[])],
            Self::Timers => vec![run("timers", &[])],
            Self::Idle => vec![run("idle", &[])],
            // All of it is about a peer.
            Self::Http if cfg!(feature = "peers") => vec![run("http", &[])],
            Self::Http => Vec::new(),
            Self::Redis => {
                let two: &[&str] = match quick {
                    true => &["--client-threads=2", "--pipeline=16"],
                    // Eight seconds each: such a client ends up to a quarter of one late.
                    false => &[
                        "--client-threads=2",
                        "--pipeline=16",
                        "--rounds=3",
                        "--requests=80000",
                    ],
                };
                vec![run("redis", &["--client-threads=1"]), run("redis", two)]
            }
            Self::Guards => vec![run("guards", &[])],
        }
    }

    /// Has its programs measure, which show their progress on stderr.
    pub(crate) fn measure(self, quick: bool, rounds: Option<u16>) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        for run in self.runs(quick) {
            let run = match rounds.filter(|_| self != Self::Guards) {
                Some(rounds) => run.with_rounds(rounds),
                None => run,
            };
            let said = run.said()?;
            rows.extend(match self {
                Self::Guards => guarded(&said)?,
                _ => run.rows(&said)?,
            });
        }
        match rows.is_empty() {
            // It has said what it lacks, if anything.
            true if !matches!(self, Self::Http | Self::Redis) => {
                Err(format!("{self} measured nothing"))
            }
            _ => Ok(rows),
        }
    }
}

const OURS: &str = "--servers=proactor-leader-followers,proactor-work-stealing";

/// One call of a program that measures.
#[derive(Clone)]
struct Run {
    program: &'static str,
    arguments: Vec<Cow<'static, str>>,
    /// Whether all of it has one processor only.
    alone: bool,
}

impl Run {
    fn with_rounds(mut self, rounds: u16) -> Self {
        self.arguments
            .retain(|argument| !argument.starts_with("--rounds="));
        self.arguments.push(format!("--rounds={rounds}").into());
        self
    }

    /// What it says on its standard output.
    fn said(&self) -> Result<String, String> {
        let program = self.program;
        let ran = Command::new(beside(program)?)
            .args(self.arguments.iter().map(|argument| &**argument))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let ran = ran.map_err(|error| format!("cannot run {program}: {error}"))?;
        // Guards that find a figure above its ceiling say so, end with 1, and have measured all the same.
        let measured =
            ran.status.success() || (program == "guards" && ran.status.code() == Some(1));
        match measured {
            true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
            false => Err(format!("{program} ended with {}", ran.status)),
        }
    }

    fn rows(&self, said: &str) -> Result<Vec<Row>, String> {
        let rows = rows::read_json(said.as_bytes());
        let mut rows = rows.map_err(|error| format!("what {} says: {error}", self.program))?;
        if self.alone {
            for row in &mut rows {
                row.case += ALONE;
            }
        }
        // Most of the time of that case, the pool sleeps.
        rows.retain(|row| row.case != "wake" || row.metric == "wake");
        if self.program == "idle" {
            // Nothing is compared with a base that holds next to nothing.
            for row in &mut rows {
                row.ratio = None;
            }
        }
        Ok(rows)
    }
}

/// What the names of such cases end with.
pub(crate) const ALONE: &str = ", one processor";

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Builds the programs as this one was built: with peers, or without.
pub(crate) fn build() -> Result<(), String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: run it with `--release`".into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "-p", "proactor-bench", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    if cfg!(feature = "peers") {
        command.args(["--features", "peers"]);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the programs that measure could not be built: cargo said why".into()),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}

/// A program that was built beside this one.
fn beside(program: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe();
    let this = this.map_err(|error| format!("where is this program? {error}"))?;
    Ok(this.with_file_name(program))
}

/// The guards' figures as rows: the name's last part says whose it is.
fn guarded(said: &str) -> Result<Vec<Row>, String> {
    let all: Value = serde_json::from_str(said).map_err(|error| format!("guards: {error}"))?;
    let rows = all["guards"].as_array().map(|all| all.iter().map(guard));
    let rows: Option<Option<Vec<Row>>> = rows.map(Iterator::collect);
    rows.flatten()
        .ok_or_else(|| format!("not what guards say: {said}"))
}

fn guard(guard: &Value) -> Option<Row> {
    let (case, setup) = guard["name"].as_str()?.rsplit_once('/')?;
    let (strategy, threads) = setup.rsplit_once('-')?;
    let figure = guard["figure"].as_f64()?;
    Some(Row {
        bench: Part::Guards.to_string(),
        case: case.to_owned(),
        peer: format!("proactor-{strategy}"),
        threads: threads.parse().ok()?,
        metric: case.split('/').next()?.to_owned(),
        unit: guard["unit"].as_str()?.to_owned(),
        rounds: 1,
        value: Spread {
            median: figure,
            min: figure,
            max: figure,
        },
        ratio: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_become_rows() {
        let said = "{\"guards\":[{\"name\":\"calls/echo-64/leader-followers-2\",\"figure\":2.04,\
            \"unit\":\"system calls a request\",\"ceiling\":2.2,\"ok\":true}]}";
        let rows = guarded(said).unwrap();
        let row = &rows[0];
        assert_eq!((row.case.as_str(), row.threads), ("calls/echo-64", 2));
        assert_eq!(
            (row.peer.as_str(), row.value.median),
            ("proactor-leader-followers", 2.04)
        );
        assert!(guarded("{\"guards\":[{}]}").is_err());
    }
}
