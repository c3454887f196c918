//! Checks of a strategy by itself, in one thread: each question is asked by hand, and each answer looked at.

use std::num::NonZeroUsize;

use super::bench::{Bench, From};
use super::promise::{Broken, Promise};
use super::{COUNTS, Check, Suite};
use crate::dispatch::Placed;

pub(super) const CHECKS: &[Check] = &[
    (Promise::Attach, attach),
    (Promise::Answers, answers),
    (Promise::OnlyTakes, only_takes),
    (Promise::ExactlyOnce, exactly_once),
    (Promise::Shared, shared),
    (Promise::Own, own),
    (Promise::HonestlyEmpty, honestly_empty),
    (Promise::SleepsWhenEmpty, sleeps_when_empty),
    (Promise::HandsOn, hands_on),
    (Promise::NobodyStarves, nobody_starves),
    (Promise::Order, order),
];

/// More than any queue of a fixed size that somebody might choose.
const MANY: usize = 10_000;
/// How many picks of a worker anything waits at most.
const PATIENCE_PICKS: usize = 10_000;
/// Keys as they come: none, small ones, a pointer's, and the largest.
const KEYS: [u64; 8] = [0, 1, 7, 64, 1000, 1 << 32, u64::MAX - 1, u64::MAX];

/// Does `body` for each number of workers that the strategy takes.
fn each(suite: &Suite, mut body: impl FnMut(Bench) -> Result<(), Broken>) -> Result<(), Broken> {
    for workers in suite.counts() {
        body(Bench::new(&suite.make, workers, &suite.stage)?)?;
    }
    Ok(())
}

fn attach(suite: &Suite) -> Result<(), Broken> {
    let broken = |details: String| Promise::Attach.broken(details);
    let mut taken = 0;
    for told in [None].into_iter().chain(COUNTS.map(NonZeroUsize::new)) {
        let asked = told.map_or_else(|| "nothing".to_owned(), |told| told.to_string());
        suite.stage.at(format!("`attach`, told {asked}, to return"));
        match (suite.make)().attach(told) {
            Ok(answer) if told.is_some_and(|told| told != answer) => {
                return Err(broken(format!(
                    "told {asked}, it answers {answer}: answer {asked}, or refuse it with `BuildError::knobs`"
                )));
            }
            Ok(answer) if answer.get() > 1024 => {
                return Err(broken(format!(
                    "told {asked}, it answers {answer}, and 1024 is the most"
                )));
            }
            Ok(_) => taken += usize::from(told.is_some()),
            Err(refused) if refused.to_string().trim().is_empty() => {
                return Err(broken(format!(
                    "told {asked}, it refuses without a word on what to change"
                )));
            }
            Err(_) => {}
        }
    }
    Promise::Attach.holds(taken > 0, || format!("it refuses each of {COUNTS:?}"))
}

/// Nothing to give, much to take, and nobody who makes room.
fn answers(suite: &Suite) -> Result<(), Broken> {
    each(suite, |mut bench| {
        bench.drain()?;
        for _ in 0..MANY {
            bench.give(From::Outside, 0)?;
        }
        bench.is_empty()?;
        bench.drain()
    })
}

fn only_takes(suite: &Suite) -> Result<(), Broken> {
    // `give` looks.
    each(suite, |mut bench| everything_from_everywhere(&mut bench, 1))
}

/// Gives `rounds` times a call of each key from each origin.
fn everything_from_everywhere(bench: &mut Bench, rounds: usize) -> Result<(), Broken> {
    for _ in 0..rounds {
        for key in KEYS {
            bench.give(From::Outside, key)?;
            for worker in 0..bench.workers() {
                for from in From::of(worker) {
                    bench.give(from, key)?;
                }
            }
        }
    }
    Ok(())
}

/// Everything has come back, or `promise` is broken.
fn all_came_back(bench: &Bench, promise: Promise, when: &str) -> Result<(), Broken> {
    let held = bench.held();
    promise.holds(held.is_empty(), || {
        let first = bench.describe(held[0]);
        format!(
            "{when}, {} did not come back; the first of them: {first}",
            held.len()
        )
    })
}

fn exactly_once(suite: &Suite) -> Result<(), Broken> {
    let promise = Promise::ExactlyOnce;
    each(suite, |mut bench| {
        everything_from_everywhere(&mut bench, 20)?;
        bench.drain()?;
        all_came_back(
            &bench,
            promise,
            "when every worker had asked until it got nothing",
        )?;
        // Between givings, workers take some.
        for round in 0..200 {
            everything_from_everywhere(&mut bench, 1)?;
            for _ in 0..round {
                bench.pick(round % bench.workers())?;
            }
        }
        bench.drain()?;
        all_came_back(
            &bench,
            promise,
            "when workers had taken between givings, and then all that was left",
        )?;
        for _ in 0..MANY {
            bench.give(From::Outside, 0)?;
        }
        bench.drain()?;
        all_came_back(&bench, promise, "of very many that waited at once")
    })
}

/// What the first of two workers gave or took must not wait for its handler.
fn shared(suite: &Suite) -> Result<(), Broken> {
    for workers in suite.counts() {
        for busy in [0, workers - 1] {
            let other = usize::from(busy == 0);
            for from in [From::Outside].into_iter().chain(From::of(busy)) {
                let mut bench = Bench::new(&suite.make, workers, &suite.stage)?;
                for key in KEYS {
                    bench.give(from, key)?;
                }
                if workers == 1 {
                    continue; // `give` has looked at what it says of what is outside.
                }
                bench.pick(busy)?;
                bench.exhaust(other)?;
                let mut left = bench.held();
                left.retain(|&number| bench.placed(number) == Placed::Shared);
                Promise::Shared.holds(left.is_empty(), || {
                    let first = bench.describe(left[0]);
                    format!(
                        "worker {busy} took one and is in its handler, and worker {other} asked until it got nothing: \
                         it did not get {first}"
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn own(suite: &Suite) -> Result<(), Broken> {
    for workers in suite.counts() {
        for worker in 0..workers {
            for from in From::of(worker) {
                let mut bench = Bench::new(&suite.make, workers, &suite.stage)?;
                // Beyond the pick at which something else comes first.
                for key in KEYS.repeat(10) {
                    bench.give(from, key)?;
                }
                bench.exhaust(worker)?;
                let mut left = bench.held();
                left.retain(|&number| bench.placed(number) == Placed::Own);
                Promise::Own.holds(left.is_empty(), || {
                    let first = bench.describe(left[0]);
                    format!("worker {worker} asked until it got nothing, and did not get {first}")
                })?;
            }
        }
    }
    Ok(())
}

fn honestly_empty(suite: &Suite) -> Result<(), Broken> {
    each(suite, |mut bench| {
        for round in 0..16 {
            let worker = round % bench.workers();
            for from in [From::Outside].into_iter().chain(From::of(worker)) {
                for key in KEYS {
                    bench.give(from, key)?;
                    bench.is_empty()?;
                }
            }
            for turn in 0..round {
                bench.pick((worker + turn) % bench.workers())?;
                bench.is_empty()?;
            }
        }
        for worker in 0..bench.workers() {
            while bench.pick(worker)?.is_some() {
                bench.is_empty()?;
            }
        }
        Ok(())
    })
}

fn sleeps_when_empty(suite: &Suite) -> Result<(), Broken> {
    let promise = Promise::SleepsWhenEmpty;
    each(suite, |mut bench| {
        promise.holds(bench.is_empty()?, || {
            "it says no before anything was given".to_owned()
        })?;
        for round in 1..20 {
            everything_from_everywhere(&mut bench, 1)?;
            bench.drain()?;
            promise.holds(bench.is_empty()?, || {
                let workers = bench.workers();
                format!("it says no though all was taken, for the {round}. time: {workers} workers would never sleep")
            })?;
        }
        Ok(())
    })
}

/// A worker leaves, and the others (or whoever has its number next, if there are none) get what it had.
fn hands_on(suite: &Suite) -> Result<(), Broken> {
    for workers in suite.counts() {
        for leaver in [0, workers - 1] {
            let other = if workers == 1 {
                0
            } else {
                usize::from(leaver == 0)
            };
            for from in [From::Outside].into_iter().chain(From::of(leaver)) {
                let mut bench = Bench::new(&suite.make, workers, &suite.stage)?;
                for key in KEYS {
                    bench.give(from, key)?;
                }
                bench.pick(leaver)?;
                bench.leave(leaver)?;
                bench.exhaust(other)?;
                let when = format!(
                    "when worker {leaver} had left, and worker {other} had asked until it got nothing"
                );
                all_came_back(&bench, Promise::HandsOn, &when)?;
            }
        }
    }
    Ok(())
}

/// One waits, and a worker has others to run all the time, each of which makes the next.
fn nobody_starves(suite: &Suite) -> Result<(), Broken> {
    for workers in suite.counts() {
        for flood in [From::Outside].into_iter().chain(From::of(0)) {
            for waits in [From::Outside, From::Posted(0), From::Reaped(0)] {
                for (flood_key, key) in [(0, 0), (u64::MAX, 0), (0, u64::MAX)] {
                    let bench = Bench::new(&suite.make, workers, &suite.stage)?;
                    starve(bench, (flood, flood_key), (waits, key))?;
                }
            }
        }
    }
    Ok(())
}

fn starve(mut bench: Bench, flood: (From, u64), waits: (From, u64)) -> Result<(), Broken> {
    bench.give(flood.0, flood.1)?;
    let waiting = bench.give(waits.0, waits.1)?;
    for _ in 0..3 {
        bench.give(flood.0, flood.1)?;
    }
    for _ in 0..PATIENCE_PICKS {
        if bench.pick(0)? == Some(waiting) {
            return Ok(());
        }
        bench.give(flood.0, flood.1)?;
    }
    let waiting = bench.describe(waiting);
    Err(Promise::NobodyStarves.broken(format!(
        "worker 0 picked {PATIENCE_PICKS} times, each time another of key {} from {} was given, and what waited was not \
         picked: {waiting}. Give the oldest its turn now and then (`worker.picks()`), or tell users, and the kit \
         (`Kit::may_starve`)",
        flood.1, flood.0
    )))
}

fn order(suite: &Suite) -> Result<(), Broken> {
    let Some(claim) = &suite.order else {
        return Ok(());
    };
    // As many as a worker picks before it does what it does now and then, in an order that is none.
    let keys: Vec<u64> = (0..48).map(|index: u64| index * 29 % 13).collect();
    let claimed = claim(&keys);
    each(suite, |mut bench| {
        for &key in &keys {
            bench.give(From::Outside, key)?;
        }
        let mut ran = Vec::new();
        while let Some(number) = bench.pick(0)? {
            ran.push(number);
        }
        let at = (0..keys.len()).find(|&at| ran.get(at) != claimed.get(at));
        Promise::Order.holds(at.is_none() && ran.len() == claimed.len(), || {
            let at = at.unwrap_or(keys.len());
            let show = |number: Option<&usize>| match number {
                Some(&number) => format!(
                    "call {number} (key {})",
                    keys.get(number).copied().unwrap_or_default()
                ),
                None => "nothing".to_owned(),
            };
            format!(
                "of {} calls, with the keys {keys:?}, number {at} to run was to be {}, and was {}",
                keys.len(),
                show(claimed.get(at)),
                show(ran.get(at)),
            )
        })
    })
}
