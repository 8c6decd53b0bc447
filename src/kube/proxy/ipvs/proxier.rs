//! One family's running proxier: the steps from what it left to what is wanted.
//!
//! kubernetes `pkg/proxy/ipvs/proxier.go` (syncProxyRules, syncService, syncEndpoint, cleanLegacyService),
//! `graceful_termination.go`: a real server with connections gets weight 0, is looked at every minute and
//! goes when it has none; over UDP it goes at once.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::sets::SetKind;
use super::text::{real, service};
use super::{Desired, Key, Server};
use crate::base::Instant;
use crate::kube::proxy::{Settings, View};
use crate::kube::service::Protocol;

/// How often real servers on their way out are looked at (rsCheckDeleteInterval).
pub const GRACE_CHECK: Duration = Duration::from_secs(60);

/// Something that a sync does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The transaction for `nft -f -` (nftables mode).
    Nft(String),
    /// The dummy device has to be there.
    Device,
    /// Lines for `ipset restore`.
    Ipset(String),
    /// The words of one `ipvsadm` command.
    Ipvs(String),
    /// An address for the dummy device.
    Bind(IpAddr),
    /// The input of `iptables-restore --noflush --counters`.
    Restore(String),
    /// An address that the dummy device loses.
    Unbind(IpAddr),
}

/// How many connections, active and inactive, a real server has.
pub type Connections<'c> = &'c mut dyn FnMut(&Key, SocketAddr) -> u64;

/// What is in the kernel of a virtual server.
#[derive(Clone, Debug)]
struct Applied {
    persistent: Option<u32>,
    /// With their weights.
    real: BTreeMap<SocketAddr, u32>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Proxier {
    settings: Settings,
    last: Option<Arc<View>>,
    servers: BTreeMap<Key, Applied>,
    bound: BTreeSet<IpAddr>,
    sets: BTreeMap<SetKind, BTreeSet<String>>,
    /// Real servers that have weight 0 until their connections are gone.
    leaving: BTreeSet<(Key, SocketAddr)>,
    next_check: Option<Instant>,
}

impl Proxier {
    /// A proxier that has just started on a machine without any of it.
    pub fn new(settings: Settings) -> Proxier {
        Proxier {
            settings,
            last: None,
            servers: BTreeMap::new(),
            bound: BTreeSet::new(),
            sets: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next_check: None,
        }
    }

    /// The next sync, in steps that are taken to succeed.
    pub fn sync(
        &mut self,
        view: impl Into<Arc<View>>,
        now: Instant,
        connections: Connections<'_>,
    ) -> Vec<Step> {
        let view = view.into();
        let family = self.settings.family;
        let wanted = Desired::of(&view, &self.settings);
        let mut out = Vec::new();
        if self.last.is_none() && self.settings.ipvs.timeouts != [0; 3] {
            let [tcp, fin, udp] = self.settings.ipvs.timeouts;
            out.push(Step::Ipvs(format!("--set {tcp} {fin} {udp}")));
        }
        let create = SetKind::ALL.map(|kind| kind.create(family) + "\n");
        out.extend([Step::Device, Step::Ipset(create.concat())]);
        for (key, server) in &wanted.servers {
            self.server(*key, server, connections, &mut out);
        }
        let new = wanted.addresses.difference(&self.bound);
        out.extend(new.map(|ip| Step::Bind(*ip)));
        out.push(Step::Ipset(self.entries(&wanted)));
        out.push(Step::Restore(wanted.rules(&self.settings)));
        let gone = self.bound.difference(&wanted.addresses);
        out.extend(gone.map(|ip| Step::Unbind(*ip)));
        self.clean(&wanted, &mut out);
        self.bound = wanted.addresses;
        self.sets = wanted.sets;
        self.last = Some(view);
        self.next_check = match (self.leaving.is_empty(), self.next_check) {
            (true, _) => None,
            (false, Some(at)) => Some(at),
            (false, None) => Some(now + GRACE_CHECK),
        };
        out
    }

    /// Virtual server, then its real servers.
    fn server(
        &mut self,
        key: Key,
        wanted: &Server,
        connections: Connections<'_>,
        out: &mut Vec<Step>,
    ) {
        let ipvs = &self.settings.ipvs;
        let applied = self.servers.entry(key).or_insert_with(|| {
            let line = service("-A", &key, wanted.persistent, ipvs);
            out.push(Step::Ipvs(line));
            Applied {
                persistent: wanted.persistent,
                real: BTreeMap::new(),
            }
        });
        if applied.persistent != wanted.persistent {
            let line = service("-E", &key, wanted.persistent, ipvs);
            out.push(Step::Ipvs(line));
            applied.persistent = wanted.persistent;
        }
        let first = self.last.is_none();
        for to in &wanted.real {
            if let Some(weight) = applied.real.get_mut(to) {
                if first && *weight != 1 {
                    // A new process does not know which were on their way out.
                    out.push(Step::Ipvs(real("-e", &key, *to, 1)));
                    *weight = 1;
                }
                if !self.leaving.remove(&(key, *to)) {
                    continue;
                }
                out.push(Step::Ipvs(delete(&key, *to)));
            }
            out.push(Step::Ipvs(real("-a", &key, *to, 1)));
            applied.real.insert(*to, 1);
        }
        let keep = |to: &SocketAddr| wanted.real.contains(to);
        let gone: Vec<SocketAddr> = applied.real.keys().filter(|t| !keep(t)).copied().collect();
        for to in gone {
            if self.leaving.contains(&(key, to)) {
                continue;
            }
            if is_free(&key, to, connections) {
                applied.real.remove(&to);
                out.push(Step::Ipvs(delete(&key, to)));
            } else {
                out.push(Step::Ipvs(real("-e", &key, to, 0)));
                applied.real.insert(to, 0);
                self.leaving.insert((key, to));
            }
        }
    }

    /// What differs in the sets.
    fn entries(&self, wanted: &Desired) -> String {
        let (family, none) = (self.settings.family, BTreeSet::new());
        let mut out = String::new();
        for kind in SetKind::ALL {
            let name = kind.name(family);
            let now = wanted.sets.get(&kind).unwrap_or(&none);
            let then = self.sets.get(&kind).unwrap_or(&none);
            for entry in then.difference(now) {
                let _ = writeln!(out, "del {name} {entry}");
            }
            for entry in now.difference(then) {
                let _ = writeln!(out, "add {name} {entry} -exist");
            }
        }
        out
    }

    /// Virtual servers that nothing wants.
    fn clean(&mut self, wanted: &Desired, out: &mut Vec<Step>) {
        let exclude = &self.settings.ipvs.exclude;
        let stays = |key: &Key| {
            let excluded = exclude.iter().any(|net| net.contains(key.address.ip()));
            wanted.servers.contains_key(key) || excluded
        };
        let gone: Vec<Key> = self.servers.keys().filter(|k| !stays(k)).copied().collect();
        for key in gone {
            out.push(Step::Ipvs(format!("-D {}", key.option())));
            self.servers.remove(&key);
        }
    }

    /// When it looks at real servers on their way out.
    pub fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Looks at them, if it is time: those without connections go.
    pub fn check(&mut self, now: Instant, connections: Connections<'_>) -> Vec<Step> {
        if self.next_check.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (key, to) in core::mem::take(&mut self.leaving) {
            // Gone with its virtual server: it is not found, and taken off the list.
            let Some(applied) = self.servers.get_mut(&key) else {
                continue;
            };
            if is_free(&key, to, connections) {
                applied.real.remove(&to);
                out.push(Step::Ipvs(delete(&key, to)));
            } else {
                self.leaving.insert((key, to));
            }
        }
        self.next_check = (!self.leaving.is_empty()).then(|| now + GRACE_CHECK);
        out
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the next sync is the first of its process.
    pub fn is_full_next(&self) -> bool {
        self.last.is_none()
    }

    /// A new process: what it remembered is gone, what is in the kernel it finds by listing.
    pub fn force_full(&mut self) {
        self.last = None;
        self.leaving.clear();
        self.next_check = None;
    }
}

/// Whether a real server may go at once (deleteRsFunc). What is left of UDP the kernel drops itself, by
/// expire_nodest_conn.
fn is_free(key: &Key, to: SocketAddr, connections: Connections<'_>) -> bool {
    key.protocol == Protocol::Udp || connections(key, to) == 0
}

fn delete(key: &Key, to: SocketAddr) -> String {
    format!("-d {} -r {to}", key.option())
}
