//! `ip route` and `ip -6 route`, in the order in which the kernel walks its tables
//! (iproute2: ip/iproute.c `print_route`; kernel: `inet_dump_fib`, `inet6_dump_fib`).

use super::out::Obj;
use super::{Ctx, RouteTables};
use crate::net::addr::Scope;
use crate::net::fib::{PROTO_BOOT, RouteTable};
use crate::net::{NetNs, NextHop, Route, RouteKind, table};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::net::IpAddr;
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

/// A routing table as `ip` names it (`/etc/iproute2/rt_tables`).
pub fn table_name(id: u32) -> String {
    match id {
        table::LOCAL => "local".to_owned(),
        table::MAIN => "main".to_owned(),
        table::DEFAULT => "default".to_owned(),
        n => n.to_string(),
    }
}

/// `/etc/iproute2/rt_protos`
fn protocol_name(p: u8) -> String {
    let name = match p {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        n => return n.to_string(),
    };
    name.to_owned()
}

/// A prefix as `ip` writes destinations: `default`, a host without its length, or a subnet.
fn destination(net: IpNetwork) -> String {
    let host = if net.is_ipv4() { 32 } else { 128 };
    match net.prefix() {
        0 => "default".to_owned(),
        n if n == host => net.ip().to_string(),
        _ => net.to_string(),
    }
}

fn one(ns: &NetNs, r: &Route, table: Option<&str>) -> Obj {
    let mut o = Obj::default();
    let v4 = r.dst.is_ipv4();
    if r.kind != RouteKind::Unicast {
        o.both("type", r.kind.name(), format_args!("{} ", r.kind.name()));
    }
    let dst = destination(r.dst);
    o.both("dst", dst.clone(), format_args!("{dst} "));
    if r.tos != 0 {
        o.word("tos", "tos", format!("{:#04x}", r.tos));
    }
    let only = match r.nexthops.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    match only {
        Some(n) => hop(&mut o, ns, n, v4),
        // The kernel hangs IPv6 routes without a next hop on `lo` (`ip6_route_info_create`).
        None if !v4 && r.nexthops.is_empty() => {
            o.word("dev", "dev", "lo");
        }
        None => {}
    }
    if let Some(t) = table {
        o.word("table", "table", t);
    }
    if r.protocol != PROTO_BOOT {
        o.word("protocol", "proto", protocol_name(r.protocol));
    }
    // IPv6 has no scopes of routes.
    if v4 && r.scope != Scope::Universe && !r.is_dead_end() {
        o.word("scope", "scope", r.scope.name());
    }
    if let Some(s) = r.prefsrc {
        o.word("prefsrc", "src", s.to_string());
    }
    if r.metric != 0 || !v4 {
        o.word("metric", "metric", r.metric);
    }
    let flags = match only {
        Some(n) => hop_flags(ns, r, n),
        None => common_flags(ns, r),
    };
    put_flags(&mut o, flags);
    if let Some(m) = r.mtu {
        let lock = if r.mtu_lock { "lock " } else { "" };
        o.both(
            "metrics",
            json!([{ "mtu": m }]),
            format_args!("mtu {lock}{m} "),
        );
    }
    if !v4 {
        o.both("pref", "medium", "pref medium");
    }
    if r.nexthops.len() > 1 {
        o.nest_all(
            "nexthops",
            r.nexthops.iter().map(|n| multi_hop(ns, r, n)).collect(),
        );
    }
    o
}

fn hop(o: &mut Obj, ns: &NetNs, n: &NextHop, v4: bool) {
    match n.via {
        Some(IpAddr::V6(via)) if v4 => {
            let value = json!({"family": "inet6", "host": via.to_string()});
            o.both("via", value, format_args!("via inet6 {via} "));
        }
        Some(via) => {
            o.word("gateway", "via", via.to_string());
        }
        None => {}
    }
    if let Some(d) = n.dev {
        o.word("dev", "dev", ns.dev_name(d).to_owned());
    }
}

fn multi_hop(ns: &NetNs, r: &Route, n: &NextHop) -> Obj {
    let mut o = Obj::default();
    o.say("\n\tnexthop ");
    hop(&mut o, ns, n, r.dst.is_ipv4());
    o.word("weight", "weight", n.weight);
    put_flags(&mut o, hop_flags(ns, r, n));
    o
}

fn put_flags(o: &mut Obj, flags: Vec<&'static str>) {
    flags.iter().for_each(|f| {
        o.say(format_args!("{f} "));
    });
    o.key(
        "flags",
        flags.into_iter().map(Value::from).collect::<Vec<_>>(),
    );
}

/// A multipath route is dead or without link when all its next hops are (kernel: `fib_sync_down_dev`).
fn common_flags(ns: &NetNs, r: &Route) -> Vec<&'static str> {
    let each: Vec<Vec<&'static str>> = r.nexthops.iter().map(|n| hop_flags(ns, r, n)).collect();
    let all = |f: &&str| !each.is_empty() && each.iter().all(|e| e.contains(f));
    ["dead", "linkdown"].into_iter().filter(all).collect()
}

/// RTNH_F_DEAD, ONLINK and LINKDOWN. Local and anycast routes do not follow the link
/// (kernel: `fib_sync_down_dev` skips next hops of scope nowhere, `fib6_ifdown` RTF_LOCAL and RTF_ANYCAST).
fn hop_flags(ns: &NetNs, r: &Route, n: &NextHop) -> Vec<&'static str> {
    let follows = !matches!(r.kind, RouteKind::Local | RouteKind::Anycast);
    let dev = n.dev.and_then(|d| ns.dev(d)).filter(|_| follows);
    let (dead, linkdown) = (
        dev.is_some_and(|d| !d.up),
        dev.is_some_and(|d| !d.is_running()),
    );
    let all = [(dead, "dead"), (n.onlink, "onlink"), (linkdown, "linkdown")];
    all.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, f)| f)
        .collect()
}
