//! The peers serve, too: an echo of each is verified, or it is said what to install.
#![cfg(feature = "peers")]

use std::process::Command;

use proactor_bench::rows::read_json;
use proactor_bench::servers::SERVERS;

#[test]
fn every_peer_is_measured_or_its_lack_is_told() {
    let output = Command::new("timeout")
        .args(["120", env!("CARGO_BIN_EXE_echo"), "--json", "--rounds", "1"])
        .args(["--seconds", "0.02", "--shapes", "4x64x1,4x16384x1"])
        .output()
        .expect("`timeout` is part of coreutils");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let rows = read_json(output.stdout.as_slice()).expect("each line is a row");
    for server in SERVERS {
        let measured = rows.iter().filter(|row| row.peer == server.name).count();
        let lacking = format!("without {}: ", server.name);
        let lack = said.lines().find(|line| line.starts_with(&lacking));
        match lack {
            None => assert_eq!(
                measured,
                2 * 2,
                "{}: shapes and metrics; {said}",
                server.name
            ),
            Some(lack) => assert!(lack.contains(": install Debian's "), "{lack}"),
        }
    }
}
