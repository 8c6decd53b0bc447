//! nftables mode: the transactions that kube-proxy hands to `nft -f -`, table `kube-proxy` of each family.
//!
//! kubernetes `pkg/proxy/nftables/proxier.go` (syncProxyRules). [`Proxier`] is one family's running proxier:
//! its first transaction makes the table, later ones write the chains of changed Services and what differs in
//! sets and maps. Chains that are no longer needed are emptied at once and deleted by a sync a second or more
//! later: kernels before 6.2 do not see in time that no map leads there any more. Invariant: what its
//! transactions leave is what one full sync on the last state writes, stale empty chains aside.

mod elements;
mod service;
mod setup;
mod tx;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Settings, View};
use crate::base::Instant;
use elements::Elements;
use tx::{Kind, Tx};

pub use setup::Layout;

/// How long a chain is left before it is deleted.
const STALE: Duration = Duration::from_secs(1);

/// The sets and maps whose elements are remembered.
#[derive(Clone, Debug)]
struct Stores {
    cluster_ips: Elements,
    service_ips: Elements,
    firewall_ips: Elements,
    no_endpoint_services: Elements,
    no_endpoint_node_ports: Elements,
    service_node_ports: Elements,
}

impl Stores {
    fn new() -> Self {
        let map = |name| Elements::new(Kind::Map, name);
        Stores {
            cluster_ips: Elements::new(Kind::Set, setup::CLUSTER_IPS),
            service_ips: map(setup::SERVICE_IPS),
            firewall_ips: map(setup::FIREWALL_IPS),
            no_endpoint_services: map(setup::NO_ENDPOINT_SERVICES),
            no_endpoint_node_ports: map(setup::NO_ENDPOINT_NODE_PORTS),
            service_node_ports: map(setup::SERVICE_NODE_PORTS),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Elements> {
        [
            &mut self.cluster_ips,
            &mut self.service_ips,
            &mut self.firewall_ips,
            &mut self.no_endpoint_services,
            &mut self.no_endpoint_node_ports,
            &mut self.service_node_ports,
        ]
        .into_iter()
    }
}

/// What one sync collects.
struct Run<'r> {
    tx: Tx,
    stores: &'r mut Stores,
    /// Chains of Services that have to be there.
    chains: BTreeSet<String>,
    /// Affinity sets that have to be there.
    sets: BTreeSet<String>,
}

impl Run<'_> {
    /// Makes sure of a chain, empty unless it is left as it stands.
    fn chain(&mut self, name: &str, leave: bool) {
        if self.chains.insert(name.to_owned()) && !leave {
            self.tx.add_chain(name, None);
            self.tx.flush_chain(name);
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Proxier {
    settings: Settings,
    last: Option<Arc<View>>,
    /// Whether this process has made the base chains.
    begun: bool,
    stores: Stores,
    /// Chains of Services that exist, stale ones too.
    chains: BTreeSet<String>,
    /// Affinity sets that exist.
    sets: BTreeSet<String>,
    /// Chains that are empty and wait, with the time at which they were last found to be.
    stale: BTreeMap<String, Instant>,
}

impl Proxier {
    /// A proxier that has just started on a machine without its table.
    pub fn new(settings: Settings) -> Proxier {
        Proxier {
            settings,
            last: None,
            begun: false,
            stores: Stores::new(),
            chains: BTreeSet::new(),
            sets: BTreeSet::new(),
            stale: BTreeMap::new(),
        }
    }

    /// The next sync: its transactions in order. They are taken to succeed.
    pub fn sync(&mut self, view: impl Into<Arc<View>>, now: Instant) -> Vec<String> {
        let view = view.into();
        let mut out: Vec<String> = self.delete_stale(now).into_iter().collect();
        let changed = self.last.as_ref().map(|last| view.changed_since(last));
        let mut run = Run {
            tx: Tx::new(self.settings.family),
            stores: &mut self.stores,
            chains: BTreeSet::new(),
            sets: BTreeSet::new(),
        };
        if changed.is_none() {
            setup::write(&self.settings, !self.begun, &mut run.tx, run.stores);
        }
        for port in &view.services {
            let names = changed.as_ref();
            let leave = names.is_some_and(|names| !names.contains(&port.name.service));
            let endpoints = view.endpoints_of(&port.name);
            service::Rules::new(port, endpoints, &self.settings).write(leave, &mut run);
        }
        let Run {
            mut tx,
            chains,
            sets,
            ..
        } = run;
        for chain in &self.chains {
            if chains.contains(chain) {
                self.stale.remove(chain);
            } else {
                tx.flush_chain(chain);
                self.stale.insert(chain.clone(), now);
            }
        }
        for set in self.sets.difference(&sets) {
            tx.delete_set(set);
        }
        self.stores.all().for_each(|store| store.end(&mut tx));
        self.chains.extend(chains);
        self.sets = sets;
        self.last = Some(view);
        self.begun = true;
        if !tx.is_empty() {
            out.push(tx.into_text());
        }
        out
    }

    /// A transaction of its own: should a chain still be in use, the rest is written all the same.
    fn delete_stale(&mut self, now: Instant) -> Option<String> {
        // Real syncs are never exactly a second apart, so here the second itself counts as over.
        let due = self
            .stale
            .iter()
            .filter(|(_, since)| **since + STALE <= now);
        let due: Vec<String> = due.map(|(chain, _)| chain.clone()).collect();
        let mut tx = Tx::new(self.settings.family);
        for chain in due {
            tx.delete_chain(&chain);
            self.stale.remove(&chain);
            self.chains.remove(&chain);
        }
        (!tx.is_empty()).then(|| tx.into_text())
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the next sync writes everything.
    pub fn is_full_next(&self) -> bool {
        self.last.is_none()
    }

    /// Everything is to be written again, by a new process: what it remembered is gone, what is in the
    /// kernel it finds by listing.
    pub fn force_full(&mut self) {
        self.last = None;
        self.begun = false;
        self.stale.clear();
    }
}

/// What one full sync on a clean machine writes.
pub fn sync(view: &View, settings: &Settings) -> String {
    let mut proxier = Proxier::new(settings.clone());
    proxier
        .sync(Arc::new(view.clone()), Instant::default())
        .concat()
}
