//! Instructions and system calls: a short run and a long one, and what the second has more.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::posts::{self, Shape};
use crate::server::Watched;
use crate::workshop::Workshop;

/// Rounds of the short run, which are the warm-up of both.
const SHORT: usize = 50;

/// User-space instructions of the guard's server for each request.
pub(crate) fn request_instructions(
    workshop: &Workshop,
    guard: Guard,
    connections: usize,
    kept: &Path,
) -> Result<f64, String> {
    per_unit(rounds(connections), connections, kept, |rounds, out| {
        let tool = callgrind(out);
        let tool: Vec<&OsStr> = tool.iter().map(OsString::as_os_str).collect();
        serve(workshop, guard, &tool, (connections, rounds), kept)?;
        instructions(&read(out)?)
    })
}

/// User-space instructions for each handler.
pub(crate) fn post_instructions(guard: Guard, shape: Shape, kept: &Path) -> Result<f64, String> {
    per_unit(50, posts::HANDLERS, kept, |rounds, out| {
        let tool = callgrind(out);
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let ran = Command::new(&tool[0])
            .args(&tool[1..])
            .arg(this)
            .args(["load", shape.name(), &guard.strategy.to_string()])
            .arg(rounds.to_string())
            .stdin(Stdio::null())
            .output();
        let ran = ran.map_err(|error| format!("cannot run valgrind: {error}"))?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            return Err(format!("{}, and it said: {said}", ran.status));
        }
        instructions(&read(out)?)
    })
}

/// System calls of the echo server for each request.
pub(crate) fn echo_calls(
    workshop: &Workshop,
    guard: Guard,
    connections: usize,
    kept: &Path,
) -> Result<f64, String> {
    per_unit(rounds(connections), connections, kept, |rounds, out| {
        let _ = std::fs::remove_file(out); // of a former run
        // -D: the server is this process's child, so that it can be asked to end.
        let words = ["strace", "-D", "-f", "-q", "-c", "-o"].map(OsStr::new);
        let tool = [&words[..], &[out.as_os_str()]].concat();
        serve(workshop, guard, &tool, (connections, rounds), kept)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // The tracer outlives the server, and writes then.
            match calls(&read(out).unwrap_or_default()) {
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                counted => break counted,
            }
        }
    })
}

/// What `count` says more for `rounds` rounds, for each of a round's units.
fn per_unit(
    rounds: usize,
    units: usize,
    kept: &Path,
    count: impl Fn(usize, &Path) -> Result<u64, String>,
) -> Result<f64, String> {
    let short = count(SHORT, &kept.with_extension("short"))?;
    let long = count(SHORT + rounds, &kept.with_extension("long"))?;
    if long <= short {
        return Err(format!("{long} in the long run, {short} in the short one"));
    }
    Ok((long - short) as f64 / (rounds * units) as f64)
}

/// Has the guard's server under `tool` serve some connections some rounds.
fn serve(
    workshop: &Workshop,
    guard: Guard,
    tool: &[&OsStr],
    (connections, rounds): (usize, usize),
    kept: &Path,
) -> Result<(), String> {
    let server = Watched::start(workshop, guard, tool, kept)?;
    let mut clients = server.clients(connections)?;
    clients.exchange(rounds, thinks(connections))?;
    drop(clients);
    server.stop()
}

/// How long a client waits before it sends again.
///
/// A server that serves one connection goes to wait after each request. Under a tool it is so slow that the next one might be
/// there already, now and then: so the client gives it time. With many connections there is always one more.
fn thinks(connections: usize) -> Duration {
    match connections {
        1 => Duration::from_millis(1),
        _ => Duration::ZERO,
    }
}

/// Rounds of the long run beyond the short one: of one connection so many that what differs between two ends of a server, some 20,000
/// instructions, does not matter.
fn rounds(connections: usize) -> usize {
    if connections == 1 { 4000 } else { 100 }
}

fn callgrind(out: &Path) -> [OsString; 3] {
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(out);
    ["valgrind".into(), "--tool=callgrind".into(), file]
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The instructions of a whole run, in what callgrind wrote.
fn instructions(profile: &str) -> Result<u64, String> {
    let totals = profile.lines().find_map(|line| {
        let rest = line.strip_prefix("summary: ");
        let rest = rest.or_else(|| line.strip_prefix("totals: "))?;
        rest.split_whitespace().next()?.parse().ok()
    });
    totals.ok_or_else(|| "callgrind wrote no sum".into())
}

/// The system calls of a whole run, in what `strace -c` wrote.
///
/// The calls of each line are added up: in the line of the sum, which column is which depends on the version.
fn calls(table: &str) -> Result<u64, String> {
    const CALLS: usize = 3;
    let mut sum = 0;
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.first(), words.last()) {
            (Some(_), Some(&"total")) => return Ok(sum),
            (Some(share), Some(_)) if share.parse::<f64>().is_ok() => {
                let calls = words.get(CALLS).and_then(|calls| calls.parse::<u64>().ok());
                sum += calls.ok_or_else(|| format!("not a line of strace: {line}"))?;
            }
            _ => {} // the heading and its rules
        }
    }
    Err("strace wrote no sum".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_sum_is_read_wherever_it_stands() {
        let old = "version: 1\nevents: Ir\nsummary: 1234567\n\nfn=(1) main\n16 400\n";
        assert_eq!(instructions(old), Ok(1_234_567));
        let new = "events: Ir\n\nfn=(1) main\n16 400\n\ntotals: 7654321\n";
        assert_eq!(instructions(new), Ok(7_654_321));
        assert!(instructions("events: Ir\nfn=(1) main\n16 400\n").is_err());
    }

    #[test]
    fn straces_calls_are_added_up() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.68    0.018651          18      1005         2 recvfrom
 47.32    0.016753          16      1001           sendto
  0.00    0.000000           0         3         1 epoll_ctl
------ ----------- ----------- --------- --------- ----------------
100.00    0.035404                  2009         3 total
";
        assert_eq!(calls(table), Ok(2009));
        let unfinished = table.lines().take(4).collect::<Vec<_>>().join("\n");
        assert!(calls(&unfinished).is_err());
    }

    #[test]
    fn start_and_end_cancel_out() {
        let kept = Path::new("unused");
        let linear = |rounds: usize, _: &Path| Ok(1_000_000 + 300 * rounds as u64);
        assert_eq!(per_unit(10, 3, kept, linear), Ok(100.0));
        let flat = |_: usize, _: &Path| Ok(7);
        assert!(per_unit(10, 3, kept, flat).is_err());
    }
}
