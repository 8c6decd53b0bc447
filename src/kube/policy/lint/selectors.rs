//! What matches nothing: subjects, peers, port names; and lists that mean more than they seem to.

use super::{LintKind, Lints};
use crate::kube::policy::model::{
    Direction, NamespaceScope, Peer, PeerKind, Peers, Policy, PortKind, Rule, Subject, Tier,
};
use crate::kube::policy::pods::{PolicyPod, in_scope};
use crate::kube::store::Table;
use k8s_openapi::api::networking::v1::NetworkPolicy;

pub(super) fn check(lints: &mut Lints<'_, '_>) {
    for policy in lints.on.policies.iter() {
        subject(lints, policy);
        for direction in Direction::ALL {
            for rule in policy.rules(direction).unwrap_or_default() {
                peers(lints, policy, direction, rule);
                port_names(lints, policy, direction, rule);
            }
        }
    }
    empty_lists(lints, &lints.on.store.network_policies);
}

fn subjects<'l>(
    lints: &'l Lints<'_, '_>,
    policy: &'l Policy,
) -> impl Iterator<Item = &'l PolicyPod> + 'l {
    let pods = lints.on.inventory.pods();
    pods.filter(|pod| pod.is_in(&policy.subject, &pod.namespace_labels))
}

fn subject(lints: &mut Lints<'_, '_>, policy: &Policy) {
    let inventory = lints.on.inventory;
    if inventory.pods().next().is_none() {
        return;
    }
    let path = match policy.tier {
        Tier::NetworkPolicy => "spec.podSelector",
        Tier::Admin | Tier::Baseline => "spec.subject",
    };
    if subjects(lints, policy).next().is_none() {
        let message = format!("selects no pod ({})", policy.subject.pods);
        let help = "compare it with the pods' labels: kubectl get pods --show-labels";
        lints.say(LintKind::NoSubject, policy, path, message, help);
    }
    let own = |pod: &&PolicyPod| {
        let labels = &pod.namespace_labels;
        let set = &policy.subject;
        pod.host_network
            && !pod.finished
            && in_scope(&set.namespaces, &pod.name.namespace, labels, labels)
            && set.pods.matches(&pod.labels)
    };
    let host: Vec<String> = inventory
        .pods()
        .filter(own)
        .map(|p| p.name.to_string())
        .collect();
    if let Some(first) = host.first().filter(|_| policy.tier == Tier::NetworkPolicy) {
        let more = match host.len() {
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        let message =
            format!("selects {first}{more} on the host network, where most plugins do not filter");
        let help =
            "a hostNetwork pod is its node: filter it there, or take it off the host network";
        lints.say(LintKind::HostNetworkSelected, policy, path, message, help);
    }
}

fn peers(lints: &mut Lints<'_, '_>, policy: &Policy, direction: Direction, rule: &Rule) {
    let inventory = lints.on.inventory;
    if inventory.pods().next().is_none() {
        return;
    }
    let (list, field) = direction.fields();
    let Peers::List(entries) = &rule.peers else {
        return;
    };
    for (n, peer) in entries.iter().enumerate() {
        let path = format!("spec.{list}[{}].{field}[{n}]", rule.index);
        match &peer.who {
            PeerKind::Pods(set)
                if !anyone(lints, policy, set) && !elsewhere(lints, policy, &path, peer) =>
            {
                let help = "compare it with the labels of pods and namespaces";
                let message = format!("means no pod ({})", describe(set));
                lints.say(LintKind::PeerMatchesNothing, policy, &path, message, help);
            }
            PeerKind::Nodes(selector)
                if !inventory.nodes().any(|(_, n)| selector.matches(&n.labels)) =>
            {
                let message = format!("means no node ({selector})");
                let help = "compare it with the nodes' labels: kubectl get nodes --show-labels";
                lints.say(LintKind::PeerMatchesNothing, policy, &path, message, help);
            }
            _ => {}
        }
    }
}

/// Whether a pod is meant, from the view of any pod that the policy is about.
fn anyone(lints: &Lints<'_, '_>, policy: &Policy, set: &Subject) -> bool {
    let relative = matches!(
        set.namespaces,
        NamespaceScope::SameLabels(_) | NamespaceScope::NotSameLabels(_)
    );
    let pods = || lints.on.inventory.pods();
    if relative {
        let mut own = subjects(lints, policy).map(|pod| pod.namespace_labels.clone());
        return own.any(|own| pods().any(|pod| pod.is_in(set, &own)));
    }
    pods().any(|pod| pod.is_in(set, &pod.namespace_labels))
}

/// A podSelector alone whose pods are all in other namespaces.
fn elsewhere(lints: &mut Lints<'_, '_>, policy: &Policy, path: &str, peer: &Peer) -> bool {
    let PeerKind::Pods(set) = &peer.who else {
        return false;
    };
    let NamespaceScope::Own(own) = &set.namespaces else {
        return false;
    };
    let mut others = lints.on.inventory.pods();
    let found = others.find(|p| p.is_selectable() && set.pods.matches(&p.labels));
    let Some(found) = found.map(|p| p.name.clone()) else {
        return false;
    };
    let message = format!(
        "a podSelector without namespaceSelector means pods of {own}; {} is in {}",
        found, found.namespace
    );
    let help = "add a namespaceSelector to the same entry";
    lints.say(LintKind::OtherNamespace, policy, path, message, help);
    true
}

fn describe(set: &Subject) -> String {
    match &set.namespaces {
        NamespaceScope::Own(own) => format!("{} in {own}", set.pods),
        NamespaceScope::Matching(selector) => format!("{} in namespaces {selector}", set.pods),
        NamespaceScope::SameLabels(keys) => {
            format!("{} with the same {}", set.pods, keys.join(", "))
        }
        NamespaceScope::NotSameLabels(keys) => {
            format!("{} with another {}", set.pods, keys.join(", "))
        }
    }
}

fn port_names(lints: &mut Lints<'_, '_>, policy: &Policy, direction: Direction, rule: &Rule) {
    for (n, port) in rule.ports.list().iter().enumerate() {
        let PortKind::Named { name, protocol } = &port.what else {
            continue;
        };
        let has = |pod: &PolicyPod| pod.named(name, *protocol).next().is_some();
        // An ingress rule's names are its own pods'; an egress rule's could be anybody's.
        let (found, whose) = match direction {
            Direction::Ingress => {
                if subjects(lints, policy).next().is_none() {
                    continue;
                }
                (subjects(lints, policy).any(has), "that the policy selects")
            }
            Direction::Egress => {
                let mut pods = lints.on.inventory.pods().filter(|p| p.is_selectable());
                if lints.on.inventory.pods().next().is_none() {
                    continue;
                }
                (pods.any(has), "of the cluster")
            }
        };
        if !found {
            let list = direction.fields().0;
            let field = match policy.key.kind {
                crate::kube::policy::Kind::ClusterNetworkPolicy => "protocols",
                _ => "ports",
            };
            let path = format!("spec.{list}[{}].{field}[{n}]", rule.index);
            let message =
                format!("no pod {whose} has a container port named {name:?}: it matches nothing");
            let help = "port names are those of containers, not of Services; name and protocol must both fit";
            lints.say(LintKind::UnknownPortName, policy, &path, message, help);
        }
    }
}

/// Lists that are written and empty, and rules that policyTypes leaves out.
fn empty_lists(lints: &mut Lints<'_, '_>, policies: &Table<NetworkPolicy>) {
    for policy in lints.on.policies.tier(Tier::NetworkPolicy) {
        let Some(spec) = policies.get(&policy.key.name).and_then(|p| p.spec.as_ref()) else {
            continue;
        };
        let ingress = spec
            .ingress
            .iter()
            .flatten()
            .map(|r| r.from.as_ref().map(Vec::len));
        let egress = spec
            .egress
            .iter()
            .flatten()
            .map(|r| r.to.as_ref().map(Vec::len));
        let lists: [(Direction, Vec<Option<usize>>); 2] = [
            (Direction::Ingress, ingress.collect()),
            (Direction::Egress, egress.collect()),
        ];
        for (direction, rules) in lists {
            let (list, field) = direction.fields();
            for (i, count) in rules.iter().enumerate() {
                if *count == Some(0) {
                    let path = format!("spec.{list}[{i}].{field}");
                    let message =
                        "an empty list means everybody, inside and outside the cluster".into();
                    let help = "leave the rule out to allow nobody, or name the peers";
                    lints.say(LintKind::EmptyPeers, policy, &path, message, help);
                }
            }
            if !rules.is_empty() && policy.rules(direction).is_none() {
                let message =
                    format!("policyTypes leaves {direction} out: these rules are ignored");
                let help = "add the direction to policyTypes, or remove the rules";
                let path = format!("spec.{list}");
                lints.say(LintKind::RulesIgnored, policy, &path, message, help);
            }
        }
    }
}
