//! ICMP errors about a translated connection: the packet they quote is translated back with them.
//!
//! Follows `nf_nat_icmp_reply_translation` and `nf_nat_icmpv6_reply_translation`. Invariant: the ICMP
//! checksum is right afterwards; the quoted headers' checksums are as the original sender had them, as far
//! as they are quoted at all.

use super::{Manip, inverse, manip};
use crate::nf::ct::{CtStatus, CtTuple, Dir};
use crate::wire::{checksum, proto};
use std::net::IpAddr;

/// What the translation has to know of the connection.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Its tuples.
    pub tuples: &'a [CtTuple; 2],
    /// Its status.
    pub status: CtStatus,
    /// The direction in which the error goes.
    pub dir: Dir,
}

/// Whether packets of a direction are translated by `manip` (kernel: `statusbit` in `nf_nat_packet`).
pub fn concerned(status: CtStatus, dir: Dir, manip: Manip) -> bool {
    let src = (manip == Manip::Src) == (dir == Dir::Original);
    status.any(if src {
        CtStatus::SRC_NAT
    } else {
        CtStatus::DST_NAT
    })
}

/// Translates an error and what it quotes; `None`: it is dropped.
pub fn translate(packet: &mut [u8], about: &About<'_>, hook: Manip) -> Option<()> {
    let v4 = packet.first()? >> 4 == 4;
    let (head, inner_min, redirect) = match v4 {
        true => (usize::from(packet.first()? & 15) * 4, 20, 5),
        false => (manip::skip_exthdr(packet)?.0, 40, 137),
    };
    let icmp = packet.get(head..).filter(|p| p.len() >= 8 + inner_min)?;
    if sum(packet.get(..head)?, icmp, v4) != 0xffff {
        return None;
    }
    // A redirect names a way for the packet as it was before; told of a translated one it would be wrong.
    if icmp.first() == Some(&redirect)
        && (about.status.0 & CtStatus::NAT_DONE_MASK != CtStatus::NAT_DONE_MASK
            || about.status.any(CtStatus::NAT_MASK))
    {
        return None;
    }
    if !concerned(about.status, about.dir, hook) {
        return Some(());
    }
    let other = about.tuples.get(about.dir.other().index())?;
    manip::manip_packet(packet.get_mut(head + 8..)?, other, hook.other())?;
    manip::put(packet, head + 2, &[0; 2])?;
    let (ip, icmp) = packet.split_at_checked(head)?;
    let check = !(sum(ip, icmp, v4) as u16);
    manip::put(packet, head + 2, &check.to_be_bytes())?;
    let mut target = inverse(other);
    target.proto = if v4 { proto::ICMP } else { proto::ICMPV6 };
    manip::manip_packet(packet, &target, hook)
}

/// The sum over an ICMP message; 0xffff if its checksum is right.
fn sum(ip: &[u8], icmp: &[u8], v4: bool) -> u32 {
    if v4 {
        return checksum::sum(icmp, 0);
    }
    let addr = |at: usize| {
        let b: [u8; 16] = ip
            .get(at..)
            .and_then(|s| s.first_chunk().copied())
            .unwrap_or_default();
        IpAddr::from(b)
    };
    checksum::sum(
        icmp,
        checksum::pseudo(addr(8), addr(24), proto::ICMPV6, icmp.len()),
    )
}
