//! `ip route` and `ip -6 route`, in the order in which the kernel walks its tables
//! (iproute2: ip/iproute.c `print_route`; kernel: `inet_dump_fib`, `inet6_dump_fib`).

use super::out::Obj;
use super::{Ctx, RouteTables};
use crate::net::fib::RouteTable;
use crate::net::text::{RouteField, route_fields, table_name};
use crate::net::{NetNs, Route, table};
use ipnetwork::IpNetwork;
use serde_json::json;
use std::cmp::Reverse;
use std::sync::Arc;

/// `ip route`
pub(super) fn list(ns: &NetNs, which: RouteTables, cx: &Ctx<'_>) -> Vec<Obj> {
    let families: &[bool] = match which {
        RouteTables::All => &[true, false],
        _ => cx.family.or_v4(),
    };
    let mut tables: Vec<(u32, &RouteTable)> = ns.fib().tables().collect();
    tables.retain(|(id, _)| match which {
        RouteTables::Main => *id == table::MAIN,
        RouteTables::All => true,
        RouteTables::One(one) => *id == one,
    });
    // The tables hang in 256 buckets by the low byte of their id (FIB_TABLE_HASHSZ, FIB6_TABLE_HASHSZ).
    tables.sort_by_key(|(id, _)| (id & 0xff, *id));
    let mut out = Vec::new();
    for v4 in families.iter().filter(|v4| cx.family.shows(**v4)) {
        for (id, t) in &tables {
            let name = (which == RouteTables::All && *id != table::MAIN).then(|| table_name(*id));
            out.extend(
                ordered(t, *v4)
                    .into_iter()
                    .map(|r| one(ns, r, name.as_deref())),
            );
        }
    }
    out
}

/// One route as `ip route show table all` prints it, without a line end.
pub fn route_line(ns: &NetNs, table: u32, r: &Route) -> String {
    let name = (table != table::MAIN).then(|| table_name(table));
    one(ns, r, name.as_deref()).into_text()
}

/// IPv4: `fib_table_dump`, by address and then the longest prefix first. IPv6: `fib6_walk` visits a node
/// behind its children, so what covers others comes after them, the default route last.
fn ordered(t: &RouteTable, v4: bool) -> Vec<&Arc<Route>> {
    let mut v = t.routes(v4);
    v.sort_by_key(|r| match r.dst {
        IpNetwork::V4(n) => (u128::from(u32::from(n.network())), Reverse(n.prefix())),
        IpNetwork::V6(n) => (u128::from(n.broadcast()), Reverse(n.prefix())),
    });
    v
}

/// A route in both forms: the words are `net::text`'s, here are their JSON keys.
fn one(ns: &NetNs, r: &Route, table: Option<&str>) -> Obj {
    let mut o = Obj::default();
    for f in &route_fields(ns, r, table) {
        field(&mut o, f);
    }
    o
}

fn field(o: &mut Obj, f: &RouteField) {
    let (key, value) = match f {
        RouteField::Type(k) => ("type", k.name().into()),
        RouteField::Dst(d) => ("dst", d.clone().into()),
        RouteField::Tos(t) => ("tos", format!("{t:#04x}").into()),
        RouteField::Gateway(a) => ("gateway", a.to_string().into()),
        RouteField::Via6(a) => ("via", json!({"family": "inet6", "host": a.to_string()})),
        RouteField::Dev(d) => ("dev", d.clone().into()),
        RouteField::Table(t) => ("table", t.clone().into()),
        RouteField::Protocol(p) => ("protocol", p.clone().into()),
        RouteField::Scope(s) => ("scope", s.name().into()),
        RouteField::PrefSrc(a) => ("prefsrc", a.to_string().into()),
        RouteField::Metric(m) => ("metric", (*m).into()),
        RouteField::Flags(all) => ("flags", all.to_vec().into()),
        // That it is locked is in the text only.
        RouteField::Mtu(m, _) => ("metrics", json!([{ "mtu": m }])),
        RouteField::Pref => ("pref", "medium".into()),
        RouteField::Weight(w) => ("weight", (*w).into()),
        RouteField::NextHops(hops) => {
            let hop = |fields: &Vec<RouteField>| {
                let mut o = Obj::default();
                o.say("\n\tnexthop ");
                fields.iter().for_each(|f| field(&mut o, f));
                o
            };
            o.nest_all("nexthops", hops.iter().map(hop).collect());
            return;
        }
    };
    o.both(key, value, f);
}
