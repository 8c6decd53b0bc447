//! Which address of a range a connection gets: a hash, so that a client keeps its address.
//!
//! The hash has no seed and equals the kernel's on little-endian machines (x86, arm64), so the choice can
//! be compared exactly. Does not look whether the address is free. Invariant: the result is in the range
//! for IPv4; for IPv6 the kernel fills the words behind the first that differs without regard to the range.

use super::Manip;
use crate::nf::ct::CtTuple;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Puts the address that the range gives this flow into `t` (kernel: `find_best_ips_proto`).
pub fn choose(
    t: &mut CtTuple,
    (min, max): (IpAddr, IpAddr),
    persistent: bool,
    zone: u16,
    manip: Manip,
) {
    if min == max {
        manip.set_addr(t, min);
        return;
    }
    let (src, mut dst) = (words(t.src), words(t.dst));
    let (low, high) = (words(min), words(max));
    let mut new = match manip {
        Manip::Src => src,
        Manip::Dst => dst,
    };
    let last = if min.is_ipv4() { 0 } else { 3 };
    let seed = if persistent {
        0
    } else {
        dst[last] ^ u32::from(zone)
    };
    let mut hash = jhash2(src, seed);
    let mut full = false;
    for i in 0..=last {
        let (from, span) = match full {
            true => (0, u32::MAX),
            false => {
                let (a, b) = (low[i].swap_bytes(), high[i].swap_bytes());
                (a, b.wrapping_sub(a).wrapping_add(1))
            }
        };
        new[i] = from.wrapping_add(scale(hash, span)).swap_bytes();
        full |= new[i] != high[i];
        if matches!(manip, Manip::Dst) {
            dst[i] = new[i]; // the tuple is changed in place, and what follows reads it
        }
        if !persistent {
            hash ^= dst[i];
        }
    }
    manip.set_addr(t, address(new, min.is_ipv4()));
}

/// `nf_inet_addr.all` as a little-endian machine reads it.
fn words(ip: IpAddr) -> [u32; 4] {
    let mut b = [0u8; 16];
    match ip {
        IpAddr::V4(a) => b[..4].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => b = a.octets(),
    }
    let mut out = [0; 4];
    for (w, c) in out.iter_mut().zip(b.as_chunks::<4>().0) {
        *w = u32::from_le_bytes(*c);
    }
    out
}

fn address(w: [u32; 4], v4: bool) -> IpAddr {
    let mut b = [0u8; 16];
    for (c, w) in b.as_chunks_mut::<4>().0.iter_mut().zip(w) {
        *c = w.to_le_bytes();
    }
    match v4 {
        true => IpAddr::V4(Ipv4Addr::new(b[0], b[1], b[2], b[3])),
        false => IpAddr::V6(Ipv6Addr::from(b)),
    }
}

/// `reciprocal_scale`: a number below `span`.
fn scale(hash: u32, span: u32) -> u32 {
    ((u64::from(hash) * u64::from(span)) >> 32) as u32
}

/// Bob Jenkins's lookup3 over four words (kernel: `jhash2`, JHASH_INITVAL).
fn jhash2(k: [u32; 4], seed: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(16).wrapping_add(seed);
    let mut s = [k[0], k[1], k[2]].map(|w| start.wrapping_add(w));
    for (i, r) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (x, y, z) = (i % 3, (i + 2) % 3, (i + 1) % 3);
        s[x] = s[x].wrapping_sub(s[y]) ^ s[y].rotate_left(r);
        s[y] = s[y].wrapping_add(s[z]);
    }
    s[0] = s[0].wrapping_add(k[3]);
    for (i, r) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (x, y) = ((i + 2) % 3, (i + 1) % 3);
        s[x] = (s[x] ^ s[y]).wrapping_sub(s[y].rotate_left(r));
    }
    s[2]
}
