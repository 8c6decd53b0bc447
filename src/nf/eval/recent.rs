//! `-m recent`: lists of addresses with the times they were seen.
//!
//! As xt_recent.c with its module parameters at their defaults. Invariant: a list holds at most
//! [`LIST_TOTAL`] addresses, the least recently seen goes first; an address at most its ring of stamps.

use super::chain::{Answer, Env};
use super::packet::ttl;
use super::state::{HZ, jiffies};
use crate::nf::matches::{Recent, RecentOp, RecentSide};
use crate::wire::Frame;
use std::net::IpAddr;

/// `ip_list_tot`
const LIST_TOTAL: usize = 100;

/// One address.
#[derive(Clone, Debug)]
struct Entry {
    addr: IpAddr,
    ttl: u8,
    /// A ring; `index` is where the next stamp goes, `stamps.len()` is the kernel's `nstamps`.
    stamps: Vec<u64>,
    index: usize,
}

/// A list, the least recently updated address first (kernel: `struct recent_table`, its `lru_list`).
#[derive(Clone, Debug, Default)]
pub struct RecentList {
    entries: Vec<Entry>,
    /// Size of every ring, a power of two.
    ring: usize,
}

impl RecentList {
    /// The addresses, the least recently updated first, with how many times each is remembered.
    pub fn entries(&self) -> impl Iterator<Item = (IpAddr, usize)> + '_ {
        self.entries.iter().map(|e| (e.addr, e.stamps.len()))
    }

    /// A rule that needs longer rings empties a list that is there already (`recent_mt_check`).
    pub(super) fn grow(&mut self, ring: usize) {
        if ring > self.ring {
            self.entries.clear();
            self.ring = ring;
        }
    }

    /// `recent_entry_lookup`
    fn find(&self, addr: IpAddr, ttl: u8) -> Option<usize> {
        let same = |e: &Entry| e.addr == addr && (ttl == e.ttl || ttl == 0 || e.ttl == 0);
        self.entries.iter().position(same)
    }

    /// `recent_entry_init`
    fn add(&mut self, addr: IpAddr, ttl: u8, now: u64) {
        if self.entries.len() >= LIST_TOTAL {
            self.entries.remove(0);
        }
        let stamps = vec![now];
        self.entries.push(Entry {
            addr,
            ttl,
            stamps,
            index: 1,
        });
    }

    /// `recent_entry_update`
    fn update(&mut self, at: usize, ttl: u8, now: u64) {
        if at >= self.entries.len() {
            return;
        }
        let mut e = self.entries.remove(at);
        e.index &= self.ring.saturating_sub(1);
        match e.stamps.get_mut(e.index) {
            Some(stamp) => *stamp = now,
            None => e.stamps.push(now),
        }
        e.index += 1;
        e.ttl = ttl;
        self.entries.push(e);
    }
}

/// The list a rule is about.
pub(super) fn list_name(m: &Recent) -> String {
    m.name.as_ref().map_or_else(String::new, |n| n.0.clone())
}

/// The ring a rule needs: `--hitcount` rounded up to a power of two, 32 without one
/// (`recent_mt_check` with `ip_pkt_list_tot` 0).
pub(super) fn ring_size(m: &Recent) -> usize {
    match m.hitcount.unwrap_or(0) {
        0 => 32,
        n => (n as usize).min(1 << 16).next_power_of_two(),
    }
}

fn masked(addr: IpAddr, mask: IpAddr) -> IpAddr {
    match (addr, mask) {
        (IpAddr::V4(a), IpAddr::V4(m)) => IpAddr::V4((u32::from(a) & u32::from(m)).into()),
        (IpAddr::V6(a), IpAddr::V6(m)) => IpAddr::V6((u128::from(a) & u128::from(m)).into()),
        _ => addr,
    }
}

impl Env<'_, '_> {
    /// `recent_mt`
    pub fn recent(&mut self, f: &Frame, m: &Recent) -> Answer {
        let (Some(op), Some(name)) = (m.op, &m.name) else {
            return Answer::Unknown;
        };
        let side = match m.side {
            Some(RecentSide::Dest) => self.pkt.dst,
            _ => self.pkt.src,
        };
        let addr = m.mask.map_or(side, |mask| masked(side, mask));
        // The TTL as it was before this host took one off.
        let mut ttl = ttl(f, self.pkt.family);
        if self.at.output.is_some() && !f.local {
            ttl = ttl.wrapping_add(1);
        }
        let now = jiffies(self.cx.now);
        let Some(list) = self.nf.state.recent.get_mut(&name.0) else {
            return Answer::Unknown;
        };
        let found = list.find(addr, if m.rttl { ttl } else { 0 });
        let Some(at) = found else {
            if op.value == RecentOp::Set {
                list.add(addr, ttl, now);
                return (!op.not).into();
            }
            return op.not.into();
        };
        let hit = match op.value {
            RecentOp::Set => true,
            RecentOp::Remove => {
                list.entries.remove(at);
                return (!op.not).into();
            }
            RecentOp::Rcheck | RecentOp::Update => seen(&list.entries[at], m, now),
        };
        let answer = hit != op.not;
        reap(list, m, op.value, at, now);
        let seen_again = op.value == RecentOp::Set || (op.value == RecentOp::Update && answer);
        let at = list.find(addr, if m.rttl { ttl } else { 0 });
        if let Some(at) = at.filter(|_| seen_again) {
            list.update(at, ttl, now);
        }
        answer.into()
    }
}

/// Whether an address was seen often enough, lately enough.
fn seen(e: &Entry, m: &Recent, now: u64) -> bool {
    let oldest = now.wrapping_sub(u64::from(m.seconds.unwrap_or(0)).saturating_mul(HZ));
    // time_after(oldest, stamp)
    let young = |s: u64| m.seconds.is_none_or(|n| n == 0) || oldest.wrapping_sub(s) as i64 <= 0;
    let hits = e.stamps.iter().filter(|s| young(**s)).count();
    hits > 0 && hits >= m.hitcount.unwrap_or(0) as usize
}

/// `--reap`: the least recently seen address goes if it is too old (`recent_entry_reap`).
fn reap(list: &mut RecentList, m: &Recent, op: RecentOp, working: usize, now: u64) {
    if !m.reap || !matches!(op, RecentOp::Rcheck | RecentOp::Update) {
        return;
    }
    let oldest = now.wrapping_sub(u64::from(m.seconds.unwrap_or(0)).saturating_mul(HZ));
    let Some(first) = list.entries.first() else {
        return;
    };
    // The entry that is about to be updated stays.
    if working == 0 && op == RecentOp::Update {
        return;
    }
    let newest = first.index.checked_sub(1).and_then(|i| first.stamps.get(i));
    if newest.is_some_and(|s| oldest.wrapping_sub(*s) as i64 > 0) {
        list.entries.remove(0);
    }
}
