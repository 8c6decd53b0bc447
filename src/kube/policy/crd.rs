//! The objects of `policy.networking.k8s.io` as written: ClusterNetworkPolicy v1alpha2, AdminNetworkPolicy
//! and BaselineAdminNetworkPolicy v1alpha1 with the peer forms of its first releases.
//!
//! kubernetes-sigs/network-policy-api `apis/v1alpha2/clusternetworkpolicy_types.go`,
//! `apis/v1alpha1/shared_types.go` and its history (`namespaces.namespaceSelector`, `sameLabels`,
//! `notSameLabels`, up to v0.1.1). Plain data; [`super::check`] says what the API server refuses. Status is
//! read over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// One object of the group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Resource<S> {
    #[serde(rename = "apiVersion", default)]
    _api_version: IgnoredAny,
    #[serde(rename = "kind", default)]
    _kind: IgnoredAny,
    /// Name, labels, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: S,
    #[serde(rename = "status", default)]
    _status: IgnoredAny,
}

/// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy.
pub type ClusterNetworkPolicy = Resource<ClusterNetworkPolicySpec>;
/// `policy.networking.k8s.io/v1alpha1` AdminNetworkPolicy.
pub type AdminNetworkPolicy = Resource<AdminNetworkPolicySpec>;
/// `policy.networking.k8s.io/v1alpha1` BaselineAdminNetworkPolicy.
pub type BaselineAdminNetworkPolicy = Resource<BaselineAdminNetworkPolicySpec>;

/// `spec` of a ClusterNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// 0 to 1000; lower numbers come first.
    pub priority: i32,
    /// The pods it is about.
    pub subject: Subject,
    /// Rules on traffic to them, in order.
    #[serde(default)]
    pub ingress: Vec<Rule>,
    /// Rules on traffic from them, in order.
    #[serde(default)]
    pub egress: Vec<Rule>,
}

/// `spec` of an AdminNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdminNetworkPolicySpec {
    /// 0 to 1000; lower numbers come first.
    pub priority: i32,
    /// The pods it is about.
    pub subject: Subject,
    /// Rules on traffic to them, in order.
    #[serde(default)]
    pub ingress: Vec<Rule>,
    /// Rules on traffic from them, in order.
    #[serde(default)]
    pub egress: Vec<Rule>,
}

/// `spec` of the BaselineAdminNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaselineAdminNetworkPolicySpec {
    /// The pods it is about.
    pub subject: Subject,
    /// Rules on traffic to them, in order.
    #[serde(default)]
    pub ingress: Vec<Rule>,
    /// Rules on traffic from them, in order.
    #[serde(default)]
    pub egress: Vec<Rule>,
}

/// The pods a policy is about: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// All pods of the namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of the namespaces.
    pub pods: Option<NamespacedPods>,
}

/// Pods of namespaces; an empty selector selects all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// Which namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Which namespaces, in the form up to v0.1.1 (peers only).
    pub namespaces: Option<Namespaces>,
    /// Which pods of them.
    pub pod_selector: Option<LabelSelector>,
}

/// Namespaces of a peer: a label selector, or one of the forms up to v0.1.1.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespaces {
    /// As in every label selector.
    pub match_labels: Option<std::collections::BTreeMap<String, String>>,
    /// As in every label selector.
    pub match_expressions:
        Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement>>,
    /// Old form: the selector one level deeper.
    pub namespace_selector: Option<LabelSelector>,
    /// Old form: namespaces whose values of these labels are the subject's.
    pub same_labels: Option<Vec<String>>,
    /// Old form: namespaces that have these labels, at least one with another value than the subject's.
    pub not_same_labels: Option<Vec<String>>,
}

/// A rule of any of the three kinds: CNP says `protocols`, ANP and BANP say `ports`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// For people.
    pub name: String,
    /// `Accept` (v1alpha1: `Allow`), `Deny` or `Pass`.
    pub action: String,
    /// Sources, of an ingress rule.
    pub from: Option<Vec<Peer>>,
    /// Destinations, of an egress rule.
    pub to: Option<Vec<Peer>>,
    /// CNP: what of the transport header.
    pub protocols: Option<Vec<ProtocolMatch>>,
    /// ANP and BANP: ports.
    pub ports: Option<Vec<PortMatch>>,
}

/// One of `from` or `to`: exactly one field. None known means a field of a later version, which fails
/// closed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// All pods of namespaces.
    pub namespaces: Option<Namespaces>,
    /// Some pods of namespaces.
    pub pods: Option<NamespacedPods>,
    /// Egress: nodes, by their addresses.
    pub nodes: Option<LabelSelector>,
    /// Egress: CIDRs, pods and nodes in them included.
    pub networks: Option<Vec<String>>,
    /// Egress, Accept only: names that were resolved to the address.
    pub domain_names: Option<Vec<String>>,
}

/// One of CNP's `protocols`: exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtocolMatch {
    /// TCP.
    pub tcp: Option<Transport>,
    /// UDP.
    pub udp: Option<Transport>,
    /// SCTP.
    pub sctp: Option<Transport>,
    /// A container port's name, with the protocol that the container declares.
    pub destination_named_port: Option<String>,
}

/// What of a transport header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Transport {
    /// The destination port; every port when absent.
    pub destination_port: Option<DestinationPort>,
}

/// A port or a range: exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationPort {
    /// One port.
    pub number: Option<i32>,
    /// Several.
    pub range: Option<PortRange>,
}

/// Ports from `start` to `end`, both included.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortRange {
    /// ANP: TCP when absent.
    pub protocol: Option<String>,
    /// The first.
    pub start: i32,
    /// The last.
    pub end: i32,
}

/// One of ANP's `ports`: exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMatch {
    /// One port.
    pub port_number: Option<PortNumber>,
    /// A container port's name.
    pub named_port: Option<String>,
    /// Several ports.
    pub port_range: Option<PortRange>,
}

/// A port and its protocol.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortNumber {
    /// TCP when absent.
    pub protocol: Option<String>,
    /// The port.
    pub port: i32,
}
