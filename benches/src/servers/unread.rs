//! A measure of the client, and no peer: it answers redis-benchmark's GET and SET without having read them, so that what is measured with it
//! is the client, the kernel, and a loop around epoll. Who answers in another order may be a little faster still.
//!
//! All that it looks at is how many requests begin in what came (by their `*`, of which there is no other in them), and at the letter that
//! tells SET from GET.

use std::sync::LazyLock;

use super::epoll::{self, Trigger};
use super::{READ_BYTES, listen};
use crate::cli::Outcome;

/// What it is called.
pub const ANSWERS_UNREAD: &str = "answers-unread";

/// A reply for each byte of a read, and there are never more.
struct Replies {
    all: Vec<u8>,
    each: usize,
}

static VALUES: LazyLock<Replies> = LazyLock::new(|| Replies::of(b"$3\r\nxxx\r\n"));
static DONE: LazyLock<Replies> = LazyLock::new(|| Replies::of(b"+OK\r\n"));

impl Replies {
    fn of(reply: &[u8]) -> Self {
        Self {
            all: reply.repeat(READ_BYTES),
            each: reply.len(),
        }
    }
}

/// Serves in this process, which is the child, until the parent ends it.
///
/// # Errors
///
/// Those of the server, which otherwise does not come back.
pub fn answer_unread(threads: usize) -> Outcome {
    let listener = listen()?;
    Ok(epoll::serve(listener, Trigger::Level, threads, answer)?)
}

fn answer(data: &[u8]) -> &[u8] {
    // `*3\r\n$3\r\nSET...`
    let replies = match data.get(8) {
        Some(b'S') => &*DONE,
        _ => &*VALUES,
    };
    let requests = data.iter().filter(|&&byte| byte == b'*').count();
    &replies.all[..requests * replies.each]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_reply_of_its_kind() {
        let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:__rand_int__\r\n";
        let set = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:__rand_int__\r\n$3\r\nVXK\r\n";
        assert_eq!(answer(&get.repeat(3)), b"$3\r\nxxx\r\n".repeat(3));
        assert_eq!(answer(&set.repeat(2)), b"+OK\r\n".repeat(2));
        assert_eq!(answer(&[b'*'; READ_BYTES]).len(), READ_BYTES * 9);
    }
}
