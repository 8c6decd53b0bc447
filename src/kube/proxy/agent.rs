//! kube-proxy of one node, in any of its modes, both families, in virtual time.
//!
//! It hears of changes ([`Agent::changed`]) and says what it writes when ([`Agent::advance`]). It can be
//! stopped, and then the rules stay while Services change; it can lag, and then each change reaches the rules
//! that much later. Two syncs are `minSyncPeriod` apart (`pkg/util/async` BoundedFrequencyRunner). Writes
//! nothing itself. Invariant: after every sync that was due, the rules are those of one full sync on the
//! newest state that it has heard of.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::View;
use super::config::KubeProxyConfiguration;
use super::conntrack::UdpServing;
use super::iptables::{self, Ensure, jumps};
use super::ipvs::{self, Key, Step};
use super::nftables;
use super::settings::{Features, Machine, Mode, Settings, of_store, span};
use super::sysctl::sysctls;
use crate::base::limits::PROXY_PENDING_MAX;
use crate::base::{Finding, Instant};
use crate::kube::controllers::{Desired, milli, service_cidrs};
use crate::kube::podpath_v1alpha1::ProxyState;
use crate::kube::service::Family;
use crate::kube::store::{Name, Store};

/// `iptables.minSyncPeriod` where it is not said.
const MIN_SYNC_PERIOD: Duration = Duration::from_secs(1);
/// nfacct counters that are made where rules use them (pkg/proxy/iptables/proxier.go, NewProxier).
const COUNTERS: [&str; 2] = [
    "ct_state_invalid_dropped_pkts",
    "localhost_nps_accepted_pkts",
];

/// What both families see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Views([Arc<View>; 2]);

impl Views {
    /// Of what controllers left.
    pub fn of(desired: &Desired) -> Arc<Views> {
        Arc::new(Views(
            Family::ALL.map(|family| Arc::new(desired.view(family))),
        ))
    }

    /// What one family sees.
    pub fn of_family(&self, family: Family) -> &View {
        let [v4, v6] = &self.0;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The Services that differ in either family.
    pub fn changed_since(&self, before: &Views) -> BTreeSet<Name> {
        let pairs = self.0.iter().zip(&before.0);
        pairs
            .flat_map(|(now, then)| now.changed_since(then))
            .collect()
    }
}

/// What one sync of one family does, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    /// The family.
    pub family: Family,
    /// nfacct counters that have to be there.
    pub counters: Vec<&'static str>,
    /// Chains and jumps that have to be there; in iptables mode on full syncs only.
    pub ensure: Vec<Ensure>,
    /// The input of `iptables-restore --noflush --counters`; empty in other modes, and once a node has
    /// forgotten it.
    pub restore: String,
    /// What the other modes do; empty once a node has forgotten it.
    pub steps: Vec<Step>,
    /// Which UDP conntrack entries are deleted afterwards.
    pub serving: UdpServing,
    /// Whether everything was written.
    pub full: bool,
}

/// The node that it runs on.
#[derive(Clone, Debug)]
pub struct Host<'h> {
    /// Its name.
    pub name: &'h str,
    /// Its addresses on the underlay.
    pub ips: Vec<IpAddr>,
    /// Its pod ranges.
    pub pod_cidrs: Vec<IpNetwork>,
    /// All addresses of its namespace, loopback included.
    pub addresses: Vec<IpAddr>,
    /// Whether nf_conntrack_tcp_be_liberal is on already.
    pub tcp_be_liberal: bool,
}

/// One family's, by mode.
#[derive(Clone, Debug)]
enum Proxier {
    Iptables(iptables::Proxier),
    Nftables(Box<nftables::Proxier>),
    Ipvs(ipvs::Proxier),
}

impl Proxier {
    fn new(settings: Settings) -> Proxier {
        match settings.mode {
            Mode::Iptables => Proxier::Iptables(iptables::Proxier::new(settings, BTreeSet::new())),
            Mode::Nftables => Proxier::Nftables(Box::new(nftables::Proxier::new(settings))),
            Mode::Ipvs => Proxier::Ipvs(ipvs::Proxier::new(settings)),
        }
    }

    fn settings(&self) -> &Settings {
        match self {
            Proxier::Iptables(p) => p.settings(),
            Proxier::Nftables(p) => p.settings(),
            Proxier::Ipvs(p) => p.settings(),
        }
    }

    fn is_full_next(&self) -> bool {
        match self {
            Proxier::Iptables(p) => p.is_full_next(),
            Proxier::Nftables(p) => p.is_full_next(),
            Proxier::Ipvs(p) => p.is_full_next(),
        }
    }

    fn force_full(&mut self) {
        match self {
            Proxier::Iptables(p) => p.force_full(),
            Proxier::Nftables(p) => p.force_full(),
            Proxier::Ipvs(p) => p.force_full(),
        }
    }

    /// When it looks at real servers that are on their way out.
    fn next_check(&self) -> Option<Instant> {
        match self {
            Proxier::Ipvs(p) => p.next_check(),
            Proxier::Iptables(_) | Proxier::Nftables(_) => None,
        }
    }

    fn sync(
        &mut self,
        view: &Arc<View>,
        now: Instant,
        live: &mut dyn FnMut(&Key, SocketAddr) -> u64,
    ) -> Sync {
        let full = self.is_full_next();
        let family = self.settings().family;
        let mut out = Sync {
            family,
            counters: Vec::new(),
            ensure: Vec::new(),
            restore: String::new(),
            steps: Vec::new(),
            serving: UdpServing::of(view),
            full,
        };
        match self {
            Proxier::Iptables(p) => {
                if full {
                    out.ensure = jumps();
                    if p.settings().features.nfacct {
                        out.counters = COUNTERS.to_vec();
                    }
                }
                out.restore = p.sync(Arc::clone(view)).text();
            }
            Proxier::Nftables(p) => {
                let written = p.sync(Arc::clone(view), now);
                out.steps = written.into_iter().map(Step::Nft).collect();
            }
            Proxier::Ipvs(p) => {
                out.ensure = ipvs::jumps();
                out.steps = p.sync(Arc::clone(view), now, live);
            }
        }
        out
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Agent {
    proxiers: [Proxier; 2],
    sysctls: Vec<(&'static str, String)>,
    state: ProxyState,
    lag: Duration,
    min_period: Duration,
    pending: VecDeque<(Instant, Arc<Views>)>,
    known: Option<Arc<Views>>,
    last: Option<Instant>,
}

impl Agent {
    /// The agent of a node that has not started yet, with what is wrong in its configuration. `mode` is the
    /// Cluster document's; the configuration's where it says none.
    pub fn new(store: &Store, host: &Host<'_>, mode: Option<Mode>) -> (Agent, Vec<Finding>) {
        let (config, mut findings) = of_store(store);
        let node = node(store, host);
        let config = KubeProxyConfiguration {
            hostname_override: host.name.to_owned(),
            mode: mode.map_or(config.mode, |mode| mode.name().to_owned()),
            ..config
        };
        let machine = Machine {
            addresses: host.addresses.clone(),
            features: Features {
                tcp_be_liberal: host.tcp_be_liberal,
                ..Features::default()
            },
        };
        let at = || match store.node(host.name) {
            Some(node) => span(store, node),
            None => crate::base::Span::default(),
        };
        let cidrs = service_cidrs(store);
        let settings = Family::ALL.map(|family| {
            let (mut settings, wrong) = Settings::new(&config, &node, &machine, family);
            settings.know_service_cidrs(&cidrs);
            for (field, message) in wrong {
                let message = format!("KubeProxyConfiguration {field}: {message}");
                let finding = Finding::error(at(), message, "");
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
            settings
        });
        let sysctls = sysctls(&config, &settings, cpus(&node));
        let min_period = match Mode::of(&config) {
            Mode::Iptables => config.iptables.min_sync_period,
            Mode::Nftables => config.nftables.min_sync_period,
            Mode::Ipvs => config.ipvs.min_sync_period,
        };
        let agent = Agent {
            proxiers: settings.map(Proxier::new),
            sysctls,
            state: ProxyState::Running,
            lag: Duration::ZERO,
            min_period: min_period.unwrap_or(MIN_SYNC_PERIOD),
            pending: VecDeque::new(),
            known: None,
            last: None,
        };
        (agent, findings)
    }

    /// What it sets when it starts.
    pub fn sysctls(&self) -> &[(&'static str, String)] {
        &self.sysctls
    }

    /// Whether it runs.
    pub fn state(&self) -> ProxyState {
        self.state
    }

    /// How far it lags behind.
    pub fn lag(&self) -> Duration {
        self.lag
    }

    /// What the rules are made from; nothing before the first sync.
    pub fn known(&self) -> Option<&Views> {
        self.known.as_deref()
    }

    /// Starts, stops or slows it. One that starts writes everything anew.
    pub fn set(&mut self, now: Instant, state: ProxyState, lag: Duration, newest: &Arc<Views>) {
        let starts = self.state == ProxyState::Stopped && state == ProxyState::Running;
        self.state = state;
        self.lag = lag;
        if state == ProxyState::Stopped {
            self.pending.clear();
        }
        if starts {
            self.force_full();
            self.last = None;
            self.changed(now, newest);
        }
    }

    /// Objects changed.
    pub fn changed(&mut self, now: Instant, newest: &Arc<Views>) {
        if self.state == ProxyState::Stopped {
            return;
        }
        let heard = now + self.lag;
        // A sync that waits for its turn takes along what is heard until then.
        if let Some((due, views)) = self.pending.back_mut()
            && *due >= heard
        {
            *views = Arc::clone(newest);
            return;
        }
        let before = self.pending.back().map(|(due, _)| *due).or(self.last);
        let due = before.map_or(heard, |last| heard.max(last + self.min_period));
        if self.pending.len() >= PROXY_PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((due, Arc::clone(newest)));
    }

    /// When it writes next.
    pub fn next_sync(&self) -> Option<Instant> {
        self.pending.front().map(|(due, _)| *due)
    }

    /// The rules were flushed by somebody, or its node changed: the next sync writes everything.
    pub fn force_full(&mut self) {
        self.proxiers.iter_mut().for_each(Proxier::force_full);
    }

    /// When something is to be done next: a sync, or a look at real servers that are on their way out.
    pub fn next_event(&self) -> Option<Instant> {
        let checks = self.proxiers.iter().filter_map(Proxier::next_check);
        let running = self.state == ProxyState::Running;
        checks.filter(|_| running).chain(self.next_sync()).min()
    }

    /// The syncs that are due, in order. `live` says how many connections a real server of IPVS has.
    pub fn advance(
        &mut self,
        now: Instant,
        live: &mut dyn FnMut(&Key, SocketAddr) -> u64,
    ) -> Vec<Sync> {
        let mut out = Vec::new();
        while self.next_sync().is_some_and(|due| due <= now) {
            let Some((due, views)) = self.pending.pop_front() else {
                break;
            };
            self.last = Some(due);
            for (proxier, view) in self.proxiers.iter_mut().zip(&views.0) {
                out.push(proxier.sync(view, due, live));
            }
            self.known = Some(views);
        }
        out
    }

    /// The looks at real servers that are due, as steps by family.
    pub fn check(
        &mut self,
        now: Instant,
        live: &mut dyn FnMut(&Key, SocketAddr) -> u64,
    ) -> Vec<(Family, Vec<Step>)> {
        if self.state == ProxyState::Stopped {
            return Vec::new();
        }
        let mut out = Vec::new();
        for proxier in &mut self.proxiers {
            if let Proxier::Ipvs(p) = proxier {
                let steps = p.check(now, live);
                if !steps.is_empty() {
                    out.push((p.settings().family, steps));
                }
            }
        }
        out
    }
}

/// What a proxier of `mode` works with on a node, with a current kernel and tools.
pub fn settings_on(store: &Store, host: &Host<'_>, mode: Mode, family: Family) -> Settings {
    let config = KubeProxyConfiguration {
        hostname_override: host.name.to_owned(),
        mode: mode.name().to_owned(),
        ..of_store(store).0
    };
    let machine = Machine {
        addresses: host.addresses.clone(),
        features: Features::default(),
    };
    let node = node(store, host);
    let mut settings = Settings::new(&config, &node, &machine, family).0;
    settings.know_service_cidrs(&service_cidrs(store));
    settings
}

/// The Node as kube-proxy reads it: what the manifest leaves open is what the cluster gave it.
fn node(store: &Store, host: &Host<'_>) -> Node {
    let mut node = store
        .node(host.name)
        .map(|n| (*n.body).clone())
        .unwrap_or_default();
    node.metadata.name = Some(host.name.to_owned());
    let status = node.status.get_or_insert_default();
    let addresses = status.addresses.get_or_insert_default();
    if !addresses.iter().any(|a| a.type_ == "InternalIP") {
        addresses.extend(host.ips.iter().map(|ip| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.to_string(),
        }));
    }
    let spec = node.spec.get_or_insert_default();
    if spec.pod_cidr.is_none() && spec.pod_cidrs.as_ref().is_none_or(Vec::is_empty) {
        spec.pod_cidrs = Some(host.pod_cidrs.iter().map(ToString::to_string).collect());
    }
    node
}

/// The machine's CPUs; one where nobody says.
fn cpus(node: &Node) -> u32 {
    let capacity = node.status.as_ref().and_then(|s| s.capacity.as_ref());
    let milli = capacity
        .and_then(|c| c.get("cpu"))
        .and_then(|q| milli(&q.0));
    let whole = milli.map_or(1, |milli| milli.div_ceil(1000).max(1));
    u32::try_from(whole).unwrap_or(u32::MAX)
}
