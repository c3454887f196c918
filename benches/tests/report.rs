//! `report` draws again what it once measured.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn report(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.args(arguments).output().expect("it runs")
}

/// A directory of this test's own, which is empty.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

#[test]
fn a_saved_report_is_printed_and_drawn_without_measuring() {
    let out = directory("drawn-again");
    let saved = out.join("saved.json");
    let spread = "{\"median\":0.97,\"min\":0.95,\"max\":1.01}";
    let row = format!(
        "{{\"bench\":\"echo\",\"case\":\"64 connections\",\"peer\":\"proactor-single\",\"threads\":1,\
        \"metric\":\"cpu\",\"unit\":\"us/request\",\"rounds\":3,\"value\":{spread},\"ratio\":{spread}}}"
    );
    let machine = "{\"processor\":\"a test's\",\"processors\":2,\"memory_gib\":1,\"kernel\":\"Linux 1\",\
        \"rustc\":\"rustc 1\",\"commit\":\"none\",\"peers\":[[\"tokio\",\"1.2.3\"]]}";
    let text = format!(
        "{{\"parts\":[{{\"part\":\"echo\",\"date\":\"2030-01-02\",\"machine\":{machine},\"quick\":true,\"rows\":[{row}]}}]}}"
    );
    fs::write(&saved, text).expect("a file");
    let [from, to] = [&saved, &out].map(|path| path.to_str().expect("a plain path"));
    let drawn = report(&["--from", from, "--out", to]);
    let said = String::from_utf8_lossy(&drawn.stdout);
    assert!(drawn.status.success(), "{drawn:?}");
    for part in [
        "2030-01-02, quickly",
        "a test's",
        "tokio 1.2.3",
        "0.97 (0.95..1.01)",
        "reached",
    ] {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    let svg = fs::read_to_string(out.join("echo.svg")).expect("a picture");
    assert!(
        svg.contains("64 connections") && svg.contains("0.97"),
        "{svg}"
    );
}

#[test]
fn what_is_wrong_is_one_line_and_exit_2() {
    for (arguments, what) in [
        (&["--from", "/no/such.json"][..], "/no/such.json"),
        (&["--only", "nothing"], "nothing"),
        (&["--from", "a", "--quick"], "--quick"),
    ] {
        let refused = report(&[arguments, &["--out", env!("CARGO_TARGET_TMPDIR")]].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(what) && said.lines().count() == 1, "{said}");
    }
}
