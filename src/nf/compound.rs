//! Values of matches with a grammar of their own: TCP flags, ICMP types, sets, DSCP.
//!
//! Reads what the iptables extensions read and prints as they do; knows no packet. Invariant: as in
//! [`super::value`], a value that was read prints to something that reads to the same value.

use super::field::Value;
use super::flags::TcpFlagSet;
use super::table::Family;
use super::value::{PortRange, number};

fn first<'a>(w: &[&'a str]) -> &'a str {
    w.first().copied().unwrap_or_default()
}

/// Flags that are looked at, and those of them that must be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpFlags {
    /// Looked at.
    pub mask: TcpFlagSet,
    /// Set among them.
    pub set: TcpFlagSet,
}

impl TcpFlags {
    /// What `--syn` stands for.
    pub const SYN: Self = TcpFlags {
        mask: TcpFlagSet(0b1_0111),
        set: TcpFlagSet(0b10),
    };
}

impl Value for TcpFlags {
    const WORDS: usize = 2;
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let set = TcpFlagSet::parse(w.get(1).copied().unwrap_or_default())?;
        Ok(TcpFlags {
            mask: TcpFlagSet::parse(first(w))?,
            set,
        })
    }
    fn text(&self, out: &mut String) {
        self.mask.list(out);
        out.push(' ');
        self.set.list(out);
    }
}

/// Ports and port ranges of `-m multiport` (15 slots, a range takes two).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ports(pub Vec<PortRange>);

impl Value for Ports {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let each = first(w).split(',').map(|p| PortRange::read(o, &[p], f));
        let ports = each.collect::<Result<Vec<_>, _>>()?;
        let slots: usize = ports
            .iter()
            .map(|p| if p.min == p.max { 1 } else { 2 })
            .sum();
        match slots <= 15 {
            true => Ok(Ports(ports)),
            false => Err("at most 15 ports, a range counts as two".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        for (i, p) in self.0.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            p.text(out);
        }
    }
}

macro_rules! icmp_types {
    ($($(#[$meta:meta])* $name:ident $names:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            /// The type; `None` is any.
            pub kind: Option<u8>,
            /// The code; `None` is any.
            pub code: Option<u8>,
        }

        impl Value for $name {
            fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
                let text = first(w).to_ascii_lowercase();
                if text == "any" {
                    return Ok($name { kind: None, code: None });
                }
                if let Some((_, kind, code)) = $names.iter().find(|n| n.0 == text) {
                    return Ok($name { kind: Some(*kind), code: *code });
                }
                let byte = |t: &str| number(t).and_then(|n| u8::try_from(n).ok());
                let (kind, code) = match text.split_once('/') {
                    Some((k, c)) => (byte(k), byte(c).map(Some)),
                    None => (byte(&text), Some(None)),
                };
                match (kind, code) {
                    // 255 without a code is how the tools store `any`.
                    (Some(255), Some(None)) => Ok($name { kind: None, code: None }),
                    (Some(kind), Some(code)) => Ok($name { kind: Some(kind), code }),
                    _ => Err("a type's name, number or number/code".to_owned()),
                }
            }
            fn text(&self, out: &mut String) {
                out.push_str(&match (self.kind, self.code) {
                    (None, _) => "any".to_owned(),
                    (Some(k), None) => k.to_string(),
                    (Some(k), Some(c)) => format!("{k}/{c}"),
                });
            }
        }
    )+ };
}
icmp_types! {
    /// ICMP type and code.
    IcmpType ICMP_NAMES;
    /// ICMPv6 type and code.
    Icmp6Type ICMP6_NAMES;
}

/// Names of `--icmp-type` (man iptables-extensions; RFC 792, RFC 1812).
#[rustfmt::skip]
const ICMP_NAMES: [(&str, u8, Option<u8>); 37] = [
    ("echo-reply", 0, None), ("pong", 0, None), ("destination-unreachable", 3, None),
    ("network-unreachable", 3, Some(0)), ("host-unreachable", 3, Some(1)), ("protocol-unreachable", 3, Some(2)),
    ("port-unreachable", 3, Some(3)), ("fragmentation-needed", 3, Some(4)), ("source-route-failed", 3, Some(5)),
    ("network-unknown", 3, Some(6)), ("host-unknown", 3, Some(7)), ("network-prohibited", 3, Some(9)),
    ("host-prohibited", 3, Some(10)), ("tos-network-unreachable", 3, Some(11)),
    ("tos-host-unreachable", 3, Some(12)), ("communication-prohibited", 3, Some(13)),
    ("host-precedence-violation", 3, Some(14)), ("precedence-cutoff", 3, Some(15)), ("source-quench", 4, None),
    ("redirect", 5, None), ("network-redirect", 5, Some(0)), ("host-redirect", 5, Some(1)),
    ("tos-network-redirect", 5, Some(2)), ("tos-host-redirect", 5, Some(3)), ("echo-request", 8, None),
    ("ping", 8, None), ("router-advertisement", 9, None), ("router-solicitation", 10, None),
    ("time-exceeded", 11, None), ("ttl-zero-during-transit", 11, Some(0)),
    ("ttl-zero-during-reassembly", 11, Some(1)), ("parameter-problem", 12, None), ("ip-header-bad", 12, Some(0)),
    ("required-option-missing", 12, Some(1)), ("timestamp-request", 13, None), ("timestamp-reply", 14, None),
    ("address-mask-request", 17, None),
];

/// Names of `--icmpv6-type` with their aliases (man iptables-extensions; RFC 4443, RFC 4861).
#[rustfmt::skip]
const ICMP6_NAMES: [(&str, u8, Option<u8>); 28] = [
    ("destination-unreachable", 1, None), ("no-route", 1, Some(0)), ("communication-prohibited", 1, Some(1)),
    ("beyond-scope", 1, Some(2)), ("address-unreachable", 1, Some(3)), ("port-unreachable", 1, Some(4)),
    ("failed-policy", 1, Some(5)), ("reject-route", 1, Some(6)), ("packet-too-big", 2, None),
    ("time-exceeded", 3, None), ("ttl-exceeded", 3, None), ("ttl-zero-during-transit", 3, Some(0)),
    ("ttl-zero-during-reassembly", 3, Some(1)), ("parameter-problem", 4, None), ("bad-header", 4, Some(0)),
    ("unknown-header-type", 4, Some(1)), ("unknown-option", 4, Some(2)), ("echo-request", 128, None),
    ("echo-reply", 129, None), ("router-solicitation", 133, None), ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None), ("neighbour-advertisement", 136, None), ("redirect", 137, None),
    ("ping", 128, None), ("pong", 129, None), ("neighbor-solicitation", 135, None),
    ("neighbor-advertisement", 136, None),
];

/// Chunks of an SCTP packet, with the flags asked for (`DATA:Be`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkTypes {
    /// `any`, `all` or `only` of them.
    pub how: String,
    /// Chunk number and flag letters; lower case: must be unset.
    pub chunks: Vec<(u8, String)>,
}

const CHUNKS: [(&str, u8); 19] = [
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
    ("ECN_ECNE", 12),
    ("ECN_CWR", 13),
    ("SHUTDOWN_COMPLETE", 14),
    ("I_DATA", 64),
    ("RE_CONFIG", 130),
    ("ASCONF", 193),
    ("ASCONF_ACK", 128),
];

impl Value for ChunkTypes {
    const WORDS: usize = 2;
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let how = first(w).to_ascii_lowercase();
        let expected = || "any, all or only and a list of SCTP chunks".to_owned();
        if !["any", "all", "only"].contains(&how.as_str()) {
            return Err(expected());
        }
        let mut chunks = Vec::new();
        for word in w.get(1).copied().unwrap_or_default().split(',') {
            let (name, flags) = word.split_once(':').unwrap_or((word, ""));
            let found = CHUNKS
                .iter()
                .find(|c| c.0.eq_ignore_ascii_case(name))
                .ok_or_else(expected)?;
            if !flags.chars().all(|c| c.is_ascii_alphabetic()) {
                return Err(expected());
            }
            chunks.push((found.1, flags.to_owned()));
        }
        chunks.sort();
        Ok(ChunkTypes { how, chunks })
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.how);
        for (i, (number, flags)) in self.chunks.iter().enumerate() {
            out.push(if i > 0 { ',' } else { ' ' });
            out.push_str(
                CHUNKS
                    .iter()
                    .find(|c| c.1 == *number)
                    .map_or("ALL", |c| c.0),
            );
            if !flags.is_empty() {
                out.push(':');
                out.push_str(flags);
            }
        }
    }
}

/// An ipset and, per dimension, whether the packet's source is looked up (or its destination).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetRef {
    /// The set.
    pub name: String,
    /// `true` is `src`; at most six (uapi ip_set.h IPSET_DIM_MAX).
    pub src: Vec<bool>,
}

impl Value for SetRef {
    const WORDS: usize = 2;
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let each = w
            .get(1)
            .copied()
            .unwrap_or_default()
            .split(',')
            .map(|d| match d {
                "src" => Some(true),
                "dst" => Some(false),
                _ => None,
            });
        match each.collect::<Option<Vec<_>>>() {
            Some(src)
                if src.len() <= 6
                    && !first(w).contains([' ', '\t', '"'])
                    && !first(w).is_empty() =>
            {
                Ok(SetRef {
                    name: first(w).to_owned(),
                    src,
                })
            }
            _ => Err("a set's name and a list of up to six src and dst".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.name);
        for (i, src) in self.src.iter().enumerate() {
            out.push(if i > 0 { ',' } else { ' ' });
            out.push_str(if *src { "src" } else { "dst" });
        }
    }
}

/// A chance in units of 2^-31 (libxt_statistic.c: `lround(0x80000000 * prob)`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Probability(pub u32);

impl Value for Probability {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        match first(w).parse::<f64>() {
            Ok(p) if (0.0..=1.0).contains(&p) => {
                Ok(Probability((p * 2_147_483_648.0).round() as u32))
            }
            _ => Err("a probability from 0 to 1".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:.11}", f64::from(self.0) / 2_147_483_648.0));
    }
}

/// The TOS byte under a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tos {
    /// Value.
    pub value: u8,
    /// Mask.
    pub mask: u8,
}

const TOS_NAMES: [(&str, u8); 5] = [
    ("minimize-delay", 0x10),
    ("maximize-throughput", 0x08),
    ("maximize-reliability", 0x04),
    ("minimize-cost", 0x02),
    ("normal-service", 0x00),
];

impl Value for Tos {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let text = first(w);
        if let Some((_, value)) = TOS_NAMES.iter().find(|n| n.0.eq_ignore_ascii_case(text)) {
            return Ok(Tos {
                value: *value,
                mask: 0x3f,
            });
        }
        let (value, mask) = match text.split_once('/') {
            Some((v, m)) => (v, u8::read(o, &[m], f)?),
            None => (text, 0xff),
        };
        Ok(Tos {
            value: u8::read(o, &[value], f)?,
            mask,
        })
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#04x}/{:#04x}", self.value, self.mask));
    }
}

/// The six DSCP bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dscp(pub u8);

impl Value for Dscp {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = first(w).to_ascii_uppercase();
        let digit = |i: usize, max: u8| {
            let d = text.as_bytes().get(i)?.wrapping_sub(b'0');
            (d <= max).then_some(d)
        };
        // RFC 2474 section 4.2.2, RFC 2597 section 6, RFC 3246.
        let class = match (text.as_str(), text.len()) {
            ("EF", _) => Some(0x2e),
            ("BE", _) => Some(0),
            (t, 3) if t.starts_with("CS") => digit(2, 7).map(|c| c << 3),
            (t, 4) if t.starts_with("AF") => {
                digit(2, 4).zip(digit(3, 3)).map(|(c, d)| c << 3 | d << 1)
            }
            _ => number(&text.to_ascii_lowercase()).and_then(|n| u8::try_from(n).ok()),
        };
        match class {
            Some(d) if d < 64 => Ok(Dscp(d)),
            _ => Err("a DSCP value from 0 to 0x3f or a class such as CS1, AF11, EF".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#04x}", self.0));
    }
}
