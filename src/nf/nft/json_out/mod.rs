//! `nft -j` JSON out (libnftables-json(5), schema version 1).
//!
//! Order as nft's: per table the table, objects, sets and maps, flow tables, chains, then the
//! rules. Comments of tables
//! and chains, which nft has left out before 1.0.8, are there. Invariant: what is printed is read
//! back equal.

mod expr;
mod stmt;

use expr::{literal, value};
use stmt::{named, stateful, stmt, verdict};

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
