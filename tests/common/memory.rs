//! What another process holds: descriptors and memory, as Linux tells.
#![allow(dead_code)] // every test uses a part of it

use std::fs;
use std::thread;
use std::time::Instant;

use crate::process::WATCHDOG;

pub(crate) fn descriptors(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    open.expect("a process of ours").count()
}

/// Waits until it has no more descriptors than that.
pub(crate) fn comes_back_to(pid: u32, wanted: usize) {
    let deadline = Instant::now() + WATCHDOG;
    loop {
        let open = descriptors(pid);
        if open <= wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{open} descriptors stay, there were {wanted}"
        );
        thread::yield_now();
    }
}

/// The memory that is its own.
pub(crate) fn resident_kb(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("its memory, as Linux tells")
}
