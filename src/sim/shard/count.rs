//! What a world has counted, and what several replicas of it have counted together.
//!
//! Devices, rules and policies of iptables, the namespace's own and conntrack's; not native nftables. Reads
//! only. Invariant: of replicas that began equal, the sum is what one world would have
//! counted, as long as each frame was carried by one of them.

use crate::base::{DevId, NsId};
use crate::nf::{Backend, Counters, Family, RuleSet, TableName};
use crate::sim::World;
use std::collections::BTreeMap;

/// What counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Counter {
    /// A device: packets and bytes received, packets dropped there; the same sent.
    Device(DevId, &'static str),
    /// A rule's packets and bytes; the rule behind the last is the chain's policy.
    Rule(Family, Backend, TableName, u32, u32, &'static str),
    /// Of the namespace, by the name it has in `nstat`.
    Namespace(&'static str),
    /// Of conntrack, by the name it has in `conntrack -S`.
    Conntrack(&'static str),
}

/// Every counter of a world that is not 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(BTreeMap<(NsId, Counter), u64>);

impl Counts {
    /// As they stand; what a fast path counted must have been written back.
    pub fn of(world: &World) -> Counts {
        let mut c = Counts::default();
        for ns in world.spaces() {
            c.devices(ns);
            c.namespace(ns);
            let Some(nf) = ns.nf() else { continue };
            for family in [Family::V4, Family::V6] {
                for backend in Backend::ALL {
                    if let Some(set) = nf.rule_set(family, backend) {
                        c.rules(ns.id, backend, &set);
                    }
                }
            }
        }
        c
    }

    fn add(&mut self, ns: NsId, what: Counter, n: u64) {
        if n > 0 {
            *self.0.entry((ns, what)).or_default() += n;
        }
    }

    fn devices(&mut self, ns: &crate::net::NetNs) {
        for d in ns.devices() {
            let s = &d.stats;
            let all = [
                ("rx_packets", s.rx_packets),
                ("rx_bytes", s.rx_bytes),
                ("rx_dropped", s.rx_dropped),
                ("tx_packets", s.tx_packets),
                ("tx_bytes", s.tx_bytes),
                ("tx_dropped", s.tx_dropped),
            ];
            for (name, n) in all {
                self.add(ns.id, Counter::Device(d.id, name), n);
            }
        }
    }

    fn namespace(&mut self, ns: &crate::net::NetNs) {
        let s = &ns.snmp;
        let all = [
            ("IpForwDatagrams", s.forwarded),
            ("IpInAddrErrors", s.in_addr_errors),
            ("IpExtInNoRoutes", s.in_no_routes),
            ("TcpExtIPReversePathFilter", s.rp_filter),
            ("IpInHdrErrors", s.in_hdr_errors),
            ("IpReasmOKs", s.reasm_ok),
            ("IpFragCreates", s.frag_creates),
        ];
        for (name, n) in all {
            self.add(ns.id, Counter::Namespace(name), n);
        }
        let Some(nf) = ns.nf() else { return };
        let s = nf.ct.stats();
        let all = [
            ("found", s.found),
            ("invalid", s.invalid),
            ("insert", s.insert),
            ("insert_failed", s.insert_failed),
            ("drop", s.drop),
            ("early_drop", s.early_drop),
            ("error", s.error),
            ("clash_resolve", s.clash_resolve),
        ];
        for (name, n) in all {
            self.add(ns.id, Counter::Conntrack(name), n);
        }
    }

    fn rules(&mut self, ns: NsId, backend: Backend, set: &RuleSet) {
        for table in &set.tables {
            for (c, chain) in table.chains.iter().enumerate() {
                let rules = chain.rules.iter().map(|r| r.counters);
                for (r, n) in rules.chain([chain.counters]).enumerate() {
                    let Counters { packets, bytes } = n;
                    let at = |what| {
                        Counter::Rule(set.family, backend, table.name, c as u32, r as u32, what)
                    };
                    self.add(ns, at("packets"), packets);
                    self.add(ns, at("bytes"), bytes);
                }
            }
        }
    }

    /// A counter.
    pub fn get(&self, ns: NsId, what: &Counter) -> u64 {
        self.0.get(&(ns, what.clone())).copied().unwrap_or(0)
    }

    /// All counters that are not 0, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NsId, &Counter, u64)> {
        self.0.iter().map(|((ns, what), n)| (*ns, what, *n))
    }

    /// Adds what somebody counted since it had counted `since`.
    pub fn add_since(&mut self, since: &Counts, now: &Counts) {
        for ((ns, what), n) in &now.0 {
            let before = since.get(*ns, what);
            self.add(*ns, what.clone(), n.saturating_sub(before));
        }
    }
}
