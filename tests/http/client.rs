//! Clients: one of HTTP/1.1 by hand, which sees each byte, and hyper's of HTTP/2, on a proactor of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use proactor::{Proactor, net};

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Its lines, in lower case.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ String| {
            let (key, _) = line.split_once(": ")?;
            (key == name).then_some(key.len() + 2)
        };
        let line = self.head.iter().find(|line| value(line).is_some())?;
        line.get(name.len() + 2..)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }
}

/// Sends the request that `head` begins, with that body.
pub(crate) fn ask(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("{head} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("to send");
    stream.write_all(body).expect("to send");
}

/// Sends a request without a body, and waits for the reply.
pub(crate) fn get(stream: &TcpStream, head: &str) -> Reply {
    let mut sending = stream;
    let request = format!("{head} HTTP/1.1\r\nhost: a\r\n\r\n");
    sending.write_all(request.as_bytes()).expect("to send");
    let replied = reply(&mut BufReader::new(stream), head.starts_with("HEAD "));
    replied.unwrap_or_else(|| panic!("no reply to {head}"))
}

/// The next reply, or none if the connection ends before; `bare` if it is one to HEAD, which has no body.
pub(crate) fn reply(from: &mut impl BufRead, bare: bool) -> Option<Reply> {
    let first = line(from);
    if first.is_empty() {
        return None;
    }
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut reply = Reply {
        status: status.unwrap_or_else(|| panic!("not the first line of a reply: {first:?}")),
        head: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let line = line(from);
        match line.is_empty() {
            true => break,
            false => reply.head.push(line.to_ascii_lowercase()),
        }
    }
    let length = reply.header("content-length");
    let length = length.map(|length| length.parse().expect("a length"));
    match (bare, length, reply.header("transfer-encoding")) {
        (true, ..) => {}
        (_, Some(length), None) => reply.body = exactly(from, length),
        (_, None, Some("chunked")) => reply.body = chunks(from),
        _ => panic!("where does the body end? {reply:?}"),
    }
    Some(reply)
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn exactly(from: &mut impl BufRead, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)
        .expect("as much as was promised");
    bytes
}

fn chunks(from: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(from), 16).expect("a chunk's length");
        body.extend(exactly(from, length));
        assert_eq!(line(from), "", "behind a chunk");
        if length == 0 {
            return body;
        }
    }
}

/// The connection ends, if by a reset, without another byte.
pub(crate) fn hangs_up(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().err().is_none_or(reset), "{ended:?}");
    assert_eq!(rest, b"");
}

/// A connection that speaks HTTP/2 from its first byte.
pub(crate) struct Http2 {
    proactor: Proactor,
    requests: SendRequest<Full<Bytes>>,
}

impl Http2 {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let proactor = Proactor::builder().build().expect("a proactor");
        proactor.start().expect("its threads");
        let (port, of) = (proactor.port().clone(), proactor.port().clone());
        let requests = port.block_on(async move {
            let stream = net::TcpStream::connect(&of, address)
                .await
                .expect("to connect");
            let mut builder = http2::Builder::new(of.clone());
            let builder = builder
                .timer(of.clone())
                .initial_stream_window_size(1 << 20);
            let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
            of.spawn(async move { drop(connection.await) }).detach();
            requests
        });
        Self {
            proactor,
            requests: requests.expect("nobody waits in a handler"),
        }
    }

    /// Sends them all at once; what came back, in the order of the requests.
    pub(crate) fn ask_all(&self, requests: Vec<(Method, &str, Bytes)>) -> Vec<(StatusCode, Bytes)> {
        let asking: Vec<_> = requests
            .into_iter()
            .map(|(method, path, body)| {
                let request = Request::builder().method(method);
                let request = request.uri(format!("http://a{path}")).body(Full::new(body));
                let replied = self
                    .requests
                    .clone()
                    .send_request(request.expect("a request"));
                self.proactor.spawn(async move {
                    let reply = replied.await.expect("a reply");
                    let status = reply.status();
                    let body = reply.into_body().collect().await.expect("its body");
                    (status, body.to_bytes())
                })
            })
            .collect();
        let replies = asking.into_iter().map(|reply| reply.wait());
        replies.map(|reply| reply.expect("no panic")).collect()
    }
}
