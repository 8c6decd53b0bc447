//! `ip addr` (iproute2: ip/ipaddress.c `print_addrinfo`).

use super::out::Obj;
use super::{Ctx, link};
use crate::net::{Device, IfAddr, NetNs};
use ipnetwork::IpNetwork;

/// What `-j` says for "for ever".
const FOREVER: u32 = u32::MAX;

/// `ip addr`
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    ns.devices().map(|d| one(ns, d, cx)).collect()
}

fn one(ns: &NetNs, d: &Device, cx: &Ctx<'_>) -> Obj {
    let mut o = Obj::default();
    link::head(&mut o, ns, d, false);
    link::link_layer(&mut o, ns, d, cx);
    let shown = ordered(d)
        .into_iter()
        .filter(|a| cx.family.shows(a.net.is_ipv4()));
    o.nest_all("addr_info", shown.map(|a| address(d, a)).collect());
    o
}

/// Addresses in the kernel's order, IPv4 first.
fn ordered(d: &Device) -> Vec<&IfAddr> {
    let (mut v4, mut v6): (Vec<&IfAddr>, Vec<&IfAddr>) = (Vec::new(), Vec::new());
    for a in &d.addrs {
        if a.net.is_ipv4() {
            insert4(&mut v4, a);
        } else {
            // `ipv6_link_dev_addr`: before the first that does not reach farther.
            let at = v6
                .iter()
                .position(|b| a.scope <= b.scope)
                .unwrap_or(v6.len());
            v6.insert(at, a);
        }
    }
    v4.append(&mut v6);
    v4
}

/// `__inet_insert_ifa`: a primary goes behind the last primary that reaches no farther, secondaries to
/// the end.
fn insert4<'a>(list: &mut Vec<&'a IfAddr>, a: &'a IfAddr) {
    let behind = |b: &&IfAddr| !b.secondary && a.scope <= b.scope;
    let at = match a.secondary {
        true => list.len(),
        false => list.iter().rposition(behind).map_or(0, |i| i + 1),
    };
    list.insert(at, a);
}

fn address(d: &Device, a: &IfAddr) -> Obj {
    let mut o = Obj::default();
    let v4 = a.net.is_ipv4();
    let family = if v4 { "inet" } else { "inet6" };
    o.both("family", family, format_args!("\n    {family} "));
    o.both("local", a.ip().to_string(), a.ip());
    if let Some(p) = a.peer {
        o.both(
            "address",
            p.ip().to_string(),
            format_args!(" peer {}", p.ip()),
        );
    }
    let prefix = a.peer.as_ref().map_or(a.net.prefix(), IpNetwork::prefix);
    o.both("prefixlen", prefix, format_args!("/{prefix} "));
    if let Some(b) = a.broadcast {
        o.word("broadcast", "brd", b.to_string());
    }
    o.word("scope", "scope", a.scope.name());
    if a.secondary {
        o.both("secondary", true, "secondary ");
    }
    if v4 {
        o.both("label", d.name.clone(), &d.name);
    }
    o.say("\n       valid_lft forever preferred_lft forever");
    o.key("valid_life_time", FOREVER)
        .key("preferred_life_time", FOREVER);
    o
}
