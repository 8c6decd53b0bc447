//! Rules of all modes in one small form, and where a first packet can get to in them.
//!
//! Every choice is followed: random ones (`statistic`, `numgen`) and what earlier connections decide
//! (affinity). What only marks or masquerades has no effect here. A chain that tests destinations exactly is
//! looked up by them. Invariant: for a packet the [`Ends`] are those that a linear walk would collect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::Packet;
use crate::base::limits::NF_CHAIN_DEPTH_MAX;
use crate::kube::service::Protocol;

/// A condition.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// The destination is in one of these, or in none.
    To(Vec<IpNetwork>, bool),
    /// The destination is one of these.
    ToAny(BTreeSet<IpAddr>),
    /// The source is.
    From(Vec<IpNetwork>, bool),
    /// The protocol.
    Protocol(Protocol),
    /// The destination port.
    Port(u16),
    /// The destination is the machine's.
    ToLocal,
    /// The source is the machine's, or is not.
    FromLocal(bool),
    /// It came in where this node's pods are, or elsewhere.
    FromPods(bool),
    /// It is in the set, by `ip,port`, `port`, or with the source as third part.
    InSet(Set, Part),
    /// Sometimes.
    Maybe,
    /// Not for a first packet.
    Never,
}

/// Entries of an ipset as text.
pub(super) type Set = std::sync::Arc<BTreeSet<String>>;

/// What of a packet a set is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Destination and its port.
    DstPort,
    /// The port alone.
    Port,
    /// The destination alone.
    Dst,
    /// Destination, port, and the source, an address or in a network.
    DstPortSrc,
}

/// What a rule does when all tests hold.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Nothing that matters here.
    Nothing,
    /// Another chain, and back.
    Jump(String),
    /// Another chain, not back.
    Goto(String),
    /// One of these, each possible.
    Choose(Vec<Act>),
    /// What the map has for destination, protocol and port, or for protocol and port.
    Map(String),
    /// Leaves the chain.
    Return,
    /// Ends it.
    End(End),
}

/// How a walk through chains can end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    /// No more rules of this hook.
    Accept,
    /// Silence.
    Drop,
    /// An ICMP error.
    Reject,
    /// To an endpoint.
    Dnat(SocketAddr),
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub tests: Vec<Test>,
    pub act: Act,
}

/// A key of verdict maps and of chains' indexes: without an address any.
pub(super) type Key = (Option<IpAddr>, Protocol, u16);

#[derive(Clone, Debug, Default)]
struct Chain {
    rules: Vec<Rule>,
    /// Rules that only hold for one key.
    keyed: BTreeMap<Key, Vec<usize>>,
    /// The others.
    rest: Vec<usize>,
}

/// Chains by name, and verdict maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Chains {
    chains: BTreeMap<String, Chain>,
    pub maps: BTreeMap<String, BTreeMap<Key, Act>>,
    /// Sets of addresses.
    pub sets: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// The ends that are possible; whether the end of the chain is among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub all: BTreeSet<End>,
    pub falls: bool,
}

impl Chains {
    /// Adds a rule behind the others of its chain.
    pub fn add(&mut self, chain: &str, rule: Rule) {
        let key = key_of(&rule.tests);
        let chain = self.chains.entry(chain.to_owned()).or_default();
        let at = chain.rules.len();
        match key {
            Some(key) => chain.keyed.entry(key).or_default().push(at),
            None => chain.rest.push(at),
        }
        chain.rules.push(rule);
    }

    /// Where a packet can get to from a chain.
    pub fn walk(&self, chain: &str, packet: &Packet) -> Ends {
        let mut all = BTreeSet::new();
        let falls = self.run(chain, packet, 0, &mut all);
        Ends { all, falls }
    }

    /// Whether the chain's end is reached.
    fn run(&self, name: &str, packet: &Packet, depth: usize, all: &mut BTreeSet<End>) -> bool {
        let Some(chain) = self.chains.get(name).filter(|_| depth < NF_CHAIN_DEPTH_MAX) else {
            return true;
        };
        for at in chain.candidates(packet) {
            let Some(rule) = chain.rules.get(at) else {
                continue;
            };
            let holds = rule.tests.iter().map(|test| test.holds(packet));
            let Some(always) = holds.reduce(both).unwrap_or(Some(true)) else {
                continue;
            };
            match self.act(&rule.act, packet, depth, all) {
                Next::On => {}
                Next::Leave(falls) if always => return falls,
                // What may hold may not.
                Next::Leave(_) => {}
            }
        }
        true
    }

    fn act(&self, act: &Act, packet: &Packet, depth: usize, all: &mut BTreeSet<End>) -> Next {
        match act {
            Act::Nothing => Next::On,
            Act::Return => Next::Leave(true),
            Act::End(end) => {
                all.insert(*end);
                Next::Leave(false)
            }
            Act::Jump(to) => match self.run(to, packet, depth + 1, all) {
                true => Next::On,
                false => Next::Leave(false),
            },
            Act::Goto(to) => Next::Leave(self.run(to, packet, depth + 1, all)),
            Act::Choose(acts) => {
                let mut next = Next::Leave(false);
                for act in acts {
                    match (self.act(act, packet, depth, all), next) {
                        (Next::On, _) => next = Next::On,
                        (Next::Leave(true), Next::Leave(_)) => next = Next::Leave(true),
                        (Next::Leave(_), _) => {}
                    }
                }
                next
            }
            Act::Map(name) => {
                let map = self.maps.get(name);
                let keys = packet.keys();
                let found = map.and_then(|map| keys.iter().find_map(|key| map.get(key)));
                found.map_or(Next::On, |act| self.act(act, packet, depth, all))
            }
        }
    }
}

/// What follows a rule's action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// The next rule.
    On,
    /// Out of the chain: to the caller, or nowhere.
    Leave(bool),
}

/// Whether two tests hold: none if they do not, false for sometimes.
fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    Some(a? && b?)
}

impl Chain {
    /// The rules that can hold, in order.
    fn candidates(&self, packet: &Packet) -> Vec<usize> {
        let mut out = self.rest.clone();
        for key in packet.keys() {
            out.extend(self.keyed.get(&key).into_iter().flatten());
        }
        out.sort_unstable();
        out
    }
}

impl Test {
    /// None if it does not hold; false for sometimes.
    fn holds(&self, p: &Packet) -> Option<bool> {
        let within = |nets: &[IpNetwork], ip: IpAddr| nets.iter().any(|n| n.contains(ip));
        let holds = match self {
            Test::To(nets, yes) => within(nets, p.dst) == *yes,
            Test::ToAny(ips) => ips.contains(&p.dst),
            Test::From(nets, yes) => within(nets, p.src) == *yes,
            Test::Protocol(protocol) => *protocol == p.protocol,
            Test::Port(port) => *port == p.port,
            Test::ToLocal => p.dst_local,
            Test::FromLocal(yes) => p.src_local == *yes,
            Test::FromPods(yes) => p.from_pods == *yes,
            Test::InSet(set, part) => in_set(set, *part, p),
            Test::Maybe => return Some(false),
            Test::Never => false,
        };
        holds.then_some(true)
    }
}

fn in_set(set: &Set, part: Part, p: &Packet) -> bool {
    let (ip, protocol, port) = (p.dst, p.protocol, p.port);
    match part {
        Part::DstPort => set.contains(&format!("{ip},{protocol}:{port}")),
        Part::Port => set.contains(&port.to_string()),
        Part::Dst => set.contains(&ip.to_string()),
        Part::DstPortSrc => {
            let head = format!("{ip},{protocol}:{port},");
            let of_it = set.range(head.clone()..);
            let mut of_it = of_it.map_while(|entry| entry.strip_prefix(&head));
            of_it.any(|from| from.parse::<IpNetwork>().is_ok_and(|n| n.contains(p.src)))
        }
    }
}

/// The key without which a rule does not hold.
fn key_of(tests: &[Test]) -> Option<Key> {
    let (mut ip, mut protocol, mut port) = (None, None, None);
    for test in tests {
        match test {
            Test::To(nets, true) => {
                let [net] = nets.as_slice() else { continue };
                let whole = if net.is_ipv4() { 32 } else { 128 };
                ip = (net.prefix() == whole).then(|| net.ip()).or(ip);
            }
            Test::Protocol(p) => protocol = Some(*p),
            Test::Port(p) => port = Some(*p),
            _ => {}
        }
    }
    Some((ip, protocol?, port?))
}
