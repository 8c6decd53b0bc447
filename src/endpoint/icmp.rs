//! ICMP errors as they arrive: who says what about which packet of ours.
//!
//! Reads only the quoted header; matching it to a socket is the [`super::Stack`]'s.
//! Invariant: a quote too short to name a socket gives `None`, as in the kernel
//! (`icmp_socket_deliver`: at least 8 bytes behind the quoted IP header).

use super::errno::{Meaning, icmp_meaning, icmpv6_meaning};
use crate::wire::{IpHeader, Tuple, proto};
use std::net::IpAddr;

/// An ICMP error a socket of ours received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpSeen {
    /// Who sent it.
    pub from: IpAddr,
    /// ICMP or ICMPv6 type.
    pub typ: u8,
    /// Its code.
    pub code: u8,
}

/// A parsed ICMP error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IcmpError {
    /// Type, code and sender.
    pub seen: IcmpSeen,
    /// What it means.
    pub meaning: Meaning,
    /// The quoted packet's tuple, in the direction we sent it.
    pub tuple: Tuple,
    /// The quoted TCP sequence number, or ICMP echo sequence number (low 16 bits).
    pub seq: u32,
}

/// Reads an ICMP error out of `packet` (header `h`); `None` when it is something else.
pub(super) fn parse(h: &IpHeader, packet: &[u8]) -> Option<IcmpError> {
    if !h.is_icmp_error(packet) {
        return None;
    }
    let body = h.payload(packet);
    let (head, quoted) = (body.get(..8)?, body.get(8..)?);
    let (typ, code) = (head[0], head[1]);
    let info = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let meaning = match h.proto {
        proto::ICMP => icmp_meaning(typ, code, info & 0xffff),
        _ => icmpv6_meaning(typ, code, info),
    };
    let inner = IpHeader::parse_lax(quoted).ok()?;
    if inner.is_v4() != h.is_v4() {
        return None;
    }
    let l4 = quoted.get(inner.header_len..)?;
    let first: &[u8; 8] = l4.first_chunk()?;
    let seq = match inner.proto {
        proto::TCP => u32::from_be_bytes([first[4], first[5], first[6], first[7]]),
        _ => u32::from(u16::from_be_bytes([first[6], first[7]])),
    };
    Some(IcmpError {
        seen: IcmpSeen {
            from: h.src,
            typ,
            code,
        },
        meaning,
        tuple: Tuple::of(&inner, quoted),
        seq,
    })
}
