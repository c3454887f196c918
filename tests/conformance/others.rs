//! The others: promises 46 to 48.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use proactor::{CompletionPort, Proactor};

use crate::common::{SOON, Setup, everywhere, everywhere_once};

#[test]
fn p46_calls_that_block_lower_no_number_of_handlers() {
    everywhere(|setup| {
        // Twice as many calls block as threads run handlers, and further ones wait to.
        let blocked = 2 * setup.threads;
        let lane = NonZeroUsize::new(blocked).expect("a setup has threads");
        let proactor = setup
            .builder()
            .blocking_threads(lane)
            .build()
            .expect("a sound setup");
        let (begin, begun) = mpsc::channel();
        let let_go: Vec<_> = (0..2 * blocked)
            .map(|_| {
                let (begin, (let_go, held)) = (begin.clone(), mpsc::channel::<()>());
                let call = proactor.blocking(move || {
                    begin.send(()).expect("the test waits");
                    let _ = held.recv();
                });
                call.then(|result| result.expect("it returns"));
                let_go
            })
            .collect();
        (0..blocked).for_each(|_| {
            begun
                .recv()
                .expect("as many block as there are threads for");
        });
        // As many handlers as there are threads: none ends before all have begun, and only then the calls go on.
        let meet = Arc::new(Barrier::new(setup.threads));
        let let_go = Arc::new(let_go);
        for _ in 0..setup.threads {
            let (meet, let_go) = (Arc::clone(&meet), Arc::clone(&let_go));
            proactor.post(move || {
                meet.wait();
                drop(let_go);
            });
        }
        drop(let_go);
        assert_eq!(proactor.run(), setup.threads + 2 * blocked);
        assert!(begun.try_recv().is_ok(), "the others were made, too");
    });
}

/// Posts itself for ever.
fn again(port: CompletionPort) {
    port.clone().post(move || again(port));
}

/// How many are reported: ran, cancelled, left.
fn shut_down(proactor: &Proactor, deadline: Instant) -> (usize, usize, usize) {
    let report = proactor.shutdown(deadline);
    (report.ran, report.cancelled, report.left)
}

fn leftovers(setup: Setup) {
    let soon = || Instant::now() + SOON;
    let drained = setup.build();
    (0..10).for_each(|_| drained.post(|| ()));
    assert_eq!(shut_down(&drained, soon()), (10, 0, 0));

    let waits = setup.build();
    let told = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let told = Arc::clone(&told);
        waits
            .sleep(Duration::from_secs(3600))
            .then(move |result| match result {
                Err(error) if error.is_cancelled() => {
                    told.fetch_add(1, Ordering::SeqCst);
                }
                other => panic!("nobody cancelled it: {other:?}"),
            });
    }
    assert_eq!(shut_down(&waits, Instant::now()), (10, 10, 0));
    assert_eq!(told.load(Ordering::SeqCst), 10);

    let stopped = setup.build();
    (0..10).for_each(|_| stopped.post(|| ()));
    stopped.stop();
    assert_eq!(shut_down(&stopped, soon()), (0, 10, 10));
}

#[test]
fn p47_shutdown_with_a_deadline_reports_what_was_left_over() {
    everywhere(leftovers);
    everywhere_once(|setup| {
        let endless = setup.build();
        again(endless.port().clone());
        let (ran, cancelled, left) = shut_down(&endless, Instant::now());
        assert!(ran > 0, "it was to have its last call");
        assert_eq!((cancelled, left), (1, 1));
    });
}

/// What became of calls.
#[derive(Debug, Default)]
struct Tally {
    ran: AtomicUsize,
    rejected: AtomicUsize,
    /// Uncalled, the rejected ones among them.
    dropped: AtomicUsize,
}

impl Tally {
    fn all(&self) -> [usize; 3] {
        [&self.ran, &self.rejected, &self.dropped].map(|count| count.load(Ordering::SeqCst))
    }
}

/// A call, which is run or dropped.
struct Call(Arc<Tally>, bool);

impl Call {
    /// Runs it; how many have run now.
    fn run(mut self) -> usize {
        self.1 = true;
        self.0.ran.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

const POSTS: usize = 10_000;
const POSTERS: usize = 50;
const ROOM: usize = 64;
/// The call that stops, counted as they run.
const STOPS: usize = 1000;

/// Posts its part from inside a handler: half of them as they come, half where there is room.
fn post_all(port: &CompletionPort, tally: &Arc<Tally>) {
    for post in 0..POSTS / POSTERS {
        let (call, stops) = (Call(Arc::clone(tally), false), port.clone());
        let run = move || {
            if call.run() == STOPS {
                stops.stop();
            }
        };
        if post % 2 == 0 {
            port.post(run);
        } else if port.try_post(run).is_err() {
            tally.rejected.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn posts_under_a_stop(setup: Setup) {
    let room = NonZeroUsize::new(ROOM).unwrap();
    let proactor = setup.builder().max_pending(room).build().unwrap();
    let tally = Arc::new(Tally::default());
    for poster in 0..POSTERS {
        let (port, tally) = (proactor.port().clone(), Arc::clone(&tally));
        proactor.post(move || {
            if poster == POSTERS / 2 {
                port.stop();
            }
            post_all(&port, &tally);
        });
    }
    // The first stop may come while calls are run, and then both are one.
    let mut runs = 0;
    while tally.ran.load(Ordering::SeqCst) < STOPS {
        proactor.restart();
        proactor.run();
        runs += 1;
        assert!(runs <= 2, "a run that was not stopped left something");
        assert!(proactor.stopped(), "it ran out of calls: {tally:?}");
    }
    let held = proactor.port().outstanding();
    let [ran, rejected, dropped] = tally.all();
    assert!(ran < POSTS / 2, "the stop was not heeded: {tally:?}");
    assert!(rejected > 0 && held > 0, "{tally:?}, {held} held");
    assert_eq!(dropped, rejected, "only the drop of the proactor drops");
    drop(proactor);
    let [still_ran, _, dropped] = tally.all();
    assert_eq!(still_ran, ran, "a drop runs nothing");
    // Posters that had not begun were held, too, each with all that it was to post.
    let posters = held - (dropped - rejected);
    let all = ran + rejected + held - posters + posters * (POSTS / POSTERS);
    assert_eq!(all, POSTS, "{tally:?}, {held} held");
}

#[test]
fn p48_ten_thousand_posts_under_a_stop_lose_none() {
    everywhere(posts_under_a_stop);
}
