//! Packets byte for byte as a kernel's router sent them on: every protocol, errors, options, bad checksums.

use crate::router::Router;
use podpath::wire::IpHeader;

const RECORDED: &str = include_str!("../data/nat/wire.txt");

/// The rules of one family as the file has them.
fn rules(family: char) -> String {
    let start = format!("# rules {family}");
    let lines = RECORDED.lines().skip_while(|l| *l != start).skip(1);
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

#[test]
fn packets_leave_as_the_kernel_sent_them() {
    let mut v4 = Router::with(&rules('4'), false);
    let mut v6 = Router::with(&rules('6'), true);
    (v4.forwards, v6.forwards) = (true, true);
    let mut wrong = Vec::new();
    let mut n = 0;
    for line in RECORDED.lines().skip_while(|l| *l != "# packets").skip(1) {
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
            wrong.push(format!("{name}\n  kernel {after}\n  we     {got:02x?}"));
        }
        n += 1;
    }
    assert_eq!(n, 77, "packets in the file");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
