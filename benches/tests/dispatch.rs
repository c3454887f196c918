//! The programs `dispatch` and `timers`, as others drive them: one case, one line of JSON.

use std::process::{Command, Output};

const DISPATCH: &str = env!("CARGO_BIN_EXE_dispatch");
const TIMERS: &str = env!("CARGO_BIN_EXE_timers");
const STRATEGIES: [&str; 3] = ["single", "leader-followers", "work-stealing"];

/// Runs a program to its end, for a minute at most.
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", program]).args(arguments);
    command.output().expect("`timeout` is part of coreutils")
}

/// The one line that it prints, as text and as JSON.
fn line(program: &str, arguments: &[&str]) -> (String, serde_json::Value) {
    let output = run(program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["ok"], true, "{text}");
    (text, value)
}

fn has_in_order(text: &str, names: &[&str]) {
    let places = names.iter().map(|name| text.find(&format!("\"{name}\":")));
    let places: Option<Vec<usize>> = places.collect();
    assert!(
        places.is_some_and(|places| places.is_sorted()),
        "{names:?} in {text}"
    );
}

#[test]
fn each_case_is_one_line_of_json_with_the_fields_in_their_order() {
    for strategy in STRATEGIES {
        for (bench, n) in [
            ("post", 3000),
            ("tree", 3000),
            ("strand", 3000),
            ("spawn", 3000),
            ("wake", 20),
        ] {
            let threads = if strategy == "single" { "1" } else { "2" };
            let n = n.to_string();
            let arguments = [
                "--bench",
                bench,
                "--strategy",
                strategy,
                "--threads",
                threads,
                "--n",
                &n,
            ];
            let (text, figures) = line(DISPATCH, &[&arguments[..], &["--strands", "7"]].concat());
            let fields = [
                "peer",
                "bench",
                "threads",
                "strands",
                "n",
                "ns_per_op",
                "cpu_ns_per_op",
                "wall_s",
                "allocs_per_op",
                "ok",
            ];
            has_in_order(&text, &fields);
            assert_eq!(figures["peer"], format!("proactor-{strategy}"));
            assert_eq!(
                (&figures["bench"], &figures["strands"]),
                (&bench.into(), &7.into())
            );
            let calls = if bench == "tree" {
                2047
            } else {
                n.parse().expect("a number")
            };
            assert_eq!(figures["n"], calls, "the largest full tree, or all");
            assert_eq!(figures["allocs_per_op"], serde_json::Value::Null);
            let wakes = ["p50_ns", "p90_ns", "p99_ns", "max_ns"].map(|name| figures[name].as_u64());
            assert_eq!(
                wakes.is_sorted() && wakes[0].is_some(),
                bench == "wake",
                "{text}"
            );
        }
    }
}

#[test]
fn once_warm_a_call_allocates_nothing() {
    for strategy in STRATEGIES {
        for bench in ["post", "tree", "strand", "spawn"] {
            let arguments = [
                "--bench",
                bench,
                "--strategy",
                strategy,
                "--n",
                "20000",
                "--allocs",
            ];
            let (text, figures) = line(DISPATCH, &arguments);
            let each = figures["allocs_per_op"].as_f64().expect("a number");
            // A slab or a thread's first cache may still come; not a piece for each call.
            assert!(each < 0.01, "{text}");
        }
    }
}

#[test]
fn timers_expire_on_time_and_are_cancelled() {
    for strategy in STRATEGIES {
        for bench in ["expire", "cancel"] {
            let arguments = ["--bench", bench, "--strategy", strategy, "--n", "2000"];
            let (text, figures) = line(TIMERS, &arguments);
            let fields = [
                "peer",
                "bench",
                "threads",
                "n",
                "arm_ns_per_op",
                "cancel_ns_per_op",
                "cpu_ns_per_op",
                "wall_s",
                "late_p50_us",
                "late_p99_us",
                "late_max_us",
                "early",
                "ok",
            ];
            has_in_order(&text, &fields);
            assert_eq!(
                (&figures["n"], &figures["early"]),
                (&2000.into(), &0.into())
            );
            let wall = figures["wall_s"].as_f64().expect("a number");
            assert_eq!(wall > 0.5, bench == "expire", "{text}");
        }
    }
}

#[test]
fn the_comparison_runs_every_case() {
    let output = run(
        DISPATCH,
        &["--json", "--rounds", "1", "--n", "2000", "--threads", "1"],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = proactor_bench::rows::read_json(output.stdout.as_slice()).expect("rows");
    assert!(rows.len() >= 6 * 2 * 3 + 3, "{} rows", rows.len());
}

#[test]
fn bad_arguments_are_one_clear_line() {
    for (program, arguments, about) in [
        (DISPATCH, &["--bench", "magic"][..], "strand"),
        (
            DISPATCH,
            &["--bench", "post", "--strategy", "magic"],
            "work-stealing",
        ),
        (DISPATCH, &["--bench", "post", "--threads", "0"], "1..=64"),
        (
            DISPATCH,
            &["--bench", "post", "--strategy", "single", "--threads", "2"],
            "single-threaded",
        ),
        (DISPATCH, &["--bench", "post", "--peer", "magic"], "magic"),
        (TIMERS, &["--bench", "expire", "--n", "0"], "1..="),
    ] {
        let output = run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{said}"
        );
        assert!(said.lines().count() == 1 && said.contains(about), "{said}");
    }
}
