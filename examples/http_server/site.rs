//! What is answered to which request.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::files::Files;

/// A body that is there, or one that comes in pieces.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>;

#[derive(Clone)]
pub(crate) struct Site {
    files: Option<Files>,
}

impl Site {
    pub(crate) fn new(files: Option<Files>) -> Self {
        Self { files }
    }

    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let head = request.method() == Method::HEAD;
        let response = self.respond(request).await;
        Ok(if head {
            without_body(response)
        } else {
            response
        })
    }

    async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        let method = request.method();
        let reads = method == Method::GET || method == Method::HEAD;
        match (request.uri().path(), &self.files) {
            ("/echo", _) if method == Method::POST || method == Method::PUT => echo(request),
            ("/echo", _) => refused("POST, PUT"),
            _ if !reads => refused("GET, HEAD"),
            ("/", _) => text(StatusCode::OK, "Hello, world!\n"),
            (path, Some(files)) => files.respond(path).await,
            (_, None) => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        }
    }
}

/// Sends back what comes, while it comes.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(Either::Right(body.map_err(Into::into).boxed_unsync()));
    if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

pub(crate) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn refused(allowed: &'static str) -> Response<Body> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "This method does nothing here.\n",
    );
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// The same head, which says how long the body would have been.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        let length = HeaderValue::from(length);
        parts.headers.entry(CONTENT_LENGTH).or_insert(length);
    }
    let nothing = Empty::new().map_err(|never| match never {});
    Response::from_parts(parts, Either::Right(nothing.boxed_unsync()))
}
