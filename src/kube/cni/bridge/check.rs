//! CHECK of the bridge plugin: the interfaces of the previous result, then addresses and routes.

use super::conf::Conf;
use crate::base::DevId;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::ipam;
use crate::kube::cni::json::quote;
use crate::kube::cni::link::{open_netns, validate_ips, validate_routes};
use crate::kube::cni::plan::Where;
use crate::kube::cni::result::Interface;
use crate::kube::cni::skel::CmdArgs;
use crate::net::{Device, DeviceKind};

pub(super) fn check(args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
    let conf = Conf::read(&args.conf, &args.args)?;
    let at = open_netns(&args.netns, host)?;
    ipam::check(&conf.net.ipam_type, args, host)?;
    let prev = conf.net.previous()?.ok_or("Required prevResult missing")?;
    let own = prev
        .interfaces
        .iter()
        .rev()
        .find(|i| i.name == conf.bridge)
        .cloned()
        .unwrap_or_default();
    let is_cont =
        |i: &&Interface| i.name == args.ifname && i.name != conf.bridge && i.sandbox == args.netns;
    let cont = prev
        .interfaces
        .iter()
        .rev()
        .find(is_cont)
        .cloned()
        .unwrap_or_default();
    let bridge = check_bridge(host, &own, &conf)?;
    if args.netns != cont.sandbox {
        return Err(format!(
            "Sandbox in prevResult {} doesn't match configured netns: {}",
            cont.sandbox, args.netns
        )
        .into());
    }
    let (index, peer) = check_container(host, &at, &cont)?;
    let mut found = false;
    for i in prev
        .interfaces
        .iter()
        .filter(|i| i.name != own.name && i.name != cont.name)
    {
        found = check_veth(host, i, bridge, index, peer)?;
        if found {
            break;
        }
    }
    if !found {
        return Err(format!("CNI veth created for bridge {} was not found", conf.bridge).into());
    }
    let ns = host
        .ns(&at)
        .ok_or_else(|| format!("failed to open netns {}", quote(&args.netns)))?;
    validate_ips(ns, &args.ifname, &prev.ips)?;
    validate_routes(ns, &prev.routes)
}

fn interface<'h>(
    host: &'h Host<'_>,
    at: &Where,
    i: &Interface,
    in_pod: bool,
) -> Result<&'h Device, CniError> {
    if i.name.is_empty() {
        return Err("Interface name missing ".into());
    }
    let d = host
        .dev(at, &i.name)
        .ok_or_else(|| format!("Interface name {} not found", i.name))?;
    match (in_pod, i.sandbox.is_empty()) {
        (true, true) => Err(format!("Interface {} is expected to be in a sandbox", i.name).into()),
        (false, false) => Err(format!("Interface {} should not be in sandbox", i.name).into()),
        _ => Ok(d),
    }
}

fn check_bridge(host: &Host<'_>, i: &Interface, conf: &Conf) -> Result<DevId, CniError> {
    let d = interface(host, &Where::Node, i, false)?;
    if d.bridge().is_none() {
        return Err(format!("Interface {} does not have link type of bridge", i.name).into());
    }
    if !i.mac.is_empty() && i.mac != d.mac.to_string() {
        return Err(format!("Bridge interface {} Mac doesn't match: {}", i.name, i.mac).into());
    }
    if d.promisc != conf.promisc {
        return Err(format!(
            "Bridge interface {} configured Promisc Mode {} doesn't match current state: {} ",
            i.name, conf.promisc, d.promisc
        )
        .into());
    }
    Ok(d.id)
}

/// The container's device and its peer's index.
fn check_container(
    host: &Host<'_>,
    at: &Where,
    i: &Interface,
) -> Result<(DevId, Option<DevId>), CniError> {
    let d = interface(host, at, i, true)?;
    if !matches!(d.kind, DeviceKind::Veth) {
        return Err(format!("Error: Container interface {} not of type veth", i.name).into());
    }
    if !i.mac.is_empty() && i.mac != d.mac.to_string() {
        return Err(format!(
            "Interface {} Mac {} doesn't match container Mac: {}",
            i.name, i.mac, d.mac
        )
        .into());
    }
    Ok((d.id, d.peer.map(|p| p.dev)))
}

/// Whether this is the node's end: peer of the container's device and port of the bridge.
fn check_veth(
    host: &Host<'_>,
    i: &Interface,
    bridge: DevId,
    cont: DevId,
    peer: Option<DevId>,
) -> Result<bool, CniError> {
    let d = interface(host, &Where::Node, i, false)?;
    if !matches!(d.kind, DeviceKind::Veth) {
        return Ok(false);
    }
    let joined = Some(d.id) == peer && d.peer.map(|p| p.dev) == Some(cont);
    if !joined || d.master.as_ref().map(|m| m.0) != Some(bridge) {
        return Ok(false);
    }
    if !i.mac.is_empty() && i.mac != d.mac.to_string() {
        return Err(format!(
            "Interface {} Mac doesn't match: {} not found",
            i.name, i.mac
        )
        .into());
    }
    Ok(true)
}
