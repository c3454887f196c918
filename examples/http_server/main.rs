//! A web server on hyper: a greeting, files, and an echo of any size; HTTP/1.1 and HTTP/2 on one port.
//!
//! ```text
//! cargo run --release --example http_server -- --addr 127.0.0.1:8080 --root docs
//! curl http://127.0.0.1:8080/
//! curl --http2-prior-knowledge http://127.0.0.1:8080/architecture.md
//! curl --data-binary @FILE http://127.0.0.1:8080/echo
//! ```
//!
//! Files are read on the threads for calls that block, a piece at a time, and the echo sends on what has come: neither is ever whole in
//! memory. It says `listening on ADDR` when it is ready; SIGINT or SIGTERM ends it, after the requests that it is at, exit 0.

mod files;
#[path = "../serving/http.rs"]
mod http;
#[path = "../serving/mod.rs"]
mod serving;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hyper::service::service_fn;

use crate::files::Files;
use crate::http::HttpOptions;
use crate::serving::Failure;
use crate::site::Site;

/// Says hello, serves files, and echoes what is uploaded, over HTTP/1.1 and HTTP/2
#[derive(Parser)]
#[command(name = "http_server")]
struct Options {
    #[command(flatten)]
    http: HttpOptions,
    /// Directory whose files are served; without it there are none
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn main() -> ExitCode {
    serving::main("http_server", run)
}

fn run(options: Options) -> Result<(), Failure> {
    let root = options.root.as_deref().map(Files::root).transpose()?;
    http::run(&options.http, |port| {
        let files = root.map(|root| Files::new(port, root));
        let site = Site::new(files);
        service_fn(move |request| site.clone().answer(request))
    })
}
