//! Runs models, each in a process of its own: a deadlock that loom finds may end the process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt};

use wait_timeout::ChildExt;

use crate::Fault;
use crate::tree::{MUTANT, REACHED};

/// A test that is a model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Binary and test.
    pub(crate) name: String,
    /// Of the binary.
    pub(crate) digest: String,
    executable: PathBuf,
    test: String,
}

/// How deep a model looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bound {
    /// One preemption.
    One,
    /// As deep as the model says.
    Own,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1 preemption",
            Self::Own => "its own bound",
        })
    }
}

/// What is to be run.
pub(crate) struct Attempt<'a> {
    pub(crate) model: &'a Model,
    pub(crate) bound: Bound,
    pub(crate) mutant: Option<usize>,
    /// Where to note the steps that are reached.
    pub(crate) notes: Option<&'a Path>,
    pub(crate) limit: Duration,
    /// Where its output goes.
    pub(crate) log: &'a Path,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    Failed,
    /// It was ended, for it took too long or the system was out of memory.
    Undecided,
}

/// The models in the test binaries: all tests but those that run a hand-made mutant.
pub(crate) fn list(binaries: &[(String, PathBuf)]) -> Result<Vec<Model>, Fault> {
    let mut models = Vec::new();
    for (binary, executable) in binaries {
        let output = Command::new(executable)
            .arg("--list")
            .output()
            .map_err(|e| Fault::of(executable.display(), e))?;
        let bytes = fs::read(executable).map_err(|e| Fault::of(executable.display(), e))?;
        let mut digest = DefaultHasher::new();
        bytes.hash(&mut digest);
        let digest = format!("{:016x}", digest.finish());
        let text = String::from_utf8_lossy(&output.stdout);
        let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
        models.extend(tests.filter(|test| !is_hand_made(test)).map(|test| Model {
            name: format!("{binary}::{test}"),
            digest: digest.clone(),
            executable: executable.clone(),
            test: test.to_owned(),
        }));
    }
    if models.is_empty() {
        return Err(Fault::Other(
            "there is no model in loom-tests/tests".to_owned(),
        ));
    }
    Ok(models)
}

fn is_hand_made(test: &str) -> bool {
    let name = test.rsplit("::").next().unwrap_or(test);
    name.starts_with("mutant_")
}

impl Attempt<'_> {
    /// Runs it; how it ended, and how long it took.
    pub(crate) fn run(&self) -> Result<(Ending, Duration), Fault> {
        let began = Instant::now();
        let fault = |e| Fault::of(&self.model.name, e);
        let mut child = self.command()?.spawn().map_err(fault)?;
        let ended = child.wait_timeout(self.limit).map_err(fault)?;
        if ended.is_none() {
            child.kill().and_then(|()| child.wait()).map_err(fault)?;
        }
        let ending = match ended {
            Some(status) if status.success() => Ending::Passed,
            Some(status) if was_killed(status) => Ending::Undecided,
            Some(_) => Ending::Failed,
            None => Ending::Undecided,
        };
        Ok((ending, began.elapsed()))
    }

    fn command(&self) -> Result<Command, Fault> {
        let mut command = Command::new(&self.model.executable);
        command
            .args(["--exact", &self.model.test])
            .args(["--nocapture", "--test-threads=1"])
            .stdin(Stdio::null())
            .env("RUST_BACKTRACE", "0")
            // To a model, this is a mutant like those made by hand: it is to die of what it does, and not of an outcome
            // that it does not reach, which is more easily had at one preemption.
            .env("PROACTOR_MUTANT", "one that is not made by hand");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("LOOM_") {
                command.env_remove(name);
            }
        }
        if self.bound == Bound::One {
            command.env("LOOM_MAX_PREEMPTIONS", "1");
        }
        if let Some(number) = self.mutant {
            command.env(MUTANT, number.to_string());
        }
        if let Some(notes) = self.notes {
            command.env(REACHED, notes);
        }
        let fault = |e| Fault::of(self.log.display(), e);
        let log = File::create(self.log).map_err(fault)?;
        command.stderr(log.try_clone().map_err(fault)?).stdout(log);
        Ok(command)
    }
}

/// Whether somebody else ended the process, as a system does that is out of memory.
fn was_killed(status: ExitStatus) -> bool {
    #[cfg(unix)]
    {
        const SIGKILL: i32 = 9;
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGKILL)
    }
    #[cfg(not(unix))]
    {
        let _ = status;
        false
    }
}

/// What a model does when nothing is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    pub(crate) time: Duration,
    /// The mutants whose step it reaches.
    pub(crate) reached: BTreeSet<usize>,
    /// Whether its own bound is one preemption.
    pub(crate) shallow: bool,
}

/// No healthy model takes as long.
const LONGEST: Duration = Duration::from_secs(30 * 60);

impl Baseline {
    /// Runs `model` unmutated.
    pub(crate) fn of(model: &Model, bound: Bound, notes: &Path, log: &Path) -> Result<Self, Fault> {
        fs::write(notes, "").map_err(|e| Fault::of(notes.display(), e))?;
        let attempt = Attempt {
            model,
            bound,
            mutant: None,
            notes: Some(notes),
            limit: LONGEST,
            log,
        };
        let (ending, time) = attempt.run()?;
        let said = said(log)?;
        if ending != Ending::Passed || !said.contains("running 1 test") {
            let name = &model.name;
            return Err(Fault::Other(format!(
                "{said}\nthe model {name} fails at {bound} with no mutant at all: mend it, and see that `cargo loom` passes"
            )));
        }
        let reached = fs::read_to_string(notes).map_err(|e| Fault::of(notes.display(), e))?;
        Ok(Self {
            time,
            reached: reached
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect(),
            shallow: is_shallow(&said),
        })
    }

    /// How long a mutant may take.
    pub(crate) fn limit(&self) -> Duration {
        self.time * 5 + Duration::from_secs(20)
    }
}

/// Whether each report of a model's output says that it was one preemption deep.
fn is_shallow(said: &str) -> bool {
    let bound = |line: &str| {
        let (_, rest) = line.split_once(" executions at ")?;
        rest.split(' ').next()?.parse::<usize>().ok()
    };
    let mut bounds = said.lines().filter_map(bound).peekable();
    bounds.peek().is_some() && bounds.all(|bound| bound == 1)
}

/// What a model's log has.
pub(crate) fn said(log: &Path) -> Result<String, Fault> {
    let bytes = fs::read(log).map_err(|e| Fault::of(log.display(), e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the first panic in a model's output complains of.
pub(crate) fn complaint(said: &str) -> String {
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains(" panicked at "));
    match (lines.next(), lines.next()) {
        (Some(place), Some(what)) => {
            let place = place
                .split_once(" panicked at ")
                .map_or(place, |(_, place)| place);
            format!("{} ({})", what.trim(), place.trim_end_matches(':'))
        }
        _ => "it ended without a word".to_owned(),
    }
}
