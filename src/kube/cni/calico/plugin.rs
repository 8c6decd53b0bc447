//! The CNI plugins `calico` and `calico-ipam` (projectcalico/calico cni-plugin/pkg).
//!
//! A pod gets host addresses and a default route via 169.254.1.1 (IPv4, answered by proxy ARP) or the
//! node end's link-local address (IPv6); the node gets a link-scope route to each address. Policy, the
//! datastore's WorkloadEndpoints and annotations are not read here.

use super::veth_name;
use crate::kube::cni::addr::{host as host_net, parse_ip_or_cidr};
use crate::kube::cni::admin::errno;
use crate::kube::cni::args as cni_args;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::At;
use crate::kube::cni::link::no_netns;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec, Where};
use crate::kube::cni::result::{CniResult, Interface, IpConfig};
use crate::kube::cni::skel::CmdArgs;
use crate::kube::cni::{CniPlugin, ipam};
use crate::net::Scope;
use crate::net::addr::default_net;
use crate::wire::MacAddr;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The plugin `calico`.
pub struct Calico;

/// The plugin `calico-ipam`.
pub struct CalicoIpam;

/// The link address of every node end (cni-plugin/pkg/dataplane/linux/dataplane_linux.go `hostSideMAC`).
pub const HOST_SIDE_MAC: MacAddr = MacAddr([0xee; 6]);
/// The pods' IPv4 gateway, which no device has.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Every wanted address, with commas between them: what the real plugin reads from the pod's annotation
/// `cni.projectcalico.org/ipAddrs` (cni-plugin/pkg/k8s/k8s.go `ipAddrsResult`).
pub const ADDRESSES: &str = "PODPATH_IPADDRS";

const KEYS: &[&str] = &[
    "IP",
    ADDRESSES,
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_INFRA_CONTAINER_ID",
];

struct Conf {
    net: NetConf,
    node: String,
    mtu: i64,
    allow_forwarding: bool,
    v4: bool,
    v6: bool,
    pod: String,
    namespace: String,
    ips: Vec<IpAddr>,
}

fn read(args: &CmdArgs, host: &Host<'_>) -> Result<Conf, CniError> {
    let at = At::root(&args.conf, "types.NetConf")?;
    let net = NetConf::read(&at).map_err(|e| format!("failed to load netconf: {e}"))?;
    let ipam = at.object("ipam", "ipam", "types.IPAM")?;
    // `assign_ipv4` is a string in Calico's configuration and defaults to true, `assign_ipv6` to false.
    let assign = |key: &str, default: bool| -> Result<bool, String> {
        match ipam
            .as_ref()
            .map(|i| i.string(key))
            .transpose()?
            .unwrap_or("")
        {
            "" => Ok(default),
            s => Ok(s == "true"),
        }
    };
    let named = at.string("nodename")?;
    let own = host
        .ns(&Where::Node)
        .map(|n| n.name.clone())
        .unwrap_or_default();
    let settings = at.object(
        "container_settings",
        "container_settings",
        "types.ContainerSettings",
    )?;
    let env = cni_args::load(&args.args, KEYS)?;
    let text = |k| cni_args::last(&env, k).unwrap_or("").to_owned();
    let mut ips = Vec::new();
    let wanted = cni_args::last(&env, ADDRESSES).or(cni_args::last(&env, "IP"));
    for s in wanted.into_iter().flat_map(|s| s.split(',')) {
        ips.push(parse_ip_or_cidr(s).ok_or_else(|| format!("invalid IP address: {s}"))?);
    }
    Ok(Conf {
        net,
        node: if named.is_empty() || named.starts_with("__") {
            own
        } else {
            named.to_owned()
        },
        mtu: at.int("mtu")?,
        allow_forwarding: settings
            .map(|s| s.bool("allow_ip_forwarding"))
            .transpose()?
            .unwrap_or(false),
        v4: assign("assign_ipv4", true)?,
        v6: assign("assign_ipv6", false)?,
        pod: text("K8S_POD_NAME"),
        namespace: text("K8S_POD_NAMESPACE"),
        ips,
    })
}

/// `NETWORK.CONTAINER` (cni-plugin/internal/pkg/utils `GetHandleID`).
fn handle(conf: &Conf, args: &CmdArgs) -> String {
    format!("{}.{}", conf.net.name, args.container_id)
}

impl CniPlugin for CalicoIpam {
    fn name(&self) -> &'static str {
        "calico-ipam"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(args, host)?;
        let handle = handle(&conf, args);
        let ipam = host
            .calico
            .as_deref_mut()
            .ok_or("error getting ClusterInformation: no Calico datastore")?;
        let mut r = CniResult::default();
        let config = |address| IpConfig {
            interface: None,
            address,
            gateway: None,
        };
        for ip in &conf.ips {
            if let Err(e) = ipam.assign_ip(*ip, &conf.node, &handle) {
                ipam.release_by_handle(&handle);
                return Err(e.to_string().into());
            }
            r.ips.push(config(host_net(*ip)));
        }
        if !conf.ips.is_empty() {
            return r.to_json(&conf.net.version);
        }
        for v4 in [true, false] {
            if (v4 && !conf.v4) || (!v4 && !conf.v6) {
                continue;
            }
            match ipam.auto_assign(&conf.node, &BTreeMap::new(), &handle, v4) {
                Ok(a) => r.ips.push(config(a)),
                Err(e) => {
                    ipam.release_by_handle(&handle);
                    let v = if v4 { 4 } else { 6 };
                    return Err(format!("failed to request IPv{v} addresses: {e}").into());
                }
            }
        }
        r.to_json(&conf.net.version)
    }

    fn check(&self, _args: &CmdArgs, _host: &mut Host<'_>) -> Result<(), CniError> {
        Ok(()) // Calico implements no CHECK
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args, host)?;
        let handle = handle(&conf, args);
        if let Some(ipam) = host.calico.as_deref_mut() {
            ipam.release_by_handle(&handle);
        }
        Ok(())
    }
}

fn refused(what: &str) -> impl Fn(crate::net::EditError) -> CniError + '_ {
    move |e| format!("{what}: {}", errno(&e)).into()
}

/// The pair of devices, addresses and routes (`DoWorkloadNetnsSetUp`, `SetupRoutes`).
fn connect(
    host: &mut Host<'_>,
    args: &CmdArgs,
    conf: &Conf,
    veth: &str,
    ips: &[IpAddr],
) -> Result<(), CniError> {
    let node = Where::Node;
    let pod = Where::Pod(args.netns.clone());
    if host.dev(&node, veth).is_some() {
        host.change(&node, LinkOp::DelLink(veth.into()))
            .map_err(refused("failed to delete old hostVeth"))?;
    }
    let op = LinkOp::AddVeth {
        name: args.ifname.clone(),
        mac: host.random_mac(),
        peer: veth.into(),
        peer_mac: HOST_SIDE_MAC,
        peer_in: Where::Node,
        mtu: u32::try_from(conf.mtu).ok().filter(|m| *m > 0),
    };
    host.change(&pod, op)
        .map_err(refused("error adding veth"))?;
    let (v4, v6) = (
        ips.iter().any(IpAddr::is_ipv4),
        ips.iter().any(IpAddr::is_ipv6),
    );
    for (key, value) in host_sysctls(veth, v4, v6) {
        host.change(&node, LinkOp::SetSysctl(key, value.into()))
            .map_err(refused("error configuring sysctls"))?;
    }
    host.change(&node, LinkOp::SetUp(veth.into(), true))
        .map_err(refused("failed to set host end up"))?;
    host.change(&pod, LinkOp::SetUp(args.ifname.clone(), true))
        .map_err(refused("failed to set container end up"))?;
    pod_routes(host, &pod, &args.ifname, v4, v6)?;
    for ip in ips {
        host.change(&pod, LinkOp::AddAddr(args.ifname.clone(), host_net(*ip)))
            .map_err(refused("failed to add IP addr"))?;
    }
    let forwarding = if conf.allow_forwarding { "1" } else { "0" };
    for (on, key) in [
        (v4, "net/ipv4/ip_forward"),
        (v6, "net/ipv6/conf/all/forwarding"),
    ] {
        if on {
            host.change(&pod, LinkOp::SetSysctl(key.into(), forwarding.into()))
                .map_err(refused("error configuring sysctls for the container netns"))?;
        }
    }
    for ip in ips {
        let mut r = RouteSpec::new(host_net(*ip), None, Some(veth));
        r.scope = Scope::Link;
        host.change(&node, LinkOp::AddRoute(r, Mode::Add))
            .map_err(refused("failed to add route"))?;
    }
    Ok(())
}

/// `configureSysctls`, in its order.
fn host_sysctls(veth: &str, v4: bool, v6: bool) -> Vec<(String, &'static str)> {
    let mut out = Vec::new();
    if v4 {
        out.push((format!("net/ipv4/conf/{veth}/route_localnet"), "1"));
        out.push((format!("net/ipv4/neigh/{veth}/proxy_delay"), "0"));
        out.push((format!("net/ipv4/conf/{veth}/proxy_arp"), "1"));
        out.push((format!("net/ipv4/conf/{veth}/forwarding"), "1"));
    }
    if v6 {
        out.push((format!("net/ipv6/conf/{veth}/accept_dad"), "0"));
        out.push((format!("net/ipv6/conf/{veth}/disable_ipv6"), "0"));
        out.push((format!("net/ipv6/conf/{veth}/proxy_ndp"), "1"));
        out.push((format!("net/ipv6/conf/{veth}/forwarding"), "1"));
    }
    out.push((format!("net/ipv6/conf/{veth}/accept_ra"), "0"));
    out
}

fn pod_routes(
    host: &mut Host<'_>,
    pod: &Where,
    ifname: &str,
    v4: bool,
    v6: bool,
) -> Result<(), CniError> {
    if v4 {
        let mut gw = RouteSpec::new(host_net(GATEWAY.into()), None, Some(ifname));
        gw.scope = Scope::Link;
        let default = RouteSpec::new(default_net(true), Some(GATEWAY.into()), Some(ifname));
        for r in [gw, default] {
            host.change(pod, LinkOp::AddRoute(r, Mode::Add))
                .map_err(refused("failed to add route inside the container"))?;
        }
    }
    if v6 {
        let gw = HOST_SIDE_MAC.link_local();
        let default = RouteSpec::new(default_net(false), Some(gw.into()), Some(ifname));
        host.change(pod, LinkOp::AddRoute(default, Mode::Add))
            .map_err(refused("failed to add IPv6 route"))?;
    }
    Ok(())
}

impl CniPlugin for Calico {
    fn name(&self) -> &'static str {
        "calico"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(args, host)?;
        if host.ns(&Where::Pod(args.netns.clone())).is_none() {
            return Err(no_netns(&args.netns).into());
        }
        let veth = if conf.pod.is_empty() {
            // Not Kubernetes: `cali` and the beginning of the container id (cni-plugin/pkg/plugin/plugin.go).
            format!(
                "cali{}",
                args.container_id.chars().take(11).collect::<String>()
            )
        } else {
            veth_name(&conf.namespace, &conf.pod)
        };
        let mut r = ipam::add(&conf.net.ipam_type, args, host)?;
        let ips: Vec<IpAddr> = r.ips.iter().map(|i| i.address.ip()).collect();
        if let Err(e) = connect(host, args, &conf, &veth, &ips) {
            let _ = ipam::del(&conf.net.ipam_type, args, host); // the first error is the one to tell
            return Err(e);
        }
        for i in &mut r.ips {
            (i.address, i.gateway) = (host_net(i.address.ip()), None);
        }
        r.interfaces = vec![Interface {
            name: veth,
            ..Interface::default()
        }];
        r.to_json(&conf.net.version)
    }

    fn check(&self, _args: &CmdArgs, _host: &mut Host<'_>) -> Result<(), CniError> {
        Ok(()) // Calico implements no CHECK
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args, host)?;
        ipam::del(&conf.net.ipam_type, args, host)?;
        let pod = Where::Pod(args.netns.clone());
        if host.dev(&pod, &args.ifname).is_some() {
            host.change(&pod, LinkOp::DelLink(args.ifname.clone()))
                .map_err(refused("failed to delete veth"))?;
        }
        Ok(())
    }
}
