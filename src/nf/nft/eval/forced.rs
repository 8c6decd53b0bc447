//! Where rules of a table can lead a connection: for choices that are made instead of drawn.
//!
//! As `nf::forced` for iptables. Pure: looks at the model. Invariant: matches are not asked, only
//! comparisons with another protocol keep a rule from being followed.

use super::super::elements::{Data, Element, Part};
use super::super::expr::{Expr, Nat, NatKind, RelOp, Stmt, Verdict};
use super::super::fields::MetaKey;
use super::super::model::{Chain, Rule, Table};
use super::super::types::Value;
use super::stmt::{address, ends};
use crate::nf::ct::CtTuple;
use crate::nf::forced::Place;
use std::collections::BTreeSet;

/// Whether an element that a draw can find leads to the wanted endpoint.
pub fn element_leads(table: &Table, e: &Element, orig: &CtTuple, wanted: Place) -> bool {
    match &e.data {
        Some(Data::Verdict(Verdict::Jump(to) | Verdict::Goto(to))) => {
            leads(table, to, orig, wanted)
        }
        Some(Data::Values(parts)) => reaches(parts, orig, wanted),
        _ => false,
    }
}

/// Whether a chain can end in a DNAT of `orig` to `wanted`.
fn leads(table: &Table, chain: &str, orig: &CtTuple, wanted: Place) -> bool {
    let mut places = BTreeSet::new();
    walk(table, chain, orig, &mut places);
    places.contains(&wanted)
}

/// Every endpoint that a chain can lead to.
pub fn endpoints(table: &Table, chain: &str, orig: &CtTuple) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    walk(table, chain, orig, &mut places);
    places
}

/// The draws of a chain: each its elements' endpoints, with one in how many.
pub fn draws(table: &Table, chain: &Chain, orig: &CtTuple) -> Vec<(BTreeSet<Place>, u32)> {
    let mut out = Vec::new();
    for s in chain.rules.iter().flat_map(|r| &r.stmts) {
        let (key, of) = match s {
            Stmt::Vmap(key, of) => (key, of),
            Stmt::Nat(Nat {
                kind: NatKind::Dnat,
                addr: Some(Expr::Map(key, of)),
                ..
            }) => (&**key, &**of),
            _ => continue,
        };
        let Expr::Numgen {
            random: true,
            modulus,
            ..
        } = key
        else {
            continue;
        };
        for e in elements(table, of) {
            let mut places = BTreeSet::new();
            element(table, e, orig, &mut places, &mut BTreeSet::new());
            out.push((places, *modulus));
        }
    }
    out
}

fn elements<'t>(table: &'t Table, of: &'t Expr) -> Vec<&'t Element> {
    match of {
        Expr::Set(all) => all.iter().collect(),
        Expr::SetRef(name) => {
            let set = table.sets.get(&**name);
            set.map_or_else(Vec::new, |s| s.elements.listed())
        }
        _ => Vec::new(),
    }
}

fn walk(table: &Table, from: &str, orig: &CtTuple, out: &mut BTreeSet<Place>) {
    let mut seen = BTreeSet::new();
    chain(table, from, orig, out, &mut seen);
}

fn chain<'t>(
    table: &'t Table,
    name: &'t str,
    orig: &CtTuple,
    out: &mut BTreeSet<Place>,
    seen: &mut BTreeSet<&'t str>,
) {
    if !seen.insert(name) {
        return;
    }
    let Some(c) = table.chains.get(name) else {
        return;
    };
    for rule in c.rules.iter().filter(|r| speaks(r, orig.proto)) {
        for s in &rule.stmts {
            match s {
                Stmt::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => {
                    chain(table, to, orig, out, seen);
                }
                Stmt::Vmap(_, of) => {
                    for e in elements(table, of) {
                        element(table, e, orig, out, seen);
                    }
                }
                Stmt::Nat(n) if n.kind == NatKind::Dnat => nat(table, n, orig, out, seen),
                _ => {}
            }
        }
    }
}

fn element<'t>(
    table: &'t Table,
    e: &'t Element,
    orig: &CtTuple,
    out: &mut BTreeSet<Place>,
    seen: &mut BTreeSet<&'t str>,
) {
    match &e.data {
        Some(Data::Verdict(Verdict::Jump(to) | Verdict::Goto(to))) => {
            chain(table, to, orig, out, seen);
        }
        Some(Data::Values(parts)) => out.extend(place(parts, orig)),
        _ => {}
    }
}

fn nat<'t>(
    table: &'t Table,
    n: &'t Nat,
    orig: &CtTuple,
    out: &mut BTreeSet<Place>,
    seen: &mut BTreeSet<&'t str>,
) {
    let port = match &n.port {
        Some(Expr::Value(v)) => v.num().map(|n| n as u16),
        _ => None,
    };
    match &n.addr {
        Some(Expr::Value(v)) => {
            if let Some(a) = v.num() {
                let ip = address(a, orig.dst.is_ipv4());
                out.insert((ip, port.unwrap_or(own_port(orig))));
            }
        }
        Some(Expr::Map(_, of)) => {
            for e in elements(table, of) {
                element(table, e, orig, out, seen);
            }
        }
        _ => {}
    }
}

fn place(parts: &[Part], orig: &CtTuple) -> Option<Place> {
    let (a, _) = ends(parts.first()?, if orig.dst.is_ipv4() { 32 } else { 128 })?;
    let port = parts.get(1).and_then(|p| ends(p, 16));
    let port = port.map_or(own_port(orig), |(p, _)| p as u16);
    Some((address(a, orig.dst.is_ipv4()), port))
}

fn reaches(parts: &[Part], orig: &CtTuple, wanted: Place) -> bool {
    place(parts, orig).is_some_and(|p| p.0 == wanted.0 && (parts.len() < 2 || p.1 == wanted.1))
}

/// The port of a destination that keeps it; ICMP has its id on the source's place.
fn own_port(orig: &CtTuple) -> u16 {
    match orig.is_icmp() {
        true => orig.sport,
        false => orig.dport,
    }
}

/// Whether a rule can be for this protocol.
fn speaks(rule: &Rule, proto: u8) -> bool {
    rule.stmts.iter().all(|s| match s {
        Stmt::Match {
            left: Expr::Meta(MetaKey::L4Proto),
            op: RelOp::Implicit | RelOp::Eq,
            right: Expr::Value(Value::Num(n)),
        } => *n == u128::from(proto),
        Stmt::Match {
            left: Expr::Payload(f),
            op: RelOp::Implicit | RelOp::Eq,
            right,
        } => match (f.name, right) {
            ("protocol" | "nexthdr", Expr::Value(Value::Num(n))) => *n == u128::from(proto),
            _ => super::super::fields::l4proto(f.proto).is_none_or(|n| n == proto),
        },
        _ => true,
    })
}
