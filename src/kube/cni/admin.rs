//! Carries out [`LinkOp`]s on the namespaces of a node: what netlink and `/proc/sys` would do.
//!
//! Knows both ends of a veth pair, which a single namespace does not: carrier follows the other end, and
//! deleting one end deletes both (kernel: `drivers/net/veth.c`).

use crate::base::{DevId, NsId, Origin};
use crate::kube::cni::host::Namespaces;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec, Where};
use crate::net::fib::{AddMode, FibEditError};
use crate::net::{
    Bridge, Device, DeviceKind, EditError, IfAddr, Ipip, LinkSpec, NetNs, NextHop, NudState,
    PortAt, Route, Vxlan, table,
};
use crate::wire::MacAddr;

/// The kernel's word for why a change was refused, as Go prints an errno.
pub fn errno(e: &EditError) -> &'static str {
    match e {
        EditError::LinkExists(_)
        | EditError::AddrExists(_)
        | EditError::Fib(FibEditError::Exists) => "file exists",
        EditError::NoDevice(_) | EditError::Fib(FibEditError::NoDevice) => "no such device",
        EditError::BadName(_) => "numerical result out of range",
        EditError::BadMtu(_)
        | EditError::WrongKind(..)
        | EditError::Fib(FibEditError::DeadEndHop) => "invalid argument",
        EditError::NoAddr(_) => "cannot assign requested address",
        EditError::Fib(FibEditError::Missing) => "no such process",
        EditError::Fib(FibEditError::BadGateway) => "network is unreachable",
        EditError::Missing => "no such file or directory",
        EditError::Sysctl(_) => "no such file or directory",
    }
}

fn no_ns(at: &Where) -> EditError {
    match at {
        Where::Node => EditError::NoDevice("node".into()),
        Where::Pod(p) => EditError::NoDevice(p.clone()),
    }
}

fn locate(nss: &dyn Namespaces, at: &Where) -> Result<NsId, EditError> {
    match at {
        Where::Node => Ok(nss.node()),
        Where::Pod(p) => nss.by_path(p).ok_or_else(|| no_ns(at)),
    }
}

/// Carries out a whole plan on the node itself; stops at the first refusal.
pub fn apply_all(
    nss: &mut dyn Namespaces,
    ops: &[LinkOp],
    origin: &Origin,
) -> Result<(), EditError> {
    ops.iter()
        .try_for_each(|op| apply(nss, &Where::Node, op, origin))
}

/// Carries out one operation.
pub fn apply(
    nss: &mut dyn Namespaces,
    at: &Where,
    op: &LinkOp,
    origin: &Origin,
) -> Result<(), EditError> {
    let id = locate(nss, at)?;
    match op {
        LinkOp::AddVeth {
            name,
            mac,
            peer,
            peer_mac,
            peer_in,
            mtu,
        } => {
            let there = locate(nss, peer_in)?;
            let near = veth_spec(name, *mac, *mtu, origin);
            let far = veth_spec(peer, *peer_mac, *mtu, origin);
            return add_veth(nss, (id, near), (there, far));
        }
        LinkOp::DelLink(name) => return del_link(nss, id, name),
        LinkOp::SetUp(name, up) => return set_up(nss, id, name, *up),
        _ => {}
    }
    let ns = nss.get_mut(id).ok_or_else(|| no_ns(at))?;
    match op {
        LinkOp::AddVeth { .. } | LinkOp::DelLink(_) | LinkOp::SetUp(..) => Ok(()), // done above
        LinkOp::AddBridge { .. }
        | LinkOp::AddVxlan { .. }
        | LinkOp::AddIpip { .. }
        | LinkOp::AddDummy { .. } => add_link(ns, op, origin),
        LinkOp::SetMtu(..)
        | LinkOp::SetMac(..)
        | LinkOp::SetPromisc(..)
        | LinkOp::SetMaster(..)
        | LinkOp::SetHairpin(..)
        | LinkOp::AddPortVlan(..) => set_link(ns, op),
        LinkOp::AddAddr(..)
        | LinkOp::DelAddr(..)
        | LinkOp::AddRoute(..)
        | LinkOp::DelRoute { .. }
        | LinkOp::AddNeigh(..)
        | LinkOp::AddFdb(..)
        | LinkOp::SetSysctl(..) => set_ip(ns, op, origin),
    }
}

fn veth_spec(name: &str, mac: MacAddr, mtu: Option<u32>, origin: &Origin) -> LinkSpec {
    LinkSpec {
        name: name.into(),
        kind: DeviceKind::Veth,
        mac,
        mtu,
        origin: origin.clone(),
    }
}

fn add_link(ns: &mut NetNs, op: &LinkOp, origin: &Origin) -> Result<(), EditError> {
    let mut e = ns.edit();
    let spec = |name: &str, kind, mac, mtu| LinkSpec {
        name: name.into(),
        kind,
        mac,
        mtu,
        origin: origin.clone(),
    };
    match op {
        LinkOp::AddBridge {
            name,
            mtu,
            mac,
            vlan_filtering,
        } => {
            let b = Bridge {
                vlan_filtering: *vlan_filtering,
                ..Bridge::default()
            };
            e.link_add(spec(name, DeviceKind::Bridge(Box::new(b)), *mac, *mtu))?;
        }
        LinkOp::AddVxlan {
            name,
            mac,
            vni,
            port,
            lower,
            local,
            learning,
            mtu,
        } => {
            let lower = lower.as_deref().map(|l| e.find(l)).transpose()?;
            let v = Vxlan {
                vni: *vni,
                port: *port,
                local: *local,
                lower,
                learning: *learning,
                ttl: None,
                udp_csum: false,
                fdb: Default::default(),
            };
            e.link_add(spec(name, DeviceKind::Vxlan(Box::new(v)), *mac, Some(*mtu)))?;
        }
        LinkOp::AddIpip { name, local, mtu } => {
            let t = Ipip {
                local: *local,
                remote: None,
                ttl: 0,
                pmtudisc: true,
            };
            e.link_add(spec(
                name,
                DeviceKind::Ipip(Box::new(t)),
                MacAddr::ZERO,
                Some(*mtu),
            ))?;
        }
        LinkOp::AddDummy { name, mac } => {
            e.link_add(spec(name, DeviceKind::Dummy, *mac, None))?;
        }
        _ => {}
    }
    Ok(())
}

fn add_veth(
    nss: &mut dyn Namespaces,
    near: (NsId, LinkSpec),
    far: (NsId, LinkSpec),
) -> Result<(), EditError> {
    // Both names are checked before either end exists (kernel: `veth_newlink`, `__dev_alloc_name`).
    for (ns, spec) in [&near, &far] {
        if nss
            .get(*ns)
            .is_some_and(|n| n.dev_by_name(&spec.name).is_some())
        {
            return Err(EditError::LinkExists(spec.name.clone()));
        }
    }
    let mut ends = Vec::new();
    for (ns, spec) in [far, near] {
        let n = nss
            .get_mut(ns)
            .ok_or_else(|| EditError::NoDevice(spec.name.clone()))?;
        ends.push(PortAt {
            ns,
            dev: n.edit().link_add(spec)?,
        });
    }
    for (a, b) in [(0, 1), (1, 0)] {
        let (Some(me), Some(other)) = (ends.get(a), ends.get(b)) else {
            continue;
        };
        if let Some(n) = nss.get_mut(me.ns) {
            n.edit().set_peer(me.dev, Some(*other))?;
        }
    }
    Ok(())
}

fn find(nss: &dyn Namespaces, ns: NsId, name: &str) -> Result<(DevId, Option<PortAt>), EditError> {
    let d = nss.get(ns).and_then(|n| n.dev_by_name(name));
    d.map(|d| (d.id, d.peer))
        .ok_or_else(|| EditError::NoDevice(name.into()))
}

fn del_link(nss: &mut dyn Namespaces, ns: NsId, name: &str) -> Result<(), EditError> {
    let (dev, peer) = find(nss, ns, name)?;
    let veth = nss
        .get(ns)
        .and_then(|n| n.dev(dev))
        .is_some_and(|d| matches!(d.kind, DeviceKind::Veth));
    for at in [Some(PortAt { ns, dev }), peer.filter(|_| veth)]
        .into_iter()
        .flatten()
    {
        let Some(n) = nss.get_mut(at.ns) else {
            continue;
        };
        n.edit().link_del(at.dev)?;
    }
    Ok(())
}

fn set_up(nss: &mut dyn Namespaces, ns: NsId, name: &str, up: bool) -> Result<(), EditError> {
    let (dev, peer) = find(nss, ns, name)?;
    if let Some(n) = nss.get_mut(ns) {
        n.edit().set_up(dev, up)?;
    }
    if let Some((p, n)) = peer.and_then(|p| Some((p, nss.get_mut(p.ns)?))) {
        n.edit().set_carrier(p.dev, up)?;
    }
    Ok(())
}

fn set_link(ns: &mut NetNs, op: &LinkOp) -> Result<(), EditError> {
    let mut e = ns.edit();
    match op {
        LinkOp::SetMtu(d, mtu) => {
            let d = e.find(d)?;
            e.set_mtu(d, *mtu)
        }
        LinkOp::SetMac(d, mac) => {
            let id = e.find(d)?;
            if !mac.is_valid_unicast() {
                return Err(EditError::WrongKind(
                    d.clone(),
                    "device that takes this address",
                ));
            }
            e.set_mac(id, *mac)
        }
        LinkOp::SetPromisc(d, on) => {
            let d = e.find(d)?;
            e.set_promisc(d, *on)
        }
        LinkOp::SetMaster(port, bridge) => {
            let (p, b) = (e.find(port)?, e.find(bridge)?);
            e.set_master(p, Some(b))
        }
        LinkOp::SetHairpin(port, on) => {
            let p = e.find(port)?;
            e.port(p)?.hairpin = *on;
            Ok(())
        }
        LinkOp::AddPortVlan(port, vid) => {
            let p = e.find(port)?;
            let port = e.port(p)?;
            port.vlans.insert(*vid, true);
            port.pvid = Some(*vid);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn set_ip(ns: &mut NetNs, op: &LinkOp, origin: &Origin) -> Result<(), EditError> {
    let mut e = ns.edit();
    match op {
        LinkOp::AddAddr(d, net) => {
            let d = e.find(d)?;
            e.addr_add(d, IfAddr::new(*net, origin.clone()).with_broadcast())
        }
        LinkOp::DelAddr(d, net) => {
            let d = e.find(d)?;
            e.addr_del(d, *net)
        }
        LinkOp::AddRoute(spec, mode) => {
            let dev = spec.dev.as_deref().map(|d| e.find(d)).transpose()?;
            let mode = match mode {
                Mode::Add => AddMode::New,
                Mode::Replace => AddMode::Replace,
                Mode::Beside => AddMode::Prepend,
            };
            e.route_add(table::MAIN, route(spec, dev, origin), mode)
        }
        LinkOp::DelRoute { dst, dev } => {
            let dev = dev.as_deref().map(|d| e.find(d)).transpose()?;
            let via = |r: &Route| dev.is_none() || r.nexthops.iter().any(|n| n.dev == dev);
            e.route_del(table::MAIN, *dst, &via)
        }
        LinkOp::AddNeigh(d, ip, mac) => {
            let d = e.find(d)?;
            e.neigh_set(d, *ip, *mac, NudState::Permanent, origin.clone())
        }
        LinkOp::AddFdb(d, mac, ip) => {
            let d = e.find(d)?;
            e.vxlan_fdb_add(d, *mac, *ip, true)
        }
        LinkOp::SetSysctl(key, value) => e.sysctl_set(key, value).map(|_| ()),
        _ => Ok(()),
    }
}

fn route(spec: &RouteSpec, dev: Option<DevId>, origin: &Origin) -> Route {
    let mut r = Route::unicast(spec.dst, spec.via, dev, origin.clone());
    r.kind = spec.kind;
    r.scope = spec.scope;
    r.protocol = spec.protocol;
    r.prefsrc = spec.src;
    r.mtu = spec.mtu;
    r.nexthops = if r.is_dead_end() {
        Vec::new()
    } else {
        vec![NextHop {
            dev,
            via: spec.via,
            weight: 1,
            onlink: spec.onlink,
        }]
    };
    r
}

/// The value of a sysctl, as `/proc/sys` shows it; `None` when there is no such file.
pub fn read_sysctl(ns: &NetNs, key: &str) -> Option<String> {
    let key = key.replace('/', ".");
    let s = ns.sysctl();
    if let Some(v) = s.other.get(&key) {
        return Some(v.clone());
    }
    let rest = match key.as_str() {
        "net.ipv4.ip_forward" => return Some(s.all4.forwarding.to_string()),
        k => k.strip_prefix("net.")?,
    };
    let (v4, rest) = match rest.strip_prefix("ipv4.conf.") {
        Some(r) => (true, r),
        None => (false, rest.strip_prefix("ipv6.conf.")?),
    };
    let (dev, name) = rest.rsplit_once('.')?;
    let (c4, c6) = match dev {
        "all" => (&s.all4, &s.all6),
        "default" => (&s.default4, &s.default6),
        d => ns.dev_by_name(d).map(|d: &Device| (&d.conf4, &d.conf6))?,
    };
    let v = if v4 {
        match name {
            "forwarding" => c4.forwarding,
            "rp_filter" => c4.rp_filter,
            "proxy_arp" => c4.proxy_arp,
            "proxy_arp_pvlan" => c4.proxy_arp_pvlan,
            "arp_ignore" => c4.arp_ignore,
            "arp_announce" => c4.arp_announce,
            "arp_accept" => c4.arp_accept,
            "arp_filter" => c4.arp_filter,
            "accept_local" => c4.accept_local,
            "route_localnet" => c4.route_localnet,
            "send_redirects" => c4.send_redirects,
            "accept_redirects" => c4.accept_redirects,
            "log_martians" => c4.log_martians,
            _ => return None,
        }
    } else {
        match name {
            "disable_ipv6" => c6.disable_ipv6,
            "forwarding" => c6.forwarding,
            "proxy_ndp" => c6.proxy_ndp,
            "accept_dad" => c6.accept_dad,
            "hop_limit" => c6.hop_limit,
            "mtu" => c6.mtu,
            "addr_gen_mode" => c6.addr_gen_mode,
            _ => return None,
        }
    };
    Some(v.to_string())
}
