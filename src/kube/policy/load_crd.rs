//! ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy to the common shape.
//!
//! A rule with a peer of which no field is known fails closed (API text of the peers): an accepting one
//! matches nothing, any other denies everyone. Objects come valid ([`super::load`]).

use super::crd::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy, NamespacedPods,
    Namespaces, Peer as Written, PortMatch, PortRange, ProtocolMatch, Rule as WrittenRule,
    Subject as WrittenSubject, Transport,
};
use super::load::{Places, optional};
use super::model::{
    Action, Block, Direction, DomainName, Kind, NamespaceScope, Peer, PeerKind, Peers, Policy,
    PolicyKey, Port, PortKind, Ports, Rule, Subject, Tier,
};
use super::selector::Selector;
use crate::kube::service::{Protocol, lenient, protocol};
use crate::kube::store::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A valid ClusterNetworkPolicy.
pub(super) fn cluster(object: &Object<ClusterNetworkPolicy>) -> Policy {
    let spec = &object.spec;
    let tier = match spec.tier.as_str() {
        "Baseline" => Tier::Baseline,
        _ => Tier::Admin,
    };
    let kind = Kind::ClusterNetworkPolicy;
    let rank = (kind, tier, spec.priority);
    policy(object, rank, &spec.subject, [&spec.ingress, &spec.egress])
}

/// A valid AdminNetworkPolicy.
pub(super) fn admin(object: &Object<AdminNetworkPolicy>) -> Policy {
    let spec = &object.spec;
    let rank = (Kind::AdminNetworkPolicy, Tier::Admin, spec.priority);
    policy(object, rank, &spec.subject, [&spec.ingress, &spec.egress])
}

/// A valid BaselineAdminNetworkPolicy.
pub(super) fn baseline(object: &Object<BaselineAdminNetworkPolicy>) -> Policy {
    let spec = &object.spec;
    let rank = (Kind::BaselineAdminNetworkPolicy, Tier::Baseline, 0);
    policy(object, rank, &spec.subject, [&spec.ingress, &spec.egress])
}

fn policy<T>(
    object: &Object<T>,
    (kind, tier, priority): (Kind, Tier, i32),
    about: &WrittenSubject,
    [ingress, egress]: [&[WrittenRule]; 2],
) -> Policy {
    let field = match kind {
        Kind::ClusterNetworkPolicy => "protocols",
        _ => "ports",
    };
    let counts = |rules: &[WrittenRule], direction| {
        let ports = |r: &WrittenRule| {
            let protocols = r.protocols.as_ref().map_or(0, Vec::len);
            if kind == Kind::ClusterNetworkPolicy {
                protocols
            } else {
                r.ports.as_ref().map_or(0, Vec::len)
            }
        };
        let count = |r: &WrittenRule| (own_peers(r, direction).len(), ports(r));
        (direction, rules.iter().map(count).collect())
    };
    let counts = [
        counts(ingress, Direction::Ingress),
        counts(egress, Direction::Egress),
    ];
    let mut at = Places::new(&object.source, &counts, field);
    let mut read = |rules: &[WrittenRule], direction| -> Vec<Rule> {
        let rules = (0..).zip(rules);
        rules
            .map(|(index, r)| rule(index, r, kind, direction, &mut at))
            .collect()
    };
    let ingress = read(ingress, Direction::Ingress);
    let egress = read(egress, Direction::Egress);
    Policy {
        key: PolicyKey {
            kind,
            name: object.name.clone(),
        },
        tier,
        priority,
        subject: subject(about),
        ingress: Some(ingress),
        egress: Some(egress),
        origin: object.source.origin(),
        source: object.source.clone(),
    }
}

fn subject(subject: &WrittenSubject) -> Subject {
    match &subject.pods {
        Some(pods) => Subject {
            namespaces: NamespaceScope::Matching(optional(pods.namespace_selector.as_ref())),
            pods: optional(pods.pod_selector.as_ref()),
        },
        None => Subject {
            namespaces: NamespaceScope::Matching(optional(subject.namespaces.as_ref())),
            pods: Selector::everything(),
        },
    }
}

fn own_peers(rule: &WrittenRule, direction: Direction) -> &[Written] {
    let list = match direction {
        Direction::Ingress => &rule.from,
        Direction::Egress => &rule.to,
    };
    list.as_deref().unwrap_or_default()
}

fn rule(
    index: usize,
    written: &WrittenRule,
    kind: Kind,
    direction: Direction,
    at: &mut Places,
) -> Rule {
    let mut action = match written.action.as_str() {
        "Accept" | "Allow" => Action::Accept,
        "Pass" => Action::Pass,
        _ => Action::Deny,
    };
    let (mut list, mut failed_closed) = (Vec::new(), false);
    for peer in own_peers(written, direction) {
        let origin = at.next();
        let who = peers(peer, direction);
        failed_closed |= who.is_empty();
        list.extend(who.into_iter().map(|who| Peer {
            who,
            origin: origin.clone(),
        }));
    }
    let peers = match (failed_closed, action) {
        (false, _) => Peers::List(list),
        (true, Action::Accept) => Peers::List(Vec::new()),
        (true, Action::Deny | Action::Pass) => {
            action = Action::Deny;
            Peers::Any
        }
    };
    let ports = match kind {
        Kind::ClusterNetworkPolicy => ports(written.protocols.as_deref(), protocol_match, at),
        _ => ports(written.ports.as_deref(), port_match, at),
    };
    Rule {
        index,
        name: written.name.clone(),
        action,
        peers,
        ports,
        failed_closed,
        origin: at.next(),
    }
}

/// Whom one entry means: several for lists of CIDRs and names, nobody when no field is known.
fn peers(peer: &Written, direction: Direction) -> Vec<PeerKind> {
    let pods = |namespaces: Option<NamespaceScope>, pods: Selector| {
        let pods = namespaces.map(|namespaces| PeerKind::Pods(Subject { namespaces, pods }));
        pods.into_iter().collect()
    };
    if let Some(set) = &peer.namespaces {
        return pods(scope(set), Selector::everything());
    }
    if let Some(set) = &peer.pods {
        return pods(pods_scope(set), optional(set.pod_selector.as_ref()));
    }
    if direction == Direction::Ingress {
        return Vec::new();
    }
    if let Some(nodes) = &peer.nodes {
        return vec![PeerKind::Nodes(Selector::of(nodes))];
    }
    if let Some(networks) = &peer.networks {
        let cidrs = networks.iter().filter_map(|text| lenient::cidr(text));
        let block = |cidr| {
            PeerKind::Block(Block {
                cidr,
                except: Vec::new(),
            })
        };
        return cidrs.map(block).collect();
    }
    let names = peer.domain_names.iter().flatten();
    names
        .map(|name| PeerKind::Domain(DomainName::new(name)))
        .collect()
}

fn pods_scope(pods: &NamespacedPods) -> Option<NamespaceScope> {
    match &pods.namespaces {
        Some(old) => scope(old),
        None => Some(NamespaceScope::Matching(optional(
            pods.namespace_selector.as_ref(),
        ))),
    }
}

/// The namespaces meant. A list of labels without any selects nothing (API text of v0.1.1).
fn scope(set: &Namespaces) -> Option<NamespaceScope> {
    if let Some(keys) = &set.same_labels {
        return Some(NamespaceScope::SameLabels(keys.clone()));
    }
    if let Some(keys) = &set.not_same_labels {
        return Some(NamespaceScope::NotSameLabels(keys.clone()));
    }
    if let Some(selector) = &set.namespace_selector {
        return Some(NamespaceScope::Matching(Selector::of(selector)));
    }
    Some(NamespaceScope::Matching(Selector::of(&LabelSelector {
        match_labels: set.match_labels.clone(),
        match_expressions: set.match_expressions.clone(),
    })))
}

fn ports<T>(list: Option<&[T]>, read: fn(&T) -> Option<PortKind>, at: &mut Places) -> Ports {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ports::All;
    };
    let mut ports = Vec::with_capacity(list.len());
    for entry in list {
        let origin = at.next();
        if let Some(what) = read(entry) {
            ports.push(Port { what, origin });
        }
    }
    Ports::List(ports)
}

fn range(protocol: Protocol, first: i32, last: i32) -> Option<PortKind> {
    Some(PortKind::Range {
        protocol,
        first: u16::try_from(first).ok()?,
        last: u16::try_from(last).ok()?,
    })
}

fn protocol_match(entry: &ProtocolMatch) -> Option<PortKind> {
    if let Some(name) = &entry.destination_named_port {
        return Some(PortKind::Named {
            name: name.clone(),
            protocol: None,
        });
    }
    let found: [(Protocol, &Option<Transport>); 3] = [
        (Protocol::Tcp, &entry.tcp),
        (Protocol::Udp, &entry.udp),
        (Protocol::Sctp, &entry.sctp),
    ];
    let (protocol, transport) = found
        .into_iter()
        .find_map(|(protocol, t)| Some((protocol, t.as_ref()?)))?;
    let Some(port) = &transport.destination_port else {
        return range(protocol, 0, i32::from(u16::MAX));
    };
    match (&port.range, port.number) {
        (Some(PortRange { start, end, .. }), _) => range(protocol, *start, *end),
        (None, Some(number)) => range(protocol, number, number),
        (None, None) => None,
    }
}

fn port_match(entry: &PortMatch) -> Option<PortKind> {
    if let Some(name) = &entry.named_port {
        return Some(PortKind::Named {
            name: name.clone(),
            protocol: None,
        });
    }
    if let Some(r) = &entry.port_range {
        return range(protocol(r.protocol.as_deref())?, r.start, r.end);
    }
    let number = entry.port_number.as_ref()?;
    range(
        protocol(number.protocol.as_deref())?,
        number.port,
        number.port,
    )
}
