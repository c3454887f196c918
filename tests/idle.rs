//! Who has nothing to do does nothing: ten thousand idle connections, no wake-up, no CPU.
#![cfg(all(target_os = "linux", not(proactor_loom)))]

mod common;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, any_port, setups, until, within};
use proactor::net::TcpStream;
use proactor::{BackendKind, Proactor};
use socket2::{Domain, Socket, Type};

const WANTED: usize = 10_000;
/// Descriptors for everything else.
const SPARE: usize = 300;
/// How long idling is measured: on the fast path as long as the bound on it speaks of.
fn window(setup: Setup) -> Duration {
    Duration::from_secs(match setup.backend {
        BackendKind::Auto => 10,
        _ => 2,
    })
}
const NAME: &str = "idler";

fn number(path: &str, line: &str, column: usize) -> Option<usize> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|text| text.starts_with(line))?;
    line[line.find(|c: char| c.is_ascii_digit())?..]
        .split_whitespace()
        .nth(column)?
        .parse()
        .ok()
}

/// How many connections the limit of open files allows, which is raised as far as it goes.
fn connections() -> usize {
    let limit = |column| number("/proc/self/limits", "Max open files", column).unwrap_or(1024);
    if limit(0) < WANTED + SPARE {
        let pid = std::process::id().to_string();
        let nofile = format!("--nofile={}", limit(1));
        // Without the command, with less.
        let _ = Command::new("prlimit")
            .args(["--pid", &pid, &nofile])
            .status();
    }
    WANTED.min(limit(0) - SPARE)
}

/// A listener that holds as many connections as the kernel lets it.
fn listen() -> (StdListener, SocketAddr, usize) {
    let longest = number("/proc/sys/net/core/somaxconn", "", 0)
        .unwrap_or(128)
        .min(4000);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&any_port().into()).expect("a port on loopback");
    socket
        .listen(i32::try_from(longest).expect("a backlog"))
        .expect("a listener");
    let listener = StdListener::from(socket);
    let address = listener.local_addr().expect("its address");
    (listener, address, longest * 3 / 4)
}

/// Connections of which only this end needs a descriptor: the other stays in its listener's backlog. Each has a read pending.
fn connect(
    proactor: &Proactor,
    count: usize,
    ended: &Arc<AtomicUsize>,
) -> (Vec<StdListener>, Vec<TcpStream>) {
    let (mut listeners, mut streams) = (Vec::new(), Vec::with_capacity(count));
    while streams.len() < count {
        let (listener, address, room) = listen();
        for _ in 0..room.min(count - streams.len()) {
            let client = StdStream::connect(address).expect("a connection");
            let stream = TcpStream::from_std(proactor, client).expect("an open proactor");
            let ended = Arc::clone(ended);
            stream.read([0; 1]).then(move |_| {
                ended.fetch_add(1, Ordering::SeqCst);
            });
            streams.push(stream);
        }
        listeners.push(listener);
    }
    (listeners, streams)
}

/// What the proactor's threads have used: how often they gave up the processor or were put off it, and nanoseconds of CPU.
fn used() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux lists them");
    let mut sum = (0, 0);
    for task in tasks {
        let path = task.expect("a thread").path();
        let file = |name: &str| path.join(name).to_string_lossy().into_owned();
        let name = fs::read_to_string(file("comm")).unwrap_or_default();
        if !name.starts_with(NAME) {
            continue;
        }
        for line in ["voluntary_ctxt", "nonvoluntary_ctxt"] {
            sum.0 += number(&file("status"), line, 0).expect("a count of switches");
        }
        sum.1 += number(&file("schedstat"), "", 0).expect("the time used");
    }
    sum
}

fn idle(setup: Setup) {
    let proactor = setup.builder().thread_name(NAME).build().expect("sound");
    proactor.start().expect("threads");
    let count = match setup.backend {
        // `poll` looks at every descriptor each time.
        _ if cfg!(polling_test_poll_backend) => 200,
        BackendKind::Auto => connections(),
        _ => connections().min(1000),
    };
    let ended = Arc::new(AtomicUsize::new(0));
    let (listeners, streams) = connect(&proactor, count, &ended);
    let far = proactor.sleep(Duration::from_secs(3600)).then(|_| ());
    let mut before = used();
    let deadline = Instant::now() + SOON;
    loop {
        thread::sleep(Duration::from_millis(100)); // sleep: quiet can only be seen over time
        let now = used();
        if std::mem::replace(&mut before, now) == now {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{setup}: it does not become quiet"
        );
    }
    assert!(before.0 > 0, "no thread of that name was found");
    let window = window(setup);
    thread::sleep(window); // sleep: the time over which idling is measured
    let after = used();
    println!(
        "{setup}: {count} connections, {window:?}: {} switches, {} ns",
        after.0 - before.0,
        after.1 - before.1
    );
    assert_eq!(after.0, before.0, "{setup}: a thread woke up");
    assert!(
        after.1 - before.1 <= 1_000_000,
        "{setup}: more than 1 ms of CPU"
    );
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    // It sleeps, and is not dead.
    let (mut peer, _) = listeners[0].accept().expect("the first connection");
    peer.write_all(b"!").expect("a byte sent");
    until("the read has ended", || ended.load(Ordering::SeqCst) == 1);
    proactor.cancel(far);
    drop(streams);
    until("every read has ended", || {
        ended.load(Ordering::SeqCst) == count
    });
}

#[test]
fn an_idle_proactor_with_ten_thousand_connections_does_nothing() {
    for setup in setups(&[2]) {
        within(&setup.to_string(), move || idle(setup));
    }
}
