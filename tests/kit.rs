//! The conformance kit: the strategies here keep every promise, and for each promise there is one that breaks it and is told so.
#![cfg(not(proactor_loom))]

use proactor::conformance::{self, Kit};
use proactor::dispatch::{LeaderFollowers, SingleThreaded, WorkStealing};

#[test]
fn single_threaded_keeps_every_promise() {
    println!("{}", Kit::new().first_come_first_served().check(SingleThreaded::new).expect("kept"));
}

#[test]
fn leader_followers_keeps_every_promise() {
    println!("{}", Kit::new().first_come_first_served().check(LeaderFollowers::new).expect("kept"));
}

#[test]
fn work_stealing_keeps_every_promise() {
    conformance::check(WorkStealing::new);
}
