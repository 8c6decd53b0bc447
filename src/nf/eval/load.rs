//! Rule sets into and out of a namespace: compiled on the way in, with live counters on the way out.
//!
//! What the tools refuse of a whole rule set is [`check`]; loading takes everything and lets what cannot be
//! followed behave as not understood. Invariant: after a load `ops` hold exactly what the rule sets need.

use super::program::{PTable, Program};
use super::recall::Recall;
use super::recent::{list_name, ring_size};
use super::state::Slot;
use super::{RuleRef, State};
use crate::base::Finding;
use crate::base::Instant;
use crate::nf::hook::NatChain;
use crate::nf::hook::{self, HookOp, OpKind};
use crate::nf::netfilter::{Backend, Netfilter, Registered, Rules};
use crate::nf::nft::eval::link::LinkOps;
use crate::nf::nft::model::ChainType;
use crate::nf::record::CountAt;
use crate::nf::{Chain, Counters, Family, Hook, Match, Rule, RuleSet, Table, TableName, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What changes while rules run, by table.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// Of every rule, and behind a chain's rules its policy's.
    pub counters: [Vec<Counters>; 5],
    /// State of the matches that have their own.
    pub slots: [Vec<Slot>; 5],
    /// Where jumps return to: chain, next rule, rules told so far. Kept to be used again.
    pub stack: Vec<(u32, u32, u32)>,
    /// What was answered before.
    pub recall: Recall,
}

/// A rule set that runs.
#[derive(Clone, Debug)]
pub struct Loaded {
    set: Arc<RuleSet>,
    /// Sets that its rules refer to, once for each time.
    held: Vec<String>,
    /// `None` only while it is being run.
    pub(super) program: Option<Arc<Program>>,
    pub(super) live: Live,
}

impl Loaded {
    fn new(set: RuleSet, backend: Backend, old: Option<&Loaded>) -> (Self, Vec<Finding>) {
        let (program, findings) = Program::compile(&set, backend);
        let mut live = Live::default();
        for (i, table) in program.tables.iter().enumerate() {
            let Some(table) = table else { continue };
            live.slots[i] = table.slots.clone();
            live.counters[i] = vec![Counters::default(); table.rules.len()];
        }
        let mut loaded = Loaded {
            set: Arc::new(set),
            held: Vec::new(),
            program: Some(Arc::new(program)),
            live,
        };
        loaded.take_counters();
        if let Some(old) = old {
            loaded.take_slots(old, backend);
        }
        (loaded, findings)
    }

    fn table(&self, name: TableName) -> Option<&PTable> {
        self.program.as_ref()?.table(name)
    }

    /// The rule set as it was loaded.
    pub(crate) fn set(&self) -> &RuleSet {
        &self.set
    }

    fn take_counters(&mut self) {
        for table in &self.set.tables {
            let program = self.program.as_ref().and_then(|p| p.table(table.name));
            let Some(program) = program else {
                continue;
            };
            let own = &mut self.live.counters[table.name as usize];
            for (number, chain) in table.chains.iter().enumerate() {
                let written = chain.rules.iter().map(|r| r.counters);
                let written = written.chain([chain.counters]);
                let own = own.iter_mut().skip(first(program, number));
                own.zip(written).for_each(|(to, from)| *to = from);
            }
        }
    }

    /// State of rules that a change did not touch. x_tables swaps a whole table and every `checkentry`
    /// begins anew, so only tables that are equal keep it; nf_tables keeps each rule that stays.
    fn take_slots(&mut self, old: &Loaded, backend: Backend) {
        for table in &self.set.tables {
            let Some(before) = old.set.table(table.name) else {
                continue;
            };
            let n = table.name as usize;
            let (to, from) = (&mut self.live.slots[n], &old.live.slots[n]);
            let tables = (table, before);
            let (Some(new), Some(old)) = (&self.program, &old.program) else {
                continue;
            };
            if to.is_empty() || from.is_empty() {
                continue;
            }
            match backend {
                Backend::Legacy if same_rules(table, before) => to.clone_from(from),
                Backend::Legacy => {}
                Backend::Nft => keep_rules((new, old), tables, to, from),
            }
        }
    }

    /// The rule set with what it has counted since.
    fn with_counters(&self) -> RuleSet {
        let mut set = (*self.set).clone();
        for table in &mut set.tables {
            let Some(program) = self.table(table.name) else {
                continue;
            };
            let counters = &self.live.counters[table.name as usize];
            for (number, chain) in table.chains.iter_mut().enumerate() {
                let counters = counters.iter().skip(first(program, number));
                let slots = chain.rules.iter_mut().map(|r| &mut r.counters);
                let slots = slots.chain([&mut chain.counters]);
                slots.zip(counters).for_each(|(to, from)| *to = *from);
            }
        }
        set
    }

    fn names(&self, out: &mut Names) {
        let tables = self.program.iter().flat_map(|p| p.tables.iter().flatten());
        let conds = tables.flat_map(|t| &t.conds);
        for cond in conds {
            match &cond.m {
                Match::Recent(r) => {
                    let ring = out.recent.entry(list_name(r)).or_default();
                    *ring = ring_size(r).max(*ring);
                }
                Match::Hashlimit(h) => out.hashlimit.extend(h.name.as_ref().map(|n| n.0.clone())),
                _ => {}
            }
        }
    }
}

/// The first counter of a chain by its number in the rule set.
fn first(program: &PTable, number: usize) -> usize {
    let chain = program.chain(u32::try_from(number).unwrap_or(u32::MAX));
    chain.map_or(usize::MAX, |c| c.base as usize)
}

/// Lists and tables that some rule still names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// With the longest ring that is asked for.
    pub recent: BTreeMap<String, usize>,
    pub hashlimit: BTreeSet<String>,
}

fn same_rule(a: &Rule, b: &Rule) -> bool {
    a.matches() == b.matches() && a.target() == b.target()
}

fn same_rules(a: &Table, b: &Table) -> bool {
    let chain = |a: &Chain, b: &Chain| {
        let rules = a.rules.iter().zip(&b.rules);
        a.name == b.name
            && a.rules.len() == b.rules.len()
            && rules.into_iter().all(|(a, b)| same_rule(a, b))
    };
    let mut pairs = a.chains.iter().zip(&b.chains);
    a.chains.len() == b.chains.len() && pairs.all(|(a, b)| chain(a, b))
}

/// Slots of the rules that a chain has in common with its former self, from both ends.
fn keep_rules(
    (new, old): (&Program, &Program),
    (table, before): (&Table, &Table),
    to: &mut [Slot],
    from: &[Slot],
) {
    let (Some(new), Some(old)) = (new.table(table.name), old.table(table.name)) else {
        return;
    };
    for (c, chain) in table.chains.iter().enumerate() {
        let Some(o) = before.chains.iter().position(|x| x.name == chain.name) else {
            continue;
        };
        let (now, was) = (&chain.rules, &before.chains[o].rules);
        let short = now.len().min(was.len());
        let head = now
            .iter()
            .zip(was)
            .take_while(|(a, b)| same_rule(a, b))
            .count();
        let ends = now.iter().rev().zip(was.iter().rev());
        let tail = ends
            .take(short - head)
            .take_while(|(a, b)| same_rule(a, b))
            .count();
        let heads = (0..head).map(|i| (i, i));
        let pairs = heads.chain((1..=tail).map(|i| (now.len() - i, was.len() - i)));
        for (n, w) in pairs {
            let rule = |t: &'_ PTable, chain: usize, r: usize| {
                let chain = t.chain(u32::try_from(chain).ok()?)?;
                t.rule(chain, u32::try_from(r).ok()?).copied()
            };
            let (Some(n), Some(w)) = (rule(new, c, n), rule(old, o, w)) else {
                continue;
            };
            for (a, b) in new.conds(&n).zip(old.conds(&w)) {
                if let (Some(to), Some(from)) =
                    (to.get_mut(a.slot as usize), from.get(b.slot as usize))
                {
                    *to = from.clone();
                }
            }
        }
    }
}

/// What the tools refuse of a rule set: loops of chains, jumps to chains that are not there.
pub fn check(set: &RuleSet, backend: Backend) -> Vec<Finding> {
    Program::compile(set, backend).1
}

/// Whether a rule makes the kernel track connections (the extensions that call `nf_ct_netns_get`).
fn tracks(r: &Rule) -> bool {
    let target = match r.target() {
        Target::Connmark(_) | Target::Dnat(_) | Target::Snat(_) | Target::Masquerade(_) => true,
        Target::Redirect(_) | Target::Netmap(_) => true,
        Target::Ct(c) => !c.notrack,
        _ => false,
    };
    target
        || r.matches().iter().any(|m| {
            matches!(
                m,
                Match::Conntrack(_)
                    | Match::State(_)
                    | Match::Connmark(_)
                    | Match::Connbytes(_)
                    | Match::Connlabel(_)
                    | Match::Connlimit(_)
                    | Match::Helper(_)
            )
        })
}

/// Whether a rule turns accounting on (`connbytes_mt_check`).
fn accounts(r: &Rule) -> bool {
    r.matches().iter().any(|m| matches!(m, Match::Connbytes(_)))
}

/// The sets that rules refer to (`ip_set_nfnl_get_byindex` for each reference).
fn set_names(set: &RuleSet) -> Vec<String> {
    let of = |r: &Rule| {
        let asked = r.matches().iter().filter_map(|m| match m {
            Match::Set(s) => s.set.as_ref().map(|s| s.value.name.clone()),
            _ => None,
        });
        let changed = match r.target() {
            Target::Set(t) => [&t.add, &t.del, &t.map].map(|s| s.as_ref().map(|s| s.name.clone())),
            _ => [None, None, None],
        };
        asked
            .chain(changed.into_iter().flatten())
            .collect::<Vec<_>>()
    };
    all_rules(set).flat_map(of).collect()
}

/// Whether a rule makes the kernel put fragments together (`nf_defrag_ipv4_enable`).
fn defragments(r: &Rule) -> bool {
    matches!(r.target(), Target::Tproxy(_))
        || r.matches().iter().any(|m| matches!(m, Match::Socket(_)))
}

fn all_rules(set: &RuleSet) -> impl Iterator<Item = &Rule> {
    let chains = set.tables.iter().flat_map(|t| &t.chains);
    chains.flat_map(|c| &c.rules)
}

impl Netfilter {
    pub(super) fn loaded(&self, family: Family, backend: Backend) -> Option<&Loaded> {
        self.rules(family).loaded[backend as usize].as_deref()
    }

    /// Adds packets that a rule or policy would have counted, had they been walked; the last came at `last`.
    pub fn count(&mut self, at: &CountAt, n: Counters, last: Instant) {
        let at = match at {
            CountAt::Table(at) => at,
            native => return self.nft.count(native, n, last),
        };
        let loaded = self.loaded_mut(at.family, at.backend);
        let table = loaded.map(|l| &mut l.live.counters[at.table as usize]);
        if let Some(c) = table.and_then(|t| t.get_mut(at.id as usize)) {
            c.packets += n.packets;
            c.bytes += n.bytes;
        }
    }

    pub(super) fn loaded_mut(&mut self, family: Family, backend: Backend) -> Option<&mut Loaded> {
        self.rules_mut(family).loaded[backend as usize].as_deref_mut()
    }

    fn rules_mut(&mut self, family: Family) -> &mut Rules {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Loads a rule set in the place of the back end's former one. All of it is taken; what the kernel
    /// would have refused (see [`check`]) is said and behaves as a rule that is not understood.
    ///
    /// Counters begin at what the rules say. What `limit` and `statistic --mode nth` remember survives as
    /// in the kernel, lists of `recent` and `hashlimit` while some rule names them.
    pub fn set_rules(&mut self, family: Family, backend: Backend, set: RuleSet) -> Vec<Finding> {
        let (mut loaded, findings) = Loaded::new(set, backend, self.loaded(family, backend));
        loaded.held = set_names(loaded.set());
        // The new rules come before the old ones go, so that a set in both is never free between them.
        loaded.held.retain(|name| self.sets.hold(name));
        self.release(family, backend);
        self.rules_mut(family).loaded[backend as usize] = Some(Box::new(loaded));
        self.settle();
        findings
    }

    /// Takes a back end's rules away altogether: no hooks of theirs are left.
    pub fn clear_rules(&mut self, family: Family, backend: Backend) {
        self.release(family, backend);
        self.rules_mut(family).loaded[backend as usize] = None;
        self.settle();
    }

    /// Gives up the sets that a back end's rules refer to.
    fn release(&mut self, family: Family, backend: Backend) {
        let old = self.rules_mut(family).loaded[backend as usize].as_mut();
        let held = old.map(|l| core::mem::take(&mut l.held));
        for name in held.into_iter().flatten() {
            self.sets.release(&name);
        }
    }

    /// A back end's rules with their present counters, as the save tools print them.
    pub fn rule_set(&self, family: Family, backend: Backend) -> Option<RuleSet> {
        self.loaded(family, backend).map(Loaded::with_counters)
    }

    /// A rule; its counters are those it was loaded with. `None` for a policy.
    pub fn rule(&self, at: &RuleRef) -> Option<&Rule> {
        self.chain(at)?.rules.get(at.rule as usize)
    }

    /// The name of the chain a rule or policy is in.
    pub fn chain_name(&self, at: &RuleRef) -> Option<&str> {
        Some(self.chain(at)?.name.as_str())
    }

    /// What a rule or policy has counted.
    pub fn counters(&self, at: &RuleRef) -> Option<Counters> {
        let loaded = self.loaded(at.family, at.backend)?;
        let table = loaded.table(at.table)?;
        let id = table.chain(at.chain)?.base + at.rule;
        loaded.live.counters[at.table as usize]
            .get(id as usize)
            .copied()
    }

    fn chain(&self, at: &RuleRef) -> Option<&Chain> {
        let set = self.loaded(at.family, at.backend)?.set();
        set.table(at.table)?.chains.get(at.chain as usize)
    }

    /// Whether any rule of a family makes the kernel track its connections.
    pub fn needs_conntrack(&self, family: Family) -> bool {
        self.family_has(family, tracks) || self.nft.tracks(family)
    }

    fn family_has(&self, family: Family, what: fn(&Rule) -> bool) -> bool {
        let sets = Backend::ALL.iter().filter_map(|b| self.loaded(family, *b));
        sets.flat_map(|l| all_rules(l.set())).any(what)
    }

    /// Brings what depends on all rules up to date.
    pub(in crate::nf) fn settle(&mut self) {
        let mut names = Names::default();
        for family in [Family::V4, Family::V6] {
            for backend in Backend::ALL {
                if let Some(l) = self.loaded(family, backend) {
                    l.names(&mut names);
                }
            }
            self.register(family);
            for hook in Hook::ALL {
                self.ops[family as usize][hook as usize] = self.operations(family, hook);
                self.nat_ops[family as usize][hook as usize] = self.nat_operations(family, hook);
            }
        }
        self.link = LinkOps::of(&self.nft);
        State::keep(&mut self.state, &names);
        let families = [Family::V4, Family::V6];
        if families.iter().any(|f| self.family_has(*f, accounts)) || self.nft.accounts() {
            self.ct.account_all();
        }
    }

    /// The tables of a family in the order in which they were first loaded, and no others.
    fn register(&mut self, family: Family) {
        let rules = self.rules(family);
        let loaded = |b: &Backend| {
            let tables = rules.backend(*b).map(|s| &s.tables).into_iter().flatten();
            tables
                .map(|t| Registered::Table(*b, t.name))
                .collect::<Vec<_>>()
        };
        let mut now: Vec<_> = Backend::ALL.iter().flat_map(loaded).collect();
        let chains = self.nft.based(family);
        now.extend(chains.map(|(f, t, c)| Registered::Chain(f, t, c)));
        let registered = &mut self.rules_mut(family).registered;
        registered.retain(|r| now.contains(r));
        for table in now {
            if !registered.contains(&table) {
                registered.push(table);
            }
        }
    }

    /// IPVS has, or no longer has, its hooks in a family (kernel: `ip_vs_register_hooks`).
    pub fn set_ipvs(&mut self, hooked: [bool; 2]) {
        if self.ipvs != hooked {
            self.ipvs = hooked;
            self.settle();
        }
    }

    /// The chains that a new connection asks at a hook, in order.
    pub fn nat_chains(&self, family: Family, hook: Hook) -> &[NatChain] {
        &self.nat_ops[family as usize][hook as usize]
    }

    /// Those chains: by priority, and as with all hooks of one
    /// priority the one that was registered later comes first (`nf_nat_register_fn`, `nf_hook_entries_grow`).
    fn nat_operations(&self, family: Family, hook: Hook) -> Vec<NatChain> {
        let usual = match hook {
            Hook::Prerouting | Hook::Output | Hook::Forward => hook::NAT_DST,
            Hook::Input | Hook::Postrouting => hook::NAT_SRC,
        };
        let mut all = Vec::new();
        for r in self.rules(family).registered.iter().rev() {
            match r {
                Registered::Table(b, TableName::Nat) => all.push((usual, NatChain::Table(*b))),
                Registered::Table(..) => {}
                Registered::Chain(f, t, c) => {
                    let mut chains = self.nft.at(family, hook);
                    let own = chains.find(|(_, (xf, xt, xc), _, kind)| {
                        *kind == ChainType::Nat && (xf, xt, xc) == (f, t, c)
                    });
                    all.extend(own.map(|(at, _, priority, _)| (priority, NatChain::Nft(at))));
                }
            }
        }
        all.sort_by_key(|c| c.0);
        all.into_iter().map(|c| c.1).collect()
    }

    /// The operations of a hook by priority; of equal ones the table that was loaded later comes first
    /// (`nf_hook_entries_grow`). For a dump of both back ends that is the order of loading them, as no
    /// dump tells which was there first.
    fn operations(&self, family: Family, hook: Hook) -> Vec<HookOp> {
        let mut ops = Vec::new();
        let mut add = |priority, kind| ops.push(HookOp { priority, kind });
        let tracked = self.needs_conntrack(family);
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            // An IPv6 service enables reassembly (`nf_defrag_ipv6_enable` in ip_vs_add_service).
            let services = family == Family::V6 && self.ipvs[family as usize];
            let proxied = self.family_has(family, defragments) || self.nft.defragments(family);
            if tracked || services || proxied {
                add(hook::DEFRAG, OpKind::Defrag);
            }
            if tracked {
                add(hook::CONNTRACK, OpKind::Conntrack);
            }
        }
        if matches!(hook, Hook::Input | Hook::Postrouting) && tracked {
            add(hook::HELPER, OpKind::Helper);
            add(hook::CONFIRM, OpKind::Confirm);
        }
        if self.ipvs[family as usize] {
            let all = hook::IpvsOp::at(hook).iter();
            all.for_each(|(priority, op)| add(*priority, OpKind::Ipvs(*op)));
        }
        let rules = self.rules(family);
        // The first nat chain of all registers all four hooks (`nf_nat_register_fn`).
        let first = rules.registered.iter().position(|r| match r {
            Registered::Table(_, name) => *name == TableName::Nat,
            Registered::Chain(f, t, c) => Hook::ALL.iter().any(|h| {
                let mut all = self.nft.at(family, *h);
                all.any(|(_, (xf, xt, xc), _, k)| {
                    k == ChainType::Nat && (xf, xt, xc) == (*f, t.clone(), c.clone())
                })
            }),
        });
        let nat = match hook {
            Hook::Prerouting | Hook::Output => Some(hook::NAT_DST),
            Hook::Input | Hook::Postrouting => Some(hook::NAT_SRC),
            Hook::Forward => None,
        };
        for (i, r) in rules.registered.iter().enumerate().rev() {
            if first == Some(i)
                && let Some(priority) = nat
            {
                add(priority, OpKind::Nat);
            }
            match r {
                Registered::Table(_, TableName::Nat) => {}
                Registered::Table(backend, name) => {
                    let table = rules.backend(*backend).and_then(|s| s.table(*name));
                    if table.is_some_and(|t| has_hook(t, hook, *backend)) {
                        add(
                            hook::table_priority(*backend, *name),
                            OpKind::Table(*backend, *name),
                        );
                    }
                }
                Registered::Chain(f, t, c) => {
                    let mut chains = self.nft.at(family, hook);
                    let own = chains.find(|(_, (xf, xt, xc), ..)| (xf, xt, xc) == (f, t, c));
                    if let Some((chain, _, priority, kind)) = own
                        && kind != ChainType::Nat
                    {
                        let route = kind == ChainType::Route;
                        add(priority, OpKind::Nft { chain, route });
                    }
                }
            }
        }
        ops.sort_by_key(|o| o.priority);
        ops
    }
}

/// x_tables hangs a whole table in at once, nf_tables every base chain by itself.
fn has_hook(table: &Table, hook: Hook, backend: Backend) -> bool {
    let name = hook.chain();
    let own = table.name.builtin_chains().contains(&name);
    own && (backend == Backend::Legacy || table.chain(name).is_some())
}
