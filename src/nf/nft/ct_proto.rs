//! `ct protocol udp` in front of a field of UDP.
//!
//! nft takes what a connection is of for what the packet is of (nftables ct.c `ct_expr_pctx_update`) and asks
//! no `meta l4proto` any more, so that such a rule reads and writes ICMP errors about the connection at the
//! same place. The kernel's listing does not tell it from a rule that asks; here it is [`Expr::Unasked`].
//! Invariant: a rule is changed in a table of one IP family only, and once.

use super::expr::*;
use super::fields::{self, CtKey};
use super::model::{Family, Rule};
use super::types::Value;

/// Fields of the protocol that `ct protocol` has named are asked for no more.
pub(super) fn unasked(family: Family, rule: &mut Rule) {
    if !matches!(family, Family::Ip | Family::Ip6) {
        return;
    }
    let mut said = None;
    for s in &mut rule.stmts {
        match s {
            Stmt::Match {
                left: Expr::Ct(CtKey::Protocol, _),
                op: RelOp::Implicit | RelOp::Eq,
                right: Expr::Value(Value::Num(n)),
            } => said = Some(*n),
            // What is asked after all has it from the packet.
            Stmt::Match {
                left: Expr::Meta(fields::MetaKey::L4Proto),
                op: RelOp::Implicit | RelOp::Eq,
                ..
            } => return,
            Stmt::Match { left, right, .. } => both(said, left, right),
            Stmt::Vmap(key, _) => read(said, key),
            Stmt::Object(_, of) => read(said, of),
            Stmt::Set(to, of) => both(said, to, of),
            Stmt::SetOp(op) => {
                read(said, &mut op.key);
                op.data.iter_mut().for_each(|e| read(said, e));
            }
            Stmt::Nat(n) => n
                .addr
                .iter_mut()
                .chain(&mut n.port)
                .for_each(|e| read(said, e)),
            _ => {}
        }
    }
}

fn both(said: Option<u128>, a: &mut Expr, b: &mut Expr) {
    read(said, a);
    read(said, b);
}

fn read(said: Option<u128>, e: &mut Expr) {
    match e {
        Expr::Payload(f) if said.is_some() && fields::l4proto(f.proto).map(u128::from) == said => {
            *e = Expr::Unasked(f);
        }
        Expr::Concat(all) => all.iter_mut().for_each(|e| read(said, e)),
        Expr::Binop(_, a, b) => both(said, a, b),
        Expr::Map(key, _) | Expr::Jhash { of: key, .. } => read(said, key),
        _ => {}
    }
}
