//! Timers, in the order in which one needs them: a wait, a wait that is cancelled, a rhythm, and a deadline that is put off.
//!
//! ```text
//! cargo run --release --example timer
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use proactor::Proactor;
use proactor::dispatch::SingleThreaded;
use proactor::time::{Interval, Timer};

/// Waits in four ways, and says how each ends.
#[derive(Parser)]
#[command(name = "timer")]
struct Options {
    /// What is waited for at a time, in milliseconds
    #[arg(value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    unit: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let unit = Duration::from_millis(Options::parse().unit.into());
    let proactor = Proactor::builder()
        .dispatcher(SingleThreaded::new())
        .build()?;
    let begin = Instant::now();

    // One wait. Its handler gets a result, for it may also be cancelled.
    proactor.sleep(unit).then(move |result| match result {
        Ok(()) => println!("slept for {} ms", begin.elapsed().as_millis()),
        Err(error) => println!("{error}"),
    });

    // A wait that is cancelled by its key. Its handler runs all the same.
    let hour = proactor.sleep(Duration::from_secs(3600));
    let key = hour.then(|result| println!("an hour: {result:?}"));
    proactor.cancel(key);

    // A deadline that is put off while something happens: here a rhythm, each of whose handlers owns it and goes on with it.
    let quiet = Arc::new(Timer::new(&proactor));
    quiet.expires_after(unit * 2);
    watch(Arc::clone(&quiet), begin);
    tick(proactor.interval(unit), 1, quiet);

    println!("nothing has run yet");
    let handlers = proactor.run(); // returns when nothing is left to wait for
    println!("{handlers} handlers ran");
    Ok(())
}

fn tick(mut interval: Interval, number: u32, quiet: Arc<Timer>) {
    interval.tick().then(move |result| {
        println!("tick {number}");
        quiet.expires_after(interval.period() * 2); // cancels who watches
        if result.is_ok() && number < 3 {
            tick(interval, number + 1, quiet);
        }
    });
}

fn watch(quiet: Arc<Timer>, begin: Instant) {
    quiet.clone().on_expiry().then(move |result| match result {
        Ok(()) => println!("quiet after {} ms", begin.elapsed().as_millis()),
        Err(error) if error.is_cancelled() => watch(quiet, begin), // it was put off
        Err(error) => println!("{error}"),
    });
}
