//! `kind: Cluster`: the CNI plugin, the CIDRs, the underlay and what single nodes do differently.
//!
//! Real objects win where they exist: a flannel or Calico ConfigMap or CRD, Node.spec.podCIDRs. What is
//! said here stands in for flags and files that no object holds. Defaults are in each field's line.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::dns::{HostDns, KubeletDns};
use super::network_policy::NetworkPolicySpec;
use super::target::Side;
use super::units;
use crate::kube::listen::Port;

/// `spec` of a Cluster.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The CNI plugin and how it carries packets between nodes.
    pub cni: Cni,
    /// The cluster's pod ranges (`--cluster-cidr`), at most one of each family. Nodes without podCIDRs
    /// get theirs from here.
    #[serde(default, rename = "podCIDRs", deserialize_with = "units::cidrs")]
    pub pod_cidrs: Vec<IpNetwork>,
    /// The ranges of ClusterIPs (`--service-cluster-ip-range`).
    #[serde(default, rename = "serviceCIDRs", deserialize_with = "units::cidrs")]
    pub service_cidrs: Vec<IpNetwork>,
    /// Prefix length of a node's IPv4 share (`--node-cidr-mask-size-ipv4`); 24 when absent.
    #[serde(default, rename = "nodeCIDRMaskSize")]
    pub node_cidr_mask_size: Option<u8>,
    /// Prefix length of a node's IPv6 share (`--node-cidr-mask-size-ipv6`); 64 when absent.
    #[serde(default, rename = "nodeCIDRMaskSizeIPv6")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// `--service-node-port-range`; 30000-32767 when absent.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub node_port_range: Option<PortRange>,
    /// Load balancers' addresses.
    #[serde(default)]
    pub load_balancer: LoadBalancer,
    /// kube-proxy.
    #[serde(default)]
    pub proxy: Proxy,
    /// Who enforces policies, and how.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// A KubeProxyConfiguration object, kept as it is.
    #[serde(default)]
    pub kube_proxy_configuration: Option<serde_json::Value>,
    /// What all nodes share.
    #[serde(default)]
    pub node: NodeDefaults,
    /// The network between nodes.
    #[serde(default)]
    pub underlay: Underlay,
    /// What single nodes do differently, by node name.
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeOverride>,
    /// Machines on the underlay that are no nodes.
    #[serde(default)]
    pub external_hosts: Vec<ExternalHost>,
    /// Name servers outside the cluster that CoreDNS forwards to.
    #[serde(
        default,
        rename = "upstreamDNS",
        deserialize_with = "units::all_parsed"
    )]
    pub upstream_dns: Vec<IpAddr>,
    /// What kubelets say of DNS, on every node.
    #[serde(default)]
    pub kubelet: KubeletDns,
}

impl ClusterSpec {
    /// A plugin with its usual settings, as when no Cluster document says otherwise.
    pub fn of_plugin(plugin: CniPluginName, pod_cidrs: Vec<IpNetwork>) -> Self {
        ClusterSpec {
            cni: Cni {
                plugin,
                backend_written: None,
                conflist: None,
                mtu: None,
                vxlan: Vxlan::default(),
                hairpin_mode: None,
                ip_pools: Vec::new(),
            },
            pod_cidrs,
            service_cidrs: Vec::new(),
            node_cidr_mask_size: None,
            node_cidr_mask_size_ipv6: None,
            node_port_range: None,
            load_balancer: LoadBalancer::default(),
            proxy: Proxy::default(),
            network_policy: NetworkPolicySpec::default(),
            kube_proxy_configuration: None,
            node: NodeDefaults::default(),
            underlay: Underlay::default(),
            nodes: BTreeMap::new(),
            external_hosts: Vec::new(),
            upstream_dns: Vec::new(),
            kubelet: KubeletDns::default(),
        }
    }
}

/// `spec.cni`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cni {
    /// Which plugin.
    pub plugin: CniPluginName,
    /// How packets cross nodes; see [`Cni::backend`] for the default.
    #[serde(default, rename = "backend")]
    pub backend_written: Option<Backend>,
    /// The nodes' conflist, inline or as a string of JSON; the plugin's usual one when absent.
    #[serde(default)]
    pub conflist: Option<serde_json::Value>,
    /// MTU of the pods' devices; derived from the underlay's and the backend's overhead when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The VXLAN device's settings.
    #[serde(default)]
    pub vxlan: Vxlan,
    /// Hairpin on the bridge's ports; the plugin's own default when absent.
    #[serde(default)]
    pub hairpin_mode: Option<bool>,
    /// Calico's pools; one over each pod CIDR when empty.
    #[serde(default)]
    pub ip_pools: Vec<IpPool>,
}

impl Cni {
    /// The backend as written, or the plugin's usual one: flannel VXLAN, Calico IPIP, others none.
    pub fn backend(&self) -> Backend {
        self.backend_written.unwrap_or(match self.plugin {
            CniPluginName::Flannel => Backend::Vxlan,
            CniPluginName::Calico => Backend::Ipip,
            CniPluginName::Bridge | CniPluginName::Ptp | CniPluginName::Kindnet => Backend::None,
        })
    }

    /// The conflist as JSON text, however it was written.
    pub fn conflist_text(&self) -> Option<String> {
        self.conflist.as_ref().map(|value| match value {
            serde_json::Value::String(text) => text.clone(),
            inline => inline.to_string(),
        })
    }
}

/// `spec.cni.plugin`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CniPluginName {
    /// containernetworking bridge.
    Bridge,
    /// containernetworking ptp.
    Ptp,
    /// flannel.
    Flannel,
    /// Calico.
    Calico,
    /// kindnet.
    Kindnet,
}

impl core::fmt::Display for CniPluginName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CniPluginName::Bridge => "bridge",
            CniPluginName::Ptp => "ptp",
            CniPluginName::Flannel => "flannel",
            CniPluginName::Calico => "calico",
            CniPluginName::Kindnet => "kindnet",
        })
    }
}

/// `spec.cni.backend`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Backend {
    /// VXLAN.
    #[serde(rename = "vxlan")]
    Vxlan,
    /// Plain routes through the nodes' own addresses (flannel host-gw).
    #[serde(rename = "host-gw")]
    HostGw,
    /// IP in IP.
    #[serde(rename = "ipip")]
    Ipip,
    /// Plain routes as BGP would lay them (Calico without encapsulation).
    #[serde(rename = "bgp")]
    Bgp,
    /// The plugin lays no routes between nodes itself (kindnet's host routes are the plugin's own).
    #[serde(rename = "none")]
    None,
}

/// `spec.cni.vxlan`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Vxlan {
    /// VNI; flannel's 1 or Calico's 4096 when absent.
    #[serde(default)]
    pub vni: Option<u32>,
    /// UDP port; flannel's 8472 or Calico's 4789 when absent.
    #[serde(default)]
    pub port: Option<u16>,
}

/// One of `spec.cni.ipPools`: the fields of Calico's IPPool.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPool {
    /// Its range.
    #[serde(deserialize_with = "units::cidr")]
    pub cidr: IpNetwork,
    /// Prefix length of a block; 26, or 122 for IPv6, when absent.
    #[serde(default)]
    pub block_size: Option<u8>,
    /// When IPIP is used; from the backend when absent.
    #[serde(default)]
    pub ipip_mode: Option<EncapMode>,
    /// When VXLAN is used; from the backend when absent.
    #[serde(default)]
    pub vxlan_mode: Option<EncapMode>,
    /// Whether traffic to outside the pools is masqueraded.
    #[serde(default)]
    pub nat_outgoing: bool,
}

/// When a pool's traffic is encapsulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum EncapMode {
    /// Not at all.
    Never,
    /// Between all nodes.
    Always,
    /// Only between nodes of different subnets.
    CrossSubnet,
}

/// `spec.loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LoadBalancer {
    /// What Services of type LoadBalancer without a status get their addresses from; they get none when
    /// it is empty.
    #[serde(default, deserialize_with = "units::cidrs")]
    pub cidrs: Vec<IpNetwork>,
}

/// `spec.nodePortRange`: `30000-32767`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first != 0 && first <= last).then_some(PortRange { first, last })
        };
        read().ok_or_else(|| format!("expected ports such as 30000-32767, found \"{text}\""))
    }
}

/// `spec.proxy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Proxy {
    /// How Services are carried out; the configuration's own mode, else none, when absent.
    #[serde(default)]
    pub mode: Option<ProxyMode>,
    /// How long after a change kube-proxy writes its rules, on every node.
    #[serde(default, deserialize_with = "units::duration")]
    pub lag: Duration,
}

/// kube-proxy of one node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeProxy {
    /// Whether it runs; it does when absent.
    pub state: ProxyState,
    /// As `spec.proxy.lag`, on this node.
    #[serde(deserialize_with = "units::some_duration")]
    pub lag: Option<Duration>,
}

/// Whether a kube-proxy runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyState {
    /// It follows the Services.
    #[default]
    Running,
    /// It does not: rules stay as they are.
    Stopped,
}

/// `spec.proxy.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// No kube-proxy: ClusterIPs lead nowhere.
    #[default]
    None,
    /// iptables.
    Iptables,
    /// nftables.
    Nftables,
    /// IPVS.
    Ipvs,
}

/// `spec.node`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeDefaults {
    /// Sysctls set on every node after the plugin has run, by name (`net.ipv4.ip_forward`).
    #[serde(deserialize_with = "units::scalars")]
    pub sysctls: BTreeMap<String, String>,
    /// The uplink's name.
    pub host_device: String,
    /// The uplink's MTU.
    pub mtu: u32,
    /// Major version of a Docker daemon that runs on every node.
    pub docker: Option<u32>,
}

impl Default for NodeDefaults {
    fn default() -> Self {
        NodeDefaults {
            sysctls: BTreeMap::new(),
            host_device: "eth0".into(),
            mtu: 1500,
            docker: None,
        }
    }
}

/// One of `spec.nodes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeOverride {
    /// Sysctls of this node, over those of all.
    #[serde(deserialize_with = "units::scalars")]
    pub sysctls: BTreeMap<String, String>,
    /// The uplink's name.
    pub host_device: Option<String>,
    /// The uplink's MTU.
    pub mtu: Option<u32>,
    /// Major version of a Docker daemon that runs there.
    pub docker: Option<u32>,
    /// `ip`, `bridge`, `sysctl` and `iptables` command lines run in order once the plugin has laid its state.
    pub commands: Vec<String>,
    /// Its kube-proxy: one that is stopped here never ran.
    pub kube_proxy: NodeProxy,
    /// Its kubelet's, field by field over those of all.
    pub kubelet: KubeletDns,
    /// Its kernel's version, over `status.nodeInfo.kernelVersion` of the Node: before 5.6 conntrack drops the
    /// second of two packets of one UDP flow that were translated differently at once.
    pub kernel: Option<String>,
}

/// `spec.underlay`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Underlay {
    /// Where nodes without an address get one.
    #[serde(deserialize_with = "units::some_cidr")]
    pub cidr: Option<IpNetwork>,
    /// Largest IP packet the underlay carries.
    pub mtu: u32,
    /// One-way delay between two nodes.
    #[serde(deserialize_with = "units::duration")]
    pub latency: Duration,
    /// Share of frames that are lost, 0 to 100.
    pub loss_percent: f64,
    /// The L2 segments, when nodes are not all in one; a router joins them.
    pub segments: Vec<Segment>,
    /// Traffic that the underlay drops, as a firewall between nodes would.
    pub blocked: Vec<Blocked>,
    /// Routes of the router, as it would learn them from those who announce load balancers' addresses:
    /// `203.0.113.0/28 via 192.168.50.12`.
    #[serde(deserialize_with = "units::all_parsed")]
    pub routes: Vec<HostRoute>,
}

impl Default for Underlay {
    fn default() -> Self {
        let (segments, blocked, routes) = (Vec::new(), Vec::new(), Vec::new());
        Underlay {
            cidr: None,
            mtu: 1500,
            latency: Duration::ZERO,
            loss_percent: 0.0,
            segments,
            blocked,
            routes,
        }
    }
}

/// One of `spec.underlay.segments`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Its subnet.
    #[serde(deserialize_with = "units::cidr")]
    pub cidr: IpNetwork,
    /// The nodes on it.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The external hosts on it.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The router's address on it; the first of the subnet when absent.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub gateway: Option<IpAddr>,
}

/// Traffic that is dropped on the underlay: all given fields must match the outer packet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Blocked {
    /// The outer protocol.
    #[serde(default)]
    pub protocol: BlockedProtocol,
    /// The destination port, for TCP, UDP and SCTP.
    #[serde(default)]
    pub port: Option<u16>,
    /// The sender.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub from: Option<Side>,
    /// The receiver.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub to: Option<Side>,
}

/// `protocol` of blocked traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockedProtocol {
    /// Every protocol.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP (VXLAN is UDP).
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP.
    Icmp,
    /// ICMPv6, neighbour discovery included.
    Icmpv6,
    /// IP in IP, protocol 4.
    Ipip,
}

/// One of `spec.externalHosts`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ExternalHost {
    /// Its name, for `host/NAME`.
    pub name: String,
    /// Its addresses, with their prefix where it is on a subnet: `192.0.2.10/24`.
    #[serde(deserialize_with = "units::all_parsed")]
    pub addresses: Vec<IpNetwork>,
    /// Its default gateway.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub gateway: Option<IpAddr>,
    /// Routes: `10.244.0.0/16 via 192.0.2.1`.
    #[serde(default, deserialize_with = "units::all_parsed")]
    pub routes: Vec<HostRoute>,
    /// Ports it listens on: `8080/tcp`.
    #[serde(default, deserialize_with = "units::all_parsed")]
    pub listen: Vec<Port>,
    /// It is a name server.
    #[serde(default)]
    pub dns: Option<HostDns>,
}

/// A route of an external host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRoute {
    /// Where to.
    pub to: IpNetwork,
    /// Through which router.
    pub via: IpAddr,
}

impl FromStr for HostRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (to, via) = text.split_once(" via ")?;
            let via: IpAddr = via.trim().parse().ok()?;
            let to = match (to.trim(), via) {
                ("default", IpAddr::V4(_)) => "0.0.0.0/0",
                ("default", IpAddr::V6(_)) => "::/0",
                (to, _) => to,
            };
            let to: IpNetwork = to.parse().ok()?;
            (to.is_ipv4() == via.is_ipv4()).then_some(HostRoute { to, via })
        };
        read().ok_or_else(|| {
            format!("expected a route such as \"10.244.0.0/16 via 192.0.2.1\", found \"{text}\"")
        })
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.to, self.via)
    }
}
