//! Rules made ready to run: sets numbered, literals turned into sets of one element, states given places.
//!
//! Statements stay one to one with the model's, so that what was counted finds its way back. Invariant:
//! every number in here is valid for the rule set that was compiled.

use super::super::elements::{Data, Element, Elements, Part};
use super::super::expr::{Expr, Log, NatKind, Op, Reject, RelOp, SetVerb, Stateful, Stmt, Verdict};
use super::super::model::{ObjectKind, Ruleset, Table};
use super::super::types::{Type, Value};
use super::state::Slot;
use smallvec::SmallVec;
use std::sync::Arc;

/// The types of a key, one per part.
pub(super) type Types = SmallVec<[Type; 4]>;

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum PExpr {
    /// What is read from the packet or its surroundings.
    Load(Expr),
    /// A literal, maybe a range.
    Const(Part),
    Concat(Vec<PExpr>),
    Binop(Op, Box<PExpr>, Box<PExpr>, u16),
    Map(Box<PExpr>, PSet),
    /// Counts up; the counter is a slot.
    Inc(u32, u32, u32),
    /// Draws below the first, plus the second.
    Random(u32, u32),
    Jhash(Box<PExpr>, Types, [u32; 3]),
    /// Not understood.
    Unknown,
}

/// A set that is asked.
#[derive(Clone, Debug)]
pub(super) enum PSet {
    /// Part of its rule.
    Anonymous(Arc<Elements>),
    /// By its place in the table.
    Named(u16),
    /// It is not there.
    Missing,
}

/// The right side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Rhs {
    Set(PSet),
    /// Any of these bits, or with `true` none.
    Bits(u128, bool),
    /// These of those bits.
    Masked(u128, u128),
    Expr(PExpr),
}

/// A translation.
#[derive(Clone, Debug)]
pub(super) struct PNat {
    pub kind: NatKind,
    pub family: Option<super::super::expr::IpFamily>,
    pub addr: Option<PExpr>,
    pub port: Option<PExpr>,
    pub random: bool,
    pub fully_random: bool,
    pub persistent: bool,
    pub prefix: bool,
}

/// A change of a set.
#[derive(Clone, Debug)]
pub(super) struct PSetOp {
    pub verb: SetVerb,
    pub set: Option<u16>,
    pub key: PExpr,
    pub data: Option<PExpr>,
    pub timeout: Option<u64>,
    pub state: SmallVec<[Stateful; 1]>,
}

/// A statement.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "kept in place: rules are walked in order"
)]
pub(super) enum PStmt {
    Match {
        left: PExpr,
        types: Types,
        op: RelOp,
        right: Rhs,
    },
    Verdict(Verdict),
    Vmap(PExpr, PSet),
    State(u32, Stateful),
    Object(ObjectKind, PExpr),
    Log(Log),
    Reject(Reject),
    Nat(PNat),
    Set(Expr, PExpr),
    Notrack,
    Tproxy(
        Option<super::super::expr::IpFamily>,
        Option<PExpr>,
        Option<PExpr>,
    ),
    /// A queue's number, where one is named, and whether packets pass when nobody reads it.
    Queue(Option<u16>, bool),
    Dup(PExpr, Option<PExpr>),
    /// To another device, instead of its way.
    Fwd(PExpr),
    SetOp(PSetOp),
    ResetTcpOption(u8),
    /// Changes nothing here.
    Pass,
    /// Not understood: `true` if it only matches, and the verdict of its text's end.
    Unknown(bool, Option<Verdict>),
}

/// A rule.
#[derive(Clone, Debug, Default)]
pub(super) struct PRule {
    pub stmts: Vec<PStmt>,
    /// Its slots, from the first to before the second.
    pub slots: (u32, u32),
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct PTable {
    /// Chains in the model's order, each with its rules.
    pub chains: Vec<Vec<PRule>>,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub tables: Vec<PTable>,
    /// States as they begin.
    pub slots: Vec<Slot>,
}

impl Program {
    /// Compiles all of it.
    pub fn compile(set: &Ruleset) -> Program {
        let mut slots = Vec::new();
        let mut tables = Vec::new();
        for table in set.tables.values() {
            let mut c = Compiler {
                table,
                slots: &mut slots,
            };
            let chains = table.chains.values();
            let chains = chains.map(|ch| ch.rules.iter().map(|r| c.rule(&r.stmts)).collect());
            let chains = chains.collect();
            tables.push(PTable { chains });
        }
        Program { tables, slots }
    }
}

struct Compiler<'a> {
    table: &'a Table,
    slots: &'a mut Vec<Slot>,
}

impl Compiler<'_> {
    fn rule(&mut self, stmts: &[Stmt]) -> PRule {
        let from = self.slots.len() as u32;
        let stmts = stmts.iter().map(|s| self.stmt(s)).collect();
        PRule {
            stmts,
            slots: (from, self.slots.len() as u32),
        }
    }

    fn slot(&mut self, s: Slot) -> u32 {
        self.slots.push(s);
        self.slots.len() as u32 - 1
    }

    fn named(&self, name: &str) -> Option<u16> {
        let at = self.table.sets.get_index_of(name)?;
        u16::try_from(at).ok()
    }

    fn set(&self, e: &Expr, types: &[Type]) -> PSet {
        match e {
            Expr::SetRef(name) => self.named(name).map_or(PSet::Missing, PSet::Named),
            Expr::Set(elements) => {
                let mut all = Elements::new(types);
                for e in elements {
                    // What is in there twice is there once.
                    let _ = all.insert(e.clone());
                }
                PSet::Anonymous(Arc::new(all))
            }
            _ => PSet::Missing,
        }
    }

    fn option(&mut self, e: &Option<Expr>) -> Option<PExpr> {
        e.as_ref().map(|e| self.expr(e))
    }

    fn stmt(&mut self, s: &Stmt) -> PStmt {
        match s {
            Stmt::Match { left, op, right } => self.comparison(left, *op, right),
            Stmt::Verdict(v) => PStmt::Verdict(v.clone()),
            Stmt::Vmap(key, of) => {
                let of = self.set(of, &key_types(key));
                PStmt::Vmap(self.expr(key), of)
            }
            Stmt::State(s) => PStmt::State(self.slot(Slot::of(s)), s.clone()),
            Stmt::Object(kind, e) => PStmt::Object(*kind, self.expr(e)),
            Stmt::Log(l) => PStmt::Log(l.clone()),
            Stmt::Reject(r) => PStmt::Reject(*r),
            Stmt::Nat(n) => PStmt::Nat(PNat {
                kind: n.kind,
                family: n.family,
                addr: self.option(&n.addr),
                port: self.option(&n.port),
                random: n.random,
                fully_random: n.fully_random,
                persistent: n.persistent,
                prefix: n.prefix,
            }),
            Stmt::Set(to, value) => {
                let value = label_bits(&key_types(to), value);
                PStmt::Set(to.clone(), self.expr(&value))
            }
            Stmt::Notrack => PStmt::Notrack,
            Stmt::Tproxy(t) => {
                let (addr, port) = (self.option(&t.addr), self.option(&t.port));
                PStmt::Tproxy(t.family, addr, port)
            }
            Stmt::Queue(q) => PStmt::Queue(queue_number(&q.to), q.bypass),
            Stmt::Dup(to, dev) => PStmt::Dup(self.expr(to), self.option(dev)),
            Stmt::SetOp(o) => PStmt::SetOp(PSetOp {
                verb: o.verb,
                set: self.named(&o.set),
                key: self.expr(&o.key),
                data: self.option(&o.data),
                timeout: o.timeout,
                state: o.state.clone(),
            }),
            // The fast path carries what the slow path would: nothing changes.
            Stmt::Flow(_) => PStmt::Pass,
            Stmt::ResetTcpOption(kind) => PStmt::ResetTcpOption(*kind),
            Stmt::Xt(what, _) => PStmt::Unknown(&**what == "match", None),
            Stmt::Unknown(text) => {
                let end = last_verdict(text);
                PStmt::Unknown(end.is_some(), end)
            }
            Stmt::Fwd(to) if to.addr.is_none() => PStmt::Fwd(self.expr(&to.device)),
            Stmt::Fwd(_) | Stmt::Synproxy(_) => PStmt::Unknown(false, None),
        }
    }

    fn comparison(&mut self, left: &Expr, op: RelOp, right: &Expr) -> PStmt {
        let types = key_types(left);
        let none = op == RelOp::Not;
        let flags =
            (none || op == RelOp::Implicit) && matches!(types.as_slice(), [t] if t.is_flags());
        let right = &label_bits(&types, right);
        let right = match right {
            Expr::Set(_) | Expr::SetRef(_) => Rhs::Set(self.set(right, &types)),
            Expr::Masked(value, mask) => Rhs::Masked(*value, *mask),
            Expr::Flags(_) if flags => Rhs::Bits(bits_of(right), none),
            Expr::Value(v) if flags => Rhs::Bits(v.num().unwrap_or(0), none),
            Expr::Flags(_) => Rhs::Expr(PExpr::Const(Part::Value(Value::Num(bits_of(right))))),
            Expr::Value(_) | Expr::Prefix(..) | Expr::Range(..) | Expr::Concat(_) => {
                match literal(right) {
                    Some(parts) if matches!(op, RelOp::Implicit | RelOp::Eq | RelOp::Ne) => {
                        let mut one = Elements::new(&types);
                        let _ = one.insert(Element::new(parts));
                        Rhs::Set(PSet::Anonymous(Arc::new(one)))
                    }
                    _ => Rhs::Expr(self.expr(right)),
                }
            }
            other => Rhs::Expr(self.expr(other)),
        };
        let left = self.expr(left);
        PStmt::Match {
            left,
            types,
            op,
            right,
        }
    }

    fn expr(&mut self, e: &Expr) -> PExpr {
        match e {
            Expr::Value(v) => PExpr::Const(Part::Value(v.clone())),
            Expr::Prefix(v, n) => PExpr::Const(Part::Prefix(v.clone(), *n)),
            Expr::Range(a, b) => PExpr::Const(Part::Range(a.clone(), b.clone())),
            Expr::Flags(_) => PExpr::Const(Part::Value(Value::Num(bits_of(e)))),
            Expr::Concat(parts) => PExpr::Concat(parts.iter().map(|p| self.expr(p)).collect()),
            Expr::Binop(op, a, b) => {
                let bits = e.dtype().map_or(32, Type::bits);
                PExpr::Binop(*op, Box::new(self.expr(a)), Box::new(self.expr(b)), bits)
            }
            Expr::Map(key, of) => {
                let set = self.set(of, &key_types(key));
                PExpr::Map(Box::new(self.expr(key)), set)
            }
            Expr::Numgen {
                random: true,
                modulus,
                offset,
            } => PExpr::Random(*modulus, *offset),
            Expr::Numgen {
                modulus, offset, ..
            } => {
                // nft_ng_inc_init: the first number is 0.
                let slot = self.slot(Slot::Inc(modulus.saturating_sub(1)));
                PExpr::Inc(slot, *modulus, *offset)
            }
            Expr::Jhash {
                of,
                modulus,
                seed,
                offset,
            } => PExpr::Jhash(
                Box::new(self.expr(of)),
                key_types(of),
                [*modulus, seed.unwrap_or(0), *offset],
            ),
            Expr::Osf { .. }
            | Expr::Ipsec { .. }
            | Expr::SctpChunk(_)
            | Expr::SctpChunkExists(..)
            | Expr::Set(_)
            | Expr::SetRef(_)
            | Expr::Masked(..) => PExpr::Unknown,
            load => PExpr::Load(load.clone()),
        }
    }
}

/// The types of what is compared or looked up; a map's result has those of its data.
pub(super) fn key_types(e: &Expr) -> Types {
    match e {
        Expr::Concat(parts) => parts.iter().flat_map(key_types).collect(),
        other => other.dtypes(),
    }
}

/// All the bits of a list of flags.
fn bits_of(e: &Expr) -> u128 {
    match e {
        Expr::Flags(all) => all.iter().filter_map(Value::num).fold(0, |a, b| a | b),
        Expr::Value(v) => v.num().unwrap_or(0),
        _ => 0,
    }
}

/// A literal as an element's key.
fn literal(e: &Expr) -> Option<SmallVec<[Part; 4]>> {
    let mut out = SmallVec::new();
    match e {
        Expr::Value(v) => out.push(Part::Value(v.clone())),
        Expr::Prefix(v, n) => out.push(Part::Prefix(v.clone(), *n)),
        Expr::Range(a, b) => out.push(Part::Range(a.clone(), b.clone())),
        Expr::Concat(parts) => {
            for p in parts {
                out.extend(literal(p)?);
            }
        }
        _ => return None,
    }
    Some(out)
}

/// The verdict at the end of a text that is not understood.
fn last_verdict(text: &str) -> Option<Verdict> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [.., "jump", chain] => Some(Verdict::Jump((*chain).into())),
        [.., "goto", chain] => Some(Verdict::Goto((*chain).into())),
        [.., "accept"] => Some(Verdict::Accept),
        [.., "drop"] => Some(Verdict::Drop),
        [.., "return"] => Some(Verdict::Return),
        _ => None,
    }
}

/// The values of an element's data.
pub(super) fn data_parts(e: &Element) -> Option<SmallVec<[Part; 4]>> {
    match e.data.as_ref()? {
        Data::Values(parts) => Some(parts.iter().cloned().collect()),
        Data::Object(name) => Some(
            [Part::Value(Value::Text(name.clone(), false))]
                .into_iter()
                .collect(),
        ),
        Data::Verdict(_) => None,
    }
}

/// A conntrack label is written by its number and is that bit (nft `ct_label_type_parse`).
fn label_bits(types: &[Type], e: &Expr) -> Expr {
    let bit = |v: &Value| match v.num() {
        Some(n) => Value::Num(
            u32::try_from(n)
                .ok()
                .and_then(|n| 1u128.checked_shl(n))
                .unwrap_or(0),
        ),
        None => v.clone(),
    };
    match (types, e) {
        ([Type::CtLabel], Expr::Value(v)) => Expr::Value(bit(v)),
        ([Type::CtLabel], Expr::Flags(all)) => Expr::Flags(all.iter().map(bit).collect()),
        _ => e.clone(),
    }
}

/// The one queue that a statement names: none for a range or an expression.
fn queue_number(to: &Option<Expr>) -> Option<u16> {
    match to {
        None => Some(0),
        Some(Expr::Value(Value::Num(n))) => u16::try_from(*n).ok(),
        Some(_) => None,
    }
}
