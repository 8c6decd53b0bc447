//! Asking a probe again, from the very beginning, under assumptions: what rules that are not understood
//! would do either way.
//!
//! The cluster is built anew from its objects and everything that ran before runs again, so that a branch
//! differs from the first run in what is assumed and nothing else. Invariant: same store, seed and
//! assumptions, same branch; the number of branches is bounded.

use crate::base::{NsId, limits};
use crate::cluster::{Cluster, Scenario};
use crate::endpoint::Outcome;
use crate::kube::podpath_v1alpha1::ProbeSpec;
use crate::lab::ProbeResult;
use crate::net::NetNs;
use crate::nf::eval::RuleRef;
use crate::path::{Event, NoTrace};

/// What is assumed of one rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assumption {
    /// Where the rule is.
    pub ns: NsId,
    /// The namespace's name.
    pub place: String,
    /// Which rule.
    pub rule: RuleRef,
    /// The rule as iptables-save prints it.
    pub text: String,
    /// That it matches (its target: that the packet goes on), or not.
    pub matches: bool,
}

/// What comes of a probe under some assumptions.
#[derive(Clone, Debug)]
pub struct Branch {
    /// What is assumed, in the order in which the rules were met.
    pub assumed: Vec<Assumption>,
    /// What the client sees then.
    pub result: ProbeResult,
    /// Its frames' events.
    pub events: Vec<Event>,
}

/// All branches of a probe that met rules which are not understood.
#[derive(Clone, Debug)]
pub struct Fork {
    /// One for each set of assumptions.
    pub branches: Vec<Branch>,
    /// Whether there are more than were followed.
    pub cut: bool,
}

impl Fork {
    /// What the client sees: one answer if every branch gives it, else that it depends.
    pub fn outcome(&self) -> Outcome {
        let mut all = self.branches.iter().map(|b| &b.result.outcome);
        match all.next() {
            Some(first) if !self.cut && all.all(|o| o == first) => *first,
            _ => Outcome::Depends,
        }
    }
}

fn rule_text(ns: &NetNs, at: &RuleRef) -> String {
    let Some(nf) = ns.nf() else {
        return String::new();
    };
    if let Some((table, chain, Some(rule))) = nf.nft_place(at) {
        let text = rule.text(table.family);
        return format!(
            "{} {} {}: {text}",
            table.family.as_str(),
            table.name,
            chain.name
        );
    }
    match nf.rule(at).zip(nf.chain_name(at)) {
        Some((rule, chain)) => format!("{} {}", at.table, rule.text(chain)),
        None => String::new(),
    }
}

/// How a run is to differ from the first.
pub(super) type Prepare<'a> = &'a dyn Fn(&mut Cluster);

impl Scenario {
    /// Runs a probe anew, after all that ran before it, in a world that `prepare` changed at its beginning.
    pub(super) fn again(
        &self,
        spec: &ProbeSpec,
        prepare: Prepare<'_>,
    ) -> Option<(Scenario, ProbeResult, Vec<Event>)> {
        let store = self.beginning.as_deref().unwrap_or(&self.cluster.store);
        let (mut cluster, _) = Cluster::build(store.clone(), self.cluster.seed());
        prepare(&mut cluster);
        let (mut s, _) = Scenario::start(cluster);
        for earlier in &self.ran {
            let _ = s.wait_for(earlier);
            if let Ok(p) = s.probe_of(earlier) {
                let _ = s.cluster.lab.probe(&p, &mut NoTrace);
            }
        }
        let _ = s.wait_for(spec);
        let p = s.probe_of(spec).ok()?;
        s.cluster.lab.world.take_undecided();
        let (result, events) = s.cluster.lab.trace(&p);
        Some((s, result, events))
    }

    /// Follows every answer that undecided rules could give; `None` when the probe met none.
    pub(super) fn fork(&self, spec: &ProbeSpec) -> Option<Fork> {
        let first = self.next_undecided(&[], &self.cluster)?;
        let mut todo = vec![vec![(first.clone(), false)], vec![(first, true)]];
        let mut fork = Fork {
            branches: Vec::new(),
            cut: false,
        };
        while let Some(assumed) = todo.pop() {
            if fork.branches.len() >= limits::FORK_BRANCHES_MAX {
                fork.cut = true;
                break;
            }
            let assumed: Vec<Assumption> = assumed
                .into_iter()
                .map(|(a, matches)| Assumption { matches, ..a })
                .collect();
            let prepare = |c: &mut Cluster| {
                for a in &assumed {
                    c.lab.world.assume(a.ns, a.rule, a.matches);
                }
            };
            let (s, result, events) = self.again(spec, &prepare)?;
            match self.next_undecided(&assumed, &s.cluster) {
                Some(next) => {
                    for matches in [false, true] {
                        let so_far = assumed.iter().map(|a| (a.clone(), a.matches));
                        todo.push(so_far.chain([(next.clone(), matches)]).collect());
                    }
                }
                None => fork.branches.push(Branch {
                    assumed,
                    result,
                    events,
                }),
            }
        }
        Some(fork)
    }

    /// The first rule that a run met undecided, beyond those that were assumed already.
    fn next_undecided(&self, assumed: &[Assumption], ran: &Cluster) -> Option<Assumption> {
        let known = |ns: NsId, rule: RuleRef| assumed.iter().any(|a| (a.ns, a.rule) == (ns, rule));
        let met = ran.lab.world.undecided().iter();
        let &(ns, rule) = met.clone().find(|(ns, rule)| !known(*ns, *rule))?;
        let space = ran.lab.world.ns(ns)?;
        Some(Assumption {
            ns,
            place: space.name.clone(),
            rule,
            text: rule_text(space, &rule),
            matches: false,
        })
    }
}
