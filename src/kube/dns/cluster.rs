//! What a DNS server knows of the cluster: Services, EndpointSlices, Namespaces and Pods as the API serves
//! them.
//!
//! A list that the API refuses or never answers is empty here, and the server does not count as synced.
//! Does not filter: selectors belong to each `kubernetes` plugin ([`super::plugins::kubernetes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::kube::service::endpoint::SERVICE_NAME;
use crate::kube::service::lenient;
use crate::kube::store::{Store, Table, pod_ips};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A list that a server asks the API for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    /// `services`.
    Services,
    /// `discovery.k8s.io/endpointslices`.
    EndpointSlices,
    /// `namespaces`.
    Namespaces,
    /// `pods`, asked for only with `pods verified`.
    Pods,
}

impl Resource {
    /// All.
    pub const ALL: [Resource; 4] = [
        Resource::Services,
        Resource::EndpointSlices,
        Resource::Namespaces,
        Resource::Pods,
    ];

    /// As a ClusterRole names it, with its group.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Services => "services",
            Resource::EndpointSlices => "discovery.k8s.io/endpointslices",
            Resource::Namespaces => "namespaces",
            Resource::Pods => "pods",
        }
    }
}

/// The API server as the DNS server finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Api {
    /// It answers at all.
    pub reachable: bool,
    /// What it refuses (403).
    pub forbidden: BTreeSet<Resource>,
}

impl Default for Api {
    fn default() -> Self {
        Api {
            reachable: true,
            forbidden: BTreeSet::new(),
        }
    }
}

impl Api {
    /// Whether a list is there.
    pub fn serves(&self, resource: Resource) -> bool {
        self.reachable && !self.forbidden.contains(&resource)
    }
}

/// How a Service is found by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Addresses of its own, one per family.
    ClusterIps(Vec<IpAddr>),
    /// Its endpoints' addresses.
    Headless,
    /// Another name.
    External(String),
}

/// A port of a Service or EndpointSlice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Empty when unnamed.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// None where the object has no ports at all: addresses are found, SRV records are not.
    pub number: Option<u16>,
}

/// A Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// How it is found.
    pub kind: Kind,
    /// Ports; one without a number where there are none.
    pub ports: Vec<Port>,
}

/// A ready address of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Address.
    pub ip: IpAddr,
    /// Address as written, which names are made of.
    pub text: String,
    /// `hostname`, empty where there is none.
    pub hostname: String,
    /// Name of the object it stands for.
    pub target: String,
    /// Topology zone.
    pub zone: String,
}

/// An EndpointSlice of a Service: what is ready of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// Labels.
    pub labels: Labels,
    /// Ready addresses.
    pub addresses: Vec<Address>,
    /// Ports; one without a number where there are none.
    pub ports: Vec<Port>,
}

/// A pod with an address that is not being deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `status.podIP`.
    pub ip: IpAddr,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Objects {
    /// Services.
    pub services: Vec<Service>,
    /// EndpointSlices that belong to a Service.
    pub slices: Vec<Slice>,
    /// Namespaces with their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// The API server.
    pub api: Api,
}

impl Objects {
    /// The objects of tables: Services and slices as the controllers leave them.
    pub fn new(
        services: &Table<v1::Service>,
        slices: &Table<EndpointSlice>,
        namespaces: &Table<v1::Namespace>,
        pods: &Table<v1::Pod>,
    ) -> Objects {
        let labels = |of: &Option<Labels>| of.clone().unwrap_or_default();
        // An object stands in a namespace that exists, written in the manifests or not.
        let standing = services
            .keys()
            .chain(slices.keys())
            .chain(pods.keys())
            .map(|name| (name.namespace.clone(), Labels::new()));
        let written = namespaces
            .values()
            .map(|n| (n.name.name.clone(), labels(&n.metadata.labels)));
        Objects {
            services: services.values().filter_map(service).collect(),
            slices: slices.values().filter_map(slice).collect(),
            namespaces: standing.chain(written).collect(),
            pods: pods
                .values()
                .filter(|p| p.metadata.deletion_timestamp.is_none())
                .filter_map(|p| {
                    Some(Pod {
                        namespace: p.name.namespace.clone(),
                        name: p.name.name.clone(),
                        ip: *pod_ips(p).first()?,
                    })
                })
                .collect(),
            api: Api::default(),
        }
    }

    /// What manifests say, without controllers: for input that has ClusterIPs and slices already.
    pub fn of_store(store: &Store) -> Objects {
        Objects::new(
            &store.services,
            &store.endpoint_slices,
            &store.namespaces,
            &store.pods,
        )
    }
}

fn service(object: &crate::kube::store::Object<v1::Service>) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let ips: Vec<IpAddr> = match spec.cluster_ips.as_deref() {
        Some(list) if !list.is_empty() => list.iter().filter_map(|t| lenient::ip(t)).collect(),
        _ => spec
            .cluster_ip
            .iter()
            .filter_map(|t| lenient::ip(t))
            .collect(),
    };
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        Kind::External(spec.external_name.clone().unwrap_or_default())
    } else if headless {
        Kind::Headless
    } else {
        Kind::ClusterIps(ips)
    };
    let ports = spec.ports.iter().flatten().map(|p| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        number: u16::try_from(p.port).ok(),
    });
    Some(Service {
        namespace: object.name.namespace.clone(),
        name: object.name.name.clone(),
        labels: object.metadata.labels.clone().unwrap_or_default(),
        kind,
        ports: or_none(ports.collect()),
    })
}

/// CoreDNS `object/service.go`, `object/endpoint.go`: an object without ports has one of number -1.
fn or_none(mut ports: Vec<Port>) -> Vec<Port> {
    if ports.is_empty() {
        ports.push(Port {
            name: String::new(),
            protocol: String::new(),
            number: None,
        });
    }
    ports
}

fn slice(object: &crate::kube::store::Object<EndpointSlice>) -> Option<Slice> {
    let labels = object.metadata.labels.clone().unwrap_or_default();
    let service = labels.get(SERVICE_NAME)?.clone();
    let mut addresses = Vec::new();
    for endpoint in &object.endpoints {
        // Only `ready` counts, and null is ready: `serving` and `terminating` are not looked at.
        let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
        if ready == Some(false) {
            continue;
        }
        for text in &endpoint.addresses {
            let Some(ip) = lenient::ip(text) else {
                continue;
            };
            let target = endpoint.target_ref.as_ref().and_then(|t| t.name.clone());
            addresses.push(Address {
                ip,
                text: text.clone(),
                hostname: endpoint.hostname.clone().unwrap_or_default(),
                target: target.unwrap_or_default(),
                zone: endpoint.zone.clone().unwrap_or_default(),
            });
        }
    }
    let ports = object.ports.iter().flatten().map(|p| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        number: p.port.and_then(|n| u16::try_from(n).ok()),
    });
    Some(Slice {
        namespace: object.name.namespace.clone(),
        service,
        labels,
        addresses,
        ports: or_none(ports.collect()),
    })
}
