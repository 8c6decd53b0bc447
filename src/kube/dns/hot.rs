//! Replies kept as octets for the next same question.
//!
//! A reply that depends on nothing but its question is copied with the id, RD, CD and OPT of the new query
//! written over it; of a cached one the TTLs, too, and where `loadbalance` is on, addresses change places.
//! Nothing is decoded and nothing encoded. What plugins would decide is decided by who puts a reply here
//! ([`super::server`]): entries are for the exact case of a name, without DO, of up to 512 octets so that no
//! size of a client matters. Invariant: with an entry and without, the same octets are answered.

use hashbrown::HashMap;

use super::codec::{Layout, OPT_LEN};
use super::plugins::cache::Key;
use crate::base::limits::{DNS_HOT_MAX, DNS_HOT_OCTETS_MAX};
use crate::base::{Instant, Rng};

/// What the octets of a query ask, where they are simple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked<'a> {
    /// Name, type and class.
    pub question: &'a [u8],
    /// Octets the client takes, where it said so.
    pub payload: Option<u16>,
    /// RD of its header.
    pub rd: u8,
    pub id: [u8; 2],
}

/// Reads a query that has one question and an OPT record at most, nothing else that matters.
pub(super) fn asked(bytes: &[u8]) -> Option<Asked<'_>> {
    let header: &[u8; 12] = bytes.first_chunk()?;
    // A query, opcode 0; RD may be set, AD, CD and the rest not; one question, one additional record at most.
    if header[2] & 0xfe != 0
        || header[3] != 0
        || header[4..10] != [0, 1, 0, 0, 0, 0]
        || header[10] != 0
    {
        return None;
    }
    let rest = &bytes[12..];
    let mut at = 0;
    loop {
        let len = usize::from(*rest.get(at)?);
        if len == 0 {
            break;
        }
        if len > 63 || at > 255 {
            return None;
        }
        at += 1 + len;
    }
    let end = at + 5;
    let question = rest.get(..end)?;
    let more = &rest[end..];
    let payload = match (header[11], more) {
        (0, []) => None,
        // The root, OPT, payload, no extended code, version 0, no flags, no options.
        (1, [0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]) => Some(u16::from_be_bytes([*high, *low])),
        _ => return None,
    };
    Some(Asked {
        question,
        payload,
        rd: header[2] & 1,
        id: [header[0], header[1]],
    })
}

/// How long an entry may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// While the cluster is as it was.
    Steady { epoch: u64 },
    /// While a cache entry lives; TTLs age.
    Aging { stored: Instant, ttl: u32 },
}

/// A reply without OPT.
#[derive(Clone, Debug)]
struct Kept {
    /// For which port, and whether for TCP: server blocks may differ.
    port: u16,
    question_len: usize,
    bytes: Box<[u8]>,
    ttls: Box<[u16]>,
    /// Where equal records stand that change places: begin, size of one, count.
    shuffled: Option<(usize, usize, usize)>,
    life: Life,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot {
    kept: HashMap<Box<[u8]>, Kept, foldhash::fast::FixedState>,
    /// Lower case to the case that is kept, when they differ.
    hits: u64,
}

fn lower(question: &[u8]) -> Box<[u8]> {
    question.to_ascii_lowercase().into_boxed_slice()
}

impl Hot {
    /// Answers given from here.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// Forgets what a cache entry was the source of, whatever its flags.
    pub(super) fn forget(&mut self, key: &Key) {
        let mut question = key.name.clone();
        question.extend_from_slice(&key.kind.to_be_bytes());
        question.extend_from_slice(&key.class.to_be_bytes());
        self.kept.remove(lower(&question).as_ref());
    }

    /// Keeps a reply, which was encoded for a query without OPT.
    pub(super) fn keep(
        &mut self,
        asked: &Asked<'_>,
        port: u16,
        bytes: &[u8],
        layout: &Layout,
        shuffle: bool,
        life: Life,
    ) {
        if bytes.len() + OPT_LEN > DNS_HOT_OCTETS_MAX || layout.cut || layout.compressed {
            return;
        }
        let shuffled = if shuffle {
            match equal_addresses(bytes, layout) {
                Some(found) => found,
                None => return,
            }
        } else {
            None
        };
        if self.kept.len() >= DNS_HOT_MAX {
            self.kept.clear();
        }
        let kept = Kept {
            port,
            question_len: asked.question.len(),
            bytes: bytes.into(),
            ttls: layout.ttls.as_slice().into(),
            shuffled,
            life,
        };
        self.kept.insert(lower(asked.question), kept);
    }

    /// Writes the reply to a query if there is one for it.
    pub(super) fn answer(
        &mut self,
        asked: &Asked<'_>,
        port: u16,
        now: Instant,
        epoch: u64,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut folded = [0_u8; 260];
        let Some(key) = folded.get_mut(..asked.question.len()) else {
            return false;
        };
        key.copy_from_slice(asked.question);
        key.make_ascii_lowercase();
        let Some(kept) = self.kept.get(&*key) else {
            return false;
        };
        // The case of a name is in owners, too: another case goes the long way.
        let same = kept.bytes.get(12..12 + kept.question_len) == Some(asked.question);
        if !same || kept.port != port {
            return false;
        }
        let ttl = match kept.life {
            Life::Steady { epoch: of } if of == epoch => None,
            Life::Steady { .. } => return false,
            Life::Aging { stored, ttl } => {
                let elapsed = now.since(stored).as_secs();
                match u64::from(ttl)
                    .checked_sub(elapsed)
                    .and_then(|left| u32::try_from(left).ok())
                {
                    Some(left) if left > 0 => Some(left),
                    _ => return false,
                }
            }
        };
        out.clear();
        out.extend_from_slice(&kept.bytes);
        let Some(header) = out.first_chunk_mut::<12>() else {
            return false;
        };
        [header[0], header[1]] = asked.id;
        header[2] = header[2] & 0xfe | asked.rd;
        if let Some(left) = ttl {
            for at in &kept.ttls {
                let at = usize::from(*at);
                if let Some(place) = out.get_mut(at..at + 4) {
                    place.copy_from_slice(&left.to_be_bytes());
                }
            }
        }
        if let Some((begin, size, count)) = kept.shuffled {
            swap(out, begin, size, count, rng);
        }
        if let Some(payload) = asked.payload {
            let [high, low] = payload.to_be_bytes();
            out.extend_from_slice(&[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
            if let Some([high, low]) = out.get_mut(10..12) {
                let count = u16::from_be_bytes([*high, *low]).wrapping_add(1);
                [*high, *low] = count.to_be_bytes();
            }
        }
        self.hits += 1;
        true
    }
}

/// The records at the end of the answer section that loadbalance shuffles: addresses of one size. None where
/// they are not so simple; nothing to swap where there is one at most.
fn equal_addresses(bytes: &[u8], layout: &Layout) -> Option<Option<(usize, usize, usize)>> {
    // Only an answer section may be shuffled here.
    if bytes.get(8..12) != Some(&[0; 4]) {
        return stays(bytes, layout)?.then_some(None);
    }
    let mut begin = usize::from(layout.answers_at);
    let (mut first, mut size, mut count) = (None, 0, 0);
    for (end, ttl) in layout.answer_ends.iter().zip(&layout.ttls) {
        let kind =
            bytes.get(usize::from(*ttl).checked_sub(4)?..usize::from(*ttl).checked_sub(2)?)?;
        let (end, is) = (usize::from(*end), kind[1]);
        match (kind[0], is) {
            // A, AAAA.
            (0, 1 | 28) => {
                let octets = end.checked_sub(begin)?;
                first.get_or_insert(begin);
                if count > 0 && octets != size {
                    return None;
                }
                (size, count) = (octets, count + 1);
            }
            (0, 15) => return None,
            _ if count > 0 => return None,
            _ => {}
        }
        begin = end;
    }
    let first = first.filter(|_| count > 1);
    Some(first.map(|first| (first, size, count)))
}

/// Whether `simple::shuffle` leaves every section as it is, without a draw: its groups in their order, and
/// one address and one MX at most.
fn stays(bytes: &[u8], layout: &Layout) -> Option<bool> {
    let mut ttls = layout.ttls.iter();
    for section in [6, 8, 10] {
        let count = u16::from_be_bytes([*bytes.get(section)?, *bytes.get(section + 1)?]);
        let mut last = 0;
        for _ in 0..count {
            let at = usize::from(*ttls.next()?).checked_sub(4)?;
            let group = match bytes.get(at..at + 2)? {
                [0, 5] => 0,
                [0, 1 | 28] => 2,
                [0, 15] => 3,
                _ => 1,
            };
            if group < last || group == last && group > 1 {
                return Some(false);
            }
            last = group;
        }
    }
    Some(true)
}

/// The same draws and the same order as `simple::permutation` gives records.
fn swap(out: &mut [u8], begin: usize, size: usize, count: usize, rng: &mut Rng) {
    let Some(records) = out.get_mut(begin..begin + size * count) else {
        return;
    };
    for last in (1..count).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(1);
        let other = usize::try_from(rng.below(bound)).unwrap_or(0);
        if other != last
            && let Some((low, high)) = records.split_at_mut_checked(last * size)
            && let (Some(a), Some(b)) = (
                low.get_mut(other * size..(other + 1) * size),
                high.get_mut(..size),
            )
        {
            a.swap_with_slice(b);
        }
    }
}
