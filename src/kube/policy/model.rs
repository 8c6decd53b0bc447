//! Policies as they act: defaults filled in, selectors compiled, every rule, peer and port with its place.
//!
//! One shape for the four kinds. A NetworkPolicy's rules accept and stand in the tier between; a direction
//! that a policy is silent about is `None`, which is not the same as one without rules. Only valid objects
//! get here (`load.rs`). Does not look at pods.

use core::fmt;

use ipnetwork::IpNetwork;

use super::selector::Selector;
use crate::base::Origin;
use crate::kube::service::Protocol;
use crate::kube::store::{Name, Source};

/// Which traffic of a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

impl Direction {
    /// Both, in the order in which a packet meets them.
    pub const ALL: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// The field of a spec and of a rule: `ingress` and `from`, `egress` and `to`.
    pub fn fields(self) -> (&'static str, &'static str) {
        match self {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fields().0)
    }
}

/// When a policy is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// First: ClusterNetworkPolicy `tier: Admin`, AdminNetworkPolicy.
    Admin,
    /// Then: NetworkPolicy.
    NetworkPolicy,
    /// Last: ClusterNetworkPolicy `tier: Baseline`, BaselineAdminNetworkPolicy.
    Baseline,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Admin => "Admin",
            Tier::NetworkPolicy => "NetworkPolicy",
            Tier::Baseline => "Baseline",
        })
    }
}

/// A kind of policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    BaselineAdminNetworkPolicy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Kind::AdminNetworkPolicy => "AdminNetworkPolicy",
            Kind::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
        })
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Let through, in this direction, finally (v1alpha1: Allow).
    Accept,
    /// Refuse, finally.
    Deny,
    /// Leave the tier.
    Pass,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Accept => "Accept",
            Action::Deny => "Deny",
            Action::Pass => "Pass",
        })
    }
}

/// What tells one policy from all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: Name,
}

impl fmt::Display for PolicyKey {
    /// `NetworkPolicy shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// One policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which it is.
    pub key: PolicyKey,
    /// When it is asked.
    pub tier: Tier,
    /// Within the tier, lower numbers first; 0 where the kind has none.
    pub priority: i32,
    /// The pods it is about.
    pub subject: Subject,
    /// Rules on traffic to them; none where the policy says nothing of it.
    pub ingress: Option<Vec<Rule>>,
    /// Rules on traffic from them; none where the policy says nothing of it.
    pub egress: Option<Vec<Rule>>,
    /// Where it stands.
    pub origin: Origin,
    /// For places of further fields.
    pub source: Source,
}

impl Policy {
    /// Whether objects of its kind have a priority.
    pub fn has_priority(&self) -> bool {
        matches!(
            self.key.kind,
            Kind::ClusterNetworkPolicy | Kind::AdminNetworkPolicy
        )
    }

    /// Its rules of one direction; none where it says nothing of it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Pods of namespaces. hostNetwork pods and finished ones are never among them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subject {
    /// Which namespaces.
    pub namespaces: NamespaceScope,
    /// Which pods of them.
    pub pods: Selector,
}

/// Namespaces that a subject or a peer means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceScope {
    /// This one: the policy's own.
    Own(String),
    /// Those whose labels match.
    Matching(Selector),
    /// Those that have all these labels with the subject's namespace's values (v1alpha1's first forms).
    SameLabels(Vec<String>),
    /// Those that have all these labels, at least one with another value than the subject's namespace.
    NotSameLabels(Vec<String>),
}

/// One rule of one direction.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its place in the list.
    pub index: usize,
    /// Its name; may be empty.
    pub name: String,
    /// What it does. Of a rule that fails closed: Deny.
    pub action: Action,
    /// Whom.
    pub peers: Peers,
    /// What of the transport header.
    pub ports: Ports,
    /// Set when a peer has no known field, so that the rule was changed to be safe.
    pub failed_closed: bool,
    /// Where it stands.
    pub origin: Origin,
}

/// The other ends that a rule is about.
#[derive(Clone, Debug)]
pub enum Peers {
    /// Every address, inside or outside.
    Any,
    /// These; an empty list matches nothing.
    List(Vec<Peer>),
}

impl Peers {
    /// The list; empty for any.
    pub fn list(&self) -> &[Peer] {
        match self {
            Peers::Any => &[],
            Peers::List(list) => list,
        }
    }
}

/// One entry of `from` or `to`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom it means.
    pub who: PeerKind,
    /// Where it stands.
    pub origin: Origin,
}

/// Whom a peer means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerKind {
    /// Pods, except hostNetwork ones.
    Pods(Subject),
    /// Addresses of `cidr` that are in no `except`.
    Block(Block),
    /// Nodes, by their addresses.
    Nodes(Selector),
    /// Addresses that a name was resolved to.
    Domain(DomainName),
}

/// An ipBlock, or one of `networks`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// The range, host bits cleared.
    pub cidr: IpNetwork,
    /// What is cut out of it.
    pub except: Vec<IpNetwork>,
}

impl Block {
    /// Whether it has the address. Families are never within each other.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.cidr.contains(ip) && !self.except.iter().any(|cut| cut.contains(ip))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (index, except) in self.except.iter().enumerate() {
            let before = if index == 0 { " except " } else { ", " };
            write!(f, "{before}{except}")?;
        }
        Ok(())
    }
}

/// `example.org`, or `*.example.org` for every name below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainName {
    /// Whether it begins with `*.`.
    pub wildcard: bool,
    /// The rest, in lower case, without the dot at the end.
    pub name: String,
}

impl DomainName {
    /// Reads it as written.
    pub fn new(text: &str) -> Self {
        let rest = text.strip_prefix("*.");
        let name = rest.unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name);
        DomainName {
            wildcard: rest.is_some(),
            name: name.to_ascii_lowercase(),
        }
    }

    /// Whether it covers a resolved name. The wildcard stands for one label or more, never for none.
    pub fn covers(&self, resolved: &str) -> bool {
        let resolved = resolved.strip_suffix('.').unwrap_or(resolved);
        let own = self.name.as_str();
        let split = resolved.len().checked_sub(own.len());
        let Some((front, tail)) = split.and_then(|at| resolved.split_at_checked(at)) else {
            return false;
        };
        tail.eq_ignore_ascii_case(own)
            && match self.wildcard {
                false => front.is_empty(),
                true => front.len() > 1 && front.ends_with('.'),
            }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

/// What of the transport header a rule is about.
#[derive(Clone, Debug)]
pub enum Ports {
    /// Everything, protocols without ports included.
    All,
    /// These.
    List(Vec<Port>),
}

impl Ports {
    /// The list; empty for all.
    pub fn list(&self) -> &[Port] {
        match self {
            Ports::All => &[],
            Ports::List(list) => list,
        }
    }
}

/// One entry of `ports` or `protocols`.
#[derive(Clone, Debug)]
pub struct Port {
    /// What it means.
    pub what: PortKind,
    /// Where it stands.
    pub origin: Origin,
}

/// What a port entry means: always the destination's port, after translation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortKind {
    /// `first` to `last`, both included; 0 to 65535 for every port of the protocol.
    Range {
        /// The protocol.
        protocol: Protocol,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// The destination pod's container ports of that name, each pod's own.
    Named {
        /// The name.
        name: String,
        /// Which of them; none means whatever protocol the container declares.
        protocol: Option<Protocol>,
    },
}

impl fmt::Display for PortKind {
    /// `TCP 80`, `UDP 5000-5010`, `SCTP`, `TCP "web"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |p: &Protocol| p.to_string().to_ascii_uppercase();
        match self {
            PortKind::Range {
                protocol,
                first: 0,
                last: u16::MAX,
            } => write!(f, "every {} port", word(protocol)),
            PortKind::Range {
                protocol,
                first,
                last,
            } if first == last => write!(f, "{} {first}", word(protocol)),
            PortKind::Range {
                protocol,
                first,
                last,
            } => write!(f, "{} {first}-{last}", word(protocol)),
            PortKind::Named {
                name,
                protocol: Some(protocol),
            } => write!(f, "{} {name:?}", word(protocol)),
            PortKind::Named {
                name,
                protocol: None,
            } => write!(f, "port {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_never_nothing() {
        let star = DomainName::new("*.Example.org.");
        for (name, covered) in [
            ("www.example.org", true),
            ("a.b.example.ORG.", true),
            ("example.org", false),
            (".example.org", false),
            ("notexample.org", false),
        ] {
            assert_eq!(star.covers(name), covered, "{name}");
        }
        let plain = DomainName::new("example.org");
        assert!(plain.covers("example.org.") && !plain.covers("www.example.org"));
    }

    #[test]
    fn families_do_not_mix() {
        let block = |cidr: &str| Block {
            cidr: cidr.parse().expect("a CIDR"),
            except: Vec::new(),
        };
        let ip = |text: &str| text.parse().expect("an address");
        assert!(!block("0.0.0.0/0").contains(ip("fd00::1")));
        assert!(!block("::/0").contains(ip("10.0.0.1")) && block("::/0").contains(ip("fd00::1")));
    }
}
