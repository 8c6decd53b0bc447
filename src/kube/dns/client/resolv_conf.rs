//! A pod's /etc/resolv.conf as the kubelet forms it and the runtime writes it.
//!
//! Source: kubernetes/kubernetes pkg/kubelet/network/dns/dns.go (`GetPodDNS`, `getPodDNSType`,
//! `generateSearchesForDNSClusterFirst`, `appendDNSConfig`, `formDNSConfigFitsLimits`, `parseResolvConf`),
//! limits and the rules for `dnsConfig` pkg/apis/core/validation/validation.go, the text containerd's
//! `internal/cri/server/podsandbox` (`parseDNSOptions`).
//! Invariant: what is cut is told as an event, as the kubelet tells it.

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use std::net::IpAddr;

/// `MaxDNSNameservers`.
pub const NAMESERVERS_MAX: usize = 3;
/// `MaxDNSSearchPaths`.
pub const SEARCHES_MAX: usize = 32;
/// `MaxDNSSearchListChars`.
pub const SEARCH_CHARS_MAX: usize = 2048;
/// `DNS1123SubdomainMaxLength`: a longer search path is left out (glibc 2.28 aborted on one).
const SEARCH_LEN_MAX: usize = 253;
/// `defaultDNSOptions`.
const OPTION: &str = "ndots:5";

/// What a kubelet's configuration says of DNS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kubelet {
    /// `clusterDNS`.
    pub cluster_dns: Vec<String>,
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// The text of the file that `resolvConf` names; `None`: `resolvConf` is empty.
    pub resolv_conf: Option<String>,
    /// The node's addresses, for that case.
    pub node_ips: Vec<IpAddr>,
}

/// An event the kubelet records for the pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DnsEvent {
    /// `MissingClusterDNS`: the policy wants the cluster's DNS, the kubelet knows none; as with `Default`.
    MissingClusterDns,
    /// `DNSConfigForming`: nameservers beyond the third were left out.
    NameserversCut,
    /// `DNSConfigForming`: search paths were left out.
    SearchCut,
}

impl DnsEvent {
    /// Its reason, as `kubectl get events` shows it.
    pub const fn reason(&self) -> &'static str {
        match self {
            DnsEvent::MissingClusterDns => "MissingClusterDNS",
            DnsEvent::NameserversCut | DnsEvent::SearchCut => "DNSConfigForming",
        }
    }
}

/// A pod's DNS settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodDns {
    /// In order.
    pub nameservers: Vec<String>,
    /// In order.
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    pub options: Vec<String>,
    /// What the kubelet had to say.
    pub events: Vec<DnsEvent>,
}

/// `podDNSType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Cluster,
    Host,
    None,
}

/// `getPodDNSType`; an unknown policy counts as ClusterFirst.
fn kind(pod: &Pod) -> Kind {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|s| s.host_network).unwrap_or(false);
    match spec.and_then(|s| s.dns_policy.as_deref()) {
        Some("None") => Kind::None,
        Some("Default") => Kind::Host,
        Some("ClusterFirst") | None if host_network => Kind::Host,
        _ => Kind::Cluster,
    }
}

impl PodDns {
    /// `GetPodDNS`.
    pub fn of(kubelet: &Kubelet, pod: &Pod) -> PodDns {
        let mut dns = host(kubelet);
        match kind(pod) {
            Kind::None => dns = PodDns::default(),
            Kind::Cluster if !kubelet.cluster_dns.is_empty() => {
                dns.nameservers = kubelet.cluster_dns.clone();
                let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
                dns.searches = searches(kubelet, namespace, dns.searches);
                dns.options = vec![OPTION.to_owned()];
            }
            cluster_or_host => {
                if cluster_or_host == Kind::Cluster {
                    dns.events.push(DnsEvent::MissingClusterDns);
                }
                if kubelet.resolv_conf.is_none() {
                    dns.nameservers = loopbacks(kubelet);
                    dns.searches = vec![".".to_owned()];
                }
            }
        }
        if let Some(config) = pod.spec.as_ref().and_then(|s| s.dns_config.as_ref()) {
            append(&mut dns, config);
        }
        fit(&mut dns);
        dns
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// `getHostDNSConfig`.
fn host(kubelet: &Kubelet) -> PodDns {
    let mut dns = PodDns::default();
    for line in kubelet.resolv_conf.iter().flat_map(|t| t.lines()) {
        let line = line.trim();
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => dns.nameservers.extend(fields.next().map(str::to_owned)),
            // The last line wins; a domain counts once, with or without its final dot.
            Some("search") => {
                let bare = |s: &str| s.strip_suffix('.').unwrap_or(s).to_owned();
                dns.searches = fields.map(bare).collect();
            }
            Some("options") => dns.options = fields.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// Without a file: the node itself, once for each of its addresses.
fn loopbacks(kubelet: &Kubelet) -> Vec<String> {
    let of = |ip: &IpAddr| if ip.is_ipv6() { "::1" } else { "127.0.0.1" };
    let all: Vec<String> = kubelet
        .node_ips
        .iter()
        .map(|ip| of(ip).to_owned())
        .collect();
    match all.is_empty() {
        true => vec!["127.0.0.1".to_owned()],
        false => all,
    }
}

/// `generateSearchesForDNSClusterFirst`.
fn searches(kubelet: &Kubelet, namespace: &str, host: Vec<String>) -> Vec<String> {
    let domain = &kubelet.cluster_domain;
    if domain.is_empty() {
        return host;
    }
    let own = [
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    without_repetition(own.into_iter().chain(host))
}

fn without_repetition(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for s in all {
        if !out.contains(&s) {
            out.push(s);
        }
    }
    out
}

/// `appendDNSConfig`: the pod's options replace those of the same name.
fn append(dns: &mut PodDns, config: &PodDNSConfig) {
    let more = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let servers = core::mem::take(&mut dns.nameservers);
    dns.nameservers = without_repetition(servers.into_iter().chain(more(&config.nameservers)));
    let paths = core::mem::take(&mut dns.searches);
    dns.searches = without_repetition(paths.into_iter().chain(more(&config.searches)));
    let split = |o: &String| match o.split_once(':') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (o.clone(), String::new()),
    };
    let mut options: Vec<(String, String)> = Vec::new();
    let pods = config.options.iter().flatten().map(|o| {
        let value = o.value.clone().unwrap_or_default();
        (o.name.clone().unwrap_or_default(), value)
    });
    for (name, value) in dns.options.iter().map(split).chain(pods) {
        match options.iter_mut().find(|(n, _)| *n == name) {
            Some(o) => o.1 = value,
            None => options.push((name, value)),
        }
    }
    let join = |(name, value): (String, String)| match value.is_empty() {
        true => name,
        false => format!("{name}:{value}"),
    };
    dns.options = options.into_iter().map(join).collect();
}

/// `formDNSConfigFitsLimits`.
fn fit(dns: &mut PodDns) {
    if dns.nameservers.len() > NAMESERVERS_MAX {
        dns.nameservers.truncate(NAMESERVERS_MAX);
        dns.events.push(DnsEvent::NameserversCut);
    }
    let before = dns.searches.len();
    dns.searches.truncate(SEARCHES_MAX);
    dns.searches.retain(|s| s.len() <= SEARCH_LEN_MAX);
    while dns.searches.join(" ").len() > SEARCH_CHARS_MAX {
        dns.searches.pop();
    }
    if dns.searches.len() != before {
        dns.events.push(DnsEvent::SearchCut);
    }
}

/// What the API server would refuse in a pod's DNS fields: path, message, help
/// (`validatePodDNSConfig`, `validateDNSPolicy`).
pub fn check(pod: &Pod) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    let Some(spec) = pod.spec.as_ref() else {
        return out;
    };
    let policy = spec.dns_policy.as_deref();
    let known = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let mut wrong = |path: &str, message: String, help: &str| {
        out.push((path.to_owned(), message, help.to_owned()));
    };
    if let Some(other) = policy.filter(|p| !known.contains(p)) {
        let help = format!("one of {}", known.join(", "));
        wrong(
            "spec.dnsPolicy",
            format!("unknown policy \"{other}\""),
            &help,
        );
    }
    let config = spec.dns_config.as_ref();
    let servers = config.and_then(|c| c.nameservers.as_deref()).unwrap_or(&[]);
    let searches = config.and_then(|c| c.searches.as_deref()).unwrap_or(&[]);
    if policy == Some("None") && servers.is_empty() {
        let message = "dnsPolicy None needs at least one nameserver".to_owned();
        wrong(
            "spec.dnsConfig.nameservers",
            message,
            "add dnsConfig.nameservers",
        );
    }
    if servers.len() > NAMESERVERS_MAX {
        let message = format!(
            "expected at most {NAMESERVERS_MAX}, found {}",
            servers.len()
        );
        wrong(
            "spec.dnsConfig.nameservers",
            message,
            "the API server refuses more",
        );
    }
    for (i, s) in servers.iter().enumerate() {
        if s.parse::<IpAddr>().is_err() {
            let path = format!("spec.dnsConfig.nameservers[{i}]");
            wrong(&path, format!("expected an IP address, found \"{s}\""), "");
        }
    }
    if searches.len() > SEARCHES_MAX || searches.join(" ").len() > SEARCH_CHARS_MAX {
        let message =
            format!("expected at most {SEARCHES_MAX} paths and {SEARCH_CHARS_MAX} characters");
        wrong(
            "spec.dnsConfig.searches",
            message,
            "the API server refuses more",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::{Input, parse};

    fn pod(spec: &str) -> Pod {
        let text = format!("metadata: {{namespace: shop}}\nspec: {{containers: [], {spec}}}\n");
        parse::<Pod>(&Input::new("f", text)).0.unwrap()
    }

    #[test]
    fn the_file_reads_back_and_wrong_fields_are_told() {
        let kubelet = Kubelet {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: Some("nameserver 1.1.1.1\nsearch lan\n".into()),
            node_ips: Vec::new(),
        };
        let dns = PodDns::of(
            &kubelet,
            &pod("dnsConfig: {options: [{name: ndots, value: '2'}]}"),
        );
        assert_eq!(
            dns.text(),
            "search shop.svc.cluster.local svc.cluster.local cluster.local lan\n\
             nameserver 10.96.0.10\noptions ndots:2\n"
        );
        let bad = check(&pod("dnsPolicy: None, dnsConfig: {nameservers: []}"));
        assert_eq!(bad.len(), 1);
        let bad = check(&pod(
            "dnsPolicy: Cluster, dnsConfig: {nameservers: [a, 1.1.1.1, 2.2.2.2, 3.3.3.3]}",
        ));
        assert_eq!(bad.len(), 3);
        assert!(check(&pod("dnsPolicy: Default")).is_empty());
    }
}
