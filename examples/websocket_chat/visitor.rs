//! Whoever connects: asks for the page, or for the room. The first words of a connection are HTTP in both cases.

use std::io;
use std::sync::Arc;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::machine::TryParse;
use async_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::limit::within;
use crate::{House, member};

const PAGE: &str = include_str!("page.html");
/// The longest request, with all its headers.
const MOST_REQUEST_BYTES: usize = 8 * 1024;
/// The longest message.
pub(crate) const MOST_MESSAGE_BYTES: usize = 16 * 1024;

/// One connection, from its request to its end.
pub(crate) async fn receive<S>(house: Arc<House>, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asking = async {
        let (request, rest) = match request(&mut stream).await? {
            Ok(asked) => asked,
            Err(why) => return refuse(&mut stream, "400 Bad Request", why).await,
        };
        match (request.uri().path(), create_response(&request)) {
            ("/chat", Ok(response)) => {
                let mut head = Vec::new();
                write_response(&mut head, &response).map_err(io::Error::other)?;
                stream.write_all(&head).await?;
                Ok(Some(rest))
            }
            ("/chat", Err(why)) => refuse(&mut stream, "400 Bad Request", &why.to_string()).await,
            ("/", _) => answer(&mut stream, "200 OK", "text/html; charset=utf-8", PAGE).await,
            _ => refuse(&mut stream, "404 Not Found", "there are / and /chat").await,
        }
    };
    // Whoever fails here has gone, or took too long: there is nobody to tell.
    if let Ok(Some(rest)) = within(&house.port, house.patience, asking).await {
        let socket =
            WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(limits()));
        member::admit(&house, socket.await).await;
    }
}

/// What bounds the memory of a connection, beside its queue.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MOST_MESSAGE_BYTES)
        .max_message_size(Some(MOST_MESSAGE_BYTES))
        .max_frame_size(Some(MOST_MESSAGE_BYTES))
}

/// The request, and what came after it; or what is wrong with it.
async fn request(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Result<(Request, Vec<u8>), &'static str>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&chunk[..read]),
        }
        match Request::try_parse(&head) {
            Ok(Some((used, request))) => return Ok(Ok((request, head.split_off(used)))),
            Ok(None) if head.len() < MOST_REQUEST_BYTES => {}
            Ok(None) => return Ok(Err("the request is too long")),
            Err(_) => return Ok(Err("this is no GET of HTTP/1.1")),
        }
    }
}

async fn refuse(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    why: &str,
) -> io::Result<Option<Vec<u8>>> {
    answer(stream, status, "text/plain; charset=utf-8", why).await
}

/// Answers, and ends the connection.
async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    kind: &str,
    body: &str,
) -> io::Result<Option<Vec<u8>>> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.close().await?;
    Ok(None)
}
