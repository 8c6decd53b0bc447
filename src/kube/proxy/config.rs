//! A KubeProxyConfiguration: the fields that rules depend on.
//!
//! kubernetes `staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go`, defaults of
//! `pkg/proxy/apis/config/v1alpha1/defaults.go`. Other fields are read over; what they set (timeouts, log
//! levels, metrics) shows in no rule.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    /// Of iptables mode.
    pub iptables: IptablesConfig,
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
}

/// `conntrack`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConntrackConfig {
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
