//! `nft -j` JSON out (libnftables-json(5), schema version 1).
//!
//! Order as nft's: per table the table, objects, sets and maps, flow tables, chains, then the
//! rules. Comments of tables
//! and chains, which nft has left out before 1.0.8, are there. Invariant: what is printed is read
//! back equal.

use serde_json::{Map, Value as Json, json};

use super::elements::{Data, Element, Part};
use super::expr::*;
use super::fields::{self, CtKey};
use super::model::*;
use super::symbols;
use super::types::{Type, Value};

impl Ruleset {
    /// As `nft -j list ruleset` prints it.
    pub fn to_json(&self) -> Json {
        let mut out = vec![json!({"metainfo": {
            "version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1
        }})];
        self.tables.values().for_each(|t| table(t, &mut out));
        json!({ "nftables": out })
    }
}

fn put(o: &mut Json, key: &str, value: impl Into<Json>) {
    if let Json::Object(o) = o {
        o.insert(key.to_owned(), value.into());
    }
}

fn comment(o: &mut Json, c: &Option<Box<str>>) {
    if let Some(c) = c {
        put(o, "comment", &**c);
    }
}

fn one(key: &str, value: Json) -> Json {
    let mut o = Map::new();
    o.insert(key.to_owned(), value);
    Json::Object(o)
}

/// A word alone, or several as a list.
fn list(words: Vec<Json>) -> Json {
    match <[Json; 1]>::try_from(words) {
        Ok([one]) => one,
        Err(many) => Json::Array(many),
    }
}

fn table(t: &Table, out: &mut Vec<Json>) {
    let family = t.family.as_str();
    let mut o = json!({"family": family, "name": &*t.name, "handle": t.handle});
    let flags = [
        (t.dormant, "dormant"),
        (t.owner, "owner"),
        (t.persist, "persist"),
    ];
    let flags = named(&flags);
    if !flags.is_empty() {
        put(&mut o, "flags", flags);
    }
    comment(&mut o, &t.comment);
    out.push(one("table", o));
    out.extend(t.objects.values().map(|o| object(t, o)));
    out.extend(t.sets.values().map(|s| set(t, s)));
    for f in t.flowtables.values() {
        let dev = list(f.devices.iter().map(|d| (**d).into()).collect());
        let mut o =
            json!({"family": family, "name": &*f.name, "table": &*t.name, "handle": f.handle});
        put(&mut o, "hook", f.hook.as_str());
        put(&mut o, "prio", f.priority);
        put(&mut o, "dev", dev);
        out.push(one("flowtable", o));
    }
    out.extend(t.chains.values().map(|c| chain(t, c)));
    for c in t.chains.values() {
        for r in &c.rules {
            let mut o =
                json!({"family": family, "table": &*t.name, "chain": &*c.name, "handle": r.handle});
            comment(&mut o, &r.comment);
            let stmts: Vec<Json> = r.stmts.iter().map(|s| stmt(t.family, s)).collect();
            put(&mut o, "expr", stmts);
            out.push(one("rule", o));
        }
    }
}

fn chain(t: &Table, c: &Chain) -> Json {
    let mut o = json!({"family": t.family.as_str(), "table": &*t.name, "name": &*c.name, "handle": c.handle});
    comment(&mut o, &c.comment);
    if let Some(b) = &c.base {
        put(&mut o, "type", b.kind.as_str());
        put(&mut o, "hook", b.hook.as_str());
        put(&mut o, "prio", b.priority);
        if !b.devices.is_empty() {
            put(
                &mut o,
                "dev",
                list(b.devices.iter().map(|d| (**d).into()).collect()),
            );
        }
        put(&mut o, "policy", b.policy.as_str());
    }
    one("chain", o)
}

fn proto(n: u8) -> Json {
    value(Type::InetProto, &Value::Num(u128::from(n)))
}

fn object(t: &Table, obj: &Object) -> Json {
    let mut o = json!({"family": t.family.as_str(), "name": &*obj.name, "table": &*t.name, "handle": obj.handle});
    comment(&mut o, &obj.comment);
    let l3 = |o: &mut Json, l3: &Option<Family>| {
        if let Some(f) = l3 {
            put(o, "l3proto", f.as_str());
        }
    };
    match &obj.body {
        ObjectBody::Counter(c) => {
            put(&mut o, "packets", c.packets);
            put(&mut o, "bytes", c.bytes);
        }
        ObjectBody::Quota(q) => {
            put(&mut o, "bytes", q.bytes);
            put(&mut o, "used", q.used);
            put(&mut o, "inv", q.over);
        }
        ObjectBody::Limit(l) => limit_object(l, &mut o),
        ObjectBody::CtHelper {
            helper,
            protocol,
            l3: f,
        } => {
            put(&mut o, "type", &**helper);
            put(&mut o, "protocol", proto(*protocol));
            l3(&mut o, f);
        }
        ObjectBody::CtTimeout {
            protocol,
            l3: f,
            policy,
        } => {
            put(&mut o, "protocol", proto(*protocol));
            l3(&mut o, f);
            let list: Map<String, Json> = policy
                .iter()
                .map(|p| (p.0.to_string(), p.1.into()))
                .collect();
            put(&mut o, "policy", list);
        }
        ObjectBody::CtExpect {
            protocol,
            dport,
            timeout,
            size,
            l3: f,
        } => {
            put(&mut o, "protocol", proto(*protocol));
            put(&mut o, "dport", *dport);
            put(&mut o, "timeout", *timeout);
            put(&mut o, "size", *size);
            l3(&mut o, f);
        }
        ObjectBody::Synproxy(s) => synproxy(s, &mut o),
        ObjectBody::Secmark(c) => put(&mut o, "context", &**c),
    }
    one(obj.body.kind().as_str(), o)
}

fn synproxy(s: &Synproxy, o: &mut Json) {
    if let Some(m) = s.mss {
        put(o, "mss", m);
    }
    if let Some(w) = s.wscale {
        put(o, "wscale", w);
    }
    let flags = [(s.timestamp, "timestamp"), (s.sack_perm, "sack-perm")];
    let flags = named(&flags);
    if !flags.is_empty() {
        put(o, "flags", list(flags));
    }
}

/// The largest unit that divides a number of bytes.
fn scaled(n: u64) -> (u64, &'static str) {
    match n {
        _ if n == 0 || !n.is_multiple_of(1024) => (n, "bytes"),
        _ if !n.is_multiple_of(1024 * 1024) => (n / 1024, "kbytes"),
        _ => (n / (1024 * 1024), "mbytes"),
    }
}

fn per(l: &Limit) -> &'static str {
    match l.per {
        1 => "second",
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        _ => "week",
    }
}

/// A named limit: units only where they are bytes, a burst only where there is one.
fn limit_object(l: &Limit, o: &mut Json) {
    let (rate, unit) = if l.bytes {
        scaled(l.rate)
    } else {
        (l.rate, "")
    };
    let (burst, burst_unit) = if l.bytes {
        scaled(u64::from(l.burst))
    } else {
        (u64::from(l.burst), "")
    };
    put(o, "rate", rate);
    put(o, "per", per(l));
    if l.over {
        put(o, "inv", true);
    }
    if l.bytes {
        put(o, "rate_unit", unit);
    }
    if burst > 0 {
        put(o, "burst", burst);
        if l.bytes {
            put(o, "burst_unit", burst_unit);
        }
    }
}

fn limit(l: &Limit) -> Json {
    let (rate, unit) = if l.bytes {
        scaled(l.rate)
    } else {
        (l.rate, "")
    };
    let (burst, burst_unit) = if l.bytes {
        scaled(u64::from(l.burst))
    } else {
        (u64::from(l.burst), "")
    };
    let mut o = json!({"rate": rate, "burst": burst, "per": per(l)});
    if l.over {
        put(&mut o, "inv", true);
    }
    if l.bytes {
        put(&mut o, "rate_unit", unit);
        put(&mut o, "burst_unit", burst_unit);
    }
    o
}

fn set_types(t: &[Type]) -> Json {
    let name = |t: &Type| match t {
        Type::Object(k) => k.as_str(),
        t => t.name(),
    };
    list(t.iter().map(|t| name(t).into()).collect())
}

fn set(t: &Table, s: &Set) -> Json {
    let mut o = json!({"family": t.family.as_str(), "name": &*s.name, "table": &*t.name});
    put(&mut o, "type", set_types(&s.key.dtypes()));
    put(&mut o, "handle", s.handle);
    comment(&mut o, &s.comment);
    let data = s.data.as_ref().map(SetType::dtypes);
    if let Some(d) = &data {
        let names = match set_types(d) {
            Json::Array(a) => a
                .iter()
                .filter_map(Json::as_str)
                .collect::<Vec<_>>()
                .join(" . ")
                .into(),
            one => one,
        };
        put(&mut o, "map", names);
    }
    if s.memory {
        put(&mut o, "policy", "memory");
    }
    if let Some(n) = s.size {
        put(&mut o, "size", n);
    }
    let f = &s.flags;
    let flags = [
        (f.constant, "constant"),
        (f.interval, "interval"),
        (f.timeout, "timeout"),
        (f.dynamic, "dynamic"),
    ];
    let flags = named(&flags);
    if !flags.is_empty() {
        put(&mut o, "flags", flags);
    }
    if let Some(ms) = s.timeout {
        put(&mut o, "timeout", ms / 1000);
    }
    if let Some(ms) = s.gc_interval {
        put(&mut o, "gc-interval", ms / 1000);
    }
    if s.auto_merge {
        put(&mut o, "auto-merge", true);
    }
    if !s.elements.is_empty() {
        let types = s.key.dtypes();
        let all: Vec<Json> = s
            .elements
            .listed()
            .into_iter()
            .map(|e| element(e, &types, data.as_deref()))
            .collect();
        put(&mut o, "elem", all);
    }
    if !s.state.is_empty() {
        let all: Vec<Json> = s.state.iter().map(|s| stateful(s, true)).collect();
        put(&mut o, "stmt", all);
    }
    one(if s.data.is_some() { "map" } else { "set" }, o)
}

fn parts(p: &[Part], types: &[Type]) -> Json {
    let each = |(i, p): (usize, &Part)| {
        let t = types.get(i).copied().unwrap_or(Type::Integer(32));
        match p {
            Part::Any => "*".into(),
            p => literal(&super::parse_expr::literal(p.clone()), t),
        }
    };
    let mut all: Vec<Json> = p.iter().enumerate().map(each).collect();
    if all.len() == 1 {
        all.remove(0)
    } else {
        json!({ "concat": all })
    }
}

fn element(e: &Element, types: &[Type], data: Option<&[Type]>) -> Json {
    let mut key = parts(&e.key, types);
    if e.timeout.is_some() || e.expires.is_some() || e.comment.is_some() || !e.state.is_empty() {
        let mut o = json!({ "val": key });
        if let Some(ms) = e.timeout {
            put(&mut o, "timeout", ms / 1000);
        }
        if let Some(ms) = e.expires {
            put(&mut o, "expires", ms / 1000);
        }
        comment(&mut o, &e.comment);
        for s in &e.state {
            if let Json::Object(s) = stateful(s, false) {
                s.into_iter().for_each(|(k, v)| put(&mut o, &k, v));
            }
        }
        key = one("elem", o);
    }
    match &e.data {
        None => key,
        Some(Data::Verdict(v)) => json!([key, verdict(v)]),
        Some(Data::Object(n)) => json!([key, &**n]),
        Some(Data::Values(p)) => json!([key, parts(p, data.unwrap_or_default())]),
    }
}

fn verdict(v: &Verdict) -> Json {
    match v {
        Verdict::Accept => one("accept", Json::Null),
        Verdict::Drop => one("drop", Json::Null),
        Verdict::Continue => one("continue", Json::Null),
        Verdict::Return => one("return", Json::Null),
        Verdict::Jump(c) => json!({"jump": {"target": &**c}}),
        Verdict::Goto(c) => json!({"goto": {"target": &**c}}),
    }
}

fn stateful(s: &Stateful, bare: bool) -> Json {
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

fn unquoted(t: Type, v: &Value) -> String {
    let mut out = String::new();
    t.show(v, &mut out);
    out.trim_matches('"').to_owned()
}

/// One value: a number where nft's text is a number, else the text.
fn value(t: Type, v: &Value) -> Json {
    let Value::Num(n) = v else {
        return unquoted(t, v).into();
    };
    let number = || u64::try_from(*n).map_or_else(|_| n.to_string().into(), Json::from);
    if t == Type::Boolean {
        return Json::Bool(*n != 0);
    }
    let known = t.symbols().iter().any(|s| s.1 == *n);
    let words = t.is_flags()
        && n.count_ones() > 1
        && (0..128).all(|b| n >> b & 1 == 0 || t.symbols().iter().any(|s| s.1 == 1 << b));
    if words {
        let mut bits: Vec<_> = t.symbols().iter().filter(|s| n & s.1 != 0).collect();
        bits.sort_by_key(|s| s.1);
        return json!({"|": bits.iter().map(|s| s.0).collect::<Vec<_>>()});
    }
    match t {
        _ if known => unquoted(t, v).into(),
        Type::Ipv4
        | Type::Ipv6
        | Type::Ether
        | Type::ClassId
        | Type::Realm
        | Type::IfIndex
        | Type::Time
        | Type::Hour => unquoted(t, v).into(),
        Type::Relative => (n / 1000)
            .to_string()
            .parse::<u64>()
            .map_or(Json::Null, Json::from),
        _ => number(),
    }
}

fn literal(e: &Expr, t: Type) -> Json {
    match e {
        Expr::Value(v) => value(t, v),
        Expr::Prefix(v, len) => json!({"prefix": {"addr": value(t, v), "len": len}}),
        Expr::Range(a, b) => json!({"range": [value(t, a), value(t, b)]}),
        Expr::Flags(l) => l.iter().map(|v| value(t, v)).collect(),
        _ => Json::Null,
    }
}

fn expr(e: &Expr, types: &[Type]) -> Json {
    let t = types.first().copied().unwrap_or(Type::Integer(32));
    match e {
        Expr::Value(_) | Expr::Prefix(..) | Expr::Range(..) | Expr::Flags(_) => literal(e, t),
        Expr::Masked(v, _) => flag_list(*v, t),
        Expr::Concat(p) => {
            let each = |(i, p): (usize, &Expr)| expr(p, types.get(i..=i).unwrap_or_default());
            json!({"concat": p.iter().enumerate().map(each).collect::<Vec<_>>()})
        }
        Expr::Binop(op, a, b) => {
            let of = a.dtype().unwrap_or(t);
            let right = match (op, &**b) {
                (Op::Shl | Op::Shr, Expr::Value(v)) => value(Type::Integer(32), v),
                (_, b) => expr(b, &[of]),
            };
            one(op.as_str(), json!([expr(a, &[of]), right]))
        }
        Expr::Set(l) => {
            let own = [t];
            let types = if types.is_empty() { &own } else { types };
            json!({"set": l.iter().map(|e| element(e, types, None)).collect::<Vec<_>>()})
        }
        Expr::SetRef(n) => format!("@{n}").into(),
        Expr::Map(key, of) => map(key, of, types),
        Expr::Payload(f) => json!({"payload": {"protocol": f.proto, "field": f.name}}),
        Expr::Raw(base, offset, bits) => {
            json!({"payload": {"base": base.as_str(), "offset": offset, "len": bits}})
        }
        Expr::Meta(k) => json!({"meta": {"key": k.as_str()}}),
        Expr::Ct(k, dir) => ct(*k, *dir),
        other => field(other),
    }
}

fn flag_list(n: u128, t: Type) -> Json {
    let mut bits: Vec<_> = t.symbols().iter().filter(|s| n & s.1 != 0).collect();
    bits.sort_by_key(|s| s.1);
    match bits.is_empty() {
        true => value(t, &Value::Num(n)),
        false => list(bits.iter().map(|s| s.0.into()).collect()),
    }
}

fn map(key: &Expr, of: &Expr, data: &[Type]) -> Json {
    let types = key.dtypes();
    let data = match of {
        Expr::Set(l) => {
            json!({"set": l.iter().map(|e| element(e, &types, Some(data))).collect::<Vec<_>>()})
        }
        other => expr(other, &[]),
    };
    json!({"map": {"key": expr(key, &[]), "data": data}})
}

fn ct(k: CtKey, dir: Option<Direction>) -> Json {
    let mut o = json!({"key": k.as_str()});
    if let Some(d) = dir {
        put(&mut o, "dir", d.as_str());
    }
    one("ct", o)
}

fn ext(kind: &str, name: &str, field: Option<&str>) -> Json {
    let mut o = json!({ "name": name });
    if let Some(f) = field {
        put(&mut o, "field", f);
    }
    one(kind, o)
}

fn tcp_option(kind: u8) -> Json {
    match fields::TCP_OPTIONS.iter().find(|f| f.kind == kind) {
        Some(f) => ext("tcp option", f.header, None),
        None => json!({"tcp option": {"base": kind, "offset": 0, "len": 8}}),
    }
}

fn field(e: &Expr) -> Json {
    match e {
        Expr::Exthdr(f) => ext("exthdr", f.header, Some(f.name)),
        Expr::ExthdrExists(n, _) => ext("exthdr", n, None),
        Expr::TcpOption(f) => ext("tcp option", f.header, Some(f.name)),
        Expr::TcpOptionExists(kind) => tcp_option(*kind),
        Expr::TcpOptionRaw(kind, offset, bits) => {
            json!({"tcp option": {"base": kind, "offset": offset, "len": bits}})
        }
        Expr::IpOption(f) => ext("ip option", f.header, Some(f.name)),
        Expr::IpOptionExists(n, _) => ext("ip option", n, None),
        Expr::SctpChunk(f) => ext("sctp chunk", f.header, Some(f.name)),
        Expr::SctpChunkExists(n, _) => ext("sctp chunk", n, None),
        Expr::Fib(f) => {
            let flags = [
                (f.saddr, "saddr"),
                (f.daddr, "daddr"),
                (f.mark, "mark"),
                (f.iif, "iif"),
                (f.oif, "oif"),
            ];
            let flags: Vec<_> = flags.into_iter().filter(|f| f.0).map(|f| f.1).collect();
            let result = match f.result {
                FibResult::Oif => "oif",
                FibResult::OifName => "oifname",
                FibResult::Type => "type",
            };
            json!({"fib": {"result": result, "flags": flags}})
        }
        Expr::Rt(k) => match k {
            RtKey::ClassId => json!({"rt": {"key": "classid"}}),
            RtKey::NexthopV4 => json!({"rt": {"key": "nexthop", "family": "ip"}}),
            RtKey::NexthopV6 => json!({"rt": {"key": "nexthop", "family": "ip6"}}),
            RtKey::Mtu => json!({"rt": {"key": "mtu"}}),
            RtKey::Ipsec => json!({"rt": {"key": "ipsec"}}),
        },
        Expr::Socket(k) => match k {
            SocketKey::Transparent => json!({"socket": {"key": "transparent"}}),
            SocketKey::Mark => json!({"socket": {"key": "mark"}}),
            SocketKey::Wildcard => json!({"socket": {"key": "wildcard"}}),
            SocketKey::CgroupV2(l) => json!({"socket": {"key": "cgroupv2", "level": l}}),
        },
        other => generator(other),
    }
}

fn generator(e: &Expr) -> Json {
    match e {
        Expr::Osf { ttl, version } => {
            let mut o = json!({"key": if *version { "version" } else { "name" }});
            match ttl {
                Some(OsfTtl::Loose) => put(&mut o, "ttl", "loose"),
                Some(OsfTtl::Skip) => put(&mut o, "ttl", "skip"),
                None => {}
            }
            one("osf", o)
        }
        Expr::Numgen {
            random,
            modulus,
            offset,
        } => {
            json!({"numgen": {"mode": if *random { "random" } else { "inc" }, "mod": modulus, "offset": offset}})
        }
        Expr::Jhash {
            of,
            modulus,
            seed,
            offset,
        } => {
            let mut o = json!({ "mod": modulus });
            if let Some(s) = seed {
                put(&mut o, "seed", *s);
            }
            if *offset > 0 {
                put(&mut o, "offset", *offset);
            }
            put(&mut o, "expr", expr(of, &[]));
            one("jhash", o)
        }
        Expr::Symhash { modulus, offset } => {
            let mut o = json!({ "mod": modulus });
            if *offset > 0 {
                put(&mut o, "offset", *offset);
            }
            one("symhash", o)
        }
        Expr::Ipsec { out, spnum, key } => {
            let (key, family) = match key {
                IpsecKey::Reqid => ("reqid", None),
                IpsecKey::Spi => ("spi", None),
                IpsecKey::Ip4Saddr => ("saddr", Some("ip")),
                IpsecKey::Ip4Daddr => ("daddr", Some("ip")),
                IpsecKey::Ip6Saddr => ("saddr", Some("ip6")),
                IpsecKey::Ip6Daddr => ("daddr", Some("ip6")),
            };
            let mut o = json!({"key": key, "dir": if *out { "out" } else { "in" }, "spnum": spnum});
            if let Some(f) = family {
                put(&mut o, "family", f);
            }
            one("ipsec", o)
        }
        _ => Json::Null,
    }
}

fn comparison(left: &Expr, op: RelOp, right: &Expr) -> Json {
    let types = left.dtypes();
    let flags = left.dtype().is_some_and(Type::is_flags);
    let mut of = expr(left, &[]);
    if let Expr::Masked(_, mask) = right {
        of = json!({"&": [of, flag_list(*mask, types.first().copied().unwrap_or(Type::TcpFlag))]});
    }
    let op = match (op, right) {
        (RelOp::Implicit, Expr::Value(_) | Expr::Flags(_)) if flags => "in",
        (RelOp::Implicit, _) => "==",
        (op, _) => op.as_str(),
    };
    json!({"match": {"op": op, "left": of, "right": expr(right, &types)}})
}

fn stmt(family: Family, s: &Stmt) -> Json {
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

fn change(family: Family, s: &Stmt) -> Json {
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

fn set_op(op: &SetOp) -> Json {
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

fn log(l: &Log) -> Json {
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

fn reject(family: Family, r: Reject) -> Json {
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

fn own(family: Family, written: Option<IpFamily>) -> Type {
    match (written, family) {
        (Some(f), _) => f.dtype(),
        (None, Family::Ip6) => Type::Ipv6,
        _ => Type::Ipv4,
    }
}

fn addr_port(t: Type, addr: Option<&Expr>, port: Option<&Expr>, o: &mut Json) {
    if let Some(a) = addr {
        put(o, "addr", expr(a, &[t, Type::InetService]));
    }
    if let Some(p) = port {
        put(o, "port", expr(p, &[Type::InetService]));
    }
}

fn nat(family: Family, n: &Nat) -> Json {
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
fn named(flags: &[(bool, &str)]) -> Vec<Json> {
    let set = flags.iter().filter(|f| f.0);
    set.map(|f| f.1.into()).collect()
}
