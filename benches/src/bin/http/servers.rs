//! One hyper service on several runtimes: only what they differ in is told apart.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::TcpListener as StdListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::Timer;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use proactor::net::TcpListener;
use proactor::{Proactor, Strategy};
use proactor_bench::cli::Outcome;
use proactor_bench::process::end_with_parent;

/// A server, and what is said of it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    about: &'static str,
    /// Whether it can serve with several threads.
    pub(crate) pool: bool,
    body: fn(StdListener, usize) -> Outcome,
}

/// All of them.
pub(crate) static SERVERS: [Server; 5] = [
    Server {
        name: "tokio-current",
        about: "tokio, current thread",
        pool: false,
        body: tokio_current,
    },
    Server {
        name: "tokio-multi",
        about: "tokio, multi thread",
        pool: true,
        body: tokio_multi,
    },
    Server {
        name: "proactor-single",
        about: "ours, one thread",
        pool: false,
        body: |listener, threads| ours(listener, Strategy::Single, threads),
    },
    Server {
        name: "proactor-leader-followers",
        about: "ours, a pool with one leader",
        pool: true,
        body: |listener, threads| ours(listener, Strategy::LeaderFollowers, threads),
    },
    Server {
        name: "proactor-work-stealing",
        about: "ours, a pool that steals",
        pool: true,
        body: |listener, threads| ours(listener, Strategy::WorkStealing, threads),
    },
];

/// The servers of those names, or all.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Server>, String> {
    if names.is_empty() {
        return Ok(SERVERS.iter().collect());
    }
    let found = |name: &String| {
        let server = SERVERS.iter().find(|server| server.name == name);
        server.ok_or_else(|| {
            let all = Vec::from_iter(SERVERS.iter().map(|server| server.name));
            format!("unknown server `{name}`: it is one of {}", all.join(", "))
        })
    };
    names.iter().map(found).collect()
}

/// A line for each.
pub(crate) fn help() -> String {
    let line = |server: &Server| format!("  {:26} {}\n", server.name, server.about);
    format!("Servers:\n{}", String::from_iter(SERVERS.iter().map(line)))
}

impl Server {
    /// Serves in this process, which is the child, until the parent ends it.
    pub(crate) fn serve(&self, threads: usize) -> Outcome {
        end_with_parent()?;
        let listener = StdListener::bind("127.0.0.1:0")?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "listening on {}", listener.local_addr()?)?;
        stdout.flush()?;
        drop(stdout);
        (self.body)(listener, threads)
    }
}

/// The service.
async fn hello(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, world!\n")))
}

/// HTTP of either version, with the time limit for heads that a server in the open needs.
fn http<E>(executor: E, timer: impl Timer + Send + Sync + 'static) -> Arc<auto::Builder<E>> {
    let mut http = auto::Builder::new(executor);
    http.http1()
        .timer(timer)
        .header_read_timeout(Duration::from_secs(30));
    Arc::new(http)
}

fn ours(listener: StdListener, strategy: Strategy, threads: usize) -> Outcome {
    let mut builder = Proactor::builder().strategy(strategy);
    if let Some(threads) = NonZeroUsize::new(threads) {
        builder = builder.threads(threads);
    }
    let proactor = builder.build()?;
    let listener = TcpListener::from_std(&proactor, listener)?;
    let port = proactor.port().clone();
    let http = http(port.clone(), port.clone());
    let serving = listener.accept_each(move |accepted| match accepted {
        Ok((stream, _peer)) => {
            if stream.set_nodelay(true).is_ok() {
                let http = Arc::clone(&http);
                let connection = async move {
                    let connection = http.serve_connection(stream, service_fn(hello));
                    drop(connection.await);
                };
                port.spawn(connection).detach();
            }
        }
        Err(trouble) => eprintln!("{trouble}"),
    });
    serving.then(|_ended| ());
    proactor.run();
    Ok(())
}

fn tokio_current(listener: StdListener, _threads: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    Ok(runtime.block_on(on_tokio(listener))?)
}

fn tokio_multi(listener: StdListener, threads: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_io()
        .enable_time()
        .build()?;
    // On a worker, where a task that it spawns stays near.
    Ok(runtime.block_on(runtime.spawn(on_tokio(listener)))??)
}

async fn on_tokio(listener: StdListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let http = http(TokioExecutor::new(), TokioTimer::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let http = Arc::clone(&http);
        tokio::spawn(async move {
            let connection = http.serve_connection(TokioIo::new(stream), service_fn(hello));
            drop(connection.await);
        });
    }
}
