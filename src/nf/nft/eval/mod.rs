//! Native nftables rules carried out, at the hooks of the IP layer and below it.
//!
//! [`Netfilter::set_nft`] compiles, [`run`] carries a packet through one base chain as `nft_do_chain` does,
//! [`link`] one of families bridge and netdev, [`Netfilter::nft_ruleset`] gives the rules back with what was
//! counted. Chains of family arp are kept and listed, not run. Invariant: statements stay where the listing
//! has them.

mod fib;
mod hash;
mod load;
mod mangle;
mod nat;
mod program;
mod run;
mod show;
mod state;
mod steady;
mod stmt;

pub mod forced;
pub mod link;

use super::elements::Key;
use super::expr::{Expr, IpFamily, Nat, Stateful, Stmt};
use super::fields::CtKey;
use super::implied::any_in;
use super::model::{
    Base, Chain, ChainType, Family as NftFamily, HookName, ObjectBody, Rule, Ruleset, Table,
};
use crate::base::Instant;
use crate::net::NetNs;
use crate::nf::eval::chain::Env;
use crate::nf::eval::packet::Pkt;
use crate::nf::eval::{At, Cx, Effect, RuleRef, Verdict};
use crate::nf::{Backend, Family, Hook, Netfilter, TableName};
use crate::wire::Frame;
use indexmap::IndexSet;
use program::Program;
pub use run::Halted;
use run::Walk;
use smallvec::SmallVec;
use state::{Graves, Slot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A chain's place: the table's index in the rule set and the chain's in its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChainRef {
    /// Index of the table.
    pub table: u16,
    /// Index of the chain.
    pub chain: u32,
}

/// A chain by the names of its table and its own.
pub(in crate::nf) type ChainName = (NftFamily, Arc<str>, Arc<str>);

/// Native rules of a namespace, as they run.
#[derive(Clone, Debug, Default)]
pub struct Nft {
    /// Rules as they were loaded; sets and objects as they are now. What expires does so at a point in
    /// virtual
    /// time, in milliseconds.
    set: Ruleset,
    program: Arc<Program>,
    slots: Vec<Slot>,
    elements: BTreeMap<(u16, u16, Key), SmallVec<[Slot; 1]>>,
    objects: BTreeMap<(u16, u16), Slot>,
    graves: BTreeMap<(u16, u16), Graves>,
    /// Elements that counted while somebody asked what was touched, for their numbers.
    noted: IndexSet<(u16, u16, Key)>,
    /// When it was loaded: sweeps are counted from there.
    since: u64,
}

/// Virtual time in milliseconds.
fn millis(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000
}

impl Nft {
    fn new(mut set: Ruleset, old: &Nft, now: Instant) -> Nft {
        let program = Program::compile(&set);
        let mut slots = program.slots.clone();
        keep(&set, &program, old, &mut slots);
        for s in set.tables.values_mut().flat_map(|t| t.sets.values_mut()) {
            let own = s.timeout;
            for e in s.elements.iter_mut() {
                let left = e.expires.or(e.timeout).or(own);
                e.expires = left.map(|ms| millis(now).saturating_add(ms));
            }
        }
        Nft {
            set,
            program: Arc::new(program),
            slots,
            elements: BTreeMap::new(),
            objects: BTreeMap::new(),
            graves: BTreeMap::new(),
            noted: IndexSet::new(),
            since: millis(now),
        }
    }

    /// The rules with what was counted, without elements whose time is over.
    fn listed(&self, now: Instant) -> Ruleset {
        let mut set = self.set.clone();
        for (t, table) in set.tables.values_mut().enumerate() {
            let rules = self.program.tables.get(t).map(|t| &t.chains);
            for (c, chain) in table.chains.values_mut().enumerate() {
                let rules = rules.and_then(|r| r.get(c)).into_iter().flatten();
                for (rule, compiled) in chain.rules.iter_mut().zip(rules) {
                    for (s, p) in rule.stmts.iter_mut().zip(&compiled.stmts) {
                        if let (Stmt::State(s), program::PStmt::State(slot, _)) = (s, p)
                            && let Some(slot) = self.slots.get(*slot as usize)
                        {
                            slot.write(s, now);
                        }
                    }
                }
            }
            for o in table.objects.values_mut() {
                if let ObjectBody::Quota(q) = &mut o.body {
                    q.used = q.used.min(q.bytes);
                }
            }
            for (s, set) in table.sets.values_mut().enumerate() {
                set.elements
                    .retain(|e| e.expires.is_none_or(|end| end > millis(now)));
                let types: Vec<_> = set.elements.types().to_vec();
                for e in set.elements.iter_mut() {
                    e.expires = e.expires.map(|end| end - millis(now));
                    let key = run::key_of(&e.key, &types);
                    let slots = self.elements.get(&(t as u16, s as u16, key));
                    for (state, slot) in e.state.iter_mut().zip(slots.into_iter().flatten()) {
                        slot.write(state, now);
                    }
                }
            }
        }
        set
    }

    fn base_chains(&self) -> impl Iterator<Item = (ChainRef, &Table, &Chain, &Base)> {
        let tables = self.set.tables.values().enumerate();
        tables.filter(|t| !t.1.dormant).flat_map(|(t, table)| {
            let chains = table.chains.values().enumerate();
            chains.filter_map(move |(c, chain)| {
                let at = ChainRef {
                    table: t as u16,
                    chain: c as u32,
                };
                Some((at, table, chain, chain.base.as_ref()?))
            })
        })
    }

    fn any(&self, family: Family, what: impl FnMut(&Stmt) -> bool) -> bool {
        let tables = self.set.tables.values().filter(|t| sees(t.family, family));
        let rules = tables
            .flat_map(|t| t.chains.values())
            .flat_map(|c| &c.rules);
        rules.flat_map(|r| &r.stmts).any(what)
    }

    /// Whether a rule makes the kernel track connections (the expressions that call `nf_ct_netns_get`).
    pub(in crate::nf) fn tracks(&self, family: Family) -> bool {
        self.any(family, |s| tracks(s, family))
    }

    /// Whether a rule makes the kernel put fragments together (`nf_defrag_ipv4_enable`).
    pub(in crate::nf) fn defragments(&self, family: Family) -> bool {
        self.any(family, |s| matches!(s, Stmt::Tproxy(_)))
    }

    /// Whether a rule turns accounting on (`nft_ct_get_init`).
    pub(in crate::nf) fn accounts(&self) -> bool {
        let asks = |s: &Stmt| {
            has(s, &|e| {
                matches!(
                    e,
                    Expr::Ct(CtKey::Bytes | CtKey::Packets | CtKey::AvgPkt, _)
                )
            })
        };
        let tables = self.set.tables.values();
        let rules = tables
            .flat_map(|t| t.chains.values())
            .flat_map(|c| &c.rules);
        rules.flat_map(|r| &r.stmts).any(asks)
    }

    /// Base chains that a family's packets meet anywhere, in the order in which they were made.
    pub(in crate::nf) fn based(&self, family: Family) -> impl Iterator<Item = ChainName> {
        self.base_chains()
            .filter(move |(_, t, _, b)| sees(t.family, family) && hook_of(b.hook).is_some())
            .map(|(_, t, c, _)| (t.family, Arc::clone(&t.name), Arc::clone(&c.name)))
    }

    /// Base chains that a family's packets meet at a hook: place, names, priority, type.
    pub(in crate::nf) fn at(
        &self,
        family: Family,
        hook: Hook,
    ) -> impl Iterator<Item = (ChainRef, ChainName, i32, ChainType)> {
        self.base_chains()
            .filter(move |(_, t, _, b)| sees(t.family, family) && hook_of(b.hook) == Some(hook))
            .map(|(at, t, c, b)| {
                let name = (t.family, Arc::clone(&t.name), Arc::clone(&c.name));
                (at, name, b.priority, b.kind)
            })
    }
}

/// State of rules that stayed: those with the same handle and text.
fn keep(set: &Ruleset, program: &Program, old: &Nft, slots: &mut [Slot]) {
    let places = |set: &Ruleset, program: &Program| {
        let mut all = BTreeMap::new();
        for (table, p) in set.tables.values().zip(&program.tables) {
            for (chain, rules) in table.chains.values().zip(&p.chains) {
                for (rule, compiled) in chain.rules.iter().zip(rules) {
                    if rule.handle != 0 {
                        let key = (table.family, Arc::clone(&table.name), rule.handle);
                        all.insert(key, compiled.slots);
                    }
                }
            }
        }
        all
    };
    let before = places(&old.set, &old.program);
    for (key, (from, to)) in places(set, program) {
        let Some((was, end)) = before.get(&key).copied() else {
            continue;
        };
        if end - was != to - from {
            continue;
        }
        for (new, old_at) in (from..to).zip(was..end) {
            if let (Some(new), Some(old)) =
                (slots.get_mut(new as usize), old.slots.get(old_at as usize))
                && core::mem::discriminant(new) == core::mem::discriminant(old)
                && !new.is_listed()
            {
                *new = old.clone();
            }
        }
    }
}

fn sees(table: NftFamily, family: Family) -> bool {
    match table {
        NftFamily::Inet => true,
        NftFamily::Ip => family == Family::V4,
        NftFamily::Ip6 => family == Family::V6,
        NftFamily::Arp | NftFamily::Bridge | NftFamily::Netdev => false,
    }
}

fn hook_of(h: HookName) -> Option<Hook> {
    Some(match h {
        HookName::Prerouting => Hook::Prerouting,
        HookName::Input => Hook::Input,
        HookName::Forward => Hook::Forward,
        HookName::Output => Hook::Output,
        HookName::Postrouting => Hook::Postrouting,
        HookName::Ingress | HookName::Egress => return None,
    })
}

fn tracks(s: &Stmt, family: Family) -> bool {
    let v4 = family == Family::V4;
    match s {
        // `nft_nat_init` asks for the statement's own family, in a table of both too.
        Stmt::Nat(Nat {
            family: Some(own), ..
        }) if (*own == IpFamily::Ip) != v4 => false,
        Stmt::Nat(_) | Stmt::Flow(_) | Stmt::Synproxy(_) => true,
        Stmt::State(Stateful::CtCount { .. }) => true,
        Stmt::Set(Expr::Ct(..), _) => true,
        s => has(s, &|e| matches!(e, Expr::Ct(..))),
    }
}

/// Whether an expression of a statement is one of these.
fn has(s: &Stmt, what: &dyn Fn(&Expr) -> bool) -> bool {
    let is = |e: &Expr| any_in(e, what);
    match s {
        Stmt::Match { left, right, .. } => is(left) || is(right),
        Stmt::Vmap(a, b) | Stmt::Set(a, b) => is(a) || is(b),
        Stmt::Object(_, e) => is(e),
        Stmt::Nat(Nat { addr, port, .. }) => addr.iter().chain(port).any(is),
        Stmt::SetOp(op) => is(&op.key) || op.data.as_ref().is_some_and(is),
        Stmt::Dup(a, b) => is(a) || b.as_ref().is_some_and(is),
        _ => false,
    }
}

impl Netfilter {
    /// Loads native rules in the place of the former ones; `now` is when elements' times begin. Counters
    /// begin
    /// at what the rules say; tokens of limits stay with the rules that stay (by handle).
    pub fn set_nft(&mut self, set: Ruleset, now: Instant) {
        self.nft = Nft::new(set, &self.nft, now);
        self.settle();
    }

    /// The native rules with their present counters and elements, as `nft list ruleset` prints them.
    pub fn nft_ruleset(&self, now: Instant) -> Ruleset {
        self.nft.listed(now)
    }

    /// The native rules as they run: counters of rules are those they were loaded with.
    pub fn nft(&self) -> &Ruleset {
        &self.nft.set
    }

    /// The table, chain and (but for a policy) rule a native place stands for.
    pub fn nft_place(&self, at: &RuleRef) -> Option<(&Table, &Chain, Option<&Rule>)> {
        let table = self.nft.set.tables.get_index(at.native?.into())?.1;
        let chain = table.chains.get_index(at.chain as usize)?.1;
        Some((table, chain, chain.rules.get(at.rule as usize)))
    }
}

/// Carries a packet through a base chain to its end; copies go their way afterwards.
///
/// `nf` was taken out of `ns` by the walker: `ns.nf` is `None` while this runs.
pub fn run(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    chain: ChainRef,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Verdict {
    run_from(nf, ns, f, at, chain, (false, None), cx, fx)
}

/// Carries a packet through a base chain. With `halts` it stops where a copy goes its way
/// ([`Effect::Halted`]); `from` is where it did.
///
/// `nf` was taken out of `ns` by the walker: `ns.nf` is `None` while this runs.
#[allow(
    clippy::too_many_arguments,
    reason = "the kernel's hook state, skb and private data"
)]
pub fn run_from(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    chain: ChainRef,
    (halts, from): (bool, Option<Halted>),
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Verdict {
    let Some(pkt) = Pkt::native(f, at.family) else {
        return Verdict::Accept;
    };
    let mut nft = core::mem::take(&mut nf.nft);
    let program = Arc::clone(&nft.program);
    let env = Env {
        nf,
        ns,
        at,
        cx,
        fx,
        pkt,
        rule: RuleRef {
            family: at.family,
            backend: Backend::Nft,
            table: TableName::Filter,
            chain: chain.chain,
            rule: 0,
            native: Some(chain.table),
        },
        chance: None,
    };
    let mut walk = Walk::new(env, &mut nft, &program, chain);
    walk.halts = halts;
    let verdict = walk.run(f, from);
    nf.nft = nft;
    verdict
}
