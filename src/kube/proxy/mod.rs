//! kube-proxy: the rules that it writes for Services, as text.
//!
//! [`config`] reads a KubeProxyConfiguration, [`topology`] chooses endpoints, [`names`] makes chain names,
//! [`iptables`], [`nftables`] and [`ipvs`] render what each mode writes, [`conntrack`] says which UDP
//! flows a sync deletes,
//! [`sysctl`] what it sets in the kernel, [`agent`] is one node's in virtual time, [`compare`] holds the
//! modes
//! against each other.
//! Pure functions: objects and settings in, text and findings out; nothing is applied to a namespace here.
//! Invariant: the same objects give the same bytes.

pub mod agent;
pub mod compare;
pub mod config;
pub mod conntrack;
pub mod iptables;
pub mod ipvs;
pub mod names;
pub mod nftables;
pub mod settings;
pub mod sysctl;
pub mod topology;

use std::collections::{BTreeMap, BTreeSet};

use crate::kube::service::{Endpoint, Family, PortName, ServicePort, endpoints, service_ports};
use crate::kube::store::{Name, Store};

use crate::base::Finding;
use crate::kube::controllers::service_cidrs;
use crate::kube::store::Object;
use k8s_openapi::api::core::v1::Node;

pub use config::KubeProxyConfiguration;
pub use settings::{Features, LocalDetector, Machine, Mode, Settings, is_written, of_store};

/// What one family's proxier knows of the cluster (its svcPortMap and endpointsMap).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Service ports in the order in which rules are written.
    pub services: Vec<ServicePort>,
    /// Endpoints by service port, those of Services that are gone too.
    pub endpoints: BTreeMap<PortName, Vec<Endpoint>>,
}

impl View {
    /// What the objects say.
    pub fn of(store: &Store, family: Family) -> View {
        View {
            services: service_ports(&store.services, family),
            endpoints: endpoints(&store.endpoint_slices, family),
        }
    }

    /// The endpoints of a service port.
    pub fn endpoints_of(&self, name: &PortName) -> &[Endpoint] {
        self.endpoints.get(name).map_or(&[], Vec::as_slice)
    }

    /// The Services whose ports or endpoints differ (UpdateServiceMapResult and UpdateEndpointsMapResult,
    /// UpdatedServices).
    pub fn changed_since(&self, before: &View) -> BTreeSet<Name> {
        let (old, new) = (before.by_service(), self.by_service());
        let names = old.keys().chain(new.keys());
        names
            .filter(|name| old.get(*name) != new.get(*name))
            .map(|name| (*name).clone())
            .collect()
    }

    fn by_service(&self) -> BTreeMap<&Name, (Vec<&ServicePort>, Vec<&[Endpoint]>)> {
        let mut out: BTreeMap<&Name, (Vec<&ServicePort>, Vec<&[Endpoint]>)> = BTreeMap::new();
        for port in &self.services {
            out.entry(&port.name.service).or_default().0.push(port);
        }
        for (name, list) in &self.endpoints {
            out.entry(&name.service).or_default().1.push(list);
        }
        out
    }
}

/// What the kube-proxy of `node` writes in iptables mode when it starts on a clean machine, for one family:
/// settings from the input ([`of_store`]), the node's own addresses and a current kernel.
pub fn render(
    store: &Store,
    node: &Object<Node>,
    family: Family,
) -> (iptables::Desired, Vec<Finding>) {
    render_view(store, node, family, &View::of(store, family))
}

/// As [`render`], of Services and endpoints as controllers left them.
pub fn render_view(
    store: &Store,
    node: &Object<Node>,
    family: Family,
    view: &View,
) -> (iptables::Desired, Vec<Finding>) {
    let (settings, findings) = settings_of(store, node, family, Some(Mode::Iptables));
    let none = BTreeSet::new();
    let desired = iptables::sync(view, &settings, iptables::Scope::Full, &none);
    (desired, findings)
}

/// What a node's kube-proxy works with on a clean machine, with what is wrong in its configuration. `mode`
/// stands before the configuration's.
pub fn settings_of(
    store: &Store,
    node: &Object<Node>,
    family: Family,
    mode: Option<Mode>,
) -> (Settings, Vec<Finding>) {
    let (config, mut findings) = of_store(store);
    // One configuration serves all nodes of a cluster; the name that it may hold is not this node's.
    let config = KubeProxyConfiguration {
        hostname_override: node.name.name.clone(),
        mode: mode.map_or(config.mode, |mode| mode.name().to_owned()),
        ..config
    };
    let (mut settings, wrong) = Settings::new(&config, node, &Machine::of_node(node), family);
    settings.know_service_cidrs(&service_cidrs(store));
    for (field, message) in wrong {
        let message = format!("KubeProxyConfiguration {field}: {message}");
        findings.push(Finding::error(settings::span(store, node), message, ""));
    }
    (settings, findings)
}

/// What a full sync of the settings' mode writes on a clean machine. In IPVS mode a comment stands before
/// each tool's input.
pub fn text(view: &View, settings: &Settings) -> String {
    match settings.mode {
        Mode::Iptables => {
            let none = BTreeSet::new();
            iptables::sync(view, settings, iptables::Scope::Full, &none).text()
        }
        Mode::Nftables => nftables::sync(view, settings),
        Mode::Ipvs => {
            let desired = ipvs::Desired::of(view, settings);
            let mut out = format!("# ipset restore\n{}", desired.ipset(settings.family));
            out.push_str(&format!("# ip address, on {}\n", ipvs::DEVICE));
            let bits = match settings.family {
                Family::V4 => 32,
                Family::V6 => 128,
            };
            let add = |ip| format!("address add {ip}/{bits} dev {}\n", ipvs::DEVICE);
            out.extend(desired.addresses.iter().map(add));
            out.push_str(&format!(
                "# ipvsadm -R\n{}",
                desired.ipvsadm(&settings.ipvs)
            ));
            let tool = match settings.family {
                Family::V4 => "iptables-restore",
                Family::V6 => "ip6tables-restore",
            };
            out.push_str(&format!("# {tool} --noflush --counters\n"));
            out + &desired.rules(settings)
        }
    }
}
