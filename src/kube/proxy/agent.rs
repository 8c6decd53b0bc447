//! kube-proxy of one node in iptables mode, both families, in virtual time.
//!
//! It hears of changes ([`Agent::changed`]) and says what it writes when ([`Agent::advance`]). It can be
//! stopped, and then the rules stay while Services change; it can lag, and then each change reaches the rules
//! that much later. Two syncs are `minSyncPeriod` apart (`pkg/util/async` BoundedFrequencyRunner). Writes
//! nothing itself. Invariant: after every sync that was due, the rules are those of one full sync on the
//! newest state that it has heard of.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::View;
use super::config::KubeProxyConfiguration;
use super::conntrack::UdpServing;
use super::iptables::{Ensure, Proxier, jumps};
use super::settings::{Features, Machine, Settings, of_store, span};
use super::sysctl::sysctls;
use crate::base::limits::PROXY_PENDING_MAX;
use crate::base::{Finding, Instant};
use crate::kube::controllers::Desired;
use crate::kube::controllers::milli;
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
    /// Chains and jumps that have to be there; on full syncs only.
    pub ensure: Vec<Ensure>,
    /// The input of `iptables-restore --noflush --counters`; empty once a node has forgotten it.
    pub restore: String,
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
    /// The agent of a node that has not started yet, with what is wrong in its configuration.
    pub fn new(store: &Store, host: &Host<'_>) -> (Agent, Vec<Finding>) {
        let (config, mut findings) = of_store(store);
        let node = node(store, host);
        let config = KubeProxyConfiguration {
            hostname_override: host.name.to_owned(),
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
        let settings = Family::ALL.map(|family| {
            let (settings, wrong) = Settings::new(&config, &node, &machine, family);
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
        let agent = Agent {
            proxiers: settings.map(|settings| Proxier::new(settings, BTreeSet::new())),
            sysctls,
            state: ProxyState::Running,
            lag: Duration::ZERO,
            min_period: config.iptables.min_sync_period.unwrap_or(MIN_SYNC_PERIOD),
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

    /// The syncs that are due, in order.
    pub fn advance(&mut self, now: Instant) -> Vec<Sync> {
        let mut out = Vec::new();
        while self.next_sync().is_some_and(|due| due <= now) {
            let Some((due, views)) = self.pending.pop_front() else {
                break;
            };
            self.last = Some(due);
            for (proxier, view) in self.proxiers.iter_mut().zip(&views.0) {
                out.push(sync(proxier, view));
            }
            self.known = Some(views);
        }
        out
    }
}

fn sync(proxier: &mut Proxier, view: &Arc<View>) -> Sync {
    let full = proxier.is_full_next();
    let settings = proxier.settings();
    let family = settings.family;
    let counters = if full && settings.features.nfacct {
        COUNTERS.to_vec()
    } else {
        Vec::new()
    };
    Sync {
        family,
        counters,
        ensure: if full { jumps() } else { Vec::new() },
        restore: proxier.sync(Arc::clone(view)).text(),
        serving: UdpServing::of(view),
        full,
    }
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
