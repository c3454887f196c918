//! Running: promises 1 to 9.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use proactor::net::TcpStream;
use proactor::{CompletionPort, ErrorKind, PanicPolicy, Proactor, WAIT_DEPTH};

use crate::common::{SOON, Setup, everywhere, std_pair, until};

const FAR: Duration = Duration::from_secs(3600);

type Count = Arc<AtomicUsize>;

/// A counter, and what makes calls that count in it.
fn counter() -> (Count, impl Fn() -> Box<dyn FnOnce() + Send>) {
    let count = Count::default();
    let counted = Arc::clone(&count);
    let one_more = move || -> Box<dyn FnOnce() + Send> {
        let counted = Arc::clone(&counted);
        Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
    };
    (count, one_more)
}

fn value(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

#[test]
fn p01_nothing_runs_before_run() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (count, one_more) = counter();
        proactor.post(one_more());
        proactor.dispatch(one_more());
        proactor.defer(one_more());
        proactor.sleep(Duration::ZERO).then({
            let one_more = one_more();
            |_| one_more()
        });
        thread::scope(|scope| {
            scope.spawn(|| proactor.post(one_more()));
        });
        assert_eq!(value(&count), 0);
        assert_eq!(proactor.port().outstanding(), 5);
        assert_eq!(proactor.run(), 5);
        assert_eq!(value(&count), 5);
    });
}

#[test]
fn p02_run_returns_when_no_work_is_outstanding() {
    everywhere(|setup| {
        let proactor = setup.build();
        assert_eq!(proactor.run(), 0);
        let port = proactor.port().clone();
        proactor.post(move || {
            let later = port.clone();
            let sleep = port.sleep(Duration::from_millis(2));
            sleep.then(move |_| later.post(|| ()));
        });
        assert_eq!(proactor.run(), 3, "what a handler begins is work, too");
        assert_eq!(proactor.run(), 0);
    });
}

#[test]
fn p03_a_guard_keeps_run_until_it_is_released() {
    everywhere(|setup| {
        let proactor = setup.build();
        let guard = proactor.guard();
        let (count, one_more) = counter();
        let returned = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                proactor.run();
                returned.store(true, Ordering::SeqCst);
            });
            for round in 1..=10 {
                proactor.post(one_more());
                until("the call has run", || value(&count) == round);
            }
            assert!(!returned.load(Ordering::SeqCst));
            drop(guard);
            until("run has returned", || returned.load(Ordering::SeqCst));
        });
        assert_eq!(proactor.run(), 0);
    });
}

// ---- 4: stop ----

fn stop_keeps_what_is_ready(setup: Setup) {
    let proactor = setup.build();
    let count = Count::default();
    let stopped = Arc::new(AtomicBool::new(false));
    let (port, stops) = (proactor.port().clone(), Arc::clone(&stopped));
    proactor.post(move || {
        port.stop();
        stops.store(true, Ordering::SeqCst);
    });
    for _ in 0..1000 {
        let (count, stopped) = (Arc::clone(&count), Arc::clone(&stopped));
        proactor.post(move || {
            until("it is stopped", || stopped.load(Ordering::SeqCst));
            count.fetch_add(1, Ordering::SeqCst);
        });
    }
    let first = proactor.run();
    assert!(proactor.stopped());
    assert_eq!(value(&count), first - 1);
    // What the others had begun when it was stopped, they finished; nothing was begun after.
    assert!(first <= setup.threads, "{first} handlers");
    assert_eq!(proactor.run(), 0, "stopped is stopped");
    proactor.restart();
    assert_eq!(proactor.run(), 1001 - first);
    assert_eq!(value(&count), 1000);
}

fn stop_ends_a_run_that_waits(setup: Setup) {
    for _ in 0..50 {
        let proactor = setup.build();
        let _guard = proactor.guard();
        let begun = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                proactor.run();
            });
            begun.wait();
            proactor.stop();
        });
    }
}

fn dropping_destroys_uncalled(setup: Setup) {
    let proactor = setup.build();
    let (count, one_more) = counter();
    let held = Arc::new(());
    for _ in 0..100 {
        let (held, one_more) = (Arc::clone(&held), one_more());
        proactor.post(move || {
            let _held = held;
            one_more();
        });
    }
    let (sleeping, one_more) = (Arc::clone(&held), one_more());
    proactor.sleep(FAR).then(move |_| {
        let _held = sleeping;
        one_more();
    });
    proactor.stop();
    assert_eq!(proactor.run(), 0);
    assert_eq!(Arc::strong_count(&held), 102, "kept while it lives");
    drop(proactor);
    assert_eq!(Arc::strong_count(&held), 1, "every handler was dropped");
    assert_eq!(value(&count), 0, "and none was called");
}

#[test]
fn p04_stop_returns_promptly_and_keeps_what_only_dropping_destroys() {
    everywhere(stop_keeps_what_is_ready);
    everywhere(stop_ends_a_run_that_waits);
    everywhere(dropping_destroys_uncalled);
}

// ---- 5: nesting ----

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Notes how deep handlers stand on this thread's stack.
fn nested<R>(body: impl FnOnce(usize) -> R) -> R {
    let depth = DEPTH.get() + 1;
    DEPTH.set(depth);
    let result = body(depth);
    DEPTH.set(depth - 1);
    result
}

fn post_and_defer_never_nest(setup: Setup) {
    fn again(port: CompletionPort, left: usize) {
        nested(|depth| {
            assert_eq!(depth, 1, "a handler ran inside a handler");
            if left > 0 {
                let (one, other) = (port.clone(), port.clone());
                if left % 2 == 0 {
                    port.post(move || again(one, left - 1));
                } else {
                    port.defer(move || again(one, left - 1));
                }
                port.post(move || nested(|depth| drop((other, assert_eq!(depth, 1)))));
            }
        });
    }
    let proactor = setup.build();
    let port = proactor.port().clone();
    proactor.post(move || again(port, 500));
    assert_eq!(proactor.run(), 1001);
}

fn dispatch_runs_inline_inside_a_handler(setup: Setup) {
    let proactor = setup.build();
    let (count, one_more) = counter();
    proactor.dispatch(one_more());
    assert_eq!(value(&count), 0, "outside it queues");
    assert_eq!(proactor.run(), 1);
    let port = proactor.port().clone();
    let (seen, one_more) = (Arc::clone(&count), one_more());
    proactor.post(move || {
        port.dispatch(one_more);
        assert_eq!(value(&seen), 2, "inside it ran inline");
    });
    assert_eq!(proactor.run(), 1, "and is no handler of its own");
}

/// Waits, at every depth, for what another handler is posted to run meanwhile. The deepest is noted.
fn descend(port: CompletionPort, deepest: Count, left: usize) {
    nested(|depth| {
        deepest.fetch_max(depth, Ordering::SeqCst);
        if left > 0 {
            let (next, noted) = (port.clone(), Arc::clone(&deepest));
            port.post(move || descend(next, noted, left - 1));
            let waited = port.sleep(Duration::from_millis(1)).wait();
            let refused = waited.is_err_and(|error| error.kind() == ErrorKind::WouldDeadlock);
            assert_eq!(refused, depth == WAIT_DEPTH);
        }
    });
}

fn wait_nests_within_its_depth(setup: Setup) {
    let proactor = setup.build();
    let (port, deepest) = (proactor.port().clone(), Count::default());
    let noted = Arc::clone(&deepest);
    proactor.post(move || descend(port, noted, 3 * WAIT_DEPTH));
    proactor.run();
    let deepest = value(&deepest);
    if setup.threads == 1 {
        assert_eq!(deepest, WAIT_DEPTH);
    }
    assert!(deepest <= WAIT_DEPTH, "{deepest} handlers deep");
    assert_eq!(proactor.port().outstanding(), 0);
}

#[test]
fn p05_post_never_nests_but_dispatch_and_wait_may() {
    everywhere(post_and_defer_never_nest);
    everywhere(dispatch_runs_inline_inside_a_handler);
    everywhere(wait_nests_within_its_depth);
}

// ---- 6, 7: threads and ports ----

fn they_return_together(setup: Setup) {
    for threads in [2, 5] {
        let proactor = setup.build();
        let (count, one_more) = counter();
        let guard = proactor.guard();
        let ran = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    ran.fetch_add(proactor.run(), Ordering::SeqCst);
                    // The last one posted is done when the first of them returns.
                    assert_eq!(value(&count), 300);
                });
            }
            for _ in 0..300 {
                proactor.post(one_more());
            }
            drop(guard);
        });
        assert_eq!(ran.load(Ordering::SeqCst), 300);
    }
}

fn it_uses_all_its_threads(setup: Setup) {
    let proactor = setup.build();
    // Each handler waits for all the others, so each needs a thread of its own.
    let together = Arc::new(Barrier::new(setup.threads));
    let threads = Arc::new(Mutex::new(HashSet::new()));
    for _ in 0..setup.threads {
        let (together, threads) = (Arc::clone(&together), Arc::clone(&threads));
        proactor.post(move || {
            together.wait();
            threads.lock().unwrap().insert(thread::current().id());
        });
    }
    assert_eq!(proactor.run(), setup.threads);
    assert_eq!(threads.lock().unwrap().len(), setup.threads);
}

#[test]
fn p06_several_threads_in_run_all_return_when_all_work_is_done() {
    everywhere(they_return_together);
    everywhere(it_uses_all_its_threads);
}

fn a_handler_of_one_leaves_it_to_the_other(setup: Setup) {
    let (a, b) = (setup.build(), setup.build());
    let (count, one_more) = counter();
    let of_b = b.port().clone();
    a.post(move || {
        of_b.post(one_more());
        of_b.defer(one_more());
        // A worker of `a` is none of `b`.
        of_b.dispatch(one_more());
        of_b.sleep(Duration::ZERO).then(move |_| one_more()());
    });
    assert_eq!(a.run(), 1);
    assert_eq!(value(&count), 0);
    assert_eq!(b.run(), 4);
    assert_eq!(value(&count), 4);
}

/// Begins one of each on `port`; each tells `here`.
fn begin_four(port: &CompletionPort, here: impl Fn() + Clone + Send + 'static) {
    let (server, mut client) = std_pair();
    let [read, written, slept, posted] = [(); 4].map(|()| here.clone());
    let stream = TcpStream::from_std(port, server).unwrap();
    let sleep = port.sleep(Duration::from_micros(200));
    sleep.then(move |_| slept());
    port.post(posted);
    stream.write_all("out").then(move |_| written());
    client.write_all(b"in").unwrap();
    stream.read([0; 2]).then(move |_| {
        drop((stream, client));
        read();
    });
}

/// Both run; whatever is begun on a port, by whomever, is run by a thread of that port.
fn each_runs_its_own(setup: Setup) {
    const ROUNDS: usize = 20;
    let named = |name: &str| setup.builder().thread_name(name).build().unwrap();
    let (a, b) = (named("a"), named("b"));
    a.start().unwrap();
    b.start().unwrap();
    let (to, threads) = mpsc::channel();
    for _ in 0..ROUNDS {
        for (of, port, from) in [('b', b.port(), a.port()), ('a', a.port(), b.port())] {
            let (port, to) = (port.clone(), to.clone());
            from.post(move || {
                begin_four(&port, move || {
                    let name = thread::current().name().unwrap_or("").to_owned();
                    to.send((of, name)).unwrap();
                });
            });
        }
    }
    for _ in 0..ROUNDS * 2 * 4 {
        let (of, thread) = threads.recv_timeout(SOON).expect("every handler runs");
        let own = thread.starts_with(&format!("{of}-"));
        assert!(own, "a handler of {of} ran on {thread}");
    }
}

#[test]
fn p07_a_completion_runs_only_on_its_own_ports_dispatcher() {
    everywhere(a_handler_of_one_leaves_it_to_the_other);
    everywhere(each_runs_its_own);
}

// ---- 8: panics ----

fn panics(payload: &'static str) -> impl FnOnce() + Send {
    move || std::panic::panic_any(payload)
}

/// Whatever a panic held is free again: handlers run, threads wait for what comes, and the work is done with.
fn serves_on(proactor: &Proactor) {
    let (count, one_more) = counter();
    for _ in 0..20 {
        let (port, one_more) = (proactor.port().clone(), one_more());
        let sleep = proactor.sleep(Duration::from_micros(500));
        sleep.then(move |_| port.post(one_more));
    }
    assert_eq!((proactor.run(), value(&count)), (40, 20));
    assert_eq!(proactor.port().outstanding(), 0);
}

fn a_panic_goes_out_of_run(setup: Setup) {
    let proactor = setup.build();
    let (count, one_more) = counter();
    (0..100).for_each(|_| proactor.post(one_more()));
    proactor.post(panics("on purpose"));
    (0..100).for_each(|_| proactor.post(one_more()));
    let panic = catch_unwind(AssertUnwindSafe(|| proactor.run())).unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "on purpose");
    assert!(!proactor.stopped(), "it can run again at once");
    let before = value(&count);
    assert_eq!(proactor.run(), 200 - before);
    assert_eq!((value(&count), proactor.port().outstanding()), (200, 0));
    serves_on(&proactor);
}

fn an_isolated_panic_is_reported(setup: Setup) {
    let (report, reported) = mpsc::channel();
    let policy = PanicPolicy::isolate(move |panic| {
        report.send(*panic.downcast_ref::<&str>().unwrap()).unwrap();
    });
    let proactor = setup.builder().panic_policy(policy).build().unwrap();
    let (count, one_more) = counter();
    for _ in 0..50 {
        proactor.post(panics("isolated"));
        proactor.post(one_more());
    }
    assert_eq!(proactor.run(), 100);
    assert_eq!(value(&count), 50);
    serves_on(&proactor);
    drop(proactor);
    assert_eq!(
        reported.iter().filter(|&panic| panic == "isolated").count(),
        50
    );
}

fn a_panic_that_stops_is_reported(setup: Setup) {
    let reported = Count::default();
    let told = Arc::clone(&reported);
    let policy = PanicPolicy::stop(move |_| {
        let _ = told.fetch_add(1, Ordering::SeqCst);
    });
    let proactor = setup.builder().panic_policy(policy).build().unwrap();
    let (count, one_more) = counter();
    proactor.post(panics("stops"));
    (0..500).for_each(|_| proactor.post(one_more()));
    let ran = proactor.run();
    assert!(proactor.stopped());
    assert_eq!((value(&reported), value(&count)), (1, ran - 1));
    proactor.restart();
    assert_eq!(proactor.run(), 501 - ran);
    serves_on(&proactor);
}

fn a_panic_in_the_background_comes_out_of_shutdown(setup: Setup) {
    let proactor = setup.build();
    proactor.start().unwrap();
    proactor.post(panics("in the background"));
    until("it is stopped", || proactor.stopped());
    let shutdown = AssertUnwindSafe(|| proactor.shutdown(Instant::now() + SOON));
    let panic = catch_unwind(shutdown).unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in the background");
}

#[test]
fn p08_a_panic_follows_the_policy_and_leaves_nothing_held() {
    everywhere(a_panic_goes_out_of_run);
    everywhere(an_isolated_panic_is_reported);
    everywhere(a_panic_that_stops_is_reported);
    everywhere(a_panic_in_the_background_comes_out_of_shutdown);
}

// ---- 9: the last proactor ----

fn dropped_in_the_background(setup: Setup) {
    let proactor = Arc::new(setup.build());
    let (dropped, seen) = mpsc::channel();
    let (last, held) = (Arc::clone(&proactor), Arc::new(()));
    let others = Arc::clone(&held);
    proactor.sleep(FAR).then(move |_| drop(others));
    proactor.post(move || {
        until("the others have let go", || Arc::strong_count(&last) == 1);
        drop(last);
        dropped.send(()).unwrap();
    });
    proactor.start().unwrap();
    drop(proactor);
    seen.recv_timeout(SOON)
        .expect("the handler goes on after the drop");
    until("what was left is dropped", || Arc::strong_count(&held) == 1);
}

/// One thread waits for its output, and runs the handler that drops the proactor under it.
fn dropped_under_a_thread_that_waits(setup: Setup) {
    let proactor = setup.build();
    let (port, held) = (proactor.port().clone(), Arc::new(()));
    let left = Arc::clone(&held);
    port.sleep(FAR).then(move |_| drop(left));
    port.post(move || drop(proactor));
    let (server, _client) = std_pair();
    let stream = TcpStream::from_std(&port, server).unwrap();
    let (result, buf) = stream.read(vec![42]).wait();
    assert!(result.unwrap_err().is_cancelled());
    assert_eq!(buf, [42], "the buffer comes back");
    assert_eq!(Arc::strong_count(&held), 1, "what was left is dropped");
}

/// So do handlers of every worker, nested in each of them.
fn dropped_under_handlers_that_wait(setup: Setup) {
    let proactor = Arc::new(setup.build());
    let (to, ends) = mpsc::channel();
    for _ in 0..setup.threads + 2 {
        let (port, to) = (proactor.port().clone(), to.clone());
        proactor.post(move || to.send(port.sleep(FAR).wait()).unwrap());
    }
    drop(to);
    let last = Mutex::new(Some(Arc::clone(&proactor)));
    let alone = Arc::downgrade(&proactor);
    proactor.post(move || {
        until("the test has let go", || alone.strong_count() == 1);
        drop(last.lock().unwrap().take());
    });
    proactor.start().unwrap();
    drop(proactor);
    // Those that had not begun to wait are dropped uncalled.
    let ended: Vec<_> = ends.iter().collect();
    for end in ended {
        let error = end.unwrap_err();
        let over = [ErrorKind::Cancelled, ErrorKind::Closed];
        assert!(over.contains(&error.kind()), "{error}");
    }
}

#[test]
fn p09_a_handler_may_drop_the_last_proactor() {
    everywhere(dropped_in_the_background);
    everywhere(dropped_under_a_thread_that_waits);
    everywhere(dropped_under_handlers_that_wait);
}
