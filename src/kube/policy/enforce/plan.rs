//! What enforcement needs to know: policies with their pods, peers and ports resolved to the cluster as it is.
//!
//! Selectors are already applied: a peer is a set of pods, named by the selector that chose them. The agents
//! ([`super::calico`], [`super::kube_router`], [`super::nftables`]) write what their kind of data plane makes
//! of it. Invariant: every index into [`Plan::pods`] is valid, and policies stand in the order in which their
//! tier asks them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::base::Origin;
use crate::kube::service::Protocol;
use crate::kube::store::Name;

/// A container's port that has a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A pod that has a network of its own and runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Namespace and name.
    pub name: Name,
    /// Where it runs.
    pub node: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its named ports, in the order of its containers.
    pub ports: Vec<NamedPort>,
    /// `spec.serviceAccountName`, `default` when absent.
    pub service_account: String,
}

impl Pod {
    /// Its address of one family.
    pub fn ip(&self, v6: bool) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| ip.is_ipv6() == v6)
    }
}

/// When a policy is asked (semantics: Admin tier, NetworkPolicy, Baseline tier).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// AdminNetworkPolicy, ClusterNetworkPolicy of tier Admin.
    Admin,
    /// NetworkPolicy: isolates the pods it selects.
    NetworkPolicy,
    /// BaselineAdminNetworkPolicy, ClusterNetworkPolicy of tier Baseline.
    Baseline,
}

impl Tier {
    /// All, in the order in which they are asked.
    pub const ALL: [Tier; 3] = [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Lets it through this direction.
    Accept,
    /// Forbids it.
    Deny,
    /// Leaves the tier.
    Pass,
}

/// One of a rule's peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Pods, and the selector that chose them as text: equal texts mean equal sets.
    Pods {
        /// The selector, namespaces' part included.
        selector: String,
        /// Indices into [`Plan::pods`].
        members: BTreeSet<usize>,
    },
    /// Addresses: in `cidr` and in none of `except`.
    Net {
        /// The block.
        cidr: IpNetwork,
        /// What it leaves out.
        except: Vec<IpNetwork>,
        /// Whether pods' addresses are among them; an option says so.
        pods: bool,
    },
    /// A peer of a kind that nobody knows: matches nothing.
    Nobody,
}

/// One of a rule's ports.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Port {
    /// A range of one protocol, both ends included; all ports of it when `None`.
    Numbers(Protocol, Option<(u16, u16)>),
    /// The containers' ports of this name, of one protocol or of whichever the container says.
    Named(String, Option<Protocol>),
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// The other side; `None`: everybody.
    pub peers: Option<Vec<Peer>>,
    /// Where to; `None`: all ports and protocols.
    pub ports: Option<Vec<Port>>,
    /// Where it stands.
    pub origin: Origin,
}

/// One policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// `NetworkPolicy`, `AdminNetworkPolicy`...
    pub kind: &'static str,
    /// Its name; the namespace is empty for kinds without.
    pub name: Name,
    /// When it is asked.
    pub tier: Tier,
    /// The pods it selects.
    pub subject: BTreeSet<usize>,
    /// Rules for what comes to them; `None` where the policy has nothing to say of that direction.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for what they send.
    pub egress: Option<Vec<Rule>>,
    /// Where it stands.
    pub origin: Origin,
}

impl Policy {
    /// Its rules of a direction.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Which side of a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// What comes to it.
    Ingress,
    /// What it sends.
    Egress,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Pods by name.
    pub pods: Vec<Pod>,
    /// Policies by tier, then in the order in which they are asked.
    pub policies: Vec<Policy>,
}

impl Plan {
    /// The policies of a tier that say something of one direction of a pod, in order.
    pub fn of_pod(
        &self,
        pod: usize,
        tier: Tier,
        direction: Direction,
    ) -> impl Iterator<Item = &Policy> {
        self.policies.iter().filter(move |p| {
            p.tier == tier && p.subject.contains(&pod) && p.rules(direction).is_some()
        })
    }

    /// Pods of a node, with their index.
    pub fn on_node<'p>(&'p self, node: &'p str) -> impl Iterator<Item = (usize, &'p Pod)> {
        let all = self.pods.iter().enumerate();
        all.filter(move |(_, p)| p.node == node)
    }
}
