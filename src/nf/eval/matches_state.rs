//! Matches that remember: `statistic`, `limit`, `nfacct`.
//!
//! As xt_statistic.c, xt_limit.c (and nft_limit.c, into which iptables-nft turns `-m limit`),
//! xt_nfacct.c. Invariant: credit never exceeds its cap.

use super::chain::{Answer, Env};
use super::state::{HZ, Slot, jiffies, limit_cost};
use crate::nf::TableName;
use crate::nf::ct::Dir;
use crate::nf::matches::{Limit, Nfacct, Statistic, StatisticMode};
use crate::nf::netfilter::Backend;
use crate::wire::Frame;

/// uapi xt_limit.h: a rate's unit is a ten-thousandth of a second.
const SCALE: u64 = 10_000;
/// `CREDITS_PER_JIFFY`: the largest power of two at which a day's credit fits 32 bits.
const CREDITS_PER_JIFFY: u64 = {
    let most = 0xffff_ffff / (HZ * 60 * 60 * 24);
    1 << (63 - most.leading_zeros())
};

/// xt_limit.c `user2credits`
fn credits(user: u64) -> u64 {
    let user = user & 0xffff_ffff;
    match user > 0xffff_ffff / (HZ * CREDITS_PER_JIFFY) {
        true => user / SCALE * HZ * CREDITS_PER_JIFFY,
        false => user * HZ * CREDITS_PER_JIFFY / SCALE,
    }
}

impl Env<'_, '_> {
    /// `statistic_mt`
    pub fn statistic(&mut self, f: &Frame, m: &Statistic, slot: Option<&mut Slot>) -> Answer {
        match (m.mode, m.probability, slot) {
            (Some(StatisticMode::Random), Some(p), _) => self.random(f, p.value.0, p.not),
            (Some(StatisticMode::Nth), _, Some(Slot::Nth(count))) => {
                let (every, not) = m.every.map_or((1, false), |e| (e.value.max(1), e.not));
                *count = if *count >= every - 1 { 0 } else { *count + 1 };
                ((*count == 0) != not).into()
            }
            _ => Answer::Unknown,
        }
    }

    /// The same of `--mode random`.
    pub(super) fn random(&mut self, f: &Frame, chance: u32, not: bool) -> Answer {
        self.chance = Some(match not {
            true => (1 << 31) - chance.min(1 << 31),
            false => chance,
        });
        (self.decide_random(f, chance) != not).into()
    }

    /// Draws as the kernel does: 31 random bits below the chance. A replay may have decided already.
    fn decide_random(&mut self, f: &Frame, chance: u32) -> bool {
        match chance {
            0 => return false,
            // 31 bits are always below it.
            0x8000_0000.. => return true,
            _ => {}
        }
        if let Some(decided) = self.forced_random(f) {
            return decided;
        }
        (self.cx.rng.next_u64() as u32 & 0x7fff_ffff) < chance
    }

    /// What is decided of a random rule beforehand.
    fn forced_random(&self, f: &Frame) -> Option<bool> {
        // The rule's text lies far from what is run.
        if self.nf.forced.is_empty() {
            return None;
        }
        let orig = match self.conn(f) {
            Some((c, _)) => c.tuple(Dir::Original),
            None => self.packet_tuple(f),
        };
        let at = &self.rule;
        let loaded = self.nf.loaded(at.family, at.backend);
        let table = loaded.and_then(|l| l.set().table(at.table));
        let both = table.zip(self.nf.rule(at));
        let (table, rule) = both.filter(|_| at.table == TableName::Nat)?;
        self.nf.forced.random_rule(&orig, table, rule)
    }

    /// `limit_mt`, or `nft_limit_pkts_eval` in the nft back end.
    pub fn limit(&mut self, m: &Limit, slot: Option<&mut Slot>) -> bool {
        let Some(Slot::Limit { credit, prev }) = slot else {
            return false;
        };
        let burst = u64::from(m.burst.unwrap_or(5));
        let (now, cost, cap, per_tick) = match self.rule.backend {
            Backend::Legacy => (
                jiffies(self.cx.now),
                credits(limit_cost(m)),
                credits(limit_cost(m).saturating_mul(burst)),
                CREDITS_PER_JIFFY,
            ),
            Backend::Nft => {
                let cost = limit_cost(m).saturating_mul(1_000_000_000 / SCALE);
                (self.cx.now.as_nanos(), cost, cost.saturating_mul(burst), 1)
            }
        };
        let gained = now.saturating_sub(*prev).saturating_mul(per_tick);
        let have = credit.map_or(cap, |c| c.saturating_add(gained).min(cap));
        *prev = now;
        let enough = have >= cost;
        *credit = Some(if enough { have - cost } else { have });
        enough
    }

    /// `nfacct_mt`: counts and goes on; objects here have no quota.
    pub fn nfacct(&mut self, m: &Nfacct) -> bool {
        if let Some(name) = &m.name {
            let bytes = self.pkt.len as u64;
            let all = &mut self.nf.state.nfacct;
            if !all.contains_key(&name.0) {
                all.insert(name.0.clone(), Default::default());
            }
            if let Some(c) = all.get_mut(&name.0) {
                c.packets += 1;
                c.bytes += bytes;
            }
        }
        true
    }
}
