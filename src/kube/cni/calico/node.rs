//! What Felix and BIRD lay on a node: tunnel devices, routes to other nodes' blocks and to borrowed
//! addresses, blackholes for the node's own blocks.
//!
//! VXLAN pools are Felix's (felix/dataplane/linux/{vxlan_mgr,route_mgr}.go; protocol 80 but for routes over
//! the tunnel). IPIP and plain pools are BIRD's, as `ProgramClusterRoutes` is off by default
//! (confd/pkg/backends/calico/bgp_processor.go; protocol bird). A full mesh without route reflectors.

use super::ipam::{Block, Ipam};
use super::pool::{Encap, IpPool};
use crate::kube::cni::addr::host;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec};
use crate::net::RouteKind;
use crate::net::fib::PROTO_BIRD;
use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr};

/// Felix's protocol of same-subnet and blackhole routes (felix/dataplane/linux/dataplanedefs).
pub const PROTO_FELIX: u8 = 80;
/// VXLAN network identifier and port (felix/config/config_params.go VXLANVNI, VXLANPort).
pub const VXLAN: (u32, u16) = (4096, 4789);

/// A node as Calico knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CalicoNode {
    /// Name.
    pub name: String,
    /// BGP address with the subnet of its interface, per family.
    pub addresses: Vec<IpNetwork>,
    /// The interface that has them.
    pub iface: String,
    /// Its MTU.
    pub iface_mtu: u32,
    /// `tunl0`'s address.
    pub ipip_tunnel: Option<Ipv4Addr>,
    /// `vxlan.calico`'s address.
    pub vxlan_tunnel: Option<IpAddr>,
    /// `vxlan-v6.calico`'s address.
    pub vxlan_v6_tunnel: Option<IpAddr>,
    /// Link address of `vxlan.calico`.
    pub vtep_mac: MacAddr,
    /// Link address of `vxlan-v6.calico`.
    pub vtep_mac_v6: MacAddr,
}

impl CalicoNode {
    fn address(&self, v4: bool) -> Option<IpNetwork> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == v4)
    }

    fn vtep(&self, v4: bool) -> Option<(IpAddr, MacAddr)> {
        if v4 {
            Some((self.vxlan_tunnel?, self.vtep_mac))
        } else {
            Some((self.vxlan_v6_tunnel?, self.vtep_mac_v6))
        }
    }
}

/// Gives every node the tunnel addresses that its pools ask for (node/pkg/allocateip/allocateip.go).
pub fn assign_tunnel_addresses(
    ipam: &mut Ipam,
    nodes: &mut [CalicoNode],
) -> Result<(), super::IpamError> {
    let uses = |f: &dyn Fn(&IpPool) -> bool| ipam.pools.iter().any(|p| !p.disabled && f(p));
    let ipip = |p: &IpPool| p.ipip != Encap::Never;
    let vxlan = |p: &IpPool| p.vxlan != Encap::Never;
    let any_ipip = uses(&ipip);
    let (any4, any6) = (
        uses(&|p| vxlan(p) && p.cidr.is_ipv4()),
        uses(&|p| vxlan(p) && p.cidr.is_ipv6()),
    );
    for n in nodes {
        if any_ipip && n.ipip_tunnel.is_none() {
            let a = ipam.assign_tunnel(
                &n.name,
                &format!("ipip-tunnel-addr-{}", n.name),
                true,
                &ipip,
            )?;
            if let IpAddr::V4(a) = a.ip() {
                n.ipip_tunnel = Some(a);
            }
        }
        if any4 && n.vxlan_tunnel.is_none() {
            let a = ipam.assign_tunnel(
                &n.name,
                &format!("vxlan-tunnel-addr-{}", n.name),
                true,
                &vxlan,
            )?;
            n.vxlan_tunnel = Some(a.ip());
        }
        if any6 && n.vxlan_v6_tunnel.is_none() {
            let a = ipam.assign_tunnel(
                &n.name,
                &format!("vxlan-v6-tunnel-addr-{}", n.name),
                false,
                &vxlan,
            )?;
            n.vxlan_v6_tunnel = Some(a.ip());
        }
    }
    Ok(())
}

/// Everything Felix and BIRD change on `me`.
pub fn plan(me: &CalicoNode, all: &[CalicoNode], ipam: &Ipam) -> Vec<LinkOp> {
    let mut ops = vec![LinkOp::SetSysctl("net.ipv4.ip_forward".into(), "1".into())];
    if ipam.pools.iter().any(|p| p.cidr.is_ipv6()) {
        ops.push(LinkOp::SetSysctl(
            "net.ipv6.conf.all.forwarding".into(),
            "1".into(),
        ));
    }
    devices(&mut ops, me, all, ipam);
    for b in ipam.blocks() {
        let Some(pool) = ipam.pool_of(b.cidr.network()) else {
            continue;
        };
        if b.node == me.name {
            blackhole(&mut ops, pool, b);
        } else if let Some(n) = all.iter().find(|n| n.name == b.node) {
            route(&mut ops, me, n, pool, b.cidr);
        }
        // An address that another node borrowed is announced by itself.
        for (ip, a) in b
            .allocations()
            .filter(|(_, a)| a.node != b.node && a.node != me.name)
        {
            if let Some(n) = all.iter().find(|n| n.name == a.node) {
                route(&mut ops, me, n, pool, host(ip));
            }
        }
    }
    ops
}

fn devices(ops: &mut Vec<LinkOp>, me: &CalicoNode, all: &[CalicoNode], ipam: &Ipam) {
    let uses = |f: &dyn Fn(&IpPool) -> bool| ipam.pools.iter().any(|p| !p.disabled && f(p));
    if let Some(a) = me.ipip_tunnel.filter(|_| uses(&|p| p.ipip != Encap::Never)) {
        // The kernel's own fallback device, without local or remote address (felix ipip_mgr.go).
        ops.push(LinkOp::AddIpip {
            name: "tunl0".into(),
            local: None,
            mtu: me.iface_mtu.saturating_sub(20),
        });
        ops.push(LinkOp::AddAddr("tunl0".into(), host(a.into())));
        ops.push(LinkOp::SetUp("tunl0".into(), true));
    }
    for v4 in [true, false] {
        let on = uses(&|p| p.vxlan != Encap::Never && p.cidr.is_ipv4() == v4);
        let (Some((tunnel, mac)), Some(local)) = (me.vtep(v4).filter(|_| on), me.address(v4))
        else {
            continue;
        };
        let (dev, overhead) = if v4 {
            ("vxlan.calico", 50)
        } else {
            ("vxlan-v6.calico", 70)
        };
        ops.push(LinkOp::AddVxlan {
            name: dev.into(),
            mac,
            vni: VXLAN.0,
            port: VXLAN.1,
            lower: Some(me.iface.clone()),
            local: Some(local.ip()),
            learning: false,
            mtu: me.iface_mtu.saturating_sub(overhead),
        });
        ops.push(LinkOp::AddAddr(dev.into(), host(tunnel)));
        ops.push(LinkOp::SetUp(dev.into(), true));
        for n in all.iter().filter(|n| n.name != me.name) {
            let (Some((tunnel, mac)), Some(at)) = (n.vtep(v4), n.address(v4)) else {
                continue;
            };
            ops.push(LinkOp::AddNeigh(dev.into(), tunnel, mac));
            ops.push(LinkOp::AddFdb(dev.into(), mac, at.ip()));
        }
    }
}

/// What is not a pod of ours must not loop (felix route_mgr.go `blackholeRoutes`; BIRD's static routes).
fn blackhole(ops: &mut Vec<LinkOp>, pool: &IpPool, b: &Block) {
    let full = if b.cidr.is_ipv4() { 32 } else { 128 };
    if b.cidr.prefix() == full {
        return; // it would stand in the way of the pod's own route
    }
    let mut r = RouteSpec::new(b.cidr, None, None);
    r.kind = RouteKind::Blackhole;
    r.protocol = if pool.vxlan != Encap::Never {
        PROTO_FELIX
    } else {
        PROTO_BIRD
    };
    ops.push(LinkOp::AddRoute(r, Mode::Replace));
}

fn route(ops: &mut Vec<LinkOp>, me: &CalicoNode, n: &CalicoNode, pool: &IpPool, dst: IpNetwork) {
    let v4 = dst.is_ipv4();
    let (Some(mine), Some(theirs)) = (me.address(v4), n.address(v4)) else {
        return;
    };
    let same_subnet = mine.contains(theirs.ip());
    let tunnelled = |e: Encap| e == Encap::Always || e == Encap::CrossSubnet && !same_subnet;
    let mut r = RouteSpec::new(dst, Some(theirs.ip()), Some(&me.iface));
    if pool.vxlan != Encap::Never {
        if tunnelled(pool.vxlan) {
            let Some((tunnel, _)) = n.vtep(v4) else {
                return;
            };
            let dev = if v4 {
                "vxlan.calico"
            } else {
                "vxlan-v6.calico"
            };
            // A borrowed tunnel address is on the link, the tunnel end itself.
            let via = Some(tunnel).filter(|t| host(*t) != dst);
            r = RouteSpec::new(dst, via, Some(dev));
        } else {
            r.protocol = PROTO_FELIX;
        }
        r.onlink = r.via.is_some();
    } else {
        r.protocol = PROTO_BIRD;
        if tunnelled(pool.ipip) {
            r.dev = Some("tunl0".into());
            r.onlink = true;
        } else if !same_subnet {
            r.dev = None; // BIRD resolves the next hop over the node's own routes
        }
    }
    ops.push(LinkOp::AddRoute(r, Mode::Replace));
}
