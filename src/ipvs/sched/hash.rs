//! `sh` and `dh` (kernel: ip_vs_sh.c, ip_vs_dh.c).
//!
//! Invariant: there are 256 buckets, or none while the service has no destination.

use super::super::service::DestId;
use super::{Dests, Pick, fold};

const BUCKETS: usize = 256;
/// `IP_VS_SVC_F_SCHED_SH_FALLBACK`
const FALLBACK: u8 = 1;
/// `IP_VS_SVC_F_SCHED_SH_PORT`
const PORT: u8 = 2;

/// Fills the buckets in list order, so many each; one that weighs nothing still takes one.
pub(super) fn fill(list: impl Iterator<Item = (DestId, i32)> + Clone) -> Vec<DestId> {
    let each = list.flat_map(|(id, n)| core::iter::repeat_n(id, n.clamp(1, 256) as usize));
    let each: Vec<DestId> = each.take(BUCKETS).collect();
    each.iter().copied().cycle().take(BUCKETS).collect()
}

/// `hash_32` of include/linux/hash.h, 8 bits.
fn hash(v: u32) -> usize {
    (v.wrapping_mul(0x61C8_8647) >> 24) as usize
}

fn usable(dests: &Dests, id: DestId) -> bool {
    dests.get(&id).is_some_and(|d| d.usable())
}

/// By the client's address, with `sh-port` its port too; `sh-fallback` looks further.
pub(super) fn source(b: &[DestId], dests: &Dests, p: &Pick, flags: u8) -> Option<DestId> {
    let port = if flags & PORT != 0 { p.sport } else { 0 };
    let h = hash(fold(p.src).wrapping_add(u32::from(port)));
    let first = *b.get(h)?;
    if usable(dests, first) {
        return Some(first);
    }
    if flags & FALLBACK == 0 {
        return None;
    }
    (0..BUCKETS)
        .filter_map(|off| b.get(((off + h) % BUCKETS + h) % BUCKETS))
        .find(|id| usable(dests, **id))
        .copied()
}

/// By the virtual address.
pub(super) fn destination(b: &[DestId], dests: &Dests, p: &Pick) -> Option<DestId> {
    let id = *b.get(hash(fold(p.dst)))?;
    dests.get(&id).filter(|d| d.available && d.usable())?;
    Some(id)
}
