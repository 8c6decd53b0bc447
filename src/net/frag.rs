//! Reassembly of IP fragments (RFC 791, RFC 8200 section 4.5; kernel: `inet_fragment.c`, `ip_fragment.c`).
//!
//! Overlaps drop the whole queue, exact duplicates only the copy (kernel: `inet_frag_queue_insert`).
//! Invariant: bytes held never exceed `ipfrag_high_thresh`; queues die after `ipfrag_time`.

use crate::base::{DevId, Instant, limits};
use crate::wire::{Frame, IpHeader, ip};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What names a datagram that is being put together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FragKey {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol (IPv4 only; 0 for IPv6).
    pub proto: u8,
    /// Identification.
    pub id: u32,
    /// Who reassembles: the local stack, conntrack or a bridge (kernel: `IP_DEFRAG_*`).
    pub user: u32,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct FragQueue {
    /// Offset to (length, frame); frames keep their headers.
    parts: BTreeMap<usize, (usize, Frame)>,
    /// Total payload length, known from the last fragment.
    total: Option<usize>,
    /// Dies then.
    pub expires: Instant,
    /// Device the first-arrived fragment came in on.
    pub dev: DevId,
    /// Largest fragment as a whole packet.
    max_size: usize,
    /// Some fragment of the largest size had DF set.
    df: bool,
    /// ECN codepoints seen, a bit each (kernel: `ip4_frag_ecn`).
    ecn: u8,
}

/// What a fragment led to.
#[derive(Debug)]
pub enum FragResult {
    /// Waiting for more.
    Queued,
    /// The whole datagram; `Frame::frag_max` tells the largest piece.
    Whole(Frame),
    /// This fragment cannot be used (and, on an overlap, nothing of its queue).
    Bad(Frame),
    /// A copy of one that is there.
    Duplicate(Frame),
    /// IPv6: the sender is told of a parameter problem at this offset.
    Problem(Frame, u32),
}

/// All queues of a namespace.
#[derive(Clone, Debug, Default)]
pub struct FragTable {
    queues: BTreeMap<FragKey, FragQueue>,
    bytes: usize,
}

impl FragTable {
    /// Adds a fragment whose header is `h`.
    pub fn add(
        &mut self,
        mut f: Frame,
        h: &IpHeader,
        user: u32,
        dev: DevId,
        now: Instant,
        life: Duration,
    ) -> FragResult {
        let proto = if h.is_v4() { h.proto } else { 0 };
        let key = FragKey {
            src: h.src,
            dst: h.dst,
            proto,
            id: h.id,
            user,
        };
        let (at, mut len) = (h.frag_off, h.total_len.saturating_sub(h.header_len));
        if !h.is_v4() {
            // RFC 8200 section 4.5: told by a parameter problem, pointing at what is wrong.
            if h.mf && len % 8 != 0 {
                return FragResult::Problem(f, 4);
            }
            if at + len + h.header_len - 48 > 65_535 {
                return FragResult::Problem(f, h.frag_at.unwrap_or(40) as u32 + 2);
            }
        }
        if h.mf {
            len &= !7; // kernel: ip_frag_queue cuts "end &= ~7"
        }
        if len == 0 || at + len + h.header_len > 65_535 + 40 {
            return FragResult::Bad(f);
        }
        f.trim_l3(h.header_len + len);
        while self.bytes + f.len() > limits::FRAG_HIGH_THRESH {
            let Some((k, q)) = self.queues.pop_first() else {
                break;
            };
            self.bytes -= q.bytes();
            if k == key {
                break;
            }
        }
        let q = self.queues.entry(key).or_insert_with(|| FragQueue {
            parts: BTreeMap::new(),
            total: None,
            expires: now + life,
            dev,
            max_size: 0,
            df: false,
            ecn: 0,
        });
        let bytes = f.len();
        match q.insert(at, len, f, h) {
            Insert::Ok => self.bytes += bytes,
            Insert::Duplicate(f) => return FragResult::Duplicate(f),
            Insert::Conflict(f) => {
                self.remove(&key);
                return FragResult::Bad(f);
            }
        }
        if !q.is_complete() {
            return FragResult::Queued;
        }
        match self.remove(&key).and_then(FragQueue::join) {
            Some(whole) => FragResult::Whole(whole),
            None => FragResult::Queued,
        }
    }

    fn remove(&mut self, key: &FragKey) -> Option<FragQueue> {
        let q = self.queues.remove(key)?;
        self.bytes -= q.bytes();
        Some(q)
    }

    /// When the next queue dies.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.queues.values().map(|q| q.expires).min()
    }

    /// Takes a queue whose time is over: its first fragment, if that arrived, and the device.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(FragKey, DevId, Option<Frame>)> {
        let key = *self.queues.iter().find(|(_, q)| q.expires <= now)?.0;
        let q = self.remove(&key)?;
        let dev = q.dev;
        let first = q
            .parts
            .into_iter()
            .next()
            .filter(|(at, _)| *at == 0)
            .map(|(_, (_, f))| f);
        Some((key, dev, first))
    }
}

enum Insert {
    Ok,
    Duplicate(Frame),
    Conflict(Frame),
}

impl FragQueue {
    fn bytes(&self) -> usize {
        self.parts.values().map(|(_, f)| f.len()).sum()
    }

    fn insert(&mut self, at: usize, len: usize, f: Frame, h: &IpHeader) -> Insert {
        let end = at + len;
        let last_end = self.parts.iter().next_back().map_or(0, |(o, (l, _))| o + l);
        if self.covers(at, end) {
            return Insert::Duplicate(f);
        }
        let contradicts = match self.total {
            Some(t) => end > t || (!h.mf && end != t),
            None => !h.mf && end < last_end,
        };
        if contradicts {
            return Insert::Conflict(f);
        }
        if self
            .parts
            .range(..end)
            .next_back()
            .is_some_and(|(o, (l, _))| o + l > at)
        {
            return Insert::Conflict(f);
        }
        if !h.mf {
            self.total = Some(end);
        }
        self.ecn |= 1 << (h.tos & 3);
        self.df |= h.df && h.is_v4() && h.total_len > self.max_size;
        self.max_size = self.max_size.max(h.total_len);
        self.parts.insert(at, (len, f));
        Insert::Ok
    }

    /// Whether what is there already holds all of `at..end`.
    fn covers(&self, mut at: usize, end: usize) -> bool {
        for (o, (l, _)) in &self.parts {
            if *o <= at && at < o + l {
                at = o + l;
            }
        }
        at >= end
    }

    fn is_complete(&self) -> bool {
        let Some(total) = self.total else {
            return false;
        };
        let mut at = 0;
        for (o, (l, _)) in &self.parts {
            if *o != at {
                return false;
            }
            at += l;
        }
        at == total
    }

    /// Header of the first fragment, payloads in order (kernel: `ip_frag_reasm`, `ip6_frag_reasm`).
    fn join(self) -> Option<Frame> {
        let mut payload = Vec::with_capacity(self.total?);
        let mut list = Vec::with_capacity(self.parts.len());
        for (_, f) in self.parts.values() {
            let h = IpHeader::parse_lax(f.l3()).ok()?;
            let part = h.payload(f.l3());
            payload.extend_from_slice(part);
            list.push(u16::try_from(part.len()).ok()?);
        }
        let (_, (_, mut first)) = self.parts.into_iter().next()?;
        let h = IpHeader::parse_lax(first.l3()).ok()?;
        let mut packet = first.l3().get(..h.header_len)?.to_vec();
        if h.is_v4() {
            packet.extend_from_slice(&payload);
            let len = u16::try_from(packet.len()).ok()?;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[6..8].copy_from_slice(&[if self.df { 0x40 } else { 0 }, 0]);
            ip::fill_v4_checksum(&mut packet);
        } else {
            let at = h.frag_at?;
            let next = *packet.get(at)?;
            let prev = previous_next_header(&packet, at)?;
            packet[prev] = next;
            packet.drain(at..at + 8);
            packet.extend_from_slice(&payload);
            let len = u16::try_from(packet.len() - 40).ok()?;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
        }
        // ip_frag_ecn_table: CE beside an ECN-capable piece marks the whole; beside a not-capable one it
        // kills it.
        if self.ecn & 0b1000 != 0 {
            if self.ecn & 0b0001 != 0 {
                return None;
            }
            ip::set_tos(&mut packet, h.tos | 3);
        }
        first.replace_l3(&packet);
        first.frag_max = self.max_size;
        first.frag_df = self.df;
        first.frag_list = list;
        Some(first)
    }
}

/// Offset of the "next header" byte that points at the header at `target`.
fn previous_next_header(packet: &[u8], target: usize) -> Option<usize> {
    let (mut byte, mut at) = (6, 40);
    while at < target {
        byte = at;
        at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
    }
    (at == target).then_some(byte)
}

/// Cuts a packet into fragments of at most `mtu` bytes (kernel: the slow path of `ip_do_fragment`,
/// `ip6_fragment`). `df` is IPv4's bit in each of them.
///
/// Options not marked "copied" stay in the first fragment only (RFC 791 section 3.1). IPv6 gets a
/// fragment header with `id` before the upper-layer header. Empty when nothing fits.
pub fn fragment(packet: &[u8], mtu: usize, id: u32, df: bool) -> Vec<Vec<u8>> {
    let Ok(h) = IpHeader::parse_lax(packet) else {
        return Vec::new();
    };
    let room = room(&h, mtu) & !7;
    if room == 0 {
        return Vec::new();
    }
    let chunks = h.payload(packet).chunks(room).collect();
    pieces(packet, &h, chunks, id, df)
}

/// Cuts a packet as it was cut before it came, if every piece still fits (kernel: the fast path of
/// `ip_do_fragment`, `ip6_fragment`, which loses DF). `list` holds the payloads' lengths.
pub fn fragment_as(packet: &[u8], list: &[u16], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let h = IpHeader::parse_lax(packet).ok()?;
    let (room, last) = (room(&h, mtu), list.len().checked_sub(1)?);
    let mut rest = h.payload(packet);
    let mut chunks = Vec::with_capacity(list.len());
    for (i, len) in list.iter().map(|n| usize::from(*n)).enumerate() {
        if len > room || (len % 8 != 0 && i < last) {
            return None;
        }
        let (chunk, behind) = rest.split_at_checked(len)?;
        chunks.push(chunk);
        rest = behind;
    }
    rest.is_empty()
        .then(|| pieces(packet, &h, chunks, id, false))
}

/// Bytes of payload that one fragment may carry.
fn room(h: &IpHeader, mtu: usize) -> usize {
    let v6 = usize::from(!h.is_v4()) * 8;
    mtu.saturating_sub(h.header_len + v6)
}

fn pieces(packet: &[u8], h: &IpHeader, chunks: Vec<&[u8]>, id: u32, df: bool) -> Vec<Vec<u8>> {
    let (count, mut off) = (chunks.len(), h.frag_off);
    let mut out = Vec::with_capacity(count);
    for (i, chunk) in chunks.into_iter().enumerate() {
        let more = i + 1 < count || h.mf;
        out.push(if h.is_v4() {
            v4_fragment(packet, h, off, more, df, chunk)
        } else {
            v6_fragment(packet, h, off, more, chunk, id)
        });
        off += chunk.len();
    }
    out
}

fn v4_fragment(
    packet: &[u8],
    h: &IpHeader,
    off: usize,
    more: bool,
    df: bool,
    chunk: &[u8],
) -> Vec<u8> {
    let mut p = packet[..h.header_len].to_vec();
    if off > h.frag_off {
        blank_uncopied_options(&mut p[20..]);
    }
    p.extend_from_slice(chunk);
    let len = (p.len() as u16).to_be_bytes();
    p[2..4].copy_from_slice(&len);
    let df = if df { 0x4000 } else { 0 };
    let word = df | if more { 0x2000 } else { 0 } | (off / 8) as u16;
    p[6..8].copy_from_slice(&word.to_be_bytes());
    ip::fill_v4_checksum(&mut p);
    p
}

/// Overwrites options without the copied bit by no-ops (kernel: `ip_options_fragment`).
fn blank_uncopied_options(o: &mut [u8]) {
    let mut i = 0;
    while i < o.len() {
        match o[i] {
            0 => return,
            1 => i += 1,
            kind => {
                let len = o.get(i + 1).map_or(0, |l| usize::from(*l));
                if len < 2 || i + len > o.len() {
                    return;
                }
                if kind & 0x80 == 0 {
                    o[i..i + len].fill(1);
                }
                i += len;
            }
        }
    }
}

fn v6_fragment(
    packet: &[u8],
    h: &IpHeader,
    off: usize,
    more: bool,
    chunk: &[u8],
    id: u32,
) -> Vec<u8> {
    let mut p = packet[..h.header_len].to_vec();
    let next = p[h.proto_at.min(p.len() - 1)];
    p[h.proto_at] = 44;
    p.extend_from_slice(&[next, 0]);
    p.extend_from_slice(&((off as u16) | u16::from(more)).to_be_bytes());
    p.extend_from_slice(&id.to_be_bytes());
    p.extend_from_slice(chunk);
    let len = ((p.len() - 40) as u16).to_be_bytes();
    p[4..6].copy_from_slice(&len);
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;
    use proptest::prelude::*;

    fn packet(v6: bool, n: usize) -> Vec<u8> {
        let (a, b) = if v6 {
            ("fd00::1", "fd00::2")
        } else {
            ("10.0.0.1", "10.0.0.2")
        };
        let body: Vec<u8> = (0..n).map(|i| i as u8).collect();
        build::ip_packet(
            a.parse().unwrap(),
            b.parse().unwrap(),
            17,
            64,
            0,
            7,
            false,
            &body,
        )
    }

    fn feed(t: &mut FragTable, p: &[u8]) -> FragResult {
        let h = IpHeader::parse(p).unwrap();
        t.add(
            Frame::ip(p),
            &h,
            0,
            DevId(1),
            Instant::ZERO,
            Duration::from_secs(30),
        )
    }

    proptest! {
        #[test]
        fn what_is_cut_is_put_together_again(
            v6: bool, n in 100usize..6000, mtu in 128usize..1500, rev: bool,
        ) {
            let p = packet(v6, n);
            let mut parts = fragment(&p, mtu, 9, false);
            prop_assert!(parts.iter().all(|f| f.len() <= mtu));
            if rev { parts.reverse(); }
            let mut t = FragTable::default();
            let many = parts.len() > 1;
            let mut whole = None;
            for f in &parts {
                if !many { break; }
                if let FragResult::Whole(w) = feed(&mut t, f) { whole = Some(w); }
            }
            if many {
                let w = whole.unwrap();
                prop_assert_eq!(w.l3(), &p[..]);
                prop_assert!(w.frag_max <= mtu);
                prop_assert_eq!(t.bytes, 0);
                if !rev {
                    let again = fragment_as(w.l3(), &w.frag_list, mtu, 9);
                    prop_assert_eq!(again.as_deref(), Some(&parts[..]));
                    prop_assert_eq!(fragment_as(w.l3(), &w.frag_list, w.frag_max - 1, 9), None);
                }
            }
        }
    }

    #[test]
    fn an_overlap_kills_the_queue_and_a_duplicate_does_not() {
        let p = packet(false, 3000);
        let parts = fragment(&p, 1500, 0, false);
        let mut t = FragTable::default();
        assert!(matches!(feed(&mut t, &parts[0]), FragResult::Queued));
        assert!(matches!(feed(&mut t, &parts[0]), FragResult::Duplicate(_)));
        let mut bad = parts[1].clone();
        let word = u16::from_be_bytes([bad[6], bad[7]]) - 1;
        bad[6..8].copy_from_slice(&word.to_be_bytes());
        ip::fill_v4_checksum(&mut bad);
        assert!(matches!(feed(&mut t, &bad), FragResult::Bad(_)));
        assert_eq!(t.bytes, 0);
    }
}
