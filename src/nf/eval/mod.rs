//! Evaluation of rules: a rule set compiled to a program, run as the kernel runs it.
//!
//! [`table`] carries one packet through one built-in chain (kernel: `ipt_do_table`, `nft_do_chain` with
//! `nft_compat`); [`Netfilter::set_rules`] compiles. Changes frames, connections, sets and what stateful
//! matches remember; does not send anything: that is [`Effect`]. Invariant: a verdict other than `Accept`
//! names the rule or policy that gave it.

mod ahead;
mod ask;
pub(in crate::nf) mod chain;
pub(in crate::nf) mod conn;
mod hashlimit;
mod index;
mod lay;
mod load;
mod matches_ct;
mod matches_ip;
mod matches_ipvs;
mod matches_l4;
mod matches_net;
mod matches_set;
mod matches_state;
mod matches_text;
pub(in crate::nf) mod packet;
mod program;
mod recall;
mod recent;
pub(in crate::nf) mod state;
mod targets;
mod targets_ip;
pub(in crate::nf) mod targets_nat;
mod tcpmss;

use super::netfilter::{Backend, Netfilter};
use super::target::{AuditKind, RejectWith};
use super::{Family, Hook, TableName};
use crate::base::{DevId, Instant, Rng};
use crate::net::{NetNs, SocketId};
use crate::wire::Frame;
use std::net::IpAddr;
use std::sync::Arc;

pub use ahead::Ahead;
pub use chain::Paused;
pub use load::{Loaded, check};
pub use state::State;

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
    /// Index of its table among the native nftables ones ([`Netfilter::nft_place`]); `backend` and `table`
    /// mean nothing then.
    pub native: Option<u16>,
}

/// What became of a packet at one table or hook operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on to the next operation.
    Accept,
    /// The same, but what the operation itself does after its rules is left out: NFQUEUE with bypass where
    /// nobody listens. In a nat chain nothing is bound or changed then, not even to itself, since
    /// `nf_nat_inet_fn` returns any verdict but ACCEPT before that and `nf_hook_slow` takes the next hook.
    Bypass,
    /// It is dropped by a rule or policy.
    Drop(RuleRef),
    /// It is dropped and its sender told.
    Reject(RejectWith, RuleRef),
    /// A user program would decide (NFQUEUE without bypass and nobody listens: the kernel drops).
    Queue(RuleRef),
    /// A rule that is not understood decides.
    Depends(RuleRef),
}

/// What the walker does after a table has run or stopped, in this order; none of it changes the verdict.
#[derive(Clone, Debug)]
pub enum Effect {
    /// `LOG`: a line in the kernel's log.
    Log {
        /// Which rule.
        rule: RuleRef,
        /// Before the line.
        prefix: Arc<str>,
        /// Syslog level.
        level: u8,
    },
    /// `NFLOG`: a message to a netlink group.
    Nflog {
        /// Which rule.
        rule: RuleRef,
        /// In the message.
        prefix: Arc<str>,
        /// The group.
        group: u16,
    },
    /// `AUDIT`: a record.
    Audit {
        /// Which rule.
        rule: RuleRef,
        /// What it says.
        kind: AuditKind,
    },
    /// `TEE`: a copy of the packet as it is now goes to another machine (kernel: `nf_dup_ipv4`).
    Tee {
        /// Which rule.
        rule: RuleRef,
        /// The next hop.
        gateway: IpAddr,
        /// Only through this device.
        oif: Option<DevId>,
        /// The copy: the original may change further on.
        copy: Box<Frame>,
    },
    /// `TPROXY`: the packet is for this socket wherever it is addressed to.
    Tproxy {
        /// Which rule.
        rule: RuleRef,
        /// The socket.
        socket: SocketId,
    },
    /// The table is not at its end: the copy before this goes its way first (`nf_dup_ipv4` sends it from
    /// within the rule), then [`resume`] goes on. The verdict so far means nothing.
    Paused(Box<Paused>),
    /// The same of a native chain.
    Halted(Box<crate::nf::nft::eval::Halted>),
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
    /// What decided inside the rule told last: the element of a map that a packet's key found.
    Found(String),
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
    /// What is assumed of rules that are not understood. A rule with an unknown match: whether that match
    /// (every unknown one of the rule) matches. A rule whose target alone is unknown: whether the packet
    /// goes on behind the rule (`true`) or is dropped by it (`false`). With both unknown, `true` means that
    /// the rule matches and drops.
    pub assume: &'a std::collections::BTreeMap<RuleRef, bool>,
}

/// Asks one chain of type nat.
#[allow(clippy::too_many_arguments, reason = "as `table`")]
pub fn nat_chain(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    which: super::hook::NatChain,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Verdict {
    use super::hook::NatChain;
    match which {
        NatChain::Table(b) => table(nf, ns, f, at, b, TableName::Nat, cx, fx),
        NatChain::Nft(chain) => super::nft::eval::run(nf, ns, f, at, chain, cx, fx),
    }
}

/// Runs the built-in chain of a table at a hook; `Accept` if nothing is loaded there.
///
/// `nf` was taken out of `ns` by the walker: `ns.nf` is `None` while this runs.
#[allow(
    clippy::too_many_arguments,
    reason = "the kernel's hook state, skb and private data"
)]
pub fn table(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    backend: Backend,
    table: TableName,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Verdict {
    chain::run(nf, ns, f, at, (backend, table), cx, fx, None)
}

/// Goes on with a table that stopped with [`Effect::Paused`]; everything else as for [`table`].
#[allow(clippy::too_many_arguments, reason = "as `table`")]
pub fn resume(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    (backend, table): (Backend, TableName),
    from: Paused,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Verdict {
    chain::run(nf, ns, f, at, (backend, table), cx, fx, Some(from))
}
