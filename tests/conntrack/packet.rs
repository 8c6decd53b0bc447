//! Packets from words, as the recordings spell them: `tcp SA seq=1 ack=2 mss ws=7`, `udp nosum`,
//! `icmperr type=3 code=1 of udp`. The program that sent them in the kernel reads the same words.

use podpath::wire::{build, checksum, proto};
use std::net::IpAddr;

/// The words of one packet.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str, default: u32) -> u32 {
        match self.text(key) {
            None => default,
            Some(v) => match v.strip_prefix("0x") {
                Some(h) => u32::from_str_radix(h, 16).unwrap(),
                None => v.parse::<i64>().unwrap() as u32,
            },
        }
    }
}

/// The two ends' addresses.
pub fn ends(v6: bool) -> [IpAddr; 2] {
    let texts = if v6 {
        ["fd01::2", "fd02::2"]
    } else {
        ["10.1.0.2", "10.2.0.2"]
    };
    texts.map(|a| a.parse().unwrap())
}

/// The packet, from the client (`client`) or from the server.
pub fn packet(words: &[&str], v6: bool, client: bool) -> Vec<u8> {
    let [a, b] = ends(v6);
    let (src, dst) = if client { (a, b) } else { (b, a) };
    let w = Words(words.to_vec());
    let src = w.text("src").map_or(src, |v| v.parse().unwrap());
    let dst = w.text("dst").map_or(dst, |v| v.parse().unwrap());
    ip(words, src, dst, client)
}

fn ip(words: &[&str], src: IpAddr, dst: IpAddr, client: bool) -> Vec<u8> {
    let (proto, l4) = upper(words, src, dst, client);
    build::ip_packet(src, dst, proto, 64, 0, 1, false, &l4)
}

fn set(b: &mut [u8], at: usize, v: u16) {
    b[at..at + 2].copy_from_slice(&v.to_be_bytes());
}

fn upper(words: &[&str], src: IpAddr, dst: IpAddr, client: bool) -> (u8, Vec<u8>) {
    let w = Words(words.to_vec());
    let ports = if client { (40000, 80) } else { (80, 40000) };
    let ports = (
        w.number("sport", ports.0) as u16,
        w.number("dport", ports.1) as u16,
    );
    let wrong = if w.has("badsum") { 0x5555 } else { 0 };
    match words[0] {
        "tcp" => {
            let mut b = tcp(&w, ports);
            let sum = checksum::l4(src, dst, proto::TCP, &b) ^ wrong;
            set(&mut b, 16, sum);
            (proto::TCP, b)
        }
        "udp" | "udplite" => {
            let lite = words[0] == "udplite";
            let data = match w.text("op") {
                // A tftp packet.
                Some(_) => [&[0, w.number("op", 0) as u8][..], b"file\0octet\0"].concat(),
                None => vec![b'y'; w.number("len", 8) as usize],
            };
            let n = data.len();
            let mut b = [&[0; 8][..], &data].concat();
            set(&mut b, 0, ports.0);
            set(&mut b, 2, ports.1);
            let len = if lite { 0 } else { 8 + n as u32 };
            set(&mut b, 4, w.number("ulen", len) as u16);
            set(&mut b, 6, 0);
            let p = if lite { 136 } else { proto::UDP };
            let summed = if w.has("sum17") { proto::UDP } else { p };
            let sum = match checksum::l4(src, dst, summed, &b) {
                0 => 0xffff,
                s => s,
            };
            set(&mut b, 6, if w.has("nosum") { 0 } else { sum ^ wrong });
            (p, b)
        }
        "icmp" | "icmperr" => (icmp_proto(src), icmp(&w, words, src, dst, client, wrong)),
        "gre" if w.text("call").is_some() => {
            let mut b = vec![0x30, 1, 0x88, 0x0b, 0, 4, 0, 0, 0, 0, 0, 1];
            set(&mut b, 6, w.number("call", 1) as u16);
            b.extend_from_slice(b"abcd");
            (47, b)
        }
        "gre" => (47, vec![0, 0, 8, 0, b'a', b'b', b'c', b'd']),
        "proto" => (
            w.number("n", 99) as u8,
            vec![b'q'; w.number("len", 8) as usize],
        ),
        "sctp" => (proto::SCTP, sctp(&w, ports)),
        other => panic!("no packet {other:?}"),
    }
}

fn tcp(w: &Words<'_>, ports: (u16, u16)) -> Vec<u8> {
    let flag = |c| match c {
        'F' => 1,
        'S' => 2,
        'R' => 4,
        'P' => 8,
        'A' => 16,
        'U' => 32,
        _ => 0,
    };
    let flags = w.0[1].chars().map(flag).fold(0, |a: u8, b| a | b);
    let mut o = Vec::new();
    if w.has("mss") {
        o.extend_from_slice(&[2, 4, 5, 0xb4]);
    }
    if w.has("sackperm") {
        o.extend_from_slice(&[4, 2]);
    }
    if w.text("ws").is_some() {
        o.extend_from_slice(&[3, 3, w.number("ws", 0) as u8]);
    }
    if let Some((a, b)) = w.text("sack").and_then(|v| v.split_once('-')) {
        o.extend_from_slice(&[5, 10]);
        for edge in [a, b] {
            o.extend_from_slice(&edge.parse::<u32>().unwrap().to_be_bytes());
        }
    }
    o.resize(o.len().next_multiple_of(4), 1);
    let doff = w.number("doff", (20 + o.len() as u32) / 4) as u8;
    let mut b = Vec::new();
    b.extend_from_slice(&ports.0.to_be_bytes());
    b.extend_from_slice(&ports.1.to_be_bytes());
    b.extend_from_slice(&w.number("seq", 0).to_be_bytes());
    b.extend_from_slice(&w.number("ack", 0).to_be_bytes());
    b.extend_from_slice(&[doff << 4, flags]);
    b.extend_from_slice(&(w.number("win", 64240) as u16).to_be_bytes());
    b.extend_from_slice(&[0; 4]);
    b.extend_from_slice(&o);
    match w.text("data") {
        // A payload of words: `_` stands for a space, `~` for CR LF.
        Some(d) => b.extend_from_slice(d.replace('_', " ").replace('~', "\r\n").as_bytes()),
        None => b.resize(b.len() + w.number("len", 0) as usize, b'x'),
    }
    b
}

fn icmp_proto(src: IpAddr) -> u8 {
    if src.is_ipv4() {
        proto::ICMP
    } else {
        proto::ICMPV6
    }
}

fn icmp(
    w: &Words<'_>,
    words: &[&str],
    src: IpAddr,
    dst: IpAddr,
    client: bool,
    wrong: u16,
) -> Vec<u8> {
    let mut b = if words[0] == "icmp" {
        let mut b = vec![w.number("type", 8) as u8, w.number("code", 0) as u8, 0, 0];
        b.extend_from_slice(&(w.number("id", 7) as u16).to_be_bytes());
        b.extend_from_slice(&(w.number("seq", 1) as u16).to_be_bytes());
        b.resize(8 + w.number("len", 8) as usize, b'z');
        b
    } else {
        let of = words.iter().position(|x| *x == "of").unwrap();
        let own = Words(words[..of].to_vec());
        let from = own.text("isrc").map_or(dst, |v| v.parse().unwrap());
        let to = own.text("idst").map_or(src, |v| v.parse().unwrap());
        // The quoted packet went the other way.
        let mut inner = ip(&words[of + 1..], from, to, !client);
        inner.truncate(own.number("quote", u32::MAX) as usize);
        let mut b = vec![own.number("type", 3) as u8, own.number("code", 1) as u8];
        b.extend_from_slice(&[0; 6]);
        b.extend_from_slice(&inner);
        b
    };
    build::fill_icmp_checksum(&mut b, src, dst);
    b[2] ^= (wrong >> 8) as u8;
    b[3] ^= wrong as u8;
    b
}

const CHUNKS: [(&str, u8); 14] = [
    ("DATA", 0),
    ("INIT", 1),
    ("INIT_ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT_ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN_ACK", 8),
    ("ERROR", 9),
    ("COOKIE_ECHO", 10),
    ("COOKIE_ACK", 11),
    ("CWR", 13),
    ("SHUTDOWN_COMPLETE", 14),
];

fn sctp(w: &Words<'_>, ports: (u16, u16)) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend_from_slice(&ports.0.to_be_bytes());
    b.extend_from_slice(&ports.1.to_be_bytes());
    b.extend_from_slice(&w.number("vtag", 0).to_be_bytes());
    b.extend_from_slice(&[0; 4]);
    for c in w.text("chunks").unwrap().split(',') {
        let (name, tag) = c.split_once(':').unwrap_or((c, "0"));
        let (name, flags) = match name.strip_suffix("+T") {
            Some(n) => (n, 1),
            None => (name, 0),
        };
        let typ = CHUNKS.iter().find(|(n, _)| *n == name).unwrap().1;
        let mut body = vec![0; 4];
        if matches!(typ, 1 | 2) {
            body = tag.parse::<u32>().unwrap().to_be_bytes().to_vec();
            body.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
        b.extend_from_slice(&[typ, flags, 0, 4 + body.len() as u8]);
        b.extend_from_slice(&body);
    }
    let sum = crc32c(&b) ^ u32::from(w.has("badsum"));
    b[8..12].copy_from_slice(&sum.to_le_bytes());
    b
}

fn crc32c(b: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for x in b {
        crc ^= u32::from(*x);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !crc
}
