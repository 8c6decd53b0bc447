//! What each mode does with the first packet of a class, read off what it writes.
//!
//! Kernel order: mangle-less PREROUTING or OUTPUT with DNAT, then FORWARD, or INPUT; IPVS takes packets at
//! LOCAL_IN behind the filter rules and at LOCAL_OUT before them (net/netfilter/ipvs/ip_vs_core.c,
//! ip_vs_ops).
//! A packet that went through DNAT has a pod's address, which no rule of kube-proxy filters.

use std::net::IpAddr;
use std::sync::Arc;

use super::read;
use super::rules::{Chains, End, Ends};
use super::{Packet, Verdict};
use crate::kube::proxy::ipvs::{self, SetKind};
use crate::kube::proxy::{Settings, View, iptables, nftables};

/// The three modes of one family on one node.
#[derive(Debug)]
pub(super) struct Modes {
    iptables: Chains,
    nftables: Chains,
    layout: nftables::Layout,
    ipvs: Chains,
    wanted: ipvs::Desired,
    node_ip: IpAddr,
}

/// The settings of each mode, in this order.
pub(super) type PerMode<T> = [T; 3];

impl Modes {
    /// Writes and reads the rules; an error names the line that was not understood.
    pub fn new(view: &View, settings: &PerMode<Settings>) -> Result<Modes, String> {
        let [ipt, nft, ipv] = settings;
        let mut iptables = Chains::default();
        for jump in iptables::JUMPS.iter().rev() {
            let rule = format!("{} -j {}", jump.matches, jump.to);
            read::iptables_one(jump.table, jump.from, &rule, &mut iptables)?;
        }
        let text = super::super::text(view, ipt);
        read::iptables(&text, &|_| Default::default(), &mut iptables)?;
        let mut nftables = Chains::default();
        read::nft(&nftables::sync(view, nft), &mut nftables)?;
        let wanted = ipvs::Desired::of(view, ipv);
        let mut ipvs = Chains::default();
        for jump in ipvs::jumps().iter().rev() {
            if let Some(rule) = &jump.rule {
                read::iptables_one(jump.table, jump.chain, rule, &mut ipvs)?;
            }
        }
        let sets: Vec<_> = SetKind::ALL
            .map(|kind| {
                let entries = wanted.sets.get(&kind).cloned().unwrap_or_default();
                (
                    kind.name(ipv.family),
                    Arc::new(entries),
                    kind == SetKind::Ipvs,
                )
            })
            .into();
        let find = |name: &str| {
            let found = sets.iter().find(|(n, ..)| n == name);
            found.map_or_else(Default::default, |(_, set, ips)| (Arc::clone(set), *ips))
        };
        read::iptables(&wanted.rules(ipv), &find, &mut ipvs)?;
        Ok(Modes {
            iptables,
            nftables,
            layout: nft.layout,
            ipvs,
            wanted,
            node_ip: ipt.node_ip,
        })
    }

    /// iptables, nftables, IPVS.
    pub fn verdicts(&self, packet: &Packet) -> PerMode<Verdict> {
        [
            self.by_iptables(packet),
            self.by_nftables(packet),
            self.by_ipvs(packet),
        ]
    }

    fn by_iptables(&self, p: &Packet) -> Verdict {
        let mut verdict = Verdict::default();
        let (nat, filter) = match p.src_local {
            true => ("nat/OUTPUT", "filter/OUTPUT"),
            false => ("nat/PREROUTING", "filter/FORWARD"),
        };
        let hooks = |chains: &[&str], verdict: &mut Verdict| {
            let walks = chains.iter().map(|chain| self.iptables.walk(chain, p));
            take(walks, verdict)
        };
        let chains: &[&str] = match (p.src_local, p.dst_local) {
            (true, true) => &[nat, filter, "filter/INPUT"],
            (true, false) | (false, false) => &[nat, filter],
            (false, true) => &[nat, "filter/INPUT"],
        };
        if hooks(chains, &mut verdict) {
            verdict.untouched(p);
        }
        verdict
    }

    fn by_nftables(&self, p: &Packet) -> Verdict {
        let mut verdict = Verdict::default();
        let mut chains = Vec::new();
        let hooks: &[&str] = match (p.src_local, p.dst_local) {
            // Over lo it comes in again, by the filter chains only: DNAT was decided at the output hook.
            (true, true) => &["output", "input"],
            (true, false) => &["output"],
            (false, true) => &["prerouting", "input"],
            (false, false) => &["prerouting", "forward"],
        };
        for hook in hooks {
            let bases = self.layout.base_chains().iter();
            let mut of_hook: Vec<_> = bases.filter(|(_, _, at, _)| at == hook).collect();
            of_hook.sort_by_key(|(.., priority)| *priority);
            chains.extend(of_hook.into_iter().map(|(name, ..)| *name));
        }
        let walks = chains.iter().map(|chain| self.nftables.walk(chain, p));
        if take(walks, &mut verdict) {
            verdict.untouched(p);
        }
        verdict
    }

    fn by_ipvs(&self, p: &Packet) -> Verdict {
        let mut verdict = Verdict::default();
        let bound = self.wanted.addresses.contains(&p.dst);
        let mut p = *p;
        p.dst_local |= bound;
        if p.src_local && p.src == self.node_ip && bound {
            // A local address is asked from itself.
            p.src = p.dst;
        }
        let server = self.wanted.servers.get(&ipvs::Key {
            address: std::net::SocketAddr::new(p.dst, p.port),
            protocol: p.protocol,
        });
        let walk = |chain: &str| core::iter::once(self.ipvs.walk(chain, &p));
        let filter = match (p.src_local, p.dst_local) {
            (true, _) => "filter/OUTPUT",
            (false, true) => "filter/INPUT",
            (false, false) => "filter/FORWARD",
        };
        let server = server.filter(|_| p.dst_local);
        let empty = server.is_some_and(|server| server.real.is_empty());
        if p.src_local && empty {
            verdict.refused = true;
            return verdict;
        }
        // An own packet passes the filter behind IPVS, with its real server's address: `-m ipvs` knows it.
        if !take(walk(filter), &mut verdict) {
            return verdict;
        }
        match server {
            Some(_) if empty => verdict.refused = true,
            Some(server) => verdict.endpoints.extend(&server.real),
            None if p.src_local && p.dst_local => {
                if take(walk("filter/INPUT"), &mut verdict) {
                    verdict.untouched(&p);
                }
            }
            None => verdict.untouched(&p),
        }
        verdict
    }
}

/// Puts the ends of chains that follow each other together; whether the end of the last one is reached.
fn take(walks: impl Iterator<Item = Ends>, verdict: &mut Verdict) -> bool {
    for ends in walks {
        let mut passes = ends.falls;
        for end in ends.all {
            match end {
                End::Accept => passes = true,
                End::Drop => verdict.dropped = true,
                End::Reject => verdict.refused = true,
                End::Dnat(to) => {
                    verdict.endpoints.insert(to);
                }
            }
        }
        if !passes {
            return false;
        }
    }
    true
}
