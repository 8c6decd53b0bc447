//! A cluster in motion: what listens is started, Faults happen when they are due, Probes run and are held
//! against what they expect.
//!
//! Probes run one after another in the order of their `at` and names, each when the one before has ended, in
//! one world: caches carry over as on a real cluster. A Fault takes effect at the first probe boundary at or
//! after its time (`faults`). Invariant: same store and seed, same results.

use crate::base::{Finding, Instant, NsId};
use crate::cluster::{Cluster, Fork, dns, services};
use crate::endpoint::{App, Outcome};
use crate::kube::listen::Protocol;
use crate::kube::podpath_v1alpha1::{
    DispositionName, Expect, Family, FaultSpec, KubeProxyFault, Outcome as WantedOutcome, Peer,
    ProbeProtocol as Kind, ProbeSpec, Target,
};
use crate::kube::store::Store;
use crate::lab::{Hop, Probe, ProbeProtocol, ProbeResult};
use crate::path::{Disposition, Event};
use crate::sim::Link;
use crate::wire::proto;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One expectation that was not met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Which: `outcome`, `delay`, `hop.node`...
    pub what: &'static str,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub found: String,
}

/// A probe that ran.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// What it asked, in one line.
    pub question: String,
    /// What came; `Err`: it could not even start. Where rules that are not understood decide, the outcome
    /// is the one that all branches of `fork` agree on, or that it depends.
    pub result: Result<ProbeResult, String>,
    /// Its frames' events.
    pub events: Vec<Event>,
    /// What did not come as expected; empty when all did, or nothing was expected.
    pub mismatches: Vec<Mismatch>,
    /// Whether anything was expected.
    pub expected: bool,
    /// What would come under each answer of rules that are not understood; `None` when it met none.
    pub fork: Option<Fork>,
}

/// What a Fault changed on links and kube-proxies, to be undone.
pub(super) struct Healing {
    pub at: Instant,
    pub links: Vec<(crate::net::PortAt, Link)>,
    pub proxies: Vec<(String, KubeProxyFault)>,
    /// Pods whose DNS servers run again; none: every CoreDNS.
    pub dns: Vec<Option<String>>,
}

/// A cluster in motion.
pub struct Scenario {
    /// The cluster.
    pub cluster: Cluster,
    pub(super) pending: Vec<(Instant, String, FaultSpec)>,
    pub(super) healing: Vec<Healing>,
    /// The objects as they were before the first Fault that changed them.
    pub(super) beginning: Option<Box<Store>>,
    /// The probes that ran, in order.
    pub(super) ran: Vec<ProbeSpec>,
}

impl Scenario {
    /// Starts what listens and lets the faults of the beginning happen.
    pub fn start(mut cluster: Cluster) -> (Scenario, Vec<Finding>) {
        let mut findings = Vec::new();
        let taken = dns::start(&mut cluster, &mut findings);
        for l in cluster.listening.clone() {
            let proto = match l.port.protocol {
                Protocol::Tcp => proto::TCP,
                Protocol::Udp => proto::UDP,
                Protocol::Sctp => continue,
            };
            if taken.contains(&(l.ns, proto, l.port.number)) {
                continue;
            }
            let done = cluster
                .lab
                .listen(l.ns, l.address, proto, l.port.number, App::Echo);
            if let Err(e) = done {
                let text = format!("{} cannot listen on {}: {e:?}", l.who, l.port);
                findings.push(Finding::warning(
                    Default::default(),
                    text,
                    "two listeners want the same port of one namespace",
                ));
            }
        }
        let mut pending: Vec<(Instant, String, FaultSpec)> = cluster
            .store
            .faults
            .values()
            .map(|f| {
                (
                    Instant::ZERO + f.spec.at,
                    f.name.to_string(),
                    f.spec.clone(),
                )
            })
            .collect();
        pending.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut s = Scenario {
            cluster,
            pending,
            healing: Vec::new(),
            beginning: None,
            ran: Vec::new(),
        };
        findings.extend(s.apply_due());
        (s, findings)
    }

    /// The namespace at the near end of an uplink, by the names that `spec.link` has.
    pub(super) fn uplink_ns(&self, link: &str) -> Option<NsId> {
        match link.strip_prefix("host/") {
            Some(host) => self.cluster.hosts.get(host).copied(),
            None => self.cluster.nodes.get(link).map(|n| n.ns),
        }
    }

    /// Runs every Probe of the store; `each` hears of every one as it ends.
    pub fn run_probes(&mut self, each: &mut dyn FnMut(&Checked)) -> (Vec<Checked>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut all: Vec<(String, ProbeSpec)> = self
            .cluster
            .store
            .probes
            .values()
            .map(|p| (p.name.name.clone(), p.spec.clone()))
            .collect();
        all.sort_by_key(|(_, spec)| spec.at);
        let mut out = Vec::new();
        for (name, spec) in all {
            findings.extend(self.wait_for(&spec));
            let c = self.run_probe(&name, &spec);
            each(&c);
            out.push(c);
        }
        (out, findings)
    }

    /// Runs one probe and compares.
    pub fn run_probe(&mut self, name: &str, spec: &ProbeSpec) -> Checked {
        self.run_probe_from(name, spec, None)
    }

    /// The same from a client's port (or echo id) of one's choice.
    pub(super) fn run_probe_from(
        &mut self,
        name: &str,
        spec: &ProbeSpec,
        sport: Option<u16>,
    ) -> Checked {
        let question = question(spec);
        let expected = spec.expect.is_some();
        let asked = match &spec.to.peer {
            Peer::Name(name) => Some(self.look_up(&name.clone(), spec)),
            _ => None,
        };
        let looked_up = match asked {
            Some(Ok(l)) => Some(l),
            Some(Err(e)) => return refused(name, question, spec, e),
            None => None,
        };
        if let Some((None, failed, events)) = looked_up {
            let mismatches = spec.expect.as_ref().map(|e| self.compare(e, &failed));
            return Checked {
                name: name.into(),
                question,
                result: Ok(failed),
                events,
                mismatches: mismatches.unwrap_or_default(),
                expected,
                fork: None,
            };
        }
        let (to, took, mut before) = match looked_up {
            Some((Some(ip), r, events)) => (Peer::Ip(ip), r.delay, events),
            _ => (spec.to.peer.clone(), Duration::ZERO, Vec::new()),
        };
        let to = Target {
            peer: to,
            ..spec.to.clone()
        };
        let expect = &spec.expect;
        let spec = &ProbeSpec { to, ..spec.clone() };
        let probe = match self.probe_of(spec) {
            Ok(p) => Probe {
                sport: sport.or(p.sport),
                ..p
            },
            Err(e) => return refused(name, question, spec, e),
        };
        self.cluster.lab.world.take_undecided();
        let (mut result, events) = self.cluster.lab.trace(&probe);
        result.delay += took;
        before.extend(events);
        let fork = self.fork(spec);
        if let Some(f) = &fork {
            result.outcome = f.outcome();
        }
        self.ran.push(spec.clone());
        let mismatches = expect
            .as_ref()
            .map(|e| self.compare(e, &result))
            .unwrap_or_default();
        Checked {
            name: name.into(),
            question,
            result: Ok(result),
            events: before,
            mismatches,
            expected,
            fork,
        }
    }

    /// The same probe to the address that its target's name has for the sender, who looks it up.
    ///
    /// # Errors
    /// In words, when the name has none.
    pub fn with_address(&mut self, spec: &ProbeSpec) -> Result<ProbeSpec, String> {
        let Peer::Name(name) = &spec.to.peer else {
            return Ok(spec.clone());
        };
        let (found, seen, _) = self.look_up(&name.clone(), spec)?;
        let ip = found.ok_or_else(|| format!("no address for {name}: {}", seen.outcome))?;
        let to = Target {
            peer: Peer::Ip(ip),
            ..spec.to.clone()
        };
        Ok(ProbeSpec { to, ..spec.clone() })
    }

    /// Looks a target's name up: the address to try (none when there is none), what the client saw of that,
    /// and the events of its queries.
    #[allow(clippy::type_complexity)] // used in one place
    fn look_up(
        &mut self,
        name: &str,
        spec: &ProbeSpec,
    ) -> Result<(Option<IpAddr>, ProbeResult, Vec<Event>), String> {
        let family = dns::family(spec.family);
        let libc = spec.libc.unwrap_or_default();
        let r = self.resolve(&spec.from, name, libc, family)?;
        let (took, hop, events) = match r.record {
            Some(ref record) => (record.took, record.hop.clone(), record.events.clone()),
            None => (Duration::ZERO, None, Vec::new()),
        };
        let result = ProbeResult {
            outcome: r.outcome(),
            delay: took,
            errno: None,
            icmp: None,
            hop,
            bytes: 0,
            reply: Default::default(),
            connected: None,
            attempts: 1,
            succeeded: 0,
        };
        Ok((r.answer.addresses.first().copied(), result, events))
    }

    /// A probe document as a probe.
    ///
    /// # Errors
    /// In words, when a side does not exist or has no address of the family.
    pub fn probe_of(&self, spec: &ProbeSpec) -> Result<Probe, String> {
        let from = self.namespace(&spec.from)?;
        let to = self.address(&spec.to, from, spec.family)?;
        let protocol = match spec.protocol {
            Kind::Tcp => ProbeProtocol::Tcp,
            Kind::Udp => ProbeProtocol::Udp,
            Kind::Icmp => ProbeProtocol::Icmp,
        };
        let mut p = match protocol {
            ProbeProtocol::Icmp => Probe::ping(from, to),
            _ => {
                let port = match &spec.to.peer {
                    Peer::Service { .. } => Some(services::port(&self.cluster, spec)?),
                    _ => spec.port().or_else(|| self.first_port(&spec.to, protocol)),
                };
                let port = port.ok_or_else(|| format!("no port: write {}:PORT", spec.to))?;
                if protocol == ProbeProtocol::Tcp {
                    Probe::tcp(from, to, port)
                } else {
                    Probe::udp(from, to, port)
                }
            }
        };
        p.size = spec.size.unwrap_or(p.size);
        p.df = spec.df.or(p.df);
        p.ttl = spec.ttl.or(p.ttl);
        p.count = spec.count.unwrap_or(1);
        p.timeout = spec.timeout.unwrap_or(p.timeout);
        p.sport = spec.source_port;
        Ok(p)
    }

    /// The namespace of a side.
    ///
    /// # Errors
    /// In words, when there is none.
    pub fn namespace(&self, t: &Target) -> Result<NsId, String> {
        let c = &self.cluster;
        let found = match &t.peer {
            Peer::Pod { namespace, name } => c
                .pods
                .values()
                .find(|p| p.name.name == *name && p.name.namespace == *namespace)
                .map(|p| p.ns),
            Peer::Node(n) => c.nodes.get(n).map(|n| n.ns),
            Peer::Host(h) => c.hosts.get(h).copied(),
            Peer::Ip(ip) => c.owner_of(*ip),
            Peer::Service { .. } => return Err(format!("{t} is a Service: nobody's network")),
            Peer::Name(_) => return Err(format!("{t} is a name: nobody's network")),
        };
        found.ok_or_else(|| {
            format!(
                "{t} has no network here: no such pod, node or host, or its CNI attachment failed"
            )
        })
    }

    fn address(&self, t: &Target, from: NsId, family: Option<Family>) -> Result<IpAddr, String> {
        if let Peer::Ip(ip) = t.peer {
            return Ok(ip);
        }
        if let Peer::Service { .. } = t.peer {
            let mine = self.cluster.addresses(from);
            let p = services::ports_of(&self.cluster, t)?;
            return services::address(t, &p, &mine, family);
        }
        let ns = self.namespace(t)?;
        let mut all = match &t.peer {
            Peer::Node(n) => self
                .cluster
                .nodes
                .get(n)
                .map(|n| n.addresses.iter().map(|a| a.ip()).collect())
                .unwrap_or_default(),
            Peer::Pod { namespace, name } => {
                let p = self
                    .cluster
                    .pods
                    .values()
                    .find(|p| p.name.name == *name && p.name.namespace == *namespace);
                p.map(|p| p.ips.clone()).unwrap_or_default()
            }
            _ => self.cluster.addresses(ns),
        };
        let mine = self.cluster.addresses(from);
        let common = |ip: &IpAddr| mine.iter().any(|m| m.is_ipv4() == ip.is_ipv4());
        match family {
            Some(f) => all.retain(|a| a.is_ipv4() == (f == Family::Ipv4)),
            None => all.sort_by_key(|a| !common(a)),
        }
        all.first()
            .copied()
            .ok_or_else(|| format!("{t} has no address of the wanted family"))
    }

    /// The first port that a target listens on.
    fn first_port(&self, t: &Target, p: ProbeProtocol) -> Option<u16> {
        let ns = self.namespace(t).ok()?;
        let want = if p == ProbeProtocol::Tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        self.cluster
            .listening
            .iter()
            .find(|l| l.ns == ns && l.port.protocol == want)
            .map(|l| l.port.number)
    }

    fn compare(&self, e: &Expect, r: &ProbeResult) -> Vec<Mismatch> {
        let mut out = Vec::new();
        let mut miss = |what, expected: String, found: String| {
            out.push(Mismatch {
                what,
                expected,
                found,
            })
        };
        if let Some(o) = e.outcome.filter(|o| !same_outcome(*o, &r.outcome)) {
            miss("outcome", wanted_name(o).into(), r.outcome.to_string());
        }
        if let (Some(rcode), Outcome::DnsError(why)) = (&e.rcode, &r.outcome)
            && *rcode != why.to_string()
        {
            miss("rcode", rcode.clone(), why.to_string());
        }
        if let Some(d) = &e.delay
            && (d.at_least.is_some_and(|x| r.delay < x) || d.at_most.is_some_and(|x| r.delay > x))
        {
            let bounds = |x: Option<Duration>| x.map_or("-".into(), |x| format!("{x:?}"));
            miss(
                "delay",
                format!("{} to {}", bounds(d.at_least), bounds(d.at_most)),
                format!("{:?}", r.delay),
            );
        }
        let hop = r.hop.as_ref();
        if let Some(h) = &e.hop {
            let place = hop.map_or("nowhere".into(), |h| h.ns_name.clone());
            for want in h.node.iter().chain(&h.pod).filter(|w| **w != place) {
                miss("hop", want.clone(), place.clone());
            }
            let device = hop.map(|h| h.device.clone()).unwrap_or_default();
            if let Some(want) = h.device.as_ref().filter(|w| **w != device) {
                miss("hop.device", want.clone(), device);
            }
            let reason = hop.map(reason).unwrap_or_default();
            if let Some(want) = h.reason.as_ref().filter(|w| **w != reason) {
                miss("hop.reason", want.clone(), reason);
            }
        }
        if let Some(d) = e.disposition {
            let found = hop.map_or("none", |h| disposition_name(&h.how));
            if found != wanted_disposition(d) {
                miss("disposition", wanted_disposition(d).into(), found.into());
            }
        }
        out
    }

    /// Who is who, for reports: a namespace's name by id.
    pub fn names(&self) -> BTreeMap<NsId, String> {
        self.cluster
            .lab
            .world
            .spaces()
            .iter()
            .map(|n| (n.id, n.name.clone()))
            .collect()
    }
}

/// A probe that could not even start.
fn refused(name: &str, question: String, spec: &ProbeSpec, e: String) -> Checked {
    let mismatches = spec.expect.iter().map(|_| Mismatch {
        what: "probe",
        expected: "to run".into(),
        found: e.clone(),
    });
    Checked {
        name: name.into(),
        question,
        mismatches: mismatches.collect(),
        result: Err(e),
        events: Vec::new(),
        expected: spec.expect.is_some(),
        fork: None,
    }
}

/// The drop reason of a hop by our name, empty for a hop that is no drop.
pub(crate) fn reason(h: &Hop) -> String {
    match &h.how {
        Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. } => reason.name(),
        _ => String::new(),
    }
}

fn question(s: &ProbeSpec) -> String {
    let what = match s.protocol {
        Kind::Tcp => "tcp",
        Kind::Udp => "udp",
        Kind::Icmp => "ping",
    };
    let port = match (s.to.port, s.port) {
        (None, Some(p)) => format!(":{p}"),
        _ => String::new(),
    };
    format!("{what} {} > {}{port}", s.from, s.to)
}

fn same_outcome(w: WantedOutcome, o: &Outcome) -> bool {
    wanted_name(w) == o.to_string()
        || matches!((w, o), (WantedOutcome::DnsError, Outcome::DnsError(_)))
}

fn wanted_name(w: WantedOutcome) -> &'static str {
    match w {
        WantedOutcome::Ok => "ok",
        WantedOutcome::Refused => "refused",
        WantedOutcome::Reset => "reset",
        WantedOutcome::NoRoute => "no-route",
        WantedOutcome::NetUnreachable => "net-unreachable",
        WantedOutcome::Timeout => "timeout",
        WantedOutcome::DnsError => "dns-error",
        WantedOutcome::Depends => "depends",
    }
}

fn wanted_disposition(d: DispositionName) -> &'static str {
    match d {
        DispositionName::Delivered => "delivered",
        DispositionName::LeftTheCluster => "left-the-cluster",
        DispositionName::Dropped => "dropped",
        DispositionName::Rejected => "rejected",
        DispositionName::Consumed => "consumed",
        DispositionName::Loop => "loop",
        DispositionName::Unknown => "unknown",
    }
}

/// A disposition's name, as `expect.disposition` and JSON write it.
pub fn disposition_name(d: &Disposition) -> &'static str {
    match d {
        Disposition::Delivered(_) => "delivered",
        Disposition::LeftTheCluster => "left-the-cluster",
        Disposition::Dropped { .. } => "dropped",
        Disposition::Rejected { .. } => "rejected",
        Disposition::Consumed(_) => "consumed",
        Disposition::Loop => "loop",
        Disposition::Unknown { .. } => "unknown",
    }
}
