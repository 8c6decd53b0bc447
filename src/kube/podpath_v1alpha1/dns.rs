//! DNS in a Cluster document: what kubelets are told, and zones of name servers outside the cluster.

use core::str::FromStr;
use core::time::Duration;

use serde::Deserialize;

use super::units;

/// `spec.kubelet` and `spec.nodes.NAME.kubelet`: fields of a KubeletConfiguration that decide what pods'
/// resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletDns {
    /// `clusterDNS`; the address of Service kube-system/kube-dns when absent.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<String>>,
    /// `clusterDomain`; `cluster.local` when absent.
    pub cluster_domain: Option<String>,
    /// The text of the node's file that `resolvConf` names; the `upstreamDNS` when absent. Empty: the kubelet
    /// has no such file.
    pub resolv_conf: Option<String>,
}

/// `spec.externalHosts[].dns`: the host resolves names on port 53, UDP and TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostDns {
    /// `OWNER TTL IN TYPE DATA`; other names do not exist.
    #[serde(deserialize_with = "units::all_parsed")]
    pub records: Vec<ZoneRecord>,
    /// What it does with queries.
    pub mode: HostDnsMode,
    /// How long it takes over an answer.
    #[serde(deserialize_with = "units::duration")]
    pub delay: Duration,
}

/// `spec.externalHosts[].dns.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostDnsMode {
    /// Answers.
    #[default]
    Normal,
    /// Says nothing.
    Drop,
    /// REFUSED.
    Refuse,
    /// SERVFAIL.
    Servfail,
}

/// One record as a zone file has it, on one line and without directives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneRecord {
    /// Owner with its final dot.
    pub owner: String,
    /// Seconds.
    pub ttl: u32,
    /// `A`, `AAAA`...
    pub rtype: String,
    /// The data as written.
    pub data: String,
}

impl FromStr for ZoneRecord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a record such as \"www.example.org. 60 IN A 192.0.2.1\", found \"{text}\""
            )
        };
        let (owner, rest) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(wrong)?;
        let (ttl, rest) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or_else(wrong)?;
        let (class, rest) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or_else(wrong)?;
        let (rtype, data) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or_else(wrong)?;
        let ttl = ttl.parse().map_err(|_| wrong())?;
        let known = ["A", "AAAA", "CNAME", "NS", "PTR", "TXT", "SOA", "SRV", "MX"];
        let rtype = rtype.to_ascii_uppercase();
        if !class.eq_ignore_ascii_case("IN") || !known.contains(&rtype.as_str()) {
            return Err(wrong());
        }
        let dot = if owner.ends_with('.') { "" } else { "." };
        Ok(ZoneRecord {
            owner: format!("{owner}{dot}"),
            ttl,
            rtype,
            data: data.trim().to_owned(),
        })
    }
}

/// `spec.coredns` of a Fault; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsServerFault {
    /// What the process does.
    pub state: Option<DnsServerState>,
    /// Queries a second that it can take; more are lost.
    pub queries_per_second: Option<u32>,
}

/// What a DNS server's process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsServerState {
    /// It answers.
    #[default]
    Running,
    /// It has ended: its ports are closed, and its pod is not ready.
    Crashed,
    /// It says nothing and its pod is not ready.
    Hanging,
    /// It answers, and its readiness probe fails.
    Unready,
}
