//! What `ip -d link` adds: limits, the device kind's settings, a bridge port's settings, queues.
//!
//! Settings podpath models are the device's; the rest are what the kernel reports for a bridge without
//! spanning tree, forward delay and multicast snooping, which is how podpath's bridge behaves (iproute2:
//! ip/iplink_bridge.c, ip/iplink_bridge_slave.c, ip/iplink_vxlan.c, ip/link_iptnl.c).

use super::out::Obj;
use crate::net::{Bridge, BridgePort, Device, DeviceKind, Ipip, NetNs, Vxlan};
use crate::wire::MacAddr;
use std::net::IpAddr;

/// Seconds a learned VXLAN entry lasts (kernel: `FDB_AGE_DEFAULT`).
const VXLAN_AGEING: u64 = 300;

/// Everything `-d` adds to one device of `ip link`.
pub(super) fn details(o: &mut Obj, ns: &NetNs, d: &Device) {
    let port = u32::from(d.master.is_some());
    o.both(
        "promiscuity",
        port + u32::from(d.promisc),
        format_args!(" promiscuity {} ", port + u32::from(d.promisc)),
    );
    o.both("allmulti", port, format_args!(" allmulti {port} "));
    let (min, max) = match d.kind {
        DeviceKind::Loopback | DeviceKind::Dummy | DeviceKind::Ipip(_) => (0, 0),
        _ => (68, 65_535),
    };
    o.word("min_mtu", "minmtu", min);
    o.word("max_mtu", "maxmtu", max);
    let mut info = Obj::default();
    kind(&mut info, ns, d);
    if let Some((bridge, p)) = &d.master {
        slave(&mut info, d, ns.dev(*bridge), p);
    }
    if !matches!(d.kind, DeviceKind::Loopback | DeviceKind::Uplink) || d.master.is_some() {
        o.nest("linkinfo", info);
    }
    queues(o, d);
}

fn kind(o: &mut Obj, ns: &NetNs, d: &Device) {
    if matches!(d.kind, DeviceKind::Loopback | DeviceKind::Uplink) {
        return;
    }
    let name = d.kind.name();
    o.both("info_kind", name, format_args!("\n    {name} "));
    let mut data = Obj::default();
    match &d.kind {
        DeviceKind::Bridge(b) => bridge(&mut data, d, b),
        DeviceKind::Vxlan(v) => vxlan(&mut data, ns, v),
        DeviceKind::Ipip(t) => ipip(&mut data, t),
        DeviceKind::Veth | DeviceKind::Dummy | DeviceKind::Loopback | DeviceKind::Uplink => return,
    }
    o.nest("info_data", data);
}

/// `8000.a:58:a:f4:1:1`: priority and address, bytes without leading zeros.
fn bridge_id(mac: MacAddr) -> String {
    let bytes: Vec<String> = mac.0.iter().map(|b| format!("{b:x}")).collect();
    format!("8000.{}", bytes.join(":"))
}

/// Plain `word value` pairs whose JSON key is the word, `count` and `interval` cut short as iproute2 has
/// them.
fn plain(o: &mut Obj, pairs: &[(&str, u64)]) {
    for (word, value) in pairs {
        let key = word
            .replace("_count", "_cnt")
            .replace("_interval", "_intvl");
        o.word(&key, word, *value);
    }
}

fn timer(o: &mut Obj, name: &str) {
    o.both(name, 0.0, format_args!("{name}    0.00 "));
}

fn bridge(o: &mut Obj, d: &Device, b: &Bridge) {
    let ageing = (b.ageing.as_millis() / 10) as u64;
    let filtering = u64::from(b.vlan_filtering);
    plain(
        o,
        &[
            ("forward_delay", 0),
            ("hello_time", 200),
            ("max_age", 2000),
            ("ageing_time", ageing),
        ],
    );
    plain(
        o,
        &[
            ("stp_state", 0),
            ("priority", 32_768),
            ("vlan_filtering", filtering),
        ],
    );
    if b.vlan_filtering {
        o.word("vlan_protocol", "vlan_protocol", "802.1Q");
    }
    o.word("bridge_id", "bridge_id", bridge_id(d.mac));
    o.word("root_id", "designated_root", bridge_id(d.mac));
    plain(
        o,
        &[
            ("root_port", 0),
            ("root_path_cost", 0),
            ("topology_change", 0),
            ("topology_change_detected", 0),
        ],
    );
    [
        "hello_timer",
        "tcn_timer",
        "topology_change_timer",
        "gc_timer",
    ]
    .iter()
    .for_each(|t| timer(o, t));
    if b.vlan_filtering {
        let pvid = b.own.pvid.map_or(0, u64::from);
        plain(
            o,
            &[
                ("vlan_default_pvid", pvid),
                ("vlan_stats_enabled", 0),
                ("vlan_stats_per_port", 0),
            ],
        );
    }
    let mask = b.group_fwd_mask;
    o.both(
        "group_fwd_mask",
        hex(mask),
        format_args!("group_fwd_mask {} ", hex(mask)),
    );
    o.both(
        "group_addr",
        "01:80:c2:00:00:00",
        "group_address 01:80:c2:00:00:00 ",
    );
    plain(o, &BRIDGE_DEFAULTS);
}

/// What podpath does not model of a bridge, at the kernel's defaults and in iproute2's order. The last three
/// are the bridge's own nf_call flags; the namespace's sysctls are another switch.
const BRIDGE_DEFAULTS: [(&str, u64); 22] = [
    ("mcast_snooping", 0),
    ("no_linklocal_learn", 0),
    ("mcast_vlan_snooping", 0),
    ("mcast_router", 1),
    ("mcast_query_use_ifaddr", 0),
    ("mcast_querier", 0),
    ("mcast_hash_elasticity", 16),
    ("mcast_hash_max", 4096),
    ("mcast_last_member_count", 2),
    ("mcast_startup_query_count", 2),
    ("mcast_last_member_interval", 100),
    ("mcast_membership_interval", 26_000),
    ("mcast_querier_interval", 25_500),
    ("mcast_query_interval", 12_500),
    ("mcast_query_response_interval", 1000),
    ("mcast_startup_query_interval", 3124),
    ("mcast_stats_enabled", 0),
    ("mcast_igmp_version", 2),
    ("mcast_mld_version", 1),
    ("nf_call_iptables", 0),
    ("nf_call_ip6tables", 0),
    ("nf_call_arptables", 0),
];

/// `%#x`, which writes zero without its prefix.
fn hex(v: u16) -> String {
    if v == 0 {
        "0".to_owned()
    } else {
        format!("{v:#x}")
    }
}

/// The number a port got when it joined, from 1 (kernel: `br_add_if` takes the lowest that is free).
fn port_number(bridge: Option<&Device>, port: &Device) -> u64 {
    let ports = bridge
        .and_then(Device::bridge)
        .map_or(&[][..], |b| &b.ports);
    let newer = ports.iter().position(|p| *p == port.id).unwrap_or(0);
    ports.len().saturating_sub(newer) as u64
}

/// Whether a port forwards: it and its bridge are up.
pub(super) fn port_state(bridge: Option<&Device>, port: &Device) -> &'static str {
    if port.is_running() && bridge.is_some_and(|b| b.up) {
        "forwarding"
    } else {
        "disabled"
    }
}

fn slave(o: &mut Obj, d: &Device, bridge: Option<&Device>, p: &BridgePort) {
    o.both("info_slave_kind", "bridge", "\n    bridge_slave ");
    let mut s = Obj::default();
    let no = port_number(bridge, d);
    s.word("state", "state", port_state(bridge, d));
    plain(&mut s, &[("priority", 32), ("cost", 2)]);
    for (key, on) in [
        ("hairpin", p.hairpin),
        ("guard", false),
        ("root_block", false),
        ("fastleave", false),
        ("learning", p.learning),
        ("flood", p.flood),
    ] {
        s.on_off(key, key, on);
    }
    s.word("id", "port_id", format!("{:#x}", 0x8000 | no));
    s.word("no", "port_no", format!("{no:#x}"));
    plain(
        &mut s,
        &[("designated_port", 0x8000 | no), ("designated_cost", 0)],
    );
    let id = bridge_id(bridge.map_or(MacAddr::ZERO, |b| b.mac));
    s.word("bridge_id", "designated_bridge", id.clone());
    s.word("root_id", "designated_root", id);
    ["hold_timer", "message_age_timer", "forward_delay_timer"]
        .iter()
        .for_each(|t| timer(&mut s, t));
    plain(&mut s, &[("topology_change_ack", 0), ("config_pending", 0)]);
    s.on_off("proxy_arp", "proxy_arp", false)
        .on_off("proxy_arp_wifi", "proxy_arp_wifi", false);
    s.word("multicast_router", "mcast_router", 1);
    // iproute2's JSON leaves this one out; `fastleave` says the same.
    s.say("mcast_fast_leave off ");
    s.on_off("mcast_flood", "mcast_flood", p.mcast_flood)
        .on_off("bcast_flood", "bcast_flood", p.bcast_flood);
    s.on_off("mcast_to_unicast", "mcast_to_unicast", false)
        .on_off("neigh_suppress", "neigh_suppress", false);
    s.both("group_fwd_mask", "0", "group_fwd_mask 0 ").word(
        "group_fwd_mask_str",
        "group_fwd_mask_str",
        "0x0",
    );
    s.on_off("vlan_tunnel", "vlan_tunnel", false)
        .on_off("isolated", "isolated", p.isolated);
    s.on_off("locked", "locked", false);
    o.nest("info_slave_data", s);
}

fn vxlan(o: &mut Obj, ns: &NetNs, v: &Vxlan) {
    o.word("id", "id", v.vni);
    if let Some(a) = v.local {
        let key = if a.is_ipv4() { "local" } else { "local6" };
        o.word(key, "local", a.to_string());
    }
    if let Some(l) = v.lower {
        o.word("link", "dev", ns.dev_name(l).to_owned());
    }
    let range = serde_json::json!({"low": 0, "high": 0});
    o.both("port_range", range, "srcport 0 0 ");
    o.word("port", "dstport", v.port);
    o.key("learning", v.learning);
    if !v.learning {
        o.say("nolearning ");
    }
    match v.ttl {
        None => o.both("ttl", "inherit", "ttl inherit "),
        Some(0) => o.both("ttl", 0, "ttl auto "),
        Some(n) => o.word("ttl", "ttl", n),
    };
    o.key("df", "unset");
    o.word("ageing", "ageing", VXLAN_AGEING);
    let no = |on: bool| if on { "" } else { "no" };
    o.both(
        "udp_csum",
        v.udp_csum,
        format_args!("{}udpcsum ", no(v.udp_csum)),
    );
    o.both("udp_zero_csum6_tx", false, "noudp6zerocsumtx ");
    o.both("udp_zero_csum6_rx", false, "noudp6zerocsumrx ");
}

fn ipip(o: &mut Obj, t: &Ipip) {
    let end =
        |a: Option<std::net::Ipv4Addr>| a.map_or("any".to_owned(), |a| IpAddr::V4(a).to_string());
    o.both("proto", "any", "any ");
    o.word("remote", "remote", end(t.remote));
    o.word("local", "local", end(t.local));
    match t.ttl {
        0 => o.both("ttl", 0, "ttl inherit "),
        n => o.word("ttl", "ttl", n),
    };
    o.both(
        "pmtudisc",
        t.pmtudisc,
        if t.pmtudisc {
            "pmtudisc "
        } else {
            "nopmtudisc "
        },
    );
}

/// How the link-local address is made, and what the device can queue and segment.
fn queues(o: &mut Obj, d: &Device) {
    // Below 1280 bytes of MTU there is no IPv6 on the device (kernel: `addrconf_notify`).
    if d.mtu >= 1280 {
        let mode = if d.conf6.addr_gen_mode == 0 {
            "eui64"
        } else {
            "none"
        };
        o.word("inet6_addr_gen_mode", "addrgenmode", mode);
    }
    let tso = match d.kind {
        DeviceKind::Ipip(_) | DeviceKind::Dummy => 65_536,
        _ => 524_280,
    };
    o.word("num_tx_queues", "numtxqueues", 1)
        .word("num_rx_queues", "numrxqueues", 1);
    o.word("gso_max_size", "gso_max_size", 65_536)
        .word("gso_max_segs", "gso_max_segs", 65_535);
    o.word("tso_max_size", "tso_max_size", tso)
        .word("tso_max_segs", "tso_max_segs", 65_535);
    o.word("gro_max_size", "gro_max_size", 65_536);
}
