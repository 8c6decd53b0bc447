//! What stands around the restore input: chains and jumps that kubelet and kube-proxy make one by one.
//!
//! kubernetes `pkg/kubelet/kubelet_network_linux.go` (initNetworkUtil, syncIPTablesRules),
//! `pkg/util/iptables` (EnsureChain, EnsureRule with Prepend, Monitor), `pkg/proxy/iptables/proxier.go`
//! (syncProxyRules on a full sync). kubelet runs before kube-proxy, so on a node its jumps end up below
//! kube-proxy's.

use core::fmt::Write;

use super::fixed::JUMPS;
use crate::kube::service::Family;

/// kubelet's hint for those who look for the iptables back end in use.
const HINT: &str = "KUBE-IPTABLES-HINT";
/// What kubelet's monitor looks for, in [`MONITORED`].
const KUBELET_CANARY: &str = "KUBE-KUBELET-CANARY";
/// What kube-proxy's monitor looks for, in `MONITORED`: gone means that somebody flushed the tables.
pub const CANARY: &str = "KUBE-PROXY-CANARY";
/// The tables with a canary.
const MONITORED: [&str; 3] = ["mangle", "nat", "filter"];
const FIREWALL: &str = "KUBE-FIREWALL";
const LOCALNET: &str = "-m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 \
                        ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

/// A chain that has to be there, or a rule at the head of one unless the chain has it already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ensure {
    /// The table.
    pub table: &'static str,
    /// The chain.
    pub chain: &'static str,
    /// The rule, without `-A CHAIN`; none for the chain alone.
    pub rule: Option<String>,
}

impl Ensure {
    pub(crate) fn chain(table: &'static str, chain: &'static str) -> Ensure {
        let rule = None;
        Ensure { table, chain, rule }
    }

    pub(crate) fn rule(
        table: &'static str,
        chain: &'static str,
        rule: impl Into<String>,
    ) -> Ensure {
        let rule = Some(rule.into());
        Ensure { table, chain, rule }
    }

    /// The command that does it; `-C` with the same words says whether a rule is there already.
    pub fn command(&self) -> String {
        let (table, chain) = (self.table, self.chain);
        match &self.rule {
            None => format!("-t {table} -N {chain}"),
            Some(rule) => format!("-t {table} -I {chain} {rule}"),
        }
    }
}

/// What kubelet makes at its start.
pub fn kubelet(family: Family) -> Vec<Ensure> {
    let mut out = vec![Ensure::chain("mangle", HINT)];
    if family == Family::V4 {
        // There is no route_localnet in IPv6.
        out.push(Ensure::chain("filter", FIREWALL));
        out.push(Ensure::rule("filter", FIREWALL, LOCALNET));
        for from in ["OUTPUT", "INPUT"] {
            out.push(Ensure::rule("filter", from, format!("-j {FIREWALL}")));
        }
    }
    out.extend(MONITORED.map(|table| Ensure::chain(table, KUBELET_CANARY)));
    out
}

/// What kube-proxy makes before the restore of a full sync.
pub fn jumps() -> Vec<Ensure> {
    let mut out: Vec<Ensure> = MONITORED.map(|t| Ensure::chain(t, CANARY)).into();
    for jump in JUMPS {
        out.push(Ensure::chain(jump.table, jump.to));
        let mut rule = jump.matches.to_owned();
        if !rule.is_empty() {
            rule.push(' ');
        }
        let _ = write!(rule, "-j {}", jump.to);
        out.push(Ensure::rule(jump.table, jump.from, rule));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_typed() {
        let text: Vec<String> = jumps().iter().map(Ensure::command).collect();
        assert_eq!(text[0], "-t mangle -N KUBE-PROXY-CANARY");
        assert_eq!(text[3], "-t filter -N KUBE-EXTERNAL-SERVICES");
        assert_eq!(
            text[4],
            "-t filter -I INPUT -m conntrack --ctstate NEW -m comment --comment \
             \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES"
        );
        assert_eq!(
            text.last().map(String::as_str),
            Some("-t filter -I OUTPUT -j KUBE-FIREWALL")
        );
        assert_eq!(kubelet(Family::V6).len(), 4);
        assert_eq!(kubelet(Family::V4).len(), 8);
    }
}
