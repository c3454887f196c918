//! Clients as processes: with a server of theirs, and with one that only a test could be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};
use std::thread;

use crate::process::{Watchdog, assert_fails, assert_helps, example, output_of, text};
use crate::protocol::MOST_BODY_BYTES;
use crate::server::{Member, STRATEGIES, Server, frame};

/// A chat client with open ears.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _watchdog: Watchdog,
}

impl Client {
    fn start(host: &str, port: &str) -> Self {
        let mut command = example("chat_client");
        let mut child = command
            .args([host, port])
            .stdin(Stdio::piped())
            .spawn()
            .expect("to start the client");
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")),
            _watchdog: Watchdog::watch(&child),
            child,
        }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("to type");
    }

    fn prints(&mut self, lines: &[&str]) {
        for expected in lines {
            let mut line = String::new();
            self.stdout.read_line(&mut line).expect("a line");
            assert_eq!(line, format!("{expected}\n"));
        }
    }

    /// The end of its stdin, and what it prints until it ends.
    fn finish(self) -> Output {
        let Self {
            child,
            stdin,
            mut stdout,
            _watchdog,
        } = self;
        drop(stdin);
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).expect("the rest");
        let mut output = child.wait_with_output().expect("its end");
        output.stdout = rest;
        output
    }
}

fn assert_ended(output: &Output, status: i32, stdout: &str, about: &str) {
    let said = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), said.0),
        (Some(status), stdout),
        "{said:?}"
    );
    assert!(said.1.contains(about), "{about:?} is not in {said:?}");
    assert_eq!(said.1.is_empty(), about.is_empty(), "{said:?}");
}

#[test]
fn two_clients_talk() {
    for strategy in STRATEGIES {
        let server = Server::start(&["--strategy", strategy]);
        let mut ann = Client::start("localhost", &server.port());
        ann.type_line("is anybody here?");
        ann.prints(&["is anybody here?"]);
        let mut bob = Client::start("127.0.0.1", &server.port());
        bob.prints(&["is anybody here?"]);
        bob.type_line("I am");
        bob.type_line("");
        bob.type_line(&"x".repeat(MOST_BODY_BYTES));
        let lines = ["I am", "", &"x".repeat(MOST_BODY_BYTES)];
        ann.prints(&lines);
        bob.prints(&lines);
        ann.type_line("farewell");
        assert_ended(&ann.finish(), 0, "farewell\n", "");
        bob.prints(&["farewell"]);
        write!(bob.stdin, "the last line has no end").expect("to type");
        assert_ended(&bob.finish(), 0, "the last line has no end\n", "");
        server.end();
    }
}

#[test]
fn what_others_say_is_one_line_and_does_not_steer_the_terminal() {
    let server = Server::start(&[]);
    let mut client = Client::start("127.0.0.1", &server.port());
    client.type_line("here");
    client.prints(&["here"]);
    let mut talker = Member::connect(server.addresses[0]);
    talker.say(&frame(b"two\nlines, \x1b[31mred\tand a tab"));
    client.prints(&["two?lines, ?[31mred\tand a tab"]);
    assert_ended(&client.finish(), 0, "", "");
    drop(talker);
    server.end();
}

#[test]
fn a_client_says_all_of_a_long_stdin_and_prints_it() {
    let server = Server::start(&[]);
    let [mut listener]: [Member; 1] = server.members();
    let lines: Vec<_> = (0..5000).map(|number| format!("line {number}")).collect();
    let mut client = Client::start("127.0.0.1", &server.port());
    let all = lines.join("\n") + "\n";
    thread::scope(|scope| {
        scope.spawn(|| client.stdin.write_all(all.as_bytes()).expect("to type"));
        for line in &lines {
            listener.hears(&frame(line.as_bytes()));
        }
    });
    let output = client.finish();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).ends_with(&all));
    drop(listener);
    server.end();
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_others_are_said() {
    let server = Server::start(&[]);
    let mut client = Client::start("127.0.0.1", &server.port());
    client.type_line("before");
    client.type_line(&"x".repeat(MOST_BODY_BYTES + 1));
    client.type_line(&"y".repeat(100_000));
    client.type_line("after");
    let output = client.finish();
    assert_ended(
        &output,
        1,
        "before\nafter\n",
        "line 2 has more than 512 bytes",
    );
    assert!(text(&output.stderr).contains("line 3 has more than 512 bytes"));
    server.end();
}

#[test]
fn a_client_says_when_it_loses_the_server() {
    let server = Server::start(&[]);
    let mut client = Client::start("127.0.0.1", &server.port());
    client.type_line("hello");
    client.prints(&["hello"]);
    server.end(); // the client's stdin is still open
    let output = output_of(client.child);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(
        stderr,
        "chat_client: lost the server: the connection was closed\n"
    );
}

/// A client, and the server's end of its connection.
fn with_a_server_of_my_own() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let client = Client::start("127.0.0.1", &port.to_string());
    (client, listener.accept().expect("the client").0)
}

#[test]
fn a_client_prints_what_still_arrives_after_the_end_of_its_stdin() {
    let (mut client, mut server) = with_a_server_of_my_own();
    client.type_line("what I have to say");
    let finishing = thread::spawn(move || client.finish());
    let mut said = Vec::new();
    server.read_to_end(&mut said).expect("its end of file");
    assert_eq!(said, frame(b"what I have to say"));
    for message in [&b"0003one"[..], b"3   two", b"abcd", b"   3end"] {
        server.write_all(message).expect("to send");
    }
    drop(server);
    let output = finishing.join().expect("the thread");
    assert_ended(&output, 0, "one\ntwo\n\nend\n", "");
}

#[test]
fn a_client_fails_when_a_message_is_cut_or_senseless() {
    for (sent, about) in [
        (&b"   1a   9cut"[..], "the stream ended early"),
        (b"   1a  ", "the stream ended early"),
        (b"   1a 513", "\" 513\""),
        (b"   1a  -1", "\"  -1\""),
    ] {
        let (client, mut server) = with_a_server_of_my_own();
        server.write_all(sent).expect("to send");
        drop(server);
        let output = client.finish();
        assert_ended(&output, 1, "a\n", about);
        assert!(text(&output.stderr).starts_with("chat_client: lost the server: "));
    }
}

#[test]
fn a_client_says_where_nobody_listens() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = gone.local_addr().expect("its address");
    drop(gone);
    let port = address.port().to_string();
    let about = format!("connect {address}: ");
    assert_fails("chat_client", &["127.0.0.1", &port], 1, &about);
    let about = "is a chat server running there?";
    assert_fails("chat_client", &["localhost", &port], 1, about);
    let nobody = "x".repeat(64); // longer than a label of a name may be
    assert_fails("chat_client", &[&nobody, &port], 1, "cannot find the host");
}

#[test]
fn the_client_helps_and_refuses_bad_input_in_one_line() {
    assert_helps("chat_client", &["HOST", "PORT", "--help"]);
    for (arguments, about) in [
        (&[][..], "HOST"),
        (&["localhost"], "PORT"),
        (&["localhost", "0"], "PORT"),
        (&["localhost", "70000"], "70000"),
        (&["localhost", "http"], "http"),
        (&["localhost", "7007", "stray"], "stray"),
        (&["localhost", "7007", "--unheard-of"], "--unheard-of"),
    ] {
        assert_fails("chat_client", arguments, 2, about);
    }
}
