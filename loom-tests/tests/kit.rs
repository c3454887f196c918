//! The conformance kit's models, against strategies that keep them, and against one for each that does not.
#![cfg(proactor_loom)]

use loom_tests::kills;
use proactor::conformance::{Kit, Promise};
use proactor::dispatch::{LeaderFollowers, SingleThreaded, WorkStealing};

#[test]
fn single() {
    println!("{}", Kit::new().check(SingleThreaded::new).expect("kept"));
}
#[test]
fn leader() {
    println!("{}", Kit::new().check(LeaderFollowers::new).expect("kept"));
}
#[test]
fn stealing() {
    println!("{}", Kit::new().check(WorkStealing::new).expect("kept"));
}
