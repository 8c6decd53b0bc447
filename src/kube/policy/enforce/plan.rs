//! Policies with their selectors applied to the pods there are: what a node's agent needs to know.
//!
//! A peer is a set of pods named by the selector that chose them, or a block of addresses. The agents
//! ([`super::calico`], [`super::kube_router`], [`super::nftables`]) write what their data plane makes of it.
//! Nothing is judged here. Invariant: every index into [`Plan::pods`] is valid, and policies stand in the order
//! in which they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::base::Origin;
use crate::kube::policy::selector::Labels;
use crate::kube::policy::{
    Action, Block, Direction, Inventory, NamedPort, NamespaceScope, PeerKind, Peers, Policies,
    Policy, PolicyKey, PolicyPod, Ports, Subject, Tier,
};
use crate::kube::store::Name;

/// A pod that has a network of its own and runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Namespace and name.
    pub name: Name,
    /// Where it runs.
    pub node: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
}

impl Member {
    /// Its address of one family.
    pub fn ip(&self, v6: bool) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| ip.is_ipv6() == v6)
    }
}

/// One of a rule's peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Pods.
    Pods {
        /// The selector as text: equal texts mean equal sets.
        selector: String,
        /// Indices into [`Plan::pods`].
        members: BTreeSet<usize>,
    },
    /// Addresses.
    Block(Block),
}

/// One rule, resolved.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// Its place in the policy's list.
    pub index: usize,
    /// What it does.
    pub action: Action,
    /// The other side; `None`: everybody. An empty list matches nothing.
    pub peers: Option<Vec<Who>>,
    /// Where to.
    pub ports: Wanted,
    /// Where it stands.
    pub origin: Origin,
}

/// Ports of a rule by what they ask, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// All ports and protocols.
    All,
    /// These; an empty list matches nothing.
    These(BTreeSet<crate::kube::policy::PortKind>),
}

/// One policy, resolved.
#[derive(Clone, PartialEq, Debug)]
pub struct Resolved {
    /// Which it is.
    pub key: PolicyKey,
    /// Where its subject's pods are, when peers mean other pods for each of their namespaces; else empty.
    pub part: String,
    /// When it is asked.
    pub tier: Tier,
    /// The pods it is about.
    pub subject: BTreeSet<usize>,
    /// Rules by direction, egress first; `None`: nothing is said of it.
    rules: [Option<Vec<Line>>; 2],
    /// Where it stands.
    pub origin: Origin,
}

impl Resolved {
    /// Its rules of one direction.
    pub fn rules(&self, direction: Direction) -> Option<&[Line]> {
        self.rules[slot(direction)].as_deref()
    }

    /// `NetworkPolicy shop/web (web.yaml:3:1)`.
    pub fn said(&self) -> String {
        format!("{} ({})", self.key, self.origin)
    }
}

fn slot(direction: Direction) -> usize {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => 1,
    }
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Pods by name.
    pub pods: Vec<Member>,
    /// Policies in the order in which they are asked; those that select no pod are left out.
    pub policies: Vec<Resolved>,
}

impl Plan {
    /// Applies the policies' selectors to the pods.
    pub fn of(policies: &Policies, inventory: &Inventory) -> Plan {
        let all = inventory.pods();
        let pods: Vec<&PolicyPod> = all
            .filter(|p| p.is_selectable() && !p.addresses.is_empty())
            .collect();
        let mut made = Maker {
            pods: &pods,
            inventory,
            known: BTreeMap::new(),
        };
        let policies = policies.iter().flat_map(|p| made.policy(p)).collect();
        let member = |p: &&PolicyPod| Member {
            name: p.name.clone(),
            node: p.node.clone(),
            ips: p.addresses.clone(),
            ports: p.ports.clone(),
        };
        Plan {
            pods: pods.iter().map(member).collect(),
            policies,
        }
    }

    /// The policies of a tier that say something of one direction of a pod, in order.
    pub fn of_pod(
        &self,
        pod: usize,
        tier: Tier,
        direction: Direction,
    ) -> impl Iterator<Item = &Resolved> {
        self.policies.iter().filter(move |p| {
            p.tier == tier && p.subject.contains(&pod) && p.rules(direction).is_some()
        })
    }

    /// Pods of a node, with their index.
    pub fn on_node<'p>(&'p self, node: &'p str) -> impl Iterator<Item = (usize, &'p Member)> {
        let all = self.pods.iter().enumerate();
        all.filter(move |(_, p)| p.node == node)
    }

    /// Who has a port of this name, as address and port.
    pub fn named<'p>(
        &'p self,
        name: &'p str,
        v6: bool,
    ) -> impl Iterator<Item = (IpAddr, &'p NamedPort)> {
        self.pods.iter().flat_map(move |pod| {
            let ports = pod.ports.iter().filter(move |p| p.name == name);
            ports.filter_map(move |p| Some((pod.ip(v6)?, p)))
        })
    }
}

struct Maker<'a> {
    pods: &'a [&'a PolicyPod],
    inventory: &'a Inventory,
    known: BTreeMap<(Subject, Option<Arc<Labels>>), BTreeSet<usize>>,
}

impl Maker<'_> {
    /// A policy whose peers mean the same for all its pods, or one for each of their namespaces.
    fn policy(&mut self, p: &Policy) -> Vec<Resolved> {
        let subject = self.members(&p.subject, None);
        if subject.is_empty() {
            return Vec::new();
        }
        if !is_relative(p) {
            return vec![self.part(p, String::new(), subject, None)];
        }
        let mut parts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for pod in subject {
            if let Some(of) = self.pods.get(pod) {
                parts
                    .entry(of.name.namespace.clone())
                    .or_default()
                    .insert(pod);
            }
        }
        let mut out = Vec::new();
        for (namespace, subject) in parts {
            let first = subject.first().and_then(|i| self.pods.get(*i));
            let labels = first.map(|p| p.namespace_labels.clone());
            out.push(self.part(p, namespace, subject, labels));
        }
        out
    }

    fn part(
        &mut self,
        p: &Policy,
        part: String,
        subject: BTreeSet<usize>,
        relative_to: Option<Arc<Labels>>,
    ) -> Resolved {
        let mut lines = |direction| {
            let rules = p.rules(direction)?;
            let one = |r: &crate::kube::policy::Rule| Line {
                index: r.index,
                action: r.action,
                peers: self.peers(&r.peers, relative_to.as_ref()),
                ports: wanted(&r.ports),
                origin: r.origin.clone(),
            };
            Some(rules.iter().map(one).collect())
        };
        let rules = [lines(Direction::Egress), lines(Direction::Ingress)];
        Resolved {
            key: p.key.clone(),
            part,
            tier: p.tier,
            subject,
            rules,
            origin: p.origin.clone(),
        }
    }

    fn peers(&mut self, peers: &Peers, relative_to: Option<&Arc<Labels>>) -> Option<Vec<Who>> {
        let Peers::List(list) = peers else {
            return None;
        };
        let mut out = Vec::new();
        for peer in list {
            match &peer.who {
                PeerKind::Pods(subject) => {
                    let relative = subject.namespaces.is_relative();
                    let labels = relative_to.filter(|_| relative);
                    let members = self.members(subject, labels);
                    let selector = selector_text(subject, labels);
                    out.push(Who::Pods { selector, members });
                }
                PeerKind::Block(block) => out.push(Who::Block(block.clone())),
                PeerKind::Nodes(selector) => {
                    let nodes = self.inventory.nodes();
                    let mine = nodes.filter(|(_, n)| selector.matches(&n.labels));
                    out.extend(mine.flat_map(|(_, n)| &n.addresses).map(|ip| {
                        Who::Block(Block {
                            cidr: IpNetwork::from(*ip),
                            except: Vec::new(),
                        })
                    }));
                }
                // What names resolve to is not known to rules.
                PeerKind::Domain(_) => {}
            }
        }
        Some(out)
    }

    fn members(&mut self, subject: &Subject, relative_to: Option<&Arc<Labels>>) -> BTreeSet<usize> {
        let key = (subject.clone(), relative_to.cloned());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let none = Labels::new();
        let labels = relative_to.map_or(&none, |l| l);
        let all = self.pods.iter().enumerate();
        let mine = all.filter(|(_, p)| p.is_in(subject, labels));
        let mine: BTreeSet<usize> = mine.map(|(i, _)| i).collect();
        self.known.insert(key, mine.clone());
        mine
    }
}

impl NamespaceScope {
    /// Whether it means other namespaces for each namespace of the policy's subject.
    fn is_relative(&self) -> bool {
        matches!(
            self,
            NamespaceScope::SameLabels(_) | NamespaceScope::NotSameLabels(_)
        )
    }
}

fn is_relative(p: &Policy) -> bool {
    let rules = p.ingress.iter().chain(&p.egress).flatten();
    let mut peers = rules.flat_map(|r| r.peers.list());
    peers.any(|peer| matches!(&peer.who, PeerKind::Pods(s) if s.namespaces.is_relative()))
}

fn wanted(ports: &Ports) -> Wanted {
    match ports {
        Ports::All => Wanted::All,
        Ports::List(list) => Wanted::These(list.iter().map(|p| p.what.clone()).collect()),
    }
}

/// A name for a set of pods: as long as texts differ sets may.
fn selector_text(subject: &Subject, relative_to: Option<&Arc<Labels>>) -> String {
    let of = |keys: &[String]| -> String {
        let none = Labels::new();
        let labels = relative_to.map_or(&none, |l| l);
        let one = |k: &String| format!("{k}={:?}", labels.get(k));
        keys.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let namespaces = match &subject.namespaces {
        NamespaceScope::Own(name) => format!("projectcalico.org/namespace == {name:?}"),
        NamespaceScope::Matching(selector) => format!("namespaces {selector}"),
        NamespaceScope::SameLabels(keys) => format!("same {}", of(keys)),
        NamespaceScope::NotSameLabels(keys) => format!("not same {}", of(keys)),
    };
    format!("{namespaces} pods {}", subject.pods)
}
