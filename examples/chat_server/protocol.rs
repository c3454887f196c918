//! What goes over the wire, for server and client alike: four characters that say how long the body is, and the body.
//!
//! It is the protocol of Asio's C++11 chat example. A header is written right-justified and padded with spaces, and read as
//! C's `atoi` would read it: whatever it makes sense of counts, and what makes none is a length of 0.
#![allow(dead_code)] // each program uses a part of it

use std::fmt;
use std::sync::Arc;

use proactor::net::ReadHalf;
use proactor::{Error, ErrorKind, Slice};

/// How long a header is.
pub(crate) const HEADER_BYTES: usize = 4;
/// How long a body may be.
pub(crate) const MOST_BODY_BYTES: usize = 512;

/// Header and body as they go over the wire, shared by all to whom they go.
pub(crate) type Message = Arc<[u8]>;

/// A message with this body; none if that is too long.
pub(crate) fn message(body: &[u8]) -> Option<Message> {
    let mut bytes = format!("{:>HEADER_BYTES$}", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    (body.len() <= MOST_BODY_BYTES).then(|| bytes.into())
}

/// A message's body.
pub(crate) fn body(message: &Message) -> &[u8] {
    &message[HEADER_BYTES..]
}

/// How long a body its header announces; none if that is negative or too long.
pub(crate) fn body_bytes(header: [u8; HEADER_BYTES]) -> Option<usize> {
    const VERTICAL_TAB: u8 = 0x0b; // a space to C, though not to Rust
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == VERTICAL_TAB;
    let start = header.iter().take_while(|byte| is_space(byte)).count();
    let (negative, digits) = match &header[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let bytes = digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'));
    (bytes <= MOST_BODY_BYTES && (bytes == 0 || !negative)).then_some(bytes)
}

/// Why no message came.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer ended its direction, after a whole message.
    Finished,
    /// The connection failed, or ended within a message.
    Lost(Error),
    /// A header announced what no body may be.
    Refused([u8; HEADER_BYTES]),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the connection was closed"),
            Self::Lost(error) => write!(f, "{error}"),
            Self::Refused(header) => {
                let header = header.escape_ascii();
                write!(
                    f,
                    "a header \"{header}\" came, but a body has 0 to {MOST_BODY_BYTES} bytes"
                )
            }
        }
    }
}

/// Reads one message, the header first. `then` gets it whole, its header as it came, and the stream back.
pub(crate) fn receive<H>(stream: ReadHalf, then: H)
where
    H: FnOnce(ReadHalf, Result<Message, Ended>) + Send + 'static,
{
    let header = [0; HEADER_BYTES];
    stream.read_exact(header).then(move |(read, header)| {
        let refused = Ended::Refused(header);
        match (read, body_bytes(header)) {
            (Ok(_), Some(body_bytes)) => receive_body(stream, header, body_bytes, then),
            (Ok(_), None) => then(stream, Err(refused)),
            (Err(error), _) => then(stream, Err(ended(error))),
        }
    });
}

fn receive_body<H>(stream: ReadHalf, header: [u8; HEADER_BYTES], body_bytes: usize, then: H)
where
    H: FnOnce(ReadHalf, Result<Message, Ended>) + Send + 'static,
{
    let mut bytes = vec![0; HEADER_BYTES + body_bytes];
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    let body = Slice::new(bytes, HEADER_BYTES..);
    stream.read_exact(body).then(move |(read, body)| {
        let message = read.map(|_| body.into_inner().into());
        then(stream, message.map_err(Ended::Lost));
    });
}

/// What an error means that came instead of a header.
fn ended(error: Error) -> Ended {
    match (error.kind(), error.transferred()) {
        (ErrorKind::UnexpectedEof, 0) => Ended::Finished,
        _ => Ended::Lost(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_right_justified_and_a_long_body_refused() {
        assert_eq!(&*message(b"").expect("short"), b"   0");
        assert_eq!(&*message(b"hello").expect("short"), b"   5hello");
        let longest = message(&[b'x'; MOST_BODY_BYTES]).expect("just short enough");
        assert_eq!(&longest[..HEADER_BYTES], b" 512");
        assert_eq!(body(&longest), [b'x'; MOST_BODY_BYTES]);
        assert_eq!(message(&[b'x'; MOST_BODY_BYTES + 1]), None);
    }

    #[test]
    fn a_header_is_read_leniently() {
        for (header, bytes) in [
            (b"   7", Some(7)),
            (b"0007", Some(7)),
            (b"7   ", Some(7)),
            (b" 7  ", Some(7)),
            (b"\t\x0b\r7", Some(7)),
            (b"+007", Some(7)),
            (b"7\0\0\0", Some(7)),
            (b"7 77", Some(7)),
            (b"7x77", Some(7)),
            (b" 512", Some(512)),
            (b" 513", None),
            (b"9999", None),
            (b"  -1", None),
            (b"-001", None),
            (b"-999", None),
            (b"  -0", Some(0)),
            (b"-x 1", Some(0)),
            (b"+-12", Some(0)),
            (b"- 12", Some(0)),
            (b"    ", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"\x0012 ", Some(0)),
            (b"abcd", Some(0)),
            (b"0x10", Some(0)),
            (b"\xff\xfe12", Some(0)),
        ] {
            assert_eq!(body_bytes(*header), bytes, "{}", header.escape_ascii());
        }
    }
}
