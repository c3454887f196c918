//! `tls_echo` as its clients meet it: rustls over sockets of the standard library, and clients that do not keep to the protocol.
#![cfg(all(target_os = "linux", not(proactor_loom)))]

#[path = "common/mod.rs"]
mod common;
#[path = "common/memory.rs"]
mod memory;
#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use process::{assert_fails, assert_helps};
use serving::{Server, everywhere};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A server, and those who trust it.
struct Tls {
    server: Server,
    config: Arc<ClientConfig>,
}

impl Tls {
    fn start(arguments: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("proactor-tls-echo-{}-{number}.pem", std::process::id());
        let file = Gone(std::env::temp_dir().join(unique));
        let path = file.0.to_str().expect("UTF-8");
        let server = Server::start("tls_echo", &[arguments, &["--certificate", path]].concat());
        let certificate = CertificateDer::from_pem_file(&file.0).expect("the certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate to trust");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            server,
            config: Arc::new(config),
        }
    }

    fn connect(&self) -> Client {
        let stream = self.server.connect();
        stream.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(&self.config), name).expect("a session");
        StreamOwned::new(session, stream)
    }

    /// What a client says first.
    fn first_words(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let written = self.connect().conn.write_tls(&mut words);
        assert!(written.expect("words") > 100);
        words
    }
}

/// A file that is taken away.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn echo(client: &mut Client, message: &[u8]) {
    client.write_all(message).expect("to send");
    client.flush().expect("to send");
    let mut heard = vec![0; message.len()];
    client.read_exact(&mut heard).expect("the echo");
    assert!(heard == message, "other bytes come back");
}

/// Says goodbye, and hears what was on its way, and the goodbye of the other side.
fn end(mut client: Client) -> io::Result<Vec<u8>> {
    client.conn.send_close_notify();
    client.flush()?;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest)?;
    Ok(rest)
}

/// Nothing more comes: the end, or a reset where the server had not read everything.
fn is_hung_up_on(stream: &mut TcpStream) {
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not the end of the connection: {other:?}"),
    }
}

#[test]
fn megabytes_come_back_to_the_byte_also_after_the_clients_goodbye() {
    everywhere(|arguments| {
        let tls = Tls::start(arguments);
        let mut random = Random::new();
        let mut client = tls.connect();
        let mut echoed = 0;
        while echoed < 3 << 20 {
            let len = random.within(1, 150_000);
            echo(&mut client, &random.bytes(len));
            echoed += len;
        }
        let last = random.bytes(150_000);
        client.write_all(&last).expect("to send");
        let heard = end(client).expect("a goodbye");
        assert!(heard == last, "after the goodbye other bytes come back");
        tls.server.end();
    });
}

#[test]
fn an_end_without_a_goodbye_ends_the_connection_and_nothing_else() {
    everywhere(|arguments| {
        let tls = Tls::start(arguments);
        let mut other = tls.connect();
        echo(&mut other, b"before");
        let mut client = tls.connect();
        client.write_all(b"cut").expect("to send");
        client.flush().expect("to send");
        client.sock.shutdown(Shutdown::Write).expect("to end");
        let mut heard = Vec::new();
        let error = client.read_to_end(&mut heard).expect_err("no goodbye");
        assert_eq!(
            (&heard[..], error.kind()),
            (&b"cut"[..], ErrorKind::UnexpectedEof)
        );

        let mut client = tls.connect();
        echo(&mut client, b"well");
        client.sock.write_all(b"no record of TLS").expect("to send");
        client
            .read_exact(&mut [0; 1])
            .expect_err("the alert of a protocol that was broken");
        echo(&mut other, b"after");
        assert!(end(other).expect("a goodbye").is_empty());
        tls.server.end();
    });
}

#[test]
fn a_handshake_that_nobody_ends_is_ended_in_time_and_keeps_nobody_waiting() {
    everywhere(|arguments| {
        let tls = Tls::start(&[arguments, &["--patience-ms", "1000"]].concat());
        let before = memory::descriptors(tls.server.pid());
        let words = tls.first_words();
        let begin = Instant::now();
        let mut idle: Vec<_> = (0..30).map(|_| tls.server.connect()).collect();
        for (number, stream) in idle.iter_mut().enumerate() {
            let part = &words[..words.len() * number / 30];
            stream.write_all(part).expect("to send");
        }
        let mut client = tls.connect();
        echo(&mut client, b"meanwhile");
        for stream in &mut idle {
            is_hung_up_on(stream);
        }
        assert!(begin.elapsed() >= Duration::from_secs(1));
        echo(&mut client, b"who shook hands may stay");
        assert!(end(client).expect("a goodbye").is_empty());
        memory::comes_back_to(tls.server.pid(), before);
        tls.server.end();
    });
}

#[test]
fn a_thousand_aborted_handshakes_leave_no_descriptor_and_no_memory() {
    everywhere(|arguments| {
        let tls = Tls::start(arguments);
        let pid = tls.server.pid();
        let words = tls.first_words();
        let mut changed = words.clone();
        *changed.last_mut().expect("words") ^= 1;
        let parts: [&[u8]; 6] = [b"", &words[..5], &words[..60], &words, &changed, b"no TLS"];
        let before = memory::descriptors(pid);
        let abort = |handshakes: usize| {
            for number in 0..handshakes {
                let mut stream = tls.server.connect();
                // It may hang up before all was sent.
                let _ = stream.write_all(parts[number % parts.len()]);
                drop(stream);
                if number % 25 == 24 {
                    memory::comes_back_to(pid, before); // so that no peak hides what each one leaves
                }
            }
        };
        abort(200);
        let resident = memory::resident_kb(pid);
        abort(1000);
        let grown = memory::resident_kb(pid).saturating_sub(resident);
        // One connection's buffers alone are 4 KiB.
        assert!(grown < 1024, "{grown} KiB are left of 1000 handshakes");
        echo(&mut tls.connect(), b"and it goes on");
        tls.server.end();
    });
}

#[test]
fn it_helps_and_refuses_bad_input_in_one_line() {
    let flags = ["--addr", "--strategy", "--threads", "--backend"];
    assert_helps("tls_echo", &flags);
    assert_helps("tls_echo", &["--certificate", "--patience-ms"]);
    assert_fails("tls_echo", &["--strategy", "magic"], 2, "work-stealing");
    assert_fails("tls_echo", &["--patience-ms", "0"], 2, "--patience-ms");
    let nowhere = "/nowhere/at/all.pem";
    assert_fails("tls_echo", &["--certificate", nowhere], 1, nowhere);
}
