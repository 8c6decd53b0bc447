//! Who reaches whom by the real path: for each pair of groups one probe from each node to each node, held
//! against what policies say.
//!
//! Ends of a group on one node have the same way through proxies, routes and policies' rules, so one pod
//! stands for them. Between each two nodes one full-size exchange shows what the path's MTUs do. Probes run
//! one after another in one world, when it has [settled](settle). Invariant: bounded by
//! `limits::REACH_PROBES_MAX`; same store and seed, same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use core::time::Duration;

use crate::base::{Finding, Instant, NsId, limits};
use crate::cluster::Scenario;
use crate::endpoint::Outcome;
use crate::kube::podpath_v1alpha1::Enforcement;
use crate::kube::policy::reach::{Group, Kind, Reach};
use crate::kube::policy::{Kind as PolicyKind, L4, Policy};
use crate::kube::service::{Family, Protocol};
use crate::lab::{Hop, Probe, ProbeResult};
use crate::path::{Disposition, DropReason, NoTrace};

/// How long a client waits: longer than address resolution takes to fail (3 s).
const WAIT: Duration = Duration::from_secs(5);
/// Time before the first probe, so that agents have written what the beginning asks of them (kube-proxy's
/// `minSyncPeriod` is 1 s).
const SETTLE: Duration = Duration::from_secs(10);
/// Bytes of a full-size exchange: more than any usual MTU, so that TCP fills its segments.
const FULL: u32 = 4_000;
/// Differences that are asked again for every detail.
const DETAILED: usize = 200;
/// Tries for each endpoint of a Service, so that each is met, and how many at most.
const TRIES: (u32, u32) = (4, 32);

/// One port of a cell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathCell {
    /// Probes made.
    pub tried: u64,
    /// Those that reached the other end, whether something listens there or not.
    pub reached: u64,
    /// Those that policies allow.
    pub allowed: u64,
    /// Those that differ from what policies say.
    pub differ: u64,
    /// Those between nodes where full-size packets are lost.
    pub mtu: u64,
}

/// Where path and policies do not agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Differ {
    /// The cell.
    pub cell: At,
    /// Who sent.
    pub from: String,
    /// Who was meant.
    pub to: String,
    /// Whether policies allow it.
    pub allowed: bool,
    /// What the client saw.
    pub outcome: String,
    /// Why, in the words that all differences with one cause share.
    pub cause: String,
    /// Where it was decided, and by what; may be empty.
    pub hop: String,
}

impl Differ {
    /// Cause and place.
    pub fn why(&self) -> String {
        match (self.hop.as_str(), self.cause.contains(&self.hop)) {
            (_, true) => self.cause.clone(),
            (hop, false) => format!("{}: {hop}", self.cause),
        }
    }
}

/// The answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Paths {
    /// By row, column and the port's place. What is not here was not tried.
    pub cells: BTreeMap<At, PathCell>,
    /// The differences, in the order of cells.
    pub differ: Vec<Differ>,
    /// Probes made.
    pub probes: usize,
}

/// A port of a cell: row and column, as numbers of groups, and the port's place.
pub type At = (usize, usize, usize);
/// From a node to a node.
type Link = (String, String);

/// More probes than the cap: how many there would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany(pub usize);

/// An end on a node.
#[derive(Clone, Debug)]
struct End {
    name: String,
    node: String,
    ns: Option<NsId>,
    ip: IpAddr,
}

/// One probe to be made.
#[derive(Clone, Debug)]
struct Try {
    cell: At,
    from: End,
    to: End,
    l4: (Protocol, u16),
    /// Ways that policies allow, of how many.
    allowed: (usize, usize),
    times: u32,
}

/// Lets agents write what the beginning asks of them, Faults of that time included. Policies are to be asked
/// about the cluster as it is then.
pub fn settle(s: &mut Scenario) -> Vec<Finding> {
    s.wait_until(Instant::ZERO + SETTLE)
}

/// Tries everything. `each` hears of every probe.
///
/// # Errors
/// When there would be more probes than the cap.
pub fn paths(
    s: &mut Scenario,
    reach: &Reach<'_>,
    each: &mut dyn FnMut(),
) -> Result<Paths, TooMany> {
    let tries = tries(s, reach)?;
    let mut out = Paths::default();
    let mut links: BTreeMap<Link, Option<Try>> = BTreeMap::new();
    let mut between = Vec::new();
    for t in &tries {
        let mut came = Came::default();
        for _ in 0..t.times {
            let result = probe(s, t, 0);
            came.add(reached(&result, t, s), result);
            each();
        }
        out.probes += t.times as usize;
        let cell = out.cells.entry(t.cell).or_default();
        let (allowed, of) = t.allowed;
        cell.tried += 1;
        let arrived = came.reached == t.times;
        cell.reached += u64::from(arrived);
        cell.allowed += u64::from(allowed == of && of > 0);
        let agrees = match allowed {
            0 => came.reached == 0,
            all if all == of => arrived,
            _ => !arrived && came.reached > 0,
        };
        if !agrees || came.depends {
            cell.differ += 1;
            let told = out.differ.len() < DETAILED;
            out.differ.push(differ(s, reach, t, &came, told));
        }
        if came.ok && t.l4.0 == Protocol::Tcp && t.from.node != t.to.node {
            let key = (t.from.node.clone(), t.to.node.clone());
            links.entry(key.clone()).or_insert_with(|| Some(t.clone()));
            between.push((key, t.cell));
        }
    }
    full_size(s, &mut out, links, &between);
    out.differ.sort_by_key(|d| d.cell);
    Ok(out)
}

/// What came of the tries of one probe.
#[derive(Default)]
struct Came {
    reached: u32,
    ok: bool,
    depends: bool,
    worst: Option<ProbeResult>,
}

impl Came {
    fn add(&mut self, reached: Option<bool>, result: ProbeResult) {
        self.depends |= reached.is_none();
        self.reached += u32::from(reached == Some(true));
        self.ok |= result.outcome == Outcome::Ok;
        let worse = self.worst.is_none() || reached == Some(false);
        if worse {
            self.worst = Some(result);
        }
    }
}

/// Probes full-size between each two nodes where small ones pass.
fn full_size(
    s: &mut Scenario,
    out: &mut Paths,
    links: BTreeMap<Link, Option<Try>>,
    between: &[(Link, At)],
) {
    let mut holes = BTreeSet::new();
    for (link, t) in links {
        let Some(t) = t else { continue };
        let result = probe(s, &t, FULL);
        out.probes += 1;
        if result.outcome == Outcome::Ok {
            continue;
        }
        out.differ.push(Differ {
            cell: t.cell,
            from: t.from.name.clone(),
            to: t.to.name.clone(),
            allowed: true,
            outcome: format!("{} of full-size segments", result.outcome),
            cause: format!(
                "MTU black hole between {} and {}: small packets pass, full-size ones are lost",
                link.0, link.1
            ),
            hop: result.hop.as_ref().map(place).unwrap_or_default(),
        });
        holes.insert(link);
    }
    for (link, cell) in between {
        if let Some(cell) = out.cells.get_mut(cell).filter(|_| holes.contains(link)) {
            cell.mtu += 1;
        }
    }
}

/// Every probe to be made, in the order of cells and nodes.
fn tries(s: &Scenario, reach: &Reach<'_>) -> Result<Vec<Try>, TooMany> {
    let ends: Vec<Vec<End>> = reach.groups.iter().map(|g| placed(s, reach, g)).collect();
    let none = Vec::new();
    let (mut out, mut count) = (Vec::new(), 0_usize);
    for &a in &reach.rows {
        for &b in &reach.columns {
            let Some(to) = reach.groups.get(b) else {
                continue;
            };
            for (at, port) in reach.cell(a, b).iter().enumerate() {
                let L4::Port(protocol, number) = port.l4 else {
                    continue;
                };
                // No client of podpath's speaks SCTP.
                if protocol == Protocol::Sctp {
                    continue;
                }
                let l4 = (protocol, number);
                let mut nodes = BTreeSet::new();
                let senders = ends.get(a).unwrap_or(&none).iter();
                for from in senders.filter(|end| nodes.insert(end.node.clone())) {
                    let cell = (a, b, at);
                    if to.kind == Kind::Service {
                        count += to_service(reach, (from, to), cell, l4, &mut out);
                        continue;
                    }
                    let other = |end: &&End| end.name != from.name;
                    let mut nodes = BTreeSet::new();
                    let there = ends.get(b).unwrap_or(&none).iter().filter(other);
                    for to in there.filter(|end| nodes.insert(end.node.clone())) {
                        let allowed = reach.allows(from.ip, to.ip, port.l4, 0);
                        count += 1;
                        out.push(Try {
                            cell,
                            from: from.clone(),
                            to: to.clone(),
                            l4,
                            allowed: (usize::from(allowed), 1),
                            times: 1,
                        });
                    }
                }
                out.truncate(limits::REACH_PROBES_MAX);
            }
        }
    }
    match count > limits::REACH_PROBES_MAX {
        true => Err(TooMany(count)),
        false => Ok(out),
    }
}

fn to_service(
    reach: &Reach<'_>,
    (from, to): (&End, &Group),
    cell: At,
    l4: (Protocol, u16),
    out: &mut Vec<Try>,
) -> usize {
    let ways = reach.ways(from.ip, to, cell.2, 0);
    let Some(ip) = reach.cluster_ip(to, cell.2, 0) else {
        return 0;
    };
    let allowed = ways.iter().filter(|way| reach.allows_way(way, 0)).count();
    let times = match u32::try_from(ways.len()).unwrap_or(u32::MAX) {
        0 | 1 => 1,
        n => n.saturating_mul(TRIES.0).min(TRIES.1),
    };
    out.push(Try {
        cell,
        from: from.clone(),
        to: End {
            name: to.name.clone(),
            node: String::new(),
            ns: None,
            ip,
        },
        l4,
        allowed: (allowed, ways.len()),
        times,
    });
    times as usize
}

/// The ends that stand for a group: two pods of each node, so that one can reach the other; each node; hosts
/// that are known outside.
fn placed(s: &Scenario, reach: &Reach<'_>, group: &Group) -> Vec<End> {
    let c = &s.cluster;
    let mine = |ip: &IpAddr| Family::of(*ip) == reach.family;
    let mut out: Vec<End> = Vec::new();
    match group.kind {
        Kind::Pods => {
            let mut on: BTreeMap<&str, usize> = BTreeMap::new();
            for member in &group.pods {
                let Some(pod) = c.pods.get(&member.name) else {
                    continue;
                };
                let Some(ip) = pod.ips.iter().copied().find(mine) else {
                    continue;
                };
                let seen = on.entry(pod.node.as_str()).or_default();
                *seen += 1;
                if *seen <= 2 {
                    out.push(End {
                        name: member.name.to_string(),
                        node: pod.node.clone(),
                        ns: Some(pod.ns),
                        ip,
                    });
                }
            }
        }
        Kind::Nodes => {
            for name in &group.nodes {
                let Some(node) = c.nodes.get(name) else {
                    continue;
                };
                let mut ips = node.addresses.iter().map(|a| a.ip());
                let Some(ip) = ips.find(mine) else { continue };
                out.push(End {
                    name: format!("node/{name}"),
                    node: name.clone(),
                    ns: Some(node.ns),
                    ip,
                });
            }
        }
        Kind::Outside => {
            for name in &group.nodes {
                let Some(ns) = c.hosts.get(name) else {
                    continue;
                };
                let Some(ip) = c.addresses(*ns).into_iter().find(mine) else {
                    continue;
                };
                out.push(End {
                    name: format!("host/{name}"),
                    node: format!("host/{name}"),
                    ns: Some(*ns),
                    ip,
                });
            }
        }
        Kind::Service => {}
    }
    out
}

fn as_probe(t: &Try, size: u32) -> Option<Probe> {
    let from = t.from.ns?;
    let probe = match t.l4 {
        (Protocol::Udp, port) => Probe::udp(from, t.to.ip, port),
        (_, port) => Probe::tcp(from, t.to.ip, port),
    };
    Some(probe.size(size).timeout(WAIT))
}

fn probe(s: &mut Scenario, t: &Try, size: u32) -> ProbeResult {
    let lab = &mut s.cluster.lab;
    lab.world.take_undecided();
    match as_probe(t, size) {
        Some(p) => lab.probe(&p, &mut NoTrace),
        None => ProbeResult {
            outcome: Outcome::Timeout,
            delay: Duration::ZERO,
            errno: None,
            icmp: None,
            hop: None,
            bytes: 0,
            reply: Default::default(),
            connected: None,
            attempts: 0,
            succeeded: 0,
        },
    }
}

/// Whether a packet got to the other end, were it only to be told that nobody listens there; none where
/// rules that are not understood decided.
fn reached(r: &ProbeResult, t: &Try, s: &Scenario) -> Option<bool> {
    let world = &s.cluster.lab.world;
    if !world.undecided().is_empty() || !world.open_choices().is_empty() {
        return None;
    }
    let at_end = |hop: &Hop| {
        let nobody = matches!(
            hop.how,
            Disposition::Dropped {
                reason: DropReason::NoSocket,
                ..
            } | Disposition::Rejected {
                reason: DropReason::NoSocket,
                ..
            }
        );
        let there = match t.to.ns {
            Some(ns) => hop.ns == ns,
            None => s
                .cluster
                .pods
                .values()
                .any(|p| p.ns == hop.ns && !p.host_network),
        };
        nobody && there
    };
    Some(r.outcome == Outcome::Ok || r.hop.as_ref().is_some_and(at_end))
}

/// `n1 eth0: no route`.
fn place(hop: &Hop) -> String {
    let at = match hop.device.as_str() {
        "" => hop.ns_name.clone(),
        device => format!("{} {device}", hop.ns_name),
    };
    match &hop.how {
        Disposition::Dropped { reason, detail, .. }
        | Disposition::Rejected { reason, detail, .. } => match detail.as_str() {
            "" => format!("{at}: {reason}"),
            detail => format!("{at}: {reason} ({detail})"),
        },
        how => format!("{} at {at}", super::disposition_name(how)),
    }
}

fn differ(s: &mut Scenario, reach: &Reach<'_>, t: &Try, came: &Came, detailed: bool) -> Differ {
    let open = t.allowed.0 > 0;
    let outcome = came.worst.as_ref().map(|r| r.outcome.to_string());
    let (cause, hop) = if came.depends {
        let words = "rules that podpath does not understand decide";
        (words.to_owned(), String::new())
    } else if came.reached > 0 && !open {
        (lets_pass(s, reach), String::new())
    } else {
        fails(s, t, came, detailed)
    };
    Differ {
        cell: t.cell,
        from: t.from.name.clone(),
        to: t.to.name.clone(),
        allowed: open,
        outcome: outcome.unwrap_or_default(),
        cause,
        hop,
    }
}

/// Why something that policies allow does not arrive: the cause, and the place.
fn fails(s: &mut Scenario, t: &Try, came: &Came, detailed: bool) -> (String, String) {
    let traced = as_probe(t, 0).filter(|_| detailed && t.times == 1);
    let traced = traced.map(|p| s.cluster.lab.trace(&p).0);
    // Told again: what happened twice alike has its details.
    let same = |r: &ProbeResult| came.worst.as_ref().is_some_and(|w| w.outcome == r.outcome);
    let result = traced.filter(same).or_else(|| came.worst.clone());
    let hop = result.and_then(|r| r.hop);
    let text = hop.as_ref().map(place).unwrap_or_default();
    let filtered = |hop: &Hop| {
        matches!(
            hop.how,
            Disposition::Dropped {
                reason: DropReason::Netfilter | DropReason::NetfilterQueue,
                ..
            } | Disposition::Rejected {
                reason: DropReason::NetfilterReject,
                ..
            }
        )
    };
    let dropped = hop.as_ref().is_some_and(filtered);
    let left = hop
        .as_ref()
        .is_some_and(|h| h.how == Disposition::LeftTheCluster);
    let cause = match (t.allowed.1, t.times) {
        (0, _) => "the Service has no endpoint".to_owned(),
        _ if dropped => "a rule drops it".to_owned(),
        _ if left => "no route outside leads to pods' addresses".to_owned(),
        (_, 1) => text.clone(),
        (_, n) => format!("{} of {n} tries arrive", came.reached),
    };
    (cause, text)
}

/// Why something arrives that policies deny.
fn lets_pass(s: &Scenario, reach: &Reach<'_>) -> String {
    let other = |p: &Policy| p.key.kind != PolicyKind::NetworkPolicy;
    let others = reach
        .states
        .first()
        .is_some_and(|state| state.policies.iter().any(other));
    match s.cluster.policies.enforcement {
        Enforcement::None => {
            let cni = &s.cluster.cni;
            format!("nobody enforces policies: {cni} has no agent for them")
        }
        Enforcement::KubeRouter if others => {
            "kube-router implements NetworkPolicy only, and lets pass what others deny".into()
        }
        Enforcement::KubeRouter => "the rules of kube-router let it pass".into(),
        Enforcement::Calico => "the rules of Calico's Felix let it pass".into(),
        Enforcement::Nftables => "kube-network-policies lets it pass".into(),
    }
}
