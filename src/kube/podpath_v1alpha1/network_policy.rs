//! `spec.networkPolicy` of a Cluster: who enforces policies, and where implementations differ.
//!
//! Every field's default is what the agent named by `enforcement` does in reality; `kube::policy::enforce`
//! has the grounds.

use serde::Deserialize;

use super::{ClusterSpec, CniPluginName};

/// `spec.networkPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Who enforces policies; what the CNI plugin comes with when absent: see [`ClusterSpec::enforcement`].
    pub enforcement: Option<Enforcement>,
    /// What becomes of packets that are not allowed.
    pub deny: Option<Deny>,
    /// Whether an ipBlock covers pods' addresses.
    pub ip_block_pods: Option<bool>,
    /// Connections that were there before an edit that forbids them.
    pub existing: Option<Existing>,
    /// What a pod sends to its own node.
    pub own_node: Option<Reach>,
    /// A pod that reaches itself through a Service.
    pub hairpin: Option<Reach>,
    /// The destination that a sender's egress rules are asked about.
    pub egress_sees: Option<EgressSees>,
    /// The source that a receiver's ingress rules are asked about.
    pub ingress_sees: Option<IngressSees>,
}

/// `enforcement`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Nobody: policies are objects and nothing else.
    None,
    /// Felix, iptables data plane.
    Calico,
    /// kube-router, iptables and ipset.
    KubeRouter,
    /// kube-network-policies: nftables and a queue to its program.
    Nftables,
}

/// `deny`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deny {
    /// The client waits in vain.
    Drop,
    /// The client is told: ICMP port unreachable.
    Reject,
}

/// `existing`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// They go on.
    Keep,
    /// They are judged again.
    Flush,
}

/// `ownNode` and `hairpin`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// No policy is asked.
    Open,
    /// Policies are asked.
    Filtered,
}

/// `egressSees`: destination translation before or after policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressSees {
    /// The endpoint's address and target port.
    #[default]
    Endpoint,
    /// The Service's address and port, as dialled.
    Service,
}

/// `ingressSees`: source translation of the pod's own node before or after policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressSees {
    /// Who sent it, as it came to the node.
    #[default]
    Client,
    /// The node, where it masquerades: a node port of the pod's own node.
    Node,
}

impl ClusterSpec {
    /// Who enforces policies: as written, or what the plugin comes with: Calico itself, kindnet
    /// kube-network-policies (kubernetes-sigs/kind images/kindnetd, since v0.24), others nobody.
    pub fn enforcement(&self) -> Enforcement {
        self.network_policy
            .enforcement
            .unwrap_or(match self.cni.plugin {
                CniPluginName::Calico => Enforcement::Calico,
                CniPluginName::Kindnet => Enforcement::Nftables,
                CniPluginName::Flannel | CniPluginName::Bridge | CniPluginName::Ptp => {
                    Enforcement::None
                }
            })
    }
}
