//! How many handlers are runnable, and what a handler does that blocks.
#![cfg(not(proactor_loom))]

mod common;

use std::hint;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{Random, SOON, Setup, pair, setups, until, within};
use proactor::net::TcpStream;
use proactor::{
    CompletionPort, PanicPolicy, Proactor, Strand, Strategy, WAIT_DEPTH, blocking_section,
};

fn is_pool(setup: &Setup) -> bool {
    setup.strategy != Strategy::Single
}

/// The pools, with two and with four threads, of which that many may run handlers.
fn pools(most: usize, body: fn(Proactor)) {
    for setup in setups(&[2, 4]).into_iter().filter(is_pool) {
        let built = limited(setup, most).build().expect("a sound setup");
        within(&setup.to_string(), move || body(built));
    }
}

fn limited(setup: Setup, most: usize) -> proactor::Builder {
    let most = NonZeroUsize::new(most).expect("some may run");
    setup.builder().concurrency(most)
}

/// How many handlers run, and the most that were seen.
#[derive(Debug, Default)]
struct Running {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Running {
    fn one(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..500 {
            hint::spin_loop(); // Not a yield, which takes long on a busy machine.
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Runs, and then posts two halves of what is left.
fn tree(port: CompletionPort, running: Arc<Running>, left: usize) {
    running.one();
    for left in [left / 2, left - left / 2] {
        if left > 0 {
            let (port, running) = (port.clone(), Arc::clone(&running));
            port.clone().post(move || tree(port, running, left - 1));
        }
    }
}

/// Echoes for ever.
fn echo(stream: TcpStream, running: Arc<Running>) {
    stream
        .read(Vec::with_capacity(64))
        .then(move |(result, buf)| {
            running.one();
            if result.is_ok_and(|count| count > 0) {
                stream.write_all(buf).then(move |(result, _)| {
                    running.one();
                    if result.is_ok() {
                        echo(stream, running);
                    }
                });
            }
        });
}

fn posts_events_and_timers(proactor: &Proactor) -> Arc<Running> {
    let running = Arc::<Running>::default();
    let (port, of_tree) = (proactor.port().clone(), Arc::clone(&running));
    proactor.post(move || tree(port, of_tree, 200));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (stream, client) = pair(proactor);
        echo(stream, Arc::clone(&running));
        clients.push(client);
        let running = Arc::clone(&running);
        let sleep = proactor.sleep(Duration::from_millis(2));
        sleep.then(move |_| running.one());
    }
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                for byte in 0..50 {
                    client.write_all(&[byte]).expect("it is read");
                    let mut back = [0];
                    client.read_exact(&mut back).expect("it comes back");
                    assert_eq!(back, [byte]);
                }
            });
        }
        for _ in 0..2 {
            let running = Arc::clone(&running);
            scope.spawn(move || {
                for _ in 0..100 {
                    let running = Arc::clone(&running);
                    proactor.post(move || running.one());
                }
            });
        }
        proactor.run();
    });
    running
}

#[test]
fn no_more_handlers_run_than_may() {
    pools(1, |proactor| {
        assert_eq!(posts_events_and_timers(&proactor).most(), 1);
    });
    pools(2, |proactor| {
        assert!(posts_events_and_timers(&proactor).most() <= 2);
    });
}

#[test]
fn another_runs_while_a_handler_is_in_a_section() {
    pools(1, |proactor| {
        // One after the other, so that the others have gone to sleep; the last time by an event and by a timer.
        proactor.start().expect("threads");
        for _ in 0..50 {
            let (tell, told) = mpsc::channel();
            let (end, ended) = mpsc::channel();
            proactor.post(move || {
                blocking_section(|| told.recv_timeout(SOON)).expect("another runs");
                end.send(()).expect("the test waits");
            });
            proactor.post(move || tell.send(()).expect("it waits"));
            ended.recv_timeout(SOON).expect("it ends");
        }
        let (stream, mut client) = pair(&proactor);
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let timed = tell.clone();
        stream
            .read([0; 1])
            .then(move |_| tell.send(()).expect("it waits"));
        proactor
            .sleep(Duration::from_millis(5))
            .then(move |_| timed.send(()).expect("it waits"));
        proactor.post(move || {
            blocking_section(|| {
                client.write_all(&[1]).expect("it is read");
                told.recv_timeout(SOON)
                    .expect("the event's handler runs, or the timer's");
                told.recv_timeout(SOON).expect("and the other one's");
            });
            end.send(()).expect("the test waits");
        });
        ended.recv_timeout(SOON).expect("it ends");
    });
}

#[test]
fn what_a_handler_left_to_its_own_thread_runs_while_it_blocks() {
    // Also where the number of handlers was not set.
    for most in [1, 2] {
        pools(most, |proactor| {
            let (tell, told) = mpsc::channel();
            let port = proactor.port().clone();
            proactor.post(move || {
                port.defer(move || tell.send(()).expect("it waits"));
                blocking_section(|| told.recv_timeout(SOON)).expect("the deferred call runs");
            });
            assert_eq!(proactor.run(), 2);
        });
    }
}

#[test]
fn who_comes_back_goes_on_and_no_further_one_begins_until_there_are_fewer() {
    pools(1, |proactor| {
        let (begun, back) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let ended = Arc::new(AtomicBool::new(false));
        let (first_begun, first_back, first_ended) =
            (Arc::clone(&begun), Arc::clone(&back), Arc::clone(&ended));
        proactor.post(move || {
            blocking_section(|| first_begun.wait());
            first_back.wait(); // with the second one, so both run
            for _ in 0..50 {
                thread::yield_now(); // time for the third to begin, if anything let it
            }
            first_ended.store(true, Ordering::SeqCst);
        });
        proactor.post(move || {
            begun.wait();
            back.wait();
        });
        let third = Arc::new(AtomicBool::new(false));
        let (seen, in_order) = (Arc::clone(&ended), Arc::clone(&third));
        proactor.post(move || in_order.store(seen.load(Ordering::SeqCst), Ordering::SeqCst));
        assert_eq!(proactor.run(), 3);
        assert!(
            third.load(Ordering::SeqCst),
            "the third began beside the first"
        );
    });
}

#[test]
fn a_lock_that_is_brought_back_deadlocks_nobody() {
    pools(1, |proactor| {
        // Those that lock without a section hold the only permit while they wait for one who comes back with the lock.
        let lock = Arc::new(Mutex::new(0));
        for number in 0..400 {
            let lock = Arc::clone(&lock);
            proactor.post(move || {
                let mut count = if number % 2 == 0 {
                    blocking_section(|| lock.lock())
                } else {
                    lock.lock()
                }
                .expect("nobody panics");
                hint::spin_loop();
                *count += 1;
            });
        }
        assert_eq!(proactor.run(), 400);
        assert_eq!(*lock.lock().expect("nobody panics"), 400);
    });
}

#[test]
fn if_all_threads_are_in_sections_the_rest_waits_for_one() {
    for setup in setups(&[2, 4]).into_iter().filter(is_pool) {
        within(&setup.to_string(), move || {
            let proactor = limited(setup, 1).build().expect("a sound setup");
            proactor.start().expect("threads");
            let (begin, begun) = mpsc::channel();
            let let_go = Arc::new(Barrier::new(setup.threads + 1));
            for _ in 0..setup.threads {
                let (begin, let_go) = (begin.clone(), Arc::clone(&let_go));
                proactor.post(move || {
                    blocking_section(|| {
                        begin.send(()).expect("the test waits");
                        let_go.wait();
                    });
                });
            }
            (0..setup.threads).for_each(|_| begun.recv_timeout(SOON).expect("all block"));
            let (tell, told) = mpsc::channel();
            proactor.post(move || tell.send(()).expect("the test waits"));
            assert!(
                told.recv_timeout(Duration::from_millis(30)).is_err(),
                "nobody is there to run it"
            );
            let_go.wait();
            told.recv_timeout(SOON).expect("it runs");
        });
    }
}

#[test]
fn a_panic_in_a_section_leaves_the_number_as_it_is() {
    for setup in setups(&[2, 4]).into_iter().filter(is_pool) {
        within(&setup.to_string(), move || {
            let panics = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&panics);
            let isolate = PanicPolicy::isolate(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            let proactor = limited(setup, 1)
                .panic_policy(isolate)
                .build()
                .expect("a sound setup");
            for number in 0..20 {
                proactor.post(move || match number % 2 {
                    0 => blocking_section(|| std::panic::resume_unwind(Box::new(number))),
                    _ => {
                        blocking_section(|| ());
                        std::panic::resume_unwind(Box::new(number))
                    }
                });
            }
            assert_eq!(proactor.run(), 20);
            assert_eq!(panics.load(Ordering::SeqCst), 20);
            assert_eq!(posts_events_and_timers(&proactor).most(), 1);
        });
    }
}

#[test]
fn a_section_is_a_plain_call_where_there_is_nothing_to_hand_on() {
    assert_eq!(blocking_section(|| 1), 1);
    pools(1, |proactor| {
        let running = Arc::<Running>::default();
        for _ in 0..50 {
            let running = Arc::clone(&running);
            proactor.post(move || {
                running.one();
                let nested = blocking_section(|| blocking_section(|| 2));
                assert_eq!(nested, 2);
            });
        }
        assert_eq!(proactor.run(), 50);
        assert_eq!(
            proactor
                .blocking(|| blocking_section(|| 3))
                .wait()
                .expect("it returns"),
            3
        );
    });
    for setup in setups(&[1]) {
        within(&setup.to_string(), move || {
            let proactor = limited(setup, 1).build().expect("a sound setup");
            proactor.post(|| assert_eq!(blocking_section(|| 4), 4));
            assert_eq!(proactor.run(), 1);
        });
    }
}

#[test]
fn a_handler_that_waits_for_an_output_lets_others_run() {
    pools(1, |proactor| {
        let (running, ended) = (Arc::<Running>::default(), Arc::<AtomicUsize>::default());
        let proactor = Arc::new(proactor);
        for number in 0..WAIT_DEPTH - 1 {
            let (mine, running, ended) = (
                Arc::clone(&proactor),
                Arc::clone(&running),
                Arc::clone(&ended),
            );
            proactor.post(move || {
                running.one();
                let output = match number % 3 {
                    0 => mine.blocking(move || number).wait(),
                    1 => blocking_section(|| mine.blocking(move || number).wait()),
                    _ => mine.sleep(Duration::from_millis(1)).wait().map(|()| number),
                };
                assert_eq!(output.expect("it ends"), number);
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        proactor.run();
        assert_eq!(ended.load(Ordering::SeqCst), WAIT_DEPTH - 1);
        assert_eq!(proactor.port().outstanding(), 0);
        assert_eq!(posts_events_and_timers(&proactor).most(), 1, "afterwards");
    });
}

#[test]
fn a_call_to_one_worker_waits_for_no_permit() {
    pools(1, |proactor| {
        let (begin, begun) = mpsc::channel();
        let (tell, told) = mpsc::channel::<()>();
        let port = proactor.port().clone();
        proactor.start().expect("threads");
        proactor.post(move || {
            let mine = port.worker_index().expect("a worker runs it");
            begin.send(mine).expect("the test waits");
            // It has the only permit, and is in no section.
            told.recv_timeout(SOON)
                .expect("the other worker makes the call");
        });
        let busy = begun.recv_timeout(SOON).expect("it begins");
        let call = move || tell.send(()).expect("it waits");
        assert!(proactor.post_to(1 - busy.min(1), call).is_ok());
        until("both are over", || proactor.port().outstanding() == 1);
        assert_eq!(posts(&proactor), 1, "afterwards");
    });
}

#[test]
fn a_strand_stays_with_a_handler_in_a_section() {
    pools(1, |proactor| {
        let strand = Strand::new(&proactor, Vec::new());
        let (tell, told) = mpsc::channel();
        strand.post(move |order| {
            order.push(1);
            blocking_section(|| told.recv_timeout(SOON)).expect("others run, of no strand");
            order.push(2);
        });
        strand.post(|order| order.push(3));
        proactor.post(move || tell.send(()).expect("it waits"));
        let call = proactor.blocking(|| 4).on(&strand);
        call.then(|order, result| order.push(result.expect("it returns")));
        assert_eq!(proactor.run(), 4);
        let mut order = strand.try_into_inner().expect("the last of it");
        assert_eq!(order[..2], [1, 2]);
        order[2..].sort_unstable();
        assert_eq!(order, [1, 2, 3, 4]);
    });
}

/// The most of a hundred calls that ran at once in the background.
fn posts(proactor: &Proactor) -> usize {
    let running = Arc::<Running>::default();
    for _ in 0..100 {
        let running = Arc::clone(&running);
        proactor.post(move || running.one());
    }
    until("all have run", || proactor.port().outstanding() == 1);
    running.most()
}

/// What a handler of the storm does, besides posting.
fn weather(proactor: &Proactor, mut random: Random, left: Arc<AtomicUsize>) {
    let port = proactor.port().clone();
    let more = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    if more.is_err() {
        return;
    }
    match random.within(0, 5) {
        0 => blocking_section(thread::yield_now),
        1 => blocking_section(|| thread::sleep(Duration::from_micros(50))), // sleep: what a section is for
        2 => {
            let _ = port
                .blocking(|| ())
                .timeout(Duration::from_millis(1))
                .wait();
        }
        3 => {
            let _ = blocking_section(|| port.sleep(Duration::from_micros(1)).wait());
        }
        _ => {}
    }
}

#[test]
fn a_storm_of_sections_passes() {
    let seeds = Random::new();
    for most in [1, 2, 3] {
        let mut seeds = seeds.clone();
        for setup in setups(&[4]).into_iter().filter(is_pool) {
            let mut random = seeds.fork();
            within(&format!("{setup}, concurrency {most}"), move || {
                let proactor = Arc::new(limited(setup, most).build().expect("a sound setup"));
                proactor.start().expect("threads");
                let left = Arc::new(AtomicUsize::new(2000));
                while left.load(Ordering::SeqCst) > 0 {
                    // In bursts, with lulls in which everybody goes to sleep.
                    for _ in 0..random.within(1, 12) {
                        let (mine, random, left) =
                            (Arc::downgrade(&proactor), random.fork(), Arc::clone(&left));
                        proactor.post(move || {
                            if let Some(proactor) = mine.upgrade() {
                                weather(&proactor, random, left);
                            }
                        });
                    }
                    until("the burst is over", || proactor.port().outstanding() == 1);
                }
                // As many as may run do, and no more: no permit was lost, and none was made.
                let meet = Arc::new(Barrier::new(most));
                for _ in 0..most {
                    let meet = Arc::clone(&meet);
                    proactor.post(move || {
                        meet.wait();
                    });
                }
                assert!(posts(&proactor) <= most, "more run than may");
            });
        }
    }
}
