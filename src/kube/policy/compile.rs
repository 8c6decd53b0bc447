//! Policies compiled: for each identity and direction a [`Filter`], the rules that concern it in order,
//! with peers as sets of identities, address ranges and nodes.
//!
//! Built from [`Policies`] and an [`Inventory`], kept up to date by [`super::update`], asked by
//! [`super::filter`] (packets) and [`super::matrix`] (all pairs). Rules are shared between identities
//! unless what they mean depends on the subject (`sameLabels`, port names of an ingress rule). Invariant:
//! after any sequence of updates it answers as one built anew.

use core::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Policies;
use super::bits::BitSet;
use super::identity::{Identities, Identity, IdentityId, Map, Scope, SetId, SetKey, Sets};
use super::model::{
    Action, Direction, DomainName, PeerKind, Peers, Policy, PolicyKey, PortKind, Ports, Rule,
    Subject, Tier,
};
use super::pods::{Inventory, Owner};
use super::ranges::Ranges;
use super::selector::Labels;
use super::verdict::{Options, RuleRef};
use crate::base::Origin;
use crate::kube::service::Protocol;
use crate::kube::store::Name;

/// A rule, ready to be asked.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its policy.
    pub policy: Arc<PolicyKey>,
    /// Its tier.
    pub tier: Tier,
    /// Its list.
    pub direction: Direction,
    /// Its place in the list.
    pub index: usize,
    /// Its own name; may be empty.
    pub name: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Set when one of its peers has no known field, so that the rule does what is safe.
    pub failed_closed: bool,
    /// Where it stands.
    pub origin: Origin,
    /// Whom it means.
    pub peers: EntryPeers,
    /// Which ports.
    pub ports: EntryPorts,
    relative: Vec<Subject>,
}

impl Entry {
    /// The rule by name.
    pub fn reference(&self) -> RuleRef {
        RuleRef {
            policy: PolicyKey::clone(&self.policy),
            tier: self.tier,
            direction: self.direction,
            index: self.index,
            name: self.name.to_string(),
            action: self.action,
            failed_closed: self.failed_closed,
            origin: self.origin.clone(),
        }
    }
}

/// Whom a rule means: any of these.
#[derive(Clone, Debug, Default)]
pub struct EntryPeers {
    /// Everybody.
    pub any: bool,
    /// Pods.
    pub sets: Vec<SetId>,
    /// Addresses.
    pub blocks: Ranges,
    /// Nodes, by [`NodeId`].
    pub nodes: BitSet,
    /// Names.
    pub domains: Vec<DomainName>,
}

/// Which ports a rule means: any of these.
#[derive(Clone, Debug, Default)]
pub struct EntryPorts {
    /// All, protocols without ports included.
    pub all: bool,
    /// From the first to the last.
    pub ranges: Vec<(Protocol, u16, u16)>,
    /// Port names of the destination; those of an ingress rule are numbers already.
    pub named: Vec<(String, Option<Protocol>)>,
}

/// The number of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// What one direction of an identity is asked, in this order: `admin`, then `allows` if `isolating` has
/// any, else `baseline`.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Rules of the Admin tier.
    pub admin: Vec<Arc<Entry>>,
    /// The NetworkPolicies that isolate it.
    pub isolating: Vec<Arc<PolicyKey>>,
    /// Their rules.
    pub allows: Vec<Arc<Entry>>,
    /// Rules of the Baseline tier.
    pub baseline: Vec<Arc<Entry>>,
    /// Whether a NetworkPolicy selects it at all, be it for the other direction.
    pub selected: bool,
    own_sets: Vec<SetId>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct CompiledPod {
    /// Its name.
    pub name: Arc<Name>,
    /// Its identity.
    pub identity: IdentityId,
    /// Its node.
    pub node: NodeId,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    Pod {
        identity: IdentityId,
        node: NodeId,
        serial: u32,
    },
    Node(NodeId),
}

/// A policy in compiled form.
#[derive(Clone, Debug)]
pub(super) struct CompiledPolicy {
    key: Arc<PolicyKey>,
    subject: SetId,
    rules: [Option<Vec<Arc<Entry>>>; 2],
    sets: Vec<SetId>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub(super) options: Options,
    pub(super) identities: Identities,
    pub(super) sets: Sets,
    pub(super) policies: BTreeMap<Rank, CompiledPolicy>,
    pub(super) filters: Vec<[Filter; 2]>,
    pub(super) pods: BTreeMap<Arc<Name>, (CompiledPod, u32)>,
    pub(super) holders: Map<IpAddr, Holder>,
    pub(super) nodes: Map<String, NodeId>,
    pub(super) node_names: Vec<Arc<str>>,
    pub(super) node_labels: Vec<Labels>,
    pub(super) next_serial: u32,
}

/// The order of policies: as in [`Policies`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rank {
    pub(super) tier: Tier,
    pub(super) priority: i32,
    pub(super) key: Arc<PolicyKey>,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |r: &Rank| (r.tier, r.priority);
        let name = |r: &Rank| r.key.kind;
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.key.name.cmp(&other.key.name))
            .then_with(|| name(self).cmp(&name(other)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Compiled {
    /// Compiles everything.
    pub fn new(policies: &Policies, inventory: &Inventory, options: Options) -> Compiled {
        let mut compiled = Compiled {
            options,
            identities: Identities::default(),
            sets: Sets::default(),
            policies: BTreeMap::new(),
            filters: Vec::new(),
            pods: BTreeMap::new(),
            holders: Map::default(),
            nodes: Map::default(),
            node_names: Vec::new(),
            node_labels: Vec::new(),
            next_serial: 0,
        };
        for (name, node) in inventory.nodes() {
            let id = compiled.node_id(name);
            if let Some(labels) = compiled.node_labels.get_mut(id.0 as usize) {
                labels.clone_from(&node.labels);
            }
            for ip in &node.addresses {
                compiled.holders.insert(*ip, Holder::Node(id));
            }
        }
        for pod in inventory.pods().filter(|pod| pod.is_selectable()) {
            let (identity, _) = compiled.identities.acquire(Identity::of(pod));
            compiled.hold(inventory, &pod.name, identity);
        }
        for policy in policies.iter() {
            compiled.add_policy(policy);
        }
        for id in compiled
            .identities
            .iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
        {
            compiled.make_filters(id);
        }
        compiled
    }

    pub(super) fn node_id(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.nodes.get(name) {
            return *id;
        }
        let id = NodeId(u32::try_from(self.node_names.len()).unwrap_or(u32::MAX));
        self.nodes.insert(name.to_owned(), id);
        self.node_names.push(name.into());
        self.node_labels.push(Labels::new());
        id
    }

    /// Remembers a pod and takes the addresses that the inventory says are its own.
    pub(super) fn hold(&mut self, inventory: &Inventory, name: &Name, identity: IdentityId) {
        let Some(pod) = inventory.pod(name) else {
            return;
        };
        let node = self.node_id(&pod.node);
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let name = Arc::new(name.clone());
        for ip in &pod.addresses {
            if matches!(inventory.owner(*ip), Owner::Pod(owner) if owner.name == *name) {
                let holder = Holder::Pod {
                    identity,
                    node,
                    serial,
                };
                self.holders.insert(*ip, holder);
            }
        }
        let pod = CompiledPod {
            name: name.clone(),
            identity,
            node,
            addresses: pod.addresses.clone(),
        };
        self.pods.insert(name, (pod, serial));
    }

    /// Compiles a policy's rules; filters are not touched.
    pub(super) fn add_policy(&mut self, policy: &Policy) {
        let key = Arc::new(policy.key.clone());
        let nobody = Labels::new();
        let subject = SetKey {
            scope: Scope::of(&policy.subject.namespaces, &nobody),
            pods: policy.subject.pods.clone(),
        };
        let subject = self.sets.acquire(subject, &self.identities);
        let mut sets = vec![subject];
        let rules = [Direction::Egress, Direction::Ingress].map(|direction| {
            let rules = policy.rules(direction)?.iter();
            let entry = |r| Arc::new(self.entry(policy, &key, direction, r, &mut sets));
            Some(rules.map(entry).collect())
        });
        let rank = Rank {
            tier: policy.tier,
            priority: policy.priority,
            key: key.clone(),
        };
        let compiled = CompiledPolicy {
            key,
            subject,
            rules,
            sets,
        };
        self.policies.insert(rank, compiled);
    }

    /// Forgets a policy's rules; filters are not touched. The identities that it was about.
    pub(super) fn drop_policy(&mut self, rank: &Rank) -> BitSet {
        let Some(policy) = self.policies.remove(rank) else {
            return BitSet::new();
        };
        let about = self.sets.get(policy.subject).cloned().unwrap_or_default();
        policy
            .sets
            .into_iter()
            .for_each(|set| self.sets.release(set));
        about
    }

    /// The identities that a policy is about.
    pub(super) fn subject(&self, rank: &Rank) -> BitSet {
        let set = self
            .policies
            .get(rank)
            .and_then(|p| self.sets.get(p.subject));
        set.cloned().unwrap_or_default()
    }

    fn entry(
        &mut self,
        policy: &Policy,
        key: &Arc<PolicyKey>,
        direction: Direction,
        rule: &Rule,
        sets: &mut Vec<SetId>,
    ) -> Entry {
        let mut peers = EntryPeers {
            any: matches!(rule.peers, Peers::Any),
            ..EntryPeers::default()
        };
        let (mut blocks, mut relative) = (Vec::new(), Vec::new());
        for peer in rule.peers.list() {
            match &peer.who {
                PeerKind::Pods(pods) if Scope::is_relative(&pods.namespaces) => {
                    relative.push(pods.clone());
                }
                PeerKind::Pods(pods) => {
                    let scope = Scope::of(&pods.namespaces, &Labels::new());
                    let pods = pods.pods.clone();
                    let set = self.sets.acquire(SetKey { scope, pods }, &self.identities);
                    sets.push(set);
                    peers.sets.push(set);
                }
                PeerKind::Block(block) => blocks.push(block),
                PeerKind::Nodes(selector) => {
                    let nodes = (0..).zip(&self.node_labels);
                    let matching = nodes.filter(|(_, labels)| selector.matches(labels));
                    peers.nodes.or(&matching.map(|(id, _)| id).collect());
                }
                PeerKind::Domain(domain) => peers.domains.push(domain.clone()),
            }
        }
        peers.blocks = Ranges::of(blocks);
        Entry {
            policy: key.clone(),
            tier: policy.tier,
            direction,
            index: rule.index,
            name: rule.name.as_str().into(),
            action: rule.action,
            failed_closed: rule.failed_closed,
            origin: rule.origin.clone(),
            peers,
            ports: ports(&rule.ports),
            relative,
        }
    }

    /// Makes the filters of an identity anew.
    pub(super) fn make_filters(&mut self, id: IdentityId) {
        self.drop_filters(id);
        let Some(identity) = self.identities.get(id).cloned() else {
            return;
        };
        let at = id.0 as usize;
        if self.filters.len() <= at {
            self.filters.resize_with(at + 1, Default::default);
        }
        let filters = [0, 1].map(|side| {
            let mut filter = Filter::default();
            for policy in self.policies.values() {
                if !self.sets.has(policy.subject, id) {
                    continue;
                }
                let Some(first) = policy.rules.get(side) else {
                    continue;
                };
                let is_policy = policy.key.kind == super::model::Kind::NetworkPolicy;
                filter.selected |= is_policy;
                let Some(rules) = first else { continue };
                if is_policy {
                    filter.isolating.push(policy.key.clone());
                }
                for rule in rules {
                    let list = match rule.tier {
                        Tier::Admin => &mut filter.admin,
                        Tier::NetworkPolicy => &mut filter.allows,
                        Tier::Baseline => &mut filter.baseline,
                    };
                    let sets = (&mut self.sets, &self.identities);
                    list.push(special(rule, &identity, sets, &mut filter.own_sets));
                }
            }
            filter
        });
        if let Some(place) = self.filters.get_mut(at) {
            *place = filters;
        }
    }

    /// Forgets the filters of an identity.
    pub(super) fn drop_filters(&mut self, id: IdentityId) {
        let Some(place) = self.filters.get_mut(id.0 as usize) else {
            return;
        };
        for filter in core::mem::take(place) {
            filter
                .own_sets
                .into_iter()
                .for_each(|set| self.sets.release(set));
        }
    }

    /// The filter of an identity.
    pub fn filter(&self, id: IdentityId, direction: Direction) -> Option<&Filter> {
        let [egress, ingress] = self.filters.get(id.0 as usize)?;
        Some(match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        })
    }

    /// The identities.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The sets that rules mean.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// A pod that policies may select.
    pub fn pod(&self, name: &Name) -> Option<&CompiledPod> {
        self.pods.get(name).map(|(pod, _)| pod)
    }

    /// All pods that policies may select, by name.
    pub fn pods(&self) -> impl Iterator<Item = &CompiledPod> {
        self.pods.values().map(|(pod, _)| pod)
    }

    /// A node's name.
    pub fn node_name(&self, id: NodeId) -> &str {
        self.node_names.get(id.0 as usize).map_or("", |name| name)
    }
}

fn ports(ports: &Ports) -> EntryPorts {
    let mut out = EntryPorts {
        all: matches!(ports, Ports::All),
        ..EntryPorts::default()
    };
    for port in ports.list() {
        match &port.what {
            PortKind::Range {
                protocol,
                first,
                last,
            } => out.ranges.push((*protocol, *first, *last)),
            PortKind::Named { name, protocol } => out.named.push((name.clone(), *protocol)),
        }
    }
    out
}

/// The rule as it is for one identity: itself, unless something in it depends on the subject.
fn special(
    rule: &Arc<Entry>,
    identity: &Identity,
    (sets, identities): (&mut Sets, &Identities),
    own_sets: &mut Vec<SetId>,
) -> Arc<Entry> {
    let resolves = rule.direction == Direction::Ingress && !rule.ports.named.is_empty();
    if rule.relative.is_empty() && !resolves {
        return rule.clone();
    }
    let mut own = Entry::clone(rule);
    for pods in core::mem::take(&mut own.relative) {
        let scope = Scope::of(&pods.namespaces, &identity.namespace_labels);
        let key = SetKey {
            scope,
            pods: pods.pods,
        };
        let set = sets.acquire(key, identities);
        own_sets.push(set);
        own.peers.sets.push(set);
    }
    if resolves {
        for (name, protocol) in core::mem::take(&mut own.ports.named) {
            let fits = |p: &&super::pods::NamedPort| {
                p.name == name && protocol.is_none_or(|own| own == p.protocol)
            };
            let numbers = identity.ports.iter().filter(fits);
            let ranges = numbers.map(|p| (p.protocol, p.number, p.number));
            own.ports.ranges.extend(ranges);
        }
    }
    Arc::new(own)
}
