//! The interpreter: one packet through one built-in chain and the chains it calls.
//!
//! As `ipt_do_table`: header first, extensions in written order up to the first that fails, then the
//! counter, then the target. Invariant: ends, because chains are free of loops ([`super::program`]) and
//! every step goes on in its chain or down.

use super::ask::is_unknown;
use super::index::{Candidates, Index};
use super::load::Live;
use super::packet::Pkt;
use super::program::{Act, PChain, PRule, PTable, Program, Test};
use super::recall::{Known, Notes, Question};
use super::state::Slot;
use super::{At, Cx, Effect, NfStep, RuleRef, Verdict, targets, targets_nat};
use crate::base::{DevId, limits};
use crate::net::NetNs;
use crate::nf::netfilter::{Backend, Netfilter};
use crate::nf::record::{self, CountAt, CounterAt};
use crate::nf::{Counters, Family, Hook, Policy, TableName, Target};
use crate::wire::Frame;

/// What a match says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::nf) enum Answer {
    Yes,
    No,
    /// The packet is dropped at once (kernel: `par->hotdrop`).
    HotDrop,
    /// The match is not understood.
    Unknown,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// What matches and targets may look at and change, besides the frame.
pub(in crate::nf) struct Env<'a, 'c> {
    pub nf: &'a mut Netfilter,
    pub ns: &'a NetNs,
    pub at: &'a At,
    pub cx: &'a mut Cx<'c>,
    pub fx: &'a mut Vec<Effect>,
    pub pkt: Pkt,
    /// The rule that is asked.
    pub rule: RuleRef,
    /// The chance of a random match of this rule.
    pub chance: Option<u32>,
}

/// A table that stopped behind a rule (`TEE`), for what that rule asked to happen before the next one is
/// asked: where it stopped, what the packet's headers were, and where its jumps return to.
#[derive(Clone, Debug)]
pub struct Paused {
    chain: u32,
    next: u32,
    told: u32,
    stack: Vec<(u32, u32, u32)>,
    pkt: Pkt,
}

/// Runs the built-in chain of `at.hook`, from its beginning or on from where it stopped.
#[allow(clippy::too_many_arguments, reason = "as `super::table`")]
pub(super) fn run(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    (backend, table): (Backend, TableName),
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
    from: Option<Paused>,
) -> Verdict {
    let Some(loaded) = nf.loaded_mut(at.family, backend) else {
        return Verdict::Accept;
    };
    let Some(program) = loaded.program.take() else {
        return Verdict::Accept;
    };
    let verdict = run_program(&program, nf, ns, f, at, (backend, table), cx, fx, from);
    if let Some(loaded) = nf.loaded_mut(at.family, backend) {
        loaded.program = Some(program);
    }
    verdict.unwrap_or(Verdict::Accept)
}

#[allow(clippy::too_many_arguments, reason = "as `super::table`")]
#[inline(always)]
fn run_program(
    program: &Program,
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    (backend, table): (Backend, TableName),
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
    from: Option<Paused>,
) -> Option<Verdict> {
    let t = program.table(table)?;
    let chain = t.entry[at.hook as usize]?;
    let linear = nf.linear;
    let pkt = match &from {
        Some(paused) => paused.pkt,
        None => Pkt::of(f, at.family)?,
    };
    let mut notes = None;
    let question = match &from {
        None => question(nf, backend, f, (at, table), &pkt, cx),
        Some(_) => None,
    };
    if let Some(q) = question {
        match recall(nf, (at.family, backend), &q, f, &pkt) {
            Known::Answer(verdict) => return Some(verdict),
            Known::Again => notes = Some(Notes::default()),
            Known::Nothing => {}
        }
    }
    let loaded = nf.loaded_mut(at.family, backend)?;
    let n = table as usize;
    let live = &mut loaded.live;
    let (counters, slots) = (&mut live.counters[n], &mut live.slots[n]);
    let (counters, slots) = (core::mem::take(counters), core::mem::take(slots));
    let mut stack = core::mem::take(&mut live.stack);
    stack.clear();
    let rule = RuleRef {
        family: at.family,
        backend,
        table,
        chain: t.chains.get(chain as usize).map_or(0, |c| c.number),
        rule: 0,
        native: None,
    };
    let mut walk = Walk {
        table: t,
        env: Env {
            nf,
            ns,
            at,
            cx,
            fx,
            pkt,
            rule,
            chance: None,
        },
        counters,
        slots,
        stack,
        chain,
        told: 0,
        linear: linear || !Index::fits(f, &pkt),
        next: 0,
        found: None,
        names: None,
        notes,
    };
    let verdict = walk.run(f, from);
    let Walk {
        counters,
        slots,
        stack,
        notes,
        ..
    } = walk;
    if let Some(loaded) = nf.loaded_mut(at.family, backend) {
        if let (Some(q), Some(notes)) = (question, notes) {
            loaded.live.recall.keep(q, notes, f.mark, verdict);
        }
        loaded.live.counters[n] = counters;
        loaded.live.slots[n] = slots;
        loaded.live.stack = stack;
    }
    Some(verdict)
}

/// The question that a packet asks a table, where answers may be given again: nobody is told of single rules,
/// nothing is assumed of them, and they are asked by their index.
fn question(
    nf: &Netfilter,
    backend: Backend,
    f: &Frame,
    (at, table): (&At, TableName),
    pkt: &Pkt,
    cx: &Cx<'_>,
) -> Option<Question> {
    let state = (nf.recall?, nf.sets_changed);
    if nf.linear || cx.steps.is_some() || !cx.assume.is_empty() {
        return None;
    }
    let loaded = nf.loaded(at.family, backend)?;
    if !loaded.live.recall.is_worth(table, at.hook) {
        return None;
    }
    Question::of(state, &nf.ct, f, (at, table), pkt)
}

/// Treats a packet as the answer to its question says, if there is one.
fn recall(
    nf: &mut Netfilter,
    (family, backend): (Family, Backend),
    q: &Question,
    f: &mut Frame,
    pkt: &Pkt,
) -> Known<Verdict> {
    let rules = match family {
        Family::V4 => &mut nf.v4,
        Family::V6 => &mut nf.v6,
    };
    let Some(loaded) = rules.loaded[backend as usize].as_deref_mut() else {
        return Known::Nothing;
    };
    let Live {
        counters, recall, ..
    } = &mut loaded.live;
    let known = recall.ask(q);
    let Known::Answer(answer) = known else {
        return known.map(|a| a.verdict);
    };
    let table = q.table();
    let counters = &mut counters[table as usize];
    for id in &answer.counted {
        if let Some(c) = counters.get_mut(*id as usize) {
            c.packets += 1;
            c.bytes += pkt.len as u64;
        }
    }
    if let Some(r) = &mut nf.record {
        let at = |id: &u32| CounterAt {
            family,
            backend,
            table,
            id: *id,
        };
        let counted = answer
            .counted
            .iter()
            .map(|id| (CountAt::Table(at(id)), pkt.len));
        r.counters.extend(counted);
    }
    f.mark = answer.mark;
    Known::Answer(answer.verdict)
}

struct Walk<'p, 'a, 'c> {
    table: &'p PTable,
    env: Env<'a, 'c>,
    /// What its rules counted, and what their matches remember ([`super::load::Live`]).
    counters: Vec<Counters>,
    slots: Vec<Slot>,
    /// Where jumps return to: chain, next rule, rules told so far.
    stack: Vec<(u32, u32, u32)>,
    /// By its place.
    chain: u32,
    /// Rules of this chain that need not be told any more.
    told: u32,
    linear: bool,
    /// The rule to ask next, where the chain is asked rule by rule.
    next: u32,
    /// Those to ask, where it is not.
    found: Option<Candidates<'p>>,
    /// Names of the input and the output device, for rules in their short form; once one asked for them.
    names: Option<[u128; 2]>,
    /// Taken down for packets that are alike.
    notes: Option<Notes>,
}

impl<'p> Walk<'p, '_, '_> {
    fn here(&self) -> Option<&'p PChain> {
        self.table.chains.get(self.chain as usize)
    }

    /// Goes on in the chain at hand with a rule.
    fn go_on(&mut self, from: u32, f: &Frame) {
        self.next = from;
        self.found = match self.here().and_then(|c| c.index.as_ref()) {
            Some(index) if !self.linear => {
                let env = &self.env;
                Some(index.candidates(from, env.ns, f, &env.pkt, env.at))
            }
            _ => None,
        };
    }

    /// The next rule of the chain to ask.
    #[inline(always)]
    fn next(&mut self, chain: &PChain) -> Option<u32> {
        if let Some(found) = &mut self.found {
            return found.next();
        }
        (self.next < chain.len).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn run(&mut self, f: &mut Frame, from: Option<Paused>) -> Verdict {
        let (base, mut first) = (self.chain, 0);
        if let Some(p) = from {
            (self.chain, self.told, first) = (p.chain, p.told, p.next);
            self.stack = p.stack;
        }
        let mut mark = f.mark;
        self.go_on(first, f);
        loop {
            let Some(chain) = self.here() else {
                return Verdict::Accept;
            };
            let Some(r) = self.next(chain) else {
                let Some(next) = self.back() else {
                    return self.policy(base, chain.len);
                };
                self.go_on(next, f);
                continue;
            };
            let Some(rule) = self.table.rule(chain, r) else {
                continue;
            };
            (self.env.rule.chain, self.env.rule.rule) = (chain.number, r);
            if let Some(notes) = &mut self.notes {
                notes.rule();
            }
            let matched = self.ask(rule, f);
            if f.mark != mark {
                // The index was asked for the mark the packet had before.
                self.go_on(r + 1, f);
                mark = f.mark;
            }
            match matched {
                Answer::Yes => {}
                Answer::No => continue,
                Answer::HotDrop => return self.tell(Verdict::Drop(self.env.rule)),
                Answer::Unknown => return self.tell(Verdict::Depends(self.env.rule)),
            }
            match &rule.act {
                Act::Unknown if self.assumed(rule).is_none() => {
                    return self.tell(Verdict::Depends(self.env.rule));
                }
                act => {
                    if let Some(notes) = &mut self.notes {
                        notes.act(self.table, *act);
                    }
                    self.count(chain.base + r);
                    self.tell(Verdict::Accept);
                    match self.act(rule, *act, f) {
                        Next::Rule if f.mark == mark => {}
                        Next::Rule => {
                            self.go_on(r + 1, f);
                            mark = f.mark;
                        }
                        Next::Chain(from) => self.go_on(from, f),
                        Next::Policy => return self.policy(base, self.told),
                        Next::Pause => return self.pause(r + 1),
                        Next::Done(verdict) => return verdict,
                    }
                }
            }
        }
    }

    /// Asks a rule's conditions in order.
    fn ask(&mut self, rule: &PRule, f: &mut Frame) -> Answer {
        let (table, mut unknown) = (self.table, false);
        let tests = table.tests(rule);
        self.env.chance = None;
        for (i, test) in tests.iter().enumerate() {
            if let Some(notes) = &mut self.notes {
                notes.test(table, test, &self.env.nf.sets);
            }
            let answer = match test {
                Test::Cond(n) => match table.conds.get(*n as usize) {
                    Some(cond) => self.env.ask(f, cond, &mut self.slots),
                    None => Answer::Unknown,
                },
                short => self.env.short(f, short, (table, &mut self.names)),
            };
            match answer {
                Answer::Yes => {}
                Answer::Unknown => match self.env.cx.assume.get(&self.env.rule) {
                    Some(true) => {}
                    Some(false) => return Answer::No,
                    // If what follows fails anyway, it makes no difference; but nothing may change.
                    None if tests[i + 1..].iter().any(|t| table.has_effect(t)) => {
                        return Answer::Unknown;
                    }
                    None => unknown = true,
                },
                other => return other,
            }
        }
        if unknown {
            Answer::Unknown
        } else {
            Answer::Yes
        }
    }

    /// For a rule whose target is not understood: whether the packet goes on, if that is assumed.
    fn assumed(&self, rule: &PRule) -> Option<bool> {
        let assumed = *self.env.cx.assume.get(&self.env.rule)?;
        Some(assumed && !self.table.conds(rule).any(is_unknown))
    }

    fn act(&mut self, rule: &PRule, act: Act, f: &mut Frame) -> Next {
        let at = self.env.rule;
        match act {
            Act::None => Next::Rule,
            Act::Accept => Next::Done(Verdict::Accept),
            Act::Drop => Next::Done(Verdict::Drop(at)),
            Act::Return => self.back().map_or(Next::Policy, Next::Chain),
            Act::Goto(to) => self.enter(to),
            Act::Jump(to) => {
                if self.stack.len() >= limits::NF_CALL_DEPTH_MAX as usize {
                    return Next::Done(Verdict::Drop(at));
                }
                self.stack.push((self.chain, at.rule + 1, at.rule + 1));
                self.enter(to)
            }
            Act::Unknown if self.assumed(rule) == Some(true) => Next::Rule,
            Act::Unknown => Next::Done(Verdict::Drop(at)),
            Act::Nat(n) => match self.table.ranges.get(n as usize) {
                Some(to) => Next::Done(targets_nat::map(&mut self.env, f, to)),
                None => Next::Rule,
            },
            Act::Ext(n) => {
                let Some(target) = self.table.targets.get(n as usize) else {
                    return Next::Rule;
                };
                if !record::steady_target(target) {
                    self.env.varies();
                }
                match targets::run(&mut self.env, f, target) {
                    Some(verdict) => Next::Done(verdict),
                    None if matches!(target, Target::Tee(_)) => Next::Pause,
                    None => Next::Rule,
                }
            }
        }
    }

    /// Stops in front of a rule; the verdict means nothing yet.
    fn pause(&mut self, next: u32) -> Verdict {
        self.env.fx.push(Effect::Paused(Box::new(Paused {
            chain: self.chain,
            next,
            told: self.told,
            stack: self.stack.clone(),
            pkt: self.env.pkt,
        })));
        Verdict::Accept
    }

    fn enter(&mut self, chain: u32) -> Next {
        (self.chain, self.told) = (chain, 0);
        Next::Chain(0)
    }

    /// Back to the chain that jumped here.
    fn back(&mut self) -> Option<u32> {
        let (chain, next, told) = self.stack.pop()?;
        (self.chain, self.told) = (chain, told);
        Some(next)
    }

    /// Counts the packet; iptables-nft gives every rule a counter as well.
    fn count(&mut self, id: u32) {
        if let Some(c) = self.counters.get_mut(id as usize) {
            c.packets += 1;
            c.bytes += self.env.pkt.len as u64;
        }
        if let Some(notes) = &mut self.notes {
            notes.counted.push(id);
        }
        let RuleRef {
            family,
            backend,
            table,
            ..
        } = self.env.rule;
        if let Some(r) = &mut self.env.nf.record {
            let at = CounterAt {
                family,
                backend,
                table,
                id,
            };
            r.counters.push((CountAt::Table(at), self.env.pkt.len));
        }
    }

    /// Tells the rule at hand and gives the verdict back.
    fn tell(&mut self, verdict: Verdict) -> Verdict {
        let rule = self.env.rule;
        let skipped = rule.rule.saturating_sub(self.told);
        self.told = rule.rule + 1;
        if let Some(steps) = &mut self.env.cx.steps {
            let chance = self.env.chance;
            steps.push(NfStep::Rule {
                rule,
                skipped,
                chance,
            });
        }
        verdict
    }

    /// The built-in chain's last word; `end` is where it was left.
    fn policy(&mut self, base: u32, end: u32) -> Verdict {
        let Some(chain) = self.table.chains.get(base as usize) else {
            return Verdict::Accept;
        };
        let rule = RuleRef {
            chain: chain.number,
            rule: chain.len,
            ..self.env.rule
        };
        let skipped = match self.chain == base {
            true => end.saturating_sub(self.told),
            false => 0,
        };
        if let Some(steps) = &mut self.env.cx.steps {
            steps.push(NfStep::Policy { rule, skipped });
        }
        if chain.counted {
            self.count(chain.base + rule.rule);
        }
        match chain.policy {
            Policy::Accept => Verdict::Accept,
            Policy::Drop => Verdict::Drop(rule),
        }
    }
}

/// How it goes on after a rule has acted.
enum Next {
    /// With the next rule.
    Rule,
    /// In another chain, from a rule on.
    Chain(u32),
    /// With the built-in chain's policy.
    Policy,
    /// With the next rule, but not at once.
    Pause,
    Done(Verdict),
}

impl Env<'_, '_> {
    /// Notes for whoever compiles that the rule at hand does not answer by the flow alone.
    pub(in crate::nf) fn varies(&mut self) {
        let rule = self.rule;
        if let Some(r) = &mut self.nf.record {
            r.varies.get_or_insert(rule);
        }
    }

    /// Name of the input device; empty where the hook has none (`state->in` is NULL behind routing).
    pub fn in_dev(&self) -> &str {
        name(self.ns, input(self.at))
    }

    /// Name of the output device, empty where there is none yet.
    pub fn out_dev(&self) -> &str {
        name(self.ns, self.at.output)
    }
}

/// The input device that rules see: POSTROUTING has none, though the walker knows it.
pub(in crate::nf) fn input(at: &At) -> Option<DevId> {
    at.input.filter(|_| at.hook != Hook::Postrouting)
}

pub(in crate::nf) fn name(ns: &NetNs, dev: Option<DevId>) -> &str {
    dev.map_or("", |d| ns.dev_name(d))
}
