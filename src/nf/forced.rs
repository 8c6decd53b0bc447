//! Choices that are made for the engine instead of drawn: which endpoint, which source port.
//!
//! A recording says what NAT decided for each connection; a replay hands that in as [`Forced`] and the engine
//! asks before it draws. `-m statistic --mode random` then matches exactly when its rule leads to a DNAT to
//! the wanted endpoint ([`leads_to`]); the port allocator tries the wanted source first. Pure: it looks
//! at the
//! text model, keeps no state and draws nothing. Invariant: without an entry for a connection nothing
//! changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::ct::CtTuple;
use super::{Match, Rule, Table, Target, value::AddrRange};

/// An address and, where the protocol has ports, a port. For ICMP the port is the echo id.
pub type Place = (IpAddr, u16);

/// What NAT has to decide for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// Where its destination goes.
    pub dnat: Option<Place>,
    /// Where its source goes.
    pub snat: Option<Place>,
}

/// Choices by the connection's original tuple, as the first packet had it before any translation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forced {
    choices: BTreeMap<CtTuple, VecDeque<Choice>>,
}

impl Forced {
    /// Decides for a connection; a later decision for the same one replaces the earlier.
    pub fn insert(&mut self, orig: CtTuple, choice: Choice) {
        self.choices.insert(orig, [choice].into());
    }

    /// Decides for the next connection of these addresses and ports: those of a recording are decided in
    /// turn.
    pub fn append(&mut self, orig: CtTuple, choice: Choice) {
        self.choices.entry(orig).or_default().push_back(choice);
    }

    /// A connection has entered the table: the next decision, if there is one, is for the next one like it.
    pub(crate) fn used(&mut self, orig: &CtTuple) {
        if let Some(of) = self.choices.get_mut(orig).filter(|c| c.len() > 1) {
            of.pop_front();
        }
    }

    /// Whether nothing is decided.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// What is decided for a connection.
    pub fn choice(&self, orig: &CtTuple) -> Choice {
        let first = self.choices.get(orig).and_then(VecDeque::front);
        first.copied().unwrap_or_default()
    }

    /// Whether a rule with `--mode random` matches for this connection; `None`: not decided here.
    pub fn random_rule(&self, orig: &CtTuple, table: &Table, rule: &Rule) -> Option<bool> {
        let wanted = self.choice(orig).dnat?;
        let chooses = rule.matches().iter().any(is_random);
        chooses.then(|| leads_to(table, rule, orig, wanted))
    }

    /// The source a connection has to get, if it is among those that the range allows.
    pub fn source(&self, orig: &CtTuple, addrs: Option<AddrRange>) -> Option<Place> {
        let (ip, port) = self.choice(orig).snat?;
        let allowed = addrs.is_none_or(|r| inside(r, ip));
        allowed.then_some((ip, port))
    }
}

/// Whether a match draws.
pub fn is_random(m: &Match) -> bool {
    matches!(m, Match::Statistic(s) if s.probability.is_some())
}

/// Whether following the rule's target, through chains, can end in a DNAT of `orig` to `wanted`.
///
/// Rules on the way that name another protocol are not followed; other matches are not asked, since what
/// they say is the engine's business.
pub fn leads_to(table: &Table, rule: &Rule, orig: &CtTuple, wanted: Place) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&Rule> = vec![rule];
    while let Some(rule) = todo.pop() {
        match rule.target() {
            Target::Jump(chain) | Target::Goto(chain) if seen.insert(chain.as_str()) => {
                let rules = table.chain(chain).map_or(&[][..], |c| &c.rules);
                todo.extend(rules.iter().filter(|r| speaks(r, orig.proto)));
            }
            target if dnat_reaches(target, orig, wanted) => return true,
            _ => {}
        }
    }
    false
}

/// Every single endpoint that DNAT rules of a table name, in order of address: what there is to choose from.
pub fn endpoints(table: &Table, orig: &CtTuple) -> Vec<Place> {
    let rules = table.chains.iter().flat_map(|c| &c.rules);
    let named = rules.filter(|r| speaks(r, orig.proto)).filter_map(|r| {
        let Target::Dnat(d) = r.target() else {
            return None;
        };
        let to = d.to?;
        let ip = to.addrs.map_or(orig.dst, |a| a.from);
        Some((ip, to.ports.map_or(own_port(orig), |p| p.0.min)))
    });
    let set: BTreeSet<Place> = named.collect();
    set.into_iter().collect()
}

/// Whether the rule can be for this protocol.
fn speaks(rule: &Rule, proto: u8) -> bool {
    rule.matches().iter().all(|m| match m {
        Match::Protocol(p) => (p.value.0 == proto || p.value.0 == 0) != p.not,
        _ => true,
    })
}

fn dnat_reaches(target: &Target, orig: &CtTuple, (ip, port): Place) -> bool {
    let Target::Dnat(d) = target else {
        return false;
    };
    let Some(to) = d.to else { return false };
    let address = to.addrs.map_or(ip == orig.dst, |r| inside(r, ip));
    let ports = to.ports.map_or(port == own_port(orig), |p| {
        (p.0.min..=p.0.max).contains(&port)
    });
    address && ports
}

/// The port of a destination that keeps it; ICMP has its id on the source's place.
fn own_port(orig: &CtTuple) -> u16 {
    if orig.is_icmp() {
        orig.sport
    } else {
        orig.dport
    }
}

fn inside(range: AddrRange, ip: IpAddr) -> bool {
    range.from.is_ipv4() == ip.is_ipv4() && (range.from..=range.to).contains(&ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nf::{Family, RuleSet, TableName};
    use crate::wire::proto;

    /// Two endpoints on one Service, a third behind its external chain.
    const NAT: &str = "*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-EXT-A - [0:0]
:KUBE-SEP-1 - [0:0]
:KUBE-SEP-2 - [0:0]
:KUBE-SEP-3 - [0:0]
-A KUBE-EXT-A -j KUBE-SVC-A
-A KUBE-SVC-A -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-1
-A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-2
-A KUBE-SVC-A -j KUBE-SEP-3
-A KUBE-SEP-1 -s 10.1.0.1 -j KUBE-SVC-A
-A KUBE-SEP-1 -p tcp -j DNAT --to-destination 10.1.0.1:8080
-A KUBE-SEP-2 -p tcp -j DNAT --to-destination 10.1.0.2:8080
-A KUBE-SEP-3 -p udp -j DNAT --to-destination 10.1.0.3:53
-A KUBE-SEP-3 -p tcp -j DNAT --to-destination 10.1.0.3-10.1.0.9
COMMIT
";

    fn place(ip: &str, port: u16) -> Place {
        (ip.parse().unwrap(), port)
    }

    fn orig() -> CtTuple {
        let (src, dst) = ("10.1.0.7".parse().unwrap(), "10.96.0.1".parse().unwrap());
        CtTuple {
            proto: proto::TCP,
            src,
            dst,
            sport: 4000,
            dport: 80,
        }
    }

    /// What is decided for the three rules of the Service when `wanted` is forced.
    fn decided(wanted: Option<Place>) -> Vec<Option<bool>> {
        let (set, bad) = RuleSet::parse("t", NAT, Family::V4);
        assert!(bad.is_empty(), "{bad:?}");
        let table = set.table(TableName::Nat).unwrap();
        let mut forced = Forced::default();
        let (dnat, snat) = (wanted, None);
        forced.insert(orig(), Choice { dnat, snat });
        let rules = &table.chain("KUBE-SVC-A").unwrap().rules;
        let each = rules.iter();
        each.map(|r| forced.random_rule(&orig(), table, r))
            .collect()
    }

    #[test]
    fn the_rule_that_leads_to_the_wanted_endpoint_matches_and_no_other() {
        // KUBE-SEP-1 jumps back to the Service: everything is reachable through it, its own endpoint first.
        let (yes, no) = (Some(true), Some(false));
        let two = decided(Some(place("10.1.0.2", 8080)));
        assert_eq!(two.get(1..), Some(&[yes, None][..]));
        // A rule that does not draw is not decided, whatever it leads to.
        let three = decided(Some(place("10.1.0.3", 80)));
        assert_eq!(three.get(1..), Some(&[no, None][..]));
        assert_eq!(decided(Some(place("10.1.0.2", 81))).get(1), Some(&no));
        assert_eq!(decided(None), [None, None, None]);
    }

    #[test]
    fn each_connection_of_the_same_ports_has_its_turn() {
        let mut forced = Forced::default();
        let choices = [1, 2].map(|port| Choice {
            dnat: None,
            snat: Some(place("192.0.2.1", port)),
        });
        for c in choices {
            forced.append(orig(), c);
        }
        assert_eq!(forced.choice(&orig()), choices[0]);
        for _ in 0..2 {
            forced.used(&orig());
            assert_eq!(forced.choice(&orig()), choices[1]);
        }
    }

    #[test]
    fn another_connection_is_left_to_chance() {
        let (set, _) = RuleSet::parse("t", NAT, Family::V4);
        let table = set.table(TableName::Nat).unwrap();
        let rule = &table.chain("KUBE-SVC-A").unwrap().rules[0];
        assert_eq!(Forced::default().random_rule(&orig(), table, rule), None);
    }

    #[test]
    fn ranges_without_ports_keep_the_packets_own() {
        let (set, _) = RuleSet::parse("t", NAT, Family::V4);
        let table = set.table(TableName::Nat).unwrap();
        let via = |chain: &str| &table.chain(chain).unwrap().rules[0];
        let ext = via("KUBE-EXT-A");
        assert!(leads_to(table, ext, &orig(), place("10.1.0.9", 80)));
        assert!(!leads_to(table, ext, &orig(), place("10.1.0.9", 8080)));
        assert!(!leads_to(table, ext, &orig(), place("10.1.0.3", 53)));
        let named = endpoints(table, &orig());
        let expected = [("10.1.0.1", 8080), ("10.1.0.2", 8080), ("10.1.0.3", 80)];
        assert_eq!(named, expected.map(|(ip, port)| place(ip, port)));
    }

    #[test]
    fn a_source_outside_the_range_is_not_forced() {
        let mut forced = Forced::default();
        let snat = Some(place("192.0.2.1", 27884));
        forced.insert(orig(), Choice { dnat: None, snat });
        let one = |ip: &str| AddrRange {
            from: ip.parse().unwrap(),
            to: ip.parse().unwrap(),
        };
        assert_eq!(forced.source(&orig(), Some(one("192.0.2.1"))), snat);
        assert_eq!(forced.source(&orig(), Some(one("192.0.2.2"))), None);
        assert_eq!(forced.source(&orig(), None), snat);
    }
}
