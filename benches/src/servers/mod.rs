//! The echo servers: each reads what comes into a buffer of 4 KiB, writes it back, and sets `TCP_NODELAY`.
//!
//! Each runs in a process of its own, which is the measuring program again, started with hidden arguments; Asio and libuv are
//! small programs in C++ and C, compiled when they are needed. What is missing on this machine is said, not measured.

mod epoll;
#[cfg(feature = "peers")]
mod native;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod unread;

use std::env;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::Command;

use proactor::Strategy;

use crate::cli::Outcome;
use crate::process::end_with_parent;
use epoll::Trigger;

pub use unread::{ANSWERS_UNREAD, answer_unread};

/// What each server reads into.
const READ_BYTES: usize = 4096;

/// The server that the others are compared with.
pub const BASE: &str = "epoll";

/// A server, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether it can serve with several threads.
    pub pool: bool,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Here(fn(TcpListener, usize) -> Outcome),
    #[cfg(feature = "peers")]
    Native(&'static native::Source),
    /// Without the feature that brings it.
    #[cfg(not(feature = "peers"))]
    Left,
}

const fn server(name: &'static str, about: &'static str, pool: bool, body: Body) -> Server {
    Server {
        name,
        about,
        pool,
        body,
    }
}

macro_rules! peer {
    ($body:expr) => {{
        #[cfg(feature = "peers")]
        let body = $body;
        #[cfg(not(feature = "peers"))]
        let body = Body::Left;
        body
    }};
}

/// All of them.
pub const SERVERS: &[Server] = &[
    server(
        BASE,
        "epoll by hand, level-triggered: the base",
        true,
        Body::Here(|listener, threads| Ok(epoll::echo(listener, Trigger::Level, threads)?)),
    ),
    server(
        "epoll-edge",
        "epoll by hand, edge-triggered; a short read ends the turn",
        true,
        Body::Here(|listener, threads| Ok(epoll::echo(listener, Trigger::Edge, threads)?)),
    ),
    server(
        "proactor-single",
        "ours, one thread",
        false,
        Body::Here(|listener, threads| ours::serve(listener, Strategy::Single, threads)),
    ),
    server(
        "proactor-leader-followers",
        "ours, a pool with one leader",
        true,
        Body::Here(|listener, threads| ours::serve(listener, Strategy::LeaderFollowers, threads)),
    ),
    server(
        "proactor-work-stealing",
        "ours, a pool that steals",
        true,
        Body::Here(|listener, threads| ours::serve(listener, Strategy::WorkStealing, threads)),
    ),
    server(
        "proactor-pairs",
        "ours, a read and a write that set each other, one thread",
        false,
        Body::Here(|listener, threads| ours::serve_in_pairs(listener, Strategy::Single, threads)),
    ),
    server(
        "tokio-current",
        "tokio, current thread",
        false,
        peer!(Body::Here(peers::tokio_current)),
    ),
    server(
        "tokio-multi",
        "tokio, multi thread",
        true,
        peer!(Body::Here(peers::tokio_multi)),
    ),
    server("smol", "smol", true, peer!(Body::Here(peers::smol))),
    server(
        "compio",
        "compio, with the driver that it chooses",
        false,
        peer!(Body::Here(peers::compio)),
    ),
    server(
        "monoio",
        "monoio, on io_uring where the kernel lets it, else on epoll",
        false,
        peer!(Body::Here(peers::monoio)),
    ),
    server(
        "asio",
        "Asio, C++; with one thread the unsafe concurrency hint",
        true,
        peer!(Body::Native(&native::ASIO)),
    ),
    server(
        "libuv",
        "libuv, C",
        false,
        peer!(Body::Native(&native::LIBUV)),
    ),
];

/// The servers of those names, or all.
///
/// # Errors
///
/// A name that none has; the text lists them.
pub fn chosen(names: &[String]) -> Result<Vec<Server>, String> {
    if names.is_empty() {
        return Ok(SERVERS.to_vec());
    }
    let found = |name: &String| {
        let server = SERVERS.iter().find(|server| server.name == name);
        server.copied().ok_or_else(|| {
            let all = Vec::from_iter(SERVERS.iter().map(|server| server.name));
            format!("unknown server `{name}`: it is one of {}", all.join(", "))
        })
    };
    names.iter().map(found).collect()
}

/// The servers of those names, or all, that can be had here with so many threads; the base is the first. The others are
/// named on stderr, with the reason.
///
/// # Errors
///
/// A name that none has; a base that cannot be had.
pub fn measurable(names: &[String], threads: usize) -> Result<Vec<Server>, String> {
    let mut servers = chosen(&[BASE.to_owned()])?;
    for server in chosen(names)?
        .into_iter()
        .filter(|server| server.name != BASE)
    {
        let one_only = || format!("it serves with one thread only, not with {threads}");
        let possible = match threads {
            2.. if !server.pool => Err(one_only()),
            _ => server.command(threads).map(|_| ()),
        };
        match possible {
            Ok(()) => servers.push(server),
            Err(why) => eprintln!("without {}: {why}", server.name),
        }
    }
    #[cfg(feature = "peers")]
    if servers.iter().any(|server| server.name == "monoio") {
        peers::monoio_remark().inspect(|remark| eprintln!("{remark}"));
    }
    Ok(servers)
}

impl Server {
    /// The command that runs it with so many threads: this program again, or one that is compiled now.
    ///
    /// # Errors
    ///
    /// If it cannot be had; the text says what to install.
    pub fn command(&self, threads: usize) -> Result<Command, String> {
        let mut command = match self.body {
            Body::Here(_) => {
                let program = env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(program);
                command.args(["--serve", self.name, "--threads"]);
                command
            }
            #[cfg(feature = "peers")]
            Body::Native(source) => Command::new(source.compiled()?),
            #[cfg(not(feature = "peers"))]
            Body::Left => return Err("a peer: build with `--features peers`".to_owned()),
        };
        command.arg(threads.to_string());
        Ok(command)
    }

    /// Serves in this process, which is the child, until the parent ends it.
    ///
    /// # Errors
    ///
    /// Those of the server, which otherwise does not come back.
    pub fn serve(&self, threads: usize) -> Outcome {
        let listener = listen()?;
        match self.body {
            Body::Here(serve) => serve(listener, threads),
            #[cfg(feature = "peers")]
            Body::Native(_) => Err("it is a program of its own".into()),
            #[cfg(not(feature = "peers"))]
            Body::Left => Err("a peer: build with `--features peers`".into()),
        }
    }
}

/// The listener of a child, which ends with its parent, and says where it is to be found.
fn listen() -> io::Result<TcpListener> {
    end_with_parent()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}
