//! What the echo server's memory grows by for a connection that has been served and is idle.

use std::path::Path;
use std::time::Duration;

use proactor_bench::process::{self, Server};

use crate::guard::Guard;
use crate::server::Watched;
use crate::workshop::Workshop;

const MANY: usize = 10_000;
/// Where the limit of descriptors allows no more.
const FEWER: usize = 2_000;
/// Descriptors that a process has besides.
const BESIDES: usize = 100;

/// Resident bytes for each connection: they were served one after the other, one request each.
pub(crate) fn bytes(workshop: &Workshop, guard: Guard, kept: &Path) -> Result<f64, String> {
    let connections = as_many_as_may_be()?;
    let server = Watched::start(workshop, guard, &[], kept)?;
    let mut clients = server.clients(1)?;
    clients.exchange(1, Duration::ZERO)?;
    let before = resident(&server.server, &kept.with_extension("before"))?;
    for _ in 0..connections {
        clients.greet(server.server.address())?;
    }
    let after = resident(&server.server, &kept.with_extension("after"))?;
    clients.exchange(1, Duration::ZERO)?; // all of them are still served
    drop(clients);
    server.stop()?;
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

/// How many connections the limit of descriptors allows, which is raised, and which the server inherits.
fn as_many_as_may_be() -> Result<usize, String> {
    let allows = |connections: usize| process::raise_descriptors((connections + BESIDES) as u64);
    match allows(MANY) {
        Ok(()) => Ok(MANY),
        Err(_) => allows(FEWER)
            .map(|()| FEWER)
            .map_err(|error| error.to_string()),
    }
}

/// The server's resident bytes; the kernel's list of its mappings is kept.
fn resident(server: &Server, kept: &Path) -> Result<u64, String> {
    let _ = std::fs::copy(format!("/proc/{}/smaps", server.id()), kept); // only to be looked at
    let bytes = server.private_memory();
    bytes.map_err(|error| format!("the server's memory cannot be read: {error}"))
}
