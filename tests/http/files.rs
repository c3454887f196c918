//! The files that `http_server` serves, and those that it does not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::client::{Http2, get};
use crate::process::assert_refused;
use crate::serving::{Server, everywhere};

/// A directory of the test's own, with a secret beside what is served.
struct Site(PathBuf);

impl Site {
    fn new(name: &str) -> Self {
        let name = format!("proactor-http-{name}-{}", std::process::id());
        let site = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&site.0);
        fs::create_dir_all(site.0.join("root/sub")).expect("a directory");
        fs::create_dir_all(site.0.join("root/bare")).expect("a directory");
        site.write("secret.txt", b"secret");
        site.write("root/a b.txt", b"spaces");
        site.write("root/page.html", b"<p>");
        site.write("root/empty", b"");
        site.write("root/sub/index.html", b"index");
        site
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.0.join(path), bytes).expect("a file");
    }

    fn root(&self) -> String {
        self.0.join("root").display().to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_come_byte_for_byte_with_their_types_and_lengths() {
    let site = Site::new("bytes");
    // Several pieces, and none of them whole.
    let large: Vec<u8> = (0..1_000_003_u32)
        .map(|i| i.to_le_bytes()[i as usize % 3])
        .collect();
    site.write("root/large.png", &large);
    let root = site.root();
    everywhere(|arguments| {
        let server = Server::start("http_server", &[arguments, &["--root", &root]].concat());
        let client = server.connect();
        for (path, kind, body) in [
            ("/large.png", "image/png", &large[..]),
            ("/a%20b.txt", "text/plain; charset=utf-8", b"spaces"),
            ("//page.html?query#part", "text/html; charset=utf-8", b"<p>"),
            ("/empty", "application/octet-stream", b""),
            ("/sub", "text/html; charset=utf-8", b"index"),
            ("/sub/", "text/html; charset=utf-8", b"index"),
        ] {
            let head = get(&client, &format!("HEAD {path}"));
            let whole = get(&client, &format!("GET {path}"));
            let length = body.len().to_string();
            for reply in [&head, &whole] {
                assert_eq!(reply.status, 200, "{path}");
                assert_eq!(reply.header("content-type"), Some(kind), "{path}");
                assert_eq!(reply.header("content-length"), Some(&*length), "{path}");
            }
            assert!(whole.body == body, "{path}: {} bytes", whole.body.len());
        }
        let requests = Vec::from([(); 8].map(|()| {
            let nothing = hyper::body::Bytes::new();
            (hyper::Method::GET, "/large.png", nothing)
        }));
        for (status, body) in Http2::connect(server.address).ask_all(requests) {
            assert!(status == 200 && body == large, "{status}, {}", body.len());
        }
        server.end();
    });
}

#[test]
fn no_path_leads_out_of_the_root() {
    let site = Site::new("paths");
    let link = |to: &str, name: &str| {
        let to = site.0.join(to);
        std::os::unix::fs::symlink(to, site.0.join("root").join(name)).expect("a link");
    };
    link("secret.txt", "out.txt");
    link(".", "up");
    link("root/page.html", "in.html");
    link("root/round", "round");
    let pipe = Command::new("mkfifo")
        .arg(site.0.join("root/pipe"))
        .status();
    assert!(pipe.expect("the command mkfifo").success());
    let server = Server::start("http_server", &["--root", &site.root()]);
    let client = server.connect();
    let secret = site.0.join("secret.txt");
    let long = format!("/{}", "x".repeat(300));
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/out.txt",
        "/up/secret.txt",
        &format!("/{}", secret.display()),
        &format!("//{}", secret.display()),
        "/page.html%00.txt",
        "/%ff",
        "/..",
        "/.",
        "/bare",
        "/pipe", // which nobody writes to
        "/absent",
        "/page.html/more",
        &long,
    ] {
        let reply = get(&client, &format!("GET {path}"));
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    assert_eq!(get(&client, "GET /in.html").text(), "<p>"); // links that stay inside lead on
    assert_eq!(get(&client, "PUT /page.html").status, 405);
    server.end();

    let without = Server::start("http_server", &[]);
    assert_eq!(get(&without.connect(), "GET /page.html").status, 404);
    without.end();
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let site = Site::new("refused");
    let file = site.0.join("secret.txt").display().to_string();
    assert_refused("http_server", &["--root", &file], "no directory");
    assert_refused("http_server", &["--root", "/no/such"], "/no/such");
}
