//! A large room for a while: all talk and hear everything in order, but for one, who reads slowly and is dropped.
//!
//! The size that is promised takes a release build, and some two minutes:
//! `cargo build --release --examples && PROACTOR_TEST_FULL=1 cargo test --release --test chat endurance -- --nocapture`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use proactor::Proactor;
use proactor::net::TcpStream;

use crate::process::{example, text};
use crate::protocol::{HEADER_BYTES, body_bytes};
use crate::server::{Member, STRATEGIES, Server, frame, meet};

/// What nothing here takes longer than.
const LIMIT: Duration = Duration::from_secs(180);
/// Of so many messages the slow reader reads one.
const SLOWNESS: usize = 50;
const BUFFER_BYTES: usize = 64 * 1024;

struct Size {
    clients: usize,
    duration: Duration,
    /// How many messages may wait for one: of each sender ten, of whom everybody says one and then hears it.
    backlog: usize,
}

impl Size {
    fn chosen() -> Self {
        let full = std::env::var_os("PROACTOR_TEST_FULL").is_some();
        let (clients, seconds) = if full { (1000, 30) } else { (32, 2) };
        Self {
            clients,
            duration: Duration::from_secs(seconds),
            backlog: 10 * clients,
        }
    }
}

/// A message that names its sender and its number, and whose length varies.
fn message(sender: usize, number: usize) -> Vec<u8> {
    let padding = padding(sender, number);
    frame(format!("{sender:04} {number:08} {:.<padding$}", "").as_bytes())
}

fn padding(sender: usize, number: usize) -> usize {
    (sender * 31 + number * 7) % 490
}

fn number_in(digits: &[u8]) -> usize {
    let digits = text(digits);
    let number = digits.parse();
    number.unwrap_or_else(|_| panic!("nobody said {digits}"))
}

/// What one has heard.
struct Heard {
    /// Of each sender, and in the end of nobody, the number to come.
    next: Vec<usize>,
    messages: usize,
    /// A digest of the order in which they came.
    order: usize,
}

impl Heard {
    fn nothing(clients: usize) -> Self {
        Self {
            next: vec![0; clients + 1],
            messages: 0,
            order: 0,
        }
    }

    /// Takes in a message with its header; says whose it was.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let (sender, number) = (number_in(&bytes[4..8]), number_in(&bytes[9..17]));
        assert_eq!(number, self.next[sender], "of {sender}");
        assert_eq!(bytes.len(), 18 + padding(sender, number));
        self.next[sender] += 1;
        self.messages += 1;
        self.order = self.order.rotate_left(7) ^ (sender << 32 | number);
        sender
    }
}

/// What the talkers share.
struct Talk {
    clients: usize,
    /// The time is over.
    late: AtomicBool,
    /// The slow reader was dropped.
    dropped: AtomicBool,
    /// How many have said their last.
    finished: AtomicUsize,
    ended: Sender<Heard>,
}

/// Says a message, and the next when it has heard that.
struct Talker {
    stream: TcpStream,
    number: usize,
    said: usize,
    heard: Heard,
    unread: Vec<u8>,
    talk: Arc<Talk>,
    /// How the slow reader is told that it may read one more.
    pace: Option<Sender<()>>,
}

impl Talker {
    fn say(&self, message: Vec<u8>) {
        let saying = self.stream.write_all(message);
        saying.then(|(said, _)| assert!(said.is_ok(), "{said:?}"));
    }

    /// Goes on: with the next message, or with the word that all is said, if nobody else has more to say.
    fn go_on(&mut self) {
        let talk = &self.talk;
        if talk.late.load(Ordering::Relaxed) && talk.dropped.load(Ordering::Relaxed) {
            if talk.finished.fetch_add(1, Ordering::AcqRel) + 1 == talk.clients {
                self.say(message(talk.clients, 0));
            }
        } else {
            self.say(message(self.number, self.said));
            self.said += 1;
        }
    }

    /// Takes in what was read; false if that was the end.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.unread.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(&header) = self.unread[at..].first_chunk::<HEADER_BYTES>() {
            let length = HEADER_BYTES + body_bytes(header).expect("a sound header");
            let Some(message) = self.unread[at..].get(..length) else {
                break;
            };
            let sender = self.heard.take(message);
            at += length;
            if sender == self.talk.clients {
                return false;
            }
            if sender == self.number {
                self.go_on();
            }
            if let Some(pace) = &self.pace {
                if self.heard.messages % SLOWNESS == 0 {
                    let _ = pace.send(()); // it may have been dropped
                }
            }
        }
        self.unread.drain(..at);
        true
    }
}

/// Reads, and takes in what came, until the end.
fn listen(mut talker: Talker, buffer: Vec<u8>) {
    talker.stream.read(buffer).then(move |(read, buffer)| {
        assert!(
            matches!(read, Ok(1..)),
            "talker {} was dropped: {read:?}",
            talker.number
        );
        if talker.take(&buffer) {
            listen(talker, buffer);
        } else {
            talker.talk.ended.send(talker.heard).expect("the test");
        }
    });
}

/// Reads a message each time it may, until it is dropped; gives how many it heard, all of them in order.
fn read_slowly(mut slow: Member, clients: usize, pace: &Receiver<()>) -> usize {
    let mut heard = Heard::nothing(clients);
    while pace.recv().is_ok() {
        let Some(message) = slow.hear_if_not_lost() else {
            break;
        };
        heard.take(&message);
    }
    heard.messages
}

/// So many members of the server's room, and one more with small ears.
fn gather(server: &Server, clients: usize) -> (Vec<Member>, Member) {
    let address = server.addresses[0];
    let mut members: Vec<_> = (0..clients).map(|_| Member::connect(address)).collect();
    members.push(Member::with_small_ears(address));
    meet(&mut members);
    let slow = members.pop().expect("the last");
    (members, slow)
}

/// Has all talk until the time is over and the slow reader was dropped.
fn talk_all(size: &Size, members: Vec<Member>, talk: Arc<Talk>, pace: Sender<()>) {
    let proactor = Proactor::builder().build().expect("a proactor");
    let mut pace = Some(pace);
    for (number, member) in members.into_iter().enumerate() {
        let mut talker = Talker {
            stream: TcpStream::from_std(&proactor, member.into_stream()).expect("a stream"),
            number,
            said: 0,
            heard: Heard::nothing(size.clients),
            unread: Vec::new(),
            talk: Arc::clone(&talk),
            pace: pace.take(),
        };
        talker.go_on();
        listen(talker, Vec::with_capacity(BUFFER_BYTES));
    }
    let time = proactor.sleep(size.duration);
    time.then(move |_| talk.late.store(true, Ordering::Relaxed));
    proactor.run();
}

/// How many messages each of so many has heard: all the same, in one order, and of each sender the first, the second and so on.
fn agreed(ends: &Receiver<Heard>, clients: usize) -> usize {
    let heard: Vec<Heard> = ends.iter().collect();
    assert_eq!(heard.len(), clients);
    for one in &heard {
        assert_eq!(one.next, heard[0].next);
        assert_eq!(one.order, heard[0].order, "another order");
    }
    heard[0].messages
}

fn endure(strategy: &str, size: &Size) {
    let backlog = size.backlog.to_string();
    let mut command = example("chat_server");
    command.args(["0", "--strategy", strategy, "--backlog", &backlog]);
    let mut server = Server::listening_for(&mut command, 1, LIMIT);
    let (members, slow) = gather(&server, size.clients);
    let slow_address = slow.local_addr();

    let (ended, ends) = channel();
    let talk = Arc::new(Talk {
        clients: size.clients,
        late: AtomicBool::new(false),
        dropped: AtomicBool::new(false),
        finished: AtomicUsize::new(0),
        ended,
    });
    let (pace, paces) = channel();
    let begin = Instant::now();
    let reading = thread::spawn({
        let clients = size.clients;
        move || read_slowly(slow, clients, &paces)
    });
    let errors = thread::spawn({
        let (talk, mut errors) = (Arc::clone(&talk), BufReader::new(server.errors()));
        move || {
            let mut line = String::new();
            errors.read_line(&mut line).expect("a line");
            talk.dropped.store(true, Ordering::Relaxed);
            (line, begin.elapsed(), errors)
        }
    });
    talk_all(size, members, talk, pace);
    let elapsed = begin.elapsed();
    let peak = peak_memory(server.pid());
    let said = agreed(&ends, size.clients);
    assert!(elapsed >= size.duration);
    let slow_heard = reading.join().expect("the slow reader");
    assert!(slow_heard < said);
    let (line, dropped_after, mut errors) = errors.join().expect("its errors");
    let expected =
        format!("chat_server: dropped {slow_address}: it reads too slowly, see --backlog\n");
    assert_eq!(line, expected);
    server.end();
    let mut rest = String::new();
    errors.read_line(&mut rest).expect("the end");
    assert_eq!(rest, "", "nobody else is dropped");
    println!(
        "{strategy}: {} clients for {elapsed:.1?}: {said} messages, {} deliveries; the slow reader was dropped after \
         {dropped_after:.1?}, when it had read {slow_heard}; the server's memory: {peak} at most",
        size.clients,
        said * size.clients
    );
}

/// The most memory that a process had until now, where the system tells.
fn peak_memory(process: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap_or("unknown").trim().to_owned()
}

#[test]
fn all_hear_all_in_order_for_as_long_as_they_talk_though_one_reads_slowly() {
    let size = Size::chosen();
    #[cfg(unix)]
    more_descriptors(u64::try_from(size.clients).expect("a few") + 256);
    for strategy in STRATEGIES {
        endure(strategy, &size);
    }
}

/// Raises the limit of this process and the servers that it starts, if it is lower.
#[cfg(unix)]
fn more_descriptors(wanted: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit).expect("the hard limit to be enough: see ulimit -Hn");
    }
}
