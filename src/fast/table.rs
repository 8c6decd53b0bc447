//! The flow table: buckets of one cache line, entries of one cache line, a hit costs two.
//!
//! A bucket has twelve tags and the numbers of twelve entries; what does not fit goes to the next one and is
//! counted where it passed. Invariant: an entry is reachable from its key's bucket over buckets whose
//! `passed` is not 0; entry 0 is nobody's.

use crate::base::cpu;
use crate::fast::key::Key;
use crate::fast::mem::{Lines, NoMemory};
use bytemuck::{Pod, Zeroable};

/// Entries of a bucket.
const WAYS: usize = 12;

/// Entries of a bucket on average, at most: with more of them the wrong one is looked at first too often, and
/// with fewer a flow takes more than its share of memory.
const FULL: usize = 7;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; WAYS],
    /// Entries that belong here or before and lie further on.
    passed: u32,
    entries: [u32; WAYS],
}

/// What becomes of the frames of one key. One cache line: key, action and state lie together.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Entry {
    /// Whose it is.
    pub key: Key,
    /// Source and destination afterwards, as in [`Key::addrs`].
    pub addrs: u64,
    /// Ports afterwards, as in the header.
    pub ports: u32,
    /// What is added to the complement of the header checksum; 0 for an untouched header.
    pub ip_delta: u16,
    /// The same of the UDP or TCP checksum.
    pub l4_delta: u16,
    /// Destination and source MAC address afterwards.
    pub macs: [u8; 12],
    /// The port it leaves by.
    pub out: u16,
    /// State of the configuration that it was compiled for.
    pub epoch: u16,
    /// Longest IP packet that goes this way.
    pub cap: u16,
    /// Routers passed.
    pub hops: u8,
    /// [`flag`]s.
    pub flags: u8,
    /// Frames since the counters were last written.
    pub hits: u32,
    /// Bytes of their IP packets.
    pub bytes: u32,
    /// When the last one came, in the table's ticks.
    pub seen: u32,
}

/// What an entry wants besides.
pub mod flag {
    /// A conntrack on the way sums the datagram.
    pub const SUM: u8 = 1;
    /// A conntrack on the way follows the TCP window.
    pub const WINDOW: u8 = 2;
    /// An outer header is put in front.
    pub const OUTER: u8 = 4;
}

/// The table is as large as it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Entries by key.
#[derive(Debug)]
pub struct Table {
    buckets: Lines<Bucket>,
    entries: Lines<Entry>,
    /// Numbers that were given back.
    free: Vec<u32>,
    /// The first number never given away.
    fresh: u32,
    used: usize,
}

#[inline(always)]
fn tag(hash: u64) -> u8 {
    // 0 is nobody's.
    ((hash >> 56) as u8).max(1)
}

/// Ways whose tag is `t`, a bit each.
#[inline(always)]
fn ways(b: &Bucket, t: u8) -> u32 {
    const WITHIN: u32 = (1 << WAYS) - 1;
    let mut line = [0; 16];
    line[..WAYS].copy_from_slice(&b.tags);
    line[WAYS..].copy_from_slice(&b.passed.to_ne_bytes());
    cpu::equal(line, t) & WITHIN
}

/// The first of some ways.
#[inline(always)]
fn first(ways: u32) -> usize {
    ways.trailing_zeros() as usize % WAYS
}

/// Both arrays for the time of a batch.
pub struct View<'t> {
    buckets: &'t [Bucket],
    /// The entries by number.
    pub entries: &'t mut [Entry],
}

impl View<'_> {
    #[inline(always)]
    fn bucket(&self, at: u64) -> &Bucket {
        &self.buckets[at as usize & (self.buckets.len() - 1)]
    }

    /// Asks for the bucket of a hash.
    #[inline(always)]
    pub fn ask_bucket(&self, hash: u64) {
        cpu::line(self.bucket(hash));
    }

    /// The likely entry of a hash, 0 where there is none, and asks for it.
    #[inline(always)]
    pub fn ask_entry(&self, hash: u64) -> u32 {
        let b = self.bucket(hash);
        let found = ways(b, tag(hash));
        if found == 0 {
            return 0;
        }
        let n = b.entries[first(found)];
        cpu::line(&self.entries[n as usize]);
        n
    }

    /// The entry of a key, 0 where there is none.
    #[inline]
    pub fn find(&self, hash: u64, key: &Key) -> u32 {
        let mut at = hash;
        loop {
            let b = self.bucket(at);
            let mut found = ways(b, tag(hash));
            while found != 0 {
                let n = b.entries[first(found)];
                if self.entries[n as usize].key == *key {
                    return n;
                }
                found &= found - 1;
            }
            if b.passed == 0 {
                return 0;
            }
            at = at.wrapping_add(1);
        }
    }
}

impl Table {
    /// A table for `flows` entries at most.
    pub fn new(flows: usize) -> Result<Table, NoMemory> {
        let buckets = (flows / FULL).next_power_of_two().max(4);
        Ok(Table {
            buckets: Lines::new(buckets)?,
            entries: Lines::new(flows + 1)?,
            free: Vec::new(),
            fresh: 1,
            used: 0,
        })
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes of its arrays.
    pub fn bytes(&self) -> usize {
        self.buckets.bytes() + self.entries.bytes()
    }

    /// The arrays, for a batch.
    pub fn view(&mut self) -> View<'_> {
        View {
            buckets: self.buckets.all(),
            entries: self.entries.all_mut(),
        }
    }

    /// An entry by number.
    pub fn get(&self, n: u32) -> Option<&Entry> {
        self.entries.all().get(n as usize)
    }

    /// Puts an entry in, in place of one with the same key; gives its number.
    pub fn insert(&mut self, entry: Entry) -> Result<u32, Full> {
        let hash = entry.key.hash();
        let old = self.view().find(hash, &entry.key);
        if old != 0 {
            self.entries.all_mut()[old as usize] = entry;
            return Ok(old);
        }
        let n = match self.free.pop() {
            Some(n) => n,
            None if (self.fresh as usize) < self.entries.all().len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return Err(Full),
        };
        self.entries.all_mut()[n as usize] = entry;
        let buckets = self.buckets.all_mut();
        let mask = buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let b = &mut buckets[at];
            if let Some(way) = b.tags.iter().position(|t| *t == 0) {
                b.tags[way] = tag(hash);
                b.entries[way] = n;
                break;
            }
            b.passed += 1;
            at = (at + 1) & mask;
        }
        self.used += 1;
        Ok(n)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, n: u32) {
        let Some(entry) = self.entries.all().get(n as usize).copied() else {
            return;
        };
        let hash = entry.key.hash();
        let buckets = self.buckets.all_mut();
        let mask = buckets.len() - 1;
        let home = hash as usize & mask;
        let mut at = home;
        let way = loop {
            let b = &buckets[at];
            let here = |(t, e): (&u8, &u32)| *t != 0 && *e == n;
            if let Some(way) = b.tags.iter().zip(&b.entries).position(here) {
                break way;
            }
            if b.passed == 0 {
                return;
            }
            at = (at + 1) & mask;
        };
        buckets[at].tags[way] = 0;
        buckets[at].entries[way] = 0;
        let mut back = home;
        while back != at {
            buckets[back].passed -= 1;
            back = (back + 1) & mask;
        }
        self.entries.all_mut()[n as usize] = Entry::default();
        self.free.push(n);
        self.used -= 1;
    }
}
