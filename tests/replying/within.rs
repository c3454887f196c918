//! What its own handlers do with its stream, and who takes the socket out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use proactor::net::{Reply, TcpStream};
use proactor::{BufferPool, ErrorKind};

use super::common::{SOON, everywhere, pair, until};
use super::{
    LARGE, ask, assert_closed, assert_over, assert_same, next, pattern, replying, until_over,
};

#[test]
fn a_stream_is_not_given_up_while_it_is_under_way_and_is_after_its_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (mut stream, mut peer) = pair(&proactor);
        let refused = |stream: TcpStream| {
            let (error, stream) = stream.into_fd().expect_err("it is in use");
            assert_eq!(error.kind(), ErrorKind::InUse);
            stream
        };
        let (entered, enters) = mpsc::channel();
        let (leave, leaves) = mpsc::channel();
        let end = replying(&stream, move |bytes| {
            entered.send(()).unwrap();
            leaves.recv_timeout(SOON).unwrap();
            match &bytes[..] {
                b"large" => Reply::Write(vec![9; LARGE]),
                b"over" => Reply::Last(b"bye".to_vec()),
                _ => Reply::Nothing,
            }
        });
        stream = refused(stream);
        for question in ["some", "large"] {
            peer.write_all(question.as_bytes()).unwrap();
            enters.recv_timeout(SOON).unwrap();
            stream = refused(stream);
            leave.send(()).unwrap();
            if question == "large" {
                next(&mut peer, 1);
            }
            stream = refused(stream);
        }
        next(&mut peer, LARGE - 1);
        leave.send(()).unwrap();
        peer.write_all(b"over").unwrap();
        assert_eq!(next(&mut peer, 3), b"bye");
        assert_over(&end);
        let (socket, rest) = stream.into_fd().map_err(|(error, _)| error).unwrap();
        assert!(rest.is_empty());
        let mut socket = StdStream::from(socket);
        socket.set_nonblocking(false).unwrap();
        ask_other_way(&mut socket, &mut peer);
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

fn ask_other_way(socket: &mut StdStream, peer: &mut StdStream) {
    peer.write_all(b"still there").unwrap();
    assert_eq!(next(socket, 11), b"still there");
    socket.write_all(b"so am I").unwrap();
    assert_eq!(next(peer, 7), b"so am I");
}

#[test]
fn its_handler_may_write_wait_and_cancel() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let stream = Arc::new(stream);
        let within = Arc::downgrade(&stream);
        let end = replying(&stream, move |bytes| {
            let stream = within.upgrade().expect("the test has it");
            match &bytes[..] {
                b"wait" => {
                    let (result, _) = stream.write_all("waited ").wait();
                    result.unwrap();
                }
                b"then" => {
                    stream.write_all("then ").then(|(result, _)| {
                        result.unwrap();
                    });
                }
                b"over" => stream.cancel(),
                _ => {}
            }
            Reply::Write(bytes)
        });
        for (question, answer) in [
            ("wait", "waited wait"),
            ("then", "then then"),
            ("some", "some"),
        ] {
            peer.write_all(question.as_bytes()).unwrap();
            assert_eq!(next(&mut peer, answer.len()), answer.as_bytes());
        }
        // Cancelled by its own handler: what that has answered is sent.
        ask(&mut peer, "over");
        let (result, unsent) = end.recv_timeout(SOON).unwrap();
        assert!(result.unwrap_err().is_cancelled());
        assert!(unsent.is_none());
        assert_eq!(stream.write_all("word").wait().0.unwrap(), 4);
        assert_eq!(next(&mut peer, 4), b"word");
    });
}

#[test]
fn its_handler_may_begin_the_next_which_follows_when_it_is_over() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (stream, mut peer) = pair(&proactor);
        let stream = Arc::new(stream);
        let within = Arc::downgrade(&stream);
        let (begun, begins) = mpsc::channel();
        let end = replying(&stream, move |bytes| {
            let stream = within.upgrade().expect("the test has it");
            begun.send(replying(&stream, until_over)).unwrap();
            Reply::Last(bytes)
        });
        ask(&mut peer, "first");
        assert_over(&end);
        let next_end = begins.recv_timeout(SOON).unwrap();
        ask(&mut peer, "some");
        ask(&mut peer, "over.");
        assert_over(&next_end);
    });
}

#[test]
fn a_handler_that_has_the_last_handle_closes_the_stream_with_its_end() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        for closes in [false, true] {
            let (stream, mut peer) = pair(&proactor);
            let stream = Arc::new(stream);
            let its = Arc::clone(&stream);
            let end = replying(&stream, move |bytes| {
                if closes && *bytes == *b"over." {
                    its.close();
                }
                until_over(bytes)
            });
            drop(stream);
            ask(&mut peer, "some");
            peer.write_all(b"over.").unwrap();
            let (result, unsent) = end.recv_timeout(SOON).unwrap();
            if closes {
                assert!(result.unwrap_err().is_cancelled());
                assert_eq!(unsent.as_deref(), Some(&b"over."[..]));
            } else {
                result.unwrap();
                assert_eq!(next(&mut peer, 5), b"over.");
            }
            assert_closed(&mut peer);
        }
        until("only the start is outstanding", || {
            proactor.port().outstanding() == 1
        });
    });
}

#[test]
fn the_handler_of_its_end_may_take_the_socket_out() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        for round in 0..20 {
            let (stream, mut peer) = pair(&proactor);
            let (told, tells) = mpsc::channel();
            let replying = stream.reply_each(&BufferPool::new(5), until_over);
            replying.then(move |_| {
                told.send(stream.into_fd().map_err(|(error, _)| error))
                    .unwrap();
            });
            ask(&mut peer, "some");
            peer.write_all(b"over.then").unwrap();
            assert_eq!(next(&mut peer, 5), b"over.", "{round}");
            let (socket, rest) = tells
                .recv_timeout(SOON)
                .unwrap()
                .expect("nothing is under way");
            assert!(rest.is_empty());
            let mut socket = StdStream::from(socket);
            socket.set_nonblocking(false).unwrap();
            assert_eq!(next(&mut socket, 4), b"then");
        }
    });
}

#[test]
fn any_socket_that_carries_a_stream_will_do() {
    everywhere(|setup| {
        let proactor = setup.build();
        proactor.start().unwrap();
        let (server, mut peer) = UnixStream::pair().unwrap();
        let stream = TcpStream::from_fd(&proactor, server.into()).unwrap();
        peer.set_read_timeout(Some(SOON)).unwrap();
        let end = replying(&stream, Reply::Write);
        let all = pattern(1_000_000);
        thread::scope(|scope| {
            let (mut out, all) = (&peer, &all);
            scope.spawn(move || {
                out.write_all(all).unwrap();
                out.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = vec![0; all.len()];
            (&peer).read_exact(&mut back).unwrap();
            assert_same(&back, all);
        });
        assert_over(&end);
        drop(stream);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}
