//! DNS in a cluster: who serves it, what everybody's resolv.conf says, and names looked up over the path.
//!
//! `kubelet` forms resolv.confs, `zone` are resolvers outside the cluster, [`ask`] carries a stub
//! resolver's queries over the emulated path; here names of probes' targets are resolved as the sender would.
//! Not here: /etc/hosts beyond `hostAliases`, a pod's own name and `localhost`.
//! Invariant: a name is asked for by packets from the sender's own namespace, or not at all.

pub mod ask;
mod coredns;
mod kubelet;
mod servers;
mod zone;

pub use coredns::Seen;
pub use servers::DnsServer;

use crate::base::{Finding, NsId};
use crate::cluster::{Cluster, Scenario};
use crate::endpoint::{DnsFailure, Outcome};
use crate::kube::dns::client::dig::{Dig, Found, Question};
use crate::kube::dns::client::message::Head;
use crate::kube::dns::client::order;
use crate::kube::dns::client::resolv_conf;
use crate::kube::dns::client::{Answer, Eai, Family, Libc, Lookup};
use crate::kube::podpath_v1alpha1::{DnsServerState, Family as ProbeFamily, Peer, Target};
use crate::kube::store::Name;
use crate::wire::proto;
use ask::Record;
use std::net::IpAddr;

/// Ports that DNS servers of the cluster have taken: namespace, protocol, port.
pub(super) type Taken = Vec<(NsId, u8, u16)>;

/// A name that was looked up.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// By which libc.
    pub libc: Libc,
    /// What getaddrinfo(3) returned, addresses sorted.
    pub answer: Answer,
    /// How it came to that; `None`: /etc/hosts or the text itself said it.
    pub record: Option<Record>,
    /// The resolv.conf it read.
    pub resolv_conf: String,
}

impl Resolved {
    /// What the client saw of it.
    pub fn outcome(&self) -> Outcome {
        outcome(Some(&self.answer))
    }
}

fn outcome(answer: Option<&Answer>) -> Outcome {
    match answer.map(|a| (a.error, a.rcode)) {
        Some((None, _)) => Outcome::Ok,
        Some((Some(_), Some(code))) => Outcome::DnsError(DnsFailure::Rcode(code)),
        Some((Some(_), None)) | None => Outcome::DnsError(DnsFailure::NoReply),
    }
}

/// How long a server needs until `loop` has looked and its readiness is known.
const SETTLES: core::time::Duration = core::time::Duration::from_secs(5);

/// Starts every DNS server of the cluster.
pub(super) fn start(c: &mut Cluster, findings: &mut Vec<Finding>) -> Taken {
    let mut taken = Vec::new();
    kernels(c);
    hosts(c, &mut taken, findings);
    servers::start(c, &mut taken, findings);
    for (name, pod) in &c.store.pods {
        if c.pods.contains_key(name) {
            let wrong = resolv_conf::check(pod).into_iter();
            findings.extend(wrong.map(|(path, message, help)| {
                Finding::warning(pod.source.span_of(&path), message, help)
            }));
        }
    }
    taken
}

/// Nodes whose kernels lose one of a pair of queries where two endpoints were chosen (kubernetes #56903).
fn kernels(c: &mut Cluster) {
    let spec = c.store.cluster().map(|c| &c.spec.nodes);
    let mut old = Vec::new();
    for (name, node) in &c.nodes {
        let written = spec.and_then(|n| n.get(name)?.kernel.clone());
        let status = || {
            let status = c.store.node(name)?.status.as_ref()?;
            Some(status.node_info.as_ref()?.kernel_version.clone())
        };
        let version = written.or_else(status).unwrap_or_default();
        let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().ok());
        if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next())
            && (major, minor) < (5, 6)
        {
            old.push(node.ns);
        }
    }
    for ns in old {
        if let Some(n) = c.lab.world.ns_mut(ns) {
            n.nf_mut().ct.drops_clashes = true;
        }
    }
}

/// Resolvers outside the cluster.
fn hosts(c: &mut Cluster, taken: &mut Taken, findings: &mut Vec<Finding>) {
    let Some(cluster) = c.store.cluster() else {
        return;
    };
    let specs: Vec<_> = cluster.spec.external_hosts.iter().enumerate().collect();
    let mut servers = Vec::new();
    for (i, host) in specs {
        let Some((dns, ns)) = host.dns.as_ref().zip(c.hosts.get(&host.name)) else {
            continue;
        };
        let (zones, bad) = zone::Zones::new(dns);
        let path = format!("spec.externalHosts[{i}].dns.records");
        for r in bad {
            let message = format!(
                "{} {}: \"{}\" is no data of that type",
                r.owner, r.rtype, r.data
            );
            let at = cluster.source.span_of(&path);
            findings.push(Finding::error(
                at,
                message,
                "write it as a zone file has it",
            ));
        }
        servers.push((*ns, zones));
    }
    for (ns, zones) in servers {
        let ports = [(None, proto::UDP, 53), (None, proto::TCP, 53)];
        // Nothing listens there yet: it cannot fail.
        if c.lab.add_player(ns, Box::new(zones), &ports).is_ok() {
            taken.extend(ports.iter().map(|(_, p, n)| (ns, *p, *n)));
        }
    }
}

/// Objects changed: every server of the cluster hears of it, and of a Corefile that is another now.
pub(super) fn learn(c: &mut Cluster) -> Vec<Finding> {
    servers::learn(c);
    servers::configure(c)
}

/// A Fault for the CoreDNS of a pod, or of all. False when there is none.
pub(super) fn set(
    c: &mut Cluster,
    pod: Option<&str>,
    state: Option<DnsServerState>,
    rate: Option<u32>,
) -> bool {
    let now = c.lab.now();
    let mut found = false;
    for server in c.dns.clone() {
        if pod.is_some_and(|p| server.pod.to_string() != p) {
            continue;
        }
        if let Some(process) = servers::process(c, server.player) {
            process.set(now, state, rate);
            found = true;
        }
    }
    found
}

/// Pods whose DNS server became ready, or is no longer: their Ready condition follows
/// (the kubelet's readiness probe), and with it the EndpointSlices. True when one changed.
pub(super) fn readiness(c: &mut Cluster) -> bool {
    let mut changed = false;
    for i in 0..c.dns.len() {
        let Some(server) = c.dns.get(i).cloned() else {
            continue;
        };
        let ready = servers::process(c, server.player).is_some_and(|p| p.ready());
        if ready == server.ready {
            continue;
        }
        if let Some(s) = c.dns.get_mut(i) {
            s.ready = ready;
        }
        changed |= c.store.set_ready(&server.pod, ready);
    }
    changed
}

impl Cluster {
    /// What the cluster's DNS servers saw, pod by pod, since decisions were asked for.
    pub fn dns_seen(&mut self) -> Vec<(Name, Vec<Seen>)> {
        let all = self.dns.clone().into_iter();
        all.filter_map(|s| Some((s.pod, servers::process(self, s.player)?.seen.clone())))
            .collect()
    }

    /// Whether the cluster's DNS servers keep what plugins decide.
    pub fn trace_dns(&mut self, wanted: bool) {
        for s in self.dns.clone() {
            if let Some(p) = servers::process(self, s.player) {
                p.trace(wanted);
            }
        }
    }

    /// Why DNS servers' processes ended, pod by pod.
    pub fn dns_ended(&mut self) -> Vec<(Name, String)> {
        let all = self.dns.clone().into_iter();
        all.filter_map(|s| Some((s.pod, servers::process(self, s.player)?.ended.clone()?)))
            .collect()
    }
}

impl Scenario {
    /// Looks a name up as a program in somebody's namespace would.
    ///
    /// # Errors
    /// In words, when `from` is not there.
    pub fn resolve(
        &mut self,
        from: &Target,
        name: &str,
        libc: Libc,
        family: Family,
    ) -> Result<Resolved, String> {
        let ns = self.namespace(from)?;
        let text = self.cluster.resolv_conf(from)?;
        if let Some(answer) = self.known(from, name, family) {
            return Ok(Resolved {
                libc,
                answer,
                record: None,
                resolv_conf: text,
            });
        }
        let c = &mut self.cluster;
        let seed = c.seed() ^ c.lab.now().as_nanos();
        let mut lookup = Lookup::start(c.lab.now(), libc, &text, name, family, seed);
        let record = ask::run(&mut c.lab, ns, &mut lookup, |l| outcome(l.answer()));
        let gave_up = Answer {
            addresses: Vec::new(),
            error: Some(Eai::Again),
            rcode: None,
            asked: format!("{}.", name.trim_end_matches('.')),
            at: c.lab.now(),
        };
        let mut answer = lookup.answer().cloned().unwrap_or(gave_up);
        let sources = answer.addresses.iter().map(|ip| (*ip, source(c, ns, *ip)));
        answer.addresses = order::sort(libc, sources.collect());
        Ok(Resolved {
            libc,
            answer,
            record: Some(record),
            resolv_conf: text,
        })
    }

    /// Lets DNS servers do what they do at their start: `loop` looks for loops, and where it finds one the
    /// kubelet sees that the process is gone. Done once, before anything is asked.
    pub fn settle_dns(&mut self) -> Vec<Finding> {
        if self.cluster.dns.is_empty() {
            return Vec::new();
        }
        let now = self.cluster.lab.now();
        self.wait_until(now + SETTLES)
    }

    /// Sends one query as dig does; without a server to the first of the sender's resolv.conf.
    ///
    /// # Errors
    /// In words, when `from` is not there.
    pub fn dig(&mut self, from: &Target, question: Question) -> Result<(Found, Record), String> {
        let ns = self.namespace(from)?;
        let c = &mut self.cluster;
        let seed = c.seed() ^ c.lab.now().as_nanos();
        let mut dig = Dig::start(c.lab.now(), question, seed);
        let record = ask::run(&mut c.lab, ns, &mut dig, |d| match d.found() {
            Some(Found::Reply { message, .. }) => {
                match Head::of(message).map_or(0, |h| h.rcode()) {
                    0 => Outcome::Ok,
                    code => Outcome::DnsError(DnsFailure::Rcode(code)),
                }
            }
            _ => Outcome::DnsError(DnsFailure::NoReply),
        });
        let found = dig.found().cloned().unwrap_or(Found::NoReply);
        Ok((found, record))
    }

    /// What needs no server: an address, or a line of /etc/hosts as the kubelet writes it
    /// (pkg/kubelet/kubelet_pods.go, `ensureHostsFile`).
    fn known(&self, from: &Target, name: &str, family: Family) -> Option<Answer> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        let mut all: Vec<IpAddr> = bare.parse().into_iter().collect();
        if bare.eq_ignore_ascii_case("localhost") {
            all.extend([
                IpAddr::from([127, 0, 0, 1]),
                std::net::Ipv6Addr::LOCALHOST.into(),
            ]);
        }
        if let Peer::Pod {
            namespace,
            name: pod,
        } = &from.peer
        {
            let mut pods = self.cluster.pods.iter();
            let own = pods.find(|(n, _)| n.namespace == *namespace && n.name == *pod);
            let spec = own.and_then(|(n, _)| self.cluster.store.pods.get(n)?.spec.as_ref());
            for alias in spec.iter().flat_map(|s| s.host_aliases.iter().flatten()) {
                let mut names = alias.hostnames.iter().flatten();
                if names.any(|n| n.eq_ignore_ascii_case(bare)) {
                    all.extend(alias.ip.parse::<IpAddr>());
                }
            }
            let hostname = spec.and_then(|s| s.hostname.as_deref()).unwrap_or(pod);
            if bare.eq_ignore_ascii_case(hostname) {
                all.extend(own.iter().flat_map(|(_, p)| p.ips.iter().copied()));
            }
        }
        all.retain(|ip| match family {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        });
        (!all.is_empty()).then(|| Answer {
            addresses: all,
            error: None,
            rcode: None,
            asked: format!("{bare}."),
            at: self.cluster.lab.now(),
        })
    }
}

/// The family that a probe wants of a name.
pub(super) fn family(f: Option<ProbeFamily>) -> Family {
    match f {
        None => Family::Any,
        Some(ProbeFamily::Ipv4) => Family::V4,
        Some(ProbeFamily::Ipv6) => Family::V6,
    }
}

/// The source address that a connection to `to` would have.
fn source(c: &Cluster, ns: NsId, to: IpAddr) -> Option<IpAddr> {
    let space = c.lab.world.ns(ns)?;
    let found = space.route_output(None, to, None, 0, 0).ok()?;
    space.source_for(&found, to)
}
