//! The program `http`, run as a user runs it, for a moment.
#![cfg(feature = "peers")]

use std::process::{Command, Output};

use proactor_bench::rows::read_json;

/// Runs it to its end, for a minute at most.
fn http(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_http")]);
    command.args(arguments);
    command.output().expect("`timeout` is part of coreutils")
}

#[test]
fn every_server_is_measured_or_the_lack_of_wrk_is_told() {
    let output = http(&["--json", "--rounds=1", "--connections=8"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let rows = read_json(output.stdout.as_slice()).expect("each line is a row");
    if said.contains("install Debian's package `wrk`") {
        assert!(rows.is_empty(), "{said}");
        return;
    }
    // Five with one thread and three with two, a rate and a cost each.
    assert_eq!(rows.len(), 2 * (5 + 3), "{said}");
    assert!(
        rows.iter()
            .all(|row| row.value.median > 0.0 && row.ratio.is_some())
    );
}

#[test]
fn without_wrk_nothing_is_measured_and_it_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_http"));
    let output = command.env("PATH", "/no/such").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{said}"
    );
    assert!(said.contains("install Debian's package `wrk`"), "{said}");
}

#[test]
fn what_is_wrong_is_one_line_and_exit_2() {
    for (arguments, what) in [
        (&["--servers", "magic"][..], "magic"),
        (&["--seconds", "0"], "1..=60"),
        (&["--threads", "0"], "1..=64"),
    ] {
        let refused = http(arguments);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(what) && said.lines().count() == 1, "{said}");
    }
}
