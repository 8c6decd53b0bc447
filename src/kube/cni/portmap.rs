//! The portmap plugin: host ports to container ports (containernetworking/plugins 1.1.1
//! plugins/meta/portmap/main.go); `rules` has its chains.
//!
//! CHECK of version 1.1.1 fails for results without IPv6 addresses because it looks for a chain that ADD
//! never made; that defect is not copied: the chain is looked for in the family it was made in.

mod rules;

use crate::kube::cni::CniPlugin;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::At;
use crate::kube::cni::result::CniResult;
use crate::kube::cni::skel::CmdArgs;
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr};

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
    /// Only on this address of the node.
    pub host_ip: Option<IpAddr>,
}

/// What the plugin was told.
struct Conf {
    net: NetConf,
    prev: Option<CniResult>,
    maps: Vec<PortMapping>,
    /// The container's first address of each family, with its subnet.
    to: Vec<IpNetwork>,
    /// Masquerade what the container sends itself and what comes from the node.
    snat: bool,
    /// Bit of the mark that asks for it.
    mark_bit: u32,
    /// Another chain that sets such a mark.
    set_mark_chain: Option<String>,
    /// More words for the entry rules, IPv4 and IPv6.
    conditions: [Vec<String>; 2],
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
            maps.push(entry(v)?);
        }
    }
    let conditions = |k: &str| -> Result<Vec<String>, String> {
        let words = at.list(k, "[]string").map_err(parse)?.iter();
        Ok(words
            .filter_map(|w| w.as_str().map(str::to_owned))
            .collect())
    };
    Ok(Conf {
        conditions: [conditions("conditionsV4")?, conditions("conditionsV6")?],
        mark_bit: u32::try_from(bit.unwrap_or(13)).unwrap_or(13),
        set_mark_chain: at
            .raw("externalSetMarkChain")
            .and_then(Value::as_str)
            .map(str::to_owned),
        net,
        prev,
        maps,
        to,
        snat,
    })
}

fn entry(v: &Value) -> Result<PortMapping, String> {
    let m = At::root(v, "main.PortMapEntry")?;
    let host_ip = m.string("hostIP")?;
    let p = PortMapping {
        host_port: m.int("hostPort")?,
        container_port: m.int("containerPort")?,
        protocol: m.string("protocol")?.to_owned(),
        // What is no address is 16 zero bytes to the plugin, which then looks like IPv6 without an address.
        host_ip: match host_ip {
            "" => None,
            text => Some(text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        },
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
fn container_addresses(r: &CniResult, ifname: &str) -> Vec<IpNetwork> {
    let mut out: Vec<IpNetwork> = Vec::new();
    for ip in &r.ips {
        let known = ip
            .interface
            .and_then(|i| usize::try_from(i).ok())
            .and_then(|i| r.interfaces.get(i));
        if known.is_some_and(|i| i.name != ifname || i.sandbox.is_empty()) {
            continue;
        }
        if !out.iter().any(|o| o.is_ipv4() == ip.address.is_ipv4()) {
            out.push(ip.address);
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
        let prev = conf
            .prev
            .clone()
            .ok_or("must be called as chained plugin")?;
        if !conf.maps.is_empty() {
            for to in &conf.to {
                rules::forward(host, &conf, &args.container_id, *to)?;
            }
        }
        prev.to_json(&conf.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args)?;
        conf.prev.as_ref().ok_or("Required prevResult missing")?;
        if conf.maps.is_empty() {
            return Ok(());
        }
        let all = conf.to.iter();
        { all }.try_for_each(|to| rules::check(host, &conf, &args.container_id, *to))
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(args).map_err(|e| format!("failed to parse config: {e}"))?;
        match conf.maps.is_empty() {
            true => Ok(()),
            false => rules::unforward(host, &conf, &args.container_id),
        }
    }
}
