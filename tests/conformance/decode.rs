//! A frame as the recordings' decoder sees it: a port of `decode` and `summary` of the oracle's
//! lib/frames.py.
//!
//! Semantics are the original's to the letter, its gaps included: an ICMPv6 error's quoted packet is not
//! decoded, an IPv6 extension header other than hop-by-hop is not skipped, a fragment's transport header is
//! decoded only at offset 0. `tests/conformance_parts.rs` compares every recorded frame with the original.
//! Nothing here panics: every slice is cut the way Python cuts it.

use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::sha256;

/// A decoded layer: the same keys and values as the original's JSON.
pub type Layers = Map<String, Value>;

/// TCP flag letters in the order they are printed.
const TCP_FLAGS: [(char, u8); 8] = [
    ('F', 1),
    ('S', 2),
    ('R', 4),
    ('P', 8),
    ('A', 16),
    ('U', 32),
    ('E', 64),
    ('C', 128),
];

/// Python's `b[from..to]`: out of range means shorter, never an error.
fn cut(b: &[u8], from: usize, to: usize) -> &[u8] {
    b.get(from.min(b.len())..to.min(b.len()).max(from.min(b.len())))
        .unwrap_or(&[])
}

fn be16(b: &[u8], at: usize) -> u16 {
    cut(b, at, at + 2)
        .iter()
        .fold(0, |a, x| a << 8 | u16::from(*x))
}

fn be32(b: &[u8], at: usize) -> u32 {
    cut(b, at, at + 4)
        .iter()
        .fold(0, |a, x| a << 8 | u32::from(*x))
}

fn mac(b: &[u8]) -> String {
    b.iter()
        .map(|x| format!("{x:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

fn ip4(b: &[u8], at: usize) -> String {
    Ipv4Addr::from(be32(b, at)).to_string()
}

fn ip6(b: &[u8], at: usize) -> String {
    let a = cut(b, at, at + 16)
        .iter()
        .fold(0u128, |a, x| a << 8 | u128::from(*x));
    let a = Ipv6Addr::from(a);
    // Python before 3.13, which made the recordings, writes mapped addresses without dots.
    match a.to_ipv4_mapped() {
        Some(_) => format!("::ffff:{:x}:{:x}", a.segments()[6], a.segments()[7]),
        None => a.to_string(),
    }
}

/// The Internet checksum (RFC 1071) over several pieces; an odd piece is padded only at the very end.
fn checksum(parts: &[&[u8]]) -> u16 {
    let all = parts.concat();
    let mut sum: u64 = all
        .chunks(2)
        .map(|c| u64::from(c[0]) << 8 | u64::from(*c.get(1).unwrap_or(&0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn ok_or_bad(parts: &[&[u8]]) -> &'static str {
    if checksum(parts) == 0 { "ok" } else { "bad" }
}

/// Decodes one frame; `l3` when it has no Ethernet header (link type 101).
pub fn decode(f: &[u8], depth: u32, l3: bool) -> Layers {
    let mut d = Layers::new();
    d.insert("len".into(), json!(f.len()));
    if l3 {
        if f.first().is_some_and(|b| b >> 4 == 4) {
            ipv4(f, &mut d, depth);
        }
        return d;
    }
    if f.len() < 14 {
        return d;
    }
    let et = be16(f, 12);
    d.insert(
        "eth".into(),
        json!({"dst": mac(&f[..6]), "src": mac(&f[6..12]), "type": format!("{et:04x}")}),
    );
    match et {
        0x0806 if f.len() >= 42 => {
            let arp = json!({"op": be16(f, 20), "sha": mac(cut(f, 22, 28)), "spa": ip4(f, 28),
                "tha": mac(cut(f, 32, 38)), "tpa": ip4(f, 38)});
            d.insert("arp".into(), arp);
        }
        0x0800 => ipv4(&f[14..], &mut d, depth),
        0x86dd if f.len() >= 54 => ipv6(&f[14..], &mut d, depth),
        _ => {}
    }
    d
}

fn ipv6(p: &[u8], d: &mut Layers, depth: u32) {
    let (n, mut nh) = (usize::from(be16(p, 4)), p[6]);
    let mut l4 = cut(p, 40, 40 + n);
    if nh == 0 && l4.len() > 8 {
        nh = l4[0];
        l4 = cut(l4, (usize::from(l4[1]) + 1) * 8, usize::MAX);
    }
    d.insert(
        "ip".into(),
        json!({"v": 6, "src": ip6(p, 8), "dst": ip6(p, 24), "ttl": p[7], "proto": nh}),
    );
    let mut pseudo = p[8..40].to_vec();
    pseudo.extend_from_slice(&(l4.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, nh]);
    transport(nh, l4, d, depth, true, Some(&pseudo));
}

fn ipv4(p: &[u8], d: &mut Layers, depth: u32) {
    if p.len() < 20 {
        return;
    }
    let ihl = usize::from(p[0] & 15) * 4;
    let (tot, frag) = (usize::from(be16(p, 2)), be16(p, 6));
    let ip = json!({"v": 4, "src": ip4(p, 12), "dst": ip4(p, 16), "ttl": p[8], "proto": p[9],
        "id": be16(p, 4),
        "tos": p[1], "len": tot, "df": frag & 0x4000 != 0, "mf": frag & 0x2000 != 0,
        "off": u32::from(frag & 0x1FFF) * 8, "hcsum_ok": checksum(&[cut(p, 0, ihl)]) == 0});
    d.insert("ip".into(), ip);
    let l4 = cut(p, ihl, if tot <= p.len() { tot } else { p.len() });
    if frag & 0x1FFF != 0 {
        payload(d, l4);
        return;
    }
    let whole = frag & 0x2000 == 0 && tot <= p.len();
    let mut pseudo = p[12..20].to_vec();
    pseudo.extend_from_slice(&[0, p[9]]);
    pseudo.extend_from_slice(&(l4.len() as u16).to_be_bytes());
    transport(p[9], l4, d, depth, false, whole.then_some(&pseudo[..]));
}

fn payload(d: &mut Layers, b: &[u8]) {
    d.insert(
        "payload".into(),
        json!({"len": b.len(), "sha": sha256::short(b)}),
    );
}

fn transport(proto: u8, l4: &[u8], d: &mut Layers, depth: u32, v6: bool, pseudo: Option<&[u8]>) {
    match proto {
        17 if l4.len() >= 8 => udp(l4, d, depth, pseudo),
        6 if l4.len() >= 20 => tcp(l4, d, pseudo),
        1 | 58 if l4.len() >= 8 => icmp(l4, d, v6, pseudo),
        4 if depth == 0 => {
            let mut inner = Layers::new();
            ipv4(l4, &mut inner, depth + 1);
            d.insert("ipip".into(), json!(true));
            d.insert("inner".into(), Value::Object(inner));
        }
        _ => payload(d, l4),
    }
}

fn udp(l4: &[u8], d: &mut Layers, depth: u32, pseudo: Option<&[u8]>) {
    let (dport, n) = (be16(l4, 2), be16(l4, 4));
    let csum = match pseudo {
        _ if be16(l4, 6) == 0 => "none",
        Some(ps) if usize::from(n) == l4.len() => ok_or_bad(&[ps, l4]),
        _ => "?",
    };
    d.insert(
        "udp".into(),
        json!({"sport": be16(l4, 0), "dport": dport, "len": n, "csum": csum}),
    );
    if matches!(dport, 8472 | 4789) && l4.len() >= 30 && depth == 0 {
        d.insert(
            "vxlan".into(),
            json!({"vni": be32(l4, 12) >> 8, "flags": l4[8]}),
        );
        d.insert(
            "inner".into(),
            Value::Object(decode(&l4[16..], depth + 1, false)),
        );
    } else {
        payload(d, &l4[8..]);
    }
}

fn tcp(l4: &[u8], d: &mut Layers, pseudo: Option<&[u8]>) {
    let hl = usize::from(l4[12] >> 4) * 4;
    let flags: String = TCP_FLAGS
        .iter()
        .filter(|(_, b)| l4[13] & b != 0)
        .map(|(c, _)| *c)
        .collect();
    let csum = pseudo.map_or("?", |ps| ok_or_bad(&[ps, l4]));
    let t = json!({"sport": be16(l4, 0), "dport": be16(l4, 2), "seq": be32(l4, 4), "ack": be32(l4, 8),
        "win": be16(l4, 14), "opts": tcp_options(cut(l4, 0, hl)), "flags": flags, "csum": csum});
    d.insert("tcp".into(), t);
    payload(d, cut(l4, hl, usize::MAX));
}

fn tcp_options(o: &[u8]) -> Layers {
    let mut opts = Layers::new();
    let mut i = 20;
    while let Some(&kind) = o.get(i) {
        match kind {
            0 => break,
            1 => {
                i += 1;
                continue;
            }
            _ => {}
        }
        let n = usize::from(o.get(i + 1).copied().unwrap_or(0));
        if n < 2 {
            break;
        }
        let v = cut(o, i + 2, i + n);
        // A longer value than eight bytes would be a big integer in Python; no option of kind 2 or 3 has one.
        let number = v.iter().fold(0u64, |a, x| a << 8 | u64::from(*x));
        let hex: String = v.iter().map(|x| format!("{x:02x}")).collect();
        let (name, value) = match kind {
            2 => ("mss".to_owned(), json!(number)),
            3 => ("wscale".to_owned(), json!(number)),
            4 => ("sackok".to_owned(), json!(true)),
            5 => ("sack".to_owned(), json!(hex)),
            8 => ("ts".to_owned(), json!(hex)),
            k => (k.to_string(), json!(hex)),
        };
        opts.insert(name, value);
        i += n;
    }
    opts
}

fn icmp(l4: &[u8], d: &mut Layers, v6: bool, pseudo: Option<&[u8]>) {
    let (t, c) = (l4[0], l4[1]);
    let csum = if v6 {
        ok_or_bad(&[pseudo.unwrap_or(&[]), l4])
    } else {
        ok_or_bad(&[l4])
    };
    let mut i = Layers::new();
    i.insert("type".into(), json!(t));
    i.insert("code".into(), json!(c));
    i.insert("csum".into(), json!(csum));
    let error = if v6 {
        matches!(t, 1..=4)
    } else {
        matches!(t, 3 | 4 | 5 | 11 | 12)
    };
    if error {
        let mtu = match (t, c) {
            (2, _) if v6 => json!(be32(l4, 4)),
            (3, 4) => json!(be16(l4, 6)),
            _ => Value::Null,
        };
        i.insert("mtu".into(), mtu);
        if !v6 {
            let mut q = Layers::new();
            ipv4(&l4[8..], &mut q, 1);
            q.shift_remove("payload");
            i.insert("quoted".into(), Value::Object(q));
        }
    } else if matches!(t, 0 | 8 | 128 | 129) {
        i.insert("id".into(), json!(be16(l4, 4)));
        i.insert("seq".into(), json!(be16(l4, 6)));
    }
    d.insert("icmp".into(), Value::Object(i));
    if !error && matches!(t, 0 | 8 | 128 | 129) {
        payload(d, &l4[8..]);
    }
}

/// Whether the frame is neighbour discovery or multicast listener traffic, IPv6's counterpart of ARP.
pub fn is_neighbour_discovery(d: &Layers) -> bool {
    d.get("ip").is_some_and(|i| i["v"] == 6)
        && d.get("icmp")
            .is_some_and(|i| matches!(i["type"].as_u64(), Some(130..=137 | 143)))
}

/// One line for people, as the recordings' own `trace.json` has it.
pub fn summary(d: &Layers) -> String {
    if let Some(a) = d.get("arp") {
        let op = match a["op"].as_u64() {
            Some(1) => "who-has".to_owned(),
            Some(2) => "is-at".to_owned(),
            _ => a["op"].to_string(),
        };
        return format!("arp {op} {} -> {}", text(&a["spa"]), text(&a["tpa"]));
    }
    let Some(i) = d.get("ip") else {
        return format!("eth {}", d.get("eth").map_or("None", |e| text(&e["type"])));
    };
    let (src, dst, ttl) = (text(&i["src"]), text(&i["dst"]), &i["ttl"]);
    let mut s = format!("{src} > {dst} ttl={ttl}");
    for k in ["udp", "tcp"] {
        if let Some(t) = d.get(k) {
            s = format!("{src}:{} > {dst}:{} ttl={ttl} {k}", t["sport"], t["dport"]);
            if k == "tcp" {
                s += &format!(" [{}]", text(&t["flags"]));
            }
        }
    }
    if let Some(c) = d.get("icmp") {
        s += &format!(" icmp {}/{}", c["type"], c["code"]);
        if c["mtu"].as_u64().is_some_and(|m| m != 0) {
            s += &format!(" mtu={}", c["mtu"]);
        }
        if let Some(Value::Object(q)) = c.get("quoted") {
            s += &format!(" {{{}}}", summary(q));
        }
    }
    if i["mf"] == true || i["off"].as_u64().is_some_and(|o| o != 0) {
        s += &format!(
            " frag@{}{}",
            i["off"],
            if i["mf"] == true { "+" } else { "" }
        );
    }
    if let Some(p) = d.get("payload") {
        s += &format!(" len={}", p["len"]);
    }
    if let Some(Value::Object(inner)) = d.get("inner") {
        let outer = d
            .get("vxlan")
            .map_or("ipip".to_owned(), |v| format!("vxlan {}", v["vni"]));
        s += &format!(" {outer} {{{}}}", summary(inner));
    }
    s
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or("")
}
