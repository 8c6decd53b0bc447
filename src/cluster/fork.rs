//! Asking a probe again, from the very beginning, under assumptions: what rules that are not understood
//! would do either way, and each real server that may be next where a dump does not say which.
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
use std::net::SocketAddr;

/// What is assumed of something that is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assumption {
    /// Where it is.
    pub ns: NsId,
    /// The namespace's name.
    pub place: String,
    /// What.
    pub what: Assumed,
}

/// What may be assumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Assumed {
    /// Of a rule that is not understood.
    Rule {
        /// Which rule.
        rule: RuleRef,
        /// The rule as iptables-save prints it.
        text: String,
        /// That it matches (its target: that the packet goes on), or not.
        matches: bool,
    },
    /// Of IPVS's choice where a dump does not say which real server is next.
    Server {
        /// Which open choice of the namespace.
        number: u32,
        /// The service, as ipvsadm names it.
        virt: String,
        /// The real server that is chosen.
        server: SocketAddr,
        /// Of how many.
        of: usize,
    },
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

/// All branches of a probe that met what is not known.
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

    /// Follows every answer that what is not known could give; `None` when the probe met nothing of the kind.
    pub(super) fn fork(&self, spec: &ProbeSpec) -> Option<Fork> {
        let mut cut = false;
        let first = next_undecided(&[], &self.cluster, &mut cut)?;
        let mut todo: Vec<Vec<Assumption>> = first.into_iter().map(|a| vec![a]).collect();
        let mut branches = Vec::new();
        while let Some(assumed) = todo.pop() {
            if branches.len() >= limits::FORK_BRANCHES_MAX {
                cut = true;
                break;
            }
            let prepare = |c: &mut Cluster| {
                let world = &mut c.lab.world;
                for a in &assumed {
                    match &a.what {
                        Assumed::Rule { rule, matches, .. } => world.assume(a.ns, *rule, *matches),
                        Assumed::Server { number, server, .. } => {
                            world.assume_server(a.ns, *number, *server);
                        }
                    }
                }
            };
            let (s, result, events) = self.again(spec, &prepare)?;
            match next_undecided(&assumed, &s.cluster, &mut cut) {
                Some(next) => todo.extend(next.into_iter().map(|a| {
                    let mut more = assumed.clone();
                    more.push(a);
                    more
                })),
                None => branches.push(Branch {
                    assumed,
                    result,
                    events,
                }),
            }
        }
        Some(Fork { branches, cut })
    }
}

/// What may be assumed of the first thing that a run met undecided, beyond what was assumed already; the
/// last one is followed first. `cut` is set where there is more.
fn next_undecided(
    assumed: &[Assumption],
    ran: &Cluster,
    cut: &mut bool,
) -> Option<Vec<Assumption>> {
    let world = &ran.lab.world;
    let known = |at: NsId, asked: RuleRef| {
        let same = |a: &Assumption| match &a.what {
            Assumed::Rule { rule, .. } => (a.ns, *rule) == (at, asked),
            Assumed::Server { .. } => false,
        };
        assumed.iter().any(same)
    };
    let met = world
        .undecided()
        .iter()
        .find(|(ns, rule)| !known(*ns, *rule));
    if let Some(&(ns, rule)) = met {
        let space = world.ns(ns)?;
        let text = rule_text(space, &rule);
        let either = [false, true].map(|matches| Assumption {
            ns,
            place: space.name.clone(),
            what: Assumed::Rule {
                rule,
                text: text.clone(),
                matches,
            },
        });
        return Some(either.into());
    }
    let (ns, open) = world.open_choices().first()?;
    let place = world.ns(*ns)?.name.clone();
    *cut |= open.count > open.of.len();
    let each = open.of.iter().rev().map(|server| Assumption {
        ns: *ns,
        place: place.clone(),
        what: Assumed::Server {
            number: open.number,
            virt: open.at.to_string(),
            server: *server,
            of: open.count,
        },
    });
    Some(each.collect())
}
