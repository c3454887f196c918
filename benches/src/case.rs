//! One case of a bench: run in this process, or in one of its own.

use std::num::NonZeroUsize;
use std::process::Command;

use proactor::{Proactor, Strategy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{self, Outcome};

/// A proactor that runs on threads of its own, for as long as the process does.
///
/// # Errors
///
/// The builder's, and the operating system's, if it refuses a thread.
pub fn ours(strategy: Strategy, threads: usize) -> Outcome<&'static Proactor> {
    let threads = NonZeroUsize::new(threads).ok_or("--threads is at least 1")?;
    let builder = Proactor::builder().strategy(strategy).threads(threads);
    let proactor = builder.build()?;
    proactor.start()?;
    Ok(Box::leak(Box::new(proactor)))
}

/// Prints what came of a case: one line of JSON.
///
/// # Errors
///
/// If it cannot be said in JSON.
pub fn print(figures: &impl Serialize) -> Outcome {
    cli::say(&serde_json::to_string(figures)?);
    Ok(())
}

/// Has this very program run one case, and reads what it prints.
///
/// # Errors
///
/// What the program says, if it fails.
pub fn child<F: DeserializeOwned>(arguments: &[String]) -> Outcome<F> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The executor of smol, which as many threads run for as long as the process lives.
///
/// # Errors
///
/// The operating system's, if it refuses a thread.
#[cfg(feature = "peers")]
pub fn executor(threads: usize) -> Outcome<&'static smol::Executor<'static>> {
    let executor: &'static _ = Box::leak(Box::new(smol::Executor::new()));
    for _ in 0..threads {
        let forever = std::future::pending::<()>();
        std::thread::Builder::new().spawn(move || smol::block_on(executor.run(forever)))?;
    }
    Ok(executor)
}
