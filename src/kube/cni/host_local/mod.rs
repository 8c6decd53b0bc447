//! The host-local IPAM plugin: addresses from ranges, leases as files
//! (containernetworking/plugins plugins/ipam/host-local).
//!
//! [`range`] reads and checks the configuration, [`store`] is the folder of lease files, [`alloc`] goes round
//! robin through a range set. Invariant: one lease file per address, its name the address.

pub mod alloc;
pub mod config;
pub mod range;
pub mod store;

use crate::kube::cni::CniPlugin;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::result::{CniResult, Dns, IpConfig};
use crate::kube::cni::skel::CmdArgs;
use config::IpamConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use store::Store;

/// The plugin.
pub struct HostLocal;

impl CniPlugin for HostLocal {
    fn name(&self) -> &'static str {
        "host-local"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = IpamConfig::read(&args.conf, &args.args)?;
        let mut result = CniResult::default();
        if !conf.resolv_conf.is_empty() {
            result.dns = resolv_conf(&host.state.files, &conf.resolv_conf)?;
        }
        let mut store = Store::open(&mut host.state.files, &conf.data_dir, &conf.network);
        result.ips = allocate(&conf, &mut store, args)?;
        result.routes = conf.routes;
        result.to_json(&conf.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = IpamConfig::read(&args.conf, &args.args)?;
        let store = Store::open(&mut host.state.files, &conf.data_dir, &conf.network);
        if store.has_lease(&args.container_id, &args.ifname) {
            return Ok(());
        }
        Err(format!(
            "host-local: Failed to find address added by container {}",
            args.container_id
        )
        .into())
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = IpamConfig::read(&args.conf, &args.args)?;
        let mut store = Store::open(&mut host.state.files, &conf.data_dir, &conf.network);
        for _ in &conf.ranges {
            store.release(&args.container_id, &args.ifname);
        }
        Ok(())
    }
}

/// One address per range set; on failure the earlier ones are given back.
fn allocate(
    conf: &IpamConfig,
    store: &mut Store<'_>,
    args: &CmdArgs,
) -> Result<Vec<IpConfig>, CniError> {
    // Go draws from a map in random order; ours is by address.
    let mut requested: BTreeMap<IpAddr, ()> = conf.requested.iter().map(|ip| (*ip, ())).collect();
    let mut ips = Vec::new();
    for (i, set) in conf.ranges.iter().enumerate() {
        let want = requested
            .keys()
            .copied()
            .find(|ip| set.range_of(*ip).is_some());
        if let Some(ip) = want {
            requested.remove(&ip);
        }
        match alloc::get(set, i, store, &args.container_id, &args.ifname, want) {
            Ok(ip) => ips.push(ip),
            Err(e) => {
                give_back(store, args, ips.len());
                return Err(format!("failed to allocate for range {i}: {e}").into());
            }
        }
    }
    if requested.is_empty() {
        return Ok(ips);
    }
    give_back(store, args, ips.len());
    let rest: Vec<String> = requested.keys().map(IpAddr::to_string).collect();
    Err(format!("failed to allocate all requested IPs: {}", rest.join(" ")).into())
}

fn give_back(store: &mut Store<'_>, args: &CmdArgs, allocated: usize) {
    if allocated > 0 {
        store.release(&args.container_id, &args.ifname);
    }
}

/// Reads a resolv.conf that was put among the node's files (host-local/dns.go).
fn resolv_conf(files: &BTreeMap<String, String>, path: &str) -> Result<Dns, CniError> {
    let text = files
        .get(path)
        .ok_or_else(|| format!("open {path}: no such file or directory"))?;
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some(w) if w.starts_with('#') || w.starts_with(';') => {}
            Some("nameserver") => dns.nameservers.extend(words.next().map(str::to_owned)),
            Some("domain") => dns.domain = words.next().unwrap_or_default().to_owned(),
            Some("search") => dns.search.extend(words.map(str::to_owned)),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    Ok(dns)
}
