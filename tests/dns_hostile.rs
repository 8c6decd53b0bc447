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
    GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .expect("text");
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
                let show =
                    |r: &Option<Vec<u8>>| r.as_ref().map_or("silence".into(), |r| hex(&bare(r)));
                wrong.push(format!(
                    "{}\n  {}\n  {}",
                    hex(packet),
                    show(&got),
                    show(expected)
                ));
                break;
            }
        }
    }
    let head: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} (packet, ours, miekg/dns):\n{}",
        wrong.len(),
        all.len(),
        head.join("\n")
    );
}

const COREFILE: &str = ".:53 {\n errors\n kubernetes cluster.local in-addr.arpa {\n  pods insecure\n  ttl 30\n }\n\
    forward . 127.0.0.1:9 {\n  max_concurrent 100\n }\n cache 30\n loadbalance\n}\n";
const NAME: &str = "cart.shop.svc.cluster.local";
const MANIFESTS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
     "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}}]}"#;

/// What a process has: bytes of memory, threads, descriptors.
#[derive(Clone, Copy, Debug)]
struct Has {
    memory: u64,
    threads: u64,
    descriptors: usize,
}

impl Has {
    /// proc(5).
    fn now(process: u32) -> Has {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            let word = line.and_then(|l| l.split_whitespace().next());
            word.and_then(|w| w.parse::<u64>().ok()).unwrap_or(0)
        };
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"));
        Has {
            memory: number("VmRSS:") * 1024,
            threads: number("Threads:"),
            descriptors: descriptors.map_or(0, Iterator::count),
        }
    }

    fn most(self, other: Has) -> Has {
        Has {
            memory: self.memory.max(other.memory),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

/// A hostile packet: a recorded one, one with octets changed, a name that nobody asked yet, noise, much noise.
fn packet(all: &[(Vec<u8>, Option<Vec<u8>>)], rng: &mut Rng) -> Vec<u8> {
    let below = |rng: &mut Rng, n: usize| rng.below(n as u64) as usize;
    let mut out = all[below(rng, all.len())].0.clone();
    match below(rng, 8) {
        0 | 1 => {}
        2..=4 => {
            for _ in 0..=below(rng, 4) {
                let at = below(rng, out.len());
                out[at] = below(rng, 256) as u8;
            }
        }
        5 => {
            out = query(
                &format!("x{}.{NAME}", rng.below(1 << 40)),
                [1, 28, 33, 12][below(rng, 4)],
            )
        }
        6 => {
            out = (0..below(rng, 600))
                .map(|_| below(rng, 256) as u8)
                .collect()
        }
        _ => {
            let more = below(rng, 65_000 - out.len());
            out.extend((0..more).map(|i| i as u8));
        }
    }
    out
}

fn udp_flood(at: SocketAddr, seed: u64, until: std::time::Instant) -> u64 {
    let (all, mut rng, mut sent) = (recorded(), Rng::new(seed), 0);
    let socket: UdpSocket = socket(at, Duration::from_millis(1));
    while std::time::Instant::now() < until {
        for _ in 0..50 {
            sent += u64::from(socket.send(&packet(&all, &mut rng)).is_ok());
        }
        // So that others on this machine go on too, and the server's buffer is not always full.
        std::thread::sleep(Duration::from_millis(2));
    }
    sent
}

/// Connections that send half a length, a length and nothing, an octet at a time, noise, or nothing at all.
fn tcp_flood(at: SocketAddr, seed: u64, until: std::time::Instant) -> u64 {
    let (all, mut rng, mut opened) = (recorded(), Rng::new(seed), 0_u64);
    let mut held: Vec<TcpStream> = Vec::new();
    while std::time::Instant::now() < until {
        if let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_millis(500)) {
            opened += 1;
            let _ = stream.set_nonblocking(true);
            let bytes = packet(&all, &mut rng);
            let len = (bytes.len() as u16).to_be_bytes();
            // A failed write is the server's door closed: what was meant.
            let _ = match rng.below(6) {
                0 => stream.write_all(&len[..1]),
                1 => stream.write_all(&[0xff, 0xff, 0, 1]),
                2 => stream.write_all(&[0; 64]),
                3 => stream.write_all(&[&len[..], &bytes].concat()),
                4 => stream.write_all(&bytes),
                _ => Ok(()),
            };
            held.push(stream);
        }
        // Slowly on, all of them.
        if opened.is_multiple_of(16) {
            for stream in &mut held {
                let _ = stream.write(&[1]);
            }
        }
        if held.len() > 300 {
            held.drain(..150);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    opened
}

#[test]
fn a_running_server_survives_what_no_client_sends() {
    let seconds = std::env::var("PODPATH_HOSTILE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(2));
    let mut server = Server::start(COREFILE, MANIFESTS, &[]);
    let (at, process) = (server.at, server.child.id());
    let good = query(NAME, 1);
    assert!(over_udp(at, &good).is_some() && over_tcp(at, &good).is_some());
    let before = Has::now(process);
    let until = std::time::Instant::now() + lasts;
    let floods: Vec<_> = (1..=2)
        .map(|seed| std::thread::spawn(move || (udp_flood(at, seed, until), 0)))
        .chain((3..=4).map(|seed| std::thread::spawn(move || (0, tcp_flood(at, seed, until)))))
        .collect();
    let (mut asked, mut most) = (0, before);
    while std::time::Instant::now() < until {
        let reply = over_udp(at, &good).expect("a good query is answered all the while");
        assert_eq!((&reply[..2], reply[3] & 15, reply[7]), (&good[..2], 0, 1));
        asked += 1;
        most = most.most(Has::now(process));
        std::thread::sleep(Duration::from_millis(20));
    }
    let done: Vec<(u64, u64)> = floods
        .into_iter()
        .map(|f| f.join().expect("no panic"))
        .collect();
    let (packets, connections) = done.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    // Connections are given up in their time; then there is room again.
    let quiet = (0..60).find_map(|_| {
        std::thread::sleep(Duration::from_millis(250));
        let has = Has::now(process);
        (has.descriptors <= before.descriptors + 1 && has.threads <= before.threads + 1)
            .then_some(has)
    });
    println!(
        "{lasts:?}: {packets} packets, {connections} connections, {asked} good queries answered\n\
         before {before:?}\nmost   {most:?}\nafter  {quiet:?}"
    );
    assert!(server.runs() && over_udp(at, &good).is_some() && over_tcp(at, &good).is_some());
    assert!(packets > 100 && connections > 10 && asked > 0);
    let room = DNS_TCP_CLIENTS_MAX + 16;
    assert!(most.descriptors <= before.descriptors + room, "{most:?}");
    assert!(most.threads <= before.threads + room as u64, "{most:?}");
    assert!(
        most.memory < before.memory + (128 << 20),
        "{before:?} {most:?}"
    );
    assert!(quiet.is_some(), "{:?}", Has::now(process));
}
