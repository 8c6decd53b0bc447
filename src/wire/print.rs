//! One line per frame, in the manner of tcpdump, from any bytes at all.
//!
//! Decoding is lax (`etherparse`): what is cut off is simply not said. Invariant: never fails.

use crate::wire::{Frame, IpHeader, arp::Arp, arp::ArpOp, ndp::Ndp, proto};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use std::fmt::Write as _;

/// UDP ports whose payload is shown as VXLAN (Linux's and IANA's).
const VXLAN_PORTS: [u16; 2] = [8472, 4789];

/// A one-line summary of a frame.
pub fn summary(f: &Frame) -> String {
    if f.has_eth() {
        ethernet(f.data(), 0)
    } else {
        packet(f.l3(), 0)
    }
}

/// A one-line summary of an Ethernet frame.
pub fn ethernet(b: &[u8], depth: u8) -> String {
    if b.get(12..14) == Some(&[0x08, 0x06]) {
        return arp(&b[14..]);
    }
    match LaxSlicedPacket::from_ethernet(b) {
        Ok(p) => sliced(&p, depth).unwrap_or_else(|| match b.get(12..14) {
            Some(t) => format!("ethertype 0x{:02x}{:02x}, {} bytes", t[0], t[1], b.len()),
            None => format!("{} bytes", b.len()),
        }),
        Err(_) => format!("{} bytes, no Ethernet header", b.len()),
    }
}

/// A one-line summary of a bare IP packet.
pub fn packet(b: &[u8], depth: u8) -> String {
    LaxSlicedPacket::from_ip(b)
        .ok()
        .and_then(|p| sliced(&p, depth))
        .unwrap_or_else(|| format!("malformed IP packet, {} bytes", b.len()))
}

fn arp(b: &[u8]) -> String {
    match Arp::parse(b) {
        Some(a) if a.op == ArpOp::Request => format!("ARP who-has {} tell {}", a.tpa, a.spa),
        Some(a) => format!("ARP {} is-at {}", a.spa, a.sha),
        None => "ARP, malformed".to_owned(),
    }
}

fn sliced(p: &LaxSlicedPacket<'_>, depth: u8) -> Option<String> {
    let (raw, h) = match p.net.as_ref()? {
        LaxNetSlice::Ipv4(s) => {
            let start = s.header().slice();
            (start, IpHeader::parse_lax(start).ok()?)
        }
        LaxNetSlice::Ipv6(s) => {
            let start = s.header().slice();
            (start, IpHeader::parse_lax(start).ok()?)
        }
        _ => return None,
    };
    let _ = raw;
    let mut s = String::new();
    let (len, sub) = transport(p, &mut s, &h, depth);
    let mut line = if s.is_empty() {
        format!("{} > {} proto {}", h.src, h.dst, h.proto)
    } else {
        s
    };
    let _ = write!(line, ", ttl {}", h.ttl);
    if h.is_fragment() {
        let _ = write!(line, ", frag {}{}", h.frag_off, if h.mf { "+" } else { "" });
    }
    if h.df && h.is_v4() {
        line.push_str(", DF");
    }
    let _ = write!(line, ", length {len}");
    if let Some(inner) = sub {
        let _ = write!(line, " | {inner}");
    }
    Some(line)
}

/// Writes addresses, ports and flags; gives the payload length and, for a tunnel, its inner frame.
fn transport(
    p: &LaxSlicedPacket<'_>,
    s: &mut String,
    h: &IpHeader,
    depth: u8,
) -> (usize, Option<String>) {
    let at = |port: u16, ip| std::net::SocketAddr::new(ip, port);
    match p.transport.as_ref() {
        Some(TransportSlice::Udp(u)) => {
            let _ = write!(
                s,
                "UDP {} > {}",
                at(u.source_port(), h.src),
                at(u.destination_port(), h.dst)
            );
            let inner = u.payload();
            let vxlan =
                VXLAN_PORTS.contains(&u.destination_port()) && inner.len() >= 22 && depth == 0;
            let sub = vxlan.then(|| {
                let vni = u32::from_be_bytes([0, inner[4], inner[5], inner[6]]);
                format!("VXLAN vni {vni} | {}", ethernet(&inner[8..], depth + 1))
            });
            (inner.len(), sub)
        }
        Some(TransportSlice::Tcp(t)) => {
            let flags: String = [
                (t.syn(), 'S'),
                (t.fin(), 'F'),
                (t.rst(), 'R'),
                (t.psh(), 'P'),
                (t.urg(), 'U'),
                (t.ack(), '.'),
            ]
            .iter()
            .filter(|f| f.0)
            .map(|f| f.1)
            .collect();
            let (src, dst) = (at(t.source_port(), h.src), at(t.destination_port(), h.dst));
            let _ = write!(
                s,
                "TCP {src} > {dst} [{}]",
                if flags.is_empty() { "none" } else { &flags }
            );
            (t.payload().len(), None)
        }
        Some(TransportSlice::Icmpv4(i)) => {
            let _ = write!(s, "ICMP {} > {} {}", h.src, h.dst, icmp4(i.slice()));
            (i.payload().len(), None)
        }
        Some(TransportSlice::Icmpv6(i)) => {
            let _ = write!(s, "ICMPv6 {} > {} {}", h.src, h.dst, icmp6(i.slice(), h));
            (i.payload().len(), None)
        }
        Some(TransportSlice::Igmp(_)) | None => {
            let body = p
                .net
                .as_ref()
                .and_then(|n| n.ip_payload_ref())
                .map_or(&[][..], |n| n.payload);
            if h.proto == proto::IPIP && depth == 0 {
                let _ = write!(s, "IPIP {} > {}", h.src, h.dst);
                return (body.len(), Some(packet(body, depth + 1)));
            }
            (body.len(), None)
        }
    }
}

fn icmp4(m: &[u8]) -> String {
    let (t, c) = (
        m.first().copied().unwrap_or(0),
        m.get(1).copied().unwrap_or(0),
    );
    let id_seq = |m: &[u8]| match m.get(4..8) {
        Some(x) => format!(
            " id {} seq {}",
            u16::from_be_bytes([x[0], x[1]]),
            u16::from_be_bytes([x[2], x[3]])
        ),
        None => String::new(),
    };
    match (t, c) {
        (8, _) => format!("echo request{}", id_seq(m)),
        (0, _) => format!("echo reply{}", id_seq(m)),
        (3, 4) => format!(
            "need to frag, mtu {}",
            m.get(6..8).map_or(0, |x| u16::from_be_bytes([x[0], x[1]]))
        ),
        _ => icmp_name(false, t, c),
    }
}

fn icmp6(m: &[u8], h: &IpHeader) -> String {
    let (t, c) = (
        m.first().copied().unwrap_or(0),
        m.get(1).copied().unwrap_or(0),
    );
    match t {
        128 => "echo request".to_owned(),
        129 => "echo reply".to_owned(),
        2 => format!(
            "packet too big, mtu {}",
            m.get(4..8)
                .map_or(0, |x| u32::from_be_bytes([x[0], x[1], x[2], x[3]]))
        ),
        135 | 136 => {
            // Ndp::parse wants a packet; rebuild the header it reads.
            let p =
                crate::wire::build::ip_packet(h.src, h.dst, proto::ICMPV6, h.ttl, 0, 0, false, m);
            match IpHeader::parse_lax(&p)
                .ok()
                .and_then(|h| Ndp::parse(&h, &p))
            {
                Some(Ndp::Solicit { target, .. }) => format!("who has {target}"),
                Some(Ndp::Advert { target, .. }) => format!("tgt is {target}"),
                None => "malformed neighbour discovery".to_owned(),
            }
        }
        _ => icmp_name(true, t, c),
    }
}

/// The words for an ICMP error, as tcpdump says them.
pub fn icmp_name(v6: bool, typ: u8, code: u8) -> String {
    let s = match (v6, typ, code) {
        (false, 3, 0) => "net unreachable",
        (false, 3, 1) => "host unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) => "port unreachable",
        (false, 3, 4) => "need to frag",
        (false, 3, 5) => "source route failed",
        (false, 3, 9) => "net prohibited",
        (false, 3, 10) => "host prohibited",
        (false, 3, 13) => "admin prohibited",
        (false, 5, _) => "redirect",
        (false, 11, 0) => "time exceeded in-transit",
        (false, 11, 1) => "ip reassembly time exceeded",
        (false, 12, _) => "parameter problem",
        (false, 0, _) => "echo reply",
        (false, 8, _) => "echo request",
        (true, 1, 0) => "no route to destination",
        (true, 1, 1) => "admin prohibited",
        (true, 1, 2) => "beyond scope",
        (true, 1, 3) => "address unreachable",
        (true, 1, 4) => "port unreachable",
        (true, 2, _) => "packet too big",
        (true, 3, 0) => "time exceeded in-transit",
        (true, 3, 1) => "reassembly time exceeded",
        (true, 4, _) => "parameter problem",
        (true, 128, _) => "echo request",
        (true, 129, _) => "echo reply",
        (true, 137, _) => "redirect",
        _ => return format!("type {typ} code {code}"),
    };
    s.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;

    #[test]
    fn lines_read_like_tcpdump() {
        let (a, b): (std::net::IpAddr, std::net::IpAddr) = (
            "10.244.1.10".parse().unwrap(),
            "10.244.2.10".parse().unwrap(),
        );
        let u = build::udp(a, b, 40000, 53, b"hello");
        let p = build::ip_packet(a, b, proto::UDP, 64, 0, 1, true, &u);
        assert_eq!(
            packet(&p, 0),
            "UDP 10.244.1.10:40000 > 10.244.2.10:53, ttl 64, DF, length 5"
        );
        let m = build::icmp_message(b, a, 3, 4, 1450, build::quote(&p, 1500, 0));
        let p = build::ip_packet(b, a, proto::ICMP, 64, 0xc0, 1, false, &m);
        assert_eq!(
            packet(&p, 0),
            "ICMP 10.244.2.10 > 10.244.1.10 need to frag, mtu 1450, ttl 64, length 33"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_a_summary(b in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)) {
            let _ = (ethernet(&b, 0), packet(&b, 0), summary(&Frame::ethernet(&b)));
        }
    }
}
