//! The room: who is in it, and a bounded queue for each. It does no I/O, and waits for nobody.

use std::collections::{BTreeMap, VecDeque};

use async_channel::{Receiver, Sender};
use async_tungstenite::tungstenite::Utf8Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What the members are told, as JSON; a clone shares the text.
pub(crate) type Line = Utf8Bytes;

pub(crate) struct Room {
    members: Mutex<Members>,
    /// How many lines may wait for a member.
    most_waiting: usize,
}

#[derive(Default)]
struct Members {
    closed: bool,
    queues: BTreeMap<String, Sender<Line>>,
}

/// The way out of a room: dropped, it leaves, and the others are told.
pub(crate) struct Seat<'a> {
    room: &'a Room,
    name: String,
    queue: Sender<Line>,
}

impl Room {
    pub(crate) fn new(most_waiting: usize) -> Self {
        Self {
            members: Mutex::default(),
            most_waiting,
        }
    }

    /// Takes a member in, who is told who is there, and the others that it came. Or why it cannot be.
    pub(crate) fn join(&self, name: &str) -> Result<(Seat<'_>, Receiver<Line>), &'static str> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > 32 || name.chars().any(char::is_control) {
            return Err("a name has 1 to 32 characters");
        }
        let mut members = self.members.lock();
        if members.closed {
            return Err("the chat ends");
        }
        if members.queues.contains_key(name) {
            return Err("this name is taken: choose another");
        }
        let (queue, waiting) = async_channel::bounded(self.most_waiting);
        members.queues.insert(name.to_owned(), queue.clone());
        let names: Vec<&String> = members.queues.keys().collect();
        let welcome = json!({ "kind": "welcome", "name": name, "names": names });
        let _ = queue.try_send(welcome.to_string().into()); // The first of its lines has room.
        members.tell(json!({ "kind": "joined", "name": name }), Some(name));
        let seat = Seat {
            room: self,
            name: name.to_owned(),
            queue,
        };
        Ok((seat, waiting))
    }

    /// Everybody is to leave, and nobody comes in any more.
    pub(crate) fn close(&self) {
        let mut members = self.members.lock();
        members.closed = true;
        for queue in members.queues.values() {
            queue.close();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.members.lock().closed
    }
}

impl Members {
    /// Puts a line into every queue, all in one step, so that everybody hears everything in one order. Whose queue is full is shown
    /// out, and the others are told that, too.
    fn tell(&mut self, event: Value, except: Option<&str>) {
        let mut events = VecDeque::from([(event, except)]);
        while let Some((event, except)) = events.pop_front() {
            let line = Line::from(event.to_string());
            self.queues.retain(|name, queue| {
                if except == Some(name.as_str()) || queue.try_send(line.clone()).is_ok() {
                    return true;
                }
                queue.close();
                let left = json!({ "kind": "left", "name": name, "why": "reads too slowly" });
                events.push_back((left, None));
                false
            });
        }
    }
}

impl Seat<'_> {
    /// Tells everybody, this member too.
    pub(crate) fn say(&self, text: &str) {
        let mut members = self.room.members.lock();
        if self.is_in(&members) {
            members.tell(
                json!({ "kind": "said", "name": self.name, "text": text }),
                None,
            );
        }
    }

    /// When it has been shown out, or the room is closed.
    pub(crate) async fn is_over(&self) {
        self.queue.closed().await;
    }

    /// Whether it is its queue that stands under its name. When it was shown out somebody else may have that.
    fn is_in(&self, members: &Members) -> bool {
        let queue = members.queues.get(&self.name);
        queue.is_some_and(|queue| queue.same_channel(&self.queue))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut members = self.room.members.lock();
        if self.is_in(&members) {
            members.queues.remove(&self.name);
            members.tell(json!({ "kind": "left", "name": self.name }), None);
        }
    }
}
