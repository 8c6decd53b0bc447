//! Packets byte for byte as a kernel's router sent them on: every protocol, errors, options, bad checksums,
//! FTP and TFTP.

use crate::router::Router;
use podpath::wire::IpHeader;

/// The rules of one family's nat table as the file has them.
fn rules(file: &str, family: char) -> String {
    let start = format!("# nat {family}");
    let lines = file.lines().skip_while(|l| *l != start).skip(1);
    let rules = lines.take_while(|l| l.starts_with("-A"));
    rules.map(|l| format!("{l}\n")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().as_chunks::<2>().0.iter();
    (hex != "-").then(|| {
        let byte = |d: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(d).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    })
}

fn dst(p: &[u8]) -> std::net::IpAddr {
    IpHeader::parse_lax(p).unwrap().dst
}

/// Plays a file's packets; how many there were, and what differs.
fn replay(file: &str) -> (usize, Vec<String>) {
    let mut v4 = Router::with(&rules(file, '4'), false);
    let mut v6 = Router::with(&rules(file, '6'), true);
    for r in [&mut v4, &mut v6] {
        r.forwards = true;
        r.helpers = file.contains("--helper ftp");
    }
    let mut wrong = Vec::new();
    let mut n = 0;
    for line in file.lines().skip_while(|l| *l != "# packets").skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        let &[name, way, before, after] = words.as_slice() else {
            panic!("{line}");
        };
        let before = bytes(before).unwrap();
        let r = if before[0] >> 4 == 4 {
            &mut v4
        } else {
            &mut v6
        };
        let got = match way {
            "out" => r.forward(&before),
            _ => r.backward(&before),
        };
        // The kernel had no route for what it did not translate; the router of the test has one for all.
        let got = got.ok().filter(|p| dst(p) != dst(&before));
        if got != bytes(after) {
            let hex = |p: Vec<u8>| p.iter().map(|b| format!("{b:02x}")).collect::<String>();
            wrong.push(format!(
                "{name}\n  kernel {after}\n  we     {:?}",
                got.map(hex)
            ));
        }
        n += 1;
    }
    (n, wrong)
}

#[test]
fn packets_leave_as_the_kernel_sent_them() {
    let (n, wrong) = replay(include_str!("../data/nat/wire.txt"));
    assert_eq!(n, 77, "packets in the file");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ftp_and_tftp_leave_as_the_kernel_sent_them() {
    let (n, wrong) = replay(include_str!("../data/nat/ftp.txt"));
    assert_eq!(n, 66, "packets in the file");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
