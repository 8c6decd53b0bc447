//! How policies are enforced on a node: the rules that the real agents write.
//!
//! [`plan`] applies selectors, [`layout`] is what an agent wants on a node and how it gets there; [`calico`],
//! [`kube_router`] and [`nftables`] write it as Felix, kube-router and kube-network-policies do. Pure: same
//! plan, same layout; `cluster` carries it out.

pub mod calico;
mod calico_rules;
pub mod kube_router;
pub mod layout;
pub mod nftables;
pub mod plan;

pub use layout::{Filter, HookRule, Layout, RuleLine, SetText};
pub use plan::{Line, Member, Plan, Resolved, Wanted, Who};

use crate::kube::podpath_v1alpha1::{Deny, Enforcement, Existing, NetworkPolicySpec, Reach};

/// Where implementations differ, decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What becomes of what is not allowed.
    pub deny: Deny,
    /// Whether an ipBlock covers pods' addresses.
    pub block_pods: bool,
    /// Connections that were there before an edit that forbids them.
    pub existing: Existing,
    /// Pods and their own node.
    pub own_node: Reach,
    /// A pod that reaches itself through a Service.
    pub hairpin: Reach,
}

impl Options {
    /// What the agent does in reality, except where the document says otherwise.
    ///
    /// Calico: FilterDenyAction is DROP (felix/rules/rule_defs.go), nets are matched against any address,
    /// established connections are accepted first, pods' packets to their node meet egress policies
    /// (`cali-wl-to-host`), a hairpin is a forward like any other. kube-router: REJECT
    /// (pkg/controllers/netpol/ pod.go), else the same; what comes from the node itself is accepted.
    /// kube-network-policies: drops, judges known connections again (pkg/dataplane/controller.go,
    /// `firewallEnforcer`), queues pods' packets to their node.
    pub fn of(enforcement: Enforcement, spec: &NetworkPolicySpec) -> Self {
        let (deny, existing) = match enforcement {
            Enforcement::None | Enforcement::Calico => (Deny::Drop, Existing::Keep),
            Enforcement::KubeRouter => (Deny::Reject, Existing::Keep),
            Enforcement::Nftables => (Deny::Drop, Existing::Flush),
        };
        Options {
            deny: spec.deny.unwrap_or(deny),
            block_pods: spec.ip_block_pods.unwrap_or(true),
            existing: spec.existing.unwrap_or(existing),
            own_node: spec.own_node.unwrap_or(Reach::Filtered),
            hairpin: spec.hairpin.unwrap_or(Reach::Filtered),
        }
    }
}
