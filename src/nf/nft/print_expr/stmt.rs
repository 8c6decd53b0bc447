//! Statements with parts of their own: limits, logs, translations, changes of sets.
//!
//! Invariant: as `nft list ruleset` prints them, word by word.

use super::*;

/// Writes `counter`, `limit` and the like.
pub fn stateful(s: &Stateful, out: &mut String) {
    match s {
        Stateful::Counter(c) => ignore(write!(
            out,
            "counter packets {} bytes {}",
            c.packets, c.bytes
        )),
        Stateful::Limit(l) => {
            out.push_str("limit ");
            limit(l, out);
        }
        Stateful::Quota(q) => {
            out.push_str("quota ");
            quota(q, out);
        }
        Stateful::CtCount { over, count } => {
            let _ = write!(out, "ct count {}{count}", if *over { "over " } else { "" });
        }
        Stateful::Last(None) => out.push_str("last used never"),
        Stateful::Last(Some(ms)) => {
            out.push_str("last used ");
            time::show(*ms, out);
        }
    }
}

/// The largest unit that divides a number of bytes (nftables statement.c get_rate).
pub(super) fn scaled(n: u64) -> (u64, &'static str) {
    match n {
        _ if n == 0 || !n.is_multiple_of(1024) => (n, "bytes"),
        _ if !n.is_multiple_of(1024 * 1024) => (n / 1024, "kbytes"),
        _ => (n / (1024 * 1024), "mbytes"),
    }
}

/// Writes what stands behind `limit`.
pub fn limit(l: &Limit, out: &mut String) {
    let per = match l.per {
        1 => "second",
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        _ => "week",
    };
    let over = if l.over { "over " } else { "" };
    if !l.bytes {
        let _ = write!(out, "rate {over}{}/{per}", l.rate);
        // 5 is the burst that nft takes when none is written, and it does not print it.
        if l.burst > 0 && l.burst != 5 {
            let _ = write!(out, " burst {} packets", l.burst);
        }
        return;
    }
    let (rate, unit) = scaled(l.rate);
    let _ = write!(out, "rate {over}{rate} {unit}/{per}");
    if l.burst > 0 {
        let (burst, unit) = scaled(u64::from(l.burst));
        let _ = write!(out, " burst {burst} {unit}");
    }
}

/// Writes what stands behind `quota`.
pub fn quota(q: &Quota, out: &mut String) {
    let (n, unit) = scaled(q.bytes);
    let _ = write!(out, "{}{n} {unit}", if q.over { "over " } else { "" });
    if q.used > 0 {
        let (n, unit) = scaled(q.used);
        let _ = write!(out, " used {n} {unit}");
    }
}

pub(super) fn object(kind: ObjectKind, name: &Expr, out: &mut String) {
    let _ = match kind {
        ObjectKind::CtHelper | ObjectKind::CtTimeout | ObjectKind::CtExpect => {
            write!(out, "{} set ", kind.as_str())
        }
        _ => write!(out, "{} name ", kind.as_str()),
    };
    match name {
        Expr::Value(Value::Text(n, _)) => ignore(write!(out, "\"{n}\"")),
        other => expr(other, &[Type::Object(kind)], out),
    }
}

pub(super) fn log(l: &Log, out: &mut String) -> core::fmt::Result {
    out.push_str("log");
    if let Some(p) = &l.prefix {
        write!(out, " prefix \"{p}\"")?;
    }
    if let Some(g) = l.group {
        write!(out, " group {g}")?;
        if let Some(s) = l.snaplen {
            write!(out, " snaplen {s}")?;
        }
        if let Some(t) = l.threshold {
            write!(out, " queue-threshold {t}")?;
        }
    }
    if let Some(level) = &l.level {
        write!(out, " level {level}")?;
    }
    if l.flags == 47 {
        return out.write_str(" flags all");
    }
    match l.flags & 3 {
        1 => out.push_str(" flags tcp sequence"),
        2 => out.push_str(" flags tcp options"),
        3 => out.push_str(" flags tcp sequence,options"),
        _ => {}
    }
    for (bit, word) in [(4, "ip options"), (8, "skuid"), (32, "ether")] {
        if l.flags & bit != 0 {
            write!(out, " flags {word}")?;
        }
    }
    Ok(())
}

pub(super) fn reject(r: Reject, out: &mut String) -> core::fmt::Result {
    let (kind, table, code) = match r {
        Reject::Default => return out.write_str("reject"),
        Reject::TcpReset => return out.write_str("reject with tcp reset"),
        Reject::Icmp(c) => ("icmp", symbols::ICMP_CODE, c),
        Reject::Icmpv6(c) => ("icmpv6", symbols::ICMPV6_CODE, c),
        Reject::Icmpx(c) => ("icmpx", symbols::ICMPX_CODE, c),
    };
    match table.iter().find(|s| s.1 == u128::from(code)) {
        Some(s) => write!(out, "reject with {kind} {}", s.0),
        None => write!(out, "reject with {kind} {code}"),
    }
}

pub(super) fn family_to(family: Option<IpFamily>, prefix: bool, out: &mut String) {
    if let Some(f) = family {
        let _ = write!(out, " {}", f.as_str());
    }
    out.push_str(if prefix { " prefix to " } else { " to " });
}

/// IPv4 unless the literal cannot be one: an address's type where nothing else says it.
pub(super) fn addr_type(e: &Expr) -> Type {
    let wide = |v: &Value| v.num().is_some_and(|n| n > u128::from(u32::MAX));
    match e {
        Expr::Value(v) | Expr::Prefix(v, _) if wide(v) => Type::Ipv6,
        Expr::Range(_, v) if wide(v) => Type::Ipv6,
        _ => Type::Ipv4,
    }
}

/// The type of addresses where the statement or the table says it.
pub(super) fn own(family: Family, written: Option<IpFamily>) -> Option<Type> {
    match (written, family) {
        (Some(f), _) => Some(f.dtype()),
        (None, Family::Ip) => Some(Type::Ipv4),
        (None, Family::Ip6) => Some(Type::Ipv6),
        _ => None,
    }
}

pub(super) fn addr_port(
    own: Option<Type>,
    addr: Option<&Expr>,
    port: Option<&Expr>,
    out: &mut String,
) {
    match addr {
        None => {}
        Some(e @ (Expr::Value(_) | Expr::Range(..) | Expr::Prefix(..))) => {
            let t = own.unwrap_or_else(|| addr_type(e));
            let mut text = String::new();
            literal(e, t, &mut text);
            if t == Type::Ipv6 && port.is_some() {
                text = format!("[{}]", text.replace('-', "]-["));
            }
            out.push_str(&text);
        }
        Some(map) => {
            let t = own.unwrap_or_else(|| match map {
                Expr::Map(_, of) => map_addr_type(of),
                _ => Type::Ipv4,
            });
            expr(map, &[t, Type::InetService], out);
        }
    }
    if let Some(p) = port {
        out.push(':');
        expr(p, &[Type::InetService], out);
    }
}

pub(super) fn map_addr_type(of: &Expr) -> Type {
    let Expr::Set(list) = of else {
        return Type::Ipv4;
    };
    let wide = |v: &Value| v.num().is_some_and(|n| n > u128::from(u32::MAX));
    let v6 = list.iter().any(|e| match &e.data {
        Some(Data::Values(p)) => p.iter().any(|p| match p {
            Part::Value(v) | Part::Prefix(v, _) | Part::Range(_, v) => wide(v),
            Part::Any => false,
        }),
        _ => false,
    });
    if v6 { Type::Ipv6 } else { Type::Ipv4 }
}

pub(super) fn nat(family: Family, n: &Nat, out: &mut String) {
    out.push_str(n.kind.as_str());
    if n.addr.is_some() || n.port.is_some() {
        family_to(n.family, n.prefix, out);
        addr_port(own(family, n.family), n.addr.as_ref(), n.port.as_ref(), out);
    }
    let words = [
        (n.random, "random"),
        (n.fully_random, "fully-random"),
        (n.persistent, "persistent"),
    ];
    for (i, w) in words.iter().filter(|w| w.0).enumerate() {
        let _ = write!(out, "{}{}", if i == 0 { " " } else { "," }, w.1);
    }
}

pub(super) fn queue(q: &Queue, out: &mut String) {
    out.push_str("queue");
    let words: Vec<_> = [(q.bypass, "bypass"), (q.fanout, "fanout")]
        .iter()
        .filter(|w| w.0)
        .map(|w| w.1)
        .collect();
    if !words.is_empty() {
        let _ = write!(out, " flags {}", words.join(","));
    }
    match &q.to {
        Some(e) => {
            out.push_str(" to ");
            expr(e, &[Type::Integer(16)], out);
        }
        None => out.push_str(" to 0"),
    }
}

pub(super) fn fwd(f: &Fwd, out: &mut String) {
    out.push_str("fwd");
    if let (Some(family), Some(addr)) = (f.family, &f.addr) {
        let _ = write!(out, " {} to ", family.as_str());
        expr(addr, &[family.dtype()], out);
        out.push_str(" device ");
    } else {
        out.push_str(" to ");
    }
    expr(&f.device, &[Type::IfIndex], out);
}

pub(super) fn set_op(op: &SetOp, out: &mut String) {
    let _ = match op.meter {
        Some(size) => write!(out, "meter {} size {size} {{ ", op.set),
        None => write!(out, "{} @{} {{ ", op.verb.as_str(), op.set),
    };
    expr(&op.key, &[], out);
    if let Some(ms) = op.timeout {
        out.push_str(" timeout ");
        time::show(ms, out);
    }
    if let Some(c) = &op.comment {
        let _ = write!(out, " comment \"{c}\"");
    }
    for s in &op.state {
        out.push(' ');
        // nft prints the state of a set statement without what has been counted.
        match s {
            Stateful::Counter(_) => out.push_str("counter"),
            other => stateful(other, out),
        }
    }
    if let Some(d) = &op.data {
        out.push_str(" : ");
        expr(d, &[data_type(d)], out);
    }
    out.push_str(" }");
}

/// A literal of a map's data whose map is not at hand is written as a mark.
pub(super) fn data_type(d: &Expr) -> Type {
    d.dtype().unwrap_or(Type::Mark)
}

/// Writes the options of a SYN proxy, each with `gap` in front.
pub fn synproxy(s: &Synproxy, gap: &str, out: &mut String) {
    if let Some(m) = s.mss {
        let _ = write!(out, "{gap}mss {m}");
    }
    if let Some(w) = s.wscale {
        let _ = write!(out, "{gap}wscale {w}");
    }
    let words: Vec<_> = [(s.timestamp, "timestamp"), (s.sack_perm, "sack-perm")]
        .iter()
        .filter(|w| w.0)
        .map(|w| w.1)
        .collect();
    if !words.is_empty() {
        let _ = write!(out, "{gap}{}", words.join(" "));
    }
}
