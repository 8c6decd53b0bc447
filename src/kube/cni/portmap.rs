//! The portmap plugin: host ports to container ports, as far as configuration and results go
//! (containernetworking/plugins plugins/meta/portmap/main.go).
//!
//! Its DNAT rules come with netfilter; until then what was asked for is kept in `CniState::port_maps`.
//! CHECK of version 1.1.1 fails for results without IPv6 addresses because it looks for a chain that ADD
//! never made; that defect is not copied.

use crate::kube::cni::CniPlugin;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::At;
use crate::kube::cni::result::CniResult;
use crate::kube::cni::skel::CmdArgs;
use serde_json::Value;
use std::net::IpAddr;

/// The plugin.
pub struct PortMap;

/// One entry of `runtimeConfig.portMappings`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortMapping {
    /// Port on the node.
    pub host_port: i64,
    /// Port in the container.
    pub container_port: i64,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Only on this address of the node; empty for all.
    pub host_ip: String,
    /// Where to: the container's address of either family.
    pub to: Vec<IpAddr>,
    /// Masquerade what the container sends itself and what comes from the node.
    pub snat: bool,
}

struct Conf {
    net: NetConf,
    prev: Option<CniResult>,
    maps: Vec<PortMapping>,
}

fn read(args: &CmdArgs) -> Result<Conf, String> {
    let parse = |e: String| format!("failed to parse network configuration: {e}");
    let at = At::root(&args.conf, "main.PortMapConf").map_err(parse)?;
    let net = NetConf::read(&at).map_err(parse)?;
    let snat = at.bool_opt("snat").map_err(parse)?.unwrap_or(true);
    let bit = at.int_opt("markMasqBit").map_err(parse)?;
    let runtime = at
        .object("runtimeConfig", "runtimeConfig", "struct")
        .map_err(parse)?;
    let prev = net
        .previous()
        .map_err(|e| format!("could not parse prevResult: {e}"))?;
    if bit.is_some() && at.raw("externalSetMarkChain").is_some() {
        return Err("Cannot specify externalSetMarkChain and markMasqBit".into());
    }
    if !(0..=31).contains(&bit.unwrap_or(13)) {
        return Err("MasqMarkBit must be between 0 and 31".into());
    }
    let to = prev
        .as_ref()
        .map(|p| container_addresses(p, &args.ifname))
        .unwrap_or_default();
    let mut maps = Vec::new();
    if let Some(rt) = runtime {
        for v in rt
            .list("portMappings", "[]main.PortMapEntry")
            .map_err(parse)?
        {
            maps.push(entry(v, &to, snat)?);
        }
    }
    Ok(Conf { net, prev, maps })
}

fn entry(v: &Value, to: &[IpAddr], snat: bool) -> Result<PortMapping, String> {
    let m = At::root(v, "main.PortMapEntry")?;
    let p = PortMapping {
        host_port: m.int("hostPort")?,
        container_port: m.int("containerPort")?,
        protocol: m.string("protocol")?.to_owned(),
        host_ip: m.string("hostIP")?.to_owned(),
        to: to.to_vec(),
        snat,
    };
    if p.container_port <= 0 {
        return Err(format!(
            "Invalid container port number: {}",
            p.container_port
        ));
    }
    if p.host_port <= 0 {
        return Err(format!("Invalid host port number: {}", p.host_port));
    }
    Ok(p)
}

/// The container's first address of each family.
fn container_addresses(r: &CniResult, ifname: &str) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    for ip in &r.ips {
        let known = ip
            .interface
            .and_then(|i| usize::try_from(i).ok())
            .and_then(|i| r.interfaces.get(i));
        if known.is_some_and(|i| i.name != ifname || i.sandbox.is_empty()) {
            continue;
        }
        if !out.iter().any(|o| o.is_ipv4() == ip.address.is_ipv4()) {
            out.push(ip.address.ip());
        }
    }
    out
}

impl CniPlugin for PortMap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(args).map_err(|e| format!("failed to parse config: {e}"))?;
        let prev = conf.prev.ok_or("must be called as chained plugin")?;
        if !conf.maps.is_empty() {
            host.state
                .port_maps
                .insert(args.container_id.clone(), conf.maps);
        }
        prev.to_json(&conf.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args)?;
        conf.prev.ok_or("Required prevResult missing")?;
        if conf.maps.is_empty() || host.state.port_maps.contains_key(&args.container_id) {
            return Ok(());
        }
        let chain =
            crate::kube::cni::masq::hashed_name("CNI-DN-", &conf.net.name, &args.container_id);
        Err(
            format!("could not check ipv4 dnat: chain {chain} not found in iptables table nat")
                .into(),
        )
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args).map_err(|e| format!("failed to parse config: {e}"))?;
        if !conf.maps.is_empty() {
            host.state.port_maps.remove(&args.container_id);
        }
        Ok(())
    }
}
