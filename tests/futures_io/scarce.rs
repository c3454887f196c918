//! A stream of connections where there are no descriptors, in a process of its own.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use proactor::net::TcpListener;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::started;
use crate::common::{SOON, Setup, any_port, everywhere, until};

const ALONE: &str = "PROACTOR_TEST_ALONE";
const NAME: &str = "scarce::connections_wait_while_there_are_no_descriptors_and_then_come";

#[test]
fn connections_wait_while_there_are_no_descriptors_and_then_come() {
    if std::env::var_os(ALONE).is_some() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(128);
        setrlimit(Resource::Nofile, limit).expect("a lower limit");
        return everywhere(without_descriptors);
    }
    let mut alone = Command::new(std::env::current_exe().expect("this test's own path"));
    alone.args(["--exact", NAME, "--nocapture"]);
    let output = alone.env(ALONE, "1").output().expect("a child process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "{said}");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
}

fn without_descriptors(setup: Setup) {
    let proactor = started(setup);
    let listener = TcpListener::bind(&proactor, any_port()).expect("a port on loopback");
    let address = listener.local_addr().expect("its address");
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let mut incoming = listener.incoming();
    let serving = proactor.spawn({
        let counts = Arc::clone(&counts);
        async move {
            while let Some(connection) = incoming.next().await {
                if let Err(trouble) = &connection {
                    let code = trouble.raw_os_error().map(Errno::from_raw_os_error);
                    assert_eq!(code, Some(Errno::MFILE), "{trouble}");
                }
                let (accepted, refused) = &*counts;
                let count = if connection.is_ok() {
                    accepted
                } else {
                    refused
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let socket = |_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let clients: Vec<_> = (0..5).map(socket).collect();
    let hogs: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let begin = Instant::now();
    for client in &clients {
        client.set_write_timeout(Some(SOON)).expect("a time limit");
        client
            .connect(&address.into())
            .expect("the system takes it in");
    }
    let (accepted, refused) = &*counts;
    until("three pauses", || refused.load(Ordering::Relaxed) >= 4);
    // 5, 10 and 20 ms: it does not spin.
    assert!(begin.elapsed() >= Duration::from_millis(35));
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
    drop(hogs);
    until("all are accepted", || accepted.load(Ordering::Relaxed) == 5);
    listener.close();
    serving.wait().expect("it ends");
}
