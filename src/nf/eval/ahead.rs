//! The memory that packets of new connections are about to need, asked for ahead and for several at once.
//!
//! A packet to one of many Services comes past a dozen lines of memory that no packet before it has used: its
//! place among the connections, its rule, the chains behind that rule, their rules, conditions and counters.
//! Each of them says where the next is; walked one packet after another, each is waited for. Looked at in
//! steps, many packets a step, they come while others are looked at. Nothing is decided or changed here.
//! Invariant: a wrong guess costs time and nothing else.

use super::load::Live;
use super::program::{Act, PTable};
use crate::base::cpu;
use crate::nf::ct::CtTuple;
use crate::nf::netfilter::{Backend, Netfilter};
use crate::nf::{Family, Hook, TableName};
use crate::wire::Tuple;

/// Rules of a nat table and connections that fit into a processor's own cache: nothing is asked for ahead
/// there.
const SMALL: (usize, usize) = (1 << 13, 1 << 15);
/// Chains that follow a Service's: those of its endpoints, as [`super::lay`] places them.
const BEHIND: usize = 2;
/// Rules that are looked at from a Service's first on.
const RULES: usize = 12;
/// Conditions of those rules.
const TESTS: usize = 24;

/// One packet's way as far as it is guessed.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    table: &'a PTable,
    live: &'a Live,
    /// The chain with an index that every packet is sent to.
    chain: u32,
    found: Found,
}

#[derive(Clone, Copy, Debug)]
enum Found {
    /// The hash of what the index is asked.
    Hash(u64),
    /// A rule by its number in the table.
    Rule(u32),
    /// The chain that it leads to.
    Chain(u32),
    /// That chain's first rule, by its number in the table.
    First(u32),
    /// Nothing further to look for.
    End,
}

/// The line of each of `len` things from `from` on.
fn lines<T>(all: &[T], from: usize, len: usize) {
    let part = all.get(from..all.len().min(from + len)).unwrap_or_default();
    let each = (64 / size_of::<T>().max(1)).max(1);
    part.iter().step_by(each).for_each(cpu::line);
    if let Some(last) = part.last() {
        cpu::line(last);
    }
}

impl Netfilter {
    /// Whether there is so much that a packet waits for memory.
    pub fn is_large(&self) -> bool {
        let rules = [Family::V4, Family::V6].into_iter().flat_map(|f| {
            let loaded = Backend::ALL.iter().filter_map(move |b| self.loaded(f, *b));
            loaded.filter_map(|l| l.program.as_deref()?.table(TableName::Nat))
        });
        self.ct.count() > SMALL.1 || rules.into_iter().any(|t| t.rules.len() > SMALL.0)
    }

    /// The first step for a packet that comes in: its connection's place, and what the nat table's index is
    /// asked.
    pub fn look_ahead(&self, t: &Tuple) -> Option<Ahead<'_>> {
        let tuple = CtTuple {
            proto: t.proto,
            src: t.src,
            dst: t.dst,
            sport: t.sport,
            dport: t.dport,
        };
        if self.ct.count() > SMALL.1 {
            self.ct.ahead(&tuple);
        }
        let family = Family::of(t.dst);
        let loaded = Backend::ALL.iter().filter_map(|b| self.loaded(family, *b));
        loaded.into_iter().find_map(|l| {
            let table = l.program.as_deref()?.table(TableName::Nat)?;
            let chain = indexed(table).filter(|_| table.rules.len() > SMALL.0)?;
            let index = table.chains.get(chain as usize)?.index.as_ref()?;
            let hash = index.ahead(t.dst, t.proto, t.dport)?;
            Some(Ahead {
                table,
                live: &l.live,
                chain,
                found: Found::Hash(hash),
            })
        })
    }
}

/// The first chain with an index that PREROUTING sends every packet to.
fn indexed(table: &PTable) -> Option<u32> {
    let entry = table.entry[Hook::Prerouting as usize]?;
    let chain = table.chains.get(entry as usize)?;
    let mut rules = (0..chain.len).filter_map(|r| table.rule(chain, r));
    rules.find_map(|r| match r.act {
        Act::Jump(to) if r.from == r.to => {
            let to_chain = table.chains.get(to as usize)?;
            to_chain.index.as_ref().map(|_| to)
        }
        _ => None,
    })
}

impl Ahead<'_> {
    /// The next step: looks at what the last one asked for and asks for what it leads to. False at the end.
    pub fn step(&mut self) -> bool {
        self.found = self.next().unwrap_or(Found::End);
        !matches!(self.found, Found::End)
    }

    fn next(&self) -> Option<Found> {
        let t = self.table;
        match self.found {
            Found::Hash(hash) => {
                let chain = t.chains.get(self.chain as usize)?;
                let rule = chain.base + chain.index.as_ref()?.first(hash)?;
                cpu::line(t.rules.get(rule as usize)?);
                self.counters(rule, 1);
                Some(Found::Rule(rule))
            }
            Found::Rule(rule) => {
                let rule = t.rules.get(rule as usize)?;
                let tests = rule.to.saturating_sub(rule.from) as usize;
                lines(&t.tests, rule.from as usize, tests);
                let (Act::Jump(to) | Act::Goto(to)) = rule.act else {
                    return None;
                };
                lines(&t.chains, to as usize, 1 + BEHIND);
                Some(Found::Chain(to))
            }
            Found::Chain(chain) => {
                let first = t.chains.get(chain as usize)?.base;
                lines(&t.rules, first as usize, RULES);
                self.counters(first, RULES);
                Some(Found::First(first))
            }
            Found::First(first) => {
                let rules = t.rules.get(first as usize..)?;
                lines(&t.tests, rules.first()?.from as usize, TESTS);
                let mapped = rules.iter().take(RULES).filter_map(|r| match r.act {
                    Act::Nat(n) => t.ranges.get(n as usize),
                    _ => None,
                });
                mapped.for_each(cpu::line);
                None
            }
            Found::End => None,
        }
    }

    fn counters(&self, from: u32, len: usize) {
        let all = &self.live.counters[TableName::Nat as usize];
        lines(all, from as usize, len);
    }
}
