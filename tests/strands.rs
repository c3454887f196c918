//! Strands under load and chance: order, exclusion, and nothing lost.
#![cfg(not(proactor_loom))]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Random, Setup, everywhere_once, until};
use proactor::{BackendKind, PanicPolicy, Proactor, Strand, Strategy};

/// Who posts how much to how many strands.
struct Load {
    strands: usize,
    posters: usize,
    posts: usize,
}

/// What a strand has seen: the last number of each poster. Two handlers at once would be seen by `busy`.
struct Account {
    last: Vec<usize>,
    runs: usize,
    busy: AtomicBool,
}

impl Account {
    fn new(posters: usize) -> Self {
        Self {
            last: vec![0; posters],
            runs: 0,
            busy: AtomicBool::new(false),
        }
    }

    /// The `number`th that `poster` posted here.
    fn come(&mut self, poster: usize, number: usize) {
        assert!(!self.busy.swap(true, Ordering::Relaxed), "two at once");
        assert_eq!(
            self.last[poster] + 1,
            number,
            "poster {poster}: out of order"
        );
        self.last[poster] = number;
        self.runs += 1;
        assert!(self.busy.swap(false, Ordering::Relaxed), "two at once");
    }
}

/// How much may wait, so that the memory does not grow with the number of posts.
const WINDOW: usize = 50_000;

/// Posts from threads outside, by chance to any strand, while `proactor` runs; then looks at each strand.
fn order_and_exclusion(proactor: &Proactor, load: &Load, random: &mut Random) {
    let strand = |_| Strand::new(proactor, Account::new(load.posters));
    let strands: Vec<_> = (0..load.strands).map(strand).collect();
    proactor.start().expect("threads");
    let room = || proactor.port().outstanding() < WINDOW;
    thread::scope(|scope| {
        for poster in 0..load.posters {
            let (strands, mut random) = (&strands, random.fork());
            scope.spawn(move || {
                let mut sent = vec![0; load.strands];
                for post in 0..load.posts / load.posters {
                    if post % 1000 == 0 {
                        until("there is room for more", room);
                    }
                    let to = random.within(0, load.strands - 1);
                    sent[to] += 1;
                    let number = sent[to];
                    strands[to].post(move |account| account.come(poster, number));
                }
            });
        }
    });
    until("all have run", || proactor.port().outstanding() == 1);
    let account = |strand: Strand<Account>| strand.try_into_inner().expect("nothing is queued");
    let runs: usize = strands.into_iter().map(|strand| account(strand).runs).sum();
    assert_eq!(runs, load.posts / load.posters * load.posters);
}

#[test]
fn many_strands_keep_order_and_exclusion_on_every_setup() {
    everywhere_once(|setup| {
        let (strands, posters, posts) = (200, 3, 12_000);
        let load = Load {
            strands,
            posters,
            posts,
        };
        order_and_exclusion(&setup.build(), &load, &mut Random::new());
    });
}

/// The size that is promised takes a release build: `PROACTOR_TEST_FULL=1 cargo test --release --test strands`.
#[test]
fn ten_thousand_strands_on_four_threads_keep_order_and_exclusion() {
    let full = std::env::var_os("PROACTOR_TEST_FULL").is_some();
    let posts = if full { 10_000_000 } else { 40_000 };
    let mut random = Random::new();
    for strategy in [Strategy::LeaderFollowers, Strategy::WorkStealing] {
        let setup = Setup {
            strategy,
            backend: BackendKind::Auto,
            threads: 4,
        };
        let load = Load {
            strands: 10_000,
            posters: 4,
            posts,
        };
        let began = Instant::now();
        order_and_exclusion(&setup.build(), &load, &mut random);
        println!(
            "{setup}: {posts} posts in {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
}

/// What a run by chance shares: strands that call each other, and how much is to happen still.
struct Chance {
    proactor: Proactor,
    strands: Vec<Strand<Account>>,
    left: AtomicUsize,
    panicked: AtomicUsize,
    caught: AtomicUsize,
    begun: AtomicUsize,
    ran: AtomicUsize,
}

impl Chance {
    /// Whether one more may begin.
    fn begin(&self) -> bool {
        let more = |left: usize| left.checked_sub(1);
        let may = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.begun
            .fetch_add(usize::from(may.is_ok()), Ordering::Relaxed);
        may.is_ok()
    }

    /// One handler on a strand by one of the ways to get there, which begins up to two more.
    fn next(self: &Arc<Self>, mut random: Random) {
        if !self.begin() {
            return;
        }
        let strand = &self.strands[random.within(0, self.strands.len() - 1)];
        let (all, way) = (Arc::clone(self), random.within(0, 5));
        let handler = move |account: &mut Account| all.handle(account, random);
        match way {
            0 | 1 => strand.post(handler),
            2 | 3 => {
                // It may run now, and its panic is then this handler's.
                let entered = catch_unwind(AssertUnwindSafe(|| strand.dispatch(handler)));
                let panicked = usize::from(entered.is_err());
                self.caught.fetch_add(panicked, Ordering::Relaxed);
            }
            4 => {
                let nap = self.proactor.sleep(Duration::from_micros(700));
                let _ = nap.on(strand).then(move |account, _| handler(account));
            }
            _ => {
                let limited = self.proactor.sleep(Duration::from_secs(100)).on(strand);
                let limited = limited.key(1).timeout(Duration::from_millis(1));
                let key = limited.then(move |account, _| handler(account));
                self.proactor.cancel(key);
            }
        }
    }

    fn handle(self: &Arc<Self>, account: &mut Account, mut random: Random) {
        self.ran.fetch_add(1, Ordering::Relaxed);
        let number = account.last[0] + 1;
        account.come(0, number);
        assert!(!account.busy.swap(true, Ordering::Relaxed), "two at once");
        for _ in 0..random.within(1, 2) {
            self.next(random.fork());
        }
        assert!(account.busy.swap(false, Ordering::Relaxed), "two at once");
        if random.within(0, 20) == 0 {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("by chance"));
        }
    }
}

/// Posts, dispatches, timers, cancellations and panics by chance, on few strands, under stops and restarts.
fn by_chance(setup: Setup) {
    let reported = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reported);
    let policy = PanicPolicy::Isolate(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let proactor = setup.builder().panic_policy(policy).build();
    let proactor = proactor.expect("a setup is sound");
    let strands = (0..7).map(|_| Strand::new(&proactor, Account::new(1)));
    let all = Arc::new(Chance {
        strands: strands.collect(),
        proactor,
        left: AtomicUsize::new(20_000),
        panicked: AtomicUsize::new(0),
        caught: AtomicUsize::new(0),
        begun: AtomicUsize::new(0),
        ran: AtomicUsize::new(0),
    });
    let mut random = Random::new();
    all.proactor.start().expect("threads");
    for _ in 0..10 {
        all.next(random.fork());
    }
    let over = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    until("all have run", || {
        all.proactor.stop();
        thread::yield_now();
        all.proactor.restart();
        if over(&all.ran) == over(&all.begun) {
            all.next(random.clone()); // all may have ended early
        }
        over(&all.left) == 0 && all.proactor.port().outstanding() == 1
    });
    assert_eq!(over(&all.ran), 20_000);
    let seen = over(&reported) + over(&all.caught);
    assert_eq!(seen, over(&all.panicked));
    let runs = Arc::new(AtomicUsize::new(0));
    for strand in &all.strands {
        let runs = Arc::clone(&runs);
        strand.post(move |account| {
            runs.fetch_add(account.runs, Ordering::Relaxed);
        });
    }
    until("all have said", || all.proactor.port().outstanding() == 1);
    assert_eq!(over(&runs), 20_000);
}

#[test]
fn whatever_comes_by_chance_runs_once_and_alone() {
    everywhere_once(by_chance);
}
