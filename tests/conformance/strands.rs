//! Strands: promises 10 to 16.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proactor::net::TcpStream;
use proactor::{CompletionPort, PanicPolicy, Proactor, Strand};

use crate::common::{everywhere, pair, setups, until, within};
use crate::outside::{compiles, refused};

/// Its state, when nothing of it is queued.
fn end<T>(strand: Strand<T>) -> T {
    strand.try_into_inner().expect("the last handle")
}

/// A handler's stay on a strand, seen by whoever comes meanwhile.
fn stay(inside: &AtomicBool) {
    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
    std::thread::yield_now();
    assert!(inside.swap(false, Ordering::SeqCst), "two at once");
}

/// By every way in: posts from outside and from handlers, dispatches, and operations.
#[test]
fn p10_a_strand_never_runs_two_at_once() {
    everywhere(|setup| {
        let proactor = Arc::new(setup.build());
        let strand = Strand::new(&*proactor, (AtomicBool::new(false), 0));
        for round in 0..200 {
            strand.post(|(inside, runs)| {
                stay(inside);
                *runs += 1;
            });
            let (mine, proactor) = (strand.clone(), Arc::clone(&proactor));
            proactor.clone().post(move || {
                mine.dispatch(|(inside, runs)| {
                    stay(inside);
                    *runs += 1;
                });
                let nap = proactor.sleep(Duration::from_micros(round));
                nap.on(&mine).then(|(inside, runs), _| {
                    stay(inside);
                    *runs += 1;
                });
            });
        }
        proactor.run();
        assert_eq!(end(strand).1, 600);
    });
}

/// Posted from outside while it runs, and from its own handlers.
#[test]
fn p11_a_strand_runs_in_the_order_of_posting() {
    everywhere(|setup| {
        const POSTS: usize = 2000;
        let proactor = setup.build();
        let strand = Strand::new(&proactor, Vec::new());
        let inner = Strand::new(&proactor, Vec::new());
        proactor.start().expect("threads");
        for number in 0..POSTS {
            let inner = inner.clone();
            strand.post(move |came| {
                came.push(number);
                inner.post(move |came| came.push(number));
            });
        }
        until("all have run", || proactor.port().outstanding() == 1);
        for strand in [strand, inner] {
            assert!(end(strand).into_iter().eq(0..POSTS));
        }
    });
}

/// What a strand has read of a stream.
struct Reader {
    stream: TcpStream,
    came: Vec<u8>,
}

fn read_on(strand: &Strand<Reader>, reader: &Reader) {
    let again = strand.clone();
    let read = reader.stream.read(vec![0; 1]).on(strand);
    read.then(move |reader, (result, buf)| {
        if result.is_ok_and(|count| count == 1) {
            reader.came.push(buf[0]);
            read_on(&again, reader);
        }
    });
}

/// Operations of one direction end in the order of their initiation, and so come to the strand; several are under way at once.
#[test]
fn p11_what_ends_in_order_comes_to_a_strand_in_order() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (stream, mut client) = pair(&proactor);
        let reader = Reader {
            stream,
            came: Vec::new(),
        };
        let strand = Strand::new(&proactor, reader);
        let mine = strand.clone();
        strand.post(move |reader| (0..5).for_each(|_| read_on(&mine, reader)));
        let bytes: Vec<u8> = (0..5000_u32)
            .map(|number| number.to_le_bytes()[0])
            .collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            for part in sent.chunks(7) {
                client.write_all(part).expect("a reader");
            }
        });
        proactor.run();
        writer.join().expect("it writes");
        assert!(end(strand).came == bytes, "out of order, or lost");
    });
}

#[test]
fn p12_a_strand_knows_when_this_thread_runs_it() {
    everywhere(|setup| {
        let proactor = setup.build();
        let (strand, other) = (Strand::new(&proactor, ()), Strand::new(&proactor, ()));
        let ran = Arc::new(AtomicUsize::new(0));
        strand.post({
            let (strand, other, ran) = (strand.clone(), other.clone(), Arc::clone(&ran));
            move |()| {
                assert!(strand.is_current() && !other.is_current());
                let elsewhere = strand.clone();
                let there = std::thread::spawn(move || elsewhere.is_current());
                assert!(
                    !there.join().expect("it looks"),
                    "it runs on this thread alone"
                );
                let inside = (strand.clone(), other.clone());
                other.dispatch(move |()| {
                    assert!(
                        inside.0.is_current() && inside.1.is_current(),
                        "entered at once"
                    );
                    ran.fetch_add(1, Ordering::SeqCst);
                });
                assert!(strand.is_current() && !other.is_current());
                assert_eq!(
                    format!("{strand:?}"),
                    "Strand { free: false, current: true, .. }"
                );
            }
        });
        proactor.post({
            let strand = strand.clone();
            move || assert!(!strand.is_current())
        });
        assert_eq!(proactor.run(), 2);
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        assert!(!strand.is_current() && !other.is_current());
    });
}

/// Under each policy: the panic goes where it says, and the strand goes on with the next, whose state is as the panic left it.
#[test]
fn p13_a_panic_does_not_wedge_a_strand() {
    fn panicking(proactor: &Proactor) -> Strand<Vec<u32>> {
        let strand = Strand::new(proactor, Vec::new());
        for number in 0..4 {
            strand.post(move |came| {
                came.push(number);
                if number % 2 == 0 {
                    std::panic::resume_unwind(Box::new(number));
                }
            });
        }
        strand
    }
    everywhere(|setup| {
        let proactor = setup.build();
        let strand = panicking(&proactor);
        let mut panics = 0;
        while proactor.port().outstanding() > 0 {
            let run = std::panic::AssertUnwindSafe(|| proactor.run());
            panics += usize::from(std::panic::catch_unwind(run).is_err());
        }
        // Another thread may run the second before it hears of the first: `run` passes one of a run's panics on.
        let least = if setup.threads == 1 { 2 } else { 1 };
        assert!((least..=2).contains(&panics), "{setup}: {panics} panics");
        assert_eq!(end(strand), [0, 1, 2, 3]);

        let count = Arc::new(AtomicUsize::new(0));
        let report: proactor::PanicHook = {
            let count = Arc::clone(&count);
            Arc::new(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        let policies = [
            PanicPolicy::Isolate(Arc::clone(&report)),
            PanicPolicy::Stop(report),
        ];
        for policy in policies {
            let proactor = setup.builder().panic_policy(policy).build();
            let proactor = proactor.expect("a setup is sound");
            let strand = panicking(&proactor);
            while proactor.port().outstanding() > 0 {
                proactor.restart();
                proactor.run();
            }
            assert_eq!(end(strand), [0, 1, 2, 3]);
        }
        assert_eq!(count.load(Ordering::SeqCst), 4);
    });
}

/// Counts its drops.
struct Tell(Arc<AtomicUsize>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// How many of those that `make` makes are gone after it.
fn gone(make: impl FnOnce(&dyn Fn() -> Tell)) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    make(&|| Tell(Arc::clone(&count)));
    count.load(Ordering::SeqCst)
}

#[test]
fn p14_a_strand_dropped_with_work_queued_ends_cleanly() {
    // The last handle goes: what is queued runs, and then the state goes.
    everywhere(|setup| {
        let ran = Arc::new(AtomicUsize::new(0));
        let gone = gone(|tell| {
            let proactor = setup.build();
            let strand = Strand::new(&proactor, tell());
            let weak = strand.downgrade();
            for _ in 0..10 {
                let (call, ran) = (tell(), Arc::clone(&ran));
                strand.post(move |_| {
                    drop(call);
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            }
            drop(strand);
            assert!(weak.upgrade().is_some(), "what is queued keeps it");
            assert_eq!(proactor.run(), 10);
            assert!(weak.upgrade().is_none());
        });
        assert_eq!((gone, ran.load(Ordering::SeqCst)), (11, 10));
    });
    // The proactor goes: what is queued is dropped uncalled, also a long queue, and each that holds the strand.
    everywhere(|setup| {
        let gone = gone(|tell| {
            let proactor = setup.build();
            let strand = Strand::new(&proactor, tell());
            for _ in 0..20_000 {
                let (call, mine) = (tell(), strand.clone());
                strand.post(move |_| drop((call, mine)));
            }
            let nap = proactor.sleep(Duration::from_secs(100));
            let call = tell();
            nap.on(&strand).then(move |_, _| drop(call));
            drop(proactor);
            assert!(
                strand.try_into_inner().is_ok(),
                "nothing is left of the queue"
            );
        });
        assert_eq!(gone, 20_002);
    });
}

/// State that owns the stream whose handler holds the strand is a circle until the stream's end; the proactor's drop breaks it, too.
#[test]
fn p14_a_circle_of_strand_and_stream_goes_with_the_proactor() {
    everywhere(|setup| {
        let gone = gone(|tell| {
            let proactor = setup.build();
            let (stream, _client) = pair(&proactor);
            let strand = Strand::new(&proactor, (stream, tell()));
            let mine = strand.clone();
            strand.post(move |(stream, _)| {
                stream.read(vec![0; 10]).on(&mine).then(|_, _| ());
            });
            drop(strand);
            assert_eq!(proactor.poll(), 1);
            drop(proactor);
        });
        assert_eq!(gone, 1);
    });
}

/// As a port that is used alone goes, and as a completion that is let in is dropped by hand.
#[test]
fn p14_what_is_queued_on_a_port_used_alone_goes_with_it() {
    within("a port alone", || {
        let gone = gone(|tell| {
            let port = CompletionPort::new().expect("a port");
            let strand = Strand::new(&port, tell());
            for _ in 0..20_000 {
                let (call, mine) = (tell(), strand.clone());
                strand.post(move |_| drop((call, mine)));
            }
            assert!(port.take().expect("the first is let in").run());
            drop(port.take().expect("then the second"));
            assert_eq!(port.outstanding(), 19_998);
            drop(port);
            assert!(strand.port().is_none());
            let call = tell();
            strand.post(move |_| drop(call)); // goes at once
            assert!(
                strand.try_into_inner().is_ok(),
                "nothing is left of the queue"
            );
        });
        assert_eq!(gone, 20_002);
    });
}

/// One strand is busy until every other one has run, by whichever way; it takes a second thread, but no more.
#[test]
fn p15_strands_do_not_wait_for_each_other() {
    const OTHERS: usize = 1000;
    for setup in setups(&[2, 4])
        .into_iter()
        .filter(|setup| setup.threads > 1)
    {
        within(&setup.to_string(), move || {
            let proactor = setup.build();
            let ran = Arc::new(AtomicUsize::new(0));
            let busy = Strand::new(&proactor, 0);
            busy.post({
                let ran = Arc::clone(&ran);
                move |_| {
                    until("all others have run", || {
                        ran.load(Ordering::SeqCst) == OTHERS
                    });
                }
            });
            for _ in 0..OTHERS {
                busy.post(|calls| *calls += 1);
                let ran = Arc::clone(&ran);
                Strand::new(&proactor, ()).post(move |()| {
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            }
            proactor.run();
            assert_eq!(end(busy), OTHERS);
        });
    }
}

/// What a thread has put by to run itself is long; the strand that ran on that thread goes on elsewhere.
#[test]
fn p15_a_strand_does_not_wait_for_what_a_thread_has_put_by() {
    for setup in setups(&[2, 4])
        .into_iter()
        .filter(|setup| setup.threads > 1)
    {
        within(&setup.to_string(), move || {
            let proactor = setup.build();
            let gone_on = Arc::new(AtomicBool::new(false));
            let strand = Strand::new(&proactor, ());
            let port = proactor.port().clone();
            strand.post({
                let (strand, gone_on) = (strand.clone(), Arc::clone(&gone_on));
                move |()| {
                    let seen = Arc::clone(&gone_on);
                    port.defer(move || until("the strand goes on", || seen.load(Ordering::SeqCst)));
                    strand.post(move |()| gone_on.store(true, Ordering::SeqCst));
                }
            });
            proactor.run();
        });
    }
}

/// Each snippet that is refused, why, and its cure.
const REFUSED: [(&str, &str, &str); 4] = [
    // The state is not to be had from outside.
    (
        "total.state += 1;",
        "E0609",
        "total.post(|total| *total += 1);",
    ),
    ("**total += 1;", "E0614", "total.post(|total| *total += 1);"),
    // Nor does it leave the handler.
    (
        "let mut kept: Option<&mut u32> = None; total.post(move |total| kept = Some(total));",
        "E0521",
        "let mut kept: Option<u32> = None; total.post(move |total| kept = Some(*total));",
    ),
    // What a handler brings along must stand other threads, too.
    (
        "let seen = std::rc::Rc::new(std::cell::Cell::new(0)); total.post(move |total| seen.set(*total));",
        "E0277",
        "let seen = Strand::new(proactor, 0); total.post(move |total| { let now = *total; seen.post(move |seen| *seen = now); });",
    ),
];

#[test]
fn p16_access_that_is_not_serialised_does_not_compile() {
    let program = |change: &str| {
        format!(
            "use proactor::{{Proactor, Strand}};\n\
             #[allow(unused)]\n\
             pub fn count(proactor: &Proactor, total: &Strand<u32>) {{ {change} }}\n"
        )
    };
    for (snippet, error, cure) in REFUSED {
        refused(&program(snippet), error);
        compiles(&program(cure));
    }
}
