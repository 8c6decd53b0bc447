//! Connections that a helper has announced (kernel: nf_conntrack_expect.c).
//!
//! Invariant: an expectation dies with its master and is used up by the connection it stood for.

use super::conn::Zones;
use super::tuple::{CtTuple, Dir};
use crate::base::Instant;
use crate::wire::ConnId;
use std::net::IpAddr;

/// What NAT needs to give an expected connection its master's mapping (kernel: the `saved_*` and
/// `dir` of `struct nf_conntrack_expect`, `nf_nat_follow_master`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectNat {
    /// The direction, seen from the expected connection, in which the master was mapped.
    pub dir: Dir,
    /// The address that the peer meant.
    pub addr: IpAddr,
    /// And the port.
    pub port: u16,
}

/// One announced connection (kernel: `struct nf_conntrack_expect`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// Its original tuple.
    pub tuple: CtTuple,
    /// Whether its source address must be the tuple's; the source port never must.
    pub from_source: bool,
    /// Zones of the master.
    pub zones: Zones,
    /// The connection that announced it.
    pub master: ConnId,
    /// The helper it gets itself.
    pub helper: Option<&'static str>,
    /// For NAT, if it has looked at the announcement.
    pub nat: Option<ExpectNat>,
    /// When it is forgotten.
    pub expires: Instant,
}

impl Expectation {
    fn matches(&self, t: &CtTuple, zones: Zones) -> bool {
        self.tuple.proto == t.proto
            && self.tuple.dst == t.dst
            && self.tuple.dport == t.dport
            && (!self.from_source || self.tuple.src == t.src)
            && self.zones == zones
    }
}

/// All of a namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Expects {
    list: Vec<Expectation>,
}

impl Expects {
    pub fn iter(&self) -> impl Iterator<Item = &Expectation> {
        self.list.iter()
    }

    /// Kernel: `__nf_ct_expect_check`. The same of the same master is replaced, a master's former one
    /// makes room (`max_expected` of the helpers' policy is 1).
    pub fn add(&mut self, e: Expectation, max: usize) -> bool {
        let clash = |o: &Expectation| {
            o.master != e.master
                && o.zones == e.zones
                && (o.tuple.proto, o.tuple.dst, o.tuple.dport)
                    == (e.tuple.proto, e.tuple.dst, e.tuple.dport)
                && (o.tuple.src == e.tuple.src || !o.from_source || !e.from_source)
        };
        if self.list.iter().any(clash) {
            return false;
        }
        self.list.retain(|o| o.master != e.master);
        if self.list.len() >= max.min(crate::base::limits::CT_EXPECT_MAX) {
            return false;
        }
        self.list.push(e);
        true
    }

    /// The expectation that a new connection fulfils; it is used up (kernel: `nf_ct_find_expectation`).
    pub fn take_match(
        &mut self,
        t: &CtTuple,
        zones: Zones,
        now: Instant,
        alive: impl Fn(ConnId) -> bool,
    ) -> Option<Expectation> {
        let open = |e: &Expectation| e.expires > now && e.matches(t, zones);
        let at = self.list.iter().position(open)?;
        // Who has not left this machine yet cannot have told anyone.
        alive(self.list.get(at)?.master).then(|| self.list.remove(at))
    }

    pub fn remove_of(&mut self, master: ConnId) {
        self.list.retain(|e| e.master != master);
    }

    pub fn expire(&mut self, now: Instant) {
        self.list.retain(|e| e.expires > now);
    }
}
