//! `-m hashlimit`: a token bucket per address and port.
//!
//! As xt_hashlimit.c, revision 3, with what libxt_hashlimit.c hands it. Invariant: a table holds at most
//! its maximum of entries; the settings of the rule that was asked first are the table's
//! (`htable_find_get` finds it by name alone).

use super::chain::{Answer, Env};
use super::packet::Pkt;
use super::state::{HZ, jiffies};
use crate::base::limits;
use crate::nf::matches::{Burst, HashMode, HashRate, Hashlimit, Rate};
use crate::nf::value::AddrMask;
use crate::wire::{Frame, proto};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::net::IpAddr;

/// uapi xt_hashlimit.h XT_HASHLIMIT_SCALE_v2: rates are in microseconds per packet.
const SCALE: u64 = 1_000_000;
/// The largest power of two not above `n` (`POW2_BELOW64`).
const fn below(n: u64) -> u64 {
    1 << (63 - n.leading_zeros())
}
/// `CREDITS_PER_JIFFY`
const PER_JIFFY: u64 = below(u64::MAX / (HZ * 60 * 60 * 24));
/// `CREDITS_PER_JIFFY_BYTES`
const PER_JIFFY_BYTES: u64 = below(0xffff_ffff / HZ);
/// Byte credit that a second brings, which is all that is kept.
const FULL_BYTES: u64 = PER_JIFFY_BYTES * HZ;
/// XT_HASHLIMIT_BYTE_SHIFT
const BYTE_SHIFT: u32 = 4;
const U32_MAX: u64 = 0xffff_ffff;

/// What a bucket is for (kernel: `struct dsthash_dst`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Dst {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    sport: u16,
    dport: u16,
}

/// The settings as the kernel has them (`struct hashlimit_cfg3`).
#[derive(Clone, Copy, Debug)]
struct Cfg {
    mode: HashMode,
    bytes: bool,
    rate_match: bool,
    avg: u64,
    burst: u64,
    /// Seconds.
    interval: u64,
    max: usize,
    /// Jiffies.
    expire: u64,
    gc: u64,
    masks: (u8, u8),
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    prev: u64,
    expires: u64,
    credit: u64,
    /// For packets the most there is; for bytes how often an empty bucket is filled once more.
    cap: u64,
    cost: u64,
    /// Of `--hashlimit-rate-match`: allowed, allowed at once, counted, whether the last interval had more.
    rate: u64,
    burst: u64,
    current: u64,
    over: bool,
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct HashTable {
    cfg: Cfg,
    made: u64,
    buckets: HashMap<Dst, Bucket, FixedState>,
}

/// Milliseconds as jiffies, rounded up (`msecs_to_jiffies`).
fn ms(n: u64) -> u64 {
    (n * HZ).div_ceil(1_000)
}

/// libxt_hashlimit.c `bytes_to_cost`, `cost_to_bytes`
fn bytes_to_cost(bytes: u64) -> u64 {
    U32_MAX / ((bytes & U32_MAX) >> BYTE_SHIFT).saturating_add(1)
}

fn cost_to_bytes(cost: u64) -> u64 {
    let r = U32_MAX.checked_div(cost).unwrap_or(U32_MAX);
    r.saturating_sub(1) << BYTE_SHIFT
}

/// The unit a rate is printed in, which is also how long an idle entry stays (`quantum`).
fn unit_seconds(period: u64) -> u64 {
    let period = period.max(1);
    let mut chosen = 86_400;
    for seconds in [3_600, 60, 1] {
        let mult = seconds * SCALE;
        if period > mult || mult / period < mult % period {
            break;
        }
        chosen = seconds;
    }
    chosen
}

/// `user2credits`
fn credits(user: u64) -> u64 {
    user.saturating_mul(HZ * PER_JIFFY / SCALE)
}

impl Cfg {
    fn of(m: &Hashlimit, rate: HashRate) -> Cfg {
        let (avg, burst, idle) = match (rate.rate, m.burst) {
            (Rate::Packet(p), b) => {
                let packets = match b {
                    Some(Burst::Packets(n)) => u64::from(n),
                    _ => 5,
                };
                (p, packets, unit_seconds(p) * 1_000)
            }
            (Rate::Bytes(b), burst) => {
                let avg = bytes_to_cost(b);
                match burst {
                    Some(Burst::Bytes(n)) => (avg, n.div_ceil(cost_to_bytes(avg).max(1)), 60_000),
                    _ => (avg, 0, 15_000),
                }
            }
        };
        Cfg {
            mode: m.mode.unwrap_or_default(),
            bytes: matches!(rate.rate, Rate::Bytes(_)),
            rate_match: m.rate_match,
            avg,
            burst,
            interval: u64::from(m.interval.unwrap_or(1).max(1)),
            max: match m.max {
                None | Some(0) => limits::NF_HASHLIMIT_MAX,
                Some(n) => (n as usize).min(limits::NF_HASHLIMIT_MAX),
            },
            expire: ms(m.expire.map_or(idle, u64::from)),
            gc: ms(u64::from(m.gcinterval.unwrap_or(1_000))).max(1),
            masks: (m.srcmask.unwrap_or(128), m.dstmask.unwrap_or(128)),
        }
    }

    /// `hashlimit_init_dst`; `None` drops.
    fn dst(&self, pkt: &Pkt, f: &Frame) -> Option<Dst> {
        let masked =
            |on: HashMode, a: IpAddr, len| self.mode.has(on).then(|| AddrMask::net(a, len).addr);
        let (sport, dport) =
            match self.mode.has(HashMode::SRCPORT) || self.mode.has(HashMode::DSTPORT) {
                true => ports(pkt, f)?,
                false => (0, 0),
            };
        Some(Dst {
            src: masked(HashMode::SRCIP, pkt.src, self.masks.0),
            dst: masked(HashMode::DSTIP, pkt.dst, self.masks.1),
            sport: if self.mode.has(HashMode::SRCPORT) {
                sport
            } else {
                0
            },
            dport: if self.mode.has(HashMode::DSTPORT) {
                dport
            } else {
                0
            },
        })
    }

    /// `rateinfo_init`
    fn bucket(&self, now: u64) -> Bucket {
        let mut b = Bucket {
            prev: now,
            ..Bucket::default()
        };
        match (self.rate_match, self.bytes) {
            (true, true) => {
                b.rate = cost_to_bytes(self.avg);
                b.burst = self.burst.max(1).saturating_mul(b.rate);
            }
            (true, false) => {
                b.rate = SCALE.checked_div(self.avg).unwrap_or(0);
                b.burst = self.burst.saturating_add(b.rate);
            }
            (false, true) => {
                b.credit = FULL_BYTES;
                b.cost = (self.avg.saturating_mul(FULL_BYTES) >> 32) & U32_MAX;
                b.cap = self.burst;
            }
            (false, false) => {
                b.credit = credits(self.avg.saturating_mul(self.burst));
                b.cost = credits(self.avg);
                b.cap = b.credit;
            }
        }
        b
    }

    /// `rateinfo_recalc`
    fn refresh(&self, b: &mut Bucket, now: u64) {
        let delta = now.saturating_sub(b.prev);
        if delta == 0 {
            return;
        }
        if self.rate_match {
            let interval = self.interval * HZ;
            if delta >= interval {
                b.prev = now;
                b.over = b.current.saturating_mul(interval) > delta.saturating_mul(b.rate);
                b.current = 0;
            }
            return;
        }
        b.prev = now;
        let (gain, cap) = match self.bytes {
            true => (PER_JIFFY_BYTES, FULL_BYTES),
            false => (PER_JIFFY, b.cap),
        };
        b.credit = b.credit.saturating_add(delta.saturating_mul(gain)).min(cap);
    }

    /// Whether a packet of `len` bytes is within the limit.
    fn take(&self, b: &mut Bucket, len: u64) -> bool {
        if self.rate_match {
            b.current += if self.bytes { len } else { 1 };
            return !b.over && b.current <= b.burst;
        }
        let cost = match self.bytes {
            true => byte_cost(b, len),
            false => b.cost,
        };
        let enough = b.credit >= cost;
        b.credit -= if enough { cost } else { 0 };
        enough
    }
}

/// `hashlimit_byte_cost`
fn byte_cost(b: &mut Bucket, len: u64) -> u64 {
    let cost = ((len >> BYTE_SHIFT) + 1)
        .saturating_mul(b.cost)
        .min(FULL_BYTES);
    if b.credit < cost && b.cap > 0 {
        b.cap -= 1;
        b.credit = FULL_BYTES;
    }
    cost
}

/// The ports of protocols that have them (`proto_ports_offset`), else zeros; `None` if cut off.
fn ports(pkt: &Pkt, f: &Frame) -> Option<(u16, u16)> {
    const DCCP: u8 = 33;
    const ESP: u8 = 50;
    const AH: u8 = 51;
    const UDPLITE: u8 = 136;
    let at = match pkt.proto.ok()? {
        proto::TCP | proto::UDP | proto::SCTP | DCCP | ESP | UDPLITE => 0,
        AH => 4,
        _ => return Some((0, 0)),
    };
    let p = pkt.l4(f, at, 4)?;
    Some((
        u16::from_be_bytes([p[0], p[1]]),
        u16::from_be_bytes([p[2], p[3]]),
    ))
}

impl HashTable {
    /// When entries that had expired were last collected.
    fn collected(&self, now: u64) -> u64 {
        self.made + now.saturating_sub(self.made) / self.cfg.gc * self.cfg.gc
    }
}

impl Env<'_, '_> {
    /// `hashlimit_mt`
    pub fn hashlimit(&mut self, f: &Frame, m: &Hashlimit) -> Answer {
        let (Some(name), Some(rate)) = (&m.name, m.rate) else {
            return Answer::Unknown;
        };
        let now = jiffies(self.cx.now);
        let tables = &mut self.nf.state.hashlimit;
        let key = (self.pkt.family, name.0.clone());
        let table = tables.entry(key).or_insert_with(|| HashTable {
            cfg: Cfg::of(m, rate),
            made: now,
            buckets: HashMap::default(),
        });
        let cfg = table.cfg;
        let Some(dst) = cfg.dst(&self.pkt, f) else {
            return Answer::HotDrop;
        };
        let collected = table.collected(now);
        let stale = |b: &Bucket| b.expires <= collected;
        match table.buckets.get_mut(&dst).filter(|b| !stale(b)) {
            Some(b) => cfg.refresh(b, now),
            None => {
                if table.buckets.len() >= cfg.max {
                    table.buckets.retain(|_, b| !stale(b));
                }
                if table.buckets.len() >= cfg.max {
                    return Answer::HotDrop;
                }
                table.buckets.insert(dst, cfg.bucket(now));
            }
        }
        let Some(b) = table.buckets.get_mut(&dst) else {
            return Answer::HotDrop;
        };
        b.expires = now + cfg.expire;
        (cfg.take(b, self.pkt.len as u64) != rate.above).into()
    }
}
