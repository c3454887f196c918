//! A web application on axum: a router, a state that its handlers share, and a handler whose work would hold others up.
//!
//! ```text
//! cargo run --release --example axum_app -- --addr 127.0.0.1:8080
//! curl http://127.0.0.1:8080/
//! curl --json '"buy milk"' http://127.0.0.1:8080/notes
//! curl http://127.0.0.1:8080/notes
//! curl http://127.0.0.1:8080/primes/1000000
//! ```
//!
//! axum asks for no runtime: a router is a service, and hyper-util's `TowerToHyperService` makes it one of hyper's. It says `listening on
//! ADDR` when it is ready; SIGINT or SIGTERM ends it, after the requests that it is at, exit 0.

#[path = "../serving/http.rs"]
mod http;
#[path = "../serving/mod.rs"]
mod serving;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use proactor::CompletionPort;

use crate::http::HttpOptions;
use crate::serving::Failure;

/// How many notes are kept: the newest.
const NOTES: usize = 100;
/// Counting further would take more memory than a request is worth.
const MOST: u32 = 100_000_000;

/// Counts visitors, keeps notes, and counts primes: an application on axum
#[derive(Parser)]
#[command(name = "axum_app")]
struct Options {
    #[command(flatten)]
    http: HttpOptions,
}

/// What the handlers share.
#[derive(Clone)]
struct App {
    port: CompletionPort,
    visitors: Arc<AtomicU64>,
    /// Locked for a moment, and never over an `.await`.
    notes: Arc<Mutex<VecDeque<String>>>,
}

fn main() -> ExitCode {
    serving::main("axum_app", run)
}

fn run(options: Options) -> Result<(), Failure> {
    http::run(&options.http, |port| {
        let app = App {
            port: port.clone(),
            visitors: Arc::default(),
            notes: Arc::default(),
        };
        TowerToHyperService::new(router(app))
    })
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(welcome))
        .route("/notes", get(notes).post(note))
        .route("/primes/{below}", get(primes))
        .with_state(app)
}

async fn welcome(State(app): State<App>) -> String {
    let visitor = app.visitors.fetch_add(1, Ordering::Relaxed) + 1;
    format!("Welcome, visitor {visitor}!\n")
}

async fn notes(State(app): State<App>) -> Json<VecDeque<String>> {
    Json(app.notes.lock().clone())
}

async fn note(State(app): State<App>, Json(text): Json<String>) -> StatusCode {
    let mut notes = app.notes.lock();
    notes.truncate(NOTES - 1);
    notes.push_front(text);
    StatusCode::CREATED
}

/// Takes long, so it is counted on the lane for such calls: the threads that poll futures go on meanwhile.
async fn primes(
    State(app): State<App>,
    Path(below): Path<u32>,
) -> Result<String, (StatusCode, String)> {
    if below > MOST {
        let why = format!("at most {MOST} here\n");
        return Err((StatusCode::BAD_REQUEST, why));
    }
    let counted = app.port.blocking(move || count_primes(below)).await;
    let failed = |error: proactor::Error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
    counted.map(|count| format!("{count}\n")).map_err(failed)
}

/// How many primes are below `limit`: the sieve of Eratosthenes.
fn count_primes(limit: u32) -> usize {
    let limit = limit as usize;
    let mut composite = vec![false; limit];
    let mut count = 0;
    for number in 2..limit {
        if !composite[number] {
            count += 1;
            let multiples = (number * number..limit).step_by(number);
            multiples.for_each(|multiple| composite[multiple] = true);
        }
    }
    count
}
