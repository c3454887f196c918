//! A crowd: a hundred clients, who say ten thousand messages, of which each hears every one.

use std::thread;

use crate::process::text;
use crate::protocol::MOST_BODY_BYTES;
use crate::server::{Member, STRATEGIES, Server, frame};

const CLIENTS: usize = 100;
const EACH_SAYS: usize = 100;

/// A message that names its sender and its number, and whose length varies.
fn said_by(sender: usize, number: usize) -> Vec<u8> {
    let length = 8 + (sender * 31 + number * 7) % 60;
    // Now and then one that is as long as can be.
    let length = if (sender + number) % 97 == 0 {
        MOST_BODY_BYTES
    } else {
        length
    };
    frame(format!("{sender:03} {number:03} {:.<1$}", "", length - 8).as_bytes())
}

/// Who said it, and which of theirs it is.
fn told_apart(message: &[u8]) -> (usize, usize) {
    let parts: Vec<_> = text(&message[4..]).split(' ').collect();
    let [sender, number, _] = parts[..] else {
        panic!("nobody said {}", message.escape_ascii());
    };
    let number_of = |part: &str| part.parse().expect("a number");
    (number_of(sender), number_of(number))
}

/// Says all of its messages, and takes in those of all. Its own fit into the kernel's buffers, so nobody waits for anybody.
fn talk(mut member: Member, sender: usize) -> (Member, Vec<Vec<u8>>) {
    for number in 0..EACH_SAYS {
        member.say(&said_by(sender, number));
    }
    let heard = (0..CLIENTS * EACH_SAYS).map(|_| member.hear()).collect();
    (member, heard)
}

#[test]
fn a_hundred_clients_hear_each_of_ten_thousand_messages_once_and_in_order() {
    for strategy in STRATEGIES {
        println!("with {strategy}"); // shown when it fails
        let server = Server::start(&["--strategy", strategy]);
        let members: [Member; CLIENTS] = server.members();
        let talking = members.into_iter().enumerate();
        let talking: Vec<_> = talking
            .map(|(sender, member)| thread::spawn(move || talk(member, sender)))
            .collect();
        let talked = talking.into_iter().map(|talk| talk.join().expect("a talk"));
        let (mut members, heard): (Vec<_>, Vec<_>) = talked.unzip();

        // Each sender's first, then its second, and so on: so each of them once.
        let mut next = [0; CLIENTS];
        for message in &heard[0] {
            let (sender, number) = told_apart(message);
            assert_eq!(number, next[sender], "of {sender}");
            assert_eq!(*message, said_by(sender, number));
            next[sender] += 1;
        }
        assert_eq!(next, [EACH_SAYS; CLIENTS]);
        // All hear the same, in one order.
        for (member, other) in heard.iter().enumerate() {
            assert!(*other == heard[0], "member {member} heard otherwise");
        }
        // And nothing more.
        let over = frame(b"over");
        members[0].say(&over);
        members.iter_mut().for_each(|member| member.hears(&over));
        drop(members);
        server.end();
    }
}
