//! What each command does.

use std::time::Duration;

use crate::reply::Replies;
use crate::store::{Life, Store, Uncountable, number};

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum After {
    GoOn,
    HangUp,
}

const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

/// Carries one request out, and appends its reply.
pub(crate) fn execute(store: &Store, words: &[&[u8]], replies: &mut Replies) -> After {
    let [name, arguments @ ..] = words else {
        return After::GoOn; // Redis does not answer an empty request, either.
    };
    let mut upper = [0; 8];
    let Some(upper) = upper.get_mut(..name.len()) else {
        unknown(name, arguments, replies);
        return After::GoOn;
    };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match (&*upper, arguments) {
        (b"GET", [key]) => store.get(key, |value| match value {
            Some(bytes) => replies.bulk(bytes),
            None => replies.nil(),
        }),
        (b"SET", [key, value, options @ ..]) => set(store, key, value, options, replies),
        (b"DEL", [_, ..]) => {
            let gone = arguments.iter().filter(|key| store.delete(key)).count();
            replies.integer(i64::try_from(gone).unwrap_or(i64::MAX));
        }
        (b"INCR", [key]) => match store.count_up(key) {
            Ok(number) => replies.integer(number),
            Err(Uncountable::NotANumber) => replies.error(NOT_A_NUMBER),
            Err(Uncountable::Overflow) => {
                replies.error("ERR increment or decrement would overflow");
            }
        },
        (b"MGET", [_, ..]) => {
            replies.array(arguments.len());
            for key in arguments {
                store.get(key, |value| match value {
                    Some(bytes) => replies.bulk(bytes),
                    None => replies.nil(),
                });
            }
        }
        (b"EXPIRE", [key, seconds]) => expire(store, key, seconds, replies),
        (b"EXPIRE", [_, _, option, ..]) => {
            let option = printable(option);
            replies.error(&format!("ERR Unsupported option {option}"));
        }
        (b"TTL", [key]) => replies.integer(match store.life(key) {
            Life::NoSuchKey => -2,
            Life::ForEver => -1,
            // To the nearest second, as Redis says it.
            Life::Left(left) => i64::try_from((left.as_millis() + 500) / 1000).unwrap_or(i64::MAX),
        }),
        _ => return about(upper, name, arguments, replies),
    }
    After::GoOn
}

/// What is not about the keys: the connection, the server, and what is wrong.
fn about(upper: &[u8], name: &[u8], arguments: &[&[u8]], replies: &mut Replies) -> After {
    match (upper, arguments) {
        (b"PING", []) => replies.simple("PONG"),
        (b"PING" | b"ECHO", [message]) => replies.bulk(message),
        (b"COMMAND", [word, ..]) if word.eq_ignore_ascii_case(b"COUNT") => {
            replies.integer(NAMES.len().try_into().unwrap_or(i64::MAX));
        }
        (b"COMMAND", _) => replies.array(0), // Clients take that for "no documentation".
        (b"CONFIG", [word, patterns @ ..]) if word.eq_ignore_ascii_case(b"GET") => {
            config(patterns, replies);
        }
        (b"CONFIG", [_, ..]) => replies.error("ERR CONFIG has GET only here"),
        (b"QUIT", []) => {
            replies.simple("OK");
            return After::HangUp;
        }
        (known, _) if NAMES.contains(&known) => {
            let name = printable(name).to_ascii_lowercase();
            replies.error(&format!(
                "ERR wrong number of arguments for '{name}' command"
            ));
        }
        _ => unknown(name, arguments, replies),
    }
    After::GoOn
}

const NAMES: [&[u8]; 12] = [
    b"COMMAND", b"CONFIG", b"DEL", b"ECHO", b"EXPIRE", b"GET", b"INCR", b"MGET", b"PING", b"QUIT",
    b"SET", b"TTL",
];

fn set(store: &Store, key: &[u8], value: &[u8], options: &[&[u8]], replies: &mut Replies) {
    let life = match options {
        [] => None,
        [unit, amount] => {
            let milliseconds = if unit.eq_ignore_ascii_case(b"EX") {
                1000
            } else if unit.eq_ignore_ascii_case(b"PX") {
                1
            } else {
                return replies.error("ERR syntax error");
            };
            let Some(amount) = number(amount) else {
                return replies.error(NOT_A_NUMBER);
            };
            let life = amount.checked_mul(milliseconds).filter(|life| *life > 0);
            let Some(life) = life.and_then(|life| u64::try_from(life).ok()) else {
                return replies.error("ERR invalid expire time in 'set' command");
            };
            Some(Duration::from_millis(life))
        }
        _ => return replies.error("ERR syntax error"),
    };
    if store.set(key, value, life) {
        replies.simple("OK");
    } else {
        replies.error("ERR invalid expire time in 'set' command");
    }
}

fn expire(store: &Store, key: &[u8], seconds: &[u8], replies: &mut Replies) {
    let Some(seconds) = number(seconds) else {
        return replies.error(NOT_A_NUMBER);
    };
    let done = match u64::try_from(seconds) {
        Ok(seconds @ 1..) => store.expire(key, Duration::from_secs(seconds)),
        _ => Some(store.delete(key)), // What is past is over.
    };
    match done {
        Some(done) => replies.integer(done.into()),
        None => replies.error("ERR invalid expire time in 'expire' command"),
    }
}

/// What redis-benchmark asks for: nothing is kept on disk here.
fn config(patterns: &[&[u8]], replies: &mut Replies) {
    const KNOWN: [(&str, &str); 2] = [("save", ""), ("appendonly", "no")];
    let asked = |name: &&(&str, &str)| {
        patterns
            .iter()
            .any(|pattern| pattern.eq_ignore_ascii_case(name.0.as_bytes()) || *pattern == b"*")
    };
    let found = KNOWN.iter().filter(asked);
    replies.array(found.clone().count() * 2);
    for (name, value) in found {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
}

fn unknown(name: &[u8], arguments: &[&[u8]], replies: &mut Replies) {
    let name = printable(name);
    let arguments = arguments.iter().take(4).map(|word| printable(word));
    let arguments: String = arguments.map(|word| format!("'{word}' ")).collect();
    replies.error(&format!(
        "ERR unknown command '{name}', with args beginning with: {arguments}"
    ));
}

/// A word for an error's line: short, and without anything that would end it.
fn printable(word: &[u8]) -> String {
    let word = &word[..word.len().min(64)];
    let text = String::from_utf8_lossy(word);
    text.chars().filter(|c| !c.is_control()).collect()
}
