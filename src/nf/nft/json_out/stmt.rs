//! Statements as libnftables' schema has them.
//!
//! Invariant: what is not understood is a statement of its text.

use super::expr::{comparison, expr, map, tcp_option};
use super::*;

pub(super) fn verdict(v: &Verdict) -> Json {
    match v {
        Verdict::Accept => one("accept", Json::Null),
        Verdict::Drop => one("drop", Json::Null),
        Verdict::Continue => one("continue", Json::Null),
        Verdict::Return => one("return", Json::Null),
        Verdict::Jump(c) => json!({"jump": {"target": &**c}}),
        Verdict::Goto(c) => json!({"goto": {"target": &**c}}),
    }
}

pub(super) fn stateful(s: &Stateful, bare: bool) -> Json {
    match s {
        Stateful::Counter(_) if bare => one("counter", Json::Null),
        Stateful::Counter(c) => json!({"counter": {"packets": c.packets, "bytes": c.bytes}}),
        Stateful::Limit(l) => one("limit", limit(l)),
        Stateful::Quota(q) => {
            let (n, unit) = scaled(q.bytes);
            let mut o = json!({"val": n, "val_unit": unit});
            if q.over {
                put(&mut o, "inv", true);
            }
            if q.used > 0 {
                let (n, unit) = scaled(q.used);
                put(&mut o, "used", n);
                put(&mut o, "used_unit", unit);
            }
            one("quota", o)
        }
        Stateful::CtCount { over, count } => {
            let mut o = json!({ "val": count });
            if *over {
                put(&mut o, "inv", true);
            }
            one("ct count", o)
        }
        Stateful::Last(ms) => one("last", ms.map_or(Json::Null, |ms| json!({ "used": ms }))),
    }
}

pub(super) fn stmt(family: Family, s: &Stmt) -> Json {
    match s {
        Stmt::Match { left, op, right } => comparison(left, *op, right),
        Stmt::Verdict(v) => verdict(v),
        Stmt::Vmap(key, of) => {
            let m = map(key, of, &[Type::Verdict]);
            json!({"vmap": m["map"]})
        }
        Stmt::State(s) => stateful(s, false),
        Stmt::Object(kind, Expr::Value(Value::Text(n, _))) => one(kind.as_str(), (**n).into()),
        Stmt::Object(kind, e) => one(kind.as_str(), expr(e, &[Type::Object(*kind)])),
        Stmt::Log(l) => log(l),
        Stmt::Reject(r) => reject(family, *r),
        Stmt::Nat(n) => nat(family, n),
        Stmt::Set(to, v) => {
            json!({"mangle": {"key": expr(to, &[]), "value": expr(v, &to.dtypes())}})
        }
        Stmt::Notrack => one("notrack", Json::Null),
        Stmt::Tproxy(t) => {
            let mut o = json!({});
            if let Some(f) = t.family {
                put(&mut o, "family", f.as_str());
            }
            addr_port(
                own(family, t.family),
                t.addr.as_ref(),
                t.port.as_ref(),
                &mut o,
            );
            one("tproxy", o)
        }
        Stmt::Queue(q) => {
            let flags = [(q.bypass, "bypass"), (q.fanout, "fanout")];
            let flags: Vec<Json> = flags
                .into_iter()
                .filter(|f| f.0)
                .map(|f| f.1.into())
                .collect();
            let mut o =
                json!({"num": q.to.as_ref().map_or(json!(0), |e| expr(e, &[Type::Integer(16)]))});
            if !flags.is_empty() {
                put(&mut o, "flags", list(flags));
            }
            one("queue", o)
        }
        other => change(family, other),
    }
}

pub(super) fn change(family: Family, s: &Stmt) -> Json {
    match s {
        Stmt::Dup(to, device) => {
            if family == Family::Netdev {
                return json!({"dup": {"addr": expr(to, &[Type::IfIndex])}});
            }
            let mut o = json!({"addr": expr(to, &[own(family, None)])});
            if let Some(d) = device {
                put(&mut o, "dev", expr(d, &[Type::IfIndex]));
            }
            one("dup", o)
        }
        Stmt::Fwd(f) => {
            let mut o = json!({"dev": expr(&f.device, &[Type::IfIndex])});
            if let (Some(family), Some(a)) = (f.family, &f.addr) {
                put(&mut o, "family", family.as_str());
                put(&mut o, "addr", expr(a, &[family.dtype()]));
            }
            one("fwd", o)
        }
        Stmt::SetOp(op) => set_op(op),
        Stmt::Flow(n) => json!({"flow": {"op": "add", "flowtable": format!("@{n}")}}),
        Stmt::Synproxy(s) => {
            let mut o = json!({});
            synproxy(s, &mut o);
            one("synproxy", o)
        }
        Stmt::ResetTcpOption(kind) => one("reset", tcp_option(*kind)),
        Stmt::Xt(kind, name) => json!({"xt": {"type": &**kind, "name": &**name}}),
        Stmt::Unknown(text) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!({"unknown": &**text}))
        }
        _ => Json::Null,
    }
}

pub(super) fn set_op(op: &SetOp) -> Json {
    let stmts: Vec<Json> = op
        .state
        .iter()
        .map(|s| stateful(s, matches!(s, Stateful::Counter(_))))
        .collect();
    let mut key = expr(&op.key, &[]);
    if op.timeout.is_some() || op.comment.is_some() {
        let mut o = json!({ "val": key });
        if let Some(ms) = op.timeout {
            put(&mut o, "timeout", ms / 1000);
        }
        comment(&mut o, &op.comment);
        key = one("elem", o);
    }
    if let Some(size) = op.meter {
        let stmt = stmts.into_iter().next().unwrap_or(Json::Null);
        return json!({"meter": {"key": key, "stmt": stmt, "size": size, "name": &*op.set}});
    }
    let mut o = json!({"op": op.verb.as_str(), "elem": key});
    if let Some(d) = &op.data {
        put(&mut o, "data", expr(d, &[d.dtype().unwrap_or(Type::Mark)]));
    }
    put(
        &mut o,
        if op.data.is_some() { "map" } else { "set" },
        format!("@{}", op.set),
    );
    if !stmts.is_empty() {
        put(&mut o, "stmt", stmts);
    }
    one(if op.data.is_some() { "map" } else { "set" }, o)
}

pub(super) fn log(l: &Log) -> Json {
    let mut o = json!({});
    if let Some(p) = &l.prefix {
        put(&mut o, "prefix", &**p);
    }
    if let Some(g) = l.group {
        put(&mut o, "group", g);
    }
    if let Some(n) = l.snaplen {
        put(&mut o, "snaplen", n);
    }
    if let Some(n) = l.threshold {
        put(&mut o, "queue-threshold", n);
    }
    if let Some(level) = &l.level {
        put(&mut o, "level", &**level);
    }
    let flags = [
        (1, "tcp sequence"),
        (2, "tcp options"),
        (4, "ip options"),
        (8, "skuid"),
        (32, "ether"),
    ];
    let flags: Vec<Json> = flags
        .into_iter()
        .filter(|f| l.flags & f.0 != 0)
        .map(|f| f.1.into())
        .collect();
    match l.flags {
        0 => {}
        47 => put(&mut o, "flags", "all"),
        _ => put(&mut o, "flags", list(flags)),
    }
    if o.as_object().is_some_and(Map::is_empty) {
        return one("log", Json::Null);
    }
    one("log", o)
}

pub(super) fn reject(family: Family, r: Reject) -> Json {
    let (kind, table, code) = match r {
        Reject::TcpReset => return json!({"reject": {"type": "tcp reset"}}),
        Reject::Default => match family {
            Family::Ip => ("icmp", symbols::ICMP_CODE, 3),
            Family::Ip6 => ("icmpv6", symbols::ICMPV6_CODE, 4),
            _ => ("icmpx", symbols::ICMPX_CODE, 1),
        },
        Reject::Icmp(c) => ("icmp", symbols::ICMP_CODE, c),
        Reject::Icmpv6(c) => ("icmpv6", symbols::ICMPV6_CODE, c),
        Reject::Icmpx(c) => ("icmpx", symbols::ICMPX_CODE, c),
    };
    let word = table
        .iter()
        .find(|s| s.1 == u128::from(code))
        .map_or_else(|| json!(code), |s| s.0.into());
    json!({"reject": {"type": kind, "expr": word}})
}

pub(super) fn own(family: Family, written: Option<IpFamily>) -> Type {
    match (written, family) {
        (Some(f), _) => f.dtype(),
        (None, Family::Ip6) => Type::Ipv6,
        _ => Type::Ipv4,
    }
}

pub(super) fn addr_port(t: Type, addr: Option<&Expr>, port: Option<&Expr>, o: &mut Json) {
    if let Some(a) = addr {
        put(o, "addr", expr(a, &[t, Type::InetService]));
    }
    if let Some(p) = port {
        put(o, "port", expr(p, &[Type::InetService]));
    }
}

pub(super) fn nat(family: Family, n: &Nat) -> Json {
    let mut o = json!({});
    if let Some(f) = n.family {
        put(&mut o, "family", f.as_str());
    }
    addr_port(
        own(family, n.family),
        n.addr.as_ref(),
        n.port.as_ref(),
        &mut o,
    );
    let flags = [
        (n.random, "random"),
        (n.fully_random, "fully-random"),
        (n.persistent, "persistent"),
        (n.prefix, "netmap"),
    ];
    let flags = named(&flags);
    if !flags.is_empty() {
        put(&mut o, "flags", list(flags));
    }
    if n.prefix {
        put(&mut o, "type_flags", "prefix");
    }
    if o.as_object().is_some_and(Map::is_empty) {
        return one(n.kind.as_str(), Json::Null);
    }
    one(n.kind.as_str(), o)
}

/// The names of the flags that are set.
pub(super) fn named(flags: &[(bool, &str)]) -> Vec<Json> {
    let set = flags.iter().filter(|f| f.0);
    set.map(|f| f.1.into()).collect()
}
