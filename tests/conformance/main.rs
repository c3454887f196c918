//! What a proactor promises, one test a promise, each named by its number; `docs/conformance.md` has the list.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

#[path = "../common/mod.rs"]
mod common;

mod cancellation;
mod composed;
mod others;
mod running;
mod strands;
mod streams;
mod timers;
