//! A room: who is in it, what was said last, and what waits to be written to whom.
//!
//! It does no I/O and knows no lock. It is the state of a strand, whose handlers do what it answers.
//!
//! All that is said is put into every member's queue in one step, so everybody hears everything in one order. A member is
//! written to by one *writer* at a time, which takes from the queue until that is empty ([`Room::take`]). Whoever is told of an
//! idle member has become its writer.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use crate::protocol::Message;

/// How many messages whoever joins is told first.
pub(crate) const HISTORY: usize = 100;
/// How many messages go into one write: 33 KiB at most.
const MOST_AT_ONCE: usize = 64;

/// A member's name in its room, never given twice.
pub(crate) type MemberId = u64;

/// See the module. `P` is how its owner reaches a member; a clone of it is cheap.
#[derive(Debug)]
pub(crate) struct Room<P> {
    members: BTreeMap<MemberId, Member<P>>,
    recent: VecDeque<Message>,
    /// How many messages may wait for one member.
    most_waiting: usize,
    next_id: MemberId,
    open: bool,
}

#[derive(Debug)]
struct Member<P> {
    peer: P,
    waiting: VecDeque<Message>,
    /// Whether it has a writer.
    writing: bool,
    /// Whether it hears nothing new, and is gone when nothing waits any more.
    leaving: bool,
}

/// What is to be done after something was said.
#[derive(Debug)]
pub(crate) struct Delivery<P> {
    /// For these a writer is to begin.
    pub(crate) idle: Vec<P>,
    /// These are no members any more: more waited for them than may.
    pub(crate) slow: Vec<P>,
}

/// What a writer is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Write what was taken, and ask again.
    Write,
    /// End: nothing waits, and another writer begins when something does.
    Idle,
    /// End: the member is gone, and nothing will wait for it again.
    Over,
}

impl<P: Clone> Room<P> {
    /// An empty room. Beyond the history that it may be told first, `backlog` messages may wait for a member.
    pub(crate) fn new(backlog: usize) -> Self {
        Self {
            members: BTreeMap::new(),
            recent: VecDeque::with_capacity(HISTORY),
            most_waiting: HISTORY.saturating_add(backlog),
            next_id: 0,
            open: true,
        }
    }

    /// Takes in a member, for whom the history waits. The caller is its writer. None if the room is closed.
    pub(crate) fn join(&mut self, make: impl FnOnce(MemberId) -> P) -> Option<P> {
        if !self.open {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let peer = make(id);
        let member = Member {
            peer: peer.clone(),
            waiting: self.recent.clone(),
            writing: true,
            leaving: false,
        };
        self.members.insert(id, member);
        Some(peer)
    }

    /// Says something to everybody.
    pub(crate) fn deliver(&mut self, message: &Message) -> Delivery<P> {
        let (mut idle, mut slow) = (Vec::new(), Vec::new());
        if self.open {
            if self.recent.len() == HISTORY {
                self.recent.pop_front();
            }
            self.recent.push_back(Arc::clone(message));
            self.members.retain(|_, member| {
                if member.leaving {
                    return true;
                }
                if member.waiting.len() >= self.most_waiting {
                    slow.push(member.peer.clone());
                    return false;
                }
                member.waiting.push_back(Arc::clone(message));
                if !mem::replace(&mut member.writing, true) {
                    idle.push(member.peer.clone());
                }
                true
            });
        }
        Delivery { idle, slow }
    }

    /// Appends to `batch` what is to be written next to a member, as much as goes into one write.
    pub(crate) fn take(&mut self, id: MemberId, batch: &mut Vec<u8>) -> Turn {
        let Some(member) = self.members.get_mut(&id) else {
            return Turn::Over;
        };
        if member.waiting.is_empty() {
            if member.leaving {
                self.members.remove(&id);
                return Turn::Over;
            }
            member.writing = false;
            return Turn::Idle;
        }
        let count = member.waiting.len().min(MOST_AT_ONCE);
        for message in member.waiting.drain(..count) {
            batch.extend_from_slice(&message);
        }
        Turn::Write
    }

    /// A member says nothing more: it is told what waits for it, and nothing new.
    pub(crate) fn leave(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.leaving = true;
            if !member.writing {
                self.members.remove(&id);
            }
        }
    }

    /// A member cannot be written to: what waits for it is dropped.
    pub(crate) fn remove(&mut self, id: MemberId) {
        self.members.remove(&id);
    }

    /// Everybody leaves, and nobody joins any more. For those it names a writer is to begin, to find that it is over.
    pub(crate) fn close(&mut self) -> Vec<P> {
        self.open = false;
        let mut idle = Vec::new();
        for member in self.members.values_mut() {
            member.leaving = true;
            if !mem::replace(&mut member.writing, true) {
                idle.push(member.peer.clone());
            }
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message;

    fn say(room: &mut Room<MemberId>, text: &str) -> Delivery<MemberId> {
        room.deliver(&message(text.as_bytes()).expect("a short text"))
    }

    /// Joins, and writes the history.
    fn joined(room: &mut Room<MemberId>) -> MemberId {
        let id = room.join(|id| id).expect("an open room");
        take_all(room, id);
        id
    }

    /// What a writer writes until it ends, and how it ends.
    fn take_all(room: &mut Room<MemberId>, id: MemberId) -> (String, Turn) {
        let mut batch = Vec::new();
        loop {
            match room.take(id, &mut batch) {
                Turn::Write => {}
                end => return (String::from_utf8(batch).expect("text"), end),
            }
        }
    }

    #[test]
    fn all_hear_what_is_said_in_one_order_with_one_writer_each() {
        let mut room = Room::new(1);
        let (a, b) = (joined(&mut room), joined(&mut room));
        assert_eq!(say(&mut room, "x").idle, [a, b]);
        assert_eq!(say(&mut room, "y").idle, [], "both have their writer");
        let both = ("   1x   1y".to_owned(), Turn::Idle);
        assert_eq!(take_all(&mut room, a), both);
        assert_eq!(
            say(&mut room, "z").idle,
            [a],
            "the other's has not ended yet"
        );
        assert_eq!(take_all(&mut room, b).0, both.0 + "   1z");
    }

    #[test]
    fn who_joins_is_told_the_last_hundred_and_then_what_is_new() {
        let mut room = Room::new(1);
        for number in 0..HISTORY + 7 {
            assert!(say(&mut room, &format!("{number:03}")).idle.is_empty());
        }
        let late = room.join(|id| id).expect("an open room");
        assert!(say(&mut room, "new").idle.is_empty(), "who joins writes");
        let mut expected: String = (7..107).map(|number| format!("   3{number:03}")).collect();
        expected += "   3new";
        assert_eq!(take_all(&mut room, late), (expected, Turn::Idle));
    }

    #[test]
    fn a_batch_has_a_limit() {
        let mut room = Room::new(1);
        let id = joined(&mut room);
        for _ in 0..=MOST_AT_ONCE {
            say(&mut room, "x");
        }
        let mut batch = Vec::new();
        assert_eq!(room.take(id, &mut batch), Turn::Write);
        assert_eq!(batch, "   1x".repeat(MOST_AT_ONCE).into_bytes());
        assert_eq!(take_all(&mut room, id).0, "   1x");
    }

    #[test]
    fn who_leaves_is_told_what_waits_and_nothing_new() {
        let mut room = Room::new(1);
        let (busy, idle) = (joined(&mut room), joined(&mut room));
        say(&mut room, "x");
        take_all(&mut room, idle);
        room.leave(busy);
        room.leave(idle);
        assert!(say(&mut room, "y").idle.is_empty());
        let told = |text: &str| (text.to_owned(), Turn::Over);
        assert_eq!(take_all(&mut room, busy), told("   1x"));
        assert_eq!(take_all(&mut room, idle), told(""));
        assert!(room.members.is_empty());
    }

    #[test]
    fn who_is_too_slow_is_a_member_no_more() {
        let mut room = Room::new(1);
        let (slow, swift) = (joined(&mut room), joined(&mut room));
        for _ in 0..=HISTORY {
            assert!(say(&mut room, "x").slow.is_empty());
            take_all(&mut room, swift);
        }
        assert_eq!(say(&mut room, "one too many").slow, [slow]);
        assert!(say(&mut room, "y").slow.is_empty(), "said once");
        assert_eq!(take_all(&mut room, slow), (String::new(), Turn::Over));
        assert_eq!(take_all(&mut room, swift).1, Turn::Idle);
    }

    #[test]
    fn a_closed_room_tells_what_waits_and_takes_nobody_in() {
        let mut room = Room::new(1);
        let (busy, idle) = (joined(&mut room), joined(&mut room));
        say(&mut room, "x");
        take_all(&mut room, idle);
        assert_eq!(room.close(), [idle], "the other has its writer");
        assert!(say(&mut room, "y").idle.is_empty());
        assert_eq!(room.join(|id| id), None);
        assert_eq!(take_all(&mut room, busy), ("   1x".to_owned(), Turn::Over));
        assert_eq!(take_all(&mut room, idle), (String::new(), Turn::Over));
        room.remove(busy); // a write that fails in the end finds nobody
        assert!(room.members.is_empty());
    }
}
