//! What one family's proxier on one node works with: configuration, node and machine together.
//!
//! kubernetes `cmd/kube-proxy/app/server_linux.go` (getLocalDetectors, createProxier),
//! `pkg/proxy/iptables/proxier.go` (NewProxier), `pkg/proxy/util/nodeport_addresses.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::config::KubeProxyConfiguration;
use super::ipvs::IpvsSettings;
use super::nftables::Layout;
use super::topology::Place;
use crate::base::{Finding, Span};
use crate::kube::service::{Family, lenient};
use crate::kube::store::{Name, Object, Store};

/// `apiVersion` of the configuration.
const CONFIG_API: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// Which mark asks for masquerading where nothing else is said.
const MASQUERADE_BIT: u8 = 14;
/// The gate that makes kube-proxy obey node hints: on since 1.34 (KEP 3015).
const NODE_HINTS: &str = "PreferSameTrafficDistribution";
/// The node label that says its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// How Services are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Rules of iptables.
    #[default]
    Iptables,
    /// A table of nftables.
    Nftables,
    /// Virtual servers of IPVS, with sets and a few rules.
    Ipvs,
}

impl Mode {
    /// What the configuration says; empty means iptables on Linux.
    pub fn of(config: &KubeProxyConfiguration) -> Mode {
        match config.mode.as_str() {
            "nftables" => Mode::Nftables,
            "ipvs" => Mode::Ipvs,
            _ => Mode::Iptables,
        }
    }

    /// The configuration's word.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables => "iptables",
            Mode::Nftables => "nftables",
            Mode::Ipvs => "ipvs",
        }
    }
}

/// What the proxier finds on the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// All addresses, loopback included.
    pub addresses: Vec<IpAddr>,
    /// What kernel and tools can do.
    pub features: Features,
}

impl Machine {
    /// A machine with a current kernel that has the addresses of the node's status and loopback.
    pub fn of_node(node: &Node) -> Machine {
        let status = node.status.as_ref();
        let listed = status.and_then(|status| status.addresses.as_deref());
        let texts = listed.unwrap_or_default().iter().map(|a| &a.address);
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Machine {
            addresses: loopback
                .into_iter()
                .chain(texts.filter_map(|text| lenient::ip(text)))
                .collect(),
            features: Features::default(),
        }
    }
}

/// What kernel and tools can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// iptables knows `--random-fully` (1.6.2 and later).
    pub random_fully: bool,
    /// nfacct counters can be made (module nfnetlink_acct).
    pub nfacct: bool,
    /// net.netfilter.nf_conntrack_tcp_be_liberal is not 0.
    pub tcp_be_liberal: bool,
}

impl Default for Features {
    /// A current distribution.
    fn default() -> Self {
        Features {
            random_fully: true,
            nfacct: true,
            tcp_be_liberal: false,
        }
    }
}

/// How packets of this node's pods are recognised (`pkg/proxy/util/localdetector.go`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalDetector {
    /// They are not.
    None,
    /// By source, the CIDR as it was written.
    Cidr(String),
    /// By the interface they come in at, a trailing `+` for a prefix.
    Interface(String),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The proxier's family.
    pub family: Family,
    /// The node.
    pub node: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Its address of the family; the unspecified one where it has none.
    pub node_ip: IpAddr,
    /// Pods of this node.
    pub detector: LocalDetector,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// The mark that asks for masquerading.
    pub mark: u32,
    /// Whether NodePorts answer at 127.0.0.1; for IPv6 it has no effect.
    pub localhost_node_ports: bool,
    /// The addresses that take NodePorts; none for all.
    pub node_port_ips: Option<Vec<IpAddr>>,
    /// Whether node hints are obeyed.
    pub node_hints: bool,
    /// Kernel and tools.
    pub features: Features,
    /// The mode.
    pub mode: Mode,
    /// The machine's addresses of the family, loopback included.
    pub addresses: Vec<IpAddr>,
    /// Where ClusterIPs come from, as far as it was told ([`Settings::know_service_cidrs`]).
    pub service_cidrs: Vec<IpNetwork>,
    /// Which base chains nftables mode makes.
    pub layout: Layout,
    /// Of IPVS mode.
    pub ipvs: IpvsSettings,
}

impl Settings {
    /// Puts them together. What cannot be used is said as (field, what is wrong).
    pub fn new(
        config: &KubeProxyConfiguration,
        node: &Node,
        machine: &Machine,
        family: Family,
    ) -> (Settings, Vec<(&'static str, String)>) {
        let mut wrong = Vec::new();
        let node_ip = node_ip(node, family);
        let mode = Mode::of(config);
        let (masquerade_all, bit) = masquerade(config, mode, &mut wrong);
        let labels = node.metadata.labels.as_ref();
        let zone = labels.and_then(|labels| labels.get(ZONE));
        let ports = NodePortAddresses::new(config, node_ip, family, &mut wrong);
        let ipvs = IpvsSettings::of(config, family, &mut wrong);
        let wanted = config.iptables.localhost_node_ports.unwrap_or(true);
        let settings = Settings {
            family,
            node: node_name(config, node),
            zone: zone.cloned().unwrap_or_default(),
            node_ip,
            detector: detector(config, node, family, &mut wrong),
            masquerade_all,
            mark: 1_u32.checked_shl(u32::from(bit)).unwrap_or(0),
            localhost_node_ports: wanted && (family == Family::V6 || ports.loopback()),
            node_hints: config.feature_gates.get(NODE_HINTS) != Some(&false),
            node_port_ips: ports.node_ips(&machine.addresses),
            features: Features {
                tcp_be_liberal: machine.features.tcp_be_liberal || config.conntrack.tcp_be_liberal,
                ..machine.features
            },
            mode,
            addresses: of_family(&machine.addresses, family),
            service_cidrs: Vec::new(),
            layout: Layout::of_node(node),
            ipvs,
        };
        (settings, wrong)
    }

    /// Tells it the Service ranges (OnServiceCIDRsChanged); those of the other family are not for it.
    pub fn know_service_cidrs(&mut self, cidrs: &[IpNetwork]) {
        let mine = |n: &&IpNetwork| Family::of(n.ip()) == self.family;
        self.service_cidrs = cidrs.iter().filter(mine).copied().collect();
    }

    /// Where endpoints are chosen.
    pub fn place(&self) -> Place<'_> {
        Place {
            node: &self.node,
            zone: &self.zone,
            node_hints: self.node_hints,
        }
    }
}

/// The configuration that the input has, with the finding if it is wrong: the Cluster's
/// `kubeProxyConfiguration`, else an object of that kind, else kubeadm's ConfigMap `kube-system/kube-proxy`.
/// Where there is none, kubeadm's: pods are known by the Cluster's podCIDRs.
pub fn of_store(store: &Store) -> (KubeProxyConfiguration, Vec<Finding>) {
    let Some((value, mut findings, span)) = written(store) else {
        let pods = store.cluster().map(|c| c.spec.pod_cidrs.as_slice());
        let pods: Vec<String> = pods
            .unwrap_or_default()
            .iter()
            .map(|c| c.to_string())
            .collect();
        let config = KubeProxyConfiguration {
            cluster_cidr: pods.join(","),
            ..KubeProxyConfiguration::default()
        };
        return (config, Vec::new());
    };
    let config = value.map_or(Ok(KubeProxyConfiguration::default()), |value| {
        KubeProxyConfiguration::of(&value)
    });
    let config = config.unwrap_or_else(|message| {
        let message = format!("KubeProxyConfiguration: {message}");
        findings.push(Finding::error(span, message, ""));
        KubeProxyConfiguration::default()
    });
    (config, findings)
}

/// Whether the input has a configuration.
pub fn is_written(store: &Store) -> bool {
    written(store).is_some()
}

/// The place of the configuration; the node's where there is none.
pub(super) fn span(store: &Store, node: &Object<Node>) -> Span {
    written(store).map_or_else(|| node.source.span(), |(_, _, span)| span)
}

/// The configuration as it was written, with what is wrong with its text, and its place.
fn written(store: &Store) -> Option<(Option<Value>, Vec<Finding>, Span)> {
    let cluster = store.cluster().and_then(|cluster| {
        let value = cluster.spec.kube_proxy_configuration.clone()?;
        let span = cluster.source.span_of("spec.kubeProxyConfiguration");
        Some((Some(value), Vec::new(), span))
    });
    let object = || {
        let raw = store.raw(CONFIG_API, "KubeProxyConfiguration").first()?;
        let (value, findings) = raw.parse::<Value>();
        Some((value, findings, raw.source.span()))
    };
    let config_map = || {
        let map = store
            .config_maps
            .get(&Name::new("kube-system", "kube-proxy"))?;
        let text = map.data.as_ref()?.get("config.conf")?;
        let span = map.source.span_of("data[\"config.conf\"]");
        let input = crate::kube::manifest::Input {
            name: format!("{span}: config.conf").into(),
            text: text.as_str().into(),
        };
        let (value, findings) = crate::kube::manifest::parse::<Value>(&input);
        Some((value, findings, span))
    };
    cluster.or_else(object).or_else(config_map)
}

/// Whether to masquerade everything, and with which bit of the mark. IPVS mode reads it under `iptables`.
fn masquerade(
    config: &KubeProxyConfiguration,
    mode: Mode,
    wrong: &mut Vec<(&'static str, String)>,
) -> (bool, u8) {
    let (nft, ipt) = (&config.nftables, &config.iptables);
    let (all, bit, field) = match mode {
        Mode::Nftables => (
            nft.masquerade_all,
            nft.masquerade_bit,
            "nftables.masqueradeBit",
        ),
        Mode::Iptables | Mode::Ipvs => (
            ipt.masquerade_all,
            ipt.masquerade_bit,
            "iptables.masqueradeBit",
        ),
    };
    let bit = bit.unwrap_or(MASQUERADE_BIT);
    if bit > 31 {
        wrong.push((field, format!("expected 0 to 31, found {bit}")));
    }
    (all, bit)
}

fn of_family(all: &[IpAddr], family: Family) -> Vec<IpAddr> {
    let mine = all.iter().filter(|ip| Family::of(**ip) == family);
    mine.copied().collect()
}

fn node_name(config: &KubeProxyConfiguration, node: &Node) -> String {
    match config.hostname_override.trim() {
        "" => node.metadata.name.clone().unwrap_or_default(),
        // Upper case is folded (pkg/util/node GetHostname).
        name => name.to_ascii_lowercase(),
    }
}

/// The first InternalIP of the family, else the first ExternalIP (`pkg/util/node` GetNodeHostIPs).
fn node_ip(node: &Node, family: Family) -> IpAddr {
    let status = node.status.as_ref();
    let all = status
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    let of_type = |wanted: &str| {
        let texts = all.iter().filter(|a| a.type_ == wanted);
        texts
            .filter_map(|a| lenient::ip(&a.address))
            .find(|ip| Family::of(*ip) == family)
    };
    let none = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    of_type("InternalIP")
        .or_else(|| of_type("ExternalIP"))
        .unwrap_or(none)
}

fn detector(
    config: &KubeProxyConfiguration,
    node: &Node,
    family: Family,
    wrong: &mut Vec<(&'static str, String)>,
) -> LocalDetector {
    let name = |field: &'static str, name: &str, suffix: &str, wrong: &mut Vec<_>| {
        if name.is_empty() {
            wrong.push((field, "expected the name of an interface".to_owned()));
            return LocalDetector::None;
        }
        LocalDetector::Interface(format!("{name}{suffix}"))
    };
    let local = &config.detect_local;
    let cidrs: Vec<String> = match config.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => config.cluster_cidr.split(',').map(str::to_owned).collect(),
        "NodeCIDR" => {
            let spec = node.spec.as_ref();
            let listed = spec.and_then(|spec| spec.pod_cidrs.clone());
            let single = spec.and_then(|spec| spec.pod_cidr.clone());
            listed.unwrap_or_else(|| single.into_iter().collect())
        }
        "BridgeInterface" => {
            let field = "detectLocal.bridgeInterface";
            return name(field, &local.bridge_interface, "", wrong);
        }
        "InterfaceNamePrefix" => {
            let field = "detectLocal.interfaceNamePrefix";
            return name(field, &local.interface_name_prefix, "+", wrong);
        }
        other => {
            let known = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
            wrong.push((
                "detectLocalMode",
                format!("expected {known}, found \"{other}\""),
            ));
            return LocalDetector::None;
        }
    };
    for text in cidrs.iter().filter(|text| !text.trim().is_empty()) {
        match lenient::cidr(text) {
            Some(network) if Family::of(network.ip()) == family => {
                return LocalDetector::Cidr(text.trim().to_owned());
            }
            Some(_) => {}
            None => wrong.push(("clusterCIDR", format!("expected a CIDR, found \"{text}\""))),
        }
    }
    LocalDetector::None
}

/// `nodePortAddresses` of one family.
struct NodePortAddresses {
    cidrs: Vec<IpNetwork>,
    all: bool,
}

impl NodePortAddresses {
    fn new(
        config: &KubeProxyConfiguration,
        node_ip: IpAddr,
        family: Family,
        wrong: &mut Vec<(&'static str, String)>,
    ) -> Self {
        let mut cidrs: Vec<IpNetwork> = Vec::new();
        let listed = config.node_port_addresses.as_deref().unwrap_or_default();
        let primary = ["primary".to_owned()];
        // apis/config/v1alpha1/defaults.go: the one mode with a default of its own.
        let listed = match (listed.is_empty(), Mode::of(config)) {
            (true, Mode::Nftables) => &primary,
            _ => listed,
        };
        for text in listed {
            if text == "primary" {
                cidrs.push(node_ip.into());
                continue;
            }
            match lenient::cidr(text) {
                Some(network) => cidrs.push(network),
                None => wrong.push((
                    "nodePortAddresses",
                    format!("expected a CIDR, found \"{text}\""),
                )),
            }
        }
        cidrs.retain(|network| Family::of(network.ip()) == family);
        let all = cidrs.is_empty() || cidrs.iter().any(|network| network.prefix() == 0);
        NodePortAddresses { cidrs, all }
    }

    /// ContainsIPv4Loopback.
    fn loopback(&self) -> bool {
        let contains =
            |n: &IpNetwork| n.ip().is_loopback() || n.contains(Ipv4Addr::LOCALHOST.into());
        self.all || self.cidrs.iter().any(contains)
    }

    /// GetNodeIPs, in the order of the CIDRs and the machine's addresses.
    fn node_ips(&self, machine: &[IpAddr]) -> Option<Vec<IpAddr>> {
        if self.all {
            return None;
        }
        let mut ips = Vec::new();
        for cidr in &self.cidrs {
            for ip in machine.iter().filter(|ip| cidr.contains(**ip)) {
                if !ips.contains(ip) {
                    ips.push(*ip);
                }
            }
        }
        Some(ips)
    }
}
