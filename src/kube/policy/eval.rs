//! The reference evaluator: straight over objects, slow and obvious.
//!
//! The algorithm of the API texts: kubernetes `staging/src/k8s.io/api/networking/v1/types.go`,
//! kubernetes-sigs/network-policy-api `apis/v1alpha2` (tiers), website "Network Policies" (resident node,
//! own address, hostNetwork). It shares no step with [`super::compile`]: each is the other's judge.

use std::net::IpAddr;

use super::Policies;
use super::model::{Action, Direction, Peer, PeerKind, Peers, Policy, PortKind, Ports, Rule, Tier};
use super::pods::{Inventory, Owner, PolicyPod};
use super::verdict::{
    BaselineScope, BlockScope, Decision, Hairpin, L4, Options, Query, RuleRef, Side, Why,
};

/// What the evaluator looks at.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'e> {
    /// The policies.
    pub policies: &'e Policies,
    /// Pods, namespaces, nodes.
    pub inventory: &'e Inventory,
    /// The readings that differ.
    pub options: Options,
}

impl<'e> Evaluator<'e> {
    /// With the default readings.
    pub fn new(policies: &'e Policies, inventory: &'e Inventory) -> Self {
        Evaluator {
            policies,
            inventory,
            options: Options::default(),
        }
    }

    /// Whether a connection may open.
    pub fn decide(&self, query: &Query<'_>) -> Decision {
        let egress = self.side(query, Direction::Egress);
        let ingress = self.side(query, Direction::Ingress);
        Decision {
            allowed: egress.allowed && ingress.allowed,
            egress,
            ingress,
        }
    }

    /// The policies of a tier that are about a pod, in order.
    pub fn selecting(&self, pod: &PolicyPod, tier: Tier) -> Vec<&'e Policy> {
        let all = self.policies.tier(tier);
        all.filter(|p| pod.is_in(&p.subject, &pod.namespace_labels))
            .collect()
    }

    /// One end's answer.
    pub fn side(&self, query: &Query<'_>, direction: Direction) -> Side {
        let said = |allowed, why| Side {
            allowed,
            why,
            passed: Vec::new(),
        };
        let Owner::Pod(pod) = self.inventory.owner(query.own(direction)) else {
            return said(true, Why::NoPod);
        };
        match self.inventory.owner(query.peer(direction)) {
            Owner::Pod(peer)
                if peer.name == pod.name
                    && (!query.hairpin || self.options.hairpin == Hairpin::Open) =>
            {
                return said(true, Why::Itself);
            }
            Owner::Node(node) if node == pod.node && self.options.opens_own_node(direction) => {
                return said(true, Why::ResidentNode(node.to_owned()));
            }
            _ => {}
        }
        let mut passed = Vec::new();
        let (allowed, why) = self.tiers(query, direction, pod, &mut passed);
        Side {
            allowed,
            why,
            passed,
        }
    }

    fn tiers(
        &self,
        query: &Query<'_>,
        direction: Direction,
        pod: &PolicyPod,
        passed: &mut Vec<RuleRef>,
    ) -> (bool, Why) {
        if let Some(rule) = self.ordered(query, direction, pod, Tier::Admin, passed) {
            return (rule.action == Action::Accept, Why::Rule(rule));
        }
        let selecting = self.selecting(pod, Tier::NetworkPolicy);
        let mut isolating = Vec::new();
        for policy in &selecting {
            let Some(rules) = policy.rules(direction) else {
                continue;
            };
            isolating.push(policy.key.clone());
            if let Some(rule) = rules
                .iter()
                .find(|r| self.matches(query, direction, pod, r))
            {
                return (true, Why::Rule(RuleRef::of(policy, direction, rule)));
            }
        }
        if !isolating.is_empty() {
            return (false, Why::Isolated(isolating));
        }
        if self.options.baseline == BaselineScope::PerPod && !selecting.is_empty() {
            return (true, Why::Open);
        }
        if let Some(rule) = self.ordered(query, direction, pod, Tier::Baseline, passed) {
            return (rule.action == Action::Accept, Why::Rule(rule));
        }
        (true, Why::Open)
    }

    /// The first matching rule of an ordered tier, unless it passes.
    fn ordered(
        &self,
        query: &Query<'_>,
        direction: Direction,
        pod: &PolicyPod,
        tier: Tier,
        passed: &mut Vec<RuleRef>,
    ) -> Option<RuleRef> {
        for policy in self.selecting(pod, tier) {
            let mut rules = policy.rules(direction).unwrap_or_default().iter();
            if let Some(rule) = rules.find(|rule| self.matches(query, direction, pod, rule)) {
                let found = RuleRef::of(policy, direction, rule);
                if rule.action != Action::Pass {
                    return Some(found);
                }
                passed.push(found);
                return None;
            }
        }
        None
    }

    fn matches(
        &self,
        query: &Query<'_>,
        direction: Direction,
        pod: &PolicyPod,
        rule: &Rule,
    ) -> bool {
        let ports = match &rule.ports {
            Ports::All => true,
            Ports::List(ports) => ports
                .iter()
                .any(|port| self.port_matches(query, &port.what)),
        };
        let peers = match &rule.peers {
            Peers::Any => true,
            Peers::List(peers) => peers
                .iter()
                .any(|peer| self.peer_matches(query, direction, pod, peer)),
        };
        ports && peers
    }

    /// Whether a port entry means the packet's protocol and port.
    pub fn port_matches(&self, query: &Query<'_>, port: &PortKind) -> bool {
        let L4::Port(protocol, number) = query.l4 else {
            return false;
        };
        match port {
            PortKind::Range {
                protocol: own,
                first,
                last,
            } => *own == protocol && (*first..=*last).contains(&number),
            PortKind::Named {
                name,
                protocol: own,
            } => {
                let Owner::Pod(to) = self.inventory.owner(query.to) else {
                    return false;
                };
                let mut named = to.named(name, *own);
                named.any(|p| p.protocol == protocol && p.number == number)
            }
        }
    }

    /// Whether a peer entry means the other end of the packet. `pod` is the end that the rule is about.
    pub fn peer_matches(
        &self,
        query: &Query<'_>,
        direction: Direction,
        pod: &PolicyPod,
        peer: &Peer,
    ) -> bool {
        let ip = query.peer(direction);
        match (&peer.who, self.inventory.owner(ip)) {
            (PeerKind::Pods(pods), Owner::Pod(other)) => other.is_in(pods, &pod.namespace_labels),
            (PeerKind::Pods(_), Owner::Node(_) | Owner::Outside) => false,
            (PeerKind::Block(block), owner) => self.in_blocks_scope(owner) && block.contains(ip),
            (PeerKind::Nodes(selector), Owner::Node(node)) => {
                let mut nodes = self.inventory.nodes();
                nodes.any(|(name, n)| name == node && selector.matches(&n.labels))
            }
            (PeerKind::Nodes(_), Owner::Pod(_) | Owner::Outside) => false,
            (PeerKind::Domain(domain), _) => query.names.iter().any(|name| domain.covers(name)),
        }
    }

    fn in_blocks_scope(&self, owner: Owner<'_>) -> bool {
        match (self.options.blocks, owner) {
            (BlockScope::Every, _) | (_, Owner::Outside) => true,
            (BlockScope::NotPods, Owner::Node(_)) => true,
            (BlockScope::NotPods, Owner::Pod(_)) => false,
            (BlockScope::Outside, Owner::Pod(_) | Owner::Node(_)) => false,
        }
    }

    /// The pod at an address, if it has a network of its own.
    pub fn pod_at(&self, ip: IpAddr) -> Option<&'e PolicyPod> {
        match self.inventory.owner(ip) {
            Owner::Pod(pod) => Some(pod),
            _ => None,
        }
    }
}
