//! The corners that a review found: ends that come together, ports mixed up, the last handler run by somebody else.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BACKENDS, SOON, Setup, any_port, everywhere, everywhere_once, pair, setups, until, within,
};
use proactor::dispatch::{Dispatcher, Injector, Origin, Placed, Worker};
use proactor::net::{TcpListener, TcpStream};
use proactor::{
    BackendKind, BuildError, Completion, CompletionPort, ErrorKind, Proactor, Strategy,
};

/// Far longer than what is under test takes, and far shorter than what it must not wait for.
const PROMPT: Duration = Duration::from_secs(3);

// ---- operations ----

#[test]
fn read_exact_counts_the_bytes_that_come_together_with_the_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let (to, end) = mpsc::channel();
        stream
            .read_exact([0; 100])
            .then(move |output| to.send(output).unwrap());
        assert_eq!(proactor.poll(), 0, "nothing is there");
        client.write_all(b"0123456789").unwrap();
        drop(client);
        assert_eq!(proactor.run_for(SOON), 1);
        let (result, buf) = end.try_recv().unwrap();
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.transferred()),
            (ErrorKind::UnexpectedEof, 10)
        );
        assert_eq!(&buf[..10], b"0123456789");
    });
}

#[test]
fn a_time_limit_ends_a_sleep_that_is_longer() {
    everywhere(|setup| {
        let proactor = setup.build();
        let begin = Instant::now();
        let (to, end) = mpsc::channel();
        proactor
            .sleep(Duration::from_secs(3600))
            .timeout(Duration::from_millis(20))
            .then(move |result| to.send(result).unwrap());
        assert_eq!(proactor.run_for(PROMPT), 1);
        assert!(end.try_recv().unwrap().unwrap_err().is_timeout());
        assert!(begin.elapsed() >= Duration::from_millis(20), "early");
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

#[test]
fn shutdown_after_a_write_that_gave_up_needs_no_peer_that_reads() {
    everywhere_once(|setup| {
        const MUCH: usize = 32 << 20;
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let write = stream.write_all(vec![7; MUCH]);
        let (result, _) = write.timeout(Duration::from_millis(50)).wait();
        let error = result.unwrap_err();
        assert!(error.is_timeout() && error.transferred() < MUCH);
        let shutdown = stream.shutdown(Shutdown::Write).timeout(PROMPT).wait();
        shutdown.expect("no write is in its way");
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).unwrap();
        assert_eq!(seen.len(), error.transferred());
    });
}

// ---- ports ----

#[test]
fn a_proactors_port_gives_nothing_away() {
    everywhere(|setup| {
        let proactor = setup.build();
        let counter = Arc::new(AtomicUsize::new(0));
        for _ in 0..40 {
            let counter = Arc::clone(&counter);
            proactor.post(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            });
        }
        for _ in 0..40 {
            assert!(proactor.port().take().is_none());
        }
        assert_eq!(proactor.run(), 40);
        assert_eq!(counter.load(Ordering::SeqCst), 40);
    });
}

/// What a strategy holds, for whoever has the other end; `give` says whether workers get any of it.
#[derive(Clone, Debug)]
struct Outlet {
    queue: Arc<Injector>,
    give: bool,
}

impl Dispatcher for Outlet {
    fn attach(&mut self, threads: Option<NonZeroUsize>) -> Result<NonZeroUsize, BuildError> {
        Ok(threads.unwrap_or(NonZeroUsize::MIN))
    }

    fn dispatch(&self, completion: Completion, _: Origin<'_>) -> Placed {
        self.queue.push(completion);
        if self.give {
            Placed::Shared
        } else {
            Placed::Own
        }
    }

    fn next(&self, _: Worker<'_>) -> Option<Completion> {
        self.give.then(|| self.queue.pop()).flatten()
    }

    fn is_empty(&self) -> bool {
        !self.give || self.queue.is_empty()
    }
}

fn outlet(queue: &Arc<Injector>, give: bool, backend: BackendKind) -> Proactor {
    let queue = Arc::clone(queue);
    let builder = Proactor::builder().dispatcher(Outlet { queue, give });
    builder.backend(backend).build().unwrap()
}

fn one_reaps_and_the_other_runs(backend: BackendKind) {
    let queue = Arc::new(Injector::new());
    let runs = outlet(&queue, true, backend);
    let reaps = outlet(&queue, false, backend);
    // The first objects of either port: what names one may name the other.
    let (stream, mut client) = pair(&runs);
    let (other_stream, mut other_client) = pair(&reaps);
    client.write_all(b"here").unwrap();
    let (to, seen) = mpsc::channel();
    other_stream
        .read([0; 8])
        .then(move |output| to.send(output).unwrap());
    other_client.write_all(b"there").unwrap();
    until("the read is over", || {
        reaps.poll();
        runs.poll();
        reaps.port().outstanding() == 0
    });
    let (result, buf) = seen.try_recv().unwrap();
    assert_eq!((result.unwrap(), &buf), (5, b"there\0\0\0"));
    let (result, buf) = stream.read([0; 8]).wait();
    assert_eq!((result.unwrap(), &buf), (4, b"here\0\0\0\0"));
    assert_eq!(runs.port().outstanding(), 0);
}

#[test]
fn a_completion_that_another_ports_worker_runs_is_about_its_own_object() {
    for backend in BACKENDS {
        within(&backend.to_string(), move || {
            one_reaps_and_the_other_runs(backend);
        });
    }
}

fn echo(stream: TcpStream) {
    stream.read([0; 4]).then(move |(result, buf)| {
        if result.is_ok_and(|count| count > 0) {
            stream.write_all(buf).then(move |_| echo(stream));
        }
    });
}

fn ping(client: &mut StdStream, number: u32) {
    let sent = number.to_le_bytes();
    client.write_all(&sent).unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, sent, "somebody else's bytes");
}

fn both_run_from_one_queue(backend: BackendKind) {
    let queue = Arc::new(Injector::new());
    let proactors = [(); 2].map(|()| outlet(&queue, true, backend));
    let clients = proactors.each_ref().map(|proactor| {
        let (stream, client) = pair(proactor);
        echo(stream);
        proactor.start().unwrap();
        client
    });
    thread::scope(|scope| {
        for (mut client, first) in clients.into_iter().zip([0, 1 << 31]) {
            scope.spawn(move || (first..first + 300).for_each(|number| ping(&mut client, number)));
        }
    });
    until("only the guards of both starts are left", || {
        proactors
            .iter()
            .all(|proactor| proactor.port().outstanding() == 1)
    });
}

#[test]
fn two_proactors_with_one_queue_keep_their_connections_apart() {
    for backend in BACKENDS {
        within(&backend.to_string(), move || {
            both_run_from_one_queue(backend);
        });
    }
}

/// Alone on an address: nobody listens there once its descriptor is closed.
#[test]
fn a_port_dropped_with_a_cancelled_accept_drops_both() {
    within("a bare port", || {
        let port = CompletionPort::new().unwrap();
        let listener = TcpListener::bind(&port, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let token = Arc::new(());
        let held = Arc::clone(&token);
        listener.accept().then(move |_| drop(held));
        drop((listener, port));
        assert_eq!(Arc::strong_count(&token), 1, "the handler is left");
        let error = StdStream::connect(address).expect_err("the listener is left");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn a_post_makes_the_ports_descriptor_readable() {
    use proactor::Batch;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;
    const ROUNDS: usize = 50;
    within("a foreign poll", || {
        let port = CompletionPort::new().unwrap();
        let (go, rounds) = mpsc::channel();
        let poster = port.clone();
        let thread = thread::spawn(move || rounds.iter().for_each(|()| poster.post(|| ())));
        let timeout = Timespec {
            tv_sec: i64::try_from(SOON.as_secs()).unwrap(),
            tv_nsec: 0,
        };
        let mut batch = Batch::new();
        for round in 0..ROUNDS {
            let mut fds = [PollFd::from_borrowed_fd(port.as_fd(), PollFlags::IN)];
            go.send(()).unwrap();
            let mut ran = 0;
            while ran == 0 {
                let ready = poll(&mut fds, Some(&timeout)).unwrap();
                assert_eq!(ready, 1, "round {round}: the poll does not see the post");
                let seat = port.seat().unwrap();
                seat.reap(&mut batch, Some(Instant::now())).unwrap();
                ran = batch
                    .drain()
                    .filter_map(|call| call.run().then_some(()))
                    .count();
            }
            assert_eq!(ran, 1);
        }
        drop(go);
        thread.join().unwrap();
    });
}

/// Safe code may do so: what it says of it must not be believed.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
#[test]
fn what_others_put_into_the_ports_descriptor_is_no_event_of_its_own() {
    use rustix::event::{EventfdFlags, epoll, eventfd};
    use std::os::fd::AsFd;
    for backend in BACKENDS {
        within(&format!("a foreign descriptor, {backend}"), move || {
            let proactor = Proactor::builder().backend(backend).build().unwrap();
            let rung = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
            let data = epoll::EventData::new_u64(1 << 20); // no address of ours
            let descriptor = proactor.port().as_fd();
            epoll::add(descriptor, &rung, data, epoll::EventFlags::IN).unwrap();
            let (stream, mut client) = pair(&proactor);
            client.write_all(b"own").unwrap();
            assert_eq!(stream.read_exact([0; 3]).wait().1, *b"own");
            proactor.post(|| ());
            assert_eq!((proactor.poll(), proactor.poll()), (1, 0));
        });
    }
}

// ---- the end of running ----

#[test]
fn run_returns_when_run_one_elsewhere_ran_the_last_handler() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel();
        proactor.post(move || {
            begin.send(()).unwrap();
            released.recv_timeout(SOON).unwrap();
        });
        thread::scope(|scope| {
            let one = scope.spawn(|| proactor.run_one());
            begun.recv_timeout(SOON).unwrap();
            let all = scope.spawn(|| proactor.run());
            thread::sleep(Duration::from_millis(10)); // sleep: that `run` has gone to sleep cannot be seen
            release.send(()).unwrap();
            assert_eq!((one.join().unwrap(), all.join().unwrap()), (1, 0));
        });
    });
}

fn finished_by_hand(backend: BackendKind, finish: fn(Completion)) {
    let queue = Arc::new(Injector::new());
    let proactor = outlet(&queue, true, backend);
    proactor.post(|| ());
    let last = queue.pop().unwrap();
    thread::scope(|scope| {
        let all = scope.spawn(|| proactor.run());
        thread::sleep(Duration::from_millis(10)); // sleep: that `run` has gone to sleep cannot be seen
        finish(last);
        assert_eq!(all.join().unwrap(), 0);
    });
    assert_eq!(proactor.port().outstanding(), 0);
}

#[test]
fn run_returns_when_the_last_completion_is_run_or_dropped_by_hand() {
    let run: fn(Completion) = |last| assert!(last.run());
    let finishes = [("run", run), ("dropped", drop)];
    for backend in BACKENDS {
        for (how, finish) in finishes {
            within(&format!("{how}, {backend}"), move || {
                finished_by_hand(backend, finish);
            });
        }
    }
}

#[test]
fn dropping_a_proactor_ends_a_handler_that_waits() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let port = proactor.port().clone();
        let inside = port.clone();
        let (to, end) = mpsc::channel();
        proactor.post(move || {
            let waited = inside.sleep(Duration::from_secs(3600)).wait();
            to.send(waited).unwrap();
        });
        until("the start, the handler and its sleep are under way", || {
            port.outstanding() == 3
        });
        drop(proactor);
        // It counts as outstanding a moment before the wheel has it; the wheel of a port that is closed takes none.
        let kind = end.recv().unwrap().unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Cancelled | ErrorKind::Closed),
            "{kind:?}"
        );
    });
}

// ---- one handler at a time ----

#[test]
fn run_one_inside_a_handler_does_not_wait() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let (inner, (to, ran)) = (Arc::clone(&proactor), mpsc::channel());
        proactor.post(move || to.send(inner.run_one()).unwrap());
        assert_eq!(proactor.run(), 1);
        assert_eq!(ran.try_recv(), Ok(0));
    });
}

/// Posts itself until it is `over`.
fn again(port: CompletionPort, over: Arc<AtomicBool>) {
    if !over.load(Ordering::SeqCst) {
        let next = port.clone();
        port.post(move || again(next, over));
    }
}

#[test]
fn a_handler_that_posts_itself_does_not_starve_a_timer_of_run_one() {
    everywhere(|setup| {
        let proactor = setup.build();
        let over = Arc::new(AtomicBool::new(false));
        again(proactor.port().clone(), Arc::clone(&over));
        let fired = Arc::clone(&over);
        proactor
            .sleep(Duration::from_millis(10))
            .then(move |_| fired.store(true, Ordering::SeqCst));
        let begin = Instant::now();
        while !over.load(Ordering::SeqCst) {
            assert!(begin.elapsed() < PROMPT, "the timer does not fire");
            assert_eq!(proactor.run_one(), 1);
        }
        proactor.run();
        assert_eq!(proactor.port().outstanding(), 0);
    });
}

// ---- threads ----

#[test]
fn more_threads_than_can_be_are_refused() {
    for setup in setups(&[1]) {
        within(&setup.to_string(), move || {
            let refused = setup.builder().threads(NonZeroUsize::MAX).build();
            let error: BuildError = refused.expect_err("nobody has so many");
            assert!(!error.to_string().is_empty());
        });
    }
}

/// A limit wakes the leader, whose handler then blocks until another connection has been answered.
fn answers_beside_a_handler_of_a_limit(setup: Setup) {
    let proactor = setup.build();
    proactor.start().unwrap();
    let (silent, _silent_client) = pair(&proactor);
    let (stream, mut client) = pair(&proactor);
    echo(stream);
    for round in 0..5 {
        thread::sleep(Duration::from_millis(60)); // sleep: until nobody looks after the port any more beside the leader
        let (begin, begun) = mpsc::channel();
        let (answer, answered) = mpsc::channel();
        let (to, met) = mpsc::channel();
        let limited = silent.read([0; 4]).timeout(Duration::from_millis(5));
        limited.then(move |(result, _)| {
            assert!(result.unwrap_err().is_timeout());
            begin.send(()).unwrap();
            let beside: Result<(), _> = answered.recv_timeout(PROMPT);
            to.send(beside.is_ok()).unwrap();
        });
        begun.recv_timeout(SOON).unwrap();
        ping(&mut client, round);
        let _ = answer.send(());
        assert!(
            met.recv_timeout(SOON).unwrap(),
            "the answer came after the handler only"
        );
    }
}

#[test]
fn a_long_handler_of_a_time_limit_holds_no_other_connection_up() {
    for strategy in [Strategy::LeaderFollowers, Strategy::WorkStealing] {
        for backend in BACKENDS {
            let setup = Setup {
                strategy,
                backend,
                threads: 2,
            };
            within(&setup.to_string(), move || {
                answers_beside_a_handler_of_a_limit(setup);
            });
        }
    }
}
