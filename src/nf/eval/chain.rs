//! The interpreter: one packet through one built-in chain and the chains it calls.
//!
//! As `ipt_do_table`: header first, extensions in written order up to the first that fails, then the
//! counter, then the target. Invariant: ends, because chains are free of loops ([`super::program`]) and
//! every step goes on in its chain or down.

use super::index::{Candidates, Index, has_effect};
use super::load::Live;
use super::packet::Pkt;
use super::program::{Act, Cond, PChain, PRule, PTable};
use super::state::Slot;
use super::{At, Cx, Effect, NfStep, RuleRef, Verdict, matches_ipvs, targets};
use crate::base::{DevId, limits};
use crate::net::NetNs;
use crate::nf::netfilter::{Backend, Netfilter};
use crate::nf::record::{self, CountAt, CounterAt};
use crate::nf::{Counters, Hook, Match, Policy, TableName, Target};
use crate::wire::Frame;
use std::sync::Arc;

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
    let linear = nf.linear;
    let Some(loaded) = nf.loaded_mut(at.family, backend) else {
        return Verdict::Accept;
    };
    let program = Arc::clone(&loaded.program);
    let entry = program
        .table(table)
        .and_then(|t| Some((t, t.entry[at.hook as usize]?)));
    let pkt = from.as_ref().map(|p| p.pkt);
    let (Some((t, chain)), Some(pkt)) = (entry, pkt.or_else(|| Pkt::of(f, at.family))) else {
        return Verdict::Accept;
    };
    let mut live = core::mem::take(&mut loaded.live);
    let rule = RuleRef {
        family: at.family,
        backend,
        table,
        chain,
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
        live: &mut live,
        n: table as usize,
        chain,
        told: 0,
        linear: linear || !Index::fits(f, &pkt),
    };
    let verdict = walk.run(f, from);
    if let Some(loaded) = nf.loaded_mut(at.family, backend) {
        loaded.live = live;
    }
    verdict
}

/// The next rule of a chain to ask.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack: no allocation"
)]
enum Cursor<'p> {
    Linear(u32),
    Indexed(Candidates<'p>),
}

impl Cursor<'_> {
    fn next(&mut self, chain: &PChain) -> Option<u32> {
        let next = match self {
            Cursor::Indexed(c) => return c.next(),
            Cursor::Linear(next) => next,
        };
        ((*next as usize) < chain.rules.len()).then(|| {
            *next += 1;
            *next - 1
        })
    }
}

struct Walk<'p, 'a, 'c> {
    table: &'p PTable,
    env: Env<'a, 'c>,
    live: &'a mut Live,
    n: usize,
    chain: u32,
    /// Rules of this chain that need not be told any more.
    told: u32,
    linear: bool,
}

impl<'p> Walk<'p, '_, '_> {
    fn here(&self) -> Option<&'p PChain> {
        self.table.chains.get(self.chain as usize)
    }

    fn cursor(&self, from: u32, f: &Frame) -> Cursor<'p> {
        match self.here().and_then(|c| c.index.as_ref()) {
            Some(index) if !self.linear => {
                let env = &self.env;
                Cursor::Indexed(index.candidates(from, env.ns, f, &env.pkt, env.at))
            }
            _ => Cursor::Linear(from),
        }
    }

    fn run(&mut self, f: &mut Frame, from: Option<Paused>) -> Verdict {
        self.live.stack.clear();
        let (base, mut first) = (self.chain, 0);
        if let Some(p) = from {
            (self.chain, self.told, first) = (p.chain, p.told, p.next);
            self.live.stack = p.stack;
        }
        let (mut cursor, mut mark) = (self.cursor(first, f), f.mark);
        loop {
            let Some(chain) = self.here() else {
                return Verdict::Accept;
            };
            let Some(r) = cursor.next(chain) else {
                let Some(next) = self.back() else {
                    return self.policy(base, chain.rules.len() as u32);
                };
                cursor = self.cursor(next, f);
                continue;
            };
            let Some(rule) = chain.rules.get(r as usize) else {
                continue;
            };
            (self.env.rule.chain, self.env.rule.rule) = (self.chain, r);
            let matched = self.ask(rule, f);
            if f.mark != mark {
                // The index was asked for the mark the packet had before.
                (cursor, mark) = (self.cursor(r + 1, f), f.mark);
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
                    self.count(chain.base + r);
                    self.tell(Verdict::Accept);
                    match self.act(rule, act, f) {
                        Next::Rule if f.mark == mark => {}
                        Next::Rule => (cursor, mark) = (self.cursor(r + 1, f), f.mark),
                        Next::Chain(from) => cursor = self.cursor(from, f),
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
        let conds = self.table.conds(rule);
        let (mut unknown, slots) = (false, &mut self.live.slots[self.n]);
        self.env.chance = None;
        for (i, cond) in conds.iter().enumerate() {
            match self.env.ask(f, cond, slots) {
                Answer::Yes => {}
                Answer::Unknown => match self.env.cx.assume.get(&self.env.rule) {
                    Some(true) => {}
                    Some(false) => return Answer::No,
                    // If what follows fails anyway, it makes no difference; but nothing may change.
                    None if conds[i + 1..]
                        .iter()
                        .any(|c| has_effect(&c.m) && !is_unknown(c)) =>
                    {
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
        Some(assumed && !self.table.conds(rule).iter().any(is_unknown))
    }

    fn act(&mut self, rule: &PRule, act: &'p Act, f: &mut Frame) -> Next {
        let at = self.env.rule;
        match act {
            Act::None => Next::Rule,
            Act::Accept => Next::Done(Verdict::Accept),
            Act::Drop => Next::Done(Verdict::Drop(at)),
            Act::Return => self.back().map_or(Next::Policy, Next::Chain),
            Act::Goto(to) => self.enter(*to),
            Act::Jump(to) => {
                if self.live.stack.len() >= limits::NF_CALL_DEPTH_MAX as usize {
                    return Next::Done(Verdict::Drop(at));
                }
                self.live.stack.push((self.chain, at.rule + 1, at.rule + 1));
                self.enter(*to)
            }
            Act::Unknown if self.assumed(rule) == Some(true) => Next::Rule,
            Act::Unknown => Next::Done(Verdict::Drop(at)),
            Act::Ext(target) => {
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
            stack: self.live.stack.clone(),
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
        let (chain, next, told) = self.live.stack.pop()?;
        (self.chain, self.told) = (chain, told);
        Some(next)
    }

    /// Counts the packet; iptables-nft gives every rule a counter as well.
    fn count(&mut self, id: u32) {
        let counters: Option<&mut Counters> = self.live.counters[self.n].get_mut(id as usize);
        if let Some(c) = counters {
            c.packets += 1;
            c.bytes += self.env.pkt.len as u64;
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
            chain: base,
            rule: chain.rules.len() as u32,
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

fn is_unknown(c: &Cond) -> bool {
    matches!(&c.m, Match::Unknown { name, .. } if name != matches_ipvs::NAME)
}

impl Env<'_, '_> {
    /// Asks one match.
    fn ask(&mut self, f: &mut Frame, cond: &Cond, slots: &mut [Slot]) -> Answer {
        if self.nf.record.is_some() && !record::steady(&cond.m, &self.nf.sets) {
            self.varies();
        }
        let slot = slots.get_mut(cond.slot as usize);
        match &cond.m {
            Match::Source(is) => (is.value.contains(self.pkt.src) != is.not).into(),
            Match::Destination(is) => (is.value.contains(self.pkt.dst) != is.not).into(),
            Match::InInterface(is) => (is.value.matches(self.in_dev()) != is.not).into(),
            Match::OutInterface(is) => (is.value.matches(self.out_dev()) != is.not).into(),
            Match::Protocol(is) => self.protocol(is),
            Match::Fragment(is) => ((self.pkt.fragoff != 0) != is.not).into(),
            Match::Tcp(m) => self.tcp(f, m),
            Match::Udp(m) => self.udp(f, m),
            Match::Sctp(m) => self.sctp(f, m),
            Match::Icmp(m) => self.icmp(f, m.kind.map(|k| (k.not, k.value.kind, k.value.code))),
            Match::Icmp6(m) => self.icmp(f, m.kind.map(|k| (k.not, k.value.kind, k.value.code))),
            Match::Multiport(m) => self.multiport(f, m),
            Match::AddrType(m) => self.addrtype(m).into(),
            Match::Conntrack(m) => self.conntrack(f, m).into(),
            Match::State(m) => self.state(f, m).into(),
            Match::Comment(_) => Answer::Yes,
            Match::Mark(m) => self.mark(f, m).into(),
            Match::Connmark(m) => self.connmark(f, m).into(),
            Match::Set(m) => self.set(f, m),
            Match::Statistic(m) => self.statistic(f, m, slot),
            Match::Recent(m) => self.recent(f, m),
            Match::Limit(m) => self.limit(m, slot).into(),
            Match::Hashlimit(m) => self.hashlimit(f, m),
            Match::Physdev(m) => self.physdev(f, m).into(),
            Match::Mac(m) => self.mac(f, m).into(),
            Match::IpRange(m) => self.iprange(m).into(),
            Match::Rpfilter(m) => self.rpfilter(f, m).into(),
            Match::Socket(m) => self.socket(f, m).into(),
            Match::Owner(m) => self.owner(f, m).into(),
            Match::Length(m) => self.length(f, m).into(),
            Match::Ttl(m) => self.ttl(f, (m.eq, m.lt, m.gt)).into(),
            Match::Hl(m) => self.ttl(f, (m.eq, m.lt, m.gt)).into(),
            Match::Tos(m) => self.tos(f, m).into(),
            Match::Dscp(m) => self.dscp(f, m).into(),
            Match::U32(m) => self.u32(f, m).into(),
            Match::String(m) => self.string(f, m).into(),
            Match::Time(m) => self.time(m).into(),
            Match::Pkttype(m) => self.pkttype(f, m).into(),
            Match::Nfacct(m) => self.nfacct(m).into(),
            Match::Ecn(m) => self.ecn(f, m).into(),
            Match::Cpu(m) => self.cpu(m).into(),
            Match::Helper(m) => self.helper(f, m).into(),
            Match::Realm(m) => self.realm(m).into(),
            Match::Connlimit(m) => self.connlimit(f, m, slot),
            Match::Connbytes(m) => self.connbytes(f, m).into(),
            Match::Connlabel(m) => self.connlabel(f, m),
            Match::Unknown { name, args } if name == matches_ipvs::NAME => self.ipvs(f, args),
            Match::Unknown { .. } => Answer::Unknown,
        }
    }

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
