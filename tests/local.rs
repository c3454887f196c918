//! One thread's proactor: its handlers share what is neither `Send` nor locked, on both backends.
#![cfg(not(proactor_loom))]

mod common;
#[path = "local/elsewhere.rs"]
mod elsewhere;
#[path = "local/futures.rs"]
mod futures;
#[path = "common/outside.rs"]
mod outside;
#[path = "common/process.rs"]
mod process;
#[path = "local/refused.rs"]
mod refused;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use common::{BACKENDS, SOON, any_port, std_pair, within};
use proactor::net::{TcpListener, TcpStream};
use proactor::{CompletionPort, LocalPort, LocalProactor, PanicPolicy, Proactor};

/// Runs `body` on both backends, each with a watchdog.
fn on_both_backends(body: fn(LocalProactor)) {
    for backend in BACKENDS {
        within(&backend.to_string(), move || {
            let builder = LocalProactor::builder().backend(backend);
            body(builder.build().expect("a setup that is sound"));
        });
    }
}

/// A connection: our end, and the peer's.
fn pair(port: &impl AsRef<CompletionPort>) -> (TcpStream, StdStream) {
    let (server, client) = std_pair();
    let stream = TcpStream::from_std(port, server).expect("an open port");
    (stream, client)
}

/// What several handlers add to, in the order in which they ran.
type Log<T> = Rc<RefCell<Vec<T>>>;

fn log<T>() -> (Log<T>, Log<T>) {
    let log = Log::default();
    (Rc::clone(&log), log)
}

/// A call that adds `what`.
fn says<T: 'static>(log: &Log<T>, what: T) -> impl FnOnce() + 'static {
    let log = Rc::clone(log);
    move || log.borrow_mut().push(what)
}

/// Echoes until the end, counting bytes without a lock.
fn echo(local: LocalPort, stream: TcpStream, buf: Vec<u8>, bytes: Rc<Cell<usize>>) {
    let reading = stream.read(buf).here(&local);
    reading.then(move |(result, buf)| match result {
        Ok(count @ 1..) => {
            bytes.set(bytes.get() + count);
            let writing = stream.write_all(buf).here(&local);
            writing.then(move |(result, buf)| {
                result.expect("the peer reads");
                echo(local, stream, buf, bytes);
            });
        }
        end => assert_eq!(end.expect("no error"), 0),
    });
}

fn accept(local: LocalPort, listener: TcpListener, left: usize, bytes: Rc<Cell<usize>>) {
    if left == 0 {
        return;
    }
    let accepting = listener.accept().here(&local);
    accepting.then(move |result| {
        let (stream, _) = result.expect("a connection");
        let buf = Vec::with_capacity(32);
        echo(local.clone(), stream, buf, Rc::clone(&bytes));
        accept(local, listener, left - 1, bytes);
    });
}

/// Sends `message` to the echo and reads it back.
fn ask(local: &LocalPort, stream: TcpStream, message: Vec<u8>, heard: Log<Vec<u8>>) {
    let local = local.clone();
    let wanted = vec![0; message.len()];
    let reading = stream.read_exact(wanted).here(&local);
    stream
        .write_all(message)
        .then(|(result, _)| assert!(result.is_ok()));
    reading.then(move |(result, buf)| {
        result.expect("the echo");
        heard.borrow_mut().push(buf);
        drop((stream, local));
    });
}

#[test]
fn every_operation_takes_a_handler_that_is_not_send() {
    const CLIENTS: usize = 5;
    on_both_backends(|local| {
        let listener = TcpListener::bind(&local, any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Rc::new(Cell::new(0));
        accept(local.port().clone(), listener, CLIENTS, Rc::clone(&bytes));
        let (heard, all) = log();
        for client in 0..CLIENTS {
            let (port, heard) = (local.port().clone(), Rc::clone(&heard));
            let connecting = TcpStream::connect(&local, address).here(&local);
            connecting.then(move |result| {
                let message = vec![u8::try_from(client).unwrap(); 100 * client + 1];
                ask(&port, result.expect("connected"), message, heard);
            });
        }
        let (ticks, count) = log();
        fn tick(local: LocalPort, mut interval: proactor::time::Interval, left: Log<()>) {
            interval.tick().here(&local.clone()).then(move |result| {
                result.expect("nobody cancels it");
                left.borrow_mut().push(());
                if left.borrow().len() < 3 {
                    tick(local, interval, left);
                }
            });
        }
        let interval = local.remote().interval(Duration::from_millis(1));
        tick(local.port().clone(), interval, ticks);
        local.run();
        let mut lengths: Vec<_> = all.take().iter().map(Vec::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [1, 101, 201, 301, 401]);
        assert_eq!(bytes.get(), lengths.iter().sum());
        assert_eq!(count.take().len(), 3);
    });
}

#[test]
fn calls_run_in_order_and_never_inside_the_call_that_posts_them() {
    on_both_backends(|local| {
        let (said, heard) = log();
        let (port, log) = (local.port().clone(), Rc::clone(&said));
        local.post(move || {
            port.post(says(&log, "posted inside"));
            port.defer(says(&log, "deferred"));
            port.dispatch(says(&log, "dispatched"));
            log.borrow_mut().push("first");
        });
        local.post(says(&said, "second"));
        local.dispatch(says(&said, "dispatched outside"));
        local.defer(says(&said, "deferred outside"));
        assert!(heard.borrow().is_empty());
        assert_eq!(local.run(), 6);
        let order = [
            "dispatched",
            "first",
            "deferred",
            "second",
            "dispatched outside",
            "deferred outside",
            "posted inside",
        ];
        // What was posted outside before `run` came earlier; inside and outside are two queues.
        let mut wanted = order.to_vec();
        let mut ran = heard.take();
        assert_eq!(ran[..3], order[..3]);
        wanted.sort_unstable();
        ran.sort_unstable();
        assert_eq!(ran, wanted);
    });
}

#[test]
fn it_runs_as_much_as_it_is_told() {
    on_both_backends(|local| {
        let (said, heard) = log();
        for number in 0..6 {
            local.post(says(&said, number));
        }
        assert_eq!((local.run_one(), local.poll_one()), (1, 1));
        assert_eq!(*heard.borrow(), [0, 1]);
        let port = local.port().clone();
        local.post(move || port.stop());
        local.post(says(&said, 6));
        assert_eq!(local.poll(), 5); // four, and the one that stops
        assert!(local.stopped());
        assert_eq!(local.run(), 0);
        local.restart();
        assert!(!local.stopped());
        assert_eq!(local.run_for(SOON), 1);
        assert_eq!(*heard.borrow(), [0, 1, 2, 3, 4, 5, 6]);
        let guard = local.guard();
        let begin = Instant::now();
        let wait = Duration::from_millis(3);
        assert_eq!(local.run_for(wait), 0);
        assert_eq!(local.run_until(begin + 2 * wait), 0);
        assert!(begin.elapsed() >= 2 * wait);
        drop(guard);
        assert_eq!(local.run(), 0);
    });
}

#[test]
fn a_timer_is_cancelled_and_limited_and_waited_for() {
    on_both_backends(|local| {
        let long = Duration::from_secs(3600);
        let (said, heard) = log();
        let log = Rc::clone(&said);
        let key = local.sleep(long).then(move |result| {
            let error = result.expect_err("it does not take an hour");
            log.borrow_mut().push(error.is_cancelled());
        });
        assert_eq!(local.cancel(key), proactor::CancelOutcome::Requested);
        let limited = local.sleep(long).timeout(Duration::from_millis(2));
        limited.then(move |result| {
            let error = result.expect_err("nor this one");
            said.borrow_mut().push(error.is_cancelled());
        });
        assert_eq!(local.run(), 2);
        assert_eq!(*heard.borrow(), [true, false]);
        let soon = Instant::now() + Duration::from_millis(3);
        local.sleep_until(soon).wait().expect("nobody cancels it");
        assert!(Instant::now() >= soon);
    });
}

#[test]
fn waiting_runs_the_handlers_of_this_thread_meanwhile() {
    on_both_backends(|local| {
        let (stream, mut client) = pair(&local);
        let stage = Rc::new(Cell::new(0));
        let (seen, port) = (Rc::clone(&stage), local.port().clone());
        local.post(move || {
            let inner = Rc::clone(&seen);
            port.post(move || {
                inner.set(1);
                client.write_all(b"now").expect("the stream reads");
            });
            let (result, buf) = stream.read_exact([0; 3]).here(&port).wait();
            assert_eq!((result.expect("three bytes"), &buf), (3, b"now"));
            seen.set(seen.get() + 1);
        });
        local.run();
        assert_eq!(stage.get(), 2);
    });
}

#[test]
fn shutdown_says_what_it_cancelled() {
    on_both_backends(|local| {
        let (said, heard) = log();
        for _ in 0..3 {
            let said = Rc::clone(&said);
            let sleeping = local.sleep(Duration::from_secs(3600));
            sleeping.then(move |result| said.borrow_mut().push(result.is_err()));
        }
        local.post(says(&said, false));
        let report = local.shutdown(Instant::now() + Duration::from_millis(5));
        assert_eq!((report.ran, report.cancelled, report.left), (4, 3, 0));
        assert_eq!(*heard.borrow(), [false, true, true, true]);
    });
}

#[test]
fn a_panic_goes_out_of_run_and_loses_no_other_handler() {
    on_both_backends(|local| {
        let (said, heard) = log();
        local.post(says(&said, 1));
        local.post(|| panic!("on purpose"));
        local.post(says(&said, 2));
        let sleeping = local.sleep(Duration::from_millis(1));
        sleeping.then(|result| panic!("on purpose, as it is {}", result.is_ok()));
        local.post(says(&said, 3));
        for _ in 0..2 {
            let panic = catch_unwind(AssertUnwindSafe(|| local.run()));
            assert!(panic.is_err());
        }
        assert_eq!(local.run(), 0);
        assert_eq!(*heard.borrow(), [1, 2, 3]);
        assert_eq!(Rc::strong_count(&said), 2, "no handler is left");
    });
}

#[test]
fn a_panic_may_be_reported_instead() {
    within("isolated", || {
        let policy = PanicPolicy::isolate(|_| ());
        let local = LocalProactor::builder().panic_policy(policy).build();
        let local = local.expect("a setup that is sound");
        let (said, heard) = log();
        local.post(|| panic!("on purpose"));
        local.post(says(&said, ()));
        assert_eq!(local.run(), 2);
        assert_eq!(heard.borrow().len(), 1);
    });
}

#[test]
fn two_on_one_thread_run_each_its_own_also_nested() {
    on_both_backends(|outer| {
        let inner = Rc::new(LocalProactor::new().unwrap());
        let (said, heard) = log();
        inner.post(says(&said, "inner"));
        let (nested, log) = (Rc::clone(&inner), Rc::clone(&said));
        let back = outer.port().clone();
        outer.post(move || {
            let log = Rc::clone(&log);
            nested.post(move || {
                // From a handler of the one to the other.
                back.post(says(&log, "back"));
            });
            assert_eq!(nested.run(), 2);
        });
        outer.post(says(&said, "outer"));
        assert_eq!(inner.poll_one(), 1);
        inner.post(says(&said, "inner again"));
        assert_eq!(outer.run(), 3);
        assert_eq!(
            *heard.borrow(),
            ["inner", "inner again", "outer", "back"],
            "what was posted from outside of it, in order"
        );
        assert_eq!(inner.run(), 0);
    });
}

#[test]
fn what_is_begun_on_another_proactor_completes_here_and_counts_as_work() {
    on_both_backends(|local| {
        let pool = Proactor::builder().build().unwrap();
        pool.start().unwrap();
        let (stream, mut client) = pair(&pool);
        let here = thread::current().id();
        let (said, heard) = log();
        let reading = stream.read_exact([0; 4]).here(&local);
        let log = Rc::clone(&said);
        reading.then(move |(result, buf)| {
            assert_eq!(result.expect("four bytes"), 4);
            log.borrow_mut().push((thread::current().id(), buf));
        });
        assert_eq!(local.remote().outstanding(), 1);
        let writer = thread::spawn(move || client.write_all(b"here").map(|()| client));
        assert_eq!(local.run(), 1, "it waits for it");
        assert_eq!(*heard.borrow(), [(here, *b"here")]);
        assert_eq!(local.remote().outstanding(), 0);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn what_another_proactor_runs_on_this_thread_is_still_for_this_one_to_call() {
    on_both_backends(|local| {
        let other = Proactor::builder().build().unwrap();
        let (said, heard) = log();
        let sleeping = other.sleep(Duration::from_millis(1)).here(&local);
        sleeping.then(move |result| said.borrow_mut().push(result.is_ok()));
        assert_eq!(other.run(), 1);
        assert!(heard.borrow().is_empty(), "nothing runs before `run`");
        assert_eq!(local.run(), 1);
        assert_eq!(*heard.borrow(), [true]);
    });
}

#[test]
fn a_handler_whose_operation_is_given_up_is_dropped_with_it() {
    on_both_backends(|local| {
        let other = Proactor::builder().build().unwrap();
        let (said, heard) = log::<()>();
        let sleeping = other.sleep(Duration::from_secs(3600)).here(&local);
        sleeping.then(move |_| drop(said));
        drop(other);
        assert_eq!(Rc::strong_count(&heard), 1);
        assert_eq!(local.remote().outstanding(), 0);
        // And its place serves again.
        let (said, heard) = log();
        local.post(says(&said, ()));
        assert_eq!((local.run(), heard.borrow().len()), (1, 1));
    });
}

/// Says when it is dropped.
struct Last<F: FnMut()>(F);

impl<F: FnMut()> Drop for Last<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn dropped_it_drops_its_handlers_uncalled_and_what_they_begin_then_too() {
    on_both_backends(|local| {
        let (said, heard) = log();
        let (stream, mut client) = pair(&local);
        let port = local.port().clone();
        let (log, again) = (Rc::clone(&said), port.clone());
        let last = Last(move || {
            log.borrow_mut().push("dropped");
            let late = Last(says_each(&log, "late call dropped"));
            again.post(move || drop(late));
            let late = Last(says_each(&log, "late handler dropped"));
            again.sleep(Duration::ZERO).then(move |_| drop(late));
            again.post(|| unreachable!("it is gone"));
        });
        // A circle: the handler holds the stream that it reads, and the port that it is held by.
        let reading = stream.read(Vec::with_capacity(8)).here(&port);
        reading.then(move |_| unreachable!("{:?}, {:?}", (stream, &last.0 as *const _), port));
        local.post(|| unreachable!("it never runs"));
        drop(local);
        assert_eq!(
            *heard.borrow(),
            ["dropped", "late call dropped", "late handler dropped"]
        );
        assert_eq!(Rc::strong_count(&said), 2, "nothing is left in a circle");
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the stream is closed");
    });
}

fn says_each(log: &Log<&'static str>, what: &'static str) -> impl FnMut() + use<> {
    let log = Rc::clone(log);
    move || log.borrow_mut().push(what)
}

#[test]
fn its_port_outlives_it_and_does_nothing_then() {
    on_both_backends(|local| {
        let port = local.port().clone();
        let listener = TcpListener::bind(&port, any_port()).unwrap();
        drop(local);
        let (said, heard) = log();
        port.post(says(&said, ()));
        port.defer(says(&said, ()));
        port.dispatch(says(&said, ()));
        let kept = Rc::clone(&said);
        listener.accept().here(&port).then(move |_| drop(kept));
        assert_eq!(Rc::strong_count(&said), 2, "dropped at once");
        assert!(heard.borrow().is_empty());
        assert!(TcpListener::bind(&port, any_port()).is_err());
    });
}
