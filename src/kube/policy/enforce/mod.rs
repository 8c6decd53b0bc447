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

use crate::kube::podpath_v1alpha1::{
    ClusterSpec, Deny, EgressSees, Enforcement, Existing, IngressSees, NetworkPolicySpec, Reach,
};
use crate::kube::policy::translate::Seen;
use crate::kube::policy::verdict;
use crate::kube::policy::{BaselineScope, BlockScope, Hairpin, OwnNode};

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
    /// What of translations policies see.
    pub seen: Seen,
}

impl Options {
    /// What the agent does in reality, except where the document says otherwise.
    ///
    /// Calico: FilterDenyAction is DROP (felix/rules/rule_defs.go), nets are matched against any address,
    /// established connections are accepted first, pods' packets to their node meet egress policies
    /// (`cali-wl-to-host`), a hairpin is a forward like any other. kube-router: REJECT
    /// (pkg/controllers/netpol/ pod.go), else the same; what comes from the node itself is accepted.
    /// kube-network-policies: drops, judges known connections again (pkg/dataplane/controller.go,
    /// `firewallEnforcer`), queues pods' packets to their node. All of them stand between the two
    /// translations: behind DNAT of PREROUTING, before SNAT of POSTROUTING.
    pub fn of(enforcement: Enforcement, spec: &NetworkPolicySpec) -> Self {
        let (deny, existing) = match enforcement {
            Enforcement::None | Enforcement::Calico => (Deny::Drop, Existing::Keep),
            Enforcement::KubeRouter => (Deny::Reject, Existing::Keep),
            Enforcement::Nftables => (Deny::Drop, Existing::Flush),
        };
        Options {
            deny: match enforcement {
                Enforcement::Nftables => deny,
                _ => spec.deny.unwrap_or(deny),
            },
            block_pods: spec.ip_block_pods.unwrap_or(true),
            existing: spec.existing.unwrap_or(existing),
            own_node: spec.own_node.unwrap_or(Reach::Filtered),
            hairpin: spec.hairpin.unwrap_or(Reach::Filtered),
            seen: match enforcement {
                Enforcement::Calico | Enforcement::KubeRouter => Seen::default(),
                Enforcement::None | Enforcement::Nftables => Seen {
                    destination: spec.egress_sees.unwrap_or_default(),
                    source: spec.ingress_sees.unwrap_or_default(),
                },
            },
        }
    }

    /// What the evaluator and the compiled filter have to read as the agent does.
    pub fn readings(&self, enforcement: Enforcement) -> verdict::Options {
        verdict::Options {
            hairpin: match self.hairpin {
                Reach::Open => Hairpin::Open,
                Reach::Filtered => Hairpin::Judged,
            },
            blocks: match self.block_pods {
                true => BlockScope::Every,
                false => BlockScope::NotPods,
            },
            own_node: match self.own_node {
                Reach::Open => OwnNode::Open,
                Reach::Filtered => OwnNode::Judged,
            },
            baseline: match enforcement {
                Enforcement::Nftables => BaselineScope::PerPod,
                Enforcement::None | Enforcement::Calico | Enforcement::KubeRouter => {
                    BaselineScope::PerDirection
                }
            },
        }
    }
}

/// How policies are read in a cluster: as its agent does; as the API has it where nobody enforces them and
/// the document says nothing.
pub fn readings(spec: &ClusterSpec) -> (verdict::Options, Seen) {
    let (enforcement, own) = (spec.enforcement(), &spec.network_policy);
    let options = Options::of(enforcement, own);
    let mut read = options.readings(enforcement);
    if enforcement == Enforcement::None && own.own_node.is_none() {
        read.own_node = OwnNode::Open;
    }
    (read, options.seen)
}

/// A field of `spec.networkPolicy` that the agent cannot follow, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impossible {
    /// Its path.
    pub field: &'static str,
    /// What of the agent is in the way.
    pub why: &'static str,
    /// What to do.
    pub help: &'static str,
}

/// The fields that the document's agent cannot follow: it does as it always does.
pub fn impossible(enforcement: Enforcement, spec: &NetworkPolicySpec) -> Vec<Impossible> {
    let why = match enforcement {
        Enforcement::None => return Vec::new(),
        Enforcement::Calico => {
            "Felix hangs its chains into FORWARD: behind destination translation, before source translation"
        }
        Enforcement::KubeRouter => {
            "kube-router hangs its chains into FORWARD: behind destination translation, before source \
             translation"
        }
        Enforcement::Nftables => {
            "the program behind the queue accepts or drops, it rejects nothing"
        }
    };
    let queue = enforcement == Enforcement::Nftables;
    let elsewhere = "leave it out, or say enforcement: nftables";
    let all = [
        (
            queue && spec.deny == Some(Deny::Reject),
            "spec.networkPolicy.deny",
            "leave it out, or say enforcement: kube-router",
        ),
        (
            !queue && spec.egress_sees == Some(EgressSees::Service),
            "spec.networkPolicy.egressSees",
            elsewhere,
        ),
        (
            !queue && spec.ingress_sees == Some(IngressSees::Node),
            "spec.networkPolicy.ingressSees",
            elsewhere,
        ),
    ];
    let found = all.into_iter().filter(|(there, ..)| *there);
    let said = |(_, field, help)| Impossible { field, why, help };
    found.map(said).collect()
}
