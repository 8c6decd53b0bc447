//! The chains of Calico's policies and profiles, and the ipsets they ask.
//!
//! projectcalico/calico at 018190a: felix/rules/policy.go (`ProtoRuleToIptablesRules`, `matchBlockBuilder`,
//! `SplitPortList`), libcalico-go lib/backend/k8s/conversion (`K8sNetworkPolicyToCalico`: one rule for each peer
//! and protocol; `HandlePolicyIngressRules`), lib/hash (`MakeUniqueID`). Set ids are hashes of podpath's text of
//! a selector, not of Calico's. Invariant: a chain sets at most one of the marks accept and pass, and returns.

use std::collections::BTreeSet;

use sha2::{Digest, Sha224};

use super::calico::{Chain, Family, chain_name, mark, profile_prefix, tier_name};
use super::layout::RuleLine;
use super::plan::{Line, Resolved, Wanted, Who};
use crate::base::Origin;
use crate::kube::cni::calico::rules;
use crate::kube::policy::{Action, Direction, PortKind};
use crate::kube::service::Protocol;

/// Slots of a multiport match: a range takes two.
const MULTIPORT: usize = 15;

/// `cali-pi-` or `cali-po-` and the policy's name in Calico (conversion.go, `knp.default.`).
pub(super) fn policy_chain_name(policy: &Resolved, direction: Direction) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pi-",
        Direction::Egress => "cali-po-",
    };
    chain_name(prefix, &full_name(policy))
}

fn full_name(policy: &Resolved) -> String {
    use crate::kube::policy::Kind;
    let tier = tier_name(policy.tier);
    let (ns, name) = (&policy.key.name.namespace, &policy.key.name.name);
    let own = match policy.key.kind {
        Kind::NetworkPolicy => format!("{ns}/knp.default.{name}"),
        Kind::AdminNetworkPolicy => format!("kanp.{tier}.{name}"),
        Kind::BaselineAdminNetworkPolicy => format!("kbanp.{tier}.{name}"),
        Kind::ClusterNetworkPolicy => format!("kcnp.{tier}.{name}"),
    };
    match policy.part.as_str() {
        "" => format!("{tier}/{own}"),
        part => format!("{tier}/{own}/{part}"),
    }
}

/// A profile's chain: a namespace's accepts, a service account's is silent (conversion.go,
/// `NamespaceToProfile`, `serviceAccountToProfile`).
pub(super) fn profile_chain(direction: Direction, id: &str) -> Chain {
    let mut c = Chain::new(chain_name(profile_prefix(direction), id));
    let said = format!("Profile {id} {direction}");
    match id.starts_with("kns.") {
        true => c.said(&said, "--jump MARK --set-mark 0x10000/0x10000"),
        false => c.rule(format!("-m comment --comment \"{said}\"")),
    };
    c
}

/// A policy's chain of one direction.
pub(super) fn policy_chain(
    family: &mut Family<'_>,
    policy: &Resolved,
    direction: Direction,
    lines: &[Line],
) -> Chain {
    let mut c = Chain::new(policy_chain_name(policy, direction));
    for line in lines {
        let from = format!(
            "{} {direction}[{}] ({})",
            policy.key, line.index, line.origin
        );
        let origin = Origin::controller("calico", from);
        let rules = rules_of(family, line, direction);
        c.rules
            .extend(rules.into_iter().map(|text| RuleLine::of(text, &origin)));
    }
    while c
        .rules
        .last()
        .is_some_and(|r| r.text.ends_with("--jump RETURN"))
    {
        c.rules.pop();
    }
    let said = format!("Policy {} {direction}", full_name(policy));
    let comment = format!("-m comment --comment \"{said}\"");
    match c.rules.first_mut() {
        Some(first) => first.text = format!("{comment} {}", first.text),
        None => {
            let origin = Origin::controller("calico", policy.said());
            c.rules.push(RuleLine::of(comment, &origin));
        }
    }
    c
}

/// One rule of a policy: a rule of Calico's for every peer and every protocol.
fn rules_of(family: &mut Family<'_>, line: &Line, direction: Direction) -> Vec<String> {
    let ports = port_groups(&line.ports);
    let everybody = [None];
    let peers: Vec<Option<&Who>> = match &line.peers {
        None => everybody.to_vec(),
        Some(list) => list.iter().map(Some).collect(),
    };
    let mut out = Vec::new();
    for peer in peers {
        if let Some(Who::Block(b)) = peer
            && b.cidr.is_ipv6() != family.v6
        {
            continue;
        }
        for group in &ports {
            out.extend(one(family, line.action, peer, group, direction));
        }
    }
    out
}

/// What a rule asks of ports, by protocol.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Group {
    protocol: Option<Protocol>,
    /// Numbers; all when it and `names` are empty.
    ranges: Vec<(u16, u16)>,
    names: Vec<String>,
}

fn port_groups(wanted: &Wanted) -> Vec<Group> {
    let Wanted::These(ports) = wanted else {
        return vec![Group::default()];
    };
    let mut out: Vec<Group> = Vec::new();
    let mut whole: BTreeSet<Protocol> = BTreeSet::new();
    for port in ports {
        let protocol = match port {
            PortKind::Range { protocol, .. } => Some(*protocol),
            PortKind::Named { protocol, .. } => *protocol,
        };
        let at = match out.iter().position(|g| g.protocol == protocol) {
            Some(at) => at,
            None => {
                out.push(Group {
                    protocol,
                    ..Group::default()
                });
                out.len() - 1
            }
        };
        let Some(group) = out.get_mut(at) else {
            continue;
        };
        match port {
            PortKind::Range {
                protocol,
                first: 0,
                last: u16::MAX,
            } => {
                whole.insert(*protocol);
            }
            PortKind::Range { first, last, .. } => group.ranges.push((*first, *last)),
            PortKind::Named { name, .. } => group.names.push(name.clone()),
        }
    }
    for group in &mut out {
        if group.protocol.is_some_and(|p| whole.contains(&p)) {
            (group.ranges, group.names) = Default::default();
        }
    }
    out
}

/// `SplitPortList`.
fn splits(ranges: &[(u16, u16)]) -> Vec<String> {
    let mut out: Vec<Vec<String>> = Vec::new();
    let mut left = 0;
    for (first, last) in ranges {
        let slots = if first == last { 1 } else { 2 };
        if left < slots {
            out.push(Vec::new());
            left = MULTIPORT;
        }
        left -= slots;
        let text = match slots {
            1 => first.to_string(),
            _ => format!("{first}:{last}"),
        };
        if let Some(split) = out.last_mut() {
            split.push(text);
        }
    }
    out.iter().map(|s| s.join(",")).collect()
}

/// `matchBlockBuilder`: several matches of which one must hold, by two bits of the mark.
#[derive(Default)]
struct Blocks {
    rules: Vec<String>,
    positive: bool,
}

impl Blocks {
    fn start(&mut self, set: u32) {
        if self.rules.is_empty() {
            let both = mark::ALL_BLOCKS | mark::THIS_BLOCK;
            let set = if set == 0 {
                "0".to_owned()
            } else {
                format!("{set:#x}")
            };
            self.rules
                .push(format!("--jump MARK --set-mark {set}/{both:#x}"));
        }
    }

    fn any_of(&mut self, matches: &[String]) {
        self.start(0);
        let bit = if self.positive {
            mark::THIS_BLOCK
        } else {
            mark::ALL_BLOCKS
        };
        for m in matches {
            self.rules
                .push(format!("{m} --jump MARK --set-mark {bit:#x}/{bit:#x}"));
        }
        if self.positive {
            let (this, all) = (mark::THIS_BLOCK, mark::ALL_BLOCKS);
            self.rules.push(format!(
                "-m mark --mark 0/{this:#x} --jump MARK --set-mark 0/{all:#x}"
            ));
        }
        self.positive = true;
    }

    fn none_of(&mut self, matches: &[String]) {
        self.start(mark::ALL_BLOCKS);
        let all = mark::ALL_BLOCKS;
        for m in matches {
            self.rules
                .push(format!("{m} --jump MARK --set-mark 0/{all:#x}"));
        }
    }
}

/// `ProtoRuleToIptablesRules`.
fn one(
    family: &mut Family<'_>,
    action: Action,
    peer: Option<&Who>,
    ports: &Group,
    direction: Direction,
) -> Vec<String> {
    let mut blocks = Blocks::default();
    let mut last: Vec<String> = Vec::new();
    let protocol = ports.protocol.map(|p| format!("-p {p}"));
    last.extend(protocol.clone());
    let numbers = splits(&ports.ranges);
    let named: Vec<String> = ports
        .names
        .iter()
        .map(|n| named_port(family, n, ports.protocol))
        .collect();
    let (side, flag) = match direction {
        Direction::Ingress => ("src", "--source"),
        Direction::Egress => ("dst", "--destination"),
    };
    let mut tail: Vec<String> = Vec::new();
    let multiport = |split: &String| {
        let protocol = protocol.clone().unwrap_or_default();
        format!("{protocol} -m multiport --destination-ports {split}")
    };
    let sets: Vec<String> = named
        .iter()
        .map(|set| format!("-m set --match-set {set} dst,dst"))
        .collect();
    if numbers.len() + sets.len() > 1 {
        let all: Vec<String> = numbers.iter().map(multiport).chain(sets).collect();
        blocks.any_of(&all);
    } else {
        let numbers = numbers
            .iter()
            .map(|s| format!("-m multiport --destination-ports {s}"));
        tail.extend(numbers.chain(sets));
    }
    match peer {
        None => {}
        Some(Who::Pods { selector, members }) => {
            let set = pods_set(family, selector, members);
            last.push(format!("-m set --match-set {set} {side}"));
        }
        Some(Who::Block(block)) => {
            if !family.options.block_pods {
                let set = all_pods(family);
                last.push(format!("-m set ! --match-set {set} {side}"));
            }
            last.push(format!("{flag} {}", block.cidr));
            let cuts: Vec<String> = block.except.iter().map(|n| format!("{flag} {n}")).collect();
            if !cuts.is_empty() {
                blocks.none_of(&cuts);
            }
        }
    }
    last.append(&mut tail);
    if !blocks.rules.is_empty() {
        let all = mark::ALL_BLOCKS;
        last.push(format!("-m mark --mark {all:#x}/{all:#x}"));
    }
    let mut out = blocks.rules;
    let matches = match last.is_empty() {
        true => String::new(),
        false => format!("{} ", last.join(" ")),
    };
    let bit = match action {
        Action::Accept => mark::ACCEPT,
        Action::Pass => mark::PASS,
        Action::Deny => {
            out.push(format!("{matches}{}", family.deny()));
            return out;
        }
    };
    out.push(format!("{matches}--jump MARK --set-mark {bit:#x}/{bit:#x}"));
    out.push(format!("-m mark --mark {bit:#x}/{bit:#x} --jump RETURN"));
    out
}

/// `MakeUniqueID`, cut to what is left of a set's name.
fn set_id(prefix: &str, content: &str) -> String {
    let hash = rules::base64(&Sha224::digest(format!("{prefix}:{content}").as_bytes()));
    format!("{prefix}:{}", hash.get(..23).unwrap_or(&hash))
}

fn pods_set(family: &mut Family<'_>, selector: &str, members: &BTreeSet<usize>) -> String {
    let name = family.set_name(&set_id("s", selector));
    if !family.sets.contains_key(&name) {
        let v6 = family.v6;
        let pods = members.iter().filter_map(|i| family.plan.pods.get(*i));
        let ips = pods.filter_map(|p| p.ip(v6)).map(|ip| ip.to_string());
        let ips = ips.collect();
        family.set(&name, "hash:net", ips);
    }
    name
}

/// Every pod's address: what an ipBlock leaves out where it does not mean pods.
fn all_pods(family: &mut Family<'_>) -> String {
    let all: BTreeSet<usize> = (0..family.plan.pods.len()).collect();
    pods_set(family, "all()", &all)
}

fn named_port(family: &mut Family<'_>, port: &str, protocol: Option<Protocol>) -> String {
    let kind = protocol.map_or_else(|| "any".to_owned(), |p| p.to_string());
    let name = family.set_name(&set_id("n", &format!("{port},{kind}")));
    let all = family.plan.named(port, family.v6);
    let mine = all.filter(|(_, p)| protocol.is_none_or(|own| own == p.protocol));
    let members = mine.map(|(ip, p)| format!("{ip},{}:{}", p.protocol, p.number));
    let members = members.collect();
    family.set(&name, "hash:ip,port", members);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_split_by_fifteen_slots() {
        let many: Vec<(u16, u16)> = (1..=14).map(|n| (n, n)).chain([(20, 30)]).collect();
        assert_eq!(splits(&many), ["1,2,3,4,5,6,7,8,9,10,11,12,13,14", "20:30"]);
        assert!(splits(&[]).is_empty());
    }

    #[test]
    fn a_whole_protocol_covers_its_ports() {
        let range = |first, last| PortKind::Range {
            protocol: Protocol::Udp,
            first,
            last,
        };
        let wanted = Wanted::These([range(53, 53), range(0, u16::MAX)].into());
        let group = Group {
            protocol: Some(Protocol::Udp),
            ..Group::default()
        };
        assert_eq!(port_groups(&wanted), [group]);
        assert!(port_groups(&Wanted::These(BTreeSet::new())).is_empty());
    }
}
