//! What is recommended from which figures.

use proactor::Strategy;

use crate::cell::{Measured, Sample};
use crate::cell_of as cell;
use crate::recommend::{Goal, Recommendation, recommend};

fn measured<const N: usize>(strategy: Strategy, threads: usize, throughputs: [f64; N]) -> Measured {
    let sample = |throughput| Sample {
        throughput,
        p50_us: 1e6 / throughput,
        p99_us: 2e6 / throughput,
        cpu_us: 5.0,
    };
    Measured {
        cell: cell(strategy, threads),
        samples: throughputs.map(sample).to_vec(),
    }
}

fn fastest(cells: &[Measured]) -> Recommendation {
    recommend(cells, Goal::Throughput).expect("there are figures")
}

#[test]
fn a_clear_winner_is_recommended() {
    let cells = [
        measured(Strategy::Single, 1, [100.0, 101.0, 99.0]),
        measured(Strategy::LeaderFollowers, 4, [150.0, 151.0, 149.0]),
        measured(Strategy::WorkStealing, 8, [200.0, 201.0, 199.0]),
    ];
    let it = fastest(&cells);
    assert_eq!((it.pick, it.best, it.keep_up.len()), (2, 2, 0));
    for part in [
        "beyond the noise",
        "leader-followers, 4 threads",
        "33.3%",
        "3 of 3",
    ] {
        assert!(it.why.contains(part), "{part} is not in: {}", it.why);
    }
}

#[test]
fn of_those_within_the_noise_of_the_best_the_smallest_pool_is_recommended() {
    let cells = [
        measured(Strategy::Single, 1, [60.0, 61.0, 59.0, 60.0, 60.0]),
        measured(Strategy::WorkStealing, 2, [100.0, 90.0, 110.0, 95.0, 105.0]),
        measured(
            Strategy::LeaderFollowers,
            4,
            [108.0, 112.0, 99.0, 101.0, 104.0],
        ),
        measured(
            Strategy::WorkStealing,
            8,
            [106.0, 109.0, 97.0, 110.0, 107.0],
        ),
    ];
    let it = fastest(&cells);
    assert_eq!((it.pick, it.best), (1, 3));
    assert_eq!(it.keep_up, [1, 2]);
    for part in [
        "smallest pool",
        "within the noise",
        "work-stealing, 8 threads",
        "4 of 5",
    ] {
        assert!(it.why.contains(part), "{part} is not in: {}", it.why);
    }
}

#[test]
fn a_lead_that_is_steady_but_negligible_is_not_worth_threads() {
    let cells = [
        measured(Strategy::LeaderFollowers, 2, [100.0, 200.0, 300.0]),
        measured(Strategy::LeaderFollowers, 4, [102.0, 204.0, 306.0]),
    ];
    let it = fastest(&cells);
    assert_eq!((it.pick, it.best), (0, 1));
    assert!(
        it.why.contains("below 3%") && it.why.contains("2.0%"),
        "{}",
        it.why
    );
}

#[test]
fn among_equals_the_fewest_threads_and_the_simplest_strategy_are_recommended() {
    let equal = [100.0, 100.0, 100.0];
    let cells = [
        measured(Strategy::WorkStealing, 4, equal),
        measured(Strategy::WorkStealing, 1, equal),
        measured(Strategy::LeaderFollowers, 1, equal),
        measured(Strategy::Single, 1, equal),
    ];
    let it = fastest(&cells);
    assert_eq!(cells[it.pick].cell, cell(Strategy::Single, 1));
    assert_eq!(it.keep_up.len(), 3);
    assert!(it.why.contains("within the noise"), "{}", it.why);
}

#[test]
fn a_single_cell_is_recommended_as_what_it_is() {
    let it = fastest(&[measured(Strategy::WorkStealing, 3, [5.0])]);
    assert_eq!((it.pick, it.why.as_str()), (0, "the only cell measured"));
    assert!(recommend(&[], Goal::Throughput).is_none());
    let nothing = measured(Strategy::Single, 1, []);
    assert!(recommend(&[nothing], Goal::Throughput).is_none());
}

#[test]
fn what_slows_every_cell_of_a_repeat_hides_no_winner_and_one_stall_neither() {
    // The machine gets slower and slower; the ranges overlap, and yet one is ahead all the time but once.
    let cells = [
        measured(
            Strategy::Single,
            1,
            [100.0, 80.0, 60.0, 40.0, 20.0, 10.0, 5.0],
        ),
        measured(
            Strategy::LeaderFollowers,
            2,
            [150.0, 120.0, 90.0, 30.0, 30.0, 15.0, 7.5],
        ),
    ];
    let it = fastest(&cells);
    assert_eq!((it.pick, it.keep_up.len()), (1, 0), "{}", it.why);
    assert!(it.why.contains("6 of 7"), "{}", it.why);
}

#[test]
fn one_repeat_alone_says_that_it_shows_no_noise() {
    let cells = [
        measured(Strategy::Single, 1, [100.0]),
        measured(Strategy::LeaderFollowers, 2, [200.0]),
    ];
    let it = fastest(&cells);
    assert_eq!(it.pick, 1);
    assert!(it.why.contains("--repeats"), "{}", it.why);
}

#[test]
fn the_shortest_latency_can_be_another_cell_than_the_fastest() {
    let mut calm = measured(Strategy::WorkStealing, 2, [90.0, 90.0, 90.0]);
    calm.samples
        .iter_mut()
        .for_each(|sample| sample.p99_us = 1.0);
    let cells = [measured(Strategy::Single, 1, [100.0, 100.0, 100.0]), calm];
    let pick = |goal| recommend(&cells, goal).expect("there are figures").pick;
    assert_eq!((pick(Goal::Throughput), pick(Goal::Latency)), (0, 1));
}
