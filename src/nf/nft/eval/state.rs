//! What statements remember between packets: counters, tokens of limits, bytes of quotas.
//!
//! As nft_counter.c, nft_limit.c, nft_quota.c, nft_connlimit.c, nft_last.c. Time is virtual. Invariant:
//! tokens never exceed their cap.

use super::super::expr::{Limit, Quota, Stateful};
use crate::base::{Instant, limits};
use crate::nf::Counters;
use crate::nf::ct::{Conntrack, CtTuple};

/// The state of one statement.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Counter(Counters),
    /// Tokens left in nanoseconds (none before the first packet, which finds it full), and when that was.
    Limit(Option<u64>, u64),
    /// Bytes used.
    Quota(u64),
    /// Connections counted.
    CtCount(Vec<(u16, CtTuple)>),
    /// When it was last met.
    Last(Option<Instant>),
    /// The number drawn last.
    Inc(u32),
}

/// Elements that packets took out of a set: they keep their place until the set is swept
/// (`nft_rhash_delete` marks them dead, `nft_rhash_gc` frees them).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Graves {
    /// How many there are.
    pub dead: usize,
    swept: u64,
}

impl Graves {
    /// Whether the sweep of that number is yet to be done; it is with this.
    pub fn sweep(&mut self, number: u64) -> bool {
        let due = number > self.swept;
        if due {
            (self.swept, self.dead) = (number, 0);
        }
        due
    }
}

impl Slot {
    /// The state of a statement as it is listed.
    pub fn of(s: &Stateful) -> Slot {
        match s {
            Stateful::Counter(c) => Slot::Counter(*c),
            Stateful::Limit(_) => Slot::Limit(None, 0),
            Stateful::Quota(q) => Slot::Quota(q.used),
            Stateful::CtCount { .. } => Slot::CtCount(Vec::new()),
            Stateful::Last(_) => Slot::Last(None),
        }
    }

    /// Whether it is listed with the rules, so that a reload brings it along.
    pub fn is_listed(&self) -> bool {
        matches!(self, Slot::Counter(_) | Slot::Quota(_))
    }

    /// Writes what has changed into the statement.
    pub fn write(&self, s: &mut Stateful, now: Instant) {
        match (self, s) {
            (Slot::Counter(c), Stateful::Counter(to)) => *to = *c,
            // nft_quota_do_dump: never more than the quota.
            (Slot::Quota(used), Stateful::Quota(to)) => to.used = (*used).min(to.bytes),
            (Slot::Last(Some(at)), Stateful::Last(to)) => {
                *to = Some(u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
}

/// One packet, as states see it.
pub(super) struct Seen<'a> {
    pub now: Instant,
    /// `skb->len`
    pub len: u64,
    pub ct: &'a Conntrack,
    /// Its connection: zone and original tuple.
    pub conn: (u16, CtTuple),
}

/// Asks and changes a state; `false` ends the rule.
pub(super) fn ask(s: &Stateful, slot: &mut Slot, p: &Seen<'_>) -> bool {
    match (s, slot) {
        (Stateful::Counter(_), Slot::Counter(c)) => {
            count(c, p.len);
            true
        }
        (Stateful::Limit(l), Slot::Limit(tokens, last)) => limit(l, tokens, last, p),
        (Stateful::Quota(q), Slot::Quota(used)) => quota(q, used, p.len),
        (Stateful::CtCount { over, count }, Slot::CtCount(list)) => {
            connections(list, p).is_some_and(|n| (n > *count) == *over)
        }
        (Stateful::Last(_), Slot::Last(at)) => {
            *at = Some(p.now);
            true
        }
        _ => false,
    }
}

pub(super) fn count(c: &mut Counters, len: u64) {
    c.packets = c.packets.saturating_add(1);
    c.bytes = c.bytes.saturating_add(len);
}

/// `nft_limit_eval`: packets cost their share of the unit of time, bytes as much as they are.
pub(super) fn limit(l: &Limit, tokens: &mut Option<u64>, last: &mut u64, p: &Seen<'_>) -> bool {
    let nsecs = u64::from(l.per).saturating_mul(1_000_000_000);
    let rate = l.rate.max(1);
    let (cost, cap) = match l.bytes {
        true => (
            nsecs.saturating_mul(p.len) / rate,
            nsecs.saturating_mul(rate.saturating_add(u64::from(l.burst))) / rate,
        ),
        false => {
            // NFT_LIMIT_PKT_BURST_DEFAULT
            let burst = if l.burst == 0 { 5 } else { u64::from(l.burst) };
            (nsecs / rate, (nsecs / rate).saturating_mul(burst))
        }
    };
    let now = p.now.as_nanos();
    let have = tokens.map_or(cap, |t| {
        t.saturating_add(now.saturating_sub(*last)).min(cap)
    });
    *last = now;
    let enough = have >= cost;
    *tokens = Some(if enough { have - cost } else { have });
    enough != l.over
}

/// `nft_quota_do_eval`: the packet that uses it up is still within it.
pub(super) fn quota(q: &Quota, used: &mut u64, len: u64) -> bool {
    *used = used.saturating_add(len);
    (*used > q.bytes) == q.over
}

/// `nft_connlimit_do_eval`: those that still live, with the packet's own.
fn connections(list: &mut Vec<(u16, CtTuple)>, p: &Seen<'_>) -> Option<u32> {
    list.retain(|(zone, t)| (*zone, *t) == p.conn || p.ct.find(t, *zone).is_some());
    if !list.contains(&p.conn) {
        if list.len() >= limits::NF_CONNLIMIT_MAX {
            return None;
        }
        list.push(p.conn);
    }
    u32::try_from(list.len()).ok()
}
