//! UDP datagrams and echo requests: building and reading them, and which ICMP errors end a client.
//!
//! Datagrams have no state worth a smoltcp socket; headers are `wire::build`'s. A datagram larger than the
//! path MTU leaves as one packet without DF for the kernel model to fragment.
//! Invariant: nothing here allocates for a stack that only listens.

use super::config::Config;
use super::errno::{Errno, Meaning};
use super::event::{ClientId, PingRequest};
use crate::base::Instant;
use crate::wire::{IpHeader, Tuple, build, proto};

/// A client that waits for one datagram or echo reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Who waits.
    pub id: ClientId,
    /// Until when.
    pub deadline: Instant,
}

/// A UDP packet along `t`. DF as with IP_PMTUDISC_WANT, the default: set while it fits `path_mtu`.
pub(super) fn udp(config: &Config, t: &Tuple, id: u16, path_mtu: u32, payload: &[u8]) -> Vec<u8> {
    let l4 = build::udp(t.src, t.dst, t.sport, t.dport, payload);
    let df = l4.len() + 20 <= path_mtu as usize;
    build::ip_packet(t.src, t.dst, proto::UDP, config.ttl, 0, id, df, &l4)
}

/// The largest payload of a UDP datagram or echo message between two addresses.
pub(super) fn payload_max(v4: bool) -> usize {
    if v4 { 65_535 - 28 } else { 65_535 - 8 }
}

/// The payload of a UDP packet; `None` when its length field is wrong (`udp_rcv`: short packet).
pub(super) fn udp_payload<'a>(h: &IpHeader, packet: &'a [u8]) -> Option<&'a [u8]> {
    let l4 = h.payload(packet);
    let len = usize::from(u16::from_be_bytes([*l4.get(4)?, *l4.get(5)?]));
    l4.get(8..len)
}

/// An echo request.
pub(super) fn echo_request(r: &PingRequest, ip_id: u16) -> Vec<u8> {
    let (typ, proto) = match r.local.is_ipv4() {
        true => (8, proto::ICMP),
        false => (128, proto::ICMPV6),
    };
    let rest = u32::from(r.id) << 16 | u32::from(r.seq);
    let l4 = build::icmp_message(r.local, r.remote, typ, 0, rest, &r.payload);
    build::ip_packet(r.local, r.remote, proto, r.ttl.max(1), 0, ip_id, r.df, &l4)
}

/// Id, sequence number and data of an echo reply.
pub(super) fn echo_reply<'a>(h: &IpHeader, packet: &'a [u8]) -> Option<(u16, u16, &'a [u8])> {
    match (h.proto, h.icmp(packet)?) {
        (proto::ICMP, (0, 0)) | (proto::ICMPV6, (129, 0)) => {}
        _ => return None,
    }
    let m = h.payload(packet);
    let head: &[u8; 8] = m.first_chunk()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    Some((word(4), word(6), m.get(8..)?))
}

/// The error a connected UDP socket without IP_RECVERR reports (`__udp4_lib_err`, `__udp6_lib_err`): hard
/// ones only; a shrunken path MTU is EMSGSIZE, as path MTU discovery is on by default.
pub(super) fn udp_error(m: Meaning) -> Option<Errno> {
    match m {
        Meaning::Error { errno, fatal } => fatal.then_some(errno),
        Meaning::PathMtu(_) => Some(Errno::MsgSize),
        Meaning::Ignored => None,
    }
}

/// The error ping(8) shows: it sets IP_RECVERR, so every one (`ping_err`).
pub(super) fn ping_error(m: Meaning) -> Option<Errno> {
    match m {
        Meaning::Error { errno, .. } => Some(errno),
        Meaning::PathMtu(_) => Some(Errno::MsgSize),
        Meaning::Ignored => None,
    }
}
