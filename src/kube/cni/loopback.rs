//! The loopback plugin: brings `lo` up (containernetworking/plugins plugins/main/loopback/loopback.go).

use crate::kube::cni::CniPlugin;
use crate::kube::cni::admin::errno;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{At, quote};
use crate::kube::cni::link::no_netns;
use crate::kube::cni::plan::{LinkOp, Where};
use crate::kube::cni::result::{CniResult, Interface, IpConfig};
use crate::kube::cni::skel::CmdArgs;
use ipnetwork::IpNetwork;
use serde_json::Value;

/// The plugin.
pub struct Loopback;

fn lo<'h>(host: &'h Host<'_>, netns: &str) -> Result<&'h crate::net::Device, CniError> {
    let at = Where::Pod(netns.to_owned());
    let ns = host.ns(&at).ok_or_else(|| no_netns(netns))?;
    ns.dev_by_name("lo").ok_or_else(|| "Link not found".into())
}

fn set_up(host: &mut Host<'_>, netns: &str, up: bool) -> Result<(), CniError> {
    let at = Where::Pod(netns.to_owned());
    host.change(&at, LinkOp::SetUp("lo".into(), up))
        .map_err(|e| errno(&e).into())
}

/// The first address of each family; all must be loopback addresses.
fn addresses(host: &Host<'_>, netns: &str) -> Result<Vec<IpNetwork>, CniError> {
    let d = lo(host, netns)?;
    let mut out = Vec::new();
    for v4 in [true, false] {
        let all: Vec<IpNetwork> = d
            .addrs
            .iter()
            .map(|a| a.net)
            .filter(|n| n.is_ipv4() == v4)
            .collect();
        if let Some(bad) = all.iter().find(|n| !n.ip().is_loopback()) {
            let ip = quote(&bad.ip().to_string());
            return Err(format!("loopback interface found with non-loopback address {ip}").into());
        }
        out.extend(all.first());
    }
    Ok(out)
}

impl CniPlugin for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let fail = |e: String| format!("failed to parse network config: {e}");
        let conf =
            NetConf::read(&At::root(&args.conf, "types.NetConf").map_err(fail)?).map_err(fail)?;
        let prev = conf
            .previous()
            .map_err(|e| format!("failed to parse prevResult: {e}"))?;
        lo(host, &args.netns)?;
        set_up(host, &args.netns, true)?;
        let own = addresses(host, &args.netns)?;
        if let Some(prev) = prev {
            return prev.to_json(&conf.version);
        }
        let sandbox = args.netns.clone();
        let result = CniResult {
            interfaces: vec![Interface {
                name: "lo".into(),
                mac: "00:00:00:00:00:00".into(),
                sandbox,
            }],
            ips: own
                .into_iter()
                .map(|address| IpConfig {
                    interface: Some(0),
                    address,
                    gateway: None,
                })
                .collect(),
            ..CniResult::default()
        };
        // The plugin labels its 1.0.0 result with the configuration's version, so it is not converted.
        match conf.version.as_str() {
            "" => result.to_json(""),
            v => Ok(result.layout(v, false)),
        }
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        if lo(host, &args.netns)?.up {
            Ok(())
        } else {
            Err("loopback interface is down".into())
        }
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        if host.ns(&Where::Pod(args.netns.clone())).is_none() {
            return Ok(());
        }
        set_up(host, &args.netns, false)
    }
}
