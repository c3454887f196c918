//! Every error says what was being done, to what, and why; and no input makes the library panic.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::cell::RefCell;
use std::error::Error as _;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, any_port, everywhere_once, pair, std_pair, within};
use proactor::net::{TcpListener, TcpStream};
use proactor::{Batch, CompletionPort, Error, ErrorKind, Kind, Proactor, Slice};

const AGES: Duration = Duration::MAX;

/// As far away as an instant can be, nearly.
fn far() -> Instant {
    let now = Instant::now();
    let mut away = Duration::from_secs(1);
    while now.checked_add(away * 2).is_some() && away < AGES / 4 {
        away *= 2;
    }
    now + away
}

/// `error` is of that kind, about that operation and address; its text says so, and its source is what the system said.
fn assert_says(error: &Error, operation: Kind, address: Option<SocketAddr>, kind: ErrorKind) {
    let text = error.to_string();
    assert_eq!(
        (error.operation(), error.address(), error.kind()),
        (operation, address, kind),
        "{text}"
    );
    let about = address.map_or(String::new(), |address| format!(" {address}"));
    let source = error.source().map(ToString::to_string);
    let why = source.clone().unwrap_or(kind.to_string());
    assert!(
        text.starts_with(&format!("{operation}{about}: {why}")),
        "{text}"
    );
    assert_eq!(source.is_some(), kind == ErrorKind::Os, "{text}");
    if let Some(cause) = error.source() {
        let cause: &io::Error = cause.downcast_ref().expect("the system's error");
        assert_eq!(cause.raw_os_error(), error.raw_os_error());
        assert!(error.raw_os_error().is_some(), "{text}");
    }
    let standard = io::Error::from(error.clone());
    assert_eq!(standard.to_string(), text);
    let inner = standard.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(inner.to_string(), text, "it comes back whole");
}

#[test]
fn errors_of_listeners_and_connections_name_the_address() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let listener = TcpListener::bind(&proactor, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let here = Some(address);
        let taken = TcpListener::bind(&proactor, address).unwrap_err();
        assert_says(&taken, Kind::Bind, here, ErrorKind::Os);
        assert_eq!(io::Error::from(taken).kind(), io::ErrorKind::AddrInUse);
        let limited = listener.accept().timeout(Duration::from_millis(1)).wait();
        assert_says(
            &limited.unwrap_err(),
            Kind::Accept,
            here,
            ErrorKind::TimedOut,
        );
        let (to, ends) = mpsc::channel();
        listener
            .accept()
            .then(move |result| to.send(result.map(drop)).unwrap());
        listener.close();
        proactor.run();
        let cancelled = ends.recv().unwrap().unwrap_err();
        assert_says(&cancelled, Kind::Accept, here, ErrorKind::Cancelled);
        let closed = listener.accept().wait().unwrap_err();
        assert_says(&closed, Kind::Accept, here, ErrorKind::Closed);
        let nameless = listener.local_addr().unwrap_err();
        assert_says(&nameless, Kind::Address, None, ErrorKind::Closed);
        let refused = TcpStream::connect(&proactor, address).wait().unwrap_err();
        assert_says(&refused, Kind::Connect, here, ErrorKind::Os);
        let kind = io::Error::from(refused).kind();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn errors_of_streams_and_timers_name_what_was_being_done() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let (stream, _client) = pair(&proactor);
        let (result, _) = stream.read([0; 1]).timeout(Duration::from_millis(1)).wait();
        assert_says(&result.unwrap_err(), Kind::Read, None, ErrorKind::TimedOut);
        stream.close();
        let closed = |error: Error, kind| assert_says(&error, kind, None, ErrorKind::Closed);
        closed(stream.read([0; 1]).wait().0.unwrap_err(), Kind::Read);
        closed(stream.read_exact([0; 1]).wait().0.unwrap_err(), Kind::Read);
        closed(
            stream.read_vectored(vec![[0; 1]]).wait().0.unwrap_err(),
            Kind::Read,
        );
        closed(stream.write([0; 1]).wait().0.unwrap_err(), Kind::Write);
        closed(stream.write_all([0; 1]).wait().0.unwrap_err(), Kind::Write);
        closed(
            stream.write_vectored(vec![[0; 1]]).wait().0.unwrap_err(),
            Kind::Write,
        );
        closed(
            stream.shutdown(Shutdown::Both).wait().unwrap_err(),
            Kind::Shutdown,
        );
        closed(stream.set_nodelay(true).unwrap_err(), Kind::Configure);
        closed(stream.local_addr().unwrap_err(), Kind::Address);
        closed(stream.peer_addr().unwrap_err(), Kind::Address);
        let late = proactor
            .sleep(AGES)
            .timeout(Duration::from_millis(1))
            .wait();
        assert_says(&late.unwrap_err(), Kind::Timer, None, ErrorKind::TimedOut);
    });
}

#[test]
fn errors_of_sockets_that_are_brought_say_which_and_why() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let no_socket = TcpStream::from_fd(&proactor, file.into()).unwrap();
        let (result, _) = no_socket.read([0; 1]).wait();
        assert_says(&result.unwrap_err(), Kind::Read, None, ErrorKind::Os);
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let local = TcpStream::from_fd(&proactor, one.into()).unwrap();
        assert_says(
            &local.peer_addr().unwrap_err(),
            Kind::Address,
            None,
            ErrorKind::Os,
        );
        let (server, client) = std_pair();
        let listener = std::net::TcpListener::bind(any_port()).unwrap();
        let [here, there] = [listener.local_addr().unwrap(), client.local_addr().unwrap()];
        proactor.port().close();
        let late = TcpStream::from_std(&proactor, server).unwrap_err();
        assert_says(&late, Kind::Register, Some(there), ErrorKind::Closed);
        let late = TcpListener::from_std(&proactor, listener).unwrap_err();
        assert_says(&late, Kind::Register, Some(here), ErrorKind::Closed);
        let late = TcpListener::bind(&proactor, any_port()).unwrap_err();
        assert_eq!(
            (late.operation(), late.kind()),
            (Kind::Register, ErrorKind::Closed)
        );
        assert!(late.address().is_some());
        let late = TcpStream::connect(&proactor, there).wait().unwrap_err();
        assert_says(&late, Kind::Connect, Some(there), ErrorKind::Closed);
    });
}

// ---- no input panics ----

fn spans_beyond_the_clock(setup: Setup) {
    let proactor = setup.builder().spin(AGES).build().unwrap();
    let soon = Duration::from_millis(2);
    let timer = proactor.timer();
    timer.expires_at(far());
    let waits = [
        timer.on_expiry(),
        proactor.sleep(AGES),
        proactor.sleep_until(far()),
    ];
    let keys = waits.map(|wait| wait.timeout(AGES).then(|result| drop(result.unwrap_err())));
    let mut rare = proactor.interval(AGES);
    let rare = [rare.tick(), rare.tick()].map(|tick| tick.then(|_| ()));
    proactor.interval(Duration::ZERO).tick().wait().unwrap();
    // Each of these waits for something that comes.
    proactor.sleep(soon).then(|_| ());
    assert_eq!(proactor.run_one(), 1);
    for run in [Proactor::run_for, |proactor: &Proactor, _| {
        proactor.run_until(far())
    }] {
        let port = proactor.port().clone();
        proactor.sleep(soon).then(move |_| port.stop());
        run(&proactor, AGES);
        proactor.restart();
    }
    timer.cancel();
    for key in keys.into_iter().chain(rare) {
        proactor.cancel(key);
    }
    assert_eq!(proactor.shutdown(far()).left, 0);
}

#[test]
fn spans_and_instants_beyond_the_clock_are_taken() {
    everywhere_once(spans_beyond_the_clock);
    within("a port alone", || {
        let port = CompletionPort::new().unwrap();
        let bell = port.clone();
        let ringer = thread::spawn(move || bell.notify());
        let seat = port.seat().unwrap();
        assert_eq!(seat.reap(&mut Batch::new(), Some(far())).unwrap(), 0);
        ringer.join().unwrap();
    });
}

#[test]
fn odd_buffers_are_taken() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let (stream, client) = pair(&proactor);
        let many = vec![vec![7_u8]; 1000];
        let (sent, many) = stream.write_vectored(many).wait();
        assert!((1..=64).contains(&sent.unwrap()) && many.len() == 1000);
        let none = vec![Vec::<u8>::new(); 1000];
        assert_eq!(stream.write_vectored(none.clone()).wait().0.unwrap(), 0);
        assert_eq!(stream.read_vectored(none).wait().0.unwrap(), 0);
        let (first, last) = (usize::MAX, 0);
        let nothing = Slice::new([0; 4], first..=last);
        assert_eq!(stream.write_all(nothing).wait().0.unwrap(), 0);
        let nothing = Slice::new(vec![0; 4], usize::MAX..);
        assert_eq!(stream.read_exact(nothing).wait().0.unwrap(), 0);
        drop(client);
    });
}

#[test]
fn odd_knobs_are_taken_or_refused_with_what_to_change() {
    everywhere_once(|setup| {
        let most = NonZeroUsize::MAX;
        let name = "a name that is longer than the system takes";
        let builder = setup.builder().turn_budget(usize::MAX).poll_every(most);
        let proactor = builder.thread_name(name).build().unwrap();
        proactor.start().unwrap();
        let (to, ran) = mpsc::channel();
        proactor
            .port()
            .post_keyed(u64::MAX, move || to.send(()).unwrap());
        ran.recv_timeout(SOON).unwrap();
        match setup.builder().stack_size(most).build() {
            Err(error) => assert!(error.to_string().contains("lower it"), "{error}"),
            Ok(_) => panic!("no stack has so many bytes"),
        }
        // More than there is memory for, but a size all the same: the system says no.
        let vast = NonZeroUsize::new(1 << 46).unwrap();
        let proactor = setup.builder().stack_size(vast).build().unwrap();
        let refused = proactor.start().unwrap_err();
        assert_says(&refused, Kind::Start, None, ErrorKind::Os);
    });
}

/// Posts and waits when its thread is nearly gone.
struct Last(Option<Proactor>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(proactor) = self.0.take() {
            let port = proactor.port().clone();
            proactor.post(move || port.post(|| ()));
            proactor.sleep(Duration::from_millis(1)).wait().unwrap();
            proactor.run();
        }
    }
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last(None)) };
}

#[test]
fn a_thread_that_ends_may_still_use_a_proactor() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let used_before = setup.threads == 1;
        let thread = thread::spawn(move || {
            if used_before {
                proactor.post(|| ());
                proactor.run();
            }
            LAST.with_borrow_mut(|last| last.0 = Some(proactor));
        });
        thread.join().unwrap();
    });
}

#[test]
fn errors_are_small() {
    assert!(size_of::<Error>() <= 32, "{} bytes", size_of::<Error>());
}
