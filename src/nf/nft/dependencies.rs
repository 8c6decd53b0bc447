//! What a rule need not say because a later statement says it, and what it has to (nftables
//! netlink_delinearize.c, payload.c `payload_dependency_kill`, `payload_may_dependency_kill_icmp`).
//!
//! Invariant: a dependency goes only where the field that implies it follows at once.

use super::expr::*;
use super::fields::{self, MetaKey};
use super::implied::l3_stated;
use super::model::{Family, Rule};
use super::types::Value;

/// `meta nfproto ipv4` and `meta protocol ip` go where a field of that header follows at once.
pub(super) fn l3_implied(family: Family, rule: &mut Rule) {
    let mut i = 0;
    while i < rule.stmts.len() {
        let stated = rule.stmts.get(i).and_then(|s| l3_stated(family, s));
        let own = match family {
            Family::Ip => Some("ip"),
            Family::Ip6 => Some("ip6"),
            _ => None,
        };
        let goes = stated.is_some_and(|l3| {
            own == Some(l3)
                || rule
                    .stmts
                    .get(i + 1)
                    .and_then(l3_header)
                    .is_some_and(|h| h == l3)
        });
        if goes && family != Family::Netdev {
            rule.stmts.remove(i);
        } else {
            i += 1;
        }
    }
}

fn header_of(s: &Stmt) -> Option<&'static str> {
    let mut e = match s {
        Stmt::Match { left, .. } => left,
        Stmt::Vmap(k, _) => k,
        Stmt::Set(k, _) => k,
        _ => return None,
    };
    while let Expr::Binop(_, inner, _) = e {
        e = inner;
    }
    match e {
        Expr::Payload(f) => Some(f.proto),
        Expr::Concat(parts) => parts.iter().find_map(|p| match p {
            Expr::Payload(f) => Some(f.proto),
            _ => None,
        }),
        Expr::TcpOption(_) | Expr::TcpOptionExists(_) => Some("tcp"),
        _ => None,
    }
}

fn l3_header(s: &Stmt) -> Option<&'static str> {
    header_of(s).filter(|h| matches!(*h, "ip" | "ip6"))
}

/// `ip protocol tcp`, `meta l4proto tcp` go where a field of that header follows at once.
pub(super) fn l4_implied(family: Family, rule: &mut Rule) {
    let mut i = 0;
    while i < rule.stmts.len() {
        let stated = match rule.stmts.get(i) {
            Some(Stmt::Match {
                left,
                op: RelOp::Implicit,
                right: Expr::Value(Value::Num(n)),
            }) => match left {
                Expr::Meta(MetaKey::L4Proto) => Some(*n),
                Expr::Payload(f)
                    if f.proto == "ip" && f.name == "protocol" && family == Family::Ip =>
                {
                    Some(*n)
                }
                Expr::Payload(f)
                    if f.proto == "ip6" && f.name == "nexthdr" && family == Family::Ip6 =>
                {
                    Some(*n)
                }
                _ => None,
            },
            _ => None,
        };
        let next = rule
            .stmts
            .get(i + 1)
            .and_then(header_of)
            .and_then(fields::l4proto)
            .map(u128::from);
        if stated.is_some() && stated == next {
            rule.stmts.remove(i);
        } else {
            i += 1;
        }
    }
}

/// `reject with icmp port-unreachable` in ip is `reject`; `reject with tcp reset` needs TCP.
pub(super) fn reject_implied(family: Family, rule: &mut Rule) {
    let Some(i) = rule.stmts.iter().position(|s| matches!(s, Stmt::Reject(_))) else {
        return;
    };
    let default = matches!(
        (family, &rule.stmts[i]),
        (Family::Ip, Stmt::Reject(Reject::Icmp(3)))
            | (Family::Ip6, Stmt::Reject(Reject::Icmpv6(4)))
            | (
                Family::Inet | Family::Bridge | Family::Netdev,
                Stmt::Reject(Reject::Icmpx(1))
            )
    );
    if default {
        rule.stmts[i] = Stmt::Reject(Reject::Default);
    }
    if !matches!(rule.stmts[i], Stmt::Reject(Reject::TcpReset)) {
        return;
    }
    let is_l4 = |s: &Stmt| {
        matches!(
            s,
            Stmt::Match {
                left: Expr::Meta(MetaKey::L4Proto),
                op: RelOp::Implicit,
                ..
            }
        )
    };
    let tcp = rule.stmts[..i].iter().any(|s| header_of(s) == Some("tcp"));
    let l4 = rule.stmts[..i].iter().position(is_l4);
    match (family, l4) {
        (Family::Ip | Family::Ip6, Some(at)) if at + 1 == i => drop(rule.stmts.remove(at)),
        (Family::Inet, None) if !tcp => {
            let left = Expr::Meta(MetaKey::L4Proto);
            let right = Expr::Value(Value::Num(6));
            rule.stmts.insert(
                0,
                Stmt::Match {
                    left,
                    op: RelOp::Implicit,
                    right,
                },
            );
        }
        _ => {}
    }
}

/// `vlan type` alone asks for a tag first.
pub(super) fn vlan_implied(family: Family, rule: &mut Rule) {
    let is = |s: &Stmt, name: &str| matches!(s, Stmt::Match { left: Expr::Payload(f), .. } if f.proto == "vlan" && f.name == name);
    let Some(at) = rule.stmts.iter().position(|s| header_of(s) == Some("vlan")) else {
        return;
    };
    let stated = |s: &Stmt| matches!(s, Stmt::Match { left: Expr::Payload(f), .. } if f.proto == "ether" && f.name == "type");
    let tagged = rule.stmts[..at].iter().any(stated);
    if family == Family::Bridge
        && !tagged
        && is(&rule.stmts[at], "type")
        && let Some(f) = fields::payload("ether", "type")
    {
        let right = Expr::Value(Value::Num(0x8100));
        rule.stmts.insert(
            at,
            Stmt::Match {
                left: Expr::Payload(f),
                op: RelOp::Implicit,
                right,
            },
        );
    }
}

/// `icmpv6 mtu` says the type (payload.c `payload_may_dependency_kill_icmp`).
pub(super) fn icmp_implied(rule: &mut Rule) {
    let named = |s: &Stmt, name: &str| match s {
        Stmt::Match {
            left: Expr::Payload(f),
            right: Expr::Value(Value::Num(n)),
            ..
        } if f.proto == "icmpv6" && f.name == name => Some(*n),
        _ => None,
    };
    let hit = rule
        .stmts
        .windows(2)
        .position(|w| named(&w[0], "type") == Some(2) && named(&w[1], "mtu").is_some());
    if let Some(at) = hit {
        rule.stmts.remove(at);
    }
}
