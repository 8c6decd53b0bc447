//! From the store's objects to [`Policies`]: defaults, compiled selectors, places.
//!
//! kubernetes `pkg/apis/networking/v1/defaults.go` (policyTypes, protocol). An object that the API server
//! refuses is left out, with its reasons: nothing half-understood acts. Invariant: the order depends on
//! tier, priority and names only.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::Problem;
use super::load_crd::{admin, baseline, cluster};
use super::model::{
    Action, Block, Direction, Kind, NamespaceScope, Peer, PeerKind, Peers, Policy, PolicyKey, Port,
    PortKind, Ports, Rule, Subject, Tier,
};
use super::selector::Selector;
use super::{check, check_crd};
use crate::base::{Finding, Origin};
use crate::kube::service::{lenient, protocol};
use crate::kube::store::{Name, Object, Source, Store};

/// All policies, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: BTreeMap<Rank, Policy>,
}

/// Tier, then priority, then (as kube-network-policies does for equal priorities) name and kind.
type Rank = (Tier, i32, Name, Kind);

impl Policies {
    /// The store's policies. Those that the API server refuses are left out; the findings say why, in the
    /// same words as [`Store::load`] did when it read them.
    pub fn of(store: &Store) -> (Policies, Vec<Finding>) {
        let (mut policies, mut findings) = (Policies::default(), Vec::new());
        for object in store.network_policies.values() {
            let problems = check::problems(object);
            if accepted(&object.source, problems, &mut findings) {
                policies.insert(network_policy(object));
            }
        }
        for object in store.cluster_network_policies.values() {
            let mut problems = check_crd::cnp_problems(object);
            let (ingress, egress) = (&object.spec.ingress, &object.spec.egress);
            problems.extend(check_crd::written_empty(&object.source, ingress, egress));
            if accepted(&object.source, problems, &mut findings) {
                policies.insert(cluster(object));
            }
        }
        for object in store.admin_network_policies.values() {
            let mut problems = check_crd::anp_problems(object);
            let (ingress, egress) = (&object.spec.ingress, &object.spec.egress);
            problems.extend(check_crd::written_empty(&object.source, ingress, egress));
            if accepted(&object.source, problems, &mut findings) {
                policies.insert(admin(object));
            }
        }
        for object in store.baseline_policies.values() {
            let mut problems = check_crd::banp_problems(object);
            let (ingress, egress) = (&object.spec.ingress, &object.spec.egress);
            problems.extend(check_crd::written_empty(&object.source, ingress, egress));
            if accepted(&object.source, problems, &mut findings) {
                policies.insert(baseline(object));
            }
        }
        (policies, findings)
    }

    /// Puts a policy in; the one of the same kind and name, which may have had another rank, goes.
    pub fn insert(&mut self, policy: Policy) -> Option<Policy> {
        let old = self.remove(&policy.key);
        let key = policy.key.clone();
        let rank = (policy.tier, policy.priority, key.name, key.kind);
        self.all.insert(rank, policy);
        old
    }

    /// Takes a policy out.
    pub fn remove(&mut self, key: &PolicyKey) -> Option<Policy> {
        let rank = self.all.iter().find(|(_, p)| p.key == *key)?.0.clone();
        self.all.remove(&rank)
    }

    /// One policy.
    pub fn get(&self, key: &PolicyKey) -> Option<&Policy> {
        self.all.values().find(|p| p.key == *key)
    }

    /// All, in the order in which they are asked: tier, priority, name.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Policy> {
        self.all.values()
    }

    /// Those of one tier, in order.
    pub fn tier(&self, tier: Tier) -> impl Iterator<Item = &Policy> {
        self.iter().filter(move |policy| policy.tier == tier)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Whether the API server takes it; tells what it would answer.
fn accepted(source: &Source, problems: Vec<Problem>, findings: &mut Vec<Finding>) -> bool {
    let mut ok = true;
    for problem in problems {
        let span = source.span_of(&problem.path);
        let message = format!("{}: {}", problem.path, problem.message);
        findings.push(if problem.refused {
            ok = false;
            Finding::error(span, message, problem.help)
        } else {
            Finding::warning(span, message, problem.help)
        });
    }
    ok
}

/// The places of a policy's rules, peers and ports, asked for in one go and handed out in the same order.
pub(super) struct Places(std::vec::IntoIter<Origin>);

impl Places {
    /// `rules`: for each direction the number of peers and ports of each rule; `ports` is that field's
    /// name.
    pub(super) fn new(
        source: &Source,
        rules: &[(Direction, Vec<(usize, usize)>)],
        ports: &str,
    ) -> Self {
        let mut paths = Vec::new();
        for (direction, rules) in rules {
            let (list, peers) = direction.fields();
            for (i, (peer_count, port_count)) in rules.iter().enumerate() {
                let rule = format!("spec.{list}[{i}]");
                paths.extend((0..*peer_count).map(|n| format!("{rule}.{peers}[{n}]")));
                paths.extend((0..*port_count).map(|n| format!("{rule}.{ports}[{n}]")));
                paths.push(rule);
            }
        }
        Places(source.origins_of(&paths).into_iter())
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Origin {
        self.0.next().unwrap_or_default()
    }
}

/// A valid NetworkPolicy.
fn network_policy(object: &Object<NetworkPolicy>) -> Policy {
    let empty = NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let own = &object.name.namespace;
    let ingress = spec.ingress.as_deref().unwrap_or_default();
    let egress = spec.egress.as_deref().unwrap_or_default();
    // SetDefaults_NetworkPolicy: Ingress always, Egress if there is a rule for it.
    let said = spec.policy_types.as_deref().unwrap_or_default();
    let has = |word: &str, default: bool| match said.is_empty() {
        true => default,
        false => said.iter().any(|s| s == word),
    };
    let len = |list: &Option<Vec<NetworkPolicyPeer>>| list.as_ref().map_or(0, Vec::len);
    let counts = [
        (
            Direction::Ingress,
            ingress
                .iter()
                .map(|r| (len(&r.from), r.ports.as_ref().map_or(0, Vec::len)))
                .collect(),
        ),
        (
            Direction::Egress,
            egress
                .iter()
                .map(|r| (len(&r.to), r.ports.as_ref().map_or(0, Vec::len)))
                .collect(),
        ),
    ];
    let mut at = Places::new(&object.source, &counts, "ports");
    let mut rule = |index, list: Option<&[_]>, ports_: Option<&[_]>| Rule {
        index,
        name: String::new(),
        action: Action::Accept,
        peers: peers(list.unwrap_or_default(), own, &mut at),
        ports: ports(ports_.unwrap_or_default(), &mut at),
        failed_closed: false,
        origin: at.next(),
    };
    let ingress: Vec<Rule> = (0..)
        .zip(ingress)
        .map(|(i, r)| rule(i, r.from.as_deref(), r.ports.as_deref()))
        .collect();
    let has_egress = !egress.is_empty();
    let egress: Vec<Rule> = (0..)
        .zip(egress)
        .map(|(i, r)| rule(i, r.to.as_deref(), r.ports.as_deref()))
        .collect();
    Policy {
        key: PolicyKey {
            kind: Kind::NetworkPolicy,
            name: object.name.clone(),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject {
            namespaces: NamespaceScope::Own(own.clone()),
            pods: optional(spec.pod_selector.as_ref()),
        },
        ingress: has("Ingress", true).then_some(ingress),
        egress: has("Egress", has_egress).then_some(egress),
        origin: object.source.origin(),
        source: object.source.clone(),
    }
}

/// A selector that selects everything when it is absent.
pub(super) fn optional(selector: Option<&LabelSelector>) -> Selector {
    selector.map_or_else(Selector::everything, Selector::of)
}

fn peers(list: &[NetworkPolicyPeer], own: &str, at: &mut Places) -> Peers {
    if list.is_empty() {
        return Peers::Any;
    }
    let mut peers = Vec::with_capacity(list.len());
    for peer in list {
        let origin = at.next();
        let who = match (&peer.ip_block, &peer.namespace_selector) {
            (Some(block), _) => {
                let Some(cidr) = lenient::cidr(&block.cidr) else {
                    continue;
                };
                let except = block.except.iter().flatten();
                PeerKind::Block(Block {
                    cidr,
                    except: except.filter_map(|text| lenient::cidr(text)).collect(),
                })
            }
            (None, namespaces) => PeerKind::Pods(Subject {
                namespaces: match namespaces {
                    Some(selector) => NamespaceScope::Matching(Selector::of(selector)),
                    None => NamespaceScope::Own(own.to_owned()),
                },
                pods: optional(peer.pod_selector.as_ref()),
            }),
        };
        peers.push(Peer { who, origin });
    }
    Peers::List(peers)
}

fn ports(list: &[NetworkPolicyPort], at: &mut Places) -> Ports {
    if list.is_empty() {
        return Ports::All;
    }
    let mut ports = Vec::with_capacity(list.len());
    for port in list {
        let origin = at.next();
        // SetDefaults_NetworkPolicyPort: TCP.
        let protocol = protocol(port.protocol.as_deref()).unwrap_or_default();
        let what = match &port.port {
            None => PortKind::Range {
                protocol,
                first: 0,
                last: u16::MAX,
            },
            Some(IntOrString::String(name)) => PortKind::Named {
                name: name.clone(),
                protocol: Some(protocol),
            },
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                match (u16::try_from(*first), u16::try_from(last)) {
                    (Ok(first), Ok(last)) => PortKind::Range {
                        protocol,
                        first,
                        last,
                    },
                    _ => continue,
                }
            }
        };
        ports.push(Port { what, origin });
    }
    Ports::List(ports)
}
