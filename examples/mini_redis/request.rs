//! Requests as they come in: RESP2 arrays of bulk strings, and lines of plain words.
//!
//! Written here, and not taken from a crate: the decoders looked at are for clients, who trust their server. They take frames in
//! frames, as deep as the peer says, with a stack frame for each.

use std::ops::Range;
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

/// So many words are room for another request; more is given back.
const KEPT_WORDS: usize = 1024;

/// A request as far as it has come. What was seen of it is not looked at again.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Where its words lie in the input.
    words: Vec<Range<usize>>,
    /// How many words are to come yet.
    left: usize,
    /// How many bytes of the input have been looked at: none before its first line is there.
    seen: usize,
}

impl Request {
    /// Looks at what has come behind what was seen before; true when the request is whole. It begins at the beginning of `input`.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Result<bool, Wrong> {
        if self.seen == 0 && !self.begin(input)? {
            return Ok(false);
        }
        while self.left > 0 {
            let rest = &input[self.seen..];
            match rest.first() {
                None => return Ok(false),
                Some(b'$') => {}
                Some(_) => return Err(Wrong("expected '$'")),
            }
            let length = length(rest, LONGEST_WORD_BYTES, "invalid bulk length")?;
            let Some((bytes, header)) = length else {
                return Ok(false);
            };
            let from = self.seen + header;
            let to = from + bytes;
            match input.get(to..to + 2) {
                None => return Ok(false),
                Some(b"\r\n") => self.words.push(from..to),
                Some(_) => return Err(Wrong("expected a line's end after a bulk string")),
            }
            self.seen = to + 2;
            self.left -= 1;
        }
        Ok(true)
    }

    /// The first line, which says how many words follow, or has them all.
    fn begin(&mut self, input: &[u8]) -> Result<bool, Wrong> {
        if input.first() == Some(&b'*') {
            let count = length(input, MOST_WORDS, "invalid multibulk length")?;
            let Some((count, used)) = count else {
                return Ok(false);
            };
            (self.left, self.seen) = (count, used);
            return Ok(true);
        }
        let Some((line, used)) = line(input)? else {
            return Ok(false);
        };
        let mut from = 0;
        for word in line.split(u8::is_ascii_whitespace) {
            let to = from + word.len();
            if !word.is_empty() {
                self.words.push(from..to);
            }
            from = to + 1;
        }
        self.seen = used;
        Ok(true)
    }

    /// The words that have come.
    pub(crate) fn words<'a>(&self, input: &'a [u8]) -> Words<'a> {
        let words = self.words.iter();
        words.map(|word| &input[word.clone()]).collect()
    }

    /// Is done with a whole request, and begins the next. How many bytes it took.
    pub(crate) fn next(&mut self) -> usize {
        self.words.clear();
        self.words.shrink_to(KEPT_WORDS);
        std::mem::take(&mut self.seen)
    }
}

/// The number on the first line, after its mark, and how many bytes the line took. Redis takes a negative count of words for none; so do we,
/// of both.
fn length(input: &[u8], most: usize, wrong: &'static str) -> Result<Option<(usize, usize)>, Wrong> {
    let (number, used) = match digits(input) {
        Some(found) => found,
        None => match line(input)? {
            Some((line, used)) => (any_number(&line[1..]).ok_or(Wrong(wrong))?, used),
            None => return Ok(None),
        },
    };
    match number <= most {
        true => Ok(Some((number, used))),
        false => Err(Wrong(wrong)),
    }
}

/// As `length`, if the line is as clients write it: a few digits, and its end.
fn digits(input: &[u8]) -> Option<(usize, usize)> {
    let (mut number, mut at) = (0, 1);
    while at < 10 {
        match input.get(at)? {
            digit @ b'0'..=b'9' => number = number * 10 + usize::from(digit - b'0'),
            b'\r' if at > 1 && input.get(at + 1) == Some(&b'\n') => return Some((number, at + 2)),
            _ => return None,
        }
        at += 1;
    }
    None
}

/// A number with a sign, with many digits, or wrong. A negative one is 0.
fn any_number(text: &[u8]) -> Option<usize> {
    let number: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    Some(usize::try_from(number).unwrap_or(0))
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
