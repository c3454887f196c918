//! Requests as they come in: RESP2 arrays of bulk strings, and lines of plain words.
//!
//! Written here, and not taken from a crate: the decoders looked at are for clients, who trust their server. They take frames in
//! frames, as deep as the peer says, with a stack frame for each.

use std::str;

use smallvec::SmallVec;

/// The words of a request, as they lie in the input.
pub(crate) type Words<'a> = SmallVec<[&'a [u8]; 8]>;

/// A peer that cannot be understood; it is told this, and hung up on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Wrong(pub(crate) &'static str);

/// The most words of a request, and the longest of them: Redis's own limits, but for the second, which is 512 MB there.
const MOST_WORDS: usize = 1024 * 1024;
pub(crate) const LONGEST_WORD_BYTES: usize = 64 * 1024 * 1024;
/// The longest line: of a length, or of plain words.
const LONGEST_LINE_BYTES: usize = 64 * 1024;

/// The first request of `input` and how many bytes it took; `None` when more must come first.
pub(crate) fn first(input: &[u8]) -> Result<Option<(Words<'_>, usize)>, Wrong> {
    match input.first() {
        None => Ok(None),
        Some(b'*') => array(input),
        Some(_) => Ok(line(input)?.map(|(line, used)| {
            let words = line.split(u8::is_ascii_whitespace);
            (words.filter(|word| !word.is_empty()).collect(), used)
        })),
    }
}

fn array(input: &[u8]) -> Result<Option<(Words<'_>, usize)>, Wrong> {
    let Some((count, mut used)) = length(input, MOST_WORDS, "invalid multibulk length")? else {
        return Ok(None);
    };
    let mut words = Words::new();
    for _ in 0..count {
        match input.get(used) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(Wrong("expected '$'")),
        }
        let length = length(&input[used..], LONGEST_WORD_BYTES, "invalid bulk length")?;
        let Some((bytes, header)) = length else {
            return Ok(None);
        };
        let from = used + header;
        used = from + bytes + 2;
        match input.get(from + bytes..used) {
            None => return Ok(None),
            Some(b"\r\n") => words.push(&input[from..from + bytes]),
            Some(_) => return Err(Wrong("expected a line's end after a bulk string")),
        }
    }
    Ok(Some((words, used)))
}

/// The number on the first line, after its mark. Redis takes a negative count of words for none; so do we, of both.
fn length(input: &[u8], most: usize, wrong: &'static str) -> Result<Option<(usize, usize)>, Wrong> {
    let Some((line, used)) = line(input)? else {
        return Ok(None);
    };
    let number = str::from_utf8(&line[1..])
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    let number = number.map(|number| usize::try_from(number).unwrap_or(0));
    match number {
        Some(number) if number <= most => Ok(Some((number, used))),
        _ => Err(Wrong(wrong)),
    }
}

/// The first line, without its end, and how many bytes it took.
fn line(input: &[u8]) -> Result<Option<(&[u8], usize)>, Wrong> {
    let looked_at = &input[..input.len().min(LONGEST_LINE_BYTES)];
    match looked_at.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = &input[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
        }
        None if looked_at.len() == LONGEST_LINE_BYTES => Err(Wrong("too big a line")),
        None => Ok(None),
    }
}
