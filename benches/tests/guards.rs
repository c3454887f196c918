//! The manners of `guards`; what it measures is measured by `.ci/run guards`.

use std::process::{Command, Output};

fn guards(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guards"));
    command.args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_help_names_the_tools_that_are_needed() {
    let help = guards(&["--help"]);
    let said = text(&help.stdout);
    assert_eq!(help.status.code(), Some(0), "{said}");
    assert!(said.contains("valgrind and strace"), "{said}");
}

#[test]
fn guards_are_chosen_by_name() {
    let listed = guards(&["--list", "calls/echo-64", "bytes"]);
    let said = text(&listed.stdout);
    assert_eq!(listed.status.code(), Some(0), "{said}");
    let calls = said
        .lines()
        .filter(|line| line.starts_with("calls/echo-64/"));
    let bytes = said.lines().filter(|line| line.starts_with("bytes/idle/"));
    assert_eq!((calls.count(), bytes.count()), (5, 3), "{said}");
}

#[test]
fn what_cannot_be_done_is_one_line_and_exit_2() {
    for (arguments, what) in [
        (&["--list", "nothing-of-this-name"][..], "see --list"),
        (&["--unknown"], "--unknown"),
    ] {
        let refused = guards(arguments);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(what) && said.lines().count() == 1, "{said}");
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_debug_build_measures_nothing() {
    let refused = guards(&["instructions/post"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--release"), "{said}");
}
