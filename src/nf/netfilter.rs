//! Everything netfilter has in one namespace.
//!
//! State and access only: rules are carried out by [`super::eval`], packets tracked by [`super::ct`],
//! the hooks are called by `path`. Invariant: each family's two rule sets do not know of each other.

use super::ct::Conntrack;
use super::eval::{Loaded, State};
use super::forced::Forced;
use super::hook::{HookOp, NatChain};
use super::ipset::Sets;
use super::{Family, Hook, RuleSet, TableName, nft, queue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which tool's tables hold a rule; a node may have both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Backend {
    /// `iptables-legacy`: x_tables.
    Legacy,
    /// `iptables-nft`: chains of nf_tables in the same priorities.
    Nft,
}

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Legacy, Backend::Nft];
}

/// What hangs on hooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Registered {
    Table(Backend, TableName),
    Chain(nft::Family, Arc<str>, Arc<str>),
}

/// The rule sets of one family.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) loaded: [Option<Box<Loaded>>; 2],
    /// Tables and native base chains in the order in which they were first loaded.
    pub(super) registered: Vec<Registered>,
}

impl Rules {
    /// One of the two, as it was loaded: the counters are those it had then.
    /// [`Netfilter::rule_set`] has the present ones.
    pub fn backend(&self, b: Backend) -> Option<&RuleSet> {
        self.loaded[b as usize].as_ref().map(|l| l.set())
    }
}

/// Netfilter in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Netfilter {
    pub(super) v4: Rules,
    pub(super) v6: Rules,
    /// Connections.
    pub ct: Conntrack,
    /// Sets.
    pub sets: Sets,
    /// Native nftables rules.
    pub(super) nft: nft::eval::Nft,
    /// Native base chains below the IP layer.
    pub(super) link: nft::eval::link::LinkOps,
    /// What stateful matches remember by name, and the wall clock.
    pub state: State,
    /// Rules are asked one by one, without their index: for tests that compare.
    pub linear: bool,
    /// What the packet at hand touches, while somebody asks for it.
    pub record: Option<Box<super::record::Record>>,
    /// The state of the configuration, by a number that no other state has had: what a table answers in it
    /// may
    /// be given again to packets that are alike. `None`: every packet asks anew.
    pub recall: Option<u64>,
    /// Counts what packets changed in sets: others may be answered differently from then on.
    pub sets_changed: u64,
    /// What NAT and random rules have to decide, for a replay.
    pub forced: Forced,
    /// Programs behind queues, by number; queues without one have no reader.
    pub queues: BTreeMap<u16, Arc<dyn queue::Reader>>,
    /// The families in which IPVS has its hooks.
    pub(super) ipvs: [bool; 2],
    /// Sorted operations by family and hook.
    pub(super) ops: [[Vec<HookOp>; 5]; 2],
    /// The same of the chains that a new connection asks.
    pub(super) nat_ops: [[Vec<NatChain>; 5]; 2],
}

impl Netfilter {
    /// A family's rules.
    pub fn rules(&self, family: Family) -> &Rules {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// What runs at a hook, in order.
    pub fn ops(&self, family: Family, hook: Hook) -> &[HookOp] {
        &self.ops[family as usize][hook as usize]
    }
}
