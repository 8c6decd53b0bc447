//! The underlay: a learning switch per L2 segment, a gateway that joins segments and leads out, the nodes'
//! uplinks and the external hosts.
//!
//! The gateway is the segment's first address unless said otherwise. What it cannot route has left the
//! cluster: it is sent out of an uplink that leads nowhere.

use crate::base::{Finding, NodeId, NsId, Origin};
use crate::cluster::build::Builder;
use crate::cluster::node::nth;
use crate::kube::podpath_v1alpha1::{ExternalHost, HostRoute};
use crate::net::addr::{default_net, network_of};
use crate::net::fib::AddMode;
use crate::net::{DeviceKind, IfAddr, LinkSpec, NudState, PortAt, Route, table};
use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv6Addr};

/// The gateway's provider side (RFC 5737, RFC 3849): documentation addresses, so that they meet nothing.
const PROVIDER4: ([u8; 4], [u8; 4]) = ([198, 51, 100, 1], [198, 51, 100, 2]);

/// One L2 segment while it is being laid.
struct Segment {
    name: String,
    nets: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
    switch: NsId,
    bridge: crate::base::DevId,
    ports: u32,
}

pub(super) fn lay(b: &mut Builder) {
    let fabric = b.c.lab.world.add_node("underlay");
    let mut segments = segments(b, fabric);
    let gateway = b.c.lab.world.add_ns("gateway", fabric);
    let _ = b.c.lab.world.edit(gateway, |e| {
        let lo = e.find("lo").ok();
        lo.map(|l| e.set_up(l, true))
    });
    for (i, s) in segments.iter_mut().enumerate() {
        join_gateway(b, gateway, i, s);
    }
    let names: Vec<String> = b.c.nodes.keys().cloned().collect();
    for (i, n) in names.iter().enumerate() {
        join_node(b, n, i, &mut segments);
    }
    for (i, h) in b.spec.external_hosts.clone().into_iter().enumerate() {
        join_host(b, &h, i, gateway, &mut segments);
    }
    provider(b, gateway);
    let field = "spec.underlay.routes";
    let cluster = b.c.store.cluster();
    let origin = cluster
        .map(|c| c.source.origin_of(field))
        .unwrap_or_default();
    let written = b.spec.underlay.routes.clone();
    routes(
        b,
        gateway,
        "the underlay's gateway",
        &written,
        field,
        &origin,
    );
}

/// The Cluster's segments, or one that holds every node.
fn segments(b: &mut Builder, fabric: NodeId) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    let named = b.spec.underlay.segments.clone();
    for s in named {
        let gw = s.gateway.or_else(|| nth(network_of(s.cidr), 1));
        out.push(segment(
            b,
            fabric,
            &s.name,
            vec![network_of(s.cidr)],
            gw.into_iter().collect(),
        ));
    }
    if out.is_empty() {
        let mut nets: Vec<IpNetwork> = Vec::new();
        for a in b.c.nodes.values().flat_map(|n| n.addresses.clone()) {
            if !nets.contains(&network_of(a)) {
                nets.push(network_of(a));
            }
        }
        let gws = nets.iter().filter_map(|n| nth(*n, 1)).collect();
        out.push(segment(b, fabric, "underlay", nets, gws));
    }
    out
}

fn segment(
    b: &mut Builder,
    fabric: NodeId,
    name: &str,
    nets: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
) -> Segment {
    let ns_name = if name == "underlay" {
        "switch".to_owned()
    } else {
        format!("switch {name}")
    };
    let switch = b.c.lab.world.add_ns(ns_name, fabric);
    let mtu = b.spec.underlay.mtu;
    let bridge = b.c.lab.world.edit(switch, |e| {
        let _ = e.sysctl_set("net.ipv6.conf.all.disable_ipv6", "1");
        let spec = link(
            "br0",
            DeviceKind::Bridge(Box::default()),
            MacAddr([2, 0x53, 0, 0, 0, 1]),
            mtu,
            &Origin::Kernel,
        );
        let id = e.link_add(spec).ok()?;
        e.set_up(id, true).ok()?;
        Some(id)
    });
    let bridge = bridge.flatten().unwrap_or(crate::base::DevId(0));
    Segment {
        name: name.to_owned(),
        nets,
        gateways,
        switch,
        bridge,
        ports: 0,
    }
}

fn link(name: &str, kind: DeviceKind, mac: MacAddr, mtu: u32, origin: &Origin) -> LinkSpec {
    LinkSpec {
        name: name.to_owned(),
        kind,
        mac,
        mtu: Some(mtu),
        origin: origin.clone(),
    }
}

/// A device of `ns` on a segment, with its addresses, up.
#[allow(clippy::too_many_arguments)] // the device's own particulars
fn plug(
    b: &mut Builder,
    ns: NsId,
    dev: &str,
    mac: MacAddr,
    mtu: u32,
    addrs: &[IpNetwork],
    s: &mut Segment,
    origin: &Origin,
) -> Option<PortAt> {
    let id = b.c.lab.world.edit(ns, |e| {
        let id = e
            .link_add(link(dev, DeviceKind::Uplink, mac, mtu, origin))
            .ok()?;
        for a in addrs {
            let a = IfAddr::new(*a, origin.clone()).with_broadcast();
            e.addr_add(id, a).ok()?;
        }
        e.set_up(id, true).ok()?;
        Some(id)
    });
    let here = PortAt {
        ns,
        dev: id.flatten()?,
    };
    s.ports += 1;
    let (bridge, n) = (s.bridge, s.ports);
    let port_mtu = b.spec.underlay.mtu.max(mtu);
    let port = b.c.lab.world.edit(s.switch, |e| {
        let mac = MacAddr([2, 0x53, 0, 1, (n >> 8) as u8, n as u8]);
        let id = e
            .link_add(link(
                &format!("port{n}"),
                DeviceKind::Uplink,
                mac,
                port_mtu,
                origin,
            ))
            .ok()?;
        e.set_master(id, Some(bridge)).ok()?;
        e.set_up(id, true).ok()?;
        Some(id)
    });
    let there = PortAt {
        ns: s.switch,
        dev: port.flatten()?,
    };
    b.c.lab.world.connect(here, there).ok()?;
    let u = &b.spec.underlay;
    let l = b.c.lab.world.link_mut(here);
    l.latency = u.latency;
    l.loss_ppm = (u.loss_percent.clamp(0.0, 100.0) * 10_000.0) as u32;
    l.mtu = Some(u.mtu);
    Some(here)
}

fn join_gateway(b: &mut Builder, gateway: NsId, i: usize, s: &mut Segment) {
    let addrs: Vec<IpNetwork> = s
        .gateways
        .iter()
        .filter_map(|g| {
            let net = s.nets.iter().find(|n| n.contains(*g))?;
            IpNetwork::new(*g, net.prefix()).ok()
        })
        .filter(|g| {
            !b.c.nodes
                .values()
                .any(|n| n.addresses.iter().any(|a| a.ip() == g.ip()))
        })
        .collect();
    s.gateways.retain(|g| addrs.iter().any(|a| a.ip() == *g));
    let mac = MacAddr([2, 0x52, 0, 0, 0, i as u8 + 1]);
    let mtu = b.spec.underlay.mtu;
    let origin = Origin::controller("underlay", s.name.as_str());
    plug(b, gateway, &format!("eth{i}"), mac, mtu, &addrs, s, &origin);
}

fn join_node(b: &mut Builder, name: &str, i: usize, segments: &mut [Segment]) {
    let Some(n) = b.c.nodes.get(name) else { return };
    let (ns, iface, addrs, origin) = (n.ns, n.iface.clone(), n.addresses.clone(), n.origin.clone());
    let mtu = b
        .spec
        .nodes
        .get(name)
        .and_then(|o| o.mtu)
        .unwrap_or(b.spec.node.mtu);
    let _ = b.c.lab.world.edit(ns, |e| {
        let lo = e.find("lo").ok();
        lo.map(|l| e.set_up(l, true));
        // What kubeadm's preflight demands of a node (cmd/kubeadm/app/preflight/checks_linux.go).
        for k in [
            "net.ipv4.ip_forward",
            "net.ipv6.conf.all.forwarding",
            "net.bridge.bridge-nf-call-iptables",
            "net.bridge.bridge-nf-call-ip6tables",
        ] {
            let _ = e.sysctl_set(k, "1");
        }
    });
    let at = segments.iter().position(|s| {
        addrs
            .iter()
            .any(|a| s.nets.iter().any(|n| n.contains(a.ip())))
    });
    let Some(s) = segments.get_mut(at.unwrap_or(0)) else {
        return;
    };
    let k = i as u32 + 1;
    let mac = MacAddr([2, 0x50, 0, (k >> 16) as u8, (k >> 8) as u8, k as u8]);
    let Some(up) = plug(b, ns, &iface, mac, mtu, &addrs, s, &origin) else {
        return;
    };
    let gws = s.gateways.clone();
    default_routes(b, ns, &addrs, &gws, &origin);
    if let Some(n) = b.c.nodes.get_mut(name) {
        n.uplink = up;
    }
}

fn default_routes(b: &mut Builder, ns: NsId, addrs: &[IpNetwork], gws: &[IpAddr], origin: &Origin) {
    for g in gws.iter().filter(|g| addrs.iter().any(|a| a.contains(**g))) {
        let r = Route::unicast(default_net(g.is_ipv4()), Some(*g), None, origin.clone());
        let _ =
            b.c.lab
                .world
                .edit(ns, |e| e.route_add(table::MAIN, r, AddMode::New));
    }
}

/// An external host: on the segment of its address, else behind the gateway on a link of its own.
fn join_host(
    b: &mut Builder,
    h: &ExternalHost,
    i: usize,
    gateway: NsId,
    segments: &mut Vec<Segment>,
) {
    let node = b.c.lab.world.add_node(format!("host/{}", h.name));
    let ns = b.c.lab.world.add_ns(format!("host/{}", h.name), node);
    b.c.hosts.insert(h.name.clone(), ns);
    let origin =
        b.c.store
            .cluster()
            .map(|c| c.source.origin_of("spec.externalHosts"))
            .unwrap_or_default();
    let _ = b.c.lab.world.edit(ns, |e| {
        let lo = e.find("lo").ok();
        lo.map(|l| e.set_up(l, true))
    });
    let on = |s: &Segment| {
        h.addresses
            .iter()
            .any(|a| s.nets.iter().any(|n| n.contains(a.ip())))
    };
    let by_name = b
        .spec
        .underlay
        .segments
        .iter()
        .position(|s| s.hosts.contains(&h.name));
    let at = by_name.or_else(|| segments.iter().position(on));
    let at = at.unwrap_or_else(|| {
        let nets: Vec<IpNetwork> = h.addresses.iter().map(|a| widen(*a)).collect();
        let gws = match h.gateway {
            Some(g) => vec![g],
            None => nets.iter().filter_map(|n| nth(*n, 1)).collect(),
        };
        let mut s = segment(b, node, &h.name, nets, gws);
        join_gateway(b, gateway, segments.len(), &mut s);
        segments.push(s);
        segments.len() - 1
    });
    let Some(s) = segments.get_mut(at) else {
        return;
    };
    let addrs: Vec<IpNetwork> = h
        .addresses
        .iter()
        .map(|a| {
            let net = s.nets.iter().find(|n| n.contains(a.ip()));
            net.and_then(|n| IpNetwork::new(a.ip(), n.prefix()).ok())
                .unwrap_or(*a)
        })
        .collect();
    let mac = MacAddr([2, 0x51, 0, 0, (i >> 8) as u8, i as u8 + 1]);
    let mtu = b.spec.underlay.mtu;
    if plug(b, ns, "eth0", mac, mtu, &addrs, s, &origin).is_none() {
        return;
    }
    let gws = h.gateway.map_or_else(|| s.gateways.clone(), |g| vec![g]);
    default_routes(b, ns, &addrs, &gws, &origin);
    let who = format!("host {}", h.name);
    routes(b, ns, &who, &h.routes, "spec.externalHosts", &origin);
}

/// Adds routes that the Cluster document writes down.
fn routes(b: &mut Builder, ns: NsId, who: &str, all: &[HostRoute], field: &str, origin: &Origin) {
    for r in all {
        let route = Route::unicast(r.to, Some(r.via), None, origin.clone());
        let world = &mut b.c.lab.world;
        let done = world.edit(ns, |e| e.route_add(table::MAIN, route, AddMode::New));
        if let Some(Err(e)) = done {
            let text = format!("{who}: route {r}: {e}");
            b.findings.push(Finding::error(
                b.cluster_span(field),
                text,
                "the gateway of a route must be on a network of its machine",
            ));
        }
    }
}

/// A host address without a subnet gets a /24 or /64 of its own.
fn widen(a: IpNetwork) -> IpNetwork {
    let full = a.prefix() == if a.is_ipv4() { 32 } else { 128 };
    let len = if a.is_ipv4() { 24 } else { 64 };
    let wide = if full {
        IpNetwork::new(a.ip(), len).unwrap_or(a)
    } else {
        a
    };
    network_of(wide)
}

/// The gateway forwards, and what it does not know leaves the cluster.
fn provider(b: &mut Builder, gateway: NsId) {
    let origin = Origin::controller("underlay", "the way out");
    let _ = b.c.lab.world.edit(gateway, |e| {
        for k in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            let _ = e.sysctl_set(k, "1");
        }
        let spec = link(
            "wan0",
            DeviceKind::Uplink,
            MacAddr([2, 0x52, 0, 0, 1, 0]),
            1500,
            &origin,
        );
        let id = e.link_add(spec).ok()?;
        let (own, next) = (IpAddr::from(PROVIDER4.0), IpAddr::from(PROVIDER4.1));
        e.addr_add(
            id,
            IfAddr::new(IpNetwork::new(own, 30).ok()?, origin.clone()),
        )
        .ok()?;
        e.set_up(id, true).ok()?;
        let next6 = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xffff));
        for n in [next, next6] {
            e.neigh_set(
                id,
                n,
                MacAddr([2, 0x52, 0, 0, 1, 1]),
                NudState::Permanent,
                origin.clone(),
            )
            .ok()?;
            let r = Route::unicast(default_net(n.is_ipv4()), Some(n), Some(id), origin.clone());
            e.route_add(table::MAIN, r, AddMode::New).ok()?;
        }
        Some(())
    });
}
