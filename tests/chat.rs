//! The chat examples as their users meet them: the protocol of Asio's C++11 chat example, clause by clause, a crowd, and two
//! clients that talk.
#![cfg(not(proactor_loom))]

#[path = "chat/client.rs"]
mod client;
#[path = "chat/crowd.rs"]
mod crowd;
#[path = "chat/endurance.rs"]
mod endurance;
#[path = "common/process.rs"]
mod process;
#[path = "../examples/chat_server/protocol.rs"]
mod protocol;
#[path = "../examples/chat_server/room.rs"]
#[allow(dead_code)] // the tests of it are here, not all its uses
mod room;
#[path = "chat/server.rs"]
mod server;

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process::{assert_fails, assert_helps, example, path_of};
use protocol::MOST_BODY_BYTES;
use room::HISTORY;
use server::{Member, Server, everywhere, frame, meet};

/// Headers and bodies as a lenient server takes them.
const LENIENT: [&[u8]; 14] = [
    b"   3abc",
    b"0003abc",
    b"3   abc",
    b" 3  abc",
    b"+003abc",
    b"3x  abc",
    b"3 99abc",
    b"3\0\0\0abc",
    b"\t\x0b\n3abc",
    b"abcd", // and no body
    b"    ",
    b"\0\0\0\0",
    b"  -0",
    b"+-99",
];

/// More than the kernel keeps of what nobody reads: 5 MB, in messages of the greatest length.
const FLOOD: usize = 10_000;

fn numbered(number: usize) -> Vec<u8> {
    frame(format!("number {number}").as_bytes())
}

fn large(number: usize) -> Vec<u8> {
    frame(format!("{number:0MOST_BODY_BYTES$}").as_bytes())
}

/// Two members, of whom the second reads little unless it is asked to.
fn talker_and_quiet(server: &Server) -> (Member, Member) {
    let mut members = [
        Member::connect(server.addresses[0]),
        Member::with_small_ears(server.addresses[0]),
    ];
    meet(&mut members);
    let [talker, quiet] = members;
    (talker, quiet)
}

/// Has `talker` say all of the flood, and hear it, in parts of which none is a backlog.
fn flood(talker: &mut Member) -> Vec<u8> {
    let mut said = Vec::new();
    for first in (0..FLOOD).step_by(50) {
        let part: Vec<u8> = (first..first + 50).flat_map(large).collect();
        talker.say(&part);
        talker.hears(&part);
        said.extend(part);
    }
    said
}

#[test]
fn a_message_goes_to_all_with_the_header_that_came() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let mut members: [Member; 3] = server.members();
        let longest = large(7);
        let said = [
            &LENIENT.concat(),
            &longest[..],
            &frame(b""),
            &frame(b"over"),
        ]
        .concat();
        members[1].say(&said);
        members.iter_mut().for_each(|member| member.hears(&said));
        drop(members);
        server.end();
    });
}

#[test]
fn a_message_may_come_byte_by_byte() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let mut members: [Member; 2] = server.members();
        let said = [&LENIENT.concat(), &frame(b"over")[..]].concat();
        said.chunks(1).for_each(|byte| members[0].say(byte));
        members.iter_mut().for_each(|member| member.hears(&said));
        drop(members);
        server.end();
    });
}

#[test]
fn a_message_is_heard_once_its_body_is_whole() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let [mut slow, mut swift]: [Member; 2] = server.members();
        let mut cut: Member = Member::connect(server.addresses[0]);
        cut.say(b"   8never");
        cut.finish(); // what is not whole is not said
        cut.rest();
        slow.say(b"  12first");
        swift.say(&frame(b"second"));
        let second = frame(b"second");
        slow.hears(&second);
        swift.hears(&second);
        slow.say(b", third");
        slow.hears(b"  12first, third");
        swift.hears(b"  12first, third");
        drop((slow, swift));
        server.end();
    });
}

#[test]
fn a_length_that_no_body_has_drops_the_connection_and_no_other() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let mut members: [Member; 2] = server.members();
        for header in [b" 513", b"9999", b"  -1", b"-512", b"-001"] {
            let mut bad = Member::connect(server.addresses[0]);
            bad.hear(); // of the history: it is a member now
            bad.say(header);
            bad.rest();
        }
        let said = frame(b"still here");
        members[0].say(&said);
        members.iter_mut().for_each(|member| member.hears(&said));
        drop(members);
        server.end();
    });
}

#[test]
fn who_joins_hears_the_last_hundred_messages_first() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let [mut talker]: [Member; 1] = server.members();
        let said: Vec<_> = (0..HISTORY + 5).map(numbered).collect();
        talker.say(&said.concat());
        talker.hears(&said.concat());
        let mut late = Member::connect(server.addresses[0]);
        late.hears(&said[5..].concat());
        late.say(&numbered(999));
        late.hears(&numbered(999)); // and nothing came between
        talker.hears(&numbered(999));
        drop((talker, late));
        server.end();
    });
}

#[test]
fn who_joins_while_others_talk_misses_nothing_and_hears_nothing_twice() {
    const MESSAGES: usize = 3000;
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let [mut talker]: [Member; 1] = server.members();
        talker.say(&(0..HISTORY).flat_map(numbered).collect::<Vec<_>>());
        talker.hears(&(0..HISTORY).flat_map(numbered).collect::<Vec<_>>());
        let address = server.addresses[0];
        let talking = thread::spawn(move || {
            for number in HISTORY..MESSAGES {
                talker.say(&numbered(number));
                talker.hears(&numbered(number));
            }
            talker
        });
        let mut joined = 0;
        while !talking.is_finished() && joined < 100 {
            let mut late = Member::connect(address);
            let first = String::from_utf8(late.hear()).expect("text");
            let number = first.rsplit_once(' ').and_then(|(_, n)| n.parse().ok());
            let next: usize = number.expect("a number");
            let expected = (next + 1..MESSAGES).take(HISTORY + 20).flat_map(numbered);
            late.hears(&expected.collect::<Vec<_>>());
            joined += 1;
        }
        drop(talking.join().expect("the talker"));
        assert!(joined > 0);
        server.end();
    });
}

#[test]
fn each_port_is_a_room_of_its_own() {
    everywhere(|arguments| {
        let mut command = example("chat_server");
        let server = Server::listening(command.args(["0", "0"]).args(arguments), 2);
        let mut rooms = [0, 1].map(|room| {
            let mut members = [(); 2].map(|()| Member::connect(server.addresses[room]));
            meet(&mut members);
            members
        });
        for (members, said) in rooms.iter_mut().zip([&b"one"[..], b"two"]) {
            members[0].say(&frame(said));
        }
        for (members, said) in rooms.iter_mut().zip([&b"one"[..], b"two"]) {
            members
                .iter_mut()
                .for_each(|member| member.hears(&frame(said)));
            let [first, second] = members;
            first.say(&frame(b"nothing between"));
            second.hears(&frame(b"nothing between"));
        }
        drop(rooms);
        server.end();
    });
}

#[test]
fn who_says_no_more_is_told_what_waits() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let (mut talker, mut quiet) = talker_and_quiet(&server);
        let said = flood(&mut talker);
        quiet.finish();
        quiet.hears(&said);
        // It may have been told more before it was known to say no more; this it was not.
        quiet.rest();
        talker.say(&frame(b"alone"));
        talker.hears(&frame(b"alone"));
        drop((talker, quiet));
        server.end();
    });
}

#[test]
fn who_reads_too_slowly_is_dropped_and_no_other() {
    everywhere(|arguments| {
        let server = Server::start(&[arguments, &["--backlog", "50"]].concat());
        let (mut talker, mut quiet) = talker_and_quiet(&server);
        let said = flood(&mut talker);
        assert!(quiet.bytes_until_lost() < said.len());
        let dropped = format!("dropped {}: ", quiet.local_addr());
        drop((talker, quiet));
        server.signal("-TERM");
        let stderr = server.ended();
        assert!(stderr.contains(&dropped), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    });
}

/// Its queue grows no more, so no backlog ends it.
#[test]
fn who_says_no_more_and_reads_nothing_is_dropped() {
    let patience = Duration::from_secs(1);
    let server = Server::start(&["--patience", "1"]);
    let (mut talker, mut quiet) = talker_and_quiet(&server);
    let said = flood(&mut talker);
    quiet.finish();
    let dropped = format!("dropped {}: it reads nothing", quiet.local_addr());
    let begun = Instant::now();
    while begun.elapsed() < 3 * patience {
        talker.say(&frame(b"and on it goes"));
        talker.hears(&frame(b"and on it goes"));
    }
    assert!(quiet.bytes_until_lost() < said.len());
    drop((talker, quiet));
    server.signal("-TERM");
    let stderr = server.ended();
    assert!(stderr.contains(&dropped), "{stderr}");
}

#[test]
fn a_signal_ends_it_when_what_waits_is_delivered() {
    everywhere(|arguments| {
        let server = Server::start(arguments);
        let (mut talker, mut quiet) = talker_and_quiet(&server);
        let said = flood(&mut talker);
        server.signal("-TERM");
        assert_eq!(talker.rest(), b"");
        let address = server.addresses[0];
        TcpStream::connect(address).expect_err("nobody accepts any more");
        drop(talker);
        assert!(quiet.rest() == said, "5 MB are not what was said");
        drop(quiet);
        assert_eq!(server.ended(), "");
    });
}

#[test]
fn a_signal_ends_it_though_somebody_neither_reads_nor_goes() {
    let server = Server::start(&[]);
    let mut members = [
        Member::connect(server.addresses[0]),
        Member::with_small_ears(server.addresses[0]),
    ];
    meet(&mut members);
    flood(&mut members[0]);
    let begin = Instant::now();
    server.signal("-INT");
    assert_eq!(server.ended(), "");
    assert!(begin.elapsed() < Duration::from_secs(30));
    drop(members);
}

#[cfg(unix)]
#[test]
fn without_descriptors_it_accepts_again_when_there_are_some() {
    everywhere(|arguments| {
        let mut command = Command::new("sh");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let limited = "ulimit -n 24 && exec \"$@\"";
        command
            .args(["-c", limited, "sh"])
            .arg(path_of("chat_server"));
        let mut server = Server::listening(command.arg("0").args(arguments), 1);
        let mut errors = BufReader::new(server.errors());
        let mut crowd = [(); 40].map(|()| Member::connect(server.addresses[0]));
        let last = crowd.len() - 1;
        crowd[last].say(&frame(b"let me in")); // it waits in the kernel's queue
        crowd[0].say(&frame(b"full"));
        crowd[0].hears(&frame(b"full"));
        let mut complaint = String::new(); // it comes while the crowd is there, not once it went
        errors.read_line(&mut complaint).expect("its complaint");
        assert!(complaint.starts_with("chat_server: accept "), "{complaint}");
        let mut crowd = Vec::from(crowd);
        let mut late = crowd.pop().expect("the last");
        drop(crowd);
        late.hears_at_last(&frame(b"let me in"));
        drop(late);
        server.end();
    });
}

#[test]
fn the_server_helps_and_refuses_bad_input_in_one_line() {
    let flags = [
        "PORT",
        "--bind",
        "--strategy",
        "--threads",
        "--backend",
        "--backlog",
        "--patience",
        "--help",
    ];
    assert_helps("chat_server", &flags);
    for (arguments, about) in [
        (&[][..], "PORT"),
        (&["70000"], "70000"),
        (&["http"], "http"),
        (&["0", "--strategy", "wishful"], "wishful"),
        (&["0", "--backend", "magic"], "magic"),
        (&["0", "--threads", "0"], "--threads"),
        (
            &["0", "--strategy", "single", "--threads", "2"],
            "threads(1)",
        ),
        (&["0", "--bind", "nowhere"], "nowhere"),
        (&["0", "--backlog", "0"], "--backlog"),
        (&["0", "--patience", "0"], "--patience"),
        (&["0", "--unheard-of"], "--unheard-of"),
    ] {
        assert_fails("chat_server", arguments, 2, about);
    }
}

#[test]
fn the_server_says_what_to_change_when_it_cannot_listen() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let port = address.port().to_string();
    let in_use = ["0", &port]; // nothing is said of the first, when the second is refused
    assert_fails("chat_server", &in_use, 1, &address.to_string());
    assert_fails("chat_server", &in_use, 1, "take another port");
    // TEST-NET-1 is nobody's address.
    let elsewhere = ["0", "--bind", "192.0.2.1"];
    assert_fails(
        "chat_server",
        &elsewhere,
        1,
        "--bind takes an address of this machine",
    );
}
