//! `bridge fdb`: per device the bridge's entries behind it, then what the device itself takes
//! (iproute2: bridge/fdb.c `print_fdb`; kernel: `rtnl_fdb_dump`, `br_fdb_dump`, `ndo_dflt_fdb_dump`).
//!
//! Within a device the kernel's order is that of arrival, newest first, or a hash's; here what was
//! learned comes before what is fixed, each by address. A device's own groups are derived from its
//! addresses, as podpath keeps no list of them. The per-VLAN copies of local entries show only where the
//! bridge filters VLANs.

use super::Ctx;
use super::out::Obj;
use crate::base::DevId;
use crate::net::{Bridge, BridgePort, Device, DeviceKind, FdbEntry, NetNs, Vxlan};
use crate::wire::MacAddr;
use core::time::Duration;
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr};

/// How long a VXLAN device keeps what it learned (kernel: `FDB_AGE_DEFAULT`).
const VXLAN_AGE: Duration = Duration::from_secs(300);

/// One line to be.
struct Line<'a> {
    mac: MacAddr,
    dev: &'a Device,
    dst: Option<IpAddr>,
    vlan: u16,
    /// The bridge's name, or the device's own entry.
    master: Option<&'a str>,
    state: &'static str,
}

/// `bridge fdb`
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    let mut lines = Vec::new();
    for d in ns.devices() {
        if let Some((bridge, port)) = &d.master {
            of_bridge(ns, *bridge, d, port, cx, &mut lines);
        }
        match &d.kind {
            DeviceKind::Vxlan(v) => tunnel(d, v, cx, &mut lines),
            _ => groups(ns, d, &mut lines),
        }
        if let Some(b) = d.bridge() {
            of_bridge(ns, d.id, d, &b.own, cx, &mut lines);
        }
    }
    lines.iter().map(one).collect()
}

/// The entries of `bridge` that point at `d`: a port, or the bridge itself.
fn of_bridge<'a>(
    ns: &'a NetNs,
    bridge: DevId,
    d: &'a Device,
    port: &BridgePort,
    cx: &Ctx<'_>,
    out: &mut Vec<Line<'a>>,
) {
    let Some(b) = ns.dev(bridge).and_then(Device::bridge) else {
        return;
    };
    let master = Some(ns.dev_name(bridge));
    let mut mine: Vec<(u16, MacAddr, &FdbEntry)> = b
        .fdb
        .iter()
        .filter(|(v, m, e)| e.port == d.id && is_live(b, *v, *m, cx))
        .collect();
    mine.sort_by_key(|(vlan, mac, e)| (e.local, e.is_static, *mac, *vlan));
    for (vlan, mac, e) in mine {
        let state = match (e.local, e.is_static) {
            (true, _) => "permanent",
            (false, true) => "static",
            (false, false) => "",
        };
        let line = |vlan| Line {
            mac,
            dev: d,
            dst: None,
            vlan,
            master,
            state,
        };
        if e.local && vlan == 0 && b.vlan_filtering {
            out.extend(port.vlans.keys().map(|v| line(*v)));
        }
        out.push(line(vlan));
    }
}

fn is_live(b: &Bridge, vlan: u16, mac: MacAddr, cx: &Ctx<'_>) -> bool {
    b.fdb.lookup(vlan, mac, cx.now, b.ageing).is_some()
}

/// A VXLAN device's entries, its default destinations last.
fn tunnel<'a>(d: &'a Device, v: &'a Vxlan, cx: &Ctx<'_>, out: &mut Vec<Line<'a>>) {
    let (default, known): (Vec<_>, Vec<_>) = v.fdb.iter().partition(|(m, _)| **m == MacAddr::ZERO);
    for (mac, dsts) in known.into_iter().chain(default) {
        for dst in dsts {
            let fresh = dst.learned.is_none_or(|t| cx.now.since(t) <= VXLAN_AGE);
            let state = if dst.learned.is_some() {
                ""
            } else {
                "permanent"
            };
            if fresh {
                out.push(Line {
                    mac: *mac,
                    dev: d,
                    dst: Some(dst.ip),
                    vlan: 0,
                    master: None,
                    state,
                });
            }
        }
    }
}

/// The groups a device listens to: all nodes, all hosts, and, with IPv6, the solicited-node group of
/// each address, all routers when it routes, and the subnets' anycast addresses (kernel: `ipv6_add_dev`,
/// `ip_mc_up`,
/// `addrconf_join_solict`, `dev_forward_change`).
fn groups<'a>(ns: &NetNs, d: &'a Device, out: &mut Vec<Line<'a>>) {
    if !matches!(
        d.kind,
        DeviceKind::Veth | DeviceKind::Bridge(_) | DeviceKind::Uplink | DeviceKind::Dummy
    ) {
        return;
    }
    let mut macs = Vec::new();
    // Below 1280 bytes of MTU there is no IPv6 on the device; otherwise the group stays while it is down.
    if d.mtu >= 1280 {
        macs.push(MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    }
    if d.up {
        macs.push(MacAddr([1, 0, 0x5e, 0, 0, 1]));
        groups6(ns, d, &mut macs);
    }
    let mut seen: Vec<MacAddr> = Vec::new();
    for mac in macs {
        if !seen.contains(&mac) {
            seen.push(mac);
            out.push(Line {
                mac,
                dev: d,
                dst: None,
                vlan: 0,
                master: None,
                state: "permanent",
            });
        }
    }
}

/// Those that follow from IPv6 addresses, own and proxied (kernel: `pndisc_constructor`).
fn groups6(ns: &NetNs, d: &Device, macs: &mut Vec<MacAddr>) {
    let mut local: Vec<Ipv6Addr> = d.addrs6().map(|(_, a)| a).collect();
    local.sort_by_key(|a| !crate::net::addr::is_link_local(*a));
    for (i, a) in local.iter().enumerate() {
        macs.push(solicited(*a));
        if i == 0 && ns.forwards(d.id, false) {
            macs.push(MacAddr([0x33, 0x33, 0, 0, 0, 2]));
            macs.push(MacAddr([0x33, 0x33, 0xff, 0, 0, 0]));
        }
    }
    let proxied = ns.neigh().proxies().filter(|(dev, _)| *dev == d.id);
    macs.extend(proxied.filter_map(|(_, ip)| match ip {
        IpAddr::V6(a) => Some(solicited(a)),
        IpAddr::V4(_) => None,
    }));
}

/// The group address of `ff02::1:ffXX:XXXX` (RFC 4291 section 2.7.1, RFC 2464 section 7).
fn solicited(a: Ipv6Addr) -> MacAddr {
    let o = a.octets();
    MacAddr([0x33, 0x33, 0xff, o[13], o[14], o[15]])
}

fn one(l: &Line<'_>) -> Obj {
    let mut o = Obj::default();
    o.both("mac", l.mac.to_string(), format_args!("{} ", l.mac));
    o.word("ifname", "dev", l.dev.name.clone());
    if let Some(ip) = l.dst {
        o.word("dst", "dst", ip.to_string());
    }
    if l.vlan != 0 {
        o.word("vlan", "vlan", l.vlan);
    }
    let mut flags: Vec<Value> = Vec::new();
    if l.master.is_none() {
        o.say("self ");
        flags.push("self".into());
    }
    o.key("flags", flags);
    if let Some(m) = l.master {
        o.word("master", "master", m.to_owned());
    }
    o.both("state", l.state, l.state);
    o
}
