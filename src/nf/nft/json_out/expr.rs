//! Expressions as libnftables' schema has them.
//!
//! Invariant: a literal is written by the type of what it stands with.

use super::*;

pub(super) fn unquoted(t: Type, v: &Value) -> String {
    let mut out = String::new();
    t.show(v, &mut out);
    out.trim_matches('"').to_owned()
}

/// One value: a number where nft's text is a number, else the text.
pub(super) fn value(t: Type, v: &Value) -> Json {
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

pub(super) fn literal(e: &Expr, t: Type) -> Json {
    match e {
        Expr::Value(v) => value(t, v),
        Expr::Prefix(v, len) => json!({"prefix": {"addr": value(t, v), "len": len}}),
        Expr::Range(a, b) => json!({"range": [value(t, a), value(t, b)]}),
        Expr::Flags(l) => l.iter().map(|v| value(t, v)).collect(),
        _ => Json::Null,
    }
}

pub(super) fn expr(e: &Expr, types: &[Type]) -> Json {
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
        Expr::Payload(f) | Expr::Unasked(f) => {
            json!({"payload": {"protocol": f.proto, "field": f.name}})
        }
        Expr::Raw(base, offset, bits) => {
            json!({"payload": {"base": base.as_str(), "offset": offset, "len": bits}})
        }
        Expr::Meta(k) => json!({"meta": {"key": k.as_str()}}),
        Expr::Ct(k, dir) => ct(*k, *dir),
        other => field(other),
    }
}

pub(super) fn flag_list(n: u128, t: Type) -> Json {
    let mut bits: Vec<_> = t.symbols().iter().filter(|s| n & s.1 != 0).collect();
    bits.sort_by_key(|s| s.1);
    match bits.is_empty() {
        true => value(t, &Value::Num(n)),
        false => list(bits.iter().map(|s| s.0.into()).collect()),
    }
}

pub(super) fn map(key: &Expr, of: &Expr, data: &[Type]) -> Json {
    let types = key.dtypes();
    let data = match of {
        Expr::Set(l) => {
            json!({"set": l.iter().map(|e| element(e, &types, Some(data))).collect::<Vec<_>>()})
        }
        other => expr(other, &[]),
    };
    json!({"map": {"key": expr(key, &[]), "data": data}})
}

pub(super) fn ct(k: CtKey, dir: Option<Direction>) -> Json {
    let mut o = json!({"key": k.as_str()});
    if let Some(d) = dir {
        put(&mut o, "dir", d.as_str());
    }
    one("ct", o)
}

pub(super) fn ext(kind: &str, name: &str, field: Option<&str>) -> Json {
    let mut o = json!({ "name": name });
    if let Some(f) = field {
        put(&mut o, "field", f);
    }
    one(kind, o)
}

pub(super) fn tcp_option(kind: u8) -> Json {
    match fields::TCP_OPTIONS.iter().find(|f| f.kind == kind) {
        Some(f) => ext("tcp option", f.header, None),
        None => json!({"tcp option": {"base": kind, "offset": 0, "len": 8}}),
    }
}

pub(super) fn field(e: &Expr) -> Json {
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
        Expr::Fib(f) => json!({"fib": {"result": f.result.word(), "flags": f.words()}}),
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

pub(super) fn generator(e: &Expr) -> Json {
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

pub(super) fn comparison(left: &Expr, op: RelOp, right: &Expr) -> Json {
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
