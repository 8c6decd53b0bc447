//! A group of frames looked up together: keys first, then buckets, then entries, so that the memory of one
//! frame is fetched while another is looked at.
//!
//! Stops at the first frame that must be walked, since a walk may change what the next ones find. Invariant:
//! frames before the stop left as their entries say; the one at the stop is untouched.

use crate::fast::apply::{TAIL, apply, apply_v6};
use crate::fast::batch::{Batch, Fate};
use crate::fast::dirty::Dirty;
use crate::fast::door::Doors;
use crate::fast::key::{HEAD, Key, L4_V4, L4_V6};
use crate::fast::pairs::Pairs;
use crate::fast::sum::{fits, udp_fits};
use crate::fast::table::{Entry, View, flag};

/// Frames that are looked up together.
pub const GROUP: usize = 64;

/// Keys of a group and what is likely theirs. Kept from group to group: room that is not cleared each time.
#[derive(Debug)]
pub struct Group {
    from: usize,
    to: usize,
    keys: [Key; GROUP],
    /// IP lengths; 0 for a frame without key.
    totals: [u16; GROUP],
    hashes: [u64; GROUP],
    likely: [u32; GROUP],
}

/// What an entry's state is held against.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// State of the configuration now.
    pub epoch: u16,
    /// This moment's number.
    pub moment: u32,
    /// Entries last used before this moment may stand for a dead connection.
    pub young: u32,
}

/// A frame that must be walked.
#[derive(Clone, Copy, Debug)]
pub struct Miss {
    /// Which of the batch.
    pub at: usize,
    /// Its key, and its IP length: 0 where it has no key.
    pub key: Key,
    /// See above.
    pub total: u16,
}

impl Default for Group {
    fn default() -> Self {
        Group {
            from: 0,
            to: 0,
            keys: [Key::default(); GROUP],
            totals: [0; GROUP],
            hashes: [0; GROUP],
            likely: [0; GROUP],
        }
    }
}

impl Group {
    /// Looks up the frames `from..to` of a batch, at most [`GROUP`] of them.
    #[inline(always)]
    pub fn look_up(
        &mut self,
        view: &View<'_>,
        doors: &mut Doors,
        pairs: &mut Pairs,
        batch: &Batch<'_>,
        from: usize,
        to: usize,
    ) {
        (self.from, self.to) = (from, to);
        let heads = &batch.heads[from..to];
        let whole = &batch.frames[from..to];
        let ports = &batch.ingress[from..to];
        let frames = heads.iter().zip(whole).zip(ports);
        let keys = self
            .keys
            .iter_mut()
            .zip(&mut self.totals)
            .zip(&mut self.hashes);
        for (((head, frame), port), ((key, total), hash)) in frames.zip(keys) {
            let door = doors.number(*port, &head.0);
            match Key::of(&head.0, frame, door, pairs) {
                Some(found) => {
                    (*key, *total) = found;
                    *hash = key.hash();
                    view.ask_bucket(*hash);
                }
                None => *total = 0,
            }
        }
        let keys = self.totals.iter().zip(&self.hashes).zip(&mut self.likely);
        for ((total, hash), likely) in keys.take(to - from) {
            *likely = if *total == 0 {
                0
            } else {
                view.ask_entry(*hash)
            };
        }
    }

    /// Frames from `at` on that no entry is likely to carry, at most `len` of them.
    pub fn misses(&self, at: usize, len: usize) -> impl Iterator<Item = usize> {
        let frames = at..self.to;
        let missed = frames.filter(|i| self.likely.get(i - self.from).is_some_and(|l| *l == 0));
        missed.take(len)
    }

    /// Applies entries from frame `at` of the batch on; gives the first frame that must be walked. Entries
    /// hit for the first time since they were written back are added to `dirty`.
    #[inline(always)]
    pub fn hits(
        &self,
        view: &mut View<'_>,
        batch: &mut Batch<'_>,
        at: usize,
        when: &When,
        dirty: &mut Dirty,
        other: &mut Other<'_, impl Follow>,
    ) -> Option<Miss> {
        let skip = at - self.from;
        let len = (self.to - self.from).min(GROUP);
        let frames = &batch.frames[self.from..][..len];
        let heads = &mut batch.heads[self.from..][..len];
        let tails = &mut batch.tails[self.from..][..len];
        let fates = &mut batch.fates[self.from..][..len];
        for n in skip..len {
            let (key, total) = (self.keys[n], self.totals[n]);
            let miss = Miss {
                at: self.from + n,
                key,
                total,
            };
            if total == 0 {
                return Some(miss);
            }
            let mut number = self.likely[n];
            if view.entries[number as usize].key != key {
                number = view.find(self.hashes[n], &key);
                if number == 0 {
                    return Some(miss);
                }
            }
            let e = &mut view.entries[number as usize];
            let head = &mut heads[n].0;
            if !e.holds(total, when)
                || !other.goes(number, e, &miss, (head, &mut tails[n]), frames[n])
            {
                return Some(miss);
            }
            if e.hits == 0 {
                dirty.add(number);
            }
            e.hits += 1;
            e.bytes += u32::from(total);
            e.seen = when.moment;
            fates[n] = Fate::Sent(e.out);
        }
        None
    }
}

/// Whoever follows the connections of an entry whose state each segment moves.
pub trait Follow {
    /// A segment in the middle of a TCP connection, from its TCP header to the packet's end. False if it is
    /// none, or moves more than windows: then nothing changed.
    fn follow(&mut self, entry: u32, segment: &[u8]) -> bool;
}

/// What frames other than UDP over IPv4 need.
pub struct Other<'a, F> {
    /// Pairs of IPv6 addresses.
    pub pairs: &'a Pairs,
    /// Connections.
    pub conns: F,
}

impl Entry {
    /// Whether it stands for packets of `total` bytes now.
    #[inline(always)]
    fn holds(&self, total: u16, when: &When) -> bool {
        (self.epoch == when.epoch)
            & (total <= self.cap)
            & (self.seen >= when.young)
            & (self.bytes < 1 << 31)
    }
}

impl<F: Follow> Other<'_, F> {
    /// Whether an entry would carry a frame, which stays as it is.
    pub fn would_carry(
        &mut self,
        (number, e): (u32, &Entry),
        of: &Miss,
        when: &When,
        head: &[u8; HEAD],
        frame: &[u8],
    ) -> bool {
        let (mut head, mut tail) = (*head, [0; TAIL]);
        e.holds(of.total, when) && self.goes(number, e, of, (&mut head, &mut tail), frame)
    }

    /// Rewrites a frame if it may go by its entry.
    #[inline(always)]
    fn goes(
        &mut self,
        number: u32,
        e: &Entry,
        of: &Miss,
        (head, tail): (&mut [u8; HEAD], &mut [u8; TAIL]),
        frame: &[u8],
    ) -> bool {
        if !of.key.is_udp4() {
            return self.goes_otherwise(number, e, of, (head, tail), frame);
        }
        let sums = e.flags & flag::SUM == 0 || udp_fits(head, frame, of.total);
        let goes = (head[22] > e.hops) & sums;
        if goes {
            apply(head, e);
        }
        goes
    }

    /// The same of TCP and of IPv6.
    #[inline(never)]
    fn goes_otherwise(
        &mut self,
        number: u32,
        e: &Entry,
        of: &Miss,
        (head, tail): (&mut [u8; HEAD], &mut [u8; TAIL]),
        frame: &[u8],
    ) -> bool {
        let (key, v6) = (&of.key, of.key.is_v6());
        let (ttl, l4) = if v6 { (21, L4_V6) } else { (22, L4_V4) };
        let sums = e.flags & flag::SUM == 0 || fits(key, head, frame, of.total);
        if head[ttl] <= e.hops || !sums {
            return false;
        }
        if e.flags & flag::WINDOW != 0 {
            let segment = frame.get(l4..);
            if !segment.is_some_and(|s| self.conns.follow(number, s)) {
                return false;
            }
        }
        if !v6 {
            apply(head, e);
            return true;
        }
        // A pair that an entry names is there: they are forgotten together.
        let Some(pair) = self.pairs.get(e.addrs as u32) else {
            return false;
        };
        if let Some(t) = frame.get(HEAD..HEAD + TAIL) {
            tail.copy_from_slice(t);
        }
        apply_v6(head, tail, e, pair);
        true
    }
}
