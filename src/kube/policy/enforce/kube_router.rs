//! kube-router's chains and ipsets (cloudnativelabs/kube-router at 7c2c277, iptables back end).
//!
//! pkg/controllers/netpol/npc_iptables.go (`ensureTopLevelChains`, `ensureCommonPolicyChain`,
//! `ensureDefaultNetworkPolicyChain`, `ensureExplicitAccept`), pod.go (`syncPodFirewallChains`,
//! `setupPodNetpolRules`), policy.go (`syncNetworkPolicyChains`, `appendRuleToPolicyChain`,
//! `evalIPBlockPeer`). Its own deviations are kept: the ipBlocks of a rule share one set, so that an
//! `except` of one cuts out of another; named ports in egress rules without peers are those of the policy's
//! namespace, those with ipBlocks are left out. Chain names carry no sync version here (the real ones
//! change with every sync). Only NetworkPolicy is implemented. Invariant: a pod's chain ends with the mark
//! 0x20000 or not at all.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::Options;
use super::layout::{Filter, HookRule, Layout, RuleLine, SetText};
use super::plan::{Line, Member, Plan, Resolved, Wanted, Who};
use crate::base::Origin;
use crate::kube::podpath_v1alpha1::{Deny, PortRange, Reach};
use crate::kube::policy::{Direction, PortKind, Tier};
use crate::kube::proxy::names::base32;
use crate::kube::service::Protocol;

/// The version in every hashed chain name.
const VERSION: &str = "1";
/// Built-in chains and kube-router's.
const TOP: [(&str, &str); 3] = [
    ("INPUT", "KUBE-ROUTER-INPUT"),
    ("FORWARD", "KUBE-ROUTER-FORWARD"),
    ("OUTPUT", "KUBE-ROUTER-OUTPUT"),
];

/// A node as kube-router knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `--service-cluster-ip-range`.
    pub service_cidrs: Vec<IpNetwork>,
    /// `--service-node-port-range`; 30000-32767 when absent.
    pub node_ports: Option<PortRange>,
    /// Whether the node has IPv6.
    pub v6: bool,
}

/// All that kube-router wants on a node for policies.
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
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        };
        family.write(host);
        out.sets.extend(family.sets);
        out.filter[usize::from(v6)] = Filter {
            chains: family.chains,
            hooks: hooks(),
        };
    }
    out
}

struct Family<'p> {
    plan: &'p Plan,
    options: Options,
    v6: bool,
    chains: BTreeMap<String, Vec<RuleLine>>,
    sets: BTreeMap<String, SetText>,
}

/// What one entry of a rule asks of ports.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Asked {
    protocol: Option<Protocol>,
    ports: Option<(u16, u16)>,
    /// Only these destinations: those whose port has the name.
    only: Option<BTreeSet<String>>,
}

/// `addUUIDForRuleSpec`: the comment with a hash of the rule.
fn with_uuid(chain: &str, before: &[&str], comment: &str, after: &[&str]) -> String {
    let mut spec: Vec<&str> = before.to_vec();
    spec.extend(["-m", "comment", "--comment", comment]);
    spec.extend(after);
    let hash = base32(&format!("{chain}{}", spec.concat()), 16);
    let words = |w: &[&str]| w.join(" ");
    let head = if before.is_empty() {
        String::new()
    } else {
        format!("{} ", words(before))
    };
    format!(
        "{head}-m comment --comment \"{comment} - {hash}\" {}",
        words(after)
    )
}

fn hooks() -> Vec<HookRule> {
    let one = |(chain, own): (&'static str, &'static str)| HookRule {
        chain,
        first: true,
        text: with_uuid(chain, &[], "kube-router netpol", &["-j", own]),
    };
    TOP.map(one).to_vec()
}

fn clamp(text: String) -> String {
    // pkg/controllers/netpol/comments.go: maxCommentLen.
    text.chars().take(120).collect()
}

impl Family<'_> {
    fn write(&mut self, host: &Host) {
        for (_, own) in TOP {
            self.chains.insert(own.to_owned(), Vec::new());
        }
        let plan = self.plan;
        self.input(host);
        self.common();
        let mark = "-m comment --comment \"rule to mark traffic matching a network policy\" -j MARK \
                    --set-xmark 0x10000/0x10000";
        self.push("KUBE-NWPLCY-DEFAULT", RuleLine::fixed(mark));
        let mine = plan
            .policies
            .iter()
            .filter(|p| p.tier == Tier::NetworkPolicy);
        for policy in mine.clone() {
            self.policy(policy);
        }
        for (index, pod) in plan.on_node(&host.name) {
            self.pod(index, pod);
        }
        for (_, own) in TOP {
            let accept = "-m comment --comment \"rule to explicitly ACCEPT traffic that comply to network \
                          policies\" -m mark --mark 0x20000/0x20000 -j ACCEPT";
            self.push(own, RuleLine::fixed(accept));
        }
    }

    fn push(&mut self, chain: &str, line: RuleLine) {
        self.chains.entry(chain.to_owned()).or_default().push(line);
    }

    /// The head of KUBE-ROUTER-INPUT: Services and node ports are not the node's own.
    fn input(&mut self, host: &Host) {
        let chain = "KUBE-ROUTER-INPUT";
        let own = host.service_cidrs.iter().filter(|c| c.is_ipv6() == self.v6);
        for range in own.map(ToString::to_string).collect::<Vec<_>>() {
            let said = "allow traffic to primary/secondary cluster IP range";
            let text = with_uuid(chain, &[], said, &["-d", &range, "-j", "RETURN"]);
            self.push(chain, RuleLine::fixed(text));
        }
        let (first, last) = host
            .node_ports
            .map_or((30_000, 32_767), |r| (r.first, r.last));
        let range = format!("{first}:{last}");
        for protocol in ["tcp", "udp", "sctp"] {
            let said = format!(
                "allow LOCAL {} traffic to node ports",
                protocol.to_uppercase()
            );
            let after = [
                "-m",
                "addrtype",
                "--dst-type",
                "LOCAL",
                "-m",
                "multiport",
                "--dports",
                &range,
                "-j",
                "RETURN",
            ];
            let text = with_uuid(chain, &["-p", protocol], &said, &after);
            self.push(chain, RuleLine::fixed(text));
        }
        if self.options.own_node == Reach::Open {
            self.push(
                chain,
                RuleLine::fixed("-m addrtype --dst-type LOCAL -j RETURN"),
            );
        }
    }

    /// KUBE-NWPLCY-COMMON (pkg/utils/iptables.go `CommonICMPRules`).
    fn common(&mut self) {
        let (protocol, option) = match self.v6 {
            false => ("icmp", "--icmp-type"),
            true => ("icmpv6", "--icmpv6-type"),
        };
        let mut rules = vec![
            "-m comment --comment \"rule to drop invalid state for pod\" -m conntrack --ctstate \
             INVALID -j DROP"
                .to_owned(),
            "-m comment --comment \"rule for stateful firewall for pod\" -m conntrack --ctstate \
             RELATED,ESTABLISHED -j ACCEPT"
                .to_owned(),
        ];
        let mut types = vec![
            ("echo-request", "allow icmp echo requests"),
            (
                "destination-unreachable",
                "allow icmp destination unreachable messages",
            ),
            ("time-exceeded", "allow icmp time exceeded messages"),
        ];
        if self.v6 {
            types.extend([
                (
                    "neighbor-solicitation",
                    "allow icmp neighbor solicitation messages",
                ),
                (
                    "neighbor-advertisement",
                    "allow icmp neighbor advertisement messages",
                ),
                ("echo-reply", "allow icmp echo reply messages"),
            ]);
        }
        rules.extend(types.iter().map(|(kind, said)| {
            format!("-m comment --comment \"{said}\" -p {protocol} {option} {kind} -j ACCEPT")
        }));
        for rule in rules {
            self.push("KUBE-NWPLCY-COMMON", RuleLine::fixed(rule));
        }
    }

    fn family_word(&self) -> &'static str {
        if self.v6 { "IPv6" } else { "IPv4" }
    }

    /// A set's name (pkg/utils/ipset.go `IPSetName`), made if it is not there.
    fn set(&mut self, prefix: &str, hashed: &str, kind: &str, members: BTreeSet<String>) -> String {
        let before = if self.v6 { "inet6:" } else { "" };
        let name = format!("{before}{prefix}{}", base32(hashed, 16));
        let family = if self.v6 { "inet6" } else { "inet" };
        let kind = format!("{kind} family {family} hashsize 1024 maxelem 65536 timeout 0");
        self.sets
            .entry(name.clone())
            .or_insert(SetText { kind, members });
        name
    }

    fn pods(&self, members: &BTreeSet<usize>) -> BTreeSet<String> {
        let pods = members.iter().filter_map(|i| self.plan.pods.get(*i));
        pods.filter_map(|p| Some(format!("{} timeout 0", p.ip(self.v6)?)))
            .collect()
    }

    fn policy_chain_name(&self, policy: &Resolved) -> String {
        let name = &policy.key.name;
        let hashed = format!(
            "{}{}{VERSION}{}",
            name.namespace,
            name.name,
            self.family_word()
        );
        format!("KUBE-NWPLCY-{}", base32(&hashed, 16))
    }

    /// A policy's chain with its rules of both directions.
    fn policy(&mut self, policy: &Resolved) {
        let chain = self.policy_chain_name(policy);
        self.chains.entry(chain.clone()).or_default();
        let name = &policy.key.name;
        let id = format!("{}{}", name.namespace, name.name);
        let word = self.family_word();
        for direction in [Direction::Ingress, Direction::Egress] {
            let Some(lines) = policy.rules(direction) else {
                continue;
            };
            let prefix = match direction {
                Direction::Ingress => "KUBE-DST-",
                Direction::Egress => "KUBE-SRC-",
            };
            let members = self.pods(&policy.subject);
            let target = self.set(prefix, &format!("{id}{word}"), "hash:ip", members);
            for line in lines {
                self.rule(policy, direction, line, &chain, &target);
            }
        }
    }

    /// `processIngressRules`, `processEgressRules`: one entry.
    fn rule(
        &mut self,
        policy: &Resolved,
        direction: Direction,
        line: &Line,
        chain: &str,
        target: &str,
    ) {
        let name = &policy.key.name;
        let id = format!(
            "{}{}{direction}rule{}",
            name.namespace, name.name, line.index
        );
        let word = self.family_word();
        let from = format!(
            "{} {direction}[{}] ({})",
            policy.key, line.index, line.origin
        );
        let to = Written {
            chain,
            target,
            direction,
            comment: format!("{}/{} {direction}", name.namespace, name.name),
            origin: Origin::controller("kube-router", from),
            id: &id,
        };
        let other = match direction {
            Direction::Ingress => "KUBE-SRC-",
            Direction::Egress => "KUBE-DST-",
        };
        let Some(peers) = &line.peers else {
            let asked = self.asked(policy, direction, line, None);
            return self.write_rules(&to, "any", None, &asked);
        };
        let mut members = BTreeSet::new();
        let mut nets = BTreeSet::new();
        for peer in peers {
            match peer {
                Who::Pods { members: some, .. } => members.extend(some),
                Who::Block(b) if b.cidr.is_ipv6() == self.v6 => {
                    nets.extend(halves(b.cidr).iter().map(|n| format!("{n} timeout 0")));
                    let cuts = b.except.iter().flat_map(|n| halves(*n));
                    nets.extend(cuts.map(|n| format!("{n} timeout 0 nomatch")));
                }
                Who::Block(_) => {}
            }
        }
        if !members.is_empty() {
            let ips = self.pods(&members);
            let set = self.set(other, &format!("{id}{word}pod"), "hash:ip", ips);
            let asked = self.asked(policy, direction, line, Some(&members));
            self.write_rules(&to, "pods", Some(&set), &asked);
        }
        if !nets.is_empty() {
            if !self.options.block_pods {
                let pods = self.plan.pods.iter().filter_map(|p| p.ip(self.v6));
                let single = if self.v6 { 128 } else { 32 };
                nets.extend(pods.map(|ip| format!("{ip}/{single} timeout 0 nomatch")));
            }
            let set = self.set(other, &format!("{id}{word}ipblock"), "hash:net", nets);
            let mut asked = self.asked(policy, direction, line, Some(&members));
            if direction == Direction::Egress {
                asked.retain(|a| a.only.is_none());
            }
            self.write_rules(&to, "cidr", Some(&set), &asked);
        }
    }

    /// `processNetworkPolicyPorts`: names become numbers, each with those who have it.
    fn asked(
        &self,
        policy: &Resolved,
        direction: Direction,
        line: &Line,
        peers: Option<&BTreeSet<usize>>,
    ) -> Vec<Asked> {
        let Wanted::These(ports) = &line.ports else {
            return vec![Asked {
                protocol: None,
                ports: None,
                only: None,
            }];
        };
        let mut out = Vec::new();
        for port in ports {
            match port {
                PortKind::Range {
                    protocol,
                    first,
                    last,
                } => out.push(Asked {
                    protocol: Some(*protocol),
                    ports: ((*first, *last) != (0, u16::MAX)).then_some((*first, *last)),
                    only: None,
                }),
                PortKind::Named { name, protocol } => {
                    let all = self.plan.pods.iter().enumerate();
                    let there = |(i, p): &(usize, &Member)| match (direction, peers) {
                        (Direction::Ingress, _) => policy.subject.contains(i),
                        (Direction::Egress, Some(peers)) => peers.contains(i),
                        (Direction::Egress, None) => p.name.namespace == policy.key.name.namespace,
                    };
                    let mut by: BTreeMap<(Protocol, u16), BTreeSet<String>> = BTreeMap::new();
                    for (_, pod) in all.filter(there) {
                        let named = pod.ports.iter().filter(|p| {
                            p.name == *name && protocol.is_none_or(|own| own == p.protocol)
                        });
                        for p in named {
                            let ip = pod.ip(self.v6).map(|ip| format!("{ip} timeout 0"));
                            by.entry((p.protocol, p.number)).or_default().extend(ip);
                        }
                    }
                    out.extend(by.into_iter().map(|((protocol, number), ips)| Asked {
                        protocol: Some(protocol),
                        ports: Some((number, number)),
                        only: Some(ips),
                    }));
                }
            }
        }
        out
    }

    /// `appendRuleToPolicyChain`: mark, then return where marked.
    fn write_rules(&mut self, to: &Written<'_>, kind: &str, peer: Option<&str>, asked: &[Asked]) {
        let word = self.family_word();
        for (index, a) in asked.iter().enumerate() {
            // Named ports: the destinations that have the number; not with egress to everybody.
            let everywhere = to.direction == Direction::Egress && peer.is_none();
            let named = a.only.clone().filter(|_| !everywhere).map(|ips| {
                let hashed = format!("{}{index}{word}namedport", to.id);
                self.set("KUBE-DST-", &hashed, "hash:ip", ips)
            });
            let (src, dst) = match to.direction {
                Direction::Ingress => (peer, named.as_deref().or(Some(to.target))),
                Direction::Egress => (Some(to.target), named.as_deref().or(peer)),
            };
            let suffix = if a.only.is_some() { " np" } else { "" };
            let comment = clamp(format!("{} {kind}{suffix}", to.comment));
            let mut text = format!("-m comment --comment \"{comment}\"");
            for (set, side) in [(src, "src"), (dst, "dst")] {
                if let Some(set) = set {
                    text += &format!(" -m set --match-set {set} {side}");
                }
            }
            if let Some(p) = a.protocol {
                text += &format!(" -p {p}");
            }
            match a.ports {
                Some((first, last)) if first == last => text += &format!(" --dport {first}"),
                Some((first, last)) => text += &format!(" --dport {first}:{last}"),
                None => {}
            }
            let mark = format!("{text} -j MARK --set-xmark 0x10000/0x10000");
            let back = format!("{text} -m mark --mark 0x10000/0x10000 -j RETURN");
            self.push(to.chain, RuleLine::of(mark, &to.origin));
            self.push(to.chain, RuleLine::of(back, &to.origin));
        }
    }

    /// A pod's firewall chain and the jumps to it.
    fn pod(&mut self, index: usize, pod: &Member) {
        let Some(ip) = pod.ip(self.v6) else { return };
        let name = &pod.name;
        let hashed = format!("{}{}{VERSION}", name.namespace, name.name);
        let chain = format!("KUBE-POD-FW-{}", base32(&hashed, 16));
        let mut rules = vec![RuleLine::fixed(
            "-m comment --comment \"common netpol rules\" -j KUBE-NWPLCY-COMMON",
        )];
        rules.push(RuleLine::fixed(format!(
            "-m comment --comment \"from local node\" -m addrtype --src-type LOCAL -d {ip} -j ACCEPT"
        )));
        if self.options.hairpin == Reach::Open {
            rules.push(RuleLine::fixed(format!(
                "-s {ip} -d {ip} -j MARK --set-mark 0x20000/0x20000"
            )));
            rules.push(RuleLine::fixed(format!("-s {ip} -d {ip} -j RETURN")));
        }
        // Each is inserted at the head: the last one stands first.
        let mut inserted = Vec::new();
        let (mut to, mut from) = (false, false);
        let mut all = Vec::new();
        for policy in &self.plan.policies {
            if policy.tier != Tier::NetworkPolicy || !policy.subject.contains(&index) {
                continue;
            }
            let ways = Direction::ALL.map(|d| policy.rules(d).is_some());
            let only = match ways {
                [true, true] => String::new(),
                [false, _] => format!("-d {ip} "),
                [true, false] => format!("-s {ip} "),
            };
            from |= ways[0];
            to |= ways[1];
            let said = clamp(format!(
                "{}/{} policy",
                policy.key.name.namespace, policy.key.name.name
            ));
            let target = self.policy_chain_name(policy);
            let origin = Origin::controller("kube-router", policy.said());
            let text = format!("{only}-m comment --comment \"{said}\" -j {target}");
            inserted.push(RuleLine::of(text, &origin));
            all.push(policy.said());
        }
        for (there, side, said) in [
            (to, "-d", "default ingress"),
            (from, "-s", "default egress"),
        ] {
            if !there {
                let text =
                    format!("{side} {ip} -m comment --comment \"{said}\" -j KUBE-NWPLCY-DEFAULT");
                inserted.push(RuleLine::fixed(text));
            }
        }
        rules.extend(inserted.into_iter().rev());
        let id = |kind: &str| clamp(format!("{}/{} {kind}", name.namespace, name.name));
        let unmarked = "-m mark ! --mark 0x10000/0x10000";
        rules.push(RuleLine::fixed(format!(
            "-m comment --comment \"{}\" {unmarked} -m limit --limit 10/minute --limit-burst 10 -j NFLOG \
             --nflog-group 100",
            id("log-drop")
        )));
        let deny = match self.options.deny {
            Deny::Reject => "REJECT",
            Deny::Drop => "DROP",
        };
        let origin = Origin::controller("kube-router", all.join(", "));
        let text = format!(
            "-m comment --comment \"{}\" {unmarked} -j {deny}",
            id("reject")
        );
        rules.push(RuleLine::of(text, &origin));
        rules.push(RuleLine::fixed("-j MARK --set-mark 0/0x10000"));
        rules.push(RuleLine::fixed(
            "-m comment --comment \"set netpol-ok mark\" -j MARK --set-mark 0x20000/0x20000",
        ));
        self.chains.insert(chain.clone(), rules);
        self.jumps(&chain, &ip.to_string(), &id("in"), &id("out"));
    }

    /// `interceptPodInboundTraffic`, `interceptPodOutboundTraffic`.
    fn jumps(&mut self, chain: &str, ip: &str, inward: &str, outward: &str) {
        let said = |c: &str| format!("-m comment --comment \"{c}\"");
        let bridged = "-m physdev --physdev-is-bridged";
        let (inward, outward) = (said(inward), said(outward));
        let mut add = |top: &str, text: String| self.push(top, RuleLine::fixed(text));
        for top in ["KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT"] {
            add(top, format!("{inward} -d {ip} -j {chain}"));
        }
        add(
            "KUBE-ROUTER-FORWARD",
            format!("{bridged} {inward} -d {ip} -j {chain}"),
        );
        for (_, top) in TOP {
            add(top, format!("{outward} -s {ip} -j {chain}"));
        }
        add(
            "KUBE-ROUTER-FORWARD",
            format!("{bridged} {outward} -s {ip} -j {chain}"),
        );
    }
}

/// What the rules of one entry share.
struct Written<'a> {
    chain: &'a str,
    target: &'a str,
    direction: Direction,
    comment: String,
    origin: Origin,
    id: &'a str,
}

/// `evalIPBlockPeer`: a hash:net holds no /0; IPv6's becomes what is in use.
fn halves(net: IpNetwork) -> Vec<String> {
    match (net.prefix(), net.is_ipv4()) {
        (0, true) => vec!["0.0.0.0/1".to_owned(), "128.0.0.0/1".to_owned()],
        (0, false) => vec!["2000::/3".to_owned(), "fd00::/8".to_owned()],
        _ => vec![net.to_string()],
    }
}
