//! Packets that the kernel itself makes: ICMP errors and answers, TCP resets, tunnel headers.
//!
//! Probe packets of a person come from `etherparse`'s builder; here are those whose exact shape is
//! the kernel's.

use crate::wire::{IpHeader, checksum, proto};
use std::net::IpAddr;

/// An IP packet around `payload`. `id` and `df` are IPv4's.
#[allow(clippy::too_many_arguments)] // the header's own fields, in its order
pub fn ip_packet(
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    ttl: u8,
    tos: u8,
    id: u16,
    df: bool,
    payload: &[u8],
) -> Vec<u8> {
    let mut p;
    match (src, dst) {
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            p = Vec::with_capacity(40 + payload.len());
            p.extend_from_slice(&[0x60 | (tos >> 4), tos << 4, 0, 0]);
            p.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            p.extend_from_slice(&[proto, ttl]);
            p.extend_from_slice(&s.octets());
            p.extend_from_slice(&d.octets());
            p.extend_from_slice(payload);
        }
        _ => {
            p = Vec::with_capacity(20 + payload.len());
            p.extend_from_slice(&[0x45, tos]);
            p.extend_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
            p.extend_from_slice(&id.to_be_bytes());
            p.extend_from_slice(&[if df { 0x40 } else { 0 }, 0, ttl, proto, 0, 0]);
            for a in [src, dst] {
                if let IpAddr::V4(a) = a {
                    p.extend_from_slice(&a.octets());
                }
            }
            p.resize(20, 0);
            crate::wire::ip::fill_v4_checksum(&mut p);
            p.extend_from_slice(payload);
        }
    }
    p
}

/// Fills the checksum of an ICMP or ICMPv6 message (the version follows the addresses).
pub fn fill_icmp_checksum(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    if message.len() < 4 {
        return;
    }
    message[2..4].fill(0);
    let c = match src {
        IpAddr::V4(_) => checksum::of(message),
        IpAddr::V6(_) => checksum::l4(src, dst, proto::ICMPV6, message),
    };
    message[2..4].copy_from_slice(&c.to_be_bytes());
}

/// An ICMP or ICMPv6 message: type, code, the four bytes behind the checksum, and what follows.
pub fn icmp_message(
    src: IpAddr,
    dst: IpAddr,
    typ: u8,
    code: u8,
    rest: u32,
    data: &[u8],
) -> Vec<u8> {
    let mut m = Vec::with_capacity(8 + data.len());
    m.extend_from_slice(&[typ, code, 0, 0]);
    m.extend_from_slice(&rest.to_be_bytes());
    m.extend_from_slice(data);
    fill_icmp_checksum(&mut m, src, dst);
    m
}

/// How much of `packet` an ICMP error quotes. IPv4: the error fits 576 bytes (kernel `icmp_send`:
/// `room = min(dst_mtu, 576) - sizeof(iphdr) - sizeof(icmphdr)`); IPv6: 1280 (`icmp6_send`: IPV6_MIN_MTU).
/// `echoed` is the length of the options in the error's own header.
pub fn quote(packet: &[u8], path_mtu: usize, echoed: usize) -> &[u8] {
    let v4 = packet.first().is_some_and(|b| b >> 4 == 4);
    let room = if v4 {
        path_mtu.min(576).saturating_sub(28 + echoed)
    } else {
        1280 - 48
    };
    &packet[..packet.len().min(room)]
}

/// A UDP datagram with its checksum (0 is sent as 0xffff, RFC 768).
pub fn udp(src: IpAddr, dst: IpAddr, sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut u = Vec::with_capacity(8 + payload.len());
    u.extend_from_slice(&sport.to_be_bytes());
    u.extend_from_slice(&dport.to_be_bytes());
    u.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    u.extend_from_slice(&[0, 0]);
    u.extend_from_slice(payload);
    let c = match checksum::l4(src, dst, proto::UDP, &u) {
        0 => 0xffff,
        c => c,
    };
    u[6..8].copy_from_slice(&c.to_be_bytes());
    u
}

/// The RST that answers a segment nobody listens for (RFC 9293 section 3.10.7.1; kernel
/// `tcp_v4_send_reset`): `None` when the segment is itself a RST or too short.
pub fn tcp_reset(h: &IpHeader, packet: &[u8]) -> Option<Vec<u8>> {
    let t = h.payload(packet);
    let head: &[u8; 20] = t.first_chunk()?;
    let flags = head[13];
    let (fin, syn, rst, ack) = (flags & 1, flags >> 1 & 1, flags >> 2 & 1, flags >> 4 & 1);
    if rst == 1 {
        return None;
    }
    let seq_in = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let ack_in = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let doff = usize::from(head[12] >> 4) * 4;
    let (seq, ackno, out) = if ack == 1 {
        (ack_in, 0, 0x04)
    } else {
        let len = t.len().saturating_sub(doff) as u32 + u32::from(syn) + u32::from(fin);
        (0, seq_in.wrapping_add(len), 0x14)
    };
    let mut r = Vec::with_capacity(20);
    r.extend_from_slice(&[head[2], head[3], head[0], head[1]]);
    r.extend_from_slice(&seq.to_be_bytes());
    r.extend_from_slice(&ackno.to_be_bytes());
    r.extend_from_slice(&[0x50, out, 0, 0, 0, 0, 0, 0]);
    let c = checksum::l4(h.dst, h.src, proto::TCP, &r);
    r[16..18].copy_from_slice(&c.to_be_bytes());
    Some(r)
}

/// Whether the upper-layer checksum of an unfragmented packet is right (UDP over IPv4 may carry none).
pub fn l4_checksum_ok(h: &IpHeader, packet: &[u8]) -> bool {
    let p = h.payload(packet);
    match h.proto {
        proto::UDP if h.is_v4() && p.get(6..8) == Some(&[0, 0]) => true,
        proto::TCP | proto::UDP | proto::ICMPV6 => {
            checksum::sum(p, checksum::pseudo(h.src, h.dst, h.proto, p.len())) == 0xffff
        }
        proto::ICMP => checksum::sum(p, 0) == 0xffff,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_answers_syn_with_ack_of_its_sequence() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut syn = vec![
            0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
        ];
        syn.extend_from_slice(b"xyz");
        let p = ip_packet(a, b, proto::TCP, 64, 0, 1, true, &syn);
        let h = IpHeader::parse(&p).unwrap();
        let r = tcp_reset(&h, &p).unwrap();
        assert_eq!(&r[..14], &[0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 13, 0x50, 0x14]);
        let back = ip_packet(b, a, proto::TCP, 64, 0, 1, true, &r);
        let hb = IpHeader::parse(&back).unwrap();
        assert!(l4_checksum_ok(&hb, &back));
        assert_eq!(tcp_reset(&hb, &back), None, "no RST for a RST");
    }

    #[test]
    fn quoting_never_exceeds_576_or_1280() {
        let v4 = [0x45u8; 1500];
        assert_eq!(quote(&v4, 1500, 0).len(), 548);
        assert_eq!(quote(&v4, 300, 0).len(), 272);
        let v6 = [0x60u8; 1500];
        assert_eq!(quote(&v6, 1500, 0).len(), 1232);
    }
}
