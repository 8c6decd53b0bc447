//! Why a rule does not match: one reason for each thing about a peer or a port that is not as the rule
//! asks.
//!
//! Each [`Miss`] says what was asked and what was found, in a sentence; its [`Miss::weight`] says how far
//! off it is, so that the closest rule can be told from others (a wrong port is nearer than a wrong pod, a
//! wrong label value nearer than an address that selectors never mean).

use core::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::eval::Evaluator;
use super::model::{Direction, NamespaceScope, Peer, PeerKind, PortKind, Subject};
use super::pods::{Owner, PolicyPod};
use super::selector::{Labels, Op, Requirement, Selector};
use super::verdict::{BlockScope, L4, Query};
use crate::base::Origin;
use crate::kube::service::Protocol;
use crate::kube::store::Name;

/// Whose label it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bearer {
    /// A pod.
    Pod(Name),
    /// A namespace.
    Namespace(String),
    /// A node.
    Node(String),
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bearer::Pod(name) => write!(f, "pod {name}"),
            Bearer::Namespace(name) => write!(f, "namespace {name}"),
            Bearer::Node(name) => write!(f, "node {name}"),
        }
    }
}

/// One thing that is not as the rule asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Miss {
    /// A label is not there.
    LabelMissing(Bearer, Requirement),
    /// It has another value.
    LabelValue(Bearer, Requirement, String),
    /// It has a value that is excluded.
    LabelExcluded(Bearer, Requirement, String),
    /// It should not be there.
    LabelPresent(Bearer, Requirement, String),
    /// A podSelector alone means the policy's own namespace.
    OtherNamespace {
        /// The policy's.
        own: String,
        /// The pod.
        pod: Name,
    },
    /// `sameLabels`: the namespaces, by name and value, differ in this.
    NotSame(String, [(String, Option<String>); 2]),
    /// `notSameLabels`: the two namespaces do not differ in these.
    NotDifferent(Vec<String>, [String; 2]),
    /// Selectors mean pods, never addresses outside.
    Outside(IpAddr),
    /// Selectors mean pods, never nodes or hostNetwork pods.
    IsNode(String, IpAddr),
    /// An address outside the range.
    NotInBlock(IpNetwork, IpAddr),
    /// An address that is cut out of the range.
    Except(IpNetwork, IpNetwork, IpAddr),
    /// An address of the other family.
    OtherFamily(IpNetwork, IpAddr),
    /// This CNI holds only addresses outside against ranges.
    BlockIgnored(IpNetwork, IpAddr),
    /// A peer of nodes, and the address is no node's.
    NotANode(IpAddr),
    /// No name that the rule covers was resolved to the address.
    NoName(String, IpAddr),
    /// A peer without any known field: the rule matches nothing.
    FailedClosed,
    /// The rule has no peer that could match.
    NoPeers,
    /// Another protocol.
    OtherProtocol {
        /// The rule's entry.
        asked: PortKind,
        /// The packet's.
        found: Protocol,
    },
    /// Another port.
    OtherPort {
        /// The rule's entry.
        asked: PortKind,
        /// The packet's.
        found: u16,
    },
    /// A port outside the range.
    OutOfRange {
        /// The rule's entry.
        asked: PortKind,
        /// The packet's.
        found: u16,
    },
    /// The rule names the port that was dialled at the Service, but policies see the pod's.
    ServicePort {
        /// The port of the Service.
        service: u16,
        /// The pod's.
        target: u16,
    },
    /// The packet has no port, and the rule asks for one.
    NoPort,
    /// The destination pod has no container port of that name; those that it has.
    NoSuchName(String, Name, Vec<String>),
    /// The name stands for another number there.
    NameIsOther {
        /// The name.
        name: String,
        /// The pod.
        pod: Name,
        /// What it stands for.
        is: u16,
        /// The packet's.
        found: u16,
    },
    /// The name stands for a port of another protocol there.
    NameIsProtocol {
        /// The name.
        name: String,
        /// The pod.
        pod: Name,
        /// Its protocol.
        is: Protocol,
        /// The packet's.
        found: Protocol,
    },
    /// Names are pods' container ports; the destination is no pod.
    NameOutside(String, IpAddr),
}

fn word(protocol: Protocol) -> String {
    protocol.to_string().to_ascii_uppercase()
}

/// `namespace shop has team=a`.
fn labelled(key: &str, (namespace, value): &(String, Option<String>)) -> String {
    match value {
        Some(value) => format!("namespace {namespace} has {key}={value}"),
        None => format!("namespace {namespace} has no label `{key}`"),
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::LabelMissing(who, asked) => {
                write!(
                    f,
                    "{who} has no label `{}`; the rule asks for {asked}",
                    asked.key
                )
            }
            Miss::LabelValue(who, asked, found) => {
                write!(
                    f,
                    "{who} has {}={found}; the rule asks for {asked}",
                    asked.key
                )
            }
            Miss::LabelExcluded(who, asked, found) => {
                write!(f, "{who} has {}={found}, which {asked} excludes", asked.key)
            }
            Miss::LabelPresent(who, asked, found) => write!(
                f,
                "{who} has {}={found}; the rule asks for that label to be absent ({asked})",
                asked.key
            ),
            Miss::OtherNamespace { own, pod } => write!(
                f,
                "a podSelector without namespaceSelector means pods of {own} only; {pod} is in {ns}: a \
                 namespaceSelector beside it (kubernetes.io/metadata.name={ns}) would mean it",
                ns = pod.namespace
            ),
            Miss::NotSame(key, [a, b]) => write!(
                f,
                "{}, {}; the rule compares `{key}`",
                labelled(key, a),
                labelled(key, b)
            ),
            Miss::NotDifferent(keys, [a, b]) => write!(
                f,
                "namespaces {a} and {b} do not differ in {}; the rule is for those that do",
                keys.join(", ")
            ),
            Miss::Outside(ip) => write!(
                f,
                "selectors mean pods; {ip} is outside the cluster and needs an ipBlock or networks"
            ),
            Miss::IsNode(node, ip) => write!(
                f,
                "selectors never mean nodes or hostNetwork pods; {ip} is node {node} and needs an ipBlock or networks"
            ),
            Miss::NotInBlock(cidr, ip) => write!(f, "{ip} is not in {cidr}"),
            Miss::Except(cidr, cut, ip) => {
                write!(f, "{ip} is in {cidr}, but `except` cuts out {cut}")
            }
            Miss::OtherFamily(cidr, ip) => {
                let (a, b) = if ip.is_ipv6() {
                    ("IPv6", "IPv4")
                } else {
                    ("IPv4", "IPv6")
                };
                write!(f, "{ip} is {a}; {cidr} covers {b} only: each family needs its own range")
            }
            Miss::BlockIgnored(cidr, ip) => write!(
                f,
                "{ip} is a pod in {cidr}, but here ranges are not for pods: it needs a podSelector"
            ),
            Miss::NotANode(ip) => write!(f, "the rule means nodes; {ip} is no node's address"),
            Miss::NoName(domain, ip) => {
                write!(
                    f,
                    "no name of {domain} is known to have been resolved to {ip}"
                )
            }
            Miss::FailedClosed => {
                f.write_str("a peer of the rule has no field known here, so the rule matches nothing: is it misspelt, or of a later API?")
            }
            Miss::NoPeers => f.write_str("the rule has no peer"),
            Miss::OtherProtocol { .. }
            | Miss::OtherPort { .. }
            | Miss::OutOfRange { .. }
            | Miss::ServicePort { .. }
            | Miss::NoPort
            | Miss::NoSuchName(..)
            | Miss::NameIsOther { .. }
            | Miss::NameIsProtocol { .. }
            | Miss::NameOutside(..) => self.port_text(f),
        }
    }
}

impl Miss {
    /// What a wrong port is called.
    fn port_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::OtherProtocol { asked, found } => {
                write!(
                    f,
                    "the rule is about {asked}; the packet is {}",
                    word(*found)
                )
            }
            Miss::OtherPort { asked, found } => {
                write!(
                    f,
                    "the rule is about {asked}; the packet goes to port {found}"
                )
            }
            Miss::OutOfRange { asked, found } => {
                write!(f, "port {found} is outside {asked}")
            }
            Miss::ServicePort { service, target } => write!(
                f,
                "the rule names the Service's port {service}; policies see the pod's port {target}"
            ),
            Miss::NoPort => f.write_str("the rule asks for ports, and the protocol has none: only rules without ports are about it"),
            Miss::NoSuchName(name, pod, there) => {
                write!(f, "pod {pod} has no container port named {name:?}; ")?;
                match there.as_slice() {
                    [] => f.write_str("none of its ports has a name"),
                    names => write!(f, "its names: {}", names.join(", ")),
                }
            }
            Miss::NameIsOther {
                name,
                pod,
                is,
                found,
            } => write!(
                f,
                "port {name:?} of pod {pod} is {is}; the packet goes to port {found}"
            ),
            Miss::NameIsProtocol {
                name,
                pod,
                is,
                found,
            } => {
                let (is, found) = (word(*is), word(*found));
                write!(f, "port {name:?} of pod {pod} is {is}; the packet is {found}")
            }
            Miss::NameOutside(name, ip) => {
                write!(f, "{name:?} is a container port's name; {ip} is no pod: it needs the number")
            }
            _ => Ok(()),
        }
    }

    /// Its name in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Miss::LabelMissing(..) => "labelMissing",
            Miss::LabelValue(..) => "labelValue",
            Miss::LabelExcluded(..) => "labelExcluded",
            Miss::LabelPresent(..) => "labelPresent",
            Miss::OtherNamespace { .. } => "otherNamespace",
            Miss::NotSame(..) => "notSameLabels",
            Miss::NotDifferent(..) => "sameLabels",
            Miss::Outside(_) => "outside",
            Miss::IsNode(..) => "node",
            Miss::NotInBlock(..) => "notInBlock",
            Miss::Except(..) => "except",
            Miss::OtherFamily(..) => "otherFamily",
            Miss::BlockIgnored(..) => "blockIgnored",
            Miss::NotANode(_) => "notANode",
            Miss::NoName(..) => "noName",
            Miss::FailedClosed => "failedClosed",
            Miss::NoPeers => "noPeers",
            Miss::OtherProtocol { .. } => "otherProtocol",
            Miss::OtherPort { .. } => "otherPort",
            Miss::OutOfRange { .. } => "outOfRange",
            Miss::ServicePort { .. } => "servicePort",
            Miss::NoPort => "noPort",
            Miss::NoSuchName(..) => "noSuchPortName",
            Miss::NameIsOther { .. } => "portNameIsOther",
            Miss::NameIsProtocol { .. } => "portNameIsProtocol",
            Miss::NameOutside(..) => "portNameOutside",
        }
    }

    /// How far off it is.
    pub fn weight(&self) -> u32 {
        match self {
            Miss::ServicePort { .. } => 1,
            Miss::OtherPort { .. } | Miss::OutOfRange { .. } | Miss::NameIsOther { .. } => 2,
            Miss::OtherProtocol { .. } | Miss::NameIsProtocol { .. } | Miss::NoSuchName(..) => 3,
            Miss::LabelMissing(..)
            | Miss::LabelValue(..)
            | Miss::LabelExcluded(..)
            | Miss::LabelPresent(..) => 4,
            Miss::NoPort | Miss::NameOutside(..) | Miss::Except(..) => 5,
            Miss::OtherNamespace { .. } | Miss::NotSame(..) | Miss::NotDifferent(..) => 6,
            Miss::BlockIgnored(..) | Miss::NotInBlock(..) | Miss::OtherFamily(..) => 7,
            Miss::NotANode(_) | Miss::NoName(..) => 8,
            Miss::Outside(_) | Miss::IsNode(..) => 9,
            Miss::FailedClosed | Miss::NoPeers => 12,
        }
    }

    /// Whether it is about the port and not about the peer.
    pub fn is_port(&self) -> bool {
        matches!(
            self,
            Miss::ServicePort { .. }
                | Miss::OtherPort { .. }
                | Miss::OutOfRange { .. }
                | Miss::NameIsOther { .. }
                | Miss::OtherProtocol { .. }
                | Miss::NameIsProtocol { .. }
                | Miss::NoSuchName(..)
                | Miss::NoPort
                | Miss::NameOutside(..)
        )
    }
}

/// A reason with the place of what asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The reason.
    pub miss: Miss,
    /// The peer's or port's place.
    pub origin: Origin,
}

/// What labels do not meet.
fn labels(selector: &Selector, labels: &Labels, who: &Bearer, out: &mut Vec<Miss>) {
    for asked in selector.unmet(labels) {
        let (who, asked) = (who.clone(), asked.clone());
        let found = labels.get(&asked.key).cloned();
        out.push(match (&asked.op, found) {
            (_, None) => Miss::LabelMissing(who, asked),
            (Op::In(_) | Op::Exists, Some(found)) => Miss::LabelValue(who, asked, found),
            (Op::NotIn(_), Some(found)) => Miss::LabelExcluded(who, asked, found),
            (Op::DoesNotExist, Some(found)) => Miss::LabelPresent(who, asked, found),
        });
    }
}

fn pods(pods: &Subject, other: &PolicyPod, own: &PolicyPod, out: &mut Vec<Miss>) {
    let (theirs, ours) = (&*other.namespace_labels, &*own.namespace_labels);
    let who = Bearer::Namespace(other.name.namespace.clone());
    let two = || [own, other].map(|pod| pod.name.namespace.clone());
    let not_same = |key: &String| {
        let [a, b] = two();
        let values = [(a, ours.get(key).cloned()), (b, theirs.get(key).cloned())];
        Miss::NotSame(key.clone(), values)
    };
    match &pods.namespaces {
        NamespaceScope::Own(own) if *own != other.name.namespace => {
            out.push(Miss::OtherNamespace {
                own: own.clone(),
                pod: other.name.clone(),
            });
        }
        NamespaceScope::Own(_) => {}
        NamespaceScope::Matching(selector) => labels(selector, theirs, &who, out),
        NamespaceScope::SameLabels(keys) => {
            for key in keys {
                if ours.get(key) != theirs.get(key) || !ours.contains_key(key) {
                    out.push(not_same(key));
                }
            }
        }
        NamespaceScope::NotSameLabels(keys) => {
            let missing = keys.iter().filter(|key| !theirs.contains_key(*key));
            out.extend(missing.map(not_same));
            if keys.iter().all(|key| theirs.get(key) == ours.get(key)) {
                out.push(Miss::NotDifferent(keys.clone(), two()));
            }
        }
    }
    labels(
        &pods.pods,
        &other.labels,
        &Bearer::Pod(other.name.clone()),
        out,
    );
}

/// Why a peer entry does not mean the other end; nothing when it does.
pub fn peer(
    e: &Evaluator<'_>,
    query: &Query<'_>,
    direction: Direction,
    own: &PolicyPod,
    entry: &Peer,
) -> Vec<Miss> {
    if e.peer_matches(query, direction, own, entry) {
        return Vec::new();
    }
    let ip = query.peer(direction);
    let mut out = Vec::new();
    match (&entry.who, e.inventory.owner(ip)) {
        (PeerKind::Pods(set), Owner::Pod(other)) => pods(set, other, own, &mut out),
        (PeerKind::Pods(_), Owner::Node(node)) => out.push(Miss::IsNode(node.to_owned(), ip)),
        (PeerKind::Pods(_), Owner::Outside) => out.push(Miss::Outside(ip)),
        (PeerKind::Block(block), _) => {
            let cut = block.except.iter().find(|cut| cut.contains(ip));
            out.push(match cut {
                _ if block.cidr.is_ipv4() != ip.is_ipv4() => Miss::OtherFamily(block.cidr, ip),
                _ if !block.cidr.contains(ip) => Miss::NotInBlock(block.cidr, ip),
                Some(cut) => Miss::Except(block.cidr, *cut, ip),
                None => {
                    debug_assert!(e.options.blocks != BlockScope::Every);
                    Miss::BlockIgnored(block.cidr, ip)
                }
            });
        }
        (PeerKind::Nodes(selector), Owner::Node(name)) => {
            let node = e.inventory.nodes().find(|(n, _)| *n == name);
            if let Some((_, node)) = node {
                let who = Bearer::Node(name.to_owned());
                labels(selector, &node.labels, &who, &mut out);
            }
        }
        (PeerKind::Nodes(_), Owner::Pod(_) | Owner::Outside) => out.push(Miss::NotANode(ip)),
        (PeerKind::Domain(domain), _) => out.push(Miss::NoName(domain.to_string(), ip)),
    }
    out
}

/// Why a port entry does not mean the packet's; nothing when it does. `dialled` is the Service's port, if
/// one was dialled.
pub fn port(
    e: &Evaluator<'_>,
    query: &Query<'_>,
    entry: &PortKind,
    dialled: Option<u16>,
) -> Option<Miss> {
    if e.port_matches(query, entry) {
        return None;
    }
    let L4::Port(protocol, found) = query.l4 else {
        return Some(Miss::NoPort);
    };
    let asked = entry.clone();
    match entry {
        PortKind::Range { protocol: own, .. } if *own != protocol => Some(Miss::OtherProtocol {
            asked,
            found: protocol,
        }),
        PortKind::Range { first, last, .. } => Some(match dialled {
            Some(service) if (*first..=*last).contains(&service) => Miss::ServicePort {
                service,
                target: found,
            },
            _ if first == last => Miss::OtherPort { asked, found },
            _ => Miss::OutOfRange { asked, found },
        }),
        PortKind::Named {
            name,
            protocol: own,
        } => {
            let Owner::Pod(pod) = e.inventory.owner(query.to) else {
                return Some(Miss::NameOutside(name.clone(), query.to));
            };
            if let Some(own) = own.filter(|own| *own != protocol) {
                let asked = PortKind::Named {
                    name: name.clone(),
                    protocol: Some(own),
                };
                return Some(Miss::OtherProtocol {
                    asked,
                    found: protocol,
                });
            }
            let (name, pod_name) = (name.clone(), pod.name.clone());
            let mut named = pod.ports.iter().filter(|p| p.name == name);
            let Some(first) = named.next() else {
                let names = pod.ports.iter().map(|p| p.name.clone()).collect();
                return Some(Miss::NoSuchName(name, pod_name, names));
            };
            let same = pod
                .ports
                .iter()
                .find(|p| p.name == name && p.protocol == protocol);
            Some(match same {
                Some(port) => Miss::NameIsOther {
                    name,
                    pod: pod_name,
                    is: port.number,
                    found,
                },
                None => Miss::NameIsProtocol {
                    name,
                    pod: pod_name,
                    is: first.protocol,
                    found: protocol,
                },
            })
        }
    }
}
