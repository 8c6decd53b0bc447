//! Chains and rules that do not depend on Services, and the jumps into them.
//!
//! kubernetes `pkg/proxy/iptables/proxier.go` (iptablesJumpChains, syncProxyRules before and after its loop).

use super::Desired;
use crate::kube::proxy::Settings;
use crate::kube::service::Family;

pub(super) const SERVICES: &str = "KUBE-SERVICES";
pub(super) const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub(super) const NODE_PORTS: &str = "KUBE-NODEPORTS";
pub(super) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
pub(super) const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// nfacct counter of connections to NodePorts at 127.0.0.1 (pkg/proxy/metrics).
pub(super) const LOCALHOST_COUNTER: &str = "localhost_nps_accepted_pkts";
const INVALID_COUNTER: &str = "ct_state_invalid_dropped_pkts";
const FORWARD: &str = "KUBE-FORWARD";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const FIREWALL: &str = "KUBE-FIREWALL";

/// A jump that is put in front of a built-in chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jump {
    /// The table.
    pub table: &'static str,
    /// Where from.
    pub from: &'static str,
    /// Where to; the chain is made if it is not there.
    pub to: &'static str,
    /// The rule's matches.
    pub matches: &'static str,
}

const fn jump(
    table: &'static str,
    from: &'static str,
    to: &'static str,
    matches: &'static str,
) -> Jump {
    Jump {
        table,
        from,
        to,
        matches,
    }
}

const EXTERNAL_NEW: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\"";
const SERVICES_NEW: &str =
    "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\"";
const FIREWALL_NEW: &str =
    "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\"";
const HEALTH: &str = "-m comment --comment \"kubernetes health check service ports\"";
const FORWARDING: &str = "-m comment --comment \"kubernetes forwarding rules\"";
const PORTALS: &str = "-m comment --comment \"kubernetes service portals\"";
const POST: &str = "-m comment --comment \"kubernetes postrouting rules\"";

/// In the order in which they are put in front, so that the last of a chain comes first in it
/// (iptablesJumpChains, then iptablesKubeletJumpChains).
pub const JUMPS: &[Jump] = &[
    jump("filter", "INPUT", EXTERNAL_SERVICES, EXTERNAL_NEW),
    jump("filter", "FORWARD", EXTERNAL_SERVICES, EXTERNAL_NEW),
    jump("filter", "INPUT", NODE_PORTS, HEALTH),
    jump("filter", "FORWARD", SERVICES, SERVICES_NEW),
    jump("filter", "OUTPUT", SERVICES, SERVICES_NEW),
    jump("filter", "FORWARD", FORWARD, FORWARDING),
    jump("filter", "INPUT", PROXY_FIREWALL, FIREWALL_NEW),
    jump("filter", "OUTPUT", PROXY_FIREWALL, FIREWALL_NEW),
    jump("filter", "FORWARD", PROXY_FIREWALL, FIREWALL_NEW),
    jump("nat", "OUTPUT", SERVICES, PORTALS),
    jump("nat", "PREROUTING", SERVICES, PORTALS),
    jump("nat", "POSTROUTING", POSTROUTING, POST),
    jump("filter", "INPUT", FIREWALL, ""),
    jump("filter", "OUTPUT", FIREWALL, ""),
];

/// `0x00004000`, as NewProxier prints it.
fn mark(settings: &Settings) -> String {
    format!("{:#010x}", settings.mark)
}

/// What stands before the Services.
pub(super) fn begin(settings: &Settings, out: &mut Desired) {
    let (filter, nat) = (&mut out.filter, &mut out.nat);
    for chain in [
        SERVICES,
        EXTERNAL_SERVICES,
        FORWARD,
        NODE_PORTS,
        PROXY_FIREWALL,
    ] {
        filter.chain(chain);
    }
    for chain in [SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQ] {
        nat.chain(chain);
    }
    let mark = mark(settings);
    nat.rule(format!(
        "-A {POSTROUTING} -m mark ! --mark {mark}/{mark} -j RETURN"
    ));
    // Cleared, lest the packet be masqueraded once more when it passes the stack again.
    nat.rule(format!("-A {POSTROUTING} -j MARK --xor-mark {mark}"));
    let fully = if settings.features.random_fully {
        " --random-fully"
    } else {
        ""
    };
    nat.rule(format!(
        "-A {POSTROUTING} -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE{fully}"
    ));
    nat.rule(format!("-A {MARK_MASQ} -j MARK --or-mark {mark}"));
    if settings.family == Family::V4 && settings.localhost_node_ports {
        // Against CVE-2020-8558, which route_localnet opens; kubelet writes the same rule.
        filter.chain(FIREWALL);
        filter.rule(format!(
            "-A {FIREWALL} -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        ));
    }
}

/// What stands after them.
pub(super) fn end(settings: &Settings, out: &mut Desired) {
    let head = format!(
        "-A {SERVICES} -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\""
    );
    match &settings.node_port_ips {
        None => {
            let except = match (settings.family, settings.localhost_node_ports) {
                // There is no route_localnet in IPv6.
                (Family::V6, _) => " ! -d ::1/128",
                (Family::V4, false) => " ! -d 127.0.0.0/8",
                (Family::V4, true) => "",
            };
            out.nat.rule(format!(
                "{head} -m addrtype --dst-type LOCAL{except} -j {NODE_PORTS}"
            ));
        }
        Some(ips) => {
            let works = settings.family == Family::V4 && settings.localhost_node_ports;
            for ip in ips.iter().filter(|ip| works || !ip.is_loopback()) {
                out.nat.rule(format!("{head} -d {ip} -j {NODE_PORTS}"));
            }
        }
    }
    forward(settings, out);
}

fn forward(settings: &Settings, out: &mut Desired) {
    let filter = &mut out.filter;
    if !settings.features.tcp_be_liberal {
        // kubernetes issues 74839 and 117924: an INVALID segment that is not translated resets connections.
        let counter = if settings.features.nfacct {
            format!(" -m nfacct --nfacct-name {INVALID_COUNTER}")
        } else {
            String::new()
        };
        filter.rule(format!(
            "-A {FORWARD} -m conntrack --ctstate INVALID{counter} -j DROP"
        ));
    }
    let mark = mark(settings);
    filter.rule(format!(
        "-A {FORWARD} -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
    ));
    filter.rule(format!(
        "-A {FORWARD} -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ));
}
