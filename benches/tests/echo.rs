//! The programs `echo` and `idle`, run as a user runs them, for a moment each.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use proactor_bench::rows::{Row, read_json};

const OURS: &str = "proactor-single,proactor-leader-followers,proactor-work-stealing,epoll-edge";

/// Runs a program to its end, for a minute at most.
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", program]).args(arguments);
    let began = Instant::now();
    let output = command.output().expect("`timeout` is part of coreutils");
    assert!(began.elapsed() < Duration::from_secs(60), "{program} hangs");
    output
}

fn rows(program: &str, arguments: &[&str]) -> Vec<Row> {
    let output = run(program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    read_json(output.stdout.as_slice()).expect("each line is a row")
}

#[test]
fn every_server_of_ours_is_measured_in_every_shape() {
    let shapes = "1x64x1,8x16384x1,8x64x16";
    let arguments = [
        "--json",
        "--rounds",
        "2",
        "--seconds",
        "0.02",
        "--shapes",
        shapes,
        "--servers",
        OURS,
    ];
    let rows = rows(
        env!("CARGO_BIN_EXE_echo"),
        &[&arguments[..], &["--threads", "1,2"]].concat(),
    );
    let servers = 5 + 4; // those with one thread, and those with two
    assert_eq!(
        rows.len(),
        servers * 3 * 2,
        "servers, shapes and metrics: {rows:?}"
    );
    for row in rows {
        assert_eq!((row.bench.as_str(), row.rounds), ("echo", 2));
        let ratio = row.ratio.expect("the base is always measured");
        assert!(row.value.min > 0.0 && ratio.min > 0.0, "{row:?}");
        assert!(
            row.peer != "epoll" || (ratio.min, ratio.max) == (1.0, 1.0),
            "{row:?}"
        );
    }
}

#[test]
fn tables_have_servers_down_and_shapes_across() {
    let arguments = [
        "--rounds",
        "1",
        "--seconds",
        "0.02",
        "--shapes",
        "2x100x1,3x64x1",
        "--servers",
        "proactor-single",
    ];
    let output = run(env!("CARGO_BIN_EXE_echo"), &arguments);
    let text = String::from_utf8(output.stdout).expect("a table is text");
    let lines = Vec::from_iter(text.lines());
    assert!(
        lines[1].contains("2 connections, 100 bytes") && lines[1].ends_with("3 connections"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("epoll  ") && lines[3].starts_with("proactor-single  "),
        "{text}"
    );
}

#[test]
fn who_reads_no_further_hears_no_more() {
    let echo = concat!(
        env!("CARGO_BIN_EXE_echo"),
        " --rounds 1 --seconds 0.02 --shapes 1x64x1 --servers epoll"
    );
    let output = run("bash", &["-c", &format!("set -o pipefail; {echo} | true")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn idle_connections_cost_what_a_buffer_costs_at_most() {
    let arguments = [
        "--json",
        "--rounds",
        "1",
        "--connections",
        "500",
        "--servers",
        OURS,
    ];
    let rows = rows(env!("CARGO_BIN_EXE_idle"), &arguments);
    assert_eq!(rows.len(), 5);
    for row in rows {
        // A page for the buffer, one more for what belongs to it, and something for how memory is handed out. The system counts what is
        // resident in batches of 64 pages, so that nothing may seem to be a little less than that.
        let bytes = row.value.median;
        assert!((-1_000.0..10_000.0).contains(&bytes), "{row:?}");
    }
}

#[test]
fn idle_measures_any_command() {
    let server = format!("{} --serve epoll --threads 1", env!("CARGO_BIN_EXE_echo"));
    let arguments = [
        "--json",
        "--rounds",
        "1",
        "--connections",
        "100",
        "--server-command",
        &server,
    ];
    let rows = rows(env!("CARGO_BIN_EXE_idle"), &arguments);
    assert_eq!((rows.len(), rows[0].ratio), (1, None));
}

#[test]
fn bad_arguments_get_one_clear_line() {
    let [echo, idle] = [env!("CARGO_BIN_EXE_echo"), env!("CARGO_BIN_EXE_idle")];
    for (program, arguments, expected) in [
        (
            echo,
            &["--servers", "nobody"][..],
            "unknown server `nobody`: it is one of epoll, ",
        ),
        (echo, &["--shapes", "64x64"], "CONNECTIONSxBYTESxPIPELINE"),
        (echo, &["--seconds", "0"], "0.01 to 60"),
        (echo, &["--rounds", "0"], "--rounds"),
        (idle, &["--connections", "none"], "--connections"),
        (idle, &["--server-command", " "], "it names no program"),
        (
            idle,
            &["--server-command", "/nowhere/server"],
            "cannot start",
        ),
        (
            idle,
            &["--server-command", "true"],
            "did not say `listening on ADDRESS`",
        ),
    ] {
        let output = run(program, arguments);
        let said = String::from_utf8(output.stderr).expect("messages are text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    }
}
