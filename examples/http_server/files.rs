//! Files below a directory, and nothing beside it. Whatever asks the file system runs on the threads for calls that block.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_lite::stream;
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use proactor::CompletionPort;

use crate::serving::Failure;
use crate::site::{Body, text};

/// How much of a file is read at once.
const PIECE: u64 = 64 << 10;

#[derive(Clone)]
pub(crate) struct Files {
    port: CompletionPort,
    /// Without symbolic links, so that what lies below it can be told.
    root: Arc<Path>,
}

/// A file that was found.
struct Opened {
    file: File,
    length: u64,
    kind: &'static str,
}

/// A file that is being sent.
struct Sending {
    file: Arc<File>,
    left: u64,
}

impl Files {
    /// The directory as [`new`](Self::new) wants it.
    pub(crate) fn root(directory: &Path) -> Result<PathBuf, Failure> {
        let unusable = |why: &dyn std::fmt::Display| {
            let directory = directory.display();
            Failure::Usage(format!("--root {directory}: {why}"))
        };
        let root = fs::canonicalize(directory).map_err(|error| unusable(&error))?;
        match root.is_dir() {
            true => Ok(root),
            false => Err(unusable(&"it is no directory")),
        }
    }

    pub(crate) fn new(port: &CompletionPort, root: PathBuf) -> Self {
        Self {
            port: port.clone(),
            root: root.into(),
        }
    }

    /// The file that a request's path names.
    pub(crate) async fn respond(&self, path: &str) -> Response<Body> {
        let Some(relative) = relative(path) else {
            return text(StatusCode::NOT_FOUND, "There is no such file.\n");
        };
        let root = Arc::clone(&self.root);
        let opened = self.port.blocking(move || open(&root, &relative)).await;
        match opened.map_err(io::Error::from).and_then(|opened| opened) {
            Ok(opened) => self.send(opened),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                text(StatusCode::FORBIDDEN, "This file is not for you.\n")
            }
            Err(error) if is_absence(&error) => {
                text(StatusCode::NOT_FOUND, "There is no such file.\n")
            }
            Err(error) => {
                eprintln!("http_server: {path}: {error}");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "This file cannot be read now.\n",
                )
            }
        }
    }

    fn send(&self, opened: Opened) -> Response<Body> {
        let mut response = Response::new(self.body(opened.file, opened.length));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(opened.kind));
        headers.insert(CONTENT_LENGTH, opened.length.into());
        response
    }

    /// Its bytes, each piece read when the one before has gone. One that shrinks meanwhile breaks off, and the client sees that.
    fn body(&self, file: File, length: u64) -> Body {
        let sending = Sending {
            file: Arc::new(file),
            left: length,
        };
        let port = self.port.clone();
        let pieces = stream::try_unfold(sending, move |mut sending| {
            let port = port.clone();
            async move {
                if sending.left == 0 {
                    return Ok(None);
                }
                let (file, most) = (Arc::clone(&sending.file), sending.left.min(PIECE));
                let piece = port.blocking(move || read(&file, most)).await??;
                sending.left -= piece.len() as u64;
                Ok(Some((Frame::data(piece), sending)))
            }
        });
        Either::Right(StreamBody::new(pieces).boxed_unsync())
    }
}

/// Where a request's path leads below the root, if it leads nowhere else: without `..`, also if that is written with percents.
fn relative(path: &str) -> Option<PathBuf> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let relative = PathBuf::from(decoded.trim_start_matches('/'));
    let plain = |part| matches!(part, Component::Normal(name) if name.len() <= 255);
    let exists_perhaps = decoded.len() < 4096 && !decoded.contains('\0');
    (exists_perhaps && relative.components().all(plain)).then_some(relative)
}

/// Opens the file, or a directory's `index.html`. Symbolic links may lead about below the root, and not out of it.
fn open(root: &Path, relative: &Path) -> io::Result<Opened> {
    let mut path = fs::canonicalize(root.join(relative))?;
    if path.is_dir() {
        path = fs::canonicalize(path.join("index.html"))?;
    }
    // Looked at before it is opened: opening a pipe would wait for who writes to it.
    if !path.starts_with(root) || !path.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(&path)?;
    Ok(Opened {
        length: file.metadata()?.len(),
        kind: kind_of(&path),
        file,
    })
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The next `most` bytes, or as many as there are; none is an error.
fn read(file: &File, most: u64) -> io::Result<Bytes> {
    let mut piece = Vec::new();
    piece.reserve_exact(usize::try_from(most).unwrap_or(0));
    match file.take(most).read_to_end(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(piece.into()),
    }
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("css") => "text/css",
        Some("html") => "text/html; charset=utf-8",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("md" | "txt") => "text/plain; charset=utf-8",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
