//! host-local's configuration (host-local backend/allocator/config.go).

use super::range::{RangeConf, RangeSet, read_sets};
use crate::kube::cni::addr::parse_ip_or_cidr;
use crate::kube::cni::args;
use crate::kube::cni::json::At;
use crate::kube::cni::result::CniRoute;
use crate::kube::cni::skel::at_least;
use serde_json::Value;
use std::net::IpAddr;

/// What host-local is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpamConfig {
    /// Network name.
    pub network: String,
    /// Version of the configuration.
    pub version: String,
    /// One address from each set.
    pub ranges: Vec<RangeSet>,
    /// Routes, passed on.
    pub routes: Vec<CniRoute>,
    /// Folder of the leases.
    pub data_dir: String,
    /// File to take DNS settings from.
    pub resolv_conf: String,
    /// Addresses asked for by `CNI_ARGS`, `args.cni.ips` and `runtimeConfig.ips`.
    pub requested: Vec<IpAddr>,
}

impl IpamConfig {
    /// Reads and checks the configuration on stdin.
    pub fn read(conf: &Value, cni_args: &str) -> Result<Self, String> {
        let net = At::root(conf, "allocator.Net")?;
        let ipam = net.object("ipam", "ipam", "allocator.IPAMConfig")?;
        let ipam = ipam.ok_or("IPAM config missing 'ipam' key")?;
        let runtime = net.object("runtimeConfig", "runtimeConfig", "struct")?;
        let own = RangeConf::read(&ipam)?;
        let mut sets = read_sets(ipam.list("ranges", "[]allocator.RangeSet")?)?;
        let routes = ipam.list("routes", "[]*types.Route")?;
        let routes = routes
            .iter()
            .map(CniRoute::from_json)
            .collect::<Result<_, _>>()?;
        let requested = requested(&net, runtime.as_ref(), cni_args)?;
        if own.has_subnet() {
            sets.insert(0, vec![own]);
        }
        if let Some(rt) = &runtime {
            let mut first = read_sets(rt.list("ipRanges", "[]allocator.RangeSet")?)?;
            first.append(&mut sets);
            sets = first;
        }
        let version = net.string("cniVersion")?.to_owned();
        Ok(IpamConfig {
            network: net.string("name")?.to_owned(),
            ranges: check(&sets, &version)?,
            version,
            routes,
            data_dir: ipam.string("dataDir")?.to_owned(),
            resolv_conf: ipam.string("resolvConf")?.to_owned(),
            requested,
        })
    }
}

fn requested(
    net: &At<'_>,
    runtime: Option<&At<'_>>,
    cni_args: &str,
) -> Result<Vec<IpAddr>, String> {
    let mut out = Vec::new();
    let env = args::load(cni_args, &["IP"])?;
    for (k, v) in env.iter().filter(|(_, v)| !v.is_empty()) {
        let ip = parse_ip_or_cidr(v).ok_or_else(|| {
            args::bad_value(&format!("{k}={v}"), &format!("invalid IP address {v}"))
        })?;
        out = vec![ip];
    }
    let cni = net
        .object("args", "args", "struct")?
        .map(|a| a.object("cni", "args.cni", "allocator.IPAMArgs"));
    let cni = cni.transpose()?.flatten();
    for list in [
        cni.map(|c| c.strings("ips")),
        runtime.map(|r| r.strings("ips")),
    ]
    .into_iter()
    .flatten()
    {
        for s in list? {
            out.push(parse_ip_or_cidr(&s).ok_or_else(|| format!("invalid IP address {s}"))?);
        }
    }
    Ok(out)
}

fn check(sets: &[Vec<RangeConf>], version: &str) -> Result<Vec<RangeSet>, String> {
    if sets.is_empty() {
        return Err("no IP ranges specified".into());
    }
    let mut out = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        out.push(RangeSet::new(set).map_err(|e| format!("invalid range set {i}: {e}"))?);
    }
    let v4 = out.iter().filter(|s| s.is_ipv4()).count();
    if (v4 > 1 || out.len() - v4 > 1) && !at_least(version, "0.3.0").unwrap_or(false) {
        return Err(format!(
            "CNI version {version} does not support more than 1 address per family"
        ));
    }
    for (i, a) in out.iter().enumerate() {
        if let Some(j) = out.iter().skip(i + 1).position(|b| a.overlaps(b)) {
            return Err(format!("range set {i} overlaps with {}", i + j + 1));
        }
    }
    Ok(out)
}
