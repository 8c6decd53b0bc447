//! Felix's filter chains: Calico's iptables data plane.
//!
//! projectcalico/calico at 018190a (v3.29: tiers by name, before policy groups are wider than one):
//! felix/rules/static.go (`StaticFilterForwardChains`, `filterInputChain`, `filterOutputChain`,
//! `filterWorkloadToHostChain`), dispatch.go (`interfaceNameDispatchChains`), endpoints.go
//! (`endpointIptablesChain`), iptables/actions.go and match_builder.go (the words); libcalico-go
//! lib/hash/unique_id.go (names). The raw and mangle chains, host endpoints' failsafes and the chains for
//! IPVS are not laid. Policies' own chains are in `calico_rules`. Invariant: a rule's comment is the
//! hash of all rules of its chain up to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::Options;
use super::calico_rules::{policy_chain, policy_chain_name, profile_chain};
use super::layout::{Filter, HookRule, Layout, RuleLine, SetText};
use super::plan::{Member, Plan};
use crate::base::Origin;
use crate::kube::cni::calico::{rules, veth_name};
use crate::kube::podpath_v1alpha1::{Deny, Reach};
use crate::kube::policy::{Direction, Tier};

/// The bits of the mark (felix/config: IptablesMarkMask 0xffff0000, handed out from the lowest).
pub(super) mod mark {
    /// A policy or profile accepted.
    pub const ACCEPT: u32 = 0x1_0000;
    /// A policy passed to the next tier.
    pub const PASS: u32 = 0x2_0000;
    /// All blocks of a rule matched.
    pub const ALL_BLOCKS: u32 = 0x4_0000;
    /// The block being asked matched.
    pub const THIS_BLOCK: u32 = 0x8_0000;
}

/// Longest name of an iptables chain (felix/iptables: MaxChainNameLength).
const CHAIN_NAME_MAX: usize = 28;

/// A node as Felix knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// All nodes' addresses.
    pub hosts: Vec<IpAddr>,
    /// A pool uses IPIP.
    pub ipip: bool,
    /// A pool uses VXLAN.
    pub vxlan: bool,
    /// Pods' service accounts, where it is not `default`.
    pub service_accounts: BTreeMap<crate::kube::store::Name, String>,
    /// Whether the node has IPv6.
    pub v6: bool,
}

/// A chain being written: matches and target of each rule, without the comment that names it.
pub(super) struct Chain {
    pub name: String,
    pub rules: Vec<RuleLine>,
}

impl Chain {
    pub fn new(name: impl Into<String>) -> Self {
        Chain {
            name: name.into(),
            rules: Vec::new(),
        }
    }

    pub fn rule(&mut self, text: impl Into<String>) -> &mut Self {
        self.rules.push(RuleLine::fixed(text));
        self
    }

    pub fn said(&mut self, comment: &str, text: &str) -> &mut Self {
        self.rule(format!("-m comment --comment \"{comment}\" {text}"))
    }

    /// Puts Felix's comments before its rules.
    fn into_lines(self) -> (String, Vec<RuleLine>) {
        let texts: Vec<String> = self.rules.iter().map(|r| r.text.clone()).collect();
        let named = rules::hashes(&self.name, &texts);
        let line = |(r, hash): (RuleLine, String)| RuleLine {
            text: format!("-m comment --comment \"cali:{hash}\" {}", r.text),
            ..r
        };
        let lines = self.rules.into_iter().zip(named).map(line).collect();
        (self.name, lines)
    }
}

/// `libcalico-go/lib/hash` GetLengthLimitedID for chains.
pub(super) fn chain_name(prefix: &str, rest: &str) -> String {
    let len = prefix.len() + rest.len();
    if len < CHAIN_NAME_MAX || (len == CHAIN_NAME_MAX && !rest.starts_with('_')) {
        return format!("{prefix}{rest}");
    }
    let hash = rules::base64(&Sha256::digest(rest.as_bytes()));
    let left = CHAIN_NAME_MAX.saturating_sub(prefix.len() + 1);
    format!("{prefix}_{}", hash.get(..left).unwrap_or(&hash))
}

/// One family while it is written.
pub(super) struct Family<'p> {
    pub plan: &'p Plan,
    pub options: Options,
    pub v6: bool,
    pub sets: BTreeMap<String, SetText>,
}

impl Family<'_> {
    /// What becomes of what is not allowed.
    pub fn deny(&self) -> &'static str {
        match self.options.deny {
            Deny::Drop => "--jump DROP",
            Deny::Reject => "--jump REJECT",
        }
    }

    /// `cali40` and the rest of a set's name; felix/ipsets: at most 31 bytes.
    pub fn set_name(&self, id: &str) -> String {
        let digit = if self.v6 { 6 } else { 4 };
        format!("cali{digit}0{id}")
    }

    /// Has a set of this type, with these members.
    pub fn set(&mut self, name: &str, kind: &str, members: BTreeSet<String>) {
        let family = if self.v6 { "inet6" } else { "inet" };
        let kind = format!("{kind} family {family} maxelem 1048576");
        self.sets.insert(name.to_owned(), SetText { kind, members });
    }
}

/// All that Felix wants on a node for policies.
pub fn layout(plan: &Plan, host: &Host, options: Options) -> Layout {
    let mut out = Layout::default();
    for v6 in [false, true] {
        if v6 && !host.v6 {
            continue;
        }
        let mut family = Family {
            plan,
            options,
            v6,
            sets: BTreeMap::new(),
        };
        let filter = family.filter(host);
        out.sets.extend(family.sets);
        out.filter[usize::from(v6)] = filter;
    }
    out
}

impl Family<'_> {
    fn filter(&mut self, host: &Host) -> Filter {
        let plan = self.plan;
        let pods: Vec<(usize, &Member)> = plan.on_node(&host.name).collect();
        let names: BTreeMap<String, usize> = pods
            .iter()
            .map(|(i, p)| (veth_name(&p.name.namespace, &p.name.name), *i))
            .collect();
        let mut chains = vec![forward()];
        chains.push(self.input(host));
        chains.push(self.output(host));
        chains.push(self.workload_to_host());
        for empty in [
            "cali-from-host-endpoint",
            "cali-to-host-endpoint",
            "cali-from-hep-forward",
            "cali-to-hep-forward",
            "cali-cidr-block",
        ] {
            chains.push(Chain::new(empty));
        }
        let ifaces: Vec<&str> = names.keys().map(String::as_str).collect();
        chains.extend(self.dispatch("cali-from-wl-dispatch", "cali-fw-", "in", &ifaces));
        chains.extend(self.dispatch("cali-to-wl-dispatch", "cali-tw-", "out", &ifaces));
        let mut profiles = BTreeSet::new();
        for (iface, pod) in &names {
            for direction in Direction::ALL {
                chains.push(self.endpoint(iface, *pod, direction, host, &mut profiles));
            }
        }
        for (direction, id) in &profiles {
            chains.push(profile_chain(*direction, id));
        }
        let here: BTreeSet<usize> = pods.iter().map(|(i, _)| *i).collect();
        for policy in &plan.policies {
            if policy.subject.is_disjoint(&here) {
                continue;
            }
            for direction in Direction::ALL {
                if let Some(lines) = policy.rules(direction) {
                    chains.push(policy_chain(self, policy, direction, lines));
                }
            }
        }
        Filter {
            chains: chains.into_iter().map(Chain::into_lines).collect(),
            hooks: hooks(),
        }
    }

    /// `filterInputChain`.
    fn input(&mut self, host: &Host) -> Chain {
        let mut c = Chain::new("cali-INPUT");
        let deny = self.deny();
        let known = |me: &mut Self, id: &str| {
            let all = host.hosts.iter().filter(|ip| ip.is_ipv6() == me.v6);
            let members = all.map(ToString::to_string).collect();
            let name = me.set_name(id);
            me.set(&name, "hash:net", members);
            name
        };
        if host.ipip && !self.v6 {
            let set = known(self, "all-hosts-net");
            c.said(
                "Allow IPIP packets from Calico hosts",
                &format!(
                    "-p 4 -m set --match-set {set} src -m addrtype --dst-type LOCAL --jump ACCEPT"
                ),
            );
            let text = format!("-p 4 {deny}");
            c.said("Drop IPIP packets from non-Calico hosts", &text);
        }
        if host.vxlan {
            let set = known(self, "all-vxlan-net");
            let family = if self.v6 { "IPv6" } else { "IPv4" };
            let ports = "-p 17 -m multiport --destination-ports 4789";
            let said = format!("Allow {family} VXLAN packets from allowed hosts");
            let text = format!(
                "{ports} -m set --match-set {set} src -m addrtype --dst-type LOCAL --jump ACCEPT"
            );
            c.said(&said, &text);
            let said = format!("Drop {family} VXLAN packets from non-allowed hosts");
            c.said(
                &said,
                &format!("{ports} -m addrtype --dst-type LOCAL {deny}"),
            );
        }
        c.rule("--in-interface cali+ --goto cali-wl-to-host")
            .rule("-m mark --mark 0x10000/0x10000 --jump ACCEPT")
            .rule("--jump MARK --set-mark 0/0xf0000")
            .rule("--jump cali-from-host-endpoint")
            .said(
                "Host endpoint policy accepted packet.",
                "-m mark --mark 0x10000/0x10000 --jump ACCEPT",
            );
        c
    }

    /// `filterOutputChain`.
    fn output(&mut self, host: &Host) -> Chain {
        let mut c = Chain::new("cali-OUTPUT");
        c.rule("-m mark --mark 0x10000/0x10000 --jump ACCEPT")
            .rule("--out-interface cali+ --jump RETURN");
        if host.ipip && !self.v6 {
            let set = self.set_name("all-hosts-net");
            c.said(
                "Allow IPIP packets to other Calico hosts",
                &format!(
                    "-p 4 -m set --match-set {set} dst -m addrtype --src-type LOCAL --jump ACCEPT"
                ),
            );
        }
        if host.vxlan {
            let set = self.set_name("all-vxlan-net");
            let family = if self.v6 { "IPv6" } else { "IPv4" };
            c.said(
                &format!("Allow {family} VXLAN packets to other allowed hosts"),
                &format!(
                    "-p 17 -m multiport --destination-ports 4789 -m addrtype --src-type LOCAL \
                     -m set --match-set {set} dst --jump ACCEPT"
                ),
            );
        }
        c.rule("--jump MARK --set-mark 0/0xf0000")
            .rule("-m conntrack ! --ctstate DNAT --jump cali-to-host-endpoint")
            .said(
                "Host endpoint policy accepted packet.",
                "-m mark --mark 0x10000/0x10000 --jump ACCEPT",
            );
        c
    }

    /// `filterWorkloadToHostChain`; the manifests set DefaultEndpointToHostAction to ACCEPT.
    fn workload_to_host(&self) -> Chain {
        let mut c = Chain::new("cali-wl-to-host");
        if self.v6 {
            for kind in [130, 131, 132, 133, 135, 136] {
                c.rule(format!("-p 58 -m icmp6 --icmpv6-type {kind} --jump ACCEPT"));
            }
        }
        if self.options.own_node == Reach::Filtered {
            c.rule("--jump cali-from-wl-dispatch");
        }
        c.said("Configured DefaultEndpointToHostAction", "--jump ACCEPT");
        c
    }

    /// `interfaceNameDispatchChains`: a tree of one level by the first letter that differs.
    fn dispatch(&self, root: &str, to: &str, way: &str, ifaces: &[&str]) -> Vec<Chain> {
        let common = common_prefix(ifaces);
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for iface in ifaces {
            let prefix = iface.get(..common + 1).unwrap_or(iface);
            groups.entry(prefix).or_default().push(iface);
        }
        let unknown = |c: &mut Chain| {
            c.said("Unknown interface", self.deny());
        };
        let go = |c: &mut Chain, iface: &str| {
            let target = chain_name(to, iface);
            c.rule(format!("--{way}-interface {iface} --goto {target}"));
        };
        let mut out = Vec::new();
        let mut top = Chain::new(root);
        for (prefix, members) in groups {
            if let [one] = members.as_slice() {
                go(&mut top, one);
                continue;
            }
            let name = format!("{root}-{}", prefix.get(common..).unwrap_or_default());
            top.rule(format!("--{way}-interface {prefix}+ --goto {name}"));
            let mut child = Chain::new(name);
            members.iter().for_each(|iface| go(&mut child, iface));
            unknown(&mut child);
            out.push(child);
        }
        unknown(&mut top);
        out.push(top);
        out
    }

    /// `endpointIptablesChain` of a workload, one direction.
    fn endpoint(
        &self,
        iface: &str,
        pod: usize,
        direction: Direction,
        host: &Host,
        profiles: &mut BTreeSet<(Direction, String)>,
    ) -> Chain {
        let (prefix, deny) = (endpoint_prefix(direction), self.deny());
        let mut c = Chain::new(chain_name(prefix, iface));
        c.rule("-m conntrack --ctstate RELATED,ESTABLISHED --jump ACCEPT")
            .rule(format!("-m conntrack --ctstate INVALID {deny}"))
            .rule("--jump MARK --set-mark 0/0x30000");
        if direction == Direction::Egress {
            c.said(
                "Drop VXLAN encapped packets originating in workloads",
                &format!("-p 17 -m multiport --destination-ports 4789 {deny}"),
            );
            let text = format!("-p 4 {deny}");
            c.said(
                "Drop IPinIP encapped packets originating in workloads",
                &text,
            );
        }
        let member = self.plan.pods.get(pod);
        if let (Reach::Open, Some(ip)) = (self.options.hairpin, member.and_then(|p| p.ip(self.v6)))
        {
            c.rule(format!(
                "--source {ip} --destination {ip} --jump MARK --set-mark 0x10000/0x10000"
            ))
            .rule("-m mark --mark 0x10000/0x10000 --jump RETURN");
        }
        for tier in [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline] {
            self.tier(&mut c, pod, tier, direction);
        }
        let Some(member) = member else { return c };
        let account = host.service_accounts.get(&member.name);
        let namespace = &member.name.namespace;
        let account = account.map_or("default", String::as_str);
        for id in [
            format!("kns.{namespace}"),
            format!("ksa.{namespace}.{account}"),
        ] {
            let name = chain_name(profile_prefix(direction), &id);
            c.rule(format!("--jump {name}")).said(
                "Return if profile accepted",
                "-m mark --mark 0x10000/0x10000 --jump RETURN",
            );
            profiles.insert((direction, id));
        }
        c.said("Drop if no profiles matched", deny);
        c
    }

    /// One tier of an endpoint's chain; only the default one ends in a drop.
    fn tier(&self, c: &mut Chain, pod: usize, tier: Tier, direction: Direction) {
        let mut first: Option<Origin> = None;
        for policy in self.plan.of_pod(pod, tier, direction) {
            if first.is_none() {
                let text = format!("Start of tier {}", tier_name(tier));
                c.said(&text, "--jump MARK --set-mark 0/0x20000");
            }
            let origin = Origin::controller("calico", policy.said());
            let name = policy_chain_name(policy, direction);
            c.rules.push(RuleLine::of(
                format!("-m mark --mark 0/0x20000 --jump {name}"),
                &origin,
            ));
            c.said(
                "Return if policy accepted",
                "-m mark --mark 0x10000/0x10000 --jump RETURN",
            );
            first.get_or_insert(origin);
        }
        if let (Tier::NetworkPolicy, Some(_)) = (tier, &first) {
            let all = self.plan.of_pod(pod, tier, direction);
            let all: Vec<String> = all.map(|p| p.said()).collect();
            let text = format!(
                "-m comment --comment \"Drop if no policies passed packet\" -m mark --mark \
                 0/0x20000 {}",
                self.deny()
            );
            let origin = Origin::controller("calico", all.join(", "));
            c.rules.push(RuleLine::of(text, &origin));
        }
    }
}

/// The name of a tier in Calico (libcalico-go/lib/names).
pub(super) fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Admin => "adminnetworkpolicy",
        Tier::NetworkPolicy => "default",
        Tier::Baseline => "baselineadminnetworkpolicy",
    }
}

fn endpoint_prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "cali-tw-",
        Direction::Egress => "cali-fw-",
    }
}

pub(super) fn profile_prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "cali-pri-",
        Direction::Egress => "cali-pro-",
    }
}

/// `StaticFilterForwardChains`.
fn forward() -> Chain {
    let mut c = Chain::new("cali-FORWARD");
    c.rule("--jump MARK --set-mark 0/0xe0000")
        .rule("-m mark --mark 0/0x10000 --jump cali-from-hep-forward")
        .rule("--in-interface cali+ --jump cali-from-wl-dispatch")
        .rule("--out-interface cali+ --jump cali-to-wl-dispatch")
        .rule("--jump cali-to-hep-forward")
        .rule("--jump cali-cidr-block");
    c
}

/// The jumps from the built-in chains, before others' rules, and what is appended to FORWARD
/// (`StaticFilterForwardAppendRules`).
fn hooks() -> Vec<HookRule> {
    let mut out = Vec::new();
    for (chain, to) in [
        ("INPUT", "cali-INPUT"),
        ("FORWARD", "cali-FORWARD"),
        ("OUTPUT", "cali-OUTPUT"),
    ] {
        let mut c = Chain::new(chain);
        c.rule(format!("--jump {to}"));
        out.extend(c.into_lines().1.into_iter().map(|l| HookRule {
            chain,
            first: true,
            text: l.text,
        }));
    }
    // felix/iptables/table.go hashes appended rules as those of a chain of this name.
    let mut c = Chain::new("FORWARD*appends*");
    c.said(
        "Policy explicitly accepted packet.",
        "-m mark --mark 0x10000/0x10000 --jump ACCEPT",
    )
    .rule("--jump MARK --set-mark 0x10000/0x10000");
    out.extend(c.into_lines().1.into_iter().map(|l| HookRule {
        chain: "FORWARD",
        first: false,
        text: l.text,
    }));
    out
}

fn common_prefix(names: &[&str]) -> usize {
    let Some((first, rest)) = names.split_first() else {
        return 0;
    };
    let shared = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    rest.iter()
        .map(|n| shared(first, n))
        .min()
        .unwrap_or(first.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::podpath_v1alpha1::Enforcement;

    /// The comments that nodes with Calico's iptables data plane have, whatever their policies.
    #[test]
    fn hashes_are_felix_s() {
        let plan = Plan::default();
        let host = Host {
            name: "n".to_owned(),
            ipip: true,
            ..Host::default()
        };
        let layout = layout(
            &plan,
            &host,
            Options::of(Enforcement::Calico, &Default::default()),
        );
        let mut text = String::new();
        for (name, lines) in &layout.filter[0].chains {
            lines
                .iter()
                .for_each(|l| text += &format!("-A {name} {}\n", l.text));
        }
        for hook in &layout.filter[0].hooks {
            text += &format!("-A {} {}\n", hook.chain, hook.text);
        }
        for hash in [
            "Cz_u1IQiXIMmKD4c",
            "wUHhoiAYhphO9Mso",
            "S93hcgKJrXEqnTfs",
            "mp77cMpurHhyjLrM",
            "tVnHkvAo15HuiPy0",
            "vjrMJCRpqwy5oRoX",
            "A_sPAO0mcxbT9mOV",
            "8ZoYfO5HKXWbB3pk",
            "jdEuaPBe14V2hutn",
            "12bc6HljsMKsmfr-",
            "NOSxoaGx8OIstr1z",
            "PajejrV4aFdkZojI",
            "_wjq-Yrma8Ly1Svo",
            "Ee9Sbo10IpVujdIY",
            "nSZbcOoG1xPONxb8",
            "Mq1_rAdXXH3YkrzW",
            "69FkRTJDvD5Vu6Vl",
        ] {
            assert!(text.contains(&format!("cali:{hash}")), "{hash} in\n{text}");
        }
        assert_eq!(
            chain_name("cali-pri-", "ksa.kube-system.coredns"),
            "cali-pri-_u2Tn2rSoAPffvE7JO6"
        );
        assert_eq!(
            chain_name("cali-pri-", "kns.default"),
            "cali-pri-kns.default"
        );
    }
}
