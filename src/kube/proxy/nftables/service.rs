//! The chains, rules and elements of one service port.
//!
//! kubernetes `pkg/proxy/nftables/proxier.go` (the loop of syncProxyRules, writeServiceToEndpointRules).
//! Traffic goes `services` by map, then `external-` (from outside), `service-` or `local-` (by policy),
//! `endpoint-`. What has no endpoint stands in the `no-endpoint-` maps, source ranges in `firewall-`.

use std::net::IpAddr;

use super::setup::{Layout, MARK_MASQ, REJECT, Words, key};
use super::tx::{Element, Kind};
use super::{Elements, Run, Tx};
use crate::kube::proxy::names::nft_base;
use crate::kube::proxy::topology::{Categorized, categorize};
use crate::kube::proxy::{LocalDetector, Settings};
use crate::kube::service::{Endpoint, ServicePort};

/// See the module.
pub(super) struct Rules<'r> {
    port: &'r ServicePort,
    settings: &'r Settings,
    words: Words,
    endpoints: Categorized<'r>,
    /// `namespace/name:port`, the comment of elements.
    name: String,
    /// `tcp`.
    protocol: String,
    /// What the names of its chains end with.
    base: String,
    /// What becomes of packets to the ClusterIP that no endpoint may take; none when one may.
    internal: Option<String>,
    /// The same for the addresses from outside.
    external: Option<String>,
}

impl<'r> Rules<'r> {
    pub fn new(port: &'r ServicePort, endpoints: &'r [Endpoint], settings: &'r Settings) -> Self {
        let endpoints = categorize(endpoints, port, settings.place());
        let none_here = endpoints.local.as_ref().is_none_or(Vec::is_empty);
        let refusal = |local: bool| match (endpoints.any, local && none_here) {
            (false, _) => Some(format!("goto {REJECT}")),
            (true, true) => Some("drop".to_owned()),
            (true, false) => None,
        };
        Rules {
            internal: refusal(port.internal_local),
            external: refusal(port.external_local),
            port,
            settings,
            words: Words::of(settings.family),
            endpoints,
            name: port.name.to_string(),
            protocol: port.protocol().to_string(),
            base: nft_base(&port.name, None),
        }
    }

    /// Writes them; with `leave` the service port's own chains stay as they are.
    pub fn write(&self, leave: bool, run: &mut Run<'_>) {
        self.chains(leave, run);
        self.elements(run);
        if leave {
            return;
        }
        let tx = &mut run.tx;
        self.masquerade(tx);
        if self.has_external_chain() {
            self.external_chain(tx);
        }
        if self.has_firewall() {
            self.firewall_chain(tx);
        }
        if let Some(seconds) = self.port.affinity {
            let address = self.words.address;
            for base in self.bases(&self.endpoints.reachable) {
                let body = format!("type {address} ; flags dynamic,timeout ; timeout {seconds}s");
                tx.add_container(Kind::Set, &format!("affinity-{base}"), &body);
            }
        }
        for (prefix, set) in self.policies() {
            self.policy_chain(&self.own(prefix), set, tx);
        }
        for endpoint in &self.endpoints.reachable {
            self.endpoint_chain(endpoint, tx);
        }
    }

    fn own(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.base)
    }

    /// What the names of endpoints' chains and sets end with.
    fn bases(&self, endpoints: &[&Endpoint]) -> Vec<String> {
        let base = |e: &&Endpoint| nft_base(&self.port.name, Some(&e.address()));
        endpoints.iter().map(base).collect()
    }

    /// The policies that have endpoints.
    fn policies(&self) -> impl Iterator<Item = (&'static str, &Vec<&'r Endpoint>)> {
        let sets = [
            ("service", &self.endpoints.cluster),
            ("local", &self.endpoints.local),
        ];
        sets.into_iter()
            .filter_map(|(prefix, set)| Some((prefix, set.as_ref()?)))
            .filter(|(_, set)| !set.is_empty())
    }

    fn has_external_chain(&self) -> bool {
        self.endpoints.any && self.port.externally_accessible()
    }

    /// Unlike in iptables mode, whether there are endpoints or not.
    fn has_firewall(&self) -> bool {
        !self.port.vips.is_empty() && !self.port.source_ranges.is_empty()
    }

    fn internal_chain(&self) -> String {
        self.own(policy(self.port.internal_local))
    }

    fn chains(&self, leave: bool, run: &mut Run<'_>) {
        for base in self.bases(&self.endpoints.reachable) {
            run.chain(&format!("endpoint-{base}"), leave);
            if self.port.affinity.is_some() {
                run.sets.insert(format!("affinity-{base}"));
            }
        }
        for (prefix, _) in self.policies() {
            run.chain(&self.own(prefix), leave);
        }
        if self.has_external_chain() {
            run.chain(&self.own("external"), leave);
        }
        if self.has_firewall() {
            run.chain(&self.own("firewall"), leave);
        }
    }

    fn elements(&self, run: &mut Run<'_>) {
        let (tx, stores) = (&mut run.tx, &mut *run.stores);
        let port = self.port;
        let cluster_ip = port.cluster_ip.to_string();
        self.element(&mut stores.cluster_ips, tx, &cluster_ip, "");
        let cluster_key = key(port.cluster_ip, &self.protocol, port.port);
        match &self.internal {
            None => {
                let goto = format!("goto {}", self.internal_chain());
                self.element(&mut stores.service_ips, tx, &cluster_key, &goto);
            }
            Some(verdict) => {
                self.named(&mut stores.no_endpoint_services, tx, &cluster_key, verdict);
            }
        }
        let goto = format!("goto {}", self.own("external"));
        let outside = |ip: &IpAddr| key(*ip, &self.protocol, port.port);
        for ip in &port.external_ips {
            if self.endpoints.any {
                self.element(&mut stores.service_ips, tx, &outside(ip), &goto);
            }
            if let Some(verdict) = &self.external {
                self.named(&mut stores.no_endpoint_services, tx, &outside(ip), verdict);
            }
        }
        for ip in &port.vips {
            if self.endpoints.any {
                self.element(&mut stores.service_ips, tx, &outside(ip), &goto);
            }
            if self.has_firewall() {
                let goto = format!("goto {}", self.own("firewall"));
                self.element(&mut stores.firewall_ips, tx, &outside(ip), &goto);
            }
        }
        if let Some(verdict) = &self.external {
            for ip in &port.vips {
                self.named(&mut stores.no_endpoint_services, tx, &outside(ip), verdict);
            }
        }
        if port.node_port == 0 {
            return;
        }
        let key = format!("{} . {}", self.protocol, port.node_port);
        if self.endpoints.any {
            // Source ranges do not hold here, for better or worse.
            self.element(&mut stores.service_node_ports, tx, &key, &goto);
        }
        if let Some(verdict) = &self.external {
            self.named(&mut stores.no_endpoint_node_ports, tx, &key, verdict);
        }
    }

    fn element(&self, store: &mut Elements, tx: &mut Tx, key: &str, value: &str) {
        let comment = None;
        store.ensure(
            tx,
            Element {
                key,
                value,
                comment,
            },
        );
    }

    /// As [`Rules::element`], with the Service's name.
    fn named(&self, store: &mut Elements, tx: &mut Tx, key: &str, value: &str) {
        let comment = Some(self.name.as_str());
        store.ensure(
            tx,
            Element {
                key,
                value,
                comment,
            },
        );
    }

    /// Traffic to the ClusterIP from outside the cluster, or all of it.
    fn masquerade(&self, tx: &mut Tx) {
        if self.internal.is_some() {
            return;
        }
        let from = match (self.settings.masquerade_all, self.pod_match(false)) {
            (true, _) => String::new(),
            (false, Some(from)) => format!("{from} "),
            (false, None) => return,
        };
        let (ip, to) = (self.words.ip, self.port.cluster_ip);
        let port = match self.settings.layout {
            Layout::Older => format!("{} dport {} ", self.protocol, self.port.port),
            Layout::Split => String::new(),
        };
        let rule = format!("{ip} daddr {to} {port}{from}jump {MARK_MASQ}");
        tx.add_rule(&self.internal_chain(), &rule, None);
    }

    /// What matches packets of this node's pods, or all but them (`pkg/proxy/util/localdetector.go`).
    fn pod_match(&self, local: bool) -> Option<String> {
        let not = if local { "" } else { "!= " };
        match &self.settings.detector {
            LocalDetector::None => None,
            LocalDetector::Cidr(cidr) => Some(format!("{} saddr {not}{cidr}", self.words.ip)),
            LocalDetector::Interface(name) => {
                // iptables' sign for a prefix; here it is an asterisk.
                let name = match name.strip_suffix('+') {
                    Some(prefix) => format!("{prefix}*"),
                    None => name.clone(),
                };
                Some(format!("iifname {not}{name}"))
            }
        }
    }

    fn external_chain(&self, tx: &mut Tx) {
        let (chain, cluster) = (self.own("external"), self.own("service"));
        if self.port.external_local {
            if let Some(from) = self.pod_match(true) {
                // Pods go straight to the Service, as if the packet had been to the load balancer and back.
                let rule = format!("{from} goto {cluster}");
                tx.add_rule(&chain, &rule, Some("short-circuit pod traffic"));
            }
            // From the node itself; its source may be the load balancer's address, which is local too.
            let rule = format!("fib saddr type local jump {MARK_MASQ}");
            tx.add_rule(&chain, &rule, Some("masquerade local traffic"));
            let rule = format!("fib saddr type local goto {cluster}");
            tx.add_rule(&chain, &rule, Some("short-circuit local traffic"));
        } else {
            // The endpoint may be on another node, whose answer has to come back here.
            tx.add_rule(&chain, &format!("jump {MARK_MASQ}"), None);
        }
        if self.external.is_none() {
            let to = self.own(policy(self.port.external_local));
            tx.add_rule(&chain, &format!("goto {to}"), None);
        }
    }

    fn firewall_chain(&self, tx: &mut Tx) {
        let (ranges, vips) = (&self.port.source_ranges, &self.port.vips);
        let mut sources: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        if ranges
            .iter()
            .any(|range| range.contains(self.settings.node_ip))
        {
            // From the node itself, with the load balancer's address as source.
            sources.extend(vips.iter().map(ToString::to_string));
        }
        let (ip, sources) = (self.words.ip, sources.join(" , "));
        let rule = format!("{ip} saddr != {{ {sources} }} drop");
        tx.add_rule(&self.own("firewall"), &rule, None);
    }

    /// Affinity first, then by chance.
    fn policy_chain(&self, chain: &str, set: &[&Endpoint], tx: &mut Tx) {
        let bases = self.bases(set);
        if self.port.affinity.is_some() {
            let ip = self.words.ip;
            for base in &bases {
                let rule = format!("{ip} saddr @affinity-{base} goto endpoint-{base}");
                tx.add_rule(chain, &rule, None);
            }
        }
        let goto = |(i, base)| format!("{i} : goto endpoint-{base}");
        let choices: Vec<String> = bases.iter().enumerate().map(goto).collect();
        let (n, choices) = (choices.len(), choices.join(" , "));
        let rule = format!("numgen random mod {n} vmap {{ {choices} }}");
        tx.add_rule(chain, &rule, None);
    }

    fn endpoint_chain(&self, endpoint: &Endpoint, tx: &mut Tx) {
        let address = endpoint.address();
        let base = nft_base(&self.port.name, Some(&address));
        let (chain, ip) = (format!("endpoint-{base}"), self.words.ip);
        // Back to where it came from: the pod would not know its own address as source.
        let rule = format!("{ip} saddr {} jump {MARK_MASQ}", endpoint.ip);
        tx.add_rule(&chain, &rule, None);
        if self.port.affinity.is_some() {
            let rule = format!("update @affinity-{base} {{ {ip} saddr }}");
            tx.add_rule(&chain, &rule, None);
        }
        let rule = format!("meta l4proto {} dnat to {address}", self.protocol);
        tx.add_rule(&chain, &rule, None);
    }
}

/// The chain of a policy.
fn policy(local: bool) -> &'static str {
    if local { "local" } else { "service" }
}
