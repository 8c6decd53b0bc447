//! The static IPAM plugin: addresses written in the configuration or asked for by the runtime
//! (containernetworking/plugins plugins/ipam/static/main.go).

use crate::kube::cni::CniPlugin;
use crate::kube::cni::addr::{parse_cidr, parse_ip, parse_ip_field};
use crate::kube::cni::args;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::At;
use crate::kube::cni::result::{CniResult, CniRoute, Dns, IpConfig};
use crate::kube::cni::skel::{CmdArgs, at_least};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::net::IpAddr;

/// The plugin.
pub struct Static;

struct Conf {
    version: String,
    addresses: Vec<(IpNetwork, Option<IpAddr>)>,
    routes: Vec<CniRoute>,
    dns: Dns,
}

/// An address of the configuration: its text is read after the runtime's wishes are known.
enum Entry {
    Text(String, Option<IpAddr>),
    Net(IpNetwork, Option<IpAddr>),
}

fn read(conf: &Value, cni_args: &str) -> Result<Conf, String> {
    let net = At::root(conf, "main.Net")?;
    let ipam = net
        .object("ipam", "ipam", "main.IPAMConfig")?
        .ok_or("IPAM config missing 'ipam' key")?;
    let mut entries = Vec::new();
    for v in ipam.list("addresses", "[]main.Address")? {
        let a = At::root(v, "main.Address")?;
        entries.push(Entry::Text(
            a.string("address")?.to_owned(),
            parse_ip_field(a.string("gateway")?)?,
        ));
    }
    from_env(&mut entries, cni_args)?;
    let cni = net
        .object("args", "args", "struct")?
        .map(|a| a.object("cni", "args.cni", "main.IPAMArgs"));
    let runtime = net.object("runtimeConfig", "runtimeConfig", "struct")?;
    for list in [cni.transpose()?.flatten(), runtime].into_iter().flatten() {
        let ips = list.strings("ips")?;
        if !ips.is_empty() {
            entries = ips.iter().map(|s| wished(s)).collect::<Result<_, _>>()?;
        }
    }
    let addresses = entries
        .into_iter()
        .map(resolve)
        .collect::<Result<Vec<_>, _>>()?;
    let version = net.string("cniVersion")?.to_owned();
    let v4 = addresses.iter().filter(|a| a.0.is_ipv4()).count();
    if (v4 > 1 || addresses.len() - v4 > 1) && !at_least(&version, "0.3.0").unwrap_or(false) {
        return Err(format!(
            "CNI version {version} does not support more than 1 address per family"
        ));
    }
    let routes = ipam.list("routes", "[]*types.Route")?;
    let routes = routes
        .iter()
        .map(CniRoute::from_json)
        .collect::<Result<_, _>>()?;
    Ok(Conf {
        version,
        addresses,
        routes,
        dns: Dns::read(&ipam, "dns")?,
    })
}

fn wished(s: &str) -> Result<Entry, String> {
    let bad = |_| format!("an entry in the 'ips' field is NOT in CIDR notation, got: '{s}'");
    Ok(Entry::Net(parse_cidr(s).map_err(bad)?, None))
}

fn resolve(e: Entry) -> Result<(IpNetwork, Option<IpAddr>), String> {
    match e {
        Entry::Net(n, gw) => Ok((n, gw)),
        Entry::Text(t, gw) => {
            let bad =
                |_| format!("the 'address' field is expected to be in CIDR notation, got: '{t}'");
            Ok((parse_cidr(&t).map_err(bad)?, gw))
        }
    }
}

/// `IP=` adds addresses; `GATEWAY=` sets the gateway of those added so whose subnet holds it.
fn from_env(entries: &mut Vec<Entry>, cni_args: &str) -> Result<(), String> {
    let env = args::load(cni_args, &["IP", "GATEWAY"])?;
    for s in args::last(&env, "IP")
        .into_iter()
        .flat_map(|v| v.split(','))
        .map(str::trim)
    {
        let bad = |_| format!("the 'ip' field is expected to be in CIDR notation, got: '{s}'");
        entries.push(Entry::Net(parse_cidr(s).map_err(bad)?, None));
    }
    for item in args::last(&env, "GATEWAY")
        .into_iter()
        .flat_map(|v| v.split(','))
    {
        let gw = parse_ip(item.trim()).ok_or_else(|| format!("invalid gateway address: {item}"))?;
        for e in entries.iter_mut() {
            match e {
                Entry::Net(n, g) if n.contains(gw) => *g = Some(gw),
                _ => {}
            }
        }
    }
    Ok(())
}

impl CniPlugin for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn add(&self, args: &CmdArgs, _host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(&args.conf, &args.args)?;
        let ips = conf
            .addresses
            .into_iter()
            .map(|(address, gateway)| IpConfig {
                interface: None,
                address,
                gateway,
            })
            .collect();
        CniResult {
            interfaces: Vec::new(),
            ips,
            routes: conf.routes,
            dns: conf.dns,
        }
        .to_json(&conf.version)
    }

    fn check(&self, args: &CmdArgs, _host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf, &args.args)?;
        let net = NetConf::read(&At::root(&args.conf, "types.NetConf")?)
            .map_err(|e| format!("failed to load netconf: {e}"))?;
        let prev = net.previous()?.ok_or("Required prevResult missing")?;
        // Only the first address of the result that is equal counts.
        for (address, gw) in &conf.addresses {
            let mut same = prev.ips.iter().filter(|i| i.address.ip() == address.ip());
            if let Some(ip) = same.next().filter(|i| gw.is_some() && *gw != i.gateway) {
                let (a, dev) = (ip.address.ip(), &args.ifname);
                return Err(format!("static: Failed to match addr {a} on interface {dev}").into());
            }
        }
        Ok(())
    }

    fn del(&self, _args: &CmdArgs, _host: &mut Host<'_>) -> Result<(), CniError> {
        Ok(())
    }
}
