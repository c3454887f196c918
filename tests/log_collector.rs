//! `log_collector` as its users meet it: whole lines, each source's in order, and nothing lost at the end.
#![cfg(not(proactor_loom))]

#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use process::{WATCHDOG, Watchdog, assert_fails, assert_helps, example};
use serving::{Server, everywhere};

/// A collector, and its file, which goes with the test.
struct Collector {
    server: Server,
    file: PathBuf,
}

impl Collector {
    fn start(arguments: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("proactor-log-collector-{}-{number}", std::process::id());
        let file = std::env::temp_dir().join(unique);
        let path = file.to_str().expect("UTF-8");
        let server = Server::start("log_collector", &[arguments, &["--file", path]].concat());
        Self { server, file }
    }

    fn written(&self) -> String {
        fs::read_to_string(&self.file).expect("what was written")
    }

    fn waits_for(&self, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + WATCHDOG;
        while !wanted(&self.written()) {
            assert!(
                Instant::now() < deadline,
                "never written: {}",
                self.written()
            );
            thread::yield_now();
        }
    }

    /// What stands in the file after the end.
    fn end(self) -> String {
        self.server.end();
        let written = fs::read_to_string(&self.file).expect("what was written");
        fs::remove_file(&self.file).expect("to take it away");
        written
    }
}

/// No more comes; waits until the other side knows that.
fn finish(mut source: TcpStream) {
    source.shutdown(Shutdown::Write).expect("to end");
    assert_eq!(source.read(&mut [0; 1]).expect("the end"), 0);
}

#[test]
fn lines_of_many_stay_whole_and_in_order_also_when_they_wait_for_room() {
    const SOURCES: usize = 8;
    const LINES: usize = 400;
    everywhere(|arguments| {
        let collector = Collector::start(&[arguments, &["--queue", "2"]].concat());
        let sending = (0..SOURCES).map(|source| {
            let mut stream = collector.server.connect();
            thread::spawn(move || {
                for line in 0..LINES {
                    let text = format!("{source} {line} {}\n", "x".repeat(line));
                    stream.write_all(text.as_bytes()).expect("to send");
                }
                finish(stream);
            })
        });
        let sending: Vec<_> = sending.collect();
        for source in sending {
            source.join().expect("a source");
        }
        let written = collector.end();
        let mut next = [0; SOURCES];
        for line in written.lines() {
            let mut words = line.split(' ');
            let source: usize = words.next().and_then(|word| word.parse().ok()).expect(line);
            let number = next[source];
            assert_eq!(line, format!("{source} {number} {}", "x".repeat(number)));
            next[source] += 1;
        }
        assert_eq!(next, [LINES; SOURCES]);
    });
}

#[test]
fn a_line_that_ends_with_its_stream_or_is_too_long_is_kept() {
    let collector = Collector::start(&[]);
    let mut source = collector.server.connect();
    source.write_all(b"\nwithout an end").expect("to send");
    finish(source);
    let mut source = collector.server.connect();
    source.write_all(&[b'y'; 20_000]).expect("to send");
    finish(source);
    let written = collector.end();
    let lengths: Vec<_> = written.lines().map(str::len).collect();
    assert_eq!(lengths, [0, 14, 8192, 8192, 20_000 - 2 * 8192]);
}

#[test]
fn what_came_before_the_signal_is_written_and_the_file_is_appended_to() {
    everywhere(|arguments| {
        let collector = Collector::start(arguments);
        fs::write(&collector.file, "old\n").expect("to write");
        let mut open = collector.server.connect();
        open.write_all(b"new\nand one that nobody en")
            .expect("to send");
        collector.waits_for(|written| written.contains("new\n"));
        let written = collector.end(); // with a source that is open
        assert!(written.starts_with("old\nnew\n"), "{written}");
        drop(open);
    });
}

#[test]
#[cfg(target_os = "linux")] // which has a disk that is always full
fn a_disk_that_fails_ends_it_with_the_reason() {
    let mut command = example("log_collector");
    let mut child = command
        .args(["--file", "/dev/full"])
        .spawn()
        .expect("to start it");
    let _watchdog = Watchdog::watch(&child);
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    let line = String::from_utf8(line).expect("UTF-8");
    let address = line.trim_end().strip_prefix("listening on ").expect(&line);
    let mut source = process::connect(address);
    source.write_all(b"no room\n").expect("to send");
    let output = process::output_of(child);
    let said = process::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("/dev/full") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn it_helps_and_refuses_bad_input_in_one_line() {
    assert_helps(
        "log_collector",
        &["--addr", "--strategy", "--threads", "--file", "--queue"],
    );
    assert_fails("log_collector", &[], 2, "--file");
    assert_fails(
        "log_collector",
        &["--file", "/nowhere/at/all"],
        1,
        "/nowhere/at/all",
    );
    assert_fails(
        "log_collector",
        &["--file", "x", "--queue", "0"],
        2,
        "--queue",
    );
}
