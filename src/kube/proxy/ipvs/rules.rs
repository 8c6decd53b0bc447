//! The iptables rules of IPVS mode, which use the sets, and the jumps into their chains.
//!
//! kubernetes `pkg/proxy/ipvs/proxier.go` (iptablesJumpChain, ipsetWithIptablesChain, writeIptablesRules,
//! acceptIPVSTraffic, createAndLinkKubeChain). All of it is written on every sync.

use super::sets::SetKind;
use super::{Desired, IpvsSettings};
use crate::kube::proxy::iptables::Ensure;
use crate::kube::proxy::{LocalDetector, Settings};
use crate::kube::service::Family;

const SERVICES: &str = "KUBE-SERVICES";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const NODE_PORT: &str = "KUBE-NODE-PORT";
const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const FORWARD: &str = "KUBE-FORWARD";
const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
const FILTER: &str = "KUBE-IPVS-FILTER";
const OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

const NAT_CHAINS: [&str; 5] = [SERVICES, POSTROUTING, NODE_PORT, LOAD_BALANCER, MARK_MASQ];
const FILTER_CHAINS: [&str; 6] = [
    FORWARD,
    NODE_PORT,
    PROXY_FIREWALL,
    SOURCE_RANGES,
    FILTER,
    OUT_FILTER,
];

/// Table, from, to, comment: in the order in which they are put in front.
const JUMPS: &[(&str, &str, &str, &str)] = &[
    ("nat", "OUTPUT", SERVICES, "kubernetes service portals"),
    ("nat", "PREROUTING", SERVICES, "kubernetes service portals"),
    (
        "nat",
        "POSTROUTING",
        POSTROUTING,
        "kubernetes postrouting rules",
    ),
    ("filter", "FORWARD", FORWARD, "kubernetes forwarding rules"),
    (
        "filter",
        "INPUT",
        NODE_PORT,
        "kubernetes health check rules",
    ),
    (
        "filter",
        "INPUT",
        PROXY_FIREWALL,
        "kube-proxy firewall rules",
    ),
    (
        "filter",
        "FORWARD",
        PROXY_FIREWALL,
        "kube-proxy firewall rules",
    ),
    ("filter", "INPUT", FILTER, "kubernetes ipvs access filter"),
    (
        "filter",
        "OUTPUT",
        OUT_FILTER,
        "kubernetes ipvs access filter",
    ),
];

/// What kube-proxy makes before the restore of every sync.
pub fn jumps() -> Vec<Ensure> {
    let nat = NAT_CHAINS.map(|chain| Ensure::chain("nat", chain));
    let filter = FILTER_CHAINS.map(|chain| Ensure::chain("filter", chain));
    let rules = JUMPS.iter().map(|(table, from, to, comment)| {
        let rule = format!("-m comment --comment \"{comment}\" -j {to}");
        Ensure::rule(table, from, rule)
    });
    nat.into_iter().chain(filter).chain(rules).collect()
}

/// The restore input.
pub(super) fn text(desired: &Desired, settings: &Settings) -> String {
    let mut w = Writer {
        desired,
        family: settings.family,
        nat: Vec::new(),
        filter: Vec::new(),
    };
    let loopback = match settings.family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    w.nat.push(format!("-A {SERVICES} -s {loopback} -j RETURN"));
    w.by_set();
    w.cluster_ips(settings);
    w.external_ips();
    let local = "-m addrtype --dst-type LOCAL";
    w.nat.push(format!("-A {SERVICES} {local} -j {NODE_PORT}"));
    w.nat.push(format!("-A {LOAD_BALANCER} -j {MARK_MASQ}"));
    w.filter.push(format!("-A {SOURCE_RANGES} -j DROP"));
    for (ip, protocol, port) in &desired.not_from_node {
        // Here the source is the address too.
        w.filter.push(format!(
            "-A {OUT_FILTER} -s {ip} -m ipvs --vaddr {ip} --vproto {protocol} --vport {port} -j DROP"
        ));
    }
    for kind in [SetKind::ClusterIp, SetKind::LoadBalancer] {
        if w.has(kind) {
            let set = w.set(kind, "dst,dst");
            w.nat.push(format!("-A {SERVICES} {set} -j ACCEPT"));
        }
    }
    w.filter(settings);
    w.masquerade(settings);
    let mut out = String::new();
    for (table, chains, rules) in [
        ("nat", &NAT_CHAINS[..], &w.nat),
        ("filter", &FILTER_CHAINS[..], &w.filter),
    ] {
        out.push_str(&format!("*{table}\n"));
        out.extend(chains.iter().map(|chain| format!(":{chain} - [0:0]\n")));
        out.extend(rules.iter().map(|rule| format!("{rule}\n")));
        out.push_str("COMMIT\n");
    }
    out
}

/// Set, filter or nat, from, to, dimensions, protocol.
type SetRule = (
    SetKind,
    bool,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Rules that are there when the set has an entry (ipsetWithIptablesChain).
const BY_SET: &[SetRule] = {
    use SetKind as S;
    &[
        (
            S::LoopBack,
            false,
            POSTROUTING,
            "MASQUERADE",
            "dst,dst,src",
            "",
        ),
        (
            S::LoadBalancer,
            false,
            SERVICES,
            LOAD_BALANCER,
            "dst,dst",
            "",
        ),
        (
            S::LoadBalancerLocal,
            false,
            LOAD_BALANCER,
            "RETURN",
            "dst,dst",
            "",
        ),
        (
            S::NodePortLocalTcp,
            false,
            NODE_PORT,
            "RETURN",
            "dst",
            "tcp",
        ),
        (S::NodePortTcp, false, NODE_PORT, MARK_MASQ, "dst", "tcp"),
        (
            S::NodePortLocalUdp,
            false,
            NODE_PORT,
            "RETURN",
            "dst",
            "udp",
        ),
        (S::NodePortUdp, false, NODE_PORT, MARK_MASQ, "dst", "udp"),
        (
            S::NodePortLocalSctp,
            false,
            NODE_PORT,
            "RETURN",
            "dst,dst",
            "sctp",
        ),
        (
            S::NodePortSctp,
            false,
            NODE_PORT,
            MARK_MASQ,
            "dst,dst",
            "sctp",
        ),
        (
            S::LoadBalancerFw,
            true,
            PROXY_FIREWALL,
            SOURCE_RANGES,
            "dst,dst",
            "",
        ),
        (
            S::LoadBalancerSourceCidr,
            true,
            SOURCE_RANGES,
            "RETURN",
            "dst,dst,src",
            "",
        ),
        (
            S::LoadBalancerSourceIp,
            true,
            SOURCE_RANGES,
            "RETURN",
            "dst,dst,src",
            "",
        ),
    ]
};

struct Writer<'w> {
    desired: &'w Desired,
    family: Family,
    nat: Vec<String>,
    filter: Vec<String>,
}

impl Writer<'_> {
    fn has(&self, kind: SetKind) -> bool {
        self.desired.sets.get(&kind).is_some_and(|s| !s.is_empty())
    }

    fn set(&self, kind: SetKind, dimensions: &str) -> String {
        format!("-m set --match-set {} {dimensions}", kind.name(self.family))
    }

    fn with_comment(&self, kind: SetKind, dimensions: &str) -> String {
        let set = self.set(kind, dimensions);
        format!("-m comment --comment \"{}\" {set}", kind.comment())
    }

    fn by_set(&mut self) {
        for (kind, filter, from, to, dimensions, protocol) in BY_SET {
            if !self.has(*kind) {
                continue;
            }
            let protocol = match *protocol {
                "" => String::new(),
                p => format!("-p {p} "),
            };
            let matches = self.with_comment(*kind, dimensions);
            let rule = format!("-A {from} {protocol}{matches} -j {to}");
            if *filter {
                self.filter.push(rule);
            } else {
                self.nat.push(rule);
            }
        }
    }

    fn cluster_ips(&mut self, settings: &Settings) {
        if !self.has(SetKind::ClusterIp) {
            return;
        }
        let (dimensions, from) = match (&settings.detector, settings.masquerade_all) {
            (_, true) => ("dst,dst", String::new()),
            // The node's own packets to a VIP have that VIP, which is local, as source.
            (LocalDetector::None, false) => ("src,dst", String::new()),
            (LocalDetector::Cidr(cidr), false) => ("dst,dst", format!(" ! -s {cidr}")),
            (LocalDetector::Interface(name), false) => ("dst,dst", format!(" ! -i {name}")),
        };
        let matches = self.with_comment(SetKind::ClusterIp, dimensions);
        self.nat
            .push(format!("-A {SERVICES} {matches}{from} -j {MARK_MASQ}"));
    }

    fn external_ips(&mut self) {
        for (kind, masquerade) in [
            (SetKind::ExternalIp, true),
            (SetKind::ExternalIpLocal, false),
        ] {
            if !self.has(kind) {
                continue;
            }
            let head = format!("-A {SERVICES} {}", self.with_comment(kind, "dst,dst"));
            if masquerade {
                self.nat.push(format!("{head} -j {MARK_MASQ}"));
            }
            // Neither from a bridge nor from a local process: from outside the machine, roughly.
            self.nat.push(format!(
                "{head} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
            ));
            self.nat
                .push(format!("{head} -m addrtype --dst-type LOCAL -j ACCEPT"));
        }
    }

    fn filter(&mut self, settings: &Settings) {
        let mark = mark(settings);
        self.filter.push(format!(
            "-A {FORWARD} -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
        ));
        self.filter.push(format!(
            "-A {FORWARD} -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ));
        let health = self.with_comment(SetKind::HealthCheckNodePort, "dst");
        self.filter
            .push(format!("-A {NODE_PORT} {health} -j ACCEPT"));
        // VIPs are local addresses: without this, every port that listens on all of them would be open there.
        for (kind, dimensions) in [
            (SetKind::LoadBalancer, "dst,dst"),
            (SetKind::ClusterIp, "dst,dst"),
            (SetKind::ExternalIp, "dst,dst"),
            (SetKind::ExternalIpLocal, "dst,dst"),
            (SetKind::HealthCheckNodePort, "dst"),
        ] {
            let set = self.set(kind, dimensions);
            self.filter.push(format!("-A {FILTER} {set} -j RETURN"));
        }
        let set = self.set(SetKind::Ipvs, "dst");
        self.filter.push(format!(
            "-A {FILTER} -m conntrack --ctstate NEW {set} -j REJECT"
        ));
    }

    fn masquerade(&mut self, settings: &Settings) {
        let mark = mark(settings);
        let fully = if settings.features.random_fully {
            " --random-fully"
        } else {
            ""
        };
        self.nat.extend([
            format!("-A {POSTROUTING} -m mark ! --mark {mark}/{mark} -j RETURN"),
            format!("-A {POSTROUTING} -j MARK --xor-mark {mark}"),
            format!("-A {POSTROUTING} -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE{fully}"),
            format!("-A {MARK_MASQ} -j MARK --or-mark {mark}"),
        ]);
    }
}

fn mark(settings: &Settings) -> String {
    format!("{:#010x}", settings.mark)
}

/// What NewProxier sets in the kernel besides what all modes do.
pub fn sysctls(ipvs: &IpvsSettings) -> Vec<(&'static str, String)> {
    let mut out = vec![
        ("net.ipv4.vs.conntrack", 1),
        // conn_reuse_mode is left alone on kernels of 5.9 and later.
        ("net.ipv4.vs.expire_nodest_conn", 1),
        ("net.ipv4.vs.expire_quiescent_template", 1),
        ("net.ipv4.ip_forward", 1),
    ];
    if ipvs.strict_arp {
        out.push(("net.ipv4.conf.all.arp_ignore", 1));
        out.push(("net.ipv4.conf.all.arp_announce", 2));
    }
    let text = |(name, value): (&'static str, i32)| (name, value.to_string());
    out.into_iter().map(text).collect()
}
