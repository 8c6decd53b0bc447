//! What no client sends: packets of all kinds of wrong, slow and too many connections.
//!
//! The responder answers 1522 recorded packets as miekg/dns does under CoreDNS's server (`tests/data/dns/hostile.go`
//! says how they were made). A running `dns serve` gets them, random changes of them and hostile TCP clients for
//! `PODPATH_HOSTILE_SECONDS` (2; `make dns-hostile`: 60): it must not end, must answer all the while, and its
//! memory, threads and descriptors are bounded.

#[path = "common/dns_process.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod dns_process;

use dns_process::{Server, over_tcp, over_udp, query, socket};
use flate2::read::GzDecoder;
use podpath::base::limits::DNS_TCP_CLIENTS_MAX;
use podpath::base::{Instant, Rng};
use podpath::kube::dns::{
    Client, Corefile, Environment, Objects, Outcome, Responder, Transport, codec,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Packets with the replies of miekg/dns, none where it is silent.
fn recorded() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let packed = include_bytes!("data/dns/hostile.txt.gz");
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("text");
    let hex = |text: &str| -> Vec<u8> {
        let octet = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(octet).collect()
    };
    let line = |line: &str| {
        let (packet, reply) = line.split_once(' ').expect("two words");
        (hex(packet), (reply != "-").then(|| hex(reply)))
    };
    text.lines().map(line).collect()
}

/// A server that knows no name: what it says of a query is what was recorded.
fn responder() -> Responder {
    let environment = Environment::default();
    let text = ". {\n template IN ANY . {\n  rcode NXDOMAIN\n }\n}\n";
    let (corefile, _) = Corefile::parse("Corefile", text, &environment.around);
    let (mut dns, findings) = Responder::new(&corefile, &environment);
    assert_eq!(findings, []);
    dns.learn(Instant::ZERO, &Objects::default());
    dns
}

fn client(transport: Transport) -> Client {
    Client {
        from: ([10, 0, 0, 1], 4000).into(),
        port: 53,
        transport,
    }
}

/// A reply without what the recorded handler did not decide: AA, and OPT of a query that was answered.
fn bare(reply: &[u8]) -> Vec<u8> {
    let mut out = reply.to_vec();
    out[2] &= !4;
    let badvers = out[3] & 15 == 0;
    if !badvers && out[10..12] == [0, 1] {
        out.truncate(out.len() - codec::OPT_LEN);
        out[11] = 0;
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn what_is_wrong_is_answered_as_miekg_dns_answers_it() {
    let all = recorded();
    assert_eq!(all.len(), 1522);
    let mut wrong = Vec::new();
    for (packet, expected) in &all {
        for transport in [Transport::Udp, Transport::Tcp] {
            let got = match responder().query(Instant::ZERO, &client(transport), packet) {
                Outcome::Reply(reply) => Some(reply),
                _ => None,
            };
            let same = match (&got, expected) {
                (Some(got), Some(expected)) => bare(got) == bare(expected),
                (got, expected) => got.is_none() && expected.is_none(),
            };
            if !same {
                let show = |r: &Option<Vec<u8>>| r.as_ref().map_or("silence".into(), |r| hex(&bare(r)));
                wrong.push(format!("{}\n  {}\n  {}", hex(packet), show(&got), show(expected)));
                break;
            }
        }
    }
    let head: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {} (packet, ours, miekg/dns):\n{}", wrong.len(), all.len(), head.join("\n"));
}
