//! A walk made into an entry: what changed between the frame that came and the frame that left.
//!
//! Invariant: the entry, applied to the frame that came, gives the frame that left, or there is no entry.

use crate::fast::{Entry, HEAD, Key, Pairs, TAIL, apply, apply_v6, first_line};

/// Words of the IPv4 header that a path may change, but for the checksum.
const HEADER_WORDS: [usize; 5] = [22, 26, 28, 30, 32];
/// Words that the UDP and TCP checksums cover: addresses and ports.
const SUMMED_V4: core::ops::Range<usize> = 26..38;
/// The same of an IPv6 frame.
const SUMMED_V6: core::ops::Range<usize> = 22..58;

fn word(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

/// One's complement sum of what went and what came (RFC 1624 eqn. 3); 0 if nothing changed.
fn delta(was: &[u8; HEAD], is: &[u8; HEAD], words: impl IntoIterator<Item = usize>) -> u16 {
    let mut sum = 0u32;
    for at in words {
        let (old, new) = (word(was, at), word(is, at));
        if old != new {
            sum += u32::from(!old) + u32::from(new);
        }
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The entry that makes `came` into `left`, its port and state of the configuration still to be filled in.
pub(super) fn entry(key: Key, came: &[u8], left: &[u8], pairs: &mut Pairs) -> Option<Entry> {
    let kept = HEAD + if key.is_v6() { TAIL } else { 0 };
    if came.len() != left.len() || came.get(kept..) != left.get(kept..) {
        return None;
    }
    match key.is_v6() {
        true => v6(key, came, left, pairs),
        false => v4(key, came, left),
    }
}

fn v4(key: Key, came: &[u8], left: &[u8]) -> Option<Entry> {
    let (was, is) = (first_line(came), first_line(left));
    let entry = Entry {
        key,
        addrs: u64::from_ne_bytes(*is[26..].first_chunk()?),
        ports: u32::from_ne_bytes(*is[34..].first_chunk()?),
        ip_delta: delta(&was, &is, HEADER_WORDS),
        l4_delta: delta(&was, &is, SUMMED_V4.step_by(2)),
        macs: *is.first_chunk()?,
        hops: was[22].checked_sub(is[22])?,
        ..Entry::default()
    };
    let mut made = was;
    apply(&mut made, &entry);
    (made == is).then_some(entry)
}

fn v6(key: Key, came: &[u8], left: &[u8], pairs: &mut Pairs) -> Option<Entry> {
    let (was, is) = (first_line(came), first_line(left));
    let pair = is[22..].first_chunk()?;
    let entry = Entry {
        key,
        addrs: pairs.number(pair)?.into(),
        ports: u32::from_ne_bytes(*is[54..].first_chunk()?),
        l4_delta: delta(&was, &is, SUMMED_V6.step_by(2)),
        macs: *is.first_chunk()?,
        hops: was[21].checked_sub(is[21])?,
        ..Entry::default()
    };
    let tail = |f: &[u8]| -> [u8; TAIL] {
        let t = f.get(HEAD..HEAD + TAIL).and_then(|t| t.first_chunk());
        t.copied().unwrap_or_default()
    };
    // Shorter frames are UDP's: nothing behind their first line is rewritten.
    if came.len() < HEAD + TAIL && came.get(HEAD..) != left.get(HEAD..) {
        return None;
    }
    let (mut made, mut behind) = (was, tail(came));
    apply_v6(&mut made, &mut behind, &entry, pair);
    (made == is && behind == tail(left)).then_some(entry)
}
