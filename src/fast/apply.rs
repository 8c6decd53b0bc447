//! A compiled path applied to a frame's first line.
//!
//! Invariant: the bytes are those that the walk leaves; checksums go by RFC 1624 with the difference
//! worked out once, when the entry was made.

use crate::fast::key::HEAD;
use crate::fast::table::Entry;
use crate::wire::proto;

/// One's complement addition.
#[inline(always)]
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u16::from(carry))
}

#[inline(always)]
fn adjust(head: &mut [u8; HEAD], at: usize, delta: u16) -> u16 {
    let old = u16::from_ne_bytes([head[at], head[at + 1]]);
    let new = !add(!old, delta);
    [head[at], head[at + 1]] = new.to_ne_bytes();
    new
}

/// Rewrites the frame for its way out.
#[inline(always)]
pub fn apply(head: &mut [u8; HEAD], e: &Entry) {
    head[..12].copy_from_slice(&e.macs);
    head[22] = head[22].wrapping_sub(e.hops);
    adjust(head, 24, e.ip_delta);
    head[26..34].copy_from_slice(&e.addrs.to_ne_bytes());
    head[34..38].copy_from_slice(&e.ports.to_ne_bytes());
    if head[23] == proto::UDP {
        // No checksum is no checksum afterwards; one that comes out 0 is written as its other form.
        if (head[40], head[41]) != (0, 0) && adjust(head, 40, e.l4_delta) == 0 {
            (head[40], head[41]) = (0xff, 0xff);
        }
    } else {
        adjust(head, 50, e.l4_delta);
    }
}
