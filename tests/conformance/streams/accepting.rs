//! Accepting when there are no descriptors: promise 34.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proactor::net::TcpListener;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::common::{SOON, Setup, any_port, everywhere, until};

/// In a process of its own, so that no other test is short of descriptors.
const ALONE: &str = "PROACTOR_TEST_ALONE";
const NAME: &str = "p34_an_accept_without_descriptors_backs_off_and_goes_on";

#[test]
fn p34_an_accept_without_descriptors_backs_off_and_goes_on() {
    if std::env::var_os(ALONE).is_some() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(128);
        setrlimit(Resource::Nofile, limit).unwrap();
        return everywhere(without_descriptors);
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let module = module_path!().split_once("::").unwrap().1;
    alone.args(["--exact", &format!("{module}::{NAME}"), "--nocapture"]);
    let output = alone.env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "{said}");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
}

fn connect(socket: &Socket, address: SocketAddr) {
    socket.set_write_timeout(Some(SOON)).unwrap();
    socket.connect(&address.into()).unwrap();
}

fn without_descriptors(setup: Setup) {
    let proactor = setup.build();
    proactor.start().unwrap();
    let listener = TcpListener::bind(&proactor, any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&accepted), Arc::clone(&refused));
    let ended = Arc::new(AtomicUsize::new(0));
    let serving = listener.accept_each(move |connection| match connection {
        Ok(_) => drop(counts.0.fetch_add(1, Ordering::Relaxed)),
        Err(trouble) => {
            let code = trouble.raw_os_error().map(Errno::from_raw_os_error);
            assert_eq!(code, Some(Errno::MFILE), "{trouble}");
            counts.1.fetch_add(1, Ordering::Relaxed);
        }
    });
    serving.then({
        let ended = Arc::clone(&ended);
        move |result| ended.store(result.unwrap_err().transferred(), Ordering::Relaxed)
    });
    let clients: Vec<_> = (0..5)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect();
    let hogs: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let begin = Instant::now();
    connect(&clients[0], address);
    until("three pauses", || refused.load(Ordering::Relaxed) >= 4);
    // 5, 10 and 20 ms: it does not spin.
    assert!(begin.elapsed() >= Duration::from_millis(35));
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
    drop(hogs);
    for client in &clients[1..] {
        connect(client, address);
    }
    until("all are accepted", || accepted.load(Ordering::Relaxed) == 5);
    listener.close();
    until("its end", || ended.load(Ordering::Relaxed) == 5);
    drop(clients);
}
