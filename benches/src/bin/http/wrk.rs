//! The load: wrk, with one thread.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use proactor_bench::cli::Outcome;

/// What wrk counted.
#[derive(Debug, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) requests: f64,
    /// Requests per second.
    pub(crate) rate: f64,
}

/// Whether it can be run here.
pub(crate) fn is_there() -> bool {
    let mut command = Command::new("wrk");
    command
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// Loads the server for so long.
pub(crate) fn load(address: SocketAddr, connections: u16, seconds: u16) -> Outcome<Loaded> {
    let output = Command::new("wrk")
        .arg("-t1")
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"))
        .arg(format!("http://{address}/"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("wrk ended with {}: {said}{why}", output.status).into());
    }
    loaded(&said)
}

/// Reads what it says, which must be no word of a failure.
fn loaded(said: &str) -> Outcome<Loaded> {
    let failures = ["Socket errors:", "Non-2xx"];
    if let Some(line) = said
        .lines()
        .find(|line| failures.iter().any(|failure| line.contains(failure)))
    {
        return Err(format!("wrk: {}", line.trim()).into());
    }
    let requests = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let rate = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    let number = |text: &str| {
        text.trim()
            .parse::<f64>()
            .ok()
            .filter(|number| *number > 0.0)
    };
    match (
        requests.and_then(|(count, _)| number(count)),
        rate.and_then(number),
    ) {
        (Some(requests), Some(rate)) => Ok(Loaded { requests, rate }),
        _ => Err(format!("not what wrk says: {said:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   610.17us  100.00us  2.00ms  70.00%\n  \
        105312 requests in 1.10s, 13.06MB read\nRequests/sec:  95784.10\nTransfer/sec:     11.88MB\n";

    #[test]
    fn what_wrk_says_is_read() {
        let expected = Loaded {
            requests: 105_312.0,
            rate: 95_784.1,
        };
        assert_eq!(loaded(SAID).unwrap(), expected);
    }

    #[test]
    fn failures_are_errors() {
        for line in [
            "  Socket errors: connect 0, read 3, write 0, timeout 0",
            "  Non-2xx or 3xx responses: 7",
        ] {
            let said = SAID.replace("Requests/sec", &format!("{line}\nRequests/sec"));
            let error = loaded(&said).unwrap_err().to_string();
            assert!(error.contains(line.trim()), "{error}");
        }
        assert!(loaded("").is_err());
        assert!(loaded(&SAID.replace("105312", "0")).is_err());
    }
}
