//! Pods and their readiness become EndpointSlices, as kube-controller-manager makes them.
//!
//! kubernetes `staging/src/k8s.io/endpointslice`: `reconciler.go` (reconcileByAddressType: pods with equal
//! port sets share slices, a Service without endpoints has an empty slice), `utils.go` (podToEndpoint,
//! getEndpointPorts, FindPort, setEndpointSliceLabels), `util/controller_utils.go` (ShouldPodBeInEndpoints,
//! ShouldSetHostname). A pod whose manifest has no conditions is taken for ready while its phase is Running
//! or absent. Services with slices in the input keep those (`super::stale` compares).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::address::is_external_name;
use super::families::{has_selector, is_headless};
use super::hints::Topology;
use super::{Believed, MANAGED_BY, PodFact, Run, stale};
use crate::kube::service::Family;
use crate::kube::service::endpoint::SERVICE_NAME;
use crate::kube::store::{Name, Object, Store, is_finished};

/// Who makes these slices.
pub(super) const WHO: &str = "endpointslice-controller";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// On the slices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// `--max-endpoints-per-slice` (pkg/controller/endpointslice/config/v1alpha1/defaults.go).
pub const MAX_ENDPOINTS: usize = 100;

/// Makes the slices of all Services with a selector.
pub(super) fn all(run: &mut Run<'_>, believed: &Believed<'_>) {
    let index = Index::new(run.store);
    let topology = Topology::of(run.store);
    let names: Vec<Name> = run.out.services.keys().cloned().collect();
    for name in names {
        let Some(service) = run.out.services.get(&name) else {
            continue;
        };
        let selects = service.spec.as_ref().is_some_and(has_selector);
        if !selects || is_external_name(service) {
            continue;
        }
        let made = Maker { run, service }.slices(&index);
        if let Some(present) = believed.get(&name) {
            stale::compare(run, &name, present, &made);
            continue;
        }
        let annotations = service.metadata.annotations.clone().unwrap_or_default();
        let distribution = service
            .spec
            .as_ref()
            .and_then(|s| s.traffic_distribution.clone());
        for (family, mut slices) in made {
            let wrong = topology.hint(&annotations, distribution.as_deref(), &mut slices);
            if let Some(message) = wrong {
                let field = "metadata.annotations";
                let span = run.out.services.get(&name).map(|s| s.source.span_of(field));
                let message = format!(
                    "Service {name}: no topology hints ({}): {message}",
                    family.name()
                );
                let finding = crate::base::Finding::note(span.unwrap_or_default(), message);
                run.findings.push(finding);
            }
            for (i, slice) in slices.into_iter().enumerate() {
                run.add_slice(WHO, &name, &format!("{} {i}", family.name()), slice);
            }
        }
    }
}

/// Pods by namespace and label.
struct Index<'s> {
    by_label: BTreeMap<(&'s str, &'s str, &'s str), Vec<&'s Object<Pod>>>,
}

impl<'s> Index<'s> {
    fn new(store: &'s Store) -> Self {
        let mut by_label: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for pod in store.pods.values() {
            for (key, value) in pod.metadata.labels.iter().flatten() {
                let at = (pod.name.namespace.as_str(), key.as_str(), value.as_str());
                by_label.entry(at).or_default().push(pod);
            }
        }
        Index { by_label }
    }

    /// The pods of a Service's namespace with all its labels, by name.
    fn select(&self, namespace: &str, spec: &ServiceSpec) -> Vec<&'s Object<Pod>> {
        let selector = spec.selector.iter().flatten();
        let mut lists = Vec::new();
        for (key, value) in selector.clone() {
            match self
                .by_label
                .get(&(namespace, key.as_str(), value.as_str()))
            {
                Some(list) => lists.push(list),
                None => return Vec::new(),
            }
        }
        let shortest = lists.into_iter().min_by_key(|list| list.len());
        let has_all = |pod: &&Object<Pod>| {
            let labels = pod.metadata.labels.as_ref();
            selector
                .clone()
                .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
        };
        let all = shortest.into_iter().flatten().copied();
        all.filter(has_all).collect()
    }
}

/// One Service's slices.
struct Maker<'m, 'r> {
    run: &'m Run<'r>,
    service: &'m Object<Service>,
}

/// What makes two sets of ports the same (NewPortMapKey): their order does not count.
type PortsKey = Vec<(Option<String>, Option<String>, Option<i32>, Option<String>)>;

impl Maker<'_, '_> {
    fn slices(&self, index: &Index<'_>) -> Vec<(Family, Vec<EndpointSlice>)> {
        let Some(spec) = &self.service.spec else {
            return Vec::new();
        };
        let pods = index.select(&self.service.name.namespace, spec);
        let families = spec.ip_families.iter().flatten();
        let families = families.filter_map(|t| Family::ALL.into_iter().find(|f| f.name() == t));
        let one = |family| (family, self.of_family(spec, &pods, family));
        families.map(one).collect()
    }

    fn of_family(
        &self,
        spec: &ServiceSpec,
        pods: &[&Object<Pod>],
        family: Family,
    ) -> Vec<EndpointSlice> {
        let mut groups: BTreeMap<PortsKey, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !is_finished(pod)) {
            let Some(fact) = self.run.facts.pods.get(&pod.name) else {
                continue; // no address yet
            };
            let publishes = spec.publish_not_ready_addresses == Some(true);
            // A pod of a node that is gone (reconciler.go: Node not found).
            if !publishes && !self.run.facts.nodes.contains_key(&fact.node) {
                continue;
            }
            let Some(endpoint) = self.endpoint(spec, pod, fact, family) else {
                continue;
            };
            let ports = ports(spec, pod);
            let group = groups.entry(key(&ports)).or_insert((ports, Vec::new()));
            group.1.push(endpoint);
        }
        let mut out = Vec::new();
        for (ports, endpoints) in groups.into_values() {
            for some in endpoints.chunks(MAX_ENDPOINTS) {
                out.push(self.slice(family, ports.clone(), some.to_vec()));
            }
        }
        if out.is_empty() {
            out.push(self.slice(family, Vec::new(), Vec::new()));
        }
        out
    }

    fn endpoint(
        &self,
        spec: &ServiceSpec,
        pod: &Object<Pod>,
        fact: &PodFact,
        family: Family,
    ) -> Option<Endpoint> {
        let ips = fact.ips.iter().filter(|ip| Family::of(**ip) == family);
        let addresses: Vec<String> = ips.map(ToString::to_string).collect();
        if addresses.is_empty() {
            return None;
        }
        let serving = is_ready(pod);
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let publishes = spec.publish_not_ready_addresses == Some(true);
        let pod_spec = pod.spec.as_ref();
        let hostname = pod_spec
            .and_then(|s| s.hostname.clone())
            .filter(|h| !h.is_empty());
        let subdomain = pod_spec.and_then(|s| s.subdomain.as_deref());
        let named = subdomain == Some(self.service.name.name.as_str());
        Some(Endpoint {
            addresses,
            conditions: Some(EndpointConditions {
                ready: Some(publishes || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname.filter(|_| named),
            node_name: Some(fact.node.clone()).filter(|n| !n.is_empty()),
            zone: zone(self.run.store, &fact.node),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some(pod.name.namespace.clone()),
                name: Some(pod.name.name.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        })
    }

    fn slice(
        &self,
        family: Family,
        ports: Vec<EndpointPort>,
        endpoints: Vec<Endpoint>,
    ) -> EndpointSlice {
        let service = self.service;
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if service.spec.as_ref().is_some_and(is_headless) {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(SERVICE_NAME.into(), service.name.name.clone());
        labels.insert(MANAGED_BY.into(), MANAGER.into());
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Service".into(),
            name: service.name.name.clone(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        EndpointSlice {
            address_type: family.name().to_owned(),
            endpoints,
            metadata: ObjectMeta {
                labels: Some(labels),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            ports: Some(ports),
        }
    }
}

fn zone(store: &Store, node: &str) -> Option<String> {
    let labels = store.node(node)?.metadata.labels.as_ref()?;
    labels.get(ZONE).filter(|zone| !zone.is_empty()).cloned()
}

/// IsPodReady; a pod without conditions was never on a cluster and is taken for running.
fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    if conditions.is_empty() {
        let phase = status.and_then(|s| s.phase.as_deref());
        return matches!(phase, None | Some("" | "Running"));
    }
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    ready.is_some_and(|c| c.status == "True")
}

/// getEndpointPorts: a port whose name the pod does not have is left out for that pod.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let ports = spec.ports.iter().flatten();
    let one = |port: &ServicePort| {
        Some(EndpointPort {
            // The API writes the empty name of an only port.
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.filter_map(one).collect()
}

/// FindPort: containers' ports, then those of sidecars.
fn target(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    // A number in quotes is a name to the API, and no port has such a name.
    let protocol = |text: &Option<String>| text.clone().unwrap_or_else(|| "TCP".into());
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    let mut ports = ports.flat_map(|container| container.ports.iter().flatten());
    let same = ports.find(|p| {
        p.name.as_deref() == Some(name) && protocol(&p.protocol) == protocol(&port.protocol)
    });
    same.map(|port| port.container_port)
}

fn key(ports: &[EndpointPort]) -> PortsKey {
    let one = |p: &EndpointPort| {
        let (name, protocol) = (p.name.clone(), p.protocol.clone());
        (name, protocol, p.port, p.app_protocol.clone())
    };
    let mut key: PortsKey = ports.iter().map(one).collect();
    key.sort();
    key
}
