//! The hash that spreads flows over the next hops of a route (kernel: `fib_multipath_hash`,
//! `flow_hash_from_keys_seed`): SipHash-2-4 over the flow keys, both directions alike.
//!
//! The kernel's seed is random unless `net.ipv4.fib_multipath_hash_seed` is set; podpath uses 0 then, so a
//! choice is only the kernel's own where the seed is known. Checked against `tests/recordings`
//! route-multipath.

use crate::net::fib::Flow;
use std::net::IpAddr;

/// The 32-bit hash of a flow; never 0.
pub(crate) fn hash(f: &Flow<'_>) -> u32 {
    let key = u64::from(f.multipath.seed) << 32 | u64::from(f.multipath.seed);
    match sip_hash(key, key, &keys(f)) as u32 {
        0 => 1,
        h => h,
    }
}

/// `struct flow_keys` from `basic` on, with addresses and ports each put in order as
/// `__flow_hash_consistentify` does: compared as little-endian integers of the wire bytes.
fn keys(f: &Flow<'_>) -> Vec<u8> {
    let l4 = f.multipath.policy == 1;
    let (mut sport, mut dport) = if l4 {
        f.l4.ports.unwrap_or((0, 0))
    } else {
        (0, 0)
    };
    if dport.swap_bytes() < sport.swap_bytes() {
        std::mem::swap(&mut sport, &mut dport);
    }
    let mut k = vec![0, 0, if l4 { f.l4.proto } else { 0 }, 0];
    k.extend_from_slice(&[0; 4 + 8 + 8 + 4]);
    k.extend_from_slice(&sport.to_be_bytes());
    k.extend_from_slice(&dport.to_be_bytes());
    k.extend_from_slice(&[0; 4]);
    let (mut a, mut b) = (octets(f.src.unwrap_or(f.dst)), octets(f.dst));
    if b.iter().rev().lt(a.iter().rev()) {
        std::mem::swap(&mut a, &mut b);
    }
    k.extend_from_slice(&a);
    k.extend_from_slice(&b);
    k.extend_from_slice(&[0; 4]);
    k
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// SipHash-2-4 (Aumasson, Bernstein 2012). The standard library's hasher of that name is not promised to
/// stay the same.
fn sip_hash(k0: u64, k1: u64, data: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    };
    let absorb = |v: &mut [u64; 4], m: u64| {
        v[3] ^= m;
        round(v);
        round(v);
        v[0] ^= m;
    };
    let mut chunks = data.chunks_exact(8);
    for c in &mut chunks {
        absorb(
            &mut v,
            c.iter().rev().fold(0, |m, b| m << 8 | u64::from(*b)),
        );
    }
    let tail = chunks
        .remainder()
        .iter()
        .rev()
        .fold(0, |m, b| m << 8 | u64::from(*b));
    absorb(&mut v, (data.len() as u64) << 56 | tail);
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_vector_of_siphash() {
        // Appendix A of the paper: key 00..0f, message 00..0e.
        let m: Vec<u8> = (0..15).collect();
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(super::sip_hash(k0, k1, &m), 0xa129_ca61_49be_45e5);
    }
}
