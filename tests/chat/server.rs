//! A chat server as a process, and those who talk to it over plain sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::process::{WATCHDOG, Watchdog, example, signal};
use crate::protocol::{HEADER_BYTES, body_bytes};

pub(crate) const STRATEGIES: [&str; 3] = ["single", "leader-followers", "work-stealing"];

/// Runs `body` with a command line for every strategy on both backends.
pub(crate) fn everywhere(body: impl Fn(&[&str])) {
    for strategy in STRATEGIES {
        for backend in ["auto", "portable"] {
            println!("with {strategy}, {backend}"); // shown when it fails
            body(&["--strategy", strategy, "--backend", backend]);
        }
    }
}

/// A chat server that listens.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Of its rooms.
    pub(crate) addresses: Vec<SocketAddr>,
    _watchdog: Watchdog,
}

impl Server {
    /// One with one room.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::listening(example("chat_server").arg("0").args(arguments), 1)
    }

    /// One with as many rooms as `command` says.
    pub(crate) fn listening(command: &mut Command, rooms: usize) -> Self {
        Self::listening_for(command, rooms, WATCHDOG)
    }

    /// One that may live for so long.
    pub(crate) fn listening_for(command: &mut Command, rooms: usize, limit: Duration) -> Self {
        let mut child = command.spawn().expect("to start the server");
        let watchdog = Watchdog::watch_for(&child, limit);
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line");
            let address = line.strip_prefix("listening on ").map(str::trim_end);
            let address = address.and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| panic!("not the line to expect: {line:?}"))
        };
        let addresses = (0..rooms).map(|_| address()).collect();
        Self {
            child,
            stdout,
            addresses,
            _watchdog: watchdog,
        }
    }

    pub(crate) fn port(&self) -> String {
        self.addresses[0].port().to_string()
    }

    /// So many members of the first room, who have heard nothing that they did not take in.
    pub(crate) fn members<const N: usize>(&self) -> [Member; N] {
        let mut members = [(); N].map(|()| Member::connect(self.addresses[0]));
        meet(&mut members);
        members
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its stderr, of which its end then knows nothing.
    pub(crate) fn errors(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("a pipe")
    }

    /// The graceful end, by SIGTERM.
    pub(crate) fn end(self) {
        self.signal("-TERM");
        assert_eq!(self.ended(), "");
    }

    /// Waits for the graceful end; gives what is on stderr.
    pub(crate) fn ended(mut self) -> String {
        let (mut rest, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).expect("the rest");
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut stderr).expect("the errors");
        }
        let status = self.child.wait().expect("its end");
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""), "{stderr}");
        stderr
    }
}

/// Waits until each of those who connected is in the room, and takes in what they were told until then.
pub(crate) fn meet(members: &mut [Member]) {
    static MEETINGS: AtomicUsize = AtomicUsize::new(0);
    let meeting = MEETINGS.fetch_add(1, Ordering::Relaxed);
    for (index, member) in members.iter_mut().enumerate() {
        let hello = frame(format!("hello {index} of meeting {meeting}").as_bytes());
        member.say(&hello);
        member.hears_at_last(&hello);
    }
    let begin = frame(format!("meeting {meeting} begins").as_bytes());
    members[0].say(&begin);
    for member in members {
        member.hears_at_last(&begin);
    }
}

/// Header and body, as a client sends them.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [format!("{:>4}", body.len()).as_bytes(), body].concat()
}

/// One end of a connection to a room.
pub(crate) struct Member(BufReader<TcpStream>);

impl Member {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("to connect"))
    }

    /// One for whom the kernel keeps only little that it does not read.
    pub(crate) fn with_small_ears(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&address.into()).expect("to connect");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        let limit = Some(WATCHDOG);
        stream.set_read_timeout(limit).expect("a time limit");
        stream.set_write_timeout(limit).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Self(BufReader::with_capacity(64 * 1024, stream))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.get_ref().local_addr().expect("an address")
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("to send");
    }

    /// The next message, header and body.
    pub(crate) fn hear(&mut self) -> Vec<u8> {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).expect("a header");
        let body = body_bytes(header).expect("a sound header");
        let mut message = [&header[..], &vec![0; body]].concat();
        let rest = &mut message[HEADER_BYTES..];
        self.0.read_exact(rest).expect("a body");
        message
    }

    /// The next message; none if the connection is lost before it is whole.
    pub(crate) fn hear_if_not_lost(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; HEADER_BYTES];
        self.0.read_exact(&mut message).ok()?;
        let header = *message.first_chunk().expect("a header");
        message.resize(HEADER_BYTES + body_bytes(header)?, 0);
        let body = &mut message[HEADER_BYTES..];
        self.0.read_exact(body).ok().map(|()| message)
    }

    /// The connection itself, if nothing was said that this member did not take in.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert_eq!(self.0.buffer(), b"");
        self.0.into_inner()
    }

    /// The next messages are these.
    pub(crate) fn hears(&mut self, messages: &[u8]) {
        let mut heard = vec![0; messages.len()];
        self.0.read_exact(&mut heard).expect("messages");
        let differs = heard.iter().zip(messages).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let from = at.saturating_sub(16);
            let part = |bytes: &[u8]| {
                bytes[from..bytes.len().min(at + 48)]
                    .escape_ascii()
                    .to_string()
            };
            let (heard, expected) = (part(&heard), part(messages));
            panic!("at byte {at}, heard \"..{heard}..\" instead of \"..{expected}..\"");
        }
    }

    /// Some next message is this one.
    pub(crate) fn hears_at_last(&mut self, message: &[u8]) {
        while self.hear() != message {}
    }

    /// Says that it will say no more.
    pub(crate) fn finish(&mut self) {
        let stream = self.0.get_ref();
        stream.shutdown(Shutdown::Write).expect("to half-close");
    }

    /// What comes until the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the end of file");
        rest
    }

    /// How many bytes come until the connection ends, in whatever way.
    pub(crate) fn bytes_until_lost(&mut self) -> usize {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest); // a reset is an end, too
        rest.len()
    }
}
