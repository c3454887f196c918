//! What other threads can do to a proactor of one thread, row by row of the table in its documentation: whatever it is, the
//! handlers that are bound here are called here, and dropped here.

use std::io::Write;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use proactor::net::TcpStream;
use proactor::{
    Batch, CancelOutcome, Completion, CompletionPort, LocalProactor, OperationKey, Proactor,
};

use super::common::{Random, SOON, everywhere_once, until};
use super::{on_both_backends, pair};

/// On which threads handlers were called, and on which they were dropped, called or not.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    called: Arc<Mutex<Vec<ThreadId>>>,
    dropped: Arc<Mutex<Vec<ThreadId>>>,
}

impl Seen {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            seen: self.clone(),
            _here: PhantomData,
        }
    }

    /// So many were called and dropped, all of them on this thread.
    pub(crate) fn only_here(&self, called: usize, dropped: usize) {
        let here = thread::current().id();
        for (what, seen, wanted) in [
            ("called", &self.called, called),
            ("dropped", &self.dropped, dropped),
        ] {
            let seen = seen.lock().expect("no panic");
            assert_eq!(*seen, vec![here; wanted], "{what}");
        }
    }
}

/// Something that is not `Send`, and says on which thread it is used.
pub(crate) struct Mark {
    seen: Seen,
    _here: PhantomData<*const ()>,
}

impl Mark {
    pub(crate) fn called(&self) {
        let here = thread::current().id();
        self.seen.called.lock().expect("no panic").push(here);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let here = thread::current().id();
        self.seen.dropped.lock().expect("no panic").push(here);
    }
}

/// A read that waits for ever, its handler bound here.
fn read_for_ever(local: &LocalProactor, stream: &TcpStream, seen: &Seen) -> OperationKey {
    let mark = seen.mark();
    let reading = stream.read(Vec::with_capacity(8)).here(local);
    reading.then(move |(result, buf)| {
        assert!(result.is_err_and(|error| error.is_cancelled()));
        assert_eq!(buf.capacity(), 8, "the buffer comes back");
        mark.called();
    })
}

#[test]
fn a_call_posted_elsewhere_wakes_it_and_runs_here() {
    on_both_backends(|local| {
        let (remote, guard) = (local.remote().clone(), local.guard());
        let here = thread::current().id();
        let elsewhere = thread::spawn(move || {
            // While nothing else is to do here: after that it sleeps.
            until("the other thread waits", || remote.outstanding() == 1);
            remote.post(move || {
                assert_eq!(thread::current().id(), here);
                drop(guard);
            });
        });
        assert_eq!(local.run(), 1);
        elsewhere.join().unwrap();
    });
}

#[test]
fn a_stream_that_went_elsewhere_has_its_handlers_called_here() {
    on_both_backends(|local| {
        let (stream, mut client) = pair(&local);
        let (here, guard) = (thread::current().id(), local.guard());
        let elsewhere = thread::spawn(move || {
            client.write_all(b"hello").unwrap();
            stream.read_exact([0; 5]).then(move |(result, _)| {
                assert_eq!(result.unwrap(), 5);
                assert_eq!(thread::current().id(), here);
                drop((guard, stream));
            });
            client
        });
        assert_eq!(local.run(), 1);
        elsewhere.join().unwrap();
    });
}

#[test]
fn a_wait_elsewhere_is_served_from_here_and_never_works_for_it() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let (stream, mut client) = pair(&local);
        for _ in 0..10 {
            let mark = seen.mark();
            local.post(move || mark.called());
        }
        let elsewhere = thread::spawn(move || {
            let (result, buf) = stream.read_exact([0; 5]).wait();
            assert_eq!((result.unwrap(), &buf), (5, b"hello"));
            stream.write_all("done").wait().0.unwrap()
        });
        client.write_all(b"hello").unwrap();
        until("the read has begun", || local.remote().outstanding() == 11);
        // Its output is there, and so is work for ten handlers; only nobody runs this proactor.
        thread::sleep(Duration::from_millis(20)); // sleep: time in which the other thread could take it up, wrongly
        assert!(!elsewhere.is_finished());
        seen.only_here(0, 0);
        let guard = local.guard();
        while !elsewhere.is_finished() {
            local.run_for(Duration::from_millis(1));
        }
        drop(guard);
        local.run();
        assert_eq!(elsewhere.join().unwrap(), 4);
        seen.only_here(10, 10);
    });
}

type Way = fn(TcpStream, OperationKey, &CompletionPort);

const WAYS: [Way; 5] = [
    |stream, _, _| stream.close(),
    |stream, _, _| stream.cancel(),
    |stream, _, _| drop(stream),
    |_stream, key, remote| assert_eq!(remote.cancel(key), CancelOutcome::Requested),
    |_stream, _, remote| remote.close(), // the last: nothing opens afterwards
];

#[test]
fn what_is_cancelled_elsewhere_is_called_here_as_cancelled() {
    on_both_backends(|local| {
        for way in WAYS {
            let seen = Seen::default();
            let (stream, _client) = pair(&local);
            let key = read_for_ever(&local, &stream, &seen);
            let remote = local.remote().clone();
            let elsewhere = thread::spawn(move || way(stream, key, &remote));
            elsewhere.join().unwrap();
            seen.only_here(0, 0);
            assert_eq!(local.run(), 1);
            seen.only_here(1, 1);
        }
    });
}

/// Takes a completion of `local` by hand, on another thread, once there is one, and does `with` with it.
fn by_hand(local: &LocalProactor, with: fn(Completion)) {
    let remote = local.remote().clone();
    let taker = thread::spawn(move || {
        let mut batch = Batch::new();
        let deadline = Instant::now() + SOON;
        while batch.is_empty() {
            assert!(Instant::now() < deadline, "nothing is reaped");
            let seat = remote.seat().expect("nobody else waits");
            let reaped = seat.reap(&mut batch, Some(deadline));
            assert_eq!(reaped.expect("to wait"), batch.len());
        }
        batch.drain().for_each(with);
    });
    taker.join().expect("no panic");
}

#[test]
fn a_completion_that_another_thread_takes_by_hand_and_runs_is_called_here() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let (stream, mut client) = pair(&local);
        let mark = seen.mark();
        let reading = stream.read_exact([0; 5]).here(&local);
        reading.then(move |(result, buf)| {
            assert_eq!((result.unwrap(), &buf), (5, b"hello"));
            mark.called();
        });
        client.write_all(b"hello").unwrap();
        by_hand(&local, |completion| assert!(completion.run()));
        seen.only_here(0, 0);
        assert_eq!(local.run(), 1);
        seen.only_here(1, 1);
        assert_eq!(local.remote().outstanding(), 0);
    });
}

#[test]
fn a_completion_that_another_thread_takes_by_hand_and_drops_is_dropped_here() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let (stream, mut client) = pair(&local);
        let mark = seen.mark();
        let reading = stream.read([0; 5]).here(&local);
        reading.then(move |_| mark.called());
        client.write_all(b"hello").unwrap();
        by_hand(&local, drop);
        seen.only_here(0, 0);
        local.run();
        seen.only_here(0, 1);
        assert_eq!(local.remote().outstanding(), 0);
    });
}

#[test]
fn dropped_while_others_hold_its_streams_it_drops_its_handlers_here() {
    on_both_backends(|local| {
        let seen = Seen::default();
        let (stream, _client) = pair(&local);
        read_for_ever(&local, &stream, &seen);
        let remote = local.remote().clone();
        let gone = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&gone);
        let elsewhere = thread::spawn(move || {
            until("it is dropped", || over.load(Ordering::SeqCst));
            remote.post(|| unreachable!("it is gone"));
            // What is begun now, of whatever form, has no handler of the other thread's to meet.
            stream.read([0; 1]).then(|_| unreachable!("it is gone"));
            drop(stream);
            drop(remote); // the last of the port, perhaps
        });
        drop(local);
        seen.only_here(0, 1);
        gone.store(true, Ordering::SeqCst);
        elsewhere.join().unwrap();
        seen.only_here(0, 1);
    });
}

#[test]
fn dropped_under_a_thread_that_waits_on_it_that_wait_ends_as_cancelled() {
    on_both_backends(|local| {
        let (stream, _client) = pair(&local);
        let waiter = thread::spawn(move || stream.read([7; 1]).wait());
        until("the read has begun", || local.remote().outstanding() == 1);
        drop(local);
        let (result, buf) = waiter.join().unwrap();
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(buf, [7], "the buffer comes back");
    });
}

#[test]
fn a_handler_bound_here_of_a_pool_that_is_dropped_elsewhere_is_dropped_here() {
    on_both_backends(|local| {
        let pool = Proactor::builder().build().unwrap();
        let seen = Seen::default();
        let mark = seen.mark();
        let sleeping = pool.sleep(Duration::from_secs(3600)).here(&local);
        sleeping.then(move |_| mark.called());
        thread::spawn(move || drop(pool)).join().unwrap();
        seen.only_here(0, 0);
        local.run();
        seen.only_here(0, 1);
        assert_eq!(local.remote().outstanding(), 0, "nothing counts any more");
    });
}

/// What another thread does now and then: post, cancel, close, take by hand, wait.
fn disturb(
    remote: &CompletionPort,
    (key, stream): (OperationKey, TcpStream),
    random: &mut Random,
    calls: &Arc<AtomicUsize>,
) {
    let calls = Arc::clone(calls);
    remote.post(move || {
        calls.fetch_add(1, Ordering::Relaxed);
    });
    match random.next() % 5 {
        0 => drop(stream),
        1 => {
            remote.cancel(key);
            stream.close();
        }
        2 => {
            let (result, _) = stream.write_all([0; 4]).wait();
            result.expect("the kernel takes four bytes");
        }
        3 => {
            if let Some(seat) = remote.seat() {
                let mut batch = Batch::new();
                let now = Instant::now();
                seat.reap(&mut batch, Some(now)).expect("to look");
                for completion in batch.drain() {
                    completion.run();
                }
            }
            stream.cancel();
        }
        _ => stream.cancel(),
    }
}

#[test]
fn under_all_that_at_once_each_handler_is_called_once_and_here() {
    const ROUNDS: usize = 200;
    on_both_backends(|local| {
        let mut random = Random::new();
        let (to, from) = mpsc::channel();
        let from = Arc::new(Mutex::new(from));
        let (seen, calls) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
        let disturbers: Vec<_> = (0..3)
            .map(|_| {
                let (from, calls) = (Arc::clone(&from), Arc::clone(&calls));
                let (remote, guard) = (local.remote().clone(), local.guard());
                let mut random = random.fork();
                thread::spawn(move || {
                    loop {
                        let next = from.lock().unwrap().recv();
                        let Ok(next) = next else { break };
                        disturb(&remote, next, &mut random, &calls);
                    }
                    drop(guard);
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            let (stream, _client) = pair(&local);
            let mark = seen.mark();
            let reading = stream.read([0; 8]).here(&local);
            let key = reading.then(move |_| mark.called());
            to.send((key, stream)).unwrap();
            local.poll();
        }
        drop(to);
        local.run();
        disturbers
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        local.run();
        seen.only_here(ROUNDS, ROUNDS);
        assert_eq!(calls.load(Ordering::Relaxed), ROUNDS);
        assert_eq!(local.remote().outstanding(), 0);
    });
}

#[test]
fn it_needs_no_thread_that_is_a_proactors() {
    // Built and run inside a handler of another, on whichever thread that is.
    everywhere_once(|setup| {
        let pool = setup.build();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        pool.post(move || {
            let local = LocalProactor::new().unwrap();
            let port = local.port().clone();
            local.post(move || port.post(|| ()));
            count.store(local.run(), Ordering::SeqCst);
        });
        pool.run();
        assert_eq!(ran.load(Ordering::SeqCst), 2);
    });
}
