//! The flow hash of a frame and the tunnel source port made of it (kernel: `skb_get_hash`,
//! `udp_flow_src_port`).
//!
//! The kernel's hash is keyed with a number drawn at boot; here it is fixed, so that a run can be repeated.
//! Which fields count is the kernel's (`flow_keys_dissector`): no ports of fragments and of ICMP, a flow
//! label instead of what lies behind it. Equal in both directions (`__flow_hash_consistentify`).

use crate::wire::{Frame, IpHeader, proto};
use std::net::IpAddr;

/// The hash of a frame: its socket's if it has one, else that of its headers. `bool`: it covers ports, and
/// so survives a tunnel's end (kernel: `l4_hash`, `skb_clear_hash_if_not_l4`).
pub fn hash(f: &Frame) -> (u32, bool) {
    if let Some(h) = f.hash {
        return (h, true);
    }
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    let mut eat = |b: &[u8]| {
        b.iter()
            .for_each(|x| h = (h ^ u64::from(*x)).wrapping_mul(0x100_0000_01b3))
    };
    eat(&f.ethertype().to_be_bytes());
    let mut ports = (0, 0);
    if let Ok(ip) = IpHeader::parse_lax(f.l3()) {
        let label = flow_label(&ip, f.l3());
        if label == 0 {
            ports = keys(&ip, f.l3());
            eat(&[ip.proto]);
        }
        eat(&label.to_be_bytes());
        let (mut a, mut b) = ((ip.src, ports.0), (ip.dst, ports.1));
        if b < a {
            std::mem::swap(&mut a, &mut b);
        }
        for (ip, port) in [a, b] {
            match ip {
                IpAddr::V4(x) => eat(&x.octets()),
                IpAddr::V6(x) => eat(&x.octets()),
            }
            eat(&port.to_be_bytes());
        }
    }
    let hash = (h.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
    (hash.max(1), ports != (0, 0))
}

/// The ports that count (kernel: `__skb_flow_dissect_ports`, which is not asked for fragments).
fn keys(ip: &IpHeader, packet: &[u8]) -> (u16, u16) {
    match ip.proto {
        proto::TCP | proto::UDP | proto::SCTP if ip.frag_off == 0 && !ip.mf => {
            ip.ports(packet).unwrap_or((0, 0))
        }
        _ => (0, 0),
    }
}

/// The flow label of an IPv6 packet, at which dissection stops (kernel:
/// `FLOW_DISSECTOR_F_STOP_AT_FLOW_LABEL`); 0 for none.
fn flow_label(ip: &IpHeader, packet: &[u8]) -> u32 {
    match packet.first_chunk::<4>() {
        Some(b) if ip.src.is_ipv6() => u32::from_be_bytes(*b) & 0xf_ffff,
        _ => 0,
    }
}

/// The port from `lo` on and below `hi` that stands for `hash` (kernel: `udp_flow_src_port`).
pub fn source_port(hash: u32, (lo, hi): (u16, u16)) -> u16 {
    let hash = hash ^ (hash << 16);
    lo + ((u64::from(hash) * u64::from(hi.saturating_sub(lo))) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;

    fn port(protocol: u8, id: u16, payload: &[u8], mf: bool) -> u16 {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let mut p = build::ip_packet(a.into(), b.into(), protocol, 64, 0, id, false, payload);
        p[6] |= u8::from(mf) << 5;
        source_port(hash(&Frame::ip(&p)).0, (32768, 60999))
    }

    #[test]
    fn ports_count_but_not_of_icmp_and_fragments() {
        assert_ne!(port(17, 0, &[1; 8], false), port(17, 0, &[2; 8], false));
        assert_eq!(port(17, 0, &[1; 8], true), port(17, 0, &[2; 8], true));
        assert_eq!(
            port(1, 0, &[8, 0, 1, 1, 1, 1, 1, 1], false),
            port(1, 7, &[8; 8], false)
        );
    }

    #[test]
    fn a_sockets_hash_comes_first() {
        let mut f = Frame::ip(&[0x45; 28]);
        f.hash = Some(77);
        assert_eq!(hash(&f), (77, true));
        let lowest = source_port(0, (32768, 60999));
        assert_eq!((lowest, source_port(u32::MAX << 16, (5, 5))), (32768, 5));
    }
}
