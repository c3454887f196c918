//! `udp_echo` as its clients meet it.
#![cfg(all(target_os = "linux", not(proactor_loom)))]

#[path = "common/process.rs"]
mod process;
#[path = "common/serving.rs"]
mod serving;

use std::io::ErrorKind;
use std::net::UdpSocket;

use process::{WATCHDOG, assert_fails, assert_helps};
use serving::{Server, everywhere};

#[test]
fn it_helps_with_every_flag_and_refuses_what_cannot_be() {
    let flags = ["--addr", "--strategy", "--threads", "--backend", "--help"];
    assert_helps("udp_echo", &flags);
    assert_fails("udp_echo", &["--addr", "nowhere"], 2, "nowhere");
    assert_fails("udp_echo", &["stray"], 2, "stray");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    assert_fails("udp_echo", &["--addr", &address], 1, &address);
}

/// The next datagram's length. A child of another test that ends interrupts a call that has a limit.
fn receive(client: &UdpSocket, buf: &mut [u8]) -> usize {
    loop {
        match client.recv(buf) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.expect("the echo"),
        }
    }
}

#[test]
fn every_datagram_comes_back_whole_to_who_sent_it() {
    everywhere(|arguments| {
        let server = Server::start("udp_echo", arguments);
        let clients = [(); 3].map(|()| {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
            client.connect(server.address).expect("an address");
            client.set_read_timeout(Some(WATCHDOG)).expect("a limit");
            client
        });
        let mut buf = vec![0; 65_536];
        // Several of the longest at once may be more than the system keeps.
        for (len, at_once) in [(0, 3), (1, 3), (1472, 3), (65_507, 1), (9, 3), (0, 3)] {
            let clients = &clients[..at_once];
            for (client, mark) in clients.iter().zip(1..) {
                client.send(&vec![mark; len]).expect("to send");
            }
            for (client, mark) in clients.iter().zip(1..) {
                let count = receive(client, &mut buf);
                assert!(buf[..count] == vec![mark; len], "{len} bytes of {mark}");
            }
        }
        server.end();
    });
}
