//! `mh`: Maglev hashing (kernel: ip_vs_mh.c; Eisenbud et al., NSDI 2016).
//!
//! Invariant: the table has 4093 places, or none while nobody has ever had a weight.

use super::super::service::{Dest, DestId};
use super::{Dests, Pick, fold, rr};

/// `IP_VS_MH_TAB_SIZE`, the prime of 12 bits that is the default.
const SIZE: usize = 4093;
/// Half of `IP_VS_MH_TAB_BITS`: as many bits of a weight count.
const WEIGHT_BITS: u32 = 6;
const KEY1: u64 = 2_654_435_761;
const KEY2: u64 = 2_654_446_892;
/// `IP_VS_SVC_F_SCHED_MH_FALLBACK`
const FALLBACK: u8 = 1;
/// `IP_VS_SVC_F_SCHED_MH_PORT`
const PORT: u8 = 2;

/// `hsiphash_1u32` of 64-bit kernels: SipHash-1-3, its low half, under the key twice.
fn hsiphash(v: u32, key: u64) -> u32 {
    let mut s = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    let m = 4 << 56 | u64::from(v);
    s[3] ^= m;
    round(&mut s);
    s[0] ^= m;
    s[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut s));
    (s[0] ^ s[1] ^ s[2] ^ s[3]) as u32
}

fn round(s: &mut [u64; 4]) {
    s[0] = s[0].wrapping_add(s[1]);
    s[1] = s[1].rotate_left(13) ^ s[0];
    s[0] = s[0].rotate_left(32);
    s[2] = s[2].wrapping_add(s[3]);
    s[3] = s[3].rotate_left(16) ^ s[2];
    s[0] = s[0].wrapping_add(s[3]);
    s[3] = s[3].rotate_left(21) ^ s[0];
    s[2] = s[2].wrapping_add(s[1]);
    s[1] = s[1].rotate_left(17) ^ s[2];
    s[2] = s[2].rotate_left(32);
}

fn place(v: u32) -> usize {
    hsiphash(v, KEY1) as usize % SIZE
}

/// One destination's way through the table (`struct ip_vs_mh_dest_setup`).
struct Way {
    id: DestId,
    at: usize,
    skip: usize,
    turns: u32,
}

/// Fills the table by turns (`ip_vs_mh_permutate`, `ip_vs_mh_populate`).
pub(super) fn fill(list: &[(DestId, &Dest)]) -> Vec<DestId> {
    let weights = || list.iter().map(|(_, d)| d.last_weight.max(0));
    let gcd = weights().filter(|w| *w > 0).fold(0, rr::gcd);
    if gcd < 1 {
        return Vec::new();
    }
    let most = (weights().max().unwrap_or(0) / gcd) as u32;
    let shift = (u32::BITS - most.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let mut ways: Vec<Way> = list
        .iter()
        .map(|(id, d)| {
            let v = fold(d.spec.ip).wrapping_add(u32::from(d.spec.port));
            let share = (d.last_weight.max(0) / gcd) as u32 >> shift;
            Way {
                id: *id,
                at: place(v),
                skip: hsiphash(v, KEY2) as usize % (SIZE - 1) + 1,
                turns: share.max(u32::from(d.last_weight > 0)),
            }
        })
        .filter(|w| w.turns > 0)
        .collect();
    let mut table: Vec<Option<DestId>> = vec![None; SIZE];
    let mut left = SIZE;
    while left > 0 {
        for way in &mut ways {
            for _ in 0..way.turns {
                if left == 0 {
                    break;
                }
                while table.get(way.at).is_some_and(Option::is_some) {
                    way.at = (way.at + way.skip) % SIZE;
                }
                if let Some(slot) = table.get_mut(way.at) {
                    *slot = Some(way.id);
                }
                left -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// `ip_vs_mh_schedule`
pub(super) fn choose(b: &[DestId], dests: &Dests, p: &Pick, flags: u8) -> Option<DestId> {
    let usable = |id: &DestId| dests.get(id).is_some_and(|d| d.usable());
    let port = if flags & PORT != 0 { p.sport } else { 0 };
    let v = fold(p.src).wrapping_add(u32::from(port));
    let h = place(v);
    let first = b.get(h)?;
    if usable(first) {
        return Some(*first);
    }
    if flags & FALLBACK == 0 {
        return None;
    }
    (0..SIZE)
        .filter_map(|off| b.get(place(v.wrapping_add(((off + h) % SIZE) as u32))))
        .find(|id| usable(id))
        .copied()
}
