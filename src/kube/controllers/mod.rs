//! L4: the controllers beneath kube-proxy, as pure functions: addresses and node ports of Services, and
//! EndpointSlices from pods.
//!
//! [`run`] takes the store and what the cluster knows of pods and nodes ([`Facts`]) and gives the objects as
//! an API server would hold them ([`Desired`]). What the input says is believed and reserved first; what
//! contradicts it is a finding. Changes no store and no namespace. Invariants: same input and seed, same
//! result; every allocated value and every slice knows the manifest line it comes from.

mod address;
mod apiserver;
pub mod endpoint_slice;
mod families;
mod hints;
mod keep;
mod load_balancer;
mod mirror;
mod node_port;
mod ranges;
mod settings;
mod stale;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::base::{Finding, Origin, Rng};
use crate::kube::proxy::View;
use crate::kube::service::{Family, endpoints, lenient, service_ports};
use crate::kube::store::{Name, Object, Store, Table, pod_ips};

pub(crate) use apiserver::is_control_plane;
pub(crate) use hints::milli;
use settings::Settings;

/// `endpointslice.kubernetes.io/managed-by`: whose slice it is.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// A pod that has a network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodFact {
    /// Its addresses, its node's for `hostNetwork`.
    pub ips: Vec<IpAddr>,
    /// Its node.
    pub node: String,
}

/// What controllers learn from others than the objects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Pods with a network.
    pub pods: BTreeMap<Name, PodFact>,
    /// Nodes and their addresses.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Of every random choice.
    pub seed: u64,
}

impl Facts {
    /// What the statuses of pods and nodes say, for input that is not built into a cluster.
    pub fn of_store(store: &Store, seed: u64) -> Facts {
        let pods = store.pods.iter().filter_map(|(name, pod)| {
            let ips = pod_ips(pod);
            let node = pod.spec.as_ref()?.node_name.clone().unwrap_or_default();
            (!ips.is_empty()).then(|| (name.clone(), PodFact { ips, node }))
        });
        let nodes = store.nodes.iter().map(|(name, node)| {
            let status = node.status.as_ref();
            let listed = status.and_then(|s| s.addresses.as_deref());
            let internal = listed.into_iter().flatten();
            let internal = internal.filter(|a| a.type_ == "InternalIP");
            let ips = internal.filter_map(|a| lenient::ip(&a.address)).collect();
            (name.name.clone(), ips)
        });
        Facts {
            pods: pods.collect(),
            nodes: nodes.collect(),
            seed,
        }
    }
}

/// The Service ranges that the input says or a cluster has by default, the primary family's first.
pub fn service_cidrs(store: &Store) -> Vec<ipnetwork::IpNetwork> {
    settings::Settings::of(store).service_cidrs
}

/// A value that a controller gave a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The field: `spec.clusterIPs[0]`, `spec.ports[1].nodePort`...
    pub field: String,
    /// Its value.
    pub value: String,
    /// The controller, and the Service's place.
    pub origin: Origin,
}

/// The objects as controllers leave them.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Services with addresses, families and ports filled in.
    pub services: Table<Service>,
    /// EndpointSlices: those of the input, and those that were missing. The source of a made one is its
    /// Service's.
    pub endpoint_slices: Table<EndpointSlice>,
    made: BTreeMap<Name, Vec<Made>>,
    slice_origins: BTreeMap<Name, Origin>,
}

impl Desired {
    /// What one family's kube-proxy sees of it.
    pub fn view(&self, family: Family) -> View {
        View {
            services: service_ports(&self.services, family),
            endpoints: endpoints(&self.endpoint_slices, family),
        }
    }

    /// What was given to a Service.
    pub fn made(&self, service: &Name) -> &[Made] {
        self.made.get(service).map_or(&[], Vec::as_slice)
    }

    /// Where a slice comes from: its own line, or the controller and the Service's line.
    pub fn slice_origin(&self, slice: &Name) -> Option<Origin> {
        let own = || Some(self.endpoint_slices.get(slice)?.source.origin());
        self.slice_origins.get(slice).cloned().or_else(own)
    }

    /// Whether a controller here made the slice.
    pub fn is_made(&self, slice: &Name) -> bool {
        self.slice_origins.contains_key(slice)
    }

    /// The slices of a Service, by name.
    pub fn slices_of<'d>(
        &'d self,
        service: &Name,
    ) -> impl Iterator<Item = &'d Object<EndpointSlice>> + use<'d> {
        let service = service.clone();
        let all = self.endpoint_slices.values();
        all.filter(move |slice| of_service(slice).as_ref() == Some(&service))
    }
}

/// The place of the pod behind an endpoint.
pub fn endpoint_origin(store: &Store, endpoint: &Endpoint) -> Option<Origin> {
    let target = endpoint.target_ref.as_ref()?;
    let pod = target.kind.as_deref() == Some("Pod");
    let (namespace, name) = (target.namespace.as_deref()?, target.name.as_deref()?);
    let found = store.pod(namespace, name).filter(|_| pod)?;
    Some(found.source.origin())
}

/// The Service whose label a slice carries.
pub(crate) fn of_service(slice: &Object<EndpointSlice>) -> Option<Name> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get(crate::kube::service::endpoint::SERVICE_NAME)?;
    Some(Name::new(slice.name.namespace.clone(), service.clone()))
}

/// Runs all controllers. `before` is what they left the last time: what they gave then stays given.
pub fn run(store: &Store, facts: &Facts, before: Option<&Desired>) -> (Desired, Vec<Finding>) {
    let mut run = Run {
        store,
        facts,
        settings: Settings::of(store),
        out: Desired {
            services: store.services.clone(),
            endpoint_slices: store.endpoint_slices.clone(),
            ..Desired::default()
        },
        findings: Vec::new(),
    };
    apiserver::service(&mut run);
    if let Some(before) = before {
        keep::keep(&mut run.out, before);
    }
    address::allocate(&mut run);
    node_port::allocate(&mut run);
    load_balancer::assign(&mut run);
    let believed = believed(store);
    apiserver::slice(&mut run, &believed);
    endpoint_slice::all(&mut run, &believed);
    mirror::all(&mut run, &believed);
    (run.out, run.findings)
}

/// The input's slices by Service.
type Believed<'s> = BTreeMap<Name, Vec<&'s Object<EndpointSlice>>>;

fn believed(store: &Store) -> Believed<'_> {
    let mut out = Believed::new();
    for slice in store.endpoint_slices.values() {
        if let Some(service) = of_service(slice) {
            out.entry(service).or_default().push(slice);
        }
    }
    out
}

/// What the controllers share.
struct Run<'r> {
    store: &'r Store,
    facts: &'r Facts,
    settings: Settings,
    out: Desired,
    findings: Vec<Finding>,
}

impl Run<'_> {
    /// Randomness of one object: another object's coming or going does not change it.
    fn rng(&self, what: &str, name: &Name) -> Rng {
        Rng::new(self.facts.seed ^ fnv(&format!("{what} {name}")))
    }

    /// Something is wrong with a field of a Service.
    fn warn(&mut self, service: &Name, field: &str, message: String, help: &str) {
        let span = self.out.services.get(service);
        let span = span.map(|s| s.source.span_of(field)).unwrap_or_default();
        let message = format!("Service {service}: {message}");
        self.findings.push(Finding::warning(span, message, help));
    }

    /// A controller gave a Service a value.
    fn made(&mut self, who: &'static str, service: &Name, field: String, value: String) {
        let Some(object) = self.out.services.get(service) else {
            return;
        };
        let from = format!("Service {service} ({})", object.source.origin_of("spec"));
        let origin = Origin::controller(who, from);
        let made = Made {
            field,
            value,
            origin,
        };
        self.out.made.entry(service.clone()).or_default().push(made);
    }

    /// Adds a slice that a controller makes for a Service. `salt` tells the Service's slices apart.
    fn add_slice(&mut self, who: &'static str, service: &Name, salt: &str, slice: EndpointSlice) {
        let Some(object) = self.out.services.get(service) else {
            return;
        };
        let from = format!("Service {service} ({})", object.source.origin());
        let source = object.source.clone();
        let mut rng = self.rng(salt, service);
        let mut name = Name::new(
            service.namespace.clone(),
            slice.metadata.name.clone().unwrap_or_default(),
        );
        // A generated name that is taken is drawn again.
        while name.name.is_empty() || self.out.endpoint_slices.contains_key(&name) {
            name.name = generated(&service.name, &mut rng);
        }
        let mut body = Box::new(slice);
        body.metadata.name = Some(name.name.clone());
        body.metadata.namespace = Some(name.namespace.clone());
        let made = Object {
            name: name.clone(),
            body,
            source,
        };
        self.out
            .slice_origins
            .insert(name.clone(), Origin::controller(who, from));
        self.out.endpoint_slices.insert(name, made);
    }
}

/// `generateName`'s five characters (apiserver `pkg/storage/names/generate.go`; apimachinery
/// `pkg/util/rand/rand.go`: no vowels and nothing that looks like one). The base is cut to 58 characters.
fn generated(service: &str, rng: &mut Rng) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const BASE: usize = 58;
    let mut name: String = format!("{service}-").chars().take(BASE).collect();
    for _ in 0..5 {
        let at = usize::try_from(rng.below(LETTERS.len() as u64)).unwrap_or_default();
        name.extend(LETTERS.get(at).map(|c| char::from(*c)));
    }
    name
}

/// FNV-1a, 64 bits: mixes a name into the seed.
fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
