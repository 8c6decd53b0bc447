//! kube-proxy on the nodes: started when the cluster is built, told of changes, and its writes carried out
//! when they are due.
//!
//! What it writes is `kube::proxy::agent`'s; `apply_to` is the one place where it reaches a namespace.
//! Invariant: a stopped kube-proxy leaves rules and sysctls as they are.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::base::limits::{PROXY_SYNCS_MAX, PROXY_TEXT_BYTES};
use crate::base::{Finding, Instant, NsId, Origin};
use crate::cluster::Cluster;
use crate::cluster::build::Builder;
use crate::cluster::health;
use crate::cluster::proxy_steps::{carry_out, connections};
use crate::kube;
use crate::kube::controllers::Desired;
use crate::kube::podpath_v1alpha1::{KubeProxyFault, ProxyMode, ProxyState};
use crate::kube::proxy::agent::{Agent, Host, Sync, Views, settings_on};
use crate::kube::proxy::compare::{Place, Report};
use crate::kube::proxy::conntrack::Entry;
use crate::kube::proxy::iptables::{Ensure, kubelet};
use crate::kube::proxy::ipvs::{self, Key, Step};
use crate::kube::proxy::sysctl::BE_LIBERAL;
use crate::kube::proxy::{Mode, is_written, of_store};
use crate::kube::service::Family;
use crate::kube::store::Name;
use crate::net::NetNs;
use crate::nf::apply::{Refused, Restore, Tool, on_netns, restore, run_text, usual_backend};
use crate::nf::ct::Dir;
use crate::nf::{self, RuleSet, TableName};
use crate::wire::proto;

/// One node's kube-proxy and what it did.
#[derive(Debug)]
pub struct NodeProxy {
    /// The agent.
    pub agent: Agent,
    /// Its syncs with their times, the newest last ([`PROXY_SYNCS_MAX`], [`PROXY_TEXT_BYTES`]).
    pub syncs: VecDeque<(Instant, Sync)>,
    /// What kubelet made on the node before.
    pub kubelet: Vec<(Family, Ensure)>,
    /// Health-check node ports that are open, with what is answered there.
    pub(super) health: BTreeMap<u16, bytes::Bytes>,
}

impl NodeProxy {
    fn remember(&mut self, now: Instant, syncs: Vec<Sync>) {
        self.syncs.extend(syncs.into_iter().map(|sync| (now, sync)));
        let more = self.syncs.len().saturating_sub(PROXY_SYNCS_MAX);
        self.syncs.drain(..more);
        let mut kept = 0_usize;
        for (_, sync) in self.syncs.iter_mut().rev() {
            kept = kept.saturating_add(sync.restore.len());
            kept = kept.saturating_add(sync.steps.iter().map(size).sum());
            if kept > PROXY_TEXT_BYTES {
                sync.restore = String::new();
                sync.steps = Vec::new();
            }
        }
    }
}

/// What a step is kept with.
fn size(step: &Step) -> usize {
    let text = match step {
        Step::Nft(text) | Step::Ipset(text) | Step::Ipvs(text) | Step::Restore(text) => text.len(),
        Step::Device | Step::Bind(_) | Step::Unbind(_) => 0,
    };
    text + core::mem::size_of::<Step>()
}

/// Which mode the input asks for: the Cluster document's word, else the configuration's.
fn mode(b: &Builder) -> ProxyMode {
    if let Some(mode) = b.spec.proxy.mode {
        return mode;
    }
    if !is_written(&b.c.store) {
        return ProxyMode::None;
    }
    match Mode::of(&of_store(&b.c.store).0) {
        Mode::Ipvs => ProxyMode::Ipvs,
        Mode::Nftables => ProxyMode::Nftables,
        Mode::Iptables => ProxyMode::Iptables,
    }
}

/// Starts one on every node; the first sync is done when the world begins.
pub(super) fn start(b: &mut Builder) {
    b.c.proxy_mode = mode(b);
    let mode = match b.c.proxy_mode {
        ProxyMode::None => return,
        ProxyMode::Iptables => Mode::Iptables,
        ProxyMode::Nftables => Mode::Nftables,
        ProxyMode::Ipvs => Mode::Ipvs,
    };
    let now = b.c.lab.now();
    let views = Views::of(&b.c.desired);
    let names: Vec<String> = b.c.nodes.keys().cloned().collect();
    for name in names {
        let Some(host) = host(b, &name) else { continue };
        let (mut agent, found) = Agent::new(&b.c.store, &host, Some(mode));
        // One configuration serves all nodes: what is wrong with it is said once.
        let new = found.into_iter().filter(|f| !b.findings.contains(f));
        let new: Vec<Finding> = new.collect();
        b.findings.extend(new);
        let over = b
            .spec
            .nodes
            .get(&name)
            .map(|n| n.kube_proxy.clone())
            .unwrap_or_default();
        let lag = over.lag.unwrap_or(b.spec.proxy.lag);
        if over.state == ProxyState::Running {
            agent.changed(now, &views);
        }
        agent.set(now, over.state, lag, &views);
        let kubelet = Family::ALL
            .into_iter()
            .flat_map(|f| kubelet(f).into_iter().map(move |e| (f, e)));
        let proxy = NodeProxy {
            agent,
            syncs: VecDeque::new(),
            kubelet: kubelet.collect(),
            health: BTreeMap::new(),
        };
        if let Some(node) = b.c.nodes.get_mut(&name) {
            node.proxy = Some(proxy);
        }
    }
    let found = b.c.advance_proxies();
    b.findings.extend(found);
}

fn host<'n>(b: &Builder, name: &'n str) -> Option<Host<'n>> {
    let own = b
        .spec
        .nodes
        .get(name)
        .and_then(|n| n.sysctls.get(BE_LIBERAL));
    let liberal = own.or_else(|| b.spec.node.sysctls.get(BE_LIBERAL));
    Some(Host {
        tcp_be_liberal: liberal.is_some_and(|value| value.trim() != "0"),
        ..host_of(&b.c, name)?
    })
}

/// A node as kube-proxy finds it.
fn host_of<'n>(c: &Cluster, name: &'n str) -> Option<Host<'n>> {
    let node = c.nodes.get(name)?;
    let ns = c.lab.world.ns(node.ns)?;
    let own = ns.devices().filter(|d| d.name != ipvs::DEVICE);
    let all = own.flat_map(|d| &d.addrs).map(|a| a.ip());
    let mut addresses: Vec<IpAddr> = all.collect();
    addresses.sort_by_key(|ip| !ip.is_loopback());
    Some(Host {
        name,
        ips: node.addresses.iter().map(|a| a.ip()).collect(),
        pod_cidrs: node.pod_cidrs.clone(),
        addresses,
        tcp_be_liberal: false,
    })
}

/// Compares kube-proxy's modes, on one node or on all; with `every` the report lists the classes in which
/// they agree, too. An error names a rule that could not be read.
pub fn compare(c: &Cluster, only: Option<&str>, every: bool) -> Result<Report, String> {
    let mut report = match every {
        true => Report::of_every_class(),
        false => Report::default(),
    };
    let views = Family::ALL.map(|family| c.desired.view(family));
    let all: Vec<IpAddr> = c
        .nodes
        .values()
        .flat_map(|n| &n.addresses)
        .map(|a| a.ip())
        .collect();
    for (name, node) in &c.nodes {
        let Some(host) = host_of(c, name).filter(|_| only.is_none_or(|only| only == name)) else {
            continue;
        };
        let others = c.nodes.values().filter(|n| n.name != *name);
        let others: Vec<IpNetwork> = others.flat_map(|n| n.pod_cidrs.clone()).collect();
        report.nodes += 1;
        let place = Place {
            node: name,
            pods: &node.pod_cidrs,
            other_pods: &others,
            nodes: &all,
        };
        for (view, family) in views.iter().zip(Family::ALL) {
            let modes = [Mode::Iptables, Mode::Nftables, Mode::Ipvs];
            let settings = modes.map(|mode| settings_on(&c.store, &host, mode, family));
            kube::proxy::compare::compare(view, &settings, &place, &mut report)?;
        }
    }
    Ok(report)
}

/// Every kube-proxy hears of the objects as they are now.
pub(super) fn tell(c: &mut Cluster) {
    let now = c.lab.now();
    let views = Views::of(&c.desired);
    for proxy in c.nodes.values_mut().filter_map(|n| n.proxy.as_mut()) {
        let current = proxy.agent.next_sync().is_none() && proxy.agent.known() == Some(&*views);
        if !current {
            proxy.agent.changed(now, &views);
        }
    }
}

impl Cluster {
    /// Carries out what kube-proxies write until now.
    pub fn advance_proxies(&mut self) -> Vec<Finding> {
        let now = self.lab.now();
        let mut findings = Vec::new();
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            let ns = node.ns;
            let Some(proxy) = node.proxy.as_mut() else {
                continue;
            };
            let space = self.lab.world.ns(ns);
            let mut live = |key: &Key, to| space.map_or(0, |space| connections(space, key, to));
            let syncs = proxy.agent.advance(now, &mut live);
            let checked = proxy.agent.check(now, &mut live);
            for (family, steps) in checked {
                findings.extend(carry_out(self, ns, &name, family, &steps));
            }
            let Some(proxy) = self.nodes.get_mut(&name).and_then(|n| n.proxy.as_mut()) else {
                continue;
            };
            if syncs.is_empty() {
                continue;
            }
            let sysctls = proxy.agent.sysctls().to_vec();
            let base = core::mem::take(&mut proxy.kubelet);
            findings.extend(apply_to(self, ns, &name, &base, &sysctls, &syncs));
            if let Some(proxy) = self.nodes.get_mut(&name).and_then(|n| n.proxy.as_mut()) {
                proxy.kubelet = base;
                proxy.remember(now, syncs);
            }
            health::update(self, &name);
        }
        findings
    }

    /// When some kube-proxy writes next.
    pub fn next_sync(&self) -> Option<Instant> {
        let proxies = self.nodes.values().filter_map(|n| n.proxy.as_ref());
        proxies.filter_map(|p| p.agent.next_event()).min()
    }

    /// Starts, stops or slows the kube-proxy of a node, or of all. Gives what was before, to be put back.
    pub fn set_proxy(
        &mut self,
        node: Option<&str>,
        to: &KubeProxyFault,
    ) -> Vec<(String, KubeProxyFault)> {
        let now = self.lab.now();
        let views: Arc<Views> = Views::of(&self.desired);
        let mut before = Vec::new();
        for n in self.nodes.values_mut() {
            let Some(proxy) = n
                .proxy
                .as_mut()
                .filter(|_| node.is_none_or(|name| name == n.name))
            else {
                continue;
            };
            let agent = &mut proxy.agent;
            let (state, lag) = (agent.state(), agent.lag());
            let was = KubeProxyFault {
                state: Some(state),
                lag: Some(lag),
            };
            before.push((n.name.clone(), was));
            agent.set(
                now,
                to.state.unwrap_or(state),
                to.lag.unwrap_or(lag),
                &views,
            );
        }
        for (name, _) in &before {
            health::update(self, name);
        }
        before
    }
}

/// Makes a node's namespace what a start (`sysctls`, on full syncs) and the syncs say: chains and jumps one
/// by one, then the restore input, then stale UDP connections.
fn apply_to(
    c: &mut Cluster,
    ns: NsId,
    node: &str,
    kubelet: &[(Family, Ensure)],
    sysctls: &[(&'static str, String)],
    syncs: &[Sync],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if syncs.iter().any(|sync| sync.full) {
        for (name, value) in sysctls {
            let done = c.lab.world.edit(ns, |e| e.sysctl_set(name, value));
            if let Some(Err(e)) = done {
                let message = format!("kube-proxy on {node}: {name}={value}: {e}");
                findings.push(Finding::warning(Default::default(), message, ""));
            }
        }
    }
    for sync in syncs {
        let mut origins = Origins::new(&c.desired);
        let Some(space) = c.lab.world.ns_mut(ns) else {
            return findings;
        };
        write_rules(space, node, kubelet, sync, &mut origins, &mut findings);
        findings.extend(carry_out(c, ns, node, sync.family, &sync.steps));
        if let Some(space) = c.lab.world.ns_mut(ns) {
            forget_stale(space, sync);
        }
    }
    findings
}

/// Chains, jumps and the restore input of one sync.
fn write_rules(
    ns: &mut NetNs,
    node: &str,
    kubelet: &[(Family, Ensure)],
    sync: &Sync,
    origins: &mut Origins<'_>,
    findings: &mut Vec<Finding>,
) {
    let family = match sync.family {
        Family::V4 => nf::Family::V4,
        Family::V6 => nf::Family::V6,
    };
    let tool = Tool {
        family,
        backend: usual_backend(ns.nf(), family),
    };
    let mine = kubelet
        .iter()
        .filter(|(f, _)| sync.full && *f == sync.family);
    let made = mine
        .map(|(_, e)| (e, "kubelet"))
        .chain(sync.ensure.iter().map(|e| (e, "kube-proxy")));
    on_netns(ns.nf_mut(), tool, |set| {
        for (ensure, who) in made {
            if let Err(refused) = ensure_there(set, tool, ensure, who) {
                findings.push(refused.into());
            }
        }
        let options = Restore {
            noflush: true,
            counters: true,
            table: None,
        };
        let file = format!("kube-proxy on {node}");
        let origin = Origin::controller("kube-proxy", "");
        if sync.restore.is_empty() {
            return;
        }
        if let Err(e) = restore(set, tool, options, &file, &sync.restore, Some(&origin)) {
            findings.push(e.into());
        }
        origins.fill(set);
    });
}

/// Adds a chain or rule unless it is there (kubernetes `pkg/util/iptables`, EnsureChain, EnsureRule).
fn ensure_there(
    set: &mut RuleSet,
    tool: Tool,
    e: &Ensure,
    who: &'static str,
) -> Result<(), Refused> {
    let origin = Origin::controller(who, "");
    let there = match &e.rule {
        Some(rule) => {
            let check = format!("-t {} -C {} {rule}", e.table, e.chain);
            match run_text(set, tool, &check, &origin) {
                Ok(_) => true,
                Err(r) if r.status == 1 => false,
                Err(r) => return Err(r),
            }
        }
        None => TableName::parse(e.table)
            .and_then(|t| set.table(t))
            .is_some_and(|t| t.chain(e.chain).is_some()),
    };
    if !there {
        run_text(set, tool, &e.command(), &origin)?;
    }
    Ok(())
}

/// Deletes the UDP connections that lead to endpoints that no longer serve.
fn forget_stale(ns: &mut NetNs, sync: &Sync) {
    let v4 = sync.family == Family::V4;
    ns.nf_mut().ct.delete(|conn| {
        let (there, back) = (conn.tuple(Dir::Original), conn.tuple(Dir::Reply));
        there.proto == proto::UDP
            && there.dst.is_ipv4() == v4
            && sync.serving.is_stale(Entry {
                original_destination: SocketAddr::new(there.dst, there.dport),
                reply_source: SocketAddr::new(back.src, back.sport),
            })
    });
}

/// Where the rules of Services come from: their comments name the Service, the object its line.
pub(super) struct Origins<'s> {
    desired: &'s Desired,
    known: BTreeMap<String, Origin>,
}

impl<'s> Origins<'s> {
    pub(super) fn new(desired: &'s Desired) -> Self {
        Origins {
            desired,
            known: BTreeMap::new(),
        }
    }

    /// Gives rules of kube-proxy that name a Service its line.
    fn fill(&mut self, set: &mut RuleSet) {
        let plain = Origin::controller("kube-proxy", "");
        let chains = set.tables.iter_mut().flat_map(|t| &mut t.chains);
        for rule in chains.flat_map(|c| &mut c.rules) {
            if rule.origin != plain {
                continue;
            }
            let comment = rule.comment().unwrap_or_default();
            if let Some((namespace, name)) = named(comment) {
                rule.origin = self.of(namespace, name);
            }
        }
    }

    /// Of a rule of nftables mode, by its chain: `service-HASH-NAMESPACE/NAME/PROTOCOL/PORT` and the like
    /// (kubernetes `pkg/proxy/nftables/proxier.go`, servicePortChainNameBase).
    pub(super) fn of_chain(&mut self, chain: &str) -> Origin {
        let service = || {
            let (_, rest) = chain.split_once('-')?;
            let (hash, port) = rest.split_once('-')?;
            let mut parts = port.split('/');
            let found = (parts.next()?, parts.next()?);
            (hash.len() == 8 && parts.next().is_some()).then_some(found)
        };
        match service() {
            Some((namespace, name)) => self.of(namespace, name),
            None => Origin::controller("kube-proxy", ""),
        }
    }

    pub(super) fn of(&mut self, namespace: &str, name: &str) -> Origin {
        let key = format!("{namespace}/{name}");
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let object = self.desired.services.get(&Name {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        let from = match object {
            Some(o) => format!("Service {key} ({})", o.source.origin()),
            None => format!("Service {key}"),
        };
        let origin = Origin::controller("kube-proxy", from);
        self.known.insert(key, origin.clone());
        origin
    }
}

/// The Service of a comment: it begins with it, or names it behind `for` or `to`.
fn named(comment: &str) -> Option<(&str, &str)> {
    let word = comment.split_whitespace().find(|word| word.contains('/'))?;
    word.split(':').next()?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_name_their_service() {
        for (comment, name) in [
            ("default/web:http cluster IP", Some(("default", "web"))),
            ("default/web -> 10.244.0.2:8080", Some(("default", "web"))),
            (
                "masquerade traffic for a/b:c external destinations",
                Some(("a", "b")),
            ),
            (
                "other traffic to a/b will be dropped by KUBE-FW-X",
                Some(("a", "b")),
            ),
            ("kubernetes service portals", None),
        ] {
            assert_eq!(named(comment), name);
        }
    }
}
