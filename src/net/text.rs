//! A route in the words of `ip route` (iproute2: ip/iproute.c `print_route`): what is said of it and in which
//! order.
//!
//! The one place that decides so; traces join the words, `show` adds JSON keys. Lists no tables.
//! Flags follow the devices' present state, as the kernel reports them.

use crate::net::addr::{Scope, default_net};
use crate::net::fib::PROTO_BOOT;
use crate::net::{NetNs, NextHop, Route, RouteKind, table};
use core::fmt;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// One thing said of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteField {
    /// Anything but unicast.
    Type(RouteKind),
    /// `default`, a host without its length, or a subnet.
    Dst(String),
    /// `tos`
    Tos(u8),
    /// `via`, of the route's own family.
    Gateway(IpAddr),
    /// `via inet6`, of an IPv4 route.
    Via6(IpAddr),
    /// `dev`
    Dev(String),
    /// `table`
    Table(String),
    /// `proto`
    Protocol(String),
    /// `scope`
    Scope(Scope),
    /// `src`
    PrefSrc(IpAddr),
    /// `metric`
    Metric(u32),
    /// `dead`, `onlink`, `linkdown`: all of them, possibly none.
    Flags(Vec<&'static str>),
    /// `mtu`, and whether locked.
    Mtu(u32, bool),
    /// `pref medium`: podpath knows no other.
    Pref,
    /// `weight`, of one of several next hops.
    Weight(u32),
    /// The next hops of a multipath route.
    NextHops(Vec<Vec<RouteField>>),
}

impl fmt::Display for RouteField {
    /// The words, each with a blank behind it; next hops on lines of their own, as `ip` writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteField::Type(k) => write!(f, "{} ", k.name()),
            RouteField::Dst(d) => write!(f, "{d} "),
            RouteField::Tos(t) => write!(f, "tos {t:#04x} "),
            RouteField::Gateway(a) => write!(f, "via {a} "),
            RouteField::Via6(a) => write!(f, "via inet6 {a} "),
            RouteField::Dev(d) => write!(f, "dev {d} "),
            RouteField::Table(t) => write!(f, "table {t} "),
            RouteField::Protocol(p) => write!(f, "proto {p} "),
            RouteField::Scope(s) => write!(f, "scope {} ", s.name()),
            RouteField::PrefSrc(a) => write!(f, "src {a} "),
            RouteField::Metric(m) => write!(f, "metric {m} "),
            RouteField::Flags(all) => all.iter().try_for_each(|w| write!(f, "{w} ")),
            RouteField::Mtu(m, false) => write!(f, "mtu {m} "),
            RouteField::Mtu(m, true) => write!(f, "mtu lock {m} "),
            RouteField::Pref => f.write_str("pref medium"),
            RouteField::Weight(w) => write!(f, "weight {w} "),
            RouteField::NextHops(hops) => hops.iter().try_for_each(|h| {
                f.write_str("\n\tnexthop ")?;
                h.iter().try_for_each(|x| x.fmt(f))
            }),
        }
    }
}

/// A route in one line, without its table and without the preference that all of podpath's have.
pub fn route_text(ns: &NetNs, r: &Route) -> String {
    let said = route_fields(ns, r, None);
    let said = said.iter().filter(|f| **f != RouteField::Pref);
    let text: String = said.map(RouteField::to_string).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// What `ip route show` says of a route, in order; the table's name where it is to be said.
pub fn route_fields(ns: &NetNs, r: &Route, table: Option<&str>) -> Vec<RouteField> {
    let (v4, mut out) = (r.dst.is_ipv4(), Vec::new());
    if r.kind != RouteKind::Unicast {
        out.push(RouteField::Type(r.kind));
    }
    out.push(RouteField::Dst(destination(r.dst)));
    if r.tos != 0 {
        out.push(RouteField::Tos(r.tos));
    }
    let only = match r.nexthops.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    match only {
        Some(n) => hop(&mut out, ns, n, v4),
        // The kernel hangs IPv6 routes without a next hop on `lo` (`ip6_route_info_create`).
        None if !v4 && r.nexthops.is_empty() => out.push(RouteField::Dev("lo".to_owned())),
        None => {}
    }
    out.extend(table.map(|t| RouteField::Table(t.to_owned())));
    if r.protocol != PROTO_BOOT {
        out.push(RouteField::Protocol(protocol_name(r.protocol)));
    }
    // IPv6 has no scopes of routes.
    if v4 && r.scope != Scope::Universe && !r.is_dead_end() {
        out.push(RouteField::Scope(r.scope));
    }
    out.extend(r.prefsrc.map(RouteField::PrefSrc));
    if r.metric != 0 || !v4 {
        out.push(RouteField::Metric(r.metric));
    }
    out.push(RouteField::Flags(match only {
        Some(n) => hop_flags(ns, r, n),
        None => common_flags(ns, r),
    }));
    out.extend(r.mtu.map(|m| RouteField::Mtu(m, r.mtu_lock)));
    if !v4 {
        out.push(RouteField::Pref);
    }
    if r.nexthops.len() > 1 {
        let hops = r.nexthops.iter().map(|n| multi_hop(ns, r, n)).collect();
        out.push(RouteField::NextHops(hops));
    }
    out
}

fn hop(out: &mut Vec<RouteField>, ns: &NetNs, n: &NextHop, v4: bool) {
    out.extend(n.via.map(|via| match via {
        IpAddr::V6(_) if v4 => RouteField::Via6(via),
        _ => RouteField::Gateway(via),
    }));
    out.extend(n.dev.map(|d| RouteField::Dev(ns.dev_name(d).to_owned())));
}

fn multi_hop(ns: &NetNs, r: &Route, n: &NextHop) -> Vec<RouteField> {
    let mut out = Vec::new();
    hop(&mut out, ns, n, r.dst.is_ipv4());
    out.push(RouteField::Weight(n.weight));
    out.push(RouteField::Flags(hop_flags(ns, r, n)));
    out
}

/// A prefix as `ip` writes destinations.
fn destination(net: IpNetwork) -> String {
    let host = if net.is_ipv4() { 32 } else { 128 };
    match net.prefix() {
        _ if net == default_net(net.is_ipv4()) => "default".to_owned(),
        n if n == host => net.ip().to_string(),
        _ => net.to_string(),
    }
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
