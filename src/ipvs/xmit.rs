//! Packets are translated or wrapped, and conntrack is told (kernel: ip_vs_xmit.c, ip_vs_nfct.c).
//!
//! Works on bytes; routes are the walker's. Invariant: `false` leaves a packet that must be dropped.

use super::hook::Order;
use super::service::{Forward, TunnelKind, TunnelSum};
use crate::nf::ct::{Conntrack, CtTuple, Dir};
use crate::nf::nat::{Manip, manip_packet};
use crate::wire::{CtRef, Frame, IpHeader, build, ip, proto};
use std::net::IpAddr;

/// Which packets of a connection an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Those from the virtual address: the error goes to the real server.
    Request,
    /// Those to the real server: the error goes to the client.
    Reply,
}

fn tuple(proto: u8, src: (IpAddr, u16), dst: (IpAddr, u16)) -> CtTuple {
    CtTuple {
        proto,
        src: src.0,
        dst: dst.0,
        sport: src.1,
        dport: dst.1,
    }
}

/// A request's destination becomes the real server (`tcp_dnat_handler` and its brothers).
pub fn translate_request(l3: &mut [u8], o: &Order) -> bool {
    if o.icmp {
        return translate_error(l3, o, Side::Request);
    }
    let Ok(h) = IpHeader::parse_lax(l3) else {
        return false;
    };
    let to = (o.to, o.port);
    manip_packet(l3, &tuple(h.proto, to, to), Manip::Dst).is_some()
}

/// A reply's source becomes the virtual address (`tcp_snat_handler` and its brothers).
pub fn translate_reply(l3: &mut [u8], o: &Order) -> bool {
    let Ok(h) = IpHeader::parse_lax(l3) else {
        return false;
    };
    manip_packet(l3, &tuple(h.proto, o.virt, o.virt), Manip::Src).is_some()
}

/// An error's one address and the quoted packet's opposite one, with its port; the quoted checksum of
/// TCP or UDP is left as it is (`ip_vs_nat_icmp`, `ip_vs_nat_icmp_v6`).
pub fn translate_error(l3: &mut [u8], o: &Order, side: Side) -> bool {
    error(l3, o, side).is_some()
}

fn error(l3: &mut [u8], o: &Order, side: Side) -> Option<()> {
    let h = IpHeader::parse_lax(l3).ok()?;
    let quoted = IpHeader::parse_lax(l3.get(h.header_len + 8..)?).ok()?;
    let inner = h.header_len + 8;
    let (src, dst, len) = if h.is_v4() { (12, 16, 4) } else { (8, 24, 16) };
    let (ip, port, outer_at, inner_at, port_at) = match side {
        Side::Reply => (o.virt.0, o.virt.1, src, dst, 2),
        Side::Request => (o.to, o.port, dst, src, 0),
    };
    let bytes = match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    if bytes.len() != len {
        return None;
    }
    l3.get_mut(outer_at..outer_at + len)?
        .copy_from_slice(&bytes);
    let at = inner + inner_at;
    l3.get_mut(at..at + len)?.copy_from_slice(&bytes);
    let at = inner + quoted.header_len + port_at;
    l3.get_mut(at..at + 2)?.copy_from_slice(&port.to_be_bytes());
    if h.is_v4() {
        ip::fill_v4_checksum(l3.get_mut(inner..)?);
        ip::fill_v4_checksum(l3);
    }
    let h = IpHeader::parse_lax(l3).ok()?;
    let end = h.total_len.min(l3.len());
    let message = l3.get_mut(h.header_len..end)?;
    build::fill_icmp_checksum(message, h.src, h.dst);
    Some(())
}

/// Wraps a packet for a tunnel; `id` is the outer header's identification. `Err` says what cannot be done.
pub fn wrap(
    l3: &[u8],
    o: &Order,
    src: IpAddr,
    id: u16,
    pmtu_disc: bool,
) -> Result<Vec<u8>, &'static str> {
    let h = IpHeader::parse_lax(l3).map_err(|_| "its header is cut off")?;
    let Forward::Tunnel(kind, sum) = o.fwd else {
        return Err("no tunnel");
    };
    let inner = l3.get(..h.total_len.min(l3.len())).unwrap_or(l3);
    let (outer_proto, payload) = match (kind, sum) {
        (TunnelKind::Ipip, _) if h.is_v4() => (proto::IPIP, inner.to_vec()),
        (TunnelKind::Ipip, _) => (41, inner.to_vec()),
        (TunnelKind::Gre, TunnelSum::None) => {
            let ethertype: u16 = if h.is_v4() { 0x0800 } else { 0x86dd };
            let mut p = vec![0, 0];
            p.extend_from_slice(&ethertype.to_be_bytes());
            p.extend_from_slice(inner);
            (crate::nf::ct::tuple::GRE, p)
        }
        (TunnelKind::Gre, _) => return Err("GRE tunnels with checksums are not carried out"),
        (TunnelKind::Gue { .. }, _) => return Err("GUE tunnels are not carried out"),
    };
    let df = h.is_v4() && h.df && pmtu_disc;
    let tos = h.tos;
    Ok(build::ip_packet(
        src,
        o.to,
        outer_proto,
        h.ttl,
        tos,
        id,
        df,
        &payload,
    ))
}

/// Bytes a tunnel adds.
pub fn overhead(o: &Order) -> usize {
    let ip = if o.to.is_ipv4() { 20 } else { 40 };
    match o.fwd {
        Forward::Tunnel(TunnelKind::Ipip, _) => ip,
        Forward::Tunnel(TunnelKind::Gre, _) => ip + 4,
        Forward::Tunnel(TunnelKind::Gue { .. }, _) => ip + 12,
        _ => 0,
    }
}

/// A packet goes without conntrack (`ip_vs_notrack`), or its replies will come from the real server
/// (`ip_vs_update_conntrack`).
pub fn tell_conntrack(ct: &mut Conntrack, f: &mut Frame, o: &Order, side: Side) {
    let CtRef::Conn { id, info } = f.ct else {
        return;
    };
    if !o.nfct {
        f.ct = CtRef::Untracked;
        return;
    }
    let alterable = o.fwd == Forward::Masq && !o.one_packet && !info.is_reply();
    let conn = ct.get(id).filter(|c| !c.is_confirmed() && !c.is_dying());
    let Some(mut reply) = conn.filter(|_| alterable).map(|c| c.tuple(Dir::Reply)) else {
        return;
    };
    let icmp = reply.is_icmp();
    match side {
        Side::Request => {
            reply.src = o.to;
            if !icmp {
                reply.sport = o.port;
            }
        }
        Side::Reply => {
            reply.dst = o.virt.0;
            if !icmp {
                reply.dport = o.virt.1;
            }
        }
    }
    ct.alter_reply(id, reply);
}
