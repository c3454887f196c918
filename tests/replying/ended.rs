//! Ended from outside, in each of its states: once, with what was not sent, and with nothing left behind.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use proactor::net::{Reply, TcpStream};
use proactor::{
    BufferPool, CancelOutcome, CancelToken, CompletionPort, Kind, OperationKey, Proactor,
};

use super::common::{SOON, Setup, everywhere, pair, setups, until, within};
use super::{LARGE, Output, are_all, assert_closed, next, replying};

/// What it is at when it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// For bytes.
    Waiting,
    /// Its handler is.
    Running,
    /// In the middle of a reply, which the peer does not read.
    Stuck,
    /// Before a reply, for another's write, which the peer does not read.
    Behind,
}

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Key,
    Token,
    Limit,
    Cancel,
    Close,
    ClosePort,
    Shutdown,
    Drop,
}

impl By {
    /// Whether the stream is closed by it.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::Close | Self::ClosePort | Self::Shutdown | Self::Drop
        )
    }
}

/// Says so when it is dropped.
struct Watched(Arc<AtomicUsize>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One that is under way.
struct Underway {
    proactor: Option<Proactor>,
    port: CompletionPort,
    stream: TcpStream,
    peer: StdStream,
    key: OperationKey,
    token: CancelToken,
    end: mpsc::Receiver<Output<Vec<u8>>>,
    /// Lets its handler go on.
    leave: mpsc::Sender<()>,
    /// How many of its handler and of its end's were dropped.
    drops: Arc<AtomicUsize>,
}

fn begin(setup: Setup, at: At, by: By) -> Underway {
    let proactor = setup.build();
    proactor.start().unwrap();
    let (stream, mut peer) = pair(&proactor);
    let (entered, enters) = mpsc::channel();
    let (leave, leaves) = mpsc::channel();
    let (to, end) = mpsc::channel();
    let drops = Arc::new(AtomicUsize::new(0));
    let watched = [(); 2].map(|()| Watched(Arc::clone(&drops)));
    let [of_each, of_end] = watched;
    let mut replying = stream.reply_each(&BufferPool::new(1000), move |bytes| {
        let _watched = &of_each;
        assert_eq!(bytes[..], *b"first", "that was not to be read");
        entered.send(()).unwrap();
        match at {
            At::Stuck if by == By::Key => Reply::Last(vec![7; LARGE]),
            At::Stuck => Reply::Write(vec![7; LARGE]),
            At::Behind => Reply::Write(b"reply".to_vec()),
            At::Waiting | At::Running => {
                leaves.recv_timeout(SOON).expect("it may go on");
                Reply::Write(b"reply".to_vec())
            }
        }
    });
    if by == By::Limit {
        replying = replying.timeout(Duration::from_millis(30));
    }
    if at == At::Behind {
        stream.write_all(vec![3; LARGE]).then(drop);
        next(&mut peer, 1);
    }
    let token = CancelToken::new();
    let key = replying.cancel_with(&token).then(move |output| {
        drop(of_end);
        to.send(output).unwrap();
    });
    if at != At::Waiting {
        peer.write_all(b"first").unwrap();
        enters.recv_timeout(SOON).expect("it is called");
    }
    if at == At::Stuck {
        next(&mut peer, 1);
    }
    Underway {
        port: proactor.port().clone(),
        proactor: Some(proactor),
        stream,
        peer,
        key,
        token,
        end,
        leave,
        drops,
    }
}

/// Ends it; then lets its handler go on, if that runs.
fn end(underway: &mut Underway, by: By) {
    let begun = Instant::now();
    let proactor = underway.proactor.take().unwrap();
    let (port, stream) = (&underway.port, &underway.stream);
    match by {
        By::Key => assert_eq!(port.cancel(underway.key), CancelOutcome::Requested),
        By::Token => underway.token.cancel(),
        By::Limit => until("its time is over", || {
            begun.elapsed() > Duration::from_millis(40)
        }),
        By::Cancel => stream.cancel(),
        By::Close => stream.close(),
        By::ClosePort => port.close(),
        By::Shutdown | By::Drop => return end_all(underway, proactor, by),
    }
    let _ = underway.leave.send(());
    underway.proactor = Some(proactor);
}

/// Ends the proactor, which waits for the handler.
fn end_all(underway: &mut Underway, proactor: Proactor, by: By) {
    let leave = underway.leave.clone();
    let ending = thread::spawn(move || {
        if by == By::Shutdown {
            proactor.shutdown(Instant::now());
            return;
        }
        proactor.stop();
        let _ = leave.send(());
        drop(proactor);
    });
    if by == By::Shutdown {
        until("it is closed", || underway.stream.local_addr().is_err());
        let _ = underway.leave.send(());
    }
    ending.join().unwrap();
}

fn check(mut underway: Underway, at: At, by: By) {
    let Some((result, unsent)) = underway.end.recv_timeout(SOON).ok() else {
        assert_eq!(by, By::Drop, "its handler was not called");
        return check_dropped(underway, at);
    };
    assert_ne!(by, By::Drop, "nobody runs handlers any more");
    let error = result.expect_err("it was ended");
    match by {
        By::Limit => assert!(error.is_timeout(), "{error}"),
        _ => assert!(error.is_cancelled(), "{error}"),
    }
    let seen = (error.operation(), unsent.map(|reply| reply.len()));
    let gone = error.transferred();
    match at {
        At::Waiting => assert_eq!((seen, gone), ((Kind::Read, None), 0)),
        At::Running if by.closes() => assert_eq!((seen, gone), ((Kind::Write, Some(5)), 0)),
        At::Running => {
            assert_eq!((seen, gone), ((Kind::Read, None), 0));
            assert_eq!(next(&mut underway.peer, 5), b"reply");
        }
        At::Stuck => {
            assert_eq!(seen, (Kind::Write, Some(LARGE)));
            let came = next(&mut underway.peer, gone - 1);
            assert!(are_all(&came, 7));
        }
        At::Behind => {
            assert_eq!((seen, gone), ((Kind::Write, Some(5)), 0));
            return check_behind(underway, by);
        }
    }
    if !by.closes() {
        underway.peer.write_all(b"more").unwrap();
        let (result, bytes) = underway.stream.read_exact([0; 4]).timeout(SOON).wait();
        assert_eq!((result.unwrap(), &bytes), (4, b"more"));
        assert_eq!(underway.stream.write_all("word").wait().0.unwrap(), 4);
        assert_eq!(next(&mut underway.peer, 4), b"word");
        drop(underway.stream);
    }
    assert_closed(&mut underway.peer);
    assert_eq!(underway.port.cancel(underway.key), CancelOutcome::TooLate);
    let of_start = usize::from(by != By::Shutdown);
    until("nothing is outstanding", || {
        underway.port.outstanding() == of_start
    });
    assert_eq!(underway.drops.load(Ordering::SeqCst), 2);
}

/// The other's write is whole, unless it was ended, too; nothing of the reply has come.
fn check_behind(mut underway: Underway, by: By) {
    let mut others = Vec::new();
    if by.closes() {
        underway
            .peer
            .read_to_end(&mut others)
            .expect("it is closed");
    } else if by == By::Cancel {
        drop(underway.stream);
        underway
            .peer
            .read_to_end(&mut others)
            .expect("it is closed");
    } else {
        others = next(&mut underway.peer, LARGE - 1);
        drop(underway.stream);
        assert_closed(&mut underway.peer);
    }
    assert!(are_all(&others, 3));
    assert_eq!(underway.drops.load(Ordering::SeqCst), 2);
}

/// The proactor was dropped, and with it the handlers.
fn check_dropped(mut underway: Underway, at: At) {
    assert_eq!(underway.drops.load(Ordering::SeqCst), 2);
    assert_eq!(underway.port.outstanding(), 0);
    let mut rest = Vec::new();
    underway.peer.read_to_end(&mut rest).expect("it is closed");
    match at {
        At::Waiting => assert!(rest.is_empty()),
        At::Running => assert!(rest.is_empty() || rest == *b"reply", "{rest:?}"),
        At::Stuck => assert!(are_all(&rest, 7)),
        At::Behind => assert!(are_all(&rest, 3)),
    }
}

fn each_way(at: At) {
    let ways = [
        By::Key,
        By::Token,
        By::Limit,
        By::Cancel,
        By::Close,
        By::ClosePort,
        By::Shutdown,
        By::Drop,
    ];
    for setup in setups(&[1, 2, 4]) {
        for by in ways {
            within(&format!("{setup}, {at:?}, {by:?}"), move || {
                let mut underway = begin(setup, at, by);
                end(&mut underway, by);
                check(underway, at, by);
            });
        }
    }
}

#[test]
fn while_it_waits() {
    each_way(At::Waiting);
}

#[test]
fn while_its_handler_runs() {
    each_way(At::Running);
}

#[test]
fn in_the_middle_of_a_reply() {
    each_way(At::Stuck);
}

#[test]
fn behind_another_write() {
    each_way(At::Behind);
}

/// Dropped by its own handler, the proactor ends when that returns.
#[test]
fn by_its_own_handler_with_the_proactor() {
    everywhere(|setup| {
        for len in [4, LARGE] {
            let proactor = setup.build();
            let (stream, mut peer) = pair(&proactor);
            let port = proactor.port().clone();
            let held = Arc::new(Mutex::new(None));
            let its = Arc::clone(&held);
            let end = replying(&stream, move |_| {
                drop::<Option<Proactor>>(its.lock().unwrap().take());
                Reply::Write(vec![1; len])
            });
            proactor.start().unwrap();
            *held.lock().unwrap() = Some(proactor);
            peer.write_all(b"first").unwrap();
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).expect("it is closed");
            assert!(end.recv().is_err(), "its handler is dropped uncalled");
            until("nothing is outstanding", || port.outstanding() == 0);
            assert!(stream.local_addr().is_err());
        }
    });
}
