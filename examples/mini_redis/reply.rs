//! Replies as they go out, in RESP2.

/// What a connection is still to be sent.
#[derive(Debug, Default)]
pub(crate) struct Replies(Vec<u8>);

impl Replies {
    pub(crate) fn on(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self(buffer)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// `text` is one line.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn nil(&mut self) {
        self.0.extend_from_slice(b"$-1\r\n");
    }

    /// That many replies follow, and are its elements.
    pub(crate) fn array(&mut self, len: usize) {
        self.number(b'*', i64::try_from(len).unwrap_or(i64::MAX));
    }

    fn line(&mut self, mark: u8, text: &str) {
        self.0.push(mark);
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, mark: u8, number: i64) {
        self.0.push(mark);
        let mut digits = itoa::Buffer::new();
        self.0.extend_from_slice(digits.format(number).as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }
}
