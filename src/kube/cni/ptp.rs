//! The ptp plugin: a veth pair routed on the node, without a bridge
//! (containernetworking/plugins plugins/main/ptp/ptp.go).
//!
//! The container keeps its subnet's prefix length but reaches everything through the gateway, which is a
//! host address on the node's end.

use crate::kube::cni::CniPlugin;
use crate::kube::cni::addr::{host as host_net, network};
use crate::kube::cni::admin::errno;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{At, quote};
use crate::kube::cni::link::{
    configure_iface, del_link_addrs, enable_forwarding, open_netns, setup_veth, validate_ips,
    validate_routes,
};
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec, Where};
use crate::kube::cni::result::{CniResult, Interface};
use crate::kube::cni::skel::CmdArgs;
use crate::kube::cni::{ipam, masq};
use crate::net::{DeviceKind, Scope};
use serde_json::Value;

/// The plugin.
pub struct Ptp;

struct Conf {
    net: NetConf,
    ip_masq: bool,
    mtu: i64,
}

fn read(conf: &Value) -> Result<Conf, String> {
    let inner = || {
        let at = At::root(conf, "main.NetConf")?;
        Ok(Conf {
            net: NetConf::read(&at)?,
            ip_masq: at.bool("ipMasq")?,
            mtu: at.int("mtu")?,
        })
    };
    inner().map_err(|e: String| format!("failed to load netconf: {e}"))
}

fn attach(
    args: &CmdArgs,
    conf: &Conf,
    result: &mut CniResult,
    host: &mut Host<'_>,
) -> Result<(), CniError> {
    if result.ips.is_empty() {
        return Err("IPAM plugin returned missing IP config".into());
    }
    for v4 in [true, false] {
        if result.ips.iter().any(|i| i.address.is_ipv4() == v4) {
            enable_forwarding(host, v4)
                .map_err(|e| format!("Could not enable IP forwarding: {}", errno(&e)))?;
        }
    }
    let at = open_netns(&args.netns, host)?;
    let (node_end, pod_end) = setup_veth(host, &at, &args.ifname, conf.mtu, "")?;
    let veth = node_end.name.clone();
    result.ips.iter_mut().for_each(|i| i.interface = Some(1));
    result.interfaces = vec![node_end, pod_end];
    configure_iface(host, &at, &args.ifname, result)?;
    through_gateway(host, &at, &args.ifname, result)?;
    node_side(host, &veth, result)?;
    if conf.ip_masq {
        for ip in &result.ips {
            masq::setup(host, &conf.net.name, &args.container_id, ip.address)?;
        }
    }
    Ok(())
}

/// The kernel's subnet route gives way to one through the gateway.
fn through_gateway(
    host: &mut Host<'_>,
    at: &Where,
    ifname: &str,
    result: &CniResult,
) -> Result<(), CniError> {
    for ip in &result.ips {
        let subnet = network(ip.address);
        host.change(
            at,
            LinkOp::DelRoute {
                dst: subnet,
                dev: Some(ifname.into()),
            },
        )
        .map_err(|e| format!("failed to delete route {subnet}: {}", errno(&e)))?;
        let Some(gw) = ip.gateway else { continue };
        let mut direct = RouteSpec::new(host_net(gw), None, Some(ifname));
        (direct.scope, direct.src) = (Scope::Link, Some(ip.address.ip()));
        let mut rest = RouteSpec::new(subnet, Some(gw), Some(ifname));
        rest.src = Some(ip.address.ip());
        for r in [direct, rest] {
            let dst = r.dst;
            host.change(at, LinkOp::AddRoute(r, Mode::Add))
                .map_err(|e| format!("failed to add route {dst}: {}", errno(&e)))?;
        }
    }
    Ok(())
}

fn node_side(host: &mut Host<'_>, veth: &str, result: &CniResult) -> Result<(), CniError> {
    for ip in &result.ips {
        if let Some(gw) = ip.gateway {
            host.change(&Where::Node, LinkOp::AddAddr(veth.into(), host_net(gw)))
                .map_err(|e| format!("failed to add IP addr ({gw}) to veth: {}", errno(&e)))?;
        }
        let mut r = RouteSpec::new(host_net(ip.address.ip()), None, Some(veth));
        r.scope = Scope::Host;
        match host.change(&Where::Node, LinkOp::AddRoute(r, Mode::Add)) {
            Err(e) if errno(&e) != "file exists" => {
                return Err(format!("failed to add route on host: {}", errno(&e)).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn validate(host: &Host<'_>, at: &Where, want: &Interface) -> Result<(), CniError> {
    let n = &want.name;
    if n.is_empty() {
        return Err("Container interface name missing in prevResult: ".into());
    }
    let Some(d) = host.dev(at, n) else {
        return Err(format!("ptp: Container Interface name in prevResult: {n} not found").into());
    };
    if want.sandbox.is_empty() {
        return Err(
            format!("ptp: Error: Container interface {n} should not be in host namespace").into(),
        );
    }
    if !matches!(d.kind, DeviceKind::Veth) {
        return Err(format!("Error: Container interface {n} not of type veth/p2p").into());
    }
    if !want.mac.is_empty() && want.mac != d.mac.to_string() {
        return Err(format!(
            "ptp: Interface {n} Mac {} doesn't match container Mac: {}",
            want.mac, d.mac
        )
        .into());
    }
    Ok(())
}

impl CniPlugin for Ptp {
    fn name(&self) -> &'static str {
        "ptp"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(&args.conf)?;
        let mut result = ipam::add(&conf.net.ipam_type, args, host)?;
        if let Err(e) = attach(args, &conf, &mut result, host) {
            let _ = ipam::del(&conf.net.ipam_type, args, host); // the first error is the one to tell
            return Err(e);
        }
        if !conf.net.dns.is_empty() {
            result.dns = conf.net.dns;
        }
        result.to_json(&conf.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        let at = open_netns(&args.netns, host)?;
        ipam::check(&conf.net.ipam_type, args, host)?;
        let prev = conf
            .net
            .previous()?
            .ok_or("ptp: Required prevResult missing")?;
        let is_it = |i: &&Interface| i.name == args.ifname && i.sandbox == args.netns;
        let cont = prev
            .interfaces
            .iter()
            .rev()
            .find(is_it)
            .cloned()
            .unwrap_or_default();
        if cont.sandbox != args.netns {
            return Err(format!(
                "Sandbox in prevResult {} doesn't match configured netns: {}",
                cont.sandbox, args.netns
            )
            .into());
        }
        validate(host, &at, &cont)?;
        let ns = host
            .ns(&at)
            .ok_or_else(|| format!("failed to open netns {}", quote(&args.netns)))?;
        validate_ips(ns, &args.ifname, &prev.ips)?;
        validate_routes(ns, &prev.routes)
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        ipam::del(&conf.net.ipam_type, args, host)?;
        let at = Where::Pod(args.netns.clone());
        if host.ns(&at).is_none() {
            return Ok(());
        }
        let nets = del_link_addrs(host, &at, &args.ifname)?.unwrap_or_default();
        let mut last = Ok(());
        if conf.ip_masq {
            for n in nets {
                // Only the last failure is told (the plugin overwrites its error variable).
                last = masq::teardown(host, &conf.net.name, &args.container_id, n);
            }
        }
        last
    }
}
