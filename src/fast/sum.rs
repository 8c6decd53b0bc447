//! The UDP and TCP checksum over a frame whose first line lies apart.
//!
//! Invariant: the same answer as conntrack's own (kernel: `nf_ip_checksum` in `udp_error`).

use crate::fast::key::HEAD;
use crate::wire::{ETH_HLEN, proto};

/// Begin of the UDP header in a frame without options.
const L4: usize = ETH_HLEN + 20;

/// One's complement sum, in this machine's byte order, of bytes that begin at an even place.
#[inline(always)]
fn bytes(b: &[u8]) -> u64 {
    let (words, rest) = b.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_ne_bytes(*w)))
        .sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

/// One's complement sum of the first line from the addresses on: they are the pseudo-header's, too.
#[inline(always)]
fn line(head: &[u8; HEAD]) -> u64 {
    let word = |at: usize| {
        let w = u64::from_ne_bytes([
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
            head[at + 4],
            head[at + 5],
            head[at + 6],
            head[at + 7],
        ]);
        (w & 0xffff_ffff) + (w >> 32)
    };
    let last = u32::from_ne_bytes([head[58], head[59], head[60], head[61]]);
    let end = u16::from_ne_bytes([head[62], head[63]]);
    word(26) + word(34) + word(42) + word(50) + u64::from(last) + u64::from(end)
}

/// Whether a UDP datagram in an IP packet of `total` bytes, all of the frame, has a length and a checksum
/// that conntrack takes. A first line that is shorter than a line ends in zeroes.
#[inline(always)]
pub fn udp_fits(head: &[u8; HEAD], frame: &[u8], total: u16) -> bool {
    let len = total - 20;
    let said = u16::from_be_bytes([head[38], head[39]]);
    if (said < 8) | (said > len) {
        return false;
    }
    let pseudo = u64::from(u16::from_ne_bytes([0, proto::UDP])) + u64::from(len.to_be());
    let mut sum = line(head) + pseudo;
    if L4 + usize::from(len) > HEAD {
        let Some(rest) = frame.get(HEAD..L4 + usize::from(len)) else {
            return false;
        };
        sum += bytes(rest);
    }
    sum.is_multiple_of(0xffff) | ((head[40], head[41]) == (0, 0))
}
