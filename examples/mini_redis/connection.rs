//! One client: reads what comes, carries out what is whole of it, writes the replies, and reads again.

use proactor::Slice;
use proactor::net::TcpStream;

use crate::commands::{After, execute};
use crate::reply::Replies;
use crate::request::Request;
use crate::store::Store;

/// A buffer at first, and what is kept of a larger one.
const BUFFER_BYTES: usize = 16 * 1024;
const KEPT_BYTES: usize = 64 * 1024;
/// So many bytes of replies are sent before the next request is looked at.
const ENOUGH_BYTES: usize = 256 * 1024;

pub(crate) struct Connection {
    stream: TcpStream,
    store: Store,
    /// What came and is not carried out yet.
    input: Vec<u8>,
    /// What its first request is known to be.
    request: Request,
    /// Where the last replies were.
    output: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, store: Store) -> Self {
        Self {
            stream,
            store,
            input: Vec::with_capacity(BUFFER_BYTES),
            request: Request::default(),
            output: Vec::new(),
        }
    }

    /// Reads behind what is there. The end of file and errors drop the connection, which closes it.
    pub(crate) fn read(mut self) {
        let mut input = std::mem::take(&mut self.input);
        if input.len() == input.capacity() {
            input.reserve(input.len().max(BUFFER_BYTES)); // a request that is larger
        } else if input.is_empty() && input.capacity() > KEPT_BYTES {
            input = Vec::with_capacity(BUFFER_BYTES);
        }
        let from = input.len();
        self.stream
            .read(Slice::new(input, from..))
            .then(move |(read, input)| {
                if let Ok(1..) = read {
                    self.input = input.into_inner();
                    self.answer();
                }
            });
    }

    fn answer(mut self) {
        let mut replies = Replies::on(std::mem::take(&mut self.output));
        let mut done = 0;
        let after = loop {
            let input = &self.input[done..];
            match self.request.advance(input) {
                Ok(false) => break After::GoOn,
                Ok(true) => {
                    let after = execute(&self.store, &self.request.words(input), &mut replies);
                    done += self.request.next();
                    if after == After::HangUp || replies.len() >= ENOUGH_BYTES {
                        break after;
                    }
                }
                Err(wrong) => {
                    replies.error(&format!("ERR Protocol error: {}", wrong.0));
                    break After::HangUp;
                }
            }
        };
        self.input.drain(..done);
        self.write(replies.into_bytes(), after);
    }

    fn write(mut self, replies: Vec<u8>, after: After) {
        if replies.is_empty() {
            self.output = replies;
            return self.read();
        }
        let enough = replies.len() >= ENOUGH_BYTES;
        self.stream
            .write_all(replies)
            .then(move |(written, replies)| {
                if written.is_err() || after == After::HangUp {
                    return;
                }
                if replies.capacity() <= KEPT_BYTES {
                    self.output = replies;
                }
                if enough {
                    self.answer(); // There may be more to do.
                } else {
                    self.read();
                }
            });
    }
}
