//! Why a connection may or may not open: for each side the policies that select the pod, what decided, and
//! for a denial the rule that came closest to allowing it and what about it did not fit.
//!
//! Built on the reference evaluator; says nothing that it does not decide. The text is
//! `report::policy`'s.

use super::eval::Evaluator;
use super::miss::{self, Miss, Placed};
use super::model::{Action, Direction, Peers, Policy, PolicyKey, Ports, Rule, Tier};
use super::pods::PolicyPod;
use super::translate::Way;
use super::verdict::{Query, RuleRef, Side, Why};
use crate::base::Origin;

/// A policy that selects a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selecting {
    /// Which.
    pub policy: PolicyKey,
    /// Its tier.
    pub tier: Tier,
    /// Its place in the tier, where it has one: the least first.
    pub priority: Option<i32>,
    /// How many rules it has for the direction; none when it says nothing of it.
    pub rules: Option<usize>,
    /// Where it stands.
    pub origin: Origin,
}

/// A rule that did not match, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Near {
    /// The rule.
    pub rule: RuleRef,
    /// What about its best peer and port does not fit. Never empty.
    pub misses: Vec<Placed>,
    /// Whether its peers fit.
    pub peer_fits: bool,
    /// Whether its ports fit.
    pub port_fits: bool,
}

/// One side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SideExplained {
    /// Which.
    pub direction: Direction,
    /// What was asked on this side.
    pub query: Query<'static>,
    /// The answer.
    pub side: Side,
    /// The policies that select the pod, in order; those that say nothing of the direction too.
    pub selecting: Vec<Selecting>,
    /// For a denial: the accepting rule that came closest before it, and others by nearness.
    pub near: Vec<Near>,
}

/// A connection explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Whether it may open.
    pub allowed: bool,
    /// The way it takes.
    pub way: Way,
    /// The sender's side, then the receiver's.
    pub sides: [SideExplained; 2],
    /// Further ways with the same answers, to other endpoints: counted by whoever leaves them out.
    pub alike: usize,
}

impl Explanation {
    /// Whether both give the same answers with the same reasons.
    pub fn is_alike(&self, other: &Explanation) -> bool {
        let mut sides = self.sides.iter().zip(&other.sides);
        sides.all(|(a, b)| {
            let rules = |s: &SideExplained| -> Vec<RuleRef> {
                s.near.iter().map(|near| near.rule.clone()).collect()
            };
            a.side == b.side && a.selecting == b.selecting && rules(a) == rules(b)
        })
    }
}

/// Rules that are shown beside the closest.
const NEAR_MAX: usize = 3;

/// Explains one way of a connection. `dialled` is the Service's port, where one was dialled.
pub fn explain(e: &Evaluator<'_>, way: &Way, dialled: Option<u16>) -> Explanation {
    let sides = Direction::ALL.map(|direction| side(e, way, direction, dialled));
    Explanation {
        allowed: sides.iter().all(|s| s.side.allowed),
        way: way.clone(),
        sides,
        alike: 0,
    }
}

fn side(e: &Evaluator<'_>, way: &Way, direction: Direction, dialled: Option<u16>) -> SideExplained {
    let query = *way.query(direction);
    let side = e.side(&query, direction);
    let (mut selecting, mut near) = (Vec::new(), Vec::new());
    if let Some(pod) = e.pod_at(query.own(direction)) {
        let policies: Vec<&Policy> = [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline]
            .into_iter()
            .flat_map(|tier| e.selecting(pod, tier))
            .collect();
        selecting = policies
            .iter()
            .map(|policy| Selecting {
                policy: policy.key.clone(),
                tier: policy.tier,
                priority: policy.has_priority().then_some(policy.priority),
                rules: policy.rules(direction).map(<[Rule]>::len),
                origin: policy.origin.clone(),
            })
            .collect();
        if !side.allowed {
            let asked = Asked {
                e,
                query: &query,
                direction,
                pod,
                dialled,
            };
            near = asked.nearest(&policies, &side.why);
        }
    }
    SideExplained {
        direction,
        query,
        side,
        selecting,
        near,
    }
}

struct Asked<'a, 'e> {
    e: &'a Evaluator<'e>,
    query: &'a Query<'static>,
    direction: Direction,
    pod: &'a PolicyPod,
    dialled: Option<u16>,
}

fn weight(misses: &[Placed]) -> u32 {
    misses.iter().map(|placed| placed.miss.weight()).sum()
}

impl Asked<'_, '_> {
    /// Rules that would have allowed it before it was denied, by nearness; all of them did not match.
    fn nearest(&self, policies: &[&Policy], why: &Why) -> Vec<Near> {
        let mut near: Vec<Near> = Vec::new();
        'policies: for policy in policies {
            if policy.tier == Tier::Baseline && matches!(why, Why::Isolated(_)) {
                break;
            }
            for rule in policy.rules(self.direction).unwrap_or_default() {
                let denied = |by: &RuleRef| by.policy == policy.key && by.index == rule.index;
                if matches!(why, Why::Rule(by) if denied(by)) {
                    break 'policies;
                }
                if rule.action == Action::Accept {
                    near.extend(self.nearness(policy, rule));
                }
            }
        }
        near.sort_by_key(|near| weight(&near.misses));
        near.truncate(NEAR_MAX);
        near
    }

    fn nearness(&self, policy: &Policy, rule: &Rule) -> Option<Near> {
        let (peers, ports) = (self.peers(rule), self.ports(rule));
        let (peer_fits, port_fits) = (peers.is_empty(), ports.is_empty());
        let mut misses = peers;
        misses.extend(ports);
        (!misses.is_empty()).then(|| Near {
            rule: RuleRef::of(policy, self.direction, rule),
            misses,
            peer_fits,
            port_fits,
        })
    }

    /// What the best peer lacks.
    fn peers(&self, rule: &Rule) -> Vec<Placed> {
        let list = match &rule.peers {
            Peers::Any => return Vec::new(),
            Peers::List(list) => list,
        };
        let each = list.iter().map(|entry| {
            let misses = miss::peer(self.e, self.query, self.direction, self.pod, entry);
            let placed = |miss| Placed {
                miss,
                origin: entry.origin.clone(),
            };
            misses.into_iter().map(placed).collect::<Vec<_>>()
        });
        each.min_by_key(|misses| weight(misses)).unwrap_or_else(|| {
            let miss = if rule.failed_closed {
                Miss::FailedClosed
            } else {
                Miss::NoPeers
            };
            vec![Placed {
                miss,
                origin: rule.origin.clone(),
            }]
        })
    }

    /// What the best port lacks.
    fn ports(&self, rule: &Rule) -> Vec<Placed> {
        let list = match &rule.ports {
            Ports::All => return Vec::new(),
            Ports::List(list) => list,
        };
        let each = list.iter().map(|entry| {
            let miss = miss::port(self.e, self.query, &entry.what, self.dialled);
            let origin = entry.origin.clone();
            miss.map(|miss| Placed { miss, origin })
                .into_iter()
                .collect::<Vec<_>>()
        });
        each.min_by_key(|misses| weight(misses)).unwrap_or_default()
    }
}
