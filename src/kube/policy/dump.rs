//! Compiled policies as text without numbers: what an update left and what is compiled anew can be compared.
//!
//! Everything that decides an answer is in it: whose addresses are, each identity's rules in order, whom
//! they mean. Invariant: two that print alike answer alike; the numbers of identities, sets and nodes do not
//! show, nor the order in which they were given.

use core::fmt::Write;
use std::collections::BTreeSet;

use super::bits::BitSet;
use super::compile::{Compiled, Entry, Filter, Holder};
use super::identity::{Identity, IdentityId};
use super::model::Direction;

impl Compiled {
    /// All of it, as text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.addresses(&mut out);
        let mut identities: Vec<(String, IdentityId)> = self
            .identities
            .iter()
            .map(|(id, identity)| (name(identity), id))
            .collect();
        identities.sort();
        for (name, id) in identities {
            let _ = writeln!(out, "identity {name}");
            for direction in Direction::ALL {
                if let Some(filter) = self.filter(id, direction) {
                    self.filter_text(&mut out, filter, direction);
                }
            }
        }
        let mut sets: Vec<String> = self.sets.ids().map(|id| self.set_text(id)).collect();
        sets.sort();
        for set in sets {
            let _ = writeln!(out, "set {set}");
        }
        for rank in self.policies.keys() {
            let _ = writeln!(out, "policy {} {} {}", rank.tier, rank.priority, rank.key);
        }
        out
    }

    fn addresses(&self, out: &mut String) {
        for (pod, _) in self.pods.values() {
            let identity = self.identities.get(pod.identity).map(name);
            let (node, ips) = (self.node_name(pod.node), &pod.addresses);
            let identity = identity.unwrap_or_default();
            let _ = writeln!(out, "pod {} on {node} {ips:?}: {identity}", pod.name);
        }
        let mut holders: Vec<_> = self.holders.iter().collect();
        holders.sort_by_key(|(ip, _)| **ip);
        for (ip, holder) in holders {
            let whose = match holder {
                Holder::Node(node) => format!("node {}", self.node_name(*node)),
                Holder::Pod { serial, .. } => {
                    let mut all = self.pods.values().filter(|(_, own)| own == serial);
                    let found = all.next().map(|(pod, _)| pod.name.to_string());
                    format!("pod {}", found.unwrap_or_default())
                }
            };
            let _ = writeln!(out, "address {ip}: {whose}");
        }
    }

    fn filter_text(&self, out: &mut String, filter: &Filter, direction: Direction) {
        let _ = writeln!(out, "  {direction}, selected: {}", filter.selected);
        for key in &filter.isolating {
            let _ = writeln!(out, "    isolated by {key}");
        }
        for rule in [&filter.admin, &filter.allows, &filter.baseline]
            .into_iter()
            .flatten()
        {
            let _ = writeln!(out, "    {}", self.rule_text(rule));
        }
    }

    fn rule_text(&self, rule: &Entry) -> String {
        let peers = &rule.peers;
        let sets: Vec<String> = peers.sets.iter().map(|id| self.set_text(*id)).collect();
        let node = |n: u32| self.node_name(super::compile::NodeId(n)).to_owned();
        let nodes: BTreeSet<String> = peers.nodes.iter().map(node).collect();
        format!(
            "{} {} {} closed {}: any {} sets {sets:?} blocks {:?} nodes {nodes:?} names {:?} ports {:?}",
            rule.reference(),
            rule.tier,
            rule.action,
            rule.failed_closed,
            peers.any,
            peers.blocks,
            peers.domains,
            rule.ports,
        )
    }

    fn set_text(&self, id: super::identity::SetId) -> String {
        let none = BitSet::new();
        let members = self.sets.get(id).unwrap_or(&none).iter();
        let named = |n| self.identities.get(IdentityId(n)).map(name);
        let members: BTreeSet<String> = members.map(|n| named(n).unwrap_or_default()).collect();
        format!("{:?}: {members:?}", self.sets.key(id))
    }
}

fn name(identity: &Identity) -> String {
    format!("{identity:?}")
}
