//! Rules that another rule makes needless, and policies whose order nobody defined.
//!
//! By form: a selector with fewer requirements means more, a wider range has a narrower one, all ports have
//! some. What is covered in a way that only the pods at hand show is not told.

use super::{LintKind, Lints};
use crate::kube::policy::model::{
    Action, Direction, NamespaceScope, Peer, PeerKind, Peers, Policy, Port, PortKind, Ports, Rule,
    Subject, Tier,
};
use crate::kube::policy::selector::Selector;

pub(super) fn check(lints: &mut Lints<'_, '_>) {
    for tier in [Tier::Admin, Tier::Baseline] {
        for direction in Direction::ALL {
            ordered(lints, tier, direction);
        }
        equal_priority(lints, tier);
    }
    for policy in lints.on.policies.tier(Tier::NetworkPolicy) {
        for direction in Direction::ALL {
            redundant(lints, policy, direction);
        }
    }
}

/// Rules behind one that decides all they could.
fn ordered(lints: &mut Lints<'_, '_>, tier: Tier, direction: Direction) {
    let mut before: Vec<(&Policy, &Rule)> = Vec::new();
    for policy in lints.on.policies.tier(tier) {
        for rule in policy.rules(direction).unwrap_or_default() {
            let first = before.iter().find(|(earlier, by)| {
                let all =
                    earlier.key == policy.key || subject_has(&earlier.subject, &policy.subject);
                all && rule_has(by, rule)
            });
            if let Some((earlier, by)) = first {
                let list = direction.fields().0;
                let path = format!("spec.{list}[{}]", rule.index);
                let message = format!(
                    "never decides: {} {list}[{}] ({}, {}) comes first and means all of it",
                    earlier.key, by.index, by.action, by.origin
                );
                lints.say(
                    LintKind::Shadowed,
                    policy,
                    &path,
                    message,
                    "move it up, or remove it",
                );
            }
            before.push((policy, rule));
        }
    }
}

/// Rules of one NetworkPolicy that another of its rules has wholly.
fn redundant(lints: &mut Lints<'_, '_>, policy: &Policy, direction: Direction) {
    let rules = policy.rules(direction).unwrap_or_default();
    for rule in rules {
        let other = rules.iter().find(|other| {
            // Of two that are equal, the later one is told.
            let both = rule_has(rule, other);
            other.index != rule.index
                && rule_has(other, rule)
                && (!both || other.index < rule.index)
        });
        if let Some(other) = other {
            let list = direction.fields().0;
            let path = format!("spec.{list}[{}]", rule.index);
            let message = format!(
                "allows nothing that {list}[{}] ({}) does not",
                other.index, other.origin
            );
            lints.say(LintKind::Redundant, policy, &path, message, "remove it");
        }
    }
}

/// Two policies of one priority that share a pod and do not both accept.
fn equal_priority(lints: &mut Lints<'_, '_>, tier: Tier) {
    let all: Vec<&Policy> = lints.on.policies.tier(tier).collect();
    for (n, policy) in all.iter().enumerate() {
        let same = all.iter().take(n).find(|other| {
            other.priority == policy.priority && other.key.kind == policy.key.kind && {
                let mut pods = lints.on.inventory.pods();
                let both = |p: &Policy, pod: &crate::kube::policy::PolicyPod| {
                    pod.is_in(&p.subject, &pod.namespace_labels)
                };
                pods.any(|pod| both(policy, pod) && both(other, pod)) && differ(policy, other)
            }
        });
        if let Some(other) = same {
            let message = format!(
                "{} has the same priority {} and selects some of the same pods: \
                 which comes first is undefined",
                other.key, policy.priority
            );
            let help = "give each its own priority; podpath goes by name";
            lints.say(
                LintKind::EqualPriority,
                policy,
                "spec.priority",
                message,
                help,
            );
        }
    }
}

fn differ(a: &Policy, b: &Policy) -> bool {
    Direction::ALL.into_iter().any(|direction| {
        let actions = |p: &Policy| -> Vec<Action> {
            let rules = p.rules(direction).unwrap_or_default();
            rules.iter().map(|r| r.action).collect()
        };
        let (a, b) = (actions(a), actions(b));
        a.iter().any(|x| b.iter().any(|y| x != y))
    })
}

/// Whether `a` means everything that `b` means.
fn rule_has(a: &Rule, b: &Rule) -> bool {
    let peers = match (&a.peers, &b.peers) {
        (Peers::Any, _) => true,
        (Peers::List(_), Peers::Any) => false,
        (Peers::List(a), Peers::List(b)) => b
            .iter()
            .all(|inner| a.iter().any(|outer| peer_has(outer, inner))),
    };
    let ports = match (&a.ports, &b.ports) {
        (Ports::All, _) => true,
        (Ports::List(_), Ports::All) => false,
        (Ports::List(a), Ports::List(b)) => b
            .iter()
            .all(|inner| a.iter().any(|outer| port_has(outer, inner))),
    };
    peers && ports
}

fn peer_has(a: &Peer, b: &Peer) -> bool {
    match (&a.who, &b.who) {
        (PeerKind::Pods(a), PeerKind::Pods(b)) => subject_has(a, b),
        (PeerKind::Block(a), PeerKind::Block(b)) => {
            let inside = a.cidr.is_ipv4() == b.cidr.is_ipv4()
                && a.cidr.prefix() <= b.cidr.prefix()
                && a.cidr.contains(b.cidr.network());
            // What `a` cuts out has to be outside `b`, or cut out there as well.
            let apart = |cut: &ipnetwork::IpNetwork| {
                let touches = cut.contains(b.cidr.network()) || b.cidr.contains(cut.network());
                !touches
                    || b.except
                        .iter()
                        .any(|own| own.prefix() <= cut.prefix() && own.contains(cut.network()))
            };
            inside && a.except.iter().all(apart)
        }
        (PeerKind::Nodes(a), PeerKind::Nodes(b)) => selector_has(a, b),
        (PeerKind::Domain(a), PeerKind::Domain(b)) => a == b,
        _ => false,
    }
}

fn subject_has(a: &Subject, b: &Subject) -> bool {
    let namespaces = match (&a.namespaces, &b.namespaces) {
        (NamespaceScope::Matching(a), _) if a.is_everything() => true,
        (NamespaceScope::Matching(a), NamespaceScope::Matching(b)) => selector_has(a, b),
        (a, b) => a == b,
    };
    namespaces && selector_has(&a.pods, &b.pods)
}

/// Fewer requirements mean more.
fn selector_has(a: &Selector, b: &Selector) -> bool {
    a.requirements()
        .iter()
        .all(|asked| b.requirements().contains(asked))
}

fn port_has(a: &Port, b: &Port) -> bool {
    match (&a.what, &b.what) {
        (
            PortKind::Range {
                protocol: p,
                first: f,
                last: l,
            },
            PortKind::Range {
                protocol,
                first,
                last,
            },
        ) => p == protocol && f <= first && last <= l,
        (
            PortKind::Named {
                name: n,
                protocol: p,
            },
            PortKind::Named { name, protocol },
        ) => n == name && (p.is_none() || p == protocol),
        // A name of a known protocol is one of its ports.
        (
            PortKind::Range {
                protocol: p,
                first: 0,
                last: u16::MAX,
            },
            PortKind::Named {
                protocol: Some(protocol),
                ..
            },
        ) => p == protocol,
        _ => false,
    }
}
