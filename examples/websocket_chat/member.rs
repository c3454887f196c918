//! One member: reads, writes, pings and the end, four futures in one.

use std::io;
use std::time::Instant;

use async_channel::Receiver;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{StreamExt, future};
use serde_json::json;

use crate::House;
use crate::limit::within;
use crate::room::{Line, Seat};

/// Asks for the name, and stays until somebody ends it: the client, the room, or the want of any sign of life.
pub(crate) async fn admit<S>(house: &House, socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, mut receiver) = socket.split();
    let naming = within(&house.port, house.patience, name(&mut receiver));
    let Ok(name) = naming.await else {
        return;
    };
    match house.room.join(&name) {
        Ok((seat, lines)) => stay(house, seat, lines, sender, receiver).await,
        Err(why) => {
            let refusing = async {
                let refused = json!({ "kind": "refused", "why": why });
                say(&mut sender, Message::text(refused.to_string())).await?;
                hang_up(&mut sender, CloseCode::Policy, why).await?;
                while receiver.next().await.is_some() {} // until it has answered
                Ok(())
            };
            let _ = within(&house.port, house.patience, refusing).await;
        }
    }
}

async fn name<S>(receiver: &mut WebSocketReceiver<S>) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match receiver.next().await {
        Some(Ok(Message::Text(name))) => Ok(name.as_str().to_owned()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn stay<S>(
    house: &House,
    seat: Seat<'_>,
    lines: Receiver<Line>,
    mut sender: WebSocketSender<S>,
    mut receiver: WebSocketReceiver<S>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let speaking = async {
        if tell(house, lines, &mut sender).await.is_ok() {
            future::pending::<()>().await; // It was said goodbye to: `hear` waits for the answer.
        }
    };
    // Who is shown out may hear what waits for it, but not for ever.
    let leaving = async {
        seat.is_over().await;
        let _ = house.port.sleep(house.patience).await;
    };
    future::or(
        hear(house, &seat, &mut receiver),
        future::or(speaking, leaving),
    )
    .await;
}

/// Passes on what the client says, until it ends, or gives no sign of life.
async fn hear<S>(house: &House, seat: &Seat<'_>, receiver: &mut WebSocketReceiver<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let next = async { Ok(receiver.next().await) };
        match within(&house.port, 2 * house.ping, next).await {
            Ok(Some(Ok(Message::Text(text)))) => seat.say(&text),
            Ok(Some(Ok(_pings_and_bytes))) => {}
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
        // What it sends meanwhile waits with the kernel, and then with the client.
        if house.port.sleep(house.pace).await.is_err() {
            return;
        }
    }
}

/// Tells the client what waits for it, and pings it, until its queue is closed.
async fn tell<S>(
    house: &House,
    lines: Receiver<Line>,
    sender: &mut WebSocketSender<S>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping_at = Instant::now() + house.ping;
    loop {
        let left = ping_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            say(sender, Message::Ping(Vec::new().into())).await?;
            ping_at = Instant::now() + house.ping;
            continue;
        }
        let line = async { Ok(lines.recv().await.ok()) };
        match within(&house.port, left, line).await {
            Ok(Some(line)) => say(sender, Message::Text(line)).await?,
            Ok(None) if house.room.is_closed() => {
                return hang_up(sender, CloseCode::Away, "the chat ends").await;
            }
            Ok(None) => return hang_up(sender, CloseCode::Policy, "you read too slowly").await,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {} // a ping is due
            Err(error) => return Err(error),
        }
    }
}

async fn say<S>(sender: &mut WebSocketSender<S>, message: Message) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    sender.send(message).await.map_err(io::Error::other)
}

async fn hang_up<S>(
    sender: &mut WebSocketSender<S>,
    code: CloseCode,
    why: &'static str,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reason = why.into();
    say(sender, Message::Close(Some(CloseFrame { code, reason }))).await
}
