//! The rules of one service port.
//!
//! kubernetes `pkg/proxy/iptables/proxier.go` (the loop of syncProxyRules, writeServiceToEndpointRules), in
//! the order in which it writes them. Traffic goes KUBE-SERVICES or KUBE-NODEPORTS, then FW (source ranges),
//! EXT (from outside), SVC or SVL (by policy), SEP (one endpoint).

use core::fmt::Display;
use std::net::IpAddr;

use super::fixed::{
    EXTERNAL_SERVICES, LOCALHOST_COUNTER, MARK_MASQ, NODE_PORTS, PROXY_FIREWALL, SERVICES,
};
use super::{Desired, Table};
use crate::kube::proxy::names::{ChainKind, chain, endpoint_chain, probability};
use crate::kube::proxy::topology::{Categorized, categorize};
use crate::kube::proxy::{LocalDetector, Settings};
use crate::kube::service::{Endpoint, Family, ServicePort};

/// What becomes of a packet that no endpoint may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// No endpoint anywhere.
    Reject,
    /// None on this node, where the policy wants one.
    Drop,
}

impl Refusal {
    fn target(self) -> &'static str {
        match self {
            Refusal::Reject => "REJECT",
            Refusal::Drop => "DROP",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Refusal::Reject => "has no endpoints",
            Refusal::Drop => "has no local endpoints",
        }
    }
}

/// See the module.
pub(super) struct Rules<'r> {
    port: &'r ServicePort,
    settings: &'r Settings,
    /// Without comments in the longest chains.
    large: bool,
    endpoints: Categorized<'r>,
    /// `namespace/name:port`.
    name: String,
    /// `-m tcp -p tcp`.
    protocol: String,
    svc: String,
    svl: String,
    ext: String,
    fw: String,
    /// Why the ClusterIP leads nowhere; none when it does lead somewhere.
    internal: Option<Refusal>,
    /// The same for the addresses from outside.
    external: Option<Refusal>,
}

impl<'r> Rules<'r> {
    pub(super) fn new(
        port: &'r ServicePort,
        endpoints: &'r [Endpoint],
        settings: &'r Settings,
        large: bool,
    ) -> Self {
        let endpoints = categorize(endpoints, port, settings.place());
        let none_here = endpoints.local.as_ref().is_none_or(Vec::is_empty);
        let refusal = |local: bool| match (endpoints.any, local && none_here) {
            (false, _) => Some(Refusal::Reject),
            (true, true) => Some(Refusal::Drop),
            (true, false) => None,
        };
        Rules {
            internal: refusal(port.internal_local),
            external: refusal(port.external_local),
            port,
            settings,
            large,
            endpoints,
            name: port.name.to_string(),
            protocol: format!("-m {0} -p {0}", port.protocol()),
            svc: chain(ChainKind::Cluster, &port.name),
            svl: chain(ChainKind::Local, &port.name),
            ext: chain(ChainKind::External, &port.name),
            fw: chain(ChainKind::Firewall, &port.name),
        }
    }

    /// Writes them; without `changed` the service port's own chains are left as they stand.
    pub(super) fn write(&self, changed: bool, out: &mut Desired) {
        self.cluster_ip(out);
        self.external_ips(out);
        self.load_balancer(out);
        self.node_port(out);
        self.health_check(out);
        let mut own = Table::default();
        self.masquerade(&mut own);
        self.external_chain(&mut own);
        self.firewall_chain(&mut own);
        for (chain, set) in [
            (&self.svc, &self.endpoints.cluster),
            (&self.svl, &self.endpoints.local),
        ] {
            if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
                self.policy_chain(chain, set, &mut own);
            }
        }
        for endpoint in &self.endpoints.reachable {
            self.endpoint_chain(endpoint, &mut own);
        }
        out.active.extend(own.chains.iter().cloned());
        if changed {
            out.nat.chains.append(&mut own.chains);
            out.nat.rules.append(&mut own.rules);
        }
    }

    fn comment(&self, what: &str) -> String {
        format!("-m comment --comment \"{} {what}\"", self.name)
    }

    /// `-m tcp -p tcp -d ADDRESS --dport PORT`.
    fn to(&self, address: IpAddr) -> String {
        format!("{} -d {address} --dport {}", self.protocol, self.port.port)
    }

    fn has_firewall(&self) -> bool {
        self.endpoints.any && !self.port.vips.is_empty() && !self.port.source_ranges.is_empty()
    }

    fn internal_chain(&self) -> &str {
        if self.port.internal_local {
            &self.svl
        } else {
            &self.svc
        }
    }

    fn cluster_ip(&self, out: &mut Desired) {
        let to = self.to(self.port.cluster_ip);
        match self.internal {
            None => {
                let comment = self.comment("cluster IP");
                let chain = self.internal_chain();
                out.nat
                    .rule(format!("-A {SERVICES} {comment} {to} -j {chain}"));
            }
            Some(why) => self.refuse(SERVICES, why, &to, out),
        }
    }

    fn refuse(&self, chain: &str, why: Refusal, matches: &str, out: &mut Desired) {
        let comment = self.comment(why.reason());
        let target = why.target();
        out.filter
            .rule(format!("-A {chain} {comment} {matches} -j {target}"));
    }

    fn external_ips(&self, out: &mut Desired) {
        for ip in &self.port.external_ips {
            let to = self.to(*ip);
            if self.endpoints.any {
                let comment = self.comment("external IP");
                out.nat
                    .rule(format!("-A {SERVICES} {comment} {to} -j {}", self.ext));
            }
            if let Some(why) = self.external {
                self.refuse(EXTERNAL_SERVICES, why, &to, out);
            }
        }
    }

    fn load_balancer(&self, out: &mut Desired) {
        let firewall = self.has_firewall();
        for ip in &self.port.vips {
            let to = self.to(*ip);
            if self.endpoints.any {
                let comment = self.comment("loadbalancer IP");
                let chain = if firewall { &self.fw } else { &self.ext };
                out.nat
                    .rule(format!("-A {SERVICES} {comment} {to} -j {chain}"));
            }
            if firewall {
                let comment = self.comment(&format!("traffic not accepted by {}", self.fw));
                out.filter
                    .rule(format!("-A {PROXY_FIREWALL} {comment} {to} -j DROP"));
            }
        }
        if let Some(why) = self.external {
            for ip in &self.port.vips {
                self.refuse(EXTERNAL_SERVICES, why, &self.to(*ip), out);
            }
        }
    }

    fn node_port(&self, out: &mut Desired) {
        let number = self.port.node_port;
        if number == 0 {
            return;
        }
        let (name, protocol, ext) = (&self.name, &self.protocol, &self.ext);
        if self.endpoints.any {
            // Source ranges do not hold here, for better or worse.
            let head = format!("-A {NODE_PORTS} -m comment --comment {name} {protocol}");
            let settings = self.settings;
            let counted = settings.localhost_node_ports && settings.features.nfacct;
            if counted && settings.family == Family::V4 {
                out.nat.rule(format!(
                    "{head} -d 127.0.0.0/8 --dport {number} -m nfacct --nfacct-name {LOCALHOST_COUNTER} -j {ext}"
                ));
            }
            out.nat.rule(format!("{head} --dport {number} -j {ext}"));
        }
        if let Some(why) = self.external {
            let matches = format!("-m addrtype --dst-type LOCAL {protocol} --dport {number}");
            self.refuse(EXTERNAL_SERVICES, why, &matches, out);
        }
    }

    fn health_check(&self, out: &mut Desired) {
        let number = self.port.health_check_node_port;
        if number != 0 {
            let comment = self.comment("health check node port");
            out.filter.rule(format!(
                "-A {NODE_PORTS} {comment} -m tcp -p tcp --dport {number} -j ACCEPT"
            ));
        }
    }

    /// Traffic to the ClusterIP from outside the cluster, or all of it.
    fn masquerade(&self, own: &mut Table) {
        let condition = match (&self.settings.detector, self.settings.masquerade_all) {
            (_, true) => String::new(),
            (LocalDetector::None, false) => return,
            (LocalDetector::Cidr(cidr), false) => format!(" ! -s {cidr}"),
            (LocalDetector::Interface(name), false) => format!(" ! -i {name}"),
        };
        if self.internal.is_none() {
            let (chain, comment) = (self.internal_chain(), self.comment("cluster IP"));
            let to = self.to(self.port.cluster_ip);
            own.rule(format!(
                "-A {chain} {comment} {to}{condition} -j {MARK_MASQ}"
            ));
        }
    }

    fn external_chain(&self, own: &mut Table) {
        if !self.endpoints.any || !self.port.externally_accessible() {
            return;
        }
        let (ext, svc, name) = (&self.ext, &self.svc, &self.name);
        own.chain(ext.clone());
        let head = |what: &dyn Display| {
            format!("-A {ext} -m comment --comment \"{what} for {name} external destinations\"")
        };
        if self.port.external_local {
            let from_pods = match &self.settings.detector {
                LocalDetector::None => None,
                LocalDetector::Cidr(cidr) => Some(format!("-s {cidr}")),
                LocalDetector::Interface(name) => Some(format!("-i {name}")),
            };
            if let Some(from) = from_pods {
                // Pods go straight to the Service, as if the packet had been to the load balancer and back.
                own.rule(format!("{} {from} -j {svc}", head(&"pod traffic")));
            }
            let local = "-m addrtype --src-type LOCAL";
            // From the node itself; its source may be the load balancer's address, which is local too.
            own.rule(format!(
                "{} {local} -j {MARK_MASQ}",
                head(&"masquerade LOCAL traffic")
            ));
            own.rule(format!("{} {local} -j {svc}", head(&"route LOCAL traffic")));
        } else {
            // The endpoint may be on another node, whose answer has to come back here.
            own.rule(format!("{} -j {MARK_MASQ}", head(&"masquerade traffic")));
        }
        if self.external.is_none() {
            let policy = if self.port.external_local {
                &self.svl
            } else {
                svc
            };
            own.rule(format!("-A {ext} -j {policy}"));
        }
    }

    fn firewall_chain(&self, own: &mut Table) {
        if !self.has_firewall() {
            return;
        }
        let (fw, ext, name) = (&self.fw, &self.ext, &self.name);
        own.chain(fw.clone());
        let head = format!("-A {fw} {}", self.comment("loadbalancer IP"));
        for range in &self.port.source_ranges {
            own.rule(format!("{head} -s {range} -j {ext}"));
        }
        let node = self.settings.node_ip;
        if self
            .port
            .source_ranges
            .iter()
            .any(|range| range.contains(node))
        {
            // From the node itself, with the load balancer's address as source.
            for vip in &self.port.vips {
                own.rule(format!("{head} -s {vip} -j {ext}"));
            }
        }
        own.rule(format!(
            "-A {fw} -m comment --comment \"other traffic to {name} will be dropped by {PROXY_FIREWALL}\""
        ));
    }

    /// SVC or SVL: affinity first, then by chance.
    fn policy_chain(&self, chain: &str, set: &[&Endpoint], own: &mut Table) {
        own.chain(chain);
        let head = |address: &str| {
            if self.large {
                return format!("-A {chain}");
            }
            format!("-A {chain} {}", self.comment(&format!("-> {address}")))
        };
        let targets: Vec<(String, String)> = set
            .iter()
            .map(|endpoint| endpoint.address())
            .map(|address| (endpoint_chain(&self.port.name, &address), address))
            .collect();
        if let Some(seconds) = self.port.affinity {
            for (sep, address) in &targets {
                own.rule(format!(
                    "{} -m recent --name {sep} --rcheck --seconds {seconds} --reap -j {sep}",
                    head(address)
                ));
            }
        }
        for (i, (sep, address)) in targets.iter().enumerate() {
            let chance = match targets.len() - i {
                1 => String::new(),
                left => format!(
                    " -m statistic --mode random --probability {}",
                    probability(left)
                ),
            };
            own.rule(format!("{}{chance} -j {sep}", head(address)));
        }
    }

    fn endpoint_chain(&self, endpoint: &Endpoint, own: &mut Table) {
        let address = endpoint.address();
        let sep = endpoint_chain(&self.port.name, &address);
        let head = if self.large {
            format!("-A {sep}")
        } else {
            format!("-A {sep} -m comment --comment {}", self.name)
        };
        // Back to where it came from: the pod would not know its own address as source.
        own.rule(format!("{head} -s {} -j {MARK_MASQ}", endpoint.ip));
        let remember = match self.port.affinity {
            Some(_) => format!(" -m recent --name {sep} --set"),
            None => String::new(),
        };
        let protocol = &self.protocol;
        own.rule(format!(
            "{head}{remember} {protocol} -j DNAT --to-destination {address}"
        ));
        own.chain(sep);
    }
}
