//! The table of kinds. Adding one is a row here and a field in [`super::Store`].

use super::check;
use super::load::{Item, Loader};
use super::name::NameRule::{self, Label, Subdomain};
use crate::kube::policy::{check as policy, check_crd};
use crate::kube::service::check as service;

/// A kind that the store types.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `v1`, `apps/v1`...
    pub api_version: &'static str,
    /// `Pod`...
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Which names its objects may have.
    pub name: NameRule,
    /// The fields whose places are remembered; others are found by parsing again.
    pub points: &'static [&'static str],
    /// Types the object and puts it into its table.
    pub(super) load: fn(&mut Loader<'_>, Item<'_>),
}

const CORE: &str = "v1";
const DISCOVERY: &str = "discovery.k8s.io/v1";
const NETWORKING: &str = "networking.k8s.io/v1";
const POLICY1: &str = "policy.networking.k8s.io/v1alpha1";
const POLICY2: &str = "policy.networking.k8s.io/v1alpha2";
const PODPATH: &str = "podpath.dev/v1alpha1";
const NODE: &[&str] = &["spec.podCIDR", "spec.podCIDRs", "status.addresses"];
const POD: &[&str] = &[
    "spec.nodeName",
    "spec.hostNetwork",
    "status.podIP",
    "status.podIPs",
    "status.hostIP",
];
const SERVICE: &[&str] = &["spec.clusterIP", "spec.ports", "spec.externalIPs"];
const CLUSTER: &[&str] = &[
    "spec.cni",
    "spec.podCIDRs",
    "spec.serviceCIDRs",
    "spec.underlay",
];

/// All typed kinds, by apiVersion and kind.
#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    row(PODPATH, "Cluster", false, Subdomain, CLUSTER, |l, i| l.put(i, |s| &mut s.clusters, check::cluster)),
    row(PODPATH, "Fault", false, Subdomain, &[], |l, i| l.put(i, |s| &mut s.faults, check::fault)),
    row(PODPATH, "Probe", false, Subdomain, &[], |l, i| l.put(i, |s| &mut s.probes, check::probe)),
    row(CORE, "ConfigMap", true, Subdomain, &[], |l, i| l.put(i, |s| &mut s.config_maps, check::nothing)),
    row(CORE, "Namespace", false, Label, &[], |l, i| l.put(i, |s| &mut s.namespaces, check::nothing)),
    row(CORE, "Node", false, Subdomain, NODE, |l, i| l.put(i, |s| &mut s.nodes, check::node)),
    row(CORE, "Pod", true, Subdomain, POD, |l, i| l.put(i, |s| &mut s.pods, check::pod)),
    row(CORE, "Service", true, Label, SERVICE, |l, i| l.put(i, |s| &mut s.services, service::service)),
    row(DISCOVERY, "EndpointSlice", true, Subdomain, &[], |l, i| l.put(i, |s| &mut s.endpoint_slices, service::endpoint_slice)),
    row(NETWORKING, "NetworkPolicy", true, Subdomain, &[], |l, i| l.put(i, |s| &mut s.network_policies, policy::network_policy)),
    row(POLICY2, "ClusterNetworkPolicy", false, Subdomain, &[], |l, i| l.put(i, |s| &mut s.cluster_network_policies, check_crd::cluster_network_policy)),
    row(POLICY1, "AdminNetworkPolicy", false, Subdomain, &[], |l, i| l.put(i, |s| &mut s.admin_network_policies, check_crd::admin_network_policy)),
    row(POLICY1, "BaselineAdminNetworkPolicy", false, Subdomain, &[], |l, i| l.put(i, |s| &mut s.baseline_policies, check_crd::baseline_policy)),
];

const fn row(
    api_version: &'static str,
    kind: &'static str,
    namespaced: bool,
    name: NameRule,
    points: &'static [&'static str],
    load: fn(&mut Loader<'_>, Item<'_>),
) -> Kind {
    Kind {
        api_version,
        kind,
        namespaced,
        name,
        points,
        load,
    }
}

/// The kinds of the `v1` group, which no CRD can extend (kubernetes `pkg/apis/core/register.go`).
pub(super) const CORE_KINDS: &[&str] = &[
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Service",
    "ServiceAccount",
];

/// Why a kind that is not in the table cannot be a kind at all, with what was probably meant.
pub(super) fn misnamed(api_version: &str, kind: &str) -> Option<(String, String)> {
    use crate::kube::manifest::closest;
    let known: Vec<&str> = match api_version {
        CORE => CORE_KINDS.to_vec(),
        PODPATH => KINDS
            .iter()
            .filter(|k| k.api_version == PODPATH)
            .map(|k| k.kind)
            .collect(),
        _ if api_version.starts_with("podpath.dev") => {
            let message = format!("unknown apiVersion `{api_version}`");
            return Some((message, format!("podpath knows `{PODPATH}`")));
        }
        // A group without a dot is built in; a CRD's group has one, and may reuse any kind's name.
        _ => {
            let builtin = !api_version
                .split('/')
                .next()
                .unwrap_or_default()
                .contains('.');
            let real = KINDS.iter().find(|k| k.kind == kind && builtin)?;
            let message = format!("there is no kind `{kind}` in `{api_version}`");
            return Some((
                message,
                format!("did you mean `apiVersion: {}`?", real.api_version),
            ));
        }
    };
    if known.contains(&kind) {
        return None;
    }
    let message = format!("there is no kind `{kind}` in `{api_version}`");
    let help = match closest(kind, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => match KINDS.iter().find(|k| k.kind == kind) {
            Some(real) => format!("did you mean `apiVersion: {}`?", real.api_version),
            None => format!("kinds of `{api_version}`: {}", known.join(", ")),
        },
    };
    Some((message, help))
}
