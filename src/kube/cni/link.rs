//! What main plugins share: the veth pair, the container's interface, and what CHECK looks for
//! (containernetworking/plugins pkg/ip/link_linux.go, pkg/ipam/ipam_linux.go, pkg/ip/utils_linux.go).

use crate::kube::cni::addr::{fields, is_global_unicast, network, or_nil, parse_mac};
use crate::kube::cni::admin::errno;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::quote;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec, Where};
use crate::kube::cni::result::{CniResult, CniRoute, Interface, IpConfig};
use crate::net::{EditError, NetNs, Route, table};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Go's text of `syscall.Statfs` on a path that is not there, when a namespace is opened.
pub fn no_netns(path: &str) -> String {
    format!(
        "failed to Statfs {}: no such file or directory",
        quote(path)
    )
}

/// Opens the pod's namespace.
pub fn open_netns(path: &str, host: &Host<'_>) -> Result<Where, CniError> {
    let at = Where::Pod(path.to_owned());
    match host.ns(&at) {
        Some(_) => Ok(at),
        None => Err(format!("failed to open netns {}: {}", quote(path), no_netns(path)).into()),
    }
}

/// A pair of virtual Ethernet devices as plugins make it: this end in `at`, the other on the node, which
/// is up and accepts no router advertisements.
pub fn setup_veth(
    host: &mut Host<'_>,
    at: &Where,
    ifname: &str,
    mtu: i64,
    mac: &str,
) -> Result<(Interface, Interface), CniError> {
    let want = if mac.is_empty() {
        None
    } else {
        Some(parse_mac(mac).map_err(|e| format!("failed to make veth pair: {e}"))?)
    };
    let mut peer = String::new();
    for _ in 0..10 {
        peer = host.random_veth_name();
        if host.dev(&Where::Node, &peer).is_none() {
            break;
        }
    }
    let op = LinkOp::AddVeth {
        name: ifname.to_owned(),
        mac: want.unwrap_or_else(|| host.random_mac()),
        peer: peer.clone(),
        peer_mac: host.random_mac(),
        peer_in: Where::Node,
        mtu: u32::try_from(mtu).ok().filter(|m| *m > 0),
    };
    host.change(at, op).map_err(|e| match e {
        EditError::LinkExists(_) => {
            format!("container veth name provided ({ifname}) already exists")
        }
        e => format!("failed to make veth pair: {}", errno(&e)),
    })?;
    host.change(&Where::Node, LinkOp::SetUp(peer.clone(), true))
        .map_err(|e| format!("failed to set {} up: {}", quote(&peer), errno(&e)))?;
    no_router_advertisements(host, &peer);
    let sandbox = match at {
        Where::Pod(p) => p.clone(),
        Where::Node => String::new(),
    };
    let near = Interface {
        name: ifname.to_owned(),
        mac: mac_of(host, at, ifname),
        sandbox,
    };
    let far = Interface {
        mac: mac_of(host, &Where::Node, &peer),
        name: peer,
        sandbox: String::new(),
    };
    Ok((far, near))
}

/// Plugins ignore whether this can be set.
pub fn no_router_advertisements(host: &mut Host<'_>, dev: &str) {
    let _ = host.change(
        &Where::Node,
        LinkOp::SetSysctl(format!("net/ipv6/conf/{dev}/accept_ra"), "0".into()),
    );
}

/// A device's link address as text; empty when it is gone.
pub fn mac_of(host: &Host<'_>, at: &Where, name: &str) -> String {
    host.dev(at, name)
        .map(|d| d.mac.to_string())
        .unwrap_or_default()
}

/// Turns on forwarding for a family unless it is on.
pub fn enable_forwarding(host: &mut Host<'_>, v4: bool) -> Result<(), EditError> {
    let key = if v4 {
        "net.ipv4.ip_forward"
    } else {
        "net.ipv6.conf.all.forwarding"
    };
    let ns = host.ns(&Where::Node);
    if ns
        .and_then(|n| crate::kube::cni::admin::read_sysctl(n, key))
        .as_deref()
        == Some("1")
    {
        return Ok(());
    }
    host.change(&Where::Node, LinkOp::SetSysctl(key.into(), "1".into()))
}

/// Gives the container's interface its addresses and routes and brings it up.
pub fn configure_iface(
    host: &mut Host<'_>,
    at: &Where,
    ifname: &str,
    r: &CniResult,
) -> Result<(), CniError> {
    if r.interfaces.is_empty() {
        return Err("no interfaces to configure".into());
    }
    if host.dev(at, ifname).is_none() {
        return Err(format!("failed to lookup {}: Link not found", quote(ifname)).into());
    }
    for ip in &r.ips {
        let Some(idx) = ip.interface else { continue };
        let owner = usize::try_from(idx).ok().and_then(|i| r.interfaces.get(i));
        if owner.is_none_or(|i| i.name != ifname) {
            let a = ip.address;
            return Err(format!(
                "failed to add IP addr {a} to {}: invalid interface index",
                quote(ifname)
            )
            .into());
        }
        if ip.address.is_ipv6() {
            enable_ipv6(host, at, ifname);
        }
        host.change(at, LinkOp::AddAddr(ifname.into(), ip.address))
            .map_err(|e| {
                format!(
                    "failed to add IP addr {} to {}: {}",
                    ip.address,
                    quote(ifname),
                    errno(&e)
                )
            })?;
    }
    host.change(at, LinkOp::SetUp(ifname.into(), true))
        .map_err(|e| format!("failed to set {} UP: {}", quote(ifname), errno(&e)))?;
    for route in &r.routes {
        add_route(host, at, ifname, r, route)?;
    }
    Ok(())
}

fn enable_ipv6(host: &mut Host<'_>, at: &Where, ifname: &str) {
    for dev in ["lo", ifname] {
        if host.dev(at, dev).is_some_and(|d| d.conf6.disable_ipv6 != 0) {
            let _ = host.change(
                at,
                LinkOp::SetSysctl(format!("net/ipv6/conf/{dev}/disable_ipv6"), "0".into()),
            );
        }
    }
}

fn add_route(
    host: &mut Host<'_>,
    at: &Where,
    ifname: &str,
    r: &CniResult,
    route: &CniRoute,
) -> Result<(), CniError> {
    // The gateway of the first address that has one and an interface, by the gateway's own family.
    let own = |v4: bool| {
        r.ips
            .iter()
            .filter(|i| i.interface.is_some())
            .filter_map(|i| i.gateway)
            .find(|g| g.is_ipv4() == v4)
    };
    let gw: Option<IpAddr> = route.gw.or_else(|| own(route.dst.is_ipv4()));
    let spec = RouteSpec::new(network(route.dst), gw, Some(ifname));
    host.change(at, LinkOp::AddRoute(spec, Mode::Beside))
        .map_err(|e| {
            let (ip, mask) = fields(route.dst);
            let gw = or_nil(gw);
            CniError::from(format!(
                "failed to add route '{{{ip} {mask}}} via {gw} dev {ifname}': {}",
                errno(&e)
            ))
        })
}

/// Deletes a device and says which global unicast addresses it had; `None` when it was not there.
pub fn del_link_addrs(
    host: &mut Host<'_>,
    at: &Where,
    name: &str,
) -> Result<Option<Vec<IpNetwork>>, CniError> {
    let Some(d) = host.dev(at, name) else {
        return Ok(None);
    };
    let (v4, v6): (Vec<_>, Vec<_>) = d
        .addrs
        .iter()
        .map(|a| a.net)
        .filter(|n| is_global_unicast(n.ip()))
        .partition(|n| n.is_ipv4());
    host.change(at, LinkOp::DelLink(name.into()))
        .map_err(|e| format!("failed to delete {}: {}", quote(name), errno(&e)))?;
    Ok(Some([v4, v6].concat()))
}

fn main_routes(ns: &NetNs, v4: bool) -> Vec<&Route> {
    ns.fib()
        .table(table::MAIN)
        .map(|t| t.routes(v4))
        .unwrap_or_default()
        .into_iter()
        .map(|r| &**r)
        .collect()
}

/// `ValidateExpectedInterfaceIPs`: each address is on the interface and its subnet has a route.
pub fn validate_ips(ns: &NetNs, ifname: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    for ip in ips {
        let Some(d) = ns.dev_by_name(ifname) else {
            return Err(format!("Cannot find container link {ifname}").into());
        };
        if !d.addrs.iter().any(|a| a.net == ip.address) {
            return Err(
                format!("Failed to match addr {} on interface {ifname}", ip.address).into(),
            );
        }
        let subnet = network(ip.address);
        if !main_routes(ns, subnet.is_ipv4())
            .iter()
            .any(|r| r.dst == subnet)
        {
            let gw = or_nil(ip.gateway);
            return Err(format!("Failed to find Gateway {gw} for interface {ifname}").into());
        }
    }
    Ok(())
}

/// `ValidateExpectedRoute`: default routes are compared by destination alone, others by gateway too.
pub fn validate_routes(ns: &NetNs, routes: &[CniRoute]) -> Result<(), CniError> {
    for want in routes {
        let dst = network(want.dst);
        let found = main_routes(ns, dst.is_ipv4()).into_iter().any(|r| {
            let via = r.nexthops.first().and_then(|n| n.via);
            r.dst == dst && (dst.prefix() == 0 || via == want.gw)
        });
        if !found {
            let (ip, mask) = fields(want.dst);
            let gw = or_nil(want.gw);
            return Err(format!(
                "Expected Route {{Dst:{{IP:{ip} Mask:{mask}}} GW:{gw}}} not found in routing table"
            )
            .into());
        }
    }
    Ok(())
}
