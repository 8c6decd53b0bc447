//! What stateful matches remember: per rule in a [`Slot`], by name in [`State`].
//!
//! Time is virtual; what the kernel counts in jiffies is counted in jiffies here too. Invariant: every list
//! is bounded, by the kernel's own limit where it has one.

use super::hashlimit::HashTable;
use super::load::Names;
use super::recent::RecentList;
use crate::base::Instant;
use crate::nf::ct::CtTuple;
use crate::nf::matches::{Limit, LimitRate, Statistic};
use crate::nf::{Counters, Family};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Ticks per second (CONFIG_HZ of the distributions' server kernels).
pub const HZ: u64 = 250;
/// What `jiffies` is when the machine starts: five minutes before it wraps (INITIAL_JIFFIES), so that
/// nothing that happened at time zero seems long ago.
pub(super) const FIRST_JIFFY: u64 = 300 * HZ;

/// Jiffies at a point in time.
pub(super) fn jiffies(now: Instant) -> u64 {
    FIRST_JIFFY + now.as_nanos() / (1_000_000_000 / HZ)
}

/// State of one match of one rule.
#[derive(Clone, Debug)]
pub(in crate::nf) enum Slot {
    /// `-m limit` (kernel: `struct xt_limit_priv`; nft's `struct nft_limit_priv`).
    Limit {
        /// Credit left; `None` before the first packet, which finds it full.
        credit: Option<u64>,
        /// Jiffies (x_tables) or nanoseconds (nf_tables) when it was brought up to date.
        prev: u64,
    },
    /// `-m statistic --mode nth`: packets since the last that matched.
    Nth(u32),
    /// `-m connlimit`: connections by group.
    Connlimit(Vec<(IpAddr, u16, CtTuple)>),
}

impl Slot {
    pub fn limit(_: &Limit) -> Slot {
        Slot::Limit {
            credit: None,
            prev: 0,
        }
    }

    /// `--packet P` of `--every N`: the counter begins P steps before it wraps (libxt_statistic.c).
    pub fn nth(s: &Statistic) -> Slot {
        let every = s.every.map_or(1, |e| e.value).max(1) - 1;
        Slot::Nth(every.saturating_sub(s.packet.unwrap_or(0)))
    }
}

/// A rate of `-m limit` with its default.
pub(super) fn limit_cost(l: &Limit) -> u64 {
    l.rate.unwrap_or(LimitRate::DEFAULT).0
}

/// What is remembered by name, in the whole namespace.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Seconds since 1970 at the world's beginning, for `-m time`.
    pub epoch: u64,
    /// Counter objects of `-m nfacct`, made on first use.
    pub nfacct: BTreeMap<String, Counters>,
    pub(super) recent: BTreeMap<String, RecentList>,
    pub(super) hashlimit: BTreeMap<(Family, String), HashTable>,
}

impl State {
    /// Forgets lists that no rule names any more (`recent_mt_destroy`, `htable_put`).
    pub(super) fn keep(&mut self, names: &Names) {
        self.recent.retain(|n, _| names.recent.contains_key(n));
        for (name, ring) in &names.recent {
            let list = self.recent.entry(name.clone()).or_default();
            list.grow(*ring);
        }
        self.hashlimit
            .retain(|(_, n), _| names.hashlimit.contains(n));
    }

    /// A list of `-m recent` as /proc/net/xt_recent shows it; `None` if no rule names it.
    pub fn recent(&self, name: &str) -> Option<&RecentList> {
        self.recent.get(name)
    }
}
