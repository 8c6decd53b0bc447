//! What the flow cache takes a frame for: the fields that a compiled path may depend on, exactly.
//!
//! A frame whose shape is not the common one (fragments, IP options, other protocols, a header that is not
//! right) has no key and is walked. Invariant: two frames with one key differ in nothing that a compiled
//! path consulted but TTL, length and what lies behind the ports, which the entry guards.

use crate::wire::{ETH_HLEN, proto};
use bytemuck::{Pod, Zeroable};

/// Bytes of a frame that the key is made from: one cache line.
pub const HEAD: usize = 64;

/// Key of an IPv4 frame: addresses; ports, protocol, TOS, and the door it came in by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Key {
    /// Source and destination, as they lie in the header.
    pub addrs: u64,
    /// Ports as they lie in the header (32 bits), protocol (8), TOS (8), door (16).
    pub rest: u64,
}

#[inline(always)]
fn u16_at(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

#[inline(always)]
fn u32_at(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Whether the IPv4 header's checksum is right: its one's complement sum is 0xffff, so that its words,
/// added up, are
/// a multiple of it, and not 0.
#[inline(always)]
fn header_fits(head: &[u8; HEAD]) -> bool {
    let words = [14, 18, 22, 26, 30];
    let sum: u64 = words.iter().map(|at| u64::from(u32_at(head, *at))).sum();
    sum.is_multiple_of(0xffff)
}

/// Length of a packet's smallest UDP form: header, UDP header.
const LEN_MIN: u16 = 28;

impl Key {
    /// The key of an Ethernet frame of `len` bytes that came in by `door`, and its IP length; `None`
    /// sends it to the walker. Padded frames are walked: their length is not their packet's.
    #[inline(always)]
    pub fn of(head: &[u8; HEAD], len: usize, door: u16) -> Option<(Key, u16)> {
        let total = u16::from_be(u16_at(head, 16));
        let fragment = u16::from_be(u16_at(head, 20)) & 0x3fff;
        let protocol = head[23];
        let common = (u16_at(head, 12) == 0x0800u16.to_be())
            & (head[14] == 0x45)
            & (fragment == 0)
            & (head[22] > 1)
            & (total >= LEN_MIN)
            & (usize::from(total) + ETH_HLEN == len)
            & ((protocol == proto::UDP) | (protocol == proto::TCP))
            & (door != 0)
            & header_fits(head);
        if !common {
            return None;
        }
        let addrs = u64::from(u32_at(head, 26)) | u64::from(u32_at(head, 30)) << 32;
        let rest = u64::from(u32_at(head, 34))
            | u64::from(protocol) << 32
            | u64::from(head[15]) << 40
            | u64::from(door) << 48;
        Some((Key { addrs, rest }, total))
    }

    /// A hash with every bit mixed in order: neither direction nor neighbouring ports collide.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        let a = u128::from(self.addrs ^ 0xa076_1d64_78bd_642f);
        let b = u128::from(self.rest ^ 0xe703_7ed1_a0b4_28db);
        let m = a * b;
        (m as u64) ^ (m >> 64) as u64
    }
}
