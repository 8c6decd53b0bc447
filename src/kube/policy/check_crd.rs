//! What the API server would refuse in ClusterNetworkPolicy, AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy.
//!
//! The limits and rules of their CRDs (kubebuilder markers of kubernetes-sigs/network-policy-api `apis/`),
//! in the words of apiextensions-apiserver `pkg/apiserver/validation/validation.go`. The forms of first
//! releases are taken. A peer without any field known here is no error but fails closed, as the API text
//! asks; one that is written `{}` is refused.

use super::check::{protocol, selector, tell};
use super::crd::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy, DestinationPort,
    NamespacedPods, Namespaces, Peer, PortMatch, PortRange, ProtocolMatch, Rule, Subject,
};
use super::field::{Problem, Problems};
use super::model::Direction;
use crate::kube::store::{Check, Source};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// What the kinds allow.
struct Limits {
    /// Rules of a direction, peers and ports of a rule.
    items: usize,
    actions: &'static [&'static str],
    /// Whether selectors of pods have to be written out, and names and CIDRs exclude named ports.
    strict: bool,
    /// The action that lets traffic through, the only one with names.
    accept: &'static str,
}

const CNP: Limits = Limits {
    items: 25,
    strict: true,
    actions: &["Accept", "Deny", "Pass"],
    accept: "Accept",
};
const ANP: Limits = Limits {
    items: 100,
    strict: false,
    actions: &["Allow", "Deny", "Pass"],
    accept: "Allow",
};
const BANP: Limits = Limits {
    items: 100,
    strict: false,
    actions: &["Allow", "Deny"],
    accept: "Allow",
};
/// CIDRs and names of a peer.
const NETWORKS_MAX: usize = 25;
const PRIORITY_MAX: i32 = 1000;
const NAME_MAX: usize = 100;

/// The store's check of a ClusterNetworkPolicy.
pub(crate) fn cluster_network_policy(policy: &ClusterNetworkPolicy, check: &mut Check<'_>) {
    tell(cnp_problems(policy), check);
    empty_peers(&policy.spec.ingress, &policy.spec.egress, check);
}

/// The store's check of an AdminNetworkPolicy.
pub(crate) fn admin_network_policy(policy: &AdminNetworkPolicy, check: &mut Check<'_>) {
    tell(anp_problems(policy), check);
    empty_peers(&policy.spec.ingress, &policy.spec.egress, check);
}

/// The store's check of a BaselineAdminNetworkPolicy.
pub(crate) fn baseline_policy(policy: &BaselineAdminNetworkPolicy, check: &mut Check<'_>) {
    tell(banp_problems(policy), check);
    empty_peers(&policy.spec.ingress, &policy.spec.egress, check);
}

/// The paths of peers without a known field.
fn unknown_peers(ingress: &[Rule], egress: &[Rule]) -> Vec<String> {
    let mut paths = Vec::new();
    for (name, rules) in [("ingress", ingress), ("egress", egress)] {
        for (i, rule) in rules.iter().enumerate() {
            for (list, peers) in [("from", &rule.from), ("to", &rule.to)] {
                let peers = peers.iter().flatten().enumerate();
                let unknown = peers.filter(|(_, peer)| **peer == Peer::default());
                paths.extend(unknown.map(|(n, _)| format!("spec.{name}[{i}].{list}[{n}]")));
            }
        }
    }
    paths
}

/// MinProperties 1 of a peer.
fn no_property(path: &str) -> Problem {
    Problem {
        path: path.to_owned(),
        message: format!("Invalid value: 0: {path} in body should have at least 1 properties"),
        help: "`namespaces: {}` is every pod of the cluster".into(),
        refused: true,
    }
}

/// Peers written `{}`; only the text tells them from a later version's.
fn empty_peers(ingress: &[Rule], egress: &[Rule], check: &mut Check<'_>) {
    let paths = unknown_peers(ingress, egress).into_iter();
    let empty = paths.filter(|path| check.is_written_empty(path));
    let problems = empty.map(|path| no_property(&path)).collect();
    tell(problems, check);
}

/// As the store's check, for objects that are read again.
pub(super) fn written_empty(source: &Source, ingress: &[Rule], egress: &[Rule]) -> Vec<Problem> {
    let paths = unknown_peers(ingress, egress);
    if paths.is_empty() {
        return Vec::new();
    }
    let paths = paths.into_iter();
    let empty = paths.filter(|path| source.is_written_empty(path));
    empty.map(|path| no_property(&path)).collect()
}

/// What is wrong with a ClusterNetworkPolicy.
pub fn cnp_problems(policy: &ClusterNetworkPolicy) -> Vec<Problem> {
    let (mut p, spec) = (Problems::default(), &policy.spec);
    if !matches!(spec.tier.as_str(), "Admin" | "Baseline") {
        p.not_supported("spec.tier", &spec.tier, &["Admin", "Baseline"]);
    }
    priority(spec.priority, &mut p);
    subject(&spec.subject, &CNP, &mut p);
    rules(&spec.ingress, Direction::Ingress, &CNP, &mut p);
    rules(&spec.egress, Direction::Egress, &CNP, &mut p);
    p.0
}

/// What is wrong with an AdminNetworkPolicy.
pub fn anp_problems(policy: &AdminNetworkPolicy) -> Vec<Problem> {
    let (mut p, spec) = (Problems::default(), &policy.spec);
    priority(spec.priority, &mut p);
    subject(&spec.subject, &ANP, &mut p);
    rules(&spec.ingress, Direction::Ingress, &ANP, &mut p);
    rules(&spec.egress, Direction::Egress, &ANP, &mut p);
    p.0
}

/// What is wrong with a BaselineAdminNetworkPolicy.
pub fn banp_problems(policy: &BaselineAdminNetworkPolicy) -> Vec<Problem> {
    let (mut p, spec) = (Problems::default(), &policy.spec);
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    if name != "default" {
        let why = "Only one baseline admin network policy with metadata.name=\"default\" can be created \
            in the cluster";
        p.invalid_text("metadata.name", name, why);
    }
    subject(&spec.subject, &BANP, &mut p);
    rules(&spec.ingress, Direction::Ingress, &BANP, &mut p);
    rules(&spec.egress, Direction::Egress, &BANP, &mut p);
    p.0
}

fn priority(priority: i32, p: &mut Problems) {
    let path = "spec.priority";
    if priority < 0 {
        let why = "spec.priority in body should be greater than or equal to 0";
        p.invalid(path, priority, why);
    } else if priority > PRIORITY_MAX {
        let why = "spec.priority in body should be less than or equal to 1000";
        p.invalid(path, priority, why);
    }
}

/// MinProperties 1 and MaxProperties 1.
fn exactly_one(count: usize, path: &str, p: &mut Problems) {
    if count == 0 {
        let why = format!("{path} in body should have at least 1 properties");
        p.invalid(path, 0, &why);
    } else if count > 1 {
        p.too_many(path, count, 1);
    }
}

fn subject(subject: &Subject, limits: &Limits, p: &mut Problems) {
    let count = usize::from(subject.namespaces.is_some()) + usize::from(subject.pods.is_some());
    exactly_one(count, "spec.subject", p);
    selector(subject.namespaces.as_ref(), "spec.subject.namespaces", p);
    if let Some(pods) = &subject.pods {
        self::pods(pods, "spec.subject.pods", limits, p);
    }
}

fn pods(pods: &NamespacedPods, path: &str, limits: &Limits, p: &mut Problems) {
    selector(
        pods.namespace_selector.as_ref(),
        &format!("{path}.namespaceSelector"),
        p,
    );
    selector(
        pods.pod_selector.as_ref(),
        &format!("{path}.podSelector"),
        p,
    );
    if let Some(old) = &pods.namespaces {
        namespaces(old, &format!("{path}.namespaces"), p);
    }
    // v1alpha1 has the same marks, but objects without the fields are found in the wild; they read as empty.
    if pods.pod_selector.is_none() {
        let at = format!("{path}.podSelector");
        match limits.strict {
            true => p.required(&at, ""),
            false => p.warn(
                &at,
                "no podSelector: every pod is meant",
                "write `podSelector: {}`",
            ),
        }
    }
}

fn namespaces(namespaces: &Namespaces, path: &str, p: &mut Problems) {
    let plain = LabelSelector {
        match_labels: namespaces.match_labels.clone(),
        match_expressions: namespaces.match_expressions.clone(),
    };
    selector(Some(&plain), path, p);
    let at = format!("{path}.namespaceSelector");
    selector(namespaces.namespace_selector.as_ref(), &at, p);
    let old = [
        namespaces.namespace_selector.is_some(),
        namespaces.same_labels.is_some(),
        namespaces.not_same_labels.is_some(),
    ];
    let count = old.iter().filter(|said| **said).count();
    if count > 1 {
        p.too_many(path, count, 1);
    }
}

fn rules(rules: &[Rule], direction: Direction, limits: &Limits, p: &mut Problems) {
    let list = match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    };
    if rules.len() > limits.items {
        p.too_many(list, rules.len(), limits.items);
    }
    for (i, rule) in rules.iter().enumerate() {
        self::rule(rule, &format!("{list}[{i}]"), direction, limits, p);
    }
}

fn rule(rule: &Rule, path: &str, direction: Direction, limits: &Limits, p: &mut Problems) {
    let at = |field: &str| format!("{path}.{field}");
    if !limits.actions.contains(&rule.action.as_str()) {
        p.not_supported(&at("action"), &rule.action, limits.actions);
    }
    if rule.name.chars().count() > NAME_MAX {
        p.push_too_long(&at("name"), NAME_MAX);
    }
    let (field, own, other) = match direction {
        Direction::Ingress => ("from", &rule.from, ("to", rule.to.is_some())),
        Direction::Egress => ("to", &rule.to, ("from", rule.from.is_some())),
    };
    if other.1 {
        let message = format!("an {direction} rule has no `{}`", other.0);
        p.warn(&at(other.0), message, "it is ignored");
    }
    match own {
        None => p.required(&at(field), ""),
        Some(list) if list.is_empty() => {
            let why = format!("{} in body should have at least 1 items", at(field));
            p.invalid(&at(field), 0, &why);
        }
        Some(list) if list.len() > limits.items => p.too_many(&at(field), list.len(), limits.items),
        Some(_) => {}
    }
    for (i, peer) in own.iter().flatten().enumerate() {
        let path = format!("{path}.{field}[{i}]");
        self::peer(
            peer,
            &path,
            direction,
            (rule.action == limits.accept, limits),
            p,
        );
    }
    let protocols = rule.protocols.as_deref().unwrap_or_default();
    let ports = rule.ports.as_deref().unwrap_or_default();
    for (field, count) in [("protocols", protocols.len()), ("ports", ports.len())] {
        if count > limits.items {
            p.too_many(&at(field), count, limits.items);
        }
    }
    if rule.protocols.is_some() && protocols.is_empty() {
        let why = format!("{} in body should have at least 1 items", at("protocols"));
        p.invalid(&at("protocols"), 0, &why);
    }
    for (i, entry) in protocols.iter().enumerate() {
        protocol_match(entry, &format!("{path}.protocols[{i}]"), p);
    }
    for (i, entry) in ports.iter().enumerate() {
        port_match(entry, &format!("{path}.ports[{i}]"), p);
    }
    let named = protocols.iter().any(|m| m.destination_named_port.is_some())
        || ports.iter().any(|m| m.named_port.is_some());
    let outside = |peer: &Peer| {
        peer.networks.is_some() || peer.nodes.is_some() || peer.domain_names.is_some()
    };
    if named && own.iter().flatten().any(outside) {
        let why = "networks/nodes/domainNames peer cannot be set with namedPorts since there are no \
            namedPorts for networks/nodes/domainNames";
        match limits.strict {
            true => p.invalid(path, "\"object\"", why),
            false => p.warn(path, why, "only pods have port names"),
        }
    }
}

fn peer(
    peer: &Peer,
    path: &str,
    direction: Direction,
    (accept, limits): (bool, &Limits),
    p: &mut Problems,
) {
    let at = |field: &str| format!("{path}.{field}");
    let egress_only = [
        ("nodes", peer.nodes.is_some()),
        ("networks", peer.networks.is_some()),
        ("domainNames", peer.domain_names.is_some()),
    ];
    let said = |list: &[(&str, bool)]| list.iter().filter(|(_, said)| *said).count();
    let mut count = usize::from(peer.namespaces.is_some()) + usize::from(peer.pods.is_some());
    match direction {
        Direction::Egress => count += said(&egress_only),
        Direction::Ingress => {
            for (field, _) in egress_only.iter().filter(|(_, said)| *said) {
                let message = format!("unknown field `{field}` of a source");
                p.warn(&at(field), message, "only egress rules have it");
            }
        }
    }
    if count == 0 {
        let effect = if accept {
            "matches nothing"
        } else {
            "denies everything"
        };
        let message = format!("no field of this peer is known: the rule fails closed and {effect}");
        p.warn(
            path,
            message,
            "podpath knows namespaces, pods, and for egress nodes, networks, domainNames",
        );
    } else if count > 1 {
        p.too_many(path, count, 1);
    }
    if let Some(set) = &peer.namespaces {
        namespaces(set, &at("namespaces"), p);
    }
    if let Some(set) = &peer.pods {
        pods(set, &at("pods"), limits, p);
    }
    selector(peer.nodes.as_ref(), &at("nodes"), p);
    let lists = [
        ("networks", peer.networks.as_deref()),
        ("domainNames", peer.domain_names.as_deref()),
    ];
    for (field, list) in lists {
        match list.map(<[String]>::len) {
            Some(0) => {
                let why = format!("{} in body should have at least 1 items", at(field));
                p.invalid(&at(field), 0, &why);
            }
            Some(n) if n > NETWORKS_MAX => p.too_many(&at(field), n, NETWORKS_MAX),
            _ => {}
        }
    }
    for (i, text) in peer.networks.iter().flatten().enumerate() {
        if crate::kube::service::lenient::cidr(text).is_none() {
            let path = format!("{path}.networks[{i}]");
            p.invalid_text(&path, text, "Invalid CIDR format provided");
        } else {
            p.cidr(&format!("{path}.networks[{i}]"), text);
        }
    }
    for (i, name) in peer.domain_names.iter().flatten().enumerate() {
        domain_name(name, &format!("{path}.domainNames[{i}]"), p);
    }
    if peer.domain_names.is_some() && !accept {
        let why = "domainNames can only be used in rules that accept";
        p.invalid(path, "\"object\"", why);
    }
}

/// `^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$`.
fn domain_name(name: &str, path: &str, p: &mut Problems) {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let rest = rest.strip_suffix('.').unwrap_or(rest);
    let word = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let good = ends.iter().flatten().all(u8::is_ascii_alphanumeric);
        !label.is_empty() && good && label.bytes().all(inner)
    };
    if !rest.contains('.') || !rest.split('.').all(word) {
        let why = format!("{path} in body should match a domain name, with `*.` in front at most");
        p.invalid_text(path, name, &why);
    }
}

fn protocol_match(entry: &ProtocolMatch, path: &str, p: &mut Problems) {
    let transports = [
        ("tcp", &entry.tcp),
        ("udp", &entry.udp),
        ("sctp", &entry.sctp),
    ];
    let count = transports.iter().filter(|(_, t)| t.is_some()).count()
        + usize::from(entry.destination_named_port.is_some());
    exactly_one(count, path, p);
    for (name, transport) in transports {
        if let Some(port) = transport.as_ref().and_then(|t| t.destination_port.as_ref()) {
            destination_port(port, &format!("{path}.{name}.destinationPort"), p);
        }
    }
}

fn destination_port(port: &DestinationPort, path: &str, p: &mut Problems) {
    let count = usize::from(port.number.is_some()) + usize::from(port.range.is_some());
    exactly_one(count, path, p);
    if let Some(number) = port.number {
        p.port(&format!("{path}.number"), number);
    }
    if let Some(range) = &port.range {
        self::range(range, &format!("{path}.range"), p);
    }
}

fn range(range: &PortRange, path: &str, p: &mut Problems) {
    p.port(&format!("{path}.start"), range.start);
    p.port(&format!("{path}.end"), range.end);
    if range.start >= range.end {
        p.invalid(path, "\"object\"", "Start port must be less than End port");
    }
}

fn port_match(entry: &PortMatch, path: &str, p: &mut Problems) {
    let count = usize::from(entry.port_number.is_some())
        + usize::from(entry.named_port.is_some())
        + usize::from(entry.port_range.is_some());
    exactly_one(count, path, p);
    if let Some(number) = &entry.port_number {
        protocol(
            number.protocol.as_deref(),
            &format!("{path}.portNumber.protocol"),
            p,
        );
        p.port(&format!("{path}.portNumber.port"), number.port);
    }
    if let Some(range) = &entry.port_range {
        protocol(
            range.protocol.as_deref(),
            &format!("{path}.portRange.protocol"),
            p,
        );
        self::range(range, &format!("{path}.portRange"), p);
    }
}
