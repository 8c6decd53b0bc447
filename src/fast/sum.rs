//! The UDP and TCP checksum over a frame whose first line lies apart.
//!
//! Invariant: the same answer as conntrack's own (kernel: `nf_ip_checksum` in `udp_error`).

use crate::fast::key::HEAD;
use crate::wire::{ETH_HLEN, proto};

/// Begin of the UDP header in a frame without options.
const L4: usize = ETH_HLEN + 20;

#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

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

/// Whether a UDP datagram in an IP packet of `total` bytes has a length and a checksum that conntrack takes.
#[inline]
pub fn udp_fits(head: &[u8; HEAD], frame: &[u8], total: u16) -> bool {
    let len = usize::from(total) - 20;
    let said = usize::from(u16::from_be_bytes([head[38], head[39]]));
    if !(8..=len).contains(&said) {
        return false;
    }
    if (head[40], head[41]) == (0, 0) {
        return true;
    }
    let here = (L4 + len).min(HEAD);
    let pseudo = u64::from(u16::from_ne_bytes([0, proto::UDP])) + u64::from((len as u16).to_be());
    let mut sum = bytes(&head[26..34]) + pseudo + bytes(&head[L4..here]);
    if L4 + len > HEAD {
        let Some(rest) = frame.get(HEAD..L4 + len) else {
            return false;
        };
        sum += bytes(rest);
    }
    fold(sum) == 0xffff
}
