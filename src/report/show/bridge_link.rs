//! `bridge link` and `bridge -d link` (iproute2: bridge/link.c `print_linkinfo`, `print_protinfo`).

use super::out::Obj;
use super::{Ctx, detail, link};
use crate::net::{BridgePort, Device, NetNs};

/// Ports of bridges by index.
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    let ports = ns
        .devices()
        .filter_map(|d| d.master.as_ref().map(|m| (d, m)));
    ports
        .map(|(d, (bridge, port))| one(ns, d, ns.dev(*bridge), port, cx))
        .collect()
}

fn one(ns: &NetNs, d: &Device, bridge: Option<&Device>, port: &BridgePort, cx: &Ctx<'_>) -> Obj {
    let mut o = Obj::default();
    let lower = link::Link::of_port(ns, d);
    link::name_and_link(&mut o, ns, d, &lower);
    let flags = link::flags(d, lower.is_down(ns));
    o.both(
        "flags",
        flags.clone(),
        format_args!("<{}> ", flags.join(",")),
    );
    o.word("mtu", "mtu", d.mtu);
    o.word("master", "master", bridge.map_or("?", |b| b.name.as_str()));
    o.word("state", "state", detail::port_state(bridge, d));
    o.word("priority", "priority", 32).word("cost", "cost", 2);
    if cx.details {
        o.say("\n    ");
        flags_of(&mut o, port);
    }
    o
}

fn flags_of(o: &mut Obj, p: &BridgePort) {
    for (key, on) in [
        ("hairpin", p.hairpin),
        ("guard", false),
        ("root_block", false),
        ("fastleave", false),
        ("learning", p.learning),
        ("flood", p.flood),
        ("mcast_flood", p.mcast_flood),
        ("bcast_flood", p.bcast_flood),
    ] {
        o.on_off(key, key, on);
    }
    o.word("mcast_router", "mcast_router", 1);
    for (key, on) in [
        ("mcast_to_unicast", false),
        ("neigh_suppress", false),
        ("vlan_tunnel", false),
        ("isolated", p.isolated),
        ("locked", false),
    ] {
        o.on_off(key, key, on);
    }
}
