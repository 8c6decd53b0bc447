//! Protocol, ICMP and service names as ipset reads and prints them.
//!
//! Protocols are Debian's /etc/protocols; ICMP names are those of ipset 7.17, checked against the tool.
//! Knows no set. Invariant: what is printed is read back as the same numbers.

use crate::nf::{Family, value};

/// Protocols with a name; the first name of a number is the one that is printed.
#[rustfmt::skip]
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1), ("igmp", 2), ("ggp", 3), ("ipencap", 4), ("st", 5), ("tcp", 6), ("egp", 8), ("igp", 9),
    ("pup", 12), ("udp", 17), ("hmp", 20), ("xns-idp", 22), ("rdp", 27), ("iso-tp4", 29), ("dccp", 33),
    ("xtp", 36), ("ddp", 37), ("idpr-cmtp", 38), ("ipv6", 41), ("ipv6-route", 43), ("ipv6-frag", 44),
    ("idrp", 45), ("rsvp", 46), ("gre", 47), ("esp", 50), ("ah", 51), ("skip", 57), ("ipv6-icmp", 58),
    ("icmpv6", 58), ("ipv6-nonxt", 59), ("ipv6-opts", 60), ("rspf", 73), ("vmtp", 81), ("eigrp", 88),
    ("ospf", 89), ("ax.25", 93), ("ipip", 94), ("etherip", 97), ("encap", 98), ("pim", 103), ("ipcomp", 108),
    ("vrrp", 112), ("l2tp", 115), ("isis", 124), ("sctp", 132), ("fc", 133), ("mobility-header", 135),
    ("udplite", 136), ("mpls-in-ip", 137), ("manet", 138), ("hip", 139), ("shim6", 140), ("wesp", 141),
    ("rohc", 142), ("ethernet", 143),
];

/// ICMP (RFC 792, RFC 1812).
#[rustfmt::skip]
const ICMP: &[(&str, u8, u8)] = &[
    ("echo-reply", 0, 0), ("pong", 0, 0), ("network-unreachable", 3, 0), ("host-unreachable", 3, 1),
    ("protocol-unreachable", 3, 2), ("port-unreachable", 3, 3), ("fragmentation-needed", 3, 4),
    ("source-route-failed", 3, 5), ("network-unknown", 3, 6), ("host-unknown", 3, 7),
    ("network-prohibited", 3, 9), ("host-prohibited", 3, 10), ("TOS-network-unreachable", 3, 11),
    ("TOS-host-unreachable", 3, 12), ("communication-prohibited", 3, 13),
    ("host-precedence-violation", 3, 14), ("precedence-cutoff", 3, 15), ("source-quench", 4, 0),
    ("network-redirect", 5, 0), ("host-redirect", 5, 1), ("TOS-network-redirect", 5, 2),
    ("TOS-host-redirect", 5, 3), ("echo-request", 8, 0), ("ping", 8, 0), ("router-advertisement", 9, 0),
    ("router-solicitation", 10, 0), ("ttl-zero-during-transit", 11, 0),
    ("ttl-zero-during-reassembly", 11, 1), ("ip-header-bad", 12, 0), ("required-option-missing", 12, 1),
    ("timestamp-request", 13, 0), ("timestamp-reply", 14, 0), ("address-mask-request", 17, 0),
    ("address-mask-reply", 18, 0),
];

/// ICMPv6 (RFC 4443, RFC 4861); the misspelt names are ipset's.
#[rustfmt::skip]
const ICMP6: &[(&str, u8, u8)] = &[
    ("no-route", 1, 0), ("communication-prohibited", 1, 1), ("address-unreachable", 1, 3),
    ("port-unreachable", 1, 4), ("packet-too-big", 2, 0), ("ttl-zero-during-transit", 3, 0),
    ("ttl-zero-during-reassembly", 3, 1), ("bad-header", 4, 0), ("unknown-header-type", 4, 1),
    ("unknown-option", 4, 2), ("echo-request", 128, 0), ("echo-reply", 129, 0),
    ("router-solicitation", 133, 0), ("router-advertisement", 134, 0), ("neighbour-solicitation", 135, 0),
    ("neigbour-solicitation", 135, 0), ("neighbour-advertisement", 136, 0),
    ("neigbour-advertisement", 136, 0), ("redirect", 137, 0),
];

/// IPPROTO_ICMP.
pub(super) const PROTO_ICMP: u8 = 1;
/// IPPROTO_TCP.
pub(super) const PROTO_TCP: u8 = 6;
/// IPPROTO_UDP.
pub(super) const PROTO_UDP: u8 = 17;
/// IPPROTO_ICMPV6.
pub(super) const PROTO_ICMP6: u8 = 58;

/// Whether the protocol has ports (ip_set_getport.h `ip_set_proto_with_ports`).
pub(super) fn with_ports(proto: u8) -> bool {
    matches!(proto, PROTO_TCP | PROTO_UDP | 132 | 136)
}

/// A protocol's number; 0 has none.
pub(super) fn protocol(text: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(text));
    named.map(|p| p.1).or_else(|| {
        let n = super::addr::uint(text)?;
        u8::try_from(n).ok().filter(|n| *n > 0)
    })
}

fn protocol_name(proto: u8) -> String {
    let named = PROTOCOLS.iter().find(|p| p.1 == proto);
    named.map_or_else(|| proto.to_string(), |p| p.0.to_owned())
}

/// An ICMP type and code: a name or `type/code`.
fn icmp(table: &[(&str, u8, u8)], text: &str) -> Option<u16> {
    let named = table.iter().find(|n| n.0.eq_ignore_ascii_case(text));
    let (kind, code) = match (named, text.split_once('/')) {
        (Some(n), _) => (n.1, n.2),
        (None, Some((kind, code))) => {
            let byte = |t| u8::try_from(super::addr::uint(t)?).ok();
            (byte(kind)?, byte(code)?)
        }
        (None, None) => return None,
    };
    Some(u16::from(kind) << 8 | u16::from(code))
}

/// A port's number or service name, which may stand in brackets.
fn port(text: &str) -> Option<u16> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let text = bare.unwrap_or(text);
    let number = super::addr::uint(text).and_then(|n| u16::try_from(n).ok());
    number.or_else(|| value::port(text))
}

/// A protocol and its ports, as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PortSpec {
    /// Protocol.
    pub(super) proto: u8,
    /// The first port, or ICMP type and code.
    pub(super) from: u16,
    /// The last port of a range.
    pub(super) to: Option<u16>,
}

/// Splits `5-7` where the dash is not inside brackets.
fn range(text: &str) -> (&str, Option<&str>) {
    let after = text.find(']').map_or(0, |at| at + 1);
    let dash = text.get(after..).and_then(|t| t.find('-'));
    match dash.and_then(|at| text.split_at_checked(after + at)) {
        Some((a, b)) => (a, b.get(1..)),
        None => (text, None),
    }
}

/// Reads `[proto:]port`, `[proto:]from-to`, `icmp:name`, `vrrp:0`
/// (libipset parse.c `ipset_parse_proto_port`).
pub(super) fn read_port(text: &str, family: Family) -> Result<PortSpec, String> {
    let colon = text.split_once(':').filter(|_| !text.starts_with('['));
    let (proto, rest) = match colon {
        Some((name, rest)) => match protocol(name) {
            Some(proto) => (proto, rest),
            None => return Err(format!("a protocol before `:`, not `{name}`")),
        },
        None => (PROTO_TCP, text),
    };
    let one = |from| PortSpec {
        proto,
        from,
        to: None,
    };
    match (proto, family) {
        (PROTO_ICMP, Family::V4) => icmp(ICMP, rest)
            .map(one)
            .ok_or_else(|| "an ICMP type's name or type/code after `icmp:`".to_owned()),
        (PROTO_ICMP6, Family::V6) => icmp(ICMP6, rest)
            .map(one)
            .ok_or_else(|| "an ICMPv6 type's name or type/code after `icmpv6:`".to_owned()),
        (PROTO_ICMP, _) => Err("icmpv6 in a set of family inet6".to_owned()),
        (PROTO_ICMP6, _) => Err("icmp in a set of family inet".to_owned()),
        _ if with_ports(proto) => {
            if let Some(from) = port(rest) {
                return Ok(one(from));
            }
            let (from, to) = range(rest);
            let (from, to) = (port(from), to.and_then(port));
            let spec = from.zip(to).map(|(a, b)| PortSpec {
                proto,
                from: a.min(b),
                to: Some(a.max(b)),
            });
            spec.ok_or_else(|| {
                "a port from 0 to 65535, a service's name or a range from-to".to_owned()
            })
        }
        _ if super::addr::uint(rest) == Some(0) => Ok(one(0)),
        _ => Err(format!(
            "`{}:0`: this protocol has no ports",
            protocol_name(proto)
        )),
    }
}

/// Writes a protocol and port as `ipset save` does (libipset print.c `ipset_print_proto_port`).
pub(super) fn show_port(proto: u8, port: u16, family: Family, out: &mut String) {
    out.push_str(&protocol_name(proto));
    out.push(':');
    let table = match (proto, family) {
        (PROTO_ICMP, Family::V4) => ICMP,
        (PROTO_ICMP6, Family::V6) => ICMP6,
        _ => {
            out.push_str(&port.to_string());
            return;
        }
    };
    let [kind, code] = port.to_be_bytes();
    match table.iter().find(|n| (n.1, n.2) == (kind, code)) {
        Some(named) => out.push_str(named.0),
        None => out.push_str(&format!("{kind}/{code}")),
    }
}
