//! The loads over TCP (`cargo run --release --example tune_pool_size`): an echo server, some of whose handlers may also
//! compute, and the tour's client, which verifies every byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proactor::net::{TcpListener, TcpStream};
use proactor::{Error, Proactor};

use crate::labour::Labour;
use crate::load;
use crate::measure::{Figures, Plan, end};

/// How many requests of a connection go by for one with labour.
pub(crate) const LABOUR_EVERY: usize = 16;
const BUFFER_BYTES: usize = 4096;
/// How often a measurement in which nothing was finished is made again, each time twice as long.
const LONGER_AT_MOST: usize = 5;

/// Drives an echo server on `proactor` as planned.
///
/// An error says which reply was lost, or was not its request.
pub(crate) fn drive(
    proactor: &Proactor,
    plan: Plan,
    mut progress: impl FnMut(Duration),
) -> Result<Figures, String> {
    let address = serve(proactor, plan.labour).map_err(|e| format!("cannot listen: {e}"))?;
    proactor
        .start()
        .map_err(|e| format!("cannot start threads: {e}"))?;
    let mut plan = load::Plan {
        connections: plan.in_flight,
        message_bytes: plan.message_bytes,
        warm_up: plan.warm_up,
        measured: plan.measured,
    };
    let mut outcome = load::drive(address, plan, &mut progress)?;
    for _ in 0..LONGER_AT_MOST {
        if outcome.latencies.total() > 0 || outcome.mismatches > 0 {
            break;
        }
        plan.measured *= 2; // too short for the load, or for what else the machine does
        outcome = load::drive(address, plan, &mut progress)?;
    }
    end(proactor)?;
    if let Some(first) = outcome.first_mismatch {
        return Err(format!(
            "{} mismatches, the first: {first}",
            outcome.mismatches
        ));
    }
    Ok(Figures {
        operations: outcome.latencies.total(),
        elapsed: outcome.elapsed,
        cpu: outcome.server_cpu,
        latencies: outcome.latencies,
    })
}

fn serve(proactor: &Proactor, labour: Labour) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(proactor, (Ipv4Addr::LOCALHOST, 0).into())?;
    let address = listener.local_addr()?;
    let connections = AtomicUsize::new(0);
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                // Connections labour one after the other, not all at once.
                let turn = connections.fetch_add(1, Ordering::Relaxed);
                echo(stream, Vec::with_capacity(BUFFER_BYTES), labour, turn);
            }
        }
        Err(trouble) => eprintln!("tune_pool_size: {trouble}"), // and the loop goes on
    });
    serving.then(|_ended| ()); // when the proactor is shut down
    Ok(address)
}

fn echo(stream: TcpStream, buffer: Vec<u8>, labour: Labour, turn: usize) {
    stream.read(buffer).then(move |(read, buffer)| {
        if matches!(read, Ok(1..)) {
            if turn % LABOUR_EVERY == 0 {
                labour.perform();
            }
            stream.write_all(buffer).then(move |(written, buffer)| {
                if written.is_ok() {
                    echo(stream, buffer, labour, turn + 1);
                }
            });
        }
    });
}
