//! Evaluation of rules: where a packet is, what came out.
//!
//! Invariant: a verdict other than `Accept` names the rule or policy that gave it.

use super::netfilter::Backend;
use super::target::RejectWith;
use super::{Family, Hook, TableName};
use crate::base::{DevId, Instant, Rng};

/// Where a packet is while a hook runs (kernel: `struct nf_hook_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The hook.
    pub hook: Hook,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Input device; a bridge for what its ports bring. `None` in OUTPUT and POSTROUTING of own packets.
    pub input: Option<DevId>,
    /// Output device; `None` in PREROUTING and INPUT.
    pub output: Option<DevId>,
}

/// A rule's place in a namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleRef {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Which of the two rule sets.
    pub backend: Backend,
    /// Its table.
    pub table: TableName,
    /// Index of its chain in the table.
    pub chain: u32,
    /// Index of the rule in the chain; the number of rules means the chain's policy.
    pub rule: u32,
}

/// What became of a packet at one table or hook operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on to the next operation.
    Accept,
    /// It is dropped by a rule or policy.
    Drop(RuleRef),
    /// It is dropped and its sender told.
    Reject(RejectWith, RuleRef),
    /// A user program would decide (NFQUEUE without bypass and nobody listens: the kernel drops).
    Queue(RuleRef),
    /// A rule that is not understood decides.
    Depends(RuleRef),
}

/// What a trace tells of one operation. Only what took part is told: rules that did not match are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NfStep {
    /// A rule matched.
    Rule {
        /// Which.
        rule: RuleRef,
        /// Rules of the same chain that were passed over since the last one told.
        skipped: u32,
        /// The chance of a `statistic --mode random` that took part, in 1/2^31.
        chance: Option<u32>,
    },
    /// A built-in chain ended: its policy decided.
    Policy {
        /// The chain; `rule` is its number of rules.
        rule: RuleRef,
        /// Rules passed over since the last one told.
        skipped: u32,
    },
    /// Conntrack looked at the packet.
    Conntrack {
        /// The connection as `conntrack -L` prints it, or why there is none.
        text: String,
        /// NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED.
        state: &'static str,
    },
    /// A connection was mapped.
    NatSetup {
        /// Source or destination.
        manip: super::nat::Manip,
        /// The rule that asked for it; `None` for a null binding that had to change a port.
        rule: Option<RuleRef>,
        /// `address:port` before.
        from: String,
        /// And after.
        to: String,
    },
    /// A packet's addresses were translated.
    NatPacket {
        /// The packet's tuple before.
        from: String,
        /// And after.
        to: String,
    },
}

/// What one evaluation may draw on besides the namespace.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Virtual time.
    pub now: Instant,
    /// The world's randomness.
    pub rng: &'a mut Rng,
    /// Filled for a trace; `None` costs nothing.
    pub steps: Option<&'a mut Vec<NfStep>>,
    /// What is assumed of rules that are not understood: matched or not.
    pub assume: &'a std::collections::BTreeMap<RuleRef, bool>,
}
