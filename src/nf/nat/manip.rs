//! A packet's addresses and ports are changed, its checksums kept right by what changed (RFC 1624).
//!
//! Follows nf_nat_proto.c. A wrong checksum stays wrong, but for SCTP's, which the kernel computes anew.
//! Reads nothing outside the slice it is given. Invariant: `None` means that the header is cut off before
//! what has to be changed: the kernel then drops the packet.

use super::{GRE, Manip, UDPLITE, crc32c};
use crate::nf::ct::CtTuple;
use crate::wire::{checksum, proto};
use std::net::IpAddr;

/// Makes one side of `packet` (from the network header on, no padding behind it) look like `target`'s
/// (kernel: `nf_nat_ipv4_manip_pkt`, `nf_nat_ipv6_manip_pkt`).
pub fn manip_packet(packet: &mut [u8], target: &CtTuple, manip: Manip) -> Option<()> {
    match manip.addr(target) {
        IpAddr::V4(ip) => v4(packet, ip.octets(), target, manip),
        IpAddr::V6(ip) => v6(packet, ip.octets(), target, manip),
    }
}

fn v4(p: &mut [u8], new: [u8; 4], target: &CtTuple, manip: Manip) -> Option<()> {
    let ihl = usize::from(p.first()? & 15) * 4;
    if p.len() < 20 || ihl < 20 {
        return None;
    }
    let at = match manip {
        Manip::Src => 12,
        Manip::Dst => 16,
    };
    let old: [u8; 4] = *p.get(at..)?.first_chunk()?;
    let l4 = p.get_mut(ihl..).unwrap_or_default();
    upper(l4, target, manip, &old, &new)?;
    replace(p, 10, &old, &new)?;
    put(p, at, &new)
}

fn v6(p: &mut [u8], new: [u8; 16], target: &CtTuple, manip: Manip) -> Option<()> {
    let at = match manip {
        Manip::Src => 8,
        Manip::Dst => 24,
    };
    let old: [u8; 16] = *p.get(at..40)?.first_chunk()?;
    if let Some((start, _, 0)) = skip_exthdr(p) {
        let l4 = p.get_mut(start..).unwrap_or_default();
        upper(l4, target, manip, &old, &new)?;
    }
    put(p, at, &new)
}

/// Where the upper header begins, its protocol and the fragment offset (kernel: `ipv6_skip_exthdr`).
pub(super) fn skip_exthdr(p: &[u8]) -> Option<(usize, u8, u16)> {
    let (mut at, mut next) = (40, *p.get(6)?);
    while let 0 | 43 | 44 | 51 | 59 | 60 = next {
        let head: [u8; 2] = *p.get(at..)?.first_chunk()?;
        let len = usize::from(head[1]);
        let len = match next {
            59 => return None,
            44 => {
                let off = be16(p, at + 2)? & !7;
                if off != 0 {
                    return Some((at, next, off));
                }
                8
            }
            51 => (len + 2) * 4,
            _ => (len + 1) * 8,
        };
        next = head[0];
        at += len;
    }
    Some((at, next, 0))
}

/// The upper header; protocols without one that is known pass unchanged (kernel: `l4proto_manip_pkt`).
fn upper(h: &mut [u8], t: &CtTuple, manip: Manip, old: &[u8], new: &[u8]) -> Option<()> {
    match t.proto {
        proto::TCP => {
            // An ICMP error need not quote more than 8 bytes: then there is no checksum to keep right.
            let check = (h.len() >= 20).then_some(16);
            if let Some(at) = check {
                replace(h, at, old, new)?;
            }
            port(h, t, manip, check)
        }
        proto::UDP if h.len() >= 8 && be16(h, 6) == Some(0) => port(h, t, manip, None),
        proto::UDP | UDPLITE => {
            h.get(..8)?;
            replace(h, 6, old, new)?;
            port(h, t, manip, Some(6))?;
            if be16(h, 6) == Some(0) {
                put(h, 6, &[0xff; 2])?; // CSUM_MANGLED_0: 0 would say that there is none
            }
            Some(())
        }
        proto::SCTP => {
            port(h, t, manip, None)?;
            if h.len() >= 12 {
                put(h, 8, &[0; 4])?;
                let sum = crc32c::of(h);
                put(h, 8, &sum.to_le_bytes())?;
            }
            Some(())
        }
        proto::ICMP => match *h.get(..8)?.first()? {
            0 | 8 | 13..=18 => id(h, t),
            _ => Some(()),
        },
        proto::ICMPV6 => {
            h.get(..8)?;
            replace(h, 2, old, new)?;
            match *h.first()? {
                128 | 129 => id(h, t),
                _ => Some(()),
            }
        }
        GRE => {
            let version = h.get(..8)?.get(1)? & 7;
            match (manip, version) {
                (Manip::Src, _) | (_, 0) => Some(()), // the source's key is not in the packet
                (_, 1) => put(h, 6, &t.dport.to_be_bytes()),
                _ => None,
            }
        }
        _ => Some(()),
    }
}

/// Sets a port; `check` is where the checksum stands that covers it.
fn port(h: &mut [u8], t: &CtTuple, manip: Manip, check: Option<usize>) -> Option<()> {
    let at = match manip {
        Manip::Src => 0,
        Manip::Dst => 2,
    };
    let old = h.get(..8)?.get(at..)?.first_chunk::<2>().copied()?;
    let new = manip.port(t).to_be_bytes();
    if let Some(check) = check {
        replace(h, check, &old, &new)?;
    }
    put(h, at, &new)
}

/// Sets the id of an ICMP query.
fn id(h: &mut [u8], t: &CtTuple) -> Option<()> {
    let old = h.get(4..)?.first_chunk::<2>().copied()?;
    let new = t.sport.to_be_bytes();
    replace(h, 2, &old, &new)?;
    put(h, 4, &new)
}

/// Updates the checksum at `at` for bytes that change from `old` to `new` (kernel: `csum_replace4`,
/// `inet_proto_csum_replace16`; one's complement sums may be taken in any order).
pub(super) fn replace(h: &mut [u8], at: usize, old: &[u8], new: &[u8]) -> Option<()> {
    let mut check = be16(h, at)?;
    let (old, new) = (old.as_chunks::<2>().0, new.as_chunks::<2>().0);
    for (o, n) in old.iter().zip(new) {
        check = checksum::update(check, u16::from_be_bytes(*o), u16::from_be_bytes(*n));
    }
    put(h, at, &check.to_be_bytes())
}

pub(super) fn be16(h: &[u8], at: usize) -> Option<u16> {
    h.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

pub(super) fn put(h: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    h.get_mut(at..at.checked_add(bytes.len())?)?
        .copy_from_slice(bytes);
    Some(())
}
