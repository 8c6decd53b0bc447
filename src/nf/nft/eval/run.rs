//! The interpreter: one packet through one base chain and the chains it calls.
//!
//! As `nft_do_chain`: a rule's expressions in order until one ends it (NFT_BREAK) or gives a verdict.
//! Accept and the policy end this base chain only. Invariant: ends, because a packet comes by no more
//! than a bounded number of rules and jumps.

use super::super::elements::{Data, Element, Key, Part};
use super::super::expr::{Op, RelOp, Verdict as NftVerdict};
use super::super::model::{Chain, Policy, Table};
use super::super::types::{Type, Value};
use super::link::Link;
use super::load::scale;
use super::program::{PExpr, PRule, PSet, PStmt, Program, Rhs, data_parts};
use super::state::{Seen, Slot, ask};
use super::steady::judged_flags;
use super::{ChainRef, Nft};
use crate::base::{Instant, limits};
use crate::nf::ct::Dir;
use crate::nf::eval::chain::Env;
use crate::nf::eval::packet::Pkt;
use crate::nf::eval::{Effect, NfStep, Verdict};
use crate::nf::record::CountAt;
use crate::wire::Frame;
use smallvec::SmallVec;

/// Why an expression gave no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It ends the rule.
    Break,
    /// It is not understood.
    Unknown,
}

/// How it goes on after a statement.
pub(super) enum After {
    /// With the next statement.
    Next,
    /// With the next rule: this one does not match.
    Break,
    /// With the next rule: this one is done.
    Rule,
    /// With the next statement, but not before what this one asked for has happened.
    Pause,
    /// With another chain, or this one's end.
    Go(NftVerdict),
    Done(Verdict),
    /// What is not understood decides.
    Unknown,
}

pub(super) type Parts = SmallVec<[Part; 4]>;

/// A chain that stopped behind a statement (`dup`), whose copy goes its way before the next one is asked:
/// where it stopped, what the packet's headers were, and where its jumps return to.
#[derive(Clone, Debug)]
pub struct Halted {
    chain: usize,
    rule: usize,
    stmt: usize,
    told: usize,
    stack: SmallVec<[(usize, usize, usize); 16]>,
    pkt: Pkt,
}

/// One packet on its way through a table.
pub(super) struct Walk<'p, 'a, 'c> {
    pub env: Env<'a, 'c>,
    pub nft: &'a mut Nft,
    pub program: &'p Program,
    /// The table.
    pub t: usize,
    chain: usize,
    stack: SmallVec<[(usize, usize, usize); 16]>,
    /// Rules of this chain that need not be told any more.
    told: usize,
    /// What maps gave in the rule at hand.
    found: Vec<String>,
    /// The chain stands below the IP layer.
    pub link: Option<Link>,
    /// Copies go their way at once.
    pub halts: bool,
    /// Statements of the rule at hand that are done.
    done: usize,
}

impl<'p, 'a, 'c> Walk<'p, 'a, 'c> {
    pub fn new(env: Env<'a, 'c>, nft: &'a mut Nft, program: &'p Program, at: ChainRef) -> Self {
        Walk {
            env,
            nft,
            program,
            t: usize::from(at.table),
            chain: at.chain as usize,
            stack: SmallVec::new(),
            told: 0,
            found: Vec::new(),
            link: None,
            halts: false,
            done: 0,
        }
    }

    /// The table as it is listed.
    pub fn table(&self) -> Option<&Table> {
        self.nft.set.tables.get_index(self.t).map(|t| t.1)
    }

    fn rules(&self, chain: usize) -> &'p [PRule] {
        let table = self.program.tables.get(self.t);
        let chain = table.and_then(|t| t.chains.get(chain));
        chain.map_or(&[], Vec::as_slice)
    }

    /// From the chain's beginning, or on from where it stopped.
    pub fn run(&mut self, f: &mut Frame, from: Option<Halted>) -> Verdict {
        let base = self.chain;
        let mut next = 0;
        if let Some(h) = from {
            (self.chain, self.told, self.stack) = (h.chain, h.told, h.stack);
            (next, self.done, self.env.pkt) = (h.rule, h.stmt, h.pkt);
        }
        // Chains have no loops when nft loaded them; a text might.
        for _ in 0..limits::NFT_STEPS_MAX {
            let Some(rule) = self.rules(self.chain).get(next) else {
                match self.back() {
                    Some(n) => next = n,
                    None => return self.policy(base),
                }
                continue;
            };
            (self.env.rule.chain, self.env.rule.rule) = (self.chain as u32, next as u32);
            next += 1;
            match self.rule(rule, f) {
                After::Break => {}
                After::Pause => {
                    self.halt(next - 1);
                    return Verdict::Accept;
                }
                After::Next | After::Rule => self.tell(),
                After::Done(verdict) => {
                    self.tell();
                    return verdict;
                }
                After::Unknown => {
                    self.env.varies();
                    self.tell();
                    return Verdict::Depends(self.env.rule);
                }
                After::Go(verdict) => {
                    self.tell();
                    match self.go(&verdict, next) {
                        Ok(Some(n)) => next = n,
                        Ok(None) => return self.policy(base),
                        Err(verdict) => return verdict,
                    }
                }
            }
        }
        Verdict::Drop(self.env.rule)
    }

    /// Stops behind a statement; the verdict means nothing yet.
    fn halt(&mut self, rule: usize) {
        let halted = Halted {
            chain: self.chain,
            rule,
            stmt: self.done,
            told: self.told,
            stack: self.stack.clone(),
            pkt: self.env.pkt,
        };
        self.env.fx.push(Effect::Halted(Box::new(halted)));
    }

    /// Where a verdict leads: the next rule, or `None` for the policy.
    fn go(&mut self, verdict: &NftVerdict, next: usize) -> Result<Option<usize>, Verdict> {
        let (to, jump) = match verdict {
            NftVerdict::Accept => return Err(Verdict::Accept),
            NftVerdict::Drop => return Err(Verdict::Drop(self.env.rule)),
            NftVerdict::Continue => return Ok(Some(next)),
            NftVerdict::Return => return Ok(self.back()),
            NftVerdict::Jump(to) => (to, true),
            NftVerdict::Goto(to) => (to, false),
        };
        let Some(chain) = self.table().and_then(|t| t.chains.get_index_of(&**to)) else {
            return Err(Verdict::Depends(self.env.rule));
        };
        if jump {
            // NFT_JUMP_STACK_SIZE
            if self.stack.len() >= 16 {
                return Err(Verdict::Drop(self.env.rule));
            }
            self.stack.push((self.chain, next, self.told));
        }
        (self.chain, self.told) = (chain, 0);
        Ok(Some(0))
    }

    /// Back to the chain that jumped here.
    fn back(&mut self) -> Option<usize> {
        let (chain, next, told) = self.stack.pop()?;
        (self.chain, self.told) = (chain, told);
        Some(next)
    }

    fn policy(&mut self, base: usize) -> Verdict {
        let chain = self.table().and_then(|t| t.chains.get_index(base));
        let chain = chain.map(|c| c.1);
        let count = chain.map_or(0, |c| c.rules.len());
        let drops = |c: &Chain| c.base.as_ref().is_some_and(|b| b.policy == Policy::Drop);
        let drops = chain.is_some_and(drops);
        let rule = crate::nf::eval::RuleRef {
            chain: base as u32,
            rule: count as u32,
            ..self.env.rule
        };
        let skipped = match self.chain == base {
            true => count.saturating_sub(self.told) as u32,
            false => 0,
        };
        if let Some(steps) = &mut self.env.cx.steps {
            steps.push(NfStep::Policy { rule, skipped });
        }
        match drops {
            true => Verdict::Drop(rule),
            false => Verdict::Accept,
        }
    }

    /// Tells the rule at hand and what decided in it.
    fn tell(&mut self) {
        let rule = self.env.rule;
        let skipped = rule.rule.saturating_sub(self.told as u32);
        self.told = rule.rule as usize + 1;
        let chance = self.env.chance;
        if let Some(steps) = &mut self.env.cx.steps {
            steps.push(NfStep::Rule {
                rule,
                skipped,
                chance,
            });
            steps.extend(self.found.drain(..).map(NfStep::Found));
        }
    }

    fn rule(&mut self, rule: &'p PRule, f: &mut Frame) -> After {
        self.env.chance = None;
        self.found.clear();
        let begin = core::mem::take(&mut self.done);
        for (i, s) in rule.stmts.iter().enumerate().skip(begin) {
            match self.stmt(s, f) {
                After::Next => {}
                After::Pause if !self.halts => {}
                After::Pause => {
                    self.done = i + 1;
                    return After::Pause;
                }
                After::Unknown => match self.env.cx.assume.get(&self.env.rule).copied() {
                    None => return After::Unknown,
                    Some(yes) => match (s, yes) {
                        (PStmt::Unknown(_, Some(end)), true) => return After::Go(end.clone()),
                        (PStmt::Unknown(true, None), true) => {}
                        (PStmt::Unknown(false, None), true) => return After::Rule,
                        (PStmt::Unknown(false, None), false) => {
                            return After::Done(Verdict::Drop(self.env.rule));
                        }
                        (PStmt::Unknown(..), _) => return After::Break,
                        // An expression that is not understood: whether it lets the rule go on.
                        (_, true) => {}
                        (_, false) => return After::Break,
                    },
                },
                other => return other,
            }
        }
        After::Next
    }

    /// Compares two sides.
    pub(super) fn compare(
        &mut self,
        (left, types): (&PExpr, &[Type]),
        op: RelOp,
        right: &Rhs,
        f: &Frame,
    ) -> Result<bool, Stop> {
        let not = op == RelOp::Ne;
        Ok(match right {
            Rhs::Set(set) => {
                let parts = self.parts(left, f)?;
                let key = key_of(&parts, types);
                let found = self.asked(set, &key)?;
                if found && !not && !self.element_states(set, &key, f) {
                    return Err(Stop::Break);
                }
                found != not
            }
            Rhs::Bits(bits, none) => (self.number(left, f)? & bits != 0) != *none,
            Rhs::Masked(value, mask) => (self.number(left, f)? & mask == *value) != not,
            Rhs::Expr(e) => {
                let (a, b) = (self.value(left, f)?, self.value(e, f)?);
                let order = a.cmp(&b);
                match op {
                    RelOp::Implicit | RelOp::Eq => order.is_eq(),
                    RelOp::Ne | RelOp::Not => order.is_ne(),
                    RelOp::Lt => order.is_lt(),
                    RelOp::Gt => order.is_gt(),
                    RelOp::Le => order.is_le(),
                    RelOp::Ge => order.is_ge(),
                }
            }
        })
    }

    pub(super) fn number(&mut self, e: &PExpr, f: &Frame) -> Result<u128, Stop> {
        self.value(e, f)?.num().ok_or(Stop::Break)
    }

    pub(super) fn value(&mut self, e: &PExpr, f: &Frame) -> Result<Value, Stop> {
        match self.parts(e, f)?.into_iter().next() {
            Some(Part::Value(v) | Part::Range(v, _) | Part::Prefix(v, _)) => Ok(v),
            Some(Part::Any) | None => Err(Stop::Break),
        }
    }

    /// All parts of an expression's value.
    pub(super) fn parts(&mut self, e: &PExpr, f: &Frame) -> Result<Parts, Stop> {
        if self.env.nf.record.is_some() && !self.is_steady(e, f) {
            self.env.varies();
        }
        let one = |v: Value| core::iter::once(Part::Value(v)).collect();
        let n = |n: u32| one(Value::Num(n.into()));
        Ok(match e {
            PExpr::Load(e) => one(self.load(e, f)?),
            PExpr::Const(p) => core::iter::once(p.clone()).collect(),
            PExpr::Concat(all) => {
                let mut out = Parts::new();
                for e in all {
                    out.extend(self.parts(e, f)?);
                }
                out
            }
            PExpr::Binop(op, a, b, bits) => {
                let a = match judged_flags(*op, a, b) {
                    Some(flags) => self.load(flags, f)?.num().ok_or(Stop::Break)?,
                    None => self.number(a, f)?,
                };
                one(Value::Num(binop(*op, a, self.number(b, f)?, *bits)))
            }
            PExpr::Map(key, set) => {
                let (e, _) = self.look_up(key, set, f)?;
                data_parts(&e).ok_or(Stop::Break)?
            }
            PExpr::Inc(slot, modulus, offset) => {
                let Some(Slot::Inc(last)) = self.nft.slots.get_mut(*slot as usize) else {
                    return Err(Stop::Break);
                };
                *last = if last.saturating_add(1) < *modulus {
                    *last + 1
                } else {
                    0
                };
                n(last.wrapping_add(*offset))
            }
            PExpr::Random(modulus, offset) => {
                let drawn = (self.env.cx.rng.next_u64() >> 32) as u32;
                self.env.chance = Some((1u32 << 31) / (*modulus).max(1));
                n(scale(drawn, *modulus).wrapping_add(*offset))
            }
            PExpr::Jhash(of, types, [modulus, seed, offset]) => {
                let parts = self.parts(of, f)?;
                let bytes = registers(&parts, types);
                n(scale(super::hash::jhash(&bytes, *seed), *modulus).wrapping_add(*offset))
            }
            PExpr::Unknown => return Err(Stop::Unknown),
        })
    }

    /// The element of a map that a key finds, with the key's bytes. A draw may have been decided before.
    pub(super) fn look_up(
        &mut self,
        key: &PExpr,
        set: &PSet,
        f: &Frame,
    ) -> Result<(Element, Key), Stop> {
        let parts = match self.forced(key, set, f) {
            Some(n) => core::iter::once(Part::Value(Value::Num(n.into()))).collect(),
            None => self.parts(key, f)?,
        };
        let types = self.types(set);
        let key = key_of(&parts, &types);
        self.asked(set, &key)?;
        let e = self.find(set, &key)?.cloned().ok_or(Stop::Break)?;
        if self.env.cx.steps.is_some() {
            self.found.push(super::show::found(&parts, &types, &e));
        }
        if !self.element_states(set, &key, f) {
            return Err(Stop::Break);
        }
        Ok((e, key))
    }

    fn types(&self, set: &PSet) -> SmallVec<[Type; 4]> {
        let types = match set {
            PSet::Anonymous(e) => e.types(),
            PSet::Named(n) => self
                .table()
                .and_then(|t| t.sets.get_index(usize::from(*n)))
                .map_or(&[][..], |s| s.1.elements.types()),
            PSet::Missing => &[],
        };
        types.iter().copied().collect()
    }

    /// A live element.
    pub(super) fn find<'s>(
        &'s self,
        set: &'s PSet,
        key: &[u8],
    ) -> Result<Option<&'s Element>, Stop> {
        let found = match set {
            PSet::Anonymous(e) => e.find(key),
            PSet::Named(n) => {
                let set = self.table().and_then(|t| t.sets.get_index(usize::from(*n)));
                set.ok_or(Stop::Unknown)?.1.elements.find(key)
            }
            PSet::Missing => return Err(Stop::Unknown),
        };
        let now = super::millis(self.env.cx.now);
        Ok(found.filter(|e| e.expires.is_none_or(|end| end > now)))
    }

    /// Whether there is a live element; its end is told to whoever compiles.
    fn asked(&mut self, set: &PSet, key: &[u8]) -> Result<bool, Stop> {
        let found = self.find(set, key)?;
        let (there, end) = (found.is_some(), found.and_then(|e| e.expires));
        if let (Some(r), Some(ms)) = (&mut self.env.nf.record, end) {
            r.until(Instant::from_nanos(ms.saturating_mul(1_000_000)));
        }
        Ok(there)
    }

    /// Runs what an element carries: counters, limits (`nft_set_elem_update_expr`).
    pub(super) fn element_states(&mut self, set: &PSet, key: &Key, f: &Frame) -> bool {
        let PSet::Named(n) = set else { return true };
        let (states, own) = match self.find(set, key) {
            Ok(Some(e)) if !e.state.is_empty() => (e.state.clone(), e.key.clone()),
            _ => return true,
        };
        // By the element's key: an interval's, or the one of all others.
        let own = key_of(&own, &self.types(set));
        let conn = self.own_tuple(f);
        let place = (self.t as u16, *n, own);
        let slots = self.nft.elements.entry(place.clone()).or_default();
        if slots.len() != states.len() {
            *slots = states.iter().map(Slot::of).collect();
        }
        let seen = Seen {
            now: self.env.cx.now,
            len: self.env.pkt.len as u64,
            ct: &self.env.nf.ct,
            conn,
        };
        let mut pairs = states.iter().zip(slots.iter_mut());
        let stop = pairs.position(|(s, slot)| !ask(s, slot, &seen));
        let open = self
            .env
            .nf
            .record
            .as_ref()
            .is_some_and(|r| r.varies.is_none());
        if open && self.nft.noted.len() >= limits::NFT_NOTED_MAX {
            self.env.varies();
        } else if open {
            let number = self.nft.noted.insert_full(place).0 as u32;
            let asked = stop.map_or(states.len(), |n| n + 1);
            for (i, s) in states.iter().take(asked).enumerate() {
                self.noted(s, CountAt::Element(number, i as u8));
            }
        }
        stop.is_none()
    }

    /// The packet's zone and original tuple.
    pub(super) fn own_tuple(&self, f: &Frame) -> (u16, crate::nf::ct::CtTuple) {
        match self.env.conn(f) {
            Some((c, _)) => (c.zones().orig, c.tuple(Dir::Original)),
            None => (0, self.env.packet_tuple(f)),
        }
    }

    /// What a draw has to be for the connection's wanted endpoint.
    fn forced(&mut self, key: &PExpr, set: &PSet, f: &Frame) -> Option<u32> {
        let PExpr::Random(modulus, offset) = key else {
            return None;
        };
        let (_, orig) = self.own_tuple(f);
        let wanted = self.env.nf.forced.choice(&orig).dnat?;
        let (types, table) = (self.types(set), self.table()?);
        let leads = |n: &u32| {
            let parts = [Part::Value(Value::Num((*n).into()))];
            let e = self.find(set, &key_of(&parts, &types)).ok().flatten();
            e.is_some_and(|e| super::forced::element_leads(table, e, &orig, wanted))
        };
        let choice =
            (*offset..offset.saturating_add((*modulus).min(limits::NFT_DRAW_MAX))).find(leads);
        if choice.is_some() {
            self.env.chance = Some((1u32 << 31) / (*modulus).max(1));
        }
        choice
    }
}

/// The bytes of a key.
pub(super) fn key_of(parts: &[Part], types: &[Type]) -> Key {
    let mut out = Vec::with_capacity(24);
    for (p, t) in parts.iter().zip(types) {
        if let Part::Value(v) | Part::Range(v, _) | Part::Prefix(v, _) = p {
            t.key(v, &mut out);
        }
    }
    Key::from_vec(out)
}

/// Values as registers hold them: in the machine's order where the kernel has them so, each filled up to
/// four bytes.
fn registers(parts: &[Part], types: &[Type]) -> Vec<u8> {
    let mut out = Vec::new();
    for (p, t) in parts.iter().zip(types) {
        let mut one = key_of(core::slice::from_ref(p), core::slice::from_ref(t)).into_vec();
        if t.host_order() && !t.is_text() {
            one.reverse();
        }
        out.extend(one);
        if parts.len() > 1 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out
}

fn binop(op: Op, a: u128, b: u128, bits: u16) -> u128 {
    let mask = 1u128.checked_shl(bits.into()).map_or(u128::MAX, |m| m - 1);
    let by = u32::try_from(b).unwrap_or(128);
    mask & match op {
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Shl => a.checked_shl(by).unwrap_or(0),
        Op::Shr => a.checked_shr(by).unwrap_or(0),
    }
}

/// The verdict an element maps to.
pub(super) fn verdict_of(e: &Element) -> Option<NftVerdict> {
    match &e.data {
        Some(Data::Verdict(v)) => Some(v.clone()),
        _ => None,
    }
}
