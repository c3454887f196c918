//! HTTP for the examples that speak it: HTTP/1.1 and HTTP/2 (with prior knowledge) on one port, time limits, and an end that lets what was
//! begun finish.
//!
//! hyper and hyper-util do the speaking. A connection is one spawned future; which threads poll it is the strategy's matter.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use parking_lot::Mutex;
use proactor::net::{TcpListener, TcpStream};
use proactor::{CompletionPort, Proactor};

use crate::serving::{Failure, Serving, announce, stop_on_signals};

/// What every HTTP server is told.
#[derive(Args)]
pub(crate) struct HttpOptions {
    #[command(flatten)]
    serving: Serving,
    /// Seconds that a client has for the head of a request, the pause before it included
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    header_timeout: Duration,
    /// Seconds that requests have to finish when the server ends
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    grace: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("it is a number from 0.01 to 86400".to_owned()),
    }
}

/// What the connections share.
struct Server<S> {
    port: CompletionPort,
    http: auto::Builder<CompletionPort>,
    header_timeout: Duration,
    /// None at the end: who comes then is too late.
    graceful: Mutex<Option<GracefulShutdown>>,
    service: S,
}

/// Serves what `service` makes of the port until a signal, and then lets requests finish.
pub(crate) fn run<S, B>(
    options: &HttpOptions,
    service: impl FnOnce(&CompletionPort) -> S,
) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let proactor = options.serving.proactor()?;
    let listener = options
        .serving
        .bind(|address| TcpListener::bind(&proactor, address))?;
    let server = Server::new(
        proactor.port(),
        options.header_timeout,
        service(proactor.port()),
    );
    server.serve(&listener);
    stop_on_signals(proactor.port())?;
    announce(listener.local_addr())?;
    proactor.run(); // until the signal: there is always an accept under way
    listener.close(); // who would connect now is refused
    server.end(&proactor, options.grace);
    Ok(())
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    fn new(port: &CompletionPort, header_timeout: Duration, service: S) -> Arc<Self> {
        let mut http = auto::Builder::new(port.clone());
        http.http1()
            .timer(port.clone())
            .header_read_timeout(header_timeout);
        // Who does not answer within 20 s, hyper's default, has gone without a word.
        http.http2()
            .timer(port.clone())
            .keep_alive_interval(header_timeout);
        Arc::new(Self {
            port: port.clone(),
            http,
            header_timeout,
            graceful: Mutex::new(Some(GracefulShutdown::new())),
            service,
        })
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        let server = Arc::clone(self);
        let accepting = listener.accept_each(move |accepted| match accepted {
            Ok((stream, _peer)) => {
                let watcher = server
                    .graceful
                    .lock()
                    .as_ref()
                    .map(GracefulShutdown::watcher);
                if let (Some(watcher), Ok(())) = (watcher, stream.set_nodelay(true)) {
                    let connection = Arc::clone(&server).connection(stream, watcher);
                    server.port.spawn(connection).detach();
                }
            }
            Err(trouble) => eprintln!("{trouble}"),
        });
        accepting.then(|_ended| ());
    }

    /// One connection. Clients go away when they like, so how it ended is of no interest.
    async fn connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher) {
        let heard = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            heard.store(true, Ordering::Relaxed);
            self.service.call(request)
        });
        let serving = self.http.serve_connection(stream, service);
        let mut serving = pin!(watcher.watch(serving));
        // hyper's own limit begins when it knows which version is spoken.
        let mut first = pin!(self.port.sleep(self.header_timeout).into_future());
        poll_fn(|context| {
            let over = serving.as_mut().poll(context).is_ready();
            let mut silent = || first.as_mut().poll(context).is_ready();
            match over || !heard.load(Ordering::Relaxed) && silent() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Accepts nobody more, has connections end after the request that they are at, and after `grace` at the latest.
    fn end(&self, proactor: &Proactor, grace: Duration) {
        if let Some(graceful) = self.graceful.lock().take() {
            self.port.spawn(graceful.shutdown()).detach();
        }
        proactor.restart();
        proactor.shutdown(Instant::now() + grace);
    }
}
