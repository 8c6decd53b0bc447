//! The store: every object of the input, typed, named and indexed.
//!
//! Kinds that podpath acts on are typed; all others are kept as text with their place and counted.
//! Every object remembers where it stands ([`Source`]). Tables are ordered by name, so the order of
//! files never shows. Does not act on objects: controllers read it. Invariant: an index names only
//! objects that are in a table.

mod change;
mod check;
mod cross;
mod kinds;
mod load;
mod name;
mod overlay;
mod refer;
mod source;

use core::ops::Deref;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;

use crate::base::Finding;
use crate::kube::manifest::Input;
use crate::kube::podpath_v1alpha1::{Cluster, Fault, Probe};
use crate::kube::policy::crd::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy,
};

pub(crate) use check::Check;
pub use kinds::{KINDS, Kind};
pub(crate) use name::is_port_name;
pub use name::{Name, NameRule};
pub use overlay::Removal;
pub use source::Source;

/// One object: its name, its typed body and its place. Derefs to the body.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// Its namespace and name. Namespaced objects without a namespace are in `default`, as with
    /// kubectl.
    pub name: Name,
    /// The object. Boxed: tables of ten thousand Pods move only pointers.
    pub body: Box<T>,
    /// Where it stands.
    pub source: Source,
}

impl<T> Deref for Object<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.body
    }
}

/// All objects of one kind, by namespace and name.
pub type Table<T> = BTreeMap<Name, Object<T>>;

/// An object of a kind that is not typed.
#[derive(Clone, Debug)]
pub struct RawObject {
    /// Its namespace and name as written, where it has a name.
    pub name: Option<Name>,
    /// Where it stands, with its text.
    pub source: Source,
}

impl RawObject {
    /// The object as a `T`, with findings as for the typed kinds. `serde_json::Value` takes anything.
    pub fn parse<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Finding>) {
        self.source.parse()
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// `v1` Namespaces.
    pub namespaces: Table<Namespace>,
    /// `v1` Nodes.
    pub nodes: Table<Node>,
    /// `v1` Pods.
    pub pods: Table<Pod>,
    /// `v1` ConfigMaps.
    pub config_maps: Table<ConfigMap>,
    /// `v1` Services.
    pub services: Table<Service>,
    /// `discovery.k8s.io/v1` EndpointSlices.
    pub endpoint_slices: Table<EndpointSlice>,
    /// `networking.k8s.io/v1` NetworkPolicies.
    pub network_policies: Table<NetworkPolicy>,
    /// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicies.
    pub cluster_network_policies: Table<ClusterNetworkPolicy>,
    /// `policy.networking.k8s.io/v1alpha1` AdminNetworkPolicies.
    pub admin_network_policies: Table<AdminNetworkPolicy>,
    /// `policy.networking.k8s.io/v1alpha1` BaselineAdminNetworkPolicies: the API allows one, `default`.
    pub baseline_policies: Table<BaselineAdminNetworkPolicy>,
    /// `podpath.dev/v1alpha1` Clusters: at most one, see [`Store::cluster`].
    pub clusters: Table<Cluster>,
    /// `podpath.dev/v1alpha1` Probes.
    pub probes: Table<Probe>,
    /// `podpath.dev/v1alpha1` Faults.
    pub faults: Table<Fault>,
    /// Everything else, by (apiVersion, kind), in the order read.
    pub unknown: BTreeMap<(String, String), Vec<RawObject>>,
    pods_by_node: BTreeMap<String, Vec<Name>>,
    pods_by_ip: BTreeMap<IpAddr, Vec<Name>>,
}

impl Store {
    /// Reads all inputs. Objects with errors are in the store as far as they could be understood, so
    /// that one mistake is reported once; a command stops when any finding is an error.
    pub fn load(inputs: &[Input]) -> (Store, Vec<Finding>) {
        load::load(inputs)
    }

    /// The Cluster document, if there is one.
    pub fn cluster(&self) -> Option<&Object<Cluster>> {
        self.clusters.values().next()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Object<Node>> {
        self.nodes.get(&Name::global(name))
    }

    /// A pod by namespace and name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Object<Pod>> {
        self.pods.get(&Name::new(namespace, name))
    }

    /// A ConfigMap by namespace and name.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<&Object<ConfigMap>> {
        self.config_maps.get(&Name::new(namespace, name))
    }

    /// The pods whose `spec.nodeName` is `node`, by name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Object<Pod>> {
        self.pods_by_node
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|name| self.pods.get(name))
    }

    /// The pods whose status has the address `ip`, by name: one, or more for hostNetwork.
    pub fn pods_with_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Object<Pod>> {
        self.pods_by_ip
            .get(&ip)
            .into_iter()
            .flatten()
            .filter_map(|name| self.pods.get(name))
    }

    /// The objects of an untyped kind.
    pub fn raw(&self, api_version: &str, kind: &str) -> &[RawObject] {
        self.unknown
            .get(&(api_version.to_owned(), kind.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    fn index(&mut self) {
        for (name, pod) in &self.pods {
            if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
                self.pods_by_node
                    .entry(node)
                    .or_default()
                    .push(name.clone());
            }
            for ip in pod_ips(pod) {
                self.pods_by_ip.entry(ip).or_default().push(name.clone());
            }
        }
    }
}

/// The addresses of a pod's status: `podIPs`, and `podIP` where an old API server wrote only that.
/// Without repetition, in the order of the status.
pub fn pod_ips(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed = status
        .pod_ips
        .iter()
        .flatten()
        .map(|entry| entry.ip.as_str());
    let mut ips = Vec::new();
    for ip in listed
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
    {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}

/// Whether a pod shares its node's network namespace.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or(false)
}

/// Whether a pod has ended: its address is free for others (kubelet releases it with the sandbox).
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
