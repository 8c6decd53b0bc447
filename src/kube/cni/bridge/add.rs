//! ADD of the bridge plugin, in the plugin's order.

use super::conf::Conf;
use crate::kube::cni::addr::{network, next_ip};
use crate::kube::cni::admin::errno;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::quote;
use crate::kube::cni::link::{
    configure_iface, enable_forwarding, mac_of, no_router_advertisements, open_netns, setup_veth,
};
use crate::kube::cni::plan::{LinkOp, Where};
use crate::kube::cni::result::{CniResult, CniRoute, Interface};
use crate::kube::cni::skel::CmdArgs;
use crate::kube::cni::{ipam, masq};
use crate::net::EditError;
use crate::net::addr::default_net;
use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use serde_json::Value;

const NODE: Where = Where::Node;

/// The bridge as it was found right after it was made or looked up.
struct Br {
    name: String,
    mac: MacAddr,
    mtu: u32,
}

pub(super) fn add(args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
    let mut conf = Conf::read(&args.conf, &args.args)?;
    conf.is_gateway |= conf.is_default_gateway;
    if conf.hairpin && conf.promisc {
        return Err("cannot set hairpin mode and promiscuous mode at the same time.".into());
    }
    let br = ensure_bridge(host, &conf)
        .map_err(|e| format!("failed to create bridge {}: {e}", quote(&conf.bridge)))?;
    let at = open_netns(&args.netns, host)?;
    let veth = BridgeVeth {
        ifname: &args.ifname,
        mtu: conf.mtu,
        hairpin: conf.hairpin,
        vlan: conf.vlan,
        mac: &conf.mac,
    };
    let (node_end, pod_end) = bridge_veth(host, &at, &br, &veth)?;
    let own = Interface {
        name: br.name.clone(),
        mac: br.mac.to_string(),
        sandbox: String::new(),
    };
    let mut result = CniResult {
        interfaces: vec![own, node_end, pod_end],
        ..CniResult::default()
    };
    if conf.net.ipam_type.is_empty() {
        host.change(&at, LinkOp::SetUp(args.ifname.clone(), true))
            .map_err(|e| format!("failed to set {} up: {}", quote(&args.ifname), errno(&e)))?;
    } else {
        let leased = ipam::add(&conf.net.ipam_type, args, host)?;
        (result.ips, result.routes) = (leased.ips, leased.routes);
        if let Err(e) = layer3(host, args, &at, &conf, &br, &mut result) {
            let _ = ipam::del(&conf.net.ipam_type, args, host); // the first error is the one to tell
            return Err(e);
        }
    }
    if let Some(own) = result.interfaces.first_mut() {
        own.mac = mac_of(host, &NODE, &br.name); // it may have changed with the first port
    }
    result.dns = conf.net.dns;
    result.to_json(&conf.net.version)
}

fn ensure_bridge(host: &mut Host<'_>, conf: &Conf) -> Result<Br, String> {
    let name = conf.bridge.clone();
    let op = LinkOp::AddBridge {
        name: name.clone(),
        mtu: u32::try_from(conf.mtu).ok().filter(|m| *m > 0),
        mac: host.random_mac(),
        vlan_filtering: conf.vlan != 0,
    };
    match host.change(&NODE, op) {
        Ok(()) | Err(EditError::LinkExists(_)) => {}
        Err(e) => return Err(format!("could not add {}: {}", quote(&name), errno(&e))),
    }
    if conf.promisc {
        host.change(&NODE, LinkOp::SetPromisc(name.clone(), true))
            .map_err(|e| {
                format!(
                    "could not set promiscuous mode on {}: {}",
                    quote(&name),
                    errno(&e)
                )
            })?;
    }
    let d = host
        .dev(&NODE, &name)
        .ok_or_else(|| format!("could not lookup {}: Link not found", quote(&name)))?;
    if d.bridge().is_none() {
        return Err(format!(
            "{} already exists but is not a bridge",
            quote(&name)
        ));
    }
    let br = Br {
        name: name.clone(),
        mac: d.mac,
        mtu: d.mtu,
    };
    no_router_advertisements(host, &name);
    host.change(&NODE, LinkOp::SetUp(name, true))
        .map_err(|e| errno(&e).to_owned())?;
    Ok(br)
}

struct BridgeVeth<'a> {
    ifname: &'a str,
    mtu: i64,
    hairpin: bool,
    vlan: u16,
    mac: &'a str,
}

/// A veth pair whose node end is a port of the bridge.
fn bridge_veth(
    host: &mut Host<'_>,
    at: &Where,
    br: &Br,
    v: &BridgeVeth<'_>,
) -> Result<(Interface, Interface), CniError> {
    let (node_end, pod_end) = setup_veth(host, at, v.ifname, v.mtu, v.mac)?;
    let n = node_end.name.clone();
    host.change(&NODE, LinkOp::SetMaster(n.clone(), br.name.clone()))
        .map_err(|e| {
            format!(
                "failed to connect {} to bridge {}: {}",
                quote(&n),
                br.name,
                errno(&e)
            )
        })?;
    host.change(&NODE, LinkOp::SetHairpin(n.clone(), v.hairpin))
        .map_err(|e| format!("failed to setup hairpin mode for {n}: {}", errno(&e)))?;
    if v.vlan != 0 {
        host.change(&NODE, LinkOp::AddPortVlan(n.clone(), v.vlan))
            .map_err(|e| {
                format!(
                    "failed to setup vlan tag on interface {}: {}",
                    quote(&n),
                    errno(&e)
                )
            })?;
    }
    Ok((node_end, pod_end))
}

fn layer3(
    host: &mut Host<'_>,
    args: &CmdArgs,
    at: &Where,
    conf: &Conf,
    br: &Br,
    result: &mut CniResult,
) -> Result<(), CniError> {
    if result.ips.is_empty() {
        return Err("IPAM plugin returned missing IP config".into());
    }
    let gateways = gateways(result, conf)?;
    let dad = if conf.enable_dad { "1" } else { "0" };
    let dev = &args.ifname;
    for (key, value) in [
        (format!("net/ipv6/conf/{dev}/accept_dad"), dad),
        (format!("net/ipv4/conf/{dev}/arp_notify"), "1"),
    ] {
        let _ = host.change(at, LinkOp::SetSysctl(key, value.into())); // the plugin does not look either
    }
    configure_iface(host, at, dev, result)?;
    if conf.is_gateway {
        for v4 in [true, false] {
            let mine: Vec<IpNetwork> = gateways
                .iter()
                .copied()
                .filter(|g| g.is_ipv4() == v4)
                .collect();
            for gw in &mine {
                gateway_address(host, conf, br, *gw, result)?;
            }
            if !mine.is_empty() {
                enable_forwarding(host, v4)
                    .map_err(|e| format!("failed to enable forwarding: {}", errno(&e)))?;
            }
        }
    }
    if conf.ip_masq {
        for ip in &result.ips {
            masq::setup(host, &conf.net.name, &args.container_id, ip.address)?;
        }
    }
    Ok(())
}

/// Completes gateways and default routes; answers the gateway addresses of the bridge.
fn gateways(result: &mut CniResult, conf: &Conf) -> Result<Vec<IpNetwork>, CniError> {
    let mut gws = Vec::new();
    let mut has_default = (false, false);
    for ip in &mut result.ips {
        let v4 = ip.address.is_ipv4();
        ip.interface = Some(2);
        if ip.gateway.is_none() && conf.is_gateway {
            ip.gateway = Some(next_ip(network(ip.address).ip()));
        }
        let done = if v4 {
            &mut has_default.0
        } else {
            &mut has_default.1
        };
        if conf.is_default_gateway && !*done {
            let dst = default_net(v4);
            if !result.routes.iter().any(|r| r.gw.is_some() && r.dst == dst) {
                result.routes.push(CniRoute {
                    dst,
                    gw: ip.gateway,
                });
            }
            *done = true;
        }
        if let Some(gw) = ip.gateway.filter(|_| conf.is_gateway) {
            gws.push(IpNetwork::new(gw, ip.address.prefix()).map_err(|e| e.to_string())?);
        }
    }
    Ok(gws)
}

fn gateway_address(
    host: &mut Host<'_>,
    conf: &Conf,
    br: &Br,
    gw: IpNetwork,
    result: &mut CniResult,
) -> Result<(), CniError> {
    if conf.vlan == 0 {
        return ensure_addr(host, &br.name, br.mac, gw, conf.force_address)
            .map_err(|e| format!("failed to set bridge addr: {e}").into());
    }
    let name = ensure_vlan_interface(host, conf, br)
        .map_err(|e| format!("failed to create vlan interface: {e}"))?;
    let mac = host.dev(&NODE, &name).map_or(MacAddr::ZERO, |d| d.mac);
    if result.interfaces.len() == 3 {
        result.interfaces.push(Interface {
            name: name.clone(),
            mac: mac.to_string(),
            sandbox: String::new(),
        });
    }
    ensure_addr(host, &name, mac, gw, conf.force_address)
        .map_err(|e| format!("failed to set vlan interface for bridge with addr: {e}").into())
}

/// The gateway of a VLAN is a veth pair of its own, tagged like the containers' ports.
fn ensure_vlan_interface(host: &mut Host<'_>, conf: &Conf, br: &Br) -> Result<String, String> {
    let name = format!("{}.{}", br.name, conf.vlan);
    if host.dev(&NODE, &name).is_some() {
        return Ok(name);
    }
    let v = BridgeVeth {
        ifname: &name,
        mtu: i64::from(br.mtu),
        hairpin: false,
        vlan: conf.vlan,
        mac: "",
    };
    bridge_veth(host, &NODE, br, &v)
        .map_err(|e| format!("faild to create vlan gateway {}: {e}", quote(&name)))?;
    host.change(&NODE, LinkOp::SetUp(name.clone(), true))
        .map_err(|e| format!("failed to up {}: {}", quote(&name), errno(&e)))?;
    Ok(name)
}

/// Gives the bridge its address; another one of IPv4, or overlapping of IPv6, is refused or, with
/// `forceAddress`, removed. Then pins the bridge's link address, which would follow its ports.
fn ensure_addr(
    host: &mut Host<'_>,
    dev: &str,
    mac: MacAddr,
    gw: IpNetwork,
    force: bool,
) -> Result<(), String> {
    let have: Vec<IpNetwork> = host
        .dev(&NODE, dev)
        .map(|d| {
            d.addrs
                .iter()
                .map(|a| a.net)
                .filter(|n| n.is_ipv4() == gw.is_ipv4())
                .collect()
        })
        .unwrap_or_default();
    for a in have {
        if a == gw {
            return Ok(());
        }
        if gw.is_ipv4() || a.contains(gw.ip()) || gw.contains(a.ip()) {
            if !force {
                return Err(format!(
                    "{} already has an IP address different from {gw}",
                    quote(dev)
                ));
            }
            host.change(&NODE, LinkOp::DelAddr(dev.into(), a))
                .map_err(|e| {
                    format!(
                        "could not remove IP address from {}: {}",
                        quote(dev),
                        errno(&e)
                    )
                })?;
        }
    }
    match host.change(&NODE, LinkOp::AddAddr(dev.into(), gw)) {
        Ok(()) | Err(EditError::AddrExists(_)) => {}
        Err(e) => {
            return Err(format!(
                "could not add IP address to {}: {}",
                quote(dev),
                errno(&e)
            ));
        }
    }
    host.change(&NODE, LinkOp::SetMac(dev.into(), mac))
        .map_err(|e| format!("could not set bridge's mac: {}", errno(&e)))
}
