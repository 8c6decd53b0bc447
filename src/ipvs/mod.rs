//! IPVS: virtual services, real servers, schedulers, connections (kernel: net/netfilter/ipvs).
//!
//! Decides; it sends nothing: the walker carries out what [`Verdict`] says (`path::netfilter`). Not here:
//! the sync daemon, application helpers (ip_vs_ftp), persistence engines (kept as text). Invariant: the
//! namespace's `ipvs` is taken out while a packet is looked at, so it may read the namespace but no more.

mod bind;
mod carried;
pub mod conn;
mod hook;
mod icmp;
mod loaded;
mod sched;
mod schedule;
pub mod service;
mod state;
pub mod stats;
pub mod sysctl;
mod table;
pub mod text;
pub mod xmit;

pub use carried::Met;
pub use hook::{Order, Seen, Verdict};
pub use sched::Scheduler;
pub use service::{Dest, DestId, DestSpec, Forward, Mask, Service, ServiceSpec, Virtual};
pub use state::Timeouts;
pub use table::Refused;

use crate::base::Instant;
use crate::nf::ct::CtTuple;
use carried::Strangers;
use conn::Conns;
use core::time::Duration;
use stats::Stats;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How often the estimator looks (kernel: `estimation_timer`, from the namespace's birth on).
const ESTIMATE: Duration = Duration::from_secs(2);
/// Estimations that are caught up with at a time: more of silence leave no rate to speak of.
const CATCH_UP: u64 = 128;

/// IPVS in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Ipvs {
    services: BTreeMap<Virtual, Service>,
    dests: BTreeMap<DestId, Dest>,
    next_dest: u32,
    conns: Conns,
    /// What `ipvsadm --set` set.
    pub timeouts: Timeouts,
    total: Stats,
    dropped: Vec<CtTuple>,
    drop_counter: i32,
    estimated: Instant,
    /// How many choices were open so far, the last of them, and what is assumed of the next.
    open_choices: u32,
    last_open: Option<OpenChoice>,
    assumed: Option<SocketAddr>,
    /// What the packet at hand met.
    met: Met,
    strangers: Strangers,
}

/// A choice of a real server of which nobody knows how it ends, as after a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenChoice {
    /// How many such choices there were in this namespace before.
    pub number: u32,
    /// The service.
    pub at: Virtual,
    /// Of how many real servers.
    pub count: usize,
    /// The first of these ([`crate::base::limits::FORK_BRANCHES_MAX`]).
    pub of: Vec<SocketAddr>,
}

impl Ipvs {
    /// Services in the order of a listing.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// One service.
    pub fn service(&self, at: &Virtual) -> Option<&Service> {
        self.services.get(at)
    }

    /// A real server.
    pub fn dest(&self, id: DestId) -> Option<&Dest> {
        self.dests.get(&id)
    }

    /// A service's real servers in the kernel's order, the one added last first.
    pub fn dests_of<'a>(&'a self, svc: &'a Service) -> impl Iterator<Item = &'a Dest> {
        svc.dests.iter().filter_map(|id| self.dests.get(id))
    }

    /// Of how many real servers of a service it is not known which is next, as after a dump; 0 where it is.
    pub fn undecided(&self, svc: &Service) -> usize {
        match svc.order_unknown {
            true => sched::open(svc, &self.dests).len(),
            false => 0,
        }
    }

    /// The number of the next open choice.
    pub fn next_open(&self) -> u32 {
        self.open_choices
    }

    /// Which real server the next open choice falls on, if it may; nothing: the dump's order decides.
    pub fn assume(&mut self, server: Option<SocketAddr>) {
        self.assumed = server;
    }

    /// The open choice that the packet before led to.
    pub fn take_open(&mut self) -> Option<OpenChoice> {
        self.last_open.take()
    }

    /// Connections and templates.
    pub fn conns(&self) -> &Conns {
        &self.conns
    }

    /// Counters over all services.
    pub fn total(&self) -> &Stats {
        &self.total
    }

    /// Whether the hooks are there (kernel: `ip_vs_register_hooks`, with a family's first service).
    pub fn hooked(&self, v6: bool) -> bool {
        self.services.keys().any(|v| v.is_v6() == v6)
    }

    /// conntrack entries that go because their connections went (`ip_vs_conn_drop_conntrack`).
    pub fn take_dropped(&mut self) -> Vec<CtTuple> {
        core::mem::take(&mut self.dropped)
    }

    fn estimate(&mut self, now: Instant) {
        let passed = (now.since(self.estimated).as_nanos() / ESTIMATE.as_nanos()) as u64;
        if passed == 0 {
            return;
        }
        self.estimated += Duration::from_secs(ESTIMATE.as_secs().saturating_mul(passed));
        for _ in 0..passed.min(CATCH_UP) {
            self.total.estimate();
            self.services.values_mut().for_each(|s| s.stats.estimate());
            self.dests.values_mut().for_each(|d| d.stats.estimate());
        }
    }
}

#[cfg(test)]
mod tests;
