//! Printing expressions, statements and elements as nft does.
//!
//! Invariant: what is printed is read back equal.

mod stmt;

use stmt::{addr_port, addr_type, family_to, fwd, log, nat, object, own, queue, reject, set_op};
pub use stmt::{limit, quota, stateful, synproxy};

use core::fmt::Write as _;

use super::elements::{Data, Element, Part};
use super::expr::*;
use super::fields::{self, CtKey};
use super::model::{Family, ObjectKind, Rule};
use super::symbols;
use super::time;
use super::types::{Type, Value};

/// Writes a rule without its line's indentation.
pub fn rule(family: Family, r: &Rule, out: &mut String) {
    for (i, s) in r.stmts.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        stmt(family, s, out);
    }
    if let Some(c) = &r.comment {
        let gap = if r.stmts.is_empty() { "" } else { " " };
        let _ = write!(out, "{gap}comment \"{c}\"");
    }
}

/// Writes one statement.
pub fn stmt(family: Family, s: &Stmt, out: &mut String) {
    let _ = match s {
        Stmt::Match { left, op, right } => {
            comparison(left, *op, right, out);
            Ok(())
        }
        Stmt::Verdict(v) => {
            verdict(v, out);
            Ok(())
        }
        Stmt::Vmap(key, of) => {
            expr(key, &[], out);
            out.push_str(" vmap ");
            expr(of, &key.dtypes(), out);
            Ok(())
        }
        Stmt::State(s) => {
            stateful(s, out);
            Ok(())
        }
        Stmt::Object(kind, name) => {
            object(*kind, name, out);
            Ok(())
        }
        Stmt::Log(l) => log(l, out),
        Stmt::Reject(r) => reject(*r, out),
        Stmt::Nat(n) => {
            nat(family, n, out);
            Ok(())
        }
        Stmt::Set(to, value) => {
            expr(to, &[], out);
            out.push_str(" set ");
            expr(value, &to.dtypes(), out);
            Ok(())
        }
        Stmt::Notrack => out.write_str("notrack"),
        Stmt::Tproxy(t) => {
            out.push_str("tproxy");
            family_to(t.family, false, out);
            addr_port(own(family, t.family), t.addr.as_ref(), t.port.as_ref(), out);
            Ok(())
        }
        Stmt::Queue(q) => {
            queue(q, out);
            Ok(())
        }
        Stmt::Dup(to, device) => {
            out.push_str("dup to ");
            let t = if family == Family::Netdev {
                Type::IfIndex
            } else {
                own(family, None).unwrap_or_else(|| addr_type(to))
            };
            expr(to, &[t], out);
            if let Some(d) = device {
                out.push_str(" device ");
                expr(d, &[Type::IfIndex], out);
            }
            Ok(())
        }
        Stmt::Fwd(f) => {
            fwd(f, out);
            Ok(())
        }
        Stmt::SetOp(op) => {
            set_op(op, out);
            Ok(())
        }
        Stmt::Flow(name) => write!(out, "flow add @{name}"),
        Stmt::Synproxy(s) => {
            out.push_str("synproxy");
            synproxy(s, " ", out);
            Ok(())
        }
        Stmt::ResetTcpOption(kind) => write!(out, "reset tcp option {}", tcp_option(*kind)),
        Stmt::Xt(kind, name) => write!(out, "xt {kind} \"{name}\""),
        Stmt::Unknown(text) => out.write_str(text),
    };
}

fn comparison(left: &Expr, op: RelOp, right: &Expr, out: &mut String) {
    expr(left, &[], out);
    out.push(' ');
    let types = left.dtypes();
    let bare = matches!(op, RelOp::Implicit);
    if !bare {
        let _ = write!(out, "{} ", op.as_str());
    }
    expr(right, &types, out);
}

/// Writes a verdict.
pub fn verdict(v: &Verdict, out: &mut String) {
    let _ = match v {
        Verdict::Accept => out.write_str("accept"),
        Verdict::Drop => out.write_str("drop"),
        Verdict::Continue => out.write_str("continue"),
        Verdict::Return => out.write_str("return"),
        Verdict::Jump(c) => write!(out, "jump {c}"),
        Verdict::Goto(c) => write!(out, "goto {c}"),
    };
}

/// Writes an expression; `types` are those of literals in it.
pub fn expr(e: &Expr, types: &[Type], out: &mut String) {
    let t = types.first().copied().unwrap_or(Type::Integer(32));
    let _ = match e {
        Expr::Value(_) | Expr::Prefix(..) | Expr::Range(..) | Expr::Flags(_) | Expr::Masked(..) => {
            literal(e, t, out);
            Ok(())
        }
        Expr::Concat(parts) => {
            for (i, p) in parts.iter().enumerate() {
                if i > 0 {
                    out.push_str(" . ");
                }
                expr(p, types.get(i..=i).unwrap_or_default(), out);
            }
            Ok(())
        }
        Expr::Meta(k) if k.is_bare() => out.write_str(k.as_str()),
        Expr::Meta(k) => write!(out, "meta {}", k.as_str()),
        Expr::Ct(k, dir) => ct(*k, *dir, out),
        Expr::Binop(op, a, b) => {
            binop(*op, a, b, t, out);
            Ok(())
        }
        Expr::Set(list) => {
            anonymous(list, types, t, out);
            Ok(())
        }
        Expr::SetRef(name) => write!(out, "@{name}"),
        Expr::Map(key, of) => {
            expr(key, &[], out);
            out.push_str(" map ");
            match &**of {
                Expr::Set(list) => map_of(list, &key.dtypes(), types, out),
                other => expr(other, &[], out),
            }
            Ok(())
        }
        _ => field(e, out),
    };
}

fn field(e: &Expr, out: &mut String) -> core::fmt::Result {
    match e {
        Expr::Payload(f) | Expr::Unasked(f) => write!(out, "{} {}", f.proto, f.name),
        Expr::Raw(base, offset, bits) => write!(out, "@{},{offset},{bits}", base.as_str()),
        Expr::Exthdr(f) => write!(out, "{} {}", f.header, f.name),
        Expr::ExthdrExists(name, _) => write!(out, "exthdr {name}"),
        Expr::TcpOption(f) => write!(out, "tcp option {} {}", f.header, f.name),
        Expr::TcpOptionExists(kind) => write!(out, "tcp option {}", tcp_option(*kind)),
        Expr::TcpOptionRaw(kind, offset, bits) => write!(out, "tcp option @{kind},{offset},{bits}"),
        Expr::IpOption(f) => write!(out, "ip option {} {}", f.header, f.name),
        Expr::IpOptionExists(name, _) => write!(out, "ip option {name}"),
        Expr::SctpChunk(f) => write!(out, "sctp chunk {} {}", f.header, f.name),
        Expr::SctpChunkExists(name, _) => write!(out, "sctp chunk {name}"),
        Expr::Fib(f) => write!(out, "fib {} {}", f.words().join(" . "), f.result.word()),
        Expr::Rt(k) => out.write_str(match k {
            RtKey::ClassId => "rt classid",
            RtKey::NexthopV4 => "rt ip nexthop",
            RtKey::NexthopV6 => "rt ip6 nexthop",
            RtKey::Mtu => "rt mtu",
            RtKey::Ipsec => "rt ipsec",
        }),
        Expr::Socket(k) => match k {
            SocketKey::Transparent => out.write_str("socket transparent"),
            SocketKey::Mark => out.write_str("socket mark"),
            SocketKey::Wildcard => out.write_str("socket wildcard"),
            SocketKey::CgroupV2(level) => write!(out, "socket cgroupv2 level {level}"),
        },
        _ => generator(e, out),
    }
}

fn generator(e: &Expr, out: &mut String) -> core::fmt::Result {
    let offset_of = match e {
        Expr::Osf { ttl, version } => {
            let ttl = match ttl {
                Some(OsfTtl::Loose) => "ttl loose ",
                Some(OsfTtl::Skip) => "ttl skip ",
                None => "",
            };
            return write!(
                out,
                "osf {ttl}{}",
                if *version { "version" } else { "name" }
            );
        }
        Expr::Ipsec { out: o, spnum, key } => {
            let key = match key {
                IpsecKey::Reqid => "reqid",
                IpsecKey::Spi => "spi",
                IpsecKey::Ip4Saddr => "ip saddr",
                IpsecKey::Ip4Daddr => "ip daddr",
                IpsecKey::Ip6Saddr => "ip6 saddr",
                IpsecKey::Ip6Daddr => "ip6 daddr",
            };
            let sp = if *spnum == 0 {
                String::new()
            } else {
                format!("spnum {spnum} ")
            };
            return write!(out, "ipsec {} {sp}{key}", if *o { "out" } else { "in" });
        }
        Expr::Numgen {
            random,
            modulus,
            offset,
        } => {
            let _ = write!(
                out,
                "numgen {} mod {modulus}",
                if *random { "random" } else { "inc" }
            );
            *offset
        }
        Expr::Jhash {
            of,
            modulus,
            seed,
            offset,
        } => {
            out.push_str("jhash ");
            expr(of, &[], out);
            let _ = write!(out, " mod {modulus}");
            if let Some(s) = seed {
                let _ = write!(out, " seed 0x{s:x}");
            }
            *offset
        }
        Expr::Symhash { modulus, offset } => {
            let _ = write!(out, "symhash mod {modulus}");
            *offset
        }
        _ => 0,
    };
    if offset_of != 0 {
        let _ = write!(out, " offset {offset_of}");
    }
    Ok(())
}

fn tcp_option(kind: u8) -> String {
    let known = fields::TCP_OPTIONS.iter().find(|f| f.kind == kind);
    known.map_or_else(|| kind.to_string(), |f| f.header.to_owned())
}

fn ct(k: CtKey, dir: Option<Direction>, out: &mut String) -> core::fmt::Result {
    match dir {
        Some(d) => write!(out, "ct {} {}", d.as_str(), k.as_str()),
        None => write!(out, "ct {}", k.as_str()),
    }
}

fn binop(op: Op, a: &Expr, b: &Expr, t: Type, out: &mut String) {
    let of = a.dtype().unwrap_or(t);
    expr(a, &[of], out);
    let _ = write!(out, " {} ", op.as_str());
    match (op, b) {
        (Op::Shl | Op::Shr, Expr::Value(Value::Num(n))) => ignore(write!(out, "{n}")),
        (_, Expr::Value(Value::Num(n))) if of.is_flags() => {
            let mut words = String::new();
            of.show(&Value::Num(*n), &mut words);
            let wrap = words.contains(" | ");
            let _ = if wrap {
                write!(out, "({words})")
            } else {
                write!(out, "{words}")
            };
        }
        _ => expr(b, &[of], out),
    }
}

/// Writes a literal of a type.
fn literal(e: &Expr, t: Type, out: &mut String) {
    match e {
        Expr::Value(v) => t.show(v, out),
        Expr::Prefix(v, len) => {
            t.show(v, out);
            let _ = write!(out, "/{len}");
        }
        Expr::Range(a, b) => {
            t.show(a, out);
            out.push('-');
            t.show(b, out);
        }
        Expr::Flags(list) => flags(list.iter().filter_map(Value::num), t, out),
        Expr::Masked(value, mask) => {
            let words = |n: u128| {
                let mut bits: Vec<_> = t
                    .symbols()
                    .iter()
                    .map(|s| s.1)
                    .filter(|b| n & b != 0)
                    .collect();
                bits.sort_unstable();
                if bits.is_empty() { vec![n] } else { bits }
            };
            flags(words(*value).into_iter(), t, out);
            out.push_str(" / ");
            flags(words(*mask).into_iter(), t, out);
        }
        _ => {}
    }
}

fn flags(list: impl Iterator<Item = u128>, t: Type, out: &mut String) {
    for (i, n) in list.enumerate() {
        if i > 0 {
            out.push(',');
        }
        t.show(&Value::Num(n), out);
    }
}

fn anonymous(list: &[Element], types: &[Type], t: Type, out: &mut String) {
    let own = [t];
    let types = if types.is_empty() { &own } else { types };
    out.push_str("{ ");
    for (i, e) in list.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        element(e, types, None, out);
    }
    out.push_str(" }");
}

fn map_of(list: &[Element], key: &[Type], data: &[Type], out: &mut String) {
    out.push_str("{ ");
    for (i, e) in list.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        element(e, key, Some(data), out);
    }
    out.push_str(" }");
}

/// Writes an element of a set of these types.
pub fn element(e: &Element, key: &[Type], data: Option<&[Type]>, out: &mut String) {
    parts(&e.key, key, out);
    for s in &e.state {
        out.push(' ');
        stateful(s, out);
    }
    if let Some(ms) = e.timeout {
        out.push_str(" timeout ");
        time::show(ms, out);
    }
    if let Some(ms) = e.expires {
        out.push_str(" expires ");
        time::show(ms, out);
    }
    if let Some(c) = &e.comment {
        let _ = write!(out, " comment \"{c}\"");
    }
    match &e.data {
        None => {}
        Some(Data::Verdict(v)) => {
            out.push_str(" : ");
            verdict(v, out);
        }
        Some(Data::Object(name)) => ignore(write!(out, " : \"{name}\"")),
        Some(Data::Values(p)) => {
            out.push_str(" : ");
            parts(p, data.unwrap_or_default(), out);
        }
    }
}

fn parts(parts: &[Part], types: &[Type], out: &mut String) {
    for (i, p) in parts.iter().enumerate() {
        if i > 0 {
            out.push_str(" . ");
        }
        let t = types.get(i).copied().unwrap_or(Type::Integer(32));
        match p {
            Part::Any => out.push('*'),
            p => literal(&super::parse_expr::literal(p.clone()), t, out),
        }
    }
}

/// Writing to a `String` cannot fail.
fn ignore(_: core::fmt::Result) {}
