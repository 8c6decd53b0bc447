//! A walk made into an entry: what changed between the frame that came and the frame that left.
//!
//! Invariant: the entry, applied to the frame that came, gives the frame that left, or there is no entry.

use crate::fast::{Entry, HEAD, Key, apply};
use crate::wire::proto;

/// Words of the header that a path may change, but for the checksum.
const HEADER_WORDS: [usize; 5] = [22, 26, 28, 30, 32];
/// Words that the UDP and TCP checksums cover: addresses and ports.
const SUMMED_WORDS: [usize; 6] = [26, 28, 30, 32, 34, 36];

fn word(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

/// One's complement sum of what went and what came (RFC 1624 eqn. 3); 0 if nothing changed.
fn delta(was: &[u8; HEAD], is: &[u8; HEAD], words: &[usize]) -> u16 {
    let mut sum = 0u32;
    for at in words {
        let (old, new) = (word(was, *at), word(is, *at));
        if old != new {
            sum += u32::from(!old) + u32::from(new);
        }
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn first_line(frame: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let n = frame.len().min(HEAD);
    head[..n].copy_from_slice(&frame[..n]);
    head
}

/// The entry that makes `came` into `left`, its port and state of the configuration still to be filled in.
pub(super) fn entry(key: Key, came: &[u8], left: &[u8]) -> Option<Entry> {
    if came.len() != left.len() || came.get(HEAD..) != left.get(HEAD..) {
        return None;
    }
    let (was, is) = (first_line(came), first_line(left));
    let entry = Entry {
        key,
        addrs: u64::from_ne_bytes(*is[26..].first_chunk()?),
        ports: u32::from_ne_bytes(*is[34..].first_chunk()?),
        ip_delta: delta(&was, &is, &HEADER_WORDS),
        l4_delta: delta(&was, &is, &SUMMED_WORDS),
        macs: *is.first_chunk()?,
        hops: was[22].checked_sub(is[22])?,
        ..Entry::default()
    };
    debug_assert!(matches!(was[23], proto::UDP | proto::TCP));
    let mut made = was;
    apply(&mut made, &entry);
    (made == is).then_some(entry)
}
