//! Of one thread's proactor.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use proactor::net::TcpStream;
use proactor::{BackendKind, LocalPort, LocalProactor};

use crate::common::std_pair;
use crate::{COUNTED, allocations};

/// As the echo, its handlers bound to their thread.
fn local_echo(local: LocalPort, stream: TcpStream, buf: Vec<u8>, bytes: Rc<Cell<usize>>) {
    let reading = stream.read(buf).here(&local);
    reading.then(move |(result, buf)| {
        bytes.set(bytes.get() + result.expect("a read"));
        let writing = stream.write_all(buf).here(&local);
        writing.then(move |(result, buf)| {
            result.expect("a write");
            local_echo(local, stream, buf, bytes);
        });
    });
}

/// Calls, timers and limits of one thread's proactor; all pending at once.
fn local_calls_and_timers(local: &LocalProactor, rounds: usize) {
    let done = Rc::new(Cell::new(0));
    for _ in 0..rounds {
        let count = || {
            let done = Rc::clone(&done);
            move || done.set(done.get() + 1)
        };
        let (called, deferred, slept, cancelled) = (count(), count(), count(), count());
        local.post(called);
        local.defer(deferred);
        let sleeping = local.sleep(Duration::from_millis(2));
        sleeping.then(move |_| slept());
        let limited = local.sleep(Duration::from_secs(3600));
        let key = limited
            .timeout(Duration::from_secs(1800))
            .then(move |_| cancelled());
        local.cancel(key);
    }
    local.run();
    assert_eq!(done.get(), 4 * rounds);
}

pub(crate) fn nothing_is_allocated(backend: BackendKind) {
    let local = LocalProactor::builder().backend(backend).build();
    let local = local.expect("a setup that is sound");
    local_calls_and_timers(&local, COUNTED);
    let count = allocations(|| local_calls_and_timers(&local, COUNTED));
    // The count is the test's own, and a call of `run` makes room for events.
    assert_eq!(count, 2, "calls and timers: {COUNTED} rounds allocated");
    let (stream, mut client) = {
        let (server, client) = std_pair();
        let stream = TcpStream::from_std(&local, server);
        (stream.expect("an open port"), client)
    };
    let bytes = Rc::new(Cell::new(0));
    let port = local.port().clone();
    local_echo(port, stream, Vec::with_capacity(512), Rc::clone(&bytes));
    let remote = local.remote().clone();
    let client = thread::spawn(move || {
        let mut round_trips = |rounds: usize| {
            let mut back = [0; 100];
            for _ in 0..rounds {
                client.write_all(&[3; 100]).expect("a request");
                client.read_exact(&mut back).expect("the echo");
            }
        };
        round_trips(100);
        let count = allocations(|| round_trips(COUNTED));
        remote.stop();
        count
    });
    local.run();
    let count = client.join().expect("the client");
    assert_eq!(
        (count, bytes.get()),
        (0, 100 * (100 + COUNTED)),
        "reads and writes: {COUNTED} round trips allocated"
    );
}
