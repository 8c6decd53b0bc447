//! The limit: the same work with nothing around it. A frame is copied in, parsed, looked up once, translated,
//! sent on (TTL, MAC addresses) and counted, flows in random order; no model, no conntrack, no epochs.
//!
//! What a scenario's `times_limit` divides by, run in the same process and minute. Invariant: it does the
//! work of `path/rx_copy+compact_full` of ../shared/limit, frame by frame.

use super::clock::repetition;
use crate::base::Rng;
use crate::base::cpu;
use crate::fast::{HEAD, HUGE, Lines, NoMemory};
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use std::time::Duration;

const BATCH: usize = 64;
const WAYS: usize = 12;
/// Frames of the source, 64 MiB of them: more than caches hold. (Debug builds measure nothing.)
const SOURCE: usize = if cfg!(debug_assertions) {
    1 << 14
} else {
    1 << 20
};

/// Frames that it is copied into, in turn.
const RING: usize = 2048;

/// Frames between two looks at the clock.
const CARRIED: usize = if cfg!(debug_assertions) {
    1 << 10
} else {
    1 << 16
};

type Frame = [u8; HEAD];

#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
struct Key {
    addrs: u64,
    rest: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; 16],
    items: [u32; WAYS],
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Act {
    dst: u32,
    dport: u16,
    ip_delta: u16,
    l4_delta: u16,
    out: u16,
    mac: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
struct Item {
    key: Key,
    act: Act,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct State {
    packets: u32,
    seen: u32,
    bytes: u64,
}

struct Table {
    /// As many as are used of what was got.
    count: usize,
    buckets: Lines<Bucket>,
    items: Lines<Item>,
    states: Lines<State>,
    used: u32,
}

fn hash(k: &Key) -> u64 {
    let m =
        u128::from(k.addrs ^ 0xa076_1d64_78bd_642f) * u128::from(k.rest ^ 0xe703_7ed1_a0b4_28db);
    (m as u64) ^ (m >> 64) as u64
}

fn tag(hash: u64) -> u8 {
    (hash >> 57) as u8 | 0x80
}

/// The ways of a bucket with a tag, a bit each.
#[inline(always)]
fn ways(b: &Bucket, tag: u8) -> u32 {
    cpu::equal(b.tags, tag) & ((1 << WAYS) - 1)
}

/// Records in huge pages even where they are few, as those of ../shared/limit lie.
fn huge<T: NoUninit + AnyBitPattern>(len: usize) -> Result<Lines<T>, NoMemory> {
    Lines::new(len.max(HUGE / size_of::<T>()))
}

impl Table {
    fn new(keys: usize) -> Result<Table, NoMemory> {
        let count = (keys / 8).next_power_of_two().max(4);
        Ok(Table {
            count,
            buckets: huge(count)?,
            items: huge(keys + 1)?,
            states: huge(keys + 1)?,
            used: 0,
        })
    }

    fn view(&mut self) -> View<'_> {
        let items = self.used as usize + 1;
        View {
            buckets: &self.buckets.all()[..self.count],
            items: &self.items.all()[..items],
            states: &mut self.states.all_mut()[..items],
        }
    }

    fn insert(&mut self, key: Key, act: Act) {
        self.used += 1;
        self.items.all_mut()[self.used as usize] = Item { key, act };
        let h = hash(&key);
        let buckets = &mut self.buckets.all_mut()[..self.count];
        let mask = buckets.len() - 1;
        let mut at = h as usize & mask;
        loop {
            let b = &mut buckets[at];
            if let Some(way) = b.tags[..WAYS].iter().position(|t| *t == 0) {
                (b.tags[way], b.items[way]) = (tag(h), self.used);
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

struct View<'a> {
    buckets: &'a [Bucket],
    items: &'a [Item],
    states: &'a mut [State],
}

impl View<'_> {
    #[inline(always)]
    fn bucket(&self, at: u64) -> &Bucket {
        &self.buckets[at as usize & (self.buckets.len() - 1)]
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        let b = self.bucket(hash);
        let found = ways(b, tag(hash));
        if found == 0 {
            return 0;
        }
        b.items[found.trailing_zeros() as usize % WAYS] as usize
    }

    #[inline]
    fn find(&self, hash: u64, key: &Key) -> usize {
        let mut at = hash;
        loop {
            let b = self.bucket(at);
            let mut found = ways(b, tag(hash));
            while found != 0 {
                let n = b.items[found.trailing_zeros() as usize % WAYS] as usize;
                if self.items[n].key == *key {
                    return n;
                }
                found &= found - 1;
            }
            if b.tags[WAYS - 1] == 0 {
                return 0;
            }
            at = at.wrapping_add(1);
        }
    }
}

fn u16_at(f: &Frame, at: usize) -> u16 {
    u16::from_ne_bytes([f[at], f[at + 1]])
}

fn u32_at(f: &Frame, at: usize) -> u32 {
    u32::from_ne_bytes([f[at], f[at + 1], f[at + 2], f[at + 3]])
}

fn put16(f: &mut Frame, at: usize, v: u16) {
    [f[at], f[at + 1]] = v.to_ne_bytes();
}

#[inline(always)]
fn parse(f: &Frame) -> Option<Key> {
    let total = u16::from_be(u16_at(f, 16));
    let common = (u16_at(f, 12) == 0x0800u16.to_be())
        & (f[14] == 0x45)
        & (u16::from_be(u16_at(f, 20)) & 0x3fff == 0)
        & (f[22] > 1)
        & (28..=50).contains(&total)
        & ((f[23] == 6) | (f[23] == 17));
    common.then(|| Key {
        addrs: u64::from(u32_at(f, 26)) | u64::from(u32_at(f, 30)) << 32,
        rest: u64::from(u32_at(f, 34)) | u64::from(f[23]) << 32,
    })
}

#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[inline(always)]
fn adjust(f: &mut Frame, at: usize, delta: u16) {
    let sum = u32::from(!u16_at(f, at)) + u32::from(delta);
    put16(f, at, !(((sum & 0xffff) + (sum >> 16)) as u16));
}

#[inline(always)]
fn rewrite(f: &mut Frame, a: &Act) {
    f[30..34].copy_from_slice(&a.dst.to_ne_bytes());
    put16(f, 36, a.dport);
    adjust(f, 24, a.ip_delta);
    adjust(f, 40, a.l4_delta);
    let ttl = f[22];
    let was = u16_at(f, 22);
    f[22] = if ttl <= 2 { 64 } else { ttl - 1 };
    let sum = u64::from(!u16_at(f, 24)) + u64::from(!was) + u64::from(u16_at(f, 22));
    put16(f, 24, !fold(sum));
    f[..4].copy_from_slice(&[2, 0, 10, 88]);
    put16(f, 4, a.mac as u16);
    f[6..10].copy_from_slice(&[2, 0, 10, 88]);
    put16(f, 10, a.out);
}

/// One pass over some frames; how many had no entry.
#[inline]
fn pass(frames: &mut [Frame], v: &mut View<'_>, tick: u32) -> u64 {
    let mut keys = [Key::default(); BATCH];
    let mut hashes = [0; BATCH];
    let mut items = [0; BATCH];
    let mut slow = 0;
    // Said once, so that it is not asked for every frame.
    assert!(v.states.len() == v.items.len() && !v.buckets.is_empty());
    for b in frames.as_chunks_mut::<BATCH>().0 {
        for (i, f) in b.iter().enumerate() {
            match parse(f) {
                Some(k) => {
                    keys[i] = k;
                    hashes[i] = hash(&k);
                    cpu::line(v.bucket(hashes[i]));
                }
                None => slow += 1,
            }
        }
        for i in 0..BATCH {
            items[i] = v.first(hashes[i]);
            cpu::line(&v.items[items[i]]);
            cpu::line(&v.states[items[i]]);
        }
        for (i, f) in b.iter_mut().enumerate() {
            let mut n = items[i];
            if v.items[n].key != keys[i] {
                n = v.find(hashes[i], &keys[i]);
                if n == 0 {
                    slow += 1;
                    continue;
                }
            }
            rewrite(f, &v.items[n].act);
            let s = &mut v.states[n];
            s.packets = s.packets.wrapping_add(1);
            s.bytes += 64;
            s.seen = tick;
        }
    }
    slow
}

/// A client, a virtual address and what is behind it.
struct Flow {
    src: u32,
    sport: u16,
    vip: u32,
    backend: u32,
}

fn flow(n: u64, rng: &mut Rng) -> Flow {
    Flow {
        src: (0x0af4_0000 + (n as u32 & 0x3_ffff)).to_be(),
        sport: (1024 + (n >> 18) as u16 * 7 + rng.below(3000) as u16).to_be(),
        vip: (0x0a60_0001 + rng.below(10_000) as u32).to_be(),
        backend: (0x0af8_0000 + rng.below(150_000) as u32).to_be(),
    }
}

fn frame(f: &Flow) -> Frame {
    let mut p = [0; HEAD];
    p[..12].copy_from_slice(&[2, 0, 10, 244, 0, 1, 2, 0, 10, 244, 0, 2]);
    (p[12], p[14], p[17], p[20], p[22], p[23]) = (8, 0x45, 50, 0x40, 64, 17);
    p[26..30].copy_from_slice(&f.src.to_ne_bytes());
    p[30..34].copy_from_slice(&f.vip.to_ne_bytes());
    p[34..36].copy_from_slice(&f.sport.to_ne_bytes());
    (p[37], p[39]) = (80, 30);
    p
}

fn entries(f: &Flow) -> [(Key, Act); 2] {
    let key = |dst: u32, port: u16| Key {
        addrs: u64::from(f.src) | u64::from(dst) << 32,
        rest: u64::from(f.sport) | u64::from(port.to_be()) << 16 | 17 << 32,
    };
    let act = |dst: u32, port: u16| Act {
        dst,
        dport: port.to_be(),
        ip_delta: dst as u16,
        l4_delta: port,
        out: 3,
        mac: dst ^ 0x5a5a,
    };
    [
        (key(f.vip, 80), act(f.backend, 8080)),
        (key(f.backend, 8080), act(f.vip, 80)),
    ]
}

/// The loop for so many flows, ready to run.
pub struct Limit {
    table: Table,
    source: Lines<Frame>,
    ring: Lines<Frame>,
    at: usize,
    tick: u32,
}

impl Limit {
    /// Both directions of every flow have an entry.
    pub fn new(flows: u64) -> Result<Limit, NoMemory> {
        let mut table = Table::new(flows as usize * 2)?;
        let mut rng = Rng::new(5);
        let mut first: Vec<Frame> = Vec::with_capacity(flows as usize);
        for n in 0..flows {
            let f = flow(n, &mut rng);
            for (key, act) in entries(&f) {
                table.insert(key, act);
            }
            first.push(frame(&f));
        }
        let mut source = Lines::new(SOURCE)?;
        for f in source.all_mut() {
            *f = first[rng.below(flows) as usize];
        }
        Ok(Limit {
            table,
            source,
            ring: huge(RING)?,
            at: 0,
            tick: 0,
        })
    }

    /// Carries so many frames; false if one of them had no entry.
    fn carry(&mut self, frames: usize) -> bool {
        let mut v = self.table.view();
        let mut slow = 0;
        for _ in 0..frames / BATCH {
            let o = self.at % RING;
            let ring = &mut self.ring.all_mut()[o..o + BATCH];
            ring.copy_from_slice(&self.source.all()[self.at..self.at + BATCH]);
            slow += pass(ring, &mut v, self.tick);
            self.at = (self.at + BATCH) % SOURCE;
            self.tick = self.tick.wrapping_add(1);
        }
        slow == 0
    }

    /// One repetition: nanoseconds for a frame.
    pub fn repetition(&mut self, at_least: Duration) -> f64 {
        let mut right = true;
        let each = repetition(at_least, || {
            right &= self.carry(CARRIED);
            CARRIED as u64
        });
        if right { each } else { f64::NAN }
    }
}
