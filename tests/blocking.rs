//! Calls that block, on threads of their own.
#![cfg(not(proactor_loom))]

mod common;

use std::future::{Future, IntoFuture};
use std::num::NonZeroUsize;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, Setup, everywhere, everywhere_once, until, within};
use proactor::{CancelOutcome, CompletionPort, Error, ErrorKind, Kind, ObjectId, Proactor};

fn lane(setup: Setup, threads: usize) -> Proactor {
    let threads = NonZeroUsize::new(threads).expect("a lane has threads");
    let builder = setup.builder().blocking_threads(threads);
    builder.build().expect("a sound lane")
}

/// Occupies a thread of the lane until the sender goes; returns once it does.
fn occupy(proactor: &Proactor) -> Sender<()> {
    let (let_go, held) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let call = proactor.blocking(move || {
        begin.send(()).expect("the test waits");
        let _ = held.recv();
    });
    call.then(|_| ());
    begun.recv_timeout(SOON).expect("it begins");
    let_go
}

fn soon<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(SOON).expect("it comes")
}

#[test]
fn what_a_call_returns_comes_back_through_the_port() {
    everywhere(|setup| {
        let proactor = setup.build();
        let here = thread::current().id();
        let (tell, told) = mpsc::channel();
        let call = proactor.blocking(|| (thread::current().id(), "returned".to_owned()));
        call.key(7).then(move |result| {
            let (there, text) = result.expect("it returns");
            tell.send((there, thread::current().id(), text))
                .expect("the test waits");
        });
        assert_eq!(proactor.port().outstanding(), 1, "it is work");
        assert_eq!(proactor.run(), 1);
        let (called, handled, text) = soon(&told);
        assert_eq!(text, "returned");
        assert_ne!(called, here);
        assert_ne!(called, handled);
        assert_eq!(proactor.blocking(|| 6 * 7).wait().expect("it returns"), 42);
    });
}

#[test]
fn a_handler_may_wait_for_a_call() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let (tell, told) = mpsc::channel();
        let mine = Arc::clone(&proactor);
        proactor.post(move || {
            let one = mine.blocking(|| 1).wait().expect("it returns");
            let two = mine.blocking(move || one + 1).wait().expect("it returns");
            tell.send(two).expect("the test waits");
        });
        proactor.run();
        assert_eq!(soon(&told), 2);
    });
}

#[test]
fn a_future_of_a_call_is_its_output_and_dropped_cancels_it() {
    everywhere_once(|setup| {
        let proactor = lane(setup, 1);
        proactor.start().expect("threads");
        let one = pollster::block_on(proactor.blocking(|| 1).into_future());
        assert_eq!(one.expect("it returns"), 1);
        let held = occupy(&proactor);
        let (tell, told) = mpsc::channel();
        let dropped = Told(tell, "dropped");
        let waiting = proactor.blocking(move || {
            let _dropped = dropped;
            panic!("nobody wants it any more");
        });
        let mut future = waiting.into_future();
        let mut context = Context::from_waker(Waker::noop());
        let polled: Poll<Result<(), Error>> = Pin::new(&mut future).poll(&mut context);
        assert!(polled.is_pending());
        drop(future);
        assert_eq!(soon(&told), "dropped");
        drop(held);
    });
}

#[test]
fn a_port_that_is_used_alone_has_a_lane_too() {
    within("by hand", || {
        let port = CompletionPort::new().expect("a port");
        port.blocking(|| "called").key(3).then(|result| {
            assert_eq!(result.expect("it returns"), "called");
        });
        let mut taken = None;
        let deadline = Instant::now() + SOON;
        while taken.is_none() && Instant::now() < deadline {
            taken = port.take();
            thread::yield_now();
        }
        let completion = taken.expect("it completes");
        assert_eq!(completion.kind(), Kind::Blocking);
        assert_eq!(completion.object(), ObjectId::NONE);
        assert_eq!(completion.user_key(), 3);
        assert!(completion.run());
    });
}

#[test]
fn calls_beyond_the_threads_wait_and_begin_in_order() {
    everywhere_once(|setup| {
        let proactor = lane(setup, 2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..50 {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let call = proactor.blocking(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            });
            call.then(|result| result.expect("it returns"));
        }
        assert_eq!(proactor.run(), 50);
        assert!(
            most.load(Ordering::SeqCst) <= 2,
            "more at once than there are threads"
        );

        let proactor = lane(setup, 1);
        let (tell, told) = mpsc::channel();
        for number in 0..50 {
            let tell = tell.clone();
            proactor.blocking(move || tell.send(number)).then(|_| ());
        }
        proactor.run();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), Vec::from_iter(0..50));
    });
}

#[test]
fn as_many_calls_as_there_are_threads_are_made_at_once() {
    everywhere_once(|setup| {
        let proactor = lane(setup, 8);
        // Twice: when the threads are to be started, and when they are idle.
        for _ in 0..2 {
            let meet = Arc::new(Barrier::new(8));
            for _ in 0..8 {
                let meet = Arc::clone(&meet);
                proactor.blocking(move || meet.wait()).then(|_| ());
            }
            assert_eq!(proactor.run(), 8);
        }
    });
}

/// How many threads of this process have names that begin so.
#[cfg(target_os = "linux")]
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process's threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_start_on_demand_and_end_when_idle_or_told() {
    within("threads", || {
        let proactor = Proactor::builder()
            .thread_name("lazy")
            .build()
            .expect("sound");
        assert_eq!(threads_named("lazy-b"), 0, "a thread before any call");
        let held = [occupy(&proactor), occupy(&proactor), occupy(&proactor)];
        assert_eq!(threads_named("lazy-b"), 3);
        drop(held);
        proactor.run();
        // One after the other needs no further thread.
        for _ in 0..20 {
            proactor.blocking(|| ()).wait().expect("it returns");
        }
        assert!(threads_named("lazy-b") <= 3);
        until("idle threads have ended", || threads_named("lazy-b") == 0);
        assert_eq!(
            proactor.blocking(|| 5).wait().expect("it returns"),
            5,
            "and one starts again"
        );

        assert_eq!(threads_named("lazy-b"), 1);
        let told = Instant::now();
        drop(proactor);
        until("a drop has ended an idle thread", || {
            threads_named("lazy-b") == 0
        });
        assert!(
            told.elapsed() < Duration::from_millis(900),
            "it ended by itself"
        );
    });
}

/// Tells when it is dropped.
struct Told(Sender<&'static str>, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

#[test]
fn a_call_that_has_not_begun_is_cancelled_and_dropped_uncalled() {
    everywhere(|setup| {
        let proactor = lane(setup, 1);
        let held = occupy(&proactor);
        let (tell, told) = mpsc::channel();
        let dropped = Told(tell.clone(), "dropped");
        let call = proactor.blocking(move || {
            let _dropped = dropped;
            panic!("it was cancelled");
        });
        let key = call.then(move |result: Result<(), Error>| {
            let error = result.expect_err("cancelled");
            assert!(error.is_cancelled());
            assert_eq!(error.to_string(), "blocking call: cancelled");
            tell.send("handled").expect("the test waits");
        });
        assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
        assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        // It does not wait for the thread.
        assert_eq!(proactor.run_one(), 1);
        assert_eq!([soon(&told), soon(&told)], ["dropped", "handled"]);
        drop(held);
        assert_eq!(proactor.run(), 1);
    });
}

#[test]
fn a_call_that_has_begun_is_made_to_its_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (let_go, held) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let call = proactor.blocking(move || {
            begin.send(()).expect("the test waits");
            held.recv().expect_err("the sender goes");
            "returned"
        });
        let key = call.timeout(SOON * 3).then(move |result| {
            tell.send(result.expect("it returns"))
                .expect("the test waits");
        });
        soon(&begun);
        assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
        drop(let_go);
        assert_eq!(proactor.run(), 1);
        assert_eq!(soon(&told), "returned");
    });
}

#[test]
fn a_time_limit_ends_a_call_that_waits_and_none_that_has_begun() {
    everywhere_once(|setup| {
        let proactor = lane(setup, 1);
        let held = occupy(&proactor);
        let waiting = proactor.blocking(|| panic!("its time was up"));
        let result: Result<(), Error> = waiting.timeout(Duration::from_millis(3)).wait();
        assert!(result.expect_err("timed out").is_timeout());
        drop(held);
        proactor.run();

        let (let_go, held) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let call = proactor.blocking(move || {
            begin.send(()).expect("the test waits");
            held.recv()
        });
        call.timeout(Duration::from_millis(500))
            .then(move |result| {
                tell.send(result.is_ok_and(|held| held.is_ok()))
                    .expect("the test waits");
            });
        soon(&begun);
        // What comes after the limit lets it go.
        let later = proactor.sleep(Duration::from_millis(520));
        later.then(move |_| let_go.send(()).expect("it is held"));
        proactor.run();
        assert!(soon(&told), "it was ended by its limit");
    });
}

#[test]
fn a_panic_is_the_calls_output() {
    everywhere(|setup| {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                if !thread::panicking() {
                    panic!("as its payload is dropped");
                }
            }
        }
        let proactor = setup.build();
        let error = proactor
            .blocking(|| -> u8 { panic!("at {}", 7) })
            .wait()
            .expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert_eq!(error.operation(), Kind::Blocking);
        assert_eq!(error.to_string(), "blocking call: panicked: at 7");
        for call in [|| panic_any(7), || panic_any(Bad)] {
            let result: Result<(), Error> = proactor.blocking(call).wait();
            let error = result.expect_err("it panics");
            assert_eq!(
                error.to_string(),
                "blocking call: panicked: with something that is no text"
            );
        }
        assert_eq!(proactor.blocking(|| 1).wait().expect("the lane goes on"), 1);
    });
}

#[test]
fn a_shutdown_waits_until_its_deadline_and_says_what_was_left() {
    everywhere_once(|setup| {
        let proactor = lane(setup, 1);
        proactor
            .blocking(|| ())
            .then(|result| result.expect("it returns"));
        let report = proactor.shutdown(Instant::now() + SOON);
        assert_eq!((report.ran, report.cancelled, report.left), (1, 0, 0));

        let proactor = lane(setup, 1);
        let held = occupy(&proactor);
        let (tell, told) = mpsc::channel();
        let waiting = proactor.blocking(|| ());
        waiting.then(move |result| {
            tell.send(result.expect_err("it ends").kind())
                .expect("the test waits");
        });
        let report = proactor.shutdown(Instant::now());
        assert_eq!((report.ran, report.cancelled, report.left), (1, 2, 1));
        assert_eq!(soon(&told), ErrorKind::Cancelled);
        drop(held);
    });
}

#[test]
fn a_close_ends_what_waits_and_refuses_what_comes() {
    everywhere(|setup| {
        let proactor = lane(setup, 1);
        let held = occupy(&proactor);
        let (tell, told) = mpsc::channel();
        let waiting = proactor.blocking(|| ());
        waiting.then(move |result| {
            tell.send(result.map_err(|error| error.kind()))
                .expect("the test waits");
        });
        proactor.port().close();
        let late = proactor.blocking(|| ()).wait();
        assert_eq!(late.expect_err("it is closed").kind(), ErrorKind::Closed);
        drop(held);
        proactor.run();
        assert_eq!(soon(&told), Err(ErrorKind::Cancelled));
    });
}

#[test]
fn a_drop_does_not_wait_for_a_call_that_has_begun() {
    everywhere(|setup| {
        let proactor = lane(setup, 1);
        let (let_go, held) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let (output, handler) = (Told(tell.clone(), "output"), Told(tell.clone(), "handler"));
        let call = proactor.blocking(move || {
            begin.send(()).expect("the test waits");
            let _ = held.recv();
            output
        });
        call.then(move |_| drop(handler));
        let waiting = Told(tell, "waiting");
        proactor.blocking(move || drop(waiting)).then(|_| ());
        soon(&begun);
        drop(proactor);
        assert_eq!(
            soon(&told),
            "waiting",
            "what has not begun is dropped at once"
        );
        assert!(told.try_recv().is_err(), "the other goes on");
        drop(let_go);
        let mut dropped = [soon(&told), soon(&told)];
        dropped.sort_unstable();
        assert_eq!(dropped, ["handler", "output"]);
    });
}

#[test]
fn a_call_may_drop_the_last_proactor() {
    everywhere_once(|setup| {
        let proactor = setup.build();
        let (tell, told) = mpsc::channel();
        let port = proactor.port().clone();
        let told_of = Told(tell, "over");
        port.blocking(move || drop(proactor))
            .then(move |_| drop(told_of));
        drop(port);
        assert_eq!(soon(&told), "over");
    });
}

#[test]
fn a_thread_that_the_system_refuses_is_an_error() {
    everywhere_once(|setup| {
        let builder = setup.builder();
        let none = NonZeroUsize::new(1 << 47).expect("above zero");
        let proactor = builder
            .stack_size(none)
            .build()
            .expect("sound until a thread is started");
        let (tell, told) = mpsc::channel();
        proactor
            .blocking(|| ())
            .then(move |result| tell.send(result).expect("the test waits"));
        proactor.poll();
        let error = soon(&told).expect_err("no thread has such a stack");
        assert_eq!(
            (error.kind(), error.operation()),
            (ErrorKind::Os, Kind::Blocking)
        );
    });
}
