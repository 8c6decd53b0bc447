//! What `flanneld` makes of the leases of all nodes: devices, routes, neighbours, FDB, `subnet.env`.

use super::conf::{Backend, NetConf};
use crate::kube::cni::addr::host;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec};
use crate::net::addr::network_of;
use crate::wire::MacAddr;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// VXLAN's outer headers over IPv4; flannel reckons with them for both families.
pub const VXLAN_OVERHEAD: u32 = 50;
/// The outer IPv4 header of IPIP.
pub const IPIP_OVERHEAD: u32 = 20;

/// A node's lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlannelNode {
    /// The node's name.
    pub name: String,
    /// `flannel.alpha.coreos.com/public-ip`: its address on the underlay.
    pub public_ip: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Its `spec.podCIDR` of IPv4.
    pub subnet: Option<Ipv4Network>,
    /// Its `spec.podCIDR` of IPv6.
    pub ipv6_subnet: Option<Ipv6Network>,
    /// Link address of `flannel.VNI`.
    pub vtep_mac: MacAddr,
    /// Link address of `flannel-v6.VNI`.
    pub vtep_mac_v6: MacAddr,
    /// Interface to the underlay.
    pub iface: String,
    /// Its MTU.
    pub iface_mtu: u32,
    /// Networks that interface is on: what `DirectRouting` reaches.
    pub on_link: Vec<IpNetwork>,
}

impl FlannelNode {
    /// Address on the underlay and pod subnet of one family.
    fn lease(&self, v4: bool) -> Option<(IpAddr, IpNetwork)> {
        if v4 {
            Some((self.public_ip?.into(), network_of(self.subnet?.into())))
        } else {
            Some((
                self.public_ipv6?.into(),
                network_of(self.ipv6_subnet?.into()),
            ))
        }
    }

    fn reaches(&self, ip: IpAddr) -> bool {
        self.on_link.iter().any(|n| n.contains(ip))
    }
}

/// The MTU pods get: `FLANNEL_MTU`.
pub fn pod_mtu(conf: &NetConf, me: &FlannelNode) -> u32 {
    match &conf.backend {
        Backend::Vxlan { mtu, .. } => mtu.unwrap_or(me.iface_mtu).saturating_sub(VXLAN_OVERHEAD),
        Backend::HostGw => me.iface_mtu,
        Backend::Ipip { .. } => me.iface_mtu.saturating_sub(IPIP_OVERHEAD),
    }
}

/// `/run/flannel/subnet.env` (pkg/subnet/subnet.go `WriteSubnetFile`): the subnet is written with its first
/// usable address. `ip_masq` is flanneld's `--ip-masq`.
pub fn subnet_env(conf: &NetConf, me: &FlannelNode, ip_masq: bool) -> String {
    let mut out = String::new();
    if let (Some(net), Some(sub)) = (conf.network, me.subnet) {
        let first = Ipv4Addr::from(u32::from(sub.network()).wrapping_add(1));
        out += &format!(
            "FLANNEL_NETWORK={net}\nFLANNEL_SUBNET={first}/{}\n",
            sub.prefix()
        );
    }
    if let (Some(net), Some(sub)) = (conf.ipv6_network, me.ipv6_subnet) {
        let first = Ipv6Addr::from(u128::from(sub.network()).wrapping_add(1));
        out += &format!(
            "FLANNEL_IPV6_NETWORK={net}\nFLANNEL_IPV6_SUBNET={first}/{}\n",
            sub.prefix()
        );
    }
    out + &format!(
        "FLANNEL_MTU={}\nFLANNEL_IPMASQ={ip_masq}\n",
        pod_mtu(conf, me)
    )
}

/// Everything flanneld changes on `me`, devices first, then one lease after another in the given order.
pub fn plan(conf: &NetConf, me: &FlannelNode, all: &[FlannelNode]) -> Vec<LinkOp> {
    let others: Vec<&FlannelNode> = all.iter().filter(|n| n.name != me.name).collect();
    let mut ops = Vec::new();
    for v4 in [true, false] {
        let on = if v4 {
            conf.network.is_some()
        } else {
            conf.ipv6_network.is_some()
        };
        let Some(own) = me.lease(v4).filter(|_| on) else {
            continue;
        };
        match &conf.backend {
            Backend::Vxlan {
                vni,
                port,
                learning,
                direct_routing,
                ..
            } => {
                let dev = if v4 {
                    format!("flannel.{vni}")
                } else {
                    format!("flannel-v6.{vni}")
                };
                let device = LinkOp::AddVxlan {
                    name: dev.clone(),
                    mac: if v4 { me.vtep_mac } else { me.vtep_mac_v6 },
                    vni: *vni,
                    port: *port,
                    lower: Some(me.iface.clone()),
                    local: Some(own.0),
                    learning: *learning,
                    mtu: pod_mtu(conf, me),
                };
                let quiet = format!("net/ipv6/conf/{dev}/accept_ra");
                ops.extend([device, LinkOp::SetSysctl(quiet, "0".into())]);
                up_with_subnet_address(&mut ops, &dev, own.1);
                others
                    .iter()
                    .for_each(|n| vxlan_lease(&mut ops, me, n, v4, &dev, *direct_routing));
            }
            Backend::HostGw => {
                for (via, dst) in others.iter().filter_map(|n| n.lease(v4)) {
                    let r = RouteSpec::new(dst, Some(via), Some(&me.iface));
                    ops.push(LinkOp::AddRoute(r, Mode::Replace));
                }
            }
            // The backend has no IPv6.
            Backend::Ipip { direct_routing } if v4 => {
                ipip(
                    &mut ops,
                    me,
                    &others,
                    own,
                    pod_mtu(conf, me),
                    *direct_routing,
                );
            }
            Backend::Ipip { .. } => {}
        }
    }
    ops
}

/// `flannel.ipip` and the routes over it (pkg/backend/ipip/ipip.go).
fn ipip(
    ops: &mut Vec<LinkOp>,
    me: &FlannelNode,
    others: &[&FlannelNode],
    own: (IpAddr, IpNetwork),
    mtu: u32,
    direct_routing: bool,
) {
    let (IpAddr::V4(local), dev) = (own.0, "flannel.ipip") else {
        return;
    };
    ops.push(LinkOp::AddIpip {
        name: dev.into(),
        local: Some(local),
        mtu,
    });
    up_with_subnet_address(ops, dev, own.1);
    for (via, dst) in others.iter().filter_map(|n| n.lease(true)) {
        let direct = direct_routing && me.reaches(via);
        let mut r = RouteSpec::new(dst, Some(via), Some(if direct { &me.iface } else { dev }));
        r.onlink = true;
        ops.push(LinkOp::AddRoute(r, Mode::Replace));
    }
}

/// The device's address is the subnet's first as a host address: no broadcast route arises.
fn up_with_subnet_address(ops: &mut Vec<LinkOp>, dev: &str, subnet: IpNetwork) {
    ops.push(LinkOp::AddAddr(dev.into(), host(subnet.network())));
    ops.push(LinkOp::SetUp(dev.into(), true));
}

/// Another node's VTEP: neighbour and FDB entry, then the route (pkg/backend/vxlan/vxlan_network.go).
fn vxlan_lease(
    ops: &mut Vec<LinkOp>,
    me: &FlannelNode,
    n: &FlannelNode,
    v4: bool,
    dev: &str,
    direct: bool,
) {
    let Some((public, subnet)) = n.lease(v4) else {
        return;
    };
    if direct && me.reaches(public) {
        ops.push(LinkOp::AddRoute(
            RouteSpec::new(subnet, Some(public), None),
            Mode::Replace,
        ));
        return;
    }
    let (gw, mac) = (
        subnet.network(),
        if v4 { n.vtep_mac } else { n.vtep_mac_v6 },
    );
    ops.push(LinkOp::AddNeigh(dev.into(), gw, mac));
    ops.push(LinkOp::AddFdb(dev.into(), mac, public));
    let mut r = RouteSpec::new(subnet, Some(gw), Some(dev));
    r.onlink = true;
    ops.push(LinkOp::AddRoute(r, Mode::Replace));
}
