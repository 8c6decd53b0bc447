//! The IP family that statements say or ask for.
//!
//! As nftables evaluate.c and payload.c keep it in the protocol context of a rule. Invariant: a rule is
//! changed in a table of both families only, and once.

use super::expr::*;
use super::fields::{self, MetaKey};
use super::model::{Family, Rule};
use super::types::Value;

/// The family that an extension header, an IP option or an ICMP error asks for stands at the head of its rule
/// in a table of both, unless it is known by then (nftables evaluate.c `exthdr_dependency`,
/// `stmt_reject_gen_dependency`).
pub(super) fn l3_needed(family: Family, rule: &mut Rule) {
    if matches!(family, Family::Ip | Family::Ip6 | Family::Arp) {
        return;
    }
    for i in 0..rule.stmts.len() {
        let s = &rule.stmts[i];
        if l3_stated(family, s).is_some() || l3_named(s) || ether_typed(s) {
            return;
        }
        let Some(n) = l3_asked(s) else { continue };
        if i > 0 {
            rule.stmts.insert(0, l3_dependency(family, n));
        }
        return;
    }
}

/// How a table says the family (nftables payload.c `payload_gen_dependency`).
fn l3_dependency(family: Family, nfproto: u128) -> Stmt {
    let ether = fields::FIELDS
        .iter()
        .find(|f| (f.proto, f.name) == ("ether", "type"));
    let left = match (family, ether) {
        (Family::Bridge, Some(ether)) => Expr::Payload(ether),
        (Family::Inet, _) => Expr::Meta(MetaKey::NfProto),
        _ => Expr::Meta(MetaKey::Protocol),
    };
    let right = match (family, nfproto) {
        (Family::Inet, n) => n,
        (_, 2) => 0x0800,
        _ => 0x86dd,
    };
    Stmt::Match {
        left,
        op: RelOp::Implicit,
        right: Expr::Value(Value::Num(right)),
    }
}

/// Whether a statement says what the frame carries.
fn ether_typed(s: &Stmt) -> bool {
    matches!(s, Stmt::Match { left: Expr::Payload(f), op: RelOp::Implicit, right: Expr::Value(_) }
        if (f.proto, f.name) == ("ether", "type"))
}

/// Headers that belong to one IP family.
const L3: [&str; 5] = ["ip", "ip6", "icmp", "icmpv6", "igmp"];

/// Whether a statement has a field of an IP header, or of ICMP, which say the family.
fn l3_named(s: &Stmt) -> bool {
    let named = |e: &Expr| {
        any_in(
            e,
            &|e| matches!(e, Expr::Payload(f) if L3.contains(&f.proto)),
        )
    };
    match s {
        Stmt::Match { left, right, .. } => named(left) || named(right),
        Stmt::Vmap(e, _) | Stmt::Object(_, e) => named(e),
        Stmt::Set(a, b) => named(a) || named(b),
        Stmt::Nat(n) => n.addr.iter().chain(&n.port).any(named),
        Stmt::SetOp(op) => named(&op.key) || op.data.as_ref().is_some_and(named),
        _ => false,
    }
}

/// The `nfproto` that a statement cannot do without.
fn l3_asked(s: &Stmt) -> Option<u128> {
    let v4 = |e: &Expr| {
        any_in(e, &|e| {
            matches!(e, Expr::IpOption(_) | Expr::IpOptionExists(..))
        })
    };
    let v6 = |e: &Expr| {
        any_in(e, &|e| {
            matches!(e, Expr::Exthdr(_) | Expr::ExthdrExists(..))
        })
    };
    match s {
        Stmt::Reject(Reject::Icmp(_)) => Some(2),
        Stmt::Reject(Reject::Icmpv6(_)) => Some(10),
        Stmt::Match { left: e, .. } | Stmt::Vmap(e, _) | Stmt::Set(_, e) if v4(e) => Some(2),
        Stmt::Match { left: e, .. } | Stmt::Vmap(e, _) | Stmt::Set(_, e) if v6(e) => Some(10),
        _ => None,
    }
}

/// Whether an expression or a part of it is one of these.
pub(super) fn any_in(e: &Expr, what: &dyn Fn(&Expr) -> bool) -> bool {
    what(e)
        || match e {
            Expr::Concat(all) => all.iter().any(|e| any_in(e, what)),
            Expr::Binop(_, a, b) | Expr::Map(a, b) => any_in(a, what) || any_in(b, what),
            Expr::Jhash { of, .. } => any_in(of, what),
            _ => false,
        }
}

/// The family that a comparison says.
pub(super) fn l3_stated(family: Family, s: &Stmt) -> Option<&'static str> {
    let Stmt::Match {
        left,
        op: RelOp::Implicit,
        right: Expr::Value(Value::Num(n)),
    } = s
    else {
        return None;
    };
    match (left, *n) {
        (Expr::Meta(MetaKey::NfProto), 2) => Some("ip"),
        (Expr::Meta(MetaKey::NfProto), 10) => Some("ip6"),
        (Expr::Meta(MetaKey::Protocol), 0x0800) if family != Family::Inet => Some("ip"),
        (Expr::Meta(MetaKey::Protocol), 0x86dd) if family != Family::Inet => Some("ip6"),
        _ => None,
    }
}
