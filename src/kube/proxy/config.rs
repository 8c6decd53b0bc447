//! A KubeProxyConfiguration: the fields that rules and sysctls depend on.
//!
//! kubernetes `staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go`, defaults of
//! `pkg/proxy/apis/config/v1alpha1/defaults.go`. Other fields are read over; what they set (log levels,
//! metrics) reaches no packet.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

use crate::kube::podpath_v1alpha1::parse_duration;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    /// The node's name where it is not the machine's.
    pub hostname_override: String,
    /// `iptables`, `ipvs`, `nftables`; empty means iptables on Linux.
    pub mode: String,
    /// CIDRs whose node addresses take NodePorts; `primary`; empty for all.
    pub node_port_addresses: Option<Vec<String>>,
    /// How traffic of this node's pods is told; empty means ClusterCIDR.
    pub detect_local_mode: String,
    /// The pods' ranges, one of each family at most, joined by a comma.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// For detectLocalMode BridgeInterface and InterfaceNamePrefix.
    pub detect_local: DetectLocal,
    /// Of iptables mode; masquerading in IPVS mode too.
    pub iptables: IptablesConfig,
    /// Of nftables mode.
    pub nftables: NftablesConfig,
    /// Of IPVS mode.
    pub ipvs: IpvsConfig,
    /// Connection tracking.
    pub conntrack: ConntrackConfig,
    /// Gates switched from their defaults.
    pub feature_gates: BTreeMap<String, bool>,
}

/// `detectLocal`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    /// The bridge of the pods.
    pub bridge_interface: String,
    /// What the names of the pods' interfaces begin with.
    pub interface_name_prefix: String,
}

/// `iptables`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IptablesConfig {
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// Which bit of the mark; 14 where it is not said.
    pub masquerade_bit: Option<u8>,
    /// NodePorts at 127.0.0.1; on where it is not said.
    pub localhost_node_ports: Option<bool>,
    /// Two syncs are at least so far apart; 1 s where it is not said.
    #[serde(deserialize_with = "go_duration")]
    pub min_sync_period: Option<Duration>,
}

/// `nftables`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NftablesConfig {
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// Which bit of the mark; 14 where it is not said.
    pub masquerade_bit: Option<u8>,
    /// Two syncs are at least so far apart; 1 s where it is not said.
    #[serde(deserialize_with = "go_duration")]
    pub min_sync_period: Option<Duration>,
}

/// `ipvs`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpvsConfig {
    /// The kernel's name of the scheduler; empty means rr.
    pub scheduler: String,
    /// Whether addresses of kube-ipvs0 are kept out of ARP.
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// Virtual servers in these ranges are somebody else's.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Option<Vec<String>>,
    /// Two syncs are at least so far apart; 1 s where it is not said.
    #[serde(deserialize_with = "go_duration")]
    pub min_sync_period: Option<Duration>,
    /// Of idle TCP connections; 0 leaves the kernel's.
    #[serde(deserialize_with = "go_duration")]
    pub tcp_timeout: Option<Duration>,
    /// Of TCP connections after a FIN; 0 leaves the kernel's.
    #[serde(deserialize_with = "go_duration")]
    pub tcp_fin_timeout: Option<Duration>,
    /// Of UDP; 0 leaves the kernel's.
    #[serde(deserialize_with = "go_duration")]
    pub udp_timeout: Option<Duration>,
}

/// `conntrack`: what it sets in the kernel, 0 for leaving it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConntrackConfig {
    /// Entries for each CPU; 32768 where it is not said.
    pub max_per_core: Option<u32>,
    /// Entries at least; 131072 where it is not said.
    pub min: Option<u32>,
    /// net.netfilter.nf_conntrack_tcp_timeout_established; 24 h where it is not said.
    #[serde(deserialize_with = "go_duration")]
    pub tcp_established_timeout: Option<Duration>,
    /// net.netfilter.nf_conntrack_tcp_timeout_close_wait; 1 h where it is not said.
    #[serde(deserialize_with = "go_duration")]
    pub tcp_close_wait_timeout: Option<Duration>,
    /// net.netfilter.nf_conntrack_udp_timeout.
    #[serde(deserialize_with = "go_duration")]
    pub udp_timeout: Option<Duration>,
    /// net.netfilter.nf_conntrack_udp_timeout_stream.
    #[serde(deserialize_with = "go_duration")]
    pub udp_stream_timeout: Option<Duration>,
    /// Sets net.netfilter.nf_conntrack_tcp_be_liberal.
    pub tcp_be_liberal: bool,
}

impl KubeProxyConfiguration {
    /// Reads an object; what is wrong with it otherwise.
    pub fn of(object: &serde_json::Value) -> Result<Self, String> {
        let kind = object.get("kind").and_then(serde_json::Value::as_str);
        if kind.is_some_and(|kind| kind != "KubeProxyConfiguration") {
            return Err("expected a KubeProxyConfiguration object".to_owned());
        }
        KubeProxyConfiguration::deserialize(object).map_err(|e| e.to_string())
    }
}

/// `24h0m0s` (metav1.Duration), or null.
fn go_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let read = |text: String| parse_duration(&text).map_err(de::Error::custom);
    text.map(read).transpose()
}
