//! The sweep of strategies and pool sizes: what it recommends from which figures, that it notices what is lost, and the
//! example as its users meet it.
//!
//! `cargo test` builds the examples before it runs this; `cargo test --test tune` alone does not
//! (`cargo build --examples` does).
#![cfg(not(proactor_loom))]

#[path = "tune/advice.rs"]
mod advice;
mod common;
#[path = "common/process.rs"]
mod process;

// The sweep's own modules, under the names that they call each other by.
#[allow(dead_code)]
#[path = "../examples/tune_pool_size/cell.rs"]
mod cell;
#[path = "../examples/tune_pool_size/echo.rs"]
mod echo;
#[path = "../examples/tour/histogram.rs"]
mod histogram;
#[path = "../examples/tune_pool_size/jobs.rs"]
mod jobs;
#[allow(dead_code)]
#[path = "../examples/tune_pool_size/labour.rs"]
mod labour;
#[path = "../examples/tour/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../examples/tune_pool_size/measure.rs"]
mod measure;
#[path = "../examples/tour/ready.rs"]
mod ready;
#[allow(dead_code)]
#[path = "../examples/tune_pool_size/recommend.rs"]
mod recommend;

use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cell::Cell;
use common::within;
use labour::Labour;
use measure::{Load, Plan};
use proactor::dispatch::{Dispatcher, Injector, Origin, Placed, Worker};
use proactor::{BackendKind, BuildError, Completion, Proactor, Strategy};
use process::{assert_helps, assert_refused, example, output_of, signal, text};

// ---- what is noticed ----

fn cell_of(strategy: Strategy, threads: usize) -> Cell {
    Cell {
        strategy,
        threads: NonZeroUsize::new(threads).expect("threads"),
        setting: None,
    }
}

fn plan(load: Load) -> Plan {
    Plan {
        load,
        in_flight: 4,
        message_bytes: 64,
        labour: Labour::Nothing,
        backend: BackendKind::Auto,
        warm_up: Duration::from_millis(10),
        measured: Duration::from_millis(50),
    }
}

/// First come, first served; but what comes as the `after`th is dropped.
#[derive(Debug)]
struct Lossy {
    queue: Injector,
    after: AtomicUsize,
}

impl Dispatcher for Lossy {
    fn attach(&mut self, _threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(NonZeroUsize::MIN)
    }

    fn dispatch(&self, completion: Completion, _origin: Origin<'_>) -> Placed {
        if self.after.fetch_sub(1, Ordering::Relaxed) == 1 {
            drop(completion);
        } else {
            self.queue.push(completion);
        }
        Placed::Shared
    }

    fn next(&self, _worker: Worker<'_>) -> Option<Completion> {
        self.queue.pop()
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[test]
fn a_handler_that_is_lost_is_noticed() {
    within("a lossy strategy", || {
        let lossy = |after| Lossy {
            queue: Injector::default(),
            after: AtomicUsize::new(after),
        };
        let run = |after| {
            let built = Proactor::builder().dispatcher(lossy(after)).build();
            jobs::drive(&built.expect("a proactor"), plan(Load::Cpu), |_| ())
        };
        let figures = run(usize::MAX).expect("nothing is lost");
        assert!(figures.operations > 0 && figures.latencies.total() > 0);
        let lost = run(100).err().expect("one is lost");
        assert!(
            lost.contains("no handler ran") && lost.contains("of its 8"),
            "{lost}"
        );
    });
}

#[test]
fn a_byte_that_comes_back_wrong_is_noticed() {
    within("a server that errs", || {
        let listener = std::net::TcpListener::bind(common::any_port()).expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client");
            let mut buffer = [0; 64];
            while stream.read_exact(&mut buffer).is_ok() {
                buffer[40] ^= 1;
                stream.write_all(&buffer).expect("to answer");
            }
        });
        let plan = load::Plan {
            connections: 1,
            message_bytes: 64,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(20),
        };
        let outcome = load::drive(address, plan, |_| ()).expect("every reply came");
        server.join().expect("the server");
        assert!(outcome.mismatches > 0);
        let first = outcome.first_mismatch.expect("a description");
        assert!(first.contains("byte 40"), "{first}");
    });
}

#[test]
fn every_load_is_carried_out_by_every_strategy() {
    within("a cell of each", || {
        for load in [Load::Io, Load::Cpu, Load::Mixed, Load::Blocking] {
            for strategy in Strategy::ALL {
                let mut seen = Duration::ZERO;
                let sample = measure::measure(cell_of(strategy, 1), plan(load), |at| seen = at);
                let sample = sample.unwrap_or_else(|e| panic!("{load:?}, {strategy}: {e}"));
                assert!(sample.throughput > 0.0 && sample.p50_us <= sample.p99_us);
                assert!(
                    seen > Duration::ZERO,
                    "{load:?}, {strategy}: progress is told"
                );
            }
        }
    });
}

#[test]
fn a_measurement_too_short_for_its_load_takes_longer() {
    within("long handlers", || {
        for load in [Load::Mixed, Load::Blocking] {
            let plan = Plan {
                in_flight: 1,
                labour: Labour::Block(Duration::from_millis(40)),
                measured: Duration::from_millis(1),
                ..plan(load)
            };
            let sample = measure::measure(cell_of(Strategy::Single, 1), plan, |_| ());
            assert!(sample.unwrap_or_else(|e| panic!("{load:?}: {e}")).p50_us > 0.0);
        }
    });
}

// ---- the example ----

/// A place for a chart of one test's.
fn chart(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.svg", std::process::id()))
}

fn run(arguments: &[&str]) -> Output {
    process::run("tune_pool_size", arguments)
}

/// A sweep so small that it is over at once, and what it wrote: stdout and the chart.
fn small_sweep(name: &str, arguments: &[&str]) -> (String, String) {
    let path = chart(name);
    let small = ["--seconds=0.1", "--in-flight=4", "--svg"];
    let path_text = path.to_str().expect("a path in UTF-8");
    let output = run(&[&small[..], &[path_text], arguments].concat());
    let stdout = text(&output.stdout).to_owned();
    let ended = (output.status.code(), text(&output.stderr));
    assert_eq!(ended, (Some(0), ""), "{arguments:?}: {stdout}");
    let svg = std::fs::read_to_string(&path).expect("the chart");
    std::fs::remove_file(&path).expect("to remove the chart");
    (stdout, svg)
}

const CELLS: [(&str, &str); 5] = [
    ("single", "1"),
    ("leader-followers", "1"),
    ("leader-followers", "2"),
    ("work-stealing", "1"),
    ("work-stealing", "2"),
];

#[test]
fn a_sweep_has_a_row_for_each_cell_and_recommends_one_of_them() {
    for load in ["io", "cpu", "mixed", "blocking"] {
        let arguments = ["--load", load, "--threads=1,2,1", "--repeats=1"];
        let (stdout, svg) = small_sweep(load, &arguments);
        let begins = format!("tune_pool_size: {load}, 4 ");
        assert!(stdout.starts_with(&begins), "{stdout}");
        assert!(
            stdout.contains("5 cells, 1 repeat of 0.10 s each"),
            "{stdout}"
        );
        let rows = stdout.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (strategy, threads, rate) = (words.next()?, words.next()?, words.next()?);
            let is_row = threads.parse::<usize>().is_ok() && rate.parse::<f64>().ok()? > 0.0;
            (is_row && CELLS.iter().any(|(name, _)| *name == strategy))
                .then_some((strategy, threads))
        });
        assert_eq!(rows.collect::<Vec<_>>(), CELLS, "{stdout}");
        let advice = stdout
            .lines()
            .find_map(|line| line.strip_prefix("Recommended: "));
        let advice = advice.unwrap_or_else(|| panic!("no recommendation: {stdout}"));
        let named = |(strategy, threads): &&(&str, &str)| {
            advice.starts_with(&format!("{strategy}, {threads} thread"))
        };
        assert_eq!(CELLS.iter().filter(named).count(), 1, "{advice}");
        assert!(stdout.contains("\n    .dispatcher("), "{stdout}");
        let unit = if ["io", "mixed"].contains(&load) {
            "requests/s"
        } else {
            "handlers/s"
        };
        check_chart(&svg, unit);
    }
}

/// Names on the axes and a line and points for each strategy.
fn check_chart(svg: &str, unit: &str) {
    let elements = elements_of(svg);
    let unit = format!("throughput ({unit})");
    let latency = "99th percentile of latency (us)";
    let labels = [unit.as_str(), latency, "threads in the pool", "1", "2"];
    for label in labels.into_iter().chain(
        Strategy::ALL
            .map(|it| it.to_string())
            .iter()
            .map(String::as_str),
    ) {
        let is_label = |(_, _, content): &(&str, &str, &str)| *content == label;
        assert!(elements.iter().any(is_label), "no text `{label}` in {svg}");
    }
    let of = |wanted: &str| {
        let mut colours = Vec::new();
        for (name, attributes, _) in &elements {
            let colour = attributes.split('"').find(|value| value.starts_with('#'));
            if *name == wanted {
                colours.extend(colour);
            }
        }
        let count = colours.len();
        colours.sort_unstable();
        colours.dedup();
        (count, colours.len())
    };
    assert_eq!(
        of("circle"),
        (2 * CELLS.len(), 3),
        "a point for each cell in both pictures: {svg}"
    );
}

/// Every element of a well-formed document, as its name, its attributes, and the text that it begins with.
fn elements_of(xml: &str) -> Vec<(&str, &str, &str)> {
    let (mut elements, mut open, mut rest) = (Vec::new(), Vec::new(), xml.trim());
    while let Some(tag) = rest.strip_prefix('<') {
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        let (content, _) = after.split_once('<').unwrap_or((after, ""));
        rest = &after[content.len()..];
        assert!(
            !tag.contains('<') && !content.contains('>'),
            "a bare bracket near {tag}"
        );
        for entity in content.split('&').skip(1) {
            assert!(entity.contains(';'), "a bare ampersand in {content}");
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "what is opened last is closed first"
            );
        } else {
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert_eq!(
                attributes.matches('"').count() % 2,
                0,
                "an open quote in {tag}"
            );
            elements.push((name, attributes, content.trim()));
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(!open.is_empty() || rest.is_empty(), "one root");
    }
    assert!(open.is_empty() && rest.is_empty(), "left: {open:?} {rest}");
    elements
}

#[test]
fn as_json_it_is_one_object_with_the_cells_and_the_recommendation() {
    let arguments = [
        "--json",
        "--threads=1,2",
        "--repeats=2",
        "--vary=turn-budget=0,16",
    ];
    let (stdout, _) = small_sweep("json", &arguments);
    let object: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON object alone");
    let cells = object["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2 * CELLS.len());
    for cell in cells {
        assert_eq!(cell["samples"].as_array().map(Vec::len), Some(2), "{cell}");
        for figure in [
            "throughput",
            "p50_us",
            "p99_us",
            "cpu_us",
            "speed_up",
            "of_best",
        ] {
            let [min, median, max] =
                ["min", "median", "max"].map(|of| cell[figure][of].as_f64().expect("a number"));
            assert!(
                0.0 < min && min <= median && median <= max,
                "{figure} in {cell}"
            );
        }
    }
    for advice in ["recommendation", "shortest_p99"] {
        let advice = &object[advice];
        let same = |cell: &&serde_json::Value| {
            ["strategy", "threads", "setting"]
                .into_iter()
                .all(|key| cell[key] == advice[key])
        };
        assert_eq!(cells.iter().filter(same).count(), 1, "{advice}");
        let line = advice["builder"].as_str().expect("a line");
        assert!(line.contains(".turn_budget("), "{line}");
        assert!(
            advice["why"].as_str().is_some_and(|why| !why.is_empty()),
            "{advice}"
        );
    }
}

#[test]
fn an_interrupt_ends_it_with_what_it_has() {
    let path = chart("interrupted");
    let path_text = path.to_str().expect("a path in UTF-8");
    let child = example("tune_pool_size")
        .args(["--seconds=0.5", "--repeats=1000", "--svg", path_text])
        .spawn();
    let mut child = child.expect("to start the example");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut shown = String::new();
    stdout.read_line(&mut shown).expect("its first line");
    signal(child.id(), "-INT");
    let output = output_of(child);
    stdout.read_to_string(&mut shown).expect("the rest");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{shown}{}",
        text(&output.stderr)
    );
    assert!(shown.contains("\nRecommended: "), "{shown}");
    assert!(std::fs::remove_file(&path).is_ok(), "no chart");
}

#[test]
fn bad_input_is_refused_in_one_line_that_says_what_would_do() {
    for (arguments, about) in [
        (&["--load", "wishful"][..], "io, cpu, mixed, blocking"),
        (
            &["--strategies", "wishful"],
            "single, leader-followers, work-stealing",
        ),
        (&["--threads", "1,0"], "from 1 to 1024"),
        (&["--threads", "1025"], "from 1 to 1024"),
        (&["--threads", "many"], "from 1 to 1024"),
        (&["--seconds", "0"], "from 0.05 to 3600"),
        (&["--seconds", "-1"], "from 0.05 to 3600"),
        (&["--repeats", "0"], "1..=1000"),
        (&["--in-flight", "0"], "1..=10000"),
        (&["--message-bytes", "0"], "--message-bytes"),
        (&["--handler-us", "0"], "1..=100000"),
        (&["--vary", "batch"], "batch=1,16,128"),
        (
            &["--vary", "magic=1"],
            "batch, turn-budget, poll-every, spin-us, seats, backend",
        ),
        (&["--vary", "batch=0"], "from 1 to 65536"),
        (&["--vary", "seats=3"], "1 or 2"),
        (&["--backend", "magic"], "portable"),
        (
            &["--load=mixed", "--in-flight=1000", "--handler-us=9000"],
            "lower one",
        ),
        (&["--svg", "/dev/null/chart.svg"], "--svg"),
        (&["stray"], "stray"),
    ] {
        assert_refused("tune_pool_size", arguments, about);
    }
}

#[test]
fn help_has_every_flag_and_every_load() {
    let flags = "--load --strategies --threads --vary --seconds --repeats --in-flight --message-bytes --handler-us \
        --backend --svg --json --help io: cpu: mixed: blocking:";
    assert_helps(
        "tune_pool_size",
        &flags.split_whitespace().collect::<Vec<_>>(),
    );
}
