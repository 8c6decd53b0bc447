//! Targets that change the IP header: DSCP, TOS, TTL and hop limit.
//!
//! As xt_DSCP.c and xt_HL.c. Invariant: IPv4's header checksum is brought along incrementally (RFC 1624).

use super::packet::{dsfield, ttl};
use crate::nf::Family;
use crate::nf::target::{DscpTarget, TosTarget};
use crate::wire::{Frame, checksum};

/// Sets a byte of an IPv4 header and its checksum.
fn set_byte4(b: &mut [u8], at: usize, value: u8) {
    let even = at & !1;
    let word = |b: &[u8], at: usize| match b.get(at..at + 2) {
        Some(w) => u16::from_be_bytes([w[0], w[1]]),
        None => 0,
    };
    if b.len() < 20 {
        return;
    }
    let (old, check) = (word(b, even), word(b, 10));
    b[at] = value;
    let check = checksum::update(check, old, word(b, even));
    b[10..12].copy_from_slice(&check.to_be_bytes());
}

/// Sets TOS or traffic class (kernel: `ipv4_change_dsfield`, `ipv6_change_dsfield`).
fn set_dsfield(f: &mut Frame, value: u8) {
    let b = f.l3_mut();
    match b.first().map(|v| v >> 4) {
        Some(4) => set_byte4(b, 1, value),
        Some(6) if b.len() >= 2 => {
            b[0] = 0x60 | value >> 4;
            b[1] = b[1] & 0x0f | value << 4;
        }
        _ => {}
    }
}

/// `dscp_tg`, `dscp_tg6`: the two ECN bits stay.
pub(super) fn dscp(f: &mut Frame, m: &DscpTarget) {
    if let Some(dscp) = m.dscp {
        let value = dsfield(f) & 3 | dscp.0 << 2;
        set_dsfield(f, value);
    }
}

/// `tos_tg`, `tos_tg6`
pub(super) fn tos(f: &mut Frame, m: &TosTarget) {
    if let Some(x) = m.tos {
        let value = (dsfield(f) & !x.mask) ^ x.value;
        set_dsfield(f, value);
    }
}

/// `ttl_tg`, `hl_tg6`: set, less, more.
pub(super) fn hop_limit(f: &mut Frame, (set, dec, inc): (Option<u8>, Option<u8>, Option<u8>)) {
    let family = match f.l3().first().map(|v| v >> 4) {
        Some(4) => Family::V4,
        _ => Family::V6,
    };
    let old = ttl(f, family);
    let new = match (set, dec, inc) {
        (Some(n), _, _) => n,
        (_, Some(n), _) => old.saturating_sub(n),
        (_, _, Some(n)) => old.saturating_add(n),
        _ => old,
    };
    match (family, f.l3_mut()) {
        _ if new == old => {}
        (Family::V4, b) => set_byte4(b, 8, new),
        (Family::V6, b) if b.len() > 7 => b[7] = new,
        (Family::V6, _) => {}
    }
}
