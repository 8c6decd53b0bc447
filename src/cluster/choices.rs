//! Every endpoint that a probe could be led to, each followed to its end.
//!
//! Rules that draw are found by what the probe's own first packet met: the chain whose `statistic` rules, or
//! whose `numgen random` of nft, lead to different DNAT targets. The probe runs again from the beginning once
//! for each endpoint, with that choice made for it (`nf::forced`). Invariant: chances of one connection's
//! endpoints add up to 1, up to the rounding of the rules' own probabilities.

use crate::base::limits;
use crate::cluster::{Checked, Cluster, Scenario};
use crate::kube::podpath_v1alpha1::{ProbeProtocol as Kind, ProbeSpec};
use crate::lab::{Probe, ProbeResult};
use crate::net::NetNs;
use crate::nf::ct::{CtStatus, CtTuple, Dir};
use crate::nf::forced::{Choice, Place, endpoints, is_random, leads_to};
use crate::nf::nft::{self, eval::forced as nft_forced};
use crate::nf::{Backend, Chain, Family, Match, RuleSet, Table, TableName};
use crate::path::{Event, EventKind, NoTrace, Step};
use core::time::Duration;
use std::collections::BTreeMap;

/// One endpoint and what comes of choosing it.
#[derive(Clone, Debug)]
pub struct EndpointRun {
    /// Where the connection is led.
    pub endpoint: Place,
    /// The chance that a new connection gets it, from 0 to 1.
    pub chance: f64,
    /// What the client sees then.
    pub result: ProbeResult,
    /// Its frames' events.
    pub events: Vec<Event>,
}

impl Scenario {
    /// Runs a probe once for every endpoint it could get. Empty when nothing is chosen on its way.
    pub fn every_endpoint(&self, spec: &ProbeSpec) -> Vec<EndpointRun> {
        let Some((first, _, events)) = self.again(spec, &|_| {}) else {
            return Vec::new();
        };
        let Ok(probe) = first.probe_of(spec) else {
            return Vec::new();
        };
        let Some((ns, orig, choices)) = choices(&first.cluster, &probe, &events) else {
            return Vec::new();
        };
        let runs = choices.into_iter().take(limits::ENDPOINT_RUNS_MAX);
        runs.filter_map(|(endpoint, chance)| {
            let choice = Choice {
                dnat: Some(endpoint),
                snat: None,
            };
            let (_, result, events) = self.again(spec, &|c| {
                if let Some(n) = c.lab.world.ns_mut(ns) {
                    n.nf_mut().forced.insert(orig, choice);
                }
            })?;
            Some(EndpointRun {
                endpoint,
                chance,
                result,
                events,
            })
        })
        .collect()
    }
}

/// The port or echo id of a client that is asked twice.
const SAME_CLIENT: u16 = 40_000;

impl Scenario {
    /// Runs a probe whose connection is known already, so that every packet told of is ESTABLISHED: a
    /// second datagram or echo of the same client, or what follows a TCP handshake.
    pub fn run_established(&mut self, spec: &ProbeSpec) -> Checked {
        if spec.protocol == Kind::Tcp {
            let spec = ProbeSpec {
                size: spec.size.or(Some(64)),
                ..spec.clone()
            };
            let mut c = self.run_probe("trace", &spec);
            // The first segment with data; without one the handshake itself is what there is to tell.
            let data = |e: &Event| e.summary.contains("[P");
            if let Some(i) = c.events.iter().position(data) {
                c.events.drain(..i);
            }
            return c;
        }
        if let Ok(p) = self.probe_of(spec) {
            let p = Probe {
                sport: Some(SAME_CLIENT),
                ..p
            };
            let _ = self.cluster.lab.probe(&p, &mut NoTrace);
        }
        let next = self.cluster.lab.now() + Duration::from_secs(1);
        let _ = self.wait_until(next);
        self.run_probe_from("trace", spec, Some(SAME_CLIENT))
    }
}

type Choices = (crate::base::NsId, CtTuple, Vec<(Place, f64)>);

/// Where the probe's destination was chosen, of which connection, and among what.
fn choices(c: &Cluster, probe: &Probe, events: &[Event]) -> Option<Choices> {
    events.iter().find_map(|e| {
        let EventKind::Step(Step::NatSetup {
            what: "destination",
            ..
        }) = &e.kind
        else {
            return None;
        };
        let ns = c.lab.world.ns(e.ns)?;
        let orig = connection(ns, probe)?;
        let list = match asked(e.ns, events, ns) {
            Some((chain, table)) => among(&table, chain, &orig),
            None => drawn(e.ns, events, ns, &orig)?,
        };
        Some((e.ns, orig, list))
    })
}

/// The original tuple of the probe's connection in a namespace that translated it.
fn connection(ns: &NetNs, probe: &Probe) -> Option<CtTuple> {
    let all = ns.nf()?.ct.iter();
    let mine = all.map(|(_, c)| c).find(|c| {
        let t = c.tuple(Dir::Original);
        t.dst == probe.to
            && c.status.any(CtStatus::DST_NAT)
            && (t.is_icmp() || t.dport == probe.port)
    });
    mine.map(|c| c.tuple(Dir::Original))
}

/// The chain of the nat table that was gone through and holds rules that draw, with its table.
fn asked<'n>(at: crate::base::NsId, events: &[Event], ns: &'n NetNs) -> Option<(&'n Chain, Table)> {
    let nf = ns.nf()?;
    let visited = events
        .iter()
        .filter(|e| e.ns == at)
        .filter_map(|e| match &e.kind {
            EventKind::Step(Step::Rule { at, .. }) if at.table == "nat" => Some(at),
            _ => None,
        });
    for rule in visited {
        let family = if rule.tool.starts_with("ip6") {
            Family::V6
        } else {
            Family::V4
        };
        for set in Backend::ALL
            .iter()
            .filter_map(|b| nf.rules(family).backend(*b))
        {
            if let Some(chain) = drawing(set, &rule.chain) {
                return Some((chain, set.table(TableName::Nat)?.clone()));
            }
        }
    }
    None
}

/// The draws of the native chains that were gone through: the first that leads anywhere.
fn drawn(
    at: crate::base::NsId,
    events: &[Event],
    ns: &NetNs,
    orig: &CtTuple,
) -> Option<Vec<(Place, f64)>> {
    let tables = &ns.nf()?.nft().tables;
    let visited = events
        .iter()
        .filter(|e| e.ns == at)
        .filter_map(|e| match &e.kind {
            EventKind::Step(Step::Rule { at, .. }) if at.tool == "nft" => Some(at),
            _ => None,
        });
    for rule in visited {
        let named = |t: &&nft::Table| {
            let (family, name) = (t.family.as_str(), &*t.name);
            rule.table.split_once(' ') == Some((family, name))
        };
        let Some(table) = tables.values().find(named) else {
            continue;
        };
        let Some(chain) = table.chains.get(rule.chain.as_str()) else {
            continue;
        };
        let mut out: BTreeMap<Place, f64> = BTreeMap::new();
        for (places, of) in nft_forced::draws(table, chain, orig) {
            for place in &places {
                let share = f64::from(of.max(1)) * places.len() as f64;
                *out.entry(*place).or_default() += 1.0 / share;
            }
        }
        if !out.is_empty() {
            return Some(out.into_iter().collect());
        }
    }
    None
}

fn drawing<'s>(set: &'s RuleSet, name: &str) -> Option<&'s Chain> {
    let chain = set.table(TableName::Nat)?.chain(name)?;
    let draws = chain
        .rules
        .iter()
        .any(|r| r.matches().iter().any(is_random));
    draws.then_some(chain)
}

/// The endpoints that a chain's rules lead to, with the chance of each.
fn among(table: &Table, chain: &Chain, orig: &CtTuple) -> Vec<(Place, f64)> {
    let named = endpoints(table, orig);
    let mut left = 1.0;
    let mut out: BTreeMap<Place, f64> = BTreeMap::new();
    for rule in &chain.rules {
        let reached: Vec<Place> = named
            .iter()
            .copied()
            .filter(|e| leads_to(table, rule, orig, *e))
            .collect();
        if reached.is_empty() {
            continue;
        }
        let part = rule.matches().iter().find_map(|m| match m {
            Match::Statistic(s) => s
                .probability
                .map(|p| f64::from(p.value.0) / 2_147_483_648.0),
            _ => None,
        });
        let chance = left * part.unwrap_or(1.0);
        left -= chance;
        for e in &reached {
            *out.entry(*e).or_default() += chance / reached.len() as f64;
        }
    }
    out.into_iter()
        .filter(|(_, chance)| *chance > 0.0)
        .collect()
}
