//! iptables mode: the text that kube-proxy hands to `iptables-restore --noflush --counters`.
//!
//! kubernetes `pkg/proxy/iptables/proxier.go` (syncProxyRules). [`sync`] is one run of it: the filter table
//! and the dispatch chains always whole, the chains of Services all or only of those that changed.
//! [`Proxier`] keeps what runs need to know of each other. The jumps from the built-in chains are installed
//! one by one before ([`jumps`]). Invariant: restoring what each run of a proxier wrote leaves the same
//! chains as one full run on the last state.

mod base;
mod fixed;
mod service;

use core::fmt::Write;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::is_service_chain;
use super::{Settings, View};
use crate::kube::store::Name;

pub use base::{CANARY, Ensure, jumps, kubelet};
pub use fixed::{JUMPS, Jump};

/// More endpoints than this make rules lose their comments (largeClusterEndpointsThreshold).
pub const LARGE_CLUSTER_ENDPOINTS: usize = 1000;

/// One table of the restore input: chains that are declared (and so flushed), then lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Chains in the order of their lines.
    pub chains: Vec<String>,
    /// `-A` and `-X` lines.
    pub rules: Vec<String>,
}

impl Table {
    fn chain(&mut self, name: impl Into<String>) {
        self.chains.push(name.into());
    }

    fn rule(&mut self, line: impl Into<String>) {
        self.rules.push(line.into());
    }
}

/// What one sync writes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Table filter.
    pub filter: Table,
    /// Table nat.
    pub nat: Table,
    /// The chains of Services that exist after it, whether this sync wrote them or not.
    pub active: BTreeSet<String>,
}

impl Desired {
    /// The restore input.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, table) in [("filter", &self.filter), ("nat", &self.nat)] {
            let _ = writeln!(out, "*{name}");
            for chain in &table.chains {
                // MakeChainLine: counters start at zero.
                let _ = writeln!(out, ":{chain} - [0:0]");
            }
            for rule in &table.rules {
                let _ = writeln!(out, "{rule}");
            }
            out.push_str("COMMIT\n");
        }
        out
    }
}

/// Which Services' own chains are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope<'s> {
    /// All.
    Full,
    /// Those of these Services.
    Changed(&'s BTreeSet<Name>),
}

/// One run of syncProxyRules. `existing` are the chains of table nat at the time, where they were listed:
/// those of Services that are no longer needed are deleted.
pub fn sync(
    view: &View,
    settings: &Settings,
    scope: Scope<'_>,
    existing: &BTreeSet<String>,
) -> Desired {
    let mut out = Desired::default();
    fixed::begin(settings, &mut out);
    let large = is_large(view);
    for port in &view.services {
        let changed = match scope {
            Scope::Full => true,
            Scope::Changed(names) => names.contains(&port.name.service),
        };
        let endpoints = view.endpoints_of(&port.name);
        service::Rules::new(port, endpoints, settings, large).write(changed, &mut out);
    }
    let stale = existing.difference(&out.active);
    let stale: Vec<String> = stale.filter(|c| is_service_chain(c)).cloned().collect();
    for chain in stale {
        // Declaring it empties it; only then can it go.
        out.nat.rule(format!("-X {chain}"));
        out.nat.chain(chain);
    }
    fixed::end(settings, &mut out);
    out
}

/// Whether comments are left out to keep the restore input small.
fn is_large(view: &View) -> bool {
    let counts = view
        .services
        .iter()
        .map(|p| view.endpoints_of(&p.name).len());
    counts.sum::<usize>() > LARGE_CLUSTER_ENDPOINTS
}

/// A running proxier of one family: what it last knew and which chains it left.
#[derive(Clone, Debug)]
pub struct Proxier {
    settings: Settings,
    last: Option<Arc<View>>,
    chains: BTreeSet<String>,
}

impl Proxier {
    /// A proxier that has just started; `chains` are those it finds in table nat.
    pub fn new(settings: Settings, chains: BTreeSet<String>) -> Proxier {
        Proxier {
            settings,
            last: None,
            chains,
        }
    }

    /// The next sync: full the first time, afterwards only what changed. Its restore is taken to succeed.
    ///
    /// In a large cluster kube-proxy deletes stale chains once per syncPeriod only; here as soon as they are.
    pub fn sync(&mut self, view: impl Into<Arc<View>>) -> Desired {
        let view = view.into();
        let changed = self.last.as_ref().map(|last| view.changed_since(last));
        let scope = changed.as_ref().map_or(Scope::Full, Scope::Changed);
        let out = sync(&view, &self.settings, scope, &self.chains);
        self.chains.retain(|chain| !is_service_chain(chain));
        self.chains.extend(out.active.iter().cloned());
        self.last = Some(view);
        out
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the next sync writes everything.
    pub fn is_full_next(&self) -> bool {
        self.last.is_none()
    }

    /// Everything is to be written again: the rules were flushed, the configuration or a node changed.
    pub fn force_full(&mut self) {
        self.last = None;
    }
}
