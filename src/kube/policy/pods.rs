//! What policies act on: pods with their labels and addresses, namespaces, nodes, and whose an address is.
//!
//! Every namespace has the label `kubernetes.io/metadata.name` (kube-apiserver
//! `pkg/apis/core/v1/defaults.go`, SetDefaults_Namespace), also one without an object of its own. A
//! hostNetwork pod's addresses are its node's; a finished pod has none. Addresses come from the
//! controllers' [`Facts`], so that pods without a status have those that the CNI gave them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::{Container, Node, Pod};

use super::model::{NamespaceScope, Subject};
use super::selector::Labels;
use crate::base::Origin;
use crate::kube::controllers::Facts;
use crate::kube::service::{Protocol, lenient, protocol};
use crate::kube::store::{Name, Object, Store, is_finished, is_host_network};

/// The label that the API server puts on every namespace.
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// A container port with a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol; TCP where the container says none.
    pub protocol: Protocol,
    /// The port.
    pub number: u16,
}

/// A pod as policies see it.
#[derive(Clone, PartialEq, Debug)]
pub struct PolicyPod {
    /// Its namespace and name.
    pub name: Name,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its namespace's labels, with the implied one.
    pub namespace_labels: Arc<Labels>,
    /// Its addresses, the primary one first; none before it has a network.
    pub addresses: Vec<IpAddr>,
    /// Its node; empty before it is scheduled.
    pub node: String,
    /// Whether it is its node as far as the network goes: no policy selects it and no selector means it.
    pub host_network: bool,
    /// Whether it has ended: it is nobody, even while its object keeps an address.
    pub finished: bool,
    /// Its named container ports, sorted.
    pub ports: Vec<NamedPort>,
    /// Where it stands.
    pub origin: Origin,
}

impl PolicyPod {
    /// Whether policies may select it, as subject or as peer.
    pub fn is_selectable(&self) -> bool {
        !self.host_network && !self.finished
    }

    /// Whether it is among the pods of `subject`. `relative_to` are the labels of the namespace that the
    /// forms `sameLabels` compare with: those of the policy's subject.
    pub fn is_in(&self, subject: &Subject, relative_to: &Labels) -> bool {
        self.is_selectable()
            && in_scope(
                &subject.namespaces,
                &self.name.namespace,
                &self.namespace_labels,
                relative_to,
            )
            && subject.pods.matches(&self.labels)
    }

    /// The numbers that a port name stands for: of one protocol, or of any.
    pub fn named<'p>(
        &'p self,
        name: &'p str,
        protocol: Option<Protocol>,
    ) -> impl Iterator<Item = &'p NamedPort> + 'p {
        self.ports
            .iter()
            .filter(move |p| p.name == name && protocol.is_none_or(|own| own == p.protocol))
    }
}

/// Whether a namespace is meant. See [`PolicyPod::is_in`] for `relative_to`.
pub fn in_scope(
    scope: &NamespaceScope,
    namespace: &str,
    labels: &Labels,
    relative_to: &Labels,
) -> bool {
    let same = |key: &String| labels.get(key) == relative_to.get(key);
    let has = |key: &String| labels.contains_key(key);
    match scope {
        NamespaceScope::Own(own) => own == namespace,
        NamespaceScope::Matching(selector) => selector.matches(labels),
        NamespaceScope::SameLabels(keys) => {
            !keys.is_empty() && keys.iter().all(|key| has(key) && same(key))
        }
        NamespaceScope::NotSameLabels(keys) => {
            keys.iter().all(has) && keys.iter().any(|key| !same(key))
        }
    }
}

/// A node as policies see it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PolicyNode {
    /// Its labels.
    pub labels: Labels,
    /// Its addresses: InternalIP and ExternalIP, and what its hostNetwork pods have.
    pub addresses: Vec<IpAddr>,
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Owner<'i> {
    /// A pod's with a network of its own.
    Pod(&'i PolicyPod),
    /// A node's, or a hostNetwork pod's on it.
    Node(&'i str),
    /// Nobody's here.
    Outside,
}

#[derive(Clone, Debug)]
enum Holder {
    Pod(Name),
    Node(String),
}

/// All pods, namespaces and nodes.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pods: BTreeMap<Name, PolicyPod>,
    nodes: BTreeMap<String, PolicyNode>,
    namespaces: BTreeMap<String, Arc<Labels>>,
    holders: HashMap<IpAddr, Holder, foldhash::fast::FixedState>,
}

impl Inventory {
    /// Of a store whose pods have the addresses of `facts`.
    pub fn of(store: &Store, facts: &Facts) -> Inventory {
        let mut inventory = Inventory::default();
        for (name, namespace) in &store.namespaces {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            let labels = with_name(&name.name, labels);
            inventory.namespaces.insert(name.name.clone(), labels);
        }
        for (name, node) in &store.nodes {
            let mut addresses = node_addresses(node);
            extend(
                &mut addresses,
                facts.nodes.get(&name.name).into_iter().flatten(),
            );
            let labels = node.metadata.labels.clone().unwrap_or_default();
            let node = PolicyNode { labels, addresses };
            inventory.nodes.insert(name.name.clone(), node);
        }
        for (name, addresses) in &facts.nodes {
            extend(&mut inventory.node(name).addresses, addresses);
        }
        for (name, object) in &store.pods {
            let fact = facts.pods.get(name);
            let pod = inventory.read(name, object, fact.map(|f| f.ips.as_slice()));
            // A pod's hostIP is its node's, also of a node without an object.
            let host = object.status.as_ref().and_then(|s| s.host_ip.as_deref());
            if let (Some(ip), false) = (host.and_then(lenient::ip), pod.node.is_empty()) {
                extend(&mut inventory.node(&pod.node).addresses, [&ip]);
            }
            if pod.host_network && !pod.finished && !pod.node.is_empty() {
                extend(&mut inventory.node(&pod.node).addresses, &pod.addresses);
            }
            inventory.pods.insert(name.clone(), pod);
        }
        inventory.index();
        inventory
    }

    fn node(&mut self, name: &str) -> &mut PolicyNode {
        self.nodes.entry(name.to_owned()).or_default()
    }

    /// Reads a pod object; `addresses` are what it has, none for what its status says.
    fn read(&mut self, name: &Name, pod: &Object<Pod>, addresses: Option<&[IpAddr]>) -> PolicyPod {
        let spec = pod.spec.as_ref();
        let finished = is_finished(pod);
        let addresses = match addresses {
            _ if finished => Vec::new(),
            Some(addresses) => addresses.to_vec(),
            None => crate::kube::store::pod_ips(pod),
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        PolicyPod {
            name: name.clone(),
            labels: Arc::new(labels),
            namespace_labels: self.namespace_labels(&name.namespace),
            addresses,
            node: spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
            host_network: is_host_network(pod),
            finished,
            ports: named_ports(pod),
            origin: pod.source.origin(),
        }
    }

    /// A namespace's labels; one without an object has only its name.
    pub fn namespace_labels(&mut self, namespace: &str) -> Arc<Labels> {
        if let Some(labels) = self.namespaces.get(namespace) {
            return labels.clone();
        }
        let labels = with_name(namespace, Labels::new());
        self.namespaces.insert(namespace.to_owned(), labels.clone());
        labels
    }

    fn index(&mut self) {
        self.holders.clear();
        for pod in self.pods.values().filter(|pod| pod.is_selectable()) {
            for ip in &pod.addresses {
                let holder = || Holder::Pod(pod.name.clone());
                self.holders.entry(*ip).or_insert_with(holder);
            }
        }
        for (name, node) in &self.nodes {
            for ip in &node.addresses {
                self.holders.insert(*ip, Holder::Node(name.clone()));
            }
        }
    }

    /// Whose an address is.
    pub fn owner(&self, ip: IpAddr) -> Owner<'_> {
        match self.holders.get(&ip) {
            Some(Holder::Node(name)) => Owner::Node(name),
            Some(Holder::Pod(name)) => self.pods.get(name).map_or(Owner::Outside, Owner::Pod),
            None => Owner::Outside,
        }
    }

    /// All pods, by name.
    pub fn pods(&self) -> impl Iterator<Item = &PolicyPod> {
        self.pods.values()
    }

    /// One pod.
    pub fn pod(&self, name: &Name) -> Option<&PolicyPod> {
        self.pods.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &PolicyNode)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// All namespaces with an object or a pod, and their labels, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Labels)> {
        self.namespaces
            .iter()
            .map(|(name, labels)| (name.as_str(), &**labels))
    }

    /// Gives a node further addresses: those that its own devices have.
    pub fn add_addresses(&mut self, node: &str, addresses: &[IpAddr]) {
        extend(&mut self.node(node).addresses, addresses);
        self.index();
    }

    /// Puts a pod in, or changes the one of its name. Its namespace's labels are those known here.
    pub fn set_pod(&mut self, mut pod: PolicyPod) {
        self.remove_pod(&pod.name.clone());
        pod.namespace_labels = self.namespace_labels(&pod.name.namespace);
        if pod.is_selectable() {
            for ip in &pod.addresses {
                let holder = || Holder::Pod(pod.name.clone());
                self.holders.entry(*ip).or_insert_with(holder);
            }
        }
        self.pods.insert(pod.name.clone(), pod);
    }

    /// Takes a pod out. An address that another pod's status claims as well goes to that pod.
    pub fn remove_pod(&mut self, name: &Name) -> Option<PolicyPod> {
        let old = self.pods.remove(name)?;
        for ip in &old.addresses {
            if !matches!(self.holders.get(ip), Some(Holder::Pod(holder)) if holder == name) {
                continue;
            }
            self.holders.remove(ip);
            let mut others = self.pods.values().filter(|pod| pod.is_selectable());
            if let Some(other) = others.find(|pod| pod.addresses.contains(ip)) {
                self.holders.insert(*ip, Holder::Pod(other.name.clone()));
            }
        }
        Some(old)
    }

    /// Gives a namespace labels, and its pods with it.
    pub fn set_namespace(&mut self, namespace: &str, labels: Labels) {
        let labels = with_name(namespace, labels);
        self.namespaces.insert(namespace.to_owned(), labels.clone());
        for pod in self.pods.values_mut() {
            if pod.name.namespace == namespace {
                pod.namespace_labels = labels.clone();
            }
        }
    }
}

fn extend<'a>(list: &mut Vec<IpAddr>, more: impl IntoIterator<Item = &'a IpAddr>) {
    for ip in more {
        if !list.contains(ip) {
            list.push(*ip);
        }
    }
}

fn with_name(namespace: &str, mut labels: Labels) -> Arc<Labels> {
    labels.insert(METADATA_NAME.to_owned(), namespace.to_owned());
    Arc::new(labels)
}

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let listed = status
        .and_then(|s| s.addresses.as_deref())
        .unwrap_or_default();
    let real = |a: &&k8s_openapi::api::core::v1::NodeAddress| {
        matches!(a.type_.as_str(), "InternalIP" | "ExternalIP")
    };
    let mut out = Vec::new();
    for address in listed.iter().filter(real) {
        extend(&mut out, lenient::ip(&address.address).as_ref());
    }
    out
}

/// The named ports of containers and of sidecars (init containers that always restart).
fn named_ports(pod: &Pod) -> Vec<NamedPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let mut ports = Vec::new();
    for port in spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
    {
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        let number = u16::try_from(port.container_port).ok();
        let known = (name, protocol(port.protocol.as_deref()), number);
        if let (Some(name), Some(protocol), Some(number)) = known {
            ports.push(NamedPort {
                name: name.to_owned(),
                protocol,
                number,
            });
        }
    }
    ports.sort();
    ports.dedup();
    ports
}
