//! A compiled path applied to a frame's first line.
//!
//! Invariant: the bytes are those that the walk leaves; checksums go by RFC 1624 with the difference
//! worked out once, when the entry was made.

use crate::fast::key::{HEAD, L4_V4, L4_V6, V6_TYPE, u16_at};
use crate::fast::pairs::Pair;
use crate::fast::table::Entry;
use crate::wire::proto;

/// What of a frame lies behind its first line and may be rewritten: the checksum of TCP over IPv6.
pub const TAIL: usize = 8;

/// One's complement addition.
#[inline(always)]
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u16::from(carry))
}

/// A checksum (RFC 1071), mended by a difference (RFC 1624 equation 3).
#[inline(always)]
fn mended(old: u16, delta: u16) -> u16 {
    !add(!old, delta)
}

#[inline(always)]
fn adjust(head: &mut [u8; HEAD], at: usize, delta: u16) {
    [head[at], head[at + 1]] = mended(u16_at(head, at), delta).to_ne_bytes();
}

/// No checksum is no checksum afterwards; one that comes out 0 is written as its other form.
#[inline(always)]
fn adjust_udp(head: &mut [u8; HEAD], at: usize, delta: u16) {
    let old = u16_at(head, at);
    if old != 0 {
        let new = mended(old, delta);
        let new = if new == 0 { 0xffff } else { new };
        [head[at], head[at + 1]] = new.to_ne_bytes();
    }
}

/// Rewrites an IPv4 frame for its way out.
#[inline(always)]
pub fn apply(head: &mut [u8; HEAD], e: &Entry) {
    head[..12].copy_from_slice(&e.macs);
    head[22] = head[22].wrapping_sub(e.hops);
    adjust(head, 24, e.ip_delta);
    head[26..34].copy_from_slice(&e.addrs.to_ne_bytes());
    head[34..38].copy_from_slice(&e.ports.to_ne_bytes());
    match head[23] {
        proto::UDP => adjust_udp(head, L4_V4 + 6, e.l4_delta),
        _ => adjust(head, L4_V4 + 16, e.l4_delta),
    }
}

/// Rewrites an IPv6 frame, whose addresses become `pair`.
#[inline(always)]
pub fn apply_v6(head: &mut [u8; HEAD], tail: &mut [u8; TAIL], e: &Entry, pair: &Pair) {
    head[..12].copy_from_slice(&e.macs);
    head[21] = head[21].wrapping_sub(e.hops);
    head[22..L4_V6].copy_from_slice(pair);
    head[L4_V6..L4_V6 + 4].copy_from_slice(&e.ports.to_ne_bytes());
    match head[20] {
        proto::UDP => adjust_udp(head, L4_V6 + 6, e.l4_delta),
        _ => {
            const AT: usize = L4_V6 + 16 - HEAD;
            let old = u16::from_ne_bytes([tail[AT], tail[AT + 1]]);
            [tail[AT], tail[AT + 1]] = mended(old, e.l4_delta).to_ne_bytes();
        }
    }
}

/// Whether a frame has a part behind its first line that is rewritten.
#[inline(always)]
pub fn has_tail(head: &[u8; HEAD]) -> bool {
    u16_at(head, 12) == V6_TYPE && head[20] == proto::TCP
}
