//! What is asked of policies and what they answer, with the reason.
//!
//! A [`Query`] is the opening packet as it passes the pod's node: after destination translation, before
//! source translation. The readings that differ between implementations are [`Options`], each with
//! podpath's default.

use core::fmt;
use std::net::IpAddr;

use super::model::{Action, Direction, Policy, PolicyKey, Rule, Tier};
use crate::base::Origin;
use crate::kube::service::Protocol;

/// The transport header of an opening packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum L4 {
    /// A protocol with ports, and the destination port.
    Port(Protocol, u16),
    /// ICMP and everything else: only rules without ports are about it. The API leaves it undefined.
    Other,
}

impl fmt::Display for L4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            L4::Port(protocol, port) => {
                write!(f, "{} {port}", protocol.to_string().to_ascii_uppercase())
            }
            L4::Other => f.write_str("a protocol without ports"),
        }
    }
}

/// One opening packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'q> {
    /// Who sends, before source translation.
    pub from: IpAddr,
    /// Who is meant, after destination translation.
    pub to: IpAddr,
    /// Protocol and port at the destination.
    pub l4: L4,
    /// Whether a Service led it back to the pod that sent it.
    pub hairpin: bool,
    /// Names that were resolved to the destination's address.
    pub names: &'q [&'q str],
}

impl Query<'_> {
    /// A packet straight to a port.
    pub fn new(from: IpAddr, to: IpAddr, l4: L4) -> Query<'static> {
        Query {
            from,
            to,
            l4,
            hairpin: false,
            names: &[],
        }
    }

    /// The other end, as the pod of a side sees it.
    pub fn peer(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Egress => self.to,
            Direction::Ingress => self.from,
        }
    }

    /// The end that a side is about.
    pub fn own(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Egress => self.from,
            Direction::Ingress => self.to,
        }
    }
}

/// A pod that reaches itself through a Service (network-policy-api issue 343).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hairpin {
    /// Judged like any other packet, as the forward hook sees it.
    #[default]
    Judged,
    /// Open, as the pod's own address (Antrea, Cilium).
    Open,
}

/// Which addresses an ipBlock or one of `networks` is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockScope {
    /// Every address a packet carries (kubernetes e2e: `should ... except`, pod addresses).
    #[default]
    Every,
    /// All but pods' addresses.
    NotPods,
    /// Only addresses outside the cluster: neither pods' nor nodes'.
    Outside,
}

/// When NetworkPolicies keep Baseline rules away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BaselineScope {
    /// When one isolates the pod in this direction (KEP-2091, kubernetes/enhancements pull 4688).
    #[default]
    PerDirection,
    /// When one selects the pod at all (the field's comment; kube-network-policies).
    PerPod,
}

/// What a pod sends to the node that it runs on. What comes from there is always open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnNode {
    /// Open (website, "Network Policies": the resident node is never blocked).
    #[default]
    Open,
    /// Judged like any other packet (Calico, kube-network-policies).
    Judged,
}

/// The readings that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// See [`Hairpin`].
    pub hairpin: Hairpin,
    /// See [`BlockScope`].
    pub blocks: BlockScope,
    /// See [`BaselineScope`].
    pub baseline: BaselineScope,
    /// See [`OwnNode`].
    pub own_node: OwnNode,
}

impl Options {
    /// Whether traffic of a direction between a pod and its own node is open.
    pub fn opens_own_node(&self, direction: Direction) -> bool {
        direction == Direction::Ingress || self.own_node == OwnNode::Open
    }
}

/// A rule, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleRef {
    /// Its policy.
    pub policy: PolicyKey,
    /// Its tier.
    pub tier: Tier,
    /// Its list.
    pub direction: Direction,
    /// Its place in the list.
    pub index: usize,
    /// Its own name; may be empty.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Set when one of its peers has no known field, so that the rule does what is safe.
    pub failed_closed: bool,
    /// Where it stands.
    pub origin: Origin,
}

impl RuleRef {
    /// A policy's rule.
    pub fn of(policy: &Policy, direction: Direction, rule: &Rule) -> RuleRef {
        RuleRef {
            policy: policy.key.clone(),
            tier: policy.tier,
            direction,
            index: rule.index,
            name: rule.name.clone(),
            action: rule.action,
            failed_closed: rule.failed_closed,
            origin: rule.origin.clone(),
        }
    }
}

impl fmt::Display for RuleRef {
    /// `NetworkPolicy shop/web ingress[0]`, with the rule's own name in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)?;
        match self.name.as_str() {
            "" => Ok(()),
            name => write!(f, " {name:?}"),
        }
    }
}

/// Why a side is as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// No pod with a network of its own is at this end: nothing to ask.
    NoPod,
    /// The pod speaks to itself.
    Itself,
    /// The other end is the node on which the pod runs.
    ResidentNode(String),
    /// This rule decided.
    Rule(RuleRef),
    /// These NetworkPolicies isolate the pod, and none of their rules matches.
    Isolated(Vec<PolicyKey>),
    /// Nothing decided, and nothing isolates the pod.
    Open,
}

/// The answer of one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Side {
    /// Whether the packet may go.
    pub allowed: bool,
    /// Why.
    pub why: Why,
    /// Rules that passed it to the next tier on the way.
    pub passed: Vec<RuleRef>,
}

/// The answer to a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Whether both sides let it go.
    pub allowed: bool,
    /// The sender's side.
    pub egress: Side,
    /// The receiver's side.
    pub ingress: Side,
}
