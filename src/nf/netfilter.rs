//! Everything netfilter has in one namespace.
//!
//! State and access only: rules are carried out by [`super::eval`], packets tracked by [`super::ct`],
//! the hooks are called by `path`. Invariant: each family's two rule sets do not know of each other.

use super::ct::Conntrack;
use super::forced::Forced;
use super::hook::HookOp;
use super::{Family, Hook, RuleSet};

/// Which tool's tables hold a rule; a node may have both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Backend {
    /// `iptables-legacy`: x_tables.
    Legacy,
    /// `iptables-nft`: chains of nf_tables in the same priorities.
    Nft,
}

/// The rule sets of one family.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// As `iptables-legacy-save` would print it.
    pub legacy: Option<RuleSet>,
    /// As `iptables-nft-save` would print it.
    pub nft: Option<RuleSet>,
}

impl Rules {
    /// One of the two.
    pub fn backend(&self, b: Backend) -> Option<&RuleSet> {
        match b {
            Backend::Legacy => self.legacy.as_ref(),
            Backend::Nft => self.nft.as_ref(),
        }
    }
}

/// Netfilter in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Netfilter {
    /// IPv4 rules.
    pub v4: Rules,
    /// IPv6 rules.
    pub v6: Rules,
    /// Connections.
    pub ct: Conntrack,
    /// What NAT and random rules have to decide, for a replay.
    pub forced: Forced,
    /// Sorted operations by family and hook.
    ops: [[Vec<HookOp>; 5]; 2],
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
