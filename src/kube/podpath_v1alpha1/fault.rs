//! `kind: Fault`: something breaks at a moment of virtual time, and may heal.
//!
//! One of: commands are run in a node's or a pod's network namespace, the underlay changes, kube-proxy stops
//! or lags, or objects change.

use core::str::FromStr;
use core::time::Duration;

use serde::Deserialize;

use super::cluster::{Blocked, ProxyState};
use super::cluster_check::{check_mtu, check_percent};
use super::dns::DnsServerFault;
use super::{Fault, units};
use crate::kube::store::Check;

/// `spec` of a Fault.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultSpec {
    /// When it begins; the world's beginning when absent.
    #[serde(default, deserialize_with = "units::duration")]
    pub at: Duration,
    /// When it ends: what it changed is put back. Never when absent.
    #[serde(default, deserialize_with = "units::some_duration")]
    pub until: Option<Duration>,
    /// The node whose namespace the commands run in.
    #[serde(default)]
    pub node: Option<String>,
    /// The pod whose namespace they run in, `namespace/name`.
    #[serde(default)]
    pub pod: Option<String>,
    /// The link that `underlay` is about: a node's or `host/NAME`'s uplink. All links when absent.
    #[serde(default)]
    pub link: Option<String>,
    /// `ip`, `bridge` and `sysctl` command lines, run in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What changes on the underlay.
    #[serde(default)]
    pub underlay: Option<UnderlayFault>,
    /// kube-proxy of `node`, or of all nodes.
    #[serde(default)]
    pub kube_proxy: Option<KubeProxyFault>,
    /// The DNS server in `pod`, or every CoreDNS.
    #[serde(default)]
    pub coredns: Option<DnsServerFault>,
    /// Objects that are written to the API server: Services, EndpointSlices, Namespaces, policies of all
    /// kinds, and Pods that run already.
    #[serde(default)]
    pub apply: Vec<serde_json::Value>,
    /// Objects that are deleted from it: `service/NAMESPACE/NAME`, `networkpolicy/NAMESPACE/NAME`,
    /// `clusternetworkpolicy/NAME`... ([`ObjectKind`]).
    #[serde(default, deserialize_with = "units::all_parsed")]
    pub delete: Vec<ObjectRef>,
}

/// `spec.kubeProxy` of a Fault; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KubeProxyFault {
    /// Whether it runs.
    pub state: Option<ProxyState>,
    /// How long after a change it writes its rules.
    #[serde(deserialize_with = "units::some_duration")]
    pub lag: Option<Duration>,
}

/// One of `spec.delete`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kinds that a Fault changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectKind {
    /// A Service.
    Service,
    /// An EndpointSlice.
    EndpointSlice,
    /// A NetworkPolicy.
    NetworkPolicy,
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy,
    /// An AdminNetworkPolicy.
    AdminNetworkPolicy,
    /// A BaselineAdminNetworkPolicy.
    BaselineAdminNetworkPolicy,
}

impl ObjectKind {
    /// By its word, and whether it is in a namespace.
    fn parse(word: &str) -> Option<(Self, bool)> {
        Some(match word {
            "service" => (ObjectKind::Service, true),
            "endpointslice" => (ObjectKind::EndpointSlice, true),
            "networkpolicy" => (ObjectKind::NetworkPolicy, true),
            "clusternetworkpolicy" => (ObjectKind::ClusterNetworkPolicy, false),
            "adminnetworkpolicy" => (ObjectKind::AdminNetworkPolicy, false),
            "baselineadminnetworkpolicy" => (ObjectKind::BaselineAdminNetworkPolicy, false),
            _ => return None,
        })
    }
}

impl FromStr for ObjectRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected service/NAMESPACE/NAME, endpointslice/NAMESPACE/NAME, networkpolicy/NAMESPACE/NAME \
                 or clusternetworkpolicy/NAME, found \"{text}\""
            )
        };
        let (word, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (kind, namespaced) = ObjectKind::parse(word).ok_or_else(wrong)?;
        let (namespace, name) = match namespaced {
            true => rest.split_once('/').ok_or_else(wrong)?,
            false => ("", rest),
        };
        if name.is_empty() || name.contains('/') {
            return Err(wrong());
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(ObjectRef {
            kind,
            namespace,
            name,
        })
    }
}

/// `spec.underlay` of a Fault: every field replaces the Cluster's while the fault lasts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnderlayFault {
    /// Traffic that is dropped, in addition to the Cluster's.
    pub blocked: Vec<Blocked>,
    /// Share of frames that are lost, 0 to 100.
    pub loss_percent: Option<f64>,
    /// One-way delay.
    #[serde(deserialize_with = "units::some_duration")]
    pub latency: Option<Duration>,
    /// Largest IP packet that is carried.
    pub mtu: Option<u32>,
}

impl Fault {
    /// What serde cannot see: fields that contradict each other.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        if spec.until.is_some_and(|until| until <= spec.at) {
            check.error(
                "spec.until",
                "it ends before it begins",
                "set `until` after `at`",
            );
        }
        if spec.node.is_some() && spec.pod.is_some() {
            check.error(
                "spec.pod",
                "expected a node or a pod, found both",
                "write two Faults",
            );
        }
        let objects = !spec.apply.is_empty() || !spec.delete.is_empty();
        let said = [
            !spec.commands.is_empty(),
            spec.underlay.is_some(),
            spec.kube_proxy.is_some(),
            spec.coredns.is_some(),
            objects,
        ];
        let count = said.iter().filter(|said| **said).count();
        if count != 1 {
            let found = match count {
                0 => "none of them",
                _ => "more than one",
            };
            check.error(
                "spec",
                format_args!(
                    "expected `commands`, `underlay`, `kubeProxy`, `coredns`, or `apply` and `delete`, found {found}"
                ),
                if count > 1 { "write two Faults" } else { "" },
            );
        }
        if spec.kube_proxy.is_some() && spec.pod.is_some() {
            check.error("spec.pod", "kube-proxy runs on a node", "use `node:`");
        }
        for (index, object) in spec.apply.iter().enumerate() {
            let kind = object.get("kind").and_then(serde_json::Value::as_str);
            const KINDS: [&str; 9] = [
                "Service",
                "EndpointSlice",
                "Pod",
                "Namespace",
                "ConfigMap",
                "NetworkPolicy",
                "ClusterNetworkPolicy",
                "AdminNetworkPolicy",
                "BaselineAdminNetworkPolicy",
            ];
            if !kind.is_some_and(|kind| KINDS.contains(&kind)) {
                let found = kind.map_or_else(|| "none".into(), |kind| format!("`{kind}`"));
                check.error(
                    &format!("spec.apply[{index}]"),
                    format_args!("expected one of {}, found {found}", KINDS.join(", ")),
                    "",
                );
            }
        }
        if !spec.commands.is_empty() && spec.node.is_none() && spec.pod.is_none() {
            check.error(
                "spec.commands",
                "commands need a node or a pod to run in",
                "add `node:` or `pod:`",
            );
        }
        if spec.link.is_some() && spec.underlay.is_none() {
            check.error(
                "spec.link",
                "a link is only meant by `underlay`",
                "remove it, or use `node:`",
            );
        }
        if let Some(pod) = spec.pod.as_deref().filter(|pod| !pod.contains('/')) {
            check.error(
                "spec.pod",
                format_args!("expected namespace/name, found \"{pod}\""),
                "",
            );
        }
        let Some(underlay) = &spec.underlay else {
            return;
        };
        for (index, blocked) in underlay.blocked.iter().enumerate() {
            blocked.check(&format!("spec.underlay.blocked[{index}]"), check);
        }
        if let Some(percent) = underlay.loss_percent {
            check_percent("spec.underlay.lossPercent", percent, check);
        }
        if let Some(mtu) = underlay.mtu {
            check_mtu("spec.underlay.mtu", mtu, check);
        }
    }
}
