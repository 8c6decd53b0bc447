//! What one `kubernetes` plugin sees of the cluster, by name and by address.
//!
//! CoreDNS `plugin/kubernetes/controller.go`: informers with the label selectors of the plugin; a list that
//! is refused stays empty and the plugin is never synced. Rebuilt whole on every change of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::super::cluster::{Address, Kind, Objects, Port, Resource, Service, Slice};
use super::{Options, PodMode};

/// A Service and its slices; either may be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub service: Option<Service>,
    pub slices: Vec<Slice>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By `name.namespace`, as CoreDNS keys them.
    entries: BTreeMap<String, Entry>,
    namespaces: Vec<String>,
    service_ips: BTreeMap<IpAddr, Vec<String>>,
    endpoint_ips: BTreeMap<IpAddr, Vec<(String, usize)>>,
    pods: BTreeMap<IpAddr, Vec<(String, String)>>,
    /// All lists it needs have arrived.
    pub synced: bool,
}

fn key(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}")
}

impl Index {
    pub(super) fn build(objects: &Objects, options: &Options) -> Index {
        let mut out = Index::default();
        let needs = |resource: Resource| match resource {
            Resource::Pods => options.pods == PodMode::Verified,
            Resource::EndpointSlices => options.endpoints,
            Resource::Services | Resource::Namespaces => true,
        };
        let served = |resource: Resource| needs(resource) && objects.api.serves(resource);
        out.synced = Resource::ALL
            .into_iter()
            .all(|r| !needs(r) || objects.api.serves(r));
        if served(Resource::Namespaces) {
            let fits = objects.namespaces.iter().filter(|(name, labels)| {
                let listed = options.namespaces.is_empty() || options.namespaces.contains(*name);
                listed
                    && options
                        .namespace_labels
                        .as_ref()
                        .is_none_or(|s| s.fits(labels))
            });
            out.namespaces = fits.map(|(name, _)| name.clone()).collect();
        }
        let labels = options.labels.as_ref();
        if served(Resource::Services) {
            for service in objects
                .services
                .iter()
                .filter(|s| labels.is_none_or(|l| l.fits(&s.labels)))
            {
                let key = key(&service.name, &service.namespace);
                if let Kind::ClusterIps(ips) = &service.kind {
                    for ip in ips {
                        out.service_ips.entry(*ip).or_default().push(key.clone());
                    }
                }
                out.entries.entry(key).or_default().service = Some(service.clone());
            }
        }
        if served(Resource::EndpointSlices) {
            for slice in objects
                .slices
                .iter()
                .filter(|s| labels.is_none_or(|l| l.fits(&s.labels)))
            {
                let key = key(&slice.service, &slice.namespace);
                let slices = &mut out.entries.entry(key.clone()).or_default().slices;
                for address in &slice.addresses {
                    let at = out.endpoint_ips.entry(address.ip).or_default();
                    if at.last() != Some(&(key.clone(), slices.len())) {
                        at.push((key.clone(), slices.len()));
                    }
                }
                slices.push(slice.clone());
            }
        }
        if served(Resource::Pods) {
            for pod in &objects.pods {
                let of = (pod.namespace.clone(), pod.name.clone());
                out.pods.entry(pod.ip).or_default().push(of);
            }
        }
        out
    }

    /// The Service and slices of a name, both in lower case.
    pub(super) fn get(&self, name: &str, namespace: &str) -> Option<&Entry> {
        self.entries.get(&key(name, namespace))
    }

    /// Whether names of a namespace are answered at all.
    pub(super) fn exposed(&self, namespace: &str) -> bool {
        self.namespaces
            .binary_search_by(|n| n.as_str().cmp(namespace))
            .is_ok()
    }

    /// The Service with a ClusterIP.
    pub(super) fn by_cluster_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Service> {
        let keys = self.service_ips.get(&ip).into_iter().flatten();
        keys.filter_map(|k| self.entries.get(k)?.service.as_ref())
    }

    /// Slices with a ready address, and their Service where there is one.
    pub(super) fn by_endpoint(
        &self,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&Slice, Option<&Service>)> {
        let keys = self.endpoint_ips.get(&ip).into_iter().flatten();
        keys.filter_map(|(k, i)| {
            let entry = self.entries.get(k)?;
            Some((entry.slices.get(*i)?, entry.service.as_ref()))
        })
    }

    /// Namespace and name of the pods with an address.
    pub(super) fn pods(&self, ip: IpAddr) -> &[(String, String)] {
        self.pods.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// All Services with their slices, sorted by name alone (`transferServices`).
    pub(super) fn by_name(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self
            .entries
            .values()
            .filter(|e| e.service.is_some())
            .collect();
        all.sort_by_key(|e| e.service.as_ref().map(|s| (&s.name, &s.namespace)));
        all
    }

    /// How many Services and pods with endpoints are known, for `--trace`.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The label of an endpoint in names (`endpointHostname`).
pub(super) fn host_label(address: &Address, pod_names: bool) -> String {
    if !address.hostname.is_empty() {
        return address.hostname.clone();
    }
    if pod_names && !address.target.is_empty() && address.target.len() < 64 {
        return address.target.clone();
    }
    let label = address.text.replace(['.', ':'], "-");
    if address.ip.is_ipv6() && label.ends_with('-') {
        return label + "0";
    }
    label
}

/// Whether a port is meant by `_port._protocol` labels; an empty one means any.
pub(super) fn port_fits(port: &Port, name: &str, protocol: &str) -> bool {
    (name.is_empty() || name.eq_ignore_ascii_case(&port.name))
        && (protocol.is_empty() || protocol.eq_ignore_ascii_case(&port.protocol))
}
